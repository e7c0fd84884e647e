//! The task between the feeds and the database: gathers batches, writes them, survives the database.

use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::{
    Batch, Failure, Limits, Queue, Spill, Store, Written,
    apart::{halves, quarantined},
};
use crate::{
    error::{Error, Result, database_message},
    postgres::Database,
    wire::Backoff,
};

/// Writes what the channel brings until all senders are gone, then drains.
pub struct Writer {
    database: Database,
    limits: Limits,
    spill: Option<Spill>,
    store: Option<Store>,
    backoff: Backoff,
    next_attempt: Instant,
    written: Written,
}

impl Writer {
    /// A writer that keeps rows in memory's bounds only; see [`Writer::with_spill`].
    pub fn new(database: Database, limits: Limits) -> Self {
        Writer {
            database,
            limits,
            spill: None,
            store: None,
            backoff: Backoff::default(),
            next_attempt: Instant::now(),
            written: Written::default(),
        }
    }

    /// Adds a disk to the memory.
    pub fn with_spill(mut self, spill: Spill) -> Self {
        self.spill = Some(spill);
        self
    }

    /// Runs until every [`Sink`] is dropped and everything is stored, or nothing can be stored any more; what became of all rows,
    /// those that an earlier worker left on disk included.
    ///
    /// # Errors
    /// What makes storing impossible; a database that is only away is waited for.
    pub async fn run(mut self, mut receiver: Queue) -> Result<Written> {
        loop {
            let waiting = self.spill.as_ref().is_some_and(|spill| !spill.is_empty());
            let (batches, is_open) = if waiting {
                // Something is on disk: do not sleep for new rows before trying to drain it.
                self.gather(&mut receiver, Some(Instant::now() + Duration::from_millis(100))).await
            } else {
                self.gather(&mut receiver, None).await
            };
            if batches.is_empty() && !is_open && !waiting {
                return Ok(self.written);
            }
            self.take(batches).await?;
            if !is_open {
                self.drain_all().await?;
                return Ok(self.written);
            }
        }
    }

    /// Waits for a first batch (until `deadline`, where there is one), then for company within the limits.
    async fn gather(&self, receiver: &mut Queue, deadline: Option<Instant>) -> (Vec<Batch>, bool) {
        let first = match deadline {
            Some(deadline) => match timeout_at(deadline, receiver.recv()).await {
                Ok(first) => first,
                Err(_) => return (Vec::new(), true),
            },
            None => receiver.recv().await,
        };
        let Some(first) = first else { return (Vec::new(), false) };
        let deadline = Instant::now() + self.limits.max_delay;
        let mut rows = first.records.len();
        let mut batches = vec![first];
        while rows < self.limits.max_rows {
            match timeout_at(deadline, receiver.recv()).await {
                Ok(Some(batch)) => {
                    rows += batch.records.len();
                    batches.push(batch);
                }
                Ok(None) => return (batches, false),
                Err(_) => break,
            }
        }
        (batches, true)
    }

    /// Stores `batches`, or puts them on disk, or waits: in this order.
    async fn take(&mut self, batches: Vec<Batch>) -> Result<()> {
        loop {
            // Older rows first: the disk is emptied before anything new is written.
            if self.drain_spill().await? && self.try_write(&batches).await? {
                return Ok(());
            }
            if let Some(spill) = &mut self.spill
                && spill.push(&batches)?
            {
                metrics::gauge!("kronos_ingest_spill_bytes").set(spill.len() as f64);
                return Ok(());
            }
            // No disk, or it is full: the channel fills up behind us and the sockets stop being read.
            tokio::time::sleep_until(self.next_attempt).await;
        }
    }

    async fn drain_all(&mut self) -> Result<()> {
        while !self.drain_spill().await? {
            tokio::time::sleep_until(self.next_attempt).await;
        }
        Ok(())
    }

    /// Whether nothing is left on disk.
    async fn drain_spill(&mut self) -> Result<bool> {
        loop {
            let max_rows = self.limits.max_rows;
            let Some(spill) = self.spill.as_mut().filter(|spill| !spill.is_empty()) else { return Ok(true) };
            let (batches, place) = spill.peek(max_rows)?;
            if !self.try_write(&batches).await? {
                return Ok(false);
            }
            if let Some(spill) = &mut self.spill {
                spill.confirm(place)?;
                metrics::gauge!("kronos_ingest_spill_bytes").set(spill.len() as f64);
            }
        }
    }

    /// Whether `batches` are stored; `false` while the database is away.
    async fn try_write(&mut self, batches: &[Batch]) -> Result<bool> {
        if batches.iter().all(Batch::is_empty) {
            return Ok(true);
        }
        if Instant::now() < self.next_attempt {
            return Ok(false);
        }
        let Some(store) = self.connected().await? else { return Ok(false) };
        let started = Instant::now();
        match store.write(batches).await {
            Ok(written) => {
                self.written += written;
                self.backoff.reset();
                let rows: usize = batches.iter().map(|batch| batch.records.len()).sum();
                metrics::counter!("kronos_ingest_rows_total").increment(rows as u64);
                metrics::histogram!("kronos_ingest_write_seconds").record(started.elapsed().as_secs_f64());
                Ok(true)
            }
            Err(error) => {
                let total: usize = batches.iter().map(|batch| batch.records.len()).sum();
                match Failure::of(error.code()) {
                    Failure::Refused => self.write_apart(batches, error).await,
                    Failure::CutOff if total > 1 => {
                        tracing::warn!(
                            reason = database_message(&error),
                            rows = total,
                            "writing half as many rows at once"
                        );
                        self.write_parts(halves(batches, total)).await
                    }
                    Failure::CutOff | Failure::Passing => {
                        self.step_back(&database_message(&error));
                        Ok(false)
                    }
                }
            }
        }
    }

    /// One refused row must not keep the others out: halves them until it is alone, then quarantines it. Bookkeeping is no
    /// better than rows. What was refused for its company alone (a limit of one statement) is stored on the way.
    async fn write_apart(&mut self, batches: &[Batch], error: tokio_postgres::Error) -> Result<bool> {
        let reason = database_message(&error);
        let total: usize = batches.iter().map(|batch| batch.records.len()).sum();
        let bookkeeping: usize = batches.iter().map(Batch::bookkeeping).sum();
        let parts = match (total, bookkeeping) {
            (1, 0) | (0, 1) => {
                let Some(row) = batches.iter().find_map(|batch| quarantined(batch, &reason)) else {
                    // Where even the quarantine is closed (missing tables, missing privileges) nothing can be stored.
                    if !Failure::is_of_values(error.code()) {
                        return Err(Error::Database(error));
                    }
                    // What is in quarantine already and cannot be stored there either: the log has it, and the others go on.
                    tracing::error!(reason, row = ?batches, "a quarantined row cannot be stored");
                    return Ok(true);
                };
                tracing::error!(
                    feed = row.feed,
                    reason,
                    "the database refuses a row; it goes to market.rejected_rows"
                );
                metrics::counter!("kronos_ingest_refused_total").increment(1);
                vec![vec![row]]
            }
            (0, _) => batches.iter().flat_map(Batch::apart).map(|one| vec![one]).collect(),
            (1, _) => {
                let rows =
                    |batch: &Batch| Batch { records: batch.records.clone(), ..Batch::new(&batch.feed) };
                let rest = |batch: &Batch| Batch { records: Vec::new(), ..batch.clone() };
                vec![batches.iter().map(rows).collect(), batches.iter().map(rest).collect()]
            }
            _ => halves(batches, total),
        };
        self.write_parts(parts).await
    }

    /// Whether all of `parts` are stored; those before the first that is not are.
    async fn write_parts(&mut self, parts: Vec<Vec<Batch>>) -> Result<bool> {
        for part in parts {
            if !Box::pin(self.try_write(&part)).await? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    async fn connected(&mut self) -> Result<Option<&mut Store>> {
        if self.store.as_ref().is_none_or(Store::is_closed) {
            self.store = None;
            match self.database.connect().await {
                Ok(client) => match Store::new(client).await {
                    Ok(store) => {
                        tracing::info!(database = self.database.place(), "writing");
                        self.store = Some(store);
                    }
                    Err(error) if Failure::of(error.code()) == Failure::Refused => {
                        return Err(Error::Database(error));
                    }
                    Err(error) => self.step_back(&database_message(&error)),
                },
                Err(error) => self.step_back(&error.to_string()),
            }
        }
        Ok(self.store.as_mut())
    }

    fn step_back(&mut self, reason: &str) {
        self.store = None;
        let delay = self.backoff.next_delay();
        self.next_attempt = Instant::now() + delay;
        metrics::counter!("kronos_ingest_database_failures_total").increment(1);
        tracing::warn!(reason, delay_ms = delay.as_millis() as u64, "database is away, keeping rows");
    }
}
