//! A job from data to artifact.

use crate::data;
use crate::error::{Error, Result};
use crate::families::{Context, SourceData, Trained, family};
use crate::job::Job;
use crate::progress::{Timed, Watcher};
use candle_core::Device;
use kronos_job::limits;
use kronos_models::interrupt::Interrupt;
use kronos_training::artifact::{DataNote, Draft, Manifest, Version};
use kronos_training::{Checkpoints, Panel};
use serde_json::Value;
use std::fs;
use std::path::Path;

/// Reads the files of a job's sources.
///
/// # Errors
/// As [`data::read`]; [`Error::Job`] for a job without sources.
pub fn read_sources(job: &Job) -> Result<Vec<Panel>> {
    if job.sources.is_empty() {
        return Err(Error::Job("there is no source".into()));
    }
    job.sources.iter().map(data::read).collect()
}

/// Trains a job on `panels`, one per source, and writes its artifact below `out`.
///
/// The checkpoint is `<out>/<name>/checkpoint.safetensors`: the same job started again goes on from there, and removes it
/// when the artifact is written. `command` is kept in the artifact as what repeats the run.
///
/// # Errors
/// Whatever the job, the data or the training give rise to; a cancelled one has left a checkpoint.
pub fn run(
    job: &Job,
    panels: Vec<Panel>,
    out: &Path,
    command: &str,
    interrupt: &dyn Interrupt,
    watcher: &mut dyn Watcher,
) -> Result<Finished> {
    let family = family(&job.family)?;
    // Before any memory is taken by what the job says.
    job.check(limits::machine())?;
    limits::data(panels.iter().map(numbers).sum(), limits::machine())?;
    let home = out.join(&job.name);
    fs::create_dir_all(&home).map_err(|source| Error::File { path: home.clone(), source })?;
    let prints: Vec<String> = panels.iter().map(Panel::fingerprint).collect();
    let note = DataNote {
        source: job.data.clone(),
        fingerprint: prints.join(" "),
        series: panels.iter().map(|panel| panel.series.len()).sum(),
        rows: panels.iter().map(Panel::rows).sum(),
    };
    watcher.say(&format!("{} rows of {} series", note.rows, note.series));
    let sources = job.sources.iter().cloned().zip(panels);
    let sources = sources.map(|(options, panel)| SourceData { options, panel }).collect();
    let checkpoints = Checkpoints::new(&home, job.checkpoint_every);
    let trained = {
        let mut timed = Timed::new(watcher);
        let mut context =
            Context { checkpoints: &checkpoints, interrupt, timed: &mut timed, device: device(job)? };
        (family.train)(job, sources, &mut context)?
    };
    let manifest = Manifest {
        name: job.name.clone(),
        family: job.family.clone(),
        train_cutoff: trained.train_cutoff.map(data::day),
        licence: job.licence.clone(),
        data: note,
        seed: job.train.seed,
        command: command.to_owned(),
        files: Default::default(),
    };
    let Trained { files, weights, metrics, registration, parts, .. } = trained;
    let draft = Draft { manifest, weights, files, metrics };
    let version = draft.write(out)?;
    checkpoints.clear()?;
    for part in &parts {
        part.clear()?;
    }
    Ok(Finished { version, registration })
}

/// What a job leaves.
pub struct Finished {
    /// The artifact.
    pub version: Version,
    /// Options that the model is registered with.
    pub registration: Value,
}

/// Numbers of a panel, times included.
fn numbers(panel: &Panel) -> u64 {
    panel.rows() as u64 * (panel.columns.len() as u64 + 1)
}

/// The device of a job.
///
/// # Errors
/// [`Error::Job`] for a name that is none; a backend error without such a device.
fn device(job: &Job) -> Result<Device> {
    match job.device_number()? {
        None => Ok(Device::Cpu),
        Some(number) => Ok(Device::new_cuda(number).map_err(kronos_models::ModelError::from)?),
    }
}
