//! Rows of files as panels.

mod csv;
mod parquet;
mod simulated;

use crate::error::{Result, TrainError};
use crate::{Panel, PanelSeries};
use chrono::DateTime;
use kronos_job::{JobError, SourceOptions};
use std::collections::HashMap;
use std::path::{Path, PathBuf};

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

/// Instants, in microseconds, and what is known at them.
type Timed = Vec<(i64, Vec<f64>)>;

/// Rows on their way to a panel, in any order.
pub struct Rows<'a> {
    source: &'a SourceOptions,
    until: Option<i64>,
    numbers: HashMap<String, usize>,
    series: Vec<(String, Timed)>,
}

impl<'a> Rows<'a> {
    /// Nothing yet.
    ///
    /// # Errors
    /// [`TrainError::Job`] for a last instant that is none.
    pub fn new(source: &'a SourceOptions) -> Result<Self> {
        Ok(Self { source, until: source.until()?, numbers: HashMap::new(), series: Vec::new() })
    }

    /// Columns to read: that of the series, that of the time, the targets.
    pub fn columns(&self) -> impl Iterator<Item = &str> {
        let source = self.source;
        source.series_col.iter().chain([&source.time_col]).chain(&source.targets).map(String::as_str)
    }

    /// Columns of the panel.
    pub fn targets(&self) -> &[String] {
        &self.source.targets
    }

    /// Whether there is a column that names the series.
    pub fn has_series(&self) -> bool {
        self.source.series_col.is_some()
    }

    /// Takes a row; rows after the last instant and of other series are left out.
    pub fn push(&mut self, series: &str, time: i64, values: Vec<f64>) {
        let SourceOptions { only_series, except, .. } = self.source;
        let named = |names: &[String]| names.iter().any(|name| name == series);
        let wanted = only_series.as_deref().is_none_or(named) && !named(except);
        if !wanted || self.until.is_some_and(|until| time > until) {
            return;
        }
        let number = match self.numbers.get(series) {
            Some(&number) => number,
            None => {
                self.numbers.insert(series.to_owned(), self.series.len());
                self.series.push((series.to_owned(), Vec::new()));
                self.series.len() - 1
            }
        };
        self.series[number].1.push((time, values));
    }

    /// The panel: series by name, rows by time.
    ///
    /// # Errors
    /// What [`Panel::validate`] says, as of two rows of the same time.
    pub fn finish(mut self) -> Result<Panel> {
        // By name, so that the order of files or of a scan changes nothing.
        self.series.sort_by(|(a, _), (b, _)| a.cmp(b));
        let columns = self.source.targets.clone();
        let series = self.series.into_iter().map(|(name, mut rows)| {
            rows.sort_by_key(|(time, _)| *time);
            let times = rows.iter().map(|(time, _)| *time).collect();
            let column = |index: usize| rows.iter().map(|(_, values)| values[index]).collect();
            PanelSeries { name, times, values: (0..columns.len()).map(column).collect() }
        });
        let panel = Panel { series: series.collect(), columns: columns.clone() };
        panel.validate()?;
        Ok(panel)
    }
}

/// The day of an instant, as YYYY-MM-DD.
pub fn day(instant: i64) -> String {
    DateTime::from_timestamp_micros(instant)
        .map_or_else(String::new, |time| time.format("%Y-%m-%d").to_string())
}

/// An instant as text that [`instant`] reads.
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

/// Name of the series of a file without a column for it.
fn file_series(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.split('.').next().unwrap_or_default().to_owned()
}

fn data_error(path: &Path, place: String, reason: impl Into<String>) -> TrainError {
    TrainError::Data { path: PathBuf::from(path), place, reason: reason.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_is_that_of_its_first_instant() {
        assert_eq!(day(1_583_020_800_000_000), "2020-03-01");
    }
}
