//! The width of bars as their spacing tells it.

use super::labels::{Labels, label_zone};
use super::width::{Width, mode, next_date};
use super::{Calendar, DAY, Instant, SECOND, to_local};
use chrono::{Datelike, NaiveDate};

/// Days of a month of the Gregorian calendar, on average.
const MONTH: f64 = 30.436_875;

/// The width of the bars that start at `starts` (ascending): their modal spacing.
///
/// `None` with fewer than two distinct starts. Spacings of about a day or more become sessions, dates or months, so that they
/// survive changes of the clocks and holidays. A tie goes to the smaller spacing, which is the one within a session.
pub fn infer_width(calendar: &Calendar, starts: &[Instant]) -> Option<Width> {
    let spacing = mode(starts.windows(2).map(|pair| pair[1] - pair[0]).filter(|&spacing| spacing > 0))?;
    const HOUR: i64 = 3600 * SECOND;
    if spacing < 23 * HOUR {
        return Some(Width::Micros(spacing));
    }
    let days = (spacing + DAY / 2) / DAY;
    if (spacing - days * DAY).abs() > HOUR {
        return Some(Width::Micros(spacing));
    }
    if (2..=6).contains(&days) && !calendar.never_closes() {
        // Two sessions are two days or, over a weekend, four.
        let labels = Labels::fit(calendar, Width::Days(1), starts);
        let dates: Vec<NaiveDate> = starts.iter().map(|&start| labels.date(calendar, start)).collect();
        let sessions = |pair: &[NaiveDate]| {
            pair[0]
                .iter_days()
                .skip(1)
                .take_while(|&date| date <= pair[1])
                .filter(|&date| calendar.is_trading_day(date))
                .count()
        };
        let count = mode(dates.windows(2).map(sessions).filter(|&count| count > 0));
        return Some(Width::Days(count.and_then(|count| u32::try_from(count).ok()).unwrap_or(1)));
    }
    // Months differ in length, and their bars start on the same day of the month, or on the last where there is none.
    let months = (days as f64 / MONTH).round();
    if days >= 28 && (days as f64 - months * MONTH).abs() < 2.5 {
        let zone = label_zone(calendar.zone(), starts);
        let dates = || starts.iter().map(|&start| to_local(zone, start).date());
        let day = dates().map(|date| date.day()).max().unwrap_or(1);
        let uniform = dates().all(|date| next_date(Width::Months(0), date, day) == Some(date));
        // Labels such as the first weekday of a month vary.
        let usual = [1.0, 3.0, 6.0, 12.0].contains(&months);
        let even = starts.windows(2).all(|pair| pair[1] - pair[0] == spacing);
        if uniform || (usual && !even) {
            return Some(Width::Months(months as u32));
        }
    }
    u32::try_from(days).ok().map(Width::Days)
}
