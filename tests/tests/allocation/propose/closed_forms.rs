//! Books whose weights follow from their bounds by hand: forecasts are strong beside risk and cost, so that every name is
//! traded as far as it may be, and nothing is left to the optimiser's tolerance.

use kronos_tests::Database;

/// The values of the columns `list` of a proposal, name by name.
fn proposed(db: &Database, list: &str, call: &str) -> Vec<String> {
    let rows = db
        .rows(&format!("select concat_ws(' ', {list}) from kronos.propose_weights({call}) order by symbol"));
    rows.into_iter().map(|row| row[0].clone().unwrap()).collect()
}

/// A column of numbers to the millionth, far above the optimiser's tolerance.
fn rounded(column: &str) -> String {
    format!("round({column}::numeric, 6)")
}

#[test]
fn a_name_whose_borrow_is_unknown_is_not_shorted() {
    let db = Database::new("allocation_borrow");
    db.run(
        "create table names (symbol text, expected_return float8, shortable bool, volatility float8);
         insert into names values ('LENT', -0.05, true, 0.01), ('NOT', -0.05, false, 0.01), ('UNKNOWN', -0.05, null, 0.01)",
    );
    let list = format!("symbol, {}", rounded("weight"));
    let weights =
        |columns: &str| proposed(&db, &list, &format!("'select {columns} from names', net => '[-1,1]'"));
    assert_eq!(weights("*"), ["LENT -0.100000", "NOT 0.000000", "UNKNOWN 0.000000"]);
    // A query that says nothing about borrows has none to refuse.
    assert_eq!(
        weights("symbol, expected_return, volatility"),
        ["LENT -0.100000", "NOT -0.100000", "UNKNOWN -0.100000"]
    );
}

#[test]
fn a_veto_closes_new_exposure_on_both_sides() {
    let db = Database::new("allocation_veto");
    db.run(
        "create table names (symbol text, expected_return float8, prev_weight float8, veto bool, volatility float8);
         insert into names values ('FREE', 0.05, 0.02, false, 0.01), ('HELD', 0.05, 0.02, true, 0.01),
           ('LEFT', -0.05, 0.02, true, 0.01), ('LONG', 0.05, null, true, 0.01), ('SHORT', -0.05, null, true, 0.01),
           ('UNKNOWN', -0.05, null, null, 0.01)",
    );
    assert_eq!(
        proposed(
            &db,
            &format!("symbol, {}, status", rounded("weight")),
            "'select * from names', net => '[-1,1]'"
        ),
        [
            "FREE 0.100000",
            "HELD 0.020000 vetoed",
            "LEFT 0.000000 vetoed",
            "LONG 0.000000 vetoed",
            "SHORT 0.000000 vetoed",
            "UNKNOWN -0.100000"
        ]
    );
}

/// Three trades of 0.03, 0.04 and 0.03 at 10, 5 and 20 bps, and a short of 0.04 whose borrow costs 30 bps.
#[test]
fn costs_and_figures_are_those_of_the_trades() {
    let db = Database::new("allocation_costs");
    db.run(
        "create table names (symbol text, expected_return float8, prev_weight float8, min_weight float8, max_weight float8,
           shortable bool, cost_bps float8, borrow_bps float8, volatility float8);
         insert into names values
           ('BOUGHT', 0.05, 0.02, null, 0.05, true, 10, 40, 0.01),
           ('SHORTED', -0.06, null, -0.04, null, true, 5, 30, 0.01),
           ('SOLD', -0.05, 0.03, null, null, false, 20, 40, 0.02)",
    );
    let call = "'select * from names', net => '[-1,1]'";
    let list = ["weight", "prev_weight", "trade", "expected_return", "cost"].map(rounded).join(", ");
    assert_eq!(
        proposed(&db, &format!("symbol, side, {list}, binding"), call),
        [
            "BOUGHT long 0.050000 0.020000 0.030000 0.050000 0.000030 {max_weight}",
            // 0.04 · 5 bps to trade and 0.04 · 30 bps to borrow.
            "SHORTED short -0.040000 0.000000 -0.040000 -0.060000 0.000140 {min_weight}",
            "SOLD flat 0.000000 0.030000 -0.030000 -0.050000 0.000060 {borrow}",
        ]
    );
    let figures = db.rows(&format!(
        "select item, round(value::numeric, 9) from kronos.explain_weights({call}) where kind = 'book'
           and item in ('expected_return', 'volatility', 'cost', 'gross', 'net', 'turnover', 'objective', 'names')"
    ));
    let expected = [
        // 0.05 · 0.05 + 0.04 · 0.06.
        ("expected_return", "0.004900000"),
        // 0.01 · √(0.05² + 0.04²), names being uncorrelated.
        ("volatility", "0.000640312"),
        ("cost", "0.000230000"),
        ("gross", "0.090000000"),
        ("net", "0.010000000"),
        // Half of what is traded.
        ("turnover", "0.050000000"),
        // Cost and 5 / 2 of the variance less the expected return.
        ("objective", "-0.004668975"),
        ("names", "2.000000000"),
    ];
    assert_eq!(figures, expected.map(|(item, value)| vec![Some(item.to_owned()), Some(value.to_owned())]));
    // What the last unit before a bound is worth: return less 5 · 0.01² times the weight, less cost and borrow. The name that may not
    // be sold short any further stands at zero, where there is no risk.
    let worth = db.rows(&format!(
        "select symbol, item, shadow_price_bps from kronos.explain_weights({call}) where kind = 'binding' order by 1"
    ));
    let expected = [
        ("BOUGHT", "max_weight", 500.0 - 0.25 - 10.0),
        ("SHORTED", "min_weight", 600.0 - 0.2 - 5.0 - 30.0),
        ("SOLD", "borrow", 500.0 - 20.0 - 40.0),
    ];
    assert_eq!(worth.len(), expected.len());
    for (row, (symbol, item, bps)) in worth.iter().zip(expected) {
        assert_eq!([row[0].as_deref(), row[1].as_deref()], [Some(symbol), Some(item)]);
        // Prices are known to a hundredth of a basis point.
        let found: f64 = row[2].as_deref().unwrap().parse().unwrap();
        assert!((found - bps).abs() < 0.02, "{symbol}: {found}, expected {bps}");
    }
}

/// A history of six names over three months whose covariances change with time.
fn history(db: &Database) {
    db.run(
        "create function noise(text) returns float8 language sql immutable
           as 'select (hashtext($1)::float8 + 2147483648) / 4294967296';
         create table names as select 'N' || n as symbol, 0.0 as expected_return from generate_series(1, 6) n;
         create table rets as select symbol, ts, (1 + noise(symbol)) * (noise(symbol || ts::date) - 0.5) as ret
           from names, generate_series(timestamptz '2024-01-01 00:00+00', '2024-04-01 00:00+00', '1 day') ts",
    );
}

#[test]
fn only_the_newest_dates_of_a_history_count() {
    let db = Database::new("allocation_risk_dates");
    history(&db);
    let weights = |risk: &str, options: &str| {
        let arguments = "method => 'min_variance', net => '[1,1]', weight_bounds => '[0,1]'";
        proposed(
            &db,
            "symbol, weight",
            &format!(
                "'select * from names', $$select * from rets {risk}$$, {arguments}, options => '{options}'"
            ),
        )
    };
    // The 20 dates from 13 March to 1 April.
    let newest = weights("where ts > '2024-03-12 12:00+00'", "{}");
    assert_eq!(weights("", r#"{"risk_dates": 20}"#), newest);
    assert_ne!(weights("", "{}"), newest);
}

#[test]
fn risk_grows_with_the_root_of_the_horizon() {
    let db = Database::new("allocation_horizon");
    history(&db);
    // Weights that only the risk decides do not depend on its scale.
    let volatility = |horizon: u32| -> f64 {
        db.value(&format!(
            r#"select value from kronos.explain_weights('select * from names', 'select * from rets', method => 'min_variance',
                 net => '[1,1]', weight_bounds => '[0,1]', options => '{{"horizon": {horizon}}}') where item = 'volatility'"#
        ))
        .parse()
        .unwrap()
    };
    let ratio = volatility(9) / volatility(1);
    assert!((ratio - 3.0).abs() < 1e-6, "{ratio}");
}
