//! Attacks, as they were made on the product or could be: who gets in, what is forged, what is lost.

mod definer;
mod market;
