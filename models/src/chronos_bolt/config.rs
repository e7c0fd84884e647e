//! `config.json` of a Chronos-Bolt model and the tensors it implies.

use crate::artifact::TensorSpec;
use crate::chronos2::config::{
    MAX_CONTEXT, MAX_LAYERS, MAX_PATCH, activation, attention_shape, invalid, quantile_levels, within,
};
use crate::error::Result;
use crate::layers::cpu::cache::HeadShape;
use crate::layers::t5::{attention_specs, feed_forward_specs, residual_block_specs};
use serde::Deserialize;

/// `config.json`; keys that matter in training only are not read.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Config {
    /// Class names of the model; the first decides.
    #[serde(default)]
    pub architectures: Vec<String>,
    /// Width of the residual stream.
    pub d_model: usize,
    /// Width of a head; heads need not add up to `d_model`.
    pub d_kv: usize,
    /// Hidden width of the feed-forward unit and of the patch embeddings.
    pub d_ff: usize,
    /// Encoder blocks.
    pub num_layers: usize,
    /// Decoder blocks; absent: as many as encoder blocks.
    #[serde(default)]
    pub num_decoder_layers: Option<usize>,
    /// Attention heads.
    pub num_heads: usize,
    /// Rows of the table of relative positions, half of them for each direction.
    #[serde(default = "defaults::buckets")]
    pub relative_attention_num_buckets: usize,
    /// Distance from which on all positions share the last bucket.
    #[serde(default = "defaults::max_distance")]
    pub relative_attention_max_distance: usize,
    /// Row of the embedding table that the decoder begins with.
    #[serde(default)]
    pub decoder_start_token_id: usize,
    /// Added to the mean square in every norm.
    #[serde(default = "defaults::layer_norm_epsilon")]
    pub layer_norm_epsilon: f32,
    /// Activation; only `relu` exists in published models.
    #[serde(default = "defaults::feed_forward_proj")]
    pub feed_forward_proj: String,
    /// What is particular to time series.
    pub chronos_config: ChronosConfig,
}

/// The object `chronos_config`. An unknown key changes the model in a way this code does not know, and is refused.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChronosConfig {
    /// Longest history used, in points.
    pub context_length: usize,
    /// Steps of one pass.
    pub prediction_length: usize,
    /// Points of a patch.
    pub input_patch_size: usize,
    /// Points between the starts of two patches; equal to the size.
    pub input_patch_stride: usize,
    /// Quantile levels, ascending.
    pub quantiles: Vec<f64>,
    /// Whether a token follows the history.
    #[serde(default)]
    pub use_reg_token: bool,
}

mod defaults {
    pub fn buckets() -> usize {
        32
    }
    pub fn max_distance() -> usize {
        128
    }
    pub fn layer_norm_epsilon() -> f32 {
        1e-6
    }
    pub fn feed_forward_proj() -> String {
        "relu".into()
    }
}

/// The class name that marks the family.
const ARCHITECTURE: &str = "ChronosBoltModelForForecasting";

/// Rows of the embedding table: padding, and the token after the history.
pub(super) const VOCABULARY: usize = 2;

impl Config {
    /// Rejects what no file can satisfy, before a list of tensors is made from it.
    pub fn validate(&self) -> Result<()> {
        if self.architectures.first().is_none_or(|name| name != ARCHITECTURE) {
            let got = self.architectures.first().map_or("none", String::as_str);
            return Err(invalid("architectures", format!("\"{ARCHITECTURE}\""), got));
        }
        within("num_layers", self.num_layers, 1, MAX_LAYERS)?;
        within("num_decoder_layers", self.decoder_layers(), 1, MAX_LAYERS)?;
        attention_shape(self.d_model, self.d_kv, self.num_heads, self.d_ff)?;
        activation(&self.feed_forward_proj, self.layer_norm_epsilon)?;
        // Four rows are the least that leaves each direction an exact and a logarithmic half.
        within("relative_attention_num_buckets", self.relative_attention_num_buckets, 4, MAX_CONTEXT)?;
        let exact = self.relative_attention_num_buckets / 4;
        within(
            "relative_attention_max_distance",
            self.relative_attention_max_distance,
            exact + 1,
            MAX_CONTEXT,
        )?;
        within("decoder_start_token_id", self.decoder_start_token_id, 0, VOCABULARY - 1)?;
        let chronos = &self.chronos_config;
        within("context_length", chronos.context_length, 1, MAX_CONTEXT)?;
        within("prediction_length", chronos.prediction_length, 1, MAX_CONTEXT)?;
        within("input_patch_size", chronos.input_patch_size, 1, MAX_PATCH)?;
        if chronos.input_patch_stride != chronos.input_patch_size {
            let expected = format!("the input_patch_size {}", chronos.input_patch_size);
            return Err(invalid("input_patch_stride", expected, chronos.input_patch_stride));
        }
        quantile_levels(&chronos.quantiles)
    }

    /// Decoder blocks.
    pub fn decoder_layers(&self) -> usize {
        self.num_decoder_layers.unwrap_or(self.num_layers)
    }

    pub(super) fn heads(&self) -> HeadShape {
        HeadShape { heads: self.num_heads, dim: self.d_kv }
    }

    /// The tensors of `model.safetensors`.
    ///
    /// # Errors
    /// As [`Config::validate`].
    pub fn tensors(&self) -> Result<Vec<TensorSpec>> {
        self.validate()?;
        let (d, ff, heads, chronos) = (self.d_model, self.d_ff, self.heads(), &self.chronos_config);
        let mut specs = vec![
            TensorSpec::required("shared.weight", [VOCABULARY, d]),
            TensorSpec::required("encoder.final_layer_norm.weight", [d]),
            TensorSpec::required("decoder.final_layer_norm.weight", [d]),
            TensorSpec::required(bias_key("encoder"), [self.relative_attention_num_buckets, self.num_heads]),
            // The decoder has one token, whose distance to itself adds the same to its only score.
            TensorSpec::ignored(bias_key("decoder")),
            // Copies of the embedding table, and the head of the language model it was made from.
            TensorSpec::ignored("encoder.embed_tokens.weight"),
            TensorSpec::ignored("decoder.embed_tokens.weight"),
            TensorSpec::ignored("lm_head.weight"),
        ];
        specs.extend(residual_block_specs("input_patch_embedding", 2 * chronos.input_patch_size, ff, d));
        let outputs = chronos.quantiles.len() * chronos.prediction_length;
        specs.extend(residual_block_specs("output_patch_embedding", d, ff, outputs));
        for block in 0..self.num_layers {
            specs.extend(attention_specs(&layer("encoder", block, 0), SELF_ATTENTION, heads, d));
            specs.extend(feed_forward_specs(&layer("encoder", block, 1), FEED_FORWARD, d, ff));
        }
        for block in 0..self.decoder_layers() {
            specs.extend(attention_specs(&layer("decoder", block, 0), SELF_ATTENTION, heads, d));
            specs.extend(attention_specs(&layer("decoder", block, 1), CROSS_ATTENTION, heads, d));
            specs.extend(feed_forward_specs(&layer("decoder", block, 2), FEED_FORWARD, d, ff));
        }
        Ok(specs)
    }
}

/// Names of the sublayers in the file.
pub(super) const SELF_ATTENTION: &str = "SelfAttention";
pub(super) const CROSS_ATTENTION: &str = "EncDecAttention";
pub(super) const FEED_FORWARD: &str = "DenseReluDense";

/// Key of a sublayer.
pub(super) fn layer(stack: &str, block: usize, layer: usize) -> String {
    format!("{stack}.block.{block}.layer.{layer}")
}

/// Key of a stack's table of relative positions, kept in its first block.
pub(super) fn bias_key(stack: &str) -> String {
    format!("{}.{SELF_ATTENTION}.relative_attention_bias.weight", layer(stack, 0, 0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// Sizes and parameter counts of the published models: tiny 9M, mini 21M, small 48M, base 205M.
    #[test]
    fn published_sizes_have_their_published_parameter_counts() {
        for (d, layers, heads, ff, millions) in
            [(256, 4, 4, 1024, 9), (384, 4, 8, 1536, 21), (512, 6, 8, 2048, 48), (768, 12, 12, 3072, 205)]
        {
            let config: Config = serde_json::from_value(json!({
                "architectures": ["ChronosBoltModelForForecasting"], "d_model": d, "d_kv": 64, "d_ff": ff,
                "num_layers": layers, "num_decoder_layers": layers, "num_heads": heads, "model_type": "t5",
                "chronos_config": {
                    "context_length": 2048, "input_patch_size": 16, "input_patch_stride": 16, "prediction_length": 64,
                    "quantiles": [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9], "use_reg_token": true
                }
            }))
            .unwrap();
            let specs = config.tensors().unwrap();
            let read = specs.iter().filter(|spec| spec.role == crate::artifact::TensorRole::Required);
            let parameters: usize = read.map(|spec| spec.shape.iter().product::<usize>()).sum();
            assert_eq!((parameters as f64 / 1e6).round() as usize, millions);
        }
    }
}
