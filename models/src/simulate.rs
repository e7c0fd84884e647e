//! A market that never was: deterministic bars with the statistics of real ones.
//!
//! Demos, documentation and tests need bars where no data is at hand, and need them to be the same everywhere. Returns
//! have the stylised facts that break naive models (Cont, "Empirical properties of asset returns", 2001): volatility
//! clusters, tails are fat, prices jump, volume follows volatility, markets close, and symbols move together. The
//! randomness is counter-based, so a symbol's bars do not depend on which others are simulated beside it.
//!
//! # Source
//! Each symbol's unit shock is √ρ·market + √(1−ρ)·own, so that every two symbols have correlation ρ. Market and own
//! shocks are GARCH(1,1) (Bollerslev 1986) with Student-t innovations; own shocks have jumps besides (Merton 1976).
//! Highs and lows are the extremes of a Brownian bridge between open and close, drawn from their exact distributions.

use crate::bars::Bar;
use crate::error::{ModelError, Result};
use crate::random::Stream;
use std::f64::consts::TAU;

/// Weight of the last shock in the variance of the next bar.
const GARCH_SHOCK: f64 = 0.07;
/// Weight of the last variance. Together 0.97 per bar: a burst fades by half in 23 bars. The fourth moment stays
/// finite for the degrees of freedom accepted: β² + 2αβ + 3α²(ν − 2)/(ν − 4) < 1 from ν = 4.5 on.
const GARCH_MEMORY: f64 = 0.90;
/// Share of the variance of own shocks that comes in jumps.
const JUMP_SHARE: f64 = 0.1;
/// Persistence and noise of the logarithm of volume around the level that volatility explains.
const VOLUME_MEMORY: f64 = 0.8;
const VOLUME_NOISE: f64 = 0.25;
/// Prices are multiples of a tick of this many decimal places below the leading digit of the starting price.
const TICK_PLACES: i32 = 5;

/// What the simulated market is like; holds valid values only.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Market {
    volatility: f64,
    drift: f64,
    correlation: f64,
    degrees_of_freedom: f64,
    jumps_per_year: f64,
    price: Option<f64>,
    volume: f64,
}

impl Default for Market {
    /// A lively market: 50 % volatility a year, correlation 0.5, tails of a Student t with 5 degrees of freedom.
    fn default() -> Self {
        Self {
            volatility: 0.5,
            drift: 0.05,
            correlation: 0.5,
            degrees_of_freedom: 5.0,
            jumps_per_year: 12.0,
            price: None,
            volume: 1000.0,
        }
    }
}

impl Market {
    /// The parameters [`Market::set`] knows.
    pub const PARAMETERS: [&'static str; 7] =
        ["volatility", "drift", "correlation", "degrees_of_freedom", "jumps_per_year", "price", "volume"];

    /// Sets one parameter by its name.
    ///
    /// # Units
    /// `volatility` and `drift` per year, of log prices; `price` of the first open (without it each symbol draws its
    /// own between 10 and 1000); `volume` is the median per bar.
    /// # Errors
    /// [`ModelError::InvalidParameter`] for a name not in [`Market::PARAMETERS`] or a value outside its domain.
    pub fn set(&mut self, name: &str, value: f64) -> Result<()> {
        let within = |name, low: f64, high: f64| {
            if value >= low && value <= high {
                return Ok(value);
            }
            Err(ModelError::InvalidParameter {
                name,
                expected: format!("between {low} and {high}"),
                got: value.to_string(),
            })
        };
        match name {
            "volatility" => self.volatility = within("volatility", 0.0, 5.0)?,
            "drift" => self.drift = within("drift", -5.0, 5.0)?,
            "correlation" => self.correlation = within("correlation", 0.0, 1.0)?,
            "degrees_of_freedom" => self.degrees_of_freedom = within("degrees_of_freedom", 4.5, 1000.0)?,
            "jumps_per_year" => self.jumps_per_year = within("jumps_per_year", 0.0, 10_000.0)?,
            "price" => self.price = Some(within("price", 1e-12, 1e12)?),
            "volume" => self.volume = within("volume", 0.0, 1e30)?,
            other => {
                return Err(ModelError::InvalidParameter {
                    name: "parameter",
                    expected: format!("one of {}", Self::PARAMETERS.join(", ")),
                    got: other.to_owned(),
                });
            }
        }
        Ok(())
    }
}

/// When one bar trades.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Slot {
    /// How long the market was closed before the bar, in widths of a bar; 0 inside a session.
    pub closed: f64,
    /// Where in its session the bar lies, 0 at the opening to 1 at the close; `None` where there are no sessions.
    pub position: Option<f64>,
}

impl Slot {
    /// Variance and volume of this bar against the average one: high at the opening and at the close.
    fn activity(&self) -> f64 {
        // Mean 1 over the session, and three times as much at its ends as in its middle.
        self.position.map_or(1.0, |position| 0.6 + 1.2 * (2.0 * position - 1.0).powi(2))
    }

    /// Variance of the jump from the last close to this open, against that of an average bar.
    fn gap_variance(&self) -> f64 {
        // A closed hour moves prices a tenth as much as an open one (French and Roll 1986 measured 1/13 to 1/100 for
        // single weekdays' nights and 1/5 for an election-day closure); a long weekend hardly more than a night.
        0.1 * self.closed.min(24.0)
    }
}

/// A simulated market over given bars; every symbol of it is an independent pure function of seed and name.
#[derive(Debug)]
pub struct Simulation<'a> {
    market: Market,
    slots: &'a [Slot],
    bars_per_year: f64,
    seed: i64,
    shared: Vec<Shock>,
}

impl<'a> Simulation<'a> {
    /// Prepares the factor that all symbols share.
    ///
    /// # Units
    /// `bars_per_year`: how many bars of this width the market has in a year; it turns yearly figures into those of
    /// one bar.
    /// # Errors
    /// [`ModelError::InvalidParameter`] unless `bars_per_year` is positive and finite.
    pub fn new(market: Market, slots: &'a [Slot], bars_per_year: f64, seed: i64) -> Result<Self> {
        if !(bars_per_year.is_finite() && bars_per_year > 0.0) {
            return Err(ModelError::InvalidParameter {
                name: "bars_per_year",
                expected: "greater than 0".into(),
                got: bars_per_year.to_string(),
            });
        }
        let stream = Stream::new(seed, "", 0, "kronos/simulate/market");
        let shared = Shocks::new(stream, market.degrees_of_freedom, 0.0).take(slots.len()).collect();
        Ok(Self { market, slots, bars_per_year, seed, shared })
    }

    /// The bars of one symbol, one per slot: each coherent, prices above 0, amount = volume × mean price.
    pub fn bars(&self, symbol: &str) -> Vec<Bar> {
        let market = &self.market;
        let stream = Stream::new(self.seed, symbol, 0, "kronos/simulate/symbol");
        let sigma = market.volatility / self.bars_per_year.sqrt();
        let drift = market.drift / self.bars_per_year;
        let (shared_weight, own_weight) = (market.correlation.sqrt(), (1.0 - market.correlation).sqrt());
        let own = Shocks::new(stream, market.degrees_of_freedom, market.jumps_per_year / self.bars_per_year);
        let first = market.price.unwrap_or_else(|| 10f64.powf(1.0 + 2.0 * stream.uniform(START, 0, 0)));
        let tick = 10f64.powi(first.log10().floor() as i32 - TICK_PLACES);
        let mut level = (first / tick).round().max(1.0);
        let mut log_volume = 0.0;

        self.slots
            .iter()
            .zip(&self.shared)
            .zip(own)
            .enumerate()
            .map(|(index, ((slot, shared), own))| {
                let step = index as u32;
                let uniform = |draw| 1.0 - stream.uniform(BAR, step, draw);
                let gap_scale = if index == 0 { 0.0 } else { sigma * slot.gap_variance().sqrt() };
                let gap = gap_scale * (shared_weight * shared.gap + own_weight * own.gap);
                let scale = sigma * slot.activity().sqrt();
                let shock = shared_weight * shared.value + own_weight * own.value;
                let change = drift + scale * shock;

                // The variance within the bar is that of its diffusion; a jump is not spread over it.
                let variance = scale.powi(2)
                    * (shared_weight.powi(2) * shared.variance + own_weight.powi(2) * own.variance);
                let reach = |uniform: f64| (change.powi(2) - 2.0 * variance * uniform.ln()).sqrt();
                let open = at_tick(level * gap.exp());
                let close = at_tick(open * change.exp());
                let high = at_tick(open * ((change + reach(uniform(0))) / 2.0).exp()).max(open).max(close);
                let low = at_tick(open * ((change - reach(uniform(1))) / 2.0).exp()).min(open).min(close);
                level = close;

                log_volume = VOLUME_MEMORY * log_volume + VOLUME_NOISE * normal(uniform(2), uniform(3));
                let relative =
                    (shared_weight.powi(2) * shared.variance + own_weight.powi(2) * own.variance).sqrt();
                let volume = market.volume
                    * slot.activity()
                    * relative
                    * (0.5 + 0.5 * shock.abs())
                    * f64::exp(log_volume);
                let volume = (volume * 1000.0).round() / 1000.0;
                let [open, high, low, close] = [open, high, low, close].map(|ticks| price(ticks, tick));
                [open, high, low, close, volume, volume * ((open + high + low + close) / 4.0)]
            })
            .collect()
    }
}

/// The nearest whole tick, and never none: a price is positive.
fn at_tick(ticks: f64) -> f64 {
    ticks.round().max(1.0)
}

/// A price from its ticks; division by a power of ten gives the decimal number nearest to what was meant.
fn price(ticks: f64, tick: f64) -> f64 {
    if tick < 1.0 { ticks / (1.0 / tick).round() } else { ticks * tick }
}

/// Which draws of a stream are used for what.
const SHOCK: u32 = 0;
const BAR: u32 = 1;
const START: u32 = 2;

/// One bar's unit shock.
#[derive(Debug, Clone, Copy)]
struct Shock {
    /// Unit variance over time, mean 0.
    value: f64,
    /// Variance of its diffusive part given the past.
    variance: f64,
    /// A second draw of the same conditional variance, for the gap before the bar.
    gap: f64,
}

/// A GARCH(1,1) process with Student-t innovations and jumps, of unit variance.
struct Shocks {
    stream: Stream,
    degrees_of_freedom: f64,
    jump_chance: f64,
    variance: f64,
    step: u32,
}

impl Shocks {
    /// `jumps_per_bar` 0 gives a process without jumps.
    fn new(stream: Stream, degrees_of_freedom: f64, jumps_per_bar: f64) -> Self {
        Self { stream, degrees_of_freedom, jump_chance: jumps_per_bar.min(1.0), variance: 1.0, step: 0 }
    }
}

impl Iterator for Shocks {
    type Item = Shock;

    fn next(&mut self) -> Option<Shock> {
        let uniform = |draw| 1.0 - self.stream.uniform(SHOCK, self.step, draw);
        let innovation = student(self.degrees_of_freedom, uniform(0), uniform(1));
        let gap = student(self.degrees_of_freedom, uniform(2), uniform(3));
        let jump_share = if self.jump_chance > 0.0 { JUMP_SHARE } else { 0.0 };
        let jump = if uniform(4) <= self.jump_chance {
            normal(uniform(5), uniform(6)) * (jump_share / self.jump_chance).sqrt()
        } else {
            0.0
        };
        let diffusion = self.variance.sqrt() * innovation;
        let shock = Shock {
            value: (1.0 - jump_share).sqrt() * diffusion + jump,
            variance: (1.0 - jump_share) * self.variance,
            gap: self.variance.sqrt() * gap,
        };
        self.variance =
            1.0 - GARCH_SHOCK - GARCH_MEMORY + GARCH_SHOCK * diffusion.powi(2) + GARCH_MEMORY * self.variance;
        self.step += 1;
        Some(shock)
    }
}

/// A standard normal number from two uniform ones in (0, 1] (Box and Muller 1958).
fn normal(u: f64, v: f64) -> f64 {
    (-2.0 * u.ln()).sqrt() * (TAU * v).cos()
}

/// A Student t number of unit variance from two uniform ones in (0, 1] (Bailey 1994, "Polar generation of random
/// variates with the t-distribution").
fn student(degrees_of_freedom: f64, u: f64, v: f64) -> f64 {
    let radius = (degrees_of_freedom * (u.powf(-2.0 / degrees_of_freedom) - 1.0)).sqrt();
    radius * (TAU * v).cos() * ((degrees_of_freedom - 2.0) / degrees_of_freedom).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Hours of a year of a market that never closes.
    const HOURS: f64 = 8766.0;

    fn open_always(n: usize) -> Vec<Slot> {
        vec![Slot { closed: 0.0, position: None }; n]
    }

    /// Five bars a session, 14 widths closed between sessions.
    fn in_sessions(n: usize) -> Vec<Slot> {
        (0..n)
            .map(|i| Slot {
                closed: if i % 5 == 0 { 14.0 } else { 0.0 },
                position: Some((i % 5) as f64 / 4.0),
            })
            .collect()
    }

    fn simulate(slots: &[Slot], market: Market, seed: i64, symbol: &str) -> Vec<Bar> {
        Simulation::new(market, slots, HOURS, seed).unwrap().bars(symbol)
    }

    fn returns(bars: &[Bar]) -> Vec<f64> {
        bars.iter().map(|bar| (bar[3] / bar[0]).ln()).collect()
    }

    fn mean(x: &[f64]) -> f64 {
        x.iter().sum::<f64>() / x.len() as f64
    }

    fn correlation(x: &[f64], y: &[f64]) -> f64 {
        let (mx, my) = (mean(x), mean(y));
        let cov: f64 = x.iter().zip(y).map(|(a, b)| (a - mx) * (b - my)).sum();
        let (vx, vy): (f64, f64) =
            (x.iter().map(|a| (a - mx).powi(2)).sum(), y.iter().map(|b| (b - my).powi(2)).sum());
        cov / (vx * vy).sqrt()
    }

    #[test]
    fn same_seed_same_bars_and_neighbours_do_not_matter() {
        let slots = open_always(300);
        let alone = simulate(&slots, Market::default(), 7, "AAA");
        let simulation = Simulation::new(Market::default(), &slots, HOURS, 7).unwrap();
        let beside = (simulation.bars("BBB"), simulation.bars("AAA"));
        assert_eq!(alone, beside.1);
        assert_ne!(alone, beside.0);
        assert_ne!(alone, simulate(&slots, Market::default(), 8, "AAA"));
    }

    #[test]
    fn a_longer_history_begins_with_the_shorter_one() {
        let (short, long) = (in_sessions(100), in_sessions(200));
        let market = Market::default();
        assert_eq!(simulate(&short, market, 1, "A"), simulate(&long, market, 1, "A")[..100]);
    }

    #[test]
    fn every_bar_is_coherent_and_continues_the_last() {
        let mut extreme = Market::default();
        extreme.set("volatility", 5.0).unwrap();
        extreme.set("price", 1e-12).unwrap();
        for (market, slots) in [
            (Market::default(), open_always(5000)),
            (Market::default(), in_sessions(5000)),
            (extreme, open_always(5000)),
        ] {
            let bars = simulate(&slots, market, 3, "X");
            for bar in &bars {
                let [open, high, low, close, volume, amount] = *bar;
                assert!(bar.iter().all(|value| value.is_finite()), "{bar:?}");
                assert!(low > 0.0 && low <= open.min(close) && high >= open.max(close), "{bar:?}");
                assert!(volume >= 0.0 && amount >= 0.0, "{bar:?}");
            }
            for (i, pair) in bars.windows(2).enumerate() {
                if slots[i + 1].closed == 0.0 {
                    assert_eq!(pair[0][3], pair[1][0], "bar {i}");
                }
            }
        }
    }

    #[test]
    fn returns_have_the_volatility_asked_for() {
        let r = returns(&simulate(&open_always(60_000), Market::default(), 11, "V"));
        let per_year = (r.iter().map(|r| r * r).sum::<f64>() / r.len() as f64 * HOURS).sqrt();
        // The sampling error of a clustered, fat-tailed variance over 60 000 bars is about 4 %.
        assert!((per_year - 0.5).abs() < 0.05, "{per_year}");
    }

    #[test]
    fn tails_are_fat_and_volatility_clusters() {
        let mut calm = Market::default();
        calm.set("jumps_per_year", 0.0).unwrap();
        for market in [Market::default(), calm] {
            let r = returns(&simulate(&open_always(20_000), market, 5, "K"));
            let m2 = mean(&r.iter().map(|r| r.powi(2)).collect::<Vec<_>>());
            let m4 = mean(&r.iter().map(|r| r.powi(4)).collect::<Vec<_>>());
            // A normal distribution has 3 with a standard error of sqrt(24/n) = 0.035.
            assert!(m4 / m2.powi(2) > 4.0, "kurtosis {}", m4 / m2.powi(2));
            // Squares of independent returns have no autocorrelation, with a standard error of 1/sqrt(n) = 0.007.
            // Capped at four deviations, because a single jump would drown the rest.
            let squares: Vec<f64> = r.iter().map(|r| r.powi(2).min(16.0 * m2)).collect();
            let clustering = correlation(&squares[1..], &squares[..squares.len() - 1]);
            assert!(clustering > 0.05, "autocorrelation of squares {clustering}");
            let memory = correlation(&r[1..], &r[..r.len() - 1]);
            assert!(memory.abs() < 0.04, "autocorrelation of returns {memory}");
        }
    }

    #[test]
    fn symbols_move_together_as_asked() {
        for asked in [0.0, 0.3, 0.9] {
            let mut market = Market::default();
            market.set("correlation", asked).unwrap();
            let slots = open_always(20_000);
            let simulation = Simulation::new(market, &slots, HOURS, 2).unwrap();
            let got = correlation(&returns(&simulation.bars("A")), &returns(&simulation.bars("B")));
            assert!((got - asked).abs() < 0.05, "asked {asked}, got {got}");
        }
    }

    #[test]
    fn jumps_are_rare_and_far_beyond_the_diffusion() {
        let far = |jumps: f64| {
            let mut market = Market::default();
            market.set("jumps_per_year", jumps).unwrap();
            market.set("correlation", 0.0).unwrap();
            market.set("degrees_of_freedom", 1000.0).unwrap();
            let r = returns(&simulate(&open_always(20_000), market, 4, "J"));
            let deviation = mean(&r.iter().map(|r| r * r).collect::<Vec<_>>()).sqrt();
            r.iter().filter(|r| r.abs() > 6.0 * deviation).count()
        };
        // 20 000 hours are 2.28 years: 27 jumps of 8.5 deviations, half of which exceed 6; clustering alone reaches
        // that far now and then, independent normal returns would once in a billion bars.
        assert!(far(0.0) <= 2, "{}", far(0.0));
        assert!((8..=30).contains(&far(12.0)), "{}", far(12.0));
    }

    #[test]
    fn volume_follows_volatility() {
        let bars = simulate(&open_always(20_000), Market::default(), 6, "W");
        let size: Vec<f64> = returns(&bars).iter().map(|r| r.abs()).collect();
        let volume: Vec<f64> = bars.iter().map(|bar| bar[4]).collect();
        let got = correlation(&size, &volume);
        assert!(got > 0.4, "{got}");
    }

    #[test]
    fn sessions_open_with_a_gap_and_are_busiest_at_their_ends() {
        let slots = in_sessions(20_000);
        let bars = simulate(&slots, Market::default(), 9, "S");
        let gaps = bars.windows(2).enumerate().filter(|(i, _)| slots[i + 1].closed > 0.0);
        let moved = gaps.clone().filter(|(_, pair)| pair[0][3] != pair[1][0]).count();
        assert!(moved * 100 > 95 * gaps.count());
        let at = |position: f64| {
            let pick = |(slot, bar): (&Slot, &Bar)| (slot.position == Some(position)).then_some(bar[4]);
            mean(&slots.iter().zip(&bars).filter_map(pick).collect::<Vec<_>>())
        };
        assert!(at(0.0) > 2.0 * at(0.5) && at(1.0) > 2.0 * at(0.5));
    }

    #[test]
    fn parameters_outside_their_domain_are_named() {
        let mut market = Market::default();
        for (name, value) in [
            ("volatility", -1.0),
            ("correlation", 1.5),
            ("degrees_of_freedom", 2.0),
            ("price", 0.0),
            ("volume", f64::NAN),
            ("smile", 1.0),
        ] {
            let error = market.set(name, value).unwrap_err().to_string();
            assert!(error.contains(if name == "smile" { "parameter" } else { name }), "{error}");
        }
        assert_eq!(market, Market::default());
        for name in Market::PARAMETERS {
            assert!(market.set(name, 5.0).is_ok() || name == "correlation");
        }
    }
}
