//! N-BEATS.

use super::{Context, SourceData, Trained};
use crate::data;
use crate::error::Result;
use crate::job::Job;
use kronos_job::nbeats::Options;
use kronos_models::nbeats::NBeats;
use kronos_models::nbeats::config::{ScalerConfig, Transform};
use kronos_models::series::QuantileForecast;
use kronos_training::evaluate::{Evaluation, Scores};
use kronos_training::nbeats::{NBeatsTask, Source};
use kronos_training::score::Unit;
use kronos_training::{
    Panel, Part, Sampler, Source as Share, Split, Trainable, Window, Windows, train as run,
};
use serde_json::json;
use std::fmt::Write;

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

/// Trains one network on the first target of every source.
pub(super) fn train(job: &Job, sources: Vec<SourceData>, context: &mut Context<'_>) -> Result<Trained> {
    let options = Options::of(job)?;
    let (config, scaler) = (options.config(), ScalerConfig::new(options.transform));
    let (mut inputs, mut shares, mut tests, mut cutoff) = (Vec::new(), Vec::new(), Vec::new(), None);
    for SourceData { options: source, panel } in sources {
        let last = panel.span().map_or(0, |(_, last)| last);
        let split = Split::new(&panel, &job.split.rule(data::width(&panel), last, options.horizon)?)?;
        let train = windows(&options, options.stride).of(&panel, &split, Part::Train)?;
        let holdout = |part| windows(&options, options.holdout_stride).of(&panel, &split, part);
        // A source may be too short for them; together the sources must have some, as the task checks.
        let (validation, test) =
            (holdout(Part::Validation).unwrap_or_default(), holdout(Part::Test).unwrap_or_default());
        shares.push(Share { weight: source.weight, ..Share::uniform(train.len()) });
        cutoff = cutoff.max(split.train_cutoff(&panel));
        tests.push((panel.clone(), test));
        inputs.push(Source { panel, column: 0, train, validation });
    }
    let counts = json!({
        "train": shares.iter().map(|share| share.windows).sum::<usize>(),
        "validation": inputs.iter().map(|source| source.validation.len()).sum::<usize>(),
        "test": tests.iter().map(|(_, windows)| windows.len()).sum::<usize>(),
    });
    let seed = job.train.seed;
    let task = NBeatsTask::new(&config, &scaler, inputs, None, (seed, options.dropout), &context.device)?;
    let sampler = Sampler::new(&shares, seed)?;
    context.timed.part("network", job.train.steps);
    let report =
        run(&task, &sampler, &job.train, Some(context.checkpoints), context.interrupt, &mut |event| {
            context.timed.event(event)
        })?;
    let validation = task.validate(context.interrupt)?;

    let model = NBeats::from_tensors(&config, &scaler, &task.tensors()?)?;
    let mut residuals = String::from("series,cutoff,step,actual");
    for level in &config.quantile_levels {
        let _ = write!(residuals, ",q{level}");
    }
    residuals.push('\n');
    let mut scores = Vec::new();
    for (panel, windows) in tests.iter().filter(|(_, windows)| !windows.is_empty()) {
        let keep = job.residuals.then_some(&mut residuals);
        scores.push(evaluate(&model, panel, windows, &options, keep, context)?);
    }
    let mut files = task.files()?;
    if job.residuals {
        files.push(("residuals.csv".into(), residuals.into_bytes()));
    }
    let metrics = json!({
        "unit": unit(&options),
        "weights": task.weights(),
        "windows": counts,
        "steps": report.steps,
        "best_step": report.best_step,
        "stopped_early": report.stopped_early,
        "validation": {
            "loss": report.best_loss,
            "scores": validation.scores.into_iter().collect::<std::collections::BTreeMap<_, _>>(),
        },
        "quantile_levels": config.quantile_levels,
        "loss_name": format!("wql{}", config.quantile_levels.len()),
        "test": scores,
        "history": super::history(&report),
    });
    Ok(Trained {
        files,
        weights: "model.safetensors".into(),
        metrics,
        train_cutoff: cutoff,
        registration: json!({}),
        parts: Vec::new(),
    })
}

/// Scores on the test windows of one source, over the first step, the first five, and all.
fn evaluate(
    model: &NBeats,
    panel: &Panel,
    windows: &[Window],
    options: &Options,
    mut residuals: Option<&mut String>,
    context: &Context<'_>,
) -> Result<Scores> {
    let mut horizons = vec![1, 5, options.horizon];
    horizons.retain(|&horizon| horizon <= options.horizon);
    horizons.dedup();
    let evaluation = Evaluation {
        panel,
        windows,
        column: 0,
        context: options.context_length,
        horizons: &horizons,
        season: options.season,
        levels: &options.quantile_levels,
        unit: unit(options),
    };
    let mut forecast = |requests: &[_]| model.forecast(requests, context.interrupt);
    let mut each = |window: Window, forecast: &QuantileForecast| {
        let Some(text) = residuals.as_deref_mut() else { return };
        let series = window.of(panel);
        let cutoff = window.last_time(panel).map_or_else(String::new, data::timestamp);
        for (step, actual) in window.future(panel, 0, options.horizon).iter().enumerate() {
            // Writing to a string cannot fail.
            let _ = write!(text, "{},{cutoff},{},{actual}", series.name, step + 1);
            for level in &forecast.values[0] {
                let _ = write!(text, ",{}", level[step]);
            }
            text.push('\n');
        }
    };
    Ok(evaluation.run("model", &mut forecast, context.interrupt, &mut each)?)
}
