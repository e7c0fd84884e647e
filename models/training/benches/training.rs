//! Training steps of the default models' shapes, in windows per second of processor time.
//!
//! `training_torch.py` beside this file measures the same networks in PyTorch; both print the same lines, so that they can be
//! run in turns on one machine. Processor time, because a machine that trains has other work too.

#![allow(clippy::expect_used)]

use candle_core::{Device, Tensor};
use kronos_models::bars::Stamp;
use kronos_models::chronos2::Variate;
use kronos_models::chronos2::config::{ChronosConfig, Config};
use kronos_models::kronos::config::{PredictorConfig, TokenizerConfig};
use kronos_models::kronos::tokenizer::Token;
use kronos_models::random::Stream;
use kronos_training::AdamWOptions;
use kronos_training::Parameter;
use kronos_training::chronos2::{Chronos2Training, Example, TrainableChronos2};
use kronos_training::kronos::{
    BatchShape, Condition, PredictorBatch, PredictorTraining, TokenizerTraining, TrainablePredictor,
    TrainableTokenizer,
};
use kronos_training::layers::Parameters;
use kronos_training::optimiser::{AdamW, global_norm};

/// Seconds of processor time of this process, of all its threads.
fn processor_seconds() -> f64 {
    let text = std::fs::read_to_string("/proc/self/stat").expect("Linux tells processor times");
    // Fields 14 and 15, counted after the name in parentheses, in hundredths of a second.
    let fields: Vec<&str> = text[text.rfind(')').expect("a name") + 2..].split(' ').collect();
    (fields[11].parse::<f64>().expect("a number") + fields[12].parse::<f64>().expect("a number")) / 100.0
}

fn measure(name: &str, windows: usize, parameters: &Parameters, loss: impl Fn() -> Tensor) {
    let variables = parameters.variables();
    let parameters: Vec<Parameter> =
        variables.iter().map(|(name, var)| Parameter::new(name.clone(), var.clone())).collect();
    let mut adam = AdamW::new(AdamWOptions::default(), &parameters).expect("valid options");
    let mut step = || {
        let mut grads = loss().backward().expect("a gradient");
        let grads: Vec<_> = parameters.iter().map(|parameter| grads.remove(&parameter.var)).collect();
        let norm = global_norm(&grads).expect("a norm");
        adam.step(&parameters, &grads, 1e-4, (1.0 / norm).min(1.0)).expect("a step");
    };
    (0..3).for_each(|_| step());
    let start = processor_seconds();
    let mut steps = 0;
    while processor_seconds() - start < 5.0 {
        step();
        steps += 1;
    }
    let seconds = processor_seconds() - start;
    println!("{name}: {:.1} windows per second of processor time", (steps * windows) as f64 / seconds);
}

fn uniform(index: usize) -> f64 {
    Stream::from_key(1).uniform(index as u32, 0, 0)
}

fn main() {
    let device = Device::Cpu;
    let tokenizer = TokenizerTraining {
        config: TokenizerConfig {
            d_in: 6,
            d_model: 64,
            n_heads: 4,
            ff_dim: 128,
            n_enc_layers: 3,
            n_dec_layers: 3,
            s1_bits: 8,
            s2_bits: 8,
        },
        beta: 0.05,
        gamma0: 1.0,
        gamma: 1.1,
        zeta: 0.05,
        group_size: 4,
        attn_dropout_p: 0.0,
        ffn_dropout_p: 0.0,
        resid_dropout_p: 0.0,
    };
    let network = TrainableTokenizer::initialise(&tokenizer, 1, &device).expect("a tokenizer");
    let shape = BatchShape { windows: 24, length: 144 };
    let x: Vec<f32> = (0..shape.rows() * 6).map(|i| (uniform(i) * 4.0 - 2.0) as f32).collect();
    let x = Tensor::from_vec(x, (shape.rows(), 6), &device).expect("a batch");
    measure("tokenizer", shape.windows, network.parameters(), || {
        network.loss(&x, shape, None).expect("a loss").total
    });

    for (name, d_model, ff_dim, n_layers) in [("predictor", 96, 192, 3), ("predictor of 256", 256, 512, 4)] {
        let config = PredictorTraining {
            config: PredictorConfig {
                d_model,
                n_heads: 4,
                ff_dim,
                n_layers,
                s1_bits: 8,
                s2_bits: 8,
                learn_te: true,
            },
            attn_dropout_p: 0.0,
            ffn_dropout_p: 0.0,
            resid_dropout_p: 0.0,
            token_dropout_p: 0.0,
        };
        let network = TrainablePredictor::initialise(&config, 1, &device).expect("a predictor");
        let shape = BatchShape { windows: 24, length: 143 };
        let token = |i: usize| Token { s1: (uniform(i) * 256.0) as u16, s2: (uniform(i + 7) * 256.0) as u16 };
        let batch = PredictorBatch {
            shape,
            tokens: (0..24 * 144).map(token).collect(),
            stamps: vec![Stamp { minute: 0, hour: 0, weekday: 1, day: 2, month: 3 }; shape.rows()],
            weights: vec![1.0; shape.rows()],
        };
        measure(name, shape.windows, network.parameters(), || {
            network.loss(&batch, Condition::True, None).expect("a loss").total
        });
    }

    let levels: Vec<f64> = (1..=21).map(|i| f64::from(i) / 22.0).collect();
    let config = Chronos2Training {
        config: Config {
            architectures: vec!["Chronos2Model".into()],
            model_type: None,
            d_model: 128,
            d_kv: 32,
            d_ff: 256,
            num_layers: 3,
            num_heads: 4,
            layer_norm_epsilon: 1e-6,
            feed_forward_proj: "relu".into(),
            rope_theta: 1e4,
            chronos_config: ChronosConfig {
                context_length: 256,
                input_patch_size: 16,
                input_patch_stride: 16,
                output_patch_size: 16,
                max_output_patches: 2,
                quantiles: levels,
                use_arcsinh: true,
                use_reg_token: true,
                time_encoding_scale: None,
            },
        },
        dropout_rate: 0.0,
        initializer_factor: 1.0,
    };
    let network = TrainableChronos2::initialise(&config, 1, &device).expect("a network");
    let example = |row: usize| {
        let values = |n: usize, from: usize| {
            (0..n).map(|i| (uniform(row * 1000 + from + i) * 2.0 - 1.0) as f32).collect()
        };
        let variate = Variate { context: values(256, 0), future: Vec::new(), wanted: true };
        Example { group: vec![variate], actual: vec![values(32, 500)], weight: vec![1.0] }
    };
    let examples: Vec<Example> = (0..64).map(example).collect();
    measure("chronos2", examples.len(), network.parameters(), || {
        network.loss(&examples, 2, None).expect("a loss")
    });
}
