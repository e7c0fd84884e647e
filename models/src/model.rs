//! A model in memory: how a request is put to it, whatever its family.
//!
//! There are two ways in which requests can share a model, and a family has one of them: a batch that asks join and leave
//! between two steps, for those that draw a path step by step; and passes over several asks, for those that give a whole
//! horizon at once.

use crate::answer::{Forecast, Paths};
use crate::ask::{Ask, Terms};
use crate::error::Result;
use crate::interrupt::Interrupt;
use crate::series::Between;
use std::fmt::Debug;

/// A model in memory.
pub trait Model: Debug + Send + Sync {
    /// Bytes its weights take.
    fn memory_bytes(&self) -> u64;

    /// How it forecasts.
    fn work(&self) -> Work<'_>;

    /// Bytes that the smallest request needs beside the weights.
    fn least_working_bytes(&self) -> u64 {
        match self.work() {
            Work::Steps(stepping) => stepping.least_bytes(),
            Work::Passes(passing) => passing.working_bytes(&[]),
        }
    }
}

/// How a model forecasts, which decides how requests share it.
#[derive(Clone, Copy)]
pub enum Work<'m> {
    /// Step by step: asks join and leave a batch between two steps.
    Steps(&'m dyn Stepping),
    /// A whole horizon in one pass over several asks.
    Passes(&'m dyn Passing),
}

/// A model that forecasts in passes.
pub trait Passing: Send + Sync {
    /// Bytes that a pass over these asks needs beside the weights and its answer, about.
    fn working_bytes(&self, asks: &[Ask]) -> u64;

    /// How quantiles between the levels of its forecasts are read.
    fn between(&self) -> Between {
        Between::Levels
    }

    /// Forecasts several asks; one that fails does not stop the others.
    ///
    /// # Errors
    /// [`ModelError::Cancelled`](crate::ModelError::Cancelled), backend errors and what is wrong with the terms end the call.
    /// What is wrong with one ask is in its place of the result.
    fn forecast(
        &self,
        asks: &[Ask],
        terms: &Terms,
        interrupt: &dyn Interrupt,
    ) -> Result<Vec<Result<Forecast>>>;
}

/// A model that forecasts step by step.
pub trait Stepping: Send + Sync {
    /// Bytes that one path after the longest context takes.
    fn least_bytes(&self) -> u64;

    /// Checks an ask and says what its place in a batch takes while at most `memory` bytes are there for it.
    ///
    /// # Errors
    /// What is wrong with the ask; [`ModelError::MemoryLimit`](crate::ModelError::MemoryLimit) when one path alone exceeds
    /// `memory`.
    fn cost(&self, ask: &Ask, terms: &Terms, memory: u64) -> Result<Cost>;

    /// An empty batch.
    fn batch(&self) -> Box<dyn Batch + '_>;
}

/// What an ask takes while it is in a batch.
#[derive(Debug, Clone, Copy)]
pub struct Cost {
    /// Paths decoded together.
    pub rows: usize,
    /// Bytes.
    pub bytes: u64,
}

/// An ask on its way into a batch.
#[derive(Debug, Clone, Copy)]
pub struct Entrant<'a> {
    /// What is asked.
    pub ask: &'a Ask,
    /// On which terms.
    pub terms: &'a Terms,
    /// Bytes it may take, as for [`Stepping::cost`].
    pub memory: u64,
}

/// Names an ask within its batch.
pub type SeriesId = u64;

/// An ask that has left its batch, and what came of it.
pub type Complete = (SeriesId, Result<Box<dyn Finished>>);

/// Asks in flight, whose numbers do not depend on each other.
pub trait Batch: Debug + Send {
    /// Whether nothing is in flight.
    fn is_empty(&self) -> bool;

    /// Paths being decoded.
    fn rows(&self) -> usize;

    /// Steps done and steps in all of an ask in flight.
    fn progress(&self, id: SeriesId) -> Option<(usize, usize)>;

    /// Drops an ask; its memory is free at once.
    fn remove(&mut self, id: SeriesId);

    /// Encodes several asks in one pass; their paths decode with the next step.
    ///
    /// # Errors
    /// [`ModelError::Cancelled`](crate::ModelError::Cancelled) and backend errors: then none has joined. What is wrong with one
    /// ask is in its place.
    fn admit(&mut self, entrants: &[Entrant<'_>], interrupt: &dyn Interrupt)
    -> Result<Vec<Result<SeriesId>>>;

    /// Up to `most` steps of everything in flight, none after something is complete; returns how many.
    ///
    /// # Errors
    /// [`ModelError::Cancelled`](crate::ModelError::Cancelled) or a backend error; the batch is then of no use.
    fn steps(&mut self, most: usize, interrupt: &dyn Interrupt) -> Result<usize>;

    /// Removes what is complete.
    ///
    /// # Errors
    /// As for [`Batch::steps`].
    fn finished(&mut self, interrupt: &dyn Interrupt) -> Result<Vec<Complete>>;
}

/// A finished ask before its numbers are put into their units, which takes no device.
pub trait Finished: Send {
    /// The paths.
    ///
    /// # Errors
    /// [`ModelError::NonFinite`](crate::ModelError::NonFinite) naming the first step that is not a number.
    fn into_paths(self: Box<Self>) -> Result<Paths>;
}
