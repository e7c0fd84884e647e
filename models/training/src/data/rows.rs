//! Rows of any source on their way to a panel.

use crate::error::Result;
use crate::{Panel, PanelSeries};
use kronos_job::SourceOptions;
use std::collections::HashMap;

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
