//! Networks of Chronos-2's kind.

use super::{Context, SourceData, Trained, at, beside, merged, pick, refuse_future, source_name};
use crate::data;
use crate::error::{Error, Result};
use crate::job::Job;
use kronos_models::artifact::{read_config, read_tensors};
use kronos_models::chronos2::training::{
    Chronos2Task, Chronos2Training, ExampleRule, PanelSource, TrainableChronos2,
};
use kronos_models::train::artifact::{parameters, pretty, safetensors};
use kronos_models::train::score::Unit;
use kronos_models::train::{Part, Split, Trainable, Windows, train as run};
use serde::{Deserialize, Serialize};
use serde_json::json;

/// What the job's `model` may say.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Options {
    /// How examples are made of windows; columns are the targets of the job, by position.
    examples: ExampleRule,
    /// Architecture; that of the checkpoint where training goes on from one.
    network: Chronos2Training,
    /// Steps of the forecasts that weights are chosen by.
    scored: usize,
    /// Windows of each source that weights are chosen by, and as many that are scored at the end.
    scored_windows: usize,
    /// Rows after which a pattern returns, for the seasonal baseline.
    season: usize,
}

impl Options {
    fn of(job: &Job, columns: usize) -> Result<Self> {
        let all: Vec<usize> = (0..columns).collect();
        let default = json!({
            "examples": {
                "context": 256, "least_context": 32, "horizon": 32, "targets": all, "grouped": all,
                "groups": if columns > 1 { 0.1 } else { 0.0 }, "gaps": 0.05, "per_move": true,
            },
            "network": {
                "architectures": ["Chronos2Model"], "model_type": "t5", "d_model": 128, "d_kv": 32, "d_ff": 256,
                "num_layers": 3, "num_heads": 4, "layer_norm_epsilon": 1e-6, "feed_forward_proj": "relu",
                "rope_theta": 10000.0, "dropout_rate": 0.0, "initializer_factor": 1.0,
                "chronos_config": {
                    "context_length": 256, "input_patch_size": 16, "input_patch_stride": 16, "output_patch_size": 16,
                    "max_output_patches": 2,
                    "quantiles": [0.01, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7,
                                  0.75, 0.8, 0.85, 0.9, 0.95, 0.99],
                    "use_arcsinh": true, "use_reg_token": true, "time_encoding_scale": 256.0,
                },
            },
            "scored": 12, "scored_windows": 40, "season": 5,
        });
        merged(default, job)
    }
}

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
