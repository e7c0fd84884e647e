//! Incompatible rules: the named set is infeasible, and feasible without any one of its members.
#![allow(clippy::unwrap_used, clippy::panic)]

mod cases;

use std::collections::BTreeMap;

use cases::{Random, name, random_problem, solve};
use kronos_allocation::{
    AllocationError, Clause, FactorModel, GroupLimit, Halt, Interval, OnInfeasible, Problem, Rule, Side,
    Status,
};

fn conflict(problem: &Problem) -> Vec<Clause> {
    match solve(problem) {
        Err(AllocationError::Infeasible { conflict }) => conflict,
        other => panic!("expected a conflict, got {other:?}"),
    }
}

fn labels(conflict: &[Clause]) -> Vec<String> {
    conflict.iter().map(Clause::to_string).collect()
}

/// Opens one end of an interval.
fn open(interval: &mut Interval, side: Side) {
    if matches!(side, Side::Min(_) | Side::Equal(_)) {
        interval.lower = None;
    }
    if matches!(side, Side::Max(_) | Side::Equal(_)) {
        interval.upper = None;
    }
}

/// The problem as a user would state it without that rule.
fn without(problem: &Problem, clause: &Clause) -> Problem {
    let mut problem = problem.clone();
    let limits = &mut problem.limits;
    let group_limit =
        |limits: &mut kronos_allocation::Limits, key: &str, group: &str, edit: &dyn Fn(&mut GroupLimit)| {
            let groups = limits.groups.get_mut(key).unwrap();
            let mut limit = *groups.get(group).or_else(|| groups.get("*")).unwrap();
            edit(&mut limit);
            groups.insert(group.into(), limit);
        };
    match &clause.rule {
        Rule::Net => open(&mut limits.net, clause.side),
        Rule::Gross => limits.gross = None,
        Rule::Cash => limits.cash = None,
        Rule::MaxTurnover => limits.max_turnover = None,
        Rule::TargetVol => limits.target_vol = None,
        Rule::GroupNet { key, group } => group_limit(limits, key, group, &|l| open(&mut l.net, clause.side)),
        Rule::GroupGross { key, group } => group_limit(limits, key, group, &|l| l.gross = None),
        Rule::Factor { key } => open(limits.factors.get_mut(key).unwrap(), clause.side),
        Rule::MinWeight { symbol } => {
            problem.names.iter_mut().filter(|n| n.symbol == *symbol).for_each(|n| n.min_weight = Some(-0.05));
        }
        Rule::MaxWeight { symbol } => {
            problem.names.iter_mut().filter(|n| n.symbol == *symbol).for_each(|n| n.max_weight = Some(0.05));
        }
        Rule::WeightBounds => {
            limits.weight_bounds = Interval::default();
            // A forced position is a rule of its own.
            for n in &mut problem.names {
                n.min_weight = n.min_weight.filter(|w| *w > 0.0);
                n.max_weight = n.max_weight.filter(|w| *w < 0.0);
            }
        }
        Rule::Shortable => problem.names.iter_mut().for_each(|n| n.shortable = Some(true)),
        Rule::Halt => problem.names.iter_mut().for_each(|n| (n.halt, n.veto) = (Halt::None, false)),
        Rule::AdvWeight => problem.names.iter_mut().for_each(|n| n.max_trade = None),
        Rule::MaxNames => problem.orders.max_names = None,
    }
    problem
}

/// Every clause of the problem, whether it binds or not.
fn clauses(problem: &Problem) -> Vec<Clause> {
    let relaxed = solve(&Problem { on_infeasible: OnInfeasible::Relax, ..problem.clone() }).unwrap();
    let hard = [Rule::WeightBounds, Rule::Shortable, Rule::Halt, Rule::AdvWeight];
    let hard = hard.into_iter().map(|rule| Clause { rule, side: Side::Whole });
    relaxed.rules.into_iter().map(|rule| rule.clause).chain(hard).collect()
}

/// Stated with these rules alone the problem is infeasible, and feasible with any one of them gone.
fn assert_irreducible(problem: &Problem, conflict: &[Clause]) {
    assert!(!conflict.is_empty());
    let others = clauses(problem).into_iter().filter(|clause| !conflict.contains(clause));
    let alone = others.fold(problem.clone(), |problem, clause| without(&problem, &clause));
    assert!(matches!(solve(&alone), Err(AllocationError::Infeasible { .. })), "{:?}", labels(conflict));
    for clause in conflict {
        match solve(&without(&alone, clause)) {
            Ok(answer) => assert_eq!(answer.status, Status::Optimal),
            Err(error) => panic!("without {clause}: {error}"),
        }
    }
}

#[test]
fn net_beyond_turnover_names_both() {
    let mut problem = random_problem(1, 40);
    problem.names.iter_mut().for_each(|n| n.current_weight = 0.0);
    problem.limits.groups.clear();
    problem.limits.net = Interval::new(0.9, 1.0);
    let conflict = conflict(&problem);
    assert_eq!(labels(&conflict), ["max_turnover 0.15", "net min 0.9"]);
    assert_irreducible(&problem, &conflict);
}

#[test]
fn dollar_neutral_with_a_long_sector_and_little_turnover() {
    let mut problem = random_problem(2, 60);
    problem.names.iter_mut().for_each(|n| n.current_weight = 0.0);
    let forced = GroupLimit { net: Interval::new(0.3, 0.4), gross: None };
    problem.limits.groups =
        BTreeMap::from([("group_sector".into(), BTreeMap::from([("tech".into(), forced)]))]);
    problem.limits.net = Interval::new(0.0, 0.0);
    problem.limits.max_turnover = Some(0.05);
    let conflict = conflict(&problem);
    assert_eq!(labels(&conflict), ["max_turnover 0.05", "group_sector=tech min 0.3"]);
    assert_irreducible(&problem, &conflict);
}

#[test]
fn caps_too_small_for_the_net_are_named() {
    let mut problem = random_problem(3, 5);
    problem.limits = kronos_allocation::Limits {
        weight_bounds: Interval::new(0.0, 0.1),
        net: Interval::new(1.0, 1.0),
        ..Default::default()
    };
    problem.names.iter_mut().for_each(|n| (n.max_trade, n.current_weight, n.halt) = (None, 0.0, Halt::None));
    let conflict = conflict(&problem);
    assert_eq!(labels(&conflict), ["net [1,1]", "weight_bounds"]);
    assert_irreducible(&problem, &conflict);
}

#[test]
fn a_market_that_cannot_be_shorted_cannot_be_neutral() {
    let mut problem = random_problem(4, 10);
    problem.limits = kronos_allocation::Limits {
        weight_bounds: Interval::new(-0.5, 0.5),
        net: Interval::new(0.0, 0.0),
        ..Default::default()
    };
    for n in &mut problem.names {
        (n.shortable, n.max_trade, n.current_weight, n.halt) = (Some(false), None, 0.0, Halt::None);
    }
    problem.names[3].min_weight = Some(0.2);
    let conflict = conflict(&problem);
    assert_eq!(labels(&conflict), ["min_weight of S0003 min 0.2", "net [0,0]", "shortable"]);
    assert_irreducible(&problem, &conflict);
}

#[test]
fn frozen_positions_above_the_gross_limit() {
    let mut problem = random_problem(5, 4);
    problem.limits = kronos_allocation::Limits { gross: Some(0.5), ..Default::default() };
    for n in &mut problem.names {
        (n.halt, n.current_weight, n.max_trade) = (Halt::Frozen, 0.2, None);
    }
    let conflict = conflict(&problem);
    assert_eq!(labels(&conflict), ["gross 0.5", "halt"]);
    assert_irreducible(&problem, &conflict);
}

#[test]
fn a_volatility_below_what_a_forced_book_must_have() {
    let names = vec![name("A", 0.001), name("B", 0.001)];
    let risk = FactorModel::from_covariance(&[4e-4, 0.0, 0.0, 4e-4], 2).unwrap();
    let mut problem = Problem { names, risk: Some(risk), ..Problem::default() };
    problem.limits.net = Interval::new(1.0, 1.0);
    problem.limits.target_vol = Some(0.01);
    let conflict = conflict(&problem);
    assert_eq!(labels(&conflict), ["net [1,1]", "target_vol 0.01"]);
    assert_irreducible(&problem, &conflict);
}

#[test]
fn random_conflicts_are_irreducible() {
    let mut found = 0;
    for seed in 0..120 {
        let r = &mut Random(seed + 10_000);
        let mut problem = random_problem(seed, 8 + (seed % 30) as usize);
        problem.limits.net = Interval::new(r.uniform(0.2, 0.8), 0.9);
        problem.limits.max_turnover = Some(r.uniform(0.05, 0.5));
        problem.limits.gross = Some(r.uniform(0.3, 0.9));
        problem.limits.factors =
            BTreeMap::from([("factor_beta".into(), Interval::new(-0.1, r.uniform(0.0, 0.5)))]);
        match solve(&problem) {
            Ok(_) => {}
            Err(AllocationError::Infeasible { conflict }) => {
                found += 1;
                assert_irreducible(&problem, &conflict);
            }
            Err(error) => panic!("seed {seed}: {error}"),
        }
    }
    assert!(found >= 60, "only {found} of 120 problems conflict");
}

#[test]
fn report_keeps_the_book_and_names_the_conflict() {
    let mut problem = random_problem(1, 40);
    problem.limits.net = Interval::new(0.9, 1.0);
    problem.on_infeasible = OnInfeasible::Report;
    let answer = solve(&problem).unwrap();
    assert_eq!(answer.status, Status::Held);
    assert!(answer.names.iter().all(|n| n.weight == n.previous_weight && n.trade == 0.0));
    assert!(labels(&answer.conflict).contains(&"net min 0.9".to_owned()));
}

#[test]
fn the_ladder_breaks_the_cheapest_rule_first_and_no_more_than_needed() {
    let mut problem = random_problem(6, 60);
    for n in &mut problem.names {
        (n.current_weight, n.max_trade, n.halt, n.shortable) = (0.0, None, Halt::None, Some(true));
    }
    problem.limits.groups.clear();
    problem.limits.net = Interval::new(0.5, 0.9);
    problem.on_infeasible = OnInfeasible::Relax;
    let answer = solve(&problem).unwrap();
    assert_eq!(answer.status, Status::Relaxed);
    let broken: Vec<_> = answer.rules.iter().filter(|rule| rule.violation > 0.0).collect();
    assert_eq!(broken.len(), 1);
    assert_eq!(broken[0].clause.rule, Rule::MaxTurnover);
    // From an empty book, a net of 0.5 needs one-way turnover of 0.25; the limit is 0.15.
    assert!((broken[0].violation - 0.10).abs() < 1e-6, "{}", broken[0].violation);

    // With turnover dearest of all, net yields instead.
    problem.relaxation.turnover = 10_000.0;
    let answer = solve(&problem).unwrap();
    let broken: Vec<_> = answer.rules.iter().filter(|rule| rule.violation > 0.0).collect();
    assert_eq!(broken.len(), 1);
    assert_eq!(broken[0].clause.rule, Rule::Net);
    assert!((broken[0].violation - 0.20).abs() < 1e-6, "{}", broken[0].violation);
}
