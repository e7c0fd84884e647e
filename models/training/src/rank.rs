//! Which series a model forecasts best.

use crate::error::{Result, TrainError};
use crate::split::DAY;
use crate::{Panel, artifact, tasks};
use kronos_job::{Job, JobError, RankOptions};
use kronos_models::interrupt::Interrupt;
use kronos_models::series::SeriesRequest;
use std::fmt::Write;
use std::path::Path;

/// Days looked back on.
pub const DAYS: [i64; 3] = [30, 60, 90];

/// One series of the list.
#[derive(Debug, Clone, PartialEq)]
pub struct BestFit {
    /// Place in the list, from 1.
    pub rank: usize,
    /// Name of the series.
    pub series: String,
    /// Forecasts judged in each of [`DAYS`].
    pub n: [usize; 3],
    /// Mean absolute error of the median, in log returns.
    pub mae: [f64; 3],
    /// Mean absolute error over that of the last value.
    pub mae_over_naive: [f64; 3],
    /// Share of forecasts on the right side of the last value.
    pub directional_accuracy: [f64; 3],
}

/// One judged forecast.
#[derive(Debug, Clone, Copy)]
struct Judged {
    /// Start of the row that was forecast.
    time: i64,
    /// ln(actual / last).
    actual: f64,
    /// ln(forecast / last).
    forecast: f64,
}

/// Judges forecasts that came true in the last 30, 60 and 90 days before each panel's end, with the chosen version of the job's
/// model, and lists the best series.
///
/// Better is lower MAE relative to the last value and more right directions: series are ordered by the sum of their places in
/// both, each the mean over the three spans; equals by name.
///
/// # Errors
/// [`TrainError::Job`] when there is no such model or its family makes no such list, and what its files and forecasts give
/// rise to.
pub fn rank_best_fit(
    job: &Job,
    panels: &[Panel],
    out: &Path,
    RankOptions { step, top }: RankOptions,
    interrupt: &dyn Interrupt,
) -> Result<Vec<BestFit>> {
    let Some(open) = tasks::task(&job.family)?.medians else {
        return Err(JobError::NotForFamily { option: "rank", family: job.family.clone() }.into());
    };
    let model = open(&artifact::chosen(out, &job.name)?)?;
    let context = model.context();
    if step == 0 || step > model.horizon() {
        return Err(JobError::Invalid(format!("step must be between 1 and {}", model.horizon())).into());
    }
    let mut judged: Vec<(String, Vec<Judged>)> = Vec::new();
    for panel in panels {
        let Some((_, end)) = panel.span() else { continue };
        for series in &panel.series {
            let first = series.times.partition_point(|&time| time <= end - DAYS[2] * DAY);
            let (mut rows, mut requests) = (Vec::new(), Vec::new());
            for row in first.max(context + step - 1)..series.rows() {
                let history = &series.values[0][row + 1 - step - context..row + 1 - step];
                let actual = series.values[0][row];
                if history.iter().chain([&actual]).all(|value| *value > 0.0) {
                    rows.push((row, history[context - 1], actual));
                    requests.push(SeriesRequest::univariate(history.to_vec(), step));
                }
            }
            let mut of_series = Vec::new();
            for ((row, last, actual), median) in rows.into_iter().zip(model.medians(&requests, interrupt)?) {
                let forecast = (median[step - 1] / last).ln();
                of_series.push(Judged { time: series.times[row], actual: (actual / last).ln(), forecast });
            }
            judged.push((
                series.name.clone(),
                of_series.into_iter().map(|one| Judged { time: one.time - end, ..one }).collect(),
            ));
        }
    }
    Ok(order(judged, top))
}

/// Orders series by their judged forecasts, whose times are relative to the end.
fn order(judged: Vec<(String, Vec<Judged>)>, top: usize) -> Vec<BestFit> {
    let mut fits: Vec<BestFit> =
        judged.into_iter().filter_map(|(series, judged)| fit(series, &judged)).collect();
    // Equals share the first of their places: shares of few forecasts are often equal, and no name is better than another.
    let places = |key: &dyn Fn(&BestFit) -> f64| -> Vec<usize> {
        let keys: Vec<f64> = fits.iter().map(key).collect();
        let mut sorted = keys.clone();
        sorted.sort_by(f64::total_cmp);
        keys.iter().map(|key| sorted.partition_point(|other| other.total_cmp(key).is_lt())).collect()
    };
    let mean = |values: &[f64; 3]| values.iter().sum::<f64>() / 3.0;
    let by_error = places(&|fit| mean(&fit.mae_over_naive));
    let by_direction = places(&|fit| -mean(&fit.directional_accuracy));
    for (index, fit) in fits.iter_mut().enumerate() {
        fit.rank = by_error[index] + by_direction[index];
    }
    fits.sort_by(|a, b| a.rank.cmp(&b.rank).then_with(|| a.series.cmp(&b.series)));
    fits.truncate(top);
    fits.iter_mut().enumerate().for_each(|(place, fit)| fit.rank = place + 1);
    fits
}

/// Scores of one series; none when a span has no forecast to judge.
fn fit(series: String, judged: &[Judged]) -> Option<BestFit> {
    let mut fit = BestFit {
        rank: 0,
        series,
        n: [0; 3],
        mae: [0.0; 3],
        mae_over_naive: [0.0; 3],
        directional_accuracy: [0.0; 3],
    };
    for (span, days) in DAYS.iter().enumerate() {
        let recent: Vec<&Judged> = judged.iter().filter(|one| one.time > -days * DAY).collect();
        let mean = |value: &dyn Fn(&Judged) -> f64| {
            recent.iter().map(|one| value(one)).sum::<f64>() / recent.len() as f64
        };
        if recent.is_empty() {
            return None;
        }
        fit.n[span] = recent.len();
        fit.mae[span] = mean(&|one| (one.actual - one.forecast).abs());
        fit.mae_over_naive[span] = fit.mae[span] / mean(&|one| one.actual.abs());
        fit.directional_accuracy[span] =
            mean(&|one| f64::from(u8::from((one.actual > 0.0) == (one.forecast > 0.0))));
    }
    Some(fit)
}

/// The list as CSV.
pub fn csv(rows: &[BestFit]) -> String {
    let mut text = String::from("rank,series");
    for days in DAYS {
        // Writing to a string cannot fail.
        let _ = write!(text, ",n_{days},mae_{days},mae_over_naive_{days},directional_accuracy_{days}");
    }
    text.push('\n');
    for row in rows {
        let _ = write!(text, "{},{}", row.rank, row.series);
        for span in 0..DAYS.len() {
            let (n, mae) = (row.n[span], row.mae[span]);
            let _ = write!(
                text,
                ",{n},{mae:.6},{:.4},{:.4}",
                row.mae_over_naive[span], row.directional_accuracy[span]
            );
        }
        text.push('\n');
    }
    text
}

/// Writes a list, replacing the one of last week whole.
///
/// # Errors
/// [`TrainError::Write`].
pub fn write(path: &Path, text: &str) -> Result<()> {
    let beside = path.with_extension("partial");
    let written = std::fs::write(&beside, text).and_then(|()| std::fs::rename(&beside, path));
    written.map_err(|source| TrainError::Write { path: path.to_path_buf(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(forecasts: &[(i64, f64, f64)]) -> Vec<Judged> {
        let one =
            |&(days, actual, forecast): &(i64, f64, f64)| Judged { time: -days * DAY, actual, forecast };
        forecasts.iter().map(one).collect()
    }

    /// Spans of 30, 60 and 90 days before the end, by hand.
    #[test]
    fn spans_and_order_by_hand() {
        let good = judged(&[(10, 0.02, 0.01), (40, -0.02, -0.01), (80, 0.01, 0.01)]);
        let bad = judged(&[(10, 0.02, -0.02), (40, 0.02, -0.02), (80, 0.02, 0.01)]);
        let unknown = judged(&[(40, 0.01, 0.01)]);
        let list = order(vec![("bad".into(), bad), ("good".into(), good), ("unknown".into(), unknown)], 10);
        assert_eq!(
            list.iter().map(|fit| (fit.rank, fit.series.as_str())).collect::<Vec<_>>(),
            [(1, "good"), (2, "bad")]
        );
        assert_eq!(list[0].n, [1, 2, 3]);
        let close = |got: f64, expected: f64| assert!((got - expected).abs() < 1e-12, "{got} {expected}");
        close(list[0].mae[1], 0.01);
        close(list[0].mae_over_naive[2], 0.4);
        close(list[1].directional_accuracy[2], 1.0 / 3.0);
        assert_eq!(order(vec![("a".into(), judged(&[(1, 0.1, 0.1)]))], 0), []);
        // A forecast of just 30 days ago is outside of the last 30 days.
        let edge = judged(&[(10, 0.02, 0.01), (30, 0.02, 0.01), (60, 0.02, 0.01)]);
        assert_eq!(order(vec![("edge".into(), edge)], 1)[0].n, [1, 2, 3]);
        // Of equals the first by name, whichever was judged first.
        let same = || judged(&[(10, 0.02, 0.01)]);
        let equal = order(vec![("b".into(), same()), ("a".into(), same())], 1);
        assert_eq!((equal[0].series.as_str(), equal[0].rank), ("a", 1));
        assert!(csv(&list).starts_with("rank,series,n_30,mae_30"));
    }

    /// All are right about every direction; the one with the least error is not held back by that.
    #[test]
    fn series_that_are_equal_in_one_respect_are_told_apart_by_the_other() {
        let with = |error: f64| judged(&[(10, 0.02, 0.02 - error)]);
        let all = [("a", 0.010), ("b", 0.015), ("c", 0.005)].map(|(name, error)| (name.into(), with(error)));
        let list = order(all.to_vec(), 3);
        assert_eq!(list.iter().map(|fit| fit.series.as_str()).collect::<Vec<_>>(), ["c", "a", "b"]);
    }
}
