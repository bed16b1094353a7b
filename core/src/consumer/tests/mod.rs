//! The engine under a scripted cluster and virtual time: poller, rebalance, commit, gate and hand together.
//!
//! [`world`] steps the pollers of several consumers by hand and plays their applications; `properties` lets proptest
//! write the story, `transitions`, `starts`, `calls`, `failures`, `maps` and `ready` tell each one that has a name, `threads` runs the real threads.

mod calls;
mod checks;
mod failures;
mod maps;
mod properties;
mod ready;
mod starts;
mod threads;
mod transitions;
mod world;

use std::io::Write as _;

/// Says a number that the reader of a test run should see; libtest shows what is printed only on failure.
fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}
