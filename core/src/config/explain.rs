//! What there is to know about one property, for `tidegate config explain NAME`. Pure functions, any thread.

use std::fmt;

use super::nearest::nearest;
use super::table::{self, Counterpart, JavaProperty, Property, Scope};

/// What there is to know about one name. `Display` renders it for people. Never holds a value of the user.
#[derive(Debug, Clone, PartialEq)]
pub struct Explanation {
    /// The name asked for, shortened.
    pub name: String,
    /// The row, when librdkafka or Tidegate has the property, or when the Java name is translated to it.
    pub property: Option<&'static Property>,
    /// The row of the Java client, when that has the name.
    pub java: Option<&'static JavaProperty>,
    /// The nearest known name, when this one is not known.
    pub nearest: Option<&'static str>,
}

impl Explanation {
    /// True when librdkafka, Tidegate or the Java client has the name.
    #[must_use]
    pub fn is_known(&self) -> bool {
        self.property.is_some() || self.java.is_some()
    }
}

/// Explains a librdkafka, Tidegate or Java client property; for an unknown name it holds the nearest known one.
#[must_use]
pub fn explain(name: &str) -> Explanation {
    let name = name.trim();
    let java = table::find_java(name);
    let target = || java.and_then(JavaProperty::target).and_then(table::find);
    let property = table::find(name).or_else(target);
    let known = property.is_some() || java.is_some();
    Explanation {
        name: table::one_line(name),
        property,
        java,
        nearest: if known { None } else { nearest(name) },
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.is_known() {
            return match self.nearest {
                Some(near) => write!(
                    f,
                    "{} is not a known property; did you mean {near}?",
                    self.name
                ),
                None => write!(f, "{} is not a known property", self.name),
            };
        }
        if let Some(java) = self.java {
            fmt_java(f, java)?;
        }
        match self.property {
            Some(property) => fmt_property(f, property),
            None => Ok(()),
        }
    }
}

fn fmt_java(f: &mut fmt::Formatter<'_>, java: &JavaProperty) -> fmt::Result {
    match java.counterpart {
        Counterpart::Same { note: "" } => Ok(()),
        Counterpart::Same { note } => writeln!(
            f,
            "Compared with the Java client ({}): {note}.",
            java.clients
        ),
        Counterpart::Translated { to, note, .. } => {
            writeln!(
                f,
                "{} of the Java client ({}) is translated to {to}: {note}.",
                java.name, java.clients
            )
        }
        Counterpart::Settled { values, remedy } => write!(
            f,
            "{} of the Java client ({}) is accepted with the value {}; otherwise: {remedy}.",
            java.name,
            java.clients,
            values.join(", ")
        ),
        Counterpart::Absent { remedy } => {
            write!(
                f,
                "{} of the Java client ({}) has no counterpart: {remedy}.",
                java.name, java.clients
            )
        }
    }
}

/// The clients a row is for, in words.
pub(crate) fn clients(property: &Property) -> &'static str {
    match property.scope {
        Scope::Global => "every client",
        Scope::Consumer => "consumers",
        Scope::Producer => "producers",
    }
}

/// Everything about a row beside its document line, in short sentences.
pub(crate) fn remarks(property: &Property) -> Vec<String> {
    let mut remarks = Vec::new();
    if let Some(alias) = property.alias {
        remarks.push(format!("Also called {alias}."));
    }
    if property.own {
        remarks.push("Tidegate's own.".to_owned());
    }
    if let Some((value, why)) = property.kept {
        remarks.push(match value {
            "" => format!("Not used: {why}."),
            value => format!("Tidegate keeps it at {value}: {why}."),
        });
    }
    if let Some(why) = property.missing {
        remarks.push(format!("Refused: {why}."));
    }
    if property.deprecated {
        remarks.push("Deprecated.".to_owned());
    }
    if property.sensitive {
        remarks.push("Never shown.".to_owned());
    }
    if let table::Kind::Callback(instead) = property.kind {
        remarks.push(format!("Not settable as text: {instead}."));
    }
    remarks
}

fn fmt_property(f: &mut fmt::Formatter<'_>, property: &Property) -> fmt::Result {
    writeln!(
        f,
        "{} ({}): {}",
        property.name,
        clients(property),
        property.doc
    )?;
    writeln!(f, "  values:  {}", property.legal())?;
    let default = if property.default.is_empty() {
        "none"
    } else {
        property.default
    };
    write!(f, "  default: {default}")?;
    for remark in remarks(property) {
        write!(f, "\n  {remark}")?;
    }
    Ok(())
}
