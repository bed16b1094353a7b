//! The nearest known name to a misspelt one. Pure functions, any thread.

use super::table::{java_properties, properties};

/// Edits (insert, delete, replace, swap of neighbours) that lead from one text to the other.
pub(crate) fn distance(from: &str, to: &str) -> usize {
    let (from, to): (Vec<char>, Vec<char>) = (from.chars().collect(), to.chars().collect());
    let mut before_last: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=to.len()).collect();
    for i in 1..=from.len() {
        let mut line = vec![i; to.len() + 1];
        for j in 1..=to.len() {
            let replace = last[j - 1] + usize::from(from[i - 1] != to[j - 1]);
            line[j] = replace.min(last[j] + 1).min(line[j - 1] + 1);
            let swapped = i > 1 && j > 1 && from[i - 1] == to[j - 2] && from[i - 2] == to[j - 1];
            if swapped {
                line[j] = line[j].min(before_last[j - 2] + 1);
            }
        }
        before_last = std::mem::replace(&mut last, line);
    }
    last[to.len()]
}

/// Lower case, with dots where people write underscores, dashes or blanks, or where they write camel case.
fn normalised(name: &str) -> String {
    let mut normal = String::with_capacity(name.len() + 4);
    let mut after_lower = false;
    for c in name.trim().chars() {
        if c.is_ascii_uppercase() && after_lower {
            normal.push('.');
        }
        after_lower = c.is_ascii_lowercase();
        normal.push(match c {
            '_' | '-' | ' ' => '.',
            c => c.to_ascii_lowercase(),
        });
    }
    normal
}

/// The longest name that is compared; nothing known is a third as long.
const LONGEST: usize = 200;

/// More edits than this, and another thing was meant.
const MOST_EDITS: usize = 6;

/// The known name (librdkafka's, Tidegate's or the Java client's) that was probably meant; `None` when none is near.
pub(crate) fn nearest(name: &str) -> Option<&'static str> {
    if name.len() > LONGEST {
        return None;
    }
    let wanted = normalised(name);
    let length = wanted.chars().count();
    let enough = (length / 3).clamp(1, MOST_EDITS);
    let settable = properties().iter().filter(|row| !row.hidden);
    let known = settable
        .flat_map(|row| [Some(row.name), row.alias].into_iter().flatten())
        .chain(java_properties().iter().map(|java| java.name));
    known
        // Every edit changes the length by one at most.
        .filter(|known| known.len().abs_diff(length) <= enough)
        .map(|known| (distance(&wanted, &normalised(known)), known))
        .filter(|(away, _)| *away <= enough)
        .min_by_key(|(away, known)| (*away, known.len()))
        .map(|(_, known)| known)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn misspelt_names_lead_to_what_was_meant() {
        for (wrong, right) in [
            ("group_id", "group.id"),
            ("groupId", "group.id"),
            ("Group.Id", "group.id"),
            ("bootstrap_servers", "bootstrap.servers"),
            ("bootstrap.server", "bootstrap.servers"),
            ("enable.autocommit", "enable.auto.commit"),
            ("enable_auto_commit", "enable.auto.commit"),
            ("session.timeuot.ms", "session.timeout.ms"),
            ("max.poll.record", "max.poll.records"),
            ("key.deserialiser", "key.deserializer"),
            ("tidegate.revoke.drain", "tidegate.revoke.drain.ms"),
            ("ack", "acks"),
            ("fetch.max.wait", "fetch.max.wait.ms"),
            ("security_protocol", "security.protocol"),
        ] {
            assert_eq!(nearest(wrong), Some(right), "{wrong}");
        }
        for unrelated in ["colour", "x", "", "my.own.setting.of.the.application"] {
            assert_eq!(nearest(unrelated), None, "{unrelated}");
        }
    }

    #[test]
    fn distance_counts_edits() {
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("abc", "abc"), 0);
        assert_eq!(distance("acb", "abc"), 1);
        assert_eq!(distance("kitten", "sitting"), 3);
    }
}
