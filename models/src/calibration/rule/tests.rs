//! The rules by hand arithmetic.

use super::super::{Extremes, Tail, Unit};
use super::*;

fn settings(method: Method) -> Settings {
    Settings::new(0.9, method, Unit::Log).unwrap()
}

/// A band whose standard deviation is 0.01 at a level of 90 %.
const BAND: Interval = Interval { point: 0.0, lower: -0.016448536269514722, upper: 0.016448536269514722 };

/// The first outcome of a time.
fn outcome(actual: f64) -> Outcome {
    Outcome { actual, cutoff: i64::MAX, known: i64::MAX }
}

/// A group with `seen` outcomes, whose errors have a standard deviation of 0.01.
fn group(settings: &Settings, seen: u64) -> Group {
    Group { seen, spread: 1e-4, ..settings.group() }
}

fn close(got: f64, expected: f64) {
    assert!((got - expected).abs() < 1e-12 * expected.abs().max(1.0), "{got} {expected}");
}

/// A burn-in of 50 outcomes, and 60 before a series stops borrowing.
#[test]
fn nobody_is_listened_to_before_a_burn_in_of_their_own() {
    let settings = settings(Method::Pid);
    let source = |series: Option<u64>, sector: Option<u64>, global: Option<u64>| {
        let [series, sector, global] =
            [series, sector, global].map(|seen| seen.map(|seen| group(&settings, seen)));
        let groups = Groups { series: series.as_ref(), sector: sector.as_ref(), global: global.as_ref() };
        settings.serve(groups, &BAND).source
    };
    assert_eq!([49, 50].map(|seen| source(None, Some(seen), Some(90))), [Source::Global, Source::Sector]);
    assert_eq!([49, 50].map(|seen| source(None, Some(0), Some(seen))), [Source::BurnIn, Source::Global]);
    assert_eq!([59, 60].map(|seen| source(Some(seen), None, Some(90))), [Source::Global, Source::Series]);
    // A series that has nobody to borrow from is used after the burn-in.
    assert_eq!([49, 50].map(|seen| source(Some(seen), None, None)), [Source::BurnIn, Source::Series]);
}

/// Both tails ask for 50 standard deviations where 10 are the most, and then for 2.
#[test]
fn no_end_is_farther_than_the_greatest_radius_whatever_is_scored() {
    for (score, offset, two) in
        [(Score::Scaled, 0.0, 2.0), (Score::Residual, 0.0, 0.02), (Score::Cqr, BAND.upper, 0.02)]
    {
        let settings = Settings { score, ..settings(Method::Quantile) };
        let served = |asked: f64| {
            let mut series = group(&settings, 100);
            // What a tracker adds to its scorecast, the distance that a normal distribution would have.
            let scorecast = match score {
                Score::Scaled => settings.deviate(),
                Score::Residual => settings.deviate() * 0.01,
                Score::Cqr => 0.0,
            };
            let q = asked - scorecast;
            let tail = Tail::Tracker { q, excess: 0.0, seen: 100, extremes: Extremes::default() };
            series.tails = vec![tail; 2];
            settings.serve(Groups { series: Some(&series), ..Groups::default() }, &BAND)
        };
        let far = served(25.0 * two);
        close(far.interval.upper, offset + 0.1);
        close(far.interval.lower, -offset - 0.1);
        assert!(far.unbounded, "{score:?}");
        let near = served(two);
        close(near.interval.upper, offset + 0.02);
        close(near.interval.lower, -offset - 0.02);
        assert!(!near.unbounded, "{score:?}");
    }
}

/// Served is 2 standard deviations about a point that the first layer has moved by −0.002; the outcome is within them, and
/// would not be about the model's own point.
#[test]
fn what_is_learnt_is_about_what_was_served() {
    let settings = settings(Method::Quantile);
    let mut series = group(&settings, 100);
    (series.online.evidence, series.online.bias) = (1e300, -0.002);
    let q = 2.0 - settings.deviate();
    let tail = Tail::Tracker { q, excess: 0.0, seen: 100, extremes: Extremes::default() };
    series.tails = vec![tail; 2];
    let served = settings.learn(&mut series, None, None, 1, &BAND, outcome(-0.021)).unwrap().interval;
    close(served.lower, -0.022);
    close(served.upper, 0.018);
    assert_eq!((series.record.judged, series.record.missed), (1, 0));
    for tail in &series.tails {
        // 5 % of a miss were due to each, and none came.
        let Tail::Tracker { excess, .. } = tail else { unreachable!("a tracker stays one") };
        close(*excess, -0.05);
    }
}

/// λ = 0.06 of a variance of 1e-4; beyond 10 standard deviations an error counts as 10.
#[test]
fn the_deviation_learns_from_outliers_and_from_none_more_than_from_the_greatest_radius() {
    let settings = settings(Method::Pid);
    let learnt = |seen: u64, actual: f64, step: u32| {
        let mut series = group(&settings, seen);
        settings.learn(&mut series, None, None, step, &BAND, outcome(actual));
        series.spread
    };
    close(learnt(1000, 0.03, 1), 1e-4 + 0.06 * (9e-4 - 1e-4));
    close(learnt(1000, -0.03, 3), 1e-4 + 0.02 * (9e-4 - 1e-4));
    for outlier in [0.1, 0.5, -1e300, f64::INFINITY] {
        close(learnt(1000, outlier, 1), 1e-4 + 0.06 * (1e-2 - 1e-4));
    }
    // The first outcome counts as much as the model's own band, whose variance is 1e-4 too.
    close(learnt(0, 0.02, 1), 1e-4 + 0.5 * (4e-4 - 1e-4));
}

#[test]
fn a_sector_counts_each_series_once() {
    let settings = settings(Method::Pid);
    let [mut sector, mut global] = [settings.group(), settings.group()];
    let mut series = [settings.group(), settings.group(), settings.group()];
    for (of, times) in series.iter_mut().zip([3, 1, 2]) {
        for _ in 0..times {
            settings.learn(of, Some(&mut sector), Some(&mut global), 1, &BAND, outcome(0.01));
        }
    }
    assert_eq!((sector.members, global.members, sector.seen, global.seen), (3, 3, 6, 6));
    assert_eq!(series.map(|series| (series.members, series.seen)), [(1, 3), (1, 1), (1, 2)]);
    // λ = 0.02 over the series known by then: three times of the first, then one of two, then two of three.
    let kept = 0.98f64.powi(3) * 0.99 * (1.0 - 0.02 / 3.0f64).powi(2);
    close(sector.online.bias, 0.01 * (1.0 - kept));
}

/// A factor of 1.5 on a band that reaches three times as far up as down.
#[test]
fn a_resized_band_keeps_its_skew() {
    let settings = settings(Method::Online);
    let mut series = group(&settings, 100);
    // So much evidence that nothing is blended in.
    (series.online.evidence, series.online.bias) = (1e300, -0.001);
    series.online.scale_squared = 2.25;
    let skewed = Interval { point: 1.0, lower: 0.99, upper: 1.03 };
    let served = settings.serve(Groups { series: Some(&series), ..Groups::default() }, &skewed).interval;
    close(served.point, 0.999);
    close(served.lower, 0.999 - 0.015);
    close(served.upper, 0.999 + 0.045);
}
