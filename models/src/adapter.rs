//! Low-rank adapters of any family, as PEFT writes them: W ← W + s·B·A of linear maps by their names.
//!
//! They are merged when a model is loaded, so that no network knows of them and a forecast costs what it did.

use crate::artifact::{TensorSpec, Tensors, read_config, read_tensors, sha256_file};
use crate::error::{ModelError, Result};
use candle_core::{Device, Tensor};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;

/// `adapter_config.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AdapterConfig {
    /// `LORA`.
    pub peft_type: String,
    /// Where the adapter's author kept the base model: a hub name or a path, for information only.
    #[serde(default)]
    pub base_model_name_or_path: Option<String>,
    /// SHA-256 of the weights that the adapter was made for; PEFT writes none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base_sha256: Option<String>,
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

/// The file that describes an adapter in its directory.
pub const CONFIG: &str = "adapter_config.json";

/// The file of its weights.
pub const WEIGHTS: &str = "adapter_model.safetensors";

/// A linear map that an adapter changes.
#[derive(Debug, Clone, PartialEq)]
pub struct Module {
    /// Its name in the base, without `.weight`.
    pub name: String,
    /// Outputs and inputs.
    pub shape: (usize, usize),
    /// Columns of B and rows of A.
    pub rank: usize,
    /// What the product is multiplied with.
    pub scale: f64,
}

impl Module {
    /// The name of A or B in the file.
    pub fn key(&self, part: &str) -> String {
        format!("base_model.model.{}.lora_{part}.weight", self.name)
    }

    /// A and B as the file must have them.
    pub fn specs(&self) -> [TensorSpec; 2] {
        let (rows, columns) = self.shape;
        [
            TensorSpec::required(self.key("A"), [self.rank, columns]),
            TensorSpec::required(self.key("B"), [rows, self.rank]),
        ]
    }

    /// Adds the scaled product to a weight; each sum in double precision, rounded once.
    ///
    /// # Shapes
    /// `weight`: [outputs, inputs]; `a`: [rank, inputs]; `b`: [outputs, rank].
    pub fn add(&self, weight: &mut [f32], a: &[f32], b: &[f32]) {
        let (rank, columns) = (self.rank, self.shape.1);
        for (row, weight) in weight.chunks_exact_mut(columns).enumerate() {
            for (column, weight) in weight.iter_mut().enumerate() {
                let product: f64 = (0..rank)
                    .map(|k| f64::from(b[row * rank + k]) * f64::from(a[k * columns + column]))
                    .sum();
                *weight = (f64::from(*weight) + self.scale * product) as f32;
            }
        }
    }
}

impl AdapterConfig {
    /// An adapter of one rank and scale for the modules whose names end so.
    pub fn new(rank: usize, alpha: f64, targets: &[String], base_sha256: Option<String>) -> Self {
        Self {
            peft_type: "LORA".into(),
            base_model_name_or_path: None,
            base_sha256,
            r: rank,
            lora_alpha: alpha,
            use_rslora: false,
            rank_pattern: BTreeMap::new(),
            alpha_pattern: BTreeMap::new(),
            target_modules: Value::from(targets),
            bias: Some("none".into()),
            others: BTreeMap::new(),
        }
    }

    /// The modules of a base that the adapter changes: matrices whose names end as it says, but those of `tables`, which are no
    /// linear maps.
    ///
    /// # Errors
    /// [`ModelError::InvalidParameter`] for a kind of adapter that is not a plain low-rank one, and for one that fits no matrix.
    pub fn modules(&self, base: &[TensorSpec], tables: &[&str]) -> Result<Vec<Module>> {
        self.validate()?;
        let targets = self.targets()?;
        let mut modules = Vec::new();
        for spec in base {
            let (Some(name), [rows, columns]) = (spec.name.strip_suffix(".weight"), spec.shape.as_slice())
            else {
                continue;
            };
            let named = |ends: &[&str]| ends.iter().any(|end| ends_in(name, end));
            if named(&targets) && !named(tables) {
                let (rank, most) = (self.rank(name), *rows.max(columns));
                if !(1..=most).contains(&rank) {
                    return Err(invalid("r", format!("between 1 and {most}"), rank));
                }
                let (name, shape) = (name.to_owned(), (*rows, *columns));
                modules.push(Module { scale: self.scale(&name), name, shape, rank });
            }
        }
        match modules.is_empty() {
            true => Err(invalid("target_modules", "modules of the base".into(), &self.target_modules)),
            false => Ok(modules),
        }
    }

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

fn invalid(name: &'static str, expected: String, got: impl ToString) -> ModelError {
    ModelError::InvalidParameter { name, expected, got: got.to_string() }
}

fn ending<'a, T>(patterns: &'a BTreeMap<String, T>, module: &str) -> Option<&'a T> {
    patterns.iter().find(|(name, _)| ends_in(module, name)).map(|(_, value)| value)
}

/// What an adapter is put upon.
#[derive(Debug, Clone, Copy)]
pub struct Base<'a> {
    /// The file of its weights.
    pub weights: &'a Path,
    /// Its tensors.
    pub specs: &'a [TensorSpec],
    /// Ends of the names of matrices that are tables, not linear maps.
    pub tables: &'a [&'a str],
}

/// Merges the adapter of a directory into the tensors of its base.
///
/// # Errors
/// What [`read_config`] and [`read_tensors`] say of the files; [`ModelError::ArtifactCorrupt`] for a kind of adapter
/// that is not a plain low-rank one, for one that fits no matrix of the base, and for one made for other weights.
pub fn merge(directory: &Path, base: Base<'_>, tensors: &mut Tensors) -> Result<()> {
    let path = directory.join(CONFIG);
    let config: AdapterConfig = read_config(&path)?;
    let refuse = |reason: String| ModelError::ArtifactCorrupt { path: path.clone(), reason };
    let modules = config.modules(base.specs, base.tables).map_err(|error| refuse(error.to_string()))?;
    if let Some(expected) = &config.base_sha256 {
        let got = sha256_file(base.weights)?;
        if got != *expected {
            let weights = base.weights.display();
            return Err(refuse(format!(
                "it was made for weights of SHA-256 {expected}, \"{weights}\" has {got}"
            )));
        }
    }
    let specs: Vec<TensorSpec> = modules.iter().flat_map(Module::specs).collect();
    let adapter = read_tensors(&directory.join(WEIGHTS), &specs, &Device::Cpu)?;
    for module in modules {
        let values = |name: &str, tensors: &Tensors| -> Result<Vec<f32>> {
            Ok(crate::layers::linear::tensor(tensors, name)?.flatten_all()?.to_vec1()?)
        };
        let (a, b) = (values(&module.key("A"), &adapter)?, values(&module.key("B"), &adapter)?);
        let name = format!("{}.weight", module.name);
        let mut weight = values(&name, tensors)?;
        module.add(&mut weight, &a, &b);
        tensors.insert(name, Tensor::from_vec(weight, module.shape, &Device::Cpu)?);
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
        let weights = folder.path().join("model.safetensors");
        std::fs::write(&weights, "weights").unwrap();
        let on = Base { weights: &weights, specs: &base, tables: &[] };
        merge(folder.path(), on, &mut tensors).unwrap();
        let merged = |name: &str| tensors[name].to_vec2::<f32>().unwrap();
        assert_eq!(merged("layer.q.weight"), [[21.0, 41.0, 61.0], [-1.0, -3.0, -5.0]]);
        assert_eq!(merged("layer.k.weight"), [[1.0; 3]; 2]);

        let mut refused = |base_sha256: &str, tables: &[&str]| {
            let config = AdapterConfig::new(1, 2.0, &["q".to_owned()], Some(base_sha256.into()));
            let text = serde_json::to_string(&config).unwrap();
            std::fs::write(folder.path().join(CONFIG), text).unwrap();
            merge(folder.path(), Base { tables, ..on }, &mut tensors).err().map(|error| error.to_string())
        };
        let digest = sha256_file(&weights).unwrap();
        assert_eq!(refused(&digest, &[]), None);
        assert!(refused(&digest, &["q"]).unwrap().contains("target_modules"), "a table is no linear map");
        let other = "0".repeat(64);
        assert!(
            refused(&other, &[]).unwrap().contains(&format!("it was made for weights of SHA-256 {other}"))
        );
    }
}
