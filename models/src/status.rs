//! The words of every column `status`: why a series has no forecast, and what is said of a calibration.

use std::fmt;

/// What a row says of itself; a row without a status is a good one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Status {
    /// Fewer rows than a model, or the width of a row, can be told from.
    ShortHistory,
    /// Named by the caller, and not there.
    NoRows,
    /// Rows whose key is NULL.
    NullSeries,
    /// Rows are missing that the calendar has.
    Gap,
    /// A value is missing, not finite or too large.
    Nan,
    /// Several rows start at the same time.
    DuplicateTs,
    /// A row starts before the one before it has ended.
    Irregular,
    /// No row starts up to `until`.
    PastUntil,
    /// More rows up to `until` than a window or a limit allows.
    HorizonLimit,
    /// The calendar has no session for so many rows.
    NoSession,
    /// The model produced a value that is not finite.
    NonFinite,
    /// A calibration has learnt too little; the row is the model's own.
    BurnIn,
    /// A calibration has no version of what was known then; the row is the model's own.
    NoVersion,
    /// A calibration asks for more than its largest radius.
    MaxRadius,
    /// A calibrated interval holds fewer outcomes than it should.
    Undercoverage,
    /// The model's own interval has become another one.
    ModelDrift,
}

impl Status {
    /// Those of forecasts and backtests, in the order in which the reference lists them; the first two are of good rows.
    pub const OF_FORECASTS: [Self; 13] = [
        Self::BurnIn,
        Self::NoVersion,
        Self::ShortHistory,
        Self::NoRows,
        Self::NullSeries,
        Self::Gap,
        Self::Nan,
        Self::DuplicateTs,
        Self::Irregular,
        Self::PastUntil,
        Self::HorizonLimit,
        Self::NoSession,
        Self::NonFinite,
    ];

    /// Those of the state of a calibration.
    pub const OF_CALIBRATIONS: [Self; 4] =
        [Self::BurnIn, Self::MaxRadius, Self::Undercoverage, Self::ModelDrift];

    /// The word.
    pub fn word(self) -> &'static str {
        match self {
            Self::ShortHistory => "short_history",
            Self::NoRows => "no_rows",
            Self::NullSeries => "null_series",
            Self::Gap => "gap",
            Self::Nan => "nan",
            Self::DuplicateTs => "duplicate_ts",
            Self::Irregular => "irregular",
            Self::PastUntil => "past_until",
            Self::HorizonLimit => "horizon_limit",
            Self::NoSession => "no_session",
            Self::NonFinite => "non_finite",
            Self::BurnIn => "burn_in",
            Self::NoVersion => "no_version",
            Self::MaxRadius => "max_radius",
            Self::Undercoverage => "undercoverage",
            Self::ModelDrift => "model_drift",
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first column of a table of the documentation, up to the first line that is no row of it.
    fn words_of_table<'a>(page: &'a str, head: &str) -> Vec<&'a str> {
        let rows = page.lines().skip_while(|line| !line.starts_with(head)).skip(2);
        rows.map_while(|line| line.strip_prefix("| `")?.split('`').next()).collect()
    }

    #[test]
    fn the_reference_lists_the_words_that_a_forecast_can_have() {
        let listed = words_of_table(include_str!("../../docs/sql-reference.md"), "| status |");
        let words: Vec<&str> = Status::OF_FORECASTS[2..].iter().map(|status| status.word()).collect();
        assert_eq!(listed, words);
    }

    #[test]
    fn the_comment_of_the_column_lists_the_same_words() {
        let script = include_str!("../../extension/sql/types.sql");
        let comment =
            script.split("kronos.bar_forecast.status is").nth(1).unwrap().split(';').next().unwrap();
        let mut listed: Vec<&str> = comment.split("no forecast:").nth(1).unwrap().split([',', '.']).collect();
        listed.retain_mut(|word| {
            *word = word.trim_matches(|c: char| !c.is_alphabetic());
            !word.is_empty()
        });
        let mut words: Vec<&str> = Status::OF_FORECASTS[2..].iter().map(|status| status.word()).collect();
        listed.sort_unstable();
        words.sort_unstable();
        assert_eq!(listed, words);
        assert!(Status::OF_FORECASTS[..2].iter().all(|status| comment.contains(status.word())));
    }
}
