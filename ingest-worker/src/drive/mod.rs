//! What moves rows from the feeds to the store: one task per feed.
//!
//! [`Stream`] listens, [`Tracker`] knows what is missing and what is there already, repairs ask REST; [`live`] runs all
//! feeds of a configuration, [`backfill`] fetches history.

pub mod backfill;
pub mod live;
mod repair;
mod stream;
mod track;

pub use stream::{Clock, Stream, stopped};
pub use track::{Anchor, KnownGap, Stretch, TRADES, Tracker};
