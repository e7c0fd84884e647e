//! FRED and ALFRED of the Federal Reserve Bank of St. Louis: economic series with every vintage, and the days of release.
//!
//! A value is known from the day on which its vintage began. FRED names no time of the day, so that is the end of the day in New York:
//! CPI is published at 8:30, and nothing here says so.

use std::time::Duration;

use serde::Deserialize;

use super::{
    Endpoint, FeedSettings, Scope,
    listed::{
        Known, Listed, ListedFeed, Pages,
        Part::{Of, Symbol},
    },
};
use crate::{
    error::FeedError,
    kinds::Listing,
    wire::{Limit, Request, Secret},
};

pub(super) const NAME: &str = "fred";
pub(super) const REST: &str = "https://api.stlouisfed.org";
pub(super) const CREDENTIALS: &[&str] = &["FRED_API_KEY"];

/// "120 requests a minute."
const LIMITS: &[Limit] = &[Limit { name: "account", requests: 120, per: Duration::from_secs(60), burst: 10 }];

const fn endpoint(name: &'static str, path: &'static str, hours: u64, scope: Scope) -> Endpoint {
    let every = Duration::from_secs(hours * 3_600);
    Endpoint { name, path, limit: "account", every, scope, is_planned_by_symbol: false }
}

const TABLE: &[Listed] = &[
    // Every vintage of every value. `realtime_end` of a vintage is set when the next one comes, which is no news of this one.
    Listed {
        list: Some("observations"),
        event: Some(&["date"]),
        pages: Pages::Offset { size: 100_000 },
        listing: Listing::Version,
        omit: &["realtime_end"],
        ..Listed::new(
            endpoint(
                "observations",
                "/fred/series/observations?series_id={symbol}&realtime_start=1776-07-04&realtime_end=9999-12-31\
                 &limit=100000&offset={offset}&file_type=json",
                6,
                Scope::Symbol,
            ),
            "fred_observation",
            &[Symbol, Of(&["date"])],
            Known::Published(&["realtime_start"]),
        )
    },
    Listed {
        list: Some("release_dates"),
        event: Some(&["date"]),
        pages: Pages::Offset { size: 1_000 },
        omit: &["release_last_updated"],
        ..Listed::new(
            endpoint(
                "release-dates",
                "/fred/releases/dates?include_release_dates_with_no_data=true&order_by=release_date&sort_order=desc\
                 &limit=1000&offset={offset}&file_type=json",
                24,
                Scope::Whole,
            ),
            "fred_release_date",
            &[Of(&["release_id"]), Of(&["date"])],
            Known::Received,
        )
    },
];

pub(super) struct Fred {
    rest: String,
    key: Secret,
}

impl Fred {
    pub(super) fn new(settings: FeedSettings) -> Self {
        let key = Secret(settings.credential("FRED_API_KEY").to_owned());
        Fred { rest: settings.rest_url_or(REST), key }
    }
}

/// `{"error_code":400,"error_message":"Bad Request.  The series does not exist."}`
#[derive(Deserialize)]
struct Refusal {
    error_code: u16,
    error_message: String,
}

impl ListedFeed for Fred {
    const NAME: &'static str = NAME;
    const TABLE: &'static [Listed] = TABLE;

    fn limits(&self) -> &'static [Limit] {
        LIMITS
    }

    fn request(&self, _: &Listed, target: &str) -> Request {
        // It takes the key nowhere else.
        let secret_query = vec![("api_key", self.key.clone())];
        Request { secret_query, ..Request::get(format!("{}{target}", self.rest)) }
    }

    fn refusal(&self, body: &[u8]) -> Option<FeedError> {
        let Refusal { error_code, error_message } = serde_json::from_slice(body).ok()?;
        Some(match error_code {
            429 => FeedError::RateLimited { reason: error_message, retry_after: None },
            _ => FeedError::Rejected(error_message),
        })
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
    fn each_vintage_is_known_at_the_end_of_its_first_day() {
        let settings = FeedSettings {
            credentials: [("FRED_API_KEY", Secret("hunter2".to_owned()))].into(),
            ..FeedSettings::default()
        };
        let fred = Fred::new(settings);
        let received: Timestamp = "2026-11-20T00:00:00Z".parse().unwrap();
        let question = Question {
            endpoint: &TABLE[0].endpoint,
            symbol: Some("CPIAUCSL"),
            position: None,
            now: received,
        };
        let request = PollFeed::request(&fred, question).unwrap();
        assert!(request.url.contains("series_id=CPIAUCSL&realtime_start=1776-07-04"), "{}", request.url);
        assert!(request.url.contains("&limit=100000&offset=0&"), "{}", request.url);
        assert!(!format!("{request:?}").contains("hunter2"));
        let body = br#"{"realtime_start":"1776-07-04","realtime_end":"9999-12-31","count":3,"observations":[
            {"realtime_start":"2026-10-15","realtime_end":"2026-11-12","date":"2026-09-01","value":"."},
            {"realtime_start":"2026-11-13","realtime_end":"9999-12-31","date":"2026-09-01","value":"328.1"},
            {"realtime_start":"2026-11-13","realtime_end":"9999-12-31","date":"2026-10-01","value":"329.112"}]}"#;
        let polled = fred.parse(question, body, received).unwrap();
        let told: Vec<_> = polled
            .records
            .iter()
            .map(|record| match record {
                Record::Document(d) => format!("{} {} {}", d.key, d.known_at.format("%F %T"), d.payload),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(
            told,
            [
                r#"CPIAUCSL/2026-09-01 2026-10-16 04:00:00 {"date":"2026-09-01","realtime_start":"2026-10-15","value":"."}"#,
                r#"CPIAUCSL/2026-09-01 2026-11-14 05:00:00 {"date":"2026-09-01","realtime_start":"2026-11-13","value":"328.1"}"#,
                r#"CPIAUCSL/2026-10-01 2026-11-14 05:00:00 {"date":"2026-10-01","realtime_start":"2026-11-13","value":"329.112"}"#,
            ]
        );
        assert!(!polled.has_more);
        let refused = |code: u16| {
            let body = format!(r#"{{"error_code":{code},"error_message":"Bad Request."}}"#);
            fred.parse(question, body.as_bytes(), received).unwrap_err()
        };
        assert!(matches!(refused(429), FeedError::RateLimited { .. }));
        assert_eq!(refused(400), FeedError::Rejected("Bad Request.".to_owned()));
    }
}
