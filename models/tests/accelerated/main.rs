//! Inference in candle's operations against the kernels: here on the CPU, and on a GPU where there is one.
//!
//! `golden` and `golden_chronos2` compare both with the reference implementations. `KRONOS_BENCH=1` makes [`speed`]
//! print tokens per second on a GPU beside what its memory allows:
//! `KRONOS_BENCH=1 cargo test --release --features cuda --test accelerated -- --nocapture`.
#![allow(clippy::unwrap_used, clippy::panic)] // Also in what the tests share, which clippy does not take for a test.

#[path = "../golden/formula.rs"]
mod formula;
mod quantiles;
mod speed;

use candle_core::Device;
use kronos_models::bars::{Bar, BarOptions, BarPaths, BarRequest, Sampling, Stamp, Window};
use kronos_models::device::{OPENER, Precision};
use kronos_models::interrupt::NeverInterrupt;
use kronos_models::kronos::Kronos;
use kronos_models::kronos::batch::Batch;
use kronos_models::kronos::config::{PredictorConfig, TokenizerConfig};
use kronos_models::kronos::predictor::Predictor;
use kronos_models::kronos::replay::Replay;
use kronos_models::kronos::tokenizer::Tokenizer;
use kronos_models::layers::accelerated::Place;
use kronos_models::random::Stream;

/// What float32 may deviate, as a part of the length of what is compared.
pub const F32: f64 = 1e-5;

/// What bfloat16 may deviate: its factors are off by up to 2⁻⁹ each, layer upon layer.
pub const BF16: f64 = 1e-2;

/// The window of the models here.
const MAX_CONTEXT: usize = 64;

/// A size of Kronos with weights by a formula.
pub struct Size {
    pub d_model: usize,
    pub n_heads: usize,
    pub ff_dim: usize,
    pub n_layers: usize,
    pub max_context: usize,
}

const MINI: Size = Size { d_model: 256, n_heads: 4, ff_dim: 512, n_layers: 4, max_context: MAX_CONTEXT };

impl Size {
    /// The model by the kernels, or on a place.
    pub fn model(&self, place: Option<&Place>) -> Kronos {
        let &Self { d_model, n_heads, ff_dim, n_layers, max_context } = self;
        let (s1_bits, s2_bits) = (10, 10);
        let tokenizer = TokenizerConfig {
            d_in: 6,
            d_model: 256,
            n_heads: 4,
            ff_dim: 512,
            n_enc_layers: 4,
            n_dec_layers: 4,
            s1_bits,
            s2_bits,
        };
        let predictor =
            PredictorConfig { d_model, n_heads, ff_dim, n_layers, s1_bits, s2_bits, learn_te: true };
        let tokenizer_weights = formula::tensors(&tokenizer.tensors().unwrap(), 1).unwrap();
        let predictor_weights = formula::tensors(&predictor.tensors().unwrap(), 2).unwrap();
        match place {
            Some(place) => {
                let (t, p) = ((&tokenizer, &tokenizer_weights), (&predictor, &predictor_weights));
                Kronos::accelerated(place, t, p, max_context).unwrap()
            }
            None => Kronos::from_parts(
                Tokenizer::new(&tokenizer, &tokenizer_weights).unwrap(),
                Predictor::new(&predictor, &predictor_weights).unwrap(),
                max_context,
            )
            .unwrap(),
        }
    }
}

pub fn on_cpu(precision: Precision) -> Place {
    Place::new(&Device::Cpu, precision)
}

/// The first GPU, or one line that says why there is none.
pub fn gpu() -> Option<Device> {
    let Some(open) = OPENER else {
        kronos_skip::skipped("this build has no CUDA", "make cuda on a machine with a GPU");
        return None;
    };
    match open(Some(&[0])) {
        Ok(mut gpus) => gpus.pop().map(|gpu| gpu.device),
        Err(reason) => {
            kronos_skip::skipped(&format!("no GPU can be used: {reason}"), "a machine with a GPU");
            None
        }
    }
}

/// The length of the difference as a part of the length of what was expected.
pub fn deviation(got: &[f32], expected: &[f32]) -> f64 {
    assert_eq!(got.len(), expected.len());
    let length = |values: &mut dyn Iterator<Item = f64>| values.map(|v| v * v).sum::<f64>().sqrt();
    let difference = length(&mut got.iter().zip(expected).map(|(a, b)| f64::from(*a) - f64::from(*b)));
    difference / length(&mut expected.iter().map(|v| f64::from(*v)))
}

/// A random walk of its own for each series.
pub fn request(series: u64, context: usize, horizon: usize) -> BarRequest {
    let walk = Stream::from_key(series + 99);
    let mut price = 100.0;
    let bars: Vec<Bar> = (0..context as u32)
        .map(|i| {
            let open = price;
            price *= 1.0 + 0.02 * (walk.uniform(i, 0, 0) - 0.5);
            let (high, low) = (open.max(price) * 1.001, open.min(price) * 0.999);
            let volume = 1000.0 * (0.5 + walk.uniform(i, 1, 0));
            [open, high, low, price, volume, volume * price]
        })
        .collect();
    let stamp = |i: usize| Stamp {
        minute: 0,
        hour: (i % 24) as u8,
        weekday: (i / 24 % 7) as u8,
        day: (1 + i / 24 % 28) as u8,
        month: 3,
    };
    let stamps = (0..context + horizon).map(stamp).collect();
    BarRequest { bars, stamps, horizon, stream: Stream::from_key(series) }
}

pub fn options(samples: usize, memory_limit: u64) -> BarOptions {
    let sampling = Sampling::new(1.0, 0, 0.95).unwrap();
    BarOptions { samples, sampling, window: Window::Slide, memory_limit }
}

fn replay(model: &Kronos, request: &BarRequest, options: &BarOptions, like: Option<&Replay>) -> Replay {
    model.replay(request, options, like.map(|replay| replay.tokens.as_slice()), &NeverInterrupt).unwrap()
}

/// Logits of every step and the decoded window on a place, given the tokens that the kernels drew, beside the kernels'.
fn compare(place: &Place, tolerance: f64) {
    let (kernels, accelerated) = (MINI.model(None), MINI.model(Some(place)));
    // A window that fits, one that slides after some steps, one that slides from the start, and a first bar alone; the
    // last is computed path by path, because its memory is short.
    for (series, (context, horizon, samples)) in
        [(30, 9, 3), (60, 9, 2), (100, 5, 2), (1, 4, 2)].into_iter().enumerate()
    {
        let request = request(series as u64, context, horizon);
        let options = options(samples, if series == 3 { 3 << 20 } else { 1 << 30 });
        let expected = replay(&kernels, &request, &options, None);
        let got = replay(&accelerated, &request, &options, Some(&expected));
        let all = |replay: &Replay| {
            let logits = [&replay.s1_logits, &replay.s2_logits].map(|logits| logits.concat().concat());
            let [s1, s2] = logits;
            [s1, s2, replay.decoded.concat().as_flattened().to_vec()]
        };
        for (what, (got, expected)) in
            ["s1", "s2", "decoded"].iter().zip(all(&got).into_iter().zip(all(&expected)))
        {
            let deviation = deviation(&got, &expected);
            println!("{place:?} context {context} {what}: {deviation:.1e}");
            assert!(deviation <= tolerance, "context {context}, {what}: {deviation:.1e}");
        }
    }
}

#[test]
fn float32_agrees_with_the_kernels() {
    compare(&on_cpu(Precision::F32), F32);
}

#[test]
fn bfloat16_agrees_with_the_kernels() {
    compare(&on_cpu(Precision::Bf16), BF16);
}

#[test]
fn a_gpu_agrees_with_the_kernels() {
    let Some(gpu) = gpu() else { return };
    compare(&Place::new(&gpu, Precision::F32), F32);
    compare(&Place::new(&gpu, Precision::Bf16), BF16);
}

#[test]
fn bfloat16_takes_less_memory() {
    let bytes = |precision| MINI.model(Some(&on_cpu(precision))).memory_bytes() as f64;
    // Half of it in the predictor's products; the tokenizer, as large here, and what is looked up stay in float32.
    let ratio = bytes(Precision::Bf16) / bytes(Precision::F32);
    assert!((0.7..0.85).contains(&ratio), "{ratio}");
}

/// Series of a batch that join and leave between steps forecast what they forecast alone.
#[test]
fn series_join_and_leave_a_batch_between_steps() {
    let model = MINI.model(Some(&on_cpu(Precision::F32)));
    let requests: Vec<BarRequest> =
        (0..6).map(|s| request(s, 5 + 11 * s as usize, 2 + (s as usize * 5) % 9)).collect();
    let options = options(3, 1 << 30);
    let alone: Vec<BarPaths> = requests
        .iter()
        .map(|request| {
            let mut one = model.forecast(std::slice::from_ref(request), &options, &NeverInterrupt).unwrap();
            one.pop().unwrap().unwrap()
        })
        .collect();
    let mut batch = Batch::new(&model);
    let mut ids = Vec::new();
    let mut finished = 0;
    while finished < requests.len() {
        if let Some(request) = requests.get(ids.len()) {
            ids.push(batch.admit(request, &options, &NeverInterrupt).unwrap());
        }
        batch.step(&NeverInterrupt).unwrap();
        for (id, series) in batch.take_finished(&NeverInterrupt).unwrap() {
            let index = ids.iter().position(|other| *other == id).unwrap();
            let paths = series.unwrap().into_paths().unwrap();
            assert_eq!(paths.context_used, alone[index].context_used);
            for (got, expected) in paths.bars.as_flattened().iter().zip(alone[index].bars.as_flattened()) {
                assert!((got - expected).abs() <= F32 * expected.abs(), "series {index}: {got} {expected}");
            }
            finished += 1;
        }
    }
    assert!(batch.is_empty());
}
