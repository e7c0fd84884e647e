//! What of a cone program belongs to one name only.

/// The columns of one name; absent where it cannot move that way.
#[derive(Clone, Copy, Default)]
pub(crate) struct NameColumns {
    pub long: Option<usize>,
    pub short: Option<usize>,
    /// The weight, and the sign with which its column counts: with one side only, that side is the weight.
    pub weight: Option<(usize, f64)>,
    pub buy: Option<usize>,
    pub sell: Option<usize>,
}

impl NameColumns {
    /// All of them, each once.
    pub fn all(&self) -> impl Iterator<Item = usize> {
        let weight = self.weight.map(|(column, _)| column);
        let own = weight.filter(|_| self.long.is_some() && self.short.is_some());
        [self.long, self.short, own, self.buy, self.sell].into_iter().flatten()
    }
}

/// The rows of one name.
#[derive(Clone, Copy, Default)]
pub(crate) struct NameRows {
    /// `p − s − w = 0`.
    pub weight: Option<usize>,
    /// `w − b + a = current`, or `w = fixed`.
    pub holding: Option<usize>,
    /// `p ≥ 0`, `s ≥ 0`, `b ≥ 0`, `a ≥ 0`.
    pub long_floor: Option<usize>,
    pub short_floor: Option<usize>,
    pub buy_floor: Option<usize>,
    pub sell_floor: Option<usize>,
    /// `p ≤ long cap`, `s ≤ short cap`, `b + a ≤ max trade`.
    pub long: Option<usize>,
    pub short: Option<usize>,
    pub trade: Option<usize>,
    /// `√d · w` in the cone of the volatility limit.
    pub specific: Option<usize>,
}

impl NameRows {
    /// All of them.
    pub fn all(&self) -> impl Iterator<Item = usize> {
        let equal = [self.weight, self.holding];
        let floors = [self.long_floor, self.short_floor, self.buy_floor, self.sell_floor];
        equal.into_iter().chain(floors).chain([self.long, self.short, self.trade, self.specific]).flatten()
    }

    /// The places in the stacked cones.
    pub fn stacked(&self, equal: usize, unequal: usize) -> Self {
        let at = |row: Option<usize>, by: usize| row.map(|row| row + by);
        Self {
            weight: self.weight,
            holding: self.holding,
            long_floor: at(self.long_floor, equal),
            short_floor: at(self.short_floor, equal),
            buy_floor: at(self.buy_floor, equal),
            sell_floor: at(self.sell_floor, equal),
            long: at(self.long, equal),
            short: at(self.short, equal),
            trade: at(self.trade, equal),
            specific: at(self.specific, equal + unequal),
        }
    }
}
