//! Forecasts keep their bits: what the built-in models and the small ones of the tests answer, as hashes in `bits.txt`.
//!
//! The hashes were made before the families of models became a table, and are made again only in a commit whose subject is
//! that numbers change. Inputs come from the counter-based generator and have no mathematical function in them; the kernels
//! of the models give the same bits on every instruction set. What is left is the mathematical library of the system, and
//! where that gives other bits the hashes are not those of this machine: then the test says so and is skipped.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use kronos_engine::answer::Answer;
use kronos_engine::message::{ModelSource, Request, Settings};
use kronos_models::answer::Forecast;
use kronos_models::ask::{Ask, Covariate, KnownCovariate, Terms, Values, Wanted};
use kronos_models::bars::{BarOptions, BarRequest, Sampling, Stamp, Window};
use kronos_models::random::Stream;
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};
use support::{Engine, columns, described, paths_of};

const STORED: &str = include_str!("bits.txt");

fn models() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().into()
}

fn settings() -> Settings {
    Settings {
        threads: 2,
        model_dir: models().join("tests/fixtures"),
        built_in_dir: models().join("artifacts"),
        ..support::settings()
    }
}

/// The folder of a built-in model, whose name is its only version.
fn built_in(name: &str) -> PathBuf {
    let versions = models().join("artifacts").join(name);
    let latest = std::fs::read_to_string(versions.join("latest")).unwrap();
    versions.join(latest.trim())
}

/// A positive walk, the same for the same key.
fn walk(key: u64, length: usize) -> Vec<f64> {
    let stream = Stream::from_key(key);
    let mut level = 100.0 + key as f64;
    let mut step = |i: u32| {
        level *= 1.0 + 0.03 * (stream.uniform(i, 0, 0) - 0.5);
        level
    };
    (0..length as u32).map(&mut step).collect()
}

fn bar_series(key: u64, context: usize, horizon: usize) -> BarRequest {
    let stream = Stream::from_key(1000 + key);
    let closes = walk(key, context + 1);
    let bar = |i: usize| {
        let (open, close) = (closes[i], closes[i + 1]);
        let spread = 1.0 + 0.004 * stream.uniform(i as u32, 1, 0);
        let volume = 1000.0 * (0.5 + stream.uniform(i as u32, 2, 0));
        [open, open.max(close) * spread, open.min(close) / spread, close, volume, volume * close]
    };
    let stamp = |i: usize| Stamp {
        minute: (i * 15 % 60) as u8,
        hour: (i / 4 % 24) as u8,
        weekday: (i / 96 % 7) as u8,
        day: (1 + i / 96 % 28) as u8,
        month: 7,
    };
    BarRequest {
        bars: (0..context).map(bar).collect(),
        stamps: (0..context + horizon).map(stamp).collect(),
        horizon,
        stream: Stream::from_key(77 + key),
    }
}

fn bars(model: &ModelSource, series: Vec<BarRequest>, samples: usize, knobs: (f32, usize, f32)) -> Request {
    drawn(model, series, samples, knobs, Window::Shorten)
}

fn drawn(
    model: &ModelSource,
    series: Vec<BarRequest>,
    samples: usize,
    (temperature, top_k, top_p): (f32, usize, f32),
    window: Window,
) -> Request {
    let sampling = Sampling::new(temperature, top_k, top_p).unwrap();
    let options = BarOptions { samples, sampling, window, memory_limit: u64::MAX };
    let series = series.into_iter().map(Ask::from).collect();
    Request::Forecast { model: model.clone(), series, terms: paths_of(&options) }
}

fn quantiles(
    model: &ModelSource,
    series: Vec<Ask>,
    context: usize,
    cross_learning: Option<usize>,
    levels: &[f64],
) -> Request {
    let terms = Terms { context, cross_learning, wanted: Wanted::Quantiles(levels.to_vec()) };
    Request::Forecast { model: model.clone(), series, terms }
}

const LEVELS: [f64; 5] = [0.1, 0.25, 0.5, 0.73, 0.9];

/// Series of several lengths, of which one has a gap.
fn plain(horizon: usize) -> Vec<Ask> {
    let mut series: Vec<Ask> = [150, 70, 96, 31]
        .into_iter()
        .enumerate()
        .map(|(key, length)| columns(vec![walk(key as u64, length)], horizon))
        .collect();
    series[2].targets[0].values[40] = f64::NAN;
    series
}

const CATEGORIES: [Option<&str>; 4] = [Some("rain"), Some("sun"), None, Some("snow")];

fn categories(steps: &[Option<&str>]) -> Values {
    Values::Categories(steps.iter().copied().collect())
}

/// Targets and a covariate of each kind, of numbers and of categories.
fn with_covariates(key: u64, targets: usize, horizon: usize) -> Ask {
    let length = 80;
    let weather: Vec<Option<&str>> = (0..length + horizon).map(|i| CATEGORIES[i * i % 7 % 4]).collect();
    let (past, future) = weather.split_at(length);
    let ahead = walk(key + 20, length + horizon);
    let (before, ahead) = ahead.split_at(length);
    let numbers = |values: &[f64]| Values::Numbers(values.to_vec());
    let known = |name: &str, past, future| KnownCovariate { name: name.into(), past, future };
    let covariate = |name: &str, values| Covariate { name: name.into(), values };
    Ask {
        past: vec![
            covariate("volume", numbers(&walk(key + 10, length))),
            covariate("weather", categories(past)),
        ],
        known: vec![
            known("plan", numbers(before), numbers(ahead)),
            known("forecast", categories(past), categories(future)),
        ],
        statics: vec![covariate("sector", categories(&vec![Some("energy"); length]))],
        ..columns((0..targets as u64).map(|i| walk(key + i, length)).collect(), horizon)
    }
}

/// Every request by name.
fn cases() -> Vec<(String, Request)> {
    let tiny = |name: &str| models().join("tests/fixtures/kronos").join(name);
    let other = [("tokenizer", tiny("tiny55/tokenizer"))];
    let of_bars = [
        described("kronos", "kronos-nano", &built_in("kronos-nano"), &[], Some(144)),
        described("kronos", "tiny55", &tiny("tiny55"), &[], Some(64)),
        described("kronos", "fixedte55", &tiny("fixedte55"), &other, Some(64)),
    ];
    let mut cases = Vec::new();
    for model in &of_bars {
        let mut add = |case: &str, request| cases.push((format!("{}/{case}", model.version), request));
        let many = || (0..5).map(|key| bar_series(key, 20 + 11 * key as usize, 6 + key as usize)).collect();
        add("greedy", bars(model, vec![bar_series(1, 50, 12)], 1, (1.0, 1, 1.0)));
        add("paths", bars(model, many(), 9, (1.0, 0, 0.9)));
        add("cold", bars(model, many(), 4, (0.6, 7, 1.0)));
        add("long", bars(model, vec![bar_series(7, 200, 30), bar_series(8, 1, 30)], 3, (1.0, 0, 1.0)));
        add("slide", drawn(model, vec![bar_series(9, 150, 20)], 2, (1.0, 0, 0.95), Window::Slide));
    }
    let fixture = |name: &str| models().join("tests/fixtures/chronos2/models").join(name);
    let chronos2 = [
        described("chronos2", "chronos-nano", &built_in("chronos-nano"), &[], None),
        described("chronos2", "tiny-a", &fixture("tiny-a"), &[], None),
        described("chronos2", "tiny-b", &fixture("tiny-b"), &[], None),
        described("chronos2", "tiny-c", &fixture("tiny-c"), &[], None),
    ];
    for model in &chronos2 {
        let mut add = |case: &str, request| cases.push((format!("{}/{case}", model.version), request));
        add("plain", quantiles(model, plain(20), 2048, None, &LEVELS));
        add("short", quantiles(model, plain(5), 30, None, &[0.5]));
        add("far", quantiles(model, plain(150), 2048, None, &LEVELS));
        add("covariates", quantiles(model, vec![with_covariates(3, 1, 9)], 2048, None, &LEVELS));
        let groups = vec![with_covariates(4, 2, 9), with_covariates(9, 3, 9)];
        add("groups", quantiles(model, groups, 2048, None, &LEVELS));
        add("together", quantiles(model, plain(12), 2048, Some(100), &LEVELS));
    }
    let bolt = described("chronos_bolt", "tiny-bolt", &fixture("tiny-bolt"), &[], None);
    for (case, horizon) in [("plain", 20), ("far", 150)] {
        cases.push((format!("tiny-bolt/{case}"), quantiles(&bolt, plain(horizon), 2048, None, &LEVELS)));
    }
    let nbeats = described("nbeats", "nbeats-daily", &built_in("nbeats-daily"), &[], None);
    let two = columns(vec![walk(5, 150), walk(6, 150)], 5);
    let one = |key: u64| columns(vec![walk(key, 120 + 40 * key as usize)], 1 + key as usize);
    let series = (0..4).map(one).chain([two]).collect();
    cases.push(("nbeats-daily/plain".into(), quantiles(&nbeats, series, 2048, None, &LEVELS)));
    cases
}

fn hex(hash: Sha256) -> String {
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The bits of what was answered, or the words of what was not.
fn hash(answer: Answer) -> String {
    let Answer::Series(series) = answer else { panic!("{answer:?}") };
    let mut hash = Sha256::new();
    let mut take =
        |values: &[f64]| values.iter().for_each(|value| hash.update(value.to_bits().to_le_bytes()));
    for forecast in series {
        match forecast {
            Ok(Forecast::Paths(paths)) => take(&paths.values),
            Ok(Forecast::Quantiles(quantiles)) => quantiles.values.iter().flatten().for_each(|v| take(v)),
            Err(error) => panic!("{error}"),
        }
    }
    hex(hash)
}

/// What the mathematical functions of the system answer, on which forecasts depend beside the kernels.
fn arithmetic() -> String {
    let mut hash = Sha256::new();
    for i in 0..2000 {
        let x = 0.003 * f64::from(i) + 0.001;
        for y in [x.sin(), x.cos(), x.exp(), x.ln(), x.asinh(), x.sinh(), x.tanh(), x.powf(0.37), x.ln_1p()] {
            hash.update(y.to_bits().to_le_bytes());
        }
        let x = x as f32;
        for y in [x.sin(), x.cos(), x.exp(), x.ln(), x.tanh(), x.powf(0.37)] {
            hash.update(y.to_bits().to_le_bytes());
        }
    }
    hex(hash)
}

#[test]
fn forecasts_have_the_bits_that_were_stored() {
    let mut stored = STORED.lines().filter(|line| !line.starts_with('#'));
    let arithmetic = arithmetic();
    if stored.next() != Some(&format!("arithmetic {arithmetic}")) {
        let why = "the mathematical library of this system is another one than that of the stored bits";
        kronos_skip::skipped(why, "run it on Debian 12 or 13 on x86-64");
        return;
    }
    let engine = Engine::start(settings());
    let mut caller = engine.connect();
    let made: Vec<String> = cases()
        .into_iter()
        .map(|(name, request)| format!("{name} {}", hash(caller.ask(&request).unwrap())))
        .collect();
    let stored: Vec<&str> = stored.collect();
    assert!(made == stored, "other bits than those stored:\narithmetic {arithmetic}\n{}", made.join("\n"));
}
