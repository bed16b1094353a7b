//! Reports that wait until the application asks for them, and come with a number of the application's.
//!
//! For faces whose callbacks run inside of a poll. Any thread. A record costs no allocation here: its number travels through librdkafka,
//! and the reports of a whole request are handed over together. Always true: the report of each accepted record is given once, or
//! never when the producer ended without librdkafka telling what became of it.

use std::sync::Arc;
use std::time::Duration;

use super::engine::Patience;
use super::ledger::Keeps;
use super::{Producer, ProducerRecord, TaggedReport, TaggedRow, check_record};
use crate::config::Config;
use crate::error::{Error, Result};
use crate::events::ClientEvent;
use crate::sink::TAGGED;

impl Producer {
    /// As [`Producer::new`], but errors and statistics of librdkafka, and its log lines with `log`, wait for
    /// [`Producer::take_events`] instead of being logged; the newest ten thousand are kept.
    ///
    /// # Errors
    /// As [`Producer::new`].
    pub fn polled(config: &Config, log: bool) -> Result<Producer> {
        let keeps = if log {
            Keeps::EventsAndLog
        } else {
            Keeps::Events
        };
        Producer::make(config, keeps)
    }

    /// As [`Producer::try_send`]; what becomes of the record waits for [`Producer::take_reports`], with this number, which is below
    /// `1 << 63`.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use tidegate::embedded::Broker;
    /// # use tidegate::{Config, Producer, ProducerRecord};
    /// # let broker = Broker::with_topics(&[("results", 3)])?;
    /// # let producer = Producer::new(&Config::new().with("bootstrap.servers", broker.bootstrap_servers()))?;
    /// producer.try_send_tagged(&ProducerRecord::new("results").value("{}"), 7)?;
    /// let mut reports = Vec::new();
    /// while producer.take_reports(&mut reports) == 0 {
    ///     producer.wait_reports(producer.reported(), Duration::from_secs(1), false)?;
    /// }
    /// assert_eq!((reports[0].tag, reports[0].offset), (7, 0));
    /// # Ok::<(), tidegate::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Producer::try_send`]; [`Error::Argument`] for a larger number.
    #[inline]
    pub fn try_send_tagged(&self, record: &ProducerRecord<'_>, tag: usize) -> Result<()> {
        let engine = self.engine();
        engine.check()?;
        check_record(record)?;
        check_tag(tag)?;
        engine.send_tagged(record, tag, Patience::None)?;
        engine.ledger.accepted(1, record.payload_bytes());
        Ok(())
    }

    /// Sends records of one topic in their order, each with its number, without waiting: how many were dealt with. The one behind them
    /// found the queue full, or there is none. `refused` hears which of them were not accepted, in order; all others were.
    ///
    /// # Errors
    /// [`Error::Argument`] for an empty topic, a NUL in it, a negative partition, a number of `1 << 63` or more; [`Error::Closed`];
    /// [`Error::Forked`]; then nothing was accepted.
    pub fn send_tagged_rows(
        &self,
        topic: &str,
        rows: &[TaggedRow<'_>],
        refused: &mut dyn FnMut(usize, Error),
    ) -> Result<usize> {
        let engine = self.engine();
        engine.check()?;
        check_record(&ProducerRecord::new(topic))?;
        for row in rows {
            check_tag(row.tag.unwrap_or(0))?;
            if row.partition.is_some_and(|partition| partition < 0) {
                let record = ProducerRecord {
                    partition: row.partition,
                    ..ProducerRecord::new(topic)
                };
                check_record(&record)?;
            }
        }
        let bytes = |row: &TaggedRow<'_>| {
            (row.key.map_or(0, <[u8]>::len) + row.value.map_or(0, <[u8]>::len)) as u64
        };
        let (mut failed, mut failed_bytes) = (0, 0);
        let dealt = engine.send_tagged_rows(topic, rows, &mut |row, error| {
            failed += 1;
            failed_bytes += bytes(&rows[row]);
            refused(row, error);
        })?;
        let accepted: u64 = rows[..dealt].iter().map(bytes).sum();
        engine
            .ledger
            .accepted((dealt - failed) as u64, accepted - failed_bytes);
        Ok(dealt)
    }

    /// Moves the reports that wait to the end of `into`, in the order in which they came; how many. Also after closing.
    pub fn take_reports(&self, into: &mut Vec<TaggedReport>) -> usize {
        let engine = self.engine();
        engine.collect();
        engine.ledger.kept.take(into)
    }

    /// The reports that wait.
    #[must_use]
    pub fn unread_reports(&self) -> usize {
        self.engine().collect();
        self.engine().ledger.kept.unread()
    }

    /// What librdkafka said since the last call, with [`Producer::polled`].
    #[must_use]
    pub fn take_events(&self) -> Vec<ClientEvent> {
        self.engine().collect();
        let kept = &self.engine().ledger.kept;
        if kept.has_events() {
            kept.events.take()
        } else {
            Vec::new()
        }
    }

    /// How many records are reported so far, delivered or not, asked about or not.
    #[must_use]
    pub fn reported(&self) -> u64 {
        self.engine().collect();
        self.engine().ledger.reported()
    }

    /// Waits until a report or an event waits, [`Producer::reported`] is no longer `seen`, the producer is closed, or the time is over.
    /// With `hurry` `linger.ms` is cut short as in [`Producer::flush`], and with nothing in flight nothing is waited for.
    ///
    /// # Errors
    /// [`Error::Forked`].
    pub fn wait_reports(&self, seen: u64, timeout: Duration, hurry: bool) -> Result<()> {
        self.engine().wait_reports(seen, timeout, hurry)
    }

    /// Calls `notify` when there is something to take: for event loops, which cannot wait in here. Once after each call of this or of
    /// [`Producer::arm_ready_callback`], as soon as there is something, at once when something waits already. `None` ends it.
    ///
    /// `notify` runs on the delivery thread, or on one that asks for reports, so it must be short (set a flag, write to an eventfd)
    /// and may call nothing of the producer; a panic in it is caught and logged.
    pub fn set_ready_callback(&self, notify: Option<Box<dyn Fn() + Send + Sync>>) {
        let kept = &self.engine().ledger.kept;
        kept.ready.set(notify.map(Arc::from));
        self.arm_ready_callback();
    }

    /// The ready callback is owed again. To be called before a look that is to be the last one until it comes.
    pub fn arm_ready_callback(&self) {
        let kept = &self.engine().ledger.kept;
        kept.ready.arm();
        self.engine().collect();
        if kept.unread() > 0 || kept.has_events() {
            kept.tell();
        }
    }
}

fn check_tag(tag: usize) -> Result<()> {
    if tag & TAGGED != 0 {
        return Err(Error::argument(
            "tag",
            format!("{tag} is too large"),
            "use a number below 1 << 63",
        ));
    }
    Ok(())
}
