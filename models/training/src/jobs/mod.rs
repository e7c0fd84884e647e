//! A job from data to artifact.

mod publish;
mod read;

pub use publish::publish;
pub use read::read;

use crate::artifact::{self, DataNote, Draft, Manifest, Version, pretty};
use crate::error::{Result, TrainError};
use crate::tasks::{Adapting, Context, SourceData, Trained, Watcher, task};
use crate::{Panel, data};
use candle_core::Device;
use kronos_job::{Job, JobError, limits};
use kronos_models::artifact::sha256_file;
use kronos_models::interrupt::Interrupt;
use serde_json::{Map, Value, json};
use std::fs;
use std::path::Path;

/// Reads the rows of a job's sources, whose files lie below `folder`.
///
/// # Errors
/// As [`data::read`]; [`TrainError::Job`] for a job without sources.
pub fn read_sources(job: &Job, folder: &Path) -> Result<Vec<Panel>> {
    if job.sources.is_empty() {
        return Err(JobError::Invalid("there is no source".into()).into());
    }
    // Before markets are simulated by what the job says.
    job.check(limits::machine())?;
    job.sources.iter().map(|source| data::read(source, folder)).collect()
}

/// How a job is run.
#[derive(Debug, Clone, Copy)]
pub struct Run<'a> {
    /// Folder of artifacts.
    pub out: &'a Path,
    /// What repeats the run, kept in the artifact.
    pub command: &'a str,
    /// The part of the model after which it ends.
    pub until: Option<&'a str>,
}

/// What a job leaves.
#[derive(Debug)]
pub struct Finished {
    /// The artifact.
    pub version: Version,
    /// Options that the model is registered with.
    pub registration: Value,
}

/// Trains a job on `panels`, one per source, and writes its artifact below the folder of artifacts.
///
/// The checkpoint is `<out>/<name>/checkpoint.safetensors`, that of a part that is trained before the last one in a folder beside it:
/// the same job started again goes on from there, and removes them when the artifact is written.
///
/// # Errors
/// Whatever the job, the data or the training give rise to; a cancelled one has left a checkpoint.
pub fn train(
    job: &Job,
    panels: Vec<Panel>,
    run: Run<'_>,
    interrupt: &dyn Interrupt,
    watcher: &mut dyn Watcher,
) -> Result<Finished> {
    let home = run.out.join(&job.name);
    let note = check(job, &panels)?;
    fs::create_dir_all(&home).map_err(|error| crate::checkpoint::failed(&home, error))?;
    watcher.say(&format!("{} rows of {} series", note.rows, note.series));
    let mut context = Context {
        home,
        checkpoint_every: job.checkpoint_every,
        interrupt,
        watcher,
        device: device(job)?,
        finished: None,
        until: run.until,
        adapter: adapting(job)?,
        adapter_files: Vec::new(),
        checkpoints: Vec::new(),
    };
    let trained = (task(&job.family)?.train)(job, sources(job, panels), &mut context)?;
    let metrics = metrics(&trained);
    let Trained { mut files, weights, registration, train_cutoff, .. } = trained;
    files.append(&mut context.adapter_files);
    files.push((JOB.into(), pretty(job)?));
    let manifest = Manifest {
        name: job.name.clone(),
        family: job.family.clone(),
        train_cutoff: job.train_cutoff.clone().or(train_cutoff.map(data::day)),
        licence: job.licence.clone(),
        data: note,
        seed: job.train.seed,
        command: run.command.to_owned(),
        options: registration.as_object().cloned().unwrap_or_default(),
        files: Default::default(),
    };
    let version = Draft { manifest, weights, files, metrics }.write(run.out)?;
    for checkpoints in &context.checkpoints {
        checkpoints.clear()?;
    }
    Ok(Finished { version, registration })
}

/// The file of an artifact that says what the job was.
const JOB: &str = "job.json";

/// Scores the chosen version of a job's model below `out` as the job says, without training.
///
/// # Errors
/// As [`train`]; [`TrainError::Job`] when there is no version.
pub fn look(
    job: &Job,
    panels: Vec<Panel>,
    out: &Path,
    interrupt: &dyn Interrupt,
    watcher: &mut dyn Watcher,
) -> Result<Trained> {
    check(job, &panels)?;
    let version = artifact::chosen(out, &job.name)?;
    let mut context = Context {
        home: out.join(&job.name),
        checkpoint_every: job.checkpoint_every,
        interrupt,
        watcher,
        device: device(job)?,
        finished: Some(&version),
        until: None,
        adapter: None,
        adapter_files: Vec::new(),
        checkpoints: Vec::new(),
    };
    (task(&job.family)?.train)(job, sources(job, panels), &mut context)
}

/// The adapter that a job asks for, on the weights that it goes on from.
fn adapting(job: &Job) -> Result<Option<Adapting<'_>>> {
    let (Some(options), Some(from)) = (&job.adapter, &job.from) else { return Ok(None) };
    let family = kronos_job::family(&job.family)?;
    let place = |part: &kronos_job::Part| {
        Some((part.directory, Path::new(job.model.get(part.option)?.as_str()?).to_path_buf()))
    };
    let parts = family.parts.iter().filter_map(place).collect();
    let weights = from.join(publish::described(&job.family, from, &parts)?.weights);
    Ok(Some(Adapting { options, tables: family.tables, base_sha256: sha256_file(&weights)? }))
}

/// Checks a job and the size of its rows, before any memory is taken by what it says.
fn check(job: &Job, panels: &[Panel]) -> Result<DataNote> {
    job.check(limits::machine())?;
    limits::data(panels.iter().map(numbers).sum(), limits::machine())?;
    let prints: Vec<String> = panels.iter().map(Panel::fingerprint).collect();
    Ok(DataNote {
        source: job.data.clone(),
        fingerprint: prints.join(" "),
        series: panels.iter().map(|panel| panel.series.len()).sum(),
        rows: panels.iter().map(Panel::rows).sum(),
    })
}

fn sources(job: &Job, panels: Vec<Panel>) -> Vec<SourceData> {
    let sources = job.sources.iter().cloned().zip(panels);
    sources.map(|(options, panel)| SourceData { options, panel }).collect()
}

/// `METRICS.json`.
fn metrics(trained: &Trained) -> Value {
    let Trained { report, windows, validation, test, notes, .. } = trained;
    let mut metrics = Map::from_iter([
        ("windows".to_owned(), windows.clone()),
        ("steps".to_owned(), json!(report.steps)),
        ("best_step".to_owned(), json!(report.best_step)),
        ("stopped_early".to_owned(), json!(report.stopped_early)),
        ("validation".to_owned(), json!({"loss": report.best_loss, "scores": validation})),
        ("test".to_owned(), json!(test)),
        ("history".to_owned(), json!(report.lines())),
    ]);
    metrics.extend(notes.clone());
    Value::Object(metrics)
}

/// Numbers of a panel, times included.
fn numbers(panel: &Panel) -> u64 {
    panel.rows() as u64 * (panel.columns.len() as u64 + 1)
}

/// The device of a job.
///
/// # Errors
/// [`TrainError::Job`] for a name that is none; a backend error without such a device.
fn device(job: &Job) -> Result<Device> {
    match job.device_number()? {
        None => Ok(Device::Cpu),
        Some(number) => Ok(Device::new_cuda(number).map_err(TrainError::from)?),
    }
}
