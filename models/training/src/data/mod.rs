//! Rows of files as panels.

mod csv;
mod file;
mod parquet;
mod rows;
mod simulated;

use crate::Panel;
use crate::error::Result;
use chrono::DateTime;
use kronos_job::{JobError, SourceOptions};
pub use rows::Rows;
use std::collections::HashMap;
use std::path::Path;

/// Reads the files of a source, whose paths are relative to `folder`, or simulates its markets.
///
/// # Errors
/// [`TrainError::File`] and [`TrainError::Data`] with file and row; [`TrainError::Job`] for a source without rows or columns.
pub fn read(source: &SourceOptions, folder: &Path) -> Result<Panel> {
    if source.targets.is_empty() || (source.files.is_empty() && source.simulated.is_none()) {
        return Err(JobError::Invalid("a source needs files and targets".into()).into());
    }
    let mut rows = Rows::new(source)?;
    if let Some(markets) = &source.simulated {
        simulated::read(markets, &mut rows)?;
    }
    for file in &source.files {
        let (file, name) = (folder.join(file), file.to_string_lossy().to_lowercase());
        if name.ends_with(".parquet") {
            parquet::read(&file, &mut rows)?
        } else {
            csv::read(&file, &mut rows)?
        }
    }
    rows.finish()
}

/// The day of an instant, as YYYY-MM-DD.
pub fn day(instant: i64) -> String {
    DateTime::from_timestamp_micros(instant)
        .map_or_else(String::new, |time| time.format("%Y-%m-%d").to_string())
}

/// An instant as text that [`kronos_job::instant`] reads.
pub fn timestamp(instant: i64) -> String {
    DateTime::from_timestamp_micros(instant)
        .map_or_else(String::new, |time| time.format("%Y-%m-%dT%H:%M:%SZ").to_string())
}

/// The most common distance of neighbouring rows, in microseconds.
pub fn width(panel: &Panel) -> i64 {
    let mut counts: HashMap<i64, usize> = HashMap::new();
    for pair in panel.series.iter().flat_map(|series| series.times.windows(2)) {
        *counts.entry(pair[1] - pair[0]).or_default() += 1;
    }
    // Of two as common ones the shorter, so that the answer does not depend on the order of a hash table.
    counts.into_iter().max_by_key(|(width, count)| (*count, -width)).map_or(1, |(width, _)| width)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_is_that_of_its_first_instant() {
        assert_eq!(day(1_583_020_800_000_000), "2020-03-01");
    }
}
