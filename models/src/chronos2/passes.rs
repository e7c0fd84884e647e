//! From requests to passes through the network and back to quantiles.

use super::config::{invalid, within};
use super::layout::{Group, Variate};
use super::normalise::Scaling;
use super::unroll::{masses, weighted_quantiles};
use super::{Chronos2, Chronos2Options, TOKENS_PER_PASS};
use crate::error::Result;
use crate::interrupt::Interrupt;
use crate::series::{QuantileForecast, SeriesRequest};

/// The options of a call, checked and completed by the model's defaults.
pub(super) struct Plan {
    pub context: usize,
    /// The model's own, which unrolled histories grow up to.
    pub model_context: usize,
    pub patch: usize,
    pub patches_per_pass: usize,
    /// Indices of the levels that unrolled paths follow.
    pub unrolled: Vec<usize>,
}

impl Plan {
    /// How many ensembles to run together: those that need as many patches as the first and fill one pass.
    pub fn chunk(&self, ensembles: &[Ensemble]) -> usize {
        let mut tokens = 0;
        let patches = |ensemble: &Ensemble| self.patches(ensemble.horizon);
        ensembles
            .iter()
            .take_while(|ensemble| {
                let fits = tokens < TOKENS_PER_PASS && patches(ensemble) == patches(&ensembles[0]);
                tokens +=
                    ensemble.points().div_ceil(self.patch) + ensemble.rows.len() * (1 + patches(ensemble));
                fits
            })
            .count()
    }

    /// Patches of the next pass with `remaining` steps to go.
    fn patches(&self, remaining: usize) -> usize {
        remaining.div_ceil(self.patch).min(self.patches_per_pass)
    }
}

/// Variates that inform each other, on their way to a forecast.
pub(super) struct Ensemble {
    rows: Vec<Row>,
    /// Requests in the ensemble: index, targets.
    members: Vec<(usize, usize)>,
    horizon: usize,
    /// Steps forecast so far.
    done: usize,
}

/// One variate.
struct Row {
    history: Vec<f64>,
    /// Known future values; empty when there are none.
    known: Vec<f64>,
    target: bool,
    /// [level][step], grown pass by pass.
    quantiles: Vec<Vec<f64>>,
}

impl Ensemble {
    pub fn new(index: usize, request: &SeriesRequest, context: usize) -> Self {
        let mut ensemble = Self { rows: Vec::new(), members: Vec::new(), horizon: request.horizon, done: 0 };
        ensemble.join(index, request, context);
        ensemble
    }

    /// Whether the request may join under the limit of variates that cross-learning sets.
    pub fn admits(&self, request: &SeriesRequest, limit: Option<usize>) -> bool {
        limit.is_some_and(|limit| self.rows.len() < limit && self.horizon == request.horizon)
    }

    /// Adds the variates of a request, each with the last `context` points of its history.
    pub fn join(&mut self, index: usize, request: &SeriesRequest, context: usize) {
        let tail = |values: &Vec<f64>| values[values.len().saturating_sub(context)..].to_vec();
        let mut push = |history: &Vec<f64>, known: &[f64], target| {
            self.rows.push(Row {
                history: tail(history),
                known: known.to_vec(),
                target,
                quantiles: Vec::new(),
            });
        };
        request.targets.iter().for_each(|target| push(target, &[], true));
        request.past_covariates.iter().for_each(|covariate| push(covariate, &[], false));
        request.known_covariates.iter().for_each(|covariate| push(&covariate.past, &covariate.future, false));
        self.members.push((index, request.targets.len()));
    }

    fn points(&self) -> usize {
        self.rows.iter().map(|row| row.history.len()).sum()
    }

    /// The variates of the next pass, continued by `paths[row]` where there are any, and how each was scaled.
    fn group(&self, histories: &[Vec<f64>], steps: usize, all: bool, arcsinh: bool) -> (Group, Vec<Scaling>) {
        let variate = |(row, history): (&Row, &Vec<f64>)| {
            let scaling = Scaling::of(history, arcsinh);
            let known = row.known.get(self.done..row.known.len().min(self.done + steps)).unwrap_or(&[]);
            let apply = |values: &[f64]| values.iter().map(|&value| scaling.apply(value)).collect();
            (Variate { context: apply(history), future: apply(known), wanted: all || row.target }, scaling)
        };
        self.rows.iter().zip(histories).map(variate).unzip()
    }

    /// The finished forecasts, by request.
    pub fn take_forecasts(&mut self, levels: &[f64]) -> Vec<(usize, QuantileForecast)> {
        let mut targets = self.rows.iter_mut().filter(|row| row.target);
        let mut take = |count: usize| -> Vec<Vec<Vec<f64>>> {
            targets.by_ref().take(count).map(|row| std::mem::take(&mut row.quantiles)).collect()
        };
        self.members
            .iter()
            .map(|&(index, count)| (index, QuantileForecast { levels: levels.to_vec(), values: take(count) }))
            .collect()
    }
}

impl Chronos2 {
    /// Checks the options of a call.
    pub(super) fn plan(&self, options: &Chronos2Options) -> Result<Plan> {
        let config = &self.config().chronos_config;
        let model_context = config.context_length;
        let context = options.context_length.unwrap_or(model_context);
        within("context_length", context, 1, model_context)?;
        let patches_per_pass = options.max_output_patches.unwrap_or(config.max_output_patches);
        within("max_output_patches", patches_per_pass, 1, config.max_output_patches)?;
        if options.cross_learning == Some(0) {
            return Err(invalid("cross_learning", "at least 1 variate".into(), 0));
        }
        let index = |level: &f64| self.levels().iter().position(|own| own == level);
        let unrolled = match &options.unrolled_levels {
            Some(levels) => levels
                .iter()
                .map(|level| {
                    index(level)
                        .ok_or_else(|| invalid("unrolled_levels", "levels of the model".into(), level))
                })
                .collect::<Result<Vec<_>>>()?,
            None => (1..10).filter_map(|tenth| index(&(f64::from(tenth) / 10.0))).collect(),
        };
        if unrolled.is_empty() || !unrolled.is_sorted_by(|a, b| a < b) {
            return Err(invalid(
                "unrolled_levels",
                "ascending and not empty".into(),
                format!("{unrolled:?}"),
            ));
        }
        Ok(Plan { context, model_context, patch: self.config().patch(), patches_per_pass, unrolled })
    }

    /// Runs ensembles that all need the same number of patches first.
    pub(super) fn run(
        &self,
        ensembles: &mut [Ensemble],
        plan: &Plan,
        interrupt: &dyn Interrupt,
    ) -> Result<()> {
        let arcsinh = self.config().chronos_config.use_arcsinh;
        let Some(horizon) = ensembles.first().map(|ensemble| ensemble.horizon) else { return Ok(()) };
        let patches = plan.patches(horizon);
        let prepared: Vec<(Group, Vec<Scaling>)> = ensembles
            .iter()
            .map(|ensemble| {
                let steps = patches * plan.patch;
                let histories: Vec<Vec<f64>> = ensemble.rows.iter().map(|row| row.history.clone()).collect();
                ensemble.group(&histories, steps, ensemble.horizon > steps, arcsinh)
            })
            .collect();
        let (groups, scalings): (Vec<Group>, Vec<Vec<Scaling>>) = prepared.into_iter().unzip();
        let mut outputs = self.forward(&groups, patches, interrupt)?.into_iter();
        for ((ensemble, group), scalings) in ensembles.iter_mut().zip(&groups).zip(&scalings) {
            let keep = ensemble.horizon.min(patches * plan.patch);
            for ((row, variate), scaling) in ensemble.rows.iter_mut().zip(group).zip(scalings) {
                if let Some(output) = variate.wanted.then(|| outputs.next()).flatten() {
                    let invert = |z: &[f32]| z[..keep].iter().map(|&z| scaling.invert(z)).collect();
                    row.quantiles = output.chunks_exact(patches * plan.patch).map(invert).collect();
                }
            }
            ensemble.done = keep;
            if ensemble.done < ensemble.horizon {
                self.unroll(ensemble, plan, interrupt)?;
            }
        }
        Ok(())
    }

    /// Continues an ensemble to its horizon.
    ///
    /// Each variate becomes one path per unrolled level, continued by what was last forecast at that level, or by what is
    /// known. Paths of one level form a group. The samples of all paths together are condensed to the model's levels.
    fn unroll(&self, ensemble: &mut Ensemble, plan: &Plan, interrupt: &dyn Interrupt) -> Result<()> {
        let arcsinh = self.config().chronos_config.use_arcsinh;
        let unrolled: Vec<f64> = plan.unrolled.iter().map(|&level| self.levels()[level]).collect();
        let level_masses = masses(self.levels());
        let mut paths: Vec<Vec<Vec<f64>>> =
            vec![ensemble.rows.iter().map(|row| row.history.clone()).collect(); unrolled.len()];
        let mut forecast = 0;
        while ensemble.done < ensemble.horizon {
            for (path, &level) in paths.iter_mut().zip(&plan.unrolled) {
                for (history, row) in path.iter_mut().zip(&ensemble.rows) {
                    history.extend((forecast..ensemble.done).map(|step| {
                        let known = row.known.get(step).copied().filter(|value| !value.is_nan());
                        known.unwrap_or(row.quantiles[level][step])
                    }));
                    history.drain(..history.len().saturating_sub(plan.model_context));
                }
            }
            forecast = ensemble.done;
            let patches = plan.patches(ensemble.horizon - ensemble.done);
            let steps = patches * plan.patch;
            // [path][row] of [level][step].
            let mut samples: Vec<Vec<Vec<f64>>> = Vec::with_capacity(paths.len());
            let per_pass =
                TOKENS_PER_PASS.div_ceil(ensemble.points().div_ceil(plan.patch).max(1)).min(paths.len());
            for paths in paths.chunks(per_pass) {
                let (groups, scalings): (Vec<Group>, Vec<Vec<Scaling>>) =
                    paths.iter().map(|path| ensemble.group(path, steps, true, arcsinh)).unzip();
                let mut outputs = self.forward(&groups, patches, interrupt)?.into_iter();
                for scalings in scalings {
                    let invert = |(output, scaling): (Vec<f32>, Scaling)| {
                        output.into_iter().map(|z| scaling.invert(z)).collect()
                    };
                    samples.push(outputs.by_ref().take(scalings.len()).zip(scalings).map(invert).collect());
                }
            }
            let keep = steps.min(ensemble.horizon - ensemble.done);
            let path_masses = masses(&unrolled);
            for (index, row) in ensemble.rows.iter_mut().enumerate() {
                for step in 0..keep {
                    let mut weighted: Vec<(f64, f64)> = samples
                        .iter()
                        .zip(&path_masses)
                        .flat_map(|(path, path_mass)| {
                            let values = path[index].iter().skip(step).step_by(steps);
                            values.zip(&level_masses).map(move |(&value, mass)| (value, path_mass * mass))
                        })
                        .collect();
                    let quantiles = weighted_quantiles(&mut weighted, self.levels());
                    row.quantiles.iter_mut().zip(quantiles).for_each(|(values, value)| values.push(value));
                }
            }
            ensemble.done += keep;
        }
        Ok(())
    }
}
