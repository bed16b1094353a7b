//! SASL for a client that runs: OAUTHBEARER tokens from the application's provider, and new credentials, with unsafe FFI.
//!
//! One thread per client asks the provider, hands the token to librdkafka, and sleeps until 80 % of the token's life are over.
//! librdkafka's own refresh events, which come through the queue that an application polls, are not needed for that: a client
//! that nobody polls (an admin client, a consumer before its first poll) gets its tokens all the same.
//!
//! Always true: librdkafka is called only under the lock that [`Tokens`] takes when it ends, so a provider that is slow delays no
//! close, and its answer then reaches nobody.

use std::ffi::{CString, c_char};
use std::fmt::Display;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use rdkafka::bindings as rd;

use crate::error::{Error, Result};
use crate::kafka_code;
use crate::log;
use crate::token::{OauthToken, TokenError, TokenSource};

/// After the first failure in a row, and at most: librdkafka's own is always 10 s.
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LONGEST_RETRY: Duration = Duration::from_secs(10);
/// The wall clock may jump, so it is looked at this often.
const LOOK: Duration = Duration::from_secs(10);
/// A token that lives for moments only is not asked for in a loop.
const LEAST_WAIT: Duration = Duration::from_millis(100);

/// The clients that get the tokens.
struct Handles(Vec<*mut rd::rd_kafka_t>);

// SAFETY: librdkafka's functions for tokens may be called from any thread.
unsafe impl Send for Handles {}

struct Receiver {
    /// Empty once the clients are about to end.
    handles: Mutex<Handles>,
    changed: Condvar,
}

/// The tokens of one client; ends with it.
pub(crate) struct Tokens {
    receiver: Arc<Receiver>,
}

impl Drop for Tokens {
    fn drop(&mut self) {
        self.receiver.handles.lock().0.clear();
        self.receiver.changed.notify_all();
    }
}

impl Tokens {
    /// Begins to serve these clients.
    ///
    /// # Errors
    /// [`Error::Kafka`] when no thread can be started.
    ///
    /// # Safety
    /// The clients outlive the value returned.
    pub(crate) unsafe fn serve(
        source: &TokenSource,
        clients: &[*mut rd::rd_kafka_t],
    ) -> Result<Tokens> {
        let receiver = Arc::new(Receiver {
            handles: Mutex::new(Handles(clients.to_vec())),
            changed: Condvar::new(),
        });
        let tokens = Tokens {
            receiver: Arc::clone(&receiver),
        };
        let source = source.clone();
        thread::Builder::new()
            .name("tidegate-token".into())
            .spawn(move || receiver.run(&source))
            .map_err(|error| Error::Kafka {
                code: kafka_code::from_number(
                    rd::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR__CRIT_SYS_RESOURCE as i32,
                ),
                context: format!("starting the thread that asks for tokens: {error}"),
            })?;
        Ok(tokens)
    }
}

impl Receiver {
    fn run(&self, source: &TokenSource) {
        let mut retry = FIRST_RETRY;
        loop {
            // Not under the lock: it may wait for a server.
            let answer = ask(source);
            let Some(outcome) = self.hand_over(answer) else {
                return;
            };
            let again = match outcome {
                Ok(token) => {
                    retry = FIRST_RETRY;
                    let until_ms = token.expires_at_ms - token.left_ms() / 5;
                    Again::At(until_ms)
                }
                Err(reason) => {
                    log::warn(format_args!(
                        "no OAUTHBEARER token, asking again in {} s: {reason}",
                        retry.as_secs()
                    ));
                    let wait = retry;
                    retry = (retry * 2).min(LONGEST_RETRY);
                    Again::In(wait)
                }
            };
            if !self.wait(&again) {
                return;
            }
        }
    }

    /// Gives the answer to librdkafka; nothing when the clients are gone.
    fn hand_over(
        &self,
        answer: std::result::Result<OauthToken, String>,
    ) -> Option<std::result::Result<OauthToken, String>> {
        let handles = self.handles.lock();
        if handles.0.is_empty() {
            return None;
        }
        let mut outcome = answer;
        for &client in &handles.0 {
            // SAFETY: alive while it is in the list, and the lock is held.
            outcome = outcome.and_then(|token| unsafe { set(client, &token) }.map(|()| token));
            if let Err(reason) = &outcome {
                // SAFETY: as above.
                unsafe { fail(client, reason) };
            }
        }
        Some(outcome)
    }

    /// False when the clients are gone.
    fn wait(&self, again: &Again) -> bool {
        let started = std::time::Instant::now();
        let mut handles = self.handles.lock();
        loop {
            if handles.0.is_empty() {
                return false;
            }
            let left = match again {
                Again::In(wait) => wait.saturating_sub(started.elapsed()),
                Again::At(at_ms) => {
                    let left_ms = at_ms.saturating_sub(crate::token::now_ms());
                    let least = LEAST_WAIT.saturating_sub(started.elapsed());
                    Duration::from_millis(u64::try_from(left_ms).unwrap_or(0)).max(least)
                }
            };
            if left.is_zero() {
                return true;
            }
            let _ = self.changed.wait_for(&mut handles, left.min(LOOK));
        }
    }
}

/// When the provider is asked again.
enum Again {
    In(Duration),
    /// Milliseconds since 1970.
    At(i64),
}

/// The provider's answer, or why it is none.
fn ask(source: &TokenSource) -> std::result::Result<OauthToken, String> {
    let asked = catch_unwind(AssertUnwindSafe(|| source.provider.token(&source.config)));
    let token: std::result::Result<OauthToken, TokenError> =
        asked.unwrap_or_else(|_| Err("the token provider panicked".into()));
    let token = token.map_err(one_line)?;
    token.check().map_err(one_line)?;
    Ok(token)
}

fn one_line(error: impl Display) -> String {
    let text = error.to_string().replace(['\n', '\r', '\0'], " ");
    if text.trim().is_empty() {
        return "the token provider failed without saying why".to_string();
    }
    text
}

/// # Safety
/// The client is alive.
unsafe fn set(client: *mut rd::rd_kafka_t, token: &OauthToken) -> std::result::Result<(), String> {
    let text = |text: &str| CString::new(text).map_err(|_| "the token holds a NUL".to_string());
    let (value, principal) = (text(&token.value)?, text(&token.principal)?);
    let extensions = token
        .extensions
        .iter()
        .flat_map(|(name, value)| [name, value])
        .map(|part| text(part))
        .collect::<std::result::Result<Vec<CString>, String>>()?;
    let mut parts: Vec<*const c_char> = extensions.iter().map(|part| part.as_ptr()).collect();
    // librdkafka's own words may quote the token, so only its code is told.
    let mut words = [0 as c_char; 512];
    // SAFETY: the client is alive by contract; the texts live through the call, which copies them; both lengths are right.
    let code = unsafe {
        rd::rd_kafka_oauthbearer_set_token(
            client,
            value.as_ptr(),
            token.expires_at_ms,
            principal.as_ptr(),
            match parts.is_empty() {
                true => ptr::null_mut(),
                false => parts.as_mut_ptr(),
            },
            parts.len(),
            words.as_mut_ptr(),
            words.len(),
        )
    };
    match kafka_code::from_number(code as i32) {
        code if code.number() == 0 => Ok(()),
        code => Err(format!("librdkafka refuses the token ({})", code.name())),
    }
}

/// # Safety
/// The client is alive.
unsafe fn fail(client: *mut rd::rd_kafka_t, reason: &str) {
    let Ok(reason) = CString::new(reason) else {
        return;
    };
    // SAFETY: the client is alive by contract, the text lives through the call. It only fails for a client without OAUTHBEARER.
    let _ = unsafe { rd::rd_kafka_oauthbearer_set_token_failure(client, reason.as_ptr()) };
}

/// Replaces user name and password of PLAIN or SCRAM; used from the next connection on.
///
/// # Errors
/// [`Error::Argument`] for a NUL in one of them.
///
/// # Safety
/// The client is alive.
pub(crate) unsafe fn set_credentials(
    client: *mut rd::rd_kafka_t,
    username: &str,
    password: &str,
) -> Result<()> {
    let text = |argument: &'static str, text: &str| {
        CString::new(text)
            .map_err(|_| Error::argument(argument, "it holds a NUL character", "remove it"))
    };
    let (username, password) = (text("username", username)?, text("password", password)?);
    // SAFETY: the client is alive by contract; both texts live through the call, which copies them; the error, if there is one, is
    // ours to destroy.
    unsafe {
        let error = rd::rd_kafka_sasl_set_credentials(client, username.as_ptr(), password.as_ptr());
        if error.is_null() {
            return Ok(());
        }
        let code = kafka_code::from_number(rd::rd_kafka_error_code(error) as i32);
        rd::rd_kafka_error_destroy(error);
        Err(Error::Kafka {
            code,
            context: "setting SASL credentials".into(),
        })
    }
}
