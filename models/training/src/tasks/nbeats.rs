//! N-BEATS.

use super::{Context, SourceData, Trained};
use crate::error::Result;
use crate::evaluate::{Evaluation, Line};
use crate::medians::Medians;
use crate::nbeats::{NBeatsTask, Source};
use crate::score::Unit;
use crate::{Panel, Part, Sampler, Source as Share, Trainable, Window, Windows, data};
use candle_core::Device;
use kronos_job::Job;
use kronos_job::nbeats::Options;
use kronos_models::artifact::read_tensors;
use kronos_models::interrupt::Interrupt;
use kronos_models::nbeats::NBeats;
use kronos_models::nbeats::config::{ScalerConfig, Transform};
use kronos_models::series::{QuantileForecast, SeriesRequest};
use serde_json::{Map, json};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

/// What errors are measured in.
fn unit(options: &Options) -> Unit {
    match options.transform {
        Transform::Log => Unit::LogReturn,
        Transform::None => Unit::Change,
    }
}

/// Windows of the first target must be complete, and positive where logarithms are taken.
fn windows(options: &Options, stride: usize) -> Windows {
    let positive = match options.transform {
        Transform::Log => vec![0],
        Transform::None => Vec::new(),
    };
    Windows { context: options.context_length, horizon: options.horizon, stride, complete: vec![0], positive }
}

/// Windows of a source that neither fit nor choose.
struct Test {
    name: String,
    panel: Panel,
    windows: Vec<Window>,
    season: usize,
}

/// Trains one network on the first target of every source.
pub(super) fn train(job: &Job, sources: Vec<SourceData>, context: &mut Context<'_>) -> Result<Trained> {
    let options = Options::of(job)?;
    let (config, scaler) = (options.config(), ScalerConfig::new(options.transform));
    let (mut inputs, mut shares, mut tests, mut cutoff) = (Vec::new(), Vec::new(), Vec::new(), None);
    for (number, source) in sources.into_iter().enumerate() {
        let split = source.split(job, options.horizon)?;
        let (name, SourceData { options: own, panel }) = (source.name(number), source);
        let train = windows(&options, options.stride).of(&panel, &split, Part::Train)?;
        let holdout = |part| windows(&options, options.holdout_stride).of(&panel, &split, part);
        // A source may be too short for them; together the sources must have some, as the task checks.
        let (validation, test) =
            (holdout(Part::Validation).unwrap_or_default(), holdout(Part::Test).unwrap_or_default());
        shares.push(Share { weight: own.weight, ..Share::uniform(train.len()) });
        cutoff = cutoff.max(split.train_cutoff(&panel));
        let season = own.season.unwrap_or(options.season);
        tests.push(Test { name, panel: panel.clone(), windows: test, season });
        inputs.push(Source { panel, column: 0, train, validation });
    }
    let counts = json!({
        "train": shares.iter().map(|share| share.windows).sum::<usize>(),
        "validation": inputs.iter().map(|source| source.validation.len()).sum::<usize>(),
        "test": tests.iter().map(|test| test.windows.len()).sum::<usize>(),
    });
    let start = match context.finished {
        Some(version) => {
            Some(read_tensors(&version.join("model.safetensors"), &config.tensors()?, &Device::Cpu)?)
        }
        None => None,
    };
    let seed = job.train.seed;
    let noise = (seed, options.dropout);
    let task = NBeatsTask::new(&config, &scaler, inputs, start.as_ref(), noise, &context.device)?;
    let report = context.train("network", "", &task, &Sampler::new(&shares, seed)?, &job.train)?;
    let validation: BTreeMap<_, _> = task.validate(context.interrupt)?.scores.into_iter().collect();

    let model = NBeats::from_tensors(&config, &scaler, &task.tensors()?)?;
    let mut residuals = job.residuals.then(|| header(&config.quantile_levels));
    let mut test = Vec::new();
    for one in tests.iter().filter(|test| !test.windows.is_empty()) {
        test.extend(one.lines(&job.name, &model, &options, residuals.as_mut(), context.interrupt)?);
    }
    let mut files = task.files()?;
    files.extend(residuals.map(|text| ("residuals.csv".to_owned(), text.into_bytes())));
    Ok(Trained {
        files,
        weights: "model.safetensors".into(),
        report,
        windows: counts,
        validation: json!(validation),
        test,
        notes: Map::from_iter([
            ("unit".to_owned(), json!(unit(&options))),
            ("weights".to_owned(), json!(task.weights())),
            ("quantile_levels".to_owned(), json!(config.quantile_levels)),
            ("loss_name".to_owned(), json!(format!("wql{}", config.quantile_levels.len()))),
        ]),
        train_cutoff: cutoff,
        registration: json!({}),
    })
}

impl Test {
    /// Scores over the first step, the first five, and all, baselines beside them; each forecast is kept in `residuals`.
    fn lines(
        &self,
        name: &str,
        model: &NBeats,
        options: &Options,
        mut residuals: Option<&mut String>,
        interrupt: &dyn Interrupt,
    ) -> Result<Vec<Line>> {
        let mut horizons = vec![1, 5, options.horizon];
        horizons.retain(|&horizon| horizon <= options.horizon);
        horizons.dedup();
        let request = |window: &Window| {
            let history = window.context(&self.panel, 0, options.context_length);
            SeriesRequest::univariate(history.to_vec(), options.horizon)
        };
        let mut forecast = |windows: &[Window]| {
            let requests: Vec<SeriesRequest> = windows.iter().map(request).collect();
            let made = model.forecast(&requests, interrupt)?;
            let made = made.into_iter().collect::<kronos_models::Result<Vec<_>>>()?;
            if let Some(text) = residuals.as_deref_mut() {
                for (window, forecast) in windows.iter().zip(&made) {
                    self.keep(window, forecast, options.horizon, text);
                }
            }
            Ok(made)
        };
        let evaluation = Evaluation {
            source: &self.name,
            panel: &self.panel,
            windows: &self.windows,
            column: 0,
            context: options.context_length,
            horizons: &horizons,
            stride: options.holdout_stride,
            season: self.season,
            levels: &options.quantile_levels,
            unit: unit(options),
        };
        evaluation.run(name, &mut forecast, interrupt)
    }

    /// Writes a forecast and what came, step by step.
    fn keep(&self, window: &Window, forecast: &QuantileForecast, horizon: usize, text: &mut String) {
        let series = window.of(&self.panel);
        let cutoff = window.last_time(&self.panel).map_or_else(String::new, data::timestamp);
        for (step, actual) in window.future(&self.panel, 0, horizon).iter().enumerate() {
            // Writing to a string cannot fail.
            let _ = write!(text, "{},{cutoff},{},{actual}", series.name, step + 1);
            for level in &forecast.values[0] {
                let _ = write!(text, ",{}", level[step]);
            }
            text.push('\n');
        }
    }
}

/// The first line of the residuals.
fn header(levels: &[f64]) -> String {
    let levels: String = levels.iter().map(|level| format!(",q{level}")).collect();
    format!("series,cutoff,step,actual{levels}\n")
}

/// Opens a model of which the series can be listed that it forecasts best.
pub(super) fn medians(directory: &Path) -> Result<Box<dyn Medians>> {
    Ok(Box::new(NBeats::load(directory, &Device::Cpu)?))
}

impl Medians for NBeats {
    fn context(&self) -> usize {
        self.config().context_length
    }

    fn horizon(&self) -> usize {
        self.config().horizon
    }

    fn medians(&self, requests: &[SeriesRequest], interrupt: &dyn Interrupt) -> Result<Vec<Vec<f64>>> {
        let median = self.levels().iter().position(|level| *level == 0.5).unwrap_or(self.config().middle());
        let one = |made: kronos_models::Result<QuantileForecast>| {
            Ok(made?.values.swap_remove(0).swap_remove(median))
        };
        self.forecast(requests, interrupt)?.into_iter().map(one).collect()
    }
}
