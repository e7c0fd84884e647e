//! Bars of the published trades, in exact decimals.

use crate::Trade;

/// Parts of one in the last decimal of a size.
const UNIT: i128 = 100_000_000;

/// A bar of one symbol.
pub(crate) struct Bar<'a> {
    /// Seconds since 1970.
    pub start: i64,
    pub open: &'a str,
    pub high: &'a str,
    pub low: &'a str,
    pub close: &'a str,
    /// In parts of [`UNIT`].
    volume: i128,
    /// Sum of price times size, in parts of the square of [`UNIT`].
    amount: i128,
    pub count: u64,
}

impl Bar<'_> {
    pub fn volume(&self) -> String {
        format!("{}.{:08}", self.volume / UNIT, self.volume % UNIT)
    }

    /// Volume-weighted average price, cut after eight decimals.
    pub fn vwap(&self) -> String {
        let vwap = self.amount / self.volume.max(1);
        format!("{}.{:08}", vwap / UNIT, vwap % UNIT)
    }
}

/// A decimal of at most eight places, in parts of [`UNIT`].
fn parts(text: &str) -> i128 {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let fraction = format!("{fraction:0<8}");
    whole.parse::<i128>().unwrap_or(0) * UNIT + fraction[..8].parse::<i128>().unwrap_or(0)
}

/// The bars of `symbol` over `trades`, oldest first; intervals without a trade have none.
pub(crate) fn of<'a>(trades: &'a [Trade], symbol: &str, width_seconds: i64) -> Vec<Bar<'a>> {
    let mut bars: Vec<Bar<'a>> = Vec::new();
    for trade in trades.iter().filter(|trade| trade.symbol == symbol) {
        let start = trade.micros.div_euclid(1_000_000 * width_seconds) * width_seconds;
        let (price, size) = (parts(&trade.price), parts(&trade.size));
        match bars.last_mut().filter(|bar| bar.start == start) {
            Some(bar) => {
                if price > parts(bar.high) {
                    bar.high = &trade.price;
                }
                if price < parts(bar.low) {
                    bar.low = &trade.price;
                }
                bar.close = &trade.price;
                bar.volume += size;
                bar.amount += price * size;
                bar.count += 1;
            }
            None => bars.push(Bar {
                start,
                open: &trade.price,
                high: &trade.price,
                low: &trade.price,
                close: &trade.price,
                volume: size,
                amount: price * size,
                count: 1,
            }),
        }
    }
    bars
}
