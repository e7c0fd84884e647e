//! A forecasting model and the naive baselines on the same windows.

use super::error::Result;
use super::panel::Panel;
use super::score::{Score, Scorer, Unit};
use super::window::Window;
use kronos_models::baselines::Baseline;
use kronos_models::interrupt::{Interrupt, NeverInterrupt};
use kronos_models::series::{QuantileForecast, SeriesRequest};
use std::collections::BTreeMap;

/// Windows forecast together.
const PORTION: usize = 512;

/// Scores by the name of the forecaster, then by the number of first steps they are over.
pub type Scores = BTreeMap<String, BTreeMap<usize, Score>>;

/// What is evaluated.
#[derive(Debug, Clone, Copy)]
pub struct Evaluation<'a> {
    /// The data.
    pub panel: &'a Panel,
    /// The windows, each with as many rows of context and of the longest horizon.
    pub windows: &'a [Window],
    /// The column that is forecast.
    pub column: usize,
    /// Rows of context the forecasters are given.
    pub context: usize,
    /// Numbers of first steps to score, ascending; the last one is forecast.
    pub horizons: &'a [usize],
    /// Rows after which a pattern returns, for the seasonal baseline.
    pub season: usize,
    /// Quantile levels, ascending.
    pub levels: &'a [f64],
    /// What errors are measured in.
    pub unit: Unit,
}

/// Forecasts requests, each on its own.
pub type Forecast<'f> =
    dyn FnMut(&[SeriesRequest]) -> kronos_models::Result<Vec<kronos_models::Result<QuantileForecast>>> + 'f;

impl Evaluation<'_> {
    /// Scores `model` under `name` and every baseline; `each` sees every forecast of the model, for residuals.
    ///
    /// A window that the model or a baseline has nothing to say of is an error: scores on different windows do not compare.
    ///
    /// # Errors
    /// `Cancelled`, and what forecasters say.
    pub fn run(
        &self,
        name: &str,
        model: &mut Forecast<'_>,
        interrupt: &dyn Interrupt,
        each: &mut dyn FnMut(Window, &QuantileForecast),
    ) -> Result<Scores> {
        let mut scores = Scores::new();
        scores.insert(name.to_owned(), self.score(model, interrupt, each)?);
        for baseline in Baseline::ALL {
            scores.insert(baseline.name().to_owned(), self.baseline(baseline, interrupt)?);
        }
        Ok(scores)
    }

    fn baseline(&self, baseline: Baseline, interrupt: &dyn Interrupt) -> Result<BTreeMap<usize, Score>> {
        let mut forecast = |requests: &[SeriesRequest]| {
            let one = |request| baseline.forecast(request, self.season, self.levels);
            Ok(requests.iter().map(one).collect())
        };
        self.score(&mut forecast, interrupt, &mut |_, _| {})
    }

    fn score(
        &self,
        forecast: &mut Forecast<'_>,
        interrupt: &dyn Interrupt,
        each: &mut dyn FnMut(Window, &QuantileForecast),
    ) -> Result<BTreeMap<usize, Score>> {
        let longest = self.horizons.last().copied().unwrap_or(1);
        let mut scorers: Vec<Scorer> = self.horizons.iter().map(|_| Scorer::new(self.levels)).collect();
        for windows in self.windows.chunks(PORTION) {
            interrupt.check()?;
            let request = |window: &Window| {
                let history = window.context(self.panel, self.column, self.context);
                SeriesRequest::univariate(history.to_vec(), longest)
            };
            let requests: Vec<SeriesRequest> = windows.iter().map(request).collect();
            for ((window, request), forecast) in windows.iter().zip(&requests).zip(forecast(&requests)?) {
                let forecast = forecast?.at(self.levels)?;
                each(*window, &forecast);
                let last = request.targets[0].last().copied().unwrap_or(f64::NAN);
                let actual = window.future(self.panel, self.column, longest);
                for (&horizon, scorer) in self.horizons.iter().zip(&mut scorers) {
                    for (step, &value) in actual.iter().enumerate().take(horizon) {
                        let quantile =
                            |level: usize| self.unit.of_forecast(forecast.values[0][level][step], last);
                        scorer.add(quantile, self.unit.of(value, last));
                    }
                }
            }
        }
        Ok(self.horizons.iter().copied().zip(scorers.iter().map(Scorer::score)).collect())
    }
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
    let evaluation =
        Evaluation { panel, windows, column, context, horizons: &[horizon], season, levels, unit };
    let one = |baseline: Baseline| -> Result<Vec<(&'static str, Score)>> {
        let scores = evaluation.baseline(baseline, &NeverInterrupt)?;
        Ok(scores.into_values().map(|score| (baseline.name(), score)).collect())
    };
    Ok(Baseline::ALL.into_iter().map(one).collect::<Result<Vec<_>>>()?.concat())
}

#[cfg(test)]
mod tests {
    use super::super::PanelSeries;
    use super::*;

    /// Prices that grow by one per cent a row: drift sees it, naive does not, and a model that knows is without error.
    #[test]
    fn baselines_stand_beside_the_model() {
        let values: Vec<f64> = (0..60).map(|i| 100.0 * 1.01f64.powi(i)).collect();
        let series = PanelSeries { name: "a".into(), times: (0..60).collect(), values: vec![values.clone()] };
        let panel = Panel { columns: vec!["close".into()], series: vec![series] };
        let windows = [Window { series: 0, cut: 50 }, Window { series: 0, cut: 55 }];
        let levels = [0.05, 0.5, 0.95];
        let evaluation = Evaluation {
            panel: &panel,
            windows: &windows,
            column: 0,
            context: 40,
            horizons: &[1, 2],
            season: 5,
            levels: &levels,
            unit: Unit::LogReturn,
        };
        let mut knowing = |requests: &[SeriesRequest]| {
            let one = |request: &SeriesRequest| {
                let last = request.targets[0][39];
                let level =
                    (1..=request.horizon).map(|step| last * 1.01f64.powi(step as i32)).collect::<Vec<_>>();
                Ok(QuantileForecast { levels: levels.to_vec(), values: vec![vec![level; 3]] })
            };
            Ok(requests.iter().map(one).collect())
        };
        let mut seen = Vec::new();
        let scores = evaluation
            .run("knowing", &mut knowing, &NeverInterrupt, &mut |window, _| seen.push(window))
            .unwrap();
        assert_eq!(seen, windows);
        assert!(scores["knowing"][&2].mae < 1e-12 && scores["knowing"][&2].directional_accuracy == Some(1.0));
        let naive = &scores["naive"];
        assert!(
            (naive[&1].mae - 1.01f64.ln()).abs() < 1e-12
                && (naive[&2].mae - 1.5 * 1.01f64.ln()).abs() < 1e-12
        );
        assert_eq!((naive[&2].n, naive[&2].directional_accuracy), (4, None));
        assert!(scores["drift"][&2].mae < naive[&2].mae);
        assert_eq!(scores.len(), 5);
    }
}
