//! Per-name boxes: halts, shortability and vetoes become bounds, never rows.
//!
//! Each box contains the current weight, so holding still satisfies every hard rule and the hard core is never empty:
//! a cap below the current position forbids growth but forces no trade ("grandfathering").

use crate::problem::{Halt, Name, Problem};
use crate::rule::Rule;

/// Stands for "no bound" where a hard rule is switched off: 100 times equity is beyond any book, yet finite for the solver.
const NO_CAP: f64 = 100.0;

/// Which hard rules are in force; the search for a conflict switches them off one by one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct HardRules {
    pub weight_bounds: bool,
    pub shortable: bool,
    pub halt: bool,
    pub adv_weight: bool,
}

impl HardRules {
    pub const ALL: Self = Self { weight_bounds: true, shortable: true, halt: true, adv_weight: true };

    pub fn set(&mut self, rule: &Rule, on: bool) {
        match rule {
            Rule::WeightBounds => self.weight_bounds = on,
            Rule::Shortable => self.shortable = on,
            Rule::Halt => self.halt = on,
            Rule::AdvWeight => self.adv_weight = on,
            _ => {}
        }
    }
}

/// The box of one name.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct WeightBox {
    /// Weight held now.
    pub current: f64,
    /// Greatest long weight.
    pub long: f64,
    /// Greatest short weight, as a positive number.
    pub short: f64,
    /// Greatest absolute trade.
    pub max_trade: f64,
    /// The weight is this constant: frozen by a halt or by an order rule.
    pub fixed: Option<f64>,
    /// A positive lower or negative upper bound: a forced position, soft.
    pub floor: f64,
    pub ceiling: f64,
    /// The short side is closed because the name cannot be borrowed.
    pub lost_borrow: bool,
    /// The caps before they gave way to the position already held.
    pub cap_long: f64,
    pub cap_short: f64,
}

impl WeightBox {
    pub fn new(problem: &Problem, name: &Name, hard: HardRules) -> Self {
        let current = name.current_weight;
        let (held_long, held_short) = (current.max(0.0), (-current).max(0.0));
        let interval = problem.weight_interval(name);
        let (lower, upper) = if hard.weight_bounds {
            (interval.lower.unwrap_or(-NO_CAP), interval.upper.unwrap_or(NO_CAP))
        } else {
            (-NO_CAP, NO_CAP)
        };
        let halt = if hard.halt { name.halt } else { Halt::None };
        let veto = hard.halt && name.veto;
        let lost_borrow = hard.shortable && !name.is_shortable();
        let cap_long = if veto { 0.0 } else { upper.max(0.0) };
        let cap_short = if veto || lost_borrow { 0.0 } else { (-lower).max(0.0) };
        let (long, short) = match halt {
            Halt::None => (cap_long.max(held_long), cap_short.max(held_short)),
            Halt::ReduceOnly | Halt::Frozen => (held_long, held_short),
        };
        let max_trade = if hard.adv_weight { name.max_trade.unwrap_or(f64::INFINITY) } else { f64::INFINITY };
        let still = halt == Halt::Frozen || max_trade == 0.0 || (long == 0.0 && short == 0.0);
        Self {
            current,
            long,
            short,
            max_trade,
            fixed: still.then_some(current),
            // A forced position never outranks a halt, a veto or a missing borrow.
            floor: interval.lower.unwrap_or(f64::NEG_INFINITY).min(long),
            ceiling: interval.upper.unwrap_or(f64::INFINITY).max(-short),
            lost_borrow,
            cap_long,
            cap_short,
        }
    }

    /// The weights the name can reach on its own.
    pub fn reach(&self) -> (f64, f64) {
        self.fixed.map_or_else(
            || {
                (
                    (-self.short).max(self.current - self.max_trade),
                    self.long.min(self.current + self.max_trade),
                )
            },
            |fixed| (fixed, fixed),
        )
    }
}
