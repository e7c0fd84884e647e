//! Recipes of Kronos models.

use crate::data::{Bars, split};
use crate::error::{Error, Result};
use crate::recipe::{KronosRecipe, Recipe};
use crate::{Arguments, Command};
use candle_core::Device;
use kronos_models::artifact::{Tensors, read_tensors};
use kronos_models::interrupt::NeverInterrupt;
use kronos_models::kronos::training::{
    BarSource, BarSources, ForecastRule, PredictorTask, TokenizerTask, TrainablePredictor, TrainableTokenizer,
};
use kronos_models::train::artifact::{parameters, safetensors};
use kronos_models::train::{Checkpoints, Event, Options, Parameter, Progress, Trainable, train};
use serde::Serialize;
use std::fs;
use std::path::Path;
use std::time::Instant;

/// Steps between two checkpoints.
const CHECKPOINT_EVERY: u64 = 200;

pub fn run(recipe: &Recipe, model: &KronosRecipe, arguments: &Arguments) -> Result<()> {
    let data = load(recipe, model, &arguments.data)?;
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
    }
}

/// The panels of all sources, with their windows.
fn load(recipe: &Recipe, model: &KronosRecipe, data: &Path) -> Result<BarSources> {
    let rule = &model.windows;
    rule.validate()?;
    let source = |source: &crate::recipe::SourceRecipe| -> Result<BarSource> {
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
        Ok(made)
    };
    let sources = recipe.sources.iter().map(source).collect::<Result<_>>()?;
    Ok(BarSources::new(sources, rule.clone()))
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
            let task = TokenizerTask::new(network, self.data, &Device::Cpu);
            finish(&task, self.data, options, &directory, &self.model.tokenizer)?;
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
            finish(&task, self.data, options, &directory, predictor)?;
        }
        Ok(task)
    }
}

/// Trains a part and writes its files.
fn finish<T: Trainable>(
    task: &T,
    data: &BarSources,
    options: &Options,
    directory: &Path,
    config: &impl Serialize,
) -> Result<()> {
    fs::create_dir_all(directory).map_err(|error| Error::file(directory, error))?;
    let checkpoints = Checkpoints::new(directory, CHECKPOINT_EVERY);
    let (start, mut progress) = (Instant::now(), Progress::new(options.steps));
    let mut observe = |event: &Event| match event {
        Event::Resumed { step } => eprintln!("goes on after step {step}"),
        Event::Step { step, loss, rate, norm } => {
            let left = progress.note(*step, start.elapsed()).map_or(0, |left| left.as_secs());
            if step.is_multiple_of(50) {
                let pace = progress.steps_per_second().unwrap_or_default();
                eprintln!(
                    "step {step} loss {loss:.4} rate {rate:.2e} norm {norm:.2}, {pace:.2}/s, {left} s left"
                );
            }
        }
        Event::Evaluated(evaluation) => eprintln!("{evaluation:?}"),
        Event::Checkpointed { .. } => {}
    };
    let sampler = data.sampler(options.seed)?;
    let report = train(task, &sampler, options, Some(&checkpoints), &NeverInterrupt, &mut observe)?;
    let write = |name: &str, bytes: &[u8]| {
        let path = directory.join(name);
        fs::write(&path, bytes).map_err(|error| Error::file(path, error))
    };
    // Through a value, which sorts the keys as published files do.
    let config = serde_json::to_value(config).and_then(|config| serde_json::to_string_pretty(&config));
    write("config.json", config.map_err(|error| Error::content(directory, error))?.as_bytes())?;
    write("report.txt", format!("{report:#?}\n").as_bytes())?;
    // Last: its presence says that the part is finished.
    let trained: &[Parameter] = task.parameters();
    write("model.safetensors", &safetensors(&parameters(trained)?)?)
}
