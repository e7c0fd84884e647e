//! Standardisation of a context, bit for bit as the reference does it where values are of ordinary size.
//!
//! The statistics decide signs, signs decide tokens: float64 statistics would move the input by up to 5e-5. So sums run
//! in float32 in the order of NumPy's pairwise summation over a contiguous column.
//!
//! The reference adds an absolute 1e-5 to the standard deviation and squares in float32. A coin at 1e-9 would be a constant to
//! it, a volume of 1e20 infinite. So a context whose values spread outside of [`ORDINARY`] is first multiplied by the power of two
//! that makes its spread large, where the 1e-5 is less than a rounding. The product is exact: nothing but the size of the unit
//! goes, and two units a power of two apart give the same bits.

use crate::bars::{Bar, CHANNELS, PRICES};
use std::ops::Range;

/// Values beyond this many standard deviations are clipped.
pub const CLIP: f32 = 5.0;

/// Added to the standard deviation before dividing.
const EPSILON: f32 = 1e-5;

/// Spreads (highest less lowest value) of contexts that are left as they are: from about 0.001, which is ten pips of a currency pair and
/// where [`EPSILON`] is a few percent of a standard deviation, to 2.8e14, whose squares float32 sums with room to spare.
pub const ORDINARY: Range<f64> = 0.0009765625..281474976710656.0;

/// Power of two that the spread of any other context is brought to. From 2⁸ on a standard deviation swallows [`EPSILON`]; that
/// of a spread of 2²⁰ is above it whatever the length of the context, and so is that of every spread above [`ORDINARY`]: nothing
/// changes where that ends.
const SPREAD: i32 = 20;

/// What counts as the spread of values that are all equal, as a share of them.
const OF_CONSTANT: f64 = 0.0009765625;

/// Channels that are in one unit.
const UNITS: [Range<usize>; 3] = [0..PRICES, PRICES..PRICES + 1, PRICES + 1..CHANNELS];

/// Mean and population standard deviation of each channel of a context.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Stats {
    /// Power of two that each channel is multiplied by; 1 where the context is of ordinary size.
    pub factor: Bar,
    /// In the unit of the channel times its factor.
    pub mean: [f32; CHANNELS],
    /// In the same unit, before the epsilon.
    pub std: [f32; CHANNELS],
}

impl Stats {
    /// The statistics of a context.
    pub fn of(bars: &[Bar]) -> Self {
        let n = bars.len() as f32;
        let factor = factors(bars);
        let mut stats = Self { factor, mean: [0.0; CHANNELS], std: [0.0; CHANNELS] };
        for channel in 0..CHANNELS {
            let mut column: Vec<f32> = bars.iter().map(|bar| stats.read(bar, channel)).collect();
            let mean = pairwise_sum(&column) / n;
            for v in &mut column {
                let deviation = *v - mean;
                *v = deviation * deviation;
            }
            stats.mean[channel] = mean;
            stats.std[channel] = (pairwise_sum(&column) / n).sqrt();
        }
        stats
    }

    /// A value in the unit of the statistics.
    fn read(&self, bar: &Bar, channel: usize) -> f32 {
        (bar[channel] * self.factor[channel]) as f32
    }

    /// The standardised bars before clipping.
    pub fn standardise(&self, bars: &[Bar]) -> Vec<[f32; CHANNELS]> {
        bars.iter()
            .map(|bar| std::array::from_fn(|c| (self.read(bar, c) - self.mean[c]) / (self.std[c] + EPSILON)))
            .collect()
    }

    /// The model's input: standardised and clipped to ±[`CLIP`].
    pub fn normalise(&self, bars: &[Bar]) -> Vec<[f32; CHANNELS]> {
        let mut rows = self.standardise(bars);
        rows.iter_mut().flatten().for_each(|v| *v = v.clamp(-CLIP, CLIP));
        rows
    }

    /// Back to the units of the context, in float32 with two roundings as the reference.
    pub fn denormalise(&self, row: &[f32]) -> Bar {
        std::array::from_fn(|c| f64::from(row[c] * (self.std[c] + EPSILON) + self.mean[c]) / self.factor[c])
    }
}

/// What each channel is multiplied by.
fn factors(bars: &[Bar]) -> Bar {
    let mut factors = [1.0; CHANNELS];
    for channels in UNITS {
        let values = bars.iter().flat_map(|bar| &bar[channels.clone()]);
        let (low, high) =
            values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), &v| (low.min(v), high.max(v)));
        let spread = if high > low { high - low } else { OF_CONSTANT * high.abs() };
        if spread > 0.0 && !ORDINARY.contains(&spread) {
            factors[channels].fill(2f64.powi((SPREAD - exponent(spread)).clamp(-1000, 1000)));
        }
    }
    factors
}

/// The power of two at or below a positive number, read off its bits: a logarithm is rounded.
fn exponent(positive: f64) -> i32 {
    (positive.to_bits() >> 52) as i32 - 1023
}

/// NumPy's pairwise float32 sum of a contiguous array.
fn pairwise_sum(x: &[f32]) -> f32 {
    match x.len() {
        0..8 => x.iter().sum(),
        n @ 8..=128 => {
            let mut r = [0f32; 8];
            r.copy_from_slice(&x[..8]);
            let whole = n - n % 8;
            for chunk in x[8..whole].chunks_exact(8) {
                r.iter_mut().zip(chunk).for_each(|(r, v)| *r += v);
            }
            let sum = ((r[0] + r[1]) + (r[2] + r[3])) + ((r[4] + r[5]) + (r[6] + r[7]));
            x[whole..].iter().fold(sum, |sum, v| sum + v)
        }
        n => {
            let half = n / 2 - n / 2 % 8;
            pairwise_sum(&x[..half]) + pairwise_sum(&x[half..])
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_constant_channel_normalises_to_zero_and_comes_back() {
        let bars = vec![[5.0; CHANNELS]; 40];
        let stats = Stats::of(&bars);
        assert_eq!(stats.std, [0.0; CHANNELS]);
        assert_eq!(stats.normalise(&bars), vec![[0.0; CHANNELS]; 40]);
        assert_eq!(stats.denormalise(&[0.0; CHANNELS]), [5.0; CHANNELS]);
    }

    /// The pairwise order, seen where it matters: 1 + 2⁻²⁴ ten thousand times is lost in a running float32 sum.
    #[test]
    fn the_sum_is_pairwise() {
        let x = vec![0.1f32; 10_000];
        let running: f32 = x.iter().sum();
        assert!((pairwise_sum(&x) - 1000.0).abs() < 1e-3);
        assert!((running - 1000.0).abs() > 0.05);
    }

    #[test]
    fn outliers_are_clipped() {
        let mut bars = vec![[1.0; CHANNELS]; 99];
        bars.push([1000.0; CHANNELS]);
        let stats = Stats::of(&bars);
        assert_eq!(stats.normalise(&bars)[99], [CLIP; CHANNELS]);
        assert!(stats.standardise(&bars)[99][0] > 9.0);
    }

    /// A walk about `level` that moves by a hundredth of it.
    fn walk(level: f64, n: u32) -> Vec<Bar> {
        let stream = crate::random::Stream::from_key(11);
        let bar = |i| {
            let move_ = |part| 1.0 + 0.01 * stream.uniform(i, part, 0);
            let close = level * move_(0);
            [level * move_(1), close * 1.001, close / 1.001, close, 700.0 * move_(2), 7e4 * move_(3)]
        };
        (0..n).map(bar).collect()
    }

    fn times(bars: &[Bar], prices: f64, volume: f64, amount: f64) -> Vec<Bar> {
        let factors = [prices, prices, prices, prices, volume, amount];
        bars.iter().map(|bar| std::array::from_fn(|c| bar[c] * factors[c])).collect()
    }

    #[test]
    fn a_context_of_ordinary_size_is_read_as_it_is() {
        for level in [0.1, 1.1, 100.0, 6e4, 1e9] {
            assert_eq!(Stats::of(&walk(level, 300)).factor, [1.0; CHANNELS], "{level}");
        }
        let without_volume = times(&walk(100.0, 50), 1.0, 0.0, 0.0);
        assert_eq!(Stats::of(&without_volume).factor, [1.0; CHANNELS]);
    }

    /// From 1e-270 to 1e140, so far outside of every market that nothing within can be missed.
    #[test]
    fn units_a_power_of_two_apart_give_the_same_bits_outside_of_the_ordinary() {
        let bars = walk(1.0, 300);
        let read = |prices: i32, volume: i32, amount: i32| {
            let bars = times(&bars, 2f64.powi(prices), 2f64.powi(volume), 2f64.powi(amount));
            let stats = Stats::of(&bars);
            let rows = stats.normalise(&bars);
            let back: Vec<Bar> = rows.iter().map(|row| stats.denormalise(row)).collect();
            (rows, times(&back, 2f64.powi(-prices), 2f64.powi(-volume), 2f64.powi(-amount)))
        };
        let expected = read(-20, 60, 70);
        for (prices, volume, amount) in
            [(-21, 61, 71), (-40, 80, 90), (-900, 460, 450), (60, -30, -40), (460, -900, -900)]
        {
            assert!(read(prices, volume, amount) == expected, "{prices} {volume} {amount}");
        }
    }

    #[test]
    fn inputs_hardly_change_where_a_context_begins_to_be_rescaled() {
        let bars = walk(1.0, 300);
        let spread = |bars: &[Bar]| {
            let prices = || bars.iter().flat_map(|bar| &bar[..PRICES]).copied();
            prices().fold(f64::MIN, f64::max) - prices().fold(f64::MAX, f64::min)
        };
        let own = spread(&bars);
        let at = |edge: f64, share: f64| {
            let bars = times(&bars, share * edge / own, 1.0, 1.0);
            let stats = Stats::of(&bars);
            (stats.factor[0], stats.normalise(&bars))
        };
        let furthest = |a: &[[f32; CHANNELS]], b: &[[f32; CHANNELS]]| {
            let pairs = a.as_flattened().iter().zip(b.as_flattened());
            pairs.map(|(a, b)| (a - b).abs() / a.abs().max(1.0)).fold(0.0, f32::max)
        };
        let (inside, outside) = (at(ORDINARY.start, 1.001), at(ORDINARY.start, 0.999));
        assert_eq!(inside.0, 1.0);
        assert_ne!(outside.0, 1.0);
        // 1e-5 of a standard deviation of a quarter of 2^-10.
        let moved = furthest(&inside.1, &outside.1);
        assert!(0.01 < moved && moved < 0.05, "{moved}");
        // A power of two apart, so that nothing else rounds.
        let (inside, outside) = (at(ORDINARY.end, 0.75), at(ORDINARY.end, 1.5));
        assert_eq!(inside.0, 1.0);
        assert_ne!(outside.0, 1.0);
        assert!(inside.1 == outside.1);
    }

    #[test]
    fn a_constant_stays_where_it_is_in_every_unit() {
        for level in [1e-12, 1e-5, 0.5, 100.0, 1e12, 1e20] {
            let bars = vec![[level; CHANNELS]; 40];
            let stats = Stats::of(&bars);
            assert_eq!(stats.normalise(&bars), vec![[0.0; CHANNELS]; 40]);
            for value in stats.denormalise(&[CLIP; CHANNELS]) {
                assert!((value / level - 1.0).abs() < 1e-4, "{level}: {value}");
            }
        }
    }
}
