//! A folder of golden vectors: its manifest, its models, its cases.

use super::report::{Case as Noted, Report};
use super::{bolt, embed, frames, operations, predict, recipe, stages};
use candle_core::{Device, Tensor};
use kronos_models::adapter::{self, Base};
use kronos_models::artifact::{Tensors, read_config, read_tensors};
use kronos_models::chronos2::Chronos2;
use kronos_models::chronos2::config::Config;
use kronos_models::device::Precision;
use kronos_models::layers::accelerated::Place;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

#[derive(Deserialize)]
struct Manifest {
    cases: Vec<Case>,
}

/// One entry of the manifest.
#[derive(Deserialize)]
pub struct Case {
    pub id: String,
    pub file: String,
    pub model: String,
    pub kind: String,
    #[serde(default)]
    pub desc: String,
    #[serde(default)]
    pub num_output_patches: usize,
    #[serde(default)]
    pub horizons: Vec<usize>,
    #[serde(default)]
    pub params: Value,
    #[serde(default)]
    pub quantile_levels: Vec<Vec<f64>>,
    #[serde(default)]
    pub inputs_file: Option<String>,
}

/// Expected values by name.
pub type Golden = HashMap<String, Tensor>;

/// Runs every case of a folder.
pub fn run(folder: &Path) -> Report {
    let mut report = Report::default();
    let manifest: Manifest = json(&folder.join("manifest.json"));
    operations::run(folder, &mut report);
    frames::run(folder, &mut report);
    // Cases of one model follow each other; one model at a time is held.
    let mut held: Option<(String, [Chronos2; 2])> = None;
    for case in &manifest.cases {
        let path = folder.join(&case.file);
        if case.kind.starts_with("train") {
            // Loss and gradient of one step: `train_chronos2` compares them.
            continue;
        }
        assert!(path.is_file(), "{} is in the manifest and not in {}", case.file, folder.display());
        let golden = tensors(&path);
        let mut noted = report.case(&case.model, case.id.rsplit('.').next().unwrap());
        if case.kind.starts_with("bolt") {
            let directory = folder.join("models").join(&case.model);
            bolt::run(case, &directory, By::Kernels, &golden, &mut noted);
            let name = format!("{}, accelerated", case.id.rsplit('.').next().unwrap());
            let mut noted = report.case(&case.model, &name);
            bolt::run(case, &directory, By::Accelerated, &golden, &mut noted);
            continue;
        }
        if held.as_ref().is_none_or(|(name, _)| *name != case.model) {
            drop(held.take());
            let models = [By::Kernels, By::Accelerated]
                .map(|by| chronos2(folder, &case.model, by, &golden, &mut noted));
            held = Some((case.model.clone(), models));
        }
        let [model, accelerated] = &held.as_ref().unwrap().1;
        match case.kind.as_str() {
            "stages" => stages::run(case, model, &golden, &mut noted),
            "predict" | "lora_predict" => {
                predict::run(case, folder, model, &golden, &mut noted);
                let name = format!("{}, accelerated", case.id.rsplit('.').next().unwrap());
                predict::run(case, folder, accelerated, &golden, &mut report.case(&case.model, &name));
            }
            "embed" => embed::run(model, &golden, &mut noted),
            kind => noted.fail("kind", format!("{kind:?} is not known")),
        }
    }
    report
}

/// A model by the name of its folder: a checkpoint, an adapter on one, or a recipe.
pub fn chronos2(folder: &Path, name: &str, by: By, golden: &Golden, noted: &mut Noted) -> Chronos2 {
    let directory = folder.join("models").join(name);
    if !directory.is_dir() {
        return recipe::model(folder, name, by, noted);
    }
    let is_adapter = directory.join("adapter_config.json").is_file();
    let base = if is_adapter { base_of(folder, &directory) } else { directory.clone() };
    let config: Config = read_config(&base.join("config.json")).unwrap();
    let specs = config.tensors().unwrap();
    let mut tensors = read_tensors(&base.join("model.safetensors"), &specs, &Device::Cpu).unwrap();
    if is_adapter {
        let weights = base.join("model.safetensors");
        let on = Base { weights: &weights, specs: &specs, tables: kronos_models::chronos2::config::TABLES };
        adapter::merge(&directory, on, &mut tensors).unwrap();
        compare_merged(&tensors, golden, noted);
    }
    by.model(&config, &tensors)
}

/// What computes a model.
#[derive(Clone, Copy, PartialEq)]
pub enum By {
    Kernels,
    /// Candle's operations, here on the CPU.
    Accelerated,
}

impl By {
    /// A model of these tensors.
    pub fn model(self, config: &Config, tensors: &Tensors) -> Chronos2 {
        let place = Place::new(&Device::Cpu, Precision::F32);
        match self {
            Self::Kernels => Chronos2::from_tensors(config, tensors).unwrap(),
            Self::Accelerated => Chronos2::accelerated(&place, config, tensors).unwrap(),
        }
    }
}

/// The base of an adapter: by the name in its configuration, or by its own without the last part.
fn base_of(folder: &Path, adapter: &Path) -> PathBuf {
    let config: adapter::AdapterConfig = read_config(&adapter.join("adapter_config.json")).unwrap();
    let named = config.base_model_name_or_path.unwrap_or_default();
    let own = adapter.file_name().unwrap().to_str().unwrap();
    let candidates = [named.rsplit('/').next().unwrap(), own.rsplit_once('-').unwrap().0];
    let base = candidates.iter().map(|name| folder.join("models").join(name)).find(|base| base.is_dir());
    base.unwrap_or_else(|| panic!("no base for {}", adapter.display()))
}

fn compare_merged(tensors: &Tensors, golden: &Golden, noted: &mut Noted) {
    for (name, expected) in
        golden.iter().filter_map(|(key, value)| Some((key.strip_prefix("merged.")?, value)))
    {
        let expected = flat(expected);
        noted.close_by(name, &flat(&tensors[name]), &expected, |i| relative(expected[i]));
    }
}

/// The tolerance of an operation.
pub fn relative(expected: f32) -> f64 {
    1e-5 * f64::from(expected.abs()) + 1e-6
}

/// The tensors of a file of expected values.
pub fn tensors(path: &Path) -> Golden {
    candle_core::safetensors::load(path, &Device::Cpu).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// The values of a tensor, whatever its shape.
pub fn flat(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

/// Values in float64.
pub fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&value| value.into()).collect()
}

/// Reads one of the folder's JSON files; they may be larger than a configuration.
pub fn json<T: DeserializeOwned>(path: &Path) -> T {
    let text = std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_slice(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}
