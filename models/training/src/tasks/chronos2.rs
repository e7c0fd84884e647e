//! Networks of Chronos-2's kind.

use super::{Context, LEVELS, SourceData, Trained, at, pick, refuse_future};
use crate::artifact::{parameters, pretty, safetensors};
use crate::chronos2::{Chronos2Task, PanelSource, TrainableChronos2};
use crate::error::Result;
use crate::evaluate::{Evaluation, Line};
use crate::score::Unit;
use crate::{Panel, Part, Trainable, Window, Windows};
use kronos_job::chronos2::Options;
use kronos_job::limits::machine;
use kronos_job::{Job, JobError};
use kronos_models::artifact::{read_config, read_tensors};
use kronos_models::chronos2::{Chronos2, Chronos2Options};
use kronos_models::interrupt::Interrupt;
use kronos_models::series::SeriesRequest;
use serde_json::{Map, json};

/// Trains one network on all targets of every source.
pub(super) fn train(job: &Job, sources: Vec<SourceData>, context: &mut Context<'_>) -> Result<Trained> {
    let columns = sources.first().map_or(0, |source| source.panel.columns.len());
    if sources.iter().any(|source| source.panel.columns.len() != columns) {
        return Err(JobError::Invalid("all sources must have as many targets".into()).into());
    }
    let mut options = Options::of(job, columns)?;
    let seed = job.train.seed;
    let network = match context.finished.or(job.from.as_deref()) {
        Some(directory) => {
            options.network = read_config(&directory.join("config.json"))?;
            let specs = options.network.config.tensors()?;
            options.counts(&job.train)?.check(machine())?;
            let tensors = read_tensors(&directory.join("model.safetensors"), &specs, &context.device)?;
            TrainableChronos2::from_tensors(&options.network, &tensors, &context.device)?
        }
        None => TrainableChronos2::initialise(&options.network, seed as u64, &context.device)?,
    };
    let examples = &options.examples;
    let (mut inputs, mut tests, mut cutoff) = (Vec::new(), Vec::new(), None);
    for (number, source) in sources.into_iter().enumerate() {
        let split = source.split(job, examples.horizon)?;
        let (name, SourceData { options: own, panel }) = (source.name(number), source);
        cutoff = cutoff.max(split.train_cutoff(&panel));
        // What is wrong with the rows, panel and rule say first: a column of the rule may not be there.
        examples.validate(panel.columns.len())?;
        refuse_future(&panel, &examples.targets, &examples.grouped, options.scored.min(examples.horizon))?;
        tests.extend(Test::of(&name, &panel, &split, &options, own.season));
        let scored = own.scored_windows.unwrap_or(options.scored_windows);
        inputs.push(PanelSource::new(&name, own.weight, panel, &split, examples, scored)?);
    }
    let windows = json!({
        "train": inputs.iter().map(|source| source.train.len()).sum::<usize>(),
        "validation": inputs.iter().map(|source| source.validation.len()).sum::<usize>(),
        "test": tests.iter().map(|test| test.windows.len()).sum::<usize>(),
    });
    let task = Chronos2Task::new(network, inputs, examples.clone(), options.scored)?;
    let report = context.train("network", "", &task, &task.sampler(seed)?, &job.train)?;
    let model = task.model()?;
    let mut test = Vec::new();
    for one in &tests {
        test.extend(one.lines(&job.name, &model, &options, context.interrupt)?);
    }
    Ok(Trained {
        files: vec![
            at("", "config.json", pretty(&options.network)?),
            at("", "model.safetensors", safetensors(&parameters(task.parameters())?)?),
        ],
        weights: "model.safetensors".into(),
        report,
        windows,
        validation: json!(task.score(context.interrupt)?),
        test,
        notes: Map::from_iter([("unit".to_owned(), json!(Unit::LogReturn))]),
        train_cutoff: cutoff,
        registration: json!({}),
    })
}

/// Windows of a source that neither fit nor choose.
struct Test {
    name: String,
    panel: Panel,
    windows: Vec<Window>,
    season: usize,
}

impl Test {
    /// Those of the first target; none where the source is too short for them.
    fn of(
        name: &str,
        panel: &Panel,
        split: &crate::Split,
        options: &Options,
        season: Option<usize>,
    ) -> Option<Self> {
        let (examples, target) = (&options.examples, options.examples.targets[0]);
        let horizon = options.scored.min(examples.horizon);
        let rule = Windows {
            context: examples.context,
            horizon,
            stride: horizon,
            complete: vec![target],
            positive: vec![target],
        };
        let windows = pick(&rule.of(panel, split, Part::Test).ok()?, options.tested());
        let season = season.unwrap_or(options.season);
        Some(Self { name: name.into(), panel: panel.clone(), windows, season })
    }

    /// Scores of forecasts of the first target, baselines beside them.
    fn lines(
        &self,
        name: &str,
        model: &Chronos2,
        options: &Options,
        interrupt: &dyn Interrupt,
    ) -> Result<Vec<Line>> {
        let (context, column) = (options.examples.context, options.examples.targets[0]);
        let horizon = options.scored.min(options.examples.horizon);
        let request = |window: &Window| {
            SeriesRequest::univariate(window.context(&self.panel, column, context).to_vec(), horizon)
        };
        let mut forecast = |windows: &[Window]| {
            let requests: Vec<SeriesRequest> = windows.iter().map(request).collect();
            let made = model.forecast(&requests, &Chronos2Options::default(), interrupt)?;
            Ok(made.into_iter().collect::<kronos_models::Result<_>>()?)
        };
        let evaluation = Evaluation {
            source: &self.name,
            panel: &self.panel,
            windows: &self.windows,
            column,
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
