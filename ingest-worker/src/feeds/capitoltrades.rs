//! CapitolTrades: trades of members of Congress, as its own pages ask for them.
//!
//! There is no official interface, the terms of use are the user's to read, and QuiverQuant has the same trades: it runs only where the
//! configuration says so, asks seldom, and stops at the first refusal.

use std::{collections::BTreeSet, time::Duration};

use super::{
    Endpoint, FeedSettings, Scope,
    listed::{Known, Listed, ListedFeed, Pages, Part::Of},
};
use crate::{
    error::FeedError,
    wire::{Limit, Request},
};

pub(super) const NAME: &str = "capitoltrades";
pub(super) const REST: &str = "https://bff.capitoltrades.com";

/// A request in seven seconds, which is what its readers need at most.
const LIMITS: &[Limit] = &[Limit { name: "site", requests: 1, per: Duration::from_secs(7), burst: 1 }];

const TABLE: &[Listed] = &[Listed {
    list: Some("data"),
    symbol: Some(&["asset.assetTicker", "issuer.issuerTicker"]),
    suffix: ":US",
    event: Some(&["filingDate"]),
    pages: Pages::FromOne { most: 100, is_whole: false },
    ..Listed::new(
        Endpoint {
            name: "trades",
            path: "/trades?page={page}&pageSize=100&sortBy=-pubDate",
            limit: "site",
            every: Duration::from_secs(3_600),
            scope: Scope::Whole,
            is_planned_by_symbol: false,
        },
        "capitol_trades",
        &[Of(&["_txId"])],
        Known::Published(&["pubDate"]),
    )
}];

pub(super) struct CapitolTrades {
    rest: String,
    symbols: BTreeSet<String>,
}

impl CapitolTrades {
    pub(super) fn new(settings: FeedSettings) -> Self {
        CapitolTrades { rest: settings.rest_url_or(REST), symbols: settings.symbols.into_iter().collect() }
    }
}

impl ListedFeed for CapitolTrades {
    const NAME: &'static str = NAME;
    const TABLE: &'static [Listed] = TABLE;

    fn limits(&self) -> &'static [Limit] {
        LIMITS
    }

    fn request(&self, _: &Listed, target: &str) -> Request {
        Request::get(format!("{}{target}", self.rest))
    }

    /// There are no plans here: who is turned away is not wanted.
    fn meaning(&self, refusal: FeedError) -> FeedError {
        match refusal {
            FeedError::NotInPlan(reason) => FeedError::Fatal(reason),
            other => other,
        }
    }

    fn is_wanted(&self, symbol: &str) -> bool {
        self.symbols.contains(symbol)
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{PollFeed, Question, find},
        *,
    };
    use crate::{
        config::Config,
        kinds::{Record, Timestamp},
    };

    #[test]
    fn a_trade_is_known_when_it_was_published_under_the_symbol_without_its_country() {
        let symbols = vec!["XYZ".to_owned()];
        let feed = CapitolTrades::new(FeedSettings { symbols, ..FeedSettings::default() });
        let now: Timestamp = "2026-11-20T12:00:00Z".parse().unwrap();
        let question = Question { endpoint: &TABLE[0].endpoint, symbol: None, position: None, now };
        assert_eq!(
            PollFeed::request(&feed, question).unwrap().url,
            format!("{REST}/trades?page=1&pageSize=100&sortBy=-pubDate")
        );
        let body = br#"{"meta":{"paging":{"page":1}},"data":[
            {"_txId":20003339999,"pubDate":"2026-11-19T14:00:00Z","filingDate":"2026-11-18","txDate":"2026-10-21","txType":"buy",
             "chamber":"senate","sizeRangeLow":1001,"sizeRangeHigh":15000,"value":8000,"asset":{"assetType":"stock","assetTicker":"XYZ:US"}},
            {"_txId":2,"pubDate":"2026-11-19T14:00:00Z","txType":"sell","asset":{"assetTicker":null},"issuer":{"issuerTicker":"XYZ:US"}},
            {"_txId":3,"pubDate":"2026-11-19T14:00:00Z","txType":"buy","asset":{"assetTicker":"XYZ:LN"}},
            {"_txId":4,"pubDate":"2026-11-19T14:00:00Z","txType":"buy","asset":{"assetType":"mutual-fund"}}]}"#;
        let polled = feed.parse(question, body, now).unwrap();
        let told: Vec<_> = polled
            .records
            .iter()
            .map(|record| match record {
                Record::Document(d) => (d.key.as_str(), d.symbol.as_deref(), d.known_at.to_rfc3339()),
                other => panic!("{other:?}"),
            })
            .collect();
        let known = || "2026-11-19T14:00:00+00:00".to_owned();
        assert_eq!(told, [("2", Some("XYZ"), known()), ("20003339999", Some("XYZ"), known())]);
    }

    #[test]
    fn who_is_turned_away_stops_and_who_is_asked_to_wait_waits() {
        let feed = CapitolTrades::new(FeedSettings::default());
        let refused = PollFeed::meaning(&feed, FeedError::NotInPlan("HTTP 403".to_owned()));
        assert_eq!(refused, FeedError::Fatal("HTTP 403".to_owned()));
        let limited = FeedError::RateLimited { reason: "HTTP 429".to_owned(), retry_after: None };
        assert_eq!(PollFeed::meaning(&feed, limited.clone()), limited);
    }

    #[test]
    fn it_runs_only_where_the_configuration_says_so() {
        let is_enabled = |line: &str| {
            let text = format!("[feeds.capitoltrades]\nsymbols = [\"XYZ\"]\n{line}");
            Config::parse(&text).unwrap().feeds[NAME].is_enabled(find(NAME).unwrap())
        };
        assert!(!is_enabled(""));
        assert!(!is_enabled("enabled = false"));
        assert!(is_enabled("enabled = true"));
    }
}
