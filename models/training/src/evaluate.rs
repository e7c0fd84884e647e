//! A forecasting model and the naive baselines on the same windows.

use super::error::Result;
use super::loss::pinball_of;
use super::panel::Panel;
use super::score::{Score, Scorer, Unit};
use super::window::Window;
use kronos_models::baselines::Baseline;
use kronos_models::interrupt::{Interrupt, NeverInterrupt};
use kronos_models::metrics::{CRPS_LEVELS, diebold_mariano};
use kronos_models::series::{Between, QuantileForecast, SeriesRequest};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::Write;

/// Windows forecast together.
const PORTION: usize = 512;

/// Scores of one forecaster on one source.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Line {
    /// The source.
    pub source: String,
    /// The forecaster.
    pub model: String,
    /// First steps of a forecast that are scored.
    pub steps: usize,
    /// Windows.
    pub windows: usize,
    /// Scores over all windows and steps alike.
    #[serde(flatten)]
    pub score: Score,
    /// Mean continuous ranked probability score, from the quantiles; none where there are too few levels for it.
    pub crps: Option<f64>,
    /// Diebold and Mariano's statistic and p-value against historical volatility; negative is better.
    pub against_hist_vol: Option<(f64, f64)>,
}

/// What is evaluated.
#[derive(Debug, Clone, Copy)]
pub struct Evaluation<'a> {
    /// Name of the source.
    pub source: &'a str,
    /// The data.
    pub panel: &'a Panel,
    /// The windows, each with as many rows of context and of the longest horizon.
    pub windows: &'a [Window],
    /// The column that is forecast.
    pub column: usize,
    /// Rows of context the baselines are given.
    pub context: usize,
    /// Numbers of first steps to score, ascending; the last one is forecast.
    pub horizons: &'a [usize],
    /// Rows from one window of a series to the next.
    pub stride: usize,
    /// Rows after which a pattern returns, for the seasonal baseline.
    pub season: usize,
    /// Quantile levels, ascending.
    pub levels: &'a [f64],
    /// What errors are measured in.
    pub unit: Unit,
}

/// Forecasts the column of some windows, each on its own.
pub type Forecast<'f> = dyn FnMut(&[Window]) -> Result<Vec<QuantileForecast>> + 'f;

/// What the forecasts of one number of steps came to.
struct Scored {
    score: Score,
    /// Mean loss of each window: twice the pinball loss.
    losses: Vec<f64>,
}

impl Evaluation<'_> {
    /// Scores `model` under `name` and every baseline.
    ///
    /// A window that the model or a baseline has nothing to say of is an error: scores on different windows do not compare.
    ///
    /// # Errors
    /// `Cancelled`, and what forecasters say.
    pub fn run(&self, name: &str, model: &mut Forecast<'_>, interrupt: &dyn Interrupt) -> Result<Vec<Line>> {
        let mut all = vec![(name, self.score(model, interrupt)?)];
        for baseline in Baseline::ALL {
            all.push((baseline.name(), self.baseline(baseline, interrupt)?));
        }
        let hist_vol = Baseline::HistVol.name();
        let mut lines = Vec::new();
        for (index, &steps) in self.horizons.iter().enumerate() {
            let reference = all.iter().find(|(name, _)| *name == hist_vol).map(|(_, scored)| &scored[index]);
            for (name, scored) in &all {
                let Scored { score, losses } = &scored[index];
                let mean = losses.iter().sum::<f64>() / losses.len() as f64;
                let compared = reference.filter(|_| *name != hist_vol).and_then(|reference| {
                    let differences = by_time(self.panel, self.windows, losses, &reference.losses);
                    diebold_mariano(&differences, steps.div_ceil(self.stride.max(1)))
                });
                lines.push(Line {
                    source: self.source.to_owned(),
                    model: (*name).to_owned(),
                    steps,
                    windows: self.windows.len(),
                    score: score.clone(),
                    crps: (self.levels.len() >= CRPS_LEVELS).then_some(mean),
                    against_hist_vol: compared.map(|test| (test.statistic, test.p_value)),
                });
            }
        }
        Ok(lines)
    }

    fn baseline(&self, baseline: Baseline, interrupt: &dyn Interrupt) -> Result<Vec<Scored>> {
        let longest = self.longest();
        let one = |window: &Window| {
            let history = window.context(self.panel, self.column, self.context).to_vec();
            let request = SeriesRequest::univariate(history, longest);
            Ok(baseline.forecast(&request, self.season, self.levels)?)
        };
        self.score(&mut |windows: &[Window]| windows.iter().map(one).collect(), interrupt)
    }

    fn longest(&self) -> usize {
        self.horizons.last().copied().unwrap_or(1)
    }

    /// Scores over each number of first steps.
    fn score(&self, forecast: &mut Forecast<'_>, interrupt: &dyn Interrupt) -> Result<Vec<Scored>> {
        let levels = self.levels.len() as f64;
        let mut scorers: Vec<(Scorer, Vec<f64>)> =
            self.horizons.iter().map(|_| (Scorer::new(self.levels), Vec::new())).collect();
        for windows in self.windows.chunks(PORTION) {
            interrupt.check()?;
            for (window, forecast) in windows.iter().zip(forecast(windows)?) {
                // Of N-BEATS these are its own; what else is read between levels is read as the reference of Chronos does.
                let forecast = forecast.at(self.levels, Between::Levels)?;
                let last = window.context(self.panel, self.column, 1).last().copied().unwrap_or(f64::NAN);
                let actual = window.future(self.panel, self.column, self.longest());
                for (&horizon, (scorer, losses)) in self.horizons.iter().zip(&mut scorers) {
                    let mut loss = 0.0;
                    for (step, &value) in actual.iter().enumerate().take(horizon) {
                        let quantile =
                            |level: usize| self.unit.of_forecast(forecast.values[0][level][step], last);
                        let value = self.unit.of(value, last);
                        scorer.add(quantile, value);
                        let of_level =
                            |(place, &level): (usize, &f64)| pinball_of(quantile(place), value, level);
                        loss += 2.0 * self.levels.iter().enumerate().map(of_level).sum::<f64>() / levels;
                    }
                    losses.push(loss / horizon as f64);
                }
            }
        }
        Ok(scorers.into_iter().map(|(scorer, losses)| Scored { score: scorer.score(), losses }).collect())
    }
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

/// The lines as a table for people.
pub fn table(lines: &[Line]) -> String {
    let mut text = String::from(
        "| data | model | steps | windows | WQL | CRPS | coverage | direction | DM against hist_vol (p) |\n\
         |---|---|---|---|---|---|---|---|---|\n",
    );
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "–".to_owned());
    for Line { source, model, steps, windows, score, crps, against_hist_vol } in lines {
        let crps = or_dash(crps.map(|crps| format!("{crps:.5}")));
        let direction = or_dash(score.directional_accuracy.map(|share| format!("{:.1} %", 100.0 * share)));
        let test = or_dash(against_hist_vol.map(|(statistic, p)| format!("{statistic:+.2} ({p:.3})")));
        let (wql, coverage) = (score.wql, 100.0 * score.coverage);
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "| {source} | {model} | {steps} | {windows} | {wql:.4} | {crps} | {coverage:.1} % | {direction} | {test} |"
        );
    }
    text
}

/// The naive baselines alone, over all steps of one horizon.
///
/// # Errors
/// What a baseline says of a window; windows of positive values without gaps always work.
pub fn baselines(
    panel: &Panel,
    windows: &[Window],
    (column, context, horizon): (usize, usize, usize),
    season: usize,
    levels: &[f64],
    unit: Unit,
) -> Result<Vec<(&'static str, Score)>> {
    let (source, horizons, stride) = ("", &[horizon], horizon);
    let evaluation =
        Evaluation { source, panel, windows, column, context, horizons, stride, season, levels, unit };
    let mut scores = Vec::new();
    for baseline in Baseline::ALL {
        let scored = evaluation.baseline(baseline, &NeverInterrupt)?;
        scores.extend(scored.into_iter().map(|scored| (baseline.name(), scored.score)));
    }
    Ok(scores)
}

#[cfg(test)]
mod tests {
    use super::super::PanelSeries;
    use super::*;

    const LEVELS: [f64; 3] = [0.05, 0.5, 0.95];

    fn panel(series: &[(&str, i64, Vec<f64>)]) -> Panel {
        let one = |(name, first, values): &(&str, i64, Vec<f64>)| PanelSeries {
            name: (*name).into(),
            times: (*first..*first + values.len() as i64).collect(),
            values: vec![values.clone()],
        };
        Panel { columns: vec!["close".into()], series: series.iter().map(one).collect() }
    }

    fn evaluation<'a>(
        panel: &'a Panel,
        windows: &'a [Window],
        horizons: &'a [usize],
        levels: &'a [f64],
    ) -> Evaluation<'a> {
        let (source, unit) = ("days", Unit::LogReturn);
        Evaluation {
            source,
            panel,
            windows,
            column: 0,
            context: 8,
            horizons,
            stride: 2,
            season: 5,
            levels,
            unit,
        }
    }

    fn line<'l>(lines: &'l [Line], model: &str, steps: usize) -> &'l Line {
        lines.iter().find(|line| line.model == model && line.steps == steps).unwrap()
    }

    /// Prices that grow by one per cent a row: drift sees it, naive does not, and a model that knows is without error.
    #[test]
    fn baselines_stand_beside_the_model() {
        let panel = panel(&[("a", 0, (0..60).map(|i| 100.0 * 1.01f64.powi(i)).collect())]);
        let windows = [Window { series: 0, cut: 50 }, Window { series: 0, cut: 55 }];
        let mut seen = Vec::new();
        let mut knowing = |windows: &[Window]| {
            seen.extend(windows.to_vec());
            let one = |window: &Window| {
                let steps: Vec<f64> =
                    (0..2).map(|step| 100.0 * 1.01f64.powi(window.cut as i32 + step)).collect();
                QuantileForecast { levels: LEVELS.to_vec(), values: vec![vec![steps; 3]] }
            };
            Ok(windows.iter().map(one).collect())
        };
        let lines = evaluation(&panel, &windows, &[1, 2], &LEVELS)
            .run("knowing", &mut knowing, &NeverInterrupt)
            .unwrap();
        assert_eq!(seen, windows);
        let knowing = line(&lines, "knowing", 2);
        assert!(knowing.score.mae < 1e-12 && knowing.score.directional_accuracy == Some(1.0));
        let naive = |steps| &line(&lines, "naive", steps).score;
        assert!(
            (naive(1).mae - 1.01f64.ln()).abs() < 1e-12 && (naive(2).mae - 1.5 * 1.01f64.ln()).abs() < 1e-12
        );
        assert_eq!((naive(2).n, naive(2).directional_accuracy), (4, None));
        assert!(line(&lines, "drift", 2).score.mae < naive(2).mae);
        assert_eq!((lines.len(), knowing.windows, knowing.crps), (10, 2, None));
        assert!(table(&lines).contains("| days | knowing | 2 | 2 | 0.0000 | – |"), "{}", table(&lines));
    }

    /// A forecast of 103 for 100 at every level: its CRPS is its distance, and no interval of no width covers.
    #[test]
    fn a_certain_forecast_costs_its_distance() {
        let panel = panel(&[("a", 0, vec![100.0; 10])]);
        let levels: Vec<f64> = (1..20).map(|level| f64::from(level) / 20.0).collect();
        let mut certain = |windows: &[Window]| {
            let values = vec![vec![vec![103.0; 2]; levels.len()]];
            let one = |_: &Window| QuantileForecast { levels: levels.clone(), values: values.clone() };
            Ok(windows.iter().map(one).collect())
        };
        let windows = [Window { series: 0, cut: 8 }];
        let lines = evaluation(&panel, &windows, &[2], &levels)
            .run("certain", &mut certain, &NeverInterrupt)
            .unwrap();
        let names: Vec<&str> = lines.iter().map(|line| line.model.as_str()).collect();
        assert_eq!(names, ["certain", "naive", "seasonal_naive", "drift", "hist_vol"]);
        let Line { score, crps, .. } = &lines[0];
        let distance = 1.03f64.ln();
        assert!((crps.unwrap() - distance).abs() < 1e-12 && (score.mae - distance).abs() < 1e-12);
        assert_eq!((score.n, score.coverage), (2, 0.0));
    }

    /// Cut at row 5, the third series is forecast from a day later than the others.
    #[test]
    fn series_that_are_forecast_from_one_time_are_one_observation() {
        let flat = |name, first| (name, first, vec![100.0; 10]);
        let panel = panel(&[flat("a", 0), flat("b", 0), flat("c", 1)]);
        let window = |series| Window { series, cut: 5 };
        let windows = [window(2), window(0), window(1)];
        let differences = by_time(&panel, &windows, &[7.0, 2.0, 5.0], &[1.0, 1.0, 0.0]);
        assert_eq!(differences, [(1.0 + 5.0) / 2.0, 6.0]);
    }
}
