//! Kronos: a tokenizer of bars, then a predictor of its tokens.

use super::bars::stamped;
use super::{Context, LEVELS, SourceData, Trained, at, pick, read, refuse_future};
use crate::artifact::{parameters, pretty, safetensors};
use crate::error::Result;
use crate::evaluate::{Evaluation, Line};
use crate::kronos::{
    BarSource, BarSources, PredictorTask, TokenizerTask, TrainablePredictor, TrainableTokenizer,
};
use crate::score::Unit;
use crate::{Part, Trainable, Window, Windows, data};
use kronos_job::kronos::Options;
use kronos_job::limits::machine;
use kronos_job::{Job, JobError};
use kronos_models::artifact::{Tensors, read_config, read_tensors};
use kronos_models::bars::{BarOptions, BarRequest, CHANNELS, Sampling, Window as Sliding};
use kronos_models::interrupt::Interrupt;
use kronos_models::kronos::Kronos;
use kronos_models::quantile::quantile;
use kronos_models::random::Stream;
use kronos_models::series::QuantileForecast;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Column of the close.
const CLOSE: usize = 3;

/// Trains both halves on bars: targets are open, high, low, close, and volume and amount where there are such.
pub(super) fn train(job: &Job, sources: Vec<SourceData>, context: &mut Context<'_>) -> Result<Trained> {
    let columns = sources.first().map_or(0, |source| source.panel.columns.len());
    let mut options = Options::of(job, columns)?;
    let from = match context.finished {
        Some(version) => Some(Origin::of(version, None)),
        None => job.from.as_deref().map(|from| Origin::of(from, options.tokenizer_from.as_deref())),
    };
    if let Some(Origin { tokenizer, predictor }) = &from {
        options.tokenizer = read_config(&tokenizer.join("config.json"))?;
        options.predictor = read_config(&predictor.join("config.json"))?;
        options.counts(&job.train)?.check(machine())?;
    }
    let Prepared { inputs, tests, cutoff } = prepare(job, sources, &options)?;
    let windows = json!({
        "train": inputs.sources().iter().map(|source| source.train.len()).sum::<usize>(),
        "validation": inputs.sources().iter().map(|source| source.validation.len()).sum::<usize>(),
        "test": tests.iter().map(|test| test.windows.len()).sum::<usize>(),
    });
    let (tokenizer, reconstruction) = tokenizer(&options, &inputs, from.as_ref(), context)?;

    let network = match &from {
        Some(Origin { predictor, .. }) => {
            let specs = options.predictor.config.tensors()?;
            let tensors = read_tensors(&predictor.join("model.safetensors"), &specs, &context.device)?;
            TrainablePredictor::from_tensors(&options.predictor, &tensors, &context.device)?
        }
        None => TrainablePredictor::initialise(&options.predictor, job.train.seed as u64, &context.device)?,
    };
    let pair = (options.tokenizer.config.clone(), tokenizer.tensors);
    let task = PredictorTask::new(network, pair, options.condition, options.forecasts, &inputs)?;
    let report = context.train("predictor", "", &task, &inputs.sampler(job.train.seed)?, &job.train)?;
    let validation = json!(task.score(options.forecasts, context.interrupt)?);
    let model = task.model()?;
    let mut test = Vec::new();
    for one in &tests {
        test.extend(one.lines(&job.name, &model, &inputs, &options, context.interrupt)?);
    }
    Ok(Trained {
        files: vec![
            at("tokenizer", "config.json", pretty(&options.tokenizer)?),
            at("tokenizer", "model.safetensors", tokenizer.file),
            at("predictor", "config.json", pretty(&options.predictor)?),
            at("predictor", "model.safetensors", safetensors(&parameters(task.parameters())?)?),
        ],
        weights: "predictor/model.safetensors".into(),
        report,
        windows,
        validation,
        test,
        notes: Map::from_iter([
            ("unit".to_owned(), json!(Unit::LogReturn)),
            ("tokenizer".to_owned(), reconstruction),
        ]),
        train_cutoff: cutoff,
        registration: json!({"max_context": options.windows.bars, "temperature": options.forecasts.temperature}),
    })
}

/// What windows are cut from.
struct Prepared {
    inputs: BarSources,
    tests: Vec<Test>,
    cutoff: Option<i64>,
}

/// Windows of a source that neither fit nor choose.
struct Test {
    /// Number of the source.
    source: usize,
    windows: Vec<Window>,
    season: usize,
}

fn prepare(job: &Job, sources: Vec<SourceData>, options: &Options) -> Result<Prepared> {
    let (rule, horizon) = (&options.windows, options.forecasts.horizon);
    let (mut inputs, mut tests, mut cutoff) = (Vec::new(), Vec::new(), None);
    for (number, source) in sources.into_iter().enumerate() {
        let split = source.split(job, rule.bars - rule.least_context)?;
        let (name, own) = (source.name(number), source.options);
        let zone = own.timezone.unwrap_or(options.timezone);
        let width = data::width(&source.panel);
        let (panel, stamps) = stamped(source.panel, width, zone)?;
        refuse_future(&panel, &[CLOSE], &[0, 1, 2, 4, 5], horizon)?;
        cutoff = cutoff.max(split.train_cutoff(&panel));
        let tested = Windows {
            context: rule.most_context,
            horizon,
            stride: horizon,
            complete: (0..CHANNELS).collect(),
            positive: (0..4).collect(),
        };
        // A source may be too short for them.
        let test = tested.of(&panel, &split, Part::Test).unwrap_or_default();
        if !test.is_empty() {
            let windows = pick(&test, options.tested());
            tests.push(Test { source: number, windows, season: own.season.unwrap_or(options.season) });
        }
        let scored = own.scored_windows.unwrap_or(options.scored_windows);
        inputs.push(BarSource::new(&name, own.weight, panel, stamps, &split, rule, scored)?);
    }
    Ok(Prepared { inputs: BarSources::new(inputs, rule.clone()), tests, cutoff })
}

impl Test {
    /// Scores of forecasts of the close, baselines beside them.
    fn lines(
        &self,
        name: &str,
        model: &Kronos,
        data: &BarSources,
        options: &Options,
        interrupt: &dyn Interrupt,
    ) -> Result<Vec<Line>> {
        let source = &data.sources()[self.source];
        let (context, horizon) = (options.windows.most_context, options.forecasts.horizon);
        let drawing = BarOptions {
            samples: options.forecasts.paths,
            sampling: Sampling::new(options.forecasts.temperature, 0, 1.0)?,
            window: Sliding::Shorten,
            memory_limit: 1 << 30,
        };
        let mut streams = 0..;
        let mut request = |window: &Window| {
            let cut = source.window(*window, context, context + horizon);
            let stream = Stream::from_key(streams.next().unwrap_or_default());
            BarRequest { bars: cut.bars[..context].to_vec(), stamps: cut.stamps, horizon, stream }
        };
        let mut forecast = |windows: &[Window]| {
            let requests: Vec<BarRequest> = windows.iter().map(&mut request).collect();
            let mut forecasts = Vec::with_capacity(requests.len());
            for paths in model.forecast(&requests, &drawing, interrupt)? {
                let paths = paths?;
                let mut levels = vec![Vec::with_capacity(horizon); LEVELS.len()];
                for step in 0..horizon {
                    let mut closes: Vec<f64> =
                        (0..paths.samples()).map(|path| paths.bar(path, step)[CLOSE]).collect();
                    closes.sort_by(f64::total_cmp);
                    levels.iter_mut().zip(LEVELS).for_each(|(of, level)| of.push(quantile(&closes, level)));
                }
                forecasts.push(QuantileForecast { levels: LEVELS.to_vec(), values: vec![levels] });
            }
            Ok(forecasts)
        };
        let evaluation = Evaluation {
            source: &source.name,
            panel: &source.panel,
            windows: &self.windows,
            column: CLOSE,
            context,
            horizons: &[horizon],
            stride: horizon,
            season: self.season,
            levels: &LEVELS,
            unit: Unit::LogReturn,
        };
        evaluation.run(name, &mut forecast, interrupt)
    }
}

/// Where training goes on from.
struct Origin {
    tokenizer: PathBuf,
    predictor: PathBuf,
}

impl Origin {
    /// Both halves in folders of one directory, or the directory of a predictor beside that of a tokenizer.
    fn of(directory: &Path, tokenizer: Option<&Path>) -> Self {
        let in_itself = directory.join("config.json").exists();
        let predictor = if in_itself { directory.to_path_buf() } else { directory.join("predictor") };
        let tokenizer = tokenizer.map_or_else(|| directory.join("tokenizer"), Path::to_path_buf);
        Self { tokenizer, predictor }
    }
}

/// A finished tokenizer.
struct Finished {
    tensors: Tensors,
    file: Vec<u8>,
}

/// Trains the tokenizer, or takes that of a checkpoint as it is; and how well it restores bars it was not fitted to.
fn tokenizer(
    options: &Options,
    data: &BarSources,
    from: Option<&Origin>,
    context: &mut Context<'_>,
) -> Result<(Finished, Value)> {
    let specs = options.tokenizer.config.tensors()?;
    let origin = match from {
        Some(Origin { tokenizer, .. }) => {
            let path = tokenizer.join("model.safetensors");
            Some((read_tensors(&path, &specs, &context.device)?, path))
        }
        None => None,
    };
    let train = options.tokenizer_train.as_ref().filter(|_| context.finished.is_none());
    let (network, train) = match (origin, train) {
        (Some((tensors, path)), None) => {
            return Ok((Finished { tensors, file: read(&path)? }, Value::Null));
        }
        (Some((tensors, _)), Some(train)) => {
            (TrainableTokenizer::from_tensors(&options.tokenizer, &tensors, &context.device)?, train)
        }
        (None, Some(train)) => {
            let key = train.seed as u64;
            (TrainableTokenizer::initialise(&options.tokenizer, key, &context.device)?, train)
        }
        (None, None) => {
            let text = "model.tokenizer_train must be given without a model to go on from";
            return Err(JobError::Invalid(text.into()).into());
        }
    };
    let task = TokenizerTask::new(network, data, options.channel_weights, &context.device);
    let report = context.train("tokenizer", "tokenizer", &task, &data.sampler(train.seed)?, train)?;
    let validation = task.validate(context.interrupt)?;
    let scores: BTreeMap<_, _> = validation.scores.into_iter().collect();
    let file = safetensors(&parameters(task.parameters())?)?;
    let tensors = task.network().parameters().tensors();
    let metrics =
        json!({"loss": report.best_loss, "steps": report.steps, "scores": scores, "history": report.lines()});
    Ok((Finished { tensors, file }, metrics))
}
