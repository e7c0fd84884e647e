//! `load` and `replay`: files into tables, at the speed of the writer or of the recording.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use indicatif::{ProgressBar, ProgressStyle};
use tokio::time::{Duration, Instant};

use crate::{
    error::{Error, Result},
    kinds::{Record, Timestamp},
    recording::{Decoder, Line, Recording},
    store::{Batch, CursorMove, Sink},
    symbols::{Names, of_feed},
    table::Records,
};

/// Records handed over at once.
const BATCH_ROWS: usize = 1_000;

/// What was read of a file; what of it was new, the writer knows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Loaded {
    pub rows: u64,
    pub rejected: u64,
    /// The instruments of the rows.
    pub symbols: BTreeSet<String>,
}

impl Loaded {
    /// Counts a record, where it is a row.
    pub(crate) fn count(&mut self, record: &Record) {
        match record.row() {
            Some(row) if row.kind().is_quarantine() => self.rejected += 1,
            Some(row) => {
                self.rows += 1;
                if let Some(symbol) = row.instrument()
                    && !self.symbols.contains(symbol)
                {
                    self.symbols.insert(symbol.to_owned());
                }
            }
            None => {}
        }
    }
}

/// A bar over the bytes of a file; hidden where stderr is no terminal.
fn progress(path: &Path) -> ProgressBar {
    let length = std::fs::metadata(path).map_or(0, |m| m.len());
    let bar = ProgressBar::new(length);
    if let Ok(style) = ProgressStyle::with_template("{wide_bar} {bytes}/{total_bytes} {msg} {eta}") {
        bar.set_style(style);
    }
    bar
}

/// Loads the rows of a file at `path` as those of `source`, under the names that `names` has for their instruments.
///
/// # Errors
/// [`Error::Row`] for the file as a whole; single bad rows are quarantined.
pub async fn load_table(
    path: &Path,
    table: &mut dyn Records,
    source: &str,
    names: &mut Names,
    sink: &Sink,
) -> Result<Loaded> {
    let bar = progress(path);
    let mut loaded = Loaded::default();
    let mut batch = Batch::new(source);
    let ended = loop {
        let mut record = match table.next_record() {
            Ok(Some((_, record))) => record,
            Ok(None) => break Ok(loaded),
            Err(error) => break Err(error),
        };
        let time = record.time();
        if let Some(symbol) = record.symbol_mut() {
            names.rename(symbol, time);
        }
        loaded.count(&record);
        batch.records.push(record);
        if batch.records.len() >= BATCH_ROWS {
            bar.set_message(format!("{} rows", loaded.rows));
            bar.set_position(table.bytes_read());
            sink.send(std::mem::replace(&mut batch, Batch::new(source))).await?;
        }
    };
    // What was read before the file broke is stored.
    sink.send(batch).await?;
    bar.finish_and_clear();
    ended
}

/// How a recording is replayed.
#[derive(Clone, Debug, Default)]
pub struct ReplayOptions {
    /// Feed that decodes the frames; the connect lines of the recording decide without it.
    pub feed: Option<String>,
    /// 1 is the pace of the recording, 10 ten times faster; `None` as fast as the database takes it.
    pub speed: Option<f64>,
    /// Lines of the recording that are stored already.
    pub skip_lines: u64,
}

/// Channel under which replayed recordings keep their place.
pub const REPLAY_CHANNEL: &str = "replay";

/// Identity of a recording in `market.feed_cursors`: its name and size, so that a file that grew is a new one.
///
/// # Errors
/// [`Error::Read`].
pub fn recording_key(path: &Path) -> Result<String> {
    let length =
        std::fs::metadata(path).map_err(|source| Error::Read { path: PathBuf::from(path), source })?.len();
    let name = path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    Ok(format!("{name}:{length}"))
}

/// Replays a recording of frames. A killed replay resumes where its last transaction ended.
///
/// # Errors
/// [`Error::Read`] for the file as a whole; frames that cannot be decoded are quarantined.
pub async fn replay_recording(path: &Path, options: &ReplayOptions, sink: &Sink) -> Result<Loaded> {
    let mut recording = Recording::open(path)?;
    let mut decoder = match &options.feed {
        Some(name) => Decoder::of_feed(name)?,
        None => Decoder::default(),
    };
    let key = recording_key(path)?;
    let started = Instant::now();
    let mut first_frame: Option<Timestamp> = None;
    let (mut loaded, mut line_number) = (Loaded::default(), 0u64);
    let mut batch = Batch::new(decoder.feed_name);
    let ended = loop {
        let line = match recording.next_line() {
            Ok(Some(line)) => line,
            Ok(None) => break Ok(()),
            Err(source) => break Err(Error::Read { path: path.to_owned(), source }),
        };
        line_number += 1;
        // Connect lines are read again after a restart: they say which feed decodes what follows.
        if line_number <= options.skip_lines && !matches!(line, Line::Connected { .. }) {
            continue;
        }
        let is_given = options.feed.is_some() && matches!(line, Line::Connected { .. });
        let records = if is_given { Vec::new() } else { decoder.decode(&line) };
        if batch.feed != decoder.feed_name {
            sink.send(std::mem::replace(&mut batch, Batch::new(decoder.feed_name))).await?;
        }
        if let (Some(speed), Line::Frame { received_at, .. }) = (options.speed, &line) {
            let first = *first_frame.get_or_insert(*received_at);
            let offset = (*received_at - first).to_std().unwrap_or(Duration::ZERO).div_f64(speed);
            if Instant::now() < started + offset {
                batch.cursors = vec![place(&key, line_number - 1)];
                sink.send(std::mem::replace(&mut batch, Batch::new(decoder.feed_name))).await?;
                tokio::time::sleep_until(started + offset).await;
            }
        }
        for mut record in records {
            if let Some(symbol) = record.symbol_mut() {
                *symbol = of_feed(symbol);
            }
            loaded.count(&record);
            batch.records.push(record);
        }
        if batch.records.len() >= BATCH_ROWS {
            batch.cursors = vec![place(&key, line_number)];
            sink.send(std::mem::replace(&mut batch, Batch::new(decoder.feed_name))).await?;
        }
    };
    batch.cursors = vec![place(&key, line_number)];
    sink.send(batch).await?;
    ended.map(|()| loaded)
}

fn place(key: &str, line: u64) -> CursorMove {
    CursorMove {
        channel: REPLAY_CHANNEL.to_owned(),
        symbol: key.to_owned(),
        sequence: i64::try_from(line).unwrap_or(i64::MAX),
        event_time: None,
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    /// Trades of the recording, one each second after the line that names the venue.
    const TRADES: i64 = 5;

    fn recording() -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        writeln!(file, "wss://ws-feed.exchange.coinbase.com <-> 1700000000.0").unwrap();
        for id in 1..=TRADES {
            let second = 1_700_000_000 + id;
            writeln!(
                file,
                r#"{second}.5: {{"type":"match","trade_id":{id},"side":"buy","size":"1","price":"2","product_id":"BTC-USD","sequence":{id},"time":"2023-11-14T22:13:2{id}Z"}}"#
            )
            .unwrap();
        }
        file
    }

    /// What a replay hands to the writer: numbers of the trades, and the place in the file, of each batch.
    async fn replay(options: ReplayOptions) -> Vec<(Vec<i64>, Option<i64>)> {
        let file = recording();
        let (sink, mut queue) = Sink::channel(crate::store::Limits::default());
        let replaying = async move { replay_recording(file.path(), &options, &sink).await.unwrap() };
        let collecting = async {
            let mut batches = Vec::new();
            while let Some(batch) = queue.recv().await {
                let trades = batch.records.iter().map(|record| match record {
                    Record::Trade(trade) => trade.sequence,
                    other => panic!("{other:?}"),
                });
                batches.push((trades.collect(), batch.cursors.first().map(|cursor| cursor.sequence)));
            }
            batches
        };
        tokio::join!(replaying, collecting).1
    }

    #[tokio::test(start_paused = true)]
    async fn at_any_pace_the_place_in_the_recording_is_that_of_the_rows_before_it() {
        let started = Instant::now();
        let paced = replay(ReplayOptions { speed: Some(2.0), ..ReplayOptions::default() }).await;
        // Trade n stands on line n + 1.
        assert_eq!(paced, (1..=TRADES).map(|id| (vec![id], Some(id + 1))).collect::<Vec<_>>());
        assert_eq!(started.elapsed(), Duration::from_secs(2), "4 s from the first frame to the last");
        let at_once = replay(ReplayOptions::default()).await;
        assert_eq!(at_once, [((1..=TRADES).collect(), Some(TRADES + 1))]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_resumed_replay_begins_with_the_line_after_its_place() {
        for done in 0..=TRADES {
            let options = ReplayOptions { skip_lines: 1 + done.unsigned_abs(), ..ReplayOptions::default() };
            let rest = replay(options).await;
            assert_eq!(rest, [((done + 1..=TRADES).collect(), Some(TRADES + 1))]);
        }
    }
}
