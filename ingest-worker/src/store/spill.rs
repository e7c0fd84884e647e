//! Batches on disk while the database is away.
//!
//! One file of JSON lines, appended in order and read back in order. A line torn by a crash is cut off: its cursor was
//! never committed, so the feed delivers it again. The file is bounded; a full one, or a full disk, makes the writer wait, which
//! fills the channel and stops the sockets. Nothing is dropped silently. It is a file of the worker's own: nobody else reads
//! it, and no link leads to it.

use std::{
    fs::{File, OpenOptions},
    io::{BufRead, BufReader, ErrorKind, Read, Seek, SeekFrom, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use super::batch::Batch;
use crate::error::{Error, Result};

/// The spill file of one worker; it is locked against a second one.
pub struct Spill {
    path: PathBuf,
    file: File,
    max_bytes: u64,
    written: u64,
    /// Where the next batch to drain starts.
    drained: u64,
}

impl Spill {
    /// Opens (or takes over from a killed worker) the spill file in `folder`.
    ///
    /// # Errors
    /// [`Error::Write`], also when another worker holds the file.
    pub fn open(folder: &Path, max_bytes: u64) -> Result<Self> {
        let path = folder.join("kronos-ingest.spill");
        let failed = |source| Error::Write { path: path.clone(), source };
        std::fs::create_dir_all(folder).map_err(failed)?;
        let mut file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .mode(0o600)
            .custom_flags((rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK).bits().cast_signed())
            .open(&path)
            .map_err(failed)?;
        let found = file.metadata().map_err(failed)?;
        if !found.is_file() {
            return Err(failed(std::io::Error::other("it is no file")));
        }
        if found.permissions().mode() & 0o077 != 0 {
            file.set_permissions(std::fs::Permissions::from_mode(0o600)).map_err(failed)?;
        }
        file.try_lock().map_err(|e| {
            failed(std::io::Error::other(format!(
                "another worker uses it ({e}); give each its own sink.spill_dir"
            )))
        })?;
        // What is written next would else continue the torn line and be lost with it.
        let written = end_of_lines(&mut file).map_err(failed)?;
        file.set_len(written).map_err(failed)?;
        Ok(Spill { path, file, max_bytes, written, drained: 0 })
    }

    /// Whether every batch has been read back.
    pub fn is_empty(&self) -> bool {
        self.drained >= self.written
    }

    /// Bytes waiting on disk.
    pub fn len(&self) -> u64 {
        self.written - self.drained
    }

    /// Appends `batches`; `false`, and nothing written, when the bound would be passed or the disk is full.
    ///
    /// # Errors
    /// [`Error::Write`].
    pub fn push(&mut self, batches: &[Batch]) -> Result<bool> {
        let mut lines = Vec::new();
        for batch in batches {
            serde_json::to_writer(&mut lines, batch).map_err(|e| self.failed(e.into()))?;
            lines.push(b'\n');
        }
        if self.written + lines.len() as u64 > self.max_bytes {
            return Ok(false);
        }
        match self.file.write_all(&lines).and_then(|()| self.file.sync_data()) {
            Ok(()) => {
                self.written += lines.len() as u64;
                Ok(true)
            }
            Err(error) => {
                // What was written of it must not stand before what comes next.
                self.file.set_len(self.written).map_err(|e| self.failed(e))?;
                let full = [ErrorKind::StorageFull, ErrorKind::QuotaExceeded, ErrorKind::FileTooLarge];
                if !full.contains(&error.kind()) {
                    return Err(self.failed(error));
                }
                tracing::warn!(%error, path = %self.path.display(), "no room for rows that wait for the database");
                Ok(false)
            }
        }
    }

    /// Reads up to `max_rows` rows of the oldest batches, and where the file stands after them.
    ///
    /// They stay in the file until [`Spill::confirm`].
    ///
    /// # Errors
    /// [`Error::Write`] when the file cannot be read.
    pub fn peek(&mut self, max_rows: usize) -> Result<(Vec<Batch>, u64)> {
        let mut place = self.drained;
        let mut file = &self.file;
        file.seek(SeekFrom::Start(place)).map_err(|e| self.failed(e))?;
        let mut reader = BufReader::new(file);
        let (mut batches, mut rows) = (Vec::<Batch>::new(), 0);
        let mut line = Vec::new();
        while rows < max_rows && place < self.written {
            line.clear();
            place += reader.read_until(b'\n', &mut line).map_err(|e| self.failed(e))? as u64;
            match serde_json::from_slice::<Batch>(&line) {
                Ok(batch) => {
                    rows += batch.records.len();
                    batches.push(batch);
                }
                Err(error) => {
                    tracing::warn!(%error, bytes = line.len(), "skipping an unreadable line of the spill file");
                }
            }
        }
        Ok((batches, place))
    }

    /// Marks everything before `place` as stored; an emptied file is cut to nothing.
    ///
    /// # Errors
    /// [`Error::Write`].
    pub fn confirm(&mut self, place: u64) -> Result<()> {
        self.drained = place;
        if self.is_empty() {
            self.file.set_len(0).map_err(|e| self.failed(e))?;
            (self.written, self.drained) = (0, 0);
        }
        Ok(())
    }

    fn failed(&self, source: std::io::Error) -> Error {
        Error::Write { path: self.path.clone(), source }
    }
}

/// Where the last whole line of the file ends.
fn end_of_lines(file: &mut File) -> std::io::Result<u64> {
    let mut end = file.metadata()?.len();
    while end > 0 {
        let start = end.saturating_sub(1 << 16);
        let mut bytes = Vec::new();
        file.seek(SeekFrom::Start(start))?;
        (&*file).take(end - start).read_to_end(&mut bytes)?;
        if let Some(newline) = bytes.iter().rposition(|byte| *byte == b'\n') {
            return Ok(start + newline as u64 + 1);
        }
        end = start;
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        kinds::{Record, Rejected, Timestamp},
        store::CursorMove,
    };

    fn batch(sequence: i64) -> Batch {
        let cursors =
            vec![CursorMove { channel: "c".into(), symbol: "s".into(), sequence, event_time: None }];
        Batch { cursors, ..Batch::new("test") }
    }

    #[test]
    fn batches_come_back_in_order_after_a_crash_that_tore_the_last_one() {
        let folder = tempfile::tempdir().unwrap();
        let mut spill = Spill::open(folder.path(), 1 << 20).unwrap();
        assert!(spill.push(&[batch(1), batch(2)]).unwrap());
        assert!(spill.push(&[batch(3)]).unwrap());
        spill.file.write_all(b"{\"feed\":\"test\",\"rec").unwrap();
        drop(spill);
        let mut spill = Spill::open(folder.path(), 1 << 20).unwrap();
        let (batches, place) = spill.peek(usize::MAX).unwrap();
        assert_eq!(batches, [batch(1), batch(2), batch(3)]);
        assert!(!spill.is_empty());
        spill.confirm(place).unwrap();
        assert!(spill.is_empty());
        assert!(spill.push(&[batch(4)]).unwrap());
        assert_eq!(spill.peek(1).unwrap().0, [batch(4)]);
    }

    #[test]
    fn what_follows_a_torn_line_is_read_back() {
        let folder = tempfile::tempdir().unwrap();
        // Longer than what is read at once on the way back to the last whole line.
        for torn in [3, 200_000] {
            let mut spill = Spill::open(folder.path(), 1 << 20).unwrap();
            assert!(spill.push(&[batch(1)]).unwrap());
            spill.file.write_all(&vec![b'{'; torn]).unwrap();
            drop(spill);
            let mut spill = Spill::open(folder.path(), 1 << 20).unwrap();
            assert!(spill.push(&[batch(2)]).unwrap());
            let (batches, place) = spill.peek(usize::MAX).unwrap();
            assert_eq!(batches, [batch(1), batch(2)]);
            spill.confirm(place).unwrap();
        }
    }

    #[test]
    fn what_an_older_version_wrote_is_read() {
        let old = concat!(
            r#"{"feed":"alpaca","records":[{"Trade":{"symbol":"AAA","trade_id":"V:1","sequence":1,"event_time":"2023-11-14T22:13:21Z","#,
            r#""price":"100.10","size":"1","side":null,"aggressor":"buy","venue":"V","conditions":["@"],"received_at":"2023-11-14T22:13:21Z","#,
            r#""known_at":"2023-11-14T22:13:21Z","corrects":null}},{"Quote":{"symbol":"AAA","event_time":"2023-11-14T22:13:21Z","sequence":7,"#,
            r#""bid":"1.0","bid_size":null,"ask":null,"ask_size":null,"bid_venue":null,"ask_venue":null,"conditions":null,"#,
            r#""received_at":"2023-11-14T22:13:21Z","known_at":"2023-11-14T22:13:21Z"}},{"Bar":{"symbol":"AAA","width_seconds":60,"#,
            r#""time":"2023-11-14T22:13:00Z","open":1.0,"high":2.0,"low":0.5,"close":1.5,"volume":null,"amount":null,"trade_count":3,"#,
            r#""close_adj":null,"sequence":0,"received_at":"2023-11-14T22:14:00Z","known_at":"2023-11-14T22:14:00Z"}},"#,
            r#"{"Cancel":{"symbol":"AAA","trade_id":"V:1","cancelled_at":"2023-11-14T22:14:00Z","is_correction":true,"#,
            r#""received_at":"2023-11-14T22:14:00Z"}},{"Rejected":{"received_at":"2023-11-14T22:14:00Z","reason":"r","payload":"p","#,
            r#""digest":[1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31,32]}}],"#,
            r#""cursors":[{"channel":"trades","symbol":"AAA","sequence":1,"event_time":null}],"gaps":[{"channel":"trades","symbol":"AAA","#,
            r#""cause":"id","from_seq":2,"to_seq":3,"from_time":null,"to_time":null,"detected_at":"2023-11-14T22:14:00Z","status":"Open","#,
            r#""filled_at":null,"filled_rows":null,"note":null}],"sessions":[{"url":"wss://v","opened_at":"2023-11-14T22:13:00Z","#,
            r#""closed_at":null,"close_code":null,"close_reason":null,"frames":1,"bytes":2,"last_frame_at":null}]}"#,
            "\n"
        );
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("kronos-ingest.spill"), old).unwrap();
        let (batches, _) = Spill::open(folder.path(), 1 << 20).unwrap().peek(usize::MAX).unwrap();
        let [batch] = &batches[..] else { panic!("{batches:?}") };
        let tables: Vec<_> =
            batch.records.iter().map(|record| record.row().unwrap().kind().table()).collect();
        assert_eq!(tables, ["trades", "quotes", "bars", "trade_cancels", "rejected_rows"]);
        assert_eq!((batch.feed.as_str(), batch.bookkeeping()), ("alpaca", 3));
    }

    #[test]
    fn what_is_not_confirmed_is_read_again() {
        let row = Record::Rejected(Rejected::new(b"x", "test", Timestamp::UNIX_EPOCH));
        let batch = |sequence| Batch { records: vec![row.clone()], ..batch(sequence) };
        let folder = tempfile::tempdir().unwrap();
        let mut spill = Spill::open(folder.path(), 1 << 20).unwrap();
        assert!(spill.push(&[batch(1), batch(2), batch(3)]).unwrap());
        let (first, place) = spill.peek(1).unwrap();
        assert_eq!(first, [batch(1)]);
        assert_eq!(spill.peek(1).unwrap().0, [batch(1)]);
        spill.confirm(place).unwrap();
        assert_eq!(spill.peek(2).unwrap().0, [batch(2), batch(3)]);
        // What a killed worker had confirmed is stored, and stored again it changes nothing.
        drop(spill);
        let mut spill = Spill::open(folder.path(), 1 << 20).unwrap();
        assert_eq!(spill.peek(9).unwrap().0, [batch(1), batch(2), batch(3)]);
    }

    #[test]
    fn the_bound_holds_and_a_second_worker_is_turned_away() {
        let folder = tempfile::tempdir().unwrap();
        let mut spill = Spill::open(folder.path(), 200).unwrap();
        assert!(spill.push(&[batch(1)]).unwrap());
        assert!(!spill.push(&[batch(2), batch(3)]).unwrap());
        assert_eq!(spill.peek(9).unwrap().0, [batch(1)]);
        assert!(Spill::open(folder.path(), 200).is_err());
    }
}
