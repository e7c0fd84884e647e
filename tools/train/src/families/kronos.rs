//! Kronos: a tokenizer of bars, then a predictor of its tokens.

use super::bars::stamped;
use super::{Context, SourceData, Trained, at, beside, history, pick, refuse_future, source_name};
use crate::data;
use crate::error::{Error, Result};
use crate::job::Job;
use kronos_job::kronos::Options;
use kronos_job::limits::machine;
use kronos_models::artifact::{Tensors, read_config, read_tensors};
use kronos_models::bars::CHANNELS;
use kronos_training::artifact::{parameters, pretty, safetensors};
use kronos_training::kronos::{
    BarSource, BarSources, PredictorTask, TokenizerTask, TrainablePredictor, TrainableTokenizer,
};
use kronos_training::score::Unit;
use kronos_training::{Checkpoints, Part, Split, Trainable, Windows, train as run};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// Column of the close.
const CLOSE: usize = 3;

/// Trains both halves on bars: targets are open, high, low, close, and volume and amount where there are such.
pub(super) fn train(job: &Job, sources: Vec<SourceData>, context: &mut Context<'_>) -> Result<Trained> {
    let columns = sources.first().map_or(0, |source| source.panel.columns.len());
    let mut options = Options::of(job, columns)?;
    let from = job.from.as_deref().map(|directory| Origin::of(directory, options.tokenizer_from.as_deref()));
    if let Some(Origin { tokenizer, predictor }) = &from {
        options.tokenizer = read_config(&tokenizer.join("config.json"))?;
        options.predictor = read_config(&predictor.join("config.json"))?;
        options.counts(&job.train)?.check(machine())?;
    }
    let horizon = options.forecasts.horizon;
    let (mut inputs, mut tests, mut cutoff) = (Vec::new(), Vec::new(), None);
    for (index, SourceData { options: source, panel }) in sources.into_iter().enumerate() {
        let width = data::width(&panel);
        let last = panel.span().map_or(0, |(_, last)| last);
        let reach = options.windows.bars - options.windows.least_context;
        let (panel, stamps) = stamped(panel, width, options.timezone)?;
        refuse_future(&panel, &[CLOSE], &[0, 1, 2, 4, 5], horizon)?;
        let split = Split::new(&panel, &job.split.rule(width, last, reach)?)?;
        cutoff = cutoff.max(split.train_cutoff(&panel));
        let rule = Windows {
            context: options.windows.most_context,
            horizon,
            stride: horizon,
            complete: (0..CHANNELS).collect(),
            positive: (0..4).collect(),
        };
        let test = rule.of(&panel, &split, Part::Test).unwrap_or_default();
        let (name, count) = (source_name(index), options.scored_windows);
        let input = BarSource::new(&name, source.weight, panel, stamps, &split, &options.windows, count)?;
        if !test.is_empty() {
            tests.push(BarSource { validation: pick(&test, count), ..input.clone() });
        }
        inputs.push(input);
    }
    let counts = json!({
        "train": inputs.iter().map(|source| source.train.len()).sum::<usize>(),
        "validation": inputs.iter().map(|source| source.validation.len()).sum::<usize>(),
        "test": tests.iter().map(|source| source.validation.len()).sum::<usize>(),
    });
    let inputs = BarSources::new(inputs, options.windows.clone());
    let home = context.checkpoints.path().parent().unwrap_or(Path::new("")).join("tokenizer");
    std::fs::create_dir_all(&home).map_err(|source| Error::File { path: home.clone(), source })?;
    let part = Checkpoints::new(&home, job.checkpoint_every);
    let (tokenizer, reconstruction) =
        tokenizer(&options, &inputs, from.as_ref(), &part, job.train.seed, context)?;

    let network = match &from {
        Some(Origin { predictor, .. }) => {
            let specs = options.predictor.config.tensors()?;
            let tensors = read_tensors(&predictor.join("model.safetensors"), &specs, &context.device)?;
            TrainablePredictor::from_tensors(&options.predictor, &tensors, &context.device)?
        }
        None => TrainablePredictor::initialise(&options.predictor, job.train.seed as u64, &context.device)?,
    };
    let pair = (options.tokenizer.config.clone(), tokenizer.tensors);
    let task = PredictorTask::new(network, pair.clone(), options.condition, options.forecasts, &inputs)?;
    let sampler = inputs.sampler(job.train.seed)?;
    context.timed.part("predictor", job.train.steps);
    let checkpoints = Some(context.checkpoints);
    let report = run(&task, &sampler, &job.train, checkpoints, context.interrupt, &mut |event| {
        context.timed.event(event)
    })?;

    let sizes = (CLOSE, options.windows.most_context, horizon);
    let simple =
        beside(tests.iter().map(|s| (&s.name, &s.panel, s.validation.as_slice())), sizes, options.season)?;
    let tests = BarSources::new(tests, options.windows.clone());
    let tested = match tests.sources().is_empty() {
        true => Vec::new(),
        false => {
            PredictorTask::new(task.network().clone(), pair, options.condition, options.forecasts, &tests)?
                .score(options.forecasts, context.interrupt)?
        }
    };
    let metrics = json!({
        "unit": Unit::LogReturn,
        "windows": counts,
        "steps": report.steps,
        "best_step": report.best_step,
        "stopped_early": report.stopped_early,
        "tokenizer": reconstruction,
        "validation": {"loss": report.best_loss, "scores": task.score(options.forecasts, context.interrupt)?},
        "test": {"model": tested, "baselines": simple},
        "history": history(&report),
    });
    let files = vec![
        at("tokenizer", "config.json", pretty(&options.tokenizer)?),
        at("tokenizer", "model.safetensors", tokenizer.file),
        at("predictor", "config.json", pretty(&options.predictor)?),
        at("predictor", "model.safetensors", safetensors(&parameters(task.parameters())?)?),
    ];
    Ok(Trained {
        files,
        weights: "predictor/model.safetensors".into(),
        metrics,
        train_cutoff: cutoff,
        registration: json!({"max_context": options.windows.bars, "temperature": options.forecasts.temperature}),
        parts: vec![part],
    })
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
    checkpoints: &Checkpoints,
    seed: i64,
    context: &mut Context<'_>,
) -> Result<(Finished, Value)> {
    let specs = options.tokenizer.config.tensors()?;
    let network = match from {
        Some(Origin { tokenizer, .. }) => {
            let tensors = read_tensors(&tokenizer.join("model.safetensors"), &specs, &context.device)?;
            if options.tokenizer_train.is_none() {
                let path = tokenizer.join("model.safetensors");
                let file = std::fs::read(&path).map_err(|source| Error::File { path, source })?;
                return Ok((Finished { tensors, file }, Value::Null));
            }
            TrainableTokenizer::from_tensors(&options.tokenizer, &tensors, &context.device)?
        }
        None => TrainableTokenizer::initialise(&options.tokenizer, seed as u64, &context.device)?,
    };
    let Some(train) = &options.tokenizer_train else {
        return Err(Error::Job("model.tokenizer_train must be given without a model to go on from".into()));
    };
    let task = TokenizerTask::new(network, data, options.channel_weights, &context.device);
    let sampler = data.sampler(train.seed)?;
    context.timed.part("tokenizer", train.steps);
    let report = run(&task, &sampler, train, Some(checkpoints), context.interrupt, &mut |event| {
        context.timed.event(event)
    })?;
    let validation = task.validate(context.interrupt)?;
    let scores: std::collections::BTreeMap<_, _> = validation.scores.into_iter().collect();
    let file = safetensors(&parameters(task.parameters())?)?;
    let tensors = task.network().parameters().tensors();
    let metrics = json!({"loss": report.best_loss, "steps": report.steps, "scores": scores, "history": history(&report)});
    Ok((Finished { tensors, file }, metrics))
}
