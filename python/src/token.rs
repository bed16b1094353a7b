//! `oauth_token=`: a Python function that gives the tokens of SASL OAUTHBEARER.
//!
//! It runs on the client's own token thread ("tidegate-token"), attached for as long as it runs, and not at all once the
//! interpreter is going. Always true: what is told about a wrong answer never holds the token.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use parking_lot::{Condvar, Mutex};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyMapping, PyString, PyTuple};
use tidegate::{Config, OauthToken, TokenError};

use crate::args;
use crate::lifecycle::with_python;

const EXPECTED: &str = "oauth_token must return (token, expires_at), or (token, expires_at, principal, extensions): \
                        str, seconds since 1970, str, dict of str to str";

/// What the function gave so far.
#[derive(Default)]
enum Given {
    #[default]
    Nothing,
    Token,
    /// Why there is none.
    Problem(String),
}

/// The function, until its client is collected.
#[derive(Default)]
pub(crate) struct TokenFunction {
    function: Mutex<Option<Py<PyAny>>>,
    given: Mutex<Given>,
    changed: Condvar,
}

/// The configuration with the function behind it, if there is one.
pub(crate) fn provide(
    config: Config,
    oauth_token: Option<&Bound<'_, PyAny>>,
) -> PyResult<(Config, Arc<TokenFunction>)> {
    let Some(function) = args::callable("oauth_token", oauth_token)? else {
        return Ok((config, Arc::default()));
    };
    let function = Arc::new(TokenFunction {
        function: Mutex::new(Some(function)),
        ..TokenFunction::default()
    });
    let asked = Arc::clone(&function);
    let config = config.with_token_provider(move |property: &str| asked.ask(property));
    Ok((config, function))
}

impl TokenFunction {
    fn ask(&self, property: &str) -> Result<OauthToken, TokenError> {
        let answer = self.asked(property);
        let mut given = self.given.lock();
        match (&answer, &*given) {
            // A token that was given once is enough for whoever waits for the first.
            (_, Given::Token) => {}
            (Ok(token), _) if is_over(token) => {
                *given = Given::Problem("the token has expired already".into());
            }
            (Ok(_), _) => *given = Given::Token,
            (Err(problem), _) => *given = Given::Problem(problem.to_string()),
        }
        self.changed.notify_all();
        drop(given);
        answer
    }

    /// Waits for the first token: false when the time is over.
    pub(crate) fn wait(&self, timeout: Duration) -> bool {
        let until = Instant::now() + timeout;
        let mut given = self.given.lock();
        while !matches!(*given, Given::Token) {
            if self.changed.wait_until(&mut given, until).timed_out() {
                return matches!(*given, Given::Token);
            }
        }
        true
    }

    /// Why there is no token.
    pub(crate) fn problem(&self) -> String {
        match &*self.given.lock() {
            Given::Problem(problem) => problem.clone(),
            Given::Nothing | Given::Token => "the function has not returned".into(),
        }
    }

    fn asked(&self, property: &str) -> Result<OauthToken, TokenError> {
        with_python(|py| {
            let function = self
                .function
                .lock()
                .as_ref()
                .map(|function| function.clone_ref(py));
            let function = function.ok_or("the client is being collected")?;
            let answer = function
                .call1(py, (property,))
                .map_err(|raised| format!("oauth_token raised {raised}"))?;
            token(answer.bind(py)).ok_or_else(|| EXPECTED.into())
        })
        .unwrap_or_else(|| Err("the interpreter is ending".into()))
    }

    pub(crate) fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        // The collector may run while another thread holds the lock; what is not visited is not collected.
        match self.function.try_lock() {
            Some(function) => visit.call(&*function),
            None => Ok(()),
        }
    }

    pub(crate) fn clear(&self) {
        // Dropped outside of the lock: that may run Python code.
        drop(self.function.lock().take());
    }
}

fn is_over(token: &OauthToken) -> bool {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.is_ok_and(|now| i128::from(token.expires_at_ms) <= now.as_millis().cast_signed())
}

/// The token that the function gave; `None` for anything else.
fn token(answer: &Bound<'_, PyAny>) -> Option<OauthToken> {
    let parts = answer.cast::<PyTuple>().ok()?;
    if !matches!(parts.len(), 2 | 4) {
        return None;
    }
    let value = parts.get_item(0).ok()?.extract::<String>().ok()?;
    let seconds = parts.get_item(1).ok()?;
    if seconds.is_instance_of::<PyString>() {
        return None;
    }
    let seconds: f64 = seconds.extract().ok()?;
    // Saturates; what is no time at all has expired.
    let mut token = OauthToken::new(value, (seconds * 1000.0) as i64);
    if parts.len() == 4 {
        token = token.principal(parts.get_item(2).ok()?.extract::<String>().ok()?);
        let extensions = parts.get_item(3).ok()?;
        let extensions = extensions.cast::<PyMapping>().ok()?;
        let items = PyDict::from_sequence(extensions.items().ok()?.as_any()).ok()?;
        for (name, value) in items {
            token = token.extension(
                name.extract::<String>().ok()?,
                value.extract::<String>().ok()?,
            );
        }
    }
    Some(token)
}
