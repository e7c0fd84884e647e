//! Where the rows of a job come from, and how they are split.

use crate::error::{JobError, Result};
use crate::limits::{self, between};
use crate::regime::{DAY, SplitRule};
use chrono::{DateTime, NaiveDate, NaiveDateTime};
use chrono_tz::Tz;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// One source of series: files, simulated markets, or what a relation held.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SourceOptions {
    /// Name, for scores; absent: its number.
    #[serde(default)]
    pub name: Option<String>,
    /// CSV, gzipped CSV or Parquet files; empty where the rows come from elsewhere.
    #[serde(default)]
    pub files: Vec<PathBuf>,
    /// Markets of the simulator, in place of files.
    #[serde(default)]
    pub simulated: Option<Simulated>,
    /// Column that names the series; absent: each file is one series.
    #[serde(default)]
    pub series_col: Option<String>,
    /// Column of the time.
    #[serde(default = "time")]
    pub time_col: String,
    /// Columns to learn from; the first is the target of a family that has one.
    pub targets: Vec<String>,
    /// Only these series.
    #[serde(default)]
    pub only_series: Option<Vec<String>>,
    /// All series but these.
    #[serde(default)]
    pub except: Vec<String>,
    /// Last day or instant of any row.
    #[serde(default)]
    pub until: Option<String>,
    /// Share of the windows drawn from this source, relative to the others.
    #[serde(default = "one")]
    pub weight: f64,
    /// What the split of this source has different from that of the job.
    #[serde(default)]
    pub split: SplitOptions,
    /// Windows that weights are chosen by, where the family counts them by the source; absent: as many as the model says.
    #[serde(default)]
    pub scored_windows: Option<usize>,
    /// Zone of the market, whose wall clock a model of bars sees; absent: that of the model.
    #[serde(default)]
    pub timezone: Option<Tz>,
    /// Rows after which a pattern returns, for the seasonal baseline; absent: as the model says.
    #[serde(default)]
    pub season: Option<usize>,
}

fn time() -> String {
    "time".into()
}

fn one() -> f64 {
    1.0
}

/// Markets of the simulator, side by side, with volatilities evenly spread in their logarithm.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Simulated {
    /// Number of markets; each has its own volatility, and its own symbols.
    pub markets: usize,
    /// Symbols of a market.
    pub symbols: usize,
    /// Bars of a symbol.
    pub bars: usize,
    /// Width of a bar in minutes; bars never pause.
    pub minutes: u32,
    /// Least and largest volatility a year.
    pub volatility: (f64, f64),
    /// Seed.
    pub seed: i64,
}

impl Simulated {
    fn check(&self) -> Result<()> {
        let Self { markets, symbols, bars, minutes, volatility: (least, most), .. } = *self;
        let count = (1, limits::NUMBERS);
        for (what, got) in [("markets", markets), ("symbols", symbols), ("bars", bars)] {
            between(&format!("simulated.{what}"), got as u64, count)?;
        }
        between("simulated.minutes", u64::from(minutes), (1, limits::MINUTES))?;
        let rows =
            [markets, symbols, bars].iter().fold(1u64, |rows, &count| rows.saturating_mul(count as u64));
        between("rows of simulated markets", rows, count)?;
        if !(least > 0.0 && most >= least && most.is_finite()) {
            let text = format!("simulated.volatility must be two numbers above 0, got {least} and {most}");
            return Err(JobError::Invalid(text));
        }
        Ok(())
    }
}

impl SourceOptions {
    /// The last instant of any row, in microseconds since 1970.
    ///
    /// # Errors
    /// [`JobError::Invalid`] for a text that is none.
    pub fn until(&self) -> Result<Option<i64>> {
        read("until", self.until.as_deref())
    }

    /// Checks what can be told without the rows.
    pub(crate) fn check(&self) -> Result<()> {
        self.until()?;
        self.split.check()?;
        limits::text("name of a source", self.name.as_deref().unwrap_or_default())?;
        if !(self.weight.is_finite() && self.weight >= 0.0) {
            return Err(JobError::Invalid(format!("weight must be at least 0, got {}", self.weight)));
        }
        let windows = |windows: usize| between("scored_windows", windows as u64, limits::SCORED);
        self.scored_windows.map(windows).transpose()?;
        self.season.map(|season| between("season", season as u64, limits::SEASON)).transpose()?;
        match &self.simulated {
            Some(_) if !self.files.is_empty() => {
                Err(JobError::Invalid("a source has files or simulated markets, not both".into()))
            }
            Some(simulated) => simulated.check(),
            None => Ok(()),
        }
    }
}

/// How each series is split; see [`SplitRule`].
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SplitOptions {
    /// Least share of a series' rows that is held out; absent: a fifth.
    pub holdout: Option<f64>,
    /// Least days held out; absent: 365 for rows a day or more apart, none for shorter ones.
    pub holdout_days: Option<u32>,
    /// Newest days of a source that are test rows; absent: the later half of each series' hold-out.
    pub test_days: Option<u32>,
    /// Day or instant of the first test row, in place of `test_days`.
    pub test_from: Option<String>,
    /// Rows left out between two parts; absent: the horizon.
    pub purge: Option<usize>,
}

impl SplitOptions {
    /// The rule for a panel whose rows are `width` microseconds apart and end at `last`.
    ///
    /// # Errors
    /// [`JobError::Invalid`] for a hold-out below a fifth, below a year of daily rows, or a purge below the horizon: scores on
    /// less would not be what the metrics say they are.
    pub fn rule(&self, width: i64, last: i64, horizon: usize) -> Result<SplitRule> {
        self.check()?;
        let least = if width >= DAY { SplitRule::daily(horizon) } else { SplitRule::intraday(horizon) };
        let span = |days: u32| i64::from(days) * DAY;
        let rule = SplitRule {
            holdout: self.holdout.unwrap_or(least.holdout),
            holdout_span: self.holdout_days.map(span).or(least.holdout_span),
            test_from: self.test_from()?.or(self.test_days.map(|days| last - span(days) + 1)),
            purge: self.purge.unwrap_or(least.purge),
        };
        if rule.holdout < least.holdout || rule.holdout_span < least.holdout_span || rule.purge < horizon {
            let text = "split must hold out at least a fifth of the rows, 365 days of daily rows, and purge a horizon";
            return Err(JobError::Invalid(text.into()));
        }
        Ok(rule)
    }

    /// These, and where they say nothing what `other` says; the beginning of the test rows is said as a whole.
    pub fn or(&self, other: &Self) -> Self {
        let test = if self.test_days.is_some() || self.test_from.is_some() { self } else { other };
        Self {
            holdout: self.holdout.or(other.holdout),
            holdout_days: self.holdout_days.or(other.holdout_days),
            test_days: test.test_days,
            test_from: test.test_from.clone(),
            purge: self.purge.or(other.purge),
        }
    }

    fn test_from(&self) -> Result<Option<i64>> {
        read("split.test_from", self.test_from.as_deref())
    }

    /// Checks what can be told without the rows.
    pub(crate) fn check(&self) -> Result<()> {
        if let Some(holdout) = self.holdout.filter(|holdout| !(*holdout > 0.0 && *holdout < 1.0)) {
            return Err(JobError::Invalid(format!("split.holdout must be between 0 and 1, got {holdout}")));
        }
        let days = |what, days: Option<u32>| days.map(|days| between(what, u64::from(days), limits::DAYS));
        days("split.holdout_days", self.holdout_days).transpose()?;
        days("split.test_days", self.test_days).transpose()?;
        if self.test_from()?.is_some() && self.test_days.is_some() {
            return Err(JobError::Invalid("split has test_days or test_from, not both".into()));
        }
        self.purge.map(|rows| between("split.purge", rows as u64, limits::ROWS)).transpose()?;
        Ok(())
    }
}

/// An instant that an option names.
fn read(what: &str, text: Option<&str>) -> Result<Option<i64>> {
    let refused = |text| JobError::Invalid(format!("{what}: \"{text}\" is no date or time"));
    text.map(|text| instant(text).ok_or_else(|| refused(text))).transpose()
}

/// An instant in microseconds since 1970: a date, or a date and a time with or without an offset (UTC then).
pub fn instant(text: &str) -> Option<i64> {
    let text = text.trim();
    if let Ok(date) = NaiveDate::parse_from_str(text, "%Y-%m-%d") {
        return Some(date.and_time(chrono::NaiveTime::MIN).and_utc().timestamp_micros());
    }
    let with_offset = DateTime::parse_from_rfc3339(text)
        .or_else(|_| DateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S%.f%#z"))
        .map(|time| time.timestamp_micros());
    let without = ["%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M:%S%.f"].iter().find_map(|format| {
        NaiveDateTime::parse_from_str(text, format).ok().map(|time| time.and_utc().timestamp_micros())
    });
    with_offset.ok().or(without)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hold_out_below_the_rule_is_refused() {
        let rule = |split: SplitOptions, width| split.rule(width, 1000 * DAY, 5);
        let daily = rule(SplitOptions::default(), DAY).unwrap();
        assert_eq!((daily.holdout, daily.holdout_span, daily.purge), (0.2, Some(365 * DAY), 5));
        let hourly = rule(SplitOptions { test_days: Some(10), ..SplitOptions::default() }, DAY / 24).unwrap();
        assert_eq!((hourly.holdout_span, hourly.test_from), (None, Some(990 * DAY + 1)));
        for split in [
            SplitOptions { holdout: Some(0.1), ..SplitOptions::default() },
            SplitOptions { holdout_days: Some(30), ..SplitOptions::default() },
            SplitOptions { purge: Some(4), ..SplitOptions::default() },
            // So many days that microseconds of them would wrap around.
            SplitOptions { holdout_days: Some(u32::MAX), ..SplitOptions::default() },
            SplitOptions { test_days: Some(u32::MAX), ..SplitOptions::default() },
            SplitOptions { test_from: Some("tomorrow".into()), ..SplitOptions::default() },
            SplitOptions {
                test_from: Some("1971-01-01".into()),
                test_days: Some(1),
                ..SplitOptions::default()
            },
        ] {
            assert!(rule(split, DAY).is_err());
        }
    }

    #[test]
    fn a_source_replaces_what_it_says_of_the_split_of_its_job() {
        let job = SplitOptions { holdout: Some(0.3), test_days: Some(9), ..SplitOptions::default() };
        let own = SplitOptions { test_from: Some("1970-01-11".into()), ..SplitOptions::default() };
        let rule = own.or(&job).rule(DAY, 1000 * DAY, 5).unwrap();
        assert_eq!((rule.holdout, rule.test_from), (0.3, Some(10 * DAY)));
        assert_eq!(SplitOptions::default().or(&job), job);
    }

    #[test]
    fn markets_beyond_what_a_job_may_hold_are_refused() {
        let fits =
            Simulated { markets: 2, symbols: 3, bars: 500, minutes: 60, volatility: (0.1, 1.0), seed: -1 };
        fits.check().unwrap();
        for wrong in [
            Simulated { markets: usize::MAX, symbols: usize::MAX, ..fits },
            Simulated { markets: 1 << 15, symbols: 1 << 15, ..fits },
            Simulated { bars: 0, ..fits },
            Simulated { minutes: u32::MAX, ..fits },
            Simulated { volatility: (1.0, 0.1), ..fits },
            Simulated { volatility: (0.1, f64::NAN), ..fits },
        ] {
            assert!(wrong.check().is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn instants_of_every_spelling() {
        let expected = Some(1_583_020_800_000_000);
        for text in ["2020-03-01", "2020-03-01T00:00:00Z", "2020-03-01 00:00:00", "2020-03-01 02:00:00+02"] {
            assert_eq!(instant(text), expected, "{text}");
        }
        assert_eq!(instant("2020-03-01 00:00:00.5+00:00"), Some(1_583_020_800_500_000));
        assert_eq!(instant("yesterday"), None);
    }
}
