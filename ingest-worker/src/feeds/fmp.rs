//! Financial Modeling Prep, the interface it calls stable: statements, expectations, opinions, news, calendars.
//!
//! The older interfaces (v3, v4) are closed to accounts made after August 2025, so they are not spoken: a silent fall back to them would hide
//! a wrong path. Their spellings of members are read all the same, where the vendor still sends them.

mod table;

use std::{collections::BTreeSet, time::Duration};

use serde::Deserialize;

use super::{
    FeedSettings,
    listed::{Listed, ListedFeed},
};
use crate::{
    error::FeedError,
    wire::{Bandwidth, Limit, Request, Secret},
};

use table::TABLE;

pub(super) const NAME: &str = "fmp";
pub(super) const REST: &str = "https://financialmodelingprep.com/stable";
pub(super) const PLANS: &[&str] = &["basic", "starter", "premium", "ultimate"];
pub(super) const CREDENTIALS: &[&str] = &["FMP_API_KEY"];

const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(86_400);

const fn limit(requests: u32, per: Duration, burst: u32) -> Limit {
    Limit { name: "account", requests, per, burst }
}

/// "Basic 250 a day, Starter 300 a minute, Premium 750 a minute, Ultimate 3,000 a minute", in the order of [`PLANS`].
const LIMITS: [[Limit; 1]; 4] =
    [[limit(250, DAY, 10)], [limit(300, MINUTE, 10)], [limit(750, MINUTE, 20)], [limit(3_000, MINUTE, 50)]];

/// Gigabytes in thirty days, in the order of [`PLANS`], as its questions and answers had it; the configuration may know better.
const BANDWIDTH: [f64; 4] = [0.5, 20.0, 50.0, 150.0];

pub(super) struct Fmp {
    rest: String,
    key: Secret,
    /// Place in [`PLANS`].
    plan: usize,
    symbols: BTreeSet<String>,
}

impl Fmp {
    /// Without a plan of the configuration, the smallest: asking too slowly costs less than being shut out.
    pub(super) fn new(settings: FeedSettings) -> Self {
        let plan = settings.plan.as_deref();
        Fmp {
            rest: settings.rest_url_or(REST),
            key: Secret(settings.credential("FMP_API_KEY").to_owned()),
            plan: plan.and_then(|plan| PLANS.iter().position(|one| *one == plan)).unwrap_or(0),
            symbols: settings.symbols.into_iter().collect(),
        }
    }
}

/// `{"Error Message": "Limit Reach . Please upgrade your plan or visit our documentation …"}`, often with a status of success.
#[derive(Deserialize)]
struct Refusal {
    #[serde(rename = "Error Message", alias = "error", alias = "message")]
    message: String,
}

/// What an error in the place of a list means, by its words: there is no code.
fn refused(body: &[u8]) -> Option<FeedError> {
    let Refusal { message } = serde_json::from_slice(body).ok()?;
    let words = message.to_ascii_lowercase();
    let says = |parts: &[&str]| parts.iter().any(|part| words.contains(part));
    Some(if says(&["limit reach", "too many"]) {
        FeedError::RateLimited { reason: message, retry_after: None }
    } else if says(&["invalid api key", "api key is missing"]) {
        FeedError::Fatal(message)
    } else if says(&["upgrade", "subscription", "exclusive", "premium", "legacy"]) {
        FeedError::NotInPlan(message)
    } else {
        FeedError::Rejected(message)
    })
}

impl ListedFeed for Fmp {
    const NAME: &'static str = NAME;
    const TABLE: &'static [Listed] = TABLE;

    fn limits(&self) -> &'static [Limit] {
        &LIMITS[self.plan]
    }

    fn bandwidth(&self) -> Option<Bandwidth> {
        Some(Bandwidth { bytes: (BANDWIDTH[self.plan] * 1e9) as u64, days: 30 })
    }

    fn request(&self, _: &Listed, target: &str) -> Request {
        let headers = vec![("apikey", self.key.clone())];
        Request { headers, ..Request::get(format!("{}{target}", self.rest)) }
    }

    fn refusal(&self, body: &[u8]) -> Option<FeedError> {
        refused(body)
    }

    // Calendars and news are of everybody.
    fn is_wanted(&self, symbol: &str) -> bool {
        self.symbols.contains(symbol)
    }
}

#[cfg(test)]
mod tests;
