//! Truth Social, which speaks as Mastodon does: posts of accounts, asked for by the numbers of these.
//!
//! There is no offer to programs: it is read with the token of an account of the user, openly, and as slowly as it asks. Where it
//! refuses, that is an answer: the feed stops, and asks again only when somebody has said so by hand.

use std::time::Duration;

use super::{
    Endpoint, FeedSettings, Scope,
    listed::{
        Ids, Known, Listed, ListedFeed, Pages,
        Part::{Of, Symbol},
    },
};
use crate::{
    kinds::Listing,
    wire::{Limit, Request, Secret},
};

pub(super) const NAME: &str = "truthsocial";
pub(super) const REST: &str = "https://truthsocial.com/api";
pub(super) const CREDENTIALS: &[&str] = &["TRUTHSOCIAL_TOKEN"];

/// 300 in five minutes, of which a sixth is asked: its headers say less, and count more.
const LIMITS: &[Limit] = &[Limit { name: "account", requests: 50, per: Duration::from_secs(300), burst: 1 }];

/// Requests that are left alone, since the counter of the vendor is known to jump.
const RESERVE: u64 = 50;

const TABLE: &[Listed] = &[Listed {
    cashtags: Some(&["content"]),
    event: Some(&["created_at"]),
    pages: Pages::Ids(Ids { id: &["id"], before: "max_id", after: "since_id", more: None, first: 10 }),
    listing: Listing::Version,
    html: &["content"],
    ..Listed::new(
        Endpoint {
            name: "statuses",
            path: "/v1/accounts/{symbol}/statuses?exclude_replies=true&limit=40{walk}",
            limit: "account",
            every: Duration::from_secs(300),
            scope: Scope::Symbol,
            is_planned_by_symbol: false,
        },
        "social_messages",
        &[Of(&["id"]), Symbol],
        Known::Published(&["edited_at", "created_at"]),
    )
}];

pub(super) struct TruthSocial {
    rest: String,
    /// Header.
    token: Secret,
}

impl TruthSocial {
    pub(super) fn new(settings: FeedSettings) -> Self {
        let token = Secret(format!("Bearer {}", settings.credential("TRUTHSOCIAL_TOKEN")));
        TruthSocial { rest: settings.rest_url_or(REST), token }
    }
}

impl ListedFeed for TruthSocial {
    const NAME: &'static str = NAME;
    const TABLE: &'static [Listed] = TABLE;
    const ASKS_ABOUT_INSTRUMENTS: bool = false;
    const STAYS_BLOCKED: bool = true;

    fn limits(&self) -> &'static [Limit] {
        LIMITS
    }

    fn request(&self, _: &Listed, target: &str) -> Request {
        let headers = vec![("Authorization", self.token.clone())];
        Request { headers, reserve: RESERVE, ..Request::get(format!("{}{target}", self.rest)) }
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{PollFeed, Position, Question},
        *,
    };
    use crate::kinds::{Record, Timestamp};

    fn feed() -> TruthSocial {
        let credentials = [("TRUTHSOCIAL_TOKEN", Secret("hunter2".to_owned()))].into();
        TruthSocial::new(FeedSettings { credentials, ..FeedSettings::default() })
    }

    fn ask(position: Option<&Position>, body: &str) -> (String, Vec<String>, Option<Position>, bool) {
        let now: Timestamp = "2026-11-20T16:00:00Z".parse().unwrap();
        let question = Question { endpoint: &TABLE[0].endpoint, symbol: Some("107"), position, now };
        let url = PollFeed::request(&feed(), question).unwrap().url;
        let polled = feed().parse(question, body.as_bytes(), now).unwrap();
        let told = polled.records.iter().map(|record| match record {
            Record::Document(d) => format!("{} {:?} {}", d.key, d.symbol, d.payload),
            other => panic!("{other:?}"),
        });
        let told = told.collect();
        (url.strip_prefix(REST).unwrap().to_owned(), told, polled.position, polled.has_more)
    }

    fn post(id: &str, content: &str) -> String {
        format!(r#"{{"id":"{id}","created_at":"2026-11-20T15:00:00.000Z","content":"{content}"}}"#)
    }

    #[test]
    fn a_post_is_text_about_the_symbols_that_it_names() {
        let body = format!(
            "[{},{},{}]",
            post("12", "<p>Buy $DJT &amp; $BRK.B, <b>$DJT</b>!</p><p>not $20, $usd, a$AAPL or $TOOLONGX</p>"),
            post("11", "<p>Good morning</p>"),
            post("9", "$BTC.X.")
        );
        let (url, told, position, has_more) = ask(None, &body);
        assert_eq!(url, "/v1/accounts/107/statuses?exclude_replies=true&limit=40");
        assert!(has_more, "without a word of the vendor, an empty page is the end");
        let payload = |id: &str, text: &str| {
            format!(r#"{{"content":"{text}","created_at":"2026-11-20T15:00:00.000Z","id":"{id}"}}"#)
        };
        let long = payload("12", r"Buy $DJT & $BRK.B, $DJT!\nnot $20, $usd, a$AAPL or $TOOLONGX");
        assert_eq!(
            told,
            [
                format!(r#"11/_MACRO Some("_MACRO") {}"#, payload("11", "Good morning")),
                format!(r#"12/BRK.B Some("BRK.B") {long}"#),
                format!(r#"12/DJT Some("DJT") {long}"#),
                format!(r#"9/BTC.X Some("BTC.X") {}"#, payload("9", "$BTC.X.")),
            ]
        );
        // 9 is older than 11 and 12, whatever their letters say.
        let (url, told, position, has_more) = ask(position.as_ref(), "[]");
        assert_eq!(url, "/v1/accounts/107/statuses?exclude_replies=true&limit=40&max_id=9");
        assert!(told.is_empty() && !has_more);
        let (url, ..) = ask(position.as_ref(), "[]");
        assert_eq!(url, "/v1/accounts/107/statuses?exclude_replies=true&limit=40&since_id=12");
    }

    #[test]
    fn a_refusal_is_for_good_and_a_part_of_the_limit_is_left_alone() {
        let question = Question {
            endpoint: &TABLE[0].endpoint,
            symbol: Some("107"),
            position: None,
            now: Timestamp::MIN_UTC,
        };
        let request = PollFeed::request(&feed(), question).unwrap();
        assert_eq!((request.reserve, request.headers[0].1.0.as_str()), (50, "Bearer hunter2"));
        assert!(!format!("{request:?}").contains("hunter2"));
        assert!(feed().stays_blocked() && !feed().asks_about_instruments());
    }
}
