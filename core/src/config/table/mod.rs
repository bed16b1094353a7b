//! The property table: every property of librdkafka 2.12.1 and Tidegate's own. Plain constants, any thread.

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

/// The value as it may be shown: the text, or a placeholder for a secret.
pub(crate) fn shown(name: &str, value: &str) -> String {
    let lower = name.to_ascii_lowercase();
    if ["password", "secret", "key", "jaas", "oauthbearer"]
        .iter()
        .any(|part| lower.contains(part))
    {
        "[redacted]".to_owned()
    } else {
        value.to_owned()
    }
}
