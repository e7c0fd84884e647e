//! Markets of the simulator as rows, where no data tell of calm and of storm alike.

use super::Rows;
use crate::error::Result;
use kronos_job::{JobError, Simulated};
use kronos_models::bars::CHANNEL_NAMES;
use kronos_models::simulate::{Market, Simulation, Slot};

/// Microseconds of a minute.
const MINUTE: i64 = 60_000_000;

/// Simulates every symbol of every market, from 1970 on.
pub(super) fn read(simulated: &Simulated, rows: &mut Rows<'_>) -> Result<()> {
    let Simulated { markets, symbols, bars, minutes, volatility: (least, most), seed } = *simulated;
    let place = |column: &str| {
        CHANNEL_NAMES.iter().position(|name| *name == column).ok_or_else(|| {
            let text = format!("simulated bars have {}, there is no \"{column}\"", CHANNEL_NAMES.join(", "));
            JobError::Invalid(text)
        })
    };
    let places = rows.targets().iter().map(|name| place(name)).collect::<Result<Vec<usize>, _>>()?;
    let slots = vec![Slot { closed: 0.0, position: None }; bars];
    let bars_per_year = 365.25 * 24.0 * 60.0 / f64::from(minutes);
    for index in 0..markets {
        let share = (index as f64 + 0.5) / markets as f64;
        let mut market = Market::default();
        market.set("volatility", least * (most / least).powf(share))?;
        market.set("drift", 0.0)?;
        let simulation = Simulation::new(market, &slots, bars_per_year, seed.wrapping_add(index as i64))?;
        for symbol in 0..symbols {
            let name = format!("S{index:03}-{symbol:03}");
            for (number, bar) in simulation.bars(&name).into_iter().enumerate() {
                let time = number as i64 * i64::from(minutes) * MINUTE;
                rows.push(&name, time, places.iter().map(|&place| bar[place]).collect());
            }
        }
    }
    Ok(())
}
