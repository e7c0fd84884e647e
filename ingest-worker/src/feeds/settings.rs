//! What a feed is built from.

use std::collections::BTreeMap;

use crate::wire::Secret;

/// What a feed is built from: its part of the configuration and the credentials of the environment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FeedSettings {
    /// Spellings of the feed.
    pub symbols: Vec<String>,
    pub trades: bool,
    pub quotes: bool,
    /// Widths in seconds of the bars to subscribe to.
    pub bars: Vec<i64>,
    /// Replaces the vendor's websocket address (tests, regional hosts).
    pub url: Option<String>,
    /// Replaces the vendor's REST address.
    pub rest_url: Option<String>,
    /// Choice within the vendor's offer, for example Alpaca's `iex` or `sip`.
    pub plan: Option<String>,
    /// Endpoints that are read only where they are named.
    pub also: Vec<String>,
    /// Environment variables the feed asked for, by name.
    pub credentials: BTreeMap<&'static str, Secret>,
}

impl FeedSettings {
    /// The value of an environment variable the feed asked for; empty where it is not set.
    pub(super) fn credential(&self, name: &str) -> &str {
        self.credentials.get(name).map_or("", |secret| &secret.0)
    }

    pub(super) fn url_or(&self, default: &str) -> String {
        self.url.clone().unwrap_or_else(|| default.to_owned())
    }

    pub(super) fn rest_url_or(&self, default: &str) -> String {
        self.rest_url.clone().unwrap_or_else(|| default.to_owned()).trim_end_matches('/').to_owned()
    }
}
