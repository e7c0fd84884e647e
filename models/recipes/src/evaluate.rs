//! Scores of forecasts of test windows, beside the baselines on the same windows.

use crate::error::Result;
use kronos_models::baselines::Baseline;
use kronos_models::metrics::{crps_quantiles, diebold_mariano};
use kronos_models::series::SeriesRequest;
use kronos_training::score::{Score, Scorer};
use kronos_training::{Panel, Part, Split, Window, Windows};
use serde::Serialize;
use std::collections::BTreeMap;

/// Levels of every forecast here; a model without some of them is read between its own.
pub const LEVELS: [f64; 19] =
    [0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95];

/// Column of the close.
pub const CLOSE: usize = 3;

/// Quantiles of the close, [level][step], of each window.
pub type Forecasts = Vec<Vec<Vec<f64>>>;

/// Scores of one model on one source.
#[derive(Debug, Clone, Serialize)]
pub struct Line {
    pub source: String,
    pub model: String,
    pub windows: usize,
    #[serde(flatten)]
    pub score: Score,
    /// Mean continuous ranked probability score of simple returns, from the quantiles.
    pub crps: f64,
    /// Diebold and Mariano's statistic and p-value against historical volatility; negative is better.
    pub against_hist_vol: Option<(f64, f64)>,
}

/// Test windows of a panel, about `count` of them, evenly spread over series and time and not overlapping.
pub fn windows(
    panel: &Panel,
    split: &Split,
    context: usize,
    horizon: usize,
    count: usize,
) -> Result<Vec<Window>> {
    let rule = Windows { context, horizon, stride: horizon, complete: vec![CLOSE], positive: vec![CLOSE] };
    let all = rule.of(panel, split, Part::Test)?;
    let count = count.clamp(1, all.len());
    Ok((0..count).map(|i| all[(2 * i + 1) * all.len() / (2 * count)]).collect())
}

/// Scores the model and every baseline.
pub fn compare(
    source: &str,
    (panel, windows): (&Panel, &[Window]),
    (context, horizon): (usize, usize),
    (model, forecasts): (&str, Forecasts),
) -> Result<Vec<Line>> {
    let mut all = vec![(model.to_owned(), forecasts)];
    for baseline in Baseline::ALL {
        let forecast = |window: &Window| {
            let history = window.context(panel, CLOSE, context).to_vec();
            let season = if source.contains("daily") { 5 } else { 6 };
            let made = baseline.forecast(&SeriesRequest::univariate(history, horizon), season, &LEVELS)?;
            Ok(made.values.into_iter().next().unwrap_or_default())
        };
        let made = windows.iter().map(forecast).collect::<Result<_>>()?;
        all.push((baseline.name().to_owned(), made));
    }
    let mut lines = Vec::new();
    let mut losses = Vec::new();
    for (name, forecasts) in all {
        let (line, loss) = score(source, name, panel, windows, horizon, &forecasts);
        lines.push(line);
        losses.push(loss);
    }
    let reference = lines.iter().position(|line| line.model == Baseline::HistVol.name()).unwrap_or(0);
    for (index, (line, own)) in lines.iter_mut().zip(&losses).enumerate() {
        line.against_hist_vol = (index != reference)
            .then(|| by_time(panel, windows, own, &losses[reference]))
            .and_then(|differences| diebold_mariano(&differences, 1))
            .map(|test| (test.statistic, test.p_value));
    }
    Ok(lines)
}

/// The scores of a model, and the mean loss of each window.
fn score(
    source: &str,
    model: String,
    panel: &Panel,
    windows: &[Window],
    horizon: usize,
    forecasts: &Forecasts,
) -> (Line, Vec<f64>) {
    let mut scorer = Scorer::new(&LEVELS);
    let mut losses = Vec::with_capacity(windows.len());
    for (window, quantiles) in windows.iter().zip(forecasts) {
        let last = window.context(panel, CLOSE, 1)[0];
        let mut sum = 0.0;
        for (step, &value) in window.future(panel, CLOSE, horizon).iter().enumerate() {
            // Simple returns: a walk without a floor may fall below zero, where there is no logarithm.
            let returns: Vec<f64> = quantiles.iter().map(|steps| steps[step] / last - 1.0).collect();
            let actual = value / last - 1.0;
            scorer.add(|level| returns[level], actual);
            sum += crps_quantiles(actual, &returns, &LEVELS).unwrap_or_default();
        }
        losses.push(sum / horizon as f64);
    }
    let crps = losses.iter().sum::<f64>() / losses.len() as f64;
    let source = source.to_owned();
    let line =
        Line { source, model, windows: windows.len(), score: scorer.score(), crps, against_hist_vol: None };
    (line, losses)
}

/// Differences of losses, averaged over the series that are forecast from the same time, in the order of time.
fn by_time(panel: &Panel, windows: &[Window], losses: &[f64], reference: &[f64]) -> Vec<f64> {
    let mut times: BTreeMap<Option<i64>, (f64, f64)> = BTreeMap::new();
    for ((window, loss), reference) in windows.iter().zip(losses).zip(reference) {
        let entry = times.entry(window.last_time(panel)).or_default();
        *entry = (entry.0 + loss - reference, entry.1 + 1.0);
    }
    times.into_values().map(|(sum, count)| sum / count).collect()
}

/// Prints the lines as a table.
pub fn print(lines: &[Line]) {
    println!("| data | model | WQL | CRPS | coverage of 90 % | direction | DM against hist_vol (p) |");
    println!("|---|---|---|---|---|---|---|");
    for line in lines {
        let Line { source, model, score, crps, against_hist_vol, .. } = line;
        let direction =
            score.directional_accuracy.map_or("–".to_owned(), |share| format!("{:.1} %", 100.0 * share));
        let test =
            against_hist_vol.map_or("–".to_owned(), |(statistic, p)| format!("{statistic:+.2} ({p:.3})"));
        println!(
            "| {source} | {model} | {:.4} | {crps:.5} | {:.1} % | {direction} | {test} |",
            score.wql,
            100.0 * score.coverage
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kronos_training::PanelSeries;

    /// Two series of the same days, and one that begins a day later.
    fn panel() -> Panel {
        let series = |name: &str, first: i64| PanelSeries {
            name: name.into(),
            times: (first..first + 10).collect(),
            values: vec![vec![100.0; 10]; 4],
        };
        Panel {
            columns: ["open", "high", "low", "close"].map(String::from).to_vec(),
            series: vec![series("a", 0), series("b", 0), series("c", 1)],
        }
    }

    /// Cut at row 5, the third series is forecast from a day later than the others.
    #[test]
    fn series_that_are_forecast_from_one_time_are_one_observation() {
        let window = |series| Window { series, cut: 5 };
        let windows = [window(2), window(0), window(1)];
        let differences = by_time(&panel(), &windows, &[7.0, 2.0, 5.0], &[1.0, 1.0, 0.0]);
        assert_eq!(differences, [(1.0 + 5.0) / 2.0, 6.0]);
    }

    /// A forecast of 103 for 100 at every level: its CRPS is its distance, and no interval of no width covers.
    #[test]
    fn a_certain_forecast_costs_its_distance() {
        let windows = [Window { series: 0, cut: 8 }];
        let forecast = vec![vec![vec![103.0; 2]; LEVELS.len()]];
        let lines = compare("daily", (&panel(), &windows), (8, 2), ("certain", forecast)).unwrap();
        let names: Vec<&str> = lines.iter().map(|line| line.model.as_str()).collect();
        assert_eq!(names, ["certain", "naive", "seasonal_naive", "drift", "hist_vol"]);
        let certain = &lines[0];
        assert!((certain.crps - 0.03).abs() < 1e-12 && (certain.score.mae - 0.03).abs() < 1e-12);
        assert_eq!((certain.windows, certain.score.n, certain.score.coverage), (1, 2, 0.0));
    }
}
