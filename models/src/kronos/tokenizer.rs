//! Bars to pairs of tokens and back: a causal auto-encoder around a binary spherical quantiser.

use super::config::TokenizerConfig;
use crate::artifact::Tensors;
use crate::bars::CHANNELS;
use crate::error::Result;
use crate::interrupt::Interrupt;
use crate::layers::block::{Observer, Sequence, SequenceContext, Stack};
use crate::layers::linear::{Linear, linear};
use crate::layers::tensor::{matrix, with_values};
use candle_core::{D, Tensor};

/// A bar as the model sees it: coarse and fine token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Token {
    /// Coarse.
    pub s1: u16,
    /// Fine, given the coarse one.
    pub s2: u16,
}

/// The tokenizer, for inference.
#[derive(Debug)]
pub struct Tokenizer {
    config: TokenizerConfig,
    embed: Linear,
    encoder: Stack,
    quant_embed: Linear,
    post_quant_embed: Linear,
    decoder: Stack,
    head: Linear,
}

impl Tokenizer {
    /// Builds the tokenizer from the tensors that [`TokenizerConfig::tensors`] lists.
    pub fn new(config: &TokenizerConfig, tensors: &Tensors) -> Result<Self> {
        config.validate()?;
        Ok(Self {
            config: config.clone(),
            embed: linear(tensors, "embed")?,
            encoder: Stack::new(config.encoder(), tensors, "encoder")?,
            quant_embed: linear(tensors, "quant_embed")?,
            post_quant_embed: linear(tensors, "post_quant_embed")?,
            decoder: Stack::new(config.decoder(), tensors, "decoder")?,
            head: linear(tensors, "head")?,
        })
    }

    /// The configuration.
    pub fn config(&self) -> &TokenizerConfig {
        &self.config
    }

    /// Encodes normalised bars in one causal pass, however many they are.
    pub fn encode(&self, bars: &[[f32; CHANNELS]], interrupt: &dyn Interrupt) -> Result<Vec<Token>> {
        self.encode_rows(bars, &[bars.len()], interrupt, None)
    }

    /// Encodes the normalised bars of several series together: `rows[s]` bars of series s, series after series.
    pub fn encode_all(
        &self,
        bars: &[[f32; CHANNELS]],
        rows: &[usize],
        interrupt: &dyn Interrupt,
    ) -> Result<Vec<Token>> {
        self.encode_rows(bars, rows, interrupt, None)
    }

    /// [`Tokenizer::encode`], showing every stage: `tok.embed`, `tok.encoder.{i}`, `tok.quant_embed`, `tok.latent_unit`.
    pub fn encode_observed(
        &self,
        bars: &[[f32; CHANNELS]],
        interrupt: &dyn Interrupt,
        see: &mut Observer,
    ) -> Result<Vec<Token>> {
        self.encode_rows(bars, &[bars.len()], interrupt, Some(see))
    }

    fn encode_rows(
        &self,
        bars: &[[f32; CHANNELS]],
        rows: &[usize],
        interrupt: &dyn Interrupt,
        mut observe: Option<&mut Observer>,
    ) -> Result<Vec<Token>> {
        let x = self.embed.forward(&matrix(bars.as_flattened().to_vec(), CHANNELS)?)?;
        if let Some(see) = &mut observe {
            see("tok.embed", &x);
        }
        let mut sequences = vec![self.encoder.sequence(); rows.len()];
        let stage = observe.as_mut().map(|see| ("tok.encoder", &mut **see));
        let mut sequences: Vec<&mut Sequence> = sequences.iter_mut().collect();
        let x = self.encoder.forward(x, &mut sequences, rows, interrupt, stage)?;
        let latent = self.quant_embed.forward(&x)?;
        if let Some(see) = &mut observe {
            see("tok.quant_embed", &latent);
            let norm = latent.sqr()?.sum_keepdim(D::Minus1)?.sqrt()?.maximum(1e-12)?;
            see("tok.latent_unit", &latent.broadcast_div(&norm)?);
        }
        Ok(with_values(&latent, |latent| tokens_of(latent, &self.config))?)
    }

    /// Code vectors of tokens, [tokens, bits].
    fn code(&self, tokens: &[Token]) -> Result<Tensor> {
        Ok(matrix(codes(tokens, &self.config), self.config.code_bits())?)
    }

    /// Starts decoding several series, each with the tokens that its continuations share.
    pub fn decode_contexts(
        &self,
        tokens: &[&[Token]],
        interrupt: &dyn Interrupt,
    ) -> Result<Vec<SequenceContext>> {
        let mut sequences = vec![self.decoder.sequence(); tokens.len()];
        let rows: Vec<usize> = tokens.iter().map(|tokens| tokens.len()).collect();
        let x = self.post_quant_embed.forward(&self.code(&tokens.concat())?)?;
        self.decoder.fill(x, &mut sequences.iter_mut().collect::<Vec<_>>(), &rows, interrupt)?;
        Ok(sequences.into_iter().map(Sequence::freeze).collect())
    }

    /// Decodes tokens of several paths, each continuing a context; returns their rows path after path,
    /// [Σ tokens · channels].
    pub fn decode_paths(
        &self,
        paths: &[(&SequenceContext, &[Token])],
        interrupt: &dyn Interrupt,
    ) -> Result<Vec<f32>> {
        let mut sequences: Vec<Sequence> =
            paths.iter().map(|(context, tokens)| context.branch(tokens.len())).collect();
        let rows: Vec<usize> = paths.iter().map(|(_, tokens)| tokens.len()).collect();
        let tokens: Vec<Token> = paths.iter().flat_map(|(_, tokens)| tokens.iter().copied()).collect();
        self.decode(&tokens, &mut sequences.iter_mut().collect::<Vec<_>>(), &rows, interrupt, None)
    }

    /// Decodes one whole window; returns its rows, [tokens · channels].
    pub fn decode_window(&self, tokens: &[Token], interrupt: &dyn Interrupt) -> Result<Vec<f32>> {
        self.decode(tokens, &mut [&mut self.decoder.sequence()], &[tokens.len()], interrupt, None)
    }

    /// [`Tokenizer::decode_window`], showing every stage: `tok.bits`, `tok.post_quant_embed`, `tok.decoder.{i}`, `tok.recon`.
    pub fn decode_observed(
        &self,
        tokens: &[Token],
        interrupt: &dyn Interrupt,
        see: &mut Observer,
    ) -> Result<Vec<f32>> {
        self.decode(tokens, &mut [&mut self.decoder.sequence()], &[tokens.len()], interrupt, Some(see))
    }

    fn decode(
        &self,
        tokens: &[Token],
        sequences: &mut [&mut Sequence],
        rows: &[usize],
        interrupt: &dyn Interrupt,
        mut observe: Option<&mut Observer>,
    ) -> Result<Vec<f32>> {
        let code = self.code(tokens)?;
        let x = self.post_quant_embed.forward(&code)?;
        if let Some(see) = &mut observe {
            see("tok.bits", &code);
            see("tok.post_quant_embed", &x);
        }
        let stage = observe.as_mut().map(|see| ("tok.decoder", &mut **see));
        let x = self.decoder.forward(x, sequences, rows, interrupt, stage)?;
        let bars = self.head.forward(&x)?;
        if let Some(see) = &mut observe {
            see("tok.recon", &bars);
        }
        Ok(with_values(&bars, <[f32]>::to_vec)?)
    }

    /// Bytes of cache that decoding `positions` positions of one sequence takes.
    pub fn decoder_cache_bytes(&self, positions: usize) -> u64 {
        self.decoder.shape().cache_bytes(positions)
    }

    /// Bytes of the packed weights.
    pub fn bytes(&self) -> usize {
        let linears = [&self.embed, &self.quant_embed, &self.post_quant_embed, &self.head];
        linears.iter().map(|l| l.bytes()).sum::<usize>() + self.encoder.bytes() + self.decoder.bytes()
    }
}

/// The tokens of latents [rows, bits]. Only signs matter: the quantiser's normalisation to the sphere changes none.
pub(super) fn tokens_of(latent: &[f32], config: &TokenizerConfig) -> Vec<Token> {
    let little_endian = |z: &[f32]| z.iter().rev().fold(0u16, |t, z| t << 1 | u16::from(*z > 0.0));
    let token = |z: &[f32]| {
        let (s1, s2) = z.split_at(config.s1_bits);
        Token { s1: little_endian(s1), s2: little_endian(s2) }
    };
    latent.chunks_exact(config.code_bits()).map(token).collect()
}

/// Code vectors ±1/sqrt(bits) of tokens, [tokens · bits].
pub(super) fn codes(tokens: &[Token], config: &TokenizerConfig) -> Vec<f32> {
    let bits = config.code_bits();
    let one = 1.0 / (bits as f32).sqrt();
    let mut values = Vec::with_capacity(tokens.len() * bits);
    for token in tokens {
        let signs = |t: u16, n: usize| (0..n).map(move |j| if t >> j & 1 == 1 { one } else { -one });
        values.extend(signs(token.s1, config.s1_bits));
        values.extend(signs(token.s2, config.s2_bits));
    }
    values
}
