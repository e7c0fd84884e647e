//! `simulate`: synthetic bars for an empty database, the same for the same seed.
//!
//! Log prices follow a random walk whose volatility clusters (a GARCH(1,1) with daily persistence 0.98 and 16 % a year),
//! and each bar's range comes from a walk inside of it, so bars are coherent and look like bars. Nothing can be learned
//! from them about markets; the source is called `simulate` and ranks last.

use chrono::{NaiveDate, TimeDelta, Utc};

use crate::{
    error::Result,
    kinds::{Bar, BarWidth, Record, Timestamp},
    store::{Batch, Sink},
};

/// What to make.
#[derive(Clone, Debug)]
pub struct Simulation {
    pub symbols: u32,
    pub bars: u32,
    pub width_seconds: i64,
    /// Start of the first bar.
    pub start: NaiveDate,
    pub seed: u64,
}

/// Steps of the walk inside one bar.
const STEPS: u32 = 16;
/// Variance of a year, and what of yesterday's shock and variance stays today.
const YEARLY_VARIANCE: f64 = 0.16 * 0.16;
const SHOCK: f64 = 0.08;
const PERSISTENCE: f64 = 0.90;

/// SplitMix64: the same stream on every platform and in every release.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// In (0, 1].
    fn uniform(&mut self) -> f64 {
        ((self.next() >> 11) + 1) as f64 / (1u64 << 53) as f64
    }

    /// Standard normal, by Box and Muller.
    fn normal(&mut self) -> f64 {
        (-2.0 * self.uniform().ln()).sqrt() * (std::f64::consts::TAU * self.uniform()).cos()
    }
}

/// The bars of one symbol, oldest first.
pub fn bars(simulation: &Simulation, symbol: u32, received_at: Timestamp) -> Vec<Bar> {
    let mut random = Random(simulation.seed.wrapping_mul(0x1000_0001).wrapping_add(u64::from(symbol)));
    let long_run = YEARLY_VARIANCE * simulation.width_seconds as f64 / (365.0 * 86_400.0);
    let mut variance = long_run;
    let mut price = 20.0 + 180.0 * random.uniform();
    let mut time = simulation.start.and_time(chrono::NaiveTime::MIN).and_utc();
    let mut bars = Vec::with_capacity(simulation.bars as usize);
    for _ in 0..simulation.bars {
        let open = price;
        let (mut high, mut low) = (open, open);
        let step = (variance / f64::from(STEPS)).sqrt();
        for _ in 0..STEPS {
            price *= (step * random.normal()).exp();
            high = high.max(price);
            low = low.min(price);
        }
        let shock = (price / open).ln();
        let volume = (1e6 * (1.0 + 20.0 * shock.abs()) * (0.3 * random.normal()).exp()).round();
        bars.push(Bar {
            symbol: format!("SIM{}", symbol + 1),
            width: BarWidth::of_seconds(simulation.width_seconds),
            time,
            open,
            high,
            low,
            close: price,
            volume: Some(volume),
            amount: Some(volume * (open + price) / 2.0),
            trade_count: None,
            close_adj: None,
            sequence: 0,
            received_at,
            known_at: time + TimeDelta::seconds(simulation.width_seconds),
        });
        variance = long_run * (1.0 - SHOCK - PERSISTENCE) + SHOCK * shock * shock + PERSISTENCE * variance;
        time += TimeDelta::seconds(simulation.width_seconds);
    }
    bars
}

/// Sends the bars of every symbol; returns how many.
///
/// # Errors
/// When the writer has stopped.
pub async fn simulate(simulation: &Simulation, sink: &Sink) -> Result<u64> {
    let received_at = Utc::now();
    let mut total = 0;
    for symbol in 0..simulation.symbols {
        for chunk in bars(simulation, symbol, received_at).chunks(1_000) {
            let mut batch = Batch::new("simulate");
            batch.records = chunk.iter().cloned().map(Record::Bar).collect();
            total += chunk.len() as u64;
            sink.send(batch).await?;
        }
    }
    Ok(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_coherent_repeatable_and_of_market_like_volatility() {
        let start = NaiveDate::from_ymd_opt(2020, 1, 1).unwrap();
        let simulation = Simulation { symbols: 1, bars: 3_000, width_seconds: 86_400, start, seed: 7 };
        let made = bars(&simulation, 0, Timestamp::UNIX_EPOCH);
        assert_eq!(made, bars(&simulation, 0, Timestamp::UNIX_EPOCH));
        assert_ne!(made[0].close, bars(&simulation, 1, Timestamp::UNIX_EPOCH)[0].close);
        for bar in &made {
            assert!(bar.low <= bar.open.min(bar.close) && bar.high >= bar.open.max(bar.close), "{bar:?}");
            assert!(bar.low > 0.0 && bar.volume.unwrap() > 0.0);
            assert_eq!(bar.known_at, bar.end());
        }
        let returns: Vec<f64> = made.iter().map(|bar| (bar.close / bar.open).ln()).collect();
        let yearly = (returns.iter().map(|r| r * r).sum::<f64>() / returns.len() as f64 * 365.0).sqrt();
        assert!((0.12..0.20).contains(&yearly), "{yearly}");
    }
}
