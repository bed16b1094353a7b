//! The C ABI of Tidegate: thin functions over core's public API, from which cbindgen makes `include/tidegate.h`.
//!
//! Always true: no panic leaves a function ([`guard`]); what C holds are handles that are checked at each use and never
//! addresses ([`handle`]); every function says in its comment what NULL, a freed handle and a closed one get.
//! One file per C type. The comments here are the header's, so they are written for somebody who writes C.
#![allow(
    non_camel_case_types,
    reason = "the names are C's, and cbindgen takes them from here"
)]

pub mod admin;
pub mod arrow;
pub mod batch;
pub mod broker;
pub mod config;
pub mod consumer;
pub mod error;
mod guard;
mod handle;
pub mod input;
pub mod listener;
pub mod log;
mod notify;
pub mod offsets;
pub mod partitions;
pub mod process;
pub mod process_options;
pub mod producer;
pub mod record;
pub mod reports;
pub mod run;
pub mod send_batch;
pub mod task;
#[cfg(test)]
mod testing;
pub mod text;
pub mod token;
pub mod version;
