//! Batches on their way into the database.
//!
//! Rows are copied in binary into temporary staging tables and merged from there as their kinds say, in one transaction
//! with the cursors and gaps they prove. Whatever is delivered twice, or again after a crash, is one row. [`Writer`]
//! gathers batches and survives the database, [`Spill`] keeps them on disk meanwhile.

mod apart;
mod batch;
mod bookkeeping;
mod copy;
mod failure;
mod queue;
mod spill;
mod writer;

pub use batch::{Batch, CursorMove, GapRow, GapStatus, MarkMove, RefusalRow, SessionRow, UsageRow, Written};
pub use copy::Store;
pub use failure::Failure;
pub use queue::{Limits, Queue, Sink};
pub use spill::Spill;
pub use writer::Writer;
