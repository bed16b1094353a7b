//! Any list of names and values: no panic, and what `check` says is what the constructors do.

use proptest::prelude::*;
use proptest::sample::select;

use crate::config::{Config, ConfigValue, Scope, explain, java_properties, properties};

fn name() -> impl Strategy<Value = String> {
    let known: Vec<&'static str> = properties()
        .iter()
        // Loading any.so or a signal handler is no work for a test.
        .filter(|row| !["plugin.library.paths", "internal.termination.signal"].contains(&row.name))
        .map(|row| row.name)
        .chain(java_properties().iter().map(|java| java.name))
        .collect();
    prop_oneof![6 => select(known.clone()).prop_map(str::to_owned),
                1 => (select(known), any::<prop::sample::Index>(), any::<char>()).prop_map(|(name, at, c)| {
                    let mut chars: Vec<char> = name.chars().collect();
                    let at = at.index(chars.len());
                    chars[at] = c;
                    chars.into_iter().collect()
                }),
                1 => any::<String>()]
}

fn any_value() -> impl Strategy<Value = ConfigValue> {
    let words = select(vec![
        "", " ", "true", "all", "none", "range", "consumer", "a:1", "-1", "0", "sasl_ssl", "ssl",
        "PLAIN", "5000", "1e400", "nan", "٣",
    ]);
    prop_oneof![4 => words.prop_map(ConfigValue::from),
                2 => any::<String>().prop_map(ConfigValue::Text),
                2 => any::<i64>().prop_map(ConfigValue::Integer),
                2 => (0..200_000_i64).prop_map(ConfigValue::Integer),
                1 => any::<f64>().prop_map(ConfigValue::Float),
                1 => any::<bool>().prop_map(ConfigValue::Boolean)]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_panics_and_the_verdicts_are_one(pairs in prop::collection::vec((name(), any_value()), 0..12)) {
        let config: Config = pairs.iter().cloned().collect();
        let _ = format!("{config:?}");
        for (name, _) in &pairs {
            let _ = explain(name).to_string();
        }
        for scope in [Scope::Consumer, Scope::Producer, Scope::Global] {
            let report = config.check(scope);
            let _ = report.to_string();
            let made = match scope {
                Scope::Consumer => config.consumer().map(|c| (c.warnings, c.properties)),
                Scope::Producer => config.producer().map(|c| (c.warnings, c.properties)),
                Scope::Global => config.admin().map(|c| (c.warnings, c.properties)),
            };
            prop_assert_eq!(made.is_ok(), report.is_ok());
            for problem in report.errors.iter().chain(&report.warnings) {
                prop_assert!(!problem.reason.is_empty() && !problem.remedy.is_empty(), "{}", problem);
                prop_assert!(!problem.to_string().contains('\n'), "{}", problem);
            }
            if let Ok((warnings, properties)) = made {
                prop_assert_eq!(warnings, report.warnings);
                // Only librdkafka's own names leave this place.
                for name in properties.keys() {
                    prop_assert!(crate::config::table::find(name).is_some_and(|row| !row.own && row.kept.is_none()));
                }
            }
        }
    }
}
