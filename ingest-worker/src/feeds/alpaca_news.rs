//! News of Alpaca (which has them from Benzinga): headlines and summaries. What is edited comes again, with a time of its own.

use std::{collections::BTreeSet, time::Duration};

use super::{
    Endpoint, FeedSettings, Scope, alpaca,
    listed::{
        Known, Listed, ListedFeed, MACRO, Pages,
        Part::{Of, Symbol},
    },
};
use crate::{
    kinds::Listing,
    wire::{Limit, Request, Secret},
};

pub(super) const NAME: &str = "alpaca_news";

/// "200 requests a minute", for an account: the feeds of prices ask under it, too.
const LIMITS: &[Limit] = &[Limit { name: "account", requests: 100, per: Duration::from_secs(60), burst: 5 }];

const TABLE: &[Listed] = &[
    // Of everybody, which is one question a minute however many symbols there are.
    Listed {
        list: Some("news"),
        symbol: Some(&["symbols"]),
        event: Some(&["created_at"]),
        pages: Pages::Token { member: "next_page_token", history: 30, most: 1_000 },
        listing: Listing::Version,
        ..Listed::new(
            Endpoint {
                name: "news",
                path: "/v1beta1/news?sort=asc&limit=50&include_content=false&start={start}{token}",
                limit: "account",
                every: Duration::from_secs(60),
                scope: Scope::Whole,
                is_planned_by_symbol: false,
            },
            "fmp_news",
            &[Of(&["id"]), Symbol],
            Known::Published(&["updated_at", "created_at"]),
        )
    },
];

pub(super) struct AlpacaNews {
    rest: String,
    /// Headers.
    account: Vec<(&'static str, Secret)>,
    symbols: BTreeSet<String>,
}

impl AlpacaNews {
    pub(super) fn new(settings: FeedSettings) -> Self {
        let secret = |name| Secret(settings.credential(name).to_owned());
        let account = vec![
            ("APCA-API-KEY-ID", secret("APCA_API_KEY_ID")),
            ("APCA-API-SECRET-KEY", secret("APCA_API_SECRET_KEY")),
        ];
        let rest = settings.rest_url_or(alpaca::REST);
        AlpacaNews { rest, account, symbols: settings.symbols.into_iter().collect() }
    }
}

impl ListedFeed for AlpacaNews {
    const NAME: &'static str = NAME;
    const TABLE: &'static [Listed] = TABLE;

    fn limits(&self) -> &'static [Limit] {
        LIMITS
    }

    fn request(&self, _: &Listed, target: &str) -> Request {
        Request { headers: self.account.clone(), ..Request::get(format!("{}{target}", self.rest)) }
    }

    fn is_wanted(&self, symbol: &str) -> bool {
        symbol == MACRO || self.symbols.contains(symbol)
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{PollFeed, Position, Question},
        *,
    };
    use crate::kinds::{Record, Timestamp};

    fn ask(
        feed: &AlpacaNews,
        position: Option<&Position>,
        body: &str,
    ) -> (String, Vec<String>, Option<Position>) {
        let now: Timestamp = "2026-11-20T12:00:00Z".parse().unwrap();
        let question = Question { endpoint: &TABLE[0].endpoint, symbol: None, position, now };
        let url = PollFeed::request(feed, question).unwrap().url;
        let polled = feed.parse(question, body.as_bytes(), now).unwrap();
        let told = polled.records.iter().map(|record| match record {
            Record::Document(d) => format!("{} {:?} {}", d.key, d.symbol, d.known_at.format("%F %T")),
            other => panic!("{other:?}"),
        });
        assert_eq!(polled.has_more, body.contains("MDE2"));
        (url.strip_prefix(alpaca::REST).unwrap().to_owned(), told.collect(), polled.position)
    }

    #[test]
    fn news_are_read_page_by_page_and_revisions_again() {
        let feed = AlpacaNews::new(FeedSettings {
            symbols: vec!["AAPL".to_owned(), "MSFT".to_owned()],
            ..FeedSettings::default()
        });
        let item = |id: u32, updated: &str, symbols: &str| {
            format!(
                r#"{{"id":{id},"headline":"h","created_at":"2026-11-20T09:00:00Z","updated_at":"{updated}","symbols":{symbols}}}"#
            )
        };
        let first = format!(
            r#"{{"news":[{},{}],"next_page_token":"MDE2/="}}"#,
            item(1, "2026-11-20T09:00:05Z", r#"["AAPL","MSFT","ZZZ"]"#),
            item(2, "2026-11-20T09:30:00Z", "[]"),
        );
        let (url, told, position) = ask(&feed, None, &first);
        let path = "/v1beta1/news?sort=asc&limit=50&include_content=false&start=";
        assert_eq!(url, format!("{path}2026-10-21T12%3A00%3A00Z"));
        assert_eq!(
            told,
            [
                r#"1/AAPL Some("AAPL") 2026-11-20 09:00:05"#,
                r#"1/MSFT Some("MSFT") 2026-11-20 09:00:05"#,
                r#"2/_MACRO Some("_MACRO") 2026-11-20 09:30:00"#,
            ]
        );
        let last = format!(
            r#"{{"news":[{}],"next_page_token":null}}"#,
            item(1, "2026-11-20T10:00:00Z", r#"["AAPL"]"#)
        );
        let (url, told, position) = ask(&feed, position.as_ref(), &last);
        assert_eq!(url, format!("{path}2026-10-21T12%3A00%3A00Z&page_token=MDE2%2F%3D"));
        assert_eq!(told, [r#"1/AAPL Some("AAPL") 2026-11-20 10:00:00"#]);
        // The next reading begins with the newest.
        let (url, _, _) = ask(&feed, position.as_ref(), r#"{"news":[],"next_page_token":null}"#);
        assert_eq!(url, format!("{path}2026-11-20T10%3A00%3A00Z"));
    }
}
