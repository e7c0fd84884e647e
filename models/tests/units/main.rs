//! The unit of the data does not matter: what is forecast, calibrated and scored in another one is the same in that one.
//!
//! A factor that is a power of two changes no bit of a number but its exponent, so it must change no bit of a result. A power of ten
//! rounds every input, by up to 1e-16 of it: results follow within a tolerance that each test states.
#![allow(clippy::unwrap_used, clippy::panic)]

mod judges;
mod kronos;
mod quantiles;

use kronos_models::random::Stream;
use std::path::{Path, PathBuf};

/// Units of prices and volumes as powers of ten: from coins of a billionth of a cent to rupiah for a whole index.
const UNITS: std::ops::RangeInclusive<i32> = -12..=12;

/// Powers of two in the same range.
const BINARY: [i32; 8] = [-40, -33, -17, -1, 1, 10, 29, 40];

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

/// The folder of a built-in model.
fn built_in(name: &str) -> PathBuf {
    let versions = Path::new(env!("CARGO_MANIFEST_DIR")).join("artifacts").join(name);
    let latest = std::fs::read_to_string(versions.join("latest")).unwrap();
    versions.join(latest.trim())
}

/// A positive walk about 100.
fn walk(key: u64, length: usize) -> Vec<f64> {
    let stream = Stream::from_key(key);
    let mut level = 100.0;
    let mut step = |i: u32| {
        level *= 1.0 + 0.03 * (stream.uniform(i, 0, 0) - 0.5);
        level
    };
    (0..length as u32).map(&mut step).collect()
}

fn times(values: &[f64], factor: f64) -> Vec<f64> {
    values.iter().map(|value| value * factor).collect()
}

/// The greatest distance of numbers from those of the unit, put into it by `factor`, in units of `size`.
fn furthest(got: &[f64], expected: &[f64], factor: f64, size: f64) -> f64 {
    assert_eq!(got.len(), expected.len());
    let distance = |(got, expected): (&f64, &f64)| (got / factor - expected).abs() / size;
    let furthest = got.iter().zip(expected).map(distance).fold(0.0, f64::max);
    assert!(got.iter().all(|value| value.is_finite()), "{got:?}");
    furthest
}
