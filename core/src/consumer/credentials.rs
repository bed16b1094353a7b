//! The name and password that a consumer signs in with once they were replaced, and who follows it there.
//!
//! Any thread. A producer beside the consumer, of dead letters or of outputs, is made from the consumer's configuration, whose password
//! may be an old one by then: it gets the newest when it is made, and each that comes.

use std::sync::Weak;

use super::{Consumer, WHAT};
use crate::error::{Error, Result};
use crate::source::kafka;

/// A client beside the consumer.
pub(crate) trait Follower: Send + Sync {
    fn set_sasl_credentials(&self, username: &str, password: &str) -> Result<()>;
}

#[derive(Default)]
pub(super) struct Credentials {
    newest: Option<(String, String)>,
    followers: Vec<Weak<dyn Follower>>,
}

impl Consumer {
    /// Replaces user name and password of SASL PLAIN or SCRAM, for the next connections; those that are up stay as they are. Producers
    /// that this consumer's processing has of its own follow.
    ///
    /// # Errors
    ///
    /// [`Error::Argument`] for a NUL character, [`Error::Closed`], [`Error::Forked`].
    pub fn set_sasl_credentials(&self, username: &str, password: &str) -> Result<()> {
        self.open()?;
        let Some(client) = self.client.upgrade() else {
            return Err(Error::Closed { what: WHAT });
        };
        let mut credentials = self.credentials.lock();
        kafka::set_sasl_credentials(&client, username, password)?;
        credentials.newest = Some((username.to_string(), password.to_string()));
        // One that is closed needs nothing any more.
        credentials.followers.retain(|follower| {
            follower
                .upgrade()
                .is_some_and(|follower| follower.set_sasl_credentials(username, password).is_ok())
        });
        Ok(())
    }

    /// From here on `follower` signs in as this consumer does.
    pub(crate) fn is_followed_by(&self, follower: Weak<dyn Follower>) -> Result<()> {
        let mut credentials = self.credentials.lock();
        if let Some((username, password)) = &credentials.newest
            && let Some(follower) = follower.upgrade()
        {
            follower.set_sasl_credentials(username, password)?;
        }
        let followers = &mut credentials.followers;
        followers.retain(|follower| follower.strong_count() > 0);
        followers.push(follower);
        Ok(())
    }
}
