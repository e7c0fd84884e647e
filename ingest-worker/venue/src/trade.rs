//! One published trade.

use chrono::{DateTime, SecondsFormat};

/// One trade of the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trade {
    /// Spelling of the vendor.
    pub symbol: String,
    /// Dense per symbol, from 1.
    pub id: i64,
    /// Microseconds since 1970.
    pub micros: i64,
    pub price: String,
    pub size: String,
    /// Side of the aggressor.
    pub is_buy: bool,
}

/// A time as every vendor writes it.
pub(crate) fn rfc3339(micros: i64) -> String {
    DateTime::from_timestamp_micros(micros).unwrap_or_default().to_rfc3339_opts(SecondsFormat::Micros, true)
}
