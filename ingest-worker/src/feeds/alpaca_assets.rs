//! What Alpaca's broker says of shares: whether they can be traded, and whether they can be borrowed to be sold short.
//!
//! A share that is delisted leaves the list of those that are active, so the others are read as well; and since their tickers
//! are given to others, a document goes by the broker's own number.

use std::{collections::BTreeSet, time::Duration};

use super::{
    Endpoint, FeedSettings, Scope,
    listed::{Known, Listed, ListedFeed, Part::Of},
};
use crate::wire::{Limit, Request, Secret};

pub(super) const NAME: &str = "alpaca_assets";
pub(super) const PAPER: &str = "https://paper-api.alpaca.markets";
const LIVE: &str = "https://api.alpaca.markets";
/// Keys are of one environment.
pub(super) const PLANS: &[&str] = &["paper", "live"];

/// "200 requests a minute for each account."
const LIMITS: &[Limit] = &[Limit { name: "account", requests: 200, per: Duration::from_secs(60), burst: 2 }];

/// The broker makes its list before each session; who reads it this often has it before the opening.
const EVERY: Duration = Duration::from_secs(4 * 3_600);

const fn assets(name: &'static str, path: &'static str) -> Listed {
    let endpoint = Endpoint {
        name,
        path,
        limit: "account",
        every: EVERY,
        scope: Scope::Whole,
        is_planned_by_symbol: false,
    };
    Listed {
        symbol: Some(&["symbol"]),
        ..Listed::new(endpoint, "alpaca_assets", &[Of(&["id"])], Known::Received)
    }
}

const TABLE: &[Listed] = &[
    assets("assets", "/v2/assets?status=active&asset_class=us_equity"),
    assets("assets-inactive", "/v2/assets?status=inactive&asset_class=us_equity"),
];

pub(super) struct AlpacaAssets {
    rest: String,
    key: Secret,
    secret: Secret,
    symbols: BTreeSet<String>,
}

impl AlpacaAssets {
    pub(super) fn new(settings: FeedSettings) -> Self {
        let default = if settings.plan.as_deref() == Some("live") { LIVE } else { PAPER };
        AlpacaAssets {
            rest: settings.rest_url_or(default),
            key: Secret(settings.credential("APCA_API_KEY_ID").to_owned()),
            secret: Secret(settings.credential("APCA_API_SECRET_KEY").to_owned()),
            symbols: settings.symbols.into_iter().collect(),
        }
    }
}

impl ListedFeed for AlpacaAssets {
    const NAME: &'static str = NAME;
    const TABLE: &'static [Listed] = TABLE;

    fn limits(&self) -> &'static [Limit] {
        LIMITS
    }

    fn request(&self, _: &Listed, target: &str) -> Request {
        let headers =
            vec![("APCA-API-KEY-ID", self.key.clone()), ("APCA-API-SECRET-KEY", self.secret.clone())];
        Request { headers, ..Request::get(format!("{}{target}", self.rest)) }
    }

    fn is_wanted(&self, symbol: &str) -> bool {
        self.symbols.contains(symbol)
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{PollFeed, Question},
        *,
    };
    use crate::kinds::{Record, Timestamp};

    #[test]
    fn shares_of_the_universe_are_known_by_the_number_of_the_broker() {
        let settings = FeedSettings {
            symbols: vec!["AAA".to_owned(), "BRK.B".to_owned()],
            credentials: [
                ("APCA_API_KEY_ID", Secret("public1".to_owned())),
                ("APCA_API_SECRET_KEY", Secret("hunter2".to_owned())),
            ]
            .into(),
            ..FeedSettings::default()
        };
        let feed = AlpacaAssets::new(settings.clone());
        let now: Timestamp = "2026-11-20T12:00:00Z".parse().unwrap();
        let question = Question { endpoint: &TABLE[0].endpoint, symbol: None, position: None, now };
        let request = PollFeed::request(&feed, question).unwrap();
        assert_eq!(request.url, format!("{PAPER}/v2/assets?status=active&asset_class=us_equity"));
        assert_eq!(request.headers.len(), 2);
        assert!(!format!("{request:?}").contains("hunter2"));
        let live = AlpacaAssets::new(FeedSettings { plan: Some("live".to_owned()), ..settings });
        assert!(PollFeed::request(&live, question).unwrap().url.starts_with(LIVE));
        let body = br#"[{"id":"b-1","class":"us_equity","symbol":"BRK.B","status":"active","tradable":true,"shortable":true,
                         "easy_to_borrow":true,"fractionable":true},{"id":"z-1","symbol":"ZZZ","status":"active"},
                        {"id":"a-2","symbol":"AAA","status":"active","tradable":true,"shortable":false}]"#;
        let polled = feed.parse(question, body, now).unwrap();
        let told: Vec<_> = polled
            .records
            .iter()
            .map(|record| match record {
                Record::Document(d) => (d.key.as_str(), d.symbol.as_deref(), d.known_at),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(told, [("a-2", Some("AAA"), now), ("b-1", Some("BRK.B"), now)]);
    }
}
