//! Weights from a formula: published sizes without published weights.
//!
//! `fixtures/kronos/README.md` and the golden README define it: FNV-1a of the key, splitmix64 of the index, a uniform
//! range that depends on the key.

use candle_core::{Device, Tensor};
use kronos_models::artifact::{TensorRole, TensorSpec, Tensors};

/// The weights of every tensor of `specs` that a model reads.
pub fn tensors(specs: &[TensorSpec], seed: u64) -> candle_core::Result<Tensors> {
    specs
        .iter()
        .filter(|spec| spec.role != TensorRole::Ignored)
        .map(|TensorSpec { name, shape, .. }| {
            let values = values(name, shape, seed);
            Ok((name.clone(), Tensor::from_vec(values, shape.as_slice(), &Device::Cpu)?))
        })
        .collect()
}

fn values(key: &str, shape: &[usize], seed: u64) -> Vec<f32> {
    const GOLDEN_GAMMA: u64 = 0x9E37_79B9_7F4A_7C15;
    let base = fnv1a(key) ^ seed.wrapping_mul(GOLDEN_GAMMA);
    let (middle, half_width) = range(key, shape);
    (1..=shape.iter().product::<usize>() as u64)
        .map(|i| {
            let z = base.wrapping_add(i.wrapping_mul(GOLDEN_GAMMA));
            let z = (z ^ z >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            let z = (z ^ z >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
            let z = z ^ z >> 31;
            let unit = (z >> 40) as f64 / f64::from(1 << 24);
            (middle + half_width * (2.0 * unit - 1.0)) as f32
        })
        .collect()
}

fn fnv1a(key: &str) -> u64 {
    key.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// Middle and half width of a tensor's uniform distribution; the first rule that fits.
fn range(key: &str, shape: &[usize]) -> (f64, f64) {
    let columns = shape.last().copied().unwrap_or(1) as f64;
    let owner = key.rsplit('.').nth(1).unwrap_or("");
    if key.ends_with(".bias") {
        (0.0, 0.1)
    } else if owner.starts_with("norm") {
        (1.0, 0.2)
    } else if key.starts_with("time_emb.") {
        (0.0, 0.5)
    } else if key.starts_with("embedding.emb_s") {
        (0.0, (3.0 / columns).sqrt())
    } else {
        let gain = if matches!(key, "head.proj_s1.weight" | "head.proj_s2.weight") { 2.5 } else { 1.0 };
        (0.0, gain * (3.0 / columns).sqrt())
    }
}
