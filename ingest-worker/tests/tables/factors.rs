//! Ratios and factors of statements: by hand, and against an independent computation.

use std::collections::BTreeMap;

use crate::database::Tables;

/// Stores a document of `kind` for one symbol.
fn insert(kind: &str) -> String {
    format!("insert into market.{kind} (source, kind, key, symbol, event_time, known_at, received_at, payload, digest)
             select 'fmp', '{kind}', x.symbol || '/' || x.n, x.symbol, x.period_end, x.known, x.known, x.payload, sha256(x.payload::text::bytea)")
}

/// Eight quarters of one company to the end of September, each filed five weeks later.
const QUARTERS: &str = "
    from (select 'ACME' as symbol, n, e.period_end, e.period_end::timestamptz + interval '35 days' as known,
                 jsonb_build_object('date', e.period_end, 'period', 'Q' || (3 - n % 4 + 4) % 4 + 1) || v.payload as payload
          from generate_series(0, 7) n,
               lateral (select (date '2026-09-30' - make_interval(months => 3 * n))::date as period_end) e,
               lateral (select @ as payload) v) x";

fn acme(tables: &Tables) {
    let fill = |kind: &str, payload: &str| {
        tables.rows(&format!("{} {}", insert(kind), QUARTERS.replace('@', payload)));
    };
    // Sales of 100 a quarter, and 80 in the year before; earnings per share of 1, and 0.5.
    fill(
        "fmp_income_statement",
        "jsonb_build_object('reportedCurrency', 'USD', 'revenue', case when n < 4 then 100 else 80 end, 'grossProfit', 40,
                            'operatingIncome', 20, 'incomeBeforeTax', 16, 'incomeTaxExpense', 4, 'ebitda', '25', 'netIncome', 12,
                            'epsdiluted', case when n < 4 then 1 else 0.5 end, 'weightedAverageShsOutDil', 12)",
    );
    fill("fmp_cash_flow", "jsonb_build_object('operatingCashFlow', 18, 'freeCashFlow', 15)");
    fill(
        "fmp_balance_sheet",
        "jsonb_build_object('totalAssets', 1000, 'cashAndCashEquivalents', 50, 'totalDebt', 250, 'netDebt', 200,
                            'totalStockholdersEquity', 400)",
    );
    tables.rows(
        "insert into market.instruments (symbol) values ('ACME');
         insert into market.bars (symbol, source, bar_width, time, open, high, low, close, volume, received_at, known_at)
         values ('ACME', 'file', '1 day', '2026-11-09 00:00+00', 80, 80, 80, 80, 1, '2026-11-10', '2026-11-10'),
                ('ACME', 'file', '1 day', '2026-11-10 00:00+00', 99, 99, 99, 99, 1, '2026-11-11', '2026-11-11'),
                -- Of a better source, and later than anybody asks about.
                ('ACME', 'yahoo', '1 day', '2026-11-09 00:00+00', 500, 500, 500, 500, 1, '2026-12-24', '2026-12-24')",
    );
}

fn ratios(tables: &Tables, as_of: &str) -> BTreeMap<String, String> {
    let query = format!(
        "set datestyle = 'SQL, DMY';
         select r.key, r.value from market.fundamentals('{as_of}') f, lateral jsonb_each_text(to_jsonb(f)) r where f.symbol = 'ACME'"
    );
    let pairs = tables.rows(&query).into_iter().map(|row| {
        let (key, value) = row.split_once(' ').unwrap();
        (key.to_owned(), value.to_owned())
    });
    pairs.collect()
}

#[track_caller]
fn assert_ratio(ratios: &BTreeMap<String, String>, name: &str, expected: f64) {
    let value: f64 = ratios[name].parse().unwrap_or(f64::NAN);
    assert!((value - expected).abs() < 1e-12, "{name}: {value}, not {expected}");
}

#[test]
fn ratios_are_of_the_four_quarters_that_were_known() {
    let tables = Tables::new("factors_ratios");
    acme(&tables);
    let found = ratios(&tables, "2026-11-10 12:00+00");
    // Twelve shares at the last finished close, 80.
    assert_ratio(&found, "market_cap", 960.0);
    assert_ratio(&found, "earnings_yield", 48.0 / 960.0);
    assert_ratio(&found, "free_cash_flow_yield", 60.0 / 960.0);
    assert_ratio(&found, "ev_to_ebitda", (960.0 + 200.0) / 100.0);
    // A quarter of income goes to tax; capital is debt and equity less cash.
    assert_ratio(&found, "roic", 80.0 * 0.75 / 600.0);
    assert_ratio(&found, "gross_profit_to_assets", 0.16);
    assert_ratio(&found, "accruals", (48.0 - 72.0) / 1_000.0);
    assert_ratio(&found, "revenue_growth", 400.0 / 320.0 - 1.0);
    assert_ratio(&found, "eps_growth", 1.0);
    assert_ratio(&found, "net_debt_to_ebitda", 2.0);
    assert_eq!(found["period_end"], "2026-09-30");
    // Before the newest quarter was filed, its sum is of the four before; the oldest of eight is missing.
    let earlier = ratios(&tables, "2026-11-03 00:00+00");
    assert_eq!(earlier["period_end"], "2026-06-30");
    assert_eq!(earlier["market_cap"], "-", "no close of the last ten days");
    assert_ratio(&earlier, "net_debt_to_ebitda", 2.0);
    assert_eq!(earlier["revenue_growth"], "-");
    // A company that has filed nothing for half a year is gone.
    assert!(ratios(&tables, "2027-06-01 00:00+00").is_empty());
}

#[test]
fn what_is_not_known_is_not_guessed() {
    let tables = Tables::new("factors_missing");
    acme(&tables);
    let profile = |payload: &str, known: &str| {
        let x = format!(
            " from (select 'ACME' as symbol, 0 as n, null::date as period_end, timestamptz '{known}' as known, jsonb '{payload}' as payload) x"
        );
        tables.rows(&format!("{} {x}", insert("dim_company_profile")));
    };
    profile(r#"{"marketCap": 1000, "currency": "USD", "sector": "Steel"}"#, "2026-11-08 00:00+00");
    let found = ratios(&tables, "2026-11-10 12:00+00");
    assert_ratio(&found, "market_cap", 1_000.0);
    assert_eq!(found["sector"], "Steel");
    // Seen too long ago, shares and price count; 0 is none.
    assert_ratio(&ratios(&tables, "2026-11-18 12:00+00"), "market_cap", 12.0 * 99.0);
    profile(r#"{"mktCap": 0, "currency": "USD"}"#, "2026-11-09 00:00+00");
    assert_ratio(&ratios(&tables, "2026-11-10 12:00+00"), "market_cap", 960.0);
    profile(r#"{"mktCap": 7, "currency": "EUR"}"#, "2026-11-10 00:00+00");
    let found = ratios(&tables, "2026-11-10 12:00+00");
    assert_eq!(
        (found["market_cap"].as_str(), found["earnings_yield"].as_str()),
        ("-", "-"),
        "nothing is converted"
    );
    // One quarter without a number: a sum of three would be a quarter too small.
    tables.rows("delete from market.fmp_income_statement where period_end = '2026-03-30'");
    assert!(ratios(&tables, "2026-11-10 12:00+00").is_empty(), "four quarters that are not a year");
}

/// Statements of 40 companies of four sectors; of the smallest there are five.
const UNIVERSE: &str = "
    from (select 'S' || s as symbol, n, e.period_end, e.period_end::timestamptz + make_interval(days => 25 + s) as known,
                 jsonb_build_object('date', e.period_end, 'period', 'Q' || n % 4 + 1) || v.payload as payload
          from generate_series(1, 40) s, generate_series(0, 7) n,
               lateral (select (date '2026-09-30' - make_interval(months => 3 * n))::date as period_end) e,
               lateral (select @ as payload) v) x";

fn universe(tables: &Tables) {
    let fill = |kind: &str, payload: &str| {
        tables.rows(&format!("{} {}", insert(kind), UNIVERSE.replace('@', payload)));
    };
    // Every seventh company does not say its gross profit; in the second sector all grow alike.
    fill(
        "fmp_income_statement",
        "jsonb_build_object('revenue', case when s % 4 = 1 then 100 else 100 + 50 * sin(s * 7 + n) end,
            'grossProfit', case when s % 7 > 0 then 40 + 20 * cos(s) end, 'operatingIncome', 20 + 15 * sin(s * 3), 'incomeBeforeTax', 16,
            'incomeTaxExpense', 4, 'ebitda', 25 + 30 * sin(s * 5), 'netIncome', 12 * sin(s * 2), 'epsDiluted', cos(s + n))",
    );
    fill(
        "fmp_cash_flow",
        "jsonb_build_object('operatingCashFlow', 18 * cos(s * 2), 'freeCashFlow', 15 * sin(s * 9) ^ 9)",
    );
    fill(
        "fmp_balance_sheet",
        "jsonb_build_object('totalAssets', 1000 + s, 'cashAndCashEquivalents', 50, 'totalDebt', 250, 'netDebt', 200 * sin(s),
                            'totalStockholdersEquity', 400)",
    );
    tables.rows(&format!(
        "{} from (select 'S' || s as symbol, 0 as n, null::date as period_end, timestamptz '2026-11-29 00:00+00' as known,
                         jsonb_build_object('marketCap', 500 + 10 * s, 'sector', case when s <= 5 then 'few' when s < 40 then 'sector ' || s % 4 end) as payload
                  from generate_series(1, 40) s) x",
        insert("dim_company_profile")
    ));
}

/// The middle of numbers, as numpy has it.
fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let half = sorted.len() / 2;
    if sorted.len() % 2 == 1 { sorted[half] } else { (sorted[half - 1] + sorted[half]) / 2.0 }
}

/// The rule of FINANCE, written from its text.
fn z_score(x: Option<f64>, peers: &[f64]) -> f64 {
    let middle = median(peers);
    let spread = 1.4826 * median(&peers.iter().map(|peer| (peer - middle).abs()).collect::<Vec<_>>());
    match x {
        Some(x) if spread > 0.0 => ((x - middle) / spread).clamp(-3.0, 3.0),
        _ => 0.0,
    }
}

#[test]
fn factors_are_robust_scores_among_the_sector() {
    let tables = Tables::new("factors_scores");
    universe(&tables);
    let names = "earnings_yield, free_cash_flow_yield, -ev_to_ebitda, roic, gross_profit_to_assets, -accruals, -net_debt_to_ebitda,
                 revenue_growth, eps_growth";
    let as_of = "'2026-12-05 00:00+00'";
    let rows = tables.rows(&format!("select symbol, coalesce(replace(sector, ' ', '_'), '?'), {names} from market.fundamentals({as_of}) order by 1"));
    let companies: Vec<(String, String, Vec<Option<f64>>)> = rows
        .iter()
        .map(|row| {
            let mut parts = row.split(' ');
            let (symbol, sector) = (parts.next().unwrap().to_owned(), parts.next().unwrap().to_owned());
            (symbol, sector, parts.map(|value| value.parse().ok()).collect())
        })
        .collect();
    assert_eq!(companies.len(), 40);
    let scores = tables.rows(&format!(
        "select symbol, value, quality, leverage, growth, n_missing from market.fundamentals_factors({as_of}) order by 1"
    ));
    let mut clipped = 0;
    for ((symbol, sector, ratios), found) in companies.iter().zip(&scores) {
        let z: Vec<f64> = (0..9)
            .map(|i| {
                let of = |wanted: Option<&str>| -> Vec<f64> {
                    let members = companies.iter().filter(|c| wanted.is_none_or(|wanted| c.1 == wanted));
                    members.filter_map(|c| c.2[i]).collect()
                };
                let own = of(Some(sector.as_str()));
                let peers = if sector != "?" && own.len() >= 8 { own } else { of(None) };
                z_score(ratios[i], &peers)
            })
            .collect();
        clipped += z.iter().filter(|z| z.abs() == 3.0).count();
        let mean = |range: std::ops::Range<usize>| z[range.clone()].iter().sum::<f64>() / range.len() as f64;
        let expected = [mean(0..3), mean(3..6), z[6], mean(7..9)];
        let mut parts = found.split(' ');
        assert_eq!(parts.next(), Some(symbol.as_str()));
        for (name, expected) in ["value", "quality", "leverage", "growth"].iter().zip(expected) {
            let value: f64 = parts.next().unwrap().parse().unwrap();
            assert!((value - expected).abs() < 1e-9, "{name} of {symbol}: {value}, not {expected}");
        }
        let missing = ratios.iter().filter(|ratio| ratio.is_none()).count();
        assert_eq!(parts.next(), Some(missing.to_string().as_str()), "{symbol}");
    }
    assert!(clipped > 0, "the bounds are tried");
    // Sums are taken in one order, whichever way the server joins.
    let bits = |settings: &str| {
        tables.rows(&format!(
            "{settings} select md5(string_agg(concat_ws(' ', symbol, float8send(value), float8send(quality), float8send(growth)), ',' order by symbol))
             from market.fundamentals_factors({as_of})"
        ))
    };
    let plain = bits("");
    assert_eq!(bits("begin; set local enable_hashjoin = off; set local enable_hashagg = off;"), plain);
    assert_eq!(
        bits("rollback; begin; set local enable_mergejoin = off; set local enable_sort = off;"),
        plain
    );
    tables.rows("rollback");
    let of_now =
        "(table market.fundamentals_factors_v1) except select * from market.fundamentals_factors(now())";
    assert_eq!(tables.rows(of_now), [] as [&str; 0]);
}

#[test]
fn what_becomes_known_later_changes_no_factor() {
    let tables = Tables::new("factors_later");
    universe(&tables);
    // Filings come from 25 to 65 days after the quarter: at each moment some have reported and some have not.
    let moments = ["2026-08-10 12:00+00", "2026-11-12 00:00+00", "2026-11-29 00:00+00"];
    let said = |at: &str| {
        tables.rows(&format!("select f::text from market.fundamentals_factors('{at}') f order by 1"))
    };
    for at in moments {
        let before = said(at);
        assert!(!before.is_empty(), "{at}");
        for change in [
            "update market.documents set payload = '{\"date\": \"2026-09-30\", \"period\": \"Q3\", \"revenue\": 1e9}' where",
            "delete from market.documents where",
        ] {
            tables.rows(&format!("begin; {change} known_at > '{at}'"));
            let after = said(at);
            tables.rows("rollback");
            assert_eq!(after, before, "{at}: {change}");
        }
    }
}
