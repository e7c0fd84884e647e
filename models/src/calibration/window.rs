//! What the second layer remembers of past scores.

use serde::{Deserialize, Serialize};

/// The newest scores, up to a capacity.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Window {
    /// In no order that matters: the oldest is overwritten in place.
    scores: Vec<f64>,
    next: u32,
}

impl Window {
    /// Adds a score, in place of the oldest where the window is full.
    pub fn push(&mut self, score: f64, capacity: usize) {
        if self.scores.len() < capacity {
            self.scores.push(score);
        } else if let Some(slot) = self.scores.get_mut(self.next as usize) {
            *slot = score;
            self.next = (self.next + 1) % self.scores.len() as u32;
        }
    }

    /// The conformal quantile that leaves `miss` outside: of m scores the one of rank ⌈(m + 1)(1 − miss)⌉.
    ///
    /// Infinite where that rank exceeds m, minus infinity where it is below 1.
    pub fn quantile(&self, miss: f64) -> f64 {
        let count = self.scores.len();
        // The product of decimals such as 20 · 0.95 must not be pushed over the next whole number by its last bit.
        let rank = ((count + 1) as f64 * (1.0 - miss) - 1e-9).ceil();
        if rank > count as f64 {
            return f64::INFINITY;
        }
        if rank < 1.0 {
            return f64::NEG_INFINITY;
        }
        let mut scores = self.scores.clone();
        let (_, score, _) = scores.select_nth_unstable_by(rank as usize - 1, f64::total_cmp);
        *score
    }

    /// The greatest miss level at which `score` would have been covered: the share of m + 1 scores, itself among them,
    /// that are at least as large.
    pub fn p_value(&self, score: f64) -> f64 {
        let above = self.scores.iter().filter(|&&own| own >= score).count();
        (above + 1) as f64 / (self.scores.len() + 1) as f64
    }
}

/// Scores that [`Extremes`] looks back over.
const SPAN: u64 = 100;

/// The range of the last 100 scores, exactly, from the few of them that can still matter.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Extremes {
    seen: u64,
    /// Values that descend, each the greatest since its place.
    high: Vec<(u64, f64)>,
    /// Values that ascend, each the least since its place.
    low: Vec<(u64, f64)>,
}

impl Extremes {
    /// Adds a score.
    pub fn push(&mut self, score: f64) {
        let place = self.seen;
        self.seen += 1;
        let oldest = self.seen.saturating_sub(SPAN);
        for queue in [&mut self.high, &mut self.low] {
            queue.retain(|&(place, _)| place >= oldest);
        }
        while self.high.last().is_some_and(|&(_, value)| value <= score) {
            self.high.pop();
        }
        while self.low.last().is_some_and(|&(_, value)| value >= score) {
            self.low.pop();
        }
        self.high.push((place, score));
        self.low.push((place, score));
    }

    /// Greatest minus least score; the size of the only score where there is no other.
    pub fn range(&self) -> f64 {
        let (Some(&(_, high)), Some(&(_, low))) = (self.high.first(), self.low.first()) else { return 0.0 };
        if high > low { high - low } else { high.abs() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Stream;

    /// Ranks by hand: of 19 scores, level 0.95 asks for rank 19 and level 0.951 for one that is not there.
    #[test]
    fn ranks_are_those_of_conformal_prediction() {
        let mut window = Window::default();
        assert_eq!(window.quantile(0.5), f64::INFINITY);
        for score in 1..=19 {
            window.push(f64::from(score), 500);
        }
        assert_eq!(window.quantile(0.05), 19.0);
        assert_eq!(window.quantile(0.049), f64::INFINITY);
        assert_eq!(window.quantile(0.5), 10.0);
        assert_eq!(window.quantile(1.0), f64::NEG_INFINITY);
        assert_eq!(window.quantile(-0.2), f64::INFINITY);
        // 3 of 19 are at least 17, so 4 of 20 with itself.
        assert_eq!(window.p_value(17.0), 0.2);
        assert_eq!(window.p_value(100.0), 0.05);
        window.push(-1.0, 19);
        assert_eq!(window.quantile(0.95), -1.0);
        assert!((0..19).all(|_| window.quantile(0.05) == 19.0));
    }

    #[test]
    fn the_range_is_that_of_the_last_hundred() {
        let stream = Stream::from_key(3);
        let scores: Vec<f64> = (0..1000).map(|i| (10.0 * stream.uniform(i, 0, 0)).round() - 3.0).collect();
        let mut extremes = Extremes::default();
        for (i, &score) in scores.iter().enumerate() {
            extremes.push(score);
            let last = &scores[(i + 1).saturating_sub(100)..=i];
            let high = last.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let low = last.iter().copied().fold(f64::INFINITY, f64::min);
            let expected = if high > low { high - low } else { high.abs() };
            assert_eq!(extremes.range(), expected, "{i}");
        }
        assert!(extremes.high.len() + extremes.low.len() < 60);
    }
}
