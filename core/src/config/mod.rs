//! Configuration: one property table, from which parsing, validation and the reference page come.
//!
//! A [`Config`] is what the user said, in order. [`Config::consumer`], [`Config::producer`] and [`Config::admin`] turn it
//! into typed settings or report every problem together, before any connection is made. Plain data, any thread.
//!
//! The way of a property: `settings` finds its row in the `table` (by librdkafka's, Tidegate's or the Java client's
//! name), `parse` reads the value, `rules` compare properties with each other, and `accepted` lets librdkafka read the
//! values, too. What passes all of them librdkafka does not refuse for its values.

mod accepted;
mod client;
mod explain;
mod nearest;
mod page;
mod parse;
mod recommended;
mod rules;
mod settings;
mod table;
#[cfg(test)]
mod tests;
mod value;

use std::fmt;
use std::sync::Arc;

pub use client::{
    AdminConfig, ConfigReport, ConsumerConfig, GroupProtocol, IsolationLevel, OffsetReset,
    ProducerConfig, Translation,
};
pub use explain::{Explanation, explain};
pub use page::reference_page;
pub use recommended::{RECOMMENDED_CONSUMER, RECOMMENDED_PRODUCER};
pub use table::{
    Conversion, Counterpart, JavaProperty, Kind, Property, Scope, java_properties, properties,
};
pub use value::ConfigValue;

use crate::error::{ConfigProblems, Error, Result};
use crate::token::{TokenProvider, TokenSource};
use settings::Settings;

/// What the user said, in order. Names may be librdkafka's, the Java client's or Tidegate's own.
#[derive(Clone, Default)]
pub struct Config {
    entries: Vec<(String, ConfigValue)>,
    tokens: Option<Arc<dyn TokenProvider>>,
    servers_may_miss: bool,
}

impl Config {
    /// An empty configuration.
    #[must_use]
    pub fn new() -> Config {
        Config::default()
    }

    /// Sets a property; a second value for the same name replaces the first. Nothing is checked here.
    pub fn set(&mut self, name: impl Into<String>, value: impl Into<ConfigValue>) -> &mut Config {
        let (name, value) = (name.into(), value.into());
        match self.entries.iter_mut().find(|(known, _)| *known == name) {
            Some(entry) => entry.1 = value,
            None => self.entries.push((name, value)),
        }
        self
    }

    /// [`Config::set`] for chains.
    #[must_use]
    pub fn with(mut self, name: impl Into<String>, value: impl Into<ConfigValue>) -> Config {
        self.set(name, value);
        self
    }

    /// Sets who gives the tokens of SASL OAUTHBEARER (`sasl.mechanism=OAUTHBEARER`). Each client made with this configuration asks
    /// on a thread of its own; until the first token is there it does not connect.
    ///
    /// ```
    /// use tidegate::{Config, OauthToken};
    ///
    /// let config = Config::new()
    ///     .with("bootstrap.servers", "kafka.example.com:9093")
    ///     .with("security.protocol", "sasl_ssl")
    ///     .with("sasl.mechanism", "OAUTHBEARER")
    ///     .with_token_provider(|_config: &str| {
    ///         let (token, expires_at_ms) = ("from your token server", 4_102_444_800_000);
    ///         Ok(OauthToken::new(token, expires_at_ms))
    ///     });
    /// assert!(config.consumer().is_ok());
    /// ```
    #[must_use]
    pub fn with_token_provider(mut self, provider: impl TokenProvider + 'static) -> Config {
        self.tokens = Some(Arc::new(provider));
        self
    }

    /// Nobody gives tokens.
    #[must_use]
    pub fn without_token_provider(mut self) -> Config {
        self.tokens = None;
        self
    }

    /// A client without `bootstrap.servers` is no mistake: it is made (librdkafka says in the log that it reaches nobody), and every
    /// request of it fails in its time. For faces that carry another client's API.
    #[must_use]
    pub fn servers_may_miss(mut self) -> Config {
        self.servers_may_miss = true;
        self
    }

    /// The value set under exactly this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&ConfigValue> {
        self.iter()
            .find(|(known, _)| *known == name)
            .map(|(_, value)| value)
    }

    /// Every property, in the order it was first set.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &ConfigValue)> {
        self.entries
            .iter()
            .map(|(name, value)| (name.as_str(), value))
    }

    /// Settings for a consumer.
    ///
    /// # Errors
    /// [`Error::Config`] with every problem.
    pub fn consumer(&self) -> Result<ConsumerConfig> {
        let (settings, report) = self.settled(Scope::Consumer)?;
        let tokens = self.token_source(&settings);
        Ok(ConsumerConfig::from_settings(&settings, report, tokens))
    }

    /// Settings for a producer.
    ///
    /// # Errors
    /// [`Error::Config`] with every problem.
    pub fn producer(&self) -> Result<ProducerConfig> {
        let (settings, report) = self.settled(Scope::Producer)?;
        let tokens = self.token_source(&settings);
        Ok(ProducerConfig::from_settings(&settings, report, tokens))
    }

    /// Settings for an admin client. Properties of consumers and producers are passed over with a warning.
    ///
    /// # Errors
    /// [`Error::Config`] with every problem.
    pub fn admin(&self) -> Result<AdminConfig> {
        let (settings, report) = self.settled(Scope::Global)?;
        Ok(AdminConfig {
            tokens: self.token_source(&settings),
            properties: settings.properties(),
            warnings: report.warnings,
            translations: report.translations,
        })
    }

    /// Everything there is to say about this configuration for a client of that scope ([`Scope::Global`] is the admin
    /// client). Never fails.
    #[must_use]
    pub fn check(&self, scope: Scope) -> ConfigReport {
        self.examined(scope).1
    }

    /// Who gives the tokens, where they are used.
    fn token_source(&self, settings: &Settings) -> Option<TokenSource> {
        let provider = self.tokens.as_ref()?;
        settings.uses_tokens().then(|| TokenSource {
            provider: Arc::clone(provider),
            config: settings
                .given("sasl.oauthbearer.config")
                .unwrap_or_default()
                .to_owned(),
        })
    }

    fn examined(&self, scope: Scope) -> (Settings, ConfigReport) {
        let mut settings = Settings::read(self, scope);
        settings.has_token_provider = self.tokens.is_some();
        settings.servers_may_miss = self.servers_may_miss;
        rules::apply(&mut settings);
        let mut report = std::mem::take(&mut settings.report);
        if report.is_ok() {
            accepted::check(&settings, &mut report);
        }
        (settings, report)
    }

    fn settled(&self, scope: Scope) -> Result<(Settings, ConfigReport)> {
        let (settings, report) = self.examined(scope);
        if report.is_ok() {
            Ok((settings, report))
        } else {
            Err(Error::Config(ConfigProblems(report.errors)))
        }
    }
}

/// Secrets are replaced.
impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map()
            .entries(
                self.iter()
                    .map(|(name, value)| (name, table::shown(name, &value.to_text()))),
            )
            .finish()
    }
}

impl<K: Into<String>, V: Into<ConfigValue>> FromIterator<(K, V)> for Config {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(entries: I) -> Config {
        let mut config = Config::new();
        config.extend(entries);
        config
    }
}

impl<K: Into<String>, V: Into<ConfigValue>> Extend<(K, V)> for Config {
    fn extend<I: IntoIterator<Item = (K, V)>>(&mut self, entries: I) {
        for (name, value) in entries {
            self.set(name, value);
        }
    }
}
