//! The property table: every property of librdkafka 2.12.1, Tidegate's own, and what became of the Java client's names.
//!
//! Parsing, validation, `explain` and the reference page all come from these rows; a test compares them with what the
//! linked librdkafka says. Plain constants, any thread.
//!
//! Where librdkafka has two names for one property, the row bears the one Java users know (`acks`, `linger.ms`,
//! `bootstrap.servers`), and the other is its alias.

mod consumer;
mod global;
mod java;
mod producer;
mod security;

use std::sync::LazyLock;

pub(crate) use java::{ASSIGNORS, JAVA};
pub use java::{Conversion, Counterpart, JavaProperty};

/// Which client a property belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scope {
    /// Every client; as an argument of `check`, the admin client.
    Global,
    /// Consumers only.
    Consumer,
    /// Producers only.
    Producer,
}

impl Scope {
    /// The client, as a message names it.
    #[must_use]
    pub fn client(self) -> &'static str {
        match self {
            Scope::Global => "admin client",
            Scope::Consumer => "consumer",
            Scope::Producer => "producer",
        }
    }
}

/// What a property's value looks like.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kind {
    /// Any text.
    Text,
    /// A whole number of this range.
    Integer {
        /// Least legal value.
        min: i64,
        /// Greatest legal value.
        max: i64,
        /// Words that stand for a number, as `all` for -1.
        words: &'static [(&'static str, i64)],
    },
    /// A number of this range.
    Float {
        /// Least legal value.
        min: f64,
        /// Greatest legal value.
        max: f64,
    },
    /// `true` or `false`.
    Boolean,
    /// One of these words.
    OneOf(&'static [&'static str]),
    /// Some of these words, comma-separated.
    Several(&'static [&'static str]),
    /// A function or an object; not settable as text. What to use instead.
    Callback(&'static str),
}

/// One row of the table.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Property {
    /// The name.
    pub name: &'static str,
    /// librdkafka's second name for it.
    pub alias: Option<&'static str>,
    /// The client it belongs to.
    pub scope: Scope,
    /// True for librdkafka's topic-level properties; they are set like all others and hold for every topic.
    pub topic: bool,
    /// What its value looks like.
    pub kind: Kind,
    /// The value when it is not set; empty where there is none.
    pub default: &'static str,
    /// One line.
    pub doc: &'static str,
    /// A secret: the value is never shown.
    pub sensitive: bool,
    /// librdkafka advises against it.
    pub deprecated: bool,
    /// Not in librdkafka's own reference; for tests and language bindings.
    pub hidden: bool,
    /// Tidegate's own: librdkafka never sees it.
    pub own: bool,
    /// Tidegate decides the value itself: what it is, and why. The user's is not used.
    pub kept: Option<(&'static str, &'static str)>,
    /// Why this build of librdkafka refuses it.
    pub missing: Option<&'static str>,
}

const fn row(name: &'static str, kind: Kind, default: &'static str, doc: &'static str) -> Property {
    Property {
        name,
        alias: None,
        scope: Scope::Global,
        topic: false,
        kind,
        default,
        doc,
        sensitive: false,
        deprecated: false,
        hidden: false,
        own: false,
        kept: None,
        missing: None,
    }
}

const fn text(name: &'static str, default: &'static str, doc: &'static str) -> Property {
    row(name, Kind::Text, default, doc)
}

const fn integer(
    name: &'static str,
    min: i64,
    max: i64,
    default: &'static str,
    doc: &'static str,
) -> Property {
    let words = &[];
    row(name, Kind::Integer { min, max, words }, default, doc)
}

const fn float(
    name: &'static str,
    min: f64,
    max: f64,
    default: &'static str,
    doc: &'static str,
) -> Property {
    row(name, Kind::Float { min, max }, default, doc)
}

const fn boolean(name: &'static str, default: &'static str, doc: &'static str) -> Property {
    row(name, Kind::Boolean, default, doc)
}

const fn one_of(
    name: &'static str,
    words: &'static [&'static str],
    default: &'static str,
    doc: &'static str,
) -> Property {
    row(name, Kind::OneOf(words), default, doc)
}

const fn several(
    name: &'static str,
    words: &'static [&'static str],
    default: &'static str,
    doc: &'static str,
) -> Property {
    row(name, Kind::Several(words), default, doc)
}

const fn callback(name: &'static str, instead: &'static str, doc: &'static str) -> Property {
    row(name, Kind::Callback(instead), "", doc)
}

impl Property {
    const fn alias(mut self, alias: &'static str) -> Property {
        self.alias = Some(alias);
        self
    }

    const fn consumer(mut self) -> Property {
        self.scope = Scope::Consumer;
        self
    }

    const fn producer(mut self) -> Property {
        self.scope = Scope::Producer;
        self
    }

    const fn topic(mut self) -> Property {
        self.topic = true;
        self
    }

    const fn secret(mut self) -> Property {
        self.sensitive = true;
        self
    }

    const fn deprecated(mut self) -> Property {
        self.deprecated = true;
        self
    }

    const fn hidden(mut self) -> Property {
        self.hidden = true;
        self
    }

    const fn own(mut self) -> Property {
        self.own = true;
        self
    }

    const fn kept(mut self, value: &'static str, why: &'static str) -> Property {
        self.kept = Some((value, why));
        self
    }

    const fn missing(mut self, why: &'static str) -> Property {
        self.missing = Some(why);
        self
    }

    const fn words(mut self, words: &'static [(&'static str, i64)]) -> Property {
        if let Kind::Integer { min, max, .. } = self.kind {
            self.kind = Kind::Integer { min, max, words };
        }
        self
    }

    /// The Java client's name for it, where that client has a counterpart.
    #[must_use]
    pub fn java_name(&self) -> Option<&'static str> {
        let same = JAVA
            .iter()
            .find(|java| java.name == self.name && java.is_same());
        same.or_else(|| JAVA.iter().find(|java| java.target() == Some(self.name)))
            .map(|java| java.name)
    }

    /// The legal values in words.
    #[must_use]
    pub fn legal(&self) -> String {
        match self.kind {
            Kind::Text => "text".to_owned(),
            Kind::Integer { min, max, words } => {
                let mut legal = format!("{min} to {max}");
                for (word, number) in words {
                    legal.push_str(&format!(", or {word} ({number})"));
                }
                legal
            }
            Kind::Float { min, max } => format!("a number from {min} to {max}"),
            Kind::Boolean => "true or false".to_owned(),
            Kind::OneOf(words) => words.join(", "),
            Kind::Several(words) => format!("comma-separated: {}", words.join(", ")),
            Kind::Callback(_) => "not settable as text".to_owned(),
        }
    }

    /// True for the row's name and its alias.
    #[must_use]
    pub fn is_named(&self, name: &str) -> bool {
        self.name == name || self.alias == Some(name)
    }
}

static PROPERTIES: LazyLock<Vec<Property>> =
    LazyLock::new(|| [global::ROWS, security::ROWS, consumer::ROWS, producer::ROWS].concat());

/// The table.
#[must_use]
pub fn properties() -> &'static [Property] {
    &PROPERTIES
}

/// The Java client's property names (kafka-clients 4.x: consumer, producer, admin), and what Tidegate does with each.
#[must_use]
pub fn java_properties() -> &'static [JavaProperty] {
    JAVA
}

/// The row of a name or alias.
pub(crate) fn find(name: &str) -> Option<&'static Property> {
    properties().iter().find(|row| row.is_named(name))
}

/// The Java client's row of a name.
pub(crate) fn find_java(name: &str) -> Option<&'static JavaProperty> {
    JAVA.iter()
        .find(|java| java.name == name || (java.name.ends_with('.') && name.starts_with(java.name)))
}

/// What stands where a secret was.
pub(crate) const REDACTED: &str = "[redacted]";
/// The most characters of a value that a message repeats.
const SHOWN_CHARS: usize = 120;
/// Parts of names that tell a secret.
const SECRET_PARTS: [&str; 12] = [
    "pass",
    "pwd",
    "secret",
    "token",
    "credential",
    "jaas",
    "key",
    "pem",
    "auth",
    "private",
    "cert",
    "sasl",
];

/// True when the value of that name must not be shown: a secret of the table, of the Java client, or an unknown name
/// that looks like one (a misspelt `sasl.pasword` holds a password all the same).
pub(crate) fn is_sensitive(name: &str) -> bool {
    if let Some(row) = find(name) {
        return row.sensitive;
    }
    if let Some(java) = find_java(name) {
        return java.sensitive;
    }
    let lower = name.to_ascii_lowercase();
    SECRET_PARTS.iter().any(|part| lower.contains(part))
        || super::nearest::nearest(name).is_none_or(|near| {
            find(near).map_or_else(
                || find_java(near).is_some_and(|j| j.sensitive),
                |r| r.sensitive,
            )
        })
}

/// The value as it may be shown: shortened, on one line, or a placeholder for a secret.
pub(crate) fn shown(name: &str, value: &str) -> String {
    if is_sensitive(name) {
        return REDACTED.to_owned();
    }
    one_line(value)
}

/// Shortened, without line breaks and other control characters, so that one problem stays one line of a log.
pub(crate) fn one_line(text: &str) -> String {
    let mut line: String = text
        .chars()
        .take(SHOWN_CHARS)
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    if text.chars().nth(SHOWN_CHARS).is_some() {
        line.push_str("...");
    }
    line
}
