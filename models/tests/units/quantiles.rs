//! Models of columns, and baselines.

use crate::{BINARY, UNITS, built_in, fixtures, furthest, times, walk};
use candle_core::Device;
use kronos_models::baselines::Baseline;
use kronos_models::chronos_bolt::ChronosBolt;
use kronos_models::chronos2::{Chronos2, Chronos2Files, Chronos2Options};
use kronos_models::interrupt::NeverInterrupt;
use kronos_models::nbeats::NBeats;
use kronos_models::series::{KnownCovariate, SeriesRequest};

type Forecaster = Box<dyn Fn(&SeriesRequest) -> Vec<f64>>;

/// Beyond one pass of the Chronos models, and within the horizon of N-BEATS.
const HORIZON: usize = 18;

fn flat(values: Vec<Vec<Vec<f64>>>) -> Vec<f64> {
    values.into_iter().flatten().flatten().collect()
}

fn chronos2() -> Forecaster {
    let files = Chronos2Files { model: built_in("chronos-nano"), adapter: None };
    let model = Chronos2::load(&files, &Device::Cpu).unwrap();
    let options = Chronos2Options::default();
    Box::new(move |request| {
        let request = std::slice::from_ref(request);
        flat(model.forecast(request, &options, &NeverInterrupt).unwrap().remove(0).unwrap().values)
    })
}

fn bolt() -> Forecaster {
    let model = ChronosBolt::load(&fixtures().join("chronos2/models/tiny-bolt"), &Device::Cpu).unwrap();
    Box::new(move |request| {
        let mut request = request.clone();
        request.horizon = 50;
        flat(model.forecast(&[request], &NeverInterrupt).unwrap().remove(0).unwrap().values)
    })
}

fn nbeats() -> Forecaster {
    let model = NBeats::load(&built_in("nbeats-daily"), &Device::Cpu).unwrap();
    Box::new(move |request| {
        let request = std::slice::from_ref(request);
        flat(model.forecast(request, &NeverInterrupt).unwrap().remove(0).unwrap().values)
    })
}

fn baseline(baseline: Baseline) -> Forecaster {
    Box::new(move |request| flat(baseline.forecast(request, 7, &[0.05, 0.5, 0.8]).unwrap().values))
}

/// Every forecaster of columns: whether a power of two leaves its bits, and how far a power of ten may move it, in units of what the
/// forecast spreads. N-BEATS takes logarithms, which round otherwise for every unit.
fn forecasters() -> Vec<(&'static str, Forecaster, bool, f64)> {
    let baselines = Baseline::ALL.map(|of| (of.name(), baseline(of), true, 1e-10));
    let models = [
        ("chronos2", chronos2(), true, 1e-4),
        ("chronos_bolt", bolt(), true, 1e-4),
        ("nbeats", nbeats(), false, 1e-6),
    ];
    models.into_iter().chain(baselines).collect()
}

/// With a gap, where the model takes one.
fn history(factor: f64) -> Vec<f64> {
    let mut history = times(&walk(4, 130), factor);
    history[60] = f64::NAN;
    history
}

#[test]
fn columns_in_any_unit_are_forecast_alike() {
    for (name, forecast, bitwise, tolerance) in forecasters() {
        let at = |factor: f64| forecast(&SeriesRequest::univariate(history(factor), HORIZON));
        let expected = at(1.0);
        let (low, high) =
            expected.iter().fold((f64::MAX, f64::MIN), |(low, high), &v| (low.min(v), high.max(v)));
        for power in BINARY {
            let factor = 2f64.powi(power);
            if bitwise {
                assert!(times(&at(factor), 1.0 / factor) == expected, "{name}, 2^{power}");
            }
            let moved = furthest(&at(factor), &expected, factor, high - low);
            assert!(moved < tolerance, "{name}, 2^{power}: {moved}");
        }
        for power in UNITS {
            let factor = 10f64.powi(power);
            let moved = furthest(&at(factor), &expected, factor, high - low);
            assert!(moved < tolerance, "{name}, 1e{power}: {moved}");
        }
    }
}

/// A price that does not move, as a coin without trades: its forecast stays with it, whatever it is.
#[test]
fn a_constant_is_forecast_near_itself_in_any_unit() {
    for (name, forecast, ..) in forecasters() {
        for power in UNITS {
            let level = 3.7 * 10f64.powi(power);
            for value in forecast(&SeriesRequest::univariate(vec![level; 130], HORIZON)) {
                assert!((value / level - 1.0).abs() < 1e-3, "{name}, 1e{power}: {value}");
            }
        }
    }
}

#[test]
fn the_unit_of_a_covariate_or_of_another_target_changes_no_bit_of_a_forecast() {
    let forecast = chronos2();
    let at = |other: i32, past: i32, known: i32| {
        let [other, past, known] = [other, past, known].map(|power| 2f64.powi(power));
        let plan = times(&walk(8, 130 + HORIZON), known);
        let (before, ahead) = plan.split_at(130);
        let mut values = forecast(&SeriesRequest {
            targets: vec![history(1.0), times(&walk(6, 130), other)],
            past_covariates: vec![times(&walk(7, 130), past)],
            known_covariates: vec![KnownCovariate { past: before.to_vec(), future: ahead.to_vec() }],
            horizon: HORIZON,
        });
        let second = values.split_off(values.len() / 2);
        values.extend(times(&second, 1.0 / other));
        values
    };
    let expected = at(0, 0, 0);
    for powers in [(-40, 0, 0), (0, 40, 0), (0, 0, -33), (29, -17, 60)] {
        assert!(at(powers.0, powers.1, powers.2) == expected, "{powers:?}");
    }
}
