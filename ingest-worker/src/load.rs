//! `load` and `replay`: files into tables, at the speed of the writer or of the recording.

use std::path::{Path, PathBuf};

use chrono::Utc;
use indicatif::{ProgressBar, ProgressStyle};
use tokio::time::{Duration, Instant};

use crate::{
    config::canonical,
    error::{Error, Result},
    record::{Record, Timestamp},
    recording::{Decoder, Line, Recording},
    sink::{Batch, CursorMove},
    table::{Options, Table},
    writer::Sink,
};

/// Records handed over at once.
const BATCH_ROWS: usize = 1_000;

/// What a file brought.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Loaded {
    pub rows: u64,
    pub rejected: u64,
}

impl Loaded {
    fn count(&mut self, record: &Record) {
        match record {
            Record::Rejected(_) => self.rejected += 1,
            Record::Signal(_) | Record::OpenBar(_) => {}
            _ => self.rows += 1,
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

/// Loads a CSV file of bars, trades or quotes as rows of `source`.
///
/// # Errors
/// [`Error::Read`] and [`Error::Row`] for the file as a whole; single bad rows are quarantined.
pub async fn load_table(path: &Path, source: &str, options: Options, sink: &Sink) -> Result<Loaded> {
    let mut table = Table::open(path, options, Utc::now())?;
    let bar = progress(path);
    let mut loaded = Loaded::default();
    let mut batch = Batch::new(source);
    while let Some((_, record)) = table.next_record() {
        loaded.count(&record);
        batch.records.push(record);
        if batch.records.len() >= BATCH_ROWS {
            bar.set_message(format!("{} rows", loaded.rows));
            bar.set_position(table.bytes_read());
            sink.send(std::mem::replace(&mut batch, Batch::new(source))).await?;
        }
    }
    sink.send(batch).await?;
    bar.finish_and_clear();
    Ok(loaded)
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
    while let Some(line) =
        recording.next_line().map_err(|source| Error::Read { path: path.to_owned(), source })?
    {
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
                *symbol = canonical(symbol);
            }
            loaded.count(&record);
            batch.records.push(record);
        }
        if batch.records.len() >= BATCH_ROWS {
            batch.cursors = vec![place(&key, line_number)];
            sink.send(std::mem::replace(&mut batch, Batch::new(decoder.feed_name))).await?;
        }
    }
    batch.cursors = vec![place(&key, line_number)];
    sink.send(batch).await?;
    Ok(loaded)
}

fn place(key: &str, line: u64) -> CursorMove {
    CursorMove {
        channel: REPLAY_CHANNEL.to_owned(),
        symbol: key.to_owned(),
        sequence: i64::try_from(line).unwrap_or(i64::MAX),
        event_time: None,
    }
}
