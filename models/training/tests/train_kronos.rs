//! Training of both halves of Kronos: losses and gradients of the reference, and that trained weights are what inference
//! reads.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // Also in what the tests share, which clippy does not take for a test.

use candle_core::{DType, Device, IndexOp, Tensor};
use kronos_models::artifact::{read_config, read_tensors};
use kronos_models::bars::Stamp;
use kronos_models::interrupt::NeverInterrupt;
use kronos_models::kronos::predictor::Predictor;
use kronos_models::kronos::tokenizer::{Token, Tokenizer};
use kronos_models::simulate::{Market, Simulation, Slot};
use kronos_training::AdamWOptions;
use kronos_training::kronos::{
    BarSource, BarSources, BatchShape, Condition, ForecastRule, PredictorBatch, PredictorTask,
    PredictorTraining, TokenizerTask, TokenizerTraining, TrainablePredictor, TrainableTokenizer, WindowRule,
    normalise_window,
};
use kronos_training::layers::Parameters;
use kronos_training::optimiser::{AdamW, global_norm};
use kronos_training::{
    Checkpoints, Event, Noise, Options, Panel, PanelSeries, Parameter, Pick, Split, SplitRule, Trainable,
    Window, train,
};
use serde_json::Value;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

fn fixture(set: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/kronos").join(set)
}

fn tokenizer(set: &str) -> TrainableTokenizer {
    let path = fixture(set).join("tokenizer");
    let config: TokenizerTraining = read_config(&path.join("config.json")).unwrap();
    let specs = config.config.tensors().unwrap();
    let tensors = read_tensors(&path.join("model.safetensors"), &specs, &Device::Cpu).unwrap();
    TrainableTokenizer::from_tensors(&config, &tensors, &Device::Cpu).unwrap()
}

fn predictor(set: &str) -> TrainablePredictor {
    let path = fixture(set).join("predictor");
    let config: PredictorTraining = read_config(&path.join("config.json")).unwrap();
    let specs = config.config.tensors().unwrap();
    let tensors = read_tensors(&path.join("model.safetensors"), &specs, &Device::Cpu).unwrap();
    TrainablePredictor::from_tensors(&config, &tensors, &Device::Cpu).unwrap()
}

fn stages(set: &str) -> HashMap<String, Tensor> {
    candle_core::safetensors::load(fixture(set).join("stages.safetensors"), &Device::Cpu).unwrap()
}

/// The bars of the stages, row by row, and their shape.
fn bars(stages: &HashMap<String, Tensor>) -> (Tensor, BatchShape) {
    let x = &stages["in.x"];
    let (windows, length, channels) = x.dims3().unwrap();
    (x.reshape((windows * length, channels)).unwrap(), BatchShape { windows, length })
}

fn batch(stages: &HashMap<String, Tensor>) -> PredictorBatch {
    let integers = |name: &str| stages[name].flatten_all().unwrap().to_vec1::<i64>().unwrap();
    let tokens: Vec<Token> = integers("tok.s1")
        .into_iter()
        .zip(integers("tok.s2"))
        .map(|(s1, s2)| Token { s1: s1 as u16, s2: s2 as u16 })
        .collect();
    let (windows, length, _) = stages["in.x"].dims3().unwrap();
    let fields = stages["in.stamp"].i((.., ..length - 1, ..)).unwrap().flatten_all().unwrap();
    let stamps = fields.to_vec1::<i64>().unwrap();
    let stamps = stamps.chunks_exact(5).map(|f| Stamp {
        minute: f[0] as u8,
        hour: f[1] as u8,
        weekday: f[2] as u8,
        day: f[3] as u8,
        month: f[4] as u8,
    });
    PredictorBatch {
        shape: BatchShape { windows, length: length - 1 },
        tokens,
        stamps: stamps.collect(),
        weights: vec![1.0; windows * (length - 1)],
    }
}

fn losses(set: &str) -> Value {
    let text = std::fs::read_to_string(fixture(set).join("train_losses.json")).unwrap();
    serde_json::from_str::<Value>(&text).unwrap()["float32"].clone()
}

fn scalar(x: &Tensor) -> f64 {
    f64::from(x.to_dtype(DType::F32).unwrap().to_scalar::<f32>().unwrap())
}

fn close(name: &str, got: f64, expected: &Value, absolute: f64, relative: f64) {
    let expected = expected.as_f64().unwrap_or_else(|| panic!("no {name} in the golden file"));
    let bound = absolute + relative * expected.abs();
    assert!((got - expected).abs() <= bound, "{name}: {got} instead of {expected}");
}

/// The norm of each parameter's gradient, within the tolerance that the golden set recommends.
fn gradients(parameters: &Parameters, loss: &Tensor, expected: &Value) {
    let grads = loss.backward().unwrap();
    let expected = expected.as_object().unwrap();
    assert!(!expected.is_empty());
    for (name, norm) in expected {
        let grad =
            grads.get(parameters.get(name).unwrap()).unwrap_or_else(|| panic!("{name} has no gradient"));
        let got = scalar(&grad.sqr().unwrap().sum_all().unwrap()).sqrt();
        close(name, got, norm, 1e-6, 2e-4);
    }
}

#[test]
fn tokenizer_losses_and_gradients_are_the_reference_s() {
    let set = "tiny55";
    let tokenizer = tokenizer(set);
    let (x, shape) = bars(&stages(set));
    let loss = tokenizer.loss(&x, shape, None).unwrap();
    let expected = &losses(set)["tokenizer"];
    close("recon_loss_pre", scalar(&loss.coarse), &expected["recon_loss_pre"], 1e-5, 0.0);
    close("recon_loss_all", scalar(&loss.full), &expected["recon_loss_all"], 1e-5, 0.0);
    close("bsq_loss", scalar(&loss.quantiser), &expected["bsq_loss"], 1e-5, 0.0);
    close("loss", scalar(&loss.total), &expected["loss"], 1e-5, 0.0);
    gradients(tokenizer.parameters(), &loss.total, &expected["grad_l2"]);
}

#[test]
fn predictor_losses_and_gradients_are_the_reference_s() {
    for (set, of_stages) in [("tiny55", "tiny55"), ("fixedte55", "fixedte55")] {
        let predictor = predictor(set);
        let batch = batch(&stages(of_stages));
        let loss = predictor.loss(&batch, Condition::TrueRotated, None).unwrap();
        let expected = &losses(set)["predictor"];
        close("s1_loss", scalar(&loss.s1), &expected["s1_loss"], 1e-5, 0.0);
        close("s2_loss", scalar(&loss.s2), &expected["s2_loss"], 1e-5, 0.0);
        close("loss", scalar(&loss.total), &expected["loss"], 1e-5, 0.0);
        gradients(predictor.parameters(), &loss.total, &expected["grad_l2"]);
    }
}

/// What training computes is what inference computes from the same weights.
#[test]
fn the_networks_in_training_are_those_of_inference() {
    let (trainable, stages) = (tokenizer("tiny55"), stages("tiny55"));
    let (x, shape) = bars(&stages);
    let trained = trainable.forward(&x, shape, None).unwrap();
    let inference = Tokenizer::new(&trainable.config().config, &trainable.parameters().tensors()).unwrap();
    let rows = x.to_vec2::<f32>().unwrap();
    let rows: Vec<[f32; 6]> = rows.iter().map(|row| std::array::from_fn(|c| row[c])).collect();
    for window in 0..shape.windows {
        let part = window * shape.length..(window + 1) * shape.length;
        let tokens = inference.encode(&rows[part.clone()], &NeverInterrupt).unwrap();
        let decoded = inference.decode_window(&tokens, &NeverInterrupt).unwrap();
        let expected = trained.full.i(part).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
        for (a, b) in decoded.iter().zip(expected) {
            assert!((a - b).abs() < 1e-5, "{a} {b}");
        }
    }

    let trainable = predictor("tiny55");
    let batch = batch(&stages);
    let inference = Predictor::new(&trainable.config().config, &trainable.parameters().tensors()).unwrap();
    let hidden = trainable.hidden(&batch, None).unwrap();
    let s1_logits = trainable.s1_logits(&hidden).unwrap();
    let length = batch.shape.length;
    let given: Vec<u32> = (0..batch.shape.rows() as u32).map(|row| row % 32).collect();
    let s2_logits = trainable.s2_logits(&hidden, given.clone(), batch.shape, false).unwrap();
    for window in 0..batch.shape.windows {
        let tokens = &batch.tokens[window * (length + 1)..][..length];
        let stamps = &batch.stamps[window * length..][..length];
        let mut state = inference.sequence();
        let mut worst = 0f32;
        for step in 0..length {
            let row = window * length + step;
            let hidden = inference
                .hidden(&tokens[step..=step], &stamps[step..=step], &mut [&mut state], &[1], &NeverInterrupt)
                .unwrap();
            let s1 = inference.s1_logits(&hidden).unwrap();
            let s2 = inference.s2_logits(&hidden, &[given[row] as u16], &[state.dependency()]).unwrap();
            for (got, expected) in [(s1, &s1_logits), (s2, &s2_logits)] {
                let difference = (got.i(0).unwrap() - expected.i(row).unwrap()).unwrap();
                worst = worst.max(difference.abs().unwrap().max_all().unwrap().to_scalar().unwrap());
            }
        }
        assert!(worst < 1e-5 * 5.0, "window {window}: {worst:e}");
    }
}

fn steps(parameters: &Parameters, count: u32, rate: f64, loss: impl Fn(u32) -> Tensor) {
    let parameters: Vec<Parameter> =
        parameters.variables().iter().map(|(name, var)| Parameter::new(name.clone(), var.clone())).collect();
    let options = AdamWOptions { weight_decay: 0.0, ..AdamWOptions::default() };
    let mut adam = AdamW::new(options, &parameters).unwrap();
    for step in 0..count {
        let mut grads = loss(step).backward().unwrap();
        let grads: Vec<_> = parameters.iter().map(|parameter| grads.remove(&parameter.var)).collect();
        let clip = (1.0 / global_norm(&grads).unwrap()).min(1.0);
        adam.step(&parameters, &grads, rate * (1.0 - f64::from(step) / f64::from(count)), clip).unwrap();
    }
}

/// One small batch is learnt by heart, by either half.
#[test]
fn both_halves_overfit_one_batch() {
    let stages = stages("tiny55");
    let (x, shape) = bars(&stages);
    let x = x.narrow(0, 0, 12).unwrap().contiguous().unwrap();
    let shape = BatchShape { windows: 1, length: shape.rows().min(12) };
    let config = tokenizer("tiny55").config().clone();
    let network = TrainableTokenizer::initialise(&config, 3, &Device::Cpu).unwrap();
    let first = scalar(&network.loss(&x, shape, None).unwrap().full);
    steps(network.parameters(), 1200, 5e-3, |_| network.loss(&x, shape, None).unwrap().total);
    let last = scalar(&network.loss(&x, shape, None).unwrap().full);
    assert!(last < 0.01 * first, "tokenizer from {first} to {last}");

    let batch = batch(&stages);
    let network = TrainablePredictor::initialise(predictor("tiny55").config(), 3, &Device::Cpu).unwrap();
    steps(network.parameters(), 250, 5e-3, |_| network.loss(&batch, Condition::True, None).unwrap().total);
    let last = network.loss(&batch, Condition::True, None).unwrap();
    assert!(scalar(&last.s1) < 0.02 && scalar(&last.s2) < 0.02, "{} {}", scalar(&last.s1), scalar(&last.s2));
}

/// A drawn condition is a function of the key, and dropout of it too.
#[test]
fn draws_and_dropout_follow_their_key() {
    let mut config = predictor("tiny55").config().clone();
    config.resid_dropout_p = 0.2;
    config.attn_dropout_p = 0.1;
    config.token_dropout_p = 0.1;
    let network = TrainablePredictor::initialise(&config, 3, &Device::Cpu).unwrap();
    let batch = batch(&stages("tiny55"));
    let loss = |key| scalar(&network.loss(&batch, Condition::Sampled, key).unwrap().total).to_bits();
    assert_eq!(loss(Some(1)), loss(Some(1)));
    assert_ne!(loss(Some(1)), loss(Some(2)));
    assert_ne!(loss(Some(1)), loss(None));
}

/// A market of two simulated symbols, with its windows.
fn sources(rule: &WindowRule, change_after: Option<usize>) -> BarSources {
    let slots = vec![Slot { closed: 0.0, position: None }; 400];
    let simulation = Simulation::new(Market::default(), &slots, 8766.0, 5).unwrap();
    let mut panel = Panel {
        columns: ["open", "high", "low", "close", "volume", "amount"].map(String::from).to_vec(),
        series: Vec::new(),
    };
    for name in ["A", "B"] {
        let bars = simulation.bars(name);
        let mut values: Vec<Vec<f64>> = (0..6).map(|c| bars.iter().map(|bar| bar[c]).collect()).collect();
        if let Some(row) = change_after {
            values.iter_mut().for_each(|values| values[row..].iter_mut().for_each(|v| *v = *v * 7.0 + 1.0));
        }
        let times = (0..400).map(|hour| hour * 3_600_000_000).collect();
        panel.series.push(PanelSeries { name: name.into(), times, values });
    }
    let stamp = |row: usize| Stamp { minute: 0, hour: (row % 24) as u8, weekday: 2, day: 1, month: 1 };
    let stamps = vec![(0..400).map(stamp).collect(); 2];
    let split = Split::new(&panel, &SplitRule::intraday(rule.bars - rule.least_context)).unwrap();
    let source = BarSource::new("sim", 1.0, panel, stamps, &split, rule, 2).unwrap();
    BarSources::new(vec![source], rule.clone())
}

fn rule() -> WindowRule {
    WindowRule { bars: 40, least_context: 24, most_context: 30, weight_before_cut: 0.1, without_volume: 0.0 }
}

/// Statistics are those of the context: whatever comes after the cut, what is before it is bitwise the same.
#[test]
fn nothing_after_the_cut_changes_a_bar_before_it() {
    let window = Window { series: 1, cut: 200 };
    let cut = |sources: &BarSources| sources.sources()[0].window(window, 28, 40);
    let (before, after) = (cut(&sources(&rule(), None)), cut(&sources(&rule(), Some(200))));
    let bits = |rows: &[[f32; 6]]| rows.iter().flatten().map(|v| v.to_bits()).collect::<Vec<_>>();
    let (a, b) = (normalise_window(&before), normalise_window(&after));
    assert_eq!(bits(&a[..28]), bits(&b[..28]));
    assert_ne!(bits(&a[28..]), bits(&b[28..]));
}

/// Of 40 bars 28 are before the cut: the first 27 predictions are of bars that the statistics know.
#[test]
fn what_the_statistics_know_of_counts_as_little_as_was_asked_for() {
    let rule = WindowRule { least_context: 28, most_context: 28, ..rule() };
    let data = sources(&rule, None);
    let pair = tokenizer("tiny55");
    let pair = (pair.config().config.clone(), pair.parameters().tensors());
    let tokenizer = Tokenizer::new(&pair.0, &pair.1).unwrap();
    let forecasts = ForecastRule { horizon: 1, paths: 2, temperature: 1.0 };
    let network = predictor("tiny55");
    let task = PredictorTask::new(network.clone(), pair, Condition::True, forecasts, &data).unwrap();
    let window = data.sources()[0].window(data.sources()[0].train[5], 28, 40);
    let batch = |before: f32| PredictorBatch {
        shape: BatchShape { windows: 1, length: 39 },
        tokens: tokenizer.encode(&normalise_window(&window), &NeverInterrupt).unwrap(),
        stamps: window.stamps[..39].to_vec(),
        weights: [vec![before; 27], vec![1.0; 12]].concat(),
    };
    let expected = |before| scalar(&network.loss(&batch(before), Condition::True, None).unwrap().total);
    let got = scalar(&task.loss(&[Pick { source: 0, window: 5, draw: 0 }], Noise::none()).unwrap());
    assert_eq!(got, expected(0.1));
    assert!((got - expected(1.0)).abs() > 0.01, "the weights matter here");
}

/// A run that is stopped and goes on ends with the bits of one that was not.
#[test]
fn a_resumed_training_is_the_uninterrupted_one() {
    let data = sources(&rule(), None);
    let mut config = tokenizer("tiny55").config().clone();
    config.resid_dropout_p = 0.1;
    let options = Options { steps: 6, batch: 3, evaluate_every: 2, seed: 9, ..Options::default() };
    let sampler = data.sampler(9).unwrap();
    let run = |folder: &Path, stop_after: Option<u64>| -> Vec<u32> {
        let network = TrainableTokenizer::initialise(&config, 1, &Device::Cpu).unwrap();
        let task = TokenizerTask::new(network, &data, [1.0; 6], &Device::Cpu);
        let stop = AtomicBool::new(false);
        let checkpoints = Checkpoints::new(folder, 100);
        let result = train(&task, &sampler, &options, Some(&checkpoints), &stop, &mut |event| {
            if let Event::Step { step, .. } = event {
                stop.store(Some(*step) == stop_after, Ordering::Relaxed);
            }
        });
        assert_eq!(result.is_err(), stop_after.is_some());
        let tensors = task.network().parameters().variables().values();
        tensors
            .flat_map(|var| var.flatten_all().unwrap().to_vec1::<f32>().unwrap())
            .map(f32::to_bits)
            .collect()
    };
    let (whole, parts) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let expected = run(whole.path(), None);
    let interrupted = run(parts.path(), Some(3));
    assert_ne!(interrupted, expected);
    assert_eq!(run(parts.path(), None), expected);
}
