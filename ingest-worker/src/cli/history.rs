//! `backfill`: history by REST.

use chrono::Utc;
use clap::Args;
use kronos_ingest::{
    config::{Config, FeedConfig},
    drive::{backfill, live},
    error::{Error, Result},
    feeds,
    kinds::Timestamp,
    postgres::Database,
    recording::unknown_feed,
    store::Sink,
    table::{parse_time, parse_width},
    wire::Network,
};

use super::{learn_calendars, names_of, tell, with_writer};

#[derive(Debug, Args)]
pub struct Backfill {
    /// Feed, for example yahoo or coinbase.
    feed: String,
    /// Symbols in the feed's spelling or in ours; all configured ones without any.
    symbols: Vec<String>,
    /// First instant or date (UTC).
    #[arg(long, value_parser = parse_instant)]
    from: Timestamp,
    /// Last instant or date (UTC); now without it.
    #[arg(long, value_parser = parse_instant)]
    to: Option<Timestamp>,
    /// Width of the bars, for example 1d.
    #[arg(long, value_parser = parse_width)]
    width: Option<i64>,
}

fn parse_instant(text: &str) -> Result<Timestamp, String> {
    parse_time(text, Utc::now())
}

/// Fetches the history that is asked for.
///
/// # Errors
/// What stopped it; [`Error::NoHistory`] for symbols that were refused.
pub async fn backfill(config: &Config, database: Database, arguments: Backfill) -> Result<()> {
    let entry = feeds::find(&arguments.feed).ok_or_else(|| Error::Usage(unknown_feed(&arguments.feed)))?;
    let section =
        config.feeds.get(entry.name).cloned().unwrap_or_else(|| FeedConfig::of_symbols(&arguments.symbols));
    let feed = match live::build(entry, &section)? {
        feeds::Feed::Stream(feed) => feed,
        feeds::Feed::Poll(_) => {
            return Err(Error::Usage(format!(
                "feed \"{}\" is polled by run: it has no back-fill",
                entry.name
            )));
        }
    };
    let names = names_of(config, &database, entry.name).await;
    let mut mapping = section.symbols.mapping_by(&names);
    let symbols =
        if arguments.symbols.is_empty() { mapping.keys().cloned().collect() } else { arguments.symbols };
    if symbols.is_empty() {
        return Err(Error::Usage(format!("name symbols, or configure feeds.{}.symbols", entry.name)));
    }
    for symbol in &symbols {
        if !mapping.values().any(|ours| ours == symbol) {
            mapping.entry(symbol.clone()).or_insert_with(|| names.of_feed(symbol));
        }
    }
    let (from, to) = (arguments.from, arguments.to.unwrap_or_else(Utc::now));
    let work = backfill::Backfill { symbols, from, to, width_seconds: arguments.width };
    let network = Network::new()?;
    let fetch = async |sink: Sink| backfill::backfill(&*feed, &mapping, &work, &network, &sink).await;
    let reader = database.clone();
    let (done, written) = with_writer(config, config.limits(), database, fetch).await?;
    println!("{} symbols from {}: {}", work.symbols.len(), entry.name, tell(&written));
    let fetched = done?;
    learn_calendars(&reader, &fetched.loaded.symbols).await;
    match fetched.refused.is_empty() {
        true => Ok(()),
        false => {
            Err(Error::NoHistory { feed: entry.name, total: work.symbols.len(), refused: fetched.refused })
        }
    }
}
