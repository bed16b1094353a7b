//! From what the user wrote to the text librdkafka is given. Every property takes strings, numbers and booleans; what
//! cannot be read says which values are legal. Pure functions, any thread.

use super::ConfigValue;
use super::table::{ASSIGNORS, Kind, Property};

/// Why a value cannot be used. Holds no value: the caller knows whether it may be shown.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Wrong {
    pub(crate) reason: String,
    pub(crate) remedy: String,
}

/// A value that can be used.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Parsed {
    /// librdkafka's spelling; `None` is the empty text, which means "not set".
    pub(crate) text: Option<String>,
    /// What was rewritten, where the user's spelling was Java's.
    pub(crate) note: Option<String>,
}

fn plain(text: impl Into<String>) -> Parsed {
    Parsed {
        text: Some(text.into()),
        note: None,
    }
}

fn wrong<T>(reason: impl Into<String>, remedy: impl Into<String>) -> Result<T, Wrong> {
    Err(Wrong {
        reason: reason.into(),
        remedy: remedy.into(),
    })
}

/// Reads the value of a property.
pub(crate) fn parse(row: &Property, value: &ConfigValue) -> Result<Parsed, Wrong> {
    if let ConfigValue::Text(text) = value {
        if text.contains('\0') {
            return wrong("holds a NUL character", "remove it");
        }
        if let Some(parsed) = java_spelling(row, text.trim())? {
            return Ok(parsed);
        }
    }
    match row.kind {
        Kind::Callback(instead) => wrong("is not settable as text", instead),
        Kind::Text => text(row, value),
        Kind::Boolean => boolean(value),
        Kind::Integer { min, max, words } => {
            let legal = format!("write a whole number: {}", row.legal());
            let number = match value {
                ConfigValue::Text(text) => word(text, words).or_else(|| integer_of_text(text)),
                ConfigValue::Integer(number) => Some(*number),
                ConfigValue::Float(number) => integer_of_float(*number),
                ConfigValue::Boolean(_) => None,
            };
            match number {
                Some(number) if (min..=max).contains(&number) => Ok(plain(number.to_string())),
                Some(_) => wrong(format!("is outside {min} to {max}"), legal),
                None => wrong("is not a whole number", legal),
            }
        }
        Kind::Float { min, max } => {
            let legal = format!("write {}", row.legal());
            let number = match value {
                ConfigValue::Text(text) => text.trim().parse::<f64>().ok(),
                #[allow(clippy::cast_precision_loss)]
                // a rounded giant is out of range just the same
                ConfigValue::Integer(number) => Some(*number as f64),
                ConfigValue::Float(number) => Some(*number),
                ConfigValue::Boolean(_) => None,
            };
            match number {
                Some(number) if (min..=max).contains(&number) => Ok(plain(number.to_string())),
                Some(number) if !number.is_nan() => {
                    wrong(format!("is outside {min} to {max}"), legal)
                }
                _ => wrong("is not a number", legal),
            }
        }
        Kind::OneOf(words) => {
            let given = value.to_text();
            match find_word(words, given.trim()) {
                Some(word) => Ok(plain(word)),
                None => wrong(
                    "is not one of its values",
                    format!("write one of {}", row.legal()),
                ),
            }
        }
        Kind::Several(words) => several(row, words, &value.to_text()),
    }
}

fn text(row: &Property, value: &ConfigValue) -> Result<Parsed, Wrong> {
    let given = value.to_text();
    if given.trim().is_empty() {
        return Ok(Parsed {
            text: None,
            note: None,
        });
    }
    if row.name == "broker.version.fallback"
        && (given.starts_with("0.7.") || given.starts_with("0.6."))
    {
        return wrong("is too old", "write 0.8.0 or later");
    }
    if row.name == "topic.blacklist" || row.name == "plugin.library.paths" {
        return Ok(plain(given.trim()));
    }
    // librdkafka drops leading blanks, as in a password: what is compared with it must look alike.
    Ok(plain(given.trim_start()))
}

fn boolean(value: &ConfigValue) -> Result<Parsed, Wrong> {
    let yes = match value {
        ConfigValue::Boolean(yes) => Some(*yes),
        ConfigValue::Integer(number) => [false, true]
            .get(usize::try_from(*number).unwrap_or(2))
            .copied(),
        ConfigValue::Float(_) => None,
        ConfigValue::Text(text) => match text.trim().to_ascii_lowercase().as_str() {
            "true" | "t" | "1" => Some(true),
            "false" | "f" | "0" => Some(false),
            _ => None,
        },
    };
    match yes {
        Some(yes) => Ok(plain(yes.to_string())),
        None => wrong("is neither true nor false", "write true or false"),
    }
}

fn several(row: &Property, words: &[&'static str], given: &str) -> Result<Parsed, Wrong> {
    let mut chosen: Vec<String> = Vec::new();
    for part in given
        .split(',')
        .map(str::trim)
        .filter(|part| !part.is_empty())
    {
        // `debug=all,-fetch` takes a context away again.
        let (sign, bare) = match part.strip_prefix('-') {
            Some(bare) if row.name == "debug" => ("-", bare),
            _ => ("", part),
        };
        match find_word(words, bare) {
            Some(word) => chosen.push(format!("{sign}{word}")),
            None => {
                return wrong(
                    "holds a word that is not one of its values",
                    format!("write some of {}", words.join(", ")),
                );
            }
        }
    }
    if chosen.is_empty() && !given.trim().is_empty() {
        return wrong(
            "holds no word",
            format!("write some of {}", words.join(", ")),
        );
    }
    let text = (!chosen.is_empty()).then(|| chosen.join(","));
    Ok(Parsed { text, note: None })
}

fn find_word(words: &[&'static str], given: &str) -> Option<&'static str> {
    words
        .iter()
        .find(|word| word.eq_ignore_ascii_case(given))
        .copied()
}

fn word(text: &str, words: &[(&str, i64)]) -> Option<i64> {
    let text = text.trim();
    let found = words
        .iter()
        .find(|(word, _)| word.eq_ignore_ascii_case(text));
    found.map(|(_, number)| *number)
}

/// "5000", and also "5000.0" or "5e3", which configuration files bring forth.
fn integer_of_text(text: &str) -> Option<i64> {
    let text = text.trim();
    text.parse::<i64>()
        .ok()
        .or_else(|| integer_of_float(text.parse().ok()?))
}

/// Doubles hold whole numbers exactly up to this one.
const EXACT: f64 = 9_007_199_254_740_992.0;

#[allow(clippy::cast_possible_truncation)] // whole and within EXACT
fn integer_of_float(number: f64) -> Option<i64> {
    (number.fract() == 0.0 && number.abs() <= EXACT).then_some(number as i64)
}

/// Spellings of the Java client that librdkafka does not know.
fn java_spelling(row: &Property, given: &str) -> Result<Option<Parsed>, Wrong> {
    let rewritten = |text: &str, note: String| {
        Ok(Some(Parsed {
            text: Some(text.to_owned()),
            note: Some(note),
        }))
    };
    match row.name {
        "auto.offset.reset" if given.eq_ignore_ascii_case("none") => {
            rewritten("error", "none is error in librdkafka".to_owned())
        }
        "auto.offset.reset" if given.to_ascii_lowercase().starts_with("by_duration") => wrong(
            "by_duration has no counterpart",
            "write earliest or latest, and seek to what offsets_for_times returns",
        ),
        "ssl.endpoint.identification.algorithm" if given.is_empty() => {
            rewritten("none", "the empty value is none in librdkafka".to_owned())
        }
        "partition.assignment.strategy" if given.contains("Assignor") => {
            let mut names = Vec::new();
            for part in given
                .split(',')
                .map(str::trim)
                .filter(|part| !part.is_empty())
            {
                // "class org.apache..." is how Java prints its own default.
                let class = part
                    .strip_prefix("class ")
                    .unwrap_or(part)
                    .rsplit('.')
                    .next();
                match ASSIGNORS.iter().find(|(java, _)| Some(*java) == class) {
                    Some((_, Some(name))) => names.push(*name),
                    Some((_, None)) => {
                        return wrong(
                            "StickyAssignor has no counterpart",
                            "write cooperative-sticky on every member of the group",
                        );
                    }
                    None => names.push(part),
                }
            }
            let joined = ConfigValue::Text(names.join(","));
            let mut parsed = match row.kind {
                Kind::Several(words) => several(row, words, &joined.to_text())?,
                _ => return Ok(None),
            };
            parsed.note = Some(format!(
                "assignor classes are {} in librdkafka",
                names.join(",")
            ));
            Ok(Some(parsed))
        }
        _ => Ok(None),
    }
}
