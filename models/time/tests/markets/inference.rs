//! Which calendar bars come from, and which they do not.

use super::*;
use kronos_time::{Fit, Verdict, Width, infer};

const DAY: Width = Width::Days(1);

fn verdict(candidates: &[Calendar], days: &[NaiveDate]) -> Verdict {
    let candidates: Vec<&Calendar> = candidates.iter().collect();
    infer(&candidates, DAY, &labelled(Tz::UTC, days, "00:00"))
}

#[test]
fn daily_bars_tell_their_calendar_by_its_holidays() {
    let candidates = [always(), new_york(), london(), paris(), fx()];
    let verdict = |days: &[NaiveDate]| verdict(&candidates, days);
    let traded = |calendar: &Calendar| dates("2023-09-01", "2024-08-30", |day| calendar.is_trading_day(day));
    for (place, calendar) in candidates.iter().enumerate() {
        assert_eq!(verdict(&traded(calendar)), Verdict::Certain(place), "{}", calendar.name());
    }
    // Two days that are missing by accident change nothing; a vendor's row on one holiday neither.
    let mut days = traded(&new_york());
    days.retain(|day| ![date("2024-02-14"), date("2024-06-05")].contains(day));
    assert_eq!(verdict(&days), Verdict::Certain(1));
    let mut days = traded(&new_york());
    days.push(date("2024-05-27"));
    days.sort_unstable();
    assert_eq!(verdict(&days), Verdict::Certain(1));
}

#[test]
fn what_is_not_certain_is_not_inferred() {
    let candidates = [always(), new_york(), london(), paris(), fx()];
    let verdict = |days: &[NaiveDate]| verdict(&candidates, days);
    // April 2024 from its second day on: Paris alone has kept no other days than the others until May.
    let spring = dates("2024-04-02", "2024-04-30", is_weekday);
    assert_eq!(verdict(&spring), Verdict::Uncertain(vec![1, 2, 3, 4]));
    assert_eq!(verdict(&spring[..12]), Verdict::Uncertain(vec![]), "too few to tell");
    // Weekdays without any holiday, and the days of Toronto, are those of no market listed.
    assert_eq!(verdict(&dates("2023-09-01", "2024-08-30", is_weekday)), Verdict::Uncertain(vec![]));
    let toronto = [
        "2023-09-04",
        "2023-10-09",
        "2023-12-25",
        "2023-12-26",
        "2024-01-01",
        "2024-02-19",
        "2024-03-29",
        "2024-05-20",
        "2024-07-01",
        "2024-08-05",
    ];
    let toronto =
        dates("2023-09-01", "2024-08-30", |day| is_weekday(day) && !toronto.map(date).contains(&day));
    assert_eq!(verdict(&toronto), Verdict::Uncertain(vec![]));
    let mondays = dates("2023-09-01", "2024-08-30", |day| day.weekday() == Weekday::Mon);
    let (first, mondays) = ([&candidates[0], &candidates[1]], labelled(Tz::UTC, &mondays, "00:00"));
    assert_eq!(infer(&first, Width::Days(7), &mondays), Verdict::Uncertain(vec![]), "weeks tell nothing");
}

#[test]
fn intraday_bars_tell_their_calendar_by_its_hours() {
    let calendars = [always(), new_york(), london(), paris(), fx(), globex(), shanghai()];
    let candidates: Vec<&Calendar> = calendars.iter().collect();
    const FIVE: i64 = HOUR / 12;
    // Thursday, Friday and, where the market opens then, Saturday: else Monday.
    let bars = |calendar: &Calendar| -> Vec<Instant> {
        let days = date("2024-02-01").iter_days().filter(|day| calendar.is_trading_day(*day)).take(3);
        let sessions = days.flat_map(|day| calendar.sessions_of_day(day).to_vec());
        sessions.flat_map(|(open, close)| every(open, FIVE, (close - open) / FIVE)).collect()
    };
    let width = Width::Micros(FIVE);
    for (place, expected) in [
        (0, Verdict::Certain(0)),
        (1, Verdict::Certain(1)),
        // London's hours are those of Paris: 08:00 and 09:00 are one moment.
        (2, Verdict::Uncertain(vec![2, 3])),
        (4, Verdict::Certain(4)),
        (5, Verdict::Certain(5)),
        (6, Verdict::Certain(6)),
    ] {
        let starts = bars(&calendars[place]);
        assert_eq!(infer(&candidates, width, &starts), expected, "{}", calendars[place].name());
    }
    // Of several that fit alike the default is taken.
    let starts = bars(&london());
    assert_eq!(infer(&[&calendars[3], &calendars[2]], width, &starts), Verdict::Certain(0));
    // From 04:00 to 20:00, before and after the hours of the exchange: no market listed.
    let extended = ["2024-02-05 04:00", "2024-02-06 04:00", "2024-02-07 04:00", "2024-02-08 04:00"];
    let extended: Vec<Instant> =
        extended.iter().flat_map(|first| every(at(America::New_York, first), FIVE, 192)).collect();
    assert_eq!(infer(&candidates, width, &extended), Verdict::Uncertain(vec![]));
}

#[test]
fn a_calendar_that_does_not_fit_is_doubtful() {
    let everyday = labelled(Tz::UTC, &dates("2024-01-01", "2024-03-01", |_| true), "00:00");
    let fit = Fit::of(&new_york(), DAY, &everyday);
    // 61 days with eight weekends and three holidays.
    assert_eq!((fit.bars, fit.off, fit.missing), (61, 19, 0));
    assert!(fit.is_doubtful(DAY));
    let stock = dates("2024-01-02", "2024-03-01", |day| new_york().is_trading_day(day));
    let mut stock = labelled(Tz::UTC, &stock, "00:00");
    assert!(Fit::of(&always(), DAY, &stock).is_doubtful(DAY));
    assert!(Fit::of(&new_york(), DAY, &stock).is_exact());
    // One day that a vendor lacks is no reason to doubt.
    stock.remove(20);
    assert!(!Fit::of(&new_york(), DAY, &stock).is_doubtful(DAY));
}

#[test]
fn of_two_names_of_one_market_the_first_counts() {
    let days = dates("2023-09-01", "2024-08-30", |day| new_york().is_trading_day(day));
    assert_eq!(verdict(&[always(), new_york(), new_york()], &days), Verdict::Certain(1));
}
