//! From a recipe's sources to panels.

use crate::error::{Error, Result};
use crate::recipe::{BarsRecipe, Recipe, SourceRecipe};
use chrono::{DateTime, NaiveDate, NaiveDateTime};
use chrono_tz::Tz;
use kronos_models::bars::{Bar, Stamp, complete};
use kronos_models::simulate::{Market, Simulation, Slot};
use kronos_training::split::DAY;
use kronos_training::{Panel, PanelSeries, Part, Split, SplitRule};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;

/// Columns of every panel of bars.
const COLUMNS: [&str; 6] = ["open", "high", "low", "close", "volume", "amount"];

/// A panel of bars, with a stamp per row.
pub struct Bars {
    pub panel: Panel,
    pub stamps: Vec<Vec<Stamp>>,
}

#[derive(Debug, Deserialize)]
struct Row {
    symbol: String,
    ds: String,
    open: f64,
    high: f64,
    low: f64,
    close: f64,
    volume: Option<f64>,
}

/// One series while it is read.
#[derive(Default)]
struct Growing {
    times: Vec<i64>,
    stamps: Vec<Stamp>,
    bars: Vec<Bar>,
}

impl Bars {
    /// Reads or simulates the bars of a source.
    pub fn of(source: &SourceRecipe, data: &Path) -> Result<Self> {
        match &source.bars {
            BarsRecipe::Files { paths, zone, except } => {
                let zone: Tz = zone.parse().map_err(|error| Error::content(data, error))?;
                let mut series = BTreeMap::new();
                for path in paths {
                    read(&data.join(path), zone, except, &mut series)?;
                }
                Ok(Self::from_series(series))
            }
            &BarsRecipe::Simulated { markets, symbols, bars, minutes, volatility, seed } => {
                simulate(markets, symbols, bars, minutes, volatility, seed)
            }
        }
    }

    fn from_series(series: BTreeMap<String, Growing>) -> Self {
        let mut panel =
            Panel { columns: COLUMNS.map(String::from).to_vec(), series: Vec::with_capacity(series.len()) };
        let mut stamps = Vec::with_capacity(series.len());
        for (name, Growing { times, stamps: own, bars }) in series {
            let values =
                (0..COLUMNS.len()).map(|column| bars.iter().map(|bar| bar[column]).collect()).collect();
            panel.series.push(PanelSeries { name, times, values });
            stamps.push(own);
        }
        Self { panel, stamps }
    }
}

/// The split that a source asks for; `purge` rows are left out between its parts.
pub fn split(source: &SourceRecipe, panel: &Panel, purge: usize) -> Result<Split> {
    let midnight = |day: &String| {
        let day: NaiveDate = day.parse().map_err(|error| Error::content(&source.name, error))?;
        Ok::<_, Error>(day.and_time(Default::default()).and_utc().timestamp_micros())
    };
    let rule = SplitRule {
        holdout: source.holdout,
        holdout_span: source.holdout_days.map(|days| days * DAY),
        test_from: source.test_from.as_ref().map(midnight).transpose()?,
        purge,
    };
    Ok(Split::new(panel, &rule)?)
}

/// Refuses a source of which training or choosing would see a row after the recipe's cutoff.
pub fn check_cutoff(recipe: &Recipe, panel: &Panel, split: &Split, horizon: usize) -> Result<()> {
    let cutoff: NaiveDate =
        recipe.train_cutoff.parse().map_err(|error| Error::content("train_cutoff", error))?;
    let end = cutoff.and_time(Default::default()).and_utc().timestamp_micros() + DAY;
    for (number, series) in panel.series.iter().enumerate() {
        let cuts = split.cuts(number, series.rows(), Part::Validation, horizon);
        let last = if cuts.is_empty() { continue } else { cuts.end - 1 + horizon - 1 };
        if series.times[last] >= end {
            return Err(Error::content(&series.name, format!("would be used after {cutoff}")));
        }
    }
    Ok(())
}

fn read(path: &Path, zone: Tz, except: &[String], series: &mut BTreeMap<String, Growing>) -> Result<()> {
    let file = File::open(path).map_err(|error| Error::file(path, error))?;
    let mut reader = csv::Reader::from_reader(flate2::read::GzDecoder::new(file));
    for row in reader.deserialize() {
        let row: Row = row.map_err(|error| Error::content(path, error))?;
        if except.contains(&row.symbol) {
            continue;
        }
        let (time, local) = time(&row.ds, zone).map_err(|error| Error::content(path, error))?;
        let growing = series.entry(row.symbol).or_default();
        growing.times.push(time);
        growing.stamps.push(Stamp::from(local));
        growing.bars.push(complete([row.open, row.high, row.low, row.close], row.volume, None));
    }
    Ok(())
}

/// Microseconds since 1970 in UTC, and the wall clock of the market: of a day its midnight.
fn time(text: &str, zone: Tz) -> chrono::ParseResult<(i64, NaiveDateTime)> {
    if !text.contains('T') {
        let midnight: NaiveDateTime = text.parse::<NaiveDate>()?.and_time(Default::default());
        return Ok((midnight.and_utc().timestamp_micros(), midnight));
    }
    let at = DateTime::parse_from_rfc3339(text)?;
    Ok((at.timestamp_micros(), at.with_timezone(&zone).naive_local()))
}

/// Markets side by side, with volatilities evenly spread in their logarithm.
fn simulate(
    markets: usize,
    symbols: usize,
    bars: usize,
    minutes: i64,
    (least, most): (f64, f64),
    seed: i64,
) -> Result<Bars> {
    let start = NaiveDate::default().and_time(Default::default());
    let locals: Vec<NaiveDateTime> =
        (0..bars as i64).map(|bar| start + chrono::TimeDelta::minutes(bar * minutes)).collect();
    let slots = vec![Slot { closed: 0.0, position: None }; bars];
    let bars_per_year = 365.25 * 24.0 * 60.0 / minutes as f64;
    let mut series = BTreeMap::new();
    for index in 0..markets {
        let share = (index as f64 + 0.5) / markets as f64;
        let mut market = Market::default();
        market.set("volatility", least * (most / least).powf(share))?;
        market.set("drift", 0.0)?;
        let simulation = Simulation::new(market, &slots, bars_per_year, seed + index as i64)?;
        for symbol in 0..symbols {
            let name = format!("S{index:03}-{symbol:03}");
            let growing = Growing {
                times: locals.iter().map(|local| local.and_utc().timestamp_micros()).collect(),
                stamps: locals.iter().map(|&local| Stamp::from(local)).collect(),
                bars: simulation.bars(&name),
            };
            series.insert(name, growing);
        }
    }
    Ok(Bars::from_series(series))
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::Days;

    /// A thousand days from 1970 on.
    fn daily() -> Panel {
        let series = PanelSeries {
            name: "A".into(),
            times: (0..1000).map(|day| day * DAY).collect(),
            values: vec![vec![1.0; 1000]],
        };
        Panel { columns: vec!["close".into()], series: vec![series] }
    }

    /// A fifth is held out, the later half of it for the test, with a purge of 5: of the rows that weights are chosen by the
    /// last is 894.
    #[test]
    fn a_source_that_is_used_after_the_cutoff_is_refused() {
        let mut recipe: Recipe = serde_json::from_str(include_str!("../recipes/kronos-nano.json")).unwrap();
        let mut source = recipe.sources[0].clone();
        (source.holdout, source.holdout_days, source.test_from) = (0.2, None, None);
        let panel = daily();
        let split = split(&source, &panel, 5).unwrap();
        assert_eq!((split.holdout_start(0), split.test_start(0)), (800, 900));
        let mut check = |day| {
            recipe.train_cutoff = (NaiveDate::default() + Days::new(day)).to_string();
            check_cutoff(&recipe, &panel, &split, 5)
        };
        check(894).unwrap();
        let refused = check(893).unwrap_err().to_string();
        assert_eq!(refused, "A: would be used after 1972-06-12");
    }

    #[test]
    fn a_day_has_no_zone_and_an_hour_is_that_of_the_market() {
        let zone: Tz = "America/New_York".parse().unwrap();
        let noon = NaiveDate::from_ymd_opt(2020, 3, 1).unwrap().and_hms_opt(12, 0, 0).unwrap();
        let midnight = noon.date().and_time(Default::default());
        assert_eq!(time("2020-03-01", zone).unwrap(), (midnight.and_utc().timestamp_micros(), midnight));
        let (at, local) = time("2020-03-01T12:00:00Z", zone).unwrap();
        assert_eq!(at, noon.and_utc().timestamp_micros());
        assert_eq!(local.to_string(), "2020-03-01 07:00:00");
        assert!(time("noon", zone).is_err());
    }
}
