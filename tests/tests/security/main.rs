//! Attacks, as they were made on the product or could be: who gets in, what is forged, what is lost.

mod access;
mod calibration;
mod definer;
mod hostile;
mod ledger;
mod market;
mod owner;
mod policies;
mod read_only;
mod secrets;
mod sight;
mod trading;
mod training;
