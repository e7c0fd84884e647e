//! Attacks, as they were made on the product or could be: who gets in, what is forged, what is lost.
#![allow(clippy::expect_used, clippy::unwrap_used)] // a test may stop where it is

mod calibration;
mod definer;
mod hostile;
mod ledger;
mod market;
mod owner;
mod policies;
mod sight;
mod trading;
mod training;
