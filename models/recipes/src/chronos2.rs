//! Recipes of Chronos-2 models.

use crate::data::{Bars, check_cutoff, split};
use crate::error::Result;
use crate::evaluate::{self, CLOSE, LEVELS, Line};
use crate::part;
use crate::publish::Artifact;
use crate::recipe::{Chronos2Recipe, Recipe};
use crate::{Arguments, Command};
use candle_core::Device;
use kronos_models::artifact::read_tensors;
use kronos_models::chronos2::Chronos2Options;
use kronos_models::interrupt::NeverInterrupt;
use kronos_models::series::{QuantileForecast, SeriesRequest};
use kronos_training::chronos2::{Chronos2Task, PanelSource, TrainableChronos2};
use kronos_training::{Split, Window};
use serde_json::json;
use std::path::Path;

pub fn run(recipe: &Recipe, model: &Chronos2Recipe, arguments: &Arguments) -> Result<()> {
    let (sources, splits): (Vec<_>, Vec<_>) = load(recipe, model, &arguments.data)?.into_iter().unzip();
    let size = |sources: &[PanelSource]| {
        let panels = || sources.iter().map(|source| &source.panel);
        (panels().map(|panel| panel.series.len()).sum(), panels().map(|panel| panel.rows()).sum())
    };
    let (size, panels) = (size(&sources), sources.clone());
    let task = trained(model, sources, &arguments.work.join("model"))?;
    let evaluated = |names: &[String], horizon, count| {
        evaluated(recipe, &task, model, (&panels, &splits), names, horizon, count)
    };
    match &arguments.command {
        Command::Train { .. } => Ok(()),
        Command::Score { .. } => {
            task.score(&NeverInterrupt)?.iter().for_each(|score| println!("{score:?}"));
            Ok(())
        }
        Command::Evaluate { sources, horizon, windows } => {
            evaluate::print(&evaluated(sources, *horizon, *windows)?);
            Ok(())
        }
        Command::Publish { out } => {
            let names: Vec<String> = panels.iter().map(|source| source.name.clone()).collect();
            let version = Artifact {
                recipe,
                recipe_path: &arguments.recipe,
                family: "chronos2",
                weights: "model.safetensors",
                parts: &[("model", "")],
                work: &arguments.work,
                seed: model.options.seed,
                fingerprint: task.fingerprint(),
                size,
                metrics: json!({
                    "validation": task.score(&NeverInterrupt)?,
                    "test": evaluated(&names, model.scored, 120)?,
                }),
                options: json!({}),
            }
            .publish(out)?;
            println!("{}", version.directory.display());
            Ok(())
        }
    }
}

/// Forecasts test windows of the named sources; sources without a test part are passed over.
fn evaluated(
    recipe: &Recipe,
    task: &Chronos2Task,
    model: &Chronos2Recipe,
    (sources, splits): (&[PanelSource], &[Split]),
    names: &[String],
    horizon: usize,
    count: usize,
) -> Result<Vec<Line>> {
    let (chronos, context) = (task.model()?, model.examples.context);
    let mut lines = Vec::new();
    for (source, split) in sources.iter().zip(splits).filter(|(source, _)| names.contains(&source.name)) {
        let Ok(windows) = evaluate::windows(&source.panel, split, context, horizon, count) else { continue };
        let request = |window: &Window| {
            SeriesRequest::univariate(window.context(&source.panel, CLOSE, context).to_vec(), horizon)
        };
        let requests: Vec<SeriesRequest> = windows.iter().map(request).collect();
        let made = chronos.forecast(&requests, &Chronos2Options::default(), &NeverInterrupt)?;
        let quantiles = |made: kronos_models::Result<QuantileForecast>| -> Result<Vec<Vec<f64>>> {
            Ok(made?.at(&LEVELS)?.values.swap_remove(0))
        };
        let forecasts = made.into_iter().map(quantiles).collect::<Result<_>>()?;
        let place = (&source.panel, windows.as_slice());
        lines.extend(evaluate::compare(&source.name, place, (context, horizon), (&recipe.name, forecasts))?);
    }
    Ok(lines)
}

fn load(recipe: &Recipe, model: &Chronos2Recipe, data: &Path) -> Result<Vec<(PanelSource, Split)>> {
    let source = |source: &crate::recipe::SourceRecipe| -> Result<(PanelSource, Split)> {
        let panel = Bars::of(source, data)?.panel;
        let split = split(source, &panel, model.examples.horizon)?;
        let (name, weight) = (&source.name, source.weight);
        let made = PanelSource::new(name, weight, panel, &split, &model.examples, source.validation)?;
        eprintln!("{name}: {} training windows, {} to choose by", made.train.len(), made.validation.len());
        check_cutoff(recipe, &made.panel, &split, model.examples.horizon)?;
        Ok((made, split))
    };
    recipe.sources.iter().map(source).collect()
}

/// The network, trained once and then read.
fn trained(model: &Chronos2Recipe, sources: Vec<PanelSource>, directory: &Path) -> Result<Chronos2Task> {
    let weights = directory.join("model.safetensors");
    let finished = weights.exists();
    let network = if finished {
        let specs = model.network.config.tensors()?;
        TrainableChronos2::from_tensors(
            &model.network,
            &read_tensors(&weights, &specs, &Device::Cpu)?,
            &Device::Cpu,
        )?
    } else {
        TrainableChronos2::initialise(&model.network, model.options.seed as u64, &Device::Cpu)?
    };
    eprintln!("network: {} weights", network.parameters().count());
    let task = Chronos2Task::new(network, sources, model.examples.clone(), model.scored)?;
    if !finished {
        let sampler = task.sampler(model.options.seed)?;
        part::train(&task, &sampler, &model.options, directory, &model.network)?;
    }
    Ok(task)
}
