//! Every interleaving of a small story: what a few records, their handlers, the group and the broker can do next is tried in every order,
//! up to so many steps, on the engine that runs in production. After each step what must hold is checked (see [`World`]): the committed
//! offset and its map never pass unfinished work, the ledger adds up, no key is with two handlers at once, an answer of an old assignment
//! settles nothing. From each state everything can still be brought to its end.
//!
//! A state that was reached before is not gone on from again: what can follow is the same. So a number of states stands for a larger number
//! of interleavings, which is counted along the way. Two states are told apart by all that decides what comes next ([`World::print`]).

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::Write as _;
use std::time::Duration;

use super::super::*;
use super::stories::{Step, World};

/// Where it begins: what is produced and assigned, and what may happen besides taking, answering and committing.
struct Setting {
    name: &'static str,
    options: ProcessOptions,
    /// By partition, the key of each record.
    records: &'static [&'static [u8]],
    /// Very quick handlers: records come in stretches of up to two.
    is_quick: bool,
    /// How a handler may fail: to be tried again, for good, or given back.
    failures: bool,
    depth: usize,
    /// Fewer would mean that the enumeration has become blind.
    at_least: usize,
}

impl Setting {
    fn world(&self) -> World {
        let mut world = match self.is_quick {
            true => World::quick(self.options.clone()),
            false => World::new(self.options.clone()),
        };
        for (partition, keys) in (0..).zip(self.records) {
            world.step(&Step::Produce(partition, keys.to_vec()));
            world.step(&Step::Assign(partition));
        }
        world.step(&Step::HoldLetters(true));
        world
    }

    /// What can happen next.
    fn steps(&self, world: &World) -> Vec<Step> {
        let mut steps = vec![Step::Take(1)];
        if self.is_quick {
            steps.push(Step::TakeQuick(1, 2));
        }
        for (index, lent) in world.lent.iter().enumerate() {
            for done in 0..=lent.rows.len() {
                steps.push(Step::EndStretch(index, done, false));
                if done < lent.rows.len() {
                    steps.push(Step::EndStretch(index, done, true));
                }
            }
        }
        let ours = world.busy.iter().filter(|busy| busy.life == world.life);
        for index in 0..ours.count() {
            steps.push(Step::Done(vec![index]));
            if self.failures {
                steps.push(Step::Fail(index, true, 0));
                steps.push(Step::Fail(index, false, 0));
                steps.push(Step::GiveBack(index));
            }
        }
        if world.simulation.ledger().dead_letters_pending > 0 {
            steps.push(Step::ConfirmLetters);
        }
        if let Some(due) = world.simulation.next_due() {
            steps.push(Step::Wait(due.as_micros() as u64));
        }
        steps.extend(world.commit_steps());
        for partition in 0..self.records.len() as i32 {
            match (
                world.assigned.contains(&partition),
                world.revoking.contains(&partition),
            ) {
                (false, _) => steps.push(Step::Assign(partition)),
                (true, false) => {
                    steps.push(Step::Revoke(partition, false));
                    steps.push(Step::Lose(partition));
                }
                (true, true) => {
                    steps.push(Step::EndRevoke(partition));
                    steps.push(Step::Lose(partition));
                }
            }
        }
        steps.push(Step::Crash);
        steps
    }

    /// Tries it all.
    fn run(&self) {
        let mut known: HashMap<u64, usize> = HashMap::new();
        // By state, where each of its steps leads.
        let mut leads: Vec<Vec<usize>> = Vec::new();
        let first = self.world();
        known.insert(hash(&first.print()), 0);
        let mut level = vec![(0, Vec::new())];
        let mut tried = 0_usize;
        for _ in 0..self.depth {
            let mut next = Vec::new();
            for (state, path) in level {
                let count = self.steps(&self.replay(&path)).len();
                for choice in 0..count {
                    let mut path: Vec<u8> = path.clone();
                    path.push(choice as u8);
                    let mut world = self.replay(&path);
                    tried += 1;
                    let unseen = known.len();
                    let found = *known.entry(hash(&world.print())).or_insert(unseen);
                    if found == unseen {
                        world.wind_up();
                        next.push((found, path));
                    }
                    leads.resize_with(known.len(), Vec::new);
                    leads[state].push(found);
                }
            }
            level = next;
        }
        let interleavings = self.interleavings(&leads);
        let _ = writeln!(
            std::io::stderr(),
            "{}: {} states, {tried} steps tried, {interleavings:.1e} interleavings of {} steps, from each state to the end",
            self.name,
            known.len(),
            self.depth
        );
        assert!(known.len() >= self.at_least, "only {} states", known.len());
    }

    /// How many different orders of `depth` steps the states stand for.
    fn interleavings(&self, leads: &[Vec<usize>]) -> f64 {
        let mut ways = vec![1.0; leads.len()];
        for _ in 0..self.depth {
            let on = |leads: &Vec<usize>| leads.iter().map(|to| ways[*to]).sum::<f64>();
            ways = leads.iter().map(on).collect();
        }
        ways[0]
    }

    fn replay(&self, path: &[u8]) -> World {
        let mut world = self.world();
        for choice in path {
            let step = self.steps(&world).swap_remove(*choice as usize);
            world.step(&step);
        }
        world
    }
}

fn hash(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}

fn options(change: impl FnOnce(&mut ProcessOptions)) -> ProcessOptions {
    let mut options = ProcessOptions {
        max_in_flight: 3,
        max_attempts: Some(2),
        backoff: Duration::ZERO,
        ..ProcessOptions::default()
    };
    change(&mut options);
    options
}

#[test]
fn every_interleaving_of_a_key_in_order_beside_another() {
    Setting {
        name: "three records of two keys, failures",
        options: options(|_| ()),
        records: &[&[1, 1, 2]],
        is_quick: false,
        failures: true,
        depth: 9,
        at_least: 20_000,
    }
    .run();
}

#[test]
fn every_interleaving_of_rebalances_and_commits() {
    Setting {
        name: "two partitions, commits and rebalances",
        options: options(|_| ()),
        records: &[&[1, 1], &[1]],
        is_quick: false,
        failures: false,
        depth: 8,
        at_least: 25_000,
    }
    .run();
}

#[test]
fn every_interleaving_of_attempts_over_their_time() {
    Setting {
        name: "two records of a key, attempts over their time",
        options: options(|options| options.attempt_timeout = Some(Duration::from_millis(5))),
        records: &[&[1, 1]],
        is_quick: false,
        failures: true,
        depth: 9,
        at_least: 12_000,
    }
    .run();
}

#[test]
fn every_interleaving_without_an_order_and_with_parked_retries() {
    Setting {
        name: "three records, retries parked",
        options: options(|options| options.park_retries = true),
        records: &[&[1, 1, 0]],
        is_quick: false,
        failures: true,
        depth: 8,
        at_least: 10_000,
    }
    .run();
}

#[test]
fn every_interleaving_of_stretches_and_failures() {
    Setting {
        name: "three records of two keys in stretches, failures",
        options: options(|_| ()),
        records: &[&[1, 2, 1]],
        is_quick: true,
        failures: true,
        depth: 8,
        at_least: 28_000,
    }
    .run();
}

#[test]
fn every_interleaving_of_stretches_and_rebalances() {
    Setting {
        name: "two partitions in stretches, commits and rebalances",
        options: options(|_| ()),
        records: &[&[1, 1], &[1]],
        is_quick: true,
        failures: false,
        depth: 7,
        at_least: 45_000,
    }
    .run();
}
