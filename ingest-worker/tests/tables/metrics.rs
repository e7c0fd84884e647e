//! Daily roll-ups of documents, by hand.

use crate::database::Tables;

/// Stores documents of one kind: key, symbol, second at which it became known (of 18 November 2026), payload.
fn insert(tables: &Tables, kind: &str, documents: &[(&str, &str, u32, &str)]) {
    for (key, symbol, hour, payload) in documents {
        tables.rows(&format!(
            "insert into market.{kind} (source, kind, key, symbol, known_at, received_at, payload, digest)
             select 'quiver', '{kind}', '{key}', '{symbol}', k, k, '{payload}', sha256('{payload}')
             from (select timestamptz '2026-11-18 00:00+00' + interval '{hour} hours' as k) x"
        ));
    }
}

/// Day, key, value, documents of what was known at an hour after 18 November 2026, whatever a session prefers.
fn metrics(tables: &Tables, hour: u32) -> Vec<String> {
    tables.rows(&format!(
        "set datestyle = 'SQL, DMY'; set timezone = 'Asia/Tokyo'; set extra_float_digits = 0;
         select to_char(d, 'MM-DD'), key, value, n from market.metrics('2026-11-18 00:00+00'::timestamptz + interval '{hour} hours')
         order by 1, 2"
    ))
}

#[test]
fn trades_of_congress_are_summed_by_the_day_of_their_disclosure_as_it_was_known() {
    let tables = Tables::new("metrics_congress");
    insert(
        &tables,
        "quiver_congress",
        &[
            // 32,500.5 bought; both spellings, and a lower end that names its range.
            (
                "a",
                "NVDA",
                10,
                r#"{"ReportDate":"2026-11-17","TransactionDate":"2026-10-02","Transaction":"Purchase","Range":"$15,001 - $50,000"}"#,
            ),
            // 8,000.5 sold in part, 50,000,001 sold of an open range: counted by its lower end.
            (
                "b",
                "NVDA",
                11,
                r#"{"Filed":"2026-11-17T00:00:00","Traded":"2026-10-03","Transaction":"Sale (Partial)","Trade_Size_USD":"1001.0"}"#,
            ),
            (
                "c",
                "NVDA",
                12,
                r#"{"Filed":"2026-11-18","Traded":"2026-10-03","Transaction":"Sale (Full)","Trade_Size_USD":"$50,000,001 +"}"#,
            ),
            // An exchange counts 0, and what says no amount not at all.
            (
                "d",
                "NVDA",
                12,
                r#"{"Filed":"2026-11-18","Transaction":"Exchange","Trade_Size_USD":"$1,001 - $15,000"}"#,
            ),
            (
                "e",
                "NVDA",
                12,
                r#"{"Filed":"2026-11-18","Transaction":"Purchase","Trade_Size_USD":"Undisclosed"}"#,
            ),
            // The first is corrected: it was a sale, and of the day before.
            (
                "a",
                "NVDA",
                20,
                r#"{"ReportDate":"2026-11-16","Transaction":"Sale","Range":"$15,001 - $50,000"}"#,
            ),
        ],
    );
    assert_eq!(metrics(&tables, 9), [] as [&str; 0]);
    assert_eq!(metrics(&tables, 10), ["11-17 quiver_congress_net_usd 32500.5 1"]);
    let noon = ["11-17 quiver_congress_net_usd 24500 2", "11-18 quiver_congress_net_usd -50000001 2"];
    assert_eq!(metrics(&tables, 19), noon);
    assert_eq!(
        metrics(&tables, 20),
        [
            "11-16 quiver_congress_net_usd -32500.5 1",
            "11-17 quiver_congress_net_usd -8000.5 1",
            "11-18 quiver_congress_net_usd -50000001 2",
        ]
    );
    assert_eq!(metrics(&tables, 19), noon, "a correction says nothing of what was known before it");
}

#[test]
fn each_key_is_what_its_rule_says() {
    let tables = Tables::new("metrics_keys");
    insert(
        &tables,
        "quiver_insiders",
        &[
            (
                "a",
                "AAPL",
                1,
                r#"{"fileDate":"2026-11-17","Date":"2026-11-13","TransactionCode":"P","Shares":"100","PricePerShare":200.25}"#,
            ),
            (
                "b",
                "AAPL",
                1,
                r#"{"fileDate":"2026-11-17","Date":"2026-11-13","TransactionCode":"S","Shares":30,"PricePerShare":"201"}"#,
            ),
            // An exercise, a gift, a price that is not known.
            (
                "c",
                "AAPL",
                1,
                r#"{"fileDate":"2026-11-17","TransactionCode":"M","AcquiredDisposedCode":"A","Shares":9999,"PricePerShare":1}"#,
            ),
            (
                "d",
                "AAPL",
                1,
                r#"{"fileDate":"2026-11-17","TransactionCode":"G","AcquiredDisposedCode":"D","Shares":9999,"PricePerShare":1}"#,
            ),
            (
                "e",
                "AAPL",
                1,
                r#"{"fileDate":"2026-11-17","TransactionCode":"P","Shares":9999,"PricePerShare":null}"#,
            ),
        ],
    );
    insert(
        &tables,
        "quiver_lobbying",
        &[
            ("a", "AAPL", 1, r#"{"Date":"2026-11-17","Amount":"50000.0"}"#),
            ("b", "AAPL", 1, r#"{"Date":"2026-11-17","Amount":0}"#),
        ],
    );
    insert(
        &tables,
        "quiver_gov_contracts",
        &[
            ("a", "AAPL", 1, r#"{"Date":"2026-11-17","action_date":"2026-11-01","Amount":1000000}"#),
            ("b", "AAPL", 1, r#"{"Date":"2026-11-17","action_date":"2026-11-02","Amount":-250000.5}"#),
        ],
    );
    insert(
        &tables,
        "quiver_app_ratings",
        &[
            ("a", "AAPL", 1, r#"{"Time":"2026-11-17T08:00:00Z","App":"Music","Rating":4.5,"Count":300}"#),
            ("b", "AAPL", 1, r#"{"Time":"2026-11-17T08:00:00Z","App":"Maps","Rating":"2.5","Count":100}"#),
            ("c", "AAPL", 1, r#"{"Time":"2026-11-17T08:00:00Z","App":"New","Rating":5,"Count":0}"#),
        ],
    );
    insert(
        &tables,
        "quiver_offexchange",
        &[
            ("AAPL/1", "AAPL", 1, r#"{"Date":"2026-11-17","OTC_Short":450,"OTC_Total":1000,"DPI":0.4509}"#),
            // The vendor contradicts itself, or has no total.
            ("AAPL/2", "AAPL", 1, r#"{"Date":"2026-11-16","OTC_Short":450,"OTC_Total":1000,"DPI":0.46}"#),
            ("AAPL/3", "AAPL", 1, r#"{"Date":"2026-11-13","OTC_Short":0,"OTC_Total":0,"DPI":0}"#),
        ],
    );
    // A picture counts for the day in New York on which it came: 03:00 of the 18th in Greenwich is the 17th there.
    insert(
        &tables,
        "quiver_political_beta",
        &[
            ("today/AAPL", "AAPL", 2, r#"{"TrumpBeta":0.5}"#),
            ("today/AAPL", "AAPL", 3, r#"{"TrumpBeta":0.7}"#),
            ("today/AAPL", "AAPL", 30, r#"{"TrumpBeta":0.9}"#),
        ],
    );
    insert(
        &tables,
        "fmp_etf_holdings",
        &[
            ("SPY/AAPL", "AAPL", 2, r#"{"symbol":"SPY","asset":"AAPL","weightPercentage":7}"#),
            ("QQQ/AAPL", "AAPL", 2, r#"{"symbol":"QQQ","asset":"AAPL","weightPercentage":"9"}"#),
        ],
    );
    assert_eq!(
        metrics(&tables, 24),
        [
            "11-17 quiver_app_rating 4 2",
            "11-17 quiver_app_reviews 400 2",
            "11-17 quiver_etf_weight_pct 8 2",
            "11-17 quiver_gov_award_usd 749999.5 2",
            "11-17 quiver_insider_net_usd 13995 2",
            "11-17 quiver_lobbying_spend_usd 50000 2",
            "11-17 quiver_offex_shortvol_ratio 0.45 1",
            "11-17 quiver_political_beta_today 0.7 1",
        ]
    );
    let later = metrics(&tables, 40);
    assert_eq!(later.last().map(String::as_str), Some("11-19 quiver_political_beta_today 0.9 1"));
    assert_eq!(later.len(), 9, "what was true of a day stays");
    assert_eq!(
        tables.rows("select count(*), count(distinct (symbol, d, key, source)) from market.ingest_metrics"),
        ["9 9"]
    );
}

#[test]
fn two_sources_of_one_key_are_two_rows() {
    let tables = Tables::new("metrics_sources");
    let trade = |chamber: &str, kind: &str, low: &str| {
        format!(
            r#"{{"filingDate":"2026-11-17","txDate":"2026-10-01","txType":"{kind}","chamber":"{chamber}"{low},"value":8000}}"#
        )
    };
    insert(
        &tables,
        "capitol_trades",
        &[
            ("1", "XYZ", 1, &trade("senate", "buy", r#","sizeRangeLow":1001,"sizeRangeHigh":15000"#)),
            ("2", "XYZ", 1, &trade("house", "sell", r#","sizeRangeLow":15001,"sizeRangeHigh":50000"#)),
            ("3", "XYZ", 1, &trade("house", "exchange", "")),
            ("4", "XYZ", 1, &trade("house", "sell", "")),
        ],
    );
    insert(
        &tables,
        "quiver_senate",
        &[("1", "XYZ", 1, r#"{"Filed":"2026-11-17","Transaction":"Purchase","Range":"$1,001 - $15,000"}"#)],
    );
    assert_eq!(
        metrics(&tables, 24),
        [
            "11-17 quiver_congress_net_usd -32500 4",
            "11-17 quiver_house_net_usd -40500.5 3",
            "11-17 quiver_senate_net_usd 8000.5 1",
            "11-17 quiver_senate_net_usd 8000.5 1",
        ]
    );
    tables.rows("update market.capitol_trades set source = 'capitoltrades'");
    assert_eq!(
        tables
            .rows("select source from market.ingest_metrics where key = 'quiver_senate_net_usd' order by 1"),
        ["capitoltrades", "quiver"]
    );
}

#[test]
fn a_key_of_ones_own_is_one_call() {
    let tables = Tables::new("metrics_own");
    tables.rows("call market.define_metric('lobbyists', 'quiver_lobbying', 'reported_on', 'count(distinct d.registrant)', 'true', 'Who lobbied on the day.')");
    insert(
        &tables,
        "quiver_lobbying",
        &[
            ("a", "AAPL", 1, r#"{"Date":"2026-11-17","Registrant":"S"}"#),
            ("b", "AAPL", 1, r#"{"Date":"2026-11-17","Registrant":"T"}"#),
        ],
    );
    assert_eq!(metrics(&tables, 24), ["11-17 lobbyists 2 2"]);
    let mut client = tables.connect();
    let error = client
        .batch_execute("call market.define_metric('k', 'nothing', 'd', 'count(*)', 'true', '')")
        .unwrap_err();
    let error = error.as_db_error().unwrap();
    assert_eq!((error.code().code(), error.message()), ("42P01", "kind \"nothing\" has no table"));
    assert!(error.hint().unwrap().contains("define_document_table"));
}
