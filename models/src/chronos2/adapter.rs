//! Low-rank adapters as PEFT writes them: W ← W + s·B·A, merged once at load.

use super::config::{invalid, within};
use crate::artifact::{TensorSpec, Tensors, read_config, read_tensors};
use crate::error::{ModelError, Result};
use candle_core::{Device, Tensor};
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;

/// `adapter_config.json`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct AdapterConfig {
    /// `LORA`.
    pub peft_type: String,
    /// Where the adapter's author kept the base model: a hub name or a path, for information only.
    #[serde(default)]
    pub base_model_name_or_path: Option<String>,
    /// Rank.
    pub r: usize,
    /// Numerator of the scale.
    pub lora_alpha: f64,
    /// Scale by the square root of the rank instead of the rank.
    #[serde(default)]
    pub use_rslora: bool,
    /// Ranks that differ, by the end of the module's name.
    #[serde(default)]
    rank_pattern: BTreeMap<String, usize>,
    /// Alphas that differ, likewise.
    #[serde(default)]
    alpha_pattern: BTreeMap<String, f64>,
    /// Ends of the names of the modules that are adapted.
    target_modules: Value,
    #[serde(default)]
    bias: Option<String>,
    /// What this code does not do, by key; refused when set.
    #[serde(flatten)]
    others: BTreeMap<String, Value>,
}

/// Keys that change what the adapter computes and that no published Chronos adapter sets.
const REFUSED: [&str; 14] = [
    "use_dora",
    "modules_to_save",
    "fan_in_fan_out",
    "lora_bias",
    "layers_to_transform",
    "layers_pattern",
    "layer_replication",
    "exclude_modules",
    "trainable_token_indices",
    "target_parameters",
    "megatron_config",
    "alora_invocation_tokens",
    "use_qalora",
    "use_bdlora",
];

impl AdapterConfig {
    fn validate(&self) -> Result<()> {
        if self.peft_type != "LORA" {
            return Err(invalid("peft_type", "\"LORA\"".into(), &self.peft_type));
        }
        if let Some(bias) = self.bias.as_ref().filter(|bias| *bias != "none") {
            return Err(invalid("bias", "\"none\"".into(), bias));
        }
        let set = |value: &Value| match value {
            Value::Null | Value::Bool(false) => false,
            Value::Array(items) => !items.is_empty(),
            Value::Object(items) => !items.is_empty(),
            _ => true,
        };
        match REFUSED.iter().find(|key| self.others.get(**key).is_some_and(set)) {
            Some(key) => Err(invalid(
                "adapter",
                format!("one that does not set {key}"),
                format!("{}", self.others[*key]),
            )),
            None => Ok(()),
        }
    }

    /// The ends of the names of the adapted modules.
    fn targets(&self) -> Result<Vec<&str>> {
        let names = || self.target_modules.as_array()?.iter().map(Value::as_str).collect::<Option<Vec<_>>>();
        names()
            .filter(|names| !names.is_empty())
            .ok_or_else(|| invalid("target_modules", "a list of module names".into(), &self.target_modules))
    }

    fn rank(&self, module: &str) -> usize {
        ending(&self.rank_pattern, module).copied().unwrap_or(self.r)
    }

    fn scale(&self, module: &str) -> f64 {
        let (alpha, rank) =
            (ending(&self.alpha_pattern, module).unwrap_or(&self.lora_alpha), self.rank(module) as f64);
        alpha / if self.use_rslora { rank.sqrt() } else { rank }
    }
}

/// Whether `module` is `name` or ends in `.name`.
fn ends_in(module: &str, name: &str) -> bool {
    module.strip_suffix(name).is_some_and(|front| front.is_empty() || front.ends_with('.'))
}

fn ending<'a, T>(patterns: &'a BTreeMap<String, T>, module: &str) -> Option<&'a T> {
    patterns.iter().find(|(name, _)| ends_in(module, name)).map(|(_, value)| value)
}

/// Merges the adapter of a directory (`adapter_config.json`, `adapter_model.safetensors`) into the tensors of its base.
///
/// # Errors
/// What [`read_config`] and [`read_tensors`] say of the files; [`ModelError::ArtifactCorrupt`] for a kind of adapter
/// that is not a plain low-rank one, and for one that fits no matrix of the base.
pub fn merge(directory: &Path, base: &[TensorSpec], tensors: &mut Tensors) -> Result<()> {
    let path = directory.join("adapter_config.json");
    let config: AdapterConfig = read_config(&path)?;
    let refuse =
        |error: ModelError| ModelError::ArtifactCorrupt { path: path.clone(), reason: error.to_string() };
    config.validate().map_err(refuse)?;
    let targets = config.targets().map_err(refuse)?;
    let mut modules = Vec::new();
    for spec in base {
        let (Some(module), [rows, columns]) = (spec.name.strip_suffix(".weight"), spec.shape.as_slice())
        else {
            continue;
        };
        // The one matrix that is a table, not a linear map.
        if module != "shared" && targets.iter().any(|target| ends_in(module, target)) {
            within("r", config.rank(module), 1, *rows.max(columns)).map_err(refuse)?;
            modules.push((module, *rows, *columns));
        }
    }
    if modules.is_empty() {
        return Err(refuse(invalid("target_modules", "modules of the base".into(), &config.target_modules)));
    }
    let key = |module: &str, part: &str| format!("base_model.model.{module}.lora_{part}.weight");
    let specs: Vec<TensorSpec> = modules
        .iter()
        .flat_map(|&(module, rows, columns)| {
            let rank = config.rank(module);
            [
                TensorSpec::required(key(module, "A"), [rank, columns]),
                TensorSpec::required(key(module, "B"), [rows, rank]),
            ]
        })
        .collect();
    let adapter = read_tensors(&directory.join("adapter_model.safetensors"), &specs, &Device::Cpu)?;
    for (module, rows, columns) in modules {
        let values = |name: &str, tensors: &Tensors| -> Result<Vec<f32>> {
            Ok(crate::layers::linear::tensor(tensors, name)?.flatten_all()?.to_vec1()?)
        };
        let (a, b) = (values(&key(module, "A"), &adapter)?, values(&key(module, "B"), &adapter)?);
        let name = format!("{module}.weight");
        let mut weight = values(&name, tensors)?;
        let (rank, scale) = (config.rank(module), config.scale(module));
        for (row, weight) in weight.chunks_exact_mut(columns).enumerate() {
            for (column, weight) in weight.iter_mut().enumerate() {
                let product: f64 = (0..rank)
                    .map(|k| f64::from(b[row * rank + k]) * f64::from(a[k * columns + column]))
                    .sum();
                *weight = (f64::from(*weight) + scale * product) as f32;
            }
        }
        tensors.insert(name, Tensor::from_vec(weight, (rows, columns), &Device::Cpu)?);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn config(change: impl Fn(&mut Value)) -> AdapterConfig {
        let mut value = json!({
            "peft_type": "LORA", "r": 8, "lora_alpha": 16, "bias": "none", "use_dora": false, "modules_to_save": null,
            "target_modules": ["self_attention.q", "output_patch_embedding.output_layer"], "lora_dropout": 0.0,
            "rank_pattern": {"block.1.layer.0.self_attention.q": 4}, "alpha_pattern": {}
        });
        change(&mut value);
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn scales_follow_rank_and_alpha() {
        let plain = config(|_| {});
        plain.validate().unwrap();
        assert_eq!(plain.scale("encoder.block.0.layer.0.self_attention.q"), 2.0);
        assert_eq!(plain.scale("encoder.block.1.layer.0.self_attention.q"), 4.0);
        assert_eq!(config(|c| c["use_rslora"] = json!(true)).scale("x"), 16.0 / 8f64.sqrt());
        assert!(
            ends_in("self_attention.q", "self_attention.q")
                && !ends_in("cross_self_attention.q", "self_attention.q")
        );
    }

    #[test]
    fn other_kinds_of_adapters_are_refused_by_key() {
        for (key, value) in [
            ("use_dora", json!(true)),
            ("modules_to_save", json!(["shared"])),
            ("bias", json!("all")),
            ("peft_type", json!("IA3")),
            ("fan_in_fan_out", json!(true)),
        ] {
            let message = config(|c| c[key] = value.clone()).validate().unwrap_err().to_string();
            assert!(message.contains(key), "{message}");
        }
        assert!(config(|c| c["target_modules"] = json!("all-linear")).targets().is_err());
    }

    /// Rank 1 and alpha 2: twice the product of a column and a row is added, to the matrix that is named and to no other.
    #[test]
    fn a_merged_matrix_is_the_base_and_the_scaled_product() {
        let folder = tempfile::tempdir().unwrap();
        let adapter = json!({"peft_type": "LORA", "r": 1, "lora_alpha": 2, "target_modules": ["q"]});
        std::fs::write(folder.path().join("adapter_config.json"), adapter.to_string()).unwrap();
        let part = |name: &str, shape: (usize, usize), values: &[f32]| {
            let tensor = Tensor::from_slice(values, shape, &Device::Cpu).unwrap();
            (format!("base_model.model.layer.q.lora_{name}.weight"), tensor)
        };
        let parts = Tensors::from([part("A", (1, 3), &[1.0, 2.0, 3.0]), part("B", (2, 1), &[10.0, -1.0])]);
        candle_core::safetensors::save(&parts, folder.path().join("adapter_model.safetensors")).unwrap();

        let base = ["layer.q.weight", "layer.k.weight"].map(|name| TensorSpec::required(name, [2, 3]));
        let ones = || Tensor::ones((2, 3), candle_core::DType::F32, &Device::Cpu).unwrap();
        let mut tensors: Tensors = base.iter().map(|spec| (spec.name.clone(), ones())).collect();
        merge(folder.path(), &base, &mut tensors).unwrap();
        let merged = |name: &str| tensors[name].to_vec2::<f32>().unwrap();
        assert_eq!(merged("layer.q.weight"), [[21.0, 41.0, 61.0], [-1.0, -3.0, -5.0]]);
        assert_eq!(merged("layer.k.weight"), [[1.0; 3]; 2]);
    }
}
