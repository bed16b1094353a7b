//! Tokens of SASL OAUTHBEARER from C.

use std::ffi::{CString, c_char, c_void};
use std::sync::{Mutex, PoisonError};

use tidegate::{OauthToken, TokenError, TokenProvider};

use crate::config::{self, tg_config};
use crate::error::{c_text, tg_status};
use crate::guard;
use crate::handle::{self, object};
use crate::input;
use crate::listener::tg_free_callback;

/// A question for a token, alive during the callback that it is asked with.
pub struct tg_token_request {
    _private: [u8; 0],
}

/// An extension of SASL (RFC 7628), both NUL-terminated.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct tg_token_extension {
    /// Letters A-Z and a-z, not "auth".
    pub name: *const c_char,
    /// Visible ASCII characters and spaces.
    pub value: *const c_char,
}

/// Called for a token; answers with tg_token_request_give() or tg_token_request_refuse() before it returns. It runs on a thread of the client
/// that the token is for, never on the caller's, at once and again after 80 % of each token's life, and may take its time: closing does not wait
/// for it. `config` is the property `sasl.oauthbearer.config`, empty where it is not set, and ends with the call. Several clients of one
/// configuration ask at once, each on its own thread.
pub type tg_token_callback = Option<
    unsafe extern "C" fn(
        request: *mut tg_token_request,
        config: *const c_char,
        user_data: *mut c_void,
    ),
>;

/// The answer, once there is one.
#[derive(Default)]
pub(crate) struct Request(Mutex<Option<Result<OauthToken, String>>>);

object!(Request, tg_token_request, "token_request", 11);

impl Request {
    fn answer(&self, answer: Result<OauthToken, String>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(answer);
    }
}

/// What C gave, until the last client that may ask is gone.
struct Provider {
    callback: unsafe extern "C" fn(*mut tg_token_request, *const c_char, *mut c_void),
    user_data: *mut c_void,
    free: tg_free_callback,
}

// SAFETY: the caller has promised that `user_data` may be used on any thread.
unsafe impl Send for Provider {}
// SAFETY: as above, on several at once.
unsafe impl Sync for Provider {}

impl TokenProvider for Provider {
    fn token(&self, config: &str) -> Result<OauthToken, TokenError> {
        let config: CString = c_text(config);
        let request = handle::make(Request::default())?;
        // SAFETY: C's function with its own user data, a handle and a text that live through the call.
        let called = guard::contain(|| unsafe {
            (self.callback)(request, config.as_ptr(), self.user_data);
        });
        let asked = handle::take::<Request>(request)?;
        if called.is_none() {
            return Err("the token callback panicked".into());
        }
        let answer = asked.and_then(|request| {
            let mut answer = request.0.lock().unwrap_or_else(PoisonError::into_inner);
            answer.take()
        });
        match answer {
            Some(answer) => Ok(answer?),
            None => Err("the token callback neither gave nor refused a token".into()),
        }
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        if let Some(free) = self.free {
            // SAFETY: C's function with its own user data, called once.
            let _ = guard::contain(|| unsafe { free(self.user_data) });
        }
    }
}

/// Sets who gives the tokens of SASL OAUTHBEARER to the clients made with this configuration from here on; until the first token is there a
/// client does not connect. Any thread.
///
/// @param callback NULL for nobody.
/// @param free_user_data called once when neither the configuration nor a client needs `user_data` any more, on any thread; may be NULL.
/// @return TG_ERROR_ARGUMENT for NULL and a freed configuration; then `free_user_data` is not called.
///
/// # Safety
///
/// `callback` and `free_user_data` may be called with `user_data` on any thread, `callback` on several at once.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tg_config_set_token_provider(
    config: *mut tg_config,
    callback: tg_token_callback,
    user_data: *mut c_void,
    free_user_data: tg_free_callback,
) -> tg_status {
    guard::call(|| {
        let provider = |callback| Provider {
            callback,
            user_data,
            free: free_user_data,
        };
        match callback {
            Some(callback) => config::change(config, |config| {
                config.with_token_provider(provider(callback))
            }),
            None => {
                config::change(config, tidegate::Config::without_token_provider)?;
                if let Some(free) = free_user_data {
                    // SAFETY: by contract.
                    let _ = guard::contain(|| unsafe { free(user_data) });
                }
                Ok(())
            }
        }
    })
}

/// Answers with a token; a second answer replaces the first. Everything is copied.
///
/// @param value what is sent to the broker, often a JWT.
/// @param expires_at_ms when it expires, in milliseconds since 1970.
/// @param principal whom it is for; NULL or "" where the broker reads that from the token.
/// @return TG_ERROR_ARGUMENT for NULL, a text that is not UTF-8, and a request whose callback has returned. What else is wrong with a token is
///         logged, and it is asked for again.
///
/// # Safety
///
/// The texts are NULL or end with a NUL; `extensions` leads to `extension_count` of them.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tg_token_request_give(
    request: *mut tg_token_request,
    value: *const c_char,
    expires_at_ms: i64,
    principal: *const c_char,
    extensions: *const tg_token_extension,
    extension_count: usize,
) -> tg_status {
    guard::call(|| {
        let request = handle::get::<Request>(request)?;
        // SAFETY: by contract.
        let (value, extensions) = unsafe {
            (
                input::text("value", value)?,
                input::slice("extensions", extensions, extension_count)?,
            )
        };
        let mut token = OauthToken::new(value, expires_at_ms);
        if !principal.is_null() {
            // SAFETY: by contract.
            token = token.principal(unsafe { input::text("principal", principal) }?);
        }
        for extension in extensions {
            // SAFETY: by contract.
            let (name, value) = unsafe {
                (
                    input::text("extensions", extension.name)?,
                    input::text("extensions", extension.value)?,
                )
            };
            token = token.extension(name, value);
        }
        request.answer(Ok(token));
        Ok(())
    })
}

/// Answers that there is no token now; it is asked for again after 1, 2, 4, 8 and then every 10 seconds.
///
/// @param reason a text for the log.
/// @return TG_ERROR_ARGUMENT for NULL, a text that is not UTF-8, and a request whose callback has returned.
///
/// # Safety
///
/// `reason` is NULL or ends with a NUL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tg_token_request_refuse(
    request: *mut tg_token_request,
    reason: *const c_char,
) -> tg_status {
    guard::call(|| {
        let request = handle::get::<Request>(request)?;
        // SAFETY: by contract.
        let reason = unsafe { input::text("reason", reason) }?;
        request.answer(Err(reason.to_string()));
        Ok(())
    })
}
