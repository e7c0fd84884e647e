//! Why the book looks as it does: binding rules, shadow prices, contributions to risk and cost, slack of every rule.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::book::{Book, DUST, RULE_TOLERANCE, Solved, held};
use crate::bounds::WeightBox;
use crate::conic::{KktResiduals, OBJECTIVE_SCALE};
use crate::problem::{DEFAULT_CVAR_LEVEL, Halt, Method};
use crate::rule::{Clause, Rule, Side};
use crate::soft::{Body, one_way_turnover};

/// Shadow price, in basis points per unit, below which a multiplier is the solver's rounding.
const PRICE_TOLERANCE: f64 = 1e-3;

/// How the book came about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Every rule holds and the objective is optimal (given the names fixed by order rules).
    Optimal,
    /// Some soft rules are broken, by the amounts in [`RuleResult::violation`].
    Relaxed,
    /// No book was found; the weights are the current ones.
    Held,
}

/// What befell one name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NameStatus {
    /// Not traded because of a halt.
    Frozen,
    /// May only shrink.
    ReduceOnly,
    /// May only shrink because of a veto.
    Vetoed,
    /// Held short although it can no longer be borrowed: not enlarged, not force-covered.
    LostBorrow,
    /// Held beyond its cap: not enlarged, not force-reduced.
    Grandfathered,
    /// Left alone because the trade would be below the minimum notional.
    HeldBelowMinNotional,
    /// Trades below the minimum notional because the rules leave no book without it.
    TradesBelowMinNotional,
    /// Short rounded to whole shares.
    RoundedToShares,
    /// Short not in whole shares because the rules leave no book with it rounded.
    FractionalShort,
    /// Emptied to keep the number of names.
    MaxNames,
}

impl fmt::Display for NameStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Frozen => "frozen",
            Self::ReduceOnly => "reduce_only",
            Self::Vetoed => "vetoed",
            Self::LostBorrow => "lost_borrow",
            Self::Grandfathered => "grandfathered",
            Self::HeldBelowMinNotional => "held_below_min_notional",
            Self::TradesBelowMinNotional => "trades_below_min_notional",
            Self::RoundedToShares => "rounded_to_shares",
            Self::FractionalShort => "fractional_short",
            Self::MaxNames => "max_names",
        })
    }
}

/// A rule that holds with equality for one name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Binding {
    /// Label: `max_weight`, `min_weight`, `borrow`, `adv_weight`, `halt`, or a rule such as `group_sector=tech`.
    pub rule: String,
    /// What one more unit of weight would be worth, in basis points.
    pub shadow_price_bps: f64,
}

/// One name of the book.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NameResult {
    /// The name.
    pub symbol: String,
    /// Target weight.
    pub weight: f64,
    /// Weight held before.
    pub previous_weight: f64,
    /// Target less held.
    pub trade: f64,
    /// Share of the book's variance, or of its conditional value at risk; the shares sum to one.
    pub risk_share: f64,
    /// Cost of the trade and of borrowing, as a fraction of equity.
    pub cost: f64,
    /// Rules that hold with equality.
    pub bindings: Vec<Binding>,
    /// What befell the name; absent: nothing.
    pub status: Option<NameStatus>,
}

/// One soft rule of the book.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RuleResult {
    /// The rule and its bound.
    pub clause: Clause,
    /// Its value in the book.
    pub value: f64,
    /// Distance to the bound; negative where broken.
    pub slack: f64,
    /// What one more unit of the bound would be worth, in basis points of return.
    pub shadow_price_bps: f64,
    /// By how much the rule is broken.
    pub violation: f64,
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Allocation {
    /// How the book came about.
    pub status: Status,
    /// The names, in the order of the problem.
    pub names: Vec<NameResult>,
    /// The soft rules.
    pub rules: Vec<RuleResult>,
    /// The rules that could not be met together; empty if all were.
    pub conflict: Vec<Clause>,
    /// Value of the minimised objective, in return: risk and costs less reward.
    pub objective: f64,
    /// Expected return before costs.
    pub expected_return: f64,
    /// Volatility by the risk model.
    pub volatility: Option<f64>,
    /// Conditional value at risk by the scenarios.
    pub cvar: Option<f64>,
    /// Trading and borrowing costs.
    pub cost: f64,
    /// Sum of absolute weights.
    pub gross: f64,
    /// Sum of weights.
    pub net: f64,
    /// Half the sum of absolute trades.
    pub turnover: f64,
    /// Names with a weight.
    pub held: usize,
    /// Programs solved.
    pub solves: u32,
    /// Interior-point iterations over all of them.
    pub iterations: u32,
    /// Residuals of the last program.
    pub residuals: KktResiduals,
}

/// Describes `solved`, or the current book where there is none.
pub(crate) fn explain(
    book: &Book<'_>,
    solved: Option<&Solved>,
    notes: Vec<Option<NameStatus>>,
    status: Status,
    conflict: Vec<Clause>,
) -> Allocation {
    let current: Vec<f64> = book.boxes.iter().map(|b| b.current).collect();
    let w = solved.map_or(&current, |s| &s.weights);
    let level = book.problem.cvar_level.unwrap_or(DEFAULT_CVAR_LEVEL);
    let tail = book.scenarios.as_ref().map(|s| s.mean_tail_loss(w, level));
    let covariance = book.risk.as_ref().map(|risk| risk.covariance_with(w));
    let contribution = |marginal: &Vec<f64>| marginal.iter().zip(w).map(|(m, w)| m * w).collect::<Vec<f64>>();
    let by_tail = book.problem.method == Method::Cvar;
    let risk =
        if by_tail { &tail } else { &covariance }.as_ref().map_or_else(|| vec![0.0; w.len()], contribution);
    let total_risk: f64 = risk.iter().sum();

    let o = &book.objective;
    let cost =
        |i: usize| o.costs[i] * (w[i] - current[i]).abs() + book.names[i].borrow_fee * (-w[i]).max(0.0);
    let total_cost: f64 = (0..w.len()).map(cost).sum();
    let reward: f64 = w.iter().zip(&o.reward).map(|(w, r)| w * r).sum();
    let rules = rule_results(book, solved, w);
    let mut bindings = name_bindings(book, solved, w, &rules);
    let results: Vec<NameResult> = (0..w.len())
        .map(|i| NameResult {
            symbol: book.names[i].symbol.clone(),
            weight: w[i],
            previous_weight: current[i],
            trade: w[i] - current[i],
            risk_share: if risk[i] == 0.0 { 0.0 } else { risk[i] / total_risk },
            cost: cost(i),
            bindings: std::mem::take(&mut bindings[i]),
            status: notes.get(i).copied().flatten().or_else(|| box_status(book, i, w[i])),
        })
        .collect();
    let mut in_problem_order: Vec<(usize, NameResult)> = book.order.iter().copied().zip(results).collect();
    in_problem_order.sort_by_key(|(position, _)| *position);
    Allocation {
        status,
        names: in_problem_order.into_iter().map(|(_, result)| result).collect(),
        rules,
        conflict,
        objective: o.risk_aversion * if by_tail { total_risk } else { 0.5 * total_risk } - reward
            + total_cost,
        expected_return: w.iter().zip(&book.names).map(|(w, name)| w * name.expected_return).sum(),
        volatility: book.risk.as_ref().map(|risk| risk.variance(w).sqrt()),
        cvar: tail.map(|tail| contribution(&tail).iter().sum()),
        cost: total_cost,
        gross: w.iter().map(|w| w.abs()).sum(),
        net: w.iter().sum(),
        turnover: one_way_turnover(&book.boxes, w),
        held: held(w),
        solves: book.solves.get(),
        iterations: book.iterations.get(),
        residuals: solved.map_or_else(KktResiduals::default, |s| s.point.residuals),
    }
}

fn rule_results(book: &Book<'_>, solved: Option<&Solved>, w: &[f64]) -> Vec<RuleResult> {
    let result = |(k, row): (usize, &crate::soft::SoftRow)| {
        let value = book.value(row, w);
        let price = solved.map_or(0.0, |s| s.point.z[s.program.soft[k]]);
        RuleResult {
            clause: row.clause.clone(),
            value,
            slack: row.slack(value),
            shadow_price_bps: if price.abs() < PRICE_TOLERANCE { 0.0 } else { price },
            violation: Some(row.violation(value)).filter(|v| *v > RULE_TOLERANCE).unwrap_or(0.0),
        }
    };
    let mut results: Vec<RuleResult> = book.rows.iter().enumerate().map(result).collect();
    if let Some(limit) = book.problem.orders.max_names {
        let slack = limit as f64 - held(w) as f64;
        results.push(RuleResult {
            clause: Clause { rule: Rule::MaxNames, side: Side::Max(limit as f64) },
            value: held(w) as f64,
            slack,
            shadow_price_bps: 0.0,
            violation: (-slack).max(0.0),
        });
    }
    results
}

fn name_bindings(
    book: &Book<'_>,
    solved: Option<&Solved>,
    w: &[f64],
    rules: &[RuleResult],
) -> Vec<Vec<Binding>> {
    let mut bindings = vec![Vec::new(); w.len()];
    let Some(solved) = solved else { return bindings };
    let dual = |row: Option<usize>| row.map_or(0.0, |r| solved.point.z[r]);
    // What the long and short side of each name pay to the soft rows together, for the price of a closed short side.
    let mut both_sides = vec![OBJECTIVE_SCALE; w.len()];
    both_sides.iter_mut().zip(&book.objective.borrow_fees).for_each(|(v, fee)| *v *= fee);
    let mut push = |i: usize, rule: &str, price: f64| {
        let price = if price.abs() < PRICE_TOLERANCE { 0.0 } else { price };
        bindings[i].push(Binding { rule: rule.to_owned(), shadow_price_bps: price });
    };
    for ((row, result), place) in book.rows.iter().zip(rules).zip(&solved.program.soft) {
        let binds = result.slack <= RULE_TOLERANCE;
        let label = match row.clause.rule {
            Rule::MinWeight { .. } => "min_weight".to_owned(),
            Rule::MaxWeight { .. } => "max_weight".to_owned(),
            ref rule => rule.to_string(),
        };
        match &row.body {
            Body::Weights(entries) => {
                for e in entries.iter() {
                    let sign = if matches!(row.clause.side, Side::Min(_)) { -1.0 } else { 1.0 };
                    both_sides[e.name] += sign * solved.point.z[*place] * (e.long + e.short);
                    if binds {
                        push(e.name, &label, result.shadow_price_bps);
                    }
                }
            }
            Body::Trades | Body::Volatility if binds => {
                let concerned = |i: usize| matches!(row.body, Body::Trades) || w[i] != 0.0;
                (0..w.len()).filter(|&i| concerned(i)).for_each(|i| push(i, &label, result.shadow_price_bps));
            }
            Body::Trades | Body::Volatility => {}
        }
    }
    for (i, b) in book.boxes.iter().enumerate() {
        let rows = solved.program.rows[i];
        let at_short_cap = rows.short.is_some() && (w[i] + b.short).abs() <= RULE_TOLERANCE;
        if b.fixed.is_some() && book.names[i].halt == Halt::Frozen {
            push(i, "halt", 0.0);
        } else if rows.long.is_some() && (w[i] - b.long).abs() <= RULE_TOLERANCE {
            let halted = book.names[i].halt != Halt::None || book.names[i].veto;
            push(i, if halted { "halt" } else { "max_weight" }, dual(rows.long));
        } else if at_short_cap {
            let halted = book.names[i].halt != Halt::None || book.names[i].veto;
            push(
                i,
                if b.lost_borrow {
                    "borrow"
                } else if halted {
                    "halt"
                } else {
                    "min_weight"
                },
                dual(rows.short),
            );
        } else if b.lost_borrow && b.short == 0.0 && w[i].abs() < DUST {
            // Selling the name short would gain what the bound `long ≥ 0` costs, less fees and both sides' rules.
            let gain = dual(rows.long_floor) - both_sides[i];
            if gain > PRICE_TOLERANCE {
                push(i, "borrow", gain);
            }
        }
        if rows.trade.is_some() && ((w[i] - b.current).abs() - b.max_trade).abs() <= RULE_TOLERANCE {
            push(i, "adv_weight", dual(rows.trade));
        }
    }
    bindings
}

fn box_status(book: &Book<'_>, i: usize, w: f64) -> Option<NameStatus> {
    let (name, b): (_, &WeightBox) = (book.names[i], &book.boxes[i]);
    match name.halt {
        Halt::Frozen => Some(NameStatus::Frozen),
        Halt::ReduceOnly => Some(NameStatus::ReduceOnly),
        Halt::None if name.veto => Some(NameStatus::Vetoed),
        Halt::None if b.lost_borrow && w < 0.0 => Some(NameStatus::LostBorrow),
        Halt::None if w > b.cap_long + RULE_TOLERANCE || -w > b.cap_short + RULE_TOLERANCE => {
            Some(NameStatus::Grandfathered)
        }
        Halt::None => None,
    }
}
