//! The vocabulary of rules: what binds and what conflicts.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A rule as the user named it. `Display` gives the label used in reports, such as `group_sector=tech`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rule {
    /// Sum of weights.
    Net,
    /// Sum of absolute weights.
    Gross,
    /// Buying power.
    Cash,
    /// One-way turnover.
    MaxTurnover,
    /// Volatility by the risk model.
    TargetVol,
    /// Net weight of a group.
    GroupNet {
        /// Group key, such as `group_sector`.
        key: String,
        /// Group, such as `tech`.
        group: String,
    },
    /// Gross weight of a group.
    GroupGross {
        /// Group key.
        key: String,
        /// Group.
        group: String,
    },
    /// Summed factor exposure.
    Factor {
        /// Factor key, such as `factor_beta`.
        key: String,
    },
    /// A weight the name must at least have (positive lower bound).
    MinWeight {
        /// The name.
        symbol: String,
    },
    /// A weight the name must at most have, below zero (forced short).
    MaxWeight {
        /// The name.
        symbol: String,
    },
    /// The caps of all names together. Hard.
    WeightBounds,
    /// Names that may not be shorted. Hard.
    Shortable,
    /// Halts and vetoes. Hard.
    Halt,
    /// Participation caps. Hard.
    AdvWeight,
    /// The greatest number of names; met by a heuristic.
    MaxNames,
}

impl Rule {
    /// Whether the elastic ladder never relaxes this rule.
    pub fn is_hard(&self) -> bool {
        matches!(self, Self::WeightBounds | Self::Shortable | Self::Halt | Self::AdvWeight)
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Net => f.write_str("net"),
            Self::Gross => f.write_str("gross"),
            Self::Cash => f.write_str("cash"),
            Self::MaxTurnover => f.write_str("max_turnover"),
            Self::TargetVol => f.write_str("target_vol"),
            Self::GroupNet { key, group } => write!(f, "{key}={group}"),
            Self::GroupGross { key, group } => write!(f, "{key}={group} gross"),
            Self::Factor { key } => f.write_str(key),
            Self::MinWeight { symbol } => write!(f, "min_weight of {symbol}"),
            Self::MaxWeight { symbol } => write!(f, "max_weight of {symbol}"),
            Self::WeightBounds => f.write_str("weight_bounds"),
            Self::Shortable => f.write_str("shortable"),
            Self::Halt => f.write_str("halt"),
            Self::AdvWeight => f.write_str("adv_weight"),
            Self::MaxNames => f.write_str("max_names"),
        }
    }
}

/// Which end of a rule is meant.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// The rule's lower bound.
    Min(f64),
    /// The rule's upper bound.
    Max(f64),
    /// Both bounds coincide.
    Equal(f64),
    /// The rule as a whole (hard rules about all names).
    Whole,
}

/// One end of one rule: the unit in which conflicts are reported, such as `net min 0.3`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Clause {
    /// The rule.
    pub rule: Rule,
    /// The end of it.
    pub side: Side,
}

impl fmt::Display for Clause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let has_only_a_cap = matches!(
            self.rule,
            Rule::Gross | Rule::MaxTurnover | Rule::TargetVol | Rule::GroupGross { .. } | Rule::MaxNames
        );
        match self.side {
            Side::Min(bound) => write!(f, "{} min {bound}", self.rule),
            Side::Max(bound) if has_only_a_cap => write!(f, "{} {bound}", self.rule),
            Side::Max(bound) => write!(f, "{} max {bound}", self.rule),
            Side::Equal(bound) => write!(f, "{} [{bound},{bound}]", self.rule),
            Side::Whole => self.rule.fmt(f),
        }
    }
}
