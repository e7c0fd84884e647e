//! Long panels: many series, each with its own times, all with the same columns.

use super::error::{Result, TrainError};
use sha2::{Digest, Sha256};
use std::fmt::Write;

/// Many series of the same columns.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Panel {
    /// Names of the columns.
    pub columns: Vec<String>,
    /// The series, in a fixed order: windows are numbered by it.
    pub series: Vec<PanelSeries>,
}

/// One series of a panel.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct PanelSeries {
    /// Name, unique in the panel.
    pub name: String,
    /// Start of each row in microseconds since any fixed epoch, strictly ascending.
    pub times: Vec<i64>,
    /// [column][row]; NaN is a missing value.
    pub values: Vec<Vec<f64>>,
}

impl PanelSeries {
    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.times.len()
    }
}

impl Panel {
    /// Checks what windows rely on: equal lengths, ascending times, no infinite value, no name twice.
    ///
    /// # Errors
    /// [`TrainError::InvalidPanel`] naming the first series at fault.
    pub fn validate(&self) -> Result<()> {
        let mut names = std::collections::HashSet::new();
        for series in &self.series {
            let fail = |reason: String| Err(TrainError::InvalidPanel { series: series.name.clone(), reason });
            if !names.insert(&series.name) {
                return fail("appears twice".into());
            }
            if series.values.len() != self.columns.len() {
                return fail(format!("has {} columns, expected {}", series.values.len(), self.columns.len()));
            }
            if let Some(row) = series.times.windows(2).position(|pair| pair[0] >= pair[1]) {
                return fail(format!("row {} is not later than the row before it", row + 1));
            }
            for (name, values) in self.columns.iter().zip(&series.values) {
                if values.len() != series.rows() {
                    return fail(format!("column \"{name}\" has {} rows of {}", values.len(), series.rows()));
                }
                if let Some(row) = values.iter().position(|value| value.is_infinite()) {
                    return fail(format!("column \"{name}\" is infinite at row {row}"));
                }
            }
        }
        Ok(())
    }

    /// Position of a column.
    ///
    /// # Errors
    /// [`ModelError::InvalidParameter`](kronos_models::ModelError::InvalidParameter) when there is none of that name.
    pub fn column(&self, name: &str) -> Result<usize> {
        self.columns.iter().position(|column| column == name).ok_or_else(|| {
            super::error::invalid("column", format!("one of {}", self.columns.join(", ")), name)
        })
    }

    /// Drops every row that starts after `last`, and series of which nothing is left.
    pub fn truncate_after(&mut self, last: i64) {
        for series in &mut self.series {
            let rows = series.times.partition_point(|&time| time <= last);
            series.times.truncate(rows);
            series.values.iter_mut().for_each(|values| values.truncate(rows));
        }
        self.series.retain(|series| series.rows() > 0);
    }

    /// Rows of all series.
    pub fn rows(&self) -> usize {
        self.series.iter().map(PanelSeries::rows).sum()
    }

    /// Earliest and latest time of any row.
    pub fn span(&self) -> Option<(i64, i64)> {
        let first = self.series.iter().filter_map(|series| series.times.first()).min()?;
        let last = self.series.iter().filter_map(|series| series.times.last()).max()?;
        Some((*first, *last))
    }

    /// The SHA-256 of names, times and values, to the bit: what an artifact says it was trained on.
    pub fn fingerprint(&self) -> String {
        let mut hash = Sha256::new();
        let mut text = |text: &str| {
            hash.update((text.len() as u64).to_le_bytes());
            hash.update(text.as_bytes());
        };
        text(&self.columns.join("\n"));
        for series in &self.series {
            text(&series.name);
        }
        for series in &self.series {
            hash.update((series.rows() as u64).to_le_bytes());
            series.times.iter().for_each(|time| hash.update(time.to_le_bytes()));
            series.values.iter().flatten().for_each(|value| hash.update(value.to_bits().to_le_bytes()));
        }
        hexadecimal(&hash.finalize())
    }
}

/// Bytes in lower-case hexadecimal.
pub(super) fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn panel() -> Panel {
        let series = |name: &str| PanelSeries {
            name: name.into(),
            times: vec![10, 20, 30],
            values: vec![vec![1.0, f64::NAN, 3.0]],
        };
        Panel { columns: vec!["close".into()], series: vec![series("a"), series("b")] }
    }

    #[test]
    fn what_windows_cannot_be_cut_from_is_refused() {
        panel().validate().unwrap();
        let refused = |change: fn(&mut Panel)| {
            let mut panel = panel();
            change(&mut panel);
            panel.validate().unwrap_err().to_string()
        };
        assert!(refused(|p| p.series[1].name = "a".into()).contains("\"a\": appears twice"));
        assert!(refused(|p| p.series[0].times[2] = 20).contains("row 2 is not later"));
        assert!(refused(|p| p.series[0].values[0].truncate(1)).contains("has 1 rows of 3"));
        assert!(refused(|p| p.series[1].values[0][0] = f64::INFINITY).contains("infinite at row 0"));
        assert!(refused(|p| p.columns.push("open".into())).contains("has 1 columns, expected 2"));
    }

    #[test]
    fn the_fingerprint_sees_every_bit_and_nothing_after_the_cut_is_kept() {
        let base = panel().fingerprint();
        assert_eq!(base, panel().fingerprint());
        let mut changed = panel();
        changed.series[1].values[0][2] = f64::from_bits(3f64.to_bits() + 1);
        assert_ne!(base, changed.fingerprint());
        let mut cut = panel();
        cut.truncate_after(20);
        assert_eq!((cut.rows(), cut.span()), (4, Some((10, 20))), "the row of that time is the last");
        cut.truncate_after(5);
        assert!(cut.series.is_empty());
    }
}
