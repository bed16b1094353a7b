//! The application's side of the scripted cluster: what it was handed and has finished, and whether that was right.

use std::sync::Arc;

use super::{Cluster, Fetching};
use crate::partition::{Generation, TopicPartition};
use crate::record::Record;

impl Fetching {
    fn is_earlier(&self, generation: Generation) -> bool {
        self.earlier
            .iter()
            .any(|(earlier, _)| *earlier == generation)
    }
}

impl Cluster {
    /// The application of `me` was handed this record.
    pub(crate) fn was_handed(&mut self, me: usize, record: &Record<'_>) {
        let partition = TopicPartition::new(Arc::clone(record.topic_shared()), record.partition());
        let offset = record.offset();
        let what = format!("member {me} was handed {partition} {offset}");
        self.handed_out += 1;
        if self
            .done
            .get(&partition)
            .is_some_and(|done| done.contains(&offset))
        {
            self.handed_out_again += 1;
        }
        let being_revoked = self.members[me].owed.iter().any(|owed| {
            !owed.assign && owed.given_us.is_some() && owed.partitions.contains(&partition)
        });
        if being_revoked && self.one_thread {
            self.violation(format!("{what} while it is being revoked"));
        }
        let fetching = self.members[me].fetching.get(&partition);
        if fetching.is_some_and(|fetching| fetching.is_earlier(record.generation())) {
            // Of a log that may be gone: who is to say what comes next in it?
            return;
        }
        let log = &self.logs[&partition];
        if !log.records.contains_key(&offset) {
            self.violation(format!("{what}, which does not exist"));
            return;
        }
        let problem = match self.members[me].fetching.get_mut(&partition) {
            None => Some("after it was released".to_string()),
            Some(fetching) if fetching.cell.generation() != record.generation() => Some(format!(
                "of generation {:?}, now is {:?}",
                record.generation(),
                fetching.cell.generation()
            )),
            Some(fetching) => {
                let expected = fetching.last_handed.map_or(fetching.base, |last| last + 1);
                let next = log
                    .records
                    .range(expected..)
                    .next()
                    .map(|(offset, _)| *offset);
                fetching.last_handed = Some(offset);
                if next != Some(offset) {
                    Some(format!("expected {next:?}"))
                } else if fetching.paused {
                    Some("while it is paused".to_string())
                } else {
                    None
                }
            }
        };
        if let Some(problem) = problem {
            self.violation(format!("{what}: {problem}"));
        }
    }

    /// The application of `me` gave this record back: it is handed out again.
    pub(crate) fn was_put_back(
        &mut self,
        me: usize,
        partition: &TopicPartition,
        generation: Generation,
        offset: i64,
    ) {
        if let Some(fetching) = self.members[me].fetching.get_mut(partition)
            && fetching.cell.generation() == generation
        {
            fetching.last_handed = fetching.last_handed.map(|last| last.min(offset - 1));
        }
    }

    /// The application of `me` is done with this record.
    pub(crate) fn was_finished(
        &mut self,
        me: usize,
        partition: &TopicPartition,
        generation: Generation,
        offset: i64,
    ) {
        if let Some(fetching) = self.members[me].fetching.get_mut(partition) {
            let mut later = fetching.earlier.iter();
            let place = later.find(|(earlier, _)| *earlier >= generation);
            if place.is_some_and(|(_, place)| offset >= *place) {
                // Another record is there now.
                return;
            }
            if fetching.cell.generation() == generation || fetching.is_earlier(generation) {
                fetching.finished.insert(offset);
            }
        }
        self.done
            .entry(partition.clone())
            .or_default()
            .insert(offset);
    }

    /// Records that were never finished by anyone, though the group had begun before them.
    pub(crate) fn unfinished(&self) -> Vec<(TopicPartition, i64)> {
        let mut missing = Vec::new();
        for (partition, log) in &self.logs {
            let from = self.owed_from.get(partition).copied().unwrap_or(log.low);
            let done = self.done.get(partition);
            for &offset in log.records.range(from..).map(|(offset, _)| offset) {
                if !done.is_some_and(|done| done.contains(&offset)) {
                    missing.push((partition.clone(), offset));
                }
            }
        }
        missing
    }
}
