//! Training of Chronos-2: the reference's losses, gradients and optimiser steps, and that trained weights are what
//! inference reads.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // Also in what the tests share, which clippy does not take for a test.

use candle_core::{DType, Device, Tensor};
use kronos_models::artifact::{read_config, read_tensors};
use kronos_models::chronos2::network::Network;
use kronos_models::chronos2::normalise::Scaling;
use kronos_models::chronos2::{Group, Variate};
use kronos_models::interrupt::NeverInterrupt;
use kronos_models::layers::packed::Packed;
use kronos_training::AdamWOptions;
use kronos_training::chronos2::{Chronos2Training, Example, ExampleRule, TrainableChronos2, example};
use kronos_training::optimiser::{AdamW, global_norm};
use kronos_training::{Panel, PanelSeries, Parameter, Window};
use serde_json::Value;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/chronos2")
}

fn model(name: &str) -> TrainableChronos2 {
    let path = fixtures().join("models").join(name);
    let config: Chronos2Training = read_config(&path.join("config.json")).unwrap();
    let specs = config.config.tensors().unwrap();
    let tensors = read_tensors(&path.join("model.safetensors"), &specs, &Device::Cpu).unwrap();
    TrainableChronos2::from_tensors(&config, &tensors, &Device::Cpu).unwrap()
}

fn scalar(x: &Tensor) -> f64 {
    f64::from(x.to_dtype(DType::F32).unwrap().to_scalar::<f32>().unwrap())
}

/// The examples of one step of the reference: rows of equal group are one example.
fn examples(file: &HashMap<String, Tensor>, step: usize, arcsinh: bool) -> Vec<Example> {
    let rows = |name: &str| file[&format!("step{step}.{name}")].to_vec2::<f32>().unwrap();
    let ids = file[&format!("step{step}.group_ids")].to_vec1::<i64>().unwrap();
    let (contexts, targets, covariates) = (rows("context"), rows("future_target"), rows("future_covariates"));
    let mut examples: Vec<(i64, Example)> = Vec::new();
    for (row, &id) in ids.iter().enumerate() {
        let history: Vec<f64> = contexts[row].iter().map(|&v| f64::from(v)).collect();
        let scaling = Scaling::of(&history, arcsinh);
        let apply =
            |values: &[f32]| -> Vec<f32> { values.iter().map(|&v| scaling.apply(f64::from(v))).collect() };
        let variate =
            Variate { context: apply(&contexts[row]), future: apply(&covariates[row]), wanted: true };
        let actual = apply(&targets[row]);
        match examples.last_mut().filter(|(last, _)| *last == id) {
            Some((_, example)) => {
                example.group.push(variate);
                example.actual.push(actual);
                example.weight.push(1.0);
            }
            None => {
                examples.push((id, Example { group: vec![variate], actual: vec![actual], weight: vec![1.0] }))
            }
        }
    }
    examples.into_iter().map(|(_, example)| example).collect()
}

/// Four steps of the reference's trainer: every loss and gradient norm on the way, and each first gradient.
#[test]
fn losses_gradients_and_steps_are_the_reference_s() {
    let network = model("tiny-a");
    let file = candle_core::safetensors::load(fixtures().join("tiny-a.train_full.safetensors"), &Device::Cpu)
        .unwrap();
    let text = std::fs::read_to_string(fixtures().join("tiny-a.train_full.json")).unwrap();
    let golden: Value = serde_json::from_str(&text).unwrap();
    let patches = golden["num_output_patches"].as_u64().unwrap() as usize;
    let variables = network.parameters().variables();
    let parameters: Vec<Parameter> =
        variables.iter().map(|(name, var)| Parameter::new(name.clone(), var.clone())).collect();
    let options = AdamWOptions { learning_rate: 1e-3, weight_decay: 0.0, ..AdamWOptions::default() };
    let mut adam = AdamW::new(options, &parameters).unwrap();
    for (step, log) in golden["log"].as_array().unwrap().iter().enumerate() {
        let examples = examples(&file, step, network.config().config.chronos_config.use_arcsinh);
        let loss = network.loss(&examples, patches, None).unwrap();
        let expected = log["loss"].as_f64().unwrap();
        assert!((scalar(&loss) / expected - 1.0).abs() < 1e-4, "step {step}: {} {expected}", scalar(&loss));
        let mut grads = loss.backward().unwrap();
        let grads: Vec<_> = parameters.iter().map(|parameter| grads.remove(&parameter.var)).collect();
        if step == 0 {
            let norms = golden["grad0_l2"].as_object().unwrap();
            assert!(norms.len() > 40);
            for (parameter, grad) in parameters.iter().zip(&grads) {
                let Some(expected) = norms.get(&parameter.name).and_then(Value::as_f64) else { continue };
                let got = grad.as_ref().map_or(0.0, |grad| global_norm(&[Some(grad.clone())]).unwrap());
                let bound = 1e-6 + 1e-3 * expected;
                assert!((got - expected).abs() < bound, "{}: {got} {expected}", parameter.name);
            }
        }
        let norm = global_norm(&grads).unwrap();
        let expected = log["grad_norm"].as_f64().unwrap();
        assert!((norm / expected - 1.0).abs() < 1e-4, "step {step}: norm {norm} {expected}");
        adam.step(&parameters, &grads, log["learning_rate"].as_f64().unwrap(), (1.0 / norm).min(1.0))
            .unwrap();
    }
}

/// What training computes is what inference computes from the same weights, with gaps, groups and known futures.
#[test]
fn the_network_in_training_is_that_of_inference() {
    for name in ["tiny-a", "tiny-b", "tiny-c"] {
        let trainable = model(name);
        let size = trainable.config().config.patch();
        let inference =
            Network::load(&Packed, &trainable.config().config, &trainable.parameters().tensors()).unwrap();
        let wave = |length: usize, phase: f32| -> Vec<f32> {
            (0..length).map(|i| if i % 11 == 3 { f32::NAN } else { (i as f32 * 0.7 + phase).sin() }).collect()
        };
        let variate = |context, future| Variate { context, future, wanted: true };
        let groups: Vec<Group> = vec![
            vec![variate(wave(3 * size + 1, 0.0), vec![])],
            vec![variate(wave(5 * size, 1.0), vec![]), variate(wave(2 * size, 2.0), wave(size + 1, 3.0))],
            vec![variate(vec![f32::NAN; size], vec![])],
        ];
        let expected = inference.forward(&groups, 2, &NeverInterrupt).unwrap();
        let trained = trainable.forward(&groups, 2, None).unwrap();
        // [variates, patches, levels, patch] against [level][step] per variate.
        let trained = trained.transpose(1, 2).unwrap().flatten_from(1).unwrap().to_vec2::<f32>().unwrap();
        for (a, b) in trained.iter().zip(&expected) {
            assert_eq!(a.len(), b.len());
            let worst = a.iter().zip(b).map(|(a, b)| (a - b).abs() / (1.0 + b.abs())).fold(0.0, f32::max);
            assert!(worst < 1e-5, "{name}: {worst:e}");
        }
    }
}

fn panel() -> Panel {
    let column = |phase: f64| (0..400).map(|i| 100.0 + (f64::from(i) * 0.13 + phase).sin() * 5.0).collect();
    let values = (0..6).map(|c| column(f64::from(c))).collect();
    let columns = ["open", "high", "low", "close", "volume", "amount"].map(String::from).to_vec();
    Panel { columns, series: vec![PanelSeries { name: "a".into(), times: (0..400).collect(), values }] }
}

fn rule() -> ExampleRule {
    ExampleRule {
        context: 96,
        least_context: 16,
        horizon: 24,
        targets: vec![3],
        grouped: vec![0, 1, 2, 3, 4],
        groups: 0.5,
        gaps: 0.3,
        per_move: false,
    }
}

/// A value after the cut is in the histories of no example, whatever its columns, length and gaps; the known futures of
/// covariates are all it may change.
#[test]
fn nothing_after_the_cut_changes_a_history() {
    let before = panel();
    let mut after = panel();
    after.series[0]
        .values
        .iter_mut()
        .for_each(|values| values[250..].iter_mut().for_each(|v| *v = *v * 3.0 + 1.0));
    let window = Window { series: 0, cut: 250 };
    let (mut known, mut groups) = (0, 0);
    for draw in 0..300 {
        let of = |panel| example(&rule(), panel, window, draw, 24, true);
        let (a, b) = (of(&before), of(&after));
        groups += usize::from(a.group.len() > 1);
        for (a, b) in a.group.iter().zip(&b.group) {
            let bits = |values: &[f32]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
            assert_eq!(bits(&a.context), bits(&b.context));
            known += usize::from(!a.future.is_empty());
        }
        assert_ne!(a.actual, b.actual);
    }
    assert!(groups > 100 && known > 50, "{groups} groups, {known} known futures");
}

/// One small batch is learnt by heart.
#[test]
fn overfits_one_batch() {
    let mut config = model("tiny-b").config().clone();
    config.initializer_factor = 1.0;
    config.dropout_rate = 0.0;
    let network = TrainableChronos2::initialise(&config, 7, &Device::Cpu).unwrap();
    let panel = panel();
    let of = |draw: u64| {
        let window = Window { series: 0, cut: 150 + 31 * draw as u32 };
        example(&rule(), &panel, window, draw, 2 * config.config.patch(), true)
    };
    let examples: Vec<Example> = (0..4).map(of).collect();
    let variables = network.parameters().variables();
    let parameters: Vec<Parameter> =
        variables.iter().map(|(name, var)| Parameter::new(name.clone(), var.clone())).collect();
    let options = AdamWOptions { weight_decay: 0.0, ..AdamWOptions::default() };
    let mut adam = AdamW::new(options, &parameters).unwrap();
    let first = scalar(&network.loss(&examples, 2, None).unwrap());
    for step in 0..600 {
        let mut grads = network.loss(&examples, 2, None).unwrap().backward().unwrap();
        let grads: Vec<_> = parameters.iter().map(|parameter| grads.remove(&parameter.var)).collect();
        let clip = (1.0 / global_norm(&grads).unwrap()).min(1.0);
        adam.step(&parameters, &grads, 5e-3 * (1.0 - f64::from(step) / 600.0), clip).unwrap();
    }
    let last = scalar(&network.loss(&examples, 2, None).unwrap());
    assert!(last < 0.03 * first, "from {first} to {last}");
}

/// The same moves count alike however far the series has gone before: the weight makes up for the deviation.
#[test]
fn losses_count_in_moves() {
    let weighed = |jump: f64| {
        let values: Vec<f64> = (0..96)
            .map(|row| if row < 40 { 0.0 } else { jump } + if row % 2 == 0 { 1.0 } else { -1.0 })
            .collect();
        let mean = values.iter().sum::<f64>() / 96.0;
        let deviation = (values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / 96.0).sqrt();
        let mut panel = panel();
        panel.series[0].times.truncate(120);
        panel.series[0].values = vec![[values, vec![0.0; 24]].concat(); 6];
        let rule = ExampleRule { least_context: 96, groups: 0.0, gaps: 0.0, per_move: true, ..rule() };
        let made = example(&rule, &panel, Window { series: 0, cut: 96 }, 1, 24, false);
        assert_eq!(made.weight.len(), 1);
        f64::from(made.weight[0]) / deviation
    };
    for jump in [20.0, 40.0, 80.0] {
        assert!((weighed(jump) / weighed(30.0) - 1.0).abs() < 1e-5, "{jump}");
    }
}
