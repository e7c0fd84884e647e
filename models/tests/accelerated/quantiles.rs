//! Models of quantiles in candle's operations.

use super::{BF16, F32, deviation, gpu, on_cpu};
use candle_core::Device;
use kronos_models::chronos_bolt::ChronosBolt;
use kronos_models::chronos2::{Chronos2, Chronos2Files, Chronos2Options};
use kronos_models::device::Precision;
use kronos_models::interrupt::NeverInterrupt;
use kronos_models::layers::accelerated::Place;
use kronos_models::random::Stream;
use kronos_models::series::{KnownCovariate, SeriesRequest};
use std::path::Path;

fn files() -> Chronos2Files {
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/chronos2/models/tiny-b");
    Chronos2Files { model, adapter: None }
}

/// A walk with gaps that starts at `level`.
fn walk(seed: u64, length: usize, level: f64) -> Vec<f64> {
    let stream = Stream::from_key(seed);
    let mut level = level;
    (0..length as u32)
        .map(|i| {
            level += stream.uniform(i, 0, 0) - 0.5;
            if stream.uniform(i, 1, 0) < 0.1 { f64::NAN } else { level }
        })
        .collect()
}

/// Series of very different lengths: alone, with others, with what is known of the future.
fn requests(horizon: usize, level: f64) -> Vec<SeriesRequest> {
    let lengths = [1, 3, 40, 41, 150, 700];
    let alone = lengths.iter().map(|&n| SeriesRequest::univariate(walk(n as u64, n, level), horizon));
    let together = (0..3).map(|i| SeriesRequest {
        targets: (0..=i).map(|row| walk(100 + 10 * i + row, 90, level)).collect(),
        past_covariates: vec![walk(200 + i, 90, level)],
        known_covariates: vec![KnownCovariate {
            past: walk(300 + i, 90, level),
            future: walk(400 + i, horizon, level),
        }],
        horizon,
    });
    alone.chain(together).collect()
}

fn forecast(model: &Chronos2, requests: &[SeriesRequest], cross_learning: Option<usize>) -> Vec<f32> {
    let options = Chronos2Options { cross_learning, ..Chronos2Options::default() };
    let forecasts = model.forecast(requests, &options, &NeverInterrupt).unwrap();
    let values = forecasts.into_iter().flat_map(|forecast| forecast.unwrap().values);
    values.flatten().flatten().map(|value| value as f32).collect()
}

fn compare(place: &Place, tolerance: f64) {
    let kernels = Chronos2::load(&files(), &Device::Cpu).unwrap();
    let accelerated = Chronos2::load_accelerated(&files(), place).unwrap();
    assert_eq!(kernels.levels(), accelerated.levels());
    let config = kernels.config();
    let one_pass = config.patch() * config.chronos_config.max_output_patches;
    for (horizon, cross_learning) in
        [(one_pass, None), (one_pass, Some(8)), (2 * one_pass, None), (2 * one_pass, Some(8))]
    {
        let forecast = |model: &Chronos2| forecast(model, &requests(horizon, 0.0), cross_learning);
        let deviation = deviation(&forecast(&accelerated), &forecast(&kernels));
        println!("{place:?} {horizon} steps, cross-learning {cross_learning:?}: {deviation:.1e}");
        // Beyond one pass a forecast is fed to the next, and condensing many samples to a few quantiles has jumps.
        let tolerance = if horizon > one_pass { 20.0 * tolerance } else { tolerance };
        assert!(
            deviation <= tolerance,
            "{horizon} steps, cross-learning {cross_learning:?}: {deviation:.1e}"
        );
    }
}

/// Histories of very different lengths, with gaps, in one pass and beyond.
fn compare_bolt(place: &Place, tolerance: f64) {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/chronos2/models/tiny-bolt");
    let kernels = ChronosBolt::load(&directory, &Device::Cpu).unwrap();
    let accelerated = ChronosBolt::load_accelerated(&directory, place).unwrap();
    let one_pass = kernels.config().chronos_config.prediction_length;
    for (horizon, tolerance) in [(one_pass, tolerance), (2 * one_pass, 20.0 * tolerance)] {
        let requests: Vec<SeriesRequest> = [1, 3, 40, 41, 150, 700]
            .map(|length| SeriesRequest::univariate(walk(length, length as usize, 0.0), horizon))
            .into();
        let forecast = |model: &ChronosBolt| -> Vec<f32> {
            let forecasts = model.forecast(&requests, &NeverInterrupt).unwrap();
            let values = forecasts.into_iter().flat_map(|forecast| forecast.unwrap().values);
            values.flatten().flatten().map(|value| value as f32).collect()
        };
        let deviation = deviation(&forecast(&accelerated), &forecast(&kernels));
        println!("{place:?} Bolt {horizon} steps: {deviation:.1e}");
        assert!(deviation <= tolerance, "Bolt {horizon} steps: {deviation:.1e}");
    }
}

#[test]
fn float32_agrees_with_the_kernels() {
    compare(&on_cpu(Precision::F32), F32);
    compare_bolt(&on_cpu(Precision::F32), F32);
}

#[test]
fn bfloat16_agrees_with_the_kernels() {
    compare(&on_cpu(Precision::Bf16), BF16);
    compare_bolt(&on_cpu(Precision::Bf16), BF16);
}

#[test]
fn a_gpu_agrees_with_the_kernels() {
    let Some(gpu) = gpu() else { return };
    for (precision, tolerance) in [(Precision::F32, F32), (Precision::Bf16, BF16)] {
        let place = Place::new(&gpu, precision);
        compare(&place, tolerance);
        compare_bolt(&place, tolerance);
    }
}

#[test]
fn bfloat16_forecasts_prices_to_a_thousandth() {
    let requests = requests(24, 100.0);
    let [kernels, accelerated] = [
        Chronos2::load(&files(), &Device::Cpu).unwrap(),
        Chronos2::load_accelerated(&files(), &on_cpu(Precision::Bf16)).unwrap(),
    ]
    .map(|model| forecast(&model, &requests, None));
    let relative = |(got, expected): (&f32, &f32)| f64::from((got - expected).abs() / expected.abs());
    let worst = accelerated.iter().zip(&kernels).map(relative).fold(0.0, f64::max);
    let deviation = deviation(&accelerated, &kernels);
    println!("prices in bfloat16: {deviation:.1e} of their length, {worst:.1e} of the worst one");
    assert!(deviation <= 1e-3, "{deviation:.1e}");
}
