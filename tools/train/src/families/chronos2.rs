//! Networks of Chronos-2's kind.

use super::{Context, SourceData, Trained, at, beside, pick, refuse_future, source_name};
use crate::data;
use crate::error::{Error, Result};
use crate::job::Job;
use kronos_job::chronos2::Options;
use kronos_job::limits::machine;
use kronos_models::artifact::{read_config, read_tensors};
use kronos_training::artifact::{parameters, pretty, safetensors};
use kronos_training::chronos2::{Chronos2Task, PanelSource, TrainableChronos2};
use kronos_training::score::Unit;
use kronos_training::{Part, Split, Trainable, Windows, train as run};
use serde_json::json;

/// Trains one network on all targets of every source.
pub(super) fn train(job: &Job, sources: Vec<SourceData>, context: &mut Context<'_>) -> Result<Trained> {
    let columns = sources.first().map_or(0, |source| source.panel.columns.len());
    if sources.iter().any(|source| source.panel.columns.len() != columns) {
        return Err(Error::Job("all sources must have as many targets".into()));
    }
    let mut options = Options::of(job, columns)?;
    let seed = job.train.seed;
    let network = match &job.from {
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
    for (index, SourceData { options: source, panel }) in sources.into_iter().enumerate() {
        let last = panel.span().map_or(0, |(_, last)| last);
        let split = Split::new(&panel, &job.split.rule(data::width(&panel), last, examples.horizon)?)?;
        cutoff = cutoff.max(split.train_cutoff(&panel));
        let target = examples.targets[0];
        let rule = Windows {
            context: examples.context,
            horizon: options.scored.min(examples.horizon),
            stride: options.scored,
            complete: vec![target],
            positive: vec![target],
        };
        let name = source_name(index);
        // What is wrong with the rows, panel and rule say first: a column of the rule may not be there.
        examples.validate(panel.columns.len())?;
        refuse_future(&panel, &examples.targets, &examples.grouped, options.scored.min(examples.horizon))?;
        let test = rule.of(&panel, &split, Part::Test).unwrap_or_default();
        let input = PanelSource::new(&name, source.weight, panel, &split, examples, options.scored_windows)?;
        if !test.is_empty() {
            let validation = pick(&test, options.scored_windows);
            tests.push(PanelSource { validation, ..input.clone() });
        }
        inputs.push(input);
    }
    let counts = json!({
        "train": inputs.iter().map(|source| source.train.len()).sum::<usize>(),
        "validation": inputs.iter().map(|source| source.validation.len()).sum::<usize>(),
        "test": tests.iter().map(|source| source.validation.len()).sum::<usize>(),
    });
    let task = Chronos2Task::new(network, inputs, examples.clone(), options.scored)?;
    let sampler = task.sampler(seed)?;
    context.timed.part("network", job.train.steps);
    let checkpoints = Some(context.checkpoints);
    let report = run(&task, &sampler, &job.train, checkpoints, context.interrupt, &mut |event| {
        context.timed.event(event)
    })?;
    let sizes = (examples.targets[0], examples.context, options.scored.min(examples.horizon));
    let simple =
        beside(tests.iter().map(|s| (&s.name, &s.panel, s.validation.as_slice())), sizes, options.season)?;
    let tested = match tests.is_empty() {
        true => Vec::new(),
        false => Chronos2Task::new(task.network().clone(), tests, examples.clone(), options.scored)?
            .score(context.interrupt)?,
    };
    let metrics = json!({
        "unit": Unit::LogReturn,
        "windows": counts,
        "steps": report.steps,
        "best_step": report.best_step,
        "stopped_early": report.stopped_early,
        "validation": {"loss": report.best_loss, "scores": task.score(context.interrupt)?},
        "test": {"model": tested, "baselines": simple},
        "history": super::history(&report),
    });
    let files = vec![
        at("", "config.json", pretty(&options.network)?),
        at("", "model.safetensors", safetensors(&parameters(task.parameters())?)?),
    ];
    Ok(Trained {
        files,
        weights: "model.safetensors".into(),
        metrics,
        train_cutoff: cutoff,
        registration: json!({}),
        parts: Vec::new(),
    })
}
