//! How a list is read page by page, and where the next reading begins.

use std::{cmp::Ordering, collections::BTreeMap};

use chrono::{Days, NaiveDate, SecondsFormat, TimeDelta};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{
    Field, escaped,
    item::{Item, digest},
};
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
    /// The same, from 1; to the end at every reading where `is_whole`, for what is corrected long after.
    FromOne { most: u32, is_whole: bool },
    /// `{offset}`: until fewer than `size` come.
    Offset { size: u32 },
    /// `{from}` and `{to}`: windows of `days`, from `history` days ago at the first reading and from `back` days ago at later
    /// ones, until `ahead` days from now.
    Windows { days: u32, history: u32, back: u32, ahead: u32 },
    /// `{walk}`: the newest first, back to the newest of the last reading.
    Ids(Ids),
    /// `{start}` and `{token}`: in the order of their stamps, from the newest of the last reading, or from `history` days ago; pages
    /// are named by a token in the answer, `most` at most.
    Token { member: &'static str, history: u32, most: u32 },
}

/// A list whose items have numbers that grow. A reading walks back to where the last one began; where it is interrupted it goes on
/// where it stood, and what has come since is for the next, so nothing is left out.
#[derive(Clone, Copy, Debug)]
pub(in crate::feeds) struct Ids {
    /// The number, as digits: a shorter one is smaller.
    pub id: Field,
    /// Parameters for the bounds of a page, both exclusive (or not: what comes twice is known).
    pub before: &'static str,
    pub after: &'static str,
    /// Where an answer says whether there is more; without one, an empty page is the end.
    pub more: Option<[&'static str; 2]>,
    /// Pages of the first reading: a vendor's archive has years.
    pub first: u32,
}

/// What pages tell apart of an answer.
pub(super) struct Page<'a> {
    pub items: &'a [&'a RawValue],
    /// Place of the newest item, where items have places.
    pub newest: Option<Timestamp>,
    /// The members of the answer beside the list.
    pub rest: &'a BTreeMap<String, &'a RawValue>,
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
    /// Number of the newest item of the last reading.
    floor: Option<String>,
    /// Number of the newest item of this reading.
    top: Option<String>,
    /// Number of the oldest item of the page before.
    below: Option<String>,
    /// Name of the page that comes next.
    token: Option<String>,
    /// Items of this reading that the last one did not have.
    count: u32,
    /// When the last reading ended.
    read_at: Option<Timestamp>,
    /// Items an hour, as the last readings found them.
    rate: Option<f64>,
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
    /// Items an hour, as the last readings have found them.
    pub(super) fn rate(question: &Question<'_>) -> Option<f64> {
        Place::of(question).rate
    }

    /// How many pages a reading has.
    pub(super) fn effort(self) -> Effort {
        match self {
            Pages::Once | Pages::Offset { .. } => Effort { first: 1, later: 1 },
            // A page more shows that there is none.
            Pages::FromOne { most, is_whole: true } => Effort { first: most, later: most },
            Pages::Numbered { most } | Pages::FromOne { most, .. } => {
                Effort { first: most, later: 2.min(most) }
            }
            Pages::Ids(Ids { first, .. }) => Effort { first, later: 1 },
            Pages::Token { most, .. } => Effort { first: most, later: 1 },
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
        match self {
            Pages::Ids(ids) => path.replace("{walk}", &ids.bounds(&place)),
            Pages::Token { history, .. } => {
                let first = question.now - TimeDelta::days(i64::from(history));
                let start = place.since.unwrap_or(first).to_rfc3339_opts(SecondsFormat::AutoSi, true);
                let token = place.token.map(|token| format!("&page_token={}", escaped(&token)));
                path.replace("{start}", &escaped(&start)).replace("{token}", &token.unwrap_or_default())
            }
            _ => match self.window(&place, question.now) {
                Some((from, to)) => {
                    path.replace("{from}", &from.to_string()).replace("{to}", &to.to_string())
                }
                None => path,
            },
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

    /// The position after a page, and whether there is another.
    pub(super) fn next(self, question: &Question<'_>, page: &Page<'_>) -> (Option<Position>, bool) {
        let mut place = Place::of(question);
        let has_more = match self {
            Pages::Once => return (None, false),
            Pages::Numbered { most } | Pages::FromOne { most, .. } => {
                let first = page.items.first().map(|raw| digest(raw.get()));
                let is_whole = matches!(self, Pages::FromOne { is_whole: true, .. });
                let is_news = match (page.newest, place.since) {
                    (Some(newest), Some(since)) => is_whole || newest + OVERLAP >= since,
                    _ => true,
                };
                place.repeats = if first == place.first { place.repeats + 1 } else { 0 };
                let is_another = first.is_some() && place.repeats < 2;
                place.newest = place.newest.max(page.newest);
                place.first = first;
                place.page += 1;
                is_another && is_news && place.page < most
            }
            Pages::Offset { size } => {
                place.page = place.page.saturating_add(size);
                page.items.len() >= size as usize
            }
            Pages::Windows { ahead, .. } => {
                let to = self.window(&place, question.now).map(|(_, to)| to);
                place.from = to.and_then(|to| to.succ_opt());
                let end = question.now.date_naive().checked_add_days(Days::new(u64::from(ahead)));
                place.from.zip(end).is_some_and(|(from, end)| from <= end)
            }
            Pages::Ids(ids) => ids.goes_on(&mut place, page),
            Pages::Token { member, most, .. } => {
                let token = page.rest.get(member).and_then(|raw| serde_json::from_str(raw.get()).ok());
                place.newest = place.newest.max(page.newest);
                place.page += 1;
                place.token = token;
                place.token.is_some() && place.page < most
            }
        };
        if !has_more {
            place = place.ended(question.now);
        }
        (serde_json::to_value(&place).ok(), has_more)
    }
}

impl Place {
    /// Where the next reading begins.
    fn ended(self, now: Timestamp) -> Self {
        let hours = self.read_at.map(|at| (now - at).as_seconds_f64() / 3_600.0).filter(|hours| *hours > 0.0);
        // Half of it is new, so that a burst is noticed and a quiet hour is not taken for silence.
        let found = hours.map(|hours| f64::from(self.count) / hours);
        let rate = match (self.rate, found) {
            (Some(before), Some(found)) => Some((before + found) / 2.0),
            (before, found) => found.or(before),
        };
        let floor = later(self.top, self.floor);
        let since = self.newest.max(self.since);
        Place { since, was_read: true, floor, read_at: Some(now), rate, ..Place::default() }
    }
}

/// The larger of two numbers.
fn later(a: Option<String>, b: Option<String>) -> Option<String> {
    match (a, b) {
        (Some(a), Some(b)) => Some(if order(&a, &b).is_lt() { b } else { a }),
        (a, b) => a.or(b),
    }
}

/// Numbers by their size: of digits, however many, the shorter text is the smaller number.
fn order(a: &str, b: &str) -> Ordering {
    (a.len(), a).cmp(&(b.len(), b))
}

impl Ids {
    fn bounds(self, place: &Place) -> String {
        let bound = |name: &str, id: &Option<String>| {
            id.as_ref().map(|id| format!("&{name}={}", escaped(id))).unwrap_or_default()
        };
        bound(self.after, &place.floor) + &bound(self.before, &place.below)
    }

    /// Whether there is a page below this one that the last reading did not have.
    fn goes_on(self, place: &mut Place, page: &Page<'_>) -> bool {
        let is_number = |id: &String| id.bytes().all(|byte| byte.is_ascii_digit());
        let id = |raw: &&RawValue| Item::read(raw).ok()?.text(self.id).filter(is_number);
        let ids: Vec<String> = page.items.iter().filter_map(id).collect();
        let is_known = |id: &String| place.floor.as_ref().is_some_and(|floor| order(id, floor).is_le());
        let news = ids.iter().filter(|id| !is_known(id)).count();
        let reached = news < ids.len();
        place.count = place.count.saturating_add(u32::try_from(news).unwrap_or(u32::MAX));
        place.page += 1;
        let Some(oldest) = ids.iter().min_by(|a, b| order(a, b)).cloned() else { return false };
        let newest = ids.into_iter().max_by(|a, b| order(a, b));
        place.top = later(place.top.take(), newest);
        // A vendor that does not know the bound would tell the same page for ever.
        let goes_down = place.below.as_ref().is_none_or(|below| order(&oldest, below).is_lt());
        place.below = Some(oldest);
        let is_first = place.floor.is_none();
        goes_down && !reached && self.says_more(page) && !(is_first && place.page >= self.first)
    }

    fn says_more(self, page: &Page<'_>) -> bool {
        let Some([outer, inner]) = self.more else { return true };
        let Some(raw) = page.rest.get(outer) else { return true };
        let members: BTreeMap<String, &RawValue> = serde_json::from_str(raw.get()).unwrap_or_default();
        // Where it does not say, the next page will.
        members.get(inner).is_none_or(|more| more.get() != "false")
    }
}
