//! Time per series of Chronos-2 in its published size, beside the machine's product rate.
//!
//! Weights are random, small enough that nothing overflows: their values do not change the time. Every point is the best
//! of a few runs. By default points run that take seconds; `KRONOS_BENCH=full` runs all. A filter selects by name:
//! `cargo bench --bench chronos2 -- context-512`.
//!
//! `KRONOS_BENCH=points` reads points from standard input instead, a context, a horizon and a number of series per line,
//! and answers each with the seconds of one run on the clock and of the processor: `reference.py` beside this file drives
//! it in turn with the reference implementation.
#![allow(clippy::unwrap_used, clippy::panic)]

mod cost;
mod limits;

use candle_core::{Device, Tensor};
use kronos_models::artifact::Tensors;
use kronos_models::chronos2::config::Config;
use kronos_models::chronos2::{Chronos2, Chronos2Options};
use kronos_models::interrupt::NeverInterrupt;
use kronos_models::random::Stream;
use kronos_models::series::SeriesRequest;
use std::hint::black_box;

const CONTEXTS: [usize; 2] = [512, 2048];
const HORIZONS: [usize; 2] = [24, 64];
const BATCHES: [usize; 3] = [1, 8, 32];
/// Independent series over which time must grow linearly.
const GROWTH: [usize; 3] = [32, 128, 512];
/// Points above this many operations are left to `KRONOS_BENCH=full`.
const DEFAULT_FLOP: f64 = 1e12;

/// The shape of amazon/chronos-2.
fn config() -> Config {
    let levels: Vec<f64> = std::iter::once(0.01)
        .chain((1..20).map(|twentieth| f64::from(5 * twentieth) / 100.0))
        .chain([0.99])
        .collect();
    serde_json::from_value(serde_json::json!({
        "architectures": ["Chronos2Model"],
        "d_model": 768, "d_kv": 64, "d_ff": 3072, "num_layers": 12, "num_heads": 12,
        "chronos_config": {
            "context_length": 8192, "input_patch_size": 16, "input_patch_stride": 16, "output_patch_size": 16,
            "max_output_patches": 64, "quantiles": levels, "use_arcsinh": true, "use_reg_token": true
        }
    }))
    .unwrap()
}

fn model(config: &Config) -> Chronos2 {
    let tensors: Tensors = config
        .tensors()
        .unwrap()
        .into_iter()
        .map(|spec| {
            let width = (1.0 / *spec.shape.last().unwrap() as f32).sqrt();
            (spec.name, Tensor::rand(-width, width, spec.shape, &Device::Cpu).unwrap())
        })
        .collect();
    Chronos2::from_tensors(config, &tensors).unwrap()
}

fn requests(series: usize, context: usize, horizon: usize) -> Vec<SeriesRequest> {
    let request = |series: usize| {
        let stream = Stream::from_key(series as u64);
        SeriesRequest::univariate((0..context).map(|i| stream.uniform(i as u32, 0, 0)).collect(), horizon)
    };
    (0..series).map(request).collect()
}

/// Operations that one series needs, two per weight a token passes, with what the exact shortcuts leave out left out.
fn flop(config: &Config, context: usize, horizon: usize) -> f64 {
    let (d, ff, patch) = (config.d_model as f64, config.d_ff as f64, config.patch());
    let inner = (config.num_heads * config.d_kv) as f64;
    let (history, ahead) = (context.div_ceil(patch) as f64, horizon.div_ceil(patch) as f64);
    let tokens = history + 1.0 + ahead;
    let outputs = (config.chronos_config.quantiles.len() * patch) as f64;
    let residual_block = |input: f64, output: f64| 2.0 * (input * ff + ff * output + input * output);
    let key_value = 4.0 * d * inner;
    let rest = 4.0 * d * inner + 4.0 * tokens * inner + 2.0 * d * d + 4.0 * d * ff;
    history * residual_block(3.0 * patch as f64, d)
        + (config.num_layers - 1) as f64 * tokens * (key_value + rest)
        + tokens * key_value
        + ahead * (rest + residual_block(d, outputs))
}

/// Answers each point on standard input with what one run of it takes.
fn answer_points(model: &Chronos2) {
    for line in std::io::stdin().lines() {
        let line = line.unwrap();
        let numbers: Vec<usize> = line.split_whitespace().map(|word| word.parse().unwrap()).collect();
        let [context, horizon, series] = numbers[..] else { panic!("not a point: {line}") };
        let requests = requests(series, context, horizon);
        let options = Chronos2Options::default();
        let cost::Cost { wall, cpu } =
            cost::once(|| drop(black_box(model.forecast(&requests, &options, &NeverInterrupt).unwrap())));
        println!("{wall} {cpu}");
    }
}

fn main() {
    let wanted = std::env::var("KRONOS_BENCH").unwrap_or_default();
    let full = wanted == "full";
    let filter = std::env::args().skip(1).find(|argument| !argument.starts_with('-')).unwrap_or_default();
    let config = config();
    let model = model(&config);
    if wanted == "points" {
        return answer_points(&model);
    }
    let gemm = limits::gemm_rate();
    println!("{:.1} GFLOP/s in large products", gemm / 1e9);
    println!("{:44}  {:>12}  {:>12}  {:>9}  of the product rate", "", "per series", "processor", "GFLOP/s");
    let run = |series: usize, context: usize, horizon: usize| {
        let name = format!("chronos2/context-{context}/horizon-{horizon}/series-{series}");
        let needed = flop(&config, context, horizon) * series as f64;
        // A "$" at the end of the filter stands for the end of the name.
        if !format!("{name}$").contains(&filter) || !(full || needed <= DEFAULT_FLOP) {
            return;
        }
        let requests = requests(series, context, horizon);
        let options = Chronos2Options::default();
        let cost::Cost { wall, cpu } =
            cost::cost(|| drop(black_box(model.forecast(&requests, &options, &NeverInterrupt).unwrap())));
        let each = |time: f64| 1e3 * time / series as f64;
        let rate = needed / wall;
        println!(
            "{name:44}  {:9.2} ms  {:9.2} ms  {:9.1}  {:3.0} %",
            each(wall),
            each(cpu),
            rate / 1e9,
            100.0 * rate / gemm
        );
    };
    for context in CONTEXTS {
        for horizon in HORIZONS {
            BATCHES.into_iter().for_each(|series| run(series, context, horizon));
        }
    }
    println!("growth with the number of independent series:");
    GROWTH.into_iter().for_each(|series| run(series, CONTEXTS[0], HORIZONS[0]));
}
