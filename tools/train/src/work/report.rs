//! Telling the database how far a job is, and hearing from it whether the job is to stop.

use super::queue::QUEUE;
use crate::error::Result;
use crate::progress::{Audience, line};
use kronos_training::Event;
use postgres::Client;
use postgres::types::ToSql;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Time between two reports of progress.
const PACE: Duration = Duration::from_millis(500);

/// Writes what a job does into its row and its messages.
pub(super) struct Reporter<'a> {
    /// The session that has the job.
    pub(super) client: &'a mut Client,
    job_id: i64,
    cancel: &'a AtomicBool,
    lost: &'a AtomicBool,
    told: Option<Instant>,
    best: Option<f64>,
}

impl<'a> Reporter<'a> {
    /// Reports of a job; hears at once whether it is to stop.
    pub(super) fn new(
        client: &'a mut Client,
        job_id: i64,
        cancel: &'a AtomicBool,
        lost: &'a AtomicBool,
    ) -> Result<Self> {
        let mut reporter = Self { client, job_id, cancel, lost, told: None, best: None };
        reporter.update("updated_at = clock_timestamp()", &[])?;
        Ok(reporter)
    }

    /// Sets columns of the row while the job is this session's, and hears whether it is to stop.
    fn update(&mut self, set: &str, values: &[&(dyn ToSql + Sync)]) -> Result<()> {
        let cancelled = "exists (select from training.cancellations c where c.job_id = j.job_id)";
        let sql = QUEUE.tell(set, cancelled);
        let mut parameters: Vec<&(dyn ToSql + Sync)> = vec![&self.job_id];
        parameters.extend(values);
        match self.client.query_opt(&sql, &parameters)? {
            Some(row) if row.get(0) => self.cancel.store(true, Ordering::Relaxed),
            Some(_) => {}
            // Another has it, as where somebody has changed its row by hand.
            None => self.lost.store(true, Ordering::Relaxed),
        }
        Ok(())
    }

    fn begin(&mut self, steps: u64) -> Result<()> {
        self.update("steps = $2, step = 0", &[&(steps as i64)])
    }

    fn progress(&mut self, step: u64, loss: f64, left: Option<Duration>) -> Result<()> {
        let seconds = left.map(|left| left.as_secs_f64());
        let best = self.best;
        self.update(
            "step = $2, train_loss = $3, validation_loss = $4, remaining = $5::float8 * interval '1 second',
             updated_at = clock_timestamp()",
            &[&(step as i64), &loss, &best, &seconds],
        )
    }

    fn message(&mut self, text: &str) -> Result<()> {
        self.client.execute(
            "insert into training.messages (job_id, line, message)
             select $1, coalesce(max(line), 0) + 1, $2 from training.messages where job_id = $1",
            &[&self.job_id, &text],
        )?;
        Ok(())
    }

    /// Without the server nobody can be told anything: the run stops at its next step, and a later worker goes on.
    fn heed(&self, told: Result<()>) {
        if told.is_err() {
            self.lost.store(true, Ordering::Relaxed);
        }
    }
}

impl Audience for Reporter<'_> {
    fn part(&mut self, name: &str, steps: u64) {
        self.best = None;
        let told = self.begin(steps);
        self.heed(told);
        self.say(&format!("{name}: at most {steps} steps"));
    }

    fn event(&mut self, event: &Event, left: Option<Duration>) {
        if let Event::Evaluated(evaluation) = event
            && evaluation.best
        {
            self.best = Some(evaluation.validation.loss);
        }
        if let Event::Step { step, loss, .. } = event
            && self.told.is_none_or(|told| told.elapsed() >= PACE)
        {
            self.told = Some(Instant::now());
            let told = self.progress(*step, *loss, left);
            self.heed(told);
        }
        if let Some(line) = line(event, left) {
            self.say(&line);
        }
    }

    fn say(&mut self, line: &str) {
        let told = self.message(line);
        self.heed(told);
    }
}
