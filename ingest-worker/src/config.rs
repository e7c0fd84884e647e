//! The configuration file and what it becomes.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::Deserialize;

use crate::{
    error::{Error, Result},
    feeds::{self, FeedEntry, FeedSettings},
    recording::unknown_feed,
    store::Limits,
    symbols::Names,
    table::parse_width,
    wire::{Bandwidth, Secret},
};

/// The whole file; every part has defaults. `kronos-ingest.example.toml` explains each line.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    pub database: DatabaseConfig,
    pub sink: SinkConfig,
    pub metrics: MetricsConfig,
    pub maintenance: MaintenanceConfig,
    pub feeds: BTreeMap<String, FeedConfig>,
}

/// Rows of one transaction of `load`: 50,000 daily bars take a quarter of a second, and ten times as many are no faster each.
const ROWS_OF_FILES: usize = 50_000;

/// `[database]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DatabaseConfig {
    /// Without a password: that comes from the environment.
    pub url: Option<String>,
    pub root_certificate: Option<PathBuf>,
}

/// `[sink]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SinkConfig {
    pub max_rows: Option<usize>,
    pub max_delay_ms: u64,
    pub queued_rows: usize,
    pub spill_dir: Option<PathBuf>,
    pub spill_max_mb: u64,
}

impl Default for SinkConfig {
    fn default() -> Self {
        let limits = Limits::default();
        SinkConfig {
            max_rows: None,
            max_delay_ms: limits.max_delay.as_millis() as u64,
            queued_rows: limits.queued_rows,
            spill_dir: None,
            spill_max_mb: 4_096,
        }
    }
}

/// `[metrics]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MetricsConfig {
    pub enabled: bool,
    pub listen: std::net::SocketAddr,
}

impl Default for MetricsConfig {
    fn default() -> Self {
        MetricsConfig { enabled: true, listen: ([127, 0, 0, 1], 9187).into() }
    }
}

/// `[maintenance]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MaintenanceConfig {
    /// How often the worker runs `market.maintenance()`; 0 leaves it to the scheduler of the database.
    pub every_minutes: u64,
}

impl Default for MaintenanceConfig {
    fn default() -> Self {
        MaintenanceConfig { every_minutes: 60 }
    }
}

/// `[feeds.NAME]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FeedConfig {
    /// `None`: as the table of feeds has it.
    #[serde(default)]
    pub enabled: Option<bool>,
    pub symbols: Symbols,
    #[serde(default = "yes")]
    pub trades: bool,
    #[serde(default)]
    pub quotes: bool,
    #[serde(default)]
    pub bars: Vec<String>,
    #[serde(default)]
    pub url: Option<String>,
    #[serde(default)]
    pub rest_url: Option<String>,
    #[serde(default)]
    pub plan: Option<String>,
    #[serde(default)]
    pub also: Vec<String>,
    /// Spelling of the feed → how many times as much as others it matters, where a vendor takes too few questions for all alike.
    #[serde(default)]
    pub weights: BTreeMap<String, f64>,
    #[serde(default)]
    pub bandwidth_mb: Option<u64>,
}

fn yes() -> bool {
    true
}

/// Symbols of a feed: its spellings alone, or each with our canonical symbol.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub enum Symbols {
    Native(Vec<String>),
    Mapped(BTreeMap<String, String>),
}

impl Symbols {
    /// Spelling of the feed → canonical symbol, as their forms tell.
    pub fn mapping(&self) -> BTreeMap<String, String> {
        self.mapping_by(&Names::default())
    }

    /// Spelling of the feed → canonical symbol: as it is configured, else by `names`.
    pub fn mapping_by(&self, names: &Names) -> BTreeMap<String, String> {
        match self {
            Symbols::Native(native) => {
                native.iter().map(|name| (name.clone(), names.of_feed(name))).collect()
            }
            Symbols::Mapped(mapping) => mapping.clone(),
        }
    }
}

/// What TOML says is wrong, and on which line. Not the line itself, nor a value: it may be a password.
fn told(text: &str, error: &toml::de::Error) -> String {
    let mut message = error.message().to_owned();
    if let Some((start, end)) = message.find('"').zip(message.rfind('"'))
        && message.contains("string \"")
    {
        message.replace_range(start..=end, "that is not shown");
    }
    match error.span().and_then(|span| text.get(..span.start)) {
        Some(before) => format!("line {}: {message}", before.matches('\n').count() + 1),
        None => message,
    }
}

impl Config {
    /// Reads and checks a file.
    ///
    /// # Errors
    /// [`Error::Read`], or [`Error::Config`] naming what is wrong.
    pub fn read(path: &Path) -> Result<Self> {
        let text =
            std::fs::read_to_string(path).map_err(|source| Error::Read { path: path.to_owned(), source })?;
        Self::parse(&text).map_err(|message| Error::Config { path: path.to_owned(), message })
    }

    /// Parses and checks a text.
    ///
    /// # Errors
    /// What is wrong, with its place where TOML has one.
    pub fn parse(text: &str) -> Result<Self, String> {
        let config: Config = toml::from_str(text).map_err(|error| told(text, &error))?;
        if config.sink.max_rows == Some(0) || config.sink.queued_rows == 0 {
            return Err("sink.max_rows and sink.queued_rows must be at least 1".to_owned());
        }
        if let Some(url) = &config.database.url
            && url.parse::<tokio_postgres::Config>().is_ok_and(|parsed| parsed.get_password().is_some())
        {
            return Err(
                "database.url must not hold a password; set KRONOS_DATABASE_URL or PGPASSWORD".to_owned()
            );
        }
        for (name, feed) in &config.feeds {
            let entry = feeds::find(name).ok_or_else(|| unknown_feed(name))?;
            feed.settings(entry, &BTreeMap::new())?;
            if feed.symbols.mapping().is_empty() {
                return Err(format!("feeds.{name}.symbols is empty"));
            }
        }
        Ok(config)
    }

    /// Bounds of the writer.
    pub fn limits(&self) -> Limits {
        self.limits_of(Limits::default().max_rows)
    }

    /// Bounds of the writer where nobody waits to see the rows: a transaction has its price, of which many rows carry less each.
    pub fn limits_of_files(&self) -> Limits {
        self.limits_of(ROWS_OF_FILES)
    }

    fn limits_of(&self, max_rows: usize) -> Limits {
        Limits {
            max_rows: self.sink.max_rows.unwrap_or(max_rows),
            max_delay: Duration::from_millis(self.sink.max_delay_ms),
            queued_rows: self.sink.queued_rows,
        }
    }
}

impl FeedConfig {
    /// A section for a feed that is not configured, for one back-fill of `symbols` (spelling of the feed).
    pub fn of_symbols(symbols: &[String]) -> Self {
        FeedConfig {
            enabled: Some(true),
            symbols: Symbols::Native(symbols.to_vec()),
            trades: true,
            quotes: false,
            bars: Vec::new(),
            url: None,
            rest_url: None,
            plan: None,
            also: Vec::new(),
            weights: BTreeMap::new(),
            bandwidth_mb: None,
        }
    }

    /// Whether the feed runs.
    pub fn is_enabled(&self, entry: &FeedEntry) -> bool {
        self.enabled.unwrap_or(!entry.is_opt_in)
    }

    /// Bytes in thirty days, where the configuration says how many.
    pub fn bandwidth(&self) -> Option<Bandwidth> {
        self.bandwidth_mb.map(|megabytes| Bandwidth { bytes: megabytes.saturating_mul(1_000_000), days: 30 })
    }

    /// What the feed is built from.
    ///
    /// # Errors
    /// A width of bars that is none, a plan that the feed does not have.
    pub fn settings(
        &self,
        entry: &FeedEntry,
        credentials: &BTreeMap<&'static str, Secret>,
    ) -> Result<FeedSettings, String> {
        let name = entry.name;
        if let Some(plan) = self.plan.as_deref().filter(|plan| !entry.plans.contains(plan)) {
            return Err(match entry.plans {
                [] => format!("feeds.{name}.plan: {name} has no plans"),
                plans => format!("feeds.{name}.plan: \"{plan}\" is none of {}", plans.join(", ")),
            });
        }
        let symbols: Vec<String> = self.symbols.mapping().into_keys().collect();
        for (symbol, weight) in &self.weights {
            if !symbols.contains(symbol) {
                return Err(format!("feeds.{name}.weights: {symbol} is none of the symbols of this feed"));
            }
            if !(0.01..=100.0).contains(weight) {
                return Err(format!(
                    "feeds.{name}.weights: {symbol} has {weight}, which is not within 0.01 and 100"
                ));
            }
        }
        let bars: Result<Vec<i64>, String> = self.bars.iter().map(|width| parse_width(width)).collect();
        Ok(FeedSettings {
            symbols,
            trades: self.trades,
            quotes: self.quotes,
            bars: bars.map_err(|e| format!("feeds.{name}.bars: {e}"))?,
            url: self.url.clone(),
            rest_url: self.rest_url.clone(),
            plan: self.plan.clone(),
            also: self.also.clone(),
            credentials: credentials.clone(),
        })
    }
}

/// The credentials of a feed, from the environment.
///
/// # Errors
/// [`Error::MissingVariable`] naming the first that is not set, also where others of the optional ones are.
pub fn credentials(entry: &'static FeedEntry) -> Result<BTreeMap<&'static str, Secret>> {
    let read = |name: &&'static str| {
        let value = std::env::var(name).ok().filter(|value| !value.is_empty());
        value.map(|value| (*name, Secret(value))).ok_or(Error::MissingVariable { name, purpose: entry.name })
    };
    let mut found: BTreeMap<_, _> = entry.credentials.iter().map(read).collect::<Result<_>>()?;
    let optional: Vec<_> = entry.optional_credentials.iter().map(read).collect();
    // Half of a pair is a mistake, not a choice.
    if optional.iter().any(Result::is_ok) {
        for pair in optional {
            found.extend([pair?]);
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_parses_and_names_every_live_feed() {
        let config = Config::parse(include_str!("../kronos-ingest.example.toml")).unwrap();
        for entry in feeds::FEEDS.iter().filter(|entry| entry.is_offered && entry.name != "kraken_v1") {
            assert!(config.feeds.contains_key(entry.name), "{} is not in the example", entry.name);
        }
        assert_eq!(config.limits(), Limits::default());
        let kraken = config.feeds["kraken"].symbols.mapping();
        assert_eq!(kraken["BTC/USD"], "BTCUSD");
    }

    #[test]
    fn mistakes_are_named() {
        for (text, part) in [
            ("[snik]", "snik"),
            ("[feeds.coinbse]\nsymbols = [\"BTC-USD\"]", "coinbse"),
            ("[feeds.coinbase]\nsymbols = []", "symbols is empty"),
            ("[feeds.coinbase]\nsymbols = [\"BTC-USD\"]\nbars = [\"1x\"]", "feeds.coinbase.bars"),
            ("[feeds.kraken]\nsymbols = [\"BTC/USD\"]\nplan = \"pro\"", "feeds.kraken.plan"),
            ("[feeds.alpaca]\nsymbols = [\"SPY\"]\nplan = \"spi\"", "none of iex, sip"),
            (
                "[feeds.stocktwits]\nsymbols = [\"SPY\"]\nweights = { SPX = 2.0 }",
                "SPX is none of the symbols",
            ),
            ("[feeds.stocktwits]\nsymbols = [\"SPY\"]\nweights = { SPY = 0.0 }", "not within 0.01 and 100"),
            ("[sink]\nmax_rows = 0", "at least 1"),
            ("[database]\nurl = \"postgresql://u:secret@h/d\"", "must not hold a password"),
            ("[database]\nurl = \"postgresql://u:secret@h/d", "line 2"),
            ("[sink]\nmax_rows = \"u:secret\"", "line 2: invalid type: string that is not shown"),
        ] {
            let message = Config::parse(text).unwrap_err();
            assert!(message.contains(part), "{text}: {message}");
            assert!(!message.contains("u:secret"));
        }
    }
}
