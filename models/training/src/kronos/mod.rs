//! Both halves of Kronos as networks that can be trained, from scratch or from a published checkpoint.
//!
//! The tensors are those of the files, by their names, so what is trained here is what [`kronos_models::kronos::Kronos::load`] reads.
//! Dropout masks and draws are functions of a key that the caller changes from step to step.

mod predictor;
mod predictor_task;
mod sources;
mod tokenizer;
mod tokenizer_task;
mod windows;

pub use kronos_job::kronos::{Condition, ForecastRule, PredictorTraining, TokenizerTraining, WindowRule};
pub use predictor::{PredictorBatch, PredictorLoss, TrainablePredictor};
pub use predictor_task::{PredictorTask, SourceScore};
pub use sources::{BarSource, BarSources};
pub use tokenizer::{Reconstruction, TokenizerLoss, TrainableTokenizer};
pub use tokenizer_task::TokenizerTask;
pub use windows::{BarWindow, normalise_window};

use crate::Parameter;
use crate::layers::{Attention, Block, BlockDropout, Dropout, Initial, Parameters, Sequences};
use candle_core::{Tensor, Var};
use kronos_models::artifact::TensorSpec;
use kronos_models::error::Result;
use kronos_models::layers::block::StackShape;
use kronos_models::layers::cpu::cache::HeadShape;
use kronos_models::layers::rope::Rope;
use std::sync::Arc;

/// A batch of windows of one length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchShape {
    /// Number of windows.
    pub windows: usize,
    /// Bars of each.
    pub length: usize,
}

impl BatchShape {
    /// Rows of a tensor that holds the batch.
    pub fn rows(self) -> usize {
        self.windows * self.length
    }

    /// Causal attention within each window.
    fn attention(self, shape: HeadShape, rope: Option<&Rope>, dropout: Dropout) -> Attention {
        let positions = || (0..self.rows()).map(|row| (row % self.length) as u32).collect();
        Attention {
            shape,
            scale: 1.0 / (shape.dim as f32).sqrt(),
            causal: true,
            rotation: rope.map(|rope| (rope.table(self.length), positions())),
            sequences: Arc::new(Sequences::equal(self.windows, self.length)),
            dropout,
        }
    }
}

/// Probabilities of dropout, as the configuration files name them.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Probabilities {
    attention: f32,
    residual: f32,
    feed_forward: f32,
}

/// Runs the blocks `{prefix}.0` … over a batch; `key` of `None` switches dropout off.
fn run_stack(
    parameters: &Parameters,
    prefix: &str,
    shape: StackShape,
    x: Tensor,
    batch: BatchShape,
    dropout: Option<(Probabilities, u64)>,
) -> Result<Tensor> {
    let head = HeadShape { heads: shape.heads, dim: shape.width / shape.heads };
    let rope = Rope::new(head.dim, 10_000.0);
    let (probabilities, key) =
        dropout.unwrap_or((Probabilities { attention: 0.0, residual: 0.0, feed_forward: 0.0 }, 0));
    let base = batch.attention(head, Some(&rope), Dropout::none());
    (0..shape.layers).try_fold(x, |x, layer| {
        let at = |probability: f32, place: u64| Dropout::new(probability, key).at(4 * layer as u64 + place);
        let attention = Attention { dropout: at(probabilities.attention, 0), ..base.clone() };
        let dropout = BlockDropout {
            residual: at(probabilities.residual, 1),
            feed_forward: at(probabilities.feed_forward, 2),
        };
        Block::new(parameters, format!("{prefix}.{layer}")).forward(&x, &attention, dropout)
    })
}

/// How a tensor starts when a model is trained from scratch: gains at one, biases at zero, tables and maps so that what
/// they yield has about the variance of what they are given.
fn initial(spec: &TensorSpec) -> Initial {
    let name = spec.name.as_str();
    match spec.shape.as_slice() {
        [_] if name.ends_with(".bias") => Initial::Constant(0.0),
        [_] => Initial::Constant(1.0),
        // Rows of these tables are scaled by the square root of the width before they are used.
        [_, width] if name.starts_with("embedding.emb_") => Initial::Normal(1.0 / (*width as f32).sqrt()),
        [..] if name.starts_with("time_emb.") => Initial::Normal(0.02),
        [out, input] => Initial::Uniform((6.0 / (out + input) as f32).sqrt()),
        _ => Initial::Constant(0.0),
    }
}

/// Channel of the close, which forecasts are scored by.
const CLOSE: usize = 3;

/// Rows of an evaluation that run together.
const EVALUATED: usize = 32;

/// Maps and tables decay; gains, biases and embeddings do not.
fn trained_parameters(parameters: &Parameters) -> Vec<Parameter> {
    let parameter = |(name, var): (&String, &Var)| {
        let parameter = Parameter::new(name.clone(), var.clone());
        let decays = var.rank() == 2 && !name.contains("emb");
        if decays { parameter } else { parameter.without_decay() }
    };
    parameters.variables().iter().map(parameter).collect()
}
