//! The upstream project's own regression test, for those who have the published weights.
//!
//! `KRONOS_WEIGHTS` names a directory that holds them under their published names, for example `Kronos-small` and
//! `Kronos-Tokenizer-base`; the folder's `upstream_regression/info.json` says which are needed.

use super::case::Table;
use super::folder::json;
use super::report::Report;
use candle_core::Device;
use kronos_models::bars::{BarOptions, BarRequest, Sampling, Window};
use kronos_models::interrupt::NeverInterrupt;
use kronos_models::kronos::{Kronos, KronosFiles};
use serde::Deserialize;
use std::path::Path;

const SET: &str = "upstream_regression";

#[derive(Deserialize)]
struct Info {
    model: String,
    tokenizer: String,
    /// Path of the bars relative to the folder, then a remark.
    input: String,
    settings: Settings,
    forecasts: Vec<Forecast>,
    mse: Vec<Mse>,
}

#[derive(Deserialize)]
struct Settings {
    max_context: usize,
    #[serde(rename = "T")]
    temperature: f32,
    top_k: usize,
    top_p: f32,
    sample_count: usize,
}

#[derive(Deserialize)]
struct Forecast {
    file: String,
    context_rows: [usize; 2],
    pred_len: usize,
    rtol: f64,
}

#[derive(Deserialize)]
struct Mse {
    context: usize,
    pred_len: usize,
    expected_mean_mse_ohlc: f64,
    tolerance: f64,
    first_forecast_rows: Vec<usize>,
}

pub fn run(folder: &Path, report: &mut Report) {
    let folder = folder.join(SET);
    if !folder.is_dir() {
        return;
    }
    let Some(weights) = std::env::var_os("KRONOS_WEIGHTS") else {
        kronos_skip::skipped(
            "the upstream regression needs the published weights",
            "make golden KRONOS_WEIGHTS=folder",
        );
        return;
    };
    let info: Info = json(&folder.join("info.json"));
    let of = |name: &str| Path::new(&weights).join(name.rsplit('/').next().unwrap());
    let files = KronosFiles {
        predictor: of(&info.model),
        tokenizer: of(&info.tokenizer),
        max_context: info.settings.max_context,
    };
    let kronos = Kronos::load(&files, &Device::Cpu).unwrap();
    let Settings { temperature, top_k, top_p, sample_count, .. } = info.settings;
    let options = BarOptions {
        samples: sample_count,
        sampling: Sampling::new(temperature, top_k, top_p).unwrap(),
        window: Window::Slide,
        memory_limit: 4 << 30,
    };
    let mean = |request: &BarRequest| kronos.replay(request, &options, None, &NeverInterrupt).unwrap().mean;
    let bars = Table::read(&folder.join(info.input.split_whitespace().next().unwrap()));

    for Forecast { file, context_rows: [from, to], pred_len, rtol } in info.forecasts {
        let got = mean(&bars.request(from..to, pred_len));
        let answer = Table::read(&folder.join(&file));
        let expected: Vec<f32> = (0..pred_len)
            .flat_map(|row| super::case::COLUMNS.map(|name| answer.columns[name][row] as f32))
            .collect();
        let tolerance = |i: usize| rtol * f64::from(expected[i]).abs();
        report.case(SET, &file).close_by("pred", got.as_flattened(), &expected, tolerance);
    }
    for Mse { context, pred_len, expected_mean_mse_ohlc, tolerance, first_forecast_rows } in info.mse {
        let window = |&first: &usize| {
            let truth = bars.request(first..first + pred_len, 0).bars;
            let forecast = mean(&bars.request(first - context..first, pred_len));
            let errors = forecast.iter().zip(&truth).flat_map(|(forecast, truth)| {
                (0..4).map(move |channel| (f64::from(forecast[channel]) - truth[channel]).powi(2))
            });
            errors.sum::<f64>() / (4 * pred_len) as f64
        };
        let mse = first_forecast_rows.iter().map(window).sum::<f64>() / first_forecast_rows.len() as f64;
        let name = format!("mean squared error, context {context}");
        report.case(SET, &name).close(
            "open, high, low, close",
            &[mse as f32],
            &[expected_mean_mse_ohlc as f32],
            tolerance,
        );
    }
}
