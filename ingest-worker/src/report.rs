//! `status` and `check`: what people ask before they ask anyone else.

use chrono::Utc;
use tokio_postgres::Client;

use crate::{
    config::{Config, FeedConfig},
    drive::live,
    error::{Error, FeedError, Result},
    feeds::{self, Feed, FeedEntry, History, PollFeed, Question, Scope, StreamFeed},
    kinds::{KINDS, Record, Timestamp},
    postgres::Database,
    wire::{self, Transport},
};

/// One line of `check`.
#[derive(Clone, Debug, PartialEq)]
pub struct Check {
    pub name: String,
    pub outcome: std::result::Result<String, String>,
}

impl Check {
    fn new(name: impl Into<String>, outcome: std::result::Result<String, String>) -> Self {
        Check { name: name.into(), outcome }
    }
}

/// Largest accepted difference between our clock and the database's, in milliseconds.
const MAX_CLOCK_SKEW_MS: i64 = 1_000;

/// Checks the configuration, that each enabled feed answers with its credentials, the database, its set-up, the
/// privileges and the clock.
pub async fn check(config: &Config, database: Result<Database>, transport: &dyn Transport) -> Vec<Check> {
    let mut checks = vec![Check::new("configuration", Ok(format!("{} feeds", config.feeds.len())))];
    for (name, feed_config) in &config.feeds {
        let Some(entry) = feeds::find(name).filter(|entry| feed_config.is_enabled(entry)) else { continue };
        checks.push(Check::new(format!("feed {name}"), ask(entry, feed_config, transport).await));
    }
    if let Some(folder) = &config.sink.spill_dir {
        let outcome = crate::store::Spill::open(folder, u64::MAX)
            .map(|spill| format!("{} bytes waiting in \"{}\"", spill.len(), folder.display()))
            .map_err(|e| e.to_string());
        checks.push(Check::new("spill folder", outcome));
    }
    let client = match database {
        Ok(database) => match database.connect().await {
            Ok(client) => {
                checks.push(Check::new("database", Ok(database.place())));
                Some(client)
            }
            Err(error) => {
                checks.push(Check::new("database", Err(error.to_string())));
                None
            }
        },
        Err(error) => {
            checks.push(Check::new("database", Err(error.to_string())));
            None
        }
    };
    if let Some(client) = client {
        checks.push(Check::new("clock", clock(&client).await));
        checks.push(Check::new("set-up", set_up(&client).await));
        checks.push(Check::new("privileges", privileges(&client).await));
    }
    checks
}

/// Puts one question to a feed: the newest trade of its first symbol, the history of the last minute or days, or what its
/// first endpoint has.
async fn ask(
    entry: &'static FeedEntry,
    section: &FeedConfig,
    transport: &dyn Transport,
) -> std::result::Result<String, String> {
    let feed = live::build(entry, section).map_err(|e| e.to_string())?;
    let symbols = section.symbols.mapping();
    let Some(symbol) = symbols.keys().next().cloned() else { return Err("no symbols".to_owned()) };
    let records = match feed {
        Feed::Stream(feed) => history(&*feed, &symbol, transport).await,
        Feed::Poll(feed) => polled(&*feed, &symbol, transport).await,
    };
    let records = records.map_err(|error| match error {
        FeedError::Fatal(reason) | FeedError::NotInPlan(reason) => format!("refused: {reason}"),
        other => other.to_string(),
    })?;
    let Some(records) = records else { return Ok(format!("{} symbols, nothing to ask", symbols.len())) };
    let newest = records.iter().filter_map(Record::time);
    let newest = newest.max().map_or_else(|| "no recent row".to_owned(), |time| format!("newest of {time}"));
    Ok(format!("{} symbols; it answers for {symbol}: {newest}", symbols.len()))
}

async fn history(
    feed: &dyn StreamFeed,
    symbol: &str,
    transport: &dyn Transport,
) -> std::result::Result<Option<Vec<Record>>, FeedError> {
    let (symbol, to, minute) = (symbol.to_owned(), Utc::now(), chrono::TimeDelta::minutes(1));
    let questions = [
        History::Latest { symbol: symbol.clone() },
        History::Trades { symbol: symbol.clone(), from: to - minute, to, from_id: None, to_id: None },
        History::Bars { symbol, width_seconds: 86_400, from: to - minute * 14_400, to },
    ];
    let Some(request) = questions.iter().find_map(|question| feed.request(question)) else { return Ok(None) };
    let body = wire::ask(transport, &request.wire()).await?.success()?;
    Ok(Some(feed.parse_page(&request, &body, Utc::now())?.records))
}

async fn polled(
    feed: &dyn PollFeed,
    symbol: &str,
    transport: &dyn Transport,
) -> std::result::Result<Option<Vec<Record>>, FeedError> {
    let Some(&endpoint) = feed.endpoints().first() else { return Ok(None) };
    let symbol = (endpoint.scope == Scope::Symbol).then_some(symbol);
    let question = Question { endpoint, symbol, position: None, now: Utc::now() };
    let request = feed.request(question)?;
    let answer = wire::ask(transport, &request).await?;
    Ok(Some(feed.parse(question, &answer.json()?, Utc::now())?.records))
}

async fn clock(client: &Client) -> std::result::Result<String, String> {
    let before = Utc::now();
    let row = client.query_one("select clock_timestamp()", &[]).await.map_err(|e| e.to_string())?;
    let (theirs, after): (Timestamp, Timestamp) = (row.get(0), Utc::now());
    let skew = (theirs - (before + (after - before) / 2)).num_milliseconds();
    if skew.abs() > MAX_CLOCK_SKEW_MS {
        return Err(format!("the clocks of this machine and of the database differ by {skew} ms"));
    }
    Ok(format!("{skew} ms from the database's"))
}

async fn set_up(client: &Client) -> std::result::Result<String, String> {
    let missing = "the tables are not set up; run kronos-ingest migrate".to_owned();
    let rows = client.query("select file, timescale from market.installed_files", &[]).await;
    let rows = rows.map_err(|_| missing.clone())?;
    let installed: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    if let Some(file) = kronos_sql::FILES.iter().find(|file| !installed.iter().any(|i| i == file.name)) {
        return Err(format!("set-up file {} is not applied; run kronos-ingest migrate", file.name));
    }
    let now = client.query_one("select market.timescale_edition()", &[]).await.map_err(|e| e.to_string())?;
    let (edition, applied): (String, String) = (now.get(0), rows[0].get(1));
    if edition != applied {
        return Err(format!(
            "TimescaleDB was {applied} at set-up and is {edition} now; run kronos-ingest migrate"
        ));
    }
    Ok(format!("{} files, TimescaleDB {edition}", rows.len()))
}

async fn privileges(client: &Client) -> std::result::Result<String, String> {
    let statement = "select t from unnest($1::text[]) t \
                     where not has_table_privilege(to_regclass('market.' || t), 'insert')";
    let bookkeeping =
        ["feed_sessions", "feed_gaps", "feed_cursors", "feed_refusals", "feed_usage", "instruments"];
    let tables: Vec<&str> = KINDS.iter().map(|kind| kind.table()).chain(bookkeeping).collect();
    let rows = client.query(statement, &[&tables]).await.map_err(|e| crate::error::database_message(&e))?;
    if rows.is_empty() {
        return Ok("may write market data".to_owned());
    }
    let tables: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    Err(format!("may not insert into {}; grant market_ingestor to this role", tables.join(", ")))
}

/// Prints the checks; the exit status tells whether all passed.
///
/// # Errors
/// [`Error::Checks`] when one failed.
pub fn print_checks(checks: &[Check]) -> Result<()> {
    for check in checks {
        match &check.outcome {
            Ok(detail) => println!("ok      {}: {detail}", check.name),
            Err(reason) => println!("FAILED  {}: {reason}", check.name),
        }
    }
    match checks.iter().filter(|check| check.outcome.is_err()).count() {
        0 => Ok(()),
        failed => Err(Error::Checks { failed, total: checks.len() }),
    }
}

/// Prints freshness, gaps and totals.
///
/// # Errors
/// The database's error.
pub async fn status(client: &Client) -> Result<()> {
    let streams = client
        .query(
            "select feed, channel, symbol, newest_event_time, \
                    (extract(epoch from silence))::float8, stale, open_gaps from market.feed_health order by 1, 2, 3",
            &[],
        )
        .await?;
    println!("{:<18} {:<10} {:<12} {:<27} {:>9}  gaps", "feed", "channel", "symbol", "newest", "silent");
    for row in &streams {
        let newest: Option<Timestamp> = row.get(3);
        let (silence, stale, gaps): (f64, bool, i64) = (row.get(4), row.get(5), row.get(6));
        println!(
            "{:<18} {:<10} {:<12} {:<27} {:>8.0}s  {gaps}{}",
            row.get::<_, String>(0),
            row.get::<_, String>(1),
            row.get::<_, String>(2),
            newest.map_or_else(|| "-".to_owned(), |t| t.to_rfc3339_opts(chrono::SecondsFormat::Millis, true)),
            silence,
            if stale { "  STALE" } else { "" }
        );
    }
    let refused = "select feed, channel, symbol, reason, until from market.feed_refusals \
                   where lifted_at is null and coalesce(until > now(), true) order by 1, 2, 3";
    for row in client.query(refused, &[]).await? {
        let [feed, channel, symbol, reason]: [String; 4] = std::array::from_fn(|i| row.get(i));
        let until: Option<Timestamp> = row.get(4);
        let until = until.map_or_else(|| "the worker is started again".to_owned(), |time| time.to_rfc3339());
        println!("{feed} refuses {channel} of {symbol} until {until}: {reason}");
    }
    let used = "select feed, coalesce(sum(requests) filter (where day = (now() at time zone 'UTC')::date), 0)::bigint, sum(bytes)::float8 / 1e6, \
                       (array_agg(allowed_bytes order by day desc))[1]::float8 / 1e6 from market.feed_usage \
                where day > (now() at time zone 'UTC')::date - 30 group by 1 order by 1";
    for row in client.query(used, &[]).await? {
        let (feed, requests, megabytes): (String, i64, f64) = (row.get(0), row.get(1), row.get(2));
        let allowed: Option<f64> = row.get(3);
        let allowed = allowed.map_or_else(String::new, |allowed| format!(" of {allowed:.0}"));
        println!("{feed}: {requests} requests today, {megabytes:.1}{allowed} MB in 30 days");
    }
    let totals = client
        .query_one(
            "select (select count(*) from market.feed_gaps where status = 'open'), \
                    (select count(*) from market.feed_gaps where status = 'unfillable'), \
                    (select count(*) from market.rejected_rows), \
                    (select count(*) from market.validation_findings)",
            &[],
        )
        .await?;
    let [open, lost, rejected, findings]: [i64; 4] = std::array::from_fn(|i| totals.get(i));
    println!("{open} open gaps, {lost} unfillable, {rejected} rejected rows, {findings} validation findings");
    Ok(())
}
