//! Every number and name of a problem checked once, so that nothing inside checks again.

use std::collections::BTreeSet;

use crate::AllocationError;
use crate::number::{finite, non_negative};
use crate::problem::{Interval, Method, Name, Problem};

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
            // A limit on whatever groups there are limits nobody where there are none.
            let any = groups.len() == 1 && groups.contains_key("*");
            if !any && !self.names.iter().any(|name| name.groups.contains_key(key)) {
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
}

impl Interval {
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
