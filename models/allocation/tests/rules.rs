//! One scenario per trading rule: halts, lost borrow, drift, no forecasts, order rules, size.
#![allow(clippy::unwrap_used, clippy::panic)]

mod cases;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use cases::{name, random_problem, solve};
use kronos_allocation::{
    Allocation, AllocationError, CancelCheck, FactorModel, GroupLimit, Halt, Interval, Limits, Name,
    NameResult, NameStatus, OnInfeasible, Problem, Rule, Status, allocate,
};

/// Four uncorrelated names of 2 % volatility, two a sector.
fn four(edit: impl Fn(usize, &mut Name)) -> Problem {
    let names = ["AAA", "BBB", "CCC", "DDD"].iter().enumerate().map(|(i, symbol)| {
        let sector = if i < 2 { "tech" } else { "util" };
        let mut name = Name {
            groups: BTreeMap::from([("group_sector".into(), sector.into())]),
            ..name(symbol, [0.002, 0.001, -0.001, -0.002][i])
        };
        edit(i, &mut name);
        name
    });
    Problem {
        names: names.collect(),
        risk: Some(FactorModel::new(0, vec![], vec![4e-4; 4]).unwrap()),
        limits: Limits { weight_bounds: Interval::new(-0.3, 0.5), ..Limits::default() },
        ..Problem::default()
    }
}

fn find<'a>(answer: &'a Allocation, symbol: &str) -> &'a NameResult {
    answer.names.iter().find(|name| name.symbol == symbol).unwrap()
}

fn binds(name: &NameResult, rule: &str) -> bool {
    name.bindings.iter().any(|binding| binding.rule == rule)
}

#[test]
fn a_halted_name_may_only_shrink() {
    let problem = four(|i, n| {
        if i == 0 {
            (n.current_weight, n.halt) = (0.1, Halt::ReduceOnly);
        }
        if i == 3 {
            (n.current_weight, n.halt, n.expected_return) = (-0.2, Halt::ReduceOnly, 0.002);
        }
    });
    let answer = solve(&problem).unwrap();
    let (up, down) = (find(&answer, "AAA"), find(&answer, "DDD"));
    assert!((up.weight - 0.1).abs() < 1e-7, "would buy, may not: {}", up.weight);
    assert_eq!(up.status, Some(NameStatus::ReduceOnly));
    assert!(binds(up, "halt"));
    assert_eq!(down.weight, 0.0, "covers the whole short but does not turn long");
}

#[test]
fn a_frozen_name_does_not_trade_even_beyond_its_cap() {
    let answer = solve(&four(|i, n| {
        if i == 1 {
            (n.current_weight, n.halt) = (0.7, Halt::Frozen);
        }
    }))
    .unwrap();
    let frozen = find(&answer, "BBB");
    assert_eq!((frozen.weight, frozen.trade), (0.7, 0.0));
    assert_eq!(frozen.status, Some(NameStatus::Frozen));
    assert!(binds(frozen, "halt"));
}

#[test]
fn a_name_that_lost_its_borrow_is_neither_enlarged_nor_force_covered() {
    let lost = |current: f64| {
        four(move |i, n| {
            if i == 3 {
                (n.current_weight, n.shortable) = (current, Some(false));
            }
        })
    };
    let answer = solve(&lost(-0.05)).unwrap();
    let short = find(&answer, "DDD");
    assert!((short.weight + 0.05).abs() < 1e-7, "forecast asks for more: {}", short.weight);
    assert_eq!(short.status, Some(NameStatus::LostBorrow));
    assert!(binds(short, "borrow"));
    // Without a position the closed side still has a price: the forgone marginal return less the fee's 1e-6.
    let answer = solve(&lost(0.0)).unwrap();
    let closed = find(&answer, "DDD");
    assert_eq!(closed.weight, 0.0);
    let price = closed.bindings.iter().find(|b| b.rule == "borrow").unwrap().shadow_price_bps;
    assert!((price - 20.0).abs() < 0.02, "{price}");
    // With a good forecast the short is covered.
    let mut covered = lost(-0.05);
    covered.names[3].expected_return = 0.001;
    assert!(find(&solve(&covered).unwrap(), "DDD").weight >= 0.0);
}

#[test]
fn a_sector_halt_leaves_the_sector_where_it_is_or_smaller() {
    let answer = solve(&four(|i, n| {
        n.current_weight = [0.1, 0.2, -0.1, -0.1][i];
        if i < 2 {
            n.halt = Halt::ReduceOnly;
        }
    }))
    .unwrap();
    for symbol in ["AAA", "BBB"] {
        let name = find(&answer, symbol);
        assert!(name.weight <= name.previous_weight + 1e-9 && name.weight >= 0.0);
    }
    assert!(find(&answer, "DDD").weight < -0.1, "the other sector trades on");
}

#[test]
fn a_veto_closes_new_exposure_and_forces_nothing() {
    let answer = solve(&four(|i, n| {
        n.veto = true;
        n.current_weight = if i == 0 { 0.2 } else { 0.0 };
    }))
    .unwrap();
    assert!((find(&answer, "AAA").weight - 0.2).abs() < 1e-7);
    assert_eq!(find(&answer, "AAA").status, Some(NameStatus::Vetoed));
    assert!(["BBB", "CCC", "DDD"].iter().all(|s| find(&answer, s).weight == 0.0));
}

#[test]
fn a_position_above_its_cap_is_grandfathered() {
    let answer = solve(&four(|i, n| {
        if i == 0 {
            (n.current_weight, n.max_weight) = (0.6, Some(0.05));
        }
    }))
    .unwrap();
    let held = find(&answer, "AAA");
    assert!((held.weight - 0.6).abs() < 1e-7, "the forecast supports it: {}", held.weight);
    assert_eq!(held.status, Some(NameStatus::Grandfathered));
    // Once the forecast has turned it is sold below the cap, and nothing remains to be said.
    let answer = solve(&four(|i, n| {
        if i == 0 {
            (n.current_weight, n.max_weight, n.expected_return) = (0.6, Some(0.05), -0.01);
        }
    }))
    .unwrap();
    let sold = find(&answer, "AAA");
    assert!(sold.weight < 0.05 && sold.status.is_none());
}

#[test]
fn the_cap_of_a_name_comes_before_that_of_all() {
    let mut problem = four(|i, n| {
        if i == 0 {
            (n.current_weight, n.max_weight, n.expected_return) = (0.0, Some(0.05), 0.5);
        }
    });
    problem.limits.weight_bounds.upper = Some(0.4);
    let answer = solve(&problem).unwrap();
    assert!((find(&answer, "AAA").weight - 0.05).abs() < 1e-6, "{}", find(&answer, "AAA").weight);
}

#[test]
fn a_drifted_book_under_tight_turnover_walks_back_as_far_as_it_may() {
    // Net 0.8 with a limit of 0.3: 0.25 of one-way turnover short. The ladder prices turnover lowest, so it yields.
    let drifted = |prices: f64| {
        let mut problem = four(|_, n| n.current_weight = 0.2);
        problem.limits.net = Interval::new(-0.1, 0.3);
        problem.limits.max_turnover = Some(0.15);
        problem.on_infeasible = OnInfeasible::Relax;
        problem.relaxation.turnover *= prices;
        problem
    };
    let answer = solve(&drifted(1.0)).unwrap();
    assert_eq!(answer.status, Status::Relaxed);
    assert!((answer.net - 0.3).abs() < 1e-6 && (answer.turnover - 0.25).abs() < 1e-6);
    // Where turnover is dearer than net, the book moves by the whole limit toward its net.
    let answer = solve(&drifted(100.0)).unwrap();
    assert!((answer.turnover - 0.15).abs() < 1e-6 && (answer.net - 0.5).abs() < 1e-6);
    let mut strict = drifted(1.0);
    strict.on_infeasible = OnInfeasible::Error;
    let Err(AllocationError::Infeasible { conflict }) = solve(&strict) else { panic!("the rules conflict") };
    assert!(
        conflict.iter().any(|c| c.rule == Rule::MaxTurnover) && conflict.iter().any(|c| c.rule == Rule::Net)
    );
}

#[test]
fn forecasts_all_negative_leave_a_long_only_book_empty() {
    let mut problem = four(|_, n| n.expected_return = -0.001);
    problem.limits.weight_bounds = Interval::new(0.0, 0.5);
    let answer = solve(&problem).unwrap();
    assert_eq!((answer.status, answer.held), (Status::Optimal, 0));
    // Fully invested all the same, it spreads equally over equal names.
    problem.limits.net = Interval::new(1.0, 1.0);
    let answer = solve(&problem).unwrap();
    assert!(answer.names.iter().all(|n| (n.weight - 0.25).abs() < 1e-6));
}

#[test]
fn one_name_and_a_net_of_zero_is_no_position() {
    let mut problem = four(|_, _| {});
    problem.names.truncate(1);
    problem.risk = Some(FactorModel::new(0, vec![], vec![4e-4]).unwrap());
    problem.limits.net = Interval::new(0.0, 0.0);
    let answer = solve(&problem).unwrap();
    assert_eq!((answer.names[0].weight, answer.status), (0.0, Status::Optimal));
}

#[test]
fn a_book_in_which_nothing_can_trade_is_held_or_named_as_the_conflict() {
    let still = |current: f64| four(move |_, n| (n.halt, n.current_weight) = (Halt::Frozen, current));
    let flat = solve(&still(0.0)).unwrap();
    assert_eq!((flat.status, flat.held), (Status::Optimal, 0));
    assert!(flat.names.iter().all(|n| n.risk_share == 0.0 && n.status == Some(NameStatus::Frozen)));
    let mut problem = still(0.1);
    assert!((solve(&problem).unwrap().net - 0.4).abs() < 1e-12);
    problem.limits.net = Interval::new(0.0, 0.0);
    let Err(AllocationError::Infeasible { conflict }) = solve(&problem) else { panic!("net is 0.4") };
    assert_eq!(conflict.iter().map(ToString::to_string).collect::<Vec<_>>(), ["net [0,0]", "halt"]);
}

#[test]
fn three_thousand_four_hundred_names_meet_every_rule() {
    let mut problem = random_problem(11, 3_400);
    problem.on_infeasible = OnInfeasible::Relax;
    let answer = solve(&problem).unwrap();
    assert!(answer.residuals.max() < 1e-7);
    for rule in answer.rules.iter().filter(|_| answer.status == Status::Optimal) {
        assert!(rule.slack >= -1e-6, "{}", rule.clause);
    }
    let shares: f64 = answer.names.iter().map(|n| n.risk_share).sum();
    assert!((shares - 1.0).abs() < 1e-9);
}

#[test]
fn trades_below_the_minimum_notional_are_not_made() {
    let mut problem = random_problem(12, 120);
    problem.orders.equity = Some(1e5);
    let plain = solve(&problem).unwrap();
    let small =
        |a: &Allocation| a.names.iter().filter(|n| n.trade != 0.0 && n.trade.abs() * 1e5 < 500.0).count();
    assert!(small(&plain) > 0, "the case must have small trades to drop");
    problem.orders.min_notional = Some(500.0);
    let answer = solve(&problem).unwrap();
    assert_eq!(small(&answer), 0);
    assert!(answer.names.iter().any(|n| n.status == Some(NameStatus::HeldBelowMinNotional)));
    assert!(answer.objective >= plain.objective - 1e-12, "fewer choices cannot be better");
    assert!(answer.solves <= 4);
}

#[test]
fn shorts_are_whole_shares_and_longs_need_not_be() {
    let mut problem = random_problem(13, 60);
    problem.orders.equity = Some(2e5);
    problem.orders.whole_share_shorts = true;
    let answer = solve(&problem).unwrap();
    assert!(answer.names.iter().any(|n| n.status == Some(NameStatus::RoundedToShares)));
    for (result, name) in answer.names.iter().zip(&problem.names) {
        if result.weight < 0.0 && result.trade != 0.0 {
            let shares = -result.weight * 2e5 / name.price.unwrap();
            assert!((shares - shares.round()).abs() < 1e-6, "{}: {shares} shares", name.symbol);
        }
    }
    for rule in &answer.rules {
        assert!(rule.slack >= -1e-6, "{} after rounding", rule.clause);
    }
    problem.names.iter_mut().for_each(|n| n.price = None);
    assert!(matches!(solve(&problem), Err(AllocationError::PriceRequired { .. })));
}

#[test]
fn the_number_of_names_is_kept() {
    let mut problem = random_problem(14, 100);
    let plain = solve(&problem).unwrap();
    problem.orders.max_names = Some(plain.held - 8);
    let answer = solve(&problem).unwrap();
    assert_eq!(answer.status, Status::Optimal);
    assert!(answer.held <= plain.held - 8);
    assert!(answer.objective >= plain.objective - 1e-12);
    // Frozen names cannot be emptied; the limit is then unreachable and said to be.
    for n in &mut problem.names {
        (n.halt, n.current_weight) = (Halt::Frozen, 0.01);
    }
    problem.limits = Limits::default();
    let error = solve(&problem).unwrap_err();
    assert_eq!(error, AllocationError::TooManyNames { limit: plain.held - 8, held: 100 });
}

#[test]
fn group_limits_prefer_the_named_group_to_the_wildcard() {
    let mut problem = four(|_, n| n.expected_return = 0.01);
    let net = |upper| GroupLimit { net: Interval::new(-1.0, upper), gross: None };
    let groups = BTreeMap::from([("tech".into(), net(0.3)), ("*".into(), net(0.1))]);
    problem.limits.groups = BTreeMap::from([("group_sector".into(), groups)]);
    let answer = solve(&problem).unwrap();
    let sum = |a: &str, b: &str| find(&answer, a).weight + find(&answer, b).weight;
    assert!((sum("AAA", "BBB") - 0.3).abs() < 1e-7 && (sum("CCC", "DDD") - 0.1).abs() < 1e-7);
    assert!(
        binds(find(&answer, "AAA"), "group_sector=tech") && binds(find(&answer, "CCC"), "group_sector=util")
    );
}

#[test]
fn a_cancelled_allocation_stops_at_the_next_iteration() {
    let calls = Arc::new(AtomicU32::new(0));
    let counter = Arc::clone(&calls);
    let cancel: CancelCheck = Arc::new(move || counter.fetch_add(1, Ordering::Relaxed) == 3);
    let answer = allocate(&random_problem(1, 500), &cancel);
    assert_eq!(answer.unwrap_err(), AllocationError::Cancelled);
    assert_eq!(calls.load(Ordering::Relaxed), 4);
}

#[test]
fn bad_data_is_refused_with_its_place() {
    let base = || four(|_, _| {});
    let cases: [(&str, Problem); 8] = [
        ("name \"AAA\" appears more than once", {
            let mut p = base();
            p.names[1].symbol = "AAA".into();
            p
        }),
        ("expected_return of \"BBB\" is not a finite number", {
            let mut p = base();
            p.names[1].expected_return = f64::NAN;
            p
        }),
        ("cost of \"CCC\" must be at least 0, got -1", {
            let mut p = base();
            p.names[2].cost = -1.0;
            p
        }),
        ("weight bounds of \"DDD\" has lower bound 0.7 above upper bound 0.5", {
            let mut p = base();
            p.names[3].min_weight = Some(0.7);
            p
        }),
        ("no name has group \"group_sektor\"", {
            let mut p = base();
            p.limits.groups.insert("group_sektor".into(), BTreeMap::new());
            p
        }),
        ("no name has factor \"factor_beta\"", {
            let mut p = base();
            p.limits.factors.insert("factor_beta".into(), Interval::default());
            p
        }),
        ("min_notional and whole_share_shorts need equity", {
            let mut p = base();
            p.orders.min_notional = Some(500.0);
            p
        }),
        ("this method or target_vol needs a risk model", Problem { risk: None, ..base() }),
    ];
    for (message, problem) in cases {
        assert_eq!(solve(&problem).unwrap_err().to_string(), message);
    }
}
