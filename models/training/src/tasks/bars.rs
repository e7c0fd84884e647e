//! Panels of bars as Kronos is trained on them.

use crate::error::Result;
use crate::split::DAY;
use crate::{Panel, PanelSeries};
use chrono::DateTime;
use chrono_tz::Tz;
use kronos_job::JobError;
use kronos_job::kronos::{COLUMNS, check_targets};
use kronos_models::bars::{CHANNELS, Stamp, complete};

/// The panel with all columns of bars, and the wall clock of the market for each row.
///
/// Targets are open, high, low and close, whatever they are called, and then volume and amount where there are such. Rows
/// `width` microseconds apart that are a day or longer are dates: no zone moves them.
///
/// # Errors
/// [`JobError`] for other numbers of targets.
pub(super) fn stamped(panel: Panel, width: i64, zone: Tz) -> Result<(Panel, Vec<Vec<Stamp>>)> {
    check_targets(panel.columns.len())?;
    let stamp = |&time: &i64| -> Result<Stamp> {
        let at = DateTime::from_timestamp_micros(time)
            .ok_or_else(|| JobError::Invalid(format!("time {time} is outside of the calendar")))?;
        Ok(Stamp::from(if width >= DAY { at.naive_utc() } else { at.with_timezone(&zone).naive_local() }))
    };
    let stamps = panel.series.iter().map(|series| series.times.iter().map(stamp).collect());
    let stamps = stamps.collect::<Result<_>>()?;
    let series = panel.series.into_iter().map(|PanelSeries { name, times, values }| {
        let bar = |row: usize| {
            let value = |column: usize| values.get(column).map(|column| column[row]).filter(|v| !v.is_nan());
            let price = |column: usize| value(column).unwrap_or(f64::NAN);
            complete([price(0), price(1), price(2), price(3)], value(4), value(5))
        };
        let bars: Vec<_> = (0..times.len()).map(bar).collect();
        let values = (0..CHANNELS).map(|channel| bars.iter().map(|bar| bar[channel]).collect()).collect();
        PanelSeries { name, times, values }
    });
    Ok((Panel { columns: COLUMNS.map(String::from).to_vec(), series: series.collect() }, stamps))
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::NaiveDate;

    fn panel(columns: usize, times: Vec<i64>) -> Panel {
        let values =
            (0..columns).map(|c| (0..times.len()).map(|row| (10 + c + row) as f64).collect()).collect();
        let series = vec![PanelSeries { name: "a".into(), times, values }];
        Panel { columns: (0..columns).map(|c| c.to_string()).collect(), series }
    }

    #[test]
    fn hours_are_those_of_the_market_and_days_stay() {
        let at = |hour: i64| 1_583_020_800_000_000 + hour * DAY / 24;
        let zone: Tz = "America/New_York".parse().unwrap();
        let local = |hour| {
            Stamp::from(NaiveDate::from_ymd_opt(2020, 2, 29).unwrap().and_hms_opt(hour, 0, 0).unwrap())
        };
        let (_, hourly) = stamped(panel(4, vec![at(0), at(1)]), DAY / 24, zone).unwrap();
        assert_eq!(hourly, [[local(19), local(20)]]);
        let (_, daily) = stamped(panel(4, vec![at(0)]), DAY, zone).unwrap();
        assert_eq!(
            daily[0][0],
            Stamp::from(NaiveDate::from_ymd_opt(2020, 3, 1).unwrap().and_hms_opt(0, 0, 0).unwrap())
        );
    }

    #[test]
    fn missing_volume_is_none_and_amount_follows_from_the_prices() {
        let (bars, _) = stamped(panel(4, vec![0]), DAY, Tz::UTC).unwrap();
        assert_eq!(bars.series[0].values[4..], [[0.0], [0.0]]);
        let (bars, _) = stamped(panel(5, vec![0]), DAY, Tz::UTC).unwrap();
        assert_eq!(bars.series[0].values[4..], [[14.0], [14.0 * 11.5]]);
        assert!(stamped(panel(3, vec![0]), DAY, Tz::UTC).is_err());
        assert!(stamped(panel(7, vec![0]), DAY, Tz::UTC).is_err());
    }
}
