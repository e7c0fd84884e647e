//! Recorded frames: one message per line, with the instant it was received.
//!
//! The format is that of cryptofeed's recorder, which is where most public recordings come from:
//! `URL <-> EPOCH` (connected), `URL <- EPOCH: TEXT` (sent), `URL -> EPOCH: TEXT` (answer to a REST request),
//! `EPOCH: TEXT` (received). A line of any other form continues the message before it.

use std::{
    fs::File,
    io::{BufRead, BufReader, Read},
    path::Path,
    sync::Arc,
};

use crate::{
    error::{Error, Result},
    exact::unix_seconds,
    feeds::{self, FeedSettings, StreamFeed},
    kinds::{Record, Rejected, Timestamp},
};

/// One line of a recording.
#[derive(Clone, Debug, PartialEq)]
pub enum Line {
    Connected {
        url: String,
    },
    Sent,
    Response {
        url: String,
        received_at: Timestamp,
        body: Vec<u8>,
    },
    /// `epoch` is the recorder's own text of `received_at`.
    Frame {
        received_at: Timestamp,
        epoch: String,
        payload: Vec<u8>,
    },
}

/// Reads the lines of a recording, gzipped or not.
pub struct Recording {
    reader: Text,
    /// A line that was read while looking for the end of the message before it.
    ahead: Option<Line>,
    is_finished: bool,
}

impl Recording {
    /// Opens `path`; a gzip header decides how it is read.
    ///
    /// # Errors
    /// [`Error::Read`].
    pub fn open(path: &Path) -> Result<Self> {
        Ok(Recording { reader: Text::open(path)?, ahead: None, is_finished: false })
    }

    /// Next line; `None` at the end. Bytes before the first well-formed line come as a frame received at 1970.
    ///
    /// # Errors
    /// What reading the file gives, a broken gzip stream and a message of more than [`MAX_ROW`] bytes included.
    pub fn next_line(&mut self) -> std::io::Result<Option<Line>> {
        self.reader.renew();
        let mut current = self.ahead.take();
        while !self.is_finished {
            let mut bytes = Vec::new();
            if self.reader.read_until(b'\n', &mut bytes)? == 0 {
                self.is_finished = true;
                break;
            }
            while bytes.last().is_some_and(|b| matches!(b, b'\n' | b'\r')) {
                bytes.pop();
            }
            match (parse_line(&bytes), &mut current) {
                (Some(line), None) => current = Some(line),
                (Some(line), Some(_)) => {
                    self.ahead = Some(line);
                    break;
                }
                (None, Some(Line::Frame { payload, .. } | Line::Response { body: payload, .. })) => {
                    payload.push(b'\n');
                    payload.extend_from_slice(&bytes);
                }
                (None, _) if bytes.is_empty() => {}
                (None, _) => {
                    let received_at = Timestamp::UNIX_EPOCH;
                    return Ok(Some(Line::Frame { received_at, epoch: String::new(), payload: bytes }));
                }
            }
        }
        Ok(current)
    }
}

/// Bytes that a row of a table, or a message with the lines that continue it, has at most: a small file may unpack to a line
/// that no memory holds.
pub const MAX_ROW: u64 = 16 << 20;

/// A text file, gzipped or not, that is read row by row.
pub(crate) struct Text {
    reader: Box<dyn BufRead + Send>,
    /// Bytes read since the row began.
    spent: u64,
}

impl Text {
    /// Opens `path`; a gzip header decides how it is read.
    ///
    /// # Errors
    /// [`Error::Read`].
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let failed = |source| Error::Read { path: path.to_owned(), source };
        let mut file = BufReader::with_capacity(1 << 16, File::open(path).map_err(failed)?);
        let is_gzip = file.fill_buf().map_err(failed)?.starts_with(&[0x1f, 0x8b]);
        let reader: Box<dyn BufRead + Send> = if is_gzip {
            let decoder = flate2::bufread::MultiGzDecoder::new(file);
            Box::new(BufReader::with_capacity(1 << 16, decoder))
        } else {
            Box::new(file)
        };
        Ok(Text { reader, spent: 0 })
    }

    /// Begins a row.
    pub(crate) fn renew(&mut self) {
        self.spent = 0;
    }
}

impl Read for Text {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.fill_buf()?.read(buffer)?;
        self.consume(count);
        Ok(count)
    }
}

impl BufRead for Text {
    fn fill_buf(&mut self) -> std::io::Result<&[u8]> {
        if self.spent > MAX_ROW {
            return Err(std::io::Error::new(
                std::io::ErrorKind::InvalidData,
                format!("a row is longer than {} MB", MAX_ROW >> 20),
            ));
        }
        self.reader.fill_buf()
    }

    fn consume(&mut self, count: usize) {
        self.spent += count as u64;
        self.reader.consume(count);
    }
}

fn parse_line(bytes: &[u8]) -> Option<Line> {
    // Only the head must be text; the payload may be anything.
    if let Some(rest) = bytes.strip_prefix(b"wss://").or_else(|| bytes.strip_prefix(b"https://")) {
        let scheme_length = bytes.len() - rest.len();
        let split = bytes.iter().position(|b| *b == b' ')?;
        let url = String::from_utf8_lossy(&bytes[..split]).into_owned();
        debug_assert!(split >= scheme_length);
        let rest = &bytes[split + 1..];
        if rest.starts_with(b"<-> ") {
            return Some(Line::Connected { url });
        }
        if rest.starts_with(b"<- ") {
            return Some(Line::Sent);
        }
        let (received_at, _, body) = stamped(rest.strip_prefix(b"-> ")?)?;
        return Some(Line::Response { url, received_at, body });
    }
    let (received_at, epoch, payload) = stamped(bytes)?;
    Some(Line::Frame { received_at, epoch, payload })
}

fn stamped(bytes: &[u8]) -> Option<(Timestamp, String, Vec<u8>)> {
    let split = bytes.iter().take(32).position(|b| *b == b':')?;
    let epoch = std::str::from_utf8(&bytes[..split]).ok()?;
    let received_at = unix_seconds(epoch).ok()?;
    let payload = bytes[split + 1..].strip_prefix(b" ").unwrap_or(&bytes[split + 1..]);
    Some((received_at, epoch.to_owned(), payload.to_vec()))
}

/// Decodes a recording with the feed its connect line names.
pub struct Decoder {
    feed: Option<Arc<dyn StreamFeed>>,
    /// Name in `feed` columns; `unknown` for venues the worker does not speak.
    pub feed_name: &'static str,
    url: String,
}

impl Default for Decoder {
    fn default() -> Self {
        Decoder { feed: None, feed_name: "unknown", url: "(no connection)".to_owned() }
    }
}

impl Decoder {
    /// Decodes frames as `name`'s whatever the recording says.
    ///
    /// # Errors
    /// [`Error::Usage`] for an unknown feed.
    pub fn of_feed(name: &str) -> Result<Self> {
        let entry = feeds::find(name).ok_or_else(|| Error::Usage(unknown_feed(name)))?;
        let feed = Some(entry.stream(FeedSettings::default()).map_err(Error::Usage)?);
        Ok(Decoder { feed, feed_name: entry.name, url: "(given feed)".to_owned() })
    }

    /// The feed that decodes at this point of the recording.
    pub fn feed(&self) -> Option<&dyn StreamFeed> {
        self.feed.as_deref()
    }

    /// Records of one line. What cannot be decoded comes back as [`Record::Rejected`], never as an error.
    pub fn decode(&mut self, line: &Line) -> Vec<Record> {
        match line {
            Line::Connected { url } => {
                let entry = feeds::of_url(url);
                self.feed = entry.and_then(|entry| entry.stream(FeedSettings::default()).ok());
                self.feed_name = entry.map_or("unknown", |entry| entry.name);
                self.url.clone_from(url);
                Vec::new()
            }
            Line::Sent => Vec::new(),
            // Recordings hold reference data (products, books) this way, in no form a feed asks for.
            Line::Response { url, received_at, body } => {
                let host = url.split('?').next().unwrap_or(url);
                vec![Record::Rejected(Rejected::new(body, format!("no feed reads {host}"), *received_at))]
            }
            Line::Frame { received_at, payload, .. } => match &self.feed {
                Some(feed) => feed.parse(payload, *received_at).unwrap_or_else(|error| {
                    vec![Record::Rejected(Rejected::new(payload, error.to_string(), *received_at))]
                }),
                None => {
                    let host = self.url.split('?').next().unwrap_or(&self.url);
                    let reason = format!("no feed speaks the protocol of {host}");
                    vec![Record::Rejected(Rejected::new(payload, reason, *received_at))]
                }
            },
        }
    }
}

/// The text for a feed that is not in the table.
pub fn unknown_feed(name: &str) -> String {
    let offered = feeds::FEEDS.iter().filter(|entry| entry.is_offered);
    let names: Vec<_> = offered.map(|entry| entry.name).collect();
    format!("feed \"{name}\" does not exist; the feeds are {}", names.join(", "))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn lines(text: &[u8]) -> Vec<Line> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text).unwrap();
        let mut recording = Recording::open(file.path()).unwrap();
        std::iter::from_fn(|| recording.next_line().unwrap()).collect()
    }

    #[test]
    fn lines_are_told_apart_and_torn_messages_joined() {
        let read = lines(b"wss://ws.kraken.com <-> 1618678132.36\nwss://ws.kraken.com <- 1.5: {}\n12.5: {\"a\":\n1}\n13: x\n");
        assert_eq!(read.len(), 4);
        assert!(matches!(&read[0], Line::Connected { url } if url == "wss://ws.kraken.com"));
        assert_eq!(read[1], Line::Sent);
        assert!(
            matches!(&read[2], Line::Frame { payload, epoch, .. } if payload == b"{\"a\":\n1}" && epoch == "12.5")
        );
        assert!(matches!(&read[3], Line::Frame { payload, .. } if payload == b"x"));
    }

    #[test]
    fn frames_without_a_known_venue_are_quarantined_one_by_one() {
        let mut decoder = Decoder::default();
        let records: Vec<_> =
            lines(b"wss://stream.binance.com:9443/stream?streams=x <-> 1.5\n2.5: {\"e\":1}\n3.5: \xff\xfe\n")
                .iter()
                .flat_map(|line| decoder.decode(line))
                .collect();
        assert_eq!(records.len(), 2);
        assert!(
            records.iter().all(|r| matches!(r, Record::Rejected(r) if r.reason.contains("binance"))),
            "{records:?}"
        );
    }
}
