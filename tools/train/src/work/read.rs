//! The rows of a job, as they were copied when it was asked for.
//!
//! They are numbers and names in a table of the queue. Reading the relation here would run what whoever asked has put into it, such as
//! the casts of its columns, in a session that can do what the worker can.

use crate::error::{Error, Result};
use kronos_job::limits::{self, TIMES, machine};
use kronos_training::{Panel, PanelSeries};
use postgres::Client;
use postgres::fallible_iterator::FallibleIterator;

/// Reads the rows of a job whose columns are `targets`.
///
/// # Errors
/// [`Error::Train`] when there are none, more than a job may have, or when they are not what such rows are: whoever asks writes them, and may
/// write others.
pub(super) fn rows(client: &mut Client, job_id: i64, targets: &[String]) -> Result<Panel> {
    let sql = "select series, times, numbers from training.series where job_id = $1 order by series, part";
    let mut found = client.query_raw(sql, [job_id])?;
    let (mut series, mut count): (Vec<PanelSeries>, u64) = (Vec::new(), 0);
    while let Some(row) = found.next()? {
        let (name, times, numbers): (&str, Vec<i64>, Vec<f64>) =
            (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
        let told_times = times.iter().all(|time| TIMES.contains(time));
        if times.is_empty() || !told_times || numbers.len() != times.len() * targets.len() {
            return Err(Error::job(format!("the rows of series \"{name}\" are damaged")));
        }
        count += (times.len() + numbers.len()) as u64;
        limits::data(count, machine())?;
        if series.last().is_none_or(|last| last.name != name) {
            let values = vec![Vec::new(); targets.len()];
            series.push(PanelSeries { name: name.into(), times: Vec::new(), values });
        }
        if let Some(last) = series.last_mut() {
            let columns = numbers.chunks_exact(times.len());
            last.values
                .iter_mut()
                .zip(columns)
                .for_each(|(column, part)| column.extend(part.iter().map(told)));
            last.times.extend(times);
        }
    }
    if series.is_empty() {
        return Err(Error::job("there are no rows; ask for the model again"));
    }
    let panel = Panel { columns: targets.to_vec(), series };
    panel.validate()?;
    Ok(panel)
}

/// A number, or NaN for what is none.
fn told(value: &f64) -> f64 {
    if value.is_finite() { *value } else { f64::NAN }
}
