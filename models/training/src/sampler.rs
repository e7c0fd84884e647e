//! Which windows are drawn at which step: a pure function of seed and step.
//!
//! Draws are with replacement. A shuffled order would have to be kept with a checkpoint or derived again from the start;
//! a draw that is a function of its number needs neither, and mixtures and weights come for free.

use super::error::{Result, invalid};
use kronos_models::random::Stream;

/// A set of windows with its share in a mixture.
#[derive(Debug, Clone, PartialEq)]
pub struct Source {
    /// Share of the draws that come from here, relative to the other sources.
    pub weight: f64,
    /// Number of windows.
    pub windows: usize,
    /// Relative weight of each window; absent: all alike.
    pub window_weights: Option<Vec<f64>>,
}

impl Source {
    /// Windows that are all alike.
    pub fn uniform(windows: usize) -> Self {
        Self { weight: 1.0, windows, window_weights: None }
    }
}

/// One window of one source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Pick {
    /// Number of the source.
    pub source: usize,
    /// Number of the window within it.
    pub window: usize,
    /// Number of the draw within the run: what a random choice about this one use of the window is derived from.
    pub draw: u64,
}

/// Draws windows of a mixture of sources.
#[derive(Debug, Clone)]
pub struct Sampler {
    stream: Stream,
    /// Running sums of the sources' weights.
    sources: Vec<f64>,
    windows: Vec<usize>,
    /// Running sums of the windows' weights, by source.
    weights: Vec<Option<Vec<f64>>>,
}

impl Sampler {
    /// A sampler of `sources`.
    ///
    /// # Errors
    /// `InvalidParameter` for no source, a source without windows, weights that are negative, not finite or all zero, or
    /// as many weights as there are no windows.
    pub fn new(sources: &[Source], seed: i64) -> Result<Self> {
        let weights: Vec<f64> = sources.iter().map(|source| source.weight).collect();
        let windows = |source: &Source| match source.windows {
            0 => Err(invalid("windows of a source", "at least 1", 0)),
            windows => Ok(windows),
        };
        let window_weights = |source: &Source| match &source.window_weights {
            Some(weights) if weights.len() != source.windows => {
                Err(invalid("window weights", format!("{} weights", source.windows), weights.len()))
            }
            weights => weights.as_deref().map(running_sums).transpose(),
        };
        Ok(Self {
            stream: Stream::new(seed, "sampler", 0, ""),
            sources: running_sums(&weights)?,
            windows: sources.iter().map(windows).collect::<Result<_>>()?,
            weights: sources.iter().map(window_weights).collect::<Result<_>>()?,
        })
    }

    /// The windows of draws `first` to `first + count`.
    pub fn picks(&self, first: u64, count: usize) -> Vec<Pick> {
        (first..).take(count).map(|draw| self.pick(draw)).collect()
    }

    fn pick(&self, draw: u64) -> Pick {
        let uniform = |what| self.stream.uniform(draw as u32, (draw >> 32) as u32, what);
        let source = find(&self.sources, uniform(0));
        let window = match &self.weights[source] {
            Some(weights) => find(weights, uniform(1)),
            // Below the count even where the product is rounded up.
            None => ((uniform(1) * self.windows[source] as f64) as usize).min(self.windows[source] - 1),
        };
        Pick { source, window, draw }
    }
}

fn running_sums(weights: &[f64]) -> Result<Vec<f64>> {
    if let Some(weight) = weights.iter().find(|weight| !(**weight >= 0.0 && weight.is_finite())) {
        return Err(invalid("sampling weight", "at least 0", weight));
    }
    let sums: Vec<f64> = weights
        .iter()
        .scan(0.0, |sum, weight| {
            *sum += weight;
            Some(*sum)
        })
        .collect();
    match sums.last() {
        Some(&total) if total > 0.0 && total.is_finite() => Ok(sums),
        _ => Err(invalid("sampling weights", "some above 0", weights.len())),
    }
}

/// The item whose share of the running sums holds `uniform`; never one of weight 0.
fn find(sums: &[f64], uniform: f64) -> usize {
    let total = sums.last().copied().unwrap_or(0.0);
    let at = uniform * total;
    let found = sums.partition_point(|&sum| sum <= at);
    // A product rounded up to the total would lead past the end, to the last item that weighs anything.
    if found < sums.len() { found } else { sums.partition_point(|&sum| sum < total) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shares(sources: &[Source], count: usize) -> Vec<Vec<f64>> {
        let mut hits: Vec<Vec<f64>> = sources.iter().map(|source| vec![0.0; source.windows]).collect();
        for pick in Sampler::new(sources, 3).unwrap().picks(0, count) {
            hits[pick.source][pick.window] += 1.0 / count as f64;
        }
        hits
    }

    #[test]
    fn shares_follow_the_weights() {
        let sources = [
            Source { weight: 3.0, windows: 3, window_weights: Some(vec![0.0, 1.0, 3.0]) },
            Source { weight: 1.0, ..Source::uniform(2) },
        ];
        let shares = shares(&sources, 40_000);
        // Standard errors are below 0.0025; four of them.
        for (got, expected) in shares.concat().into_iter().zip([0.0, 0.1875, 0.5625, 0.125, 0.125]) {
            assert!((got - expected).abs() < 0.01, "{got} {expected}");
        }
        assert_eq!(shares[0][0], 0.0);
    }

    #[test]
    fn a_draw_does_not_depend_on_where_drawing_began() {
        let sampler = Sampler::new(&[Source::uniform(1000)], 7).unwrap();
        let all = sampler.picks(0, 100);
        assert_eq!(sampler.picks(60, 40), all[60..]);
        assert_ne!(Sampler::new(&[Source::uniform(1000)], 8).unwrap().picks(0, 100), all);
    }

    #[test]
    fn what_cannot_be_drawn_from_is_refused() {
        let bad = |source: Source| assert!(Sampler::new(&[source], 0).is_err());
        assert!(Sampler::new(&[], 0).is_err());
        bad(Source::uniform(0));
        bad(Source { weight: -1.0, ..Source::uniform(1) });
        bad(Source { weight: 0.0, ..Source::uniform(1) });
        bad(Source { window_weights: Some(vec![1.0]), ..Source::uniform(2) });
        bad(Source { window_weights: Some(vec![f64::NAN, 1.0]), ..Source::uniform(2) });
    }

    #[test]
    fn the_end_of_the_sums_is_the_last_item_that_weighs() {
        assert_eq!(find(&[1.0, 2.0, 2.0], 1.0), 1);
        assert_eq!(find(&[0.0, 2.0], 0.0), 1);
    }
}
