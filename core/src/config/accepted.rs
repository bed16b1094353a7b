//! The last look: librdkafka itself reads the values. What our table cannot check (a regular expression, a plugin's path)
//! is found here, still before any connection or thread. Any thread.

use rdkafka::ClientConfig;
use rdkafka::error::KafkaError;

use super::ConfigReport;
use super::settings::Settings;
use super::table;
use crate::error::{ConfigProblem, Severity};

/// Adds what librdkafka refuses to the report.
pub(crate) fn check(settings: &Settings, report: &mut ConfigReport) {
    // Miri runs the code around the configuration, but no foreign function.
    if cfg!(miri) {
        return;
    }
    for setting in settings.iter().filter(|setting| !setting.row.own) {
        let mut one = ClientConfig::new();
        one.set(setting.row.name, &setting.text);
        let Err(refusal) = one.create_native_config() else {
            continue;
        };
        // librdkafka's sentence repeats the value.
        let reason = match refusal {
            KafkaError::ClientConfig(_, sentence, _, _) if !setting.row.sensitive => {
                format!("is refused by librdkafka: {}", table::one_line(&sentence))
            }
            _ => "is refused by librdkafka".to_owned(),
        };
        report.add(ConfigProblem {
            property: setting.from.clone(),
            value: setting.shown.clone(),
            reason,
            remedy: format!("write {}", setting.row.legal()),
            severity: Severity::Error,
        });
    }
}
