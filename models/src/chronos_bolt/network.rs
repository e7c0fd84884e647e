//! The network: patches in, quantiles of the normalised future out.

use super::config::{CROSS_ATTENTION, Config, FEED_FORWARD, SELF_ATTENTION, bias_key, layer};
use crate::artifact::Tensors;
use crate::error::Result;
use crate::interrupt::Interrupt;
use crate::layers::backend::{CrossAttention, DistanceBias, Held};
use crate::layers::block::Observer;
use crate::layers::linear::tensor;
use crate::layers::packed::Packed;
use crate::layers::t5::{FeedForward, ResidualBlock, SoloAttention};
use candle_core::{Device, Tensor};
use std::ops::Range;
use std::sync::Arc;

/// Row of the embedding table that follows the history.
const END_OF_HISTORY: usize = 1;

/// The weights, as a backend holds them.
#[derive(Debug)]
pub struct Network<B: CrossAttention = Packed> {
    backend: B,
    config: Config,
    table: Tensor,
    embedding: ResidualBlock<B>,
    bias: Arc<DistanceBias>,
    encoder: Vec<(B::Attention, FeedForward<B>)>,
    encoder_norm: B::Norm,
    decoder: Vec<DecoderBlock<B>>,
    decoder_norm: B::Norm,
    head: ResidualBlock<B>,
}

#[derive(Debug)]
struct DecoderBlock<B: CrossAttention> {
    /// The decoder has one token, which sees itself.
    itself: SoloAttention<B>,
    cross: B::Attention,
    feed_forward: FeedForward<B>,
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

impl<B: CrossAttention<Dropout = ()>> Network<B> {
    /// Takes the tensors of [`Config::tensors`].
    pub fn load(backend: &B, config: &Config, tensors: &Tensors) -> Result<Self> {
        config.validate()?;
        let (eps, heads) = (config.layer_norm_epsilon, config.heads());
        let norm =
            |stack: &str| backend.norm(tensor(tensors, &format!("{stack}.final_layer_norm.weight"))?, eps);
        let attention = |prefix: &str, name: &str| backend.attention(tensors, (prefix, name), heads, eps);
        let feed_forward = |prefix: &str| FeedForward::load(backend, tensors, prefix, FEED_FORWARD, eps);
        let table: Vec<Vec<f32>> = tensor(tensors, &bias_key("encoder"))?.to_vec2()?;
        let (buckets, most) = (config.relative_attention_num_buckets, config.relative_attention_max_distance);
        Ok(Self {
            backend: backend.clone(),
            config: config.clone(),
            table: backend.table(tensor(tensors, "shared.weight")?)?,
            embedding: ResidualBlock::load(backend, tensors, "input_patch_embedding")?,
            bias: Arc::new(DistanceBias::new(config.num_heads, most, |head, distance| {
                table[bucket(-distance, buckets, most)][head]
            })),
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
                        itself: SoloAttention::load(backend, tensors, &at(0), SELF_ATTENTION, eps)?,
                        cross: attention(&at(1), CROSS_ATTENTION)?,
                        feed_forward: feed_forward(&at(2))?,
                    })
                })
                .collect::<Result<_>>()?,
            decoder_norm: norm("decoder")?,
            head: ResidualBlock::load(backend, tensors, "output_patch_embedding")?,
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
        see("token.row", &Tensor::new(tokens.row, &Device::Cpu)?);
        see("token.offset", &Tensor::new(tokens.offset.as_slice(), &Device::Cpu)?);
        see("input_embeds", &x);
        let itself = self.backend.relative(&tokens.sequences, &self.bias, &tokens.offset)?;
        for (index, (attention, feed_forward)) in self.encoder.iter().enumerate() {
            interrupt.check()?;
            x = feed_forward.forward(&B::attend(attention, &x, &itself, ())?, ())?;
            see(&format!("enc{index}"), &x);
        }
        let encoded = B::normed(&self.encoder_norm, &x)?;
        see("encoder_out", &encoded);
        let start = vec![self.config.decoder_start_token_id; histories.len()];
        let mut y = B::gather(&[&self.table], &self.backend.rows(start)?)?;
        let across = self.backend.across(&tokens.sequences)?;
        for (index, block) in self.decoder.iter().enumerate() {
            interrupt.check()?;
            y = block.itself.forward(&y, ())?;
            y = block.feed_forward.forward(&B::attend_across(&block.cross, &y, &encoded, &across)?, ())?;
            see(&format!("dec{index}"), &y);
        }
        let decoded = B::normed(&self.decoder_norm, &y)?;
        see("decoder_out", &decoded);
        let output = self.head.forward(&decoded, ())?;
        let width = output.dim(1)?;
        Ok(B::values(&output)?.chunks_exact(width).map(<[f32]>::to_vec).collect())
    }

    fn tokenise(&self, histories: &[Vec<f32>]) -> Result<Tokens> {
        let size = self.config.chronos_config.input_patch_size;
        let ends = self.config.chronos_config.use_reg_token;
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
                let only = !ends && offset.len() == first && patch + 1 == count;
                if only || values.iter().any(|value| !value.is_nan()) {
                    patches.extend(values.iter().map(|value| if value.is_nan() { 0.0 } else { *value }));
                    patches.extend(values.iter().map(|value| f32::from(u8::from(!value.is_nan()))));
                    offset.push(patch as i64 - count as i64);
                }
            }
            if ends {
                offset.push(0);
            }
            row.resize(offset.len(), index as i64);
            sequences.push(first..offset.len());
        }
        let known = patches.len() / (2 * size);
        let mut embedded = 0..known;
        let token = |&offset: &i64| match offset {
            0 => Some(known + END_OF_HISTORY),
            _ => embedded.next(),
        };
        let order = self.backend.rows(offset.iter().filter_map(token).collect())?;
        let embedded = match known {
            0 => B::gather(&[&self.table], &order)?,
            _ => {
                let embedded = self.embedding.forward(&self.backend.matrix(patches, 2 * size)?, ())?;
                B::gather(&[&embedded, &self.table], &order)?
            }
        };
        Ok(Tokens { embedded, row, offset, sequences })
    }

    /// Bytes of the weights.
    pub fn bytes(&self) -> usize {
        let encoder = |(attention, feed_forward): &(B::Attention, FeedForward<B>)| {
            attention.bytes() + feed_forward.bytes()
        };
        let decoder =
            |block: &DecoderBlock<B>| block.itself.bytes() + block.cross.bytes() + block.feed_forward.bytes();
        self.table.elem_count() * size_of::<f32>()
            + self.bias.bytes()
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
    /// Which history a token is of.
    row: Vec<i64>,
    /// Patch counted from the end of the history.
    offset: Vec<i64>,
    sequences: Vec<Range<usize>>,
}
