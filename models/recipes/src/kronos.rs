//! Recipes of Kronos models.

use crate::data::{Bars, check_cutoff, split};
use crate::error::Result;
use crate::evaluate::{self, CLOSE, LEVELS, Line};
use crate::part;
use crate::publish::Artifact;
use crate::recipe::{KronosRecipe, Recipe};
use crate::{Arguments, Command};
use candle_core::Device;
use kronos_models::artifact::{Tensors, read_tensors};
use kronos_models::bars::{BarOptions, BarRequest, Sampling, Window as Sliding};
use kronos_models::interrupt::NeverInterrupt;
use kronos_models::kronos::Kronos;
use kronos_models::quantile::quantile;
use kronos_models::random::Stream;
use kronos_training::kronos::{
    BarSource, BarSources, ForecastRule, PredictorTask, TokenizerTask, TrainablePredictor, TrainableTokenizer,
};
use kronos_training::{Split, Window};
use serde_json::json;
use std::path::Path;

pub fn run(recipe: &Recipe, model: &KronosRecipe, arguments: &Arguments) -> Result<()> {
    let Loaded { data, splits } = load(recipe, model, &arguments.data)?;
    let parts = Parts { model, data: &data, work: &arguments.work };
    match &arguments.command {
        Command::Train { only } => {
            let tokenizer = parts.tokenizer()?;
            if only.as_deref() == Some("tokenizer") {
                return Ok(());
            }
            parts.predictor(tokenizer).map(|_| ())
        }
        Command::Score { temperatures, paths } => {
            let task = parts.predictor(parts.tokenizer()?)?;
            for &temperature in temperatures {
                let rule = ForecastRule { temperature, paths: *paths, ..model.forecasts };
                for score in task.score(rule, &NeverInterrupt)? {
                    println!("{temperature} {score:?}");
                }
            }
            Ok(())
        }
        Command::Evaluate { sources, horizon, windows } => {
            let task = parts.predictor(parts.tokenizer()?)?;
            let lines =
                evaluated(recipe, &task.model()?, model, (&data, &splits), sources, *horizon, *windows)?;
            evaluate::print(&lines);
            Ok(())
        }
        Command::Publish { out } => {
            let task = parts.predictor(parts.tokenizer()?)?;
            let names: Vec<String> = data.sources().iter().map(|source| source.name.clone()).collect();
            let lines = evaluated(
                recipe,
                &task.model()?,
                model,
                (&data, &splits),
                &names,
                model.forecasts.horizon,
                60,
            )?;
            let validation = task.score(ForecastRule { paths: 32, ..model.forecasts }, &NeverInterrupt)?;
            let panels = || data.sources().iter().map(|source| &source.panel);
            let version = Artifact {
                recipe,
                recipe_path: &arguments.recipe,
                family: "kronos",
                weights: "predictor/model.safetensors",
                parts: &[("predictor", "predictor"), ("tokenizer", "tokenizer")],
                work: parts.work,
                seed: model.predictor_options.seed,
                fingerprint: data.fingerprint(),
                size: (panels().map(|panel| panel.series.len()).sum(), panels().map(|panel| panel.rows()).sum()),
                metrics: json!({ "validation": validation, "test": lines }),
                options: json!({ "max_context": model.windows.bars, "temperature": model.forecasts.temperature }),
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
    kronos: &Kronos,
    model: &KronosRecipe,
    (data, splits): (&BarSources, &[Split]),
    names: &[String],
    horizon: usize,
    count: usize,
) -> Result<Vec<Line>> {
    let context = model.windows.most_context;
    let options = BarOptions {
        samples: 100,
        sampling: Sampling::new(model.forecasts.temperature, 0, 1.0)?,
        window: Sliding::Shorten,
        memory_limit: 1 << 30,
    };
    let mut lines = Vec::new();
    for (source, split) in data.sources().iter().zip(splits) {
        if !names.contains(&source.name) {
            continue;
        }
        let Ok(windows) = evaluate::windows(&source.panel, split, context, horizon, count) else { continue };
        let request = |(index, window): (usize, &Window)| {
            let cut = source.window(*window, context, context + horizon);
            let stream = Stream::from_key(index as u64);
            BarRequest { bars: cut.bars[..context].to_vec(), stamps: cut.stamps, horizon, stream }
        };
        let requests: Vec<BarRequest> = windows.iter().enumerate().map(request).collect();
        let mut forecasts = Vec::with_capacity(windows.len());
        for paths in kronos.forecast(&requests, &options, &NeverInterrupt)? {
            let paths = paths?;
            let closes: Vec<Vec<f64>> = (0..horizon)
                .map(|step| {
                    let mut closes: Vec<f64> =
                        (0..paths.samples()).map(|path| paths.bar(path, step)[CLOSE]).collect();
                    closes.sort_by(f64::total_cmp);
                    closes
                })
                .collect();
            let level = |&level: &f64| closes.iter().map(|closes| quantile(closes, level)).collect();
            forecasts.push(LEVELS.iter().map(level).collect());
        }
        let place = (&source.panel, windows.as_slice());
        lines.extend(evaluate::compare(&source.name, place, (context, horizon), (&recipe.name, forecasts))?);
    }
    Ok(lines)
}

/// Panels with their windows, and how each was split.
struct Loaded {
    data: BarSources,
    splits: Vec<Split>,
}

/// The panels of all sources, with their windows.
fn load(recipe: &Recipe, model: &KronosRecipe, data: &Path) -> Result<Loaded> {
    let rule = &model.windows;
    rule.validate()?;
    let source = |source: &crate::recipe::SourceRecipe| -> Result<(BarSource, Split)> {
        let Bars { panel, stamps } = Bars::of(source, data)?;
        let split = split(source, &panel, rule.bars - rule.least_context)?;
        let made =
            BarSource::new(&source.name, source.weight, panel, stamps, &split, rule, source.validation)?;
        let (series, rows) = (made.panel.series.len(), made.panel.rows());
        eprintln!(
            "{}: {series} series, {rows} rows, {} training windows, {} to choose by",
            made.name,
            made.train.len(),
            made.validation.len()
        );
        check_cutoff(recipe, &made.panel, &split, rule.bars - rule.least_context)?;
        Ok((made, split))
    };
    let loaded: Vec<_> = recipe.sources.iter().map(source).collect::<Result<_>>()?;
    let (sources, splits) = loaded.into_iter().unzip();
    Ok(Loaded { data: BarSources::new(sources, rule.clone()), splits })
}

/// The two parts, each trained once and then read.
struct Parts<'a> {
    model: &'a KronosRecipe,
    data: &'a BarSources,
    work: &'a Path,
}

impl<'a> Parts<'a> {
    fn tokenizer(&self) -> Result<Tensors> {
        let directory = self.work.join("tokenizer");
        let specs = self.model.tokenizer.config.tensors()?;
        if !directory.join("model.safetensors").exists() {
            let options = &self.model.tokenizer_options;
            let network =
                TrainableTokenizer::initialise(&self.model.tokenizer, options.seed as u64, &Device::Cpu)?;
            eprintln!("tokenizer: {} weights", network.parameters().count());
            let task = TokenizerTask::new(network, self.data, self.model.channel_weights, &Device::Cpu);
            part::train(
                &task,
                &self.data.sampler(options.seed)?,
                options,
                &directory,
                &self.model.tokenizer,
            )?;
        }
        Ok(read_tensors(&directory.join("model.safetensors"), &specs, &Device::Cpu)?)
    }

    fn predictor(&self, tokenizer: Tensors) -> Result<PredictorTask<'a>> {
        let KronosRecipe { predictor, predictor_options: options, condition, forecasts, .. } = self.model;
        let directory = self.work.join("predictor");
        let specs = predictor.config.tensors()?;
        let weights = directory.join("model.safetensors");
        let finished = weights.exists();
        let network = if finished {
            TrainablePredictor::from_tensors(
                predictor,
                &read_tensors(&weights, &specs, &Device::Cpu)?,
                &Device::Cpu,
            )?
        } else {
            TrainablePredictor::initialise(predictor, options.seed as u64, &Device::Cpu)?
        };
        eprintln!("predictor: {} weights", network.parameters().count());
        let tokenizer = (self.model.tokenizer.config.clone(), tokenizer);
        let task = PredictorTask::new(network, tokenizer, *condition, *forecasts, self.data)?;
        if !finished {
            part::train(&task, &self.data.sampler(options.seed)?, options, &directory, predictor)?;
        }
        Ok(task)
    }
}
