//! Training of the predictor: tokens in, cross entropy out, and forecasts to choose the weights by.

use super::{
    BarSources, BarWindow, BatchShape, CLOSE, Condition, EVALUATED, ForecastRule, PredictorBatch,
    TrainablePredictor, normalise_window, trained_parameters,
};
use crate::error::{Result, invalid};
use crate::evaluate::baselines;
use crate::score::{Scorer, Unit};
use crate::{Noise, Parameter, Pick, Trainable, Validation};
use candle_core::{DType, Tensor};
use kronos_models::artifact::Tensors;
use kronos_models::bars::{BarOptions, BarRequest, Sampling, Window as Sliding};
use kronos_models::interrupt::{Interrupt, NeverInterrupt};
use kronos_models::kronos::Kronos;
use kronos_models::kronos::config::TokenizerConfig;
use kronos_models::kronos::predictor::Predictor;
use kronos_models::kronos::tokenizer::{Token, Tokenizer};
use kronos_models::layers::tensor::with_values;
use kronos_models::quantile::quantile;
use kronos_models::random::Stream;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

fn scalar(x: &Tensor) -> Result<f64> {
    Ok(f64::from(x.to_dtype(DType::F32)?.to_scalar::<f32>()?))
}

/// Levels of the scores.
const LEVELS: [f64; 11] = [0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95];

/// Training of the predictor on the tokens of a finished tokenizer.
#[derive(Debug)]
pub struct PredictorTask<'d> {
    network: TrainablePredictor,
    parameters: Vec<Parameter>,
    tokenizer: Tokenizer,
    tokenizer_source: (TokenizerConfig, Tensors),
    tokenizer_digest: String,
    condition: Condition,
    forecasts: ForecastRule,
    /// Loss of the volatility baseline, by source.
    hist_vol: Vec<f64>,
    data: &'d BarSources,
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
    /// Share of closes inside the 90 % interval.
    pub coverage: f64,
}

impl<'d> PredictorTask<'d> {
    /// Trains `network` on the tokens that the tokenizer of `config` and `tensors` makes of `data`.
    ///
    /// # Errors
    /// When the two halves do not fit; what the baselines say of the validation windows.
    pub fn new(
        network: TrainablePredictor,
        (config, tensors): (TokenizerConfig, Tensors),
        condition: Condition,
        forecasts: ForecastRule,
        data: &'d BarSources,
    ) -> Result<Self> {
        let most = data.rule().bars - data.rule().most_context;
        if !(1..=most).contains(&forecasts.horizon) || forecasts.paths == 0 {
            return Err(invalid("horizon", format!("between 1 and {most}"), forecasts.horizon));
        }
        let hist_vol = data.sources().iter().map(|source| {
            let sizes = (CLOSE, data.rule().most_context, forecasts.horizon);
            let scores = baselines(&source.panel, &source.validation, sizes, 1, &LEVELS, Unit::LogReturn)?;
            Ok(scores.iter().find(|(name, _)| *name == "hist_vol").map_or(f64::NAN, |(_, score)| score.wql))
        });
        let hist_vol = hist_vol.collect::<Result<_>>()?;
        let parameters = trained_parameters(network.parameters());
        let tokenizer = Tokenizer::new(&config, &tensors)?;
        let task = Self {
            network,
            parameters,
            tokenizer,
            tokenizer_digest: digest(&tensors)?,
            tokenizer_source: (config, tensors),
            condition,
            forecasts,
            hist_vol,
            data,
        };
        task.model()?;
        Ok(task)
    }

    /// The network.
    pub fn network(&self) -> &TrainablePredictor {
        &self.network
    }

    /// Both halves as they are now, ready to forecast.
    pub fn model(&self) -> Result<Kronos> {
        let (config, tensors) = &self.tokenizer_source;
        let predictor = Predictor::new(&self.network.config().config, &self.network.parameters().tensors())?;
        Ok(Kronos::from_parts(Tokenizer::new(config, tensors)?, predictor, self.data.rule().bars)?)
    }

    /// Tokens, stamps and weights of windows.
    fn batch(&self, windows: &[BarWindow], interrupt: &dyn Interrupt) -> Result<PredictorBatch> {
        let bars = self.data.rule().bars;
        let mut tokens: Vec<Token> = Vec::with_capacity(windows.len() * bars);
        for window in windows {
            tokens.extend(self.tokenizer.encode(&normalise_window(window), interrupt)?);
        }
        let stamps = windows.iter().flat_map(|window| &window.stamps[..bars - 1]).copied().collect();
        let weight = |window: &BarWindow, row: usize| {
            if row + 1 < window.context { self.data.rule().weight_before_cut } else { 1.0 }
        };
        let weights =
            windows.iter().flat_map(|window| (0..bars - 1).map(move |row| weight(window, row))).collect();
        Ok(PredictorBatch {
            shape: BatchShape { windows: windows.len(), length: bars - 1 },
            tokens,
            stamps,
            weights,
        })
    }

    /// Forecasts the validation windows of every source and scores the closes.
    pub fn score(&self, forecasts: ForecastRule, interrupt: &dyn Interrupt) -> Result<Vec<SourceScore>> {
        let model = self.model()?;
        let ForecastRule { horizon, paths, temperature } = forecasts;
        let options = BarOptions {
            samples: paths,
            sampling: Sampling::new(temperature, 0, 1.0)?,
            window: Sliding::Shorten,
            memory_limit: 1 << 30,
        };
        let context = self.data.rule().most_context;
        let mut scores = Vec::new();
        for (source, hist_vol) in self.data.sources().iter().zip(&self.hist_vol) {
            let windows: Vec<BarWindow> = source
                .validation
                .iter()
                .map(|&window| source.window(window, context, context + horizon))
                .collect();
            let request = |(index, window): (usize, &BarWindow)| BarRequest {
                bars: window.bars[..context].to_vec(),
                stamps: window.stamps.clone(),
                horizon,
                stream: Stream::from_key(index as u64),
            };
            let requests: Vec<BarRequest> = windows.iter().enumerate().map(request).collect();
            let mut scorer = Scorer::new(&LEVELS);
            for (window, result) in windows.iter().zip(model.forecast(&requests, &options, interrupt)?) {
                let made = result?;
                let last = window.bars[context - 1][CLOSE];
                for step in 0..horizon {
                    let mut closes: Vec<f64> = (0..paths).map(|path| made.bar(path, step)[CLOSE]).collect();
                    closes.sort_by(f64::total_cmp);
                    let floor = last * 1e-6;
                    let at =
                        |level: usize| Unit::LogReturn.of(quantile(&closes, LEVELS[level]).max(floor), last);
                    scorer.add(at, Unit::LogReturn.of(window.bars[context + step][CLOSE], last));
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

impl Trainable for PredictorTask<'_> {
    fn parameters(&self) -> &[Parameter] {
        &self.parameters
    }

    fn loss(&self, picks: &[Pick], noise: Noise) -> Result<Tensor> {
        let windows: Vec<BarWindow> = picks.iter().map(|pick| self.data.draw(pick)).collect();
        let batch = self.batch(&windows, &NeverInterrupt)?;
        Ok(self.network.loss(&batch, self.condition, noise.key())?.total)
    }

    /// The mean over sources of the quantile loss of real forecasts, relative to historical volatility: a falling token
    /// loss is no proof of a better forecast.
    fn validate(&self, interrupt: &dyn Interrupt) -> Result<Validation> {
        let mut scores = Vec::new();
        let all: Vec<BarWindow> = self.data.validation().map(|(_, window)| window).collect();
        let (mut s1, mut s2) = (0.0, 0.0);
        for windows in all.chunks(EVALUATED) {
            interrupt.check()?;
            let loss = self.network.loss(&self.batch(windows, interrupt)?, Condition::True, None)?;
            let share = windows.len() as f64 / all.len() as f64;
            s1 += share * scalar(&loss.s1)?;
            s2 += share * scalar(&loss.s2)?;
        }
        scores.extend([("s1".to_owned(), s1), ("s2".to_owned(), s2)]);
        let by_source = self.score(self.forecasts, interrupt)?;
        for score in &by_source {
            scores.push((format!("wql_ratio {}", score.source), score.wql_ratio));
            scores.push((format!("coverage {}", score.source), score.coverage));
        }
        let loss = by_source.iter().map(|score| score.wql_ratio).sum::<f64>() / by_source.len() as f64;
        Ok(Validation { loss, scores })
    }

    fn identity(&self) -> String {
        let Self { network, condition, forecasts, data, tokenizer_digest, .. } = self;
        let (config, rule, data) = (network.config(), data.rule(), data.fingerprint());
        format!("kronos {config:?} {tokenizer_digest} {condition:?} {forecasts:?} {rule:?} {data}")
    }
}

/// SHA-256 of weights, in the order of their names.
fn digest(tensors: &Tensors) -> Result<String> {
    let mut hash = Sha256::new();
    let mut names: Vec<_> = tensors.keys().collect();
    names.sort_unstable();
    for name in names {
        hash.update(name);
        with_values(&tensors[name].contiguous()?, |values| {
            values.iter().for_each(|value| hash.update(value.to_le_bytes()));
        })?;
    }
    Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}
