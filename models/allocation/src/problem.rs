//! What the caller knows and wants: names, limits, method. Plain data, validated once here.
//!
//! Every weight, trade and limit is a fraction of equity; returns, fees, costs and the risk model share one horizon.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::{AllocationError, FactorModel, RelaxationPrices, Scenarios};

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

    fn check(self, what: &str) -> Result<(), AllocationError> {
        for end in [self.lower, self.upper].into_iter().flatten() {
            finite(what, end)?;
        }
        match (self.lower, self.upper) {
            (Some(lower), Some(upper)) if lower > upper => {
                Err(AllocationError::BoundsCrossed { what: what.to_owned(), lower, upper })
            }
            _ => Ok(()),
        }
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
    /// Checks every number and name once, so that the solver can trust the data.
    ///
    /// # Errors
    /// The first violation found, as the [`AllocationError`] variant that describes it.
    pub fn validate(&self) -> Result<(), AllocationError> {
        if self.names.is_empty() {
            return Err(AllocationError::NoNames);
        }
        let mut seen = BTreeSet::new();
        for name in &self.names {
            if !seen.insert(name.symbol.as_str()) {
                return Err(AllocationError::DuplicateSymbol { symbol: name.symbol.clone() });
            }
            self.validate_name(name)?;
        }
        non_negative("risk_aversion", self.risk_aversion)?;
        if let Some(level) = self.cvar_level
            && !(level > 0.0 && level < 1.0)
        {
            return Err(AllocationError::OutOfRange {
                what: "cvar_level".into(),
                value: level,
                allowed: "between 0 and 1",
            });
        }
        self.validate_limits()?;
        self.relaxation.validate()?;
        self.validate_orders()?;
        self.validate_risk()
    }

    fn validate_name(&self, name: &Name) -> Result<(), AllocationError> {
        let of = |field: &str| format!("{field} of \"{}\"", name.symbol);
        finite(&of("expected_return"), name.expected_return)?;
        finite(&of("current_weight"), name.current_weight)?;
        non_negative(&of("cost"), name.cost)?;
        non_negative(&of("borrow_fee"), name.borrow_fee)?;
        if let Some(cap) = name.max_trade {
            non_negative(&of("max_trade"), cap)?;
        }
        if let Some(price) = name.price
            && !(price.is_finite() && price > 0.0)
        {
            return Err(AllocationError::OutOfRange { what: of("price"), value: price, allowed: "positive" });
        }
        self.weight_interval(name).check(&of("weight bounds"))?;
        name.factors.iter().try_for_each(|(key, &value)| finite(&of(key), value))
    }

    fn validate_limits(&self) -> Result<(), AllocationError> {
        let limits = &self.limits;
        limits.weight_bounds.check("weight_bounds")?;
        limits.net.check("net")?;
        for (what, value) in [
            ("gross", limits.gross),
            ("max_turnover", limits.max_turnover),
            ("target_vol", limits.target_vol),
        ] {
            value.map_or(Ok(()), |value| non_negative(what, value))?;
        }
        if let Some(cash) = limits.cash {
            finite("cash reserve", cash.reserve)?;
            non_negative("short_margin", cash.short_margin)?;
        }
        for (key, groups) in &limits.groups {
            if !self.names.iter().any(|name| name.groups.contains_key(key)) {
                return Err(AllocationError::UnknownGroup { key: key.clone() });
            }
            for (group, limit) in groups {
                let what = format!("{key}={group}");
                limit.net.check(&what)?;
                limit.gross.map_or(Ok(()), |gross| non_negative(&what, gross))?;
            }
        }
        for (key, interval) in &limits.factors {
            if !self.names.iter().any(|name| name.factors.contains_key(key)) {
                return Err(AllocationError::UnknownFactor { key: key.clone() });
            }
            interval.check(key)?;
        }
        Ok(())
    }

    fn validate_orders(&self) -> Result<(), AllocationError> {
        let orders = &self.orders;
        if let Some(notional) = orders.min_notional {
            non_negative("min_notional", notional)?;
        }
        if let Some(equity) = orders.equity
            && !(equity.is_finite() && equity > 0.0)
        {
            return Err(AllocationError::OutOfRange {
                what: "equity".into(),
                value: equity,
                allowed: "positive",
            });
        }
        if orders.equity.is_none() && (orders.min_notional.is_some() || orders.whole_share_shorts) {
            return Err(AllocationError::EquityRequired);
        }
        Ok(())
    }

    fn validate_risk(&self) -> Result<(), AllocationError> {
        if let Some(risk) = &self.risk {
            risk.validate(self.names.len())?;
        }
        if let Some(scenarios) = &self.scenarios {
            scenarios.validate(self.names.len())?;
        }
        if self.method == Method::Cvar && self.scenarios.is_none() {
            return Err(AllocationError::ScenariosRequired);
        }
        let needs_model = self.method != Method::Cvar || self.limits.target_vol.is_some();
        if needs_model && self.risk.is_none() {
            return Err(AllocationError::RiskModelRequired);
        }
        Ok(())
    }

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

pub(crate) fn finite(what: &str, value: f64) -> Result<(), AllocationError> {
    if value.is_finite() { Ok(()) } else { Err(AllocationError::NotFinite { what: what.to_owned() }) }
}

pub(crate) fn non_negative(what: &str, value: f64) -> Result<(), AllocationError> {
    finite(what, value)?;
    if value < 0.0 {
        return Err(AllocationError::OutOfRange { what: what.to_owned(), value, allowed: "at least 0" });
    }
    Ok(())
}
