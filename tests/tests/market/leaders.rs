//! Bars of the leaders.

use kronos_tests::Database;

fn bar(db: &Database, symbol: &str, source: &str, day: &str, close: f64, known_at: &str) {
    db.run(&format!(
        "insert into market.bars (symbol, source, bar_width, time, open, high, low, close, volume, close_adj, known_at)
         values ('{symbol}', '{source}', '1 day', '{day} 00:00+00', 1, 9999, 0.5, {close}, 7, {close} - 1, {known_at})"
    ));
}

fn known(db: &Database, leader: &str, as_of: &str) -> Vec<String> {
    let query = format!(
        "select d, c, source, to_char(known_at at time zone 'UTC', 'MM-DD HH24:MI') from market.leader_bars('{as_of}', '{{{leader}}}') order by d"
    );
    let row = |row: kronos_tests::Row| row.into_iter().map(Option::unwrap).collect::<Vec<_>>().join(" ");
    db.rows(&query).into_iter().map(row).collect()
}

#[test]
fn a_leader_is_known_twenty_minutes_after_its_session() {
    let db = Database::installed("leaders_known");
    // As the back-fill stamps them: at the end of the day of UTC. The clocks of New York go back on 1 November.
    for (day, close) in [("2026-10-30", 600.0), ("2026-11-02", 610.0)] {
        bar(
            &db,
            "SPY",
            "yahoo",
            day,
            close,
            &format!("timestamptz '{day} 00:00+00' + interval '1 day 20 minutes'"),
        );
        bar(
            &db,
            "BTC-USD",
            "yahoo",
            day,
            close,
            &format!("timestamptz '{day} 00:00+00' + interval '1 day 20 minutes'"),
        );
        bar(
            &db,
            "^VIX",
            "yahoo",
            day,
            20.0,
            &format!("timestamptz '{day} 00:00+00' + interval '1 day 20 minutes'"),
        );
    }
    // Restated at noon.
    bar(&db, "SPY", "yahoo", "2026-11-03", 620.0, "'2026-11-04 12:00+00'");
    assert_eq!(
        known(&db, "SPY", "2026-12-01 00:00+00"),
        [
            "2026-10-30 600 yahoo 10-30 20:20",
            "2026-11-02 610 yahoo 11-02 21:20",
            "2026-11-03 620 yahoo 11-04 12:00"
        ]
    );
    assert_eq!(known(&db, "SPY", "2026-11-02 21:19+00").len(), 1);
    // What a participant may use of the day of Bitcoin is the close of New York, not the other way round.
    assert_eq!(known(&db, "BTC-USD", "2026-11-03 00:19+00").len(), 1);
    assert_eq!(known(&db, "BTC-USD", "2026-11-03 00:20+00")[1], "2026-11-02 610 yahoo 11-03 00:20");
    assert_eq!(known(&db, "^VIX", "2026-12-01 00:00+00")[1], "2026-11-02 20 yahoo 11-02 21:35");
    assert_eq!(
        db.value("select concat_ws(' ', o, h, l, c, v, adj_close, symbol) from market.leader_ohlcv where leader = 'SPY' and d = '2026-11-02'"),
        "1 9999 0.5 610 7 609 SPY"
    );
}

#[test]
fn a_leader_has_one_series_and_a_fallback_where_that_is_dead() {
    let db = Database::installed("leaders_fallback");
    let end = |day: &str| format!("timestamptz '{day} 00:00+00' + interval '1 day'");
    for day in ["2026-11-02", "2026-11-03"] {
        bar(&db, "DX-Y.NYB", "yahoo", day, 104.0, &end(day));
        bar(&db, "UUP", "alpaca", day, 28.0, &end(day));
    }
    // Two sources of one series: the better has the day that both have.
    bar(&db, "DX-Y.NYB", "alpaca", "2026-11-03", 104.5, &end("2026-11-03"));
    for day in ["2026-11-10", "2026-11-13"] {
        bar(&db, "UUP", "alpaca", day, 29.0, &end(day));
    }
    let sources = |as_of: &str| {
        known(&db, "DX-Y.NYB", as_of)
            .iter()
            .map(|row| row[11..].split_once(" 11-").unwrap().0.to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(sources("2026-11-12 00:00+00"), ["104 yahoo", "104.5 alpaca"]);
    // Ten days behind, it is taken for dead; the fund has another level, so it stands for all days.
    assert_eq!(sources("2026-11-14 00:00+00"), ["28 alpaca", "28 alpaca", "29 alpaca", "29 alpaca"]);
    // FRED has closes alone, the next morning.
    db.run(
        "insert into market.fred_observation (source, kind, key, symbol, known_at, received_at, payload, digest)
         select 'fred', 'fred_observation', 'VIXCLS/2026-11-13', 'VIXCLS', '2026-11-17 05:00+00', '2026-11-20', p, sha256(p::text::bytea)
         from (select jsonb '{\"date\": \"2026-11-13\", \"realtime_start\": \"2026-11-16\", \"value\": \"19.83\"}' as p) x",
    );
    assert_eq!(known(&db, "^VIX", "2026-11-17 04:59+00"), [""; 0]);
    assert_eq!(known(&db, "^VIX", "2026-11-17 05:00+00"), ["2026-11-13 19.83 fred 11-17 05:00"]);
}

#[test]
fn what_becomes_known_later_chooses_no_series() {
    let db = Database::installed("leaders_later");
    db.run(
        "insert into market.bars (symbol, source, bar_width, time, open, high, low, close, known_at)
         select s, source, '1 day', d, 1, 1, 1, 100 + 9 * sin(n * length(source)), d + case n % 7 when 3 then interval '3 days' else interval '1 day' end
         from unnest('{SPY,DX-Y.NYB,UUP,BTCUSD,VIX}'::text[]) with ordinality a (s, i), unnest('{yahoo,alpaca}'::text[]) source,
              generate_series(0, 60) n, lateral (select timestamptz '2026-09-01 00:00+00' + n * interval '1 day' as d) x
         where not (s = 'DX-Y.NYB' and n between 20 and 45)",
    );
    for at in ["2026-09-28 12:00+00", "2026-10-05 00:00+00", "2026-10-20 21:00+00"] {
        let query = format!(
            "select count(*) || md5(string_agg(b::text, ',' order by b::text)) from market.leader_bars('{at}') b"
        );
        let before = db.value(&query);
        for change in ["update market.bars set close = 1e6", "delete from market.bars"] {
            let mut client = db.connect();
            // What is known when the session closes is stamped with the end of its day.
            client
                .batch_execute(&format!(
                    "begin; {change} where known_at > timestamptz '{at}' + interval '8 hours'"
                ))
                .unwrap();
            let after = kronos_tests::rows(&mut client, &query);
            assert_eq!(after[0][0].as_ref(), Some(&before), "{at}: {change}");
        }
    }
}
