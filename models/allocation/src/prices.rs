//! Which rule yields first.

use serde::{Deserialize, Serialize};

use crate::number::non_negative;
use crate::{AllocationError, Rule};

/// Price of breaking each soft rule, in basis points per unit of weight: the lower the price, the sooner the rule yields.
///
/// Only ratios matter for the order. Where forecasts are so strong that a rule would be broken for return rather than
/// for feasibility, all prices are raised together by one factor.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RelaxationPrices {
    /// One-way turnover.
    pub turnover: f64,
    /// Group limits, factor limits and forced positions.
    pub group: f64,
    /// Net exposure.
    pub net: f64,
    /// Volatility, per unit of weight in a name of average volatility.
    pub target_vol: f64,
    /// Buying power.
    pub cash: f64,
    /// Gross exposure.
    pub gross: f64,
}

impl Default for RelaxationPrices {
    fn default() -> Self {
        Self { turnover: 50.0, group: 200.0, net: 500.0, target_vol: 700.0, cash: 1_000.0, gross: 2_000.0 }
    }
}

impl RelaxationPrices {
    pub(crate) fn validate(&self) -> Result<(), AllocationError> {
        let prices = [
            ("turnover", self.turnover),
            ("group", self.group),
            ("net", self.net),
            ("target_vol", self.target_vol),
            ("cash", self.cash),
            ("gross", self.gross),
        ];
        prices
            .iter()
            .try_for_each(|(rule, price)| non_negative(&format!("relaxation price of {rule}"), *price))
    }

    /// The same order in another unit.
    pub(crate) fn scaled(self, factor: f64) -> Self {
        let Self { turnover, group, net, target_vol, cash, gross } = self;
        let [turnover, group, net, target_vol, cash, gross] =
            [turnover, group, net, target_vol, cash, gross].map(|price| price * factor);
        Self { turnover, group, net, target_vol, cash, gross }
    }

    /// Price of `rule`; hard rules have none.
    pub(crate) fn of(&self, rule: &Rule) -> f64 {
        match rule {
            Rule::MaxTurnover => self.turnover,
            Rule::GroupNet { .. }
            | Rule::GroupGross { .. }
            | Rule::Factor { .. }
            | Rule::MinWeight { .. }
            | Rule::MaxWeight { .. } => self.group,
            Rule::Net => self.net,
            Rule::TargetVol => self.target_vol,
            Rule::Cash => self.cash,
            Rule::Gross => self.gross,
            Rule::WeightBounds | Rule::Shortable | Rule::Halt | Rule::AdvWeight | Rule::MaxNames => {
                f64::INFINITY
            }
        }
    }
}
