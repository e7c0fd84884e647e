//! `config.json` of a Chronos-2 model and the tensors it implies.

use crate::artifact::TensorSpec;
use crate::error::{ModelError, Result};
use crate::layers::cpu::cache::HeadShape;
use crate::layers::t5::{attention_specs, feed_forward_specs, residual_block_specs};
use serde::{Deserialize, Serialize};

/// Ends of the names of matrices that are tables, not linear maps.
pub const TABLES: &[&str] = &["shared"];

/// `config.json`; keys that matter in training only are not read, and absent ones have the reference's defaults.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Config {
    /// Class names of the model; the first decides.
    #[serde(default)]
    pub architectures: Vec<String>,
    /// `t5` for every Chronos family, or `chronos2`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model_type: Option<String>,
    /// Width of the residual stream.
    #[serde(default = "defaults::d_model")]
    pub d_model: usize,
    /// Width of a head; heads need not add up to `d_model`.
    #[serde(default = "defaults::d_kv")]
    pub d_kv: usize,
    /// Hidden width of the feed-forward unit and of the patch embeddings.
    #[serde(default = "defaults::d_ff")]
    pub d_ff: usize,
    /// Number of blocks.
    #[serde(default = "defaults::num_layers")]
    pub num_layers: usize,
    /// Attention heads.
    #[serde(default = "defaults::num_heads")]
    pub num_heads: usize,
    /// Added to the mean square in every norm.
    #[serde(default = "defaults::layer_norm_epsilon")]
    pub layer_norm_epsilon: f32,
    /// Activation, after the last "-"; only `relu` exists in published models.
    #[serde(default = "defaults::feed_forward_proj")]
    pub feed_forward_proj: String,
    /// Base of the rotary frequencies.
    #[serde(default = "defaults::rope_theta")]
    pub rope_theta: f64,
    /// What is particular to time series.
    pub chronos_config: ChronosConfig,
}

/// The object `chronos_config`. An unknown key changes the model in a way this code does not know, and is refused.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChronosConfig {
    /// Longest history used, in points.
    pub context_length: usize,
    /// Points of a patch.
    pub input_patch_size: usize,
    /// Points between the starts of two patches; equal to the size.
    pub input_patch_stride: usize,
    /// Points of a forecast patch; equal to the input's.
    pub output_patch_size: usize,
    /// Forecast patches of one pass.
    #[serde(default = "defaults::max_output_patches")]
    pub max_output_patches: usize,
    /// Quantile levels, ascending.
    pub quantiles: Vec<f64>,
    /// Whether the inverse hyperbolic sine follows the standardisation.
    #[serde(default)]
    pub use_arcsinh: bool,
    /// Whether a token separates history and future; always, in a model that can run.
    #[serde(default)]
    pub use_reg_token: bool,
    /// Points per unit of the time encoding; absent: the context length.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_encoding_scale: Option<f64>,
}

mod defaults {
    pub fn d_model() -> usize {
        512
    }
    pub fn d_kv() -> usize {
        64
    }
    pub fn d_ff() -> usize {
        2048
    }
    pub fn num_layers() -> usize {
        6
    }
    pub fn num_heads() -> usize {
        8
    }
    pub fn layer_norm_epsilon() -> f32 {
        1e-6
    }
    pub fn feed_forward_proj() -> String {
        "relu".into()
    }
    pub fn rope_theta() -> f64 {
        10_000.0
    }
    pub fn max_output_patches() -> usize {
        1
    }
}

/// The class name that marks the family.
const ARCHITECTURE: &str = "Chronos2Model";

impl Config {
    /// Rejects what no file can satisfy or no forward pass can run, before a list of tensors is made from it.
    pub fn validate(&self) -> Result<()> {
        let named = self.architectures.first().is_some_and(|name| name == ARCHITECTURE);
        if !named && self.model_type.as_deref() != Some("chronos2") {
            let got = self.architectures.first().map_or("none", String::as_str);
            return Err(invalid("architectures", format!("\"{ARCHITECTURE}\""), got));
        }
        within("num_layers", self.num_layers, 1, MAX_LAYERS)?;
        attention_shape(self.d_model, self.d_kv, self.num_heads, self.d_ff)?;
        if !self.d_kv.is_multiple_of(2) {
            return Err(invalid("d_kv", "even".into(), self.d_kv));
        }
        activation(&self.feed_forward_proj, self.layer_norm_epsilon)?;
        if !(self.rope_theta.is_finite() && self.rope_theta >= 1.0) {
            return Err(invalid("rope_theta", "at least 1".into(), self.rope_theta));
        }
        let chronos = &self.chronos_config;
        within("context_length", chronos.context_length, 1, MAX_CONTEXT)?;
        within("input_patch_size", chronos.input_patch_size, 1, MAX_PATCH)?;
        for (name, got) in [
            ("output_patch_size", chronos.output_patch_size),
            ("input_patch_stride", chronos.input_patch_stride),
        ] {
            if got != chronos.input_patch_size {
                return Err(invalid(name, format!("the input_patch_size {}", chronos.input_patch_size), got));
            }
        }
        within("max_output_patches", chronos.max_output_patches, 1, MAX_CONTEXT / chronos.input_patch_size)?;
        quantile_levels(&chronos.quantiles)?;
        if !chronos.use_reg_token {
            return Err(invalid("use_reg_token", "true".into(), false));
        }
        let scale = self.time_encoding_scale();
        if !(scale.is_finite() && scale > 0.0) {
            return Err(invalid("time_encoding_scale", "greater than 0".into(), scale));
        }
        Ok(())
    }

    /// Points of a patch.
    pub fn patch(&self) -> usize {
        self.chronos_config.input_patch_size
    }

    /// Steps of one pass.
    pub fn steps_per_pass(&self) -> usize {
        self.chronos_config.max_output_patches * self.patch()
    }

    /// Points per unit of the time encoding.
    pub fn time_encoding_scale(&self) -> f64 {
        self.chronos_config.time_encoding_scale.unwrap_or(self.chronos_config.context_length as f64)
    }

    /// Heads and their width.
    pub fn heads(&self) -> HeadShape {
        HeadShape { heads: self.num_heads, dim: self.d_kv }
    }

    /// The tensors of `model.safetensors`.
    ///
    /// # Errors
    /// As [`Config::validate`].
    pub fn tensors(&self) -> Result<Vec<TensorSpec>> {
        self.validate()?;
        let (d, patch) = (self.d_model, self.patch());
        let mut specs = vec![
            TensorSpec::required("shared.weight", [2, d]),
            TensorSpec::required("encoder.final_layer_norm.weight", [d]),
        ];
        specs.extend(residual_block_specs("input_patch_embedding", 3 * patch, self.d_ff, d));
        let outputs = self.chronos_config.quantiles.len() * patch;
        specs.extend(residual_block_specs("output_patch_embedding", d, self.d_ff, outputs));
        for block in 0..self.num_layers {
            let layer = |layer: usize| format!("encoder.block.{block}.layer.{layer}");
            specs.extend(attention_specs(&layer(0), SELF_ATTENTION, self.heads(), d));
            specs.extend(attention_specs(&layer(1), SELF_ATTENTION, self.heads(), d));
            specs.extend(feed_forward_specs(&layer(2), FEED_FORWARD, d, self.d_ff));
        }
        Ok(specs)
    }
}

/// Names of the sublayers in the file.
pub const SELF_ATTENTION: &str = "self_attention";
/// See [`SELF_ATTENTION`].
pub const FEED_FORWARD: &str = "mlp";

/// Ten times the largest known model; a bound so that a hostile file cannot ask for a list without end.
pub(crate) const MAX_LAYERS: usize = 200;
const MAX_WIDTH: usize = 1 << 15;
pub(crate) const MAX_PATCH: usize = 1 << 10;
pub(crate) const MAX_CONTEXT: usize = 1 << 20;
const MAX_LEVELS: usize = 1000;

pub(crate) fn invalid(name: &'static str, expected: String, got: impl ToString) -> ModelError {
    ModelError::InvalidParameter { name, expected, got: got.to_string() }
}

pub(crate) fn within(name: &'static str, got: usize, least: usize, most: usize) -> Result<()> {
    if (least..=most).contains(&got) {
        Ok(())
    } else {
        Err(invalid(name, format!("between {least} and {most}"), got))
    }
}

/// Checks the widths of a T5 stack.
pub(crate) fn attention_shape(d_model: usize, d_kv: usize, num_heads: usize, d_ff: usize) -> Result<()> {
    within("d_model", d_model, 1, MAX_WIDTH)?;
    within("d_ff", d_ff, 1, MAX_WIDTH)?;
    within("d_kv", d_kv, 1, MAX_WIDTH)?;
    within("num_heads", num_heads, 1, MAX_WIDTH / d_kv)
}

/// Checks activation and epsilon of a T5 stack.
pub(crate) fn activation(feed_forward_proj: &str, epsilon: f32) -> Result<()> {
    if feed_forward_proj != "relu" {
        return Err(invalid("feed_forward_proj", "\"relu\"".into(), feed_forward_proj));
    }
    if !(epsilon.is_finite() && epsilon >= 0.0) {
        return Err(invalid("layer_norm_epsilon", "at least 0".into(), epsilon));
    }
    Ok(())
}

/// Checks the levels of a model: ascending, inside (0, 1), with a median, for that is the point forecast.
pub(crate) fn quantile_levels(levels: &[f64]) -> Result<()> {
    within("quantiles", levels.len(), 1, MAX_LEVELS)?;
    crate::quantile::QuantileLevels::new(levels.to_vec())?;
    if levels.contains(&0.5) {
        Ok(())
    } else {
        Err(invalid("quantiles", "a list with 0.5".into(), "one without"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn published() -> Value {
        let levels: Vec<f64> =
            [1, 5, 10, 15, 20, 25, 30, 35, 40, 45, 50, 55, 60, 65, 70, 75, 80, 85, 90, 95, 99]
                .map(|percent| f64::from(percent) / 100.0)
                .to_vec();
        json!({
            "architectures": ["Chronos2Model"], "model_type": "t5", "torch_dtype": "float32", "vocab_size": 2,
            "d_model": 768, "d_kv": 64, "d_ff": 3072, "num_layers": 12, "num_heads": 12, "rope_theta": 10000.0,
            "chronos_config": {
                "context_length": 8192, "input_patch_size": 16, "input_patch_stride": 16, "output_patch_size": 16,
                "max_output_patches": 64, "quantiles": levels, "use_arcsinh": true, "use_reg_token": true,
                "time_encoding_scale": 8192
            }
        })
    }

    fn tensors(config: Value) -> Result<Vec<TensorSpec>> {
        serde_json::from_value::<Config>(config)
            .map_err(|e| invalid("config", "readable".into(), e))?
            .tensors()
    }

    /// The parameter count of amazon/chronos-2 as published.
    #[test]
    fn the_published_shape_has_the_published_number_of_parameters() {
        let specs = tensors(published()).unwrap();
        assert_eq!(specs.len(), 14 + 13 * 12);
        assert_eq!(specs.iter().map(|spec| spec.shape.iter().product::<usize>()).sum::<usize>(), 119_477_664);
    }

    #[test]
    fn absent_keys_have_the_defaults_of_the_reference() {
        let mut config = published();
        for key in ["d_model", "d_kv", "d_ff", "num_layers", "num_heads", "rope_theta"] {
            config.as_object_mut().unwrap().remove(key);
        }
        let chronos = config["chronos_config"].as_object_mut().unwrap();
        chronos.remove("time_encoding_scale");
        chronos.remove("max_output_patches");
        let config: Config = serde_json::from_value(config).unwrap();
        config.validate().unwrap();
        assert_eq!((config.d_model, config.num_layers, config.num_heads), (512, 6, 8));
        assert_eq!((config.time_encoding_scale(), config.steps_per_pass()), (8192.0, 16));
    }

    #[test]
    fn what_cannot_work_is_refused_by_name() {
        for (pointer, value, named) in [
            ("/architectures/0", json!("T5ForConditionalGeneration"), "architectures"),
            ("/d_kv", json!(63), "d_kv"),
            ("/num_layers", json!(1_000_000), "num_layers"),
            ("/feed_forward_proj", json!("gated-gelu"), "feed_forward_proj"),
            ("/rope_theta", json!(0.0), "rope_theta"),
            ("/chronos_config/input_patch_stride", json!(8), "input_patch_stride"),
            ("/chronos_config/output_patch_size", json!(32), "output_patch_size"),
            ("/chronos_config/use_reg_token", json!(false), "use_reg_token"),
            ("/chronos_config/time_encoding_scale", json!(0), "time_encoding_scale"),
            ("/chronos_config/quantiles", json!([0.9, 0.5]), "quantile_levels"),
            ("/chronos_config/quantiles", json!([0.1, 0.9]), "quantiles"),
            ("/chronos_config/seasonality", json!(7), "seasonality"),
        ] {
            let mut config = published();
            let (parent, key) = pointer.rsplit_once('/').unwrap();
            match config.pointer_mut(parent).unwrap() {
                Value::Array(items) => items[0] = value,
                object => object[key] = value,
            }
            let message = tensors(config).unwrap_err().to_string();
            assert!(message.contains(named), "{pointer}: {message}");
        }
        let mut native = published();
        native["model_type"] = json!("chronos2");
        native["architectures"] = json!([]);
        tensors(native).unwrap();
    }
}
