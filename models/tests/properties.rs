//! What holds for every input, however strange: an answer that keeps its promises, or one clear error.
#![allow(clippy::unwrap_used)] // Also in what the tests share, which clippy does not take for a test.

use candle_core::Device;
use kronos_models::ModelError;
use kronos_models::ask::LARGEST;
use kronos_models::bars::{Bar, BarOptions, BarRequest, Sampling, Stamp, Window};
use kronos_models::interrupt::NeverInterrupt;
use kronos_models::kronos::{Kronos, KronosFiles};
use kronos_models::random::Stream;
use proptest::prelude::*;
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

fn checkpoint() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/kronos/tiny55")
}

fn files(set: &Path) -> KronosFiles {
    KronosFiles { predictor: set.join("predictor"), tokenizer: set.join("tokenizer"), max_context: 64 }
}

/// Prices of pennies, of millions, at the ends of what a double holds, and what is no price at all.
fn value() -> impl Strategy<Value = f64> {
    prop_oneof![
        20 => 1.0..2.0f64,
        4 => -1e9..1e9f64,
        1 => prop::num::f64::NORMAL,
        1 => Just(0.0),
        1 => Just(3e38),
        1 => Just(f64::MIN_POSITIVE),
    ]
}

fn bars() -> impl Strategy<Value = Vec<Bar>> {
    let constant = (value(), 1..90usize).prop_map(|(value, n)| vec![[value; 6]; n]);
    let ordinary = prop::collection::vec(prop::array::uniform6(0.5..2.0f64), 0..90);
    let strange = prop::collection::vec(prop::array::uniform6(value()), 0..90);
    let broken =
        (ordinary.clone(), any::<prop::sample::Index>(), 0..6usize).prop_map(|(mut bars, at, channel)| {
            if !bars.is_empty() {
                at.get_mut(&mut bars)[channel] = [f64::NAN, f64::INFINITY, -1e39][channel % 3];
            }
            bars
        });
    prop_oneof![4 => ordinary, 4 => strange, 1 => constant, 1 => broken]
}

fn options() -> impl Strategy<Value = BarOptions> {
    let sampling = (1e-3..1e3f32, prop_oneof![Just(0), 0..40usize], 1e-6..=1f32)
        .prop_map(|(temperature, top_k, top_p)| Sampling::new(temperature, top_k, top_p).unwrap());
    let window = prop_oneof![Just(Window::Shorten), Just(Window::Slide)];
    let memory = prop_oneof![9 => Just(1u64 << 30), 1 => 0..1_000_000u64];
    (1..4usize, sampling, window, memory).prop_map(|(samples, sampling, window, memory_limit)| BarOptions {
        samples,
        sampling,
        window,
        memory_limit,
    })
}

fn config() -> ProptestConfig {
    ProptestConfig { failure_persistence: None, ..ProptestConfig::default() }
}

#[test]
fn any_bars_end_in_coherent_finite_paths_or_an_error() {
    let kronos = Kronos::load(&files(&checkpoint()), &Device::Cpu).unwrap();
    proptest!(config(), |(bars in bars(), horizon in 1..70usize, options in options(), key: u64)| {
        let stamps = (0..bars.len() + horizon)
            .map(|i| Stamp { minute: (i % 60) as u8, hour: (i % 24) as u8, weekday: (i % 7) as u8, day: 31, month: 12 })
            .collect();
        let finite = bars.iter().flatten().all(|&value| value.abs() <= LARGEST);
        let context = bars.len();
        let request = BarRequest { bars, stamps, horizon, stream: Stream::from_key(key) };
        let answer = kronos.forecast(&[request], &options, &NeverInterrupt).unwrap().remove(0);
        match answer {
            Ok(paths) => {
                prop_assert!(finite && horizon <= kronos.max_context());
                prop_assert!((1..=context).contains(&paths.context_used));
                prop_assert_eq!((paths.horizon, paths.bars.len()), (horizon, horizon * options.samples));
                for [open, high, low, close, volume, amount] in paths.bars {
                    let all = [open, high, low, close, volume, amount];
                    prop_assert!(all.iter().all(|value| value.is_finite()), "{:?}", all);
                    prop_assert!(low <= open.min(close) && open.max(close) <= high, "{:?}", all);
                    prop_assert!(volume >= 0.0 && amount >= 0.0, "{:?}", all);
                }
            }
            Err(ModelError::ContextTooShort { .. }) => prop_assert_eq!(context, 0),
            Err(ModelError::HorizonTooLong { .. }) => prop_assert!(horizon > kronos.max_context()),
            Err(ModelError::MissingValue { .. }) => prop_assert!(!finite),
            Err(ModelError::MemoryLimit { .. }) => prop_assert!(options.memory_limit < 1 << 30),
            Err(other) => prop_assert!(false, "{:?}", other),
        }
    });
}

/// Any value may stand at any key of either configuration.
#[test]
fn any_configuration_ends_in_a_model_or_a_reason() {
    let copy = TempDir::new().unwrap();
    for half in ["predictor", "tokenizer"] {
        fs::create_dir(copy.path().join(half)).unwrap();
        for file in ["config.json", "model.safetensors"] {
            let path = Path::new(half).join(file);
            fs::copy(checkpoint().join(&path), copy.path().join(&path)).unwrap();
        }
    }
    let strange = prop_oneof![
        (0..100u64).prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (0..40u32).prop_map(|shift| Value::from(1u64 << shift)),
        any::<f64>().prop_map(Value::from),
        any::<bool>().prop_map(Value::from),
        "[a-z]{0,4}".prop_map(Value::from),
        Just(Value::Null),
        Just(Value::Array(Vec::new())),
    ];
    proptest!(config(), |(half in prop::sample::select(vec!["predictor", "tokenizer"]), key: prop::sample::Index, value in strange)| {
        let path = copy.path().join(half).join("config.json");
        let original = fs::read(&path).unwrap();
        let mut config: Value = serde_json::from_slice(&original).unwrap();
        let keys: Vec<String> = config.as_object().unwrap().keys().cloned().collect();
        config[key.get(&keys)] = value;
        fs::write(&path, config.to_string()).unwrap();
        let loaded = Kronos::load(&files(copy.path()), &Device::Cpu);
        fs::write(&path, &original).unwrap();
        match loaded {
            Ok(_) | Err(ModelError::ArtifactCorrupt { .. }) => {}
            // Each half may be right by itself.
            Err(ModelError::InvalidParameter { name, .. }) => prop_assert_eq!(name, "tokenizer"),
            Err(other) => prop_assert!(false, "{:?}", other),
        }
    });
}
