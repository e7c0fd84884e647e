//! Trading days: what a daily bar covers.
//!
//! A market that trades by day has its sessions within a date. One that opens in the evening for the next date, as foreign
//! exchange and futures do, has trading days from one evening to the next, each named after the date it closes on.

use super::{Calendar, Hours, Instant, Week};
use chrono::{NaiveDate, NaiveDateTime, Timelike};
use std::rc::Rc;

const DAY: i32 = 86_400;

/// When the trading days of a week begin, in seconds from midnight, where that is the evening before.
///
/// The opening after the longest closure of the week decides: from noon on, with a session that lasts over midnight.
pub(crate) fn evening(week: &Week) -> Option<i32> {
    let mut open: Vec<(i32, i32)> = Vec::new();
    for (day, sessions) in (0..).zip(week) {
        for session in sessions {
            let (opens, closes) = (day * DAY + session.open, day * DAY + session.close);
            match open.last_mut() {
                Some(last) if last.1 == opens => last.1 = closes,
                _ => open.push((opens, closes)),
            }
        }
    }
    let mut before = open.last()?.1 - 7 * DAY;
    let mut longest = (0, 0, 0);
    for (opens, closes) in open {
        if opens - before > longest.0 {
            longest = (opens - before, opens, closes);
        }
        before = closes;
    }
    let (closed, opens, closes) = longest;
    // A session of the last day of the week that touches midnight may go on in the first.
    let goes_on = closes == 7 * DAY && week[0].first().is_some_and(|session| session.open == 0);
    let lasts = goes_on || closes > (opens / DAY + 1) * DAY;
    (closed > 0 && opens % DAY >= DAY / 2 && lasts).then_some(opens % DAY)
}

impl Calendar {
    /// When the trading day that bears a date opens and closes; `None` where there is none.
    pub fn trading_day(&self, date: NaiveDate) -> Option<(Instant, Instant)> {
        let sessions = self.sessions_of_day(date);
        Some((sessions.first()?.0, sessions.last()?.1))
    }

    /// The sessions of the trading day that bears a date, in order; sessions that touch are one.
    pub fn sessions_of_day(&self, date: NaiveDate) -> Rc<[(Instant, Instant)]> {
        self.memo.day(date, || self.find_sessions(date).into())
    }

    fn find_sessions(&self, date: NaiveDate) -> Vec<(Instant, Instant)> {
        let mut found: Vec<(Instant, Instant)> = Vec::new();
        if let Hours::Always = self.hours {
            found.push((self.at(date, 0), self.at(date, DAY)));
            return found;
        }
        let mut add = |date: NaiveDate, from: i32, until: i32| {
            for session in self.sessions(date).unwrap_or_default() {
                let (open, close) = (session.open.max(from), session.close.min(until));
                if open >= close {
                    continue;
                }
                let (open, close) = (self.at(date, open), self.at(date, close));
                match found.last_mut() {
                    Some(last) if last.1 == open => last.1 = close,
                    _ => found.push((open, close)),
                }
            }
        };
        match self.evening {
            None => add(date, 0, DAY),
            Some(evening) => {
                if let Some(before) = date.pred_opt() {
                    add(before, evening, DAY);
                }
                add(date, 0, evening);
            }
        }
        found
    }

    /// Whether a trading day bears a date.
    pub fn is_trading_day(&self, date: NaiveDate) -> bool {
        match (&self.hours, self.evening) {
            (Hours::Always, _) => true,
            (_, None) => self.has_session(date),
            (_, Some(_)) => self.trading_day(date).is_some(),
        }
    }

    /// The date of the trading day that a moment of the market's wall clock belongs to.
    pub(crate) fn date_of(&self, local: NaiveDateTime) -> NaiveDate {
        let seconds = i32::try_from(local.num_seconds_from_midnight()).unwrap_or(0);
        match self.evening {
            Some(evening) if seconds >= evening => local.date().succ_opt().unwrap_or(local.date()),
            _ => local.date(),
        }
    }

    /// The second of the day from which the market trades for the next date.
    pub(crate) fn evening(&self) -> Option<i32> {
        self.evening
    }

    /// Trading days of a usual week around a date.
    pub(crate) fn days_of_week(&self, date: NaiveDate) -> usize {
        let before = date.checked_sub_days(chrono::Days::new(27)).unwrap_or(date);
        let trading: Vec<bool> = before.iter_days().take(28).map(|date| self.is_trading_day(date)).collect();
        trading.chunks(7).map(|week| week.iter().filter(|&&trading| trading).count()).max().unwrap_or(0)
    }
}
