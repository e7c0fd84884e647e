//! The network: patches in, quantiles of the normalised future out.

use super::config::{CROSS_ATTENTION, Config, FEED_FORWARD, SELF_ATTENTION, bias_key, layer};
use crate::artifact::Tensors;
use crate::error::Result;
use crate::interrupt::Interrupt;
use crate::layers::block::Observer;
use crate::layers::linear::tensor;
use crate::layers::norm::RmsNorm;
use crate::layers::t5::{Attention, FeedForward, ResidualBlock, SoloAttention};
use crate::layers::tensor::{matrix, with_values};
use candle_core::{Device, Tensor};
use std::ops::Range;

/// Row of the embedding table that follows the history.
const END_OF_HISTORY: usize = 1;

/// The weights, packed.
#[derive(Debug)]
pub struct Network {
    config: Config,
    end_of_history: Option<Vec<f32>>,
    start: Vec<f32>,
    embedding: ResidualBlock,
    /// [head][query − key + max distance], clamped at both ends.
    bias: Vec<Vec<f32>>,
    encoder: Vec<(Attention, FeedForward)>,
    encoder_norm: RmsNorm,
    decoder: Vec<DecoderBlock>,
    decoder_norm: RmsNorm,
    head: ResidualBlock,
}

#[derive(Debug)]
struct DecoderBlock {
    /// The decoder has one token, which sees itself.
    itself: SoloAttention,
    cross: Attention,
    feed_forward: FeedForward,
}

/// The bucket of a distance from query to key: one half per direction, of which the first half is exact and the rest
/// grows logarithmically up to `max_distance`.
///
/// # Source
/// Raffel et al., "Exploring the limits of transfer learning", JMLR 21 (2020), § 2.1.
pub fn bucket(key_minus_query: i64, buckets: usize, max_distance: usize) -> usize {
    let half = buckets / 2;
    let exact = half / 2;
    let distance = key_minus_query.unsigned_abs() as usize;
    let side = if key_minus_query > 0 { half } else { 0 };
    if distance < exact {
        return side + distance;
    }
    // In float32 and truncated, as the reference: a boundary may fall on the next integer otherwise.
    let ratio = (distance as f32 / exact as f32).ln() / (max_distance as f64 / exact as f64).ln() as f32;
    side + (exact + (ratio * (half - exact) as f32) as usize).min(half - 1)
}

impl Network {
    /// Packs the tensors of [`Config::tensors`].
    pub fn new(config: &Config, tensors: &Tensors) -> Result<Self> {
        config.validate()?;
        let (eps, heads) = (config.layer_norm_epsilon, config.heads());
        let shared = tensor(tensors, "shared.weight")?;
        let norm =
            |stack: &str| RmsNorm::new(tensor(tensors, &format!("{stack}.final_layer_norm.weight"))?, eps);
        let attention = |prefix: &str, name: &str| Attention::new(tensors, prefix, name, heads, eps);
        let feed_forward = |prefix: &str| FeedForward::new(tensors, prefix, FEED_FORWARD, eps);
        let table: Vec<Vec<f32>> = tensor(tensors, &bias_key("encoder"))?.to_vec2()?;
        let (buckets, most) = (config.relative_attention_num_buckets, config.relative_attention_max_distance);
        let distances = -(most as i64)..=most as i64;
        let bias = |head: usize| distances.clone().map(|d| table[bucket(-d, buckets, most)][head]).collect();
        Ok(Self {
            config: config.clone(),
            end_of_history: if config.chronos_config.use_reg_token {
                Some(shared.get(END_OF_HISTORY)?.to_vec1()?)
            } else {
                None
            },
            start: shared.get(config.decoder_start_token_id)?.to_vec1()?,
            embedding: ResidualBlock::new(tensors, "input_patch_embedding")?,
            bias: (0..config.num_heads).map(bias).collect(),
            encoder: (0..config.num_layers)
                .map(|block| {
                    let (first, second) = (layer("encoder", block, 0), layer("encoder", block, 1));
                    Ok((attention(&first, SELF_ATTENTION)?, feed_forward(&second)?))
                })
                .collect::<Result<_>>()?,
            encoder_norm: norm("encoder")?,
            decoder: (0..config.decoder_layers())
                .map(|block| {
                    let at = |index: usize| layer("decoder", block, index);
                    Ok(DecoderBlock {
                        itself: SoloAttention::new(tensors, &at(0), SELF_ATTENTION, eps)?,
                        cross: attention(&at(1), CROSS_ATTENTION)?,
                        feed_forward: feed_forward(&at(2))?,
                    })
                })
                .collect::<Result<_>>()?,
            decoder_norm: norm("decoder")?,
            head: ResidualBlock::new(tensors, "output_patch_embedding")?,
        })
    }

    /// The configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Forecasts all steps of one pass for every normalised history, NaN where missing.
    ///
    /// # Shapes
    /// One vector per history, [level][step], in the space of the network.
    /// # Errors
    /// [`crate::ModelError::Cancelled`] when `interrupt` says so between blocks.
    pub fn forward(&self, histories: &[Vec<f32>], interrupt: &dyn Interrupt) -> Result<Vec<Vec<f32>>> {
        self.forward_observed(histories, interrupt, &mut |_, _| {})
    }

    /// As [`Network::forward`], showing every stage by its golden name.
    ///
    /// Rows of the encoder's stages are tokens; `token.row` and `token.offset` say which: the history, and the patch
    /// counted from the end, 0 for the token after it.
    pub fn forward_observed(
        &self,
        histories: &[Vec<f32>],
        interrupt: &dyn Interrupt,
        see: &mut Observer,
    ) -> Result<Vec<Vec<f32>>> {
        let tokens = self.tokenise(histories)?;
        let mut x = tokens.embedded;
        see("token.row", &tokens.row);
        see("token.offset", &Tensor::new(tokens.offset.clone(), &Device::Cpu)?);
        see("input_embeds", &x);
        let rows: Vec<usize> = tokens.sequences.iter().map(Range::len).collect();
        let most = self.config.relative_attention_max_distance as i64;
        let sequence_of: Vec<&Range<usize>> =
            tokens.sequences.iter().flat_map(|range| std::iter::repeat_n(range, range.len())).collect();
        let add_bias = |query: usize, head: usize, scores: &mut [f32]| {
            let keys = &tokens.offset[sequence_of[query].clone()];
            for (score, key) in scores.iter_mut().zip(keys) {
                *score += self.bias[head][((tokens.offset[query] - key).clamp(-most, most) + most) as usize];
            }
        };
        for (index, (attention, feed_forward)) in self.encoder.iter().enumerate() {
            interrupt.check()?;
            let memory = attention.remember(&attention.keys_values(&x, None)?, &tokens.sequences);
            let attended =
                attention.attend(&attention.queries(&x, None)?, &memory, &rows, Some(&add_bias))?;
            x = feed_forward.forward(&attention.project_onto(&attended, &x)?)?;
            see(&format!("enc{index}"), &x);
        }
        let encoded = self.encoder_norm.forward(&x)?;
        see("encoder_out", &encoded);
        let mut y = matrix(self.start.repeat(histories.len()), self.config.d_model)?;
        for (index, block) in self.decoder.iter().enumerate() {
            interrupt.check()?;
            y = block.itself.forward(&y)?;
            let memory = block.cross.remember(&block.cross.keys_values_of(&encoded)?, &tokens.sequences);
            let q = block.cross.queries(&y, None)?;
            let attended = block.cross.attend(&q, &memory, &vec![1; histories.len()], None)?;
            y = block.feed_forward.forward(&block.cross.project_onto(&attended, &y)?)?;
            see(&format!("dec{index}"), &y);
        }
        let decoded = self.decoder_norm.forward(&y)?;
        see("decoder_out", &decoded);
        Ok(self.head.forward(&decoded)?.to_vec2()?)
    }

    fn tokenise(&self, histories: &[Vec<f32>]) -> Result<Tokens> {
        let size = self.config.chronos_config.input_patch_size;
        let ends = i64::from(self.end_of_history.is_some());
        let (mut row, mut offset, mut sequences) = (Vec::new(), Vec::new(), Vec::new());
        let mut patches = Vec::new();
        for (index, history) in histories.iter().enumerate() {
            let first = offset.len();
            let count = history.len().div_ceil(size);
            let padding = count * size - history.len();
            let padded: Vec<f32> =
                std::iter::repeat_n(f32::NAN, padding).chain(history.iter().copied()).collect();
            for (patch, values) in padded.chunks_exact(size).enumerate() {
                // Without a token after the history there must be one patch for the decoder to see.
                let only = ends == 0 && offset.len() == first && patch + 1 == count;
                if only || values.iter().any(|value| !value.is_nan()) {
                    patches.extend(values.iter().map(|value| if value.is_nan() { 0.0 } else { *value }));
                    patches.extend(values.iter().map(|value| f32::from(u8::from(!value.is_nan()))));
                    offset.push(patch as i64 - count as i64);
                }
            }
            if ends == 1 {
                offset.push(0);
            }
            row.resize(offset.len(), index as i64);
            sequences.push(first..offset.len());
        }
        let d = self.config.d_model;
        let embedded = match patches.is_empty() {
            true => Vec::new(),
            false => with_values(&self.embedding.forward(&matrix(patches, 2 * size)?)?, <[f32]>::to_vec)?,
        };
        let (mut x, mut embedded) = (Vec::with_capacity(offset.len() * d), embedded.chunks_exact(d));
        for &offset in &offset {
            match &self.end_of_history {
                Some(token) if offset == 0 => x.extend_from_slice(token),
                _ => x.extend(embedded.by_ref().take(1).flatten()),
            }
        }
        Ok(Tokens { embedded: matrix(x, d)?, row: Tensor::new(row, &Device::Cpu)?, offset, sequences })
    }

    /// Bytes of the packed weights.
    pub fn bytes(&self) -> usize {
        let encoder =
            |(attention, feed_forward): &(Attention, FeedForward)| attention.bytes() + feed_forward.bytes();
        let decoder =
            |block: &DecoderBlock| block.itself.bytes() + block.cross.bytes() + block.feed_forward.bytes();
        let floats = self.start.len() * 2 + self.bias.iter().map(Vec::len).sum::<usize>();
        floats * size_of::<f32>()
            + self.embedding.bytes()
            + self.head.bytes()
            + self.encoder_norm.bytes()
            + self.decoder_norm.bytes()
            + self.encoder.iter().map(encoder).sum::<usize>()
            + self.decoder.iter().map(decoder).sum::<usize>()
    }
}

/// The tokens of several histories, one history after the other.
struct Tokens {
    embedded: Tensor,
    row: Tensor,
    /// Patch counted from the end of the history.
    offset: Vec<i64>,
    sequences: Vec<Range<usize>>,
}
