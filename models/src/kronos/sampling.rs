//! From logits to a token: temperature, top-k or top-p, one draw.

use crate::bars::Sampling;
use crate::layers::cpu::norm::exp_shifted;

/// Probabilities after temperature, filter and renormalisation; filtered entries are exactly 0.
///
/// With top-k every entry not below the k-th largest stays, ties included, and top-p is not looked at. With top-p an entry
/// stays while the mass before it (in descending order, lower index first among equals) is at most top-p, so the best
/// always stays.
pub fn filter_probabilities(logits: &[f32], sampling: &Sampling) -> Vec<f32> {
    let (mut weights, total) = filtered_weights(logits, sampling);
    weights.iter_mut().for_each(|w| *w = (f64::from(*w) / total) as f32);
    weights
}

/// Draws a token by inversion of the cumulative distribution at `uniform` in [0, 1).
///
/// `None` when the logits are not finite.
pub fn draw(logits: &[f32], sampling: &Sampling, uniform: f64) -> Option<u16> {
    let (weights, total) = filtered_weights(logits, sampling);
    if !(total.is_finite() && total > 0.0) {
        return None;
    }
    // Whole chunks are skipped by their sums, the very ones `total` is made of.
    let target = uniform * total;
    let mut before = 0.0;
    let mut last = None;
    for (index, chunk) in weights.chunks(CHUNK).enumerate() {
        let mass = chunk_mass(chunk);
        if mass > 0.0 {
            last = Some((index, chunk));
            if before + mass > target {
                break;
            }
        }
        before += mass;
    }
    let (index, chunk) = last?;
    let mut token = None;
    for (i, &w) in chunk.iter().enumerate() {
        if w > 0.0 {
            token = Some((index * CHUNK + i) as u16);
            before += f64::from(w);
            if before > target {
                break;
            }
        }
    }
    token
}

/// Weights summed side by side.
const CHUNK: usize = 16;

/// Sum of up to sixteen weights as a tree, which a processor adds in parallel.
fn chunk_mass(chunk: &[f32]) -> f64 {
    let mut v = [0f32; CHUNK];
    v[..chunk.len()].copy_from_slice(chunk);
    let mut half = CHUNK / 2;
    while half > 0 {
        for i in 0..half {
            v[i] += v[i + half];
        }
        half /= 2;
    }
    f64::from(v[0])
}

fn mass(weights: &[f32]) -> f64 {
    weights.chunks(CHUNK).map(chunk_mass).sum()
}

/// Unnormalised probabilities after the filter, and their sum.
fn filtered_weights(logits: &[f32], sampling: &Sampling) -> (Vec<f32>, f64) {
    let mut weights = logits.to_vec();
    let k = sampling.top_k();
    if k > 0 {
        if k < weights.len() {
            let mut order = weights.clone();
            // Descending with the order of f32's bits: NaN logits are caught by the caller through the sum.
            let (_, kth, _) = order.select_nth_unstable_by(k - 1, |a, b| b.total_cmp(a));
            let least = *kth;
            weights.iter_mut().for_each(|w| {
                if *w < least {
                    *w = f32::NEG_INFINITY;
                }
            });
        }
        exp_shifted(&mut weights, sampling.temperature());
        let total = mass(&weights);
        return (weights, total);
    }
    exp_shifted(&mut weights, sampling.temperature());
    let total = mass(&weights);
    if sampling.top_p() >= 1.0 || !total.is_finite() {
        return (weights, total);
    }
    keep_mass(&mut weights, f64::from(sampling.top_p()) * total);
    let kept = mass(&weights);
    (weights, kept)
}

/// Zeroes every weight before which, in descending order, more than `mass` has accumulated.
fn keep_mass(weights: &mut [f32], mass: f64) {
    // Weights are not negative, so their bits order as they do; inverted bits and the index give descending order with
    // the lower index first, in one integer sort.
    let mut order: Vec<u64> =
        weights.iter().enumerate().map(|(i, w)| u64::from(!w.to_bits()) << 32 | i as u64).collect();
    order.sort_unstable();
    let mut sum = 0.0;
    let mut kept = 0;
    for key in &order {
        if kept > 0 && sum > mass {
            break;
        }
        sum += f64::from(weights[(key & 0xFFFF_FFFF) as usize]);
        kept += 1;
    }
    for key in &order[kept..] {
        weights[(key & 0xFFFF_FFFF) as usize] = 0.0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sampling(temperature: f32, top_k: usize, top_p: f32) -> Sampling {
        Sampling::new(temperature, top_k, top_p).unwrap()
    }

    #[test]
    fn ties_at_the_kth_logit_all_stay() {
        let p = filter_probabilities(&[1.0, 2.0, 2.0, 0.0], &sampling(1.0, 1, 0.1));
        assert_eq!(p, vec![0.0, 0.5, 0.5, 0.0]);
    }

    #[test]
    fn the_token_that_crosses_top_p_stays() {
        let logits = [0.5f32.ln(), 0.3f32.ln(), 0.15f32.ln(), 0.05f32.ln()];
        let kept = |top_p| {
            filter_probabilities(&logits, &sampling(1.0, 0, top_p)).iter().filter(|p| **p > 0.0).count()
        };
        assert_eq!([kept(0.01), kept(0.45), kept(0.55), kept(0.85), kept(0.97)], [1, 1, 2, 3, 4]);
    }

    /// Quarters add up without rounding. The reference removes an entry only if the mass before it is above top-p, so the
    /// one before which exactly half has accumulated stays.
    #[test]
    fn of_four_equal_logits_three_stay_at_a_top_p_of_one_half() {
        let third = 1.0 / 3.0;
        for (top_p, expected) in [
            (0.24, [1.0, 0.0, 0.0, 0.0]),
            (0.25, [0.5, 0.5, 0.0, 0.0]),
            (0.5, [third, third, third, 0.0]),
            (0.75, [0.25; 4]),
        ] {
            assert_eq!(filter_probabilities(&[7.0; 4], &sampling(1.0, 0, top_p)), expected, "{top_p}");
        }
    }

    #[test]
    fn a_lower_temperature_sharpens_and_top_k_keeps_so_many() {
        let logits = [0.0, 1.0, 2.0, 3.0];
        // e^(2·0), …, e^(2·3) over their sum.
        let sum: f64 = (0..4).map(|i| f64::from(2 * i).exp()).sum();
        for (i, p) in filter_probabilities(&logits, &sampling(0.5, 0, 1.0)).into_iter().enumerate() {
            assert!((f64::from(p) - (2.0 * i as f64).exp() / sum).abs() < 1e-6, "{i}: {p}");
        }
        let kept = |top_k| {
            filter_probabilities(&logits, &sampling(1.0, top_k, 0.1)).iter().filter(|p| **p > 0.0).count()
        };
        assert_eq!([1, 2, 3, 4, 9].map(kept), [1, 2, 3, 4, 4]);
    }

    #[test]
    fn draws_follow_the_probabilities_over_many_chunks() {
        let logits: Vec<f32> = (0..1000).map(|i| ((i * 37 % 101) as f32 - 50.0) / 20.0).collect();
        let sampling = sampling(1.3, 0, 0.9);
        let probabilities = filter_probabilities(&logits, &sampling);
        let n = 200_000;
        let mut counts = vec![0u32; logits.len()];
        for i in 0..n {
            let uniform = (f64::from(i) + 0.5) / f64::from(n);
            counts[usize::from(draw(&logits, &sampling, uniform).unwrap())] += 1;
        }
        for (count, p) in counts.iter().zip(probabilities) {
            // A grid of draws hits an interval to within one at either end.
            assert!((f64::from(*count) - f64::from(p) * f64::from(n)).abs() < 2.0);
        }
    }

    #[test]
    fn draws_follow_the_probabilities() {
        let logits = [0.2f32.ln(), 0.5f32.ln(), 0.3f32.ln()];
        let n = 10_000;
        let mut counts = [0u32; 3];
        for i in 0..n {
            let uniform = (f64::from(i) + 0.5) / f64::from(n);
            counts[usize::from(draw(&logits, &sampling(1.0, 0, 1.0), uniform).unwrap())] += 1;
        }
        assert_eq!(counts, [2000, 5000, 3000]);
    }

    #[test]
    fn greedy_needs_no_luck_and_nan_is_no_token() {
        assert_eq!(draw(&[0.0, 3.0, 1.0], &Sampling::greedy(), 0.999_999), Some(1));
        assert_eq!(draw(&[0.0, f32::NAN, 1.0], &sampling(1.0, 0, 0.9), 0.5), None);
        assert_eq!(draw(&[f32::NAN; 3], &Sampling::greedy(), 0.5), None);
    }
}
