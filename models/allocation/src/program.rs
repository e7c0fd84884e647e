//! From names, boxes and soft rows to the cone program.
//!
//! Variables are the long part `p`, short part `s`, buys `b` and sells `a` of each name, its weight `w = p − s` where it
//! has both sides, the factor exposure `f` of the book, the tail variables of conditional value at risk, and one slack per
//! relaxable row. A variable that its bounds hold at zero is left out, because an interior-point method needs an interior.
//! The split into `p` and `s` is exact: lowering both by the same amount keeps the weight, loosens every row and saves
//! borrow fee and curvature. Rows over all names, of which a risk model has hundreds, see `w` alone: a third of the
//! solver's arithmetic is left, because the parts are eliminated before anything dense.

use clarabel::algebra::CscMatrix;
use clarabel::solver::SupportedConeT;

use crate::bounds::WeightBox;
use crate::conic::{ConicProgram, OBJECTIVE_SCALE};
use crate::name_block::{NameColumns, NameRows};
use crate::risk::{FactorModel, Scenarios};
use crate::rule::Side;
use crate::soft::{Body, SoftRow};

/// Curvature added to long and short parts: picks one answer among equals without moving it measurably.
const REGULARISATION: f64 = 1e-5;

/// The objective over weights, in units of return.
#[derive(Clone, Copy)]
pub(crate) enum Goal<'a> {
    /// Risk and costs less reward.
    Optimise(&'a Objective),
    /// The same, with every soft row relaxable at its price times the factor.
    Elastic(&'a Objective, f64),
    /// The least total violation of the soft rows; no other objective.
    Feasibility,
}

/// What is minimised: `risk_aversion · risk − rewardᵀw + costs`.
pub(crate) struct Objective {
    pub reward: Vec<f64>,
    pub costs: Vec<f64>,
    /// As charged by the program, which keeps them positive where returns are weighed against them.
    pub borrow_fees: Vec<f64>,
    pub risk_aversion: f64,
    /// Set: conditional value at risk at this level takes the place of half the variance.
    pub cvar_level: Option<f64>,
}

/// Everything a program is made of, names in canonical order.
#[derive(Clone, Copy)]
pub(crate) struct Parts<'a> {
    pub boxes: &'a [WeightBox],
    pub rows: &'a [SoftRow],
    pub risk: Option<&'a FactorModel>,
    pub scenarios: Option<&'a Scenarios>,
}

/// A cone program and where its rows and columns are.
pub(crate) struct Program {
    pub conic: ConicProgram,
    /// Row of each soft row, whose dual is its shadow price.
    pub soft: Vec<usize>,
    /// What belongs to one name only.
    pub columns: Vec<NameColumns>,
    pub rows: Vec<NameRows>,
}

impl Program {
    /// The weights of a primal point.
    pub fn weights(&self, x: &[f64], boxes: &[WeightBox]) -> Vec<f64> {
        let part = |column: Option<usize>| column.map_or(0.0, |c| x[c]);
        let free = |i: usize| part(self.columns[i].long) - part(self.columns[i].short);
        boxes.iter().enumerate().map(|(i, b)| b.fixed.unwrap_or_else(|| free(i))).collect()
    }
}

/// Rows of one cone while they are collected.
#[derive(Default)]
struct Rows {
    triplets: Vec<(usize, usize, f64)>,
    rhs: Vec<f64>,
}

impl Rows {
    fn push(&mut self, entries: impl IntoIterator<Item = (usize, f64)>, rhs: f64) -> usize {
        let row = self.rhs.len();
        self.triplets.extend(entries.into_iter().map(|(column, value)| (row, column, value)));
        self.rhs.push(rhs);
        row
    }
}

/// Where a soft row went, before the cones are stacked.
enum Place {
    Equality(usize),
    Inequality(usize),
    Cone,
}

struct Assembly<'a> {
    parts: Parts<'a>,
    goal: Goal<'a>,
    quadratic: Vec<(usize, usize, f64)>,
    linear: Vec<f64>,
    equalities: Rows,
    inequalities: Rows,
    cone: Rows,
    columns: Vec<NameColumns>,
    rows: Vec<NameRows>,
    factors: usize,
}

/// Builds the program of `parts` for `goal`.
pub(crate) fn assemble(parts: Parts<'_>, goal: Goal<'_>) -> Program {
    let n = parts.boxes.len();
    let mut assembly = Assembly {
        parts,
        goal,
        quadratic: Vec::new(),
        linear: Vec::new(),
        equalities: Rows::default(),
        inequalities: Rows::default(),
        cone: Rows::default(),
        columns: vec![NameColumns::default(); n],
        rows: vec![NameRows::default(); n],
        factors: 0,
    };
    assembly.add_columns();
    assembly.add_trades();
    assembly.add_caps();
    assembly.add_factors();
    assembly.add_tail();
    let places: Vec<Place> = parts.rows.iter().map(|row| assembly.add_soft(row)).collect();
    assembly.finish(&places)
}

impl<'a> Assembly<'a> {
    fn objective(&self) -> Option<&'a Objective> {
        match self.goal {
            Goal::Optimise(objective) | Goal::Elastic(objective, _) => Some(objective),
            Goal::Feasibility => None,
        }
    }

    fn column(&mut self, cost: f64) -> usize {
        self.linear.push(OBJECTIVE_SCALE * cost);
        self.linear.len() - 1
    }

    fn column_at_least_zero(&mut self, cost: f64) -> (usize, usize) {
        let column = self.column(cost);
        (column, self.inequalities.push([(column, -1.0)], 0.0))
    }

    fn add_columns(&mut self) {
        let objective = self.objective();
        for (i, b) in self.parts.boxes.iter().enumerate() {
            let (reward, fee) = objective.map_or((0.0, 0.0), |o| (o.reward[i], o.borrow_fees[i]));
            let mut columns = NameColumns::default();
            let mut rows = NameRows::default();
            if b.fixed.map_or(b.long > 0.0, |w| w > 0.0) {
                let (column, row) = self.column_at_least_zero(-reward);
                (columns.long, rows.long_floor) = (Some(column), Some(row));
                self.quadratic.push((column, column, REGULARISATION));
            }
            if b.fixed.map_or(b.short > 0.0, |w| w < 0.0) {
                let (column, row) = self.column_at_least_zero(reward + fee);
                (columns.short, rows.short_floor) = (Some(column), Some(row));
                self.quadratic.push((column, column, REGULARISATION));
            }
            columns.weight = match (columns.long, columns.short) {
                (Some(long), Some(short)) => {
                    let column = self.column(0.0);
                    let parts = [(long, 1.0), (short, -1.0), (column, -1.0)];
                    rows.weight = Some(self.equalities.push(parts, 0.0));
                    Some((column, 1.0))
                }
                (Some(long), None) => Some((long, 1.0)),
                (None, short) => short.map(|short| (short, -1.0)),
            };
            (self.columns[i], self.rows[i]) = (columns, rows);
        }
    }

    /// The weight of name `i`, times `value`.
    fn weight_of(&self, i: usize, value: f64) -> Option<(usize, f64)> {
        self.columns[i].weight.map(|(column, sign)| (column, sign * value))
    }

    fn parts_of(&self, i: usize, long: f64, short: f64) -> impl Iterator<Item = (usize, f64)> + use<> {
        let NameColumns { long: p, short: s, .. } = self.columns[i];
        [p.map(|c| (c, long)), s.map(|c| (c, short))].into_iter().flatten()
    }

    /// `p − s − b + a = current`, for every name whose trade costs something or is counted.
    fn add_trades(&mut self) {
        let counted = self.parts.rows.iter().any(|row| matches!(row.body, Body::Trades));
        for (i, b) in self.parts.boxes.iter().enumerate() {
            if let Some(weight) = b.fixed {
                let entry = self.weight_of(i, 1.0);
                self.rows[i].holding = entry.map(|entry| self.equalities.push([entry], weight));
                continue;
            }
            let cost = self.objective().map_or(0.0, |o| o.costs[i]);
            if counted || cost > 0.0 || b.max_trade.is_finite() {
                let (buy, buy_floor) = self.column_at_least_zero(cost);
                let (sell, sell_floor) = self.column_at_least_zero(cost);
                (self.columns[i].buy, self.columns[i].sell) = (Some(buy), Some(sell));
                let entries = self.weight_of(i, 1.0).into_iter().chain([(buy, -1.0), (sell, 1.0)]);
                self.rows[i] = NameRows {
                    holding: Some(self.equalities.push(entries, b.current)),
                    buy_floor: Some(buy_floor),
                    sell_floor: Some(sell_floor),
                    ..self.rows[i]
                };
            }
        }
    }

    fn add_caps(&mut self) {
        for (i, b) in self.parts.boxes.iter().enumerate().filter(|(_, b)| b.fixed.is_none()) {
            let NameColumns { long, short, buy, sell, .. } = self.columns[i];
            let (rows, own) = (&mut self.inequalities, &mut self.rows[i]);
            own.long = long.map(|column| rows.push([(column, 1.0)], b.long));
            own.short = short.map(|column| rows.push([(column, 1.0)], b.short));
            let trades = buy.zip(sell).filter(|_| b.max_trade.is_finite());
            own.trade = trades.map(|(buy, sell)| rows.push([(buy, 1.0), (sell, 1.0)], b.max_trade));
        }
    }

    /// `Fᵀ(p − s) − f = 0` and the quadratic risk.
    fn add_factors(&mut self) {
        let quadratic = self.objective().filter(|o| o.cvar_level.is_none());
        let limited = self.parts.rows.iter().any(|row| matches!(row.body, Body::Volatility));
        let Some(risk) = self.parts.risk.filter(|_| quadratic.is_some() || limited) else { return };
        let price = OBJECTIVE_SCALE * quadratic.map_or(0.0, |o| o.risk_aversion);
        self.factors = self.linear.len();
        for factor in 0..risk.factors() {
            let column = self.column(0.0);
            if price > 0.0 {
                self.quadratic.push((column, column, price));
            }
            let exposures = (0..self.parts.boxes.len())
                .filter(|&i| risk.exposures(i)[factor] != 0.0)
                .filter_map(|i| self.weight_of(i, risk.exposures(i)[factor]))
                .collect::<Vec<_>>();
            self.equalities.push(exposures.into_iter().chain([(column, -1.0)]), 0.0);
        }
        if price > 0.0 {
            for (i, d) in risk.specific().iter().enumerate().filter(|(_, d)| **d > 0.0) {
                self.quadratic.extend(self.weight_of(i, price * d).map(|(c, v)| (c, c, v.abs())));
            }
        }
    }

    /// Rockafellar and Uryasev's linear form: `threshold + Σ excess / ((1 − level)·T)`.
    fn add_tail(&mut self) {
        let Some((objective, level)) = self.objective().and_then(|o| Some((o, o.cvar_level?))) else {
            return;
        };
        let Some(scenarios) = self.parts.scenarios else { return };
        let rows = scenarios.rows();
        let weight = objective.risk_aversion / ((1.0 - level) * rows.len() as f64);
        let threshold = self.column(objective.risk_aversion);
        for returns in rows {
            let (excess, _) = self.column_at_least_zero(weight);
            let loss = returns
                .iter()
                .enumerate()
                .filter(|(_, r)| **r != 0.0)
                .filter_map(|(i, r)| self.weight_of(i, -r))
                .collect::<Vec<_>>();
            self.inequalities.push(loss.into_iter().chain([(threshold, -1.0), (excess, -1.0)]), 0.0);
        }
    }

    fn slack(&mut self, row: &SoftRow) -> Option<usize> {
        let price = match self.goal {
            Goal::Optimise(_) => return None,
            Goal::Elastic(_, factor) => row.price * factor / OBJECTIVE_SCALE,
            Goal::Feasibility => 1.0,
        };
        Some(self.column_at_least_zero(price).0)
    }

    fn add_soft(&mut self, row: &SoftRow) -> Place {
        let slack = self.slack(row);
        if let Body::Volatility = row.body {
            return self.add_volatility(row, slack);
        }
        let (mut entries, mut bound) = (Vec::new(), row.bound());
        match &row.body {
            Body::Weights(body) => {
                entries.extend(body.iter().flat_map(|e| self.parts_of(e.name, e.long, e.short)));
            }
            Body::Trades => {
                entries.extend(self.columns.iter().flat_map(|c| [c.buy, c.sell]).flatten().map(|c| (c, 0.5)));
                let fixed = |b: &WeightBox| b.fixed.map_or(0.0, |w| (w - b.current).abs());
                bound -= 0.5 * self.parts.boxes.iter().map(fixed).sum::<f64>();
            }
            Body::Volatility => {}
        }
        match row.clause.side {
            Side::Equal(_) => {
                if let Some(over) = slack {
                    let (under, _) = self.column_at_least_zero(self.linear[over] / OBJECTIVE_SCALE);
                    entries.extend([(over, -1.0), (under, 1.0)]);
                }
                Place::Equality(self.equalities.push(entries, bound))
            }
            Side::Min(_) => {
                entries.iter_mut().for_each(|(_, value)| *value = -*value);
                entries.extend(slack.map(|column| (column, -1.0)));
                Place::Inequality(self.inequalities.push(entries, -bound))
            }
            Side::Max(_) | Side::Whole => {
                entries.extend(slack.map(|column| (column, -1.0)));
                Place::Inequality(self.inequalities.push(entries, bound))
            }
        }
    }

    /// `‖(f, √d · w)‖ ≤ bound + ξ · average volatility`.
    fn add_volatility(&mut self, row: &SoftRow, slack: Option<usize>) -> Place {
        let Some(risk) = self.parts.risk else { return Place::Cone };
        let n = self.parts.boxes.len();
        let average = (0..n).map(|i| risk.variance_of(i).sqrt()).sum::<f64>() / n as f64;
        self.cone.push(slack.map(|column| (column, -average)), row.bound());
        for factor in 0..risk.factors() {
            self.cone.push([(self.factors + factor, -1.0)], 0.0);
        }
        for (i, d) in risk.specific().iter().enumerate().filter(|(_, d)| **d > 0.0) {
            let entry = self.weight_of(i, -d.sqrt());
            self.rows[i].specific = entry.map(|entry| self.cone.push([entry], 0.0));
        }
        Place::Cone
    }

    fn finish(self, places: &[Place]) -> Program {
        let columns = self.linear.len();
        let (equal, unequal, conic) =
            (self.equalities.rhs.len(), self.inequalities.rhs.len(), self.cone.rhs.len());
        let mut cones = vec![SupportedConeT::ZeroConeT(equal), SupportedConeT::NonnegativeConeT(unequal)];
        if conic > 0 {
            cones.push(SupportedConeT::SecondOrderConeT(conic));
        }
        let shifted = |rows: &Rows, by: usize| {
            rows.triplets.iter().map(move |&(r, c, v)| (r + by, c, v)).collect::<Vec<_>>()
        };
        let mut entries = shifted(&self.equalities, 0);
        entries.extend(shifted(&self.inequalities, equal));
        entries.extend(shifted(&self.cone, equal + unequal));
        let b = [self.equalities.rhs, self.inequalities.rhs, self.cone.rhs].concat();
        let soft = places.iter().map(|place| match place {
            Place::Equality(row) => *row,
            Place::Inequality(row) => row + equal,
            Place::Cone => equal + unequal,
        });
        Program {
            soft: soft.collect(),
            rows: self.rows.iter().map(|rows| rows.stacked(equal, unequal)).collect(),
            columns: self.columns,
            conic: ConicProgram {
                p: csc(columns, columns, self.quadratic),
                q: self.linear,
                a: csc(b.len(), columns, entries),
                b,
                cones,
            },
        }
    }
}

/// Compressed columns from triplets; entries of the same place add up.
fn csc(rows: usize, columns: usize, mut triplets: Vec<(usize, usize, f64)>) -> CscMatrix<f64> {
    triplets.sort_by_key(|&(row, column, _)| (column, row));
    triplets.dedup_by(|next, kept| {
        let same = (next.0, next.1) == (kept.0, kept.1);
        if same {
            kept.2 += next.2;
        }
        same
    });
    let (mut rowval, mut colval, mut nzval) = (Vec::new(), Vec::new(), Vec::new());
    for (row, column, value) in triplets {
        rowval.push(row);
        colval.push(column);
        nzval.push(value);
    }
    let mut colptr = vec![0; columns + 1];
    colval.iter().for_each(|&column: &usize| colptr[column + 1] += 1);
    for column in 0..columns {
        colptr[column + 1] += colptr[column];
    }
    CscMatrix::new(rows, columns, colptr, rowval, nzval)
}
