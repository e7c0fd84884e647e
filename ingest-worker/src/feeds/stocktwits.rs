//! Stocktwits: messages about symbols, of which 200 an hour may be asked for. So symbols are asked about as often as messages come in,
//! sooner where a position is held or an event is near, and seldom where nobody writes.

use std::time::Duration;

use serde::Deserialize;

use super::{
    Endpoint, FeedSettings, Scope,
    listed::{
        Ids, Known, Listed, ListedFeed, Pages,
        Part::{Of, Symbol},
    },
};
use crate::{
    error::FeedError,
    kinds::Listing,
    wire::{Limit, Request, Secret},
};

pub(super) const NAME: &str = "stocktwits";
pub(super) const REST: &str = "https://api.stocktwits.com";
pub(super) const CREDENTIALS: &[&str] = &["STOCKTWITS_TOKEN"];

const HOUR: Duration = Duration::from_secs(3_600);

/// "Client may not make more than 200 requests an hour", of which a few are left to people behind the same address.
const LIMITS: &[Limit] = &[Limit { name: "address", requests: 190, per: HOUR, burst: 10 }];

/// Messages of a page, which the vendor has set.
const PAGE: f64 = 30.0;
/// Pauses between two readings of a symbol: as long as two thirds of a page take to come, within these.
const SHORTEST: Duration = Duration::from_secs(120);
const LONGEST: Duration = Duration::from_secs(6 * 3_600);

const TABLE: &[Listed] = &[Listed {
    list: Some("messages"),
    event: Some(&["created_at"]),
    pages: Pages::Ids(Ids {
        id: &["id"],
        before: "max",
        after: "since",
        more: Some(["cursor", "more"]),
        first: 4,
    }),
    listing: Listing::Version,
    ..Listed::new(
        Endpoint {
            name: "messages",
            path: "/api/2/streams/symbol/{symbol}.json?limit=30{walk}",
            limit: "address",
            // Before its rate is known.
            every: HOUR,
            scope: Scope::Symbol,
            is_planned_by_symbol: true,
        },
        "social_messages",
        &[Of(&["id"]), Symbol],
        Known::Published(&["created_at"]),
    )
}];

pub(super) struct Stocktwits {
    rest: String,
    /// Empty where there is none, which is enough.
    token: Secret,
}

impl Stocktwits {
    pub(super) fn new(settings: FeedSettings) -> Self {
        let token = Secret(settings.credential("STOCKTWITS_TOKEN").to_owned());
        Stocktwits { rest: settings.rest_url_or(REST), token }
    }
}

/// `{"response":{"status":429},"errors":[{"message":"Rate limit exceeded. …"}]}`
#[derive(Deserialize)]
struct Refusal {
    response: Status,
    #[serde(default)]
    errors: Vec<Reason>,
}

#[derive(Deserialize)]
struct Status {
    status: u16,
}

#[derive(Deserialize)]
struct Reason {
    message: String,
}

impl ListedFeed for Stocktwits {
    const NAME: &'static str = NAME;
    const TABLE: &'static [Listed] = TABLE;
    const HEEDS_ATTENTION: bool = true;

    fn limits(&self) -> &'static [Limit] {
        LIMITS
    }

    fn request(&self, _: &Listed, target: &str) -> Request {
        let token = Some(("access_token", self.token.clone())).filter(|(_, token)| !token.0.is_empty());
        let secret_query = token.into_iter().collect();
        Request { secret_query, ..Request::get(format!("{}{target}", self.rest)) }
    }

    fn refusal(&self, body: &[u8]) -> Option<FeedError> {
        let Refusal { response: Status { status }, errors } = serde_json::from_slice(body).ok()?;
        let reason = errors.into_iter().map(|error| error.message).collect::<Vec<_>>().join("; ");
        match status {
            200..=299 => None,
            429 => Some(FeedError::RateLimited { reason, retry_after: None }),
            _ => Some(FeedError::Rejected(format!("status {status}: {reason}"))),
        }
    }

    fn pace(&self, line: &Listed, rate: Option<f64>, urgency: f64) -> Duration {
        let hours = rate
            .map_or(line.endpoint.every.as_secs_f64() / 3_600.0, |rate| PAGE * 2.0 / 3.0 / rate.max(0.01));
        let pause = hours.min(LONGEST.as_secs_f64() / 3_600.0) / urgency.max(0.01) * 3_600.0;
        Duration::from_secs_f64(pause.clamp(SHORTEST.as_secs_f64(), LONGEST.as_secs_f64()))
    }
}

#[cfg(test)]
mod tests;
