//! What the caller knows and wants: names, limits, method. Plain data.
//!
//! Every weight, trade and limit is a fraction of equity; returns, fees, costs and the risk model share one horizon.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{FactorModel, RelaxationPrices, Scenarios};

/// A closed interval whose ends may be absent (unbounded); as JSON the pair `[lower, upper]`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(from = "(Option<f64>, Option<f64>)", into = "(Option<f64>, Option<f64>)")]
pub struct Interval {
    /// Least admissible value.
    pub lower: Option<f64>,
    /// Greatest admissible value.
    pub upper: Option<f64>,
}

impl Interval {
    /// The interval `[lower, upper]`.
    pub const fn new(lower: f64, upper: f64) -> Self {
        Self { lower: Some(lower), upper: Some(upper) }
    }
}

impl From<(Option<f64>, Option<f64>)> for Interval {
    fn from((lower, upper): (Option<f64>, Option<f64>)) -> Self {
        Self { lower, upper }
    }
}

impl From<Interval> for (Option<f64>, Option<f64>) {
    fn from(interval: Interval) -> Self {
        (interval.lower, interval.upper)
    }
}

/// Limits of one group: of its net and of its gross weight.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(from = "GroupLimitForm")]
pub struct GroupLimit {
    /// Interval of the sum of weights.
    pub net: Interval,
    /// Greatest sum of absolute weights.
    pub gross: Option<f64>,
}

/// The two spellings of a group limit in JSON: `[-0.1, 0.2]`, or `{"net": [-0.1, 0.2], "gross": 0.3}`.
#[derive(Deserialize)]
#[serde(untagged)]
enum GroupLimitForm {
    Net(Interval),
    Full(FullGroupLimit),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FullGroupLimit {
    #[serde(default)]
    net: Interval,
    #[serde(default)]
    gross: Option<f64>,
}

impl From<GroupLimitForm> for GroupLimit {
    fn from(form: GroupLimitForm) -> Self {
        match form {
            GroupLimitForm::Net(net) => Self { net, gross: None },
            GroupLimitForm::Full(FullGroupLimit { net, gross }) => Self { net, gross },
        }
    }
}

/// Trading restriction on one name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Halt {
    /// Trades freely.
    #[default]
    None,
    /// The position may only shrink towards zero.
    ReduceOnly,
    /// No trade at all: the weight stays where it is.
    Frozen,
}

/// One tradable name.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Name {
    /// Identity; unique within the problem.
    pub symbol: String,
    /// Expected return over the horizon.
    pub expected_return: f64,
    /// Weight held now.
    pub current_weight: f64,
    /// Least weight for this name; absent: the problem's `weight_bounds`.
    pub min_weight: Option<f64>,
    /// Greatest weight for this name; absent: the problem's `weight_bounds`.
    pub max_weight: Option<f64>,
    /// Whether a short may be opened or enlarged; absent means yes.
    pub shortable: Option<bool>,
    /// Trading restriction.
    pub halt: Halt,
    /// A veto closes both sides for new exposure; it never forces a trade.
    pub veto: bool,
    /// Linear cost per unit traded: half spread, fees, impact at the participation cap.
    pub cost: f64,
    /// Fee for borrowing one unit short over the horizon.
    pub borrow_fee: f64,
    /// Greatest absolute trade (participation cap); absent: none.
    pub max_trade: Option<f64>,
    /// Group memberships, such as `group_sector` → `tech`.
    pub groups: BTreeMap<String, String>,
    /// Exposures the factor limits speak about, such as `factor_beta` → 1.1.
    pub factors: BTreeMap<String, f64>,
    /// Price of one share in the currency of `equity`; needed for whole-share shorts.
    pub price: Option<f64>,
}

impl Name {
    /// Whether a short may be opened or enlarged.
    pub fn is_shortable(&self) -> bool {
        self.shortable.unwrap_or(true)
    }
}

/// The objective.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// Expected return less `risk_aversion`/2 times variance, costs and borrow fees.
    #[default]
    MeanVariance,
    /// As mean-variance with every expected return taken as zero.
    MinVariance,
    /// Nearest feasible book, in tracking variance, to the book of equal risk contributions (see [`crate::risk_parity_target`]).
    RiskParity,
    /// Expected return less `risk_aversion` times the conditional value at risk of the scenarios, costs and borrow fees.
    Cvar,
}

/// Buying power: `long + short_margin * short <= 1 - reserve`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CashFloor {
    /// Share of equity kept as cash.
    pub reserve: f64,
    /// Margin of a short per unit; 0.5 is Regulation T's initial requirement.
    #[serde(default = "half")]
    pub short_margin: f64,
}

/// Limits on the whole book and on its groups.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Bounds of each weight where the name brings none of its own.
    pub weight_bounds: Interval,
    /// Greatest sum of absolute weights.
    pub gross: Option<f64>,
    /// Interval of the sum of weights.
    pub net: Interval,
    /// Buying power.
    pub cash: Option<CashFloor>,
    /// Greatest one-way turnover, half the sum of absolute trades.
    pub max_turnover: Option<f64>,
    /// Greatest volatility over the horizon, by the risk model.
    pub target_vol: Option<f64>,
    /// Limits by group key and group; the group `*` stands for every group not listed.
    pub groups: BTreeMap<String, BTreeMap<String, GroupLimit>>,
    /// Intervals of the summed exposure by factor key.
    pub factors: BTreeMap<String, Interval>,
}

/// Rules about orders, not weights; each makes the problem non-convex and is met by freezing names and solving again.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OrderRules {
    /// Equity in currency.
    pub equity: Option<f64>,
    /// Trades smaller than this, in currency, are not made.
    pub min_notional: Option<f64>,
    /// Round shorts toward zero to whole shares.
    pub whole_share_shorts: bool,
    /// Greatest number of names held.
    pub max_names: Option<usize>,
}

/// What to do when the limits cannot be met together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnInfeasible {
    /// Fail with the conflicting rules.
    #[default]
    Error,
    /// Break the soft rules by as little as their prices allow and say by how much.
    Relax,
    /// Keep the current book and name the conflicting rules.
    Report,
}

/// A complete allocation problem.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Problem {
    /// The names; their order does not matter.
    pub names: Vec<Name>,
    /// The objective.
    pub method: Method,
    /// Price of risk, γ.
    pub risk_aversion: f64,
    /// Covariance model, rows in the order of `names`; required except for [`Method::Cvar`] without a volatility limit.
    pub risk: Option<FactorModel>,
    /// Joint returns, columns in the order of `names`; required for [`Method::Cvar`].
    pub scenarios: Option<Scenarios>,
    /// Confidence level of the conditional value at risk, such as 0.95.
    pub cvar_level: Option<f64>,
    /// Limits on weights.
    pub limits: Limits,
    /// Rules about orders.
    pub orders: OrderRules,
    /// What to do when the limits conflict.
    pub on_infeasible: OnInfeasible,
    /// Prices of breaking a soft rule.
    pub relaxation: RelaxationPrices,
}

impl Default for Problem {
    fn default() -> Self {
        Self {
            names: Vec::new(),
            method: Method::default(),
            risk_aversion: 5.0,
            risk: None,
            scenarios: None,
            cvar_level: None,
            limits: Limits::default(),
            orders: OrderRules::default(),
            on_infeasible: OnInfeasible::default(),
            relaxation: RelaxationPrices::default(),
        }
    }
}

/// Level of the conditional value at risk where the problem names none.
pub(crate) const DEFAULT_CVAR_LEVEL: f64 = 0.95;

impl Problem {
    /// The weight bounds of `name`: its own ends where given, else those of the limits.
    pub(crate) fn weight_interval(&self, name: &Name) -> Interval {
        Interval {
            lower: name.min_weight.or(self.limits.weight_bounds.lower),
            upper: name.max_weight.or(self.limits.weight_bounds.upper),
        }
    }
}

fn half() -> f64 {
    0.5
}
