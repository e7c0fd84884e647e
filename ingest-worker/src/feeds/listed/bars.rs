//! Lists of daily bars.

use chrono::NaiveTime;
use serde_json::value::RawValue;

use super::{
    Field, Item,
    known::{self, Known},
};
use crate::kinds::{Bar, BarWidth, Timestamp};

/// The bar that an item is; `None` while its day is not over in New York, since it still changes.
pub(super) fn daily(
    raw: &RawValue,
    symbol: &str,
    known: Known,
    received_at: Timestamp,
) -> Result<Option<Bar>, String> {
    let item = Item::read(raw)?;
    let day = item.text(&["date"]).and_then(|text| known::date(&text)).ok_or("no \"date\"")?;
    if known::end_of_day(day).is_none_or(|end| end > received_at) {
        return Ok(None);
    }
    let number =
        |field: Field| item.text(field).and_then(|text| text.parse::<f64>().ok()).filter(|x| x.is_finite());
    let price = |field: Field| {
        number(field)
            .filter(|x| *x > 0.0)
            .ok_or_else(|| format!("no price in \"{}\"", field.join("\" or \"")))
    };
    let time = day.and_time(NaiveTime::MIN).and_utc();
    let bar = Bar {
        symbol: symbol.to_owned(),
        width: BarWidth::of_seconds(86_400),
        time,
        open: price(&["open"])?,
        high: price(&["high"])?,
        low: price(&["low"])?,
        close: price(&["close"])?,
        volume: number(&["volume"]),
        amount: None,
        trade_count: None,
        close_adj: None,
        // Of two readings the later one is right: splits change what was read before.
        sequence: received_at.timestamp_micros(),
        received_at,
        known_at: known.at(&item, received_at),
    };
    Ok(Some(Bar { known_at: bar.known_at.max(bar.end()), ..bar }))
}
