//! Configurations and the report of their problems.

use std::ffi::c_char;

use std::sync::Mutex;

use tidegate::{Config, Result, Scope};

use crate::error::{Problems, tg_config_problem, tg_status};
use crate::guard;
use crate::handle::{self, object};
use crate::input;

/// Which client a configuration is for.
#[repr(i32)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum tg_client {
    /// tg_consumer.
    TG_CLIENT_CONSUMER = 0,
    /// tg_producer.
    TG_CLIENT_PRODUCER = 1,
    /// tg_admin.
    TG_CLIENT_ADMIN = 2,
}

/// A configuration: names and values, as librdkafka or the Java client call them.
pub struct tg_config {
    _private: [u8; 0],
}

/// What a [`tg_config`] stands for.
pub(crate) struct Settings(Mutex<Config>);

object!(Settings, tg_config, "config", 2);

/// What tg_config_check() found.
pub struct tg_config_report {
    _private: [u8; 0],
}

object!(Problems, tg_config_report, "report", 3);

impl Settings {
    /// A copy of what is set now.
    pub(crate) fn now(&self) -> Config {
        self.0
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .clone()
    }
}

/// The configuration of a handle, as it is now.
pub(crate) fn of(config: *const tg_config) -> Result<Config> {
    Ok(handle::get::<Settings>(config)?.now())
}

/// Changes what a configuration is.
pub(crate) fn change(config: *mut tg_config, change: impl FnOnce(Config) -> Config) -> Result<()> {
    let settings = handle::get::<Settings>(config)?;
    let mut config = settings
        .0
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    let before = config.clone();
    *config = change(before.clone());
    drop(config);
    // Not under the lock: the last reference to what was set before may be C's to end.
    drop(before);
    Ok(())
}

/// A new, empty configuration; tg_config_free() ends it. Any thread.
///
/// @return TG_ERROR_ARGUMENT for `config` NULL.
///
/// # Safety
///
/// `config` is NULL or the address of a variable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tg_config_new(config: *mut *mut tg_config) -> tg_status {
    guard::call(|| {
        input::check_place("config", config)?;
        let made = handle::make(Settings(Mutex::default()))?;
        // SAFETY: the place was checked, and is writable by contract.
        unsafe { input::put("config", config, made) }
    })
}

/// Sets a property; a value set before is replaced. Nothing is checked here: tg_config_check() and the clients do, and tell
/// all problems together. Any thread.
///
/// @return TG_ERROR_ARGUMENT for NULL, a text that is not UTF-8, and a freed handle.
///
/// # Safety
///
/// `name` and `value` are NULL or end with a NUL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tg_config_set(
    config: *mut tg_config,
    name: *const c_char,
    value: *const c_char,
) -> tg_status {
    guard::call(|| {
        let settings = handle::get::<Settings>(config)?;
        // SAFETY: by contract.
        let (name, value) = unsafe { (input::text("name", name)?, input::text("value", value)?) };
        settings
            .0
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .set(name, value);
        Ok(())
    })
}

/// Looks for everything that is wrong or doubtful, without connecting; tg_config_report_free() ends the report. Any thread.
///
/// @param client a tg_client number.
/// @return TG_OK also when there are problems: look at the report. TG_ERROR_ARGUMENT for NULL, a freed handle and an unknown
///         client.
///
/// # Safety
///
/// `report` is NULL or the address of a variable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tg_config_check(
    config: *const tg_config,
    client: i32,
    report: *mut *mut tg_config_report,
) -> tg_status {
    guard::call(|| {
        let config = of(config)?;
        input::check_place("report", report)?;
        let found = config.check(scope(client)?);
        let problems = Problems::new(found.errors.iter().chain(&found.warnings));
        let made = handle::make(problems)?;
        // SAFETY: the place was checked, and is writable by contract.
        unsafe { input::put("report", report, made) }
    })
}

fn scope(client: i32) -> Result<Scope> {
    match client {
        0 => Ok(Scope::Consumer),
        1 => Ok(Scope::Producer),
        2 => Ok(Scope::Global),
        _ => Err(input::refused(
            "client",
            format!("there is no client {client}"),
            "use TG_CLIENT_CONSUMER, TG_CLIENT_PRODUCER or TG_CLIENT_ADMIN",
        )),
    }
}

/// How many problems a report holds, errors first; 0 for NULL and a freed report. Any thread.
#[unsafe(no_mangle)]
pub extern "C" fn tg_config_report_count(report: *const tg_config_report) -> usize {
    guard::value(0, || Ok(handle::get::<Problems>(report)?.rows.len()))
}

/// The problems as an array of tg_config_report_count() elements, valid until the report is freed; NULL for NULL, a freed
/// report and one without problems. Any thread.
#[unsafe(no_mangle)]
pub extern "C" fn tg_config_report_data(
    report: *const tg_config_report,
) -> *const tg_config_problem {
    guard::value(std::ptr::null(), || {
        let problems = handle::get::<Problems>(report)?;
        Ok(if problems.rows.is_empty() {
            std::ptr::null()
        } else {
            problems.rows.as_ptr()
        })
    })
}

/// Ends a report. NULL does nothing; freeing twice is TG_ERROR_ARGUMENT. Any thread.
#[unsafe(no_mangle)]
pub extern "C" fn tg_config_report_free(report: *mut tg_config_report) -> tg_status {
    guard::call(|| handle::take::<Problems>(report).map(drop))
}

/// Ends a configuration; clients made with it keep their copy. NULL does nothing; freeing twice is TG_ERROR_ARGUMENT. Any
/// thread.
#[unsafe(no_mangle)]
pub extern "C" fn tg_config_free(config: *mut tg_config) -> tg_status {
    guard::call(|| handle::take::<Settings>(config).map(drop))
}
