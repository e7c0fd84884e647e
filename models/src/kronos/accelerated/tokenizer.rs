//! Bars to tokens and back; see [`crate::kronos::tokenizer`].

use crate::artifact::Tensors;
use crate::bars::CHANNELS;
use crate::error::Result;
use crate::interrupt::Interrupt;
use crate::kronos::config::TokenizerConfig;
use crate::kronos::tokenizer::{Token, codes, tokens_of};
use crate::layers::accelerated::block::{Memory, Stack};
use crate::layers::accelerated::{Linear, Place, fetch};

/// Rows decoded in one pass; more would only cost memory.
const DECODE_ROWS: usize = 8192;

/// The tokenizer, placed.
#[derive(Debug)]
pub struct Tokenizer {
    place: Place,
    config: TokenizerConfig,
    embed: Linear,
    encoder: Stack,
    quant_embed: Linear,
    post_quant_embed: Linear,
    decoder: Stack,
    head: Linear,
}

impl Tokenizer {
    /// Places the tensors that [`TokenizerConfig::tensors`] lists.
    pub fn load(place: &Place, config: &TokenizerConfig, tensors: &Tensors) -> Result<Self> {
        config.validate()?;
        Ok(Self {
            place: place.clone(),
            config: config.clone(),
            embed: Linear::load(place, tensors, "embed")?,
            encoder: Stack::load(place, config.encoder(), tensors, "encoder")?,
            quant_embed: Linear::load(place, tensors, "quant_embed")?,
            post_quant_embed: Linear::load(place, tensors, "post_quant_embed")?,
            decoder: Stack::load(place, config.decoder(), tensors, "decoder")?,
            head: Linear::load(place, tensors, "head")?,
        })
    }

    /// Encodes the normalised bars of several series: `rows[s]` bars of series s, series after series.
    pub fn encode_all(
        &self,
        bars: &[[f32; CHANNELS]],
        rows: &[usize],
        interrupt: &dyn Interrupt,
    ) -> Result<Vec<Token>> {
        let x = self.embed.forward(&self.place.matrix(bars.as_flattened().to_vec(), CHANNELS)?)?;
        let mut memories: Vec<Memory> = rows.iter().map(|&n| self.encoder.memory(1, n)).collect();
        let mut memories: Vec<&mut Memory> = memories.iter_mut().collect();
        let x = self.encoder.forward(x, &mut memories, rows, interrupt)?;
        Ok(tokens_of(&fetch(&self.quant_embed.forward(&x)?)?, &self.config))
    }

    /// Decodes paths of one length that continue the windows of several series; returns their rows series after series,
    /// path after path, [Σ tokens · channels].
    pub fn decode(
        &self,
        series: &[(&[Token], &[Vec<Token>])],
        interrupt: &dyn Interrupt,
    ) -> Result<Vec<f32>> {
        let mut values = Vec::new();
        for (window, paths) in series {
            let Some(horizon) = paths.first().map(Vec::len) else { continue };
            let mut context = None;
            if !window.is_empty() {
                let mut memory = self.decoder.memory(1, window.len());
                self.run(window, &mut memory, window.len(), interrupt)?;
                context = Some(memory.freeze()?);
            }
            for paths in paths.chunks((DECODE_ROWS / horizon.max(1)).max(1)) {
                let mut memory = match &context {
                    Some(context) => self.decoder.branch(context, paths.len(), horizon),
                    None => self.decoder.memory(paths.len(), horizon),
                };
                let x = self.run(&paths.concat(), &mut memory, horizon, interrupt)?;
                values.extend(fetch(&self.head.forward(&x)?)?);
            }
        }
        Ok(values)
    }

    fn run(
        &self,
        tokens: &[Token],
        memory: &mut Memory,
        rows: usize,
        interrupt: &dyn Interrupt,
    ) -> Result<candle_core::Tensor> {
        let codes = self.place.matrix(codes(tokens, &self.config), self.config.code_bits())?;
        let x = self.post_quant_embed.forward(&codes)?;
        self.decoder.forward(x, &mut [memory], &[rows], interrupt)
    }

    /// Bytes of cache that decoding `positions` positions of one path takes.
    pub fn decoder_cache_bytes(&self, positions: usize) -> u64 {
        let stack = self.decoder.shape();
        2 * (positions * stack.layers * stack.width * self.place.width()) as u64
    }

    /// Bytes of the weights.
    pub fn bytes(&self) -> usize {
        let linears = [&self.embed, &self.quant_embed, &self.post_quant_embed, &self.head];
        linears.iter().map(|linear| linear.bytes()).sum::<usize>()
            + self.encoder.bytes()
            + self.decoder.bytes()
    }
}
