//! What moves rows from the feeds to the store: one task per feed.
//!
//! [`Stream`] listens, [`Tracker`] knows what is missing and what is there already, repairs ask REST; [`Poller`] asks
//! feeds that are polled; [`live`] runs all feeds of a configuration, [`backfill`] fetches history.

mod attention;
pub mod backfill;
pub mod live;
mod poll;
mod repair;
mod stream;
mod track;
mod usage;

pub use attention::Attention;
pub use poll::{ALL, KnownRefusal, Mark, Outcome, Place, Poller, Reading};
pub use stream::{Clock, Stream, stopped};
pub use track::{Anchor, KnownGap, Stretch, TRADES, Tracker};
