//! What the Rust contenders of the side-by-side runs share: the same arguments, clocks and line of JSON as the C and
//! Python ones. See `benches/run.py` for how they are run, and `benches/runner/contenders.py` for against whom.

use std::time::{Duration, Instant};

use cpu_time::ProcessTime;
use tidegate::{Config, Consumer};

/// A run that gets no record for so long has failed: say so instead of hanging.
pub const SILENCE: Duration = Duration::from_secs(60);

/// What goes wrong in a bench; it ends with the text.
pub type Failure = Box<dyn std::error::Error>;

/// One contender's arguments: `PROGRAM BOOTSTRAP TOPIC COUNT [NAME=VALUE ...]`.
#[derive(Debug)]
pub struct Run {
    /// The topic to read.
    pub topic: String,
    /// How many records to read.
    pub count: usize,
    /// The servers, a fresh group, and every `NAME=VALUE`.
    pub config: Config,
}

impl Run {
    /// Reads the command line.
    ///
    /// # Errors
    ///
    /// When an argument is missing or malformed.
    pub fn from_arguments() -> Result<Run, Failure> {
        let mut arguments = std::env::args();
        let program = arguments.next().unwrap_or_default();
        let usage = || format!("usage: {program} BOOTSTRAP TOPIC COUNT [NAME=VALUE ...]");
        let bootstrap = arguments.next().ok_or_else(usage)?;
        let topic = arguments.next().ok_or_else(usage)?;
        let count = arguments.next().ok_or_else(usage)?.parse()?;
        let started = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?;
        let mut config = Config::new().with("bootstrap.servers", bootstrap).with(
            "group.id",
            format!("bench-rust-{}-{}", std::process::id(), started.as_nanos()),
        );
        for pair in arguments {
            let (name, value) = pair
                .split_once('=')
                .ok_or_else(|| format!("{pair} is not NAME=VALUE"))?;
            config.set(name, value);
        }
        Ok(Run {
            topic,
            count,
            config,
        })
    }

    /// A consumer that is about to read the topic.
    ///
    /// # Errors
    ///
    /// As of [`Consumer::new`] and [`Consumer::subscribe`].
    pub fn consumer(&self) -> Result<Consumer, Failure> {
        let consumer = Consumer::new(&self.config)?;
        consumer.subscribe(&[&self.topic])?;
        Ok(consumer)
    }
}

/// Wall and CPU time from the first record on, and what was seen.
#[derive(Debug)]
pub struct Tally {
    started: Option<(Instant, ProcessTime)>,
    waiting_since: Instant,
    records_then: usize,
    /// Records so far.
    pub records: usize,
    /// Bytes of values so far.
    pub bytes: i64,
    /// Sum of all offsets: the runner compares it with what is in the topic.
    pub offset_sum: i64,
}

impl Default for Tally {
    fn default() -> Tally {
        Tally {
            started: None,
            waiting_since: Instant::now(),
            records_then: 0,
            records: 0,
            bytes: 0,
            offset_sum: 0,
        }
    }
}

impl Tally {
    /// Call when records came, before looking at them.
    pub fn something(&mut self) {
        if self.started.is_none() {
            self.started = Some((Instant::now(), ProcessTime::now()));
        }
    }

    /// Call when a wait brought nothing.
    ///
    /// # Errors
    ///
    /// When nothing has come for [`SILENCE`].
    pub fn nothing(&mut self) -> Result<(), Failure> {
        if self.records_then != self.records {
            self.records_then = self.records;
            self.waiting_since = Instant::now();
        } else if self.waiting_since.elapsed() > SILENCE {
            return Err(format!("no record for {SILENCE:?} after {}", self.records).into());
        }
        Ok(())
    }

    /// Stops the clocks and gives the line that the runner reads.
    #[must_use]
    pub fn report(&self) -> String {
        let (seconds, cpu_seconds) = self.started.map_or((0.0, 0.0), |(wall, cpu)| {
            (wall.elapsed().as_secs_f64(), cpu.elapsed().as_secs_f64())
        });
        let Tally {
            records,
            bytes,
            offset_sum,
            ..
        } = self;
        format!(
            "{{\"records\": {records}, \"seconds\": {seconds:.6}, \"cpu_seconds\": {cpu_seconds:.6}, \"bytes\": {bytes}, \
             \"offset_sum\": {offset_sum}}}"
        )
    }
}
