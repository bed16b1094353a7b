//! Tests of the configuration as a whole: the table against librdkafka, the rules against librdkafka, secrets, the page.

mod agreement;
mod drift;
mod java;
mod page;
mod random;
mod rules;
mod secrets;

use super::{Config, ConfigReport, ConfigValue, Scope};
use crate::error::ConfigProblem;

/// A configuration from pairs, with bootstrap.servers.
pub(super) fn config(pairs: &[(&str, &str)]) -> Config {
    let mut config = Config::new().with("bootstrap.servers", "127.0.0.1:1");
    for (name, value) in pairs {
        config.set(*name, *value);
    }
    config
}

pub(super) fn check(scope: Scope, pairs: &[(&str, &str)]) -> ConfigReport {
    config(pairs).check(scope)
}

/// The one error of the report.
#[track_caller]
pub(super) fn only_error(scope: Scope, pairs: &[(&str, &str)]) -> ConfigProblem {
    let report = check(scope, pairs);
    assert_eq!(report.errors.len(), 1, "{pairs:?}: {report}");
    report.errors[0].clone()
}

/// A name and a value of any kind.
pub(super) fn value(value: impl Into<ConfigValue>) -> ConfigValue {
    value.into()
}
