//! The table against librdkafka: its reference (CONFIGURATION.md in the source that is linked) and the linked library
//! itself. A new librdkafka fails here until the table follows.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Command;

use rdkafka::ClientConfig;
use rdkafka::config::NativeClientConfig;

use crate::config::table::{Kind, Property, Scope, find, find_java, java_properties, properties};

/// The release the table was made from.
const LIBRDKAFKA: &str = "2.12.1";

fn native() -> NativeClientConfig {
    ClientConfig::new().create_native_config().unwrap()
}

fn sets(name: &str, value: &str) -> Result<(), String> {
    let set = ClientConfig::new().set(name, value).create_native_config();
    set.map(drop).map_err(|refusal| refusal.to_string())
}

fn librdkafka_rows() -> impl Iterator<Item = &'static Property> {
    properties().iter().filter(|row| !row.own)
}

#[test]
fn the_table_was_made_for_the_librdkafka_that_is_linked() {
    let (_, version) = rdkafka::util::get_rdkafka_version();
    assert!(
        version.starts_with(LIBRDKAFKA),
        "librdkafka is {version} now: compare the table with its CONFIGURATION.md"
    );
}

/// One line of CONFIGURATION.md.
struct Line {
    name: String,
    clients: String,
    range: String,
    default: String,
    doc: String,
    kind: String,
    topic: bool,
}

/// librdkafka's own reference, from the source cargo builds.
fn reference() -> Vec<Line> {
    let cargo = |arguments: &[&str]| {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let output = Command::new(cargo)
            .args(arguments)
            .output()
            .expect("cargo runs");
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "cargo {arguments:?}: {error}");
        String::from_utf8(output.stdout).expect("cargo speaks UTF-8")
    };
    let version = cargo(&["-vV"]);
    let host = version
        .lines()
        .find_map(|line| line.strip_prefix("host: "))
        .expect("cargo knows its host");
    // Offline and for this platform only: what was just built is there, packages of other platforms need not be.
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
    let metadata = cargo(&[
        "metadata",
        "--format-version=1",
        "--offline",
        "--filter-platform",
        host,
        "--manifest-path",
        manifest,
    ]);
    let metadata: serde_json::Value =
        serde_json::from_str(&metadata).expect("cargo metadata is JSON");
    let packages = metadata["packages"].as_array().expect("it lists packages");
    let sys = packages
        .iter()
        .find(|package| package["name"] == "rdkafka-sys")
        .expect("rdkafka-sys is one of them");
    let manifest = PathBuf::from(sys["manifest_path"].as_str().expect("it has a path"));
    let page = std::fs::read_to_string(
        manifest
            .with_file_name("librdkafka")
            .join("CONFIGURATION.md"),
    )
    .unwrap();
    let mut topic = false;
    let mut lines = Vec::new();
    for line in page.lines() {
        topic |= line.starts_with("## Topic configuration");
        let line = line.replace("\\|", "\u{1}");
        let cells: Vec<String> = line
            .split('|')
            .map(|cell| cell.trim().replace('\u{1}', "|"))
            .collect();
        let [name, clients, range, default, _, rest] = cells.as_slice() else {
            continue;
        };
        let Some((doc, kind)) = rest.split_once("<br>*Type: ") else {
            continue;
        };
        lines.push(Line {
            name: name.clone(),
            clients: clients.clone(),
            range: range.clone(),
            default: default.clone(),
            doc: doc.to_owned(),
            kind: kind.trim_end_matches('*').to_owned(),
            topic,
        });
    }
    lines
}

#[test]
fn every_property_of_librdkafkas_reference_is_in_the_table_and_no_other() {
    let lines = reference();
    assert!(lines.len() > 150, "CONFIGURATION.md was not understood");
    let mut seen = BTreeSet::new();
    for line in &lines {
        let row = find(&line.name).unwrap_or_else(|| panic!("{} is not in the table", line.name));
        assert!(!row.own && !row.hidden, "{}", line.name);
        // A topic property of the same name is shadowed by the global one: rd_kafka_conf_set() looks there first.
        let shadowed = line.topic
            && lines
                .iter()
                .any(|other| !other.topic && other.name == line.name);
        if shadowed || seen.replace(&line.name).is_some() {
            continue;
        }
        let scope = match line.clients.as_str() {
            "C" => Scope::Consumer,
            "P" => Scope::Producer,
            _ => Scope::Global,
        };
        assert_eq!((row.scope, row.topic), (scope, line.topic), "{}", line.name);
        assert_eq!(
            row.deprecated,
            line.doc.contains("**DEPRECATED**"),
            "{}",
            line.name
        );
        let alias = line.doc.contains(&format!("Alias for `{}`", row.name))
            || row
                .alias
                .is_some_and(|alias| line.doc.contains(&format!("Alias for `{alias}`")));
        assert!(alias || !line.doc.contains("Alias for"), "{}", line.name);
        compare(row, line);
    }
    for row in librdkafka_rows().filter(|row| !row.hidden) {
        for name in [Some(row.name), row.alias].into_iter().flatten() {
            assert!(
                lines.iter().any(|line| line.name == name),
                "librdkafka has no {name}"
            );
        }
    }
}

fn compare(row: &Property, line: &Line) {
    let name = &line.name;
    let words = || line.range.split(',').map(str::trim).collect::<Vec<_>>();
    match (line.kind.as_str(), row.kind) {
        ("integer", Kind::Integer { min, max, .. }) => {
            assert_eq!(line.range, format!("{min} .. {max}"), "{name}");
        }
        ("float", Kind::Float { min, max }) => {
            assert_eq!(line.range, format!("{min} .. {max}"), "{name}")
        }
        ("boolean", Kind::Boolean)
        | ("string", Kind::Text | Kind::OneOf(_) | Kind::Several(_))
        | ("pattern list", Kind::Text)
        | ("see dedicated API", Kind::Callback(_)) => {}
        ("enum value", Kind::OneOf(known)) => assert_eq!(known, words(), "{name}"),
        // What builtin.features lists is a matter of the build.
        ("CSV flags", Kind::Several(known)) => {
            assert!(row.name == "builtin.features" || known == words(), "{name}")
        }
        (kind, known) => panic!("{name} is of kind {kind}, not {known:?}"),
    }
    if row.name != "builtin.features" {
        assert_eq!(row.default, line.default, "{name}");
    }
}

#[test]
fn the_linked_library_has_every_default_of_the_table() {
    let native = native();
    for row in librdkafka_rows().filter(|row| !matches!(row.kind, Kind::Callback(_))) {
        for name in [Some(row.name), row.alias].into_iter().flatten() {
            let Ok(value) = native.get(name) else {
                // Topic properties are not in an untouched global configuration, unset texts are nowhere.
                assert!(row.topic || row.default.is_empty(), "{name}");
                continue;
            };
            let same = match row.kind {
                Kind::Float { .. } => value.parse::<f64>().ok() == row.default.parse::<f64>().ok(),
                _ => value == row.default,
            };
            assert!(
                same || row.name.starts_with("builtin") || row.name == "client.software.version",
                "{name}: {value}"
            );
        }
    }
}

#[test]
fn the_linked_library_takes_what_the_table_calls_legal_and_refuses_the_rest() {
    let mut tried = 0;
    for row in librdkafka_rows() {
        let mut legal: Vec<String> = Vec::new();
        let mut illegal: Vec<String> = Vec::new();
        match row.kind {
            Kind::Integer { min, max, words } => {
                legal.extend([min.to_string(), max.to_string()]);
                legal.extend(words.iter().map(|(word, _)| (*word).to_owned()));
                // librdkafka reads C integers: one above the greatest wraps around.
                if min > i64::from(i32::MIN) {
                    illegal.push((min - 1).to_string());
                }
                if max < i64::from(i32::MAX) {
                    illegal.push((max + 1).to_string());
                }
                illegal.push("many".to_owned());
            }
            Kind::Float { min, max } => {
                legal.extend([min.to_string(), max.to_string()]);
                illegal.extend([
                    (min - 1.0).to_string(),
                    (max + 1.0).to_string(),
                    "many".to_owned(),
                ]);
            }
            Kind::Boolean => {
                legal.extend(["true", "false"].map(str::to_owned));
                illegal.push("perhaps".to_owned());
            }
            Kind::OneOf(words) => {
                legal.extend(words.iter().map(|word| (*word).to_owned()));
                // These two librdkafka reads when the client is created; the table knows earlier.
                if !["sasl.mechanism", "group.protocol.type"].contains(&row.name) {
                    illegal.push("perhaps".to_owned());
                }
            }
            Kind::Several(words) => {
                legal.extend(words.iter().map(|word| (*word).to_owned()));
                legal.push(words.join(","));
                // Assignors are looked up when a consumer is created.
                if row.name != "partition.assignment.strategy" {
                    illegal.push("perhaps".to_owned());
                }
            }
            Kind::Text
                if row.name == "plugin.library.paths" || row.name == "broker.version.fallback" => {}
            Kind::Text => legal.push("x".to_owned()),
            Kind::Callback(_) => illegal.push("x".to_owned()),
        }
        if row.missing.is_some() {
            illegal.append(&mut legal);
        }
        for name in [Some(row.name), row.alias].into_iter().flatten() {
            for value in &legal {
                assert_eq!(sets(name, value), Ok(()), "{name}={value}");
                tried += 1;
            }
            for value in &illegal {
                // A hook of librdkafka's own tests takes anything; the table does not.
                let hook = name == "ut_handle_ProduceResponse";
                assert!(hook || sets(name, value).is_err(), "{name}={value}");
                tried += 1;
            }
        }
    }
    assert!(tried > 400, "{tried}");
}

#[test]
fn names_are_unique_and_joined_without_gaps() {
    let mut names = BTreeSet::new();
    for row in properties() {
        for name in [Some(row.name), row.alias].into_iter().flatten() {
            assert!(names.insert(name), "{name} twice");
        }
        assert!(
            !row.doc.is_empty() && row.doc.ends_with('.') && !row.doc.contains('\n'),
            "{}",
            row.name
        );
    }
    let mut java_names = BTreeSet::new();
    for java in java_properties() {
        assert!(java_names.insert(java.name), "{} twice", java.name);
        assert_eq!(java.is_same(), find(java.name).is_some(), "{}", java.name);
        if let Some(target) = java.target() {
            assert!(names.contains(target), "{} leads nowhere", java.name);
        }
    }
    assert_eq!(
        find_java("metrics.context.cluster").map(|java| java.name),
        Some("metrics.context.")
    );
}
