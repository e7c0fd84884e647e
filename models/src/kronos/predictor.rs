//! The autoregressive model over token pairs, with the dependency-aware head for the fine token.

use super::config::{CALENDAR_TABLES, DEPENDENCY_HEADS, PredictorConfig};
use super::tokenizer::Token;
use crate::artifact::Tensors;
use crate::bars::Stamp;
use crate::error::Result;
use crate::interrupt::Interrupt;
use crate::layers::block::{Observer, Sequence, SequenceContext, Stack};
use crate::layers::cpu::attention::attend;
use crate::layers::cpu::cache::{Context, HeadShape, KvCache};
use crate::layers::linear::{Linear, linear, tensor};
use crate::layers::norm::RmsNorm;
use crate::layers::tensor::{matrix, with_values};
use candle_core::{IndexOp, Tensor};

/// What the predictor remembers of one sequence: the blocks' caches and the dependency layer's.
#[derive(Debug)]
pub struct PathState {
    blocks: Sequence,
    dependency: KvCache,
}

/// A frozen [`PathState`] that sample paths continue.
#[derive(Debug, Clone)]
pub struct ContextState {
    blocks: SequenceContext,
    dependency: Context,
}

impl PathState {
    /// Ends the context; see [`ContextState::branch`].
    pub fn freeze(self) -> ContextState {
        ContextState { blocks: self.blocks.freeze(), dependency: self.dependency.freeze() }
    }
}

impl ContextState {
    /// A path that continues the context with room for `positions` more.
    pub fn branch(&self, positions: usize) -> PathState {
        PathState { blocks: self.blocks.branch(positions), dependency: self.dependency.branch(positions) }
    }
}

/// The predictor, for inference.
///
/// Three products of constants are computed once at load and looked up by token afterwards: both halves of the fusion
/// projection and the dependency layer's query. They are linear in an embedding row, so nothing is approximated.
#[derive(Debug)]
pub struct Predictor {
    config: PredictorConfig,
    /// [vocabulary, width]: fusion of the scaled coarse embedding, with the projection's bias.
    fused_s1: Vec<f32>,
    /// [vocabulary, width]: fusion of the scaled fine embedding.
    fused_s2: Vec<f32>,
    /// [vocabulary, width]: query of the dependency layer for a coarse token.
    dependency_query: Vec<f32>,
    calendar: Vec<Vec<f32>>,
    stack: Stack,
    norm: RmsNorm,
    dependency_kv: Linear,
    dependency_out: Linear,
    dependency_norm: RmsNorm,
    head_s1: Linear,
    head_s2: Linear,
}

impl Predictor {
    /// Builds the predictor from the tensors that [`PredictorConfig::tensors`] lists.
    pub fn new(config: &PredictorConfig, tensors: &Tensors) -> Result<Self> {
        config.validate()?;
        let d = config.d_model;
        let (emb_s1, emb_s2) =
            (tensor(tensors, "embedding.emb_s1.weight")?, tensor(tensors, "embedding.emb_s2.weight")?);
        let fusion = tensor(tensors, "embedding.fusion_proj.weight")?;
        let fusion_bias = tensor(tensors, "embedding.fusion_proj.bias")?;
        let scale = f64::from((d as f32).sqrt());
        let half = |from: usize| fusion.i((.., from..from + d))?.contiguous();
        let table = |map: &Linear, rows: &Tensor| {
            Ok::<_, crate::ModelError>(with_values(&map.forward(rows)?, <[f32]>::to_vec)?)
        };
        let attn = |name: &str| format!("dep_layer.cross_attn.{name}_proj");
        let part = |name: &str, part: &str| tensor(tensors, &format!("{}.{part}", attn(name)));
        Ok(Self {
            config: config.clone(),
            fused_s1: table(&Linear::new(&half(0)?, Some(fusion_bias))?, &(emb_s1 * scale)?)?,
            fused_s2: table(&Linear::new(&half(d)?, None)?, &(emb_s2 * scale)?)?,
            dependency_query: table(&linear(tensors, &attn("q"))?, emb_s1)?,
            calendar: CALENDAR_TABLES
                .iter()
                .map(|(name, _)| {
                    Ok(with_values(tensor(tensors, &config.calendar_key(name))?, <[f32]>::to_vec)?)
                })
                .collect::<Result<_>>()?,
            stack: Stack::new(config.stack(), tensors, "transformer")?,
            norm: RmsNorm::new(tensor(tensors, "norm.weight")?, 1e-5)?,
            dependency_kv: Linear::stacked(
                &[part("k", "weight")?, part("v", "weight")?],
                &[part("k", "bias")?, part("v", "bias")?],
            )?,
            dependency_out: linear(tensors, &attn("out"))?,
            dependency_norm: RmsNorm::new(tensor(tensors, "dep_layer.norm.weight")?, 1e-5)?,
            head_s1: linear(tensors, "head.proj_s1")?,
            head_s2: linear(tensors, "head.proj_s2")?,
        })
    }

    /// The configuration.
    pub fn config(&self) -> &PredictorConfig {
        &self.config
    }

    /// A sequence without positions.
    pub fn sequence(&self) -> PathState {
        PathState { blocks: self.stack.sequence(), dependency: KvCache::new(self.dependency_shape()) }
    }

    fn dependency_shape(&self) -> HeadShape {
        HeadShape { heads: DEPENDENCY_HEADS, dim: self.config.d_model / DEPENDENCY_HEADS }
    }

    /// Bytes of cache that `positions` positions of one sequence take.
    pub fn cache_bytes(&self, positions: usize) -> u64 {
        self.stack.shape().cache_bytes(positions) + self.dependency_shape().bytes(positions) as u64
    }

    /// Runs new bars of several sequences through the blocks and returns the normed hidden rows, [Σ rows, width].
    pub fn hidden(
        &self,
        tokens: &[Token],
        stamps: &[Stamp],
        sequences: &mut [&mut PathState],
        rows: &[usize],
        interrupt: &dyn Interrupt,
    ) -> Result<Tensor> {
        self.hidden_observed(tokens, stamps, sequences, rows, interrupt, None)
    }

    fn hidden_observed(
        &self,
        tokens: &[Token],
        stamps: &[Stamp],
        sequences: &mut [&mut PathState],
        rows: &[usize],
        interrupt: &dyn Interrupt,
        mut observe: Option<&mut Observer>,
    ) -> Result<Tensor> {
        let x = self.embed(tokens, stamps, &mut observe)?;
        let mut blocks: Vec<&mut Sequence> = sequences.iter_mut().map(|s| &mut s.blocks).collect();
        let stage = observe.as_mut().map(|see| ("pred.block", &mut **see));
        let x = self.stack.forward(x, &mut blocks, rows, interrupt, stage)?;
        let hidden = self.norm.forward(&x)?;
        let d = self.config.d_model;
        with_values(&self.dependency_kv.forward(&hidden)?, |kv| {
            let mut kv = kv.chunks_exact(2 * d);
            for (sequence, &n) in sequences.iter_mut().zip(rows) {
                sequence.dependency.reserve(n);
                for row in kv.by_ref().take(n) {
                    sequence.dependency.push(&row[..d], &row[d..]);
                }
            }
        })?;
        Ok(hidden)
    }

    fn embed(
        &self,
        tokens: &[Token],
        stamps: &[Stamp],
        observe: &mut Option<&mut Observer>,
    ) -> Result<Tensor> {
        let d = self.config.d_model;
        let row = |table: &'_ [f32], i: usize| -> std::ops::Range<usize> {
            debug_assert!((i + 1) * d <= table.len());
            i * d..(i + 1) * d
        };
        let mut token_rows = Vec::with_capacity(tokens.len() * d);
        let mut time_rows = Vec::with_capacity(tokens.len() * d);
        for (token, stamp) in tokens.iter().zip(stamps) {
            let a = &self.fused_s1[row(&self.fused_s1, token.s1.into())];
            let b = &self.fused_s2[row(&self.fused_s2, token.s2.into())];
            token_rows.extend(a.iter().zip(b).map(|(a, b)| a + b));
            let start = time_rows.len();
            time_rows.resize(start + d, 0.0);
            let fields = [stamp.minute, stamp.hour, stamp.weekday, stamp.day, stamp.month];
            for (table, field) in self.calendar.iter().zip(fields) {
                let values = &table[row(table, field.into())];
                time_rows[start..].iter_mut().zip(values).for_each(|(sum, v): (&mut f32, _)| *sum += v);
            }
        }
        let sum: Vec<f32> = token_rows.iter().zip(&time_rows).map(|(a, b)| a + b).collect();
        if let Some(see) = observe {
            see("pred.token_emb", &matrix(token_rows, d)?);
            see("pred.time_emb", &matrix(time_rows, d)?);
        }
        Ok(matrix(sum, d)?)
    }

    /// Logits of the coarse token for hidden rows: [rows, width] → [rows, 2^s1_bits].
    pub fn s1_logits(&self, hidden: &Tensor) -> Result<Tensor> {
        self.head_s1.forward(hidden)
    }

    /// Logits of the fine token, given the coarse one just drawn for each row.
    ///
    /// The query attends to every position of its row's sequence, without rotation and without mask, as the reference's
    /// inference does.
    ///
    /// # Shapes
    /// `hidden`: [rows, width], the newest row of each sequence → [rows, 2^s2_bits].
    pub fn s2_logits(&self, hidden: &Tensor, s1: &[u16], dependency: &[&KvCache]) -> Result<Tensor> {
        self.s2_logits_observed(hidden, s1, dependency, None)
    }

    fn s2_logits_observed(
        &self,
        hidden: &Tensor,
        s1: &[u16],
        dependency: &[&KvCache],
        observe: Option<&mut Observer>,
    ) -> Result<Tensor> {
        let d = self.config.d_model;
        let query: Vec<f32> =
            s1.iter().flat_map(|&s| &self.dependency_query[usize::from(s) * d..][..d]).copied().collect();
        let attended = matrix(attend(&query, dependency, &vec![1; s1.len()], self.dependency_shape()), d)?;
        if let Some(see) = observe {
            see("pred.dep.attn", &self.dependency_out.forward(&attended)?);
        }
        let y = self.dependency_norm.forward(&self.dependency_out.forward_onto(&attended, hidden)?)?;
        self.head_s2.forward(&y)
    }

    /// One whole window of one sequence, showing every stage of the reference's inference path by its golden name.
    ///
    /// The coarse token is the most likely one at the last position.
    pub fn forward_observed(
        &self,
        tokens: &[Token],
        stamps: &[Stamp],
        interrupt: &dyn Interrupt,
        see: &mut Observer,
    ) -> Result<()> {
        let mut state = self.sequence();
        let n = tokens.len();
        let hidden =
            self.hidden_observed(tokens, stamps, &mut [&mut state], &[n], interrupt, Some(&mut *see))?;
        see("pred.norm", &hidden);
        let s1_logits = self.s1_logits(&hidden)?;
        see("pred.s1_logits", &s1_logits);
        let pick = s1_logits.i(n - 1)?.argmax(0)?.to_scalar::<u32>()? as u16;
        see("pred.s1_pick", &Tensor::new(&[i64::from(pick)], hidden.device())?);
        // The reference adds the one attention output to every row of H; so does this, to show the same tensors.
        let caches = vec![&state.dependency; n];
        let last = self.s2_logits_observed(
            &hidden.i(n - 1..)?.contiguous()?,
            &[pick],
            &caches[..1],
            Some(&mut *see),
        )?;
        let d = self.config.d_model;
        let query: Vec<f32> = self.dependency_query[usize::from(pick) * d..][..d].to_vec();
        let attended = matrix(attend(&query, &caches[..1], &[1], self.dependency_shape()), d)?;
        let attended = self.dependency_out.forward(&attended)?;
        let out = self.dependency_norm.forward(&hidden.broadcast_add(&attended)?)?;
        see("pred.dep.out", &out);
        let s2_logits = self.head_s2.forward(&out)?;
        debug_assert_eq!(s2_logits.i(n - 1..)?.to_vec2::<f32>()?, last.to_vec2::<f32>()?);
        see("pred.s2_logits", &s2_logits);
        Ok(())
    }

    /// Bytes of the packed weights and tables.
    pub fn bytes(&self) -> usize {
        let tables = [&self.fused_s1, &self.fused_s2, &self.dependency_query];
        let floats =
            tables.iter().map(|t| t.len()).sum::<usize>() + self.calendar.iter().map(Vec::len).sum::<usize>();
        floats * size_of::<f32>() + self.step_bytes()
    }

    /// Bytes of the weights that every decode step reads.
    pub fn step_bytes(&self) -> usize {
        let linears = [&self.dependency_kv, &self.dependency_out, &self.head_s1, &self.head_s2];
        linears.iter().map(|l| l.bytes()).sum::<usize>()
            + self.stack.bytes()
            + self.norm.bytes()
            + self.dependency_norm.bytes()
    }
}

impl PathState {
    /// The dependency layer's cache, for [`Predictor::s2_logits`].
    pub fn dependency(&self) -> &KvCache {
        &self.dependency
    }
}
