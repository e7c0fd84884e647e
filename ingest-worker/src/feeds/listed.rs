//! Feeds whose answers are lists of documents: what a line of their table says, and how an answer is read by it.
//!
//! Most vendors of facts differ in words alone: an address with parameters, a list of objects, fields that name the object, a
//! field that dates it, pages. A line of [`Listed`] says that of one endpoint, so adding one is a line; a feed of this kind is its
//! table, its limits, its credentials, and what it calls an error. Rejected: structs for each answer, which lose what they do
//! not know, and of which vendors change the spelling without notice; the tables of `sql/market` give names and types.

mod bars;
mod cashtags;
mod html;
mod item;
mod known;
mod pages;

use std::{collections::BTreeMap, time::Duration};

use serde_json::value::RawValue;

use cashtags::cashtags;
pub(super) use item::{Field, Item};
pub(super) use known::Known;
pub(super) use pages::{Ids, Pages};

use pages::Page;

use super::{Effort, Endpoint, PollFeed, Polled, Question, from_json};
use crate::{
    error::FeedError,
    kinds::{Document, Listing, Record, Rejected, Timestamp},
    wire::{Bandwidth, Limit, Request},
};

/// One line of the table of a feed whose answers are lists.
#[derive(Clone, Copy, Debug)]
pub(super) struct Listed {
    /// Its path has `{symbol}`, and what [`Pages`] fills in.
    pub endpoint: Endpoint,
    /// What its documents are called: the table of that name has them, if there is one.
    pub kind: &'static str,
    /// The member of the answer that is the list; `None`: the answer is.
    pub list: Option<&'static str>,
    /// What tells a document from the others of its kind.
    pub key: &'static [Part],
    /// Whom an item is about, where that is not the symbol that was asked for. One that does not say is about nobody, and left out; of
    /// a list of several there is a document each.
    pub symbol: Option<Field>,
    /// What the vendor puts behind every symbol.
    pub suffix: &'static str,
    /// A text that says whom an item is about: `$AAPL`.
    pub cashtags: Option<Field>,
    /// When what it tells of happened.
    pub event: Option<Field>,
    pub known: Known,
    pub pages: Pages,
    pub listing: Listing,
    /// Members that change though the fact does not, or that look ahead of it.
    pub omit: &'static [&'static str],
    /// Kilobytes of an answer, about: what `plan` tells of bandwidth.
    pub kilobytes: u32,
    /// Whether items are daily bars, and no documents.
    pub is_of_bars: bool,
    /// Whether it is read only where the configuration names it: what its vendor no longer describes.
    pub is_optional: bool,
    /// Members that are HTML, of which the text is kept.
    pub html: &'static [&'static str],
}

/// Whom an item is about that names nobody: a pseudo-symbol.
pub(super) const MACRO: &str = "_MACRO";

/// A part of a key.
#[derive(Clone, Copy, Debug)]
pub(super) enum Part {
    /// The symbol, in the spelling of the vendor.
    Symbol,
    /// The symbol that was asked for, where an item is about another.
    Asked,
    /// A word of ours, where several endpoints fill one table.
    Is(&'static str),
    Of(Field),
    /// The day that a field begins with, which vendors write with or without a time.
    Day(Field),
    /// A digest of a field that is long.
    Hash(Field),
    /// The same of one that need not be there.
    Maybe(Field),
}

impl Listed {
    /// A list that comes at once, about the symbol that was asked for, and tells how things stand.
    pub const fn new(endpoint: Endpoint, kind: &'static str, key: &'static [Part], known: Known) -> Self {
        Listed {
            endpoint,
            kind,
            list: None,
            key,
            symbol: None,
            suffix: "",
            cashtags: None,
            event: None,
            known,
            pages: Pages::Once,
            listing: Listing::State,
            omit: &[],
            kilobytes: 10,
            is_of_bars: false,
            is_optional: false,
            html: &[],
        }
    }

    /// Path and parameters of a question.
    fn target(&self, question: &Question<'_>) -> String {
        let symbol = escaped(question.symbol.unwrap_or_default());
        self.pages.fill(&self.endpoint.path.replace("{symbol}", &symbol), question)
    }

    /// Reads the answer to a question. Items about symbols for which `is_wanted` is false are left out.
    ///
    /// # Errors
    /// [`FeedError::Rejected`] for an answer that is no list.
    fn parse(
        &self,
        question: &Question<'_>,
        body: &[u8],
        received_at: Timestamp,
        is_wanted: impl Fn(&str) -> bool,
    ) -> Result<Polled, FeedError> {
        let mut rest = BTreeMap::new();
        let list: &RawValue = match self.list {
            None => from_json(body)?,
            Some(member) => {
                rest = from_json::<BTreeMap<String, &RawValue>>(body)?;
                let list = rest.remove(member);
                list.ok_or_else(|| FeedError::Rejected(format!("an answer without \"{member}\"")))?
            }
        };
        let items: Vec<&RawValue> =
            serde_json::from_str(list.get()).map_err(|e| FeedError::Rejected(format!("no list: {e}")))?;
        let (mut documents, mut others) = (Vec::with_capacity(items.len()), Vec::new());
        let mut newest = None;
        for raw in &items {
            let read = if self.is_of_bars {
                let symbol = question.symbol.unwrap_or_default();
                bars::daily(raw, symbol, self.known, received_at)
                    .map(|bar| others.extend(bar.map(Record::Bar)))
            } else {
                self.documents(question, raw, received_at).map(|(told, place)| {
                    documents.extend(told);
                    newest = newest.max(place);
                })
            };
            if let Err(reason) = read {
                others.push(Record::Rejected(Rejected::new(raw.get().as_bytes(), reason, received_at)));
            }
        }
        let page = Page { items: &items, newest, rest: &rest };
        let (position, has_more) = self.pages.next(question, &page);
        let is_kept = |symbol: &str| !symbol.is_empty() && is_wanted(symbol);
        documents.retain(|document| document.symbol.as_deref().is_none_or(is_kept));
        // Older versions first, as the store wants them.
        documents.sort_by(|a, b| (&a.key, a.known_at, &a.digest).cmp(&(&b.key, b.known_at, &b.digest)));
        documents.dedup_by(|b, a| a.key == b.key && a.digest == b.digest);
        if self.listing == Listing::State {
            tell_apart(&mut documents);
        }
        let records = documents.into_iter().map(Record::Document).chain(others).collect();
        Ok(Polled { records, position, has_more })
    }

    /// The documents that an item is, one for each symbol that it is about, and its place in a list that has the newest first.
    fn documents(
        &self,
        question: &Question<'_>,
        raw: &RawValue,
        received_at: Timestamp,
    ) -> Result<(Vec<Document>, Option<Timestamp>), String> {
        let mut item = Item::read(raw)?;
        item.make_plain(self.html);
        let event_time = self.event.and_then(|field| item.text(field)).and_then(|text| known::day(&text));
        let (known_at, place) = (self.known.at(&item, received_at), self.known.place(&item));
        let payload = item.payload(self.omit);
        let document = |symbol: Option<String>| {
            let key = self.key(question, &item, symbol.as_deref())?;
            let document = Document::new(self.kind, key, &payload, received_at)?;
            Ok(Document { symbol, event_time, known_at, listing: self.listing, ..document })
        };
        let documents: Result<_, String> = self.symbols(question, &item).into_iter().map(document).collect();
        Ok((documents?, place))
    }

    /// Whom an item is about.
    fn symbols(&self, question: &Question<'_>, item: &Item<'_>) -> Vec<Option<String>> {
        let named = match (self.cashtags, self.symbol) {
            (Some(field), _) => Some(item.text(field).map(|text| cashtags(&text)).unwrap_or_default()),
            (None, Some(field)) => item.texts(field),
            (None, None) => None,
        };
        match named {
            Some(named) if named.is_empty() => vec![Some(MACRO.to_owned())],
            Some(named) => named.iter().map(|name| Some(self.plain(name))).collect(),
            None => vec![match self.symbol {
                Some(field) => Some(self.plain(&item.text(field).unwrap_or_default())),
                None => question.symbol.map(str::to_owned),
            }],
        }
    }

    /// A symbol without what the vendor puts behind it.
    fn plain(&self, name: &str) -> String {
        name.strip_suffix(self.suffix).unwrap_or(name).to_owned()
    }

    fn key(&self, question: &Question<'_>, item: &Item<'_>, symbol: Option<&str>) -> Result<String, String> {
        let mut key = Vec::with_capacity(self.key.len());
        for part in self.key {
            let of =
                |field: Field| item.text(field).ok_or_else(|| format!("no \"{}\"", field.join("\" or \"")));
            key.push(match part {
                Part::Symbol => symbol.ok_or("no symbol")?.to_owned(),
                Part::Asked => question.symbol.ok_or("no symbol")?.to_owned(),
                Part::Is(word) => (*word).to_owned(),
                Part::Of(field) => of(field)?,
                Part::Day(field) => known::date(&of(field)?)
                    .ok_or_else(|| format!("no day in \"{}\"", field.join("\" or \"")))?
                    .to_string(),
                Part::Hash(field) => item::digest(&of(field)?),
                Part::Maybe(field) => item.text(field).map_or_else(String::new, |text| item::digest(&text)),
            });
        }
        Ok(key.join("/"))
    }
}

/// A polled feed whose answers are lists: what it has to say beside its table.
pub(super) trait ListedFeed: Send + Sync {
    /// As [`PollFeed::name`].
    const NAME: &'static str;
    /// What there is to read.
    const TABLE: &'static [Listed];

    /// As [`PollFeed::limits`].
    fn limits(&self) -> &'static [Limit];

    /// The request for path and parameters of a line: the address, and how the account is named.
    fn request(&self, line: &Listed, target: &str) -> Request;

    /// The error that an answer tells of, though its status is one of success.
    fn refusal(&self, body: &[u8]) -> Option<FeedError> {
        let _ = body;
        None
    }

    /// As [`PollFeed::bandwidth`].
    fn bandwidth(&self) -> Option<Bandwidth> {
        None
    }

    /// As [`PollFeed::meaning`].
    fn meaning(&self, refusal: FeedError) -> FeedError {
        refusal
    }

    /// Whether a line is read.
    fn reads(&self, line: &Listed) -> bool {
        !line.is_optional
    }
    /// How long a question rests after a reading, where `rate` items an hour have come (`None`: not known) and `urgency` says how many
    /// times as much as others its symbol matters.
    fn pace(&self, line: &Listed, rate: Option<f64>, urgency: f64) -> Duration {
        let _ = (rate, urgency);
        line.endpoint.every
    }

    /// As [`PollFeed::heeds_attention`].
    const HEEDS_ATTENTION: bool = false;
    /// As [`PollFeed::asks_about_instruments`].
    const ASKS_ABOUT_INSTRUMENTS: bool = true;
    /// As [`PollFeed::stays_blocked`].
    const STAYS_BLOCKED: bool = false;

    /// Whether documents about a symbol are kept where the answer is about everybody.
    fn is_wanted(&self, symbol: &str) -> bool {
        let _ = symbol;
        true
    }
}

impl<F: ListedFeed> PollFeed for F {
    fn name(&self) -> &'static str {
        F::NAME
    }

    fn limits(&self) -> &'static [Limit] {
        ListedFeed::limits(self)
    }

    fn bandwidth(&self) -> Option<Bandwidth> {
        ListedFeed::bandwidth(self)
    }

    fn answer_bytes(&self, endpoint: &Endpoint) -> u64 {
        line(F::TABLE, endpoint).map_or(0, |line| u64::from(line.kilobytes) * 1_000)
    }

    fn endpoints(&self) -> Vec<&'static Endpoint> {
        F::TABLE.iter().filter(|line| self.reads(line)).map(|line| &line.endpoint).collect()
    }

    fn effort(&self, endpoint: &Endpoint) -> Effort {
        line(F::TABLE, endpoint).map_or(Effort { first: 1, later: 1 }, |line| line.pages.effort())
    }

    fn pace(&self, question: Question<'_>, urgency: f64) -> Duration {
        let line = line(F::TABLE, question.endpoint);
        line.map_or(question.endpoint.every, |line| {
            ListedFeed::pace(self, line, Pages::rate(&question), urgency)
        })
    }

    fn heeds_attention(&self) -> bool {
        F::HEEDS_ATTENTION
    }

    fn asks_about_instruments(&self) -> bool {
        F::ASKS_ABOUT_INSTRUMENTS
    }

    fn stays_blocked(&self) -> bool {
        F::STAYS_BLOCKED
    }

    fn request(&self, question: Question<'_>) -> Result<Request, FeedError> {
        let line = line(F::TABLE, question.endpoint)?;
        Ok(ListedFeed::request(self, line, &line.target(&question)))
    }

    fn meaning(&self, refusal: FeedError) -> FeedError {
        ListedFeed::meaning(self, refusal)
    }

    fn parse(
        &self,
        question: Question<'_>,
        body: &[u8],
        received_at: Timestamp,
    ) -> Result<Polled, FeedError> {
        if let Some(refusal) = self.refusal(body) {
            return Err(refusal);
        }
        let is_wanted = |symbol: &str| question.symbol.is_some() || self.is_wanted(symbol);
        line(F::TABLE, question.endpoint)?.parse(&question, body, received_at, is_wanted)
    }
}

/// The line of an endpoint.
fn line(table: &'static [Listed], endpoint: &Endpoint) -> Result<&'static Listed, FeedError> {
    let found = table.iter().find(|line| line.endpoint.name == endpoint.name);
    found.ok_or_else(|| FeedError::Fatal(format!("no endpoint of this feed: {}", endpoint.name)))
}

/// Several documents under one key in one answer (a statement and its amendment, two grades of a day) are no versions of one
/// fact, or reading the list again and again would seem to change it for and back: the second is called `…~2`.
fn tell_apart(documents: &mut [Document]) {
    let mut count = 1;
    let mut before = String::new();
    for document in documents {
        if document.key == before {
            count += 1;
            document.key = format!("{before}~{count}");
        } else {
            count = 1;
            before.clone_from(&document.key);
        }
    }
}

/// A symbol as a part of an address: `^VIX`, `BRK/B`, `BTC USD`.
fn escaped(text: &str) -> String {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~".contains(byte);
    let spell = |byte: u8| if plain(&byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") };
    text.bytes().map(spell).collect()
}

#[cfg(test)]
mod tests;
