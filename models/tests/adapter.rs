//! A model with an adapter forecasts what a model does whose weights were merged by hand, bit for bit.
#![allow(clippy::unwrap_used)] // Also in what the tests share, which clippy does not take for a test.

use candle_core::{Device, Tensor};
use kronos_models::adapter::{self, AdapterConfig, Base};
use kronos_models::artifact::{TensorSpec, Tensors, read_config, read_tensors, sha256_file};
use kronos_models::bars::{BarOptions, BarRequest, Sampling, Stamp, Window};
use kronos_models::chronos2::{self, Chronos2, Chronos2Files, Chronos2Options};
use kronos_models::interrupt::NeverInterrupt;
use kronos_models::kronos::Kronos;
use kronos_models::kronos::config::{PredictorConfig, TABLES, TokenizerConfig};
use kronos_models::kronos::predictor::Predictor;
use kronos_models::kronos::tokenizer::Tokenizer;
use kronos_models::random::Stream;
use kronos_models::series::SeriesRequest;
use std::path::{Path, PathBuf};

const RANK: usize = 2;
const ALPHA: f64 = 3.0;

fn fixture(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(path)
}

/// Small numbers that differ from place to place.
fn numbers(key: u64, count: usize) -> Vec<f32> {
    let stream = Stream::from_key(key);
    (0..count).map(|i| (stream.uniform(i as u32, 0, 0) - 0.5) as f32 * 0.5).collect()
}

/// Writes an adapter of some modules, and merges it by hand: W + (α/r)·B·A, each sum in double precision.
fn adapted(folder: &Path, weights: &Path, specs: &[TensorSpec], targets: &[&str], base: &Tensors) -> Tensors {
    let (mut parts, mut merged) = (Tensors::new(), base.clone());
    let named =
        |spec: &&TensorSpec| targets.iter().any(|target| spec.name.ends_with(&format!("{target}.weight")));
    for (number, spec) in specs.iter().filter(named).enumerate() {
        let (rows, columns) = (spec.shape[0], spec.shape[1]);
        let (a, b) = (numbers(number as u64, RANK * columns), numbers(99 + number as u64, rows * RANK));
        let mut weight: Vec<f32> = base[&spec.name].flatten_all().unwrap().to_vec1().unwrap();
        for row in 0..rows {
            for column in 0..columns {
                let of = |k: usize| f64::from(b[row * RANK + k]) * f64::from(a[k * columns + column]);
                let place = row * columns + column;
                weight[place] = (f64::from(weight[place]) + ALPHA / RANK as f64 * (of(0) + of(1))) as f32;
            }
        }
        let tensor = |values, shape: (usize, usize)| Tensor::from_vec(values, shape, &Device::Cpu).unwrap();
        merged.insert(spec.name.clone(), tensor(weight, (rows, columns)));
        let module = spec.name.strip_suffix(".weight").unwrap();
        let key = |part: &str| format!("base_model.model.{module}.lora_{part}.weight");
        parts.extend([(key("A"), tensor(a, (RANK, columns))), (key("B"), tensor(b, (rows, RANK)))]);
    }
    assert!(!parts.is_empty());
    let targets: Vec<String> = targets.iter().map(|target| (*target).to_owned()).collect();
    let config = AdapterConfig::new(RANK, ALPHA, &targets, Some(sha256_file(weights).unwrap()));
    std::fs::write(folder.join(adapter::CONFIG), serde_json::to_string(&config).unwrap()).unwrap();
    candle_core::safetensors::save(&parts, folder.join(adapter::WEIGHTS)).unwrap();
    merged
}

#[test]
fn chronos2_with_an_adapter_is_the_model_that_was_merged_by_hand() {
    let (folder, model) = (tempfile::tempdir().unwrap(), fixture("chronos2/models/tiny-b"));
    let weights = model.join("model.safetensors");
    let config: chronos2::config::Config = read_config(&model.join("config.json")).unwrap();
    let specs = config.tensors().unwrap();
    let base = read_tensors(&weights, &specs, &Device::Cpu).unwrap();
    let targets = ["self_attention.q", "self_attention.v", "output_patch_embedding.output_layer"];
    let merged = adapted(folder.path(), &weights, &specs, &targets, &base);

    let history: Vec<f64> = numbers(7, 40).into_iter().map(|move_| 100.0 + f64::from(move_)).collect();
    let forecast = |model: &Chronos2| {
        let request = SeriesRequest::univariate(history.clone(), 4);
        let mut made = model.forecast(&[request], &Chronos2Options::default(), &NeverInterrupt).unwrap();
        made.remove(0).unwrap().values
    };
    let files = Chronos2Files { model, adapter: Some(folder.path().to_path_buf()) };
    let loaded = forecast(&Chronos2::load(&files, &Device::Cpu).unwrap());
    assert_eq!(loaded, forecast(&Chronos2::from_tensors(&config, &merged).unwrap()));
    assert_ne!(loaded, forecast(&Chronos2::from_tensors(&config, &base).unwrap()));
}

#[test]
fn kronos_with_an_adapter_is_the_model_that_was_merged_by_hand() {
    let (folder, set) = (tempfile::tempdir().unwrap(), fixture("kronos/tiny55"));
    let weights = set.join("predictor/model.safetensors");
    let config: PredictorConfig = read_config(&set.join("predictor/config.json")).unwrap();
    let specs = config.tensors().unwrap();
    let base = read_tensors(&weights, &specs, &Device::Cpu).unwrap();
    // The ends alone would name the dependency layer's maps too.
    let targets = ["self_attn.q_proj", "self_attn.v_proj"];
    let by_hand = adapted(folder.path(), &weights, &specs, &targets, &base);
    let mut merged = base.clone();
    adapter::merge(folder.path(), Base { weights: &weights, specs: &specs, tables: TABLES }, &mut merged)
        .unwrap();

    let tokenizer: TokenizerConfig = read_config(&set.join("tokenizer/config.json")).unwrap();
    let path = set.join("tokenizer/model.safetensors");
    let codes = read_tensors(&path, &tokenizer.tensors().unwrap(), &Device::Cpu).unwrap();
    let bars: Vec<[f64; 6]> = numbers(3, 40)
        .into_iter()
        .map(|move_| {
            let price = 100.0 + f64::from(move_);
            [price, price + 0.5, price - 0.5, price + 0.1, 10.0, 10.0 * price]
        })
        .collect();
    let forecast = |tensors: &Tensors| {
        let tokenizer = Tokenizer::new(&tokenizer, &codes).unwrap();
        let kronos = Kronos::from_parts(tokenizer, Predictor::new(&config, tensors).unwrap(), 64).unwrap();
        let stamps = vec![Stamp { minute: 0, hour: 0, weekday: 1, day: 1, month: 1 }; bars.len() + 3];
        let request = BarRequest { bars: bars.clone(), stamps, horizon: 3, stream: Stream::from_key(1) };
        let options = BarOptions {
            samples: 5,
            sampling: Sampling::new(1.0, 0, 1.0).unwrap(),
            window: Window::Shorten,
            memory_limit: 1 << 30,
        };
        let paths = kronos.forecast(&[request], &options, &NeverInterrupt).unwrap().remove(0).unwrap();
        let places = (0..5).flat_map(|path| (0..3).map(move |step| (path, step)));
        places.map(|(path, step)| *paths.bar(path, step)).collect::<Vec<_>>()
    };
    assert_eq!(forecast(&merged), forecast(&by_hand));
    assert_ne!(forecast(&merged), forecast(&base));
    let same = |name: &str| merged[name].to_vec2::<f32>().unwrap() == base[name].to_vec2::<f32>().unwrap();
    assert!(!same("transformer.0.self_attn.q_proj.weight") && same("transformer.0.self_attn.k_proj.weight"));
    assert!(same("dep_layer.cross_attn.q_proj.weight"));
}
