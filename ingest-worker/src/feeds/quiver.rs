//! QuiverQuant: trades of members of Congress and of insiders, lobbying, contracts of the government, ratings of apps, volume off
//! exchanges.
//!
//! Most endpoints tell of everybody at once: they are asked once an hour, and none is asked name by name, since a universe would use up
//! what the account may ask. The day of a trade is known up to 45 days after it, so nothing is dated by it, and what the
//! vendor computes of the price since then looks ahead of the disclosure: it is not stored.

use std::{collections::BTreeSet, time::Duration};

use serde::Deserialize;

use super::{
    Endpoint, FeedSettings, Scope,
    listed::{
        Field, Known, Listed, ListedFeed, Pages, Part,
        Part::{Day, Is, Maybe, Of, Symbol},
    },
};
use crate::{
    error::FeedError,
    wire::{Limit, Request, Secret},
};

pub(super) const NAME: &str = "quiver";
pub(super) const REST: &str = "https://api.quiverquant.com";
pub(super) const CREDENTIALS: &[&str] = &["QUIVER_API_KEY"];

const HOUR: u64 = 3_600;
const DAY: u64 = 24 * HOUR;

/// "Each endpoint has a rate limit of 100 requests per minute, 10 per minute, 200 per hour or 5 per hour [bulk]. All endpoints with the same
/// limit draw from one allowance." Which of the first three an endpoint has changes: the smallest holds for all.
const LIMITS: &[Limit] = &[
    Limit { name: "hour", requests: 200, per: Duration::from_secs(HOUR), burst: 5 },
    Limit { name: "bulk", requests: 5, per: Duration::from_secs(HOUR), burst: 1 },
];

const TICKER: Field = &["Ticker"];
const DATE: Field = &["Date"];
const UPLOADED: Field = &["Quiver_Upload_Time", "uploaded"];
const FILED: Field = &["Filed", "ReportDate"];
const FILED_BY_INSIDER: Field = &["fileDate"];
const REPORTED: Known = Known::Disclosed { uploaded: &[], filed: DATE };

/// A disclosure, by what it says: the vendor numbers none. The spelling of its second version first.
const TRADE: &[Part] = &[
    Symbol,
    Day(FILED),
    Of(&["BioGuideID", "Name", "Representative", "Senator"]),
    Day(&["Traded", "TransactionDate", "Date"]),
    Of(&["Transaction"]),
    Of(&["Trade_Size_USD", "Range", "Amount"]),
];

/// Returns since the trade, and stamps of the vendor's that change though the fact does not.
const AHEAD: &[&str] = &[
    "ExcessReturn",
    "PriceChange",
    "SPYChange",
    "excess_return",
    "last_modified",
    "Quiver_Upload_Time",
    "uploaded",
];

const fn line(
    name: &'static str,
    path: &'static str,
    every: u64,
    kind: &'static str,
    key: &'static [Part],
    known: Known,
) -> Listed {
    let endpoint = Endpoint {
        name,
        path,
        limit: "hour",
        every: Duration::from_secs(every),
        scope: Scope::Whole,
        is_planned_by_symbol: false,
    };
    Listed { symbol: Some(TICKER), omit: AHEAD, ..Listed::new(endpoint, kind, key, known) }
}

/// Of the whole history, few large answers.
const fn bulk(line: Listed) -> Listed {
    Listed { endpoint: Endpoint { limit: "bulk", ..line.endpoint }, ..line }
}

const fn trades(name: &'static str, path: &'static str, every: u64, kind: &'static str) -> Listed {
    let known = Known::Disclosed { uploaded: UPLOADED, filed: FILED };
    Listed { event: Some(FILED), ..line(name, path, every, kind, TRADE, known) }
}

const TABLE: &[Listed] = &[
    trades("congress", "/beta/live/congresstrading?version=V2", HOUR, "quiver_congress"),
    bulk(Listed {
        pages: Pages::FromOne { most: 40, is_whole: true },
        ..trades(
            "congress-bulk",
            "/beta/bulk/congresstrading?version=V2&page={page}&page_size=5000",
            DAY,
            "quiver_congress",
        )
    }),
    trades("house", "/beta/live/housetrading", HOUR, "quiver_house"),
    trades("senate", "/beta/live/senatetrading", HOUR, "quiver_senate"),
    Listed {
        event: Some(FILED_BY_INSIDER),
        pages: Pages::FromOne { most: 100, is_whole: false },
        ..line(
            "insiders",
            "/beta/live/insiders?page={page}&page_size=1000",
            HOUR,
            "quiver_insiders",
            &[
                Symbol,
                Day(FILED_BY_INSIDER),
                Of(&["Name"]),
                Day(DATE),
                Of(&["TransactionCode"]),
                Of(&["Shares"]),
                Maybe(&["PricePerShare"]),
            ],
            Known::Disclosed { uploaded: UPLOADED, filed: FILED_BY_INSIDER },
        )
    },
    Listed {
        event: Some(DATE),
        pages: Pages::FromOne { most: 50, is_whole: false },
        ..line(
            "lobbying",
            "/beta/live/lobbying?all=true&page={page}&page_size=1000",
            HOUR,
            "quiver_lobbying",
            &[
                Symbol,
                Day(DATE),
                Maybe(&["Registrant"]),
                Maybe(&["Client"]),
                Maybe(&["Specific_Issue", "Issue"]),
            ],
            REPORTED,
        )
    },
    Listed {
        event: Some(DATE),
        pages: Pages::FromOne { most: 50, is_whole: false },
        ..line(
            "gov-contracts",
            "/beta/live/govcontractsall?page={page}&page_size=1000",
            HOUR,
            "quiver_gov_contracts",
            &[Symbol, Day(DATE), Of(&["Amount"]), Maybe(&["Agency"]), Maybe(&["Description"])],
            REPORTED,
        )
    },
    Listed {
        event: Some(&["Time"]),
        ..line(
            "app-ratings",
            "/beta/live/appratings",
            HOUR,
            "quiver_app_ratings",
            &[Symbol, Of(&["App"]), Day(&["Time"])],
            Known::Published(&["Time"]),
        )
    },
    Listed {
        event: Some(DATE),
        ..line(
            "off-exchange",
            "/beta/live/offexchange",
            HOUR,
            "quiver_offexchange",
            &[Symbol, Day(DATE)],
            Known::BeforeNextSession(DATE),
        )
    },
    // The vendor's description no longer has these.
    Listed {
        is_optional: true,
        ..line(
            "political-beta",
            "/beta/live/politicalbeta",
            6 * HOUR,
            "quiver_political_beta",
            &[Is("today"), Symbol],
            Known::Received,
        )
    },
    bulk(Listed {
        is_optional: true,
        event: Some(DATE),
        ..line(
            "political-beta-bulk",
            "/beta/bulk/politicalbeta",
            7 * DAY,
            "quiver_political_beta",
            &[Is("bulk"), Symbol, Day(DATE)],
            Known::Received,
        )
    }),
    Listed {
        is_optional: true,
        ..line(
            "etf-holdings",
            "/beta/live/etfholdings",
            DAY,
            "quiver_etf_weight",
            &[Of(&["ETF", "Fund"]), Symbol],
            Known::Received,
        )
    },
];

pub(super) struct Quiver {
    rest: String,
    /// With the word that the vendor wants before the key.
    authorization: Secret,
    symbols: BTreeSet<String>,
    also: Vec<String>,
}

impl Quiver {
    pub(super) fn new(settings: FeedSettings) -> Self {
        Quiver {
            rest: settings.rest_url_or(REST),
            authorization: Secret(format!("Bearer {}", settings.credential("QUIVER_API_KEY"))),
            symbols: settings.symbols.into_iter().collect(),
            also: settings.also,
        }
    }
}

/// `{"detail":"Invalid token."}`, or a text in the place of a list, with a status of success.
#[derive(Deserialize)]
#[serde(untagged)]
enum Refusal {
    Detail { detail: String },
    Text(String),
}

impl ListedFeed for Quiver {
    const NAME: &'static str = NAME;
    const TABLE: &'static [Listed] = TABLE;

    fn limits(&self) -> &'static [Limit] {
        LIMITS
    }

    fn request(&self, _: &Listed, target: &str) -> Request {
        let headers = vec![("Authorization", self.authorization.clone())];
        Request { headers, ..Request::get(format!("{}{target}", self.rest)) }
    }

    fn refusal(&self, body: &[u8]) -> Option<FeedError> {
        let (Refusal::Detail { detail: reason } | Refusal::Text(reason)) =
            serde_json::from_slice(body).ok()?;
        let words = reason.to_ascii_lowercase();
        Some(if words.contains("upgrade") || words.contains("subscription") {
            FeedError::NotInPlan(reason)
        } else if words.contains("throttled") {
            FeedError::RateLimited { reason, retry_after: None }
        } else if words.contains("token") || words.contains("credentials") {
            FeedError::Fatal(reason)
        } else {
            FeedError::Rejected(reason)
        })
    }

    fn reads(&self, line: &Listed) -> bool {
        !line.is_optional || self.also.iter().any(|name| name == line.endpoint.name)
    }

    fn is_wanted(&self, symbol: &str) -> bool {
        self.symbols.contains(symbol)
    }
}

#[cfg(test)]
mod tests;
