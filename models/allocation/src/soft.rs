//! Soft rules as rows over the weights: what the elastic ladder may relax and a conflict may name.

use std::collections::BTreeMap;
use std::rc::Rc;

use crate::bounds::WeightBox;
use crate::problem::{GroupLimit, Interval, Name, Problem};
use crate::rule::{Clause, Rule, Side};

/// Coefficients of one name in a row: on its long part and on its short part.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry {
    pub name: usize,
    pub long: f64,
    pub short: f64,
}

/// The left-hand side of a soft row.
#[derive(Clone, Debug)]
pub(crate) enum Body {
    /// A sum over long and short parts.
    Weights(Rc<[Entry]>),
    /// Half the sum of absolute trades.
    Trades,
    /// The volatility of the book.
    Volatility,
}

/// One clause with its left-hand side and its price of relaxation.
#[derive(Clone, Debug)]
pub(crate) struct SoftRow {
    pub clause: Clause,
    pub body: Body,
    pub price: f64,
}

impl SoftRow {
    pub fn bound(&self) -> f64 {
        match self.clause.side {
            Side::Min(bound) | Side::Max(bound) | Side::Equal(bound) => bound,
            Side::Whole => f64::NAN,
        }
    }

    /// By how much a value of the left-hand side breaks the row; zero where it holds.
    pub fn violation(&self, value: f64) -> f64 {
        match self.clause.side {
            Side::Min(bound) => (bound - value).max(0.0),
            Side::Max(bound) => (value - bound).max(0.0),
            Side::Equal(bound) => (value - bound).abs(),
            Side::Whole => 0.0,
        }
    }

    /// Distance to the bound, negative where the row is broken.
    pub fn slack(&self, value: f64) -> f64 {
        match self.clause.side {
            Side::Min(bound) => value - bound,
            Side::Max(bound) => bound - value,
            Side::Equal(bound) => -(value - bound).abs(),
            Side::Whole => 0.0,
        }
    }
}

/// Value of a weight row at the weights `w`.
pub(crate) fn weight_value(entries: &[Entry], w: &[f64]) -> f64 {
    entries.iter().map(|e| e.long * w[e.name].max(0.0) + e.short * (-w[e.name]).max(0.0)).sum()
}

/// Half the sum of absolute trades.
pub(crate) fn one_way_turnover(boxes: &[WeightBox], w: &[f64]) -> f64 {
    0.5 * boxes.iter().zip(w).map(|(b, w)| (w - b.current).abs()).sum::<f64>()
}

/// Every soft rule of the problem, for names in canonical order.
pub(crate) fn soft_rows(problem: &Problem, names: &[&Name], boxes: &[WeightBox]) -> Vec<SoftRow> {
    let mut rows = RowBuilder { problem, rows: Vec::new() };
    let limits = &problem.limits;
    if let Some(turnover) = limits.max_turnover {
        rows.push(Rule::MaxTurnover, Side::Max(turnover), Body::Trades);
    }
    for (key, groups) in &limits.groups {
        let mut members: BTreeMap<&str, Vec<usize>> =
            groups.keys().filter(|group| *group != "*").map(|group| (group.as_str(), Vec::new())).collect();
        for (i, name) in names.iter().enumerate() {
            if let Some(group) = name.groups.get(key) {
                members.entry(group).or_default().push(i);
            }
        }
        for (group, members) in members {
            if let Some(limit) = groups.get(group).or_else(|| groups.get("*")) {
                rows.group(key, group, limit, &members);
            }
        }
    }
    for (key, interval) in &limits.factors {
        let entries = names.iter().enumerate().filter_map(|(name, n)| {
            n.factors.get(key).filter(|x| **x != 0.0).map(|&x| Entry { name, long: x, short: -x })
        });
        rows.interval(Rule::Factor { key: key.clone() }, *interval, entries.collect());
    }
    for (i, (name, b)) in names.iter().zip(boxes).enumerate() {
        let own = || Body::Weights(Rc::new([Entry { name: i, long: 1.0, short: -1.0 }]));
        if b.floor > 0.0 {
            rows.push(Rule::MinWeight { symbol: name.symbol.clone() }, Side::Min(b.floor), own());
        }
        if b.ceiling < 0.0 {
            rows.push(Rule::MaxWeight { symbol: name.symbol.clone() }, Side::Max(b.ceiling), own());
        }
    }
    let all =
        |long: f64, short: f64| (0..names.len()).map(|name| Entry { name, long, short }).collect::<Rc<[_]>>();
    rows.interval(Rule::Net, limits.net, all(1.0, -1.0));
    if let Some(vol) = limits.target_vol {
        rows.push(Rule::TargetVol, Side::Max(vol), Body::Volatility);
    }
    if let Some(cash) = limits.cash {
        rows.push(Rule::Cash, Side::Max(1.0 - cash.reserve), Body::Weights(all(1.0, cash.short_margin)));
    }
    if let Some(gross) = limits.gross {
        rows.push(Rule::Gross, Side::Max(gross), Body::Weights(all(1.0, 1.0)));
    }
    rows.rows
}

struct RowBuilder<'a> {
    problem: &'a Problem,
    rows: Vec<SoftRow>,
}

impl RowBuilder<'_> {
    fn push(&mut self, rule: Rule, side: Side, body: Body) {
        let price = self.problem.relaxation.of(&rule);
        self.rows.push(SoftRow { clause: Clause { rule, side }, body, price });
    }

    fn interval(&mut self, rule: Rule, interval: Interval, entries: Rc<[Entry]>) {
        match (interval.lower, interval.upper) {
            (Some(lower), Some(upper)) if lower == upper => {
                self.push(rule, Side::Equal(lower), Body::Weights(entries));
            }
            (lower, upper) => {
                if let Some(lower) = lower {
                    self.push(rule.clone(), Side::Min(lower), Body::Weights(Rc::clone(&entries)));
                }
                if let Some(upper) = upper {
                    self.push(rule, Side::Max(upper), Body::Weights(entries));
                }
            }
        }
    }

    fn group(&mut self, key: &str, group: &str, limit: &GroupLimit, members: &[usize]) {
        let entries =
            |short: f64| members.iter().map(|&name| Entry { name, long: 1.0, short }).collect::<Rc<[_]>>();
        let (key, group) = (key.to_owned(), group.to_owned());
        self.interval(Rule::GroupNet { key: key.clone(), group: group.clone() }, limit.net, entries(-1.0));
        if let Some(gross) = limit.gross {
            self.push(Rule::GroupGross { key, group }, Side::Max(gross), Body::Weights(entries(1.0)));
        }
    }
}
