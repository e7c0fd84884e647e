//! Training of Chronos-2: windows in, quantile losses out.

use super::{Example, ExampleRule, TrainableChronos2, example, horizon_of};
use crate::error::Result;
use crate::evaluate::baselines;
use crate::score::{Scorer, Unit};
use crate::{
    Noise, Panel, Parameter, Part, Pick, Sampler, Source, Split, Trainable, Validation, Window, Windows,
};
use candle_core::{Tensor, Var};
use kronos_models::chronos2::{Chronos2, Chronos2Options};
use kronos_models::interrupt::Interrupt;
use kronos_models::series::{Between, SeriesRequest};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// A panel with what windows may be cut from it.
#[derive(Debug, Clone)]
pub struct PanelSource {
    /// Name, for scores.
    pub name: String,
    /// Share of the draws, relative to the other sources.
    pub weight: f64,
    /// The panel.
    pub panel: Panel,
    /// What weights are fitted to.
    pub train: Vec<Window>,
    /// What weights are chosen by.
    pub validation: Vec<Window>,
}

impl PanelSource {
    /// Finds the windows of a panel; of the validation part `validation` of them, evenly spread.
    ///
    /// # Errors
    /// What the panel and the rule are refused for; no windows at all.
    pub fn new(
        name: &str,
        weight: f64,
        panel: Panel,
        split: &Split,
        rule: &ExampleRule,
        validation: usize,
    ) -> Result<Self> {
        panel.validate()?;
        rule.validate(panel.columns.len())?;
        let complete: Vec<usize> = rule.targets.iter().chain(&rule.grouped).copied().collect();
        let positive = rule.targets.clone();
        let windows = Windows { context: rule.context, horizon: rule.horizon, stride: 1, complete, positive };
        let train = windows.of(&panel, split, Part::Train)?;
        let all = windows.of(&panel, split, Part::Validation)?;
        let count = validation.clamp(1, all.len());
        let validation = (0..count).map(|i| all[(2 * i + 1) * all.len() / (2 * count)]).collect();
        Ok(Self { name: name.into(), weight, panel, train, validation })
    }
}

/// Scores of one source.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SourceScore {
    /// Name of the source.
    pub source: String,
    /// Weighted quantile loss of the model over that of historical volatility.
    pub wql_ratio: f64,
    /// Weighted quantile loss.
    pub wql: f64,
    /// Share of values inside the 90 % interval.
    pub coverage: f64,
}

/// Training of the network.
#[derive(Debug)]
pub struct Chronos2Task {
    network: TrainableChronos2,
    parameters: Vec<Parameter>,
    sources: Vec<PanelSource>,
    rule: ExampleRule,
    /// Steps of the forecasts that weights are chosen by.
    scored: usize,
    /// Loss of the volatility baseline, by source.
    hist_vol: Vec<f64>,
    fingerprint: String,
}

/// Levels of the scores.
const LEVELS: [f64; 11] = [0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95];

impl Chronos2Task {
    /// Trains `network` on windows of `sources` and chooses weights by forecasts of `scored` steps of their first target.
    ///
    /// # Errors
    /// What the baselines say of the validation windows.
    pub fn new(
        network: TrainableChronos2,
        sources: Vec<PanelSource>,
        rule: ExampleRule,
        scored: usize,
    ) -> Result<Self> {
        let scored = scored.min(rule.horizon);
        let mut hash = Sha256::new();
        let mut hist_vol = Vec::new();
        for source in &sources {
            hash.update(source.panel.fingerprint());
            hash.update(source.weight.to_bits().to_le_bytes());
            let sizes = (rule.targets[0], rule.context, scored);
            let scores = baselines(&source.panel, &source.validation, sizes, 1, &LEVELS, Unit::LogReturn)?;
            let score = scores.iter().find(|(name, _)| *name == "hist_vol");
            hist_vol.push(score.map_or(f64::NAN, |(_, score)| score.wql));
        }
        let parameter = |(name, var): (&String, &Var)| {
            let parameter = Parameter::new(name.clone(), var.clone());
            let decays = var.rank() == 2 && name != "shared.weight";
            if decays { parameter } else { parameter.without_decay() }
        };
        let parameters = network.parameters().variables().iter().map(parameter).collect();
        let fingerprint = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(Self { network, parameters, sources, rule, scored, hist_vol, fingerprint })
    }

    /// The network.
    pub fn network(&self) -> &TrainableChronos2 {
        &self.network
    }

    /// The model as it is now, ready to forecast.
    pub fn model(&self) -> Result<Chronos2> {
        Ok(Chronos2::from_tensors(&self.network.config().config, &self.network.parameters().tensors())?)
    }

    /// A sampler of the training windows.
    pub fn sampler(&self, seed: i64) -> Result<Sampler> {
        let source =
            |source: &PanelSource| Source { weight: source.weight, ..Source::uniform(source.train.len()) };
        Sampler::new(&self.sources.iter().map(source).collect::<Vec<_>>(), seed)
    }

    /// SHA-256 of all data and their shares.
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// Forecasts the validation windows of every source and scores the first target.
    pub fn score(&self, interrupt: &dyn Interrupt) -> Result<Vec<SourceScore>> {
        let model = self.model()?;
        let column = self.rule.targets[0];
        let mut scores = Vec::new();
        for (source, hist_vol) in self.sources.iter().zip(&self.hist_vol) {
            let request = |window: &Window| {
                let history = window.context(&source.panel, column, self.rule.context);
                SeriesRequest::univariate(history.to_vec(), self.scored)
            };
            let requests: Vec<SeriesRequest> = source.validation.iter().map(request).collect();
            let made = model.forecast(&requests, &Chronos2Options::default(), interrupt)?;
            let mut scorer = Scorer::new(&LEVELS);
            for (window, made) in source.validation.iter().zip(made) {
                let forecast = made?;
                let last = window.context(&source.panel, column, 1)[0];
                let quantiles = forecast.at(&LEVELS, Between::Levels)?.values;
                for (step, &value) in window.future(&source.panel, column, self.scored).iter().enumerate() {
                    let at =
                        |level: usize| Unit::LogReturn.of(quantiles[0][level][step].max(last * 1e-6), last);
                    scorer.add(at, Unit::LogReturn.of(value, last));
                }
            }
            let score = scorer.score();
            scores.push(SourceScore {
                source: source.name.clone(),
                wql_ratio: score.wql / hist_vol,
                wql: score.wql,
                coverage: score.coverage,
            });
        }
        Ok(scores)
    }
}

impl Trainable for Chronos2Task {
    fn parameters(&self) -> &[Parameter] {
        &self.parameters
    }

    fn loss(&self, picks: &[Pick], noise: Noise) -> Result<Tensor> {
        let config = &self.network.config().config;
        let horizon = horizon_of(&self.rule, picks.first().map_or(0, |pick| pick.draw));
        let of = |pick: &Pick| -> Example {
            let source = &self.sources[pick.source];
            let window = source.train[pick.window];
            example(&self.rule, &source.panel, window, pick.draw, horizon, config.chronos_config.use_arcsinh)
        };
        let examples: Vec<Example> = picks.iter().map(of).collect();
        Ok(self.network.loss(&examples, horizon.div_ceil(config.patch()), noise.key())?)
    }

    /// The mean over sources of the quantile loss of real forecasts, relative to historical volatility.
    fn validate(&self, interrupt: &dyn Interrupt) -> Result<Validation> {
        let by_source = self.score(interrupt)?;
        let mut scores = Vec::new();
        for score in &by_source {
            scores.push((format!("wql_ratio {}", score.source), score.wql_ratio));
            scores.push((format!("coverage {}", score.source), score.coverage));
        }
        let loss = by_source.iter().map(|score| score.wql_ratio).sum::<f64>() / by_source.len() as f64;
        Ok(Validation { loss, scores })
    }

    fn identity(&self) -> String {
        let Self { rule, scored, fingerprint, .. } = self;
        format!("chronos2 {:?} {rule:?} {scored} {fingerprint}", self.network.config())
    }
}
