//! Training steps of the default N-BEATS network per second, and forecasts; `tests/nbeats/throughput.py` does the same with PyTorch.
//!
//! Both count processor time, so that figures compare on a machine that is busy with other things as well. Run both with one
//! thread: `RAYON_NUM_THREADS=1`.
#![allow(clippy::unwrap_used)]

use candle_core::Device;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use kronos_models::interrupt::NeverInterrupt;
use kronos_models::nbeats::NBeats;
use kronos_models::nbeats::config::{Config, Input, Kind, ScalerConfig, Stack, Transform};
use kronos_models::random::Stream;
use kronos_models::series::SeriesRequest;
use kronos_training::AdamWOptions;
use kronos_training::nbeats::{NBeatsTask, Source};
use kronos_training::optimiser::{AdamW, global_norm};
use kronos_training::{Noise, Panel, PanelSeries, Pick, Trainable, Window};
use std::time::Duration;

const BATCH: usize = 256;

fn task(width: usize) -> NBeatsTask {
    let stack = Stack {
        kind: Kind::Generic,
        blocks: 3,
        layers: 3,
        width,
        shared: false,
        degree: None,
        harmonics: None,
    };
    let config = Config {
        model_type: "nbeats".into(),
        context_length: 90,
        horizon: 20,
        quantile_levels: vec![0.05, 0.25, 0.5, 0.75, 0.95],
        input: Input::Change,
        growth: 0.5,
        stacks: vec![stack; 2],
    };
    let stream = Stream::from_key(1);
    let mut price = 100.0;
    let close: Vec<f64> = (0..4000)
        .map(|row| {
            price *= (0.04 * (stream.uniform(row, 0, 0) - 0.5)).exp();
            price
        })
        .collect();
    let series = PanelSeries { name: "A".into(), times: (0..4000).collect(), values: vec![close] };
    let panel = Panel { columns: vec!["close".into()], series: vec![series] };
    let train: Vec<Window> = (90..3900).map(|cut| Window { series: 0, cut }).collect();
    let source = Source { panel, column: 0, validation: train[..1].to_vec(), train };
    let scaler = ScalerConfig::new(Transform::Log);
    NBeatsTask::new(&config, &scaler, vec![source], None, (1, 0.0), &Device::Cpu).unwrap()
}

/// Time that all threads of the process have run.
fn processor_time() -> Duration {
    let of = |task: std::io::Result<std::fs::DirEntry>| -> u64 {
        let text = std::fs::read_to_string(task.unwrap().path().join("schedstat")).unwrap();
        text.split_whitespace().next().unwrap().parse().unwrap()
    };
    Duration::from_nanos(std::fs::read_dir("/proc/self/task").unwrap().map(of).sum())
}

/// Reading the windows, forward, backward, clipping, one step of AdamW: all that a step of training is.
fn training(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("nbeats_train");
    group.throughput(Throughput::Elements(BATCH as u64)).sample_size(20);
    for width in [128, 256, 512] {
        let task = task(width);
        let mut adam = AdamW::new(AdamWOptions::default(), task.parameters()).unwrap();
        let picks: Vec<Pick> =
            (0..BATCH).map(|i| Pick { source: 0, window: 14 * i, draw: i as u64 }).collect();
        group.bench_function(format!("width {width}"), |bencher| {
            let mut step = || {
                let loss = task.loss(&picks, Noise::new(1, 1)).unwrap();
                let mut found = loss.backward().unwrap();
                let gradients: Vec<_> =
                    task.parameters().iter().map(|parameter| found.remove(&parameter.var)).collect();
                let clip = (1.0 / global_norm(&gradients).unwrap()).min(1.0);
                adam.step(task.parameters(), &gradients, 1e-4, clip).unwrap();
            };
            bencher.iter_custom(|steps| {
                let before = processor_time();
                (0..steps).for_each(|_| step());
                processor_time() - before
            });
        });
    }
    group.finish();
}

/// Forecasts of a pass of series by the kernels.
fn forecasting(criterion: &mut Criterion) {
    const SERIES: usize = 512;
    let mut group = criterion.benchmark_group("nbeats_forecast");
    group.throughput(Throughput::Elements(SERIES as u64)).sample_size(20);
    for width in [128, 512] {
        let task = task(width);
        let model =
            NBeats::from_tensors(task.config(), task.scaler_config(), &task.tensors().unwrap()).unwrap();
        let history = |series: usize| -> Vec<f64> {
            let stream = Stream::from_key(series as u64);
            (0..120).map(|row| 100.0 + stream.uniform(row, 0, 0)).collect()
        };
        let requests: Vec<SeriesRequest> =
            (0..SERIES).map(|series| SeriesRequest::univariate(history(series), 20)).collect();
        group.bench_function(format!("width {width}"), |bencher| {
            bencher.iter_custom(|passes| {
                let before = processor_time();
                (0..passes).for_each(|_| drop(model.forecast(&requests, &NeverInterrupt).unwrap()));
                processor_time() - before
            });
        });
    }
    group.finish();
}

criterion_group!(benches, training, forecasting);
criterion_main!(benches);
