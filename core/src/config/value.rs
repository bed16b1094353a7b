//! A configuration value as the user gave it. Every property takes a string, a number or a boolean; what kind it has to
//! become is the property table's business. Plain data, any thread.

use std::fmt;

/// What the user wrote for one property.
#[derive(Clone, PartialEq)]
pub enum ConfigValue {
    /// A string.
    Text(String),
    /// A whole number.
    Integer(i64),
    /// A number.
    Float(f64),
    /// A boolean.
    Boolean(bool),
}

impl ConfigValue {
    /// The value as one writes it in a configuration file. It is **not** redacted: only code that knows the property may
    /// show it.
    #[must_use]
    pub fn to_text(&self) -> String {
        match self {
            ConfigValue::Text(text) => text.clone(),
            ConfigValue::Integer(number) => number.to_string(),
            ConfigValue::Float(number) => number.to_string(),
            ConfigValue::Boolean(boolean) => boolean.to_string(),
        }
    }

    /// The kind of the value, for messages.
    pub(crate) fn kind_name(&self) -> &'static str {
        match self {
            ConfigValue::Text(_) => "text",
            ConfigValue::Integer(_) => "an integer",
            ConfigValue::Float(_) => "a number",
            ConfigValue::Boolean(_) => "a boolean",
        }
    }
}

/// Shows the kind only: a value alone does not say whether it is a secret.
impl fmt::Debug for ConfigValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<{}>", self.kind_name())
    }
}

impl From<&str> for ConfigValue {
    fn from(text: &str) -> Self {
        ConfigValue::Text(text.to_owned())
    }
}

impl From<String> for ConfigValue {
    fn from(text: String) -> Self {
        ConfigValue::Text(text)
    }
}

impl From<&String> for ConfigValue {
    fn from(text: &String) -> Self {
        ConfigValue::Text(text.clone())
    }
}

impl From<i64> for ConfigValue {
    fn from(number: i64) -> Self {
        ConfigValue::Integer(number)
    }
}

impl From<i32> for ConfigValue {
    fn from(number: i32) -> Self {
        ConfigValue::Integer(number.into())
    }
}

impl From<u32> for ConfigValue {
    fn from(number: u32) -> Self {
        ConfigValue::Integer(number.into())
    }
}

impl From<f64> for ConfigValue {
    fn from(number: f64) -> Self {
        ConfigValue::Float(number)
    }
}

impl From<bool> for ConfigValue {
    fn from(boolean: bool) -> Self {
        ConfigValue::Boolean(boolean)
    }
}
