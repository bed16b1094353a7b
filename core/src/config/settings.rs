//! From names and values to settings: finds each name's row, reads its value, and collects what is wrong on the way. The
//! rules between properties come after ([`super::rules`]). Pure functions, any thread.

use std::collections::{BTreeMap, BTreeSet};

use super::nearest::nearest;
use super::parse::{self, Parsed, Wrong};
use super::rules::kilobytes;
use super::table::{self, Conversion, Counterpart, Property, Scope};
use super::{Config, ConfigReport, ConfigValue, Translation};
use crate::error::{ConfigProblem, Severity};

/// A property the user set, read and found legal.
pub(crate) struct Setting {
    pub(crate) row: &'static Property,
    /// librdkafka's spelling of the value.
    pub(crate) text: String,
    /// The name the user wrote.
    pub(crate) from: String,
    /// The value the user wrote, secrets replaced.
    pub(crate) shown: String,
}

/// All settings of one configuration.
pub(crate) struct Settings {
    pub(crate) scope: Scope,
    pub(crate) report: ConfigReport,
    set: BTreeMap<&'static str, Setting>,
    /// Set, but not legible: rules that need them are not applied, for they would complain about a value nobody wrote.
    broken: BTreeSet<&'static str>,
    /// The application gives OAUTHBEARER tokens.
    pub(crate) has_token_provider: bool,
    /// Without `bootstrap.servers` there is a warning and no error.
    pub(crate) servers_may_miss: bool,
}

/// Names that make no sense when they are empty; other empty texts are taken as not set.
const NEVER_EMPTY: [&str; 3] = ["group.id", "group.instance.id", "transactional.id"];

/// What a name stands for.
enum Meaning {
    Row(&'static Property),
    Translated(&'static Property, Conversion, &'static str),
    Settled(&'static [&'static str], &'static str),
    Absent(&'static str),
    Unknown,
}

fn meaning(scope: Scope, name: &str) -> Meaning {
    // One name, two meanings: librdkafka knows the producer's only.
    if name == "request.timeout.ms"
        && scope != Scope::Producer
        && let Some(row) = table::find("socket.timeout.ms")
    {
        return Meaning::Translated(
            row,
            Conversion::AsIs,
            "how long a request may take, on this client",
        );
    }
    if let Some(row) = table::find(name) {
        return Meaning::Row(row);
    }
    match table::find_java(name).map(|java| java.counterpart) {
        Some(Counterpart::Translated { to, how, note }) => match table::find(to) {
            Some(row) => Meaning::Translated(row, how, note),
            None => Meaning::Unknown,
        },
        Some(Counterpart::Settled { values, remedy }) => Meaning::Settled(values, remedy),
        Some(Counterpart::Absent { remedy }) => Meaning::Absent(remedy),
        Some(Counterpart::Same { .. }) | None => Meaning::Unknown,
    }
}

impl Settings {
    /// Reads every property for a client of that scope.
    pub(crate) fn read(config: &Config, scope: Scope) -> Settings {
        let mut settings = Settings {
            scope,
            report: ConfigReport::default(),
            set: BTreeMap::new(),
            broken: BTreeSet::new(),
            has_token_provider: false,
            servers_may_miss: false,
        };
        for (name, value) in config.iter() {
            settings.read_one(config, name, value);
        }
        settings
    }

    fn read_one(&mut self, config: &Config, name: &str, value: &ConfigValue) {
        match meaning(self.scope, name) {
            Meaning::Row(row) => self.read_row(row, name, value, value, None),
            Meaning::Translated(row, how, note) => match convert(config, how, value) {
                Ok(Some(converted)) => self.read_row(row, name, value, &converted, Some(note)),
                Ok(None) => self.translated(name, "", note),
                Err(wrong) => {
                    self.broken.insert(row.name);
                    self.say(Severity::Error, name, value, wrong);
                }
            },
            Meaning::Settled(values, remedy) => {
                let given = value.to_text();
                if values.iter().any(|v| v.eq_ignore_ascii_case(given.trim())) {
                    self.translated(name, "", "needs no counterpart, Tidegate works that way");
                } else {
                    self.say(Severity::Error, name, value, no_counterpart(remedy));
                }
            }
            Meaning::Absent(remedy) => {
                self.say(Severity::Error, name, value, no_counterpart(remedy));
            }
            Meaning::Unknown => self.say(
                Severity::Error,
                name,
                value,
                Wrong {
                    reason: "is not a known property".to_owned(),
                    remedy: match nearest(name) {
                        Some(near) => format!("did you mean {near}?"),
                        None => "remove it, or look it up in docs/configuration.md".to_owned(),
                    },
                },
            ),
        }
    }

    /// `value` is what the user wrote, `converted` what the row's property is to be given.
    fn read_row(
        &mut self,
        row: &'static Property,
        name: &str,
        value: &ConfigValue,
        converted: &ConfigValue,
        note: Option<&str>,
    ) {
        if row.scope != Scope::Global && row.scope != self.scope {
            return self.of_another_client(row, name, value);
        }
        if let Some(why) = row.missing {
            let (why, remedy) = why.split_once("; ").unwrap_or((why, "leave it out"));
            return self.say(
                Severity::Error,
                name,
                value,
                Wrong {
                    reason: why.to_owned(),
                    remedy: remedy.to_owned(),
                },
            );
        }
        let Parsed {
            text,
            note: spelling,
        } = match parse::parse(row, converted) {
            Ok(parsed) => parsed,
            Err(wrong) => {
                self.broken.insert(row.name);
                return self.say(Severity::Error, name, value, wrong);
            }
        };
        if let Some((kept, why)) = row.kept {
            if text.as_deref() != Some(kept) {
                self.say(
                    Severity::Warning,
                    name,
                    value,
                    Wrong {
                        reason: match kept {
                            "" => format!("is not used: {why}"),
                            kept => format!("is not used, Tidegate keeps it at {kept}: {why}"),
                        },
                        remedy: "leave it out".to_owned(),
                    },
                );
            }
            return;
        }
        if row.deprecated {
            self.say(
                Severity::Warning,
                name,
                value,
                Wrong {
                    reason: "is deprecated in librdkafka".to_owned(),
                    remedy: "leave it out".to_owned(),
                },
            );
        }
        if let Some(note) = note
            .map(str::to_owned)
            .into_iter()
            .chain(spelling)
            .reduce(|a, b| format!("{a}; {b}"))
        {
            self.translated(name, row.name, &note);
        }
        // An empty text is how librdkafka spells "not set".
        let Some(text) = text else {
            if NEVER_EMPTY.contains(&row.name) {
                self.say(
                    Severity::Error,
                    name,
                    value,
                    Wrong {
                        reason: "is empty".to_owned(),
                        remedy: "write a name, or leave it out".to_owned(),
                    },
                );
            }
            return;
        };
        match self.set.get(row.name) {
            Some(other) if other.text != text => {
                let reason = format!(
                    "is the same property as {}, which has another value",
                    other.from
                );
                self.say(
                    Severity::Error,
                    name,
                    value,
                    Wrong {
                        reason,
                        remedy: "write one of the two".to_owned(),
                    },
                );
            }
            Some(_) => {}
            None => {
                let shown = shown(name, row, value);
                self.set.insert(
                    row.name,
                    Setting {
                        row,
                        text,
                        from: name.to_owned(),
                        shown,
                    },
                );
            }
        }
    }

    fn of_another_client(&mut self, row: &'static Property, name: &str, value: &ConfigValue) {
        let (owner, here) = (row.scope.client(), self.scope.client());
        let reason =
            format!("is a property of {owner}s, and this is the configuration of a {here}");
        let reason = reason.replace("of a admin", "of an admin");
        let remedy = format!("set it on the {owner}");
        // One file for all clients is common, and an admin client reads from it what it needs.
        let severity = match self.scope {
            Scope::Global => Severity::Warning,
            Scope::Consumer | Scope::Producer => Severity::Error,
        };
        self.say(severity, name, value, Wrong { reason, remedy });
    }

    fn translated(&mut self, from: &str, to: &str, note: &str) {
        self.report.translations.push(Translation {
            from: from.to_owned(),
            to: if from == to {
                String::new()
            } else {
                to.to_owned()
            },
            note: note.to_owned(),
        });
    }

    fn say(&mut self, severity: Severity, name: &str, value: &ConfigValue, wrong: Wrong) {
        let value = match table::find(name) {
            Some(row) => shown(name, row, value),
            None => table::shown(name, &value.to_text()),
        };
        self.report.add(ConfigProblem {
            property: table::one_line(name),
            value,
            reason: wrong.reason,
            remedy: wrong.remedy,
            severity,
        });
    }

    /// Adds a problem of a property of the table: the name and value are the user's where there are any.
    pub(crate) fn add(
        &mut self,
        severity: Severity,
        name: &'static str,
        reason: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        let value = match self.set.get(name) {
            Some(setting) => setting.shown.clone(),
            None => match table::find(name).map_or("", |row| row.default) {
                "" => "(not set)".to_owned(),
                default => format!("{default} (default)"),
            },
        };
        let property = self.name_of(name).to_owned();
        let (reason, remedy) = (reason.into(), remedy.into());
        self.report.add(ConfigProblem {
            property,
            value,
            reason,
            remedy,
            severity,
        });
    }

    pub(crate) fn error(
        &mut self,
        name: &'static str,
        reason: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        self.add(Severity::Error, name, reason, remedy);
    }

    pub(crate) fn warn(
        &mut self,
        name: &'static str,
        reason: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        self.add(Severity::Warning, name, reason, remedy);
    }

    /// True when the user set it (also when the value is not legible).
    pub(crate) fn is_set(&self, name: &str) -> bool {
        self.set.contains_key(name) || self.broken.contains(name)
    }

    /// The name the user wrote for it, or the table's.
    pub(crate) fn name_of(&self, name: &'static str) -> &str {
        self.set.get(name).map_or(name, |setting| &setting.from)
    }

    /// The value or the default; `None` where there is neither, or where the user's value is not legible.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        if self.broken.contains(name) {
            return None;
        }
        let default = || table::find(name).map(|row| row.default);
        self.given(name)
            .or_else(default)
            .filter(|text| !text.is_empty())
    }

    /// The value the user set.
    pub(crate) fn given(&self, name: &str) -> Option<&str> {
        self.set.get(name).map(|setting| setting.text.as_str())
    }

    pub(crate) fn integer(&self, name: &str) -> Option<i64> {
        self.text(name)?.parse().ok()
    }

    pub(crate) fn float(&self, name: &str) -> Option<f64> {
        self.text(name)?.parse().ok()
    }

    pub(crate) fn is_true(&self, name: &str) -> bool {
        self.text(name) == Some("true")
    }

    /// Everything set, in the order of the names.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Setting> {
        self.set.values()
    }

    /// Brokers are told who we are by OAUTHBEARER tokens.
    pub(crate) fn uses_tokens(&self) -> bool {
        self.text("security.protocol")
            .is_some_and(|protocol| protocol.starts_with("sasl_"))
            && self.text("sasl.mechanism") == Some("OAUTHBEARER")
    }

    /// What librdkafka is given.
    pub(crate) fn properties(&self) -> BTreeMap<String, String> {
        self.iter()
            .filter(|setting| !setting.row.own)
            .map(|setting| (setting.row.name.to_owned(), setting.text.clone()))
            .collect()
    }
}

fn no_counterpart(remedy: &str) -> Wrong {
    Wrong {
        reason: "is a property of the Java client without a counterpart here".to_owned(),
        remedy: remedy.to_owned(),
    }
}

/// A value is a secret when its name or the property it is translated to says so.
fn shown(name: &str, row: &Property, value: &ConfigValue) -> String {
    if row.sensitive {
        table::REDACTED.to_owned()
    } else {
        table::shown(name, &value.to_text())
    }
}

/// `Ok(None)`: the setting has no effect in this configuration.
fn convert(
    config: &Config,
    how: Conversion,
    value: &ConfigValue,
) -> Result<Option<ConfigValue>, Wrong> {
    let given = value.to_text();
    let number = given.trim().parse::<i64>().ok();
    match how {
        Conversion::AsIs => Ok(Some(value.clone())),
        Conversion::BytesToKilobytes => match number {
            Some(bytes) if bytes >= 0 => Ok(Some(ConfigValue::Integer(kilobytes(bytes)))),
            Some(_) => Err(Wrong {
                reason: "is negative".to_owned(),
                remedy: "write a number of bytes".to_owned(),
            }),
            None => Ok(Some(value.clone())),
        },
        Conversion::SocketBuffer => match number {
            Some(-1) => Ok(Some(ConfigValue::Integer(0))),
            _ => Ok(Some(value.clone())),
        },
        Conversion::PartitionerClass => {
            let given = given.trim();
            let class = given
                .strip_prefix("class ")
                .unwrap_or(given)
                .rsplit('.')
                .next()
                .unwrap_or(given);
            match class {
                "DefaultPartitioner" => Ok(Some(ConfigValue::from("murmur2_random"))),
                "RoundRobinPartitioner" | "UniformStickyPartitioner" => Err(Wrong {
                    reason: format!("{class} has no counterpart"),
                    remedy: "write partitioner=random; sticky.partitioning.linger.ms=0 changes the partition at every record without a key".to_owned(),
                }),
                _ if given.contains('.') => Err(Wrong {
                    reason: "is a Java class without a counterpart".to_owned(),
                    remedy: "set the partition of each record, or write partitioner=murmur2_random".to_owned(),
                }),
                _ => Ok(Some(value.clone())),
            }
        }
        Conversion::LevelOf(codec) => {
            let chosen = config
                .get("compression.type")
                .or_else(|| config.get("compression.codec"));
            let chosen =
                chosen.is_some_and(|value| value.to_text().trim().eq_ignore_ascii_case(codec));
            Ok(chosen.then(|| value.clone()))
        }
    }
}
