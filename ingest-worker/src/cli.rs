//! The commands and their arguments.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::Arc,
};

use chrono::{NaiveDate, Utc};
use clap::{Args, Parser, Subcommand, ValueEnum};
use kronos_ingest::{
    config::{Config, FeedConfig},
    drive::{backfill, live, stopped},
    error::{Error, Result},
    feeds,
    kinds::Timestamp,
    load::{self, REPLAY_CHANNEL, ReplayOptions},
    migrate,
    postgres::Database,
    recording::unknown_feed,
    report, simulate,
    store::{Sink, Spill, Writer, Written},
    table::{self, parse_bar_width, parse_width},
    wire::Network,
};
use tracing_subscriber::EnvFilter;

/// Fills the database with market data.
#[derive(Debug, Parser)]
#[command(name = "kronos-ingest", version)]
pub struct Arguments {
    /// Configuration file (TOML); kronos-ingest.example.toml explains each line.
    #[arg(long, short, global = true, env = "KRONOS_INGEST_CONFIG")]
    config: Option<PathBuf>,
    /// Form of the log on stderr; RUST_LOG sets what is logged.
    #[arg(long, global = true, value_enum, default_value_t = LogForm::Text)]
    pub log: LogForm,
    #[command(subcommand)]
    command: Command,
}

/// Form of the log.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum LogForm {
    Text,
    Json,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs all configured feeds until it is told to stop.
    Run,
    /// Fetches history of a feed by REST: bars, or trades without --width.
    Backfill(Backfill),
    /// Sets up or updates the tables (the files of sql/), in one transaction.
    Migrate,
    /// Loads CSV files of bars, trades or quotes, gzipped or not.
    Load(Load),
    /// Replays recorded frames, or CSV files of trades and quotes; a killed replay resumes.
    Replay(Replay),
    /// Fills an empty database with synthetic bars.
    Simulate(Simulate),
    /// Checks configuration, credentials (one question to each feed), database and clock.
    Check,
    /// Shows freshness, gaps and findings.
    Status,
}

#[derive(Debug, Args)]
struct Backfill {
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

#[derive(Debug, Args)]
struct Load {
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// Name of the source in market.bars, or of the feed in market.trades.
    #[arg(long, default_value = "file")]
    source: String,
    /// Symbol of all rows, for files without such a column.
    #[arg(long)]
    symbol: Option<String>,
    /// Width of the bars (1m, 1h, 1d, 1w, 1mo); told from the rows without it.
    #[arg(long, value_parser = parse_bar_width)]
    width: Option<table::Width>,
    /// Zone of times written without one, for example America/New_York.
    #[arg(long)]
    timezone: Option<chrono_tz::Tz>,
    /// Maps a column, for example --column close=px_last.
    #[arg(long = "column", value_parser = parse_column)]
    columns: Vec<(String, String)>,
    /// What stands between two columns; \t is a tab.
    #[arg(long, default_value = ",", value_parser = parse_delimiter)]
    delimiter: u8,
    /// End with a failure when any row is rejected; without it, when no row of a file is taken.
    #[arg(long)]
    strict: bool,
}

#[derive(Debug, Args)]
struct Replay {
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// 1 is the pace of the recording; as fast as possible without it.
    #[arg(long, value_parser = parse_speed)]
    speed: Option<f64>,
    /// Decode as this feed whatever the recording says.
    #[arg(long)]
    feed: Option<String>,
    /// Start at the beginning even if an earlier replay was interrupted.
    #[arg(long)]
    from_start: bool,
}

#[derive(Debug, Args)]
struct Simulate {
    #[arg(long, default_value_t = 5)]
    symbols: u32,
    #[arg(long, default_value_t = 750)]
    bars: u32,
    #[arg(long, default_value = "1d", value_parser = parse_width)]
    width: i64,
    /// Date of the first bar; by default the last one ends today.
    #[arg(long)]
    start: Option<NaiveDate>,
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

fn parse_column(text: &str) -> Result<(String, String), String> {
    let (ours, theirs) = text.split_once('=').ok_or("expected ours=theirs, for example close=px_last")?;
    Ok((ours.trim().to_owned(), theirs.trim().to_owned()))
}

fn parse_instant(text: &str) -> Result<Timestamp, String> {
    table::parse_time(text, None)
}

fn parse_delimiter(text: &str) -> Result<u8, String> {
    match text.as_bytes() {
        b"\\t" => Ok(b'\t'),
        [one] if one.is_ascii() => Ok(*one),
        _ => Err("a delimiter is one character, for example ;".to_owned()),
    }
}

fn parse_speed(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(speed) if speed > 0.0 && speed.is_finite() => Ok(speed),
        _ => Err("speed must be a number above 0".to_owned()),
    }
}

/// Starts the log on stderr.
pub fn start_log(form: LogForm) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false);
    match form {
        LogForm::Json => log.json().init(),
        LogForm::Text => log.init(),
    }
}

/// Runs the command.
///
/// # Errors
/// What stopped it, for people.
pub async fn run(arguments: Arguments) -> Result<()> {
    let config = arguments.config.as_deref().map(Config::read).transpose()?.unwrap_or_default();
    let database =
        || Database::new(config.database.url.as_deref(), config.database.root_certificate.as_ref());
    match arguments.command {
        Command::Migrate => {
            let database = database()?;
            let edition = migrate::migrate(&database).await?;
            println!(
                "{} files applied to {} (TimescaleDB: {edition})",
                kronos_sql::FILES.len(),
                database.place()
            );
            Ok(())
        }
        Command::Run => run_feeds(&config, database()?).await,
        Command::Backfill(arguments) => backfill(&config, database()?, arguments).await,
        Command::Load(load) => load_files(&config, database()?, load).await,
        Command::Replay(replay) => replay_files(&config, database()?, replay).await,
        Command::Simulate(arguments) => {
            let span = chrono::TimeDelta::seconds(arguments.width * i64::from(arguments.bars));
            let simulation = simulate::Simulation {
                symbols: arguments.symbols,
                bars: arguments.bars,
                width_seconds: arguments.width,
                start: arguments.start.unwrap_or_else(|| (Utc::now() - span).date_naive()),
                seed: arguments.seed,
            };
            let work = async |sink: Sink| simulate::simulate(&simulation, &sink).await;
            let (done, written) = with_writer(&config, database()?, work).await?;
            done?;
            println!("{} bars of {} symbols stored as source simulate", written.stored, simulation.symbols);
            Ok(())
        }
        Command::Check => report::print_checks(&report::check(&config, database(), &Network::new()?).await),
        Command::Status => report::status(&database()?.connect().await?).await,
    }
}

/// Runs `work` with a sink, then drains the writer: how the work ended, and what was written all the same. The writer's error
/// wins, because it is the cause.
async fn with_writer<T>(
    config: &Config,
    database: Database,
    work: impl AsyncFnOnce(Sink) -> Result<T>,
) -> Result<(Result<T>, Written)> {
    let (sink, receiver) = Sink::channel(config.limits());
    let mut writer = Writer::new(database, config.limits());
    if let Some(folder) = &config.sink.spill_dir {
        writer = writer.with_spill(Spill::open(folder, config.sink.spill_max_mb << 20)?);
    }
    let writing = tokio::spawn(writer.run(receiver));
    let done = work(sink).await;
    let written = writing.await.map_err(|e| Error::Usage(format!("the writer failed: {e}")))??;
    Ok((done, written))
}

/// What became of rows, for people.
fn tell(written: &Written) -> String {
    let mut text = format!(
        "{} rows stored, {} known before, {} rejected",
        written.stored, written.known, written.rejected
    );
    if written.rejected > 0 {
        text.push_str("; market.rejected_rows has them, with the reasons");
    }
    text
}

async fn run_feeds(config: &Config, database: Database) -> Result<()> {
    if config.metrics.enabled {
        metrics_exporter_prometheus::PrometheusBuilder::new()
            .with_http_listener(config.metrics.listen)
            .install()
            .map_err(|e| Error::Metrics(e.to_string()))?;
    }
    let (stop, shutdown) = tokio::sync::watch::channel(false);
    tokio::spawn(async move {
        wait_for_signal().await;
        tracing::info!("stopping: draining what has arrived");
        if stop.send(true).is_err() {
            return;
        }
        // Keeps the sender alive: a closed channel would not read as a request to stop.
        std::future::pending::<()>().await;
    });
    let network = Arc::new(Network::new()?);
    if config.maintenance.every_minutes > 0 {
        let every = std::time::Duration::from_secs(config.maintenance.every_minutes * 60);
        repeat("call market.maintenance()", every, &database, shutdown.clone());
        repeat("call market.refresh_trade_bars()", REFRESH_EVERY, &database, shutdown.clone());
    }
    let reader = database.clone();
    with_writer(config, database, async |sink: Sink| {
        live::run(config, &reader, network, sink, shutdown).await
    })
    .await?
    .0
}

async fn wait_for_signal() {
    let terminate = async {
        match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
            Ok(mut signal) => drop(signal.recv().await),
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        () = terminate => {}
    }
}

/// Runs `statement` every `every`, for databases without a scheduler; failures are logged, never fatal.
fn repeat(
    statement: &'static str,
    every: std::time::Duration,
    database: &Database,
    mut shutdown: tokio::sync::watch::Receiver<bool>,
) {
    let database = database.clone();
    tokio::spawn(async move {
        loop {
            tokio::select! {
                () = stopped(&mut shutdown) => return,
                () = tokio::time::sleep(every) => {}
            }
            let done = async { Ok::<_, Error>(database.connect().await?.batch_execute(statement).await?) };
            if let Err(error) = done.await {
                tracing::warn!(%error, statement, "maintenance failed");
            }
        }
    });
}

/// How often the bars of touched hours are stored; what is touched is computed when read.
const REFRESH_EVERY: std::time::Duration = std::time::Duration::from_secs(60);

async fn backfill(config: &Config, database: Database, arguments: Backfill) -> Result<()> {
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
    let mapping = section.symbols.mapping();
    let symbols =
        if arguments.symbols.is_empty() { mapping.keys().cloned().collect() } else { arguments.symbols };
    if symbols.is_empty() {
        return Err(Error::Usage(format!("name symbols, or configure feeds.{}.symbols", entry.name)));
    }
    let (from, to) = (arguments.from, arguments.to.unwrap_or_else(Utc::now));
    let work = backfill::Backfill { symbols, from, to, width_seconds: arguments.width };
    let network = Network::new()?;
    let fetch = async |sink: Sink| backfill::backfill(&*feed, &mapping, &work, &network, &sink).await;
    let reader = database.clone();
    let (done, written) = with_writer(config, database, fetch).await?;
    println!("{} symbols from {}: {}", work.symbols.len(), entry.name, tell(&written));
    learn_calendars(&reader, &done?.symbols).await;
    Ok(())
}

/// Lets bars that came in tell the calendars of instruments that have none. Where they may not, or are of no market that is
/// known, the forecasts infer one each time.
async fn learn_calendars(database: &Database, symbols: &BTreeSet<String>) {
    let symbols: Vec<&String> = symbols.iter().collect();
    let learn = async {
        let client = database.connect().await?;
        client.execute("select market.learn_calendars($1)", &[&symbols]).await?;
        Ok::<_, Error>(())
    };
    if let Err(error) = learn.await {
        tracing::info!(%error, "the calendars of new instruments stay unknown");
    }
}

/// Brings continuous aggregates up to date after old trades came in; only their owner may, others leave it to the policy.
async fn refresh_trade_bars(database: &Database) {
    let refresh = async {
        let client = database.connect().await?;
        for row in client.query("select market.refresh_trade_bars_statements()", &[]).await? {
            client.batch_execute(row.get(0)).await?;
        }
        Ok::<_, Error>(())
    };
    if let Err(error) = refresh.await {
        tracing::info!(%error, "bars built from trades are left to the refresh policy");
    }
}

async fn load_files(config: &Config, database: Database, load: Load) -> Result<()> {
    let columns: BTreeMap<_, _> = load.columns.into_iter().collect();
    let (symbol, width, zone) = (load.symbol, load.width, load.timezone);
    let options = table::Options { columns, symbol, width, zone, delimiter: load.delimiter };
    let (mut refused, mut symbols) = (0, BTreeSet::new());
    for file in &load.files {
        let reading = async |sink: Sink| load::load_table(file, &load.source, options.clone(), &sink).await;
        let (done, written) = with_writer(config, database.clone(), reading).await?;
        println!("{}: {}", file.display(), tell(&written));
        symbols.append(&mut done?.symbols);
        let none_taken = written.stored + written.known == 0;
        if written.rejected > 0 && (load.strict || none_taken) {
            refused += written.rejected;
        }
    }
    refresh_trade_bars(&database).await;
    learn_calendars(&database, &symbols).await;
    if refused > 0 { Err(Error::Refused { rows: refused }) } else { Ok(()) }
}

async fn replay_files(config: &Config, database: Database, replay: Replay) -> Result<()> {
    let reader = database.connect().await?;
    for file in &replay.files {
        let reading = async |sink: Sink| {
            if is_csv(file) {
                return load::load_table(file, "file", table::Options::default(), &sink).await.map(drop);
            }
            let key = load::recording_key(file)?;
            let statement = "select coalesce(max(sequence), 0) from market.feed_cursors where channel = $1 and symbol = $2";
            let done: i64 = reader.query_one(statement, &[&REPLAY_CHANNEL, &key]).await?.get(0);
            let skip_lines = if replay.from_start { 0 } else { done.unsigned_abs() };
            let options = ReplayOptions { feed: replay.feed.clone(), speed: replay.speed, skip_lines };
            load::replay_recording(file, &options, &sink).await.map(drop)
        };
        let (done, written) = with_writer(config, database.clone(), reading).await?;
        println!("{}: {}", file.display(), tell(&written));
        done?;
    }
    refresh_trade_bars(&database).await;
    Ok(())
}

fn is_csv(path: &Path) -> bool {
    let name = path.to_string_lossy();
    name.ends_with(".csv") || name.ends_with(".csv.gz")
}
