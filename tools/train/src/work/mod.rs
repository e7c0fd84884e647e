//! Running the jobs of `kronos.train_model()`: a process of its own beside the server, in whose model directory it writes.
//!
//! A job is a row of the queue, and so are the rows that it learns from: nothing is read in anybody's name. A worker that dies
//! gives its job back with its session, and the next one goes on from the checkpoint; after some such ends the job is given up.

mod login;
mod origin;
mod queue;
mod read;
mod report;

use crate::error::{Error, Result};
use crate::progress::{Audience, Timed};
use kronos_job::limits::machine;
use kronos_models::error::ModelError;
use kronos_models::interrupt::Interrupt;
use kronos_training::artifact;
use kronos_training::jobs::{self, Finished, Run};
use kronos_training::rank::rank_best_fit;
use origin::{Directories, Origin};
use postgres::{Client, NoTls};
use queue::{End, Found, Model, Request};
use report::Reporter;
use serde_json::json;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Folder below the model directory.
const FOLDER: &str = "trained";

/// How the worker works.
pub struct Worker {
    /// Connection string.
    pub database: String,
    /// `kronos.model_dir` of the server; asked of the server where absent.
    pub model_dir: Option<PathBuf>,
    /// Whether it ends when no job is left.
    pub once: bool,
    /// How often it looks for jobs.
    pub poll: Duration,
}

/// Asked between steps: a signal to the process, or the wish of whoever asked for the job.
struct Stop<'a> {
    signal: &'a AtomicBool,
    cancel: AtomicBool,
    lost: AtomicBool,
}

impl Interrupt for Stop<'_> {
    fn check(&self) -> kronos_models::Result<()> {
        let stop = [self.signal, &self.cancel, &self.lost].iter().any(|flag| flag.load(Ordering::Relaxed));
        if stop { Err(ModelError::Cancelled) } else { Ok(()) }
    }
}

impl Worker {
    /// Works until `signal` is set or, if so asked, no job is left.
    ///
    /// # Errors
    /// [`Error::Worker`] for a role that is not to work; [`Error::Database`] when the server cannot be reached; a failed job is no
    /// error.
    pub fn run(&self, signal: &AtomicBool) -> Result<()> {
        let mut client = connect(&self.database)?;
        login::check(&mut client)?;
        let directories = Directories::of(&mut client, self.model_dir.as_deref())?;
        while !signal.load(Ordering::Relaxed) {
            match queue::claim(&mut client)? {
                Some(Found::Job(request)) => job(&mut client, &request, &directories, signal)?,
                Some(Found::GivenUp(name)) => clear(&folder(&directories.models, &name)),
                None if self.once => break,
                None => wait(self.poll, signal),
            }
        }
        Ok(())
    }
}

/// Runs one job and tells how it ended.
fn job(client: &mut Client, request: &Request, directories: &Directories, signal: &AtomicBool) -> Result<()> {
    let stop = Stop { signal, cancel: AtomicBool::new(false), lost: AtomicBool::new(false) };
    let mut reporter = Reporter::new(client, request.job_id, &stop.cancel, &stop.lost)?;
    let ended = train(request, directories, &stop, &mut reporter);
    let end = match &ended {
        Ok(()) => return Ok(()),
        Err(error) if error.is_cancelled() => match stop.cancel.load(Ordering::Relaxed) {
            true => End::Cancelled,
            false => End::Released,
        },
        Err(error) => End::Failed(error),
    };
    if stop.lost.load(Ordering::Relaxed) {
        // The job stays as it is: the server has gone, or another worker has it.
        return Ok(());
    }
    queue::end(client, request, &end)?;
    if !matches!(end, End::Released) {
        clear(&folder(&directories.models, &request.folder));
    }
    Ok(())
}

fn connect(database: &str) -> Result<Client> {
    let mut config: postgres::Config = database.parse()?;
    config.application_name("kronos-train");
    let mut client = config.connect(NoTls)?;
    // A session has its job for as long as it lives, and a step may take long.
    client.batch_execute(
        "set search_path = pg_catalog, pg_temp; set timezone = 'UTC'; set client_min_messages = warning;
         set idle_session_timeout = 0",
    )?;
    Ok(client)
}

fn wait(time: Duration, signal: &AtomicBool) {
    let until = Instant::now() + time;
    while Instant::now() < until && !signal.load(Ordering::Relaxed) {
        std::thread::sleep(Duration::from_millis(100).min(time));
    }
}

/// Where the artifacts of a job lie: a folder of its own, since databases that share the directory number their jobs alike.
fn folder(directory: &Path, name: &str) -> PathBuf {
    directory.join(FOLDER).join(name)
}

/// Removes what is left of a job, which is of no use to anybody.
fn clear(folder: &Path) {
    // A folder that was never made is none of our business.
    let _ = std::fs::remove_dir_all(folder);
}

/// Trains, registers, and tells so.
fn train(
    request: &Request,
    directories: &Directories,
    stop: &Stop<'_>,
    reporter: &mut Reporter<'_>,
) -> Result<()> {
    stop.check()?;
    let options = request.options.as_ref().map_err(|reason| Error::job(reason.as_str()))?;
    let asked = kronos_job::Request {
        name: &request.name,
        family: &request.family,
        targets: &request.targets,
        options,
    };
    let mut job = asked.job(machine())?;
    let rank = asked.rank()?;
    if request.attempt > 1 {
        reporter
            .say(&format!("the worker before this one ended without a word; attempt {}", request.attempt));
    }
    if let Some(model) = asked.from()? {
        let origin = Origin::of(reporter.client, model, kronos_job::family(&request.family)?, directories)?;
        job.from = Some(origin.model);
        job.model.extend(origin.parts.into_iter().map(|(option, path)| (option.to_owned(), json!(path))));
    }
    let panel = read::rows(reporter.client, request.job_id, &request.targets)?;
    let out = folder(&directories.models, &request.folder);
    let command = format!("kronos.train_model(), job {}", request.job_id);
    let run = Run { out: &out, command: &command, until: None };
    let finished = jobs::train(&job, vec![panel.clone()], run, stop, &mut Timed::new(reporter))?;
    let Finished { version, registration } = finished;
    let fits = match rank {
        Some(rank) => rank_best_fit(&job, &[panel], &out, rank, stop)?,
        None => Vec::new(),
    };
    let manifest = artifact::open(&version.directory)?;
    let model = Model {
        uri: format!("{FOLDER}/{}/{}/{}", request.folder, request.name, version.digest),
        sha256: &version.sha256,
        cutoff: manifest.as_ref().and_then(|manifest| manifest.train_cutoff.clone()),
        licence: &job.licence,
        options: registration.to_string(),
    };
    queue::end(reporter.client, request, &End::Done { model, fits: &fits })
}
