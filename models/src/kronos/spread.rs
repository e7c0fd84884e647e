//! Spreading sequences over threads, each computing its own by itself.
//!
//! Threads that share out the rows of every kernel meet in every kernel, dozens of times for one position; threads with
//! sequences of their own meet once. A row's numbers are the same either way.

use crate::error::Result;
use crate::layers::cpu::threads;
use rayon::prelude::*;
use std::ops::Range;

/// Cuts a row of items of these weights into at most `count` runs of about the same weight, none of them empty.
pub(super) fn cut(weights: &[usize], count: usize) -> Vec<Range<usize>> {
    let whole: usize = weights.iter().sum();
    let (mut runs, mut start, mut before) = (Vec::with_capacity(count), 0, 0);
    for (item, weight) in weights.iter().enumerate() {
        before += weight;
        let is_last_run = runs.len() + 1 == count;
        if item + 1 == weights.len() || !is_last_run && before * count >= whole * (runs.len() + 1) {
            runs.push(start..item + 1);
            start = item + 1;
        }
    }
    runs
}

/// Computes the parts, each on a thread of its own if there are several.
///
/// # Errors
/// The first of `work`.
pub(super) fn each<P: Send, R: Send>(parts: Vec<P>, work: impl Fn(P) -> Result<R> + Sync) -> Result<Vec<R>> {
    if parts.len() < 2 {
        return parts.into_iter().map(work).collect();
    }
    parts.into_par_iter().map(|part| threads::alone(|| work(part))).collect()
}

/// Cuts items of these weights for as many threads as there are where `apart` wants it of the weight of the lightest run,
/// and leaves them together where a thread would get half as much again as its share.
pub(super) fn evenly(weights: &[usize], apart: impl Fn(usize) -> bool) -> Vec<Range<usize>> {
    let threads = threads::available();
    let runs = cut(weights, threads);
    let weight = |run: &Range<usize>| weights[run.clone()].iter().sum::<usize>();
    let whole: usize = weights.iter().sum();
    let heaviest = runs.iter().map(weight).max().unwrap_or(0);
    let lightest = runs.iter().map(weight).min().unwrap_or(0);
    let even = 2 * heaviest * threads <= 3 * whole;
    if even && apart(lightest) { runs } else { cut(weights, 1) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_cover_everything_once_and_are_as_even_as_the_items_allow() {
        assert_eq!(cut(&[1; 8], 2), [0..4, 4..8]);
        assert_eq!(cut(&[1; 3], 2), [0..2, 2..3]);
        assert_eq!(cut(&[5, 1, 1, 1, 1, 1], 2), [0..1, 1..6]);
        assert_eq!(cut(&[1, 1, 1, 1, 1, 5], 2), [0..5, 5..6]);
        assert_eq!(cut(&[2, 2], 4), [0..1, 1..2]);
        assert_eq!(cut(&[0, 0, 0], 2), [0..1, 1..3]);
        assert_eq!(cut(&[1, 1, 0], 2), [0..1, 1..3]);
        assert!(cut(&[], 4).is_empty());
        for count in 1..9 {
            for items in 1..20 {
                let weights: Vec<usize> = (0..items).map(|i| 1 + i * 7 % 5).collect();
                let runs = cut(&weights, count);
                assert!(runs.len() <= count.min(items) && runs.iter().all(|run| !run.is_empty()));
                assert_eq!(runs.into_iter().flatten().collect::<Vec<_>>(), (0..items).collect::<Vec<_>>());
            }
        }
    }

    #[test]
    fn threads_go_apart_only_where_each_has_its_share() {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap();
        let ran = |weights: &[usize], apart: bool| {
            let work = |run| Ok((run, threads::available()));
            pool.install(|| each(evenly(weights, |_| apart), work).unwrap())
        };
        assert_eq!(ran(&[1, 1], true), [(0..1, 1), (1..2, 1)]);
        assert_eq!(ran(&[1, 1], false), [(0..2, 2)]);
        assert_eq!(ran(&[9, 1], true), [(0..2, 2)]);
        assert_eq!(ran(&[9], true), [(0..1, 2)]);
    }
}
