//! The commands and their arguments.

mod files;
mod history;

use std::{collections::BTreeSet, path::PathBuf, sync::Arc};

use chrono::{NaiveDate, Utc};
use clap::{Args, Parser, Subcommand, ValueEnum};
use kronos_ingest::{
    config::Config,
    drive::{live, stopped},
    error::{Error, Result},
    migrate, plan,
    postgres::Database,
    report, retry, simulate,
    store::{Limits, Sink, Spill, Writer, Written},
    symbols::Names,
    table::parse_width,
    wire::{Backoff, Network},
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
    /// Fetches history by REST: of a feed, or all that is due of the feeds that are polled; once, to the end.
    Backfill(history::Backfill),
    /// Sets up or updates the tables (the files of sql/), in one transaction.
    Migrate,
    /// Loads CSV files of bars, trades or quotes, gzipped or not.
    Load(files::Load),
    /// Replays recorded frames, or CSV files of trades and quotes; a killed replay resumes.
    Replay(files::Replay),
    /// Tries again what lies in market.rejected_rows, once its cause is mended; what is taken leaves it.
    Retry(Retry),
    /// Fills an empty database with synthetic bars.
    Simulate(Simulate),
    /// Says what the polled feeds of the configuration ask of their vendors; asks nothing, and needs no credentials.
    Plan {
        /// A line for each endpoint, too.
        #[arg(long)]
        endpoints: bool,
    },
    /// Checks configuration, credentials (one question to each feed), database and clock.
    Check,
    /// Shows freshness, gaps and findings.
    Status,
}

#[derive(Debug, Args)]
struct Retry {
    /// Rows of this feed or source; of all without it.
    #[arg(long)]
    feed: Option<String>,
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
        Command::Backfill(arguments) => history::backfill(&config, database()?, arguments).await,
        Command::Load(load) => files::load(&config, database()?, load).await,
        Command::Replay(replay) => files::replay(&config, database()?, replay).await,
        Command::Retry(arguments) => {
            let retried = retry::retry(&database()?, arguments.feed.as_deref()).await?;
            println!(
                "{} taken, {} refused as before, {} left (rows of files: load the file again; what was cut)",
                retried.taken, retried.refused, retried.left
            );
            Ok(())
        }
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
            let (done, written) = with_writer(&config, config.limits(), database()?, work).await?;
            done?;
            println!("{} bars of {} symbols stored as source simulate", written.stored, simulation.symbols);
            Ok(())
        }
        Command::Plan { endpoints } => {
            print!("{}", plan::told(&plan::plan(&config)?, endpoints));
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
    limits: Limits,
    database: Database,
    work: impl AsyncFnOnce(Sink) -> Result<T>,
) -> Result<(Result<T>, Written)> {
    let (sink, receiver) = Sink::channel(limits);
    let mut writer = Writer::new(database, limits);
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
    let shutdown = shutdown_on_signal();
    let network = Arc::new(Network::new()?);
    if config.maintenance.every_minutes > 0 {
        let every = std::time::Duration::from_secs(config.maintenance.every_minutes * 60);
        repeat("call market.maintenance()", every, &database, shutdown.clone());
        repeat("call market.refresh_trade_bars()", REFRESH_EVERY, &database, shutdown.clone());
    }
    let reader = database.clone();
    with_writer(config, config.limits(), database, async |sink: Sink| {
        live::run(config, &reader, network, sink, shutdown).await
    })
    .await?
    .0
}

/// Turns true when the program is told to stop.
fn shutdown_on_signal() -> tokio::sync::watch::Receiver<bool> {
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
    shutdown
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

/// What the database knows of the names of `source`, which is waited for; where rows may wait on disk instead, or the names cannot
/// be read, their forms tell.
async fn names_of(config: &Config, database: &Database, source: &str) -> Names {
    let mut backoff = Backoff::default();
    loop {
        let reason = match database.connect().await {
            Ok(client) => match Names::of_source(&client, source).await {
                Ok(names) => return names,
                // Whoever writes will say what is wrong with the tables.
                Err(error) if error.as_db_error().is_some() => return Names::default(),
                Err(error) => error.to_string(),
            },
            Err(error) => error.to_string(),
        };
        if config.sink.spill_dir.is_some() {
            tracing::warn!(reason, "database is away, symbols are named by their form");
            return Names::default();
        }
        tracing::warn!(reason, "database is away");
        tokio::time::sleep(backoff.next_delay()).await;
    }
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
