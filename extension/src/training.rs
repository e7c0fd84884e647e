//! Asking for training: checks the wish, and copies the rows that it names into the queue.
//!
//! The rows are read here, in the session of whoever asks, because reading may run what others have put into a relation: casts, the functions
//! of views, of row security, of indexes. In this session such code can do no more than in a SELECT of the same caller. Whoever trains
//! later reads numbers from a table of the queue, and has no need of anybody's rights.
#![allow(unsafe_code)] // datums of a cursor

use crate::catalog;
use crate::error::{Error, Result};
use crate::relation::{
    Columns, Fetched, Named, Relation, TimeKind, ValueColumn, Wanted, open_cursor, quote, resolve, sql,
    text_of,
};
use crate::statement::{self, Sight};
use kronos_job::limits::{self, machine};
use kronos_job::{Job, JobError, Request};
use pgrx::pg_sys::{self, Datum, Oid};
use pgrx::spi::Spi;
use pgrx::{IntoDatum, PgMemoryContexts, check_for_interrupts};
use serde_json::{Map, Value};

/// Microseconds from the Unix epoch to PostgreSQL's, 2000-01-01.
const EPOCHS: i64 = 946_684_800_000_000;

/// Name of the one series of a relation without a column for it.
const ONLY: &str = "series";

/// Numbers of a part of a series, at most; the table's own bound.
const PART: usize = 65_536;

/// What `kronos.train_model()` is given.
pub struct Wish {
    /// Name of the model.
    pub name: String,
    /// Family of the model.
    pub family: String,
    /// Where the rows are.
    pub relation: Option<Oid>,
    /// Columns to learn from.
    pub targets: Vec<String>,
    /// The argument `options` as text.
    pub options: String,
}

/// Queues a job and returns its number.
///
/// # Errors
/// 22023 and 0A000 for what is no such job, 54000 for what does not fit into the machine; what the relation's columns give rise to; what
/// the server raises while it reads the rows.
pub fn queue(wish: &Wish) -> Result<i64> {
    require_queue()?;
    let options = parse(&wish.options)?;
    let request =
        Request { name: &wish.name, family: &wish.family, targets: &wish.targets, options: &options };
    let job = request.job(machine())?;
    if let Some(model) = request.from()? {
        require_model(model, &wish.family)?;
    }
    let relation = Relation::open(wish.relation)?;
    let column = |key: &str| options.get(key).and_then(Value::as_str);
    let wanted = Wanted { series: column("series_col"), time: column("time_col"), known_at: None };
    let named: Vec<Named<'_>> = wish.targets.iter().map(|name| Named::target(name)).collect();
    let columns = resolve(&relation, &wanted, &named)?;
    let job_id = insert(wish, relation.oid())?;
    copy(&relation, &columns, &job, job_id)?;
    Ok(job_id)
}

fn require_queue() -> Result<()> {
    let there = Spi::connect(|client| {
        let sql = "select 1 where pg_catalog.to_regclass('training.series') is not null";
        Ok::<_, Error>(statement::select(client, Sight::Query, sql, Some(1), &[])?.has_more())
    })?;
    if there {
        return Ok(());
    }
    Err(Error::NotReady {
        what: "there is no table \"training.series\"".into(),
        hint: "Set it up with CALL kronos.install().".into(),
    })
}

fn parse(options: &str) -> Result<Map<String, Value>> {
    let refused = |reason: String| Error::Job(JobError::Invalid(reason));
    if options.len() > limits::OPTIONS_BYTES {
        return Err(refused(format!(
            "options must have at most {} bytes, got {}",
            limits::OPTIONS_BYTES,
            options.len()
        )));
    }
    match serde_json::from_str(options) {
        Ok(Value::Object(options)) => Ok(options),
        Ok(_) => Err(refused("options must be a JSON object".into())),
        Err(error) => Err(refused(format!("options: {error}"))),
    }
}

/// Requires a registered model of a family; of a name the newest, as the worker does.
fn require_model(model: &str, family: &str) -> Result<()> {
    let found = Spi::connect(|client| {
        let rows = statement::select(
            client,
            Sight::Now,
            "select m.family from kronos.models m
             where m.version operator(pg_catalog.=) $1 or $1 operator(pg_catalog.=) any(m.aliases) or m.name operator(pg_catalog.=) $1
             order by m.version operator(pg_catalog.=) $1 desc, $1 operator(pg_catalog.=) any(m.aliases) desc, m.registered_at desc",
            Some(1),
            &[model.into()],
        )?;
        let family = rows.into_iter().next().map(|row| row.get::<String>(1)).transpose()?;
        Ok::<_, Error>(family.flatten())
    })?;
    match found {
        Some(found) if found == family => Ok(()),
        Some(found) => {
            let text = format!("from: model \"{model}\" is of family {found}, not {family}");
            Err(Error::Job(JobError::Invalid(text)))
        }
        None => {
            let known = catalog::entries(Sight::Now)?.into_iter().map(|entry| entry.name).collect();
            Err(Error::UndefinedModel { name: model.into(), known })
        }
    }
}

fn insert(wish: &Wish, relation: Oid) -> Result<i64> {
    let job_id = Spi::connect_mut(|client| {
        let rows = statement::write_returning(
            client,
            "insert into training.jobs (name, family, relation, targets, options)
             values ($1, $2, $3::pg_catalog.regclass, $4, $5::pg_catalog.jsonb) returning job_id",
            &[
                wish.name.as_str().into(),
                wish.family.as_str().into(),
                relation.into(),
                wish.targets.clone().into(),
                wish.options.as_str().into(),
            ],
        )?;
        rows.first().get_one::<i64>()
    })?;
    job_id.ok_or_else(|| Error::Internal { what: "a job came without a number".into() })
}

/// Copies the rows of a job, series by series in the order of their names' bytes.
fn copy(relation: &Relation, columns: &Columns, job: &Job, job_id: i64) -> Result<()> {
    let source = &job.sources[0];
    if source.only_series.is_some() && columns.series.is_none() {
        return Err(Error::NoSeriesColumn { relation: relation.display() });
    }
    let text = sql(query(relation, columns, source.only_series.is_some()))?;
    let until = source.until()?.map_or(i64::MAX, |until| until.saturating_sub(EPOCHS));
    let mut arguments = vec![(pg_sys::TIMESTAMPTZOID, Some(Datum::from(until)))];
    if let Some(only) = &source.only_series {
        arguments.push((pg_sys::TEXTARRAYOID, only.clone().into_datum()));
    }
    let mut copy = Copying::new(job_id, columns.values.len());
    Spi::connect(|_| {
        let cursor = open_cursor(&text, &arguments);
        let (mut values, mut nulls) =
            (vec![Datum::from(0); copy.columns.len() + 2], vec![true; copy.columns.len() + 2]);
        loop {
            check_for_interrupts!();
            let fetched = Fetched::next(cursor);
            if fetched.rows().is_empty() {
                break;
            }
            for &tuple in fetched.rows() {
                // SAFETY: a live tuple of the fetched table; both arrays have one entry per column of the query.
                unsafe {
                    let (values, nulls) = (values.as_mut_ptr(), nulls.as_mut_ptr());
                    pg_sys::heap_deform_tuple(tuple, fetched.descriptor(), values, nulls);
                }
                // The query leaves such rows out, but a function of a view may say now what it did not say before.
                if nulls[0] || nulls[1] {
                    return Err(Error::NullArgument { name: "series and time of a row" });
                }
                // SAFETY: the first column is a text of a live tuple, and not null.
                let (series, time) = (unsafe { text_of(values[0])? }, values[1].value() as i64);
                let number = |(value, null): (&Datum, &bool)| {
                    let value = f64::from_bits(value.value() as u64);
                    if *null || !value.is_finite() { f64::NAN } else { value }
                };
                copy.row(series, time, values[2..].iter().zip(&nulls[2..]).map(number))?;
            }
        }
        // SAFETY: the portal was opened above and is closed once; after an error the server closes it.
        unsafe { pg_sys::SPI_cursor_close(cursor) };
        copy.flush()?;
        if copy.numbers == 0 {
            return Err(Error::TrainingRows {
                what: format!("\"{}\" has no rows to learn from", relation.display()),
                hint: "Rows without a time or a series, and those that only_series and until leave out, do not count.",
            });
        }
        Ok(())
    })
}

/// Name, time and numbers of every row; `$1` is the last instant, `$2` the only series.
fn query(relation: &Relation, columns: &Columns, only: bool) -> String {
    let time = format!("t.{}", quote(&columns.time.0));
    let start = match columns.time.1 {
        TimeKind::Instant => time.clone(),
        // A wall clock of no zone: read and told alike.
        TimeKind::Local => format!("pg_catalog.timezone('UTC', {time}::pg_catalog.timestamp)"),
    };
    let key = columns.series.as_ref().map(|(name, _)| format!("t.{}::pg_catalog.text", quote(name)));
    let mut list = vec![key.clone().unwrap_or_else(|| format!("'{ONLY}'::pg_catalog.text")), start.clone()];
    list.extend(columns.values.iter().map(ValueColumn::expression));
    let mut condition = format!(
        "{time} operator(pg_catalog.>) '-infinity' and {time} operator(pg_catalog.<) 'infinity'
         and {start} operator(pg_catalog.<=) $1"
    );
    let mut order = start;
    if let Some(key) = key {
        condition.push_str(&format!(" and {key} is not null"));
        if only {
            condition.push_str(&format!(" and {key} operator(pg_catalog.=) any ($2)"));
        }
        // Names that a collation takes for equal are two series all the same.
        order = format!("{key} collate pg_catalog.\"C\", {order}");
    }
    format!("select {} from {} t where {condition} order by {order}", list.join(", "), relation.quoted())
}

/// Rows on their way into the queue.
struct Copying {
    job_id: i64,
    memory: u64,
    series: String,
    part: i32,
    times: Vec<i64>,
    columns: Vec<Vec<f64>>,
    last: Option<i64>,
    /// Numbers copied, times included.
    numbers: u64,
    /// Holds a part while it is inserted.
    context: PgMemoryContexts,
}

impl Copying {
    fn new(job_id: i64, columns: usize) -> Self {
        Self {
            job_id,
            memory: machine(),
            series: String::new(),
            part: 0,
            times: Vec::new(),
            columns: vec![Vec::new(); columns],
            last: None,
            numbers: 0,
            context: PgMemoryContexts::new("kronos training rows"),
        }
    }

    fn row(&mut self, series: &str, time: i64, values: impl Iterator<Item = f64>) -> Result<()> {
        if self.last.is_none() || series != self.series {
            self.flush()?;
            if series.len() > limits::SERIES_NAME {
                return Err(Error::TrainingRows {
                    what: format!("a series has a name of {} bytes", series.len()),
                    hint: "Names have at most 1024 bytes; series_col names the column that they are read from.",
                });
            }
            (self.series, self.part, self.last) = (series.to_owned(), 0, None);
        }
        if self.last == Some(time) {
            return Err(Error::TrainingRows {
                what: format!("series \"{series}\" has two rows of the same time, {}", told(time)),
                hint: "Train from a view with one row per series and time, or name the series with series_col.",
            });
        }
        self.last = Some(time);
        let since_1970 = time.saturating_add(EPOCHS);
        if !limits::TIMES.contains(&since_1970) {
            return Err(Error::TrainingRows {
                what: format!("series \"{series}\" has a row at {}", told(time)),
                hint: "Leave rows of such times out, with until or in a view.",
            });
        }
        self.times.push(since_1970);
        self.columns.iter_mut().zip(values).for_each(|(column, value)| column.push(value));
        if (self.times.len() + 1) * self.columns.len().max(1) > PART {
            self.flush()?;
        }
        Ok(())
    }

    /// Inserts what has been gathered as a part of its series.
    fn flush(&mut self) -> Result<()> {
        if self.times.is_empty() {
            return Ok(());
        }
        let values: Vec<f64> = self.columns.iter_mut().flat_map(|column| column.drain(..)).collect();
        let times = std::mem::take(&mut self.times);
        self.numbers += (times.len() + values.len()) as u64;
        limits::data(self.numbers, self.memory)?;
        let (job_id, series, part) = (self.job_id, self.series.as_str(), self.part);
        // SAFETY: the values live in this context, the server copies them, then it is emptied.
        let done = unsafe {
            self.context.switch_to(|_| {
                statement::write(
                    "insert into training.series (job_id, series, part, times, numbers) values ($1, $2, $3, $4, $5)",
                    &[job_id.into(), series.into(), part.into(), times.into(), values.into()],
                )
            })
        };
        done?;
        // SAFETY: nothing of it is in use.
        unsafe { self.context.reset() };
        self.part += 1;
        Ok(())
    }
}

/// An instant for people.
fn told(time: i64) -> String {
    chrono::DateTime::from_timestamp_micros(time.saturating_add(EPOCHS))
        .map_or_else(|| time.to_string(), |at| at.format("%Y-%m-%d %H:%M:%S%.f UTC").to_string())
}
