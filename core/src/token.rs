//! Tokens of SASL OAUTHBEARER: what the application gives, and by whom it is asked.
//!
//! L1; plain data, but for [`TokenProvider::token`], which runs on a thread of the client it is for (see `native::sasl`) and may
//! take its time. Always true: no `Debug` and no error text holds a token.

use std::fmt;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::error::{Error, Result};

/// A token, and what librdkafka has to know about it.
#[derive(Clone, PartialEq, Eq)]
pub struct OauthToken {
    /// What is sent to the broker, often a JWT.
    pub value: String,
    /// When it expires, in milliseconds since 1970. A new one is asked for after 80 % of what is left of its life.
    pub expires_at_ms: i64,
    /// Whom it is for; most brokers read that from the token itself, and an empty text does.
    pub principal: String,
    /// SASL extensions (RFC 7628): names of letters, not `auth`, and their values.
    pub extensions: Vec<(String, String)>,
}

impl OauthToken {
    /// A token without principal and extensions.
    #[must_use]
    pub fn new(value: impl Into<String>, expires_at_ms: i64) -> OauthToken {
        OauthToken {
            value: value.into(),
            expires_at_ms,
            principal: String::new(),
            extensions: Vec::new(),
        }
    }

    /// Sets the principal.
    #[must_use]
    pub fn principal(mut self, principal: impl Into<String>) -> OauthToken {
        self.principal = principal.into();
        self
    }

    /// Adds an extension.
    #[must_use]
    pub fn extension(mut self, name: impl Into<String>, value: impl Into<String>) -> OauthToken {
        self.extensions.push((name.into(), value.into()));
        self
    }

    /// Milliseconds until it expires, 0 when it has.
    pub(crate) fn left_ms(&self) -> i64 {
        self.expires_at_ms.saturating_sub(now_ms()).max(0)
    }

    /// Finds what librdkafka would refuse with a text that holds the token.
    pub(crate) fn check(&self) -> Result<()> {
        let wrong = |problem: String, remedy: &str| Err(Error::argument("token", problem, remedy));
        if self.value.is_empty() {
            return wrong("it is empty".into(), "give the token's text");
        }
        if !self.value.bytes().all(is_legal) {
            return wrong(
                "it holds a character that RFC 7628 does not allow".into(),
                "give a token of visible ASCII characters, such as a JWT",
            );
        }
        if self.left_ms() == 0 {
            return wrong(
                format!("it expired at {} ms since 1970", self.expires_at_ms),
                "give the expiry in milliseconds since 1970, later than now",
            );
        }
        if self.principal.contains('\0') {
            return wrong("its principal holds a NUL".into(), "remove it");
        }
        for (name, value) in &self.extensions {
            let alphabetic =
                !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphabetic());
            if !alphabetic || name == "auth" {
                return wrong(
                    format!("{name:?} is no name of an extension"),
                    "use the letters A-Z and a-z, and another name than 'auth'",
                );
            }
            if !value.bytes().all(is_legal) {
                return wrong(
                    format!("the extension {name} holds a character that RFC 7628 does not allow"),
                    "use visible ASCII characters and spaces",
                );
            }
        }
        Ok(())
    }
}

/// RFC 7628, section 3.1: `value = *(VCHAR / SP / HTAB / CR / LF)`.
fn is_legal(byte: u8) -> bool {
    matches!(byte, b' '..=b'~' | b'\t' | b'\r' | b'\n')
}

pub(crate) fn now_ms() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| {
            i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
        })
}

impl fmt::Debug for OauthToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OauthToken")
            .field("expires_at_ms", &self.expires_at_ms)
            .field("principal", &self.principal)
            .finish_non_exhaustive()
    }
}

/// Why there is no token; the text is logged.
pub type TokenError = Box<dyn std::error::Error + Send + Sync>;

/// Gives tokens for SASL OAUTHBEARER; see [`Config::with_token_provider`](crate::Config::with_token_provider).
///
/// Functions of this form are providers: `Fn(&str) -> Result<OauthToken, TokenError>`.
pub trait TokenProvider: Send + Sync {
    /// A token that is good for some time yet. `config` is the property `sasl.oauthbearer.config`, empty where it is not set.
    ///
    /// Called at once when a client is made and again after 80 % of a token's life, on a thread of that client's own, so it may
    /// ask a server and wait. Until the first token is there the client does not connect.
    ///
    /// # Errors
    /// What went wrong, in words for the log: asked again after a second, then after two, four, eight and ten. A token that is
    /// still good stays in use meanwhile. A panic counts as an error.
    fn token(&self, config: &str) -> Result<OauthToken, TokenError>;
}

impl<F> TokenProvider for F
where
    F: Fn(&str) -> Result<OauthToken, TokenError> + Send + Sync,
{
    fn token(&self, config: &str) -> Result<OauthToken, TokenError> {
        self(config)
    }
}

/// The provider of a configuration.
#[derive(Clone)]
pub(crate) struct TokenSource {
    pub(crate) provider: Arc<dyn TokenProvider>,
    /// `sasl.oauthbearer.config`.
    pub(crate) config: String,
}

impl fmt::Debug for TokenSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenSource")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> OauthToken {
        OauthToken::new("secret.token.text", now_ms() + 60_000)
    }

    #[test]
    fn no_text_of_ours_holds_the_token() {
        let mut bad = good();
        bad.value.push('\u{7f}');
        let shown = format!("{:?} {}", good(), bad.check().unwrap_err());
        assert!(!shown.contains("secret"), "{shown}");
    }

    #[test]
    fn a_good_token_passes_and_a_bad_one_says_why() {
        good()
            .principal("alice")
            .extension("traceId", "a b")
            .check()
            .unwrap();
        let refused = |token: OauthToken| token.check().unwrap_err().to_string();
        assert!(refused(OauthToken::new("", now_ms() + 60_000)).contains("empty"));
        assert!(refused(OauthToken::new("t", now_ms() - 1)).contains("expired"));
        // Seconds where milliseconds are meant.
        assert!(refused(OauthToken::new("t", now_ms() / 1000 + 60)).contains("milliseconds"));
        assert!(refused(OauthToken::new("t\0", now_ms() + 60_000)).contains("RFC 7628"));
        for name in ["auth", "", "a1", "a-b"] {
            assert!(
                refused(good().extension(name, "v")).contains("extension"),
                "{name}"
            );
        }
        assert!(refused(good().extension("a", "\u{1}")).contains("extension a"));
        assert!(refused(good().principal("a\0")).contains("principal"));
    }
}
