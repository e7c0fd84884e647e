//! The training regime, with a network small enough to know the answer.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // Also in what the tests share, which clippy does not take for a test.

use candle_core::{DType, Device, Tensor, Var};
use kronos_models::ModelError;
use kronos_models::interrupt::{Interrupt, NeverInterrupt};
use kronos_models::random::Stream;
use kronos_training::artifact::{self, DataNote, Draft, Manifest};
use kronos_training::{
    AdamWOptions, Checkpoints, Event, Noise, Options, Parameter, Pick, Result, Sampler, Schedule, Source,
    TrainError, Trainable, Validation, train,
};
use std::cell::Cell;

/// y = x·w + noise, learnt with dropout on x, so that a step depends on everything a checkpoint must keep.
struct Line {
    parameters: Vec<Parameter>,
    data: Vec<([f32; 3], f32)>,
    dropout: f32,
    fail_at: Option<Cell<u64>>,
}

impl Line {
    fn new() -> Self {
        let stream = Stream::from_key(5);
        let uniform = |i: u32, j: u32| stream.uniform(i, j, 0) as f32 * 2.0 - 1.0;
        let data = (0..200)
            .map(|i| {
                let x = [uniform(i, 0), uniform(i, 1), uniform(i, 2)];
                (x, x[0] - 2.0 * x[1] + 0.5 * x[2] + 0.01 * uniform(i, 3))
            })
            .collect();
        let weight = Var::zeros((3, 1), DType::F32, &Device::Cpu).unwrap();
        let bias = Var::zeros(1, DType::F32, &Device::Cpu).unwrap();
        let parameters = vec![Parameter::new("w", weight), Parameter::new("b", bias).without_decay()];
        Self { parameters, data, dropout: 0.1, fail_at: None }
    }

    fn error(&self, rows: &[usize], noise: Noise) -> Result<Tensor> {
        let x: Vec<f32> = rows.iter().flat_map(|&row| self.data[row].0).collect();
        let y: Vec<f32> = rows.iter().map(|&row| self.data[row].1).collect();
        let x = Tensor::from_vec(x, (rows.len(), 3), &Device::Cpu)?;
        let y = Tensor::from_vec(y, (rows.len(), 1), &Device::Cpu)?;
        let x = noise.dropout(self.dropout).apply(&x)?;
        let line = x.matmul(&self.parameters[0].var)?.broadcast_add(&self.parameters[1].var)?;
        Ok((line - y)?.sqr()?.mean_all()?)
    }

    fn values(&self) -> Vec<u32> {
        let bits = |p: &Parameter| p.var.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        self.parameters.iter().flat_map(bits).map(f32::to_bits).collect()
    }
}

impl Trainable for Line {
    fn parameters(&self) -> &[Parameter] {
        &self.parameters
    }

    fn loss(&self, picks: &[Pick], noise: Noise) -> Result<Tensor> {
        let rows: Vec<usize> = picks.iter().map(|pick| 100 * pick.source + pick.window).collect();
        let loss = self.error(&rows, noise)?;
        match &self.fail_at {
            Some(left) if left.replace(left.get().saturating_sub(1)) == 0 => Ok((loss * f64::NAN)?),
            _ => Ok(loss),
        }
    }

    fn validate(&self, _: &dyn Interrupt) -> Result<Validation> {
        let rows: Vec<usize> = (150..200).collect();
        let loss = f64::from(self.error(&rows, Noise::none())?.to_scalar::<f32>()?);
        Ok(Validation { loss, scores: Vec::new() })
    }

    fn identity(&self) -> String {
        "line".into()
    }
}

fn options() -> Options {
    Options {
        seed: 11,
        steps: 60,
        batch: 8,
        accumulate: 2,
        optimiser: AdamWOptions { learning_rate: 0.05, ..AdamWOptions::default() },
        schedule: Schedule::Plateau { factor: 0.5, patience: 1, minimum: 1e-5 },
        clip: Some(1.0),
        evaluate_every: 7,
        patience: None,
        average: None,
    }
}

fn sampler() -> Sampler {
    let weights = (0..50).map(f64::from).collect();
    Sampler::new(
        &[Source::uniform(100), Source { weight: 0.5, windows: 50, window_weights: Some(weights) }],
        11,
    )
    .unwrap()
}

/// Asks to stop when the given number of questions has been asked.
struct StopAfter(std::sync::atomic::AtomicU64);

impl Interrupt for StopAfter {
    fn check(&self) -> kronos_models::Result<()> {
        let left = self.0.fetch_sub(1, std::sync::atomic::Ordering::Relaxed);
        if left == 0 { Err(ModelError::Cancelled) } else { Ok(()) }
    }
}

#[test]
fn a_run_finds_the_line() {
    let line = Line::new();
    let mut options = Options { steps: 600, ..options() };
    options.schedule = Schedule::ONE_CYCLE;
    let report = train(&line, &sampler(), &options, None, &NeverInterrupt, &mut |_| {}).unwrap();
    let weight = line.parameters[0].var.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    for (got, expected) in weight.iter().zip([1.0, -2.0, 0.5]) {
        // Dropout on the inputs shrinks the weights by about a tenth, as a ridge would.
        assert!((got - expected * 0.9).abs() < 0.15, "{weight:?}");
    }
    assert!(report.best_loss < 0.1 && report.history[0].2 > 1.0, "{report:?}");
}

/// Killed in the middle twice, once between two checkpoints, and resumed: the bits of a run that was not.
#[test]
fn a_resumed_run_equals_an_uninterrupted_one_bitwise() {
    for average in [None, Some(0.9)] {
        resume(&Options { average, ..options() });
    }
}

fn resume(options: &Options) {
    let whole = Line::new();
    let told = train(&whole, &sampler(), options, None, &NeverInterrupt, &mut |_| {}).unwrap();

    let folder = tempfile::tempdir().unwrap();
    let checkpoints = Checkpoints::new(folder.path(), 10);
    for stop in [23, 20] {
        let line = Line::new();
        let interrupt = StopAfter(stop.into());
        let error =
            train(&line, &sampler(), options, Some(&checkpoints), &interrupt, &mut |_| {}).unwrap_err();
        assert!(matches!(error, TrainError::Model(ModelError::Cancelled)), "{error}");
    }
    // Lost without a chance to write: the file is the one of step 40 again, three steps back.
    let saved = std::fs::read(checkpoints.path()).unwrap();
    let lost = Line::new();
    let interrupt = StopAfter(3.into());
    train(&lost, &sampler(), options, Some(&checkpoints), &interrupt, &mut |_| {}).unwrap_err();
    std::fs::write(checkpoints.path(), saved).unwrap();

    let resumed = Line::new();
    let mut events = Vec::new();
    let report = train(&resumed, &sampler(), options, Some(&checkpoints), &NeverInterrupt, &mut |event| {
        events.push(event.clone());
    });
    let report = report.unwrap();
    assert_eq!(events[0], Event::Resumed { step: 43 });
    assert_eq!(resumed.values(), whole.values());
    assert_eq!(format!("{report:?}"), format!("{told:?}"));

    // Once more from the finished run: nothing to do, the same weights.
    let again = Line::new();
    train(&again, &sampler(), options, Some(&checkpoints), &NeverInterrupt, &mut |_| {}).unwrap();
    assert_eq!(again.values(), whole.values());
}

/// The mean by its definition over the weights of an equal run without one.
#[test]
fn the_mean_of_the_weights_is_kept() {
    let options = Options { steps: 30, evaluate_every: 30, ..options() };
    let floats = |line: &Line| line.values().into_iter().map(f32::from_bits).collect::<Vec<_>>();
    let line = Line::new();
    let mut mean = floats(&line);
    train(&line, &sampler(), &options, None, &NeverInterrupt, &mut |event| {
        if let Event::Step { step, .. } = event {
            let step = *step as f32;
            let decay = ((1.0 + step) / (10.0 + step)).min(0.6);
            let values = floats(&line);
            mean.iter_mut()
                .zip(values)
                .for_each(|(mean, value)| *mean = *mean * decay + value * (1.0 - decay));
        }
    })
    .unwrap();
    let averaged = Line::new();
    let options = Options { average: Some(0.6), ..options };
    train(&averaged, &sampler(), &options, None, &NeverInterrupt, &mut |_| {}).unwrap();
    let kept = floats(&averaged);
    assert!(kept.iter().zip(&mean).all(|(kept, mean)| (kept - mean).abs() < 1e-5), "{kept:?} {mean:?}");
    assert!(kept.iter().zip(floats(&line)).any(|(kept, last)| (kept - last).abs() > 1e-3));
}

#[test]
fn a_checkpoint_of_another_run_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let checkpoints = Checkpoints::new(folder.path(), 10);
    train(&Line::new(), &sampler(), &options(), Some(&checkpoints), &NeverInterrupt, &mut |_| {}).unwrap();
    let other = Options { seed: 12, ..options() };
    let error = train(&Line::new(), &sampler(), &other, Some(&checkpoints), &NeverInterrupt, &mut |_| {});
    assert!(error.unwrap_err().to_string().contains("options have changed"));
    std::fs::write(checkpoints.path(), b"damaged").unwrap();
    let error = train(&Line::new(), &sampler(), &options(), Some(&checkpoints), &NeverInterrupt, &mut |_| {});
    assert!(error.unwrap_err().to_string().contains("cannot be read"));
}

#[test]
fn patience_ends_a_run_with_its_best_weights() {
    let line = Line::new();
    let options = Options {
        steps: 5000,
        evaluate_every: 5,
        patience: Some(3),
        optimiser: AdamWOptions { learning_rate: 0.3, ..AdamWOptions::default() },
        schedule: Schedule::Constant,
        ..options()
    };
    let report = train(&line, &sampler(), &options, None, &NeverInterrupt, &mut |_| {}).unwrap();
    assert!(report.stopped_early && report.steps < 5000);
    assert_eq!(report.best_step + 3 * 5, report.steps);
    assert_eq!(line.validate(&NeverInterrupt).unwrap().loss, report.best_loss);
}

#[test]
fn a_loss_that_is_no_number_ends_the_run_with_its_step() {
    let line = Line { fail_at: Some(Cell::new(9)), ..Line::new() };
    let error = train(&line, &sampler(), &options(), None, &NeverInterrupt, &mut |_| {}).unwrap_err();
    // Two passes a step: the tenth pass belongs to the fifth step.
    assert_eq!(error.to_string(), "training diverged at step 5: the loss is not finite");
}

/// Without dropout, whose masks differ from pass to pass; the first gradients are clipped, the last are not.
#[test]
fn accumulating_two_passes_is_one_pass_of_both() {
    let run = |batch: usize, accumulate: usize| {
        let line = Line { dropout: 0.0, ..Line::new() };
        let options = Options { batch, accumulate, ..options() };
        let mut steps = Vec::new();
        train(&line, &sampler(), &options, None, &NeverInterrupt, &mut |event| {
            if let Event::Step { loss, norm, .. } = event {
                steps.push([*loss, *norm]);
            }
        })
        .unwrap();
        let weights =
            line.values().into_iter().map(|bits| f64::from(f32::from_bits(bits))).collect::<Vec<_>>();
        (steps, weights)
    };
    let ((accumulated, weights), (whole, expected)) = (run(8, 2), run(16, 1));
    assert_eq!(accumulated.len(), 60);
    assert!(whole[0][1] > 1.0 && whole[59][1] < 1.0, "the gradient is clipped at a norm of 1: {whole:?}");
    let same = |got: &f64, expected: &f64| (got - expected).abs() < 1e-4;
    for (got, expected) in accumulated.as_flattened().iter().zip(whole.as_flattened()) {
        assert!(same(got, expected), "{got} {expected}");
    }
    assert!(
        weights.iter().zip(&expected).all(|(got, expected)| same(got, expected)),
        "{weights:?} {expected:?}"
    );
}

fn draft(value: f32) -> Draft {
    let manifest = Manifest {
        name: "line".into(),
        family: "line".into(),
        train_cutoff: Some("2023-03-01".into()),
        licence: "Apache-2.0".into(),
        data: DataNote::default(),
        seed: 1,
        command: "train".into(),
        options: Default::default(),
        files: Default::default(),
    };
    let weights = artifact::safetensors(&[("w".into(), vec![1], vec![value])]).unwrap();
    Draft {
        manifest,
        weights: "model.safetensors".into(),
        files: vec![("model.safetensors".into(), weights), ("config.json".into(), b"{}".to_vec())],
        metrics: serde_json::json!({"mae": 0.5}),
    }
}

#[test]
fn artifacts_appear_whole_and_pointers_follow() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let first = draft(1.0).write(root).unwrap();
    let second = draft(2.0).write(root).unwrap();
    assert_eq!(draft(1.0).write(root).unwrap(), first);
    assert_eq!(first.digest, first.sha256[..12]);
    assert_eq!(artifact::pointed(root, "line", artifact::LATEST).unwrap(), Some(first.directory.clone()));
    assert_eq!(artifact::pointed(root, "line", artifact::PROMOTED).unwrap(), None);
    artifact::promote(root, "line", &second.digest).unwrap();
    assert_eq!(artifact::pointed(root, "line", artifact::PROMOTED).unwrap(), Some(second.directory.clone()));
    let manifest = artifact::open(&first.directory).unwrap().unwrap();
    assert_eq!(manifest.files.len(), 4);
    assert_eq!(manifest.train_cutoff.as_deref(), Some("2023-03-01"));
    let left: Vec<String> = std::fs::read_dir(root.join("line"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.contains("partial"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn artifacts_that_were_touched_or_are_too_new_are_refused_and_foreign_ones_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let written = draft(1.0).write(folder.path()).unwrap();
    let path = |name: &str| written.directory.join(name);
    let version = std::fs::read_to_string(path("VERSION")).unwrap();

    std::fs::write(path("config.json"), b"{ }").unwrap();
    let error = artifact::open(&written.directory).unwrap_err();
    assert!(matches!(error, TrainError::Model(ModelError::ChecksumMismatch { .. })), "{error}");
    assert!(artifact::promote(folder.path(), "line", &written.digest).is_err());

    std::fs::write(path("VERSION"), version.replace("artifact 1", "artifact 2")).unwrap();
    let error = artifact::open(&written.directory).unwrap_err().to_string();
    assert!(error.contains("format is 2, this version reads formats up to 1"), "{error}");

    std::fs::remove_file(path("VERSION")).unwrap();
    assert_eq!(artifact::open(&written.directory).unwrap(), None);

    for name in ["", "..", "a/b", ".hidden"] {
        assert!(artifact::promote(folder.path(), name, "x").is_err(), "{name}");
    }
    let mut outside = draft(1.0);
    outside.files.push(("../escaped".into(), Vec::new()));
    assert!(outside.write(folder.path()).is_err());
}
