//! Training of both halves of Kronos: losses and gradients of the reference, and that trained weights are what inference
//! reads.

use candle_core::{DType, Device, IndexOp, Tensor};
use kronos_models::artifact::{read_config, read_tensors};
use kronos_models::bars::Stamp;
use kronos_models::interrupt::NeverInterrupt;
use kronos_models::kronos::predictor::Predictor;
use kronos_models::kronos::tokenizer::{Token, Tokenizer};
use kronos_models::kronos::training::{
    BatchShape, Condition, PredictorBatch, PredictorTraining, TokenizerTraining, TrainablePredictor,
    TrainableTokenizer,
};
use kronos_models::layers::differentiable::Parameters;
use serde_json::Value;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

fn fixture(set: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/kronos").join(set)
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
        let (_, decoded) = inference.decode_context(&tokens, &NeverInterrupt).unwrap();
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
