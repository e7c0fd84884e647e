//! The queue: taking a job, and telling how it ended.
//!
//! A job belongs to the session that took it, which its row names by process and start. A session that is gone has given the job
//! back, however it ended. No lock is held meanwhile: a lock on a number can be taken by anybody, and a transaction that lasts as long as a
//! training keeps the server from cleaning up.

use super::Request;
use crate::error::{Error, Result};
use crate::rank::{BestFit, DAYS};
use kronos_job::limits::OPTIONS_BYTES;
use postgres::{Client, Row, Transaction};
use serde_json::Value;

/// How often a job is tried whose worker ends without a word.
const ATTEMPTS: i32 = 3;

/// When this session began, with its process an identity that none had before.
const STARTED: &str = "(select a.backend_start from pg_stat_activity a where a.pid = pg_backend_pid())";

/// Whether a job is one that this session took and has not lost since.
pub(super) fn mine() -> String {
    format!("j.state = 'running' and j.worker_pid = pg_backend_pid() and j.worker_started = {STARTED}")
}

/// What is found for a worker to do.
pub(super) enum Found {
    /// A job to be run.
    Job(Box<Request>),
    /// A job that ended its worker too often, and has been marked so: its folder is left.
    GivenUp(String),
}

/// Takes the oldest job that no living session has.
pub(super) fn claim(client: &mut Client) -> Result<Option<Found>> {
    let open = "select job_id from training.jobs where state in ('queued', 'running') order by job_id";
    for row in client.query(open, &[])? {
        let job_id: i64 = row.get(0);
        let mut transaction = client.transaction()?;
        // Locked first and looked at afterwards, by a statement that sees what others have done to it before.
        let lock = "select from training.jobs where job_id = $1 and state in ('queued', 'running') for update skip locked";
        if transaction.query_opt(lock, &[&job_id])?.is_none() {
            continue;
        }
        // Of sessions of other roles the start is not shown; that the process is there must do.
        let free = "select j.attempts, j.folder::text from training.jobs j
                    where j.job_id = $1 and (j.state = 'queued' or not exists (
                      select from pg_stat_activity a
                      where a.pid = j.worker_pid and a.usesysid = j.worker
                        and coalesce(a.backend_start, j.worker_started) = j.worker_started))";
        let Some(row) = transaction.query_opt(free, &[&job_id])? else { continue };
        let (attempts, folder): (i32, String) = (row.get(0), row.get(1));
        let found = match attempts < ATTEMPTS {
            true => Found::Job(Box::new(take(&mut transaction, job_id)?)),
            false => {
                give_up(&mut transaction, job_id)?;
                Found::GivenUp(format!("{job_id}-{folder}"))
            }
        };
        transaction.commit()?;
        return Ok(Some(found));
    }
    Ok(None)
}

fn take(transaction: &mut Transaction<'_>, job_id: i64) -> Result<Request> {
    let sql = format!(
        "update training.jobs set state = 'running', attempts = attempts + 1,
                worker = to_regrole(quote_ident(current_user)), worker_pid = pg_backend_pid(), worker_started = {STARTED},
                started_at = coalesce(started_at, clock_timestamp()), updated_at = clock_timestamp()
         where job_id = $1
         returning name, family, targets, left(options::text, {}), folder::text, attempts",
        OPTIONS_BYTES + 1
    );
    request(job_id, &transaction.query_one(&sql, &[&job_id])?)
}

/// A row of the queue; what is wrong with its options is found where the job is made of them.
fn request(job_id: i64, row: &Row) -> Result<Request> {
    let options: String = row.get(3);
    let options = match options.len() > OPTIONS_BYTES {
        true => Err(format!("options must have at most {OPTIONS_BYTES} bytes")),
        false => match serde_json::from_str(&options) {
            Ok(Value::Object(options)) => Ok(options),
            Ok(_) => Err("options must be a JSON object".into()),
            Err(error) => Err(format!("options: {error}")),
        },
    };
    Ok(Request {
        job_id,
        name: row.get(0),
        family: row.get(1),
        targets: row.get(2),
        options,
        folder: format!("{job_id}-{}", row.get::<_, String>(4)),
        attempt: row.get(5),
    })
}

fn give_up(transaction: &mut Transaction<'_>, job_id: i64) -> Result<()> {
    transaction.execute(
        "update training.jobs set state = 'failed', remaining = null, ended_at = clock_timestamp(), updated_at = clock_timestamp(),
                message = format('given up after %s attempts: each time the worker ended without a word, as a process does that the '
                                 'system kills for want of memory%s', attempts,
                                 (select '; it last said: ' || m.message from training.messages m
                                  where m.job_id = jobs.job_id order by m.line desc limit 1))
         where job_id = $1",
        &[&job_id],
    )?;
    forget(transaction, job_id)
}

/// How a job ended.
pub(super) enum End<'a> {
    /// With artifacts that are a model now; and the series that it forecasts best.
    Done {
        /// What `kronos.register_model()` is told, beside name and family.
        model: Model<'a>,
        /// The list.
        fits: &'a [BestFit],
    },
    /// Whoever asked wanted it no more.
    Cancelled,
    /// With an error.
    Failed(&'a Error),
    /// Not at all: the process is to end, and another one goes on.
    Released,
}

/// A model to be registered.
pub(super) struct Model<'a> {
    /// Its folder below the model directory.
    pub(super) uri: String,
    /// Digest of its weights.
    pub(super) sha256: &'a str,
    /// Day after which it has seen nothing.
    pub(super) cutoff: Option<String>,
    /// Licence of the weights.
    pub(super) licence: &'a str,
    /// Options of its family.
    pub(super) options: String,
}

/// Tells how a job of this session ended, all at once. A job that is another's by now is left to it.
pub(super) fn end(client: &mut Client, request: &Request, end: &End<'_>) -> Result<()> {
    let mut transaction = client.transaction()?;
    let lock = format!("select from training.jobs j where j.job_id = $1 and {} for update", mine());
    if transaction.query_opt(&lock, &[&request.job_id])?.is_none() {
        return Ok(());
    }
    let (state, sqlstate, message, version) = match end {
        End::Released => {
            // An end that was asked for is no failed attempt.
            transaction.execute(
                "update training.jobs set state = 'queued', attempts = attempts - 1, worker = null, worker_pid = null,
                        worker_started = null, updated_at = clock_timestamp()
                 where job_id = $1",
                &[&request.job_id],
            )?;
            return Ok(transaction.commit()?);
        }
        End::Cancelled => ("cancelled", None, None, None),
        End::Failed(error) => ("failed", error.sqlstate().map(str::to_owned), Some(error.to_string()), None),
        End::Done { model, fits } => {
            let version = register(&mut transaction, request, model)?;
            keep(&mut transaction, request.job_id, fits)?;
            ("done", None, None, Some(version))
        }
    };
    transaction.execute(
        "update training.jobs set state = $2, sqlstate = $3, message = $4, model_version = $5, remaining = null,
                ended_at = clock_timestamp(), updated_at = clock_timestamp() where job_id = $1",
        &[&request.job_id, &state, &sqlstate, &message, &version],
    )?;
    forget(&mut transaction, request.job_id)?;
    Ok(transaction.commit()?)
}

/// Registers the model for whoever asked, who must still be one that may.
fn register(transaction: &mut Transaction<'_>, request: &Request, model: &Model<'_>) -> Result<String> {
    let sql = "select pg_get_userbyid(requester)::text,
                      has_function_privilege(requester, 'kronos.register_model(text, text, text, text, date, text, jsonb)', 'EXECUTE')
               from training.jobs where job_id = $1";
    let row = transaction.query_one(sql, &[&request.job_id])?;
    if row.get::<_, Option<bool>>(1) != Some(true) {
        return Err(Error::Job(format!(
            "role \"{}\" may not register models any more",
            row.get::<_, String>(0)
        )));
    }
    let row = transaction.query_one(
        "select kronos.register_model($1, $2, $3, $4, $5::text::date, $6, $7::text::jsonb)",
        &[
            &request.name,
            &request.family,
            &model.uri,
            &model.sha256,
            &model.cutoff,
            &model.licence,
            &model.options,
        ],
    )?;
    Ok(row.get(0))
}

/// Removes the rows that a job learnt from, which nobody needs any more.
fn forget(transaction: &mut Transaction<'_>, job_id: i64) -> Result<()> {
    transaction.execute("delete from training.series where job_id = $1", &[&job_id])?;
    Ok(())
}

/// Writes the list of a job.
fn keep(transaction: &mut Transaction<'_>, job_id: i64, fits: &[BestFit]) -> Result<()> {
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
    Ok(())
}
