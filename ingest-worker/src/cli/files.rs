//! `load` and `replay`: files.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use chrono::Utc;
use clap::{Args, ValueEnum};
use kronos_ingest::{
    config::Config,
    error::{Error, Result},
    load::{self, REPLAY_CHANNEL, ReplayOptions},
    postgres::Database,
    store::Sink,
    symbols::Names,
    table::{self, DecimalMark, DocumentOptions, DocumentTable, Records, Table, TimeFormat, parse_bar_width},
};

use super::{learn_calendars, names_of, tell, with_writer};

/// The names of instruments in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Symbols {
    /// BTC-USD and BTC/USD are BTCUSD, BRK-B is BRK.B, as with the feeds.
    Canonical,
    /// Every name stays as it is.
    AsIs,
}

#[derive(Debug, Args)]
pub struct Load {
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// Name of the source in market.bars, or of the feed in market.trades.
    #[arg(long, default_value = "file")]
    source: String,
    /// Symbol of all rows, for files without such a column.
    #[arg(long)]
    symbol: Option<String>,
    /// Width of the bars (1m, 1h, 1d, 1w, 1mo, 1q); told from the rows without it.
    #[arg(long, value_parser = parse_bar_width)]
    width: Option<table::Width>,
    /// Zone of times written without one, for example America/New_York.
    #[arg(long)]
    timezone: Option<chrono_tz::Tz>,
    /// Maps a column, for example --column close=px_last; of facts, names a member of the payload.
    #[arg(long = "column", value_parser = parse_column)]
    columns: Vec<(String, String)>,
    /// What stands between two columns, for example ; or \\t; told from the first line without it.
    #[arg(long, value_parser = parse_delimiter)]
    delimiter: Option<u8>,
    /// The rows are facts of this kind, for example fmp_ratios: each is a version of a document in market.documents.
    #[arg(long, value_name = "KIND", value_parser = parse_kind, conflicts_with_all = ["width", "decimal"])]
    documents: Option<String>,
    /// Columns that tell a document from the others; the symbol and the event without it.
    #[arg(long, requires = "documents", value_delimiter = ',')]
    key: Vec<String>,
    /// Column with the time from which a fact was known, a day alone being over; the moment of loading without it.
    #[arg(long, requires = "documents", value_name = "COLUMN")]
    known_at: Option<String>,
    /// Column with the time of what a fact tells of.
    #[arg(long, requires = "documents", value_name = "COLUMN")]
    event: Option<String>,
    /// How times are written that could be several: unix, unix-ms, unix-us, unix-ns, excel, yyyymmdd (and shorter or longer),
    /// day-first, month-first, or a pattern such as %d.%m.%Y.
    #[arg(long, value_parser = TimeFormat::parse)]
    time_format: Option<TimeFormat>,
    /// What stands between the whole part of a number and its fraction, where the file does not tell: . or ,
    #[arg(long, value_parser = DecimalMark::parse)]
    decimal: Option<DecimalMark>,
    /// Whether names of instruments are those of the feeds.
    #[arg(long, value_enum, default_value_t = Symbols::Canonical)]
    symbols: Symbols,
    /// End with a failure when any row is rejected; without it, when no row of a file is taken.
    #[arg(long)]
    strict: bool,
}

#[derive(Debug, Args)]
pub struct Replay {
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

fn parse_column(text: &str) -> Result<(String, String), String> {
    let (ours, theirs) = text.split_once('=').ok_or("expected ours=theirs, for example close=px_last")?;
    Ok((ours.trim().to_owned(), theirs.trim().to_owned()))
}

fn parse_kind(text: &str) -> Result<String, String> {
    let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-".contains(&byte);
    match text.bytes().next() {
        Some(first) if first.is_ascii_lowercase() && text.bytes().all(is_plain) && text.len() <= 56 => {
            Ok(text.to_owned())
        }
        _ => Err("a kind has small letters, digits and underscores, for example fmp_ratios".to_owned()),
    }
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

/// Loads CSV files.
///
/// # Errors
/// What stopped it; [`Error::Refused`] for rows that were rejected.
pub async fn load(config: &Config, database: Database, load: Load) -> Result<()> {
    let options = table::Options {
        columns: load.columns.into_iter().collect(),
        symbol: load.symbol,
        width: load.width,
        zone: load.timezone,
        time_format: load.time_format,
        decimal: load.decimal,
        delimiter: load.delimiter,
    };
    let documents = load.documents.map(|kind| DocumentOptions {
        kind,
        key: load.key,
        known_at: load.known_at,
        event: load.event,
        table: options.clone(),
    });
    let (mut refused, mut symbols) = (0, BTreeSet::new());
    for file in &load.files {
        let mut names = match load.symbols {
            Symbols::Canonical => names_of(config, &database, &load.source).await,
            Symbols::AsIs => Names::literal(),
        };
        let mut table: Box<dyn Records + Send> = match &documents {
            None => Box::new(Table::open(file, options.clone(), Utc::now())?),
            Some(documents) => Box::new(DocumentTable::open(file, documents.clone(), Utc::now())?),
        };
        let reading =
            async |sink: Sink| load::load_table(file, &mut *table, &load.source, &mut names, &sink).await;
        let (done, written) =
            with_writer(config, config.limits_of_files(), database.clone(), reading).await?;
        println!("{}: {}", file.display(), tell(&written));
        symbols.append(&mut done?.symbols);
        if let Some(told) = names.told() {
            println!("{}: {told}", file.display());
            names.record(&database.connect().await?, &load.source).await?;
        }
        let none_taken = written.stored + written.known == 0;
        if written.rejected > 0 && (load.strict || none_taken) {
            refused += written.rejected;
        }
    }
    refresh_trade_bars(&database).await;
    learn_calendars(&database, &symbols).await;
    if refused > 0 { Err(Error::Refused { rows: refused }) } else { Ok(()) }
}

/// Replays recordings.
///
/// # Errors
/// What stopped it.
pub async fn replay(config: &Config, database: Database, replay: Replay) -> Result<()> {
    let reader = database.connect().await?;
    for file in &replay.files {
        let reading = async |sink: Sink| {
            if is_csv(file) {
                let mut names = names_of(config, &database, "file").await;
                let mut table = Table::open(file, table::Options::default(), Utc::now())?;
                return load::load_table(file, &mut table, "file", &mut names, &sink).await.map(drop);
            }
            let key = load::recording_key(file)?;
            let statement = "select coalesce(max(sequence), 0) from market.feed_cursors where channel = $1 and symbol = $2";
            let done: i64 = reader.query_one(statement, &[&REPLAY_CHANNEL, &key]).await?.get(0);
            let skip_lines = if replay.from_start { 0 } else { done.unsigned_abs() };
            let options = ReplayOptions { feed: replay.feed.clone(), speed: replay.speed, skip_lines };
            load::replay_recording(file, &options, &sink).await.map(drop)
        };
        let (done, written) = with_writer(config, config.limits(), database.clone(), reading).await?;
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
