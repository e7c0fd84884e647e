//! The tokenizer in training: reconstruction through a binary spherical quantiser with straight-through gradients.

use super::{BatchShape, Probabilities, TokenizerTraining, initial, run_stack};
use crate::layers::{Parameters, linear};
use candle_core::{D, Device, Tensor};
use kronos_models::artifact::Tensors;
use kronos_models::bars::CHANNELS;
use kronos_models::error::{ModelError, Result};

/// A tokenizer whose weights can change.
#[derive(Debug, Clone)]
pub struct TrainableTokenizer {
    config: TokenizerTraining,
    parameters: Parameters,
}

/// What the tokenizer makes of a batch.
#[derive(Debug, Clone)]
pub struct Reconstruction {
    /// From the coarse bits alone, [rows, 6].
    pub coarse: Tensor,
    /// From all bits, [rows, 6].
    pub full: Tensor,
    /// Latents on the unit sphere, [rows, bits].
    pub latent: Tensor,
    /// Codes ±1/sqrt(bits), through which gradients pass as if they were the latents, [rows, bits].
    pub code: Tensor,
}

/// The losses of a batch; each a scalar.
#[derive(Debug, Clone)]
pub struct TokenizerLoss {
    /// (coarse + full + quantiser) / 2: what is minimised; normally below zero late in training.
    pub total: Tensor,
    /// Mean squared error of the coarse reconstruction.
    pub coarse: Tensor,
    /// Mean squared error of the full reconstruction.
    pub full: Tensor,
    /// Commitment and entropies.
    pub quantiser: Tensor,
}

impl TrainableTokenizer {
    /// Random weights.
    ///
    /// # Errors
    /// As [`kronos_models::kronos::config::TokenizerConfig::validate`].
    pub fn initialise(config: &TokenizerTraining, key: u64, device: &Device) -> Result<Self> {
        let parameters = Parameters::initialise(&config.config.tensors()?, initial, key, device)?;
        Ok(Self { config: config.clone(), parameters })
    }

    /// The weights of a file, read by the list of [`kronos_models::kronos::config::TokenizerConfig::tensors`].
    ///
    /// # Errors
    /// As [`kronos_models::kronos::config::TokenizerConfig::validate`]; [`ModelError::Unsupported`] when the file lacks the coarse decoder's input, which
    /// inference does without.
    pub fn from_tensors(config: &TokenizerTraining, tensors: &Tensors, device: &Device) -> Result<Self> {
        config.config.validate()?;
        let parameters = Parameters::from_tensors(tensors, device)?;
        if parameters.find("post_quant_embed_pre.weight").is_none() {
            let capability = "training without the tensors post_quant_embed_pre".into();
            return Err(ModelError::Unsupported { family: "kronos", capability });
        }
        Ok(Self { config: config.clone(), parameters })
    }

    /// The configuration.
    pub fn config(&self) -> &TokenizerTraining {
        &self.config
    }

    /// The weights.
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// Encodes and decodes a batch; `key` of `None` switches dropout off.
    ///
    /// # Shapes
    /// `x`: [rows, 6], normalised, window after window.
    pub fn forward(&self, x: &Tensor, batch: BatchShape, key: Option<u64>) -> Result<Reconstruction> {
        let TokenizerTraining { config, .. } = &self.config;
        let map = |name: &str, x: &Tensor| {
            let bias = self.parameters.get(&format!("{name}.bias"))?;
            Ok::<_, ModelError>(linear(x, self.parameters.get(&format!("{name}.weight"))?, Some(bias))?)
        };
        let dropout = |place: u64| key.map(|key| (self.probabilities(), key.wrapping_add(place << 32)));
        let encoded =
            run_stack(&self.parameters, "encoder", config.encoder(), map("embed", x)?, batch, dropout(0))?;
        let latent = map("quant_embed", &encoded)?;
        let norm = latent.sqr()?.sum_keepdim(D::Minus1)?.sqrt()?.maximum(1e-12)?;
        let latent = latent.broadcast_div(&norm)?;
        // Zero counts as minus, as at inference.
        let signs = latent.gt(0.0)?.to_dtype(latent.dtype())?.affine(2.0, -1.0)?;
        let through = (&latent + (signs - &latent)?.detach())?;
        let code = (through / (config.code_bits() as f64).sqrt())?;
        // One pass of the decoder for both reconstructions: they share its weights.
        let coarse = map("post_quant_embed_pre", &code.narrow(1, 0, config.s1_bits)?.contiguous()?)?;
        let both = Tensor::cat(&[&coarse, &map("post_quant_embed", &code)?], 0)?;
        let twice = BatchShape { windows: 2 * batch.windows, ..batch };
        let decoded = run_stack(&self.parameters, "decoder", config.decoder(), both, twice, dropout(1))?;
        let rows = map("head", &decoded)?;
        let half = |part: usize| rows.narrow(0, part * batch.rows(), batch.rows());
        Ok(Reconstruction { coarse: half(0)?, full: half(1)?, latent, code })
    }

    fn probabilities(&self) -> Probabilities {
        Probabilities {
            attention: self.config.attn_dropout_p,
            residual: self.config.resid_dropout_p,
            feed_forward: self.config.ffn_dropout_p,
        }
    }

    /// The losses of a batch, all channels alike as in the reference.
    ///
    /// # Errors
    /// [`ModelError::ShapeMismatch`] when `x` is not of the batch's shape.
    pub fn loss(&self, x: &Tensor, batch: BatchShape, key: Option<u64>) -> Result<TokenizerLoss> {
        self.weighted_loss(x, batch, &[1.0; CHANNELS], key)
    }

    /// The losses of a batch with a weight for the squared error of each channel.
    ///
    /// Volume varies from bar to bar by as much as over a whole window, prices by a fraction of it: with equal weights
    /// a small tokenizer spends its bits on volume.
    ///
    /// # Errors
    /// [`ModelError::ShapeMismatch`] when `x` is not of the batch's shape.
    pub fn weighted_loss(
        &self,
        x: &Tensor,
        batch: BatchShape,
        weights: &[f32; CHANNELS],
        key: Option<u64>,
    ) -> Result<TokenizerLoss> {
        let rows = x.dim(0)?;
        if x.dims() != [batch.rows(), CHANNELS] {
            return Err(ModelError::ShapeMismatch {
                what: "rows of a batch",
                got: rows,
                expected: batch.rows(),
            });
        }
        let TokenizerTraining { beta, gamma0, gamma, zeta, .. } = self.config;
        let Reconstruction { coarse, full, latent, code } = self.forward(x, batch, key)?;
        let weights = Tensor::from_slice(weights, (1, CHANNELS), x.device())?.to_dtype(x.dtype())?;
        let error = |y: &Tensor| (y - x)?.sqr()?.broadcast_mul(&weights)?.mean_all();
        let (coarse, full) = (error(&coarse)?, error(&full)?);
        let commitment = (code.detach() - &latent)?.sqr()?.sum(D::Minus1)?.mean_all()?;
        // The probability of each bit; its entropy per code and over all codes.
        let bits = self.config.config.code_bits() as f64;
        let p = candle_nn::ops::sigmoid(&latent.affine(-4.0 / bits.sqrt(), 0.0)?)?;
        let entropy = |p: &Tensor| -> candle_core::Result<Tensor> {
            let q = p.affine(-1.0, 1.0)?;
            let term = |p: &Tensor| p.mul(&p.affine(1.0, 1e-8)?.log()?);
            (term(p)? + term(&q)?)?.sum(D::Minus1)?.neg()
        };
        let per_code = entropy(&p)?.mean_all()?;
        let over_all = entropy(&p.mean(0)?)?.mean_all()?;
        let entropies = ((per_code * (zeta * gamma0))? - (over_all * (zeta * gamma))?)?;
        let quantiser = ((commitment * beta)? + entropies)?;
        let total = (((&coarse + &full)? + &quantiser)? * 0.5)?;
        Ok(TokenizerLoss { total, coarse, full, quantiser })
    }
}
