//! How a list is read page by page, and where the next reading begins.

use chrono::{Days, NaiveDate, TimeDelta};
use serde::{Deserialize, Serialize};

use super::item::digest;
use crate::{
    feeds::{Effort, Position, Question},
    kinds::Timestamp,
};

/// How far behind the newest known item the pages of a later reading go: a page that moves while it is read may have skipped one,
/// and vendors list some late. Days of it would read all news of a day every few minutes.
const OVERLAP: TimeDelta = TimeDelta::hours(2);

/// How an endpoint deals out its list.
#[derive(Clone, Copy, Debug)]
pub(in crate::feeds) enum Pages {
    /// All at once.
    Once,
    /// `{page}`, from 0, the newest first, `most` at most: until a page is empty, or all of it was known at the last reading.
    Numbered { most: u32 },
    /// The same, from 1.
    FromOne { most: u32 },
    /// `{offset}`: until fewer than `size` come.
    Offset { size: u32 },
    /// `{from}` and `{to}`: windows of `days`, from `history` days ago at the first reading and from `back` days ago at later
    /// ones, until `ahead` days from now.
    Windows { days: u32, history: u32, back: u32, ahead: u32 },
}

/// What is kept of a list from answer to answer.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct Place {
    /// Number or offset of the page that comes next.
    page: u32,
    /// Digest of the first item of the page before.
    first: Option<String>,
    /// How often it has come in a row: once where a page of news has moved the list on, again and again of a vendor that knows no
    /// pages.
    repeats: u32,
    /// Place of the newest item of the last reading.
    since: Option<Timestamp>,
    /// Place of the newest item of this reading.
    newest: Option<Timestamp>,
    /// First day of the window that comes next.
    from: Option<NaiveDate>,
    /// Whether the list was once read to its end.
    was_read: bool,
}

impl Place {
    fn of(question: &Question<'_>) -> Self {
        // What nobody understands any more is read from the beginning.
        question
            .position
            .and_then(|position| serde_json::from_value(position.clone()).ok())
            .unwrap_or_default()
    }
}

impl Pages {
    /// How many pages a reading has.
    pub(super) fn effort(self) -> Effort {
        match self {
            Pages::Once | Pages::Offset { .. } => Effort { first: 1, later: 1 },
            // A page more shows that there is none.
            Pages::Numbered { most } | Pages::FromOne { most } => Effort { first: most, later: 2.min(most) },
            Pages::Windows { days, history, back, ahead } => {
                let windows = |span: u32| (span + 1).div_ceil(days.max(1));
                Effort { first: windows(history + ahead), later: windows(back + ahead) }
            }
        }
    }

    /// The path of the next page.
    pub(super) fn fill(self, path: &str, question: &Question<'_>) -> String {
        let place = Place::of(question);
        let page = place.page + u32::from(matches!(self, Pages::FromOne { .. }));
        let path = path.replace("{page}", &page.to_string()).replace("{offset}", &place.page.to_string());
        match self.window(&place, question.now) {
            Some((from, to)) => path.replace("{from}", &from.to_string()).replace("{to}", &to.to_string()),
            None => path,
        }
    }

    /// First and last day of the window that comes next.
    fn window(self, place: &Place, now: Timestamp) -> Option<(NaiveDate, NaiveDate)> {
        let Pages::Windows { days, history, back, ahead } = self else { return None };
        let days_of = |count: u32| Days::new(u64::from(count));
        let today = now.date_naive();
        let begins = today.checked_sub_days(days_of(if place.was_read { back } else { history }))?;
        let from = place.from.unwrap_or(begins);
        let to = from.checked_add_days(days_of(days.saturating_sub(1)))?;
        Some((from, to.min(today.checked_add_days(days_of(ahead))?).max(from)))
    }

    /// The position after a page of `count` items, the newest of which stands at `newest` where they have places, and whether there
    /// is another.
    pub(super) fn next(
        self,
        question: &Question<'_>,
        count: usize,
        first: Option<&str>,
        newest: Option<Timestamp>,
    ) -> (Option<Position>, bool) {
        let mut place = Place::of(question);
        let has_more = match self {
            Pages::Once => return (None, false),
            Pages::Numbered { most } | Pages::FromOne { most } => {
                let first = first.map(digest);
                let is_news = match (newest, place.since) {
                    (Some(newest), Some(since)) => newest + OVERLAP >= since,
                    _ => true,
                };
                place.repeats = if first == place.first { place.repeats + 1 } else { 0 };
                let is_another = first.is_some() && place.repeats < 2;
                place.newest = place.newest.max(newest);
                place.first = first;
                place.page += 1;
                is_another && is_news && place.page < most
            }
            Pages::Offset { size } => {
                place.page = place.page.saturating_add(size);
                count >= size as usize
            }
            Pages::Windows { ahead, .. } => {
                let to = self.window(&place, question.now).map(|(_, to)| to);
                place.from = to.and_then(|to| to.succ_opt());
                let end = question.now.date_naive().checked_add_days(Days::new(u64::from(ahead)));
                place.from.zip(end).is_some_and(|(from, end)| from <= end)
            }
        };
        if !has_more {
            place = Place { since: place.newest.max(place.since), was_read: true, ..Place::default() };
        }
        (serde_json::to_value(&place).ok(), has_more)
    }
}
