//! Time per forecast, per prefill and per decode step of the published sizes, beside the machine's limits.
//!
//! Weights are made by a formula: their values do not change the time. By default a choice of combinations runs that
//! shows every ratio within minutes; `KRONOS_BENCH=full` runs all. A filter selects by name:
//! `cargo bench --bench kronos -- base/context-400`.
#![allow(clippy::unwrap_used)]

#[path = "../tests/golden/formula.rs"]
mod formula;
mod limits;
mod memory;

use criterion::{BenchmarkGroup, Criterion, SamplingMode, measurement::WallTime};
use kronos_models::bars::{BarOptions, BarRequest, Sampling, Stamp, Window};
use kronos_models::interrupt::NeverInterrupt;
use kronos_models::kronos::Kronos;
use kronos_models::kronos::batch::Batch;
use kronos_models::kronos::config::{PredictorConfig, TokenizerConfig};
use kronos_models::kronos::predictor::Predictor;
use kronos_models::kronos::tokenizer::{Token, Tokenizer};
use kronos_models::random::Stream;
use std::cell::{LazyCell, RefCell};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// A published size.
#[derive(Clone, Copy)]
struct Size {
    name: &'static str,
    d_model: usize,
    n_heads: usize,
    ff_dim: usize,
    n_layers: usize,
    max_context: usize,
}

const SIZES: [Size; 3] = [
    Size { name: "mini", d_model: 256, n_heads: 4, ff_dim: 512, n_layers: 4, max_context: 2048 },
    Size { name: "small", d_model: 512, n_heads: 8, ff_dim: 1024, n_layers: 8, max_context: 512 },
    Size { name: "base", d_model: 832, n_heads: 16, ff_dim: 2048, n_layers: 12, max_context: 512 },
];
const CONTEXTS: [usize; 2] = [400, 512];
const HORIZONS: [usize; 2] = [24, 112];
const PATHS: [usize; 2] = [1, 32];
const SERIES: [usize; 2] = [1, 8];

/// Forecasts above this many operations are left to `KRONOS_BENCH=full`: criterion repeats each at least eleven times.
const DEFAULT_FLOP: f64 = 3e11;

impl Size {
    fn kronos(&self) -> Kronos {
        let tokenizer = TokenizerConfig {
            d_in: 6,
            d_model: 256,
            n_heads: 4,
            ff_dim: 512,
            n_enc_layers: 4,
            n_dec_layers: 4,
            s1_bits: 10,
            s2_bits: 10,
        };
        let Self { d_model, n_heads, ff_dim, n_layers, .. } = *self;
        let predictor =
            PredictorConfig { d_model, n_heads, ff_dim, n_layers, s1_bits: 10, s2_bits: 10, learn_te: true };
        let tokenizer_weights = formula::tensors(&tokenizer.tensors().unwrap(), 1).unwrap();
        let predictor_weights = formula::tensors(&predictor.tensors().unwrap(), 2).unwrap();
        Kronos::from_parts(
            Tokenizer::new(&tokenizer, &tokenizer_weights).unwrap(),
            Predictor::new(&predictor, &predictor_weights).unwrap(),
            self.max_context,
        )
        .unwrap()
    }

    /// Weights that one position passes: the blocks, and keys and values of the dependency layer.
    fn weights_per_position(&self) -> f64 {
        let (d, ff) = (self.d_model as f64, self.ff_dim as f64);
        self.n_layers as f64 * (4.0 * d * d + 3.0 * d * ff) + 2.0 * d * d
    }

    /// Weights of a whole decode step: those, the dependency layer's output and both heads.
    fn weights_per_step(&self) -> f64 {
        let d = self.d_model as f64;
        self.weights_per_position() + d * d + d * 2048.0
    }

    /// Operations of a prefill: two per weight, and causal attention (scores and sums over half the square).
    fn prefill_flop(&self, context: usize) -> f64 {
        let c = context as f64;
        2.0 * c * self.weights_per_position() + 2.0 * c * (c + 1.0) * (self.d_model * self.n_layers) as f64
    }

    fn forecast_flop(&self, context: usize, horizon: usize, paths: usize, series: usize) -> f64 {
        let rows = (horizon * paths) as f64;
        series as f64 * (self.prefill_flop(context) + 2.0 * rows * self.weights_per_step())
    }

    /// Context left when nothing may slide.
    fn context_used(&self, context: usize, horizon: usize) -> usize {
        context.min(self.max_context - horizon + 1)
    }
}

fn requests(series: usize, context: usize, horizon: usize) -> Vec<BarRequest> {
    let request = |series: usize| {
        let stream = Stream::from_key(series as u64);
        let noise = |row: usize, draw: u32| stream.uniform(0, row as u32, draw) - 0.5;
        let mut close = 100.0;
        let bar = |row: usize| {
            let open = close;
            close *= 1.0 + 0.01 * noise(row, 0);
            let (high, low) = (open.max(close) * (1.001 + 0.001 * noise(row, 1)), open.min(close) * 0.999);
            let volume = 1000.0 * (1.5 + noise(row, 2));
            [open, high, low, close, volume, volume * close]
        };
        let stamp = |row: usize| Stamp {
            minute: (row % 12 * 5) as u8,
            hour: (row / 12 % 24) as u8,
            weekday: (row / 288 % 7) as u8,
            day: (1 + row / 288 % 28) as u8,
            month: 1,
        };
        BarRequest {
            bars: (0..context).map(bar).collect(),
            stamps: (0..context + horizon).map(stamp).collect(),
            horizon,
            stream,
        }
    };
    (0..series).map(request).collect()
}

fn options(samples: usize) -> BarOptions {
    let sampling = Sampling::new(1.0, 0, 1.0).unwrap();
    BarOptions { samples, sampling, window: Window::Shorten, memory_limit: 16 << 30 }
}

/// The best time of every benchmark, by name, for the ratios at the end.
#[derive(Default)]
struct Times(RefCell<BTreeMap<String, f64>>);

impl Times {
    fn get(&self, name: &str) -> Option<f64> {
        self.0.borrow().get(name).copied()
    }

    /// Runs `once` as a benchmark; it returns the part of its time that counts.
    fn measure(
        &self,
        group: &mut BenchmarkGroup<'_, WallTime>,
        name: &str,
        mut once: impl FnMut() -> Duration,
    ) {
        group.bench_function(name, |bencher| {
            bencher.iter_custom(|iterations| {
                let mut total = Duration::ZERO;
                for _ in 0..iterations {
                    let time = once();
                    let mut times = self.0.borrow_mut();
                    let best = times.entry(name.into()).or_insert(f64::INFINITY);
                    *best = best.min(time.as_secs_f64());
                    total += time;
                }
                total
            });
        });
    }
}

fn timed<R>(work: impl FnOnce() -> R) -> Duration {
    let start = Instant::now();
    std::hint::black_box(work());
    start.elapsed()
}

fn prefill_name(size: &Size, context: usize) -> String {
    format!("prefill/{}/context-{context}", size.name)
}

fn step_name(size: &Size, context: usize, paths: usize, series: usize) -> String {
    format!("step/{}/context-{context}/series-{series}/paths-{paths}", size.name)
}

fn forecast_name(size: &Size, context: usize, horizon: usize, paths: usize, series: usize) -> String {
    format!("forecast/{}/context-{context}/horizon-{horizon}/series-{series}/paths-{paths}", size.name)
}

/// The blocks over a context, as done once per series; the tokenizer not included.
fn prefill(kronos: &Kronos, context: usize) -> Duration {
    let request = &requests(1, context, 0)[0];
    let tokens: Vec<Token> =
        (0..context).map(|i| Token { s1: (i * 37 % 1024) as u16, s2: (i * 101 % 1024) as u16 }).collect();
    let predictor = kronos.predictor().unwrap();
    let mut state = predictor.sequence();
    timed(|| {
        predictor.hidden(&tokens, &request.stamps, &mut [&mut state], &[context], &NeverInterrupt).unwrap()
    })
}

/// Decode steps of all paths of all series together; prefill and first step, which has no new position, do not count.
fn steps(kronos: &Kronos, context: usize, paths: usize, series: usize) -> impl FnMut() -> Duration {
    let horizon = 112.min(kronos.max_context() - 1);
    let requests = requests(series, context.min(kronos.max_context() - horizon + 1), horizon);
    let mut batch = Batch::new(kronos);
    let mut left = 0;
    move || {
        if left == 0 {
            batch = Batch::new(kronos);
            for request in &requests {
                batch.admit(request, &options(paths), &NeverInterrupt).unwrap();
            }
            batch.step(&NeverInterrupt).unwrap();
            left = horizon - 1;
        }
        left -= 1;
        timed(|| batch.step(&NeverInterrupt).unwrap())
    }
}

fn size(criterion: &mut Criterion, size: &Size, times: &Times, full: bool) {
    // Made when the first benchmark that the filter lets through asks for it.
    let kronos = LazyCell::new(|| size.kronos());
    let mut group = criterion.benchmark_group("kronos");
    group.sampling_mode(SamplingMode::Flat).sample_size(10).warm_up_time(Duration::from_millis(1));
    group.measurement_time(Duration::from_secs(2));
    for context in CONTEXTS {
        times.measure(&mut group, &prefill_name(size, context), || prefill(&kronos, context));
        for series in SERIES {
            for paths in PATHS {
                if full || paths == 1 || series == 1 {
                    let name = step_name(size, context, paths, series);
                    let mut next = None;
                    times.measure(&mut group, &name, || {
                        next.get_or_insert_with(|| steps(&kronos, context, paths, series))()
                    });
                }
                for horizon in HORIZONS {
                    let cheap = size.forecast_flop(context, horizon, paths, series) <= DEFAULT_FLOP;
                    let telling =
                        context == CONTEXTS[0] && (series == 1 || (paths, horizon) == (1, HORIZONS[0]));
                    if !(full || cheap && telling) {
                        continue;
                    }
                    let name = forecast_name(size, context, horizon, paths, series);
                    let requests = requests(series, context, horizon);
                    times.measure(&mut group, &name, || {
                        timed(|| kronos.forecast(&requests, &options(paths), &NeverInterrupt).unwrap())
                    });
                }
            }
        }
    }
    group.finish();
}

/// The ratios that the times are judged by.
fn summarise(times: &Times, gemm: f64, memory: &memory::Memory) {
    let bandwidth = memory.bandwidth();
    println!(
        "\nlimits: {:.1} GFLOP/s in large products, {:.1} GB/s read from memory",
        gemm / 1e9,
        bandwidth / 1e9
    );
    println!("\nbest times; prefill against the product rate (aim: at least 70 %)");
    for size in &SIZES {
        for context in CONTEXTS {
            let Some(time) = times.get(&prefill_name(size, context)) else { continue };
            let rate = size.prefill_flop(context) / time;
            let share = 100.0 * rate / gemm;
            let (name, time, rate) = (size.name, 1e3 * time, rate / 1e9);
            println!("  {name:5}  context {context}  {time:8.1} ms  {rate:6.1} GFLOP/s  {share:3.0} %");
        }
    }
    println!(
        "\ndecode step against one read of its weights from memory (aim with 1 path: at most 1.5) and, as small"
    );
    println!("models stay in the caches, against a repeated read of as many bytes");
    for size in &SIZES {
        let bytes = 4.0 * size.weights_per_step();
        let cached = memory.read(bytes as usize);
        for context in CONTEXTS {
            for series in SERIES {
                for paths in PATHS {
                    let Some(time) = times.get(&step_name(size, context, paths, series)) else { continue };
                    let (streamed, cached) = (time / (bytes / bandwidth), time / cached);
                    let (name, time) = (size.name, 1e3 * time);
                    print!("  {name:5}  context {context}  series {series}  paths {paths:2}  {time:8.2} ms");
                    println!("  {streamed:6.2}  {cached:6.2}");
                }
            }
        }
    }
    println!("\nforecast, and how often the time of one path (aim with 32 paths: at most 4)");
    for size in &SIZES {
        for context in CONTEXTS {
            for horizon in HORIZONS {
                for series in SERIES {
                    for paths in PATHS {
                        let time = |paths| times.get(&forecast_name(size, context, horizon, paths, series));
                        let Some(own) = time(paths) else { continue };
                        let ratio = time(1).map_or(String::new(), |one| format!("  {:5.2}", own / one));
                        let used = size.context_used(context, horizon);
                        let (name, own) = (size.name, 1e3 * own);
                        print!(
                            "  {name:5}  context {context} ({used} used)  horizon {horizon:3}  series {series}"
                        );
                        println!("  paths {paths:2}  {own:9.1} ms{ratio}");
                    }
                }
            }
        }
    }
}

fn main() {
    let full = std::env::var("KRONOS_BENCH").is_ok_and(|value| value == "full");
    let times = Times::default();
    let mut criterion = Criterion::default().configure_from_args();
    let mut gemm = limits::gemm_rate();
    for one in &SIZES {
        size(&mut criterion, one, &times, full);
        // Again after every size: the limit is what the machine reached at any time during the run.
        gemm = gemm.max(limits::gemm_rate());
    }
    criterion.final_summary();
    if !times.0.borrow().is_empty() {
        summarise(&times, gemm, &memory::Memory::beyond_caches());
    }
}
