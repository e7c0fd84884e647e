//! N-BEATS: the training network and the forecasting one are the same, gradients are right, quantiles never cross.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // Also in what the tests share, which clippy does not take for a test.

mod files;
mod golden;

use candle_core::{Device, Tensor};
use kronos_models::interrupt::NeverInterrupt;
use kronos_models::nbeats::NBeats;
use kronos_models::nbeats::config::{Config, Input, Kind, ScalerConfig, Stack, Transform};
use kronos_models::nbeats::scaling::Scaler;
use kronos_models::random::Stream;
use kronos_models::series::SeriesRequest;
use kronos_training::nbeats::{NBeatsTask, Source};
use kronos_training::{
    AdamWOptions, Noise, Options, Panel, PanelSeries, Part, Pick, Sampler, Schedule, Split, SplitRule,
    Trainable, Windows, train,
};

const HORIZON: usize = 4;

fn stack(kind: Kind) -> Stack {
    Stack {
        kind,
        blocks: 2,
        layers: 2,
        width: 16,
        shared: kind == Kind::Seasonality,
        degree: (kind == Kind::Trend).then_some(2),
        harmonics: (kind == Kind::Seasonality).then_some(2),
    }
}

fn config(kinds: &[Kind]) -> Config {
    Config {
        model_type: "nbeats".into(),
        context_length: 12,
        horizon: HORIZON,
        quantile_levels: vec![0.05, 0.25, 0.5, 0.95],
        input: Input::Level,
        growth: 0.5,
        stacks: kinds.iter().map(|&kind| stack(kind)).collect(),
    }
}

const ALL: [Kind; 3] = [Kind::Generic, Kind::Trend, Kind::Seasonality];

fn panel(series: usize, rows: usize) -> Panel {
    let walk = |number: usize| {
        let stream = Stream::from_key(number as u64);
        let mut price = 10.0 + number as f64;
        let close = (0..rows as u32)
            .map(|row| {
                price *= (0.04 * (stream.uniform(row, 0, 0) - 0.5)).exp();
                price
            })
            .collect();
        PanelSeries { name: format!("S{number}"), times: (0..rows as i64).collect(), values: vec![close] }
    };
    Panel { columns: vec!["close".into()], series: (0..series).map(walk).collect() }
}

fn task(config: &Config, panel: Panel, dropout: f64) -> NBeatsTask {
    let split = Split::new(&panel, &SplitRule::intraday(HORIZON)).unwrap();
    let rule = Windows { context: 12, horizon: HORIZON, stride: 1, complete: vec![0], positive: vec![0] };
    let [train, validation] =
        [Part::Train, Part::Validation].map(|part| rule.of(&panel, &split, part).unwrap());
    let source = Source { panel, column: 0, train, validation };
    let scaler = ScalerConfig::new(Transform::Log);
    NBeatsTask::new(config, &scaler, vec![source], None, (3, dropout), &Device::Cpu).unwrap()
}

fn model(task: &NBeatsTask) -> NBeats {
    NBeats::from_tensors(task.config(), task.scaler_config(), &task.tensors().unwrap()).unwrap()
}

/// Larger weights than fresh ones, so that every part of the network matters.
fn shaken(task: &NBeatsTask) {
    for parameter in task.parameters() {
        parameter.var.set(&(parameter.var.as_tensor() * 3.0).unwrap()).unwrap();
    }
}

#[test]
fn training_and_forecasting_networks_agree() {
    for input in [Input::Level, Input::Change] {
        let config = Config { input, ..config(&ALL) };
        let task = task(&config, panel(1, 100), 0.0);
        shaken(&task);
        let stream = Stream::from_key(9);
        let width = config.inputs();
        let inputs: Vec<f32> =
            (0..5 * width as u32).map(|i| stream.uniform(i, 0, 0) as f32 * 2.0 - 1.0).collect();
        let tensor = Tensor::from_vec(inputs.clone(), (5, width), &Device::Cpu).unwrap();
        let trained =
            task.forward(&tensor, Noise::none()).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let forecast = model(&task).forward(&inputs, &NeverInterrupt).unwrap();
        let largest = trained.iter().fold(0f32, |most, value| most.max(value.abs()));
        assert!(largest > 0.5, "the network says too little to be compared: {largest}");
        for (a, b) in trained.iter().zip(&forecast) {
            assert!((a - b).abs() < 2e-5 * largest.max(1.0), "{a} {b}");
        }
    }
}

/// A fresh network is close to a walk with the volatility of the context, and quantiles never cross however it shouts.
#[test]
fn quantiles_are_ordered_and_a_fresh_network_is_a_walk() {
    let config = config(&ALL);
    let task = task(&config, panel(1, 100), 0.0);
    let history = panel(1, 100).series.remove(0).values.remove(0);
    let forecast = |task: &NBeatsTask| {
        let request = SeriesRequest::univariate(history.clone(), HORIZON);
        model(task).forecast(&[request], &NeverInterrupt).unwrap().remove(0).unwrap()
    };
    let fresh = forecast(&task);
    let newest = &history[history.len() - 12..];
    let square: f64 = newest.windows(2).map(|pair| (pair[1] / pair[0]).ln().powi(2)).sum();
    let sigma = (square / 11.0).sqrt();
    for step in 0..HORIZON {
        let z = |level: usize| {
            (fresh.values[0][level][step] / newest[11]).ln() / sigma / (step as f64 + 1.0).sqrt()
        };
        for (level, expected) in [(0, -1.645), (1, -0.674), (2, 0.0), (3, 1.645)] {
            assert!((z(level) - expected).abs() < 0.25, "step {step}: {} {expected}", z(level));
        }
    }
    for _ in 0..2 {
        shaken(&task);
        let loud = forecast(&task);
        for step in 0..HORIZON {
            for level in 1..4 {
                assert!(loud.values[0][level][step] >= loud.values[0][level - 1][step], "{loud:?}");
            }
        }
    }
}

/// Two changes of ten per cent: the volatility of a step is ln 1.1, and an output of zero is a normal walk of that.
#[test]
fn a_context_is_scaled_by_its_last_value_and_its_volatility() {
    let config = Config { context_length: 3, ..config(&[Kind::Generic]) };
    let scaler = Scaler::new(&config, &ScalerConfig::new(Transform::Log));
    let scaled = scaler.scale(&[7.0, 100.0, f64::NAN, 110.0, 121.0]).unwrap();
    let (sigma, close) = (1.1f64.ln(), |got: f64, expected: f64| (got / expected - 1.0).abs() < 1e-6);
    assert!(close(scaled.loc, 121f64.ln()) && close(scaled.scale, sigma), "{scaled:?}");
    // Newest first, in moves of a walk of three steps.
    let root = 3f32.sqrt();
    for (got, expected) in scaled.inputs.iter().zip([0.0, -1.0 / root, -2.0 / root]) {
        assert!((got - expected).abs() < 1e-6, "{scaled:?}");
    }
    // Levels 5, 25, 50 and 95 % of four steps.
    let quantiles = scaler.quantiles(&scaled, &[0.0; 16], HORIZON);
    for (values, deviate) in quantiles.iter().zip([-1.644_853_627, -0.674_489_750, 0.0, 1.644_853_627]) {
        for (step, value) in (1..).zip(values) {
            let expected = 121.0 * (deviate * sigma * f64::from(step).sqrt()).exp();
            assert!(close(*value, expected), "step {step}: {value} {expected}");
        }
    }
    let squared = (scaler.scaled_target(&scaled, 121.0 * 1.21).unwrap() - 2.0).abs();
    assert!(squared < 1e-6, "a rise of 21 per cent is two moves");
}

#[test]
fn a_series_alone_equals_the_series_in_a_batch_bitwise() {
    let task = task(&config(&ALL), panel(1, 100), 0.0);
    let model = model(&task);
    let requests: Vec<SeriesRequest> = panel(40, 60)
        .series
        .into_iter()
        .map(|mut series| SeriesRequest::univariate(series.values.remove(0), HORIZON))
        .collect();
    let batch = model.forecast(&requests, &NeverInterrupt).unwrap();
    for (request, expected) in requests.iter().zip(&batch) {
        let alone =
            model.forecast(std::slice::from_ref(request), &NeverInterrupt).unwrap().remove(0).unwrap();
        assert_eq!(&alone, expected.as_ref().unwrap());
    }
    // Two targets of one request are two series; a shorter horizon is the beginning of a longer one.
    let both = SeriesRequest {
        targets: requests[..2].iter().map(|request| request.targets[0].clone()).collect(),
        horizon: 2,
        ..SeriesRequest::default()
    };
    let both = model.forecast(&[both], &NeverInterrupt).unwrap().remove(0).unwrap();
    for (target, expected) in both.values.iter().zip(&batch) {
        for (short, long) in target.iter().zip(&expected.as_ref().unwrap().values[0]) {
            assert_eq!(short[..], long[..2]);
        }
    }
}

#[test]
fn what_one_series_lacks_is_its_own_error() {
    let model = model(&task(&config(&ALL), panel(1, 100), 0.0));
    let good = panel(1, 30).series.remove(0).values.remove(0);
    let with = |change: &dyn Fn(&mut Vec<f64>)| {
        let mut history = good.clone();
        change(&mut history);
        SeriesRequest::univariate(history, HORIZON)
    };
    let requests = [
        with(&|_| {}),
        with(&|history| history.truncate(11)),
        with(&|history| history[25] = f64::NAN),
        with(&|history| history[7..].fill(f64::NAN)),
        with(&|history| history[25] = -1.0),
        SeriesRequest { horizon: HORIZON + 1, ..with(&|_| {}) },
        SeriesRequest { past_covariates: vec![good.clone()], ..with(&|_| {}) },
    ];
    let results = model.forecast(&requests, &NeverInterrupt).unwrap();
    let messages: Vec<String> = results
        .iter()
        .map(|result| result.as_ref().map_or_else(ToString::to_string, |_| "ok".into()))
        .collect();
    let expected = [
        "ok",
        "context has 11 points, the model needs 12",
        "ok",
        "context has 7 points, the model needs 12",
        "target must be positive",
        "horizon must be at most 4",
        "does not support covariates",
    ];
    for (message, expected) in messages.iter().zip(expected) {
        assert!(message.contains(expected), "{message}");
    }
}

/// Of each kind of stack, with and without shared weights: central differences in every layer.
#[test]
fn gradients_agree_with_finite_differences() {
    for kind in ALL {
        let task = task(&config(&[kind]), panel(1, 100), 0.0);
        shaken(&task);
        let picks = [Pick { source: 0, window: 3, draw: 0 }, Pick { source: 0, window: 40, draw: 1 }];
        let loss = || f64::from(task.loss(&picks, Noise::none()).unwrap().to_scalar::<f32>().unwrap());
        let gradients = task.loss(&picks, Noise::none()).unwrap().backward().unwrap();
        let mut compared = 0;
        for parameter in task.parameters() {
            let all = |tensor: &Tensor| tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            let gradient = all(gradients.get(&parameter.var).unwrap());
            let start = all(&parameter.var);
            let steepest =
                (0..start.len()).max_by(|&a, &b| gradient[a].abs().total_cmp(&gradient[b].abs())).unwrap();
            let at = |delta: f32| {
                let mut values = start.clone();
                values[steepest] += delta;
                parameter
                    .var
                    .set(&Tensor::from_vec(values, parameter.var.shape(), &Device::Cpu).unwrap())
                    .unwrap();
                loss()
            };
            let step = 2e-3;
            let slope = (at(step) - at(-step)) / (2.0 * f64::from(step));
            at(0.0);
            let expected = f64::from(gradient[steepest]);
            assert!(
                (slope - expected).abs() < 0.03 * expected.abs() + 2e-4,
                "{kind:?} {}: {slope} {expected}",
                parameter.name
            );
            compared += usize::from(expected.abs() > 1e-3);
        }
        assert!(compared >= 4, "{kind:?}: only {compared} gradients are large enough to be compared");
    }
}

/// One batch of eight windows, again and again: the quantiles close in on what came.
#[test]
fn a_small_batch_is_learnt_by_heart() {
    let small = Config { stacks: vec![Stack { width: 64, ..stack(Kind::Generic) }], ..config(&ALL) };
    let mut panel = panel(1, 100);
    panel.series[0].values[0].truncate(100);
    let mut rehearsed = task(&small, panel, 0.0);
    let before = f64::from(
        rehearsed
            .loss(
                &(0..8).map(|window| Pick { source: 0, window: 5 * window, draw: 0 }).collect::<Vec<_>>(),
                Noise::none(),
            )
            .unwrap()
            .to_scalar::<f32>()
            .unwrap(),
    );
    rehearsed.keep_training_windows(|number| number % 5 == 0 && number < 40);
    let sampler = Sampler::new(&[kronos_training::Source::uniform(8)], 1).unwrap();
    let options = Options {
        steps: 1500,
        batch: 8,
        evaluate_every: 1500,
        patience: None,
        schedule: Schedule::ONE_CYCLE,
        optimiser: AdamWOptions { learning_rate: 5e-3, weight_decay: 0.0, ..AdamWOptions::default() },
        ..Options::default()
    };
    let mut last = f64::INFINITY;
    train(&rehearsed, &sampler, &options, None, &NeverInterrupt, &mut |event| {
        if let kronos_training::Event::Step { loss, .. } = event {
            last = *loss;
        }
    })
    .unwrap();
    assert!(before > 0.15 && last < 0.01, "{before} {last}");
}
