//! The two configuration files and the tensors they imply.

use crate::artifact::TensorSpec;
use crate::bars::CHANNELS;
use crate::error::{ModelError, Result};
use crate::layers::block::StackShape;
use crate::layers::linear::linear_specs;
use serde::{Deserialize, Serialize};

/// `config.json` of a tokenizer; keys that matter in training only are not read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenizerConfig {
    /// Input channels.
    pub d_in: usize,
    /// Width of the residual stream.
    pub d_model: usize,
    /// Attention heads.
    pub n_heads: usize,
    /// Width of the gated unit.
    pub ff_dim: usize,
    /// Encoder layers as upstream counts them: one more than there are blocks.
    pub n_enc_layers: usize,
    /// Decoder layers, counted likewise.
    pub n_dec_layers: usize,
    /// Bits of the coarse token.
    pub s1_bits: usize,
    /// Bits of the fine token.
    pub s2_bits: usize,
}

/// `config.json` of a predictor; keys that matter in training only are not read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PredictorConfig {
    /// Width of the residual stream.
    pub d_model: usize,
    /// Attention heads of the blocks.
    pub n_heads: usize,
    /// Width of the gated unit.
    pub ff_dim: usize,
    /// Number of blocks.
    pub n_layers: usize,
    /// Bits of the coarse token.
    pub s1_bits: usize,
    /// Bits of the fine token.
    pub s2_bits: usize,
    /// Whether the calendar tables were learnt; it only changes their names in the file.
    pub learn_te: bool,
}

/// Heads of the dependency-aware layer, whatever the configuration says of the blocks.
pub const DEPENDENCY_HEADS: usize = 4;

/// Ends of the names of matrices of a predictor that are tables, not linear maps.
pub const TABLES: &[&str] =
    &["emb_s1", "emb_s2", "minute_embed", "hour_embed", "weekday_embed", "day_embed", "month_embed", "emb"];

/// The calendar tables: name, rows.
pub const CALENDAR_TABLES: [(&str, usize); 5] =
    [("minute", 60), ("hour", 24), ("weekday", 7), ("day", 32), ("month", 13)];

impl TokenizerConfig {
    /// Rejects what no file can satisfy, before a list of tensors is made from it.
    pub fn validate(&self) -> Result<()> {
        if self.d_in != CHANNELS {
            return Err(invalid("d_in", format!("{CHANNELS}"), self.d_in));
        }
        stack("tokenizer n_heads", self.encoder())?;
        for (name, layers) in [("n_enc_layers", self.n_enc_layers), ("n_dec_layers", self.n_dec_layers)] {
            within(name, layers, 1, MAX_LAYERS)?;
        }
        bits(self.s1_bits, self.s2_bits)
    }

    /// Bits of a code.
    pub fn code_bits(&self) -> usize {
        self.s1_bits + self.s2_bits
    }

    /// Blocks of the encoder.
    pub fn encoder(&self) -> StackShape {
        self.stack(self.n_enc_layers)
    }

    /// Blocks of the decoder.
    pub fn decoder(&self) -> StackShape {
        self.stack(self.n_dec_layers)
    }

    fn stack(&self, counted: usize) -> StackShape {
        StackShape {
            layers: counted.saturating_sub(1),
            width: self.d_model,
            heads: self.n_heads,
            ff: self.ff_dim,
        }
    }

    /// The tensors of `model.safetensors`.
    ///
    /// # Errors
    /// As [`TokenizerConfig::validate`].
    pub fn tensors(&self) -> Result<Vec<TensorSpec>> {
        self.validate()?;
        let (d, bits) = (self.d_model, self.code_bits());
        let mut specs = Vec::new();
        specs.extend(linear_specs("embed", d, self.d_in));
        specs.extend(linear_specs("head", self.d_in, d));
        specs.extend(linear_specs("quant_embed", bits, d));
        specs.extend(linear_specs("post_quant_embed", d, bits));
        // The coarse reconstruction is a training matter.
        specs.push(TensorSpec::optional("post_quant_embed_pre.weight", [d, self.s1_bits]));
        specs.push(TensorSpec::optional("post_quant_embed_pre.bias", [d]));
        specs.extend(self.encoder().specs("encoder"));
        specs.extend(self.decoder().specs("decoder"));
        specs.push(TensorSpec::ignored("tokenizer.bsq.basis"));
        specs.push(TensorSpec::ignored("tokenizer.bsq.group_basis"));
        Ok(specs)
    }
}

impl PredictorConfig {
    /// Rejects what no file can satisfy, before a list of tensors is made from it.
    pub fn validate(&self) -> Result<()> {
        within("n_layers", self.n_layers, 1, MAX_LAYERS)?;
        stack("predictor n_heads", self.stack())?;
        if !self.d_model.is_multiple_of(DEPENDENCY_HEADS) {
            return Err(invalid("d_model", format!("a multiple of {DEPENDENCY_HEADS}"), self.d_model));
        }
        bits(self.s1_bits, self.s2_bits)
    }

    /// The blocks.
    pub fn stack(&self) -> StackShape {
        StackShape { layers: self.n_layers, width: self.d_model, heads: self.n_heads, ff: self.ff_dim }
    }

    /// Key of one calendar table.
    /// Name of a table of the calendar in the file.
    pub fn calendar_key(&self, name: &str) -> String {
        format!("time_emb.{name}_embed{}.weight", if self.learn_te { "" } else { ".emb" })
    }

    /// The tensors of `model.safetensors`.
    ///
    /// # Errors
    /// As [`PredictorConfig::validate`].
    pub fn tensors(&self) -> Result<Vec<TensorSpec>> {
        self.validate()?;
        let (d, v1, v2) = (self.d_model, 1 << self.s1_bits, 1 << self.s2_bits);
        let mut specs = vec![
            TensorSpec::required("embedding.emb_s1.weight", [v1, d]),
            TensorSpec::required("embedding.emb_s2.weight", [v2, d]),
            TensorSpec::required("norm.weight", [d]),
            TensorSpec::required("dep_layer.norm.weight", [d]),
            TensorSpec::ignored("dep_layer.cross_attn.rotary.inv_freq"),
        ];
        specs.extend(linear_specs("embedding.fusion_proj", d, 2 * d));
        for (name, rows) in CALENDAR_TABLES {
            specs.push(TensorSpec::required(self.calendar_key(name), [rows, d]));
        }
        specs.extend(self.stack().specs("transformer"));
        for name in ["q_proj", "k_proj", "v_proj", "out_proj"] {
            specs.extend(linear_specs(&format!("dep_layer.cross_attn.{name}"), d, d));
        }
        specs.extend(linear_specs("head.proj_s1", v1, d));
        specs.extend(linear_specs("head.proj_s2", v2, d));
        Ok(specs)
    }
}

/// Ten times the largest known model; a bound so that a hostile file cannot ask for a list without end.
const MAX_LAYERS: usize = 200;
const MAX_WIDTH: usize = 1 << 15;
/// A vocabulary of 65,536; tokens are kept in 16 bits.
const MAX_BITS: usize = 16;

fn invalid(name: &'static str, expected: String, got: impl ToString) -> ModelError {
    ModelError::InvalidParameter { name, expected, got: got.to_string() }
}

fn within(name: &'static str, got: usize, least: usize, most: usize) -> Result<()> {
    if (least..=most).contains(&got) {
        Ok(())
    } else {
        Err(invalid(name, format!("between {least} and {most}"), got))
    }
}

fn stack(heads_name: &'static str, shape: StackShape) -> Result<()> {
    within("d_model", shape.width, 2, MAX_WIDTH)?;
    within("ff_dim", shape.ff, 1, MAX_WIDTH)?;
    if shape.heads == 0 || !shape.width.is_multiple_of(2 * shape.heads) {
        let expected = format!("a divisor of d_model {} that leaves an even head width", shape.width);
        return Err(invalid(heads_name, expected, shape.heads));
    }
    Ok(())
}

fn bits(s1: usize, s2: usize) -> Result<()> {
    within("s1_bits", s1, 1, MAX_BITS)?;
    within("s2_bits", s2, 1, MAX_BITS)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parameters(specs: &[TensorSpec]) -> usize {
        use crate::artifact::TensorRole::Ignored;
        specs
            .iter()
            .filter(|spec| spec.role != Ignored)
            .map(|spec| spec.shape.iter().product::<usize>())
            .sum()
    }

    /// Parameter counts of the published sizes: SPEC of the reference implementation at commit 67b630e.
    #[test]
    fn published_sizes_have_their_published_parameter_counts() {
        let tokenizer = TokenizerConfig {
            d_in: 6,
            d_model: 256,
            n_heads: 4,
            ff_dim: 512,
            n_enc_layers: 4,
            n_dec_layers: 4,
            s1_bits: 10,
            s2_bits: 10,
        };
        assert_eq!(parameters(&tokenizer.tensors().unwrap()), 3_958_042);
        for (d_model, n_heads, ff_dim, n_layers, expected) in
            [(256, 4, 512, 4, 4_108_032), (512, 8, 1024, 8, 24_741_376), (832, 16, 2048, 12, 102_310_592)]
        {
            let config = PredictorConfig {
                d_model,
                n_heads,
                ff_dim,
                n_layers,
                s1_bits: 10,
                s2_bits: 10,
                learn_te: true,
            };
            assert_eq!(parameters(&config.tensors().unwrap()), expected);
        }
    }

    #[test]
    fn absurd_configurations_are_refused() {
        let good = PredictorConfig {
            d_model: 48,
            n_heads: 6,
            ff_dim: 96,
            n_layers: 3,
            s1_bits: 5,
            s2_bits: 5,
            learn_te: true,
        };
        assert!(good.validate().is_ok());
        for bad in [
            PredictorConfig { n_heads: 0, ..good.clone() },
            PredictorConfig { n_heads: 48, ..good.clone() },
            PredictorConfig { n_layers: usize::MAX, ..good.clone() },
            PredictorConfig { s1_bits: 60, ..good.clone() },
            PredictorConfig { d_model: 0, ..good.clone() },
            PredictorConfig { d_model: 54, ..good.clone() },
        ] {
            assert!(bad.tensors().is_err(), "{bad:?}");
        }
    }
}
