//! A folder of golden vectors: finds its sets and runs everything they hold.

use super::report::Report;
use super::{forecasts, formula, sampling, stages, upstream};
use candle_core::{Device, Tensor};
use kronos_models::artifact::{TensorSpec, Tensors, read_config, read_tensors};
use kronos_models::device::Precision;
use kronos_models::kronos::Kronos;
use kronos_models::kronos::config::{PredictorConfig, TokenizerConfig};
use kronos_models::kronos::predictor::Predictor;
use kronos_models::kronos::tokenizer::Tokenizer;
use kronos_models::layers::accelerated::Place;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};

/// Runs every set, table and case of a folder.
pub fn run(folder: &Path) -> Report {
    let mut report = Report::default();
    sampling::run(folder, &mut report);
    let sets: Vec<PathBuf> = entries(folder).into_iter().filter(|path| is_set(path)).collect();
    assert!(!sets.is_empty(), "{} holds no set", folder.display());
    for set in &sets {
        let name = file_name(set);
        let predictor = Half::<PredictorConfig>::load(set, PREDICTOR, &name, &mut report).unwrap();
        let tokenizers = match Half::<TokenizerConfig>::load(set, TOKENIZER, &name, &mut report) {
            Some(own) => vec![own],
            None => borrowed(&sets, &predictor.config),
        };
        // Several sets may have a tokenizer of the right size; the tokens of the cases tell whose it is.
        let Some(tokenizer) = stages::recognise(set, folder, tokenizers) else {
            report
                .case(&name, "")
                .fail("tokenizer", "no set has a tokenizer of the predictor's token sizes".into());
            continue;
        };
        let set = Set { name, path: set.clone(), folder: folder.into(), tokenizer, predictor };
        stages::run(&set, &mut report);
        forecasts::run(&set, &mut report);
    }
    upstream::run(folder, &mut report);
    report
}

/// One checkpoint and what is known of it.
pub struct Set {
    pub name: String,
    pub path: PathBuf,
    pub folder: PathBuf,
    pub tokenizer: Half<TokenizerConfig>,
    pub predictor: Half<PredictorConfig>,
}

impl Set {
    /// The model by what computes it: the kernels, and candle's operations, here on the CPU.
    pub fn models(&self, max_context: usize) -> [(&'static str, Kronos); 2] {
        let place = Place::new(&Device::Cpu, Precision::F32);
        let tokenizer = (&self.tokenizer.config, &self.tokenizer.tensors);
        let predictor = (&self.predictor.config, &self.predictor.tensors);
        [
            ("", Kronos::from_parts(self.tokenizer(), self.predictor(), max_context).unwrap()),
            (", accelerated", Kronos::accelerated(&place, tokenizer, predictor, max_context).unwrap()),
        ]
    }

    pub fn tokenizer(&self) -> Tokenizer {
        Tokenizer::new(&self.tokenizer.config, &self.tokenizer.tensors).unwrap()
    }

    pub fn predictor(&self) -> Predictor {
        Predictor::new(&self.predictor.config, &self.predictor.tensors).unwrap()
    }
}

/// Tokenizer or predictor.
pub struct Half<C> {
    pub config: C,
    pub tensors: Tensors,
}

const PREDICTOR: &str = "predictor";
const TOKENIZER: &str = "tokenizer";

/// A configuration and the tensors it implies.
pub trait Config: DeserializeOwned {
    fn specs(&self) -> Vec<TensorSpec>;
}

impl Config for TokenizerConfig {
    fn specs(&self) -> Vec<TensorSpec> {
        self.tensors().unwrap()
    }
}

impl Config for PredictorConfig {
    fn specs(&self) -> Vec<TensorSpec> {
        self.tensors().unwrap()
    }
}

impl<C: Config> Half<C> {
    /// From a model directory, or from the formula when the set has only a configuration; `None` if it has neither.
    fn load(set: &Path, kind: &str, name: &str, report: &mut Report) -> Option<Self> {
        let directory = set.join(kind);
        if directory.is_dir() {
            let config: C = read_config(&directory.join("config.json")).unwrap();
            let weights = directory.join("model.safetensors");
            let tensors = read_tensors(&weights, &config.specs(), &Device::Cpu).unwrap();
            return Some(Self { config, tensors });
        }
        let config = set.join(format!("{kind}_config.json"));
        if !config.is_file() {
            return None;
        }
        let config: C = read_config(&config).unwrap();
        let check: WeightsCheck = read_config(&set.join("weights_check.json")).unwrap();
        let seed = if kind == TOKENIZER { check.tokenizer_seed } else { check.predictor_seed };
        let tensors = formula::tensors(&config.specs(), seed).unwrap();
        check.compare(kind, name, &tensors, report);
        Some(Self { config, tensors })
    }
}

/// Facts about the formula's weights.
#[derive(Deserialize)]
struct WeightsCheck {
    tokenizer_seed: u64,
    predictor_seed: u64,
    tensors: HashMap<String, BTreeMap<String, TensorCheck>>,
}

#[derive(Deserialize)]
struct TensorCheck {
    shape: Vec<usize>,
    sum_f64: f64,
    first3: Vec<f32>,
    last: Vec<f32>,
}

impl WeightsCheck {
    fn compare(&self, kind: &str, name: &str, tensors: &Tensors, report: &mut Report) {
        let mut case = report.case(name, "weights");
        let expected = &self.tensors[kind];
        let mut names: Vec<&String> = tensors.keys().collect();
        names.sort();
        case.equal(&format!("{kind} names"), &names, &expected.keys().collect::<Vec<_>>());
        let (mut sums, mut expected_sums) = (Vec::new(), Vec::new());
        let (mut ends, mut expected_ends) = (Vec::new(), Vec::new());
        for (name, check) in expected {
            let Some(tensor) = tensors.get(name) else { continue };
            case.equal(&format!("{kind} {name} shape"), tensor.dims(), &check.shape);
            let values: Vec<f32> = tensor.flatten_all().unwrap().to_vec1().unwrap();
            sums.push(values.iter().map(|&value| f64::from(value)).sum::<f64>() as f32);
            expected_sums.push(check.sum_f64 as f32);
            ends.extend(values.iter().take(3).chain(values.last()).copied());
            expected_ends.extend(check.first3.iter().chain(&check.last).copied());
        }
        // The order of a float64 sum over a million values moves it by less than one step of float32.
        case.close_by(&format!("{kind} sums"), &sums, &expected_sums, |i| {
            1e-9 + 2e-7 * f64::from(expected_sums[i].abs())
        });
        case.equal(&format!("{kind} first and last values"), &ends, &expected_ends);
    }
}

fn is_set(path: &Path) -> bool {
    path.join(PREDICTOR).is_dir() || path.join("predictor_config.json").is_file()
}

/// Tokenizers of the other sets whose token sizes are the predictor's.
fn borrowed(sets: &[PathBuf], predictor: &PredictorConfig) -> Vec<Half<TokenizerConfig>> {
    sets.iter()
        .filter(|set| set.join(TOKENIZER).is_dir())
        .filter_map(|set| Half::<TokenizerConfig>::load(set, TOKENIZER, "", &mut Report::default()))
        .filter(|half| (half.config.s1_bits, half.config.s2_bits) == (predictor.s1_bits, predictor.s2_bits))
        .collect()
}

/// The case files of a set: every JSON file with an object `case`, in the set or in its folder `cases`.
pub fn cases(set: &Path) -> Vec<PathBuf> {
    #[derive(Deserialize)]
    struct Probe {
        case: Option<serde::de::IgnoredAny>,
    }
    [set.to_path_buf(), set.join("cases")]
        .iter()
        .filter(|path| path.is_dir())
        .flat_map(|path| entries(path))
        .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
        .filter(|path| read_config::<Probe>(path).is_ok_and(|probe| probe.case.is_some()))
        .collect()
}

/// The tensors of a file of expected values.
pub fn tensors(path: &Path) -> HashMap<String, Tensor> {
    candle_core::safetensors::load(path, &Device::Cpu)
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The values of a tensor, whatever its shape.
pub fn flat(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

/// Reads one of the folder's JSON files.
pub fn json<T: DeserializeOwned>(path: &Path) -> T {
    read_config(path).unwrap_or_else(|error| panic!("{error}"))
}

fn entries(directory: &Path) -> Vec<PathBuf> {
    let mut entries: Vec<PathBuf> = fs::read_dir(directory)
        .unwrap_or_else(|error| panic!("{}: {error}", directory.display()))
        .map(|entry| entry.unwrap().path())
        .collect();
    entries.sort();
    entries
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap().to_string_lossy().into_owned()
}
