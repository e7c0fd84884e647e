//! What must hold for any input of Chronos-2 and Chronos-Bolt, on random weights of the fixtures.
#![allow(clippy::unwrap_used, clippy::panic)]

use candle_core::Device;
use kronos_models::chronos_bolt::ChronosBolt;
use kronos_models::chronos2::{Chronos2, Chronos2Files, Chronos2Options};
use kronos_models::interrupt::NeverInterrupt;
use kronos_models::random::Stream;
use kronos_models::series::{Between, KnownCovariate, QuantileForecast, SeriesRequest};
use proptest::prelude::*;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::sync::atomic::AtomicBool;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/chronos2/models").join(name)
}

static MODEL: LazyLock<Chronos2> = LazyLock::new(|| {
    Chronos2::load(&Chronos2Files { model: fixture("tiny-b"), adapter: None }, &Device::Cpu).unwrap()
});
static BOLT: LazyLock<ChronosBolt> =
    LazyLock::new(|| ChronosBolt::load(&fixture("tiny-bolt"), &Device::Cpu).unwrap());

/// Beyond one pass of either model for the largest.
const HORIZONS: std::ops::Range<usize> = 1..40;

/// A history: a walk with a season and, where `gaps`, missing values.
fn history(seed: u64, length: usize, gaps: bool) -> Vec<f64> {
    let stream = Stream::from_key(seed);
    let mut level = 100.0;
    (0..length)
        .map(|i| {
            level += stream.uniform(i as u32, 0, 0) - 0.5;
            let missing = gaps && stream.uniform(i as u32, 1, 0) < 0.2;
            if missing { f64::NAN } else { level + 3.0 * (i as f64 / 7.0).sin() }
        })
        .collect()
}

prop_compose! {
    /// One to three targets, up to two covariates of each kind.
    fn any_request()(
        seed in any::<u64>(), length in 1usize..150, gaps: bool, horizon in HORIZONS,
        targets in 1usize..4, past in 0usize..3, known in 0usize..3,
    ) -> SeriesRequest {
        let row = |index: usize, length: usize| history(seed.wrapping_add(index as u64), length, gaps);
        SeriesRequest {
            targets: (0..targets).map(|i| row(i, length)).collect(),
            past_covariates: (0..past).map(|i| row(10 + i, length)).collect(),
            known_covariates: (0..known)
                .map(|i| KnownCovariate { past: row(20 + i, length), future: row(30 + i, horizon) })
                .collect(),
            horizon,
        }
    }
}

fn forecast(requests: &[SeriesRequest]) -> Vec<QuantileForecast> {
    let options = Chronos2Options::default();
    let results = MODEL.forecast(requests, &options, &NeverInterrupt).unwrap();
    results.into_iter().map(Result::unwrap).collect()
}

fn bolt(requests: &[SeriesRequest]) -> Vec<QuantileForecast> {
    BOLT.forecast(requests, &NeverInterrupt).unwrap().into_iter().map(Result::unwrap).collect()
}

/// The first target alone: what Chronos-Bolt takes.
fn univariate(request: &SeriesRequest) -> SeriesRequest {
    SeriesRequest::univariate(request.targets[0].clone(), request.horizon)
}

fn bits(forecast: &QuantileForecast) -> Vec<u64> {
    forecast.values.iter().flatten().flatten().map(|value| value.to_bits()).collect()
}

fn assert_close(got: &QuantileForecast, expected: &[f64], scale: f64, tolerance: f64) {
    for (got, expected) in got.values.iter().flatten().flatten().zip(expected) {
        assert!((got - expected).abs() <= tolerance * (scale + expected.abs()), "{got} {expected}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn a_series_alone_equals_the_series_in_any_batch_bitwise(
        requests in prop::collection::vec(any_request(), 1..7), at: prop::sample::Index,
    ) {
        let at = at.index(requests.len());
        let together = forecast(&requests);
        prop_assert_eq!(bits(&forecast(&requests[at..=at])[0]), bits(&together[at]));
        let reversed: Vec<_> = requests.iter().rev().cloned().collect();
        let permuted: Vec<_> = forecast(&reversed).iter().rev().map(bits).collect();
        prop_assert_eq!(permuted, together.iter().map(bits).collect::<Vec<_>>());

        let singles: Vec<_> = requests.iter().map(univariate).collect();
        prop_assert_eq!(bits(&bolt(&singles[at..=at])[0]), bits(&bolt(&singles)[at]));
    }

    #[test]
    fn missing_values_in_front_change_nothing(request in any_request(), padding in 1usize..70) {
        let pad = |row: &mut Vec<f64>| drop(row.splice(0..0, std::iter::repeat_n(f64::NAN, padding)));
        let mut padded = request.clone();
        padded.targets.iter_mut().for_each(pad);
        padded.past_covariates.iter_mut().for_each(pad);
        padded.known_covariates.iter_mut().for_each(|known| pad(&mut known.past));
        prop_assert_eq!(bits(&forecast(&[padded.clone()])[0]), bits(&forecast(std::slice::from_ref(&request))[0]));
        prop_assert_eq!(bits(&bolt(&[univariate(&padded)])[0]), bits(&bolt(&[univariate(&request)])[0]));
    }

    /// Exactly for powers of two, which no rounding sees; for a shift as far as the shifted history still holds it.
    #[test]
    fn forecasts_follow_the_scale_and_the_offset_of_their_series(
        seed in any::<u64>(), length in 8usize..150, gaps: bool, horizon in HORIZONS, power in -20i32..20,
    ) {
        let plain = SeriesRequest::univariate(history(seed, length, gaps), horizon);
        let with = |change: &dyn Fn(f64) -> f64| {
            SeriesRequest::univariate(plain.targets[0].iter().map(|&value| change(value)).collect(), horizon)
        };
        let factor = 2f64.powi(power);
        for run in [forecast, bolt] {
            let base = &run(std::slice::from_ref(&plain))[0];
            let flat: Vec<f64> = base.values.iter().flatten().flatten().copied().collect();
            let scaled = &run(&[with(&|value| factor * value)])[0];
            // A constant history has a scale of its own, whatever its unit.
            let distinct = plain.targets[0].iter().filter(|value| !value.is_nan()).count() > 1;
            if distinct {
                let expected: Vec<u64> = flat.iter().map(|value| (factor * value).to_bits()).collect();
                prop_assert_eq!(bits(scaled), expected);
            }
            let shifted = &run(&[with(&|value| value + 1000.0)])[0];
            assert_close(shifted, &flat.iter().map(|value| value + 1000.0).collect::<Vec<_>>(), 1.0, 1e-4);
        }
    }

    #[test]
    fn the_future_of_a_covariate_matters_only_when_given(request in any_request()) {
        let mut unknown = request.clone();
        for known in unknown.known_covariates.iter_mut() {
            known.future.fill(f64::NAN);
        }
        let mut past = request.clone();
        past.past_covariates.extend(past.known_covariates.drain(..).map(|known| known.past));
        prop_assert_eq!(bits(&forecast(&[unknown.clone()])[0]), bits(&forecast(&[past])[0]));
        let seen = request.known_covariates.iter().any(|known| known.future.iter().any(|value| !value.is_nan()));
        if seen {
            prop_assert_ne!(bits(&forecast(std::slice::from_ref(&request))[0]), bits(&forecast(&[unknown])[0]));
        }
    }

    #[test]
    fn quantiles_read_off_are_monotone_and_finite(request in any_request()) {
        for forecast in [&forecast(std::slice::from_ref(&request))[0], &bolt(&[univariate(&request)])[0]] {
            let read = forecast.at(&[0.1, 0.25, 0.5, 0.72, 0.9], Between::Levels).unwrap();
            for target in &read.values {
                prop_assert!(target.iter().flatten().all(|value| value.is_finite()));
                for pair in target.windows(2) {
                    prop_assert!(pair[0].iter().zip(&pair[1]).all(|(low, high)| low <= high));
                }
                prop_assert!(target.iter().all(|values| values.len() == request.horizon));
            }
        }
    }
}

#[test]
fn cross_learning_mixes_series_and_stops_at_its_limit() {
    let requests: Vec<_> =
        (0..3).map(|seed| SeriesRequest::univariate(history(seed, 60, false), 8)).collect();
    let run = |cross_learning| {
        let options = Chronos2Options { cross_learning, ..Chronos2Options::default() };
        let results = MODEL.forecast(&requests, &options, &NeverInterrupt).unwrap();
        results.into_iter().map(|result| bits(&result.unwrap())).collect::<Vec<_>>()
    };
    let (alone, pairs, all) = (run(None), run(Some(2)), run(Some(100)));
    assert_ne!(alone[0], pairs[0]);
    assert_ne!(pairs[0], all[0]);
    assert_eq!(alone[2], pairs[2], "the third series has no partner under a limit of two variates");
    assert_eq!(run(Some(1)), alone);
}

#[test]
fn one_bad_series_does_not_stop_the_others() {
    let good = SeriesRequest::univariate(history(1, 60, true), 8);
    let mut infinite = good.clone();
    infinite.targets[0][3] = f64::INFINITY;
    let huge = SeriesRequest::univariate(vec![1e308, -1e308, 1e308], 8);
    let results = MODEL
        .forecast(&[infinite, good.clone(), huge], &Chronos2Options::default(), &NeverInterrupt)
        .unwrap();
    assert!(results[0].as_ref().unwrap_err().to_string().contains("position 3"));
    assert_eq!(bits(results[1].as_ref().unwrap()), bits(&forecast(&[good])[0]));
    assert!(results[2].as_ref().unwrap_err().to_string().contains("too large at position 0"));
}

#[test]
fn histories_that_say_little_still_have_forecasts() {
    for history in [vec![5.0; 40], vec![0.1; 40], vec![7.0], vec![f64::NAN, 3.0, f64::NAN], vec![f64::NAN; 9]]
    {
        let request = SeriesRequest::univariate(history, 30);
        for forecast in [forecast(std::slice::from_ref(&request)), bolt(std::slice::from_ref(&request))] {
            assert!(forecast[0].values.iter().flatten().flatten().all(|value| value.is_finite()));
        }
    }
}

#[test]
fn a_cancelled_call_returns_at_once() {
    let requests = vec![SeriesRequest::univariate(history(1, 96, false), 500); 200];
    let cancelled = AtomicBool::new(true);
    for result in [
        MODEL.forecast(&requests, &Chronos2Options::default(), &cancelled),
        BOLT.forecast(&requests, &cancelled),
    ] {
        assert!(matches!(result, Err(kronos_models::ModelError::Cancelled)));
    }
}
