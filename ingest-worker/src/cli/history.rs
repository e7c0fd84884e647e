//! `backfill`: history by REST, and what is due of feeds that are polled.

use std::sync::Arc;

use chrono::Utc;
use clap::Args;
use indicatif::{MultiProgress, ProgressBar};
use kronos_ingest::{
    config::{Config, FeedConfig},
    drive::{Outcome, Reading, backfill, live},
    error::{Error, Result},
    feeds::{self, Feed, FeedEntry, PollFeed, StreamFeed},
    kinds::Timestamp,
    plan,
    postgres::Database,
    recording::unknown_feed,
    store::Sink,
    table::{parse_time, parse_width},
    wire::Network,
};
use tokio::task::JoinSet;

use super::{learn_calendars, names_of, shutdown_on_signal, tell, with_writer};

#[derive(Debug, Args)]
pub struct Backfill {
    /// Feed, for example yahoo or coinbase; all enabled feeds of the configuration that are polled without it.
    feed: Option<String>,
    /// Symbols in the feed's spelling or in ours; all configured ones, and what is told of everybody, without any.
    symbols: Vec<String>,
    /// First instant or date (UTC); of a feed that is polled, what its vendor has.
    #[arg(long, value_parser = parse_instant)]
    from: Option<Timestamp>,
    /// Last instant or date (UTC); now without it.
    #[arg(long, value_parser = parse_instant)]
    to: Option<Timestamp>,
    /// Width of the bars, for example 1d; trades without it.
    #[arg(long, value_parser = parse_width)]
    width: Option<i64>,
    /// Say what would be asked, and ask nothing.
    #[arg(long)]
    dry_run: bool,
}

fn parse_instant(text: &str) -> Result<Timestamp, String> {
    parse_time(text, Utc::now())
}

/// Fetches the history that is asked for.
///
/// # Errors
/// What stopped it; [`Error::NoHistory`] for symbols that were refused, [`Error::Unread`] for questions that were given up.
pub async fn backfill(config: &Config, database: Database, arguments: Backfill) -> Result<()> {
    let Some(name) = &arguments.feed else {
        let mut polled = Vec::new();
        for (name, section) in &config.feeds {
            let entry = feeds::find(name).ok_or_else(|| Error::Usage(unknown_feed(name)))?;
            if section.is_enabled(entry)
                && let Feed::Poll(feed) = live::build(entry, section)?
            {
                polled.push((entry, section.clone(), feed));
            }
        }
        if polled.is_empty() {
            return Err(Error::Usage(
                "name a feed: none of the configuration is polled and enabled".to_owned(),
            ));
        }
        return read(config, database, polled, &arguments).await;
    };
    let entry = feeds::find(name).ok_or_else(|| Error::Usage(unknown_feed(name)))?;
    let section =
        config.feeds.get(entry.name).cloned().unwrap_or_else(|| FeedConfig::of_symbols(&arguments.symbols));
    if !config.feeds.contains_key(entry.name) && arguments.symbols.is_empty() {
        return Err(Error::Usage(format!("name symbols, or configure feeds.{}.symbols", entry.name)));
    }
    match live::build(entry, &section)? {
        Feed::Stream(feed) => fetch(config, database, (entry, &section), &*feed, arguments).await,
        Feed::Poll(feed) => read(config, database, vec![(entry, section, feed)], &arguments).await,
    }
}

/// Reads what is due of feeds that are polled, once and to the end. What was read before a kill is not read again.
async fn read(
    config: &Config,
    database: Database,
    polled: Vec<(&'static FeedEntry, FeedConfig, Arc<dyn PollFeed>)>,
    arguments: &Backfill,
) -> Result<()> {
    if arguments.from.is_some() || arguments.to.is_some() || arguments.width.is_some() {
        let reason = "--from, --to and --width are of feeds with history by time; one that is polled has what its vendor lists";
        return Err(Error::Usage(reason.to_owned()));
    }
    let network = Arc::new(Network::new()?);
    let client = database.connect().await?;
    let shutdown = shutdown_on_signal();
    let bars = MultiProgress::new();
    let dry_run = arguments.dry_run;
    let work = async |sink: Sink| {
        let mut readings = JoinSet::new();
        for (entry, section, feed) in polled {
            let limits = feed.limits();
            let (of, symbols) = ((entry, &section), &arguments.symbols);
            let poller = live::poller(&client, of, feed, symbols, network.clone(), sink.clone()).await?;
            let due = poller.due();
            if dry_run {
                for limit in limits {
                    let (questions, requests) = due.get(limit.name).copied().unwrap_or_default();
                    println!("{}", plan::due(entry.name, limit, questions, requests));
                }
                continue;
            }
            let questions: u64 = due.values().map(|(questions, _)| questions).sum();
            let reading = Arc::new(Reading::new(bars.add(ProgressBar::new(questions))));
            let poller = poller.to_the_end(Arc::clone(&reading));
            let shutdown = shutdown.clone();
            readings.spawn(async move { (entry.name, poller.run(shutdown).await, reading) });
        }
        drop(sink);
        let (mut unread, mut stopped) = (Vec::new(), None);
        while let Some(ended) = readings.join_next().await {
            let (name, ended, reading) = ended.map_err(|e| Error::Usage(format!("a feed failed: {e}")))?;
            let Outcome { read, refused, failed } = reading.outcome();
            println!(
                "{name}: {read} questions answered, {refused} not in the plan, {} given up",
                failed.len()
            );
            unread.extend(
                failed
                    .into_iter()
                    .map(|(endpoint, symbol, reason)| format!("{name} {endpoint} {symbol}: {reason}")),
            );
            // The others go on.
            if let Err(error) = ended {
                stopped.get_or_insert(Error::Feed { feed: name.to_owned(), error });
            }
        }
        stopped.map_or(Ok(unread), Err)
    };
    let (done, written) = with_writer(config, config.limits(), database, work).await?;
    if !dry_run {
        println!("{}", tell(&written));
    }
    let unread = done?;
    if *shutdown.borrow() {
        println!("stopped: what is left is read by the next call");
    }
    if unread.is_empty() { Ok(()) } else { Err(Error::Unread { questions: unread }) }
}

/// Fetches history by time.
async fn fetch(
    config: &Config,
    database: Database,
    (entry, section): (&'static FeedEntry, &FeedConfig),
    feed: &dyn StreamFeed,
    arguments: Backfill,
) -> Result<()> {
    let from = arguments
        .from
        .ok_or_else(|| Error::Usage("name the first instant or date with --from".to_owned()))?;
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
    let to = arguments.to.unwrap_or_else(Utc::now);
    let work = backfill::Backfill { symbols, from, to, width_seconds: arguments.width };
    if arguments.dry_run {
        let what = work.width_seconds.map_or("trades".to_owned(), |width| format!("bars of {width} s"));
        println!("{}: {what} from {from} to {to} of {}", entry.name, work.symbols.join(", "));
        return Ok(());
    }
    let network = Network::new()?;
    let fetch = async |sink: Sink| backfill::backfill(feed, &mapping, &work, &network, &sink).await;
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
