//! Running the jobs of `kronos.train_model()`: a process of its own beside the server, in whose model directory it writes.
//!
//! A job is taken by an advisory lock on its number, held by the connection: a worker that dies gives its job back with the
//! connection, and the next one goes on from the checkpoint. Rows are read as the role that asked, in a transaction that
//! cannot write.

mod origin;
mod read;
mod report;

use crate::error::{Error, Result};
use crate::job::{Job, SourceOptions};
use crate::rank::{BestFit, DAYS, rank_best_fit};
use crate::run;
use kronos_models::error::ModelError;
use kronos_models::interrupt::Interrupt;
use kronos_models::train::artifact;
use postgres::{Client, NoTls};
use report::Reporter;
use serde_json::{Map, Value, json};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// First key of the advisory locks, so that they meet no other's.
const LOCK: i32 = 0x6b72_7472;

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

/// A job as it was asked for.
struct Request {
    job_id: i64,
    name: String,
    family: String,
    relation: u32,
    targets: Vec<String>,
    options: Map<String, Value>,
    requested_by: String,
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
    /// [`Error::Database`] when the server cannot be reached or has no `training.jobs`; a failed job is no error.
    pub fn run(&self, signal: &AtomicBool) -> Result<()> {
        let mut client = connect(&self.database)?;
        let directory = match &self.model_dir {
            Some(directory) => directory.clone(),
            None => asked(&mut client)?,
        };
        while !signal.load(Ordering::Relaxed) {
            match claim(&mut client)? {
                Some(request) => {
                    self.job(&mut client, &request, &directory, signal)?;
                    client
                        .execute("select pg_advisory_unlock($1, $2)", &[&LOCK, &(request.job_id as i32)])?;
                }
                None if self.once => break,
                None => wait(self.poll, signal),
            }
        }
        Ok(())
    }

    /// Runs one job and tells how it ended.
    fn job(
        &self,
        client: &mut Client,
        request: &Request,
        directory: &Path,
        signal: &AtomicBool,
    ) -> Result<()> {
        let stop = Stop { signal, cancel: AtomicBool::new(false), lost: AtomicBool::new(false) };
        // Progress is told on a connection of its own: the first one holds the lock and reads.
        let mut reporter = Reporter::new(connect(&self.database)?, request.job_id, &stop.cancel, &stop.lost)?;
        let trained = train(client, request, directory, &stop, &mut reporter);
        let (state, sqlstate, message) = match &trained {
            Ok(_) => ("done", None, None),
            Err(error) if error.is_cancelled() => match stop.cancel.load(Ordering::Relaxed) {
                true => ("cancelled", None, None),
                // The process is to end, or the server has gone: the job stays as it is and is taken up again.
                false => return Ok(()),
            },
            Err(error) => ("failed", error.sqlstate().map(str::to_owned), Some(error.to_string())),
        };
        if state != "done" {
            // What is left of it is of no use to anybody. A folder that was never made is none of our business.
            let _ = std::fs::remove_dir_all(folder(directory, request));
        }
        let version = trained.ok();
        client.execute(
            "update training.jobs set state = $2, sqlstate = $3, message = $4, model_version = $5, remaining = null,
                    ended_at = clock_timestamp(), updated_at = clock_timestamp() where job_id = $1",
            &[&request.job_id, &state, &sqlstate, &message, &version],
        )?;
        Ok(())
    }
}

fn connect(database: &str) -> Result<Client> {
    let mut config: postgres::Config = database.parse()?;
    config.application_name("kronos-train");
    let mut client = config.connect(NoTls)?;
    client.batch_execute(
        "set search_path = pg_catalog; set timezone = 'UTC'; set client_min_messages = warning",
    )?;
    Ok(client)
}

/// The server's own word for its model directory.
fn asked(client: &mut Client) -> Result<PathBuf> {
    // The settings of the extension are known once its library is loaded.
    let sql = "select current_setting('kronos.model_dir', true), current_setting('data_directory', true)
               from kronos.version()";
    let row = client.query_one(sql, &[])?;
    let (directory, data): (Option<String>, Option<String>) = (row.get(0), row.get(1));
    let directory = directory
        .ok_or_else(|| Error::Job("the server does not tell kronos.model_dir; pass --model-dir".into()))?;
    match directory.strip_prefix("$data") {
        None => Ok(PathBuf::from(directory)),
        Some(rest) => {
            let data = data.ok_or_else(|| {
                Error::Job("the server does not tell its data directory; pass --model-dir".into())
            })?;
            Ok(PathBuf::from(format!("{data}{rest}")))
        }
    }
}

/// Takes the oldest job that no other worker has.
fn claim(client: &mut Client) -> Result<Option<Request>> {
    let open = "select job_id from training.jobs where state in ('queued', 'running') order by job_id";
    for row in client.query(open, &[])? {
        let job_id: i64 = row.get(0);
        let locked = client.query_one("select pg_try_advisory_lock($1, $2)", &[&LOCK, &(job_id as i32)])?;
        if !locked.get::<_, bool>(0) {
            continue;
        }
        // Another worker may have ended it between the two questions.
        let taken = client.query_opt(
            "update training.jobs set state = 'running', started_at = coalesce(started_at, clock_timestamp()),
                    updated_at = clock_timestamp()
             where job_id = $1 and state in ('queued', 'running')
             returning name, family, relation::oid, targets, options::text, requested_by",
            &[&job_id],
        )?;
        let Some(row) = taken else {
            client.execute("select pg_advisory_unlock($1, $2)", &[&LOCK, &(job_id as i32)])?;
            continue;
        };
        let options = match serde_json::from_str(row.get(4)) {
            Ok(Value::Object(options)) => options,
            _ => Map::new(),
        };
        return Ok(Some(Request {
            job_id,
            name: row.get(0),
            family: row.get(1),
            relation: row.get(2),
            targets: row.get(3),
            options,
            requested_by: row.get(5),
        }));
    }
    Ok(None)
}

fn wait(time: Duration, signal: &AtomicBool) {
    let until = Instant::now() + time;
    while Instant::now() < until && !signal.load(Ordering::Relaxed) {
        std::thread::sleep(Duration::from_millis(100).min(time));
    }
}

/// Where the artifacts of a job lie; jobs of different people must not meet.
fn folder(directory: &Path, request: &Request) -> PathBuf {
    directory.join(FOLDER).join(request.job_id.to_string())
}

/// What a job asks for, as the job of a file would say it.
fn job(request: &Request, time_col: String, series_col: Option<String>) -> Result<Job> {
    let mut options = request.options.clone();
    for key in ["time_col", "series_col", "rank", "from"] {
        options.remove(key);
    }
    let only_series = options.remove("only_series").filter(|value| !value.is_null());
    let until = options.remove("until").filter(|value| !value.is_null());
    let source = json!({"time_col": time_col, "series_col": series_col, "targets": request.targets,
                        "only_series": only_series, "until": until});
    options.insert("name".into(), json!(request.name));
    options.insert("family".into(), json!(request.family));
    options.insert("sources".into(), json!([source]));
    options.entry("data").or_insert_with(|| json!(format!("relation with the oid {}", request.relation)));
    Ok(Job::from_json(Value::Object(options))?)
}

/// Reads, trains, registers; the version in the catalogue.
fn train(
    client: &mut Client,
    request: &Request,
    directory: &Path,
    stop: &Stop<'_>,
    reporter: &mut Reporter<'_>,
) -> Result<String> {
    stop.check()?;
    let text = |key: &str| request.options.get(key).and_then(Value::as_str);
    let rank = request.options.get("rank").map(rank_options).transpose()?;
    let relation = read::Relation::open(client, request.relation, &request.requested_by, &request.targets)?;
    let (time_col, series_col) = relation.columns(text("time_col"), text("series_col"))?;
    let mut job = job(request, time_col, series_col)?;
    if let Some(model) = text("from") {
        let origin = origin::Origin::of(client, model, &request.family, directory)?;
        job.from = Some(origin.model);
        if let Some(tokenizer) = origin.tokenizer {
            job.model.insert("tokenizer_from".into(), json!(tokenizer));
        }
    }
    let source: &SourceOptions = &job.sources[0];
    let panel = relation.read(client, source)?;
    let out = folder(directory, request);
    let command = format!("kronos.train_model(), job {}", request.job_id);
    let run::Finished { version, registration } =
        run::run(&job, vec![panel.clone()], &out, &command, stop, reporter)?;
    let ranked = match rank {
        Some(options) => rank_best_fit(&job, &[panel], &out, options, stop)?,
        None => Vec::new(),
    };
    let manifest = artifact::open(&version.directory)?;
    let cutoff = manifest.as_ref().and_then(|manifest| manifest.train_cutoff.clone());
    let uri = format!("{FOLDER}/{}/{}/{}", request.job_id, request.name, version.digest);
    let mut transaction = client.transaction()?;
    transaction.batch_execute(&format!("set local role {}", quoted(&request.requested_by)))?;
    let row = transaction.query_one(
        "select kronos.register_model($1, $2, $3, $4, $5::text::date, $6, $7::text::jsonb)",
        &[
            &request.name,
            &request.family,
            &uri,
            &version.sha256,
            &cutoff,
            &job.licence,
            &registration.to_string(),
        ],
    )?;
    transaction.commit()?;
    keep(client, request.job_id, &ranked)?;
    Ok(row.get(0))
}

/// Step that is judged and length of the list.
fn rank_options(value: &Value) -> Result<(usize, usize)> {
    #[derive(serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Options {
        #[serde(default = "one")]
        step: usize,
        #[serde(default = "hundred")]
        top: usize,
    }
    fn one() -> usize {
        1
    }
    fn hundred() -> usize {
        100
    }
    let options: Options =
        serde_json::from_value(value.clone()).map_err(|error| Error::Job(format!("rank: {error}")))?;
    Ok((options.step, options.top))
}

/// Writes the list of a job, in place of one that a worker left unfinished.
fn keep(client: &mut Client, job_id: i64, fits: &[BestFit]) -> Result<()> {
    let mut transaction = client.transaction()?;
    transaction.execute("delete from training.best_fits where job_id = $1", &[&job_id])?;
    let insert = transaction.prepare(
        "insert into training.best_fits (job_id, rank, series, days, n, mae, mae_over_naive, directional_accuracy)
         values ($1, $2, $3, $4, $5, $6, $7, $8)",
    )?;
    for fit in fits {
        for (span, days) in DAYS.iter().enumerate() {
            // Without any movement in the span there is no error of the last value to divide by.
            let ratio = Some(fit.mae_over_naive[span]).filter(|ratio| ratio.is_finite());
            transaction.execute(
                &insert,
                &[
                    &job_id,
                    &(fit.rank as i32),
                    &fit.series,
                    &(*days as i32),
                    &(fit.n[span] as i32),
                    &fit.mae[span],
                    &ratio,
                    &fit.directional_accuracy[span],
                ],
            )?;
        }
    }
    Ok(transaction.commit()?)
}

/// An identifier as SQL writes it.
fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
