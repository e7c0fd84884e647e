//! Messages of social platforms, and what is counted of them.

use kronos_tests::Database;

/// `store(id, symbol, written, label, author, followers, likes, known_at)`: a message of Stocktwits, or another version of it.
const STORE: &str = r#"
    create function store(id integer, symbol text, written timestamptz, label text default null, author text default 'ann',
                          followers integer default 10, likes integer default 0, known_at timestamptz default null, body text default 'so it goes')
    returns void language sql as $$
      insert into market.social_messages (source, kind, key, symbol, event_time, known_at, received_at, payload, digest)
      select 'stocktwits', 'social_messages', id || '/' || symbol, symbol, written, coalesce(known_at, written), now(), p, sha256(p::text::bytea)
      from jsonb_build_object('id', id, 'body', body, 'symbols', jsonb_build_array(jsonb_build_object('symbol', symbol)),
             'user', jsonb_build_object('username', author, 'followers', followers), 'likes', jsonb_build_object('total', likes),
             'entities', jsonb_build_object('sentiment', case when label is not null then jsonb_build_object('basic', label) end)) p
    $$"#;

fn messages(test: &str, calls: &str) -> Database {
    let db = Database::installed(test);
    db.run(STORE);
    db.run(calls);
    db
}

#[test]
fn columns_are_read_from_what_each_platform_says() {
    let db = messages("social_columns", "");
    db.run(
        r#"insert into market.social_messages (source, kind, key, symbol, event_time, known_at, received_at, payload, digest)
           select source, 'social_messages', source, 'AAA', now(), now(), now(), p, sha256(p::text::bytea)
           from (values
             ('stocktwits', jsonb '{"id": 600000123, "body": "$AAA up", "user": {"id": 77, "username": "abc", "followers": 120},
                                    "symbols": [{"symbol": "AAA"}, {"symbol": "BTC.X"}], "entities": {"sentiment": {"basic": "Bullish"}},
                                    "likes": {"total": 2}, "reshares": {"reshared_count": 1}}'),
             ('truthsocial', '{"id": "115500112233445566", "content": "Strong report, weak outlook, strong guide", "replies_count": 1, "reblogs_count": 2,
                               "favourites_count": 9, "account": {"id": "1077", "acct": "someone", "followers_count": 5}}'),
             ('broken', '{"id": [], "user": "abc", "entities": [], "likes": 3, "symbols": {"symbol": 7}}')) v (source, p)"#,
    );
    let rows = db.rows(
        "select msg_id, array_to_string(symbols, ' '), author, followers, body, sentiment_raw, likes, reshares,
                round(score::numeric, 3), score_source
         from market.social_messages order by source desc",
    );
    let said: Vec<Vec<&str>> =
        rows.iter().map(|row| row.iter().map(|one| one.as_deref().unwrap_or("-")).collect()).collect();
    assert_eq!(
        said,
        [
            vec![
                "115500112233445566",
                "-",
                "someone",
                "5",
                "Strong report, weak outlook, strong guide",
                "-",
                "9",
                "2",
                "0.333",
                "lexicon"
            ],
            vec!["600000123", "AAA BTC.X", "abc", "120", "$AAA up", "Bullish", "2", "1", "1.000", "label"],
            vec!["[]", "-", "-", "-", "-", "-", "-", "-", "-", "-"],
        ]
    );
}

#[test]
fn an_hour_is_what_was_written_in_it() {
    let db = messages(
        "social_hour",
        "select store(1, 'AAA', '2026-11-20 14:00+00', 'Bullish', 'ann', 100, 2),
                store(2, 'AAA', '2026-11-20 14:30+00', 'Bearish', 'bob', 1000),
                store(3, 'AAA', '2026-11-20 14:59:59.999+00', 'Bullish', 'ann', 100),
                store(4, 'AAA', '2026-11-20 14:10+00', null, 'cat', 50, body => 'Strong BUY'),
                -- The end of a window is the beginning of the next.
                store(5, 'AAA', '2026-11-20 15:00+00', 'Bearish', 'dan'),
                store(6, 'BBB', '2026-11-20 14:20+00', null, 'dan')",
    );
    let hour = |more: &str| {
        db.rows(&format!(
            "select symbol, msg_rate_1h, round(mean_sent::numeric, 6), round(std_sent::numeric, 6), round(bull_ratio::numeric, 6),
                    n_authors, top_handles
             from market.social_features('2026-11-20 15:59+00', span => '1 hour' {more})"
        ))
    };
    let told = |rows: Vec<Vec<Option<String>>>| -> Vec<String> {
        rows.iter()
            .map(|row| row.iter().map(|one| one.as_deref().unwrap_or("-")).collect::<Vec<_>>().join(" "))
            .collect()
    };
    // Scores 1, -1, 1: variance (4/9 + 16/9 + 4/9) / 2 = 4/3. Ann: 100 (1 + 2) + 100 (1 + 0) = 400, Bob 1000, Cat 50.
    assert_eq!(told(hour("")), ["AAA 4 0.333333 1.154701 0.666667 3 {bob,ann,cat}", "BBB 1 - - - 1 {dan}"]);
    // With the list of words, 1, -1, 1, 1: variance (3 (1/2)² + (3/2)²) / 3 = 1.
    assert_eq!(
        told(hour(", score_sources => '{label,lexicon}'"))[0],
        "AAA 4 0.500000 1.000000 0.750000 3 {bob,ann,cat}"
    );
    assert_eq!(told(hour(", symbols => '{BBB}'")), ["BBB 1 - - - 1 {dan}"]);
    assert!(hour(", symbols => '{ZZZ}'").is_empty(), "of a name without messages there is nothing to count");
    // The next hour has the message of 15:00 alone, and silence of the other.
    let next = "select symbol, msg_rate_1h, window_end at time zone 'UTC' from market.social_features('2026-11-20 16:00+00', span => '1 hour')";
    assert_eq!(told(db.rows(next)), ["AAA 1 2026-11-20 16:00:00", "BBB 0 2026-11-20 16:00:00"]);
}

#[test]
fn a_rate_is_unusual_as_against_the_month_before() {
    // One, two, three messages an hour in turn for a week, ten in a constant week, and then a burst in both.
    let db = messages(
        "social_z",
        "select store(h * 100 + i, 'AAA', timestamptz '2026-11-01 00:30+00' + h * interval '1 hour')
         from generate_series(0, 168) h, generate_series(1, case when h = 168 then 12 else 1 + h % 3 end) i;
         select store(100000 + h * 100 + i, 'BBB', timestamptz '2026-11-01 00:30+00' + h * interval '1 hour')
         from generate_series(0, 168) h, generate_series(1, case when h = 168 then 12 else 2 end) i",
    );
    let score = |symbol: &str, as_of: &str| {
        db.value(&format!(
            "select coalesce(round(msg_rate_z_30d::numeric, 6)::text, 'none')
             from market.social_features('{as_of}', '{{{symbol}}}', span => '1 hour')"
        ))
    };
    // 56 each of 1, 2, 3: median 2, MAD 1, so (12 - 2) / 1.4826.
    assert_eq!(score("AAA", "2026-11-08 01:00+00"), "6.744908");
    assert_eq!(score("AAA", "2026-11-08 00:00+00"), "none", "an hour less than a week is known");
    assert_eq!(score("BBB", "2026-11-08 01:00+00"), "none", "no spread, no measure");
    // Silence counts: a month later 168 hours of messages and the burst are out of the window but for 23 hours of its first day.
    assert_eq!(score("AAA", "2026-12-08 01:00+00"), "none");
    let silent = "select msg_rate_1h, n_authors, top_handles from market.social_features('2026-12-08 01:00+00', '{AAA}', span => '1 hour')";
    assert_eq!(db.rows(silent)[0], ["0", "0", "{}"].map(|one| Some(one.to_owned())));
    // What a window says does not depend on how many are asked for.
    let wide = "select coalesce(round(msg_rate_z_30d::numeric, 6)::text, 'none') from market.social_features('2026-11-20 00:00+00', '{AAA}', span => '19 days')
                where window_end = '2026-11-08 01:00+00'";
    assert_eq!(db.value(wide), "6.744908");
}

#[test]
fn days_are_windows_too_and_end_at_midnight_utc() {
    let db = messages(
        "social_days",
        "set timezone = 'Asia/Tokyo';
         select store(d * 100 + i, 'AAA', timestamptz '2026-11-01 23:59+00' + d * interval '1 day', case when i = 1 then 'Bullish' else 'Bearish' end)
         from generate_series(0, 7) d, generate_series(1, case when d = 7 then 24 else 1 + d end) i",
    );
    let rows = db.rows(
        "set timezone = 'America/New_York';
         select window_end at time zone 'UTC', msg_rate_1h, round(msg_rate_z_30d::numeric, 6), round(bull_ratio::numeric, 6)
         from market.social_features('2026-11-09 12:00+00', width => '1 day', span => '2 days')",
    );
    // Days of 1 to 7 messages and one of 24: median 4, MAD 2 before the eighth, (24 - 4) / (1.4826 · 2); the seventh has six days before it.
    let expected = [
        ["2026-11-08 00:00:00", "0.2916666666666667", "-", "0.142857"],
        ["2026-11-09 00:00:00", "1", "6.744908", "0.041667"],
    ];
    let said: Vec<Vec<&str>> =
        rows.iter().map(|row| row.iter().map(|one| one.as_deref().unwrap_or("-")).collect()).collect();
    assert_eq!(said, expected);
}

#[test]
fn a_window_keeps_what_was_known_at_its_end() {
    let db = messages(
        "social_versions",
        "select store(1, 'AAA', '2026-11-20 14:10+00', 'Bullish', 'ann', 10, 0),
                store(2, 'AAA', '2026-11-20 14:20+00', 'Bullish', 'bob', 20, 0),
                -- Read again within the hour, and after it: the same message.
                store(1, 'AAA', '2026-11-20 14:10+00', 'Bullish', 'ann', 10, 5, '2026-11-20 14:40+00'),
                store(1, 'AAA', '2026-11-20 14:10+00', 'Bearish', 'ann', 10, 0, '2026-11-20 15:00+00'),
                -- Seen only when the hour was over.
                store(3, 'AAA', '2026-11-20 14:50+00', 'Bearish', 'cat', 999, 9, '2026-11-20 15:20+00')",
    );
    let hour = |as_of: &str| {
        let sql = format!(
            "select (f.symbol, msg_rate_1h, mean_sent, n_authors, top_handles)::text
             from market.social_features('{as_of}') f where window_end = '2026-11-20 15:00+00'"
        );
        db.rows(&sql).into_iter().flatten().flatten().collect::<Vec<_>>()
    };
    let then = hour("2026-11-20 15:00+00");
    assert_eq!(then, [r#"(AAA,2,1,2,"{ann,bob}")"#]);
    assert_eq!(hour("2026-11-20 16:00+00"), then);
    assert!(hour("2026-11-20 14:59:59+00").is_empty(), "a window that is not over is none");
}

#[test]
fn windows_that_are_none_are_refused() {
    let db = messages("social_refused", "");
    assert!(db.rows("select * from market.social_features").is_empty());
    assert!(db.rows("select * from market.social_features_1d").is_empty());
    for width in ["7 hours", "0", "-1 hour", "1 second", "2 days", "1 month"] {
        db.error(&format!("select * from market.social_features(width => '{width}')"))
            .is("22023", "does not divide a day")
            .hint("'1 hour' or '1 day'");
    }
    for (as_of, span) in
        [("infinity", "1 day"), ("-infinity", "1 day"), ("2026-11-20", "0"), ("2026-11-20", "1000 years")]
    {
        db.error(&format!("select * from market.social_features('{as_of}', span => '{span}')"))
            .is("22023", "have no windows")
            .hint("a century");
    }
}

#[test]
fn what_is_held_and_what_reports_soon_matters_more_to_those_who_may_know() {
    let db = messages(
        "social_attention",
        "insert into trading.accounts (account, equity_usd) values ('main', 1000);
         insert into trading.positions (account, symbol, quantity, price_usd) values ('main', 'AAA', -3, 10), ('main', 'BBB', 0, 10), ('main', 'CCC', 1, 10);
         insert into market.documents (source, kind, key, symbol, event_time, known_at, received_at, payload, digest)
         select 'fmp', 'fmp_earnings', s || d, s, now() + d * interval '1 hour', now() - interval '30 days', now(), '{}', sha256((s || d)::bytea)
         from (values ('CCC', 47), ('CCC', 20), ('DDD', -23), ('EEE', 49), ('FFF', -25)) v (s, d)",
    );
    let told = "select symbol, urgency, is_held, round(extract(epoch from event_time - now()) / 3600) from market.attention() order by 1";
    let rows = |rows: Vec<Vec<Option<String>>>| -> Vec<String> {
        rows.iter()
            .map(|row| row.iter().map(|one| one.as_deref().unwrap_or("-")).collect::<Vec<_>>().join(" "))
            .collect()
    };
    assert_eq!(rows(db.rows(told)), ["AAA 4 t -", "CCC 12 t 20", "DDD 3 f -23"]);
    // The worker's role has no word in trading, until somebody gives it one.
    let worker = db.role("worker");
    db.run(&format!("grant market_ingestor to {worker}"));
    let mut client = db.connect_as(&worker);
    assert_eq!(rows(kronos_tests::rows(&mut client, told)), ["CCC 3 f 20", "DDD 3 f -23"]);
    db.run(&format!(
        "grant usage on schema trading to {worker}; grant select on trading.positions to {worker}"
    ));
    assert_eq!(rows(kronos_tests::rows(&mut client, told)), ["AAA 4 t -", "CCC 12 t 20", "DDD 3 f -23"]);
}
