//! Validators of facts.

use kronos_tests::Database;

/// Stores a version of a statement.
fn state(db: &Database, kind: &str, symbol: &str, period_end: &str, known_at: &str, values: &str) {
    db.run(&format!(
        "insert into market.{kind} (source, kind, key, symbol, known_at, received_at, payload, digest)
         select 'fmp', '{kind}', '{symbol}/{period_end}/Q', '{symbol}', '{known_at}', '{known_at}', p, sha256((p::text || '{known_at}')::bytea)
         from (select jsonb '{{\"date\": \"{period_end}\", \"period\": \"Q1\"}}' || jsonb '{{{values}}}' as p) x"
    ));
}

const INCOME: &str =
    r#""revenue": 100, "grossProfit": 40, "operatingIncome": 20, "netIncome": 10, "reportedCurrency": "USD""#;

/// Four quarters of a company, all three statements of each.
fn company(db: &Database, symbol: &str) {
    for (end, known) in [
        ("2025-12-31", "2026-02-05"),
        ("2026-03-31", "2026-05-05"),
        ("2026-06-30", "2026-08-05"),
        ("2026-09-30", "2026-11-05"),
    ] {
        let known = format!("{known} 21:00+00");
        state(db, "fmp_income_statement", symbol, end, &known, INCOME);
        state(
            db,
            "fmp_balance_sheet",
            symbol,
            end,
            &known,
            r#""totalAssets": 900, "totalStockholdersEquity": 500"#,
        );
        state(db, "fmp_cash_flow", symbol, end, &known, r#""operatingCashFlow": 15"#);
    }
}

fn found(db: &Database, since: &str, until: &str) -> Vec<String> {
    let query = format!(
        "select concat_ws(' | ', check_name, replace(relation, 'market.', ''), symbol, detail) from market.validate('{since}', '{until}')
         where check_name not in ('price_jump', 'missing_session') order by 1"
    );
    db.rows(&query).into_iter().map(|row| row[0].clone().unwrap()).collect()
}

#[test]
fn each_validator_of_facts_names_the_statement_that_is_wrong() {
    let db = Database::installed("validate_facts");
    for symbol in ["GOOD", "HALF", "UNIT", "EURO", "AGAIN", "LONE"] {
        company(&db, symbol);
    }
    assert_eq!(found(&db, "2026-01-01 00:00+00", "2026-12-01 00:00+00"), [""; 0]);
    // Six months on: one value of four; thousands; another currency; a restatement of 5 %, and one of a rounding; no balance sheet.
    let (end, known) = ("2026-12-31", "2027-02-05 21:00+00");
    for symbol in ["GOOD", "HALF", "UNIT", "EURO", "AGAIN", "LONE"] {
        let income = match symbol {
            "HALF" => r#""revenue": 101"#.to_owned(),
            "UNIT" => INCOME.replace("100", "104000"),
            "EURO" => INCOME.replace("USD", "EUR"),
            _ => INCOME.to_owned(),
        };
        state(&db, "fmp_income_statement", symbol, end, known, &income);
        state(&db, "fmp_cash_flow", symbol, end, known, r#""operatingCashFlow": -15"#);
        if symbol != "LONE" {
            state(
                &db,
                "fmp_balance_sheet",
                symbol,
                end,
                known,
                r#""totalAssets": 900, "totalStockholdersEquity": 500"#,
            );
        }
    }
    state(
        &db,
        "fmp_income_statement",
        "AGAIN",
        "2026-09-30",
        "2027-02-06 06:00+00",
        &INCOME.replace("100", "105"),
    );
    state(
        &db,
        "fmp_income_statement",
        "GOOD",
        "2026-09-30",
        "2027-02-06 06:00+00",
        &INCOME.replace("100", "100.9"),
    );
    let expected = [
        "changed_currency | fmp_income_statement | EURO | Q1 of 2026-12-31 in EUR, 2026-09-30 in USD",
        "changed_unit | fmp_income_statement | UNIT | Q1 of 2026-12-31: revenue 104000 after 100 of 2026-09-30",
        "half_filled_statement | fmp_income_statement | HALF | Q1 of 2026-12-31: 1 values, usually 4",
        "missing_statement | fmp_balance_sheet | LONE | Q1 of 2026-12-31 has an income statement and none of this kind",
        "restatement | fmp_income_statement | AGAIN | Q1 of 2026-09-30: revenue 105, 100 before",
    ];
    assert_eq!(found(&db, "2027-01-01 00:00+00", "2027-03-01 00:00+00"), expected);
    // As of a time: the next day nothing is restated yet, and a balance sheet may still come.
    assert_eq!(found(&db, "2027-01-01 00:00+00", "2027-02-06 00:00+00"), expected[..3]);
    // What came before is not told again.
    assert_eq!(found(&db, "2027-02-06 00:00+00", "2027-03-01 00:00+00"), expected[4..]);
    // The job stores them, for dashboards and alerts.
    db.run("call market.run_validation('2027-01-01 00:00+00')");
    assert_eq!(db.value("select count(*) from market.validation_findings"), "5");
}

#[test]
fn a_company_that_is_traded_and_no_longer_reports_is_found() {
    let db = Database::installed("validate_silent");
    for (symbol, trading) in [("HUSH", true), ("GONE", false)] {
        company(&db, symbol);
        db.run(&format!(
            "insert into market.dim_company_profile (source, kind, key, symbol, known_at, received_at, payload, digest)
             select 'fmp', 'dim_company_profile', '{symbol}', '{symbol}', '2026-01-05', '2026-01-05', p, sha256((p::text || '{symbol}')::bytea)
             from (select jsonb '{{\"isActivelyTrading\": {trading}}}' as p) x"
        ));
    }
    assert_eq!(found(&db, "-infinity", "2026-11-30 00:00+00"), [""; 0]);
    db.run("update market.fmp_income_statement set payload = payload || '{\"date\": \"2026-03-31\"}' where period_end > '2026-03-31'");
    assert_eq!(
        found(&db, "2026-11-20 00:00+00", "2026-11-30 00:00+00"),
        ["stale_fundamentals | fmp_income_statement | HUSH | the newest quarter ended on 2026-03-31"]
    );
}

#[test]
fn figures_of_one_event_that_differ_between_sources_are_found() {
    let db = Database::installed("validate_releases");
    db.run(
        "insert into market.event_keys (event_key, kind) values ('CPI:Oct', 'CPI'), ('CPI:Nov', 'CPI');
         insert into market.event_releases (event_key, value, known_at, source) values
           ('CPI:Oct', 0.3, '2026-11-13 13:30:10+00', 'fmp'), ('CPI:Oct', 0.4, '2026-11-14 05:00+00', 'fred'),
           ('CPI:Oct', 0.3, '2026-11-15 05:00+00', 'file'), ('CPI:Nov', 0.3, '2026-11-16 13:30:10+00', 'fmp'),
           -- A revision is none, and half a unit is rounding.
           ('CPI:Nov', 0.9, '2026-11-17 13:30:10+00', 'fmp'), ('CPI:Nov', 0.35, '2026-11-17 05:00+00', 'fred')",
    );
    assert_eq!(
        found(&db, "2026-11-01 00:00+00", "2026-11-30 00:00+00"),
        ["release_differs | event_facts | CPI:Oct | 0.3 by fmp, 0.4 by fred"]
    );
    assert_eq!(found(&db, "2026-11-01 00:00+00", "2026-11-14 00:00+00"), [""; 0]);
}
