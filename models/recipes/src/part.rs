//! A part of a model: one run of the training loop and the files it leaves.

use crate::error::{Error, Result};
use kronos_models::interrupt::NeverInterrupt;
use kronos_training::artifact::{parameters, safetensors};
use kronos_training::{Checkpoints, Event, Options, Parameter, Progress, Sampler, Trainable};
use serde::Serialize;
use std::fs;
use std::path::Path;
use std::time::Instant;

/// Steps between two checkpoints.
const CHECKPOINT_EVERY: u64 = 200;

/// Trains a part and writes its files.
pub fn train<T: Trainable>(
    task: &T,
    sampler: &Sampler,
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
    let report =
        kronos_training::train(task, sampler, options, Some(&checkpoints), &NeverInterrupt, &mut observe)?;
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
