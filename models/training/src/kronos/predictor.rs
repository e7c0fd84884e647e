//! The predictor in training: the next pair of tokens at every position.

use super::{BatchShape, Condition, PredictorTraining, Probabilities, initial, run_stack};
use crate::layers::{Dropout, Parameters, cross_entropy, linear, rms_norm};
use candle_core::{Device, Tensor};
use kronos_models::artifact::Tensors;
use kronos_models::bars::Stamp;
use kronos_models::error::{ModelError, Result};
use kronos_models::kronos::config::{CALENDAR_TABLES, DEPENDENCY_HEADS};
use kronos_models::kronos::sampling::draw;
use kronos_models::kronos::tokenizer::Token;
use kronos_models::layers::cpu::cache::HeadShape;
use kronos_models::layers::rope::Rope;
use kronos_models::layers::tensor::with_values;
use kronos_models::random::Stream;

/// A predictor whose weights can change.
#[derive(Debug, Clone)]
pub struct TrainablePredictor {
    config: PredictorTraining,
    parameters: Parameters,
}

/// Tokens and stamps of several windows of one length.
#[derive(Debug, Clone)]
pub struct PredictorBatch {
    /// Windows, and bars that the model is shown of each: one fewer than the tokens of a window.
    pub shape: BatchShape,
    /// `length + 1` tokens per window.
    pub tokens: Vec<Token>,
    /// `length` stamps per window: the last bar is never shown.
    pub stamps: Vec<Stamp>,
    /// Weight of each prediction, `length` per window.
    pub weights: Vec<f32>,
}

/// The losses of a batch; each a scalar.
#[derive(Debug, Clone)]
pub struct PredictorLoss {
    /// The mean of both halves: what is minimised.
    pub total: Tensor,
    /// Cross entropy of the coarse token.
    pub s1: Tensor,
    /// Cross entropy of the fine token, given a coarse one.
    pub s2: Tensor,
}

impl PredictorBatch {
    fn check(&self) -> Result<()> {
        let BatchShape { windows, length } = self.shape;
        for (what, got, expected) in [
            ("tokens of a batch", self.tokens.len(), windows * (length + 1)),
            ("stamps of a batch", self.stamps.len(), windows * length),
            ("weights of a batch", self.weights.len(), windows * length),
        ] {
            if got != expected {
                return Err(ModelError::ShapeMismatch { what, got, expected });
            }
        }
        Ok(())
    }

    /// What is shown, row by row.
    fn inputs(&self) -> impl Iterator<Item = &Token> {
        self.tokens.chunks_exact(self.shape.length + 1).flat_map(|window| &window[..window.len() - 1])
    }

    /// What is to be predicted, row by row.
    fn targets(&self) -> impl Iterator<Item = &Token> {
        self.tokens.chunks_exact(self.shape.length + 1).flat_map(|window| &window[1..])
    }
}

impl TrainablePredictor {
    /// Random weights.
    ///
    /// # Errors
    /// As [`kronos_models::kronos::config::PredictorConfig::validate`].
    pub fn initialise(config: &PredictorTraining, key: u64, device: &Device) -> Result<Self> {
        let parameters = Parameters::initialise(&config.config.tensors()?, initial, key, device)?;
        Ok(Self { config: config.clone(), parameters })
    }

    /// The weights of a file, read by the list of [`kronos_models::kronos::config::PredictorConfig::tensors`].
    ///
    /// # Errors
    /// As [`kronos_models::kronos::config::PredictorConfig::validate`].
    pub fn from_tensors(config: &PredictorTraining, tensors: &Tensors, device: &Device) -> Result<Self> {
        config.config.validate()?;
        Ok(Self { config: config.clone(), parameters: Parameters::from_tensors(tensors, device)? })
    }

    /// The configuration.
    pub fn config(&self) -> &PredictorTraining {
        &self.config
    }

    /// The weights.
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    fn map(&self, name: &str, x: &Tensor) -> Result<Tensor> {
        let part = |part: &str| self.parameters.get(&format!("{name}.{part}"));
        Ok(linear(x, part("weight")?, Some(part("bias")?))?)
    }

    fn rows_of(&self, table: &str, rows: Vec<u32>) -> Result<Tensor> {
        let table = self.parameters.get(table)?;
        let n = rows.len();
        Ok(table.index_select(&Tensor::from_vec(rows, n, table.device())?, 0)?)
    }

    /// Normed hidden rows of what a batch shows, [rows, width]; `key` of `None` switches dropout off.
    pub fn hidden(&self, batch: &PredictorBatch, key: Option<u64>) -> Result<Tensor> {
        batch.check()?;
        let config = &self.config.config;
        let scale = (config.d_model as f64).sqrt();
        let s1 = self.rows_of("embedding.emb_s1.weight", batch.inputs().map(|t| t.s1.into()).collect())?;
        let s2 = self.rows_of("embedding.emb_s2.weight", batch.inputs().map(|t| t.s2.into()).collect())?;
        let tokens = (Tensor::cat(&[s1, s2], 1)? * scale)?;
        let mut x = self.map("embedding.fusion_proj", &tokens)?;
        for (table, (name, _)) in CALENDAR_TABLES.iter().enumerate() {
            let field = |stamp: &Stamp| {
                u32::from([stamp.minute, stamp.hour, stamp.weekday, stamp.day, stamp.month][table])
            };
            x = (x + self.rows_of(&config.calendar_key(name), batch.stamps.iter().map(field).collect())?)?;
        }
        let probabilities = Probabilities {
            attention: self.config.attn_dropout_p,
            residual: self.config.resid_dropout_p,
            feed_forward: self.config.ffn_dropout_p,
        };
        if let Some(key) = key {
            x = Dropout::new(self.config.token_dropout_p, key).at(u64::MAX).apply(&x)?;
        }
        let dropout = key.map(|key| (probabilities, key));
        let x = run_stack(&self.parameters, "transformer", config.stack(), x, batch.shape, dropout)?;
        Ok(rms_norm(&x, self.parameters.get("norm.weight")?, 1e-5)?)
    }

    /// Logits of the coarse token, [rows, 2^s1_bits].
    pub fn s1_logits(&self, hidden: &Tensor) -> Result<Tensor> {
        self.map("head.proj_s1", hidden)
    }

    /// Logits of the fine token, given a coarse one per row, [rows, 2^s2_bits]; no row sees a later one.
    pub fn s2_logits(
        &self,
        hidden: &Tensor,
        s1: Vec<u32>,
        shape: BatchShape,
        rotated: bool,
    ) -> Result<Tensor> {
        let heads = DEPENDENCY_HEADS;
        let head = HeadShape { heads, dim: self.config.config.d_model / heads };
        let rope = rotated.then(|| Rope::new(head.dim, 10_000.0));
        let attention = |name: &str| format!("dep_layer.cross_attn.{name}_proj");
        let query = self.map(&attention("q"), &self.rows_of("embedding.emb_s1.weight", s1)?)?;
        let key = self.map(&attention("k"), hidden)?;
        let value = self.map(&attention("v"), hidden)?;
        let rows = Tensor::cat(&[query, key, value], 1)?;
        let attended = shape.attention(head, rope.as_ref(), Dropout::none()).forward(&rows)?;
        let out = (hidden + self.map(&attention("out"), &attended)?)?;
        let out = rms_norm(&out, self.parameters.get("dep_layer.norm.weight")?, 1e-5)?;
        self.map("head.proj_s2", &out)
    }

    /// The losses of a batch.
    ///
    /// # Errors
    /// [`ModelError::ShapeMismatch`] when tokens, stamps or weights are not of the batch's shape;
    /// [`ModelError::NonFinite`] when a coarse token is to be drawn from logits that are not finite.
    pub fn loss(
        &self,
        batch: &PredictorBatch,
        condition: Condition,
        key: Option<u64>,
    ) -> Result<PredictorLoss> {
        let hidden = self.hidden(batch, key)?;
        let s1_logits = self.s1_logits(&hidden)?;
        let truth: Vec<u32> = batch.targets().map(|t| t.s1.into()).collect();
        let s1 = cross_entropy(&s1_logits, &truth, &batch.weights)?;
        let given = match condition {
            Condition::Sampled => draws(&s1_logits, key.unwrap_or_default())?,
            Condition::True | Condition::TrueRotated => truth,
        };
        let rotated = condition != Condition::True;
        let s2_logits = self.s2_logits(&hidden, given, batch.shape, rotated)?;
        let truth: Vec<u32> = batch.targets().map(|t| t.s2.into()).collect();
        let s2 = cross_entropy(&s2_logits, &truth, &batch.weights)?;
        let total = ((&s1 + &s2)? * 0.5)?;
        Ok(PredictorLoss { total, s1, s2 })
    }
}

/// One draw per row from softmax(logits), without gradient.
fn draws(logits: &Tensor, key: u64) -> Result<Vec<u32>> {
    let classes = logits.dim(1)?;
    let stream = Stream::from_key(key);
    let sampling = kronos_models::bars::Sampling::new(1.0, 0, 1.0)?;
    let logits = logits.detach().to_device(&Device::Cpu)?.contiguous()?;
    with_values(&logits, |logits| {
        let rows = logits.chunks_exact(classes).zip(0u32..);
        rows.map(|(logits, row)| {
            draw(logits, &sampling, stream.uniform(row, 0, 0))
                .map(u32::from)
                .ok_or(ModelError::NonFinite { step: row as usize + 1 })
        })
        .collect()
    })?
}
