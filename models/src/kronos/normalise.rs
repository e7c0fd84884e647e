//! Standardisation of a context, bit for bit as the reference does it.
//!
//! The statistics decide signs, signs decide tokens: float64 statistics would move the input by up to 5e-5. So sums run
//! in float32 in the order of NumPy's pairwise summation over a contiguous column.

use crate::bars::{Bar, CHANNELS};

/// Values beyond this many standard deviations are clipped.
pub const CLIP: f32 = 5.0;

/// Added to the standard deviation before dividing.
const EPSILON: f32 = 1e-5;

/// Mean and population standard deviation of each channel of a context.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Stats {
    /// In the unit of the channel.
    pub mean: [f32; CHANNELS],
    /// In the unit of the channel, before the epsilon.
    pub std: [f32; CHANNELS],
}

impl Stats {
    /// The statistics of a context.
    pub fn of(bars: &[Bar]) -> Self {
        let n = bars.len() as f32;
        let mut stats = Self { mean: [0.0; CHANNELS], std: [0.0; CHANNELS] };
        for channel in 0..CHANNELS {
            let mut column: Vec<f32> = bars.iter().map(|bar| bar[channel] as f32).collect();
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

    /// The standardised bars before clipping.
    pub fn standardise(&self, bars: &[Bar]) -> Vec<[f32; CHANNELS]> {
        bars.iter()
            .map(|bar| std::array::from_fn(|c| (bar[c] as f32 - self.mean[c]) / (self.std[c] + EPSILON)))
            .collect()
    }

    /// The model's input: standardised and clipped to ±[`CLIP`].
    pub fn normalise(&self, bars: &[Bar]) -> Vec<[f32; CHANNELS]> {
        let mut rows = self.standardise(bars);
        rows.iter_mut().flatten().for_each(|v| *v = v.clamp(-CLIP, CLIP));
        rows
    }

    /// Back to the units of the context, in float32 with two roundings as the reference.
    pub fn denormalise(&self, row: &[f32]) -> [f32; CHANNELS] {
        std::array::from_fn(|c| row[c] * (self.std[c] + EPSILON) + self.mean[c])
    }
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
}
