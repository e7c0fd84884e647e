//! What judges forecasts: scores, tests and calibration.

use crate::{BINARY, UNITS, times, walk};
use kronos_models::baselines::Baseline;
use kronos_models::calibration::{Groups, Interval, Method, Outcome, Score, Settings, Unit};
use kronos_models::metrics::{
    Errors, crps_paths, crps_quantiles, diebold_mariano, interval_score, lag_one_autocorrelation,
    mean_pinball, seasonal_scale, skill, spearman,
};
use kronos_models::random::Stream;
use kronos_models::series::SeriesRequest;

/// Factors of the unit with the share by which a result may differ: none for powers of two.
fn factors(tolerance: f64) -> impl Iterator<Item = (f64, f64)> {
    let binary = BINARY.into_iter().map(|power| (2f64.powi(power), 0.0));
    binary.chain(UNITS.map(move |power| (10f64.powi(power), tolerance)))
}

fn alike(what: &str, got: f64, expected: f64, (factor, tolerance): (f64, f64)) {
    let share = (got / factor / expected - 1.0).abs();
    assert!(share <= tolerance, "{what} in units of {factor:e}: {got:e}, expected {expected:e} of them");
}

/// Losses are in the unit of the data, and what is a share has none.
#[test]
fn scores_follow_the_unit_and_shares_do_not_know_it() {
    let (actual, forecast) = (walk(1, 60), walk(2, 60));
    let levels: Vec<f64> = (1..10).map(|level| f64::from(level) / 10.0).collect();
    let scores = |factor: f64| -> ([f64; 7], [f64; 6]) {
        let (actual, forecast) = (times(&actual, factor), times(&forecast, factor));
        let scale = seasonal_scale(&actual, 5).unwrap();
        let mut errors = Errors::default();
        actual.iter().zip(&forecast).for_each(|(a, f)| errors.add(*a, *f, Some(scale)));
        let quantiles = &forecast[..9];
        let differences: Vec<f64> = actual.iter().zip(&forecast).map(|(a, f)| (a - f).abs()).collect();
        let test = diebold_mariano(&differences, 3).unwrap();
        (
            [
                errors.mae().unwrap(),
                errors.rmse().unwrap(),
                scale,
                interval_score(actual[0], forecast[3], forecast[3] + factor, 0.9),
                mean_pinball(actual[0], quantiles, &levels).unwrap(),
                crps_quantiles(actual[0], quantiles, &levels).unwrap(),
                crps_paths(actual[0], &forecast).unwrap(),
            ],
            [
                errors.mase().unwrap(),
                test.statistic,
                test.p_value,
                spearman(&actual, &forecast).unwrap(),
                lag_one_autocorrelation(&differences).unwrap(),
                skill(errors.mae().unwrap(), errors.rmse().unwrap()).unwrap(),
            ],
        )
    };
    let (in_unit, shares) = scores(1.0);
    for (factor, tolerance) in factors(1e-11) {
        let (got_in_unit, got_shares) = scores(factor);
        for (place, (got, expected)) in got_in_unit.into_iter().zip(in_unit).enumerate() {
            alike(&format!("loss {place}"), got, expected, (factor, tolerance));
        }
        for (place, (got, expected)) in got_shares.into_iter().zip(shares).enumerate() {
            alike(&format!("share {place}"), got, expected, (1.0, tolerance));
        }
    }
}

/// The score of a lognormal distribution takes logarithms, which round otherwise for every unit.
#[test]
fn outcomes_score_alike_in_the_distribution_of_a_baseline() {
    for baseline in Baseline::ALL {
        let at = |factor: f64| {
            let request = SeriesRequest::univariate(times(&walk(3, 80), factor), 2);
            let outlook = baseline.outlooks(&request, 7).unwrap()[0][1];
            (outlook.crps(101.0 * factor).unwrap(), outlook.cdf(101.0 * factor).unwrap())
        };
        let expected = at(1.0);
        for (factor, _) in factors(0.0) {
            let got = at(factor);
            alike(baseline.name(), got.0, expected.0, (factor, 1e-9));
            alike(baseline.name(), got.1, expected.1, (1.0, 1e-9));
        }
    }
}

/// Intervals of two series through a calibration that learns from both; one of them is forecast without width at first.
fn served(settings: &Settings, factor: f64) -> Vec<f64> {
    let stream = Stream::from_key(12);
    let mut groups = [settings.group(), settings.group()];
    let mut global = settings.group();
    let mut served = Vec::new();
    for i in 0..240u32 {
        let series = (i % 2) as usize;
        let draw = |part| stream.uniform(i, part, 0) - 0.5;
        let point = 100.0 + draw(0);
        let half = if series == 1 && i < 20 { 0.0 } else { 1.0 + 0.2 * draw(1) };
        let ends = [point, point - half, point + half, point + 2.5 * draw(2)];
        // Outcomes that are what was forecast without width, then one that is not.
        let ends = if half == 0.0 && i < 11 { [point; 4] } else { ends };
        let [point, lower, upper, actual] = ends.map(|value| value * factor);
        let unit = settings.unit;
        let interval = unit.interval(point, lower, upper).unwrap();
        let of = Groups { series: Some(&groups[series]), sector: None, global: Some(&global) };
        let Interval { point, lower, upper } = settings.serve(of, &interval).interval;
        served.extend([point, lower, upper].map(|value| unit.leave(value) / factor));
        let outcome = Outcome { actual: unit.enter(actual), cutoff: i64::from(i) - 1, known: i64::from(i) };
        settings.learn(&mut groups[series], None, Some(&mut global), 1, &interval, outcome);
    }
    served
}

#[test]
fn calibrated_intervals_follow_the_unit() {
    for (method, score) in Method::ALL.into_iter().flat_map(|method| Score::ALL.map(|score| (method, score)))
    {
        for unit in [Unit::Linear, Unit::Log] {
            let settings =
                Settings { score, burn_in: 10, min_history: 30, ..Settings::new(0.9, method, unit).unwrap() };
            let expected = served(&settings, 1.0);
            assert!(expected.iter().all(|value| value.is_finite()), "{method:?} {score:?} {unit:?}");
            for (factor, tolerance) in factors(1e-9) {
                let tolerance = if unit == Unit::Log { 1e-9 } else { tolerance };
                for (got, expected) in served(&settings, factor).into_iter().zip(&expected) {
                    let share = (got / expected - 1.0).abs();
                    assert!(share <= tolerance, "{method:?} {score:?} {unit:?} {factor:e}: {got} {expected}");
                }
            }
        }
    }
}
