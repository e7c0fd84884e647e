//! The queue: taking a job, and telling how it ended.
//!
//! A job belongs to the session that took it; `kronos-queue` has the protocol, here is what is a job's own.

use crate::error::{Error, Result};
use kronos_job::limits::OPTIONS_BYTES;
use kronos_queue::Queue;
use kronos_training::rank::{BestFit, DAYS};
use postgres::{Client, Row, Transaction};
use serde_json::{Map, Value};

/// The jobs.
pub(super) const QUEUE: Queue = Queue { table: "training.jobs", key: "job_id", attempts: 3 };

/// A job as it was asked for.
pub(super) struct Request {
    pub(super) job_id: i64,
    pub(super) name: String,
    pub(super) family: String,
    pub(super) targets: Vec<String>,
    /// What was asked for, or why that cannot be read.
    pub(super) options: Result<Map<String, Value>, String>,
    /// Name of its folder.
    pub(super) folder: String,
    /// Which attempt this is, from 1.
    pub(super) attempt: i32,
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
    for row in client.query(&QUEUE.open(), &[])? {
        let job_id: i64 = row.get(0);
        let mut transaction = client.transaction()?;
        // Locked first and looked at afterwards, by a statement that sees what others have done to it before.
        if transaction.query_opt(&QUEUE.lock(), &[&job_id])?.is_none() {
            continue;
        }
        let free = QUEUE.free(", j.folder::text");
        let Some(row) = transaction.query_opt(&free, &[&job_id])? else { continue };
        let (attempts, folder): (i32, String) = (row.get(0), row.get(1));
        let found = match attempts < QUEUE.attempts {
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
    let sql = QUEUE.take(&format!(
        "name, family, targets, left(options::text, {}), folder::text, attempts",
        OPTIONS_BYTES + 1
    ));
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
    let end = QUEUE.end(
        "state = 'failed', remaining = null,
         message = format('given up after %s attempts: each time the worker ended without a word, as a process does that the '
                          'system kills for want of memory%s', attempts,
                          (select '; it last said: ' || m.message from training.messages m
                           where m.job_id = jobs.job_id order by m.line desc limit 1))",
    );
    transaction.execute(&end, &[&job_id])?;
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
    if transaction.query_opt(&QUEUE.hold(), &[&request.job_id])?.is_none() {
        return Ok(());
    }
    let (state, sqlstate, message, version) = match end {
        End::Released => {
            transaction.execute(&QUEUE.release(), &[&request.job_id])?;
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
    let end = QUEUE.end("state = $2, sqlstate = $3, message = $4, model_version = $5, remaining = null");
    transaction.execute(&end, &[&request.job_id, &state, &sqlstate, &message, &version])?;
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
        return Err(Error::job(format!(
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
