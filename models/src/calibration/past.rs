//! What a state said at the times when outcomes became known, and how far back it remembers.

use super::{Layers, Online, Settings};
use serde::{Deserialize, Serialize};

/// States kept at most; of forecasts that reach farther every second one is, or every third.
const KEPT: u32 = 32;

/// All that a state has to say of forecasts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Said {
    /// When the newest outcome in it became known.
    pub from: i64,
    pub seen: u64,
    pub online: Online,
    pub spread: f64,
    /// What the trackers ask for, below and above; none where the method has none.
    pub asked: Option<[f64; 2]>,
    pub layers: Layers,
}

/// The times at which outcomes became known, in two blocks of as many different times as make a memory, and the newest states
/// before some of them.
///
/// A state is a fold in the order of those times. An outcome from before its memory cannot be folded in: the deviation that it
/// would be measured with, and the interval that it would be compared with, are those of today.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Past {
    newest: i64,
    /// First time of the block that is being filled, and of the one before it.
    block: i64,
    before: i64,
    /// Different times in the block.
    count: u32,
    /// Oldest first.
    said: Vec<Said>,
    /// Times since the newest of them.
    passed: u32,
}

impl Default for Past {
    fn default() -> Self {
        let never = i64::MIN;
        Self { newest: never, block: never, before: never, count: 0, said: Vec::new(), passed: 0 }
    }
}

impl Past {
    /// When the newest outcome became known.
    pub(super) fn newest(&self) -> i64 {
        self.newest
    }

    /// Whether an outcome that became known then comes too late to be learnt.
    pub(super) fn is_late(&self, known: i64) -> bool {
        known < self.before
    }

    /// Whether none became known then or later.
    pub(super) fn is_new(&self, known: i64) -> bool {
        known > self.newest
    }

    /// Notes a new time; `said` is what the state says before its first outcome, of forecasts up to `step` steps ahead.
    pub(super) fn note(&mut self, known: i64, memory: u32, said: Said, step: u32) {
        self.newest = known;
        if self.count == 0 || self.count >= memory {
            (self.before, self.block) = (self.block, known);
            self.count = 0;
        }
        self.count += 1;
        self.passed += 1;
        let every = step.div_ceil(KEPT).max(1);
        if self.passed < every && !self.said.is_empty() {
            return;
        }
        self.passed = 0;
        // As many as the forecasts that are under way, and the one that they were made with.
        let kept = ((step / every + 1) as usize).max(self.said.len());
        self.said.push(said);
        self.said.drain(..self.said.len().saturating_sub(kept));
    }

    /// What was said of a forecast made at `cutoff`, before the newest outcome; `None` where that is forgotten.
    pub(super) fn at(&self, cutoff: i64) -> Option<&Said> {
        self.said.iter().rev().find(|said| said.from <= cutoff)
    }
}

impl Settings {
    /// Different times after which the deviation of outcomes `step` steps ahead has forgotten half of what it knew.
    pub(super) fn memory(&self, step: u32) -> u32 {
        let kept = 1.0 - self.spread_lambda / f64::from(step.max(1));
        (0.5f64.ln() / kept.ln()).ceil().min(f64::from(u32::MAX)) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Method, Unit};
    use super::*;

    fn settings() -> Settings {
        Settings::new(0.9, Method::Pid, Unit::Log).unwrap()
    }

    fn said(past: &Past) -> Said {
        let online = Online::new(&settings());
        Said { from: past.newest, seen: 0, online, spread: 0.0, asked: None, layers: Layers::All }
    }

    /// ln ½ / ln 0.94 = 11.2, and five steps ahead ln ½ / ln 0.988 = 57.4.
    #[test]
    fn a_memory_is_the_half_life_of_the_deviation() {
        assert_eq!([1, 5].map(|step| settings().memory(step)), [12, 58]);
    }

    /// Blocks of three: nothing is late in a young state, and later what lies before the block before this one.
    #[test]
    fn an_outcome_is_late_once_two_blocks_have_passed_it_at_most() {
        let mut past = Past::default();
        assert!(!past.is_late(i64::MIN));
        let earliest: Vec<i64> = (1..=10)
            .map(|time| {
                assert!(past.is_new(10 * time));
                past.note(10 * time, 3, said(&past), 1);
                assert!(!past.is_new(10 * time) && !past.is_new(5));
                (-1..1000).find(|&known| !past.is_late(known)).unwrap()
            })
            .collect();
        assert_eq!(earliest, [-1, -1, -1, 10, 10, 10, 40, 40, 40, 70]);
    }

    #[test]
    fn what_was_said_is_kept_for_as_long_as_forecasts_are_under_way() {
        for (step, kept, oldest) in [(1, 2, 980), (5, 6, 940), (64, 33, 340), (100, 25, 0)] {
            let mut past = Past::default();
            for time in 1..=100 {
                past.note(10 * time, 12, said(&past), step);
            }
            // Of the outcome that is learnt now the forecast was made `step` times before.
            let cutoff = 1000 - 10 * i64::from(step);
            let found = past.at(cutoff).map(|said| said.from.max(0));
            assert!(found.is_some_and(|from| from <= cutoff && from + 40 > cutoff), "{step}: {found:?}");
            assert_eq!((past.said.len(), past.said[0].from.max(0)), (kept, oldest), "{step}");
        }
    }
}
