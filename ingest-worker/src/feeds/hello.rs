//! The smallest feed that is polled, and the manual of how to add one.
//!
//! It reads greetings of a venue that exists in tests alone, so the configuration does not offer it. A feed of your own is a
//! copy of this file and a line in [`super::FEEDS`]:
//!
//! 1. `LIMITS`: what the vendor allows, in its own words (so many requests in a time). Endpoints that share a limit name it.
//! 2. `ENDPOINTS`: a line for each thing to read: path, limit, how often, for each symbol or for all at once.
//! 3. `request`: the address of the next page. Credentials go into `headers` or `secret_query`, which are never printed.
//! 4. `parse`: what an answer means. Say when each fact could be known, and how far the answer has read.
//!
//! Waiting, limits, refusals, retries, resuming, storing, versions: [`crate::drive`] and [`crate::store`] do that for every
//! feed. What `parse` says of the position is stored in the transaction of the records, so a worker that is killed resumes there.
//! Rows that have a table of their own are a kind of their own ([`crate::kinds`]); all others are documents.

use std::time::Duration;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Endpoint, FeedSettings, PollFeed, Polled, Position, Question, Scope, each, from_json};
use crate::{
    error::FeedError,
    exact::Rfc3339,
    kinds::{Document, Listing, Record, Timestamp},
    wire::{Limit, Request},
};

pub(super) const NAME: &str = "hello";
pub(super) const REST: &str = "https://hello.invalid";

/// "1,200 requests a minute, 50 at once."
const LIMITS: &[Limit] =
    &[Limit { name: "account", requests: 1_200, per: Duration::from_secs(60), burst: 50 }];

const ENDPOINTS: &[Endpoint] = &[Endpoint {
    name: "greetings",
    path: "/v1/greetings",
    limit: "account",
    every: Duration::from_secs(60),
    scope: Scope::Symbol,
    is_planned_by_symbol: false,
}];

pub(super) struct Hello {
    rest: String,
}

impl Hello {
    pub(super) fn new(settings: FeedSettings) -> Self {
        Hello { rest: settings.rest_url_or(REST) }
    }
}

/// `{"greetings":[{"number":7,"id":"g3","published":"2026-11-20T15:04:05Z","text":"good morning"}],"more":false}`
///
/// Greetings that changed come again, with a number and a time of their own.
#[derive(Deserialize)]
struct Body<'a> {
    #[serde(borrow)]
    greetings: Vec<&'a RawValue>,
    more: bool,
}

#[derive(Deserialize)]
struct Greeting {
    number: i64,
    id: String,
    published: Rfc3339,
}

impl PollFeed for Hello {
    fn name(&self) -> &'static str {
        NAME
    }

    fn limits(&self) -> &'static [Limit] {
        LIMITS
    }

    fn endpoints(&self) -> Vec<&'static Endpoint> {
        ENDPOINTS.iter().collect()
    }

    fn request(&self, question: Question<'_>) -> Result<Request, FeedError> {
        let (path, symbol) = (question.endpoint.path, question.symbol.unwrap_or_default());
        let after = question.position.and_then(Position::as_i64).unwrap_or(0);
        Ok(Request::get(format!("{}{path}?symbol={symbol}&after={after}", self.rest)))
    }

    fn parse(
        &self,
        question: Question<'_>,
        body: &[u8],
        received_at: Timestamp,
    ) -> Result<Polled, FeedError> {
        let body: Body = from_json(body)?;
        let mut after = question.position.and_then(Position::as_i64).unwrap_or(0);
        let mut records = Vec::new();
        for item in body.greetings {
            each(&[item], received_at, &mut records, |greeting: Greeting| {
                after = after.max(greeting.number);
                let document = Document::new(question.endpoint.name, greeting.id, item.get(), received_at)?;
                Ok(Record::Document(Document {
                    symbol: question.symbol.map(str::to_owned),
                    known_at: greeting.published.0,
                    listing: Listing::Version,
                    ..document
                }))
            });
        }
        Ok(Polled { records, position: Some(after.into()), has_more: body.more })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn greetings_are_read_from_the_last_one() {
        let hello = Hello::new(FeedSettings::default());
        let position = Position::from(5);
        let question = Question {
            endpoint: &ENDPOINTS[0],
            symbol: Some("AAA"),
            position: Some(&position),
            now: Timestamp::UNIX_EPOCH,
        };
        assert_eq!(
            hello.request(question).unwrap().url,
            "https://hello.invalid/v1/greetings?symbol=AAA&after=5"
        );
        let body = br#"{"greetings":[{"number":6,"id":"g1","published":"2026-11-20T15:04:05Z","text":"hi"},
                                      {"number":"x"}],"more":true}"#;
        let polled = hello.parse(question, body, Timestamp::UNIX_EPOCH).unwrap();
        let [Record::Document(document), Record::Rejected(_)] = &polled.records[..] else {
            panic!("{polled:?}")
        };
        assert_eq!((document.key.as_str(), document.symbol.as_deref()), ("g1", Some("AAA")));
        assert_eq!(document.known_at.to_rfc3339(), "2026-11-20T15:04:05+00:00");
        assert_eq!((polled.position, polled.has_more), (Some(6.into()), true));
        assert!(hello.parse(question, b"[]", Timestamp::UNIX_EPOCH).is_err());
    }
}
