//! The bounded channel between the feeds and the writer.

use std::{sync::Arc, time::Duration};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::batch::Batch;
use crate::error::{Error, Result};

/// Bounds of the writer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limits {
    /// Rows of one transaction.
    pub max_rows: usize,
    /// Longest wait of a row for company.
    pub max_delay: Duration,
    /// Rows between the feeds and the writer: what memory may hold while the database is slow.
    pub queued_rows: usize,
}

impl Default for Limits {
    fn default() -> Self {
        // 250 ms keeps a row visible within half a second; 5,000 rows take about 30 ms to store.
        Limits { max_rows: 5_000, max_delay: Duration::from_millis(250), queued_rows: 200_000 }
    }
}

/// The sending side: feeds put batches here and wait when it is full.
///
/// The bound counts rows, not batches: a batch has one row of a quiet feed or a thousand of a file.
#[derive(Clone)]
pub struct Sink {
    sender: mpsc::Sender<(Batch, OwnedSemaphorePermit)>,
    room: Arc<Semaphore>,
    queued_rows: usize,
}

/// The receiving side, for [`Writer::run`].
pub struct Queue {
    receiver: mpsc::Receiver<(Batch, OwnedSemaphorePermit)>,
}

impl Queue {
    /// The next batch; `None` when every [`Sink`] is gone.
    pub async fn recv(&mut self) -> Option<Batch> {
        let (batch, permit) = self.receiver.recv().await?;
        drop(permit);
        Some(batch)
    }
}

impl Sink {
    /// A queue for `limits`.
    pub fn channel(limits: Limits) -> (Self, Queue) {
        let queued_rows = limits.queued_rows.clamp(1, 1 << 24);
        // A batch takes at least one permit, so the channel itself is never the tighter bound.
        let (sender, receiver) = mpsc::channel(queued_rows);
        (Sink { sender, room: Arc::new(Semaphore::new(queued_rows)), queued_rows }, Queue { receiver })
    }

    /// Hands over a batch; waits while the writer is behind.
    ///
    /// # Errors
    /// [`Error::Usage`] when the writer has stopped; its own error says why.
    pub async fn send(&self, batch: Batch) -> Result<()> {
        if batch.is_empty() {
            return Ok(());
        }
        let stopped = || Error::Usage("the writer has stopped".to_owned());
        let rows = u32::try_from(batch.records.len().clamp(1, self.queued_rows)).unwrap_or(u32::MAX);
        let room = Arc::clone(&self.room).acquire_many_owned(rows);
        let permit = tokio::select! {
            permit = room => permit.map_err(|_| stopped())?,
            // Nobody will make room any more.
            () = self.sender.closed() => return Err(stopped()),
        };
        self.sender.send((batch, permit)).await.map_err(|_| stopped())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::{Record, Rejected, Timestamp};

    fn batch(rows: usize) -> Batch {
        let rejected = Record::Rejected(Rejected::new(b"x", "test", Timestamp::UNIX_EPOCH));
        Batch { records: vec![rejected; rows], ..Batch::new("test") }
    }

    #[tokio::test(start_paused = true)]
    async fn memory_is_bounded_by_rows_and_a_stopped_writer_is_no_wait() {
        let (sink, mut queue) = Sink::channel(Limits { queued_rows: 10, ..Limits::default() });
        sink.send(batch(8)).await.unwrap();
        let waits = tokio::time::timeout(Duration::from_secs(60), sink.send(batch(3))).await;
        assert!(waits.is_err(), "11 rows do not fit");
        sink.send(batch(2)).await.unwrap();
        assert_eq!(queue.recv().await.unwrap().records.len(), 8);
        sink.send(batch(8)).await.unwrap();
        let (blocked, _) = tokio::join!(sink.send(batch(1_000)), async { drop(queue) });
        assert!(blocked.is_err());
    }
}
