//! Whatever a model file holds, reading it ends in tensors or in a reason, within a small multiple of the file's size.
//!
//! 2,000 damaged files by default; `PROPTEST_CASES` sets another number.
#![allow(clippy::unwrap_used)] // Also in what the tests share, which clippy does not take for a test.

use candle_core::Device;
use kronos_models::ModelError;
use kronos_models::artifact::{TensorSpec, read_tensors};
use peak_alloc::PeakAlloc;
use proptest::prelude::*;
use std::fs;

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

/// One damage; positions are fractions of the file, so that they stay inside whatever came before.
#[derive(Debug, Clone)]
enum Damage {
    FlipBit(f64, u8),
    Truncate(f64),
    HeaderLength(u64),
    /// Writes a decimal digit over a digit of the header: offsets and shapes that are wrong but well-formed.
    Digit(f64, u8),
    Insert(f64, Vec<u8>),
    /// Inserts and corrects the header's length, so that the JSON is what changed.
    InsertInHeader(f64, String),
}

fn damage() -> impl Strategy<Value = Damage> {
    let at = 0.0..1.0f64;
    let fragment = prop_oneof![
        Just("[".into()),
        Just("}".into()),
        Just(",\"x\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[0,0]}".into()),
        Just("18446744073709551615".into()),
        Just("\"__metadata__\":[[[".into()),
        "[0-9,\\[\\]]{1,200}",
        "[ -~]{1,20}",
    ];
    prop_oneof![
        (at.clone(), 0..8u8).prop_map(|(at, bit)| Damage::FlipBit(at, bit)),
        at.clone().prop_map(Damage::Truncate),
        prop_oneof![any::<u64>(), 0..2_000u64, Just(u64::MAX), Just(1 << 24), Just(1 << 62)]
            .prop_map(Damage::HeaderLength),
        (at.clone(), b'0'..=b'9').prop_map(|(at, digit)| Damage::Digit(at, digit)),
        (at.clone(), prop::collection::vec(any::<u8>(), 1..100))
            .prop_map(|(at, bytes)| Damage::Insert(at, bytes)),
        (at, fragment).prop_map(|(at, text)| Damage::InsertInHeader(at, text)),
    ]
}

fn apply(file: &mut Vec<u8>, damage: &Damage) {
    let place = |at: f64, range: usize| (at * range as f64) as usize;
    let header = file.first_chunk::<8>().map_or(0, |bytes| u64::from_le_bytes(*bytes) as usize);
    let header = header.min(file.len().saturating_sub(8));
    match damage {
        Damage::FlipBit(at, bit) => {
            let at = place(*at, file.len());
            if let Some(byte) = file.get_mut(at) {
                *byte ^= 1 << bit;
            }
        }
        Damage::Truncate(at) => file.truncate(place(*at, file.len())),
        Damage::HeaderLength(length) => {
            if let Some(bytes) = file.first_chunk_mut::<8>() {
                *bytes = length.to_le_bytes();
            }
        }
        Damage::Digit(at, digit) => {
            let digits: Vec<usize> = (8..8 + header).filter(|&i| file[i].is_ascii_digit()).collect();
            if !digits.is_empty() {
                file[digits[place(*at, digits.len())]] = *digit;
            }
        }
        Damage::Insert(at, bytes) => {
            let at = place(*at, file.len());
            file.splice(at..at, bytes.iter().copied());
        }
        Damage::InsertInHeader(at, text) => {
            if header > 0 {
                let at = 8 + place(*at, header);
                file.splice(at..at, text.bytes());
                file[..8].copy_from_slice(&((header + text.len()) as u64).to_le_bytes());
            }
        }
    }
}

fn specs() -> Vec<TensorSpec> {
    let mut specs: Vec<TensorSpec> =
        (0..12).map(|i| TensorSpec::required(format!("layer.{i}.weight"), [3, i + 1])).collect();
    specs.push(TensorSpec::optional("extra.bias", [5]));
    specs.push(TensorSpec::ignored("buffer"));
    specs
}

/// A valid file with all of [`specs`].
fn sound() -> Vec<u8> {
    let values: Vec<u8> = (0..100u16).flat_map(|i| (f32::from(i) - 50.0).to_le_bytes()).collect();
    let views: Vec<_> = specs()
        .into_iter()
        .map(|TensorSpec { name, shape, .. }| {
            let bytes = &values[..4 * shape.iter().product::<usize>()];
            (name, safetensors::tensor::TensorView::new(safetensors::Dtype::F32, shape, bytes).unwrap())
        })
        .collect();
    safetensors::serialize(views, None).unwrap()
}

#[test]
fn damaged_files_end_in_tensors_or_a_reason() {
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(2_000);
    let config = ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() };
    let directory = tempfile::TempDir::new().unwrap();
    let path = directory.path().join("model.safetensors");
    let (sound, specs) = (sound(), specs());

    fs::write(&path, &sound).unwrap();
    assert_eq!(read_tensors(&path, &specs, &Device::Cpu).unwrap().len(), 13);

    proptest!(config, |(damages in prop::collection::vec(damage(), 1..4))| {
        let mut file = sound.clone();
        damages.iter().for_each(|damage| apply(&mut file, damage));
        fs::write(&path, &file).unwrap();

        ALLOCATOR.reset_peak_usage();
        let before = ALLOCATOR.current_usage();
        let result = read_tensors(&path, &specs, &Device::Cpu);
        let taken = ALLOCATOR.peak_usage().saturating_sub(before);

        prop_assert!(taken <= 16 * file.len() + (16 << 10), "{taken} bytes taken for a file of {}", file.len());
        match result {
            Ok(tensors) => for spec in &specs[..12] {
                prop_assert_eq!(tensors[&spec.name].dims(), spec.shape.as_slice());
            },
            Err(ModelError::ArtifactCorrupt { .. }) => {}
            Err(other) => prop_assert!(false, "{:?}", other),
        }
    });
}
