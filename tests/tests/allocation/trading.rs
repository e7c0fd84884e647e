//! The tables of schema `trading`: knobs, positions, breakers, allocation runs.

use kronos_tests::Database;

fn installed(test: &str) -> Database {
    let db = Database::installed(test);
    db.run(
        "create table names as
         select 'N' || g as symbol, 0.004 * sin(g * 1.7) as expected_return, 20.0 + g as price,
                case when g % 2 = 0 then 'tech' else 'util' end as group_sector, 0.02 as volatility
         from generate_series(1, 20) g;
         insert into trading.accounts (account, equity_usd) values ('paper', 250000);
         insert into trading.positions (account, symbol, quantity, price_usd) values ('paper', 'N1', 100, 21), ('paper', 'N2', -50, 22)",
    );
    db
}

const SIGNALS: &str =
    "$$select n.*, p.weight as prev_weight, trading.halt_of(n.symbol, n.group_sector) as halt
    from names n left join trading.position_weights p on p.symbol = n.symbol and p.account = 'paper'$$";

#[test]
fn positions_are_weights_of_the_equity() {
    let db = installed("position_weights");
    // 100 shares at 21 and -50 at 22 of 250 000.
    assert_eq!(
        db.value(
            "select string_agg(symbol || ' ' || weight, ', ' order by symbol) from trading.position_weights"
        ),
        "N1 0.0084, N2 -0.0044"
    );
}

#[test]
fn what_is_no_number_is_no_position_and_no_term() {
    let db = installed("no_number");
    let refused = |when: &str| {
        for number in ["NaN", "Infinity"] {
            for statement in [
                "update trading.accounts set equity_usd = '@'",
                "update trading.positions set price_usd = '@'",
                "update trading.positions set quantity = '@'",
                "insert into trading.terms (symbol, cost_bps) values ('N1', '@')",
                "insert into trading.terms (symbol, borrow_bps_year) values ('N1', '@')",
                "insert into trading.terms (symbol, adv_usd) values ('N1', '@')",
                "insert into trading.scores (symbol, score) values ('N1', '@')",
            ] {
                let failure = db.error(&statement.replace('@', number));
                assert_eq!(failure.code, "23514", "{when}: {statement} {number}: {failure:?}");
            }
        }
    };
    refused("new tables");
    // As the tables were made before.
    db.run(
        "do $$ declare item record; begin
           for item in select c.conrelid::regclass as relation, c.conname from pg_constraint c
                       where c.contype = 'c' and c.conrelid::regclass::text in ('trading.accounts', 'trading.positions', 'trading.terms') loop
             execute format('alter table %s drop constraint %I', item.relation, item.conname);
           end loop;
         end $$;
         call kronos.install()",
    );
    refused("tables of an older version");
}

#[test]
fn knobs_follow_regime_and_date() {
    let db = installed("knobs");
    assert_eq!(db.value("select trading.knob('gross')"), "1.5");
    db.run(
        "insert into trading.policy_knobs (knob, regime, value, valid_from) values
           ('gross', 'any', 1.2, '2024-01-01'), ('gross', 'risk_off', 0.8, '2024-02-01'), ('gross', 'risk_off', 0.6, '2024-03-01')",
    );
    for (call, expected) in [
        ("'gross'", "1.2"),
        ("'gross', 'risk_on'", "1.2"),
        ("'gross', 'risk_off'", "0.6"),
        ("'gross', 'risk_off', '2024-02-10'", "0.8"),
        ("'gross', 'risk_off', '2024-01-10'", "1.2"),
        ("'gross', 'risk_off', '2023-01-10'", "1.5"),
    ] {
        assert_eq!(db.value(&format!("select trading.knob({call})")), expected, "{call}");
    }
    // What holds for any regime gives way to the regime's own, however new it is.
    db.run(
        "insert into trading.policy_knobs (knob, regime, value, valid_from) values
           ('net_max', 'risk_off', 0.2, '2024-01-01'), ('net_max', 'any', 0.4, '2024-02-01')",
    );
    assert_eq!(
        db.value("select trading.knob('net_max', 'risk_off') || ' ' || trading.knob('net_max', 'neutral')"),
        "0.2 0.4"
    );
    db.error("select trading.knob('gros')").is("42704", "knob \"gros\" does not exist");
    for value in ["50", "-1", "'nan'"] {
        db.error(&format!("insert into trading.policy_knobs (knob, value) values ('gross', {value})"))
            .is("22023", "must be between 0 and 10");
    }
    db.error("update trading.policy_knobs set value = 9").is("55000", "append-only");
}

#[test]
fn the_strictest_breaker_counts_until_it_is_cleared_or_expires() {
    let db = installed("breakers");
    let halt = |symbol: &str| db.value(&format!("select trading.halt_of('{symbol}', 'tech')"));
    assert_eq!(halt("N2"), "");
    db.run(
        "insert into trading.circuit_breakers (scope, key, mode, reason, triggered_at, expires_at) values
           ('sector', 'tech', 'reduce_only', 'news', now(), now() + interval '1 day'),
           ('symbol', 'N2', 'frozen', 'halt code', now(), now() + interval '1 day'),
           ('symbol', 'N4', 'frozen', 'yesterday', now() - interval '2 days', now() - interval '1 day')",
    );
    assert_eq!([halt("N2"), halt("N4")], ["frozen", "reduce_only"]);
    assert_eq!(db.value("select coalesce(trading.halt_of('N1', 'util'), 'none')"), "none");
    db.run("select trading.clear_breaker(breaker_id, 'over') from trading.effective_breakers where scope = 'symbol'");
    assert_eq!(halt("N2"), "reduce_only");
    // A global breaker outlives its time until somebody clears it; flattening is not the allocator's business.
    db.run(
        "insert into trading.circuit_breakers (scope, key, mode, reason, triggered_at, expires_at)
         values ('global', '*', 'flatten', 'drawdown', now() - interval '2 days', now() - interval '1 day')",
    );
    assert_eq!(halt("N2"), "frozen");
    db.error("delete from trading.circuit_breakers").is("55000", "append-only");
    db.error("select trading.clear_breaker(99, 'x')").is("42704", "circuit breaker 99 does not exist");
    db.error("select trading.clear_breaker(1, 'x'); select trading.clear_breaker(1, 'x')").is("23505", "");
}

#[test]
fn a_run_is_recorded_with_what_it_read_and_why() {
    let db = installed("runs");
    let run =
        |more: &str| db.value(&format!("select trading.run_allocation({SIGNALS}, account => 'paper'{more})"));
    assert_eq!(run(""), "1");
    assert_eq!(
        db.value(
            "select status || ' ' || (equity_usd = 250000) || ' ' || (arguments ->> 'gross') || ' ' || (figures ->> 'turnover')::numeric(6,4)
               || ' ' || (rules @> '[{\"rule\": \"max_turnover 0.15\"}]') from trading.allocation_runs"
        ),
        "optimal true 1.5 0.1500 true"
    );
    // The weights are those of the function itself, with the policy's arguments.
    assert_eq!(
        db.value(&format!(
            "select count(*) from trading.allocation_weights w join kronos.propose_weights({SIGNALS}, gross => 1.5, net => '[-0.1,0.3]',
               weight_bounds => '[-0.03,0.05]', max_turnover => 0.15,
               options => '{{\"cash_reserve\":0.05,\"equity\":250000,\"min_notional\":500}}') p using (symbol, weight, trade)"
        )),
        "20"
    );
    // Each query runs once: this one counts its rows.
    db.run("create sequence rows_read");
    let counting = SIGNALS.replace("= 'paper'$$", "= 'paper' where nextval('rows_read') > 0$$");
    let names = db.value("select count(*) from names");
    db.run(&format!("select trading.run_allocation({counting}, account => 'paper')"));
    assert_eq!(db.value("select last_value from rows_read"), names);
    // Same inputs, same hash and weights; other inputs, another hash.
    run("");
    db.run("update names set expected_return = 0.009 where symbol = 'N7'");
    run("");
    assert_eq!(
        db.value("select count(distinct inputs_sha256) || ' ' || count(*) from trading.allocation_runs"),
        "2 4"
    );
    // Orders add up to the trades, and exits come first.
    assert_eq!(
        db.value(
            "select count(*) from (select run_id, symbol, sum(notional_usd) as usd from trading.order_proposals group by 1, 2) o
             join trading.allocation_weights w using (run_id, symbol) where abs(o.usd - w.trade * 250000) > 0.01"
        ),
        "0"
    );
    assert_eq!(
        db.value("select count(*) from trading.order_proposals where (sequence = 1) <> (action in ('sell', 'buy_to_cover'))"),
        "0"
    );
    for table in ["allocation_runs", "allocation_weights"] {
        db.error(&format!("delete from trading.{table}")).is("55000", "append-only");
    }
    db.error(&format!("select trading.run_allocation({SIGNALS}, arguments => '{{\"grss\":1}}')"))
        .is("22023", "unrecognized argument \"grss\"");
    db.error(&format!("select trading.run_allocation({SIGNALS}, account => 'none')"))
        .is("42704", "account \"none\" does not exist");
}

/// Expected returns as large as these take all that the rules leave: 0.1 a name, 1 in all, as much short as long.
#[test]
fn without_arguments_a_book_is_neutral_and_unlevered() {
    let db = installed("default_book");
    let book = "from kronos.propose_weights('select symbol, expected_return, volatility from names')";
    let sums = db.rows(&format!(
        "select round(sum(weight)::numeric, 6)::float8, round(sum(abs(weight))::numeric, 6)::float8, round(max(abs(weight))::numeric, 6)::float8 {book}"
    ));
    assert_eq!(sums, [["0", "1", "0.1"].map(|sum| Some(sum.to_owned()))]);
    let rules = "select string_agg(distinct item, ', ' order by item)
                 from kronos.explain_weights('select symbol, expected_return, volatility from names') where kind = 'rule'";
    assert_eq!(db.value(rules), "gross 1, net [0,0]");
}

#[test]
fn the_hash_of_a_run_covers_names_and_returns() {
    let db = installed("run_hash");
    db.run(
        "create table returns as select n.symbol, timestamptz '2024-01-01 00:00+00' + d * interval '1 day' as ts, 0.01 * sin(d * 1.3 + length(n.symbol) + n.price) as ret
         from names n, generate_series(1, 60) d",
    );
    let run = || {
        db.run(&format!(
            "select trading.run_allocation({SIGNALS}, 'select * from returns', account => 'paper')"
        ))
    };
    run();
    db.run("update returns set ret = 0.02 where symbol = 'N7' and ts = '2024-01-09 00:00+00'");
    run();
    db.run("update names set expected_return = 0.009 where symbol = 'N7'");
    run();
    assert_eq!(db.value("select count(distinct inputs_sha256) from trading.allocation_runs"), "3");
}

/// Equity of 10 000 and a price of 10: a weight of 0.001 is a share.
#[test]
fn an_order_through_zero_closes_what_is_held_and_then_opens_what_is_wanted() {
    let db = installed("order_legs");
    let weights: Vec<String> = [
        ("flip to short", 0.04, -0.02),
        ("flip to long", -0.02, 0.04),
        ("grow", 0.02, 0.05),
        ("grow short", -0.02, -0.05),
        ("shrink", 0.05, 0.02),
        ("cover a part", -0.05, -0.02),
        ("leave", 0.03, 0.0),
        ("enter", 0.0, 0.03),
        ("enter short", 0.0, -0.03),
        ("stay", 0.03, 0.03),
    ]
    .iter()
    .map(|(name, held, wanted)| {
        format!("(run, '{name}', {wanted}, {held}, {wanted} - {held}, '', 0, 0, 0, '{{}}', null, 10)")
    })
    .collect();
    db.run(&format!(
        "do $$declare run bigint; begin
           insert into trading.allocation_runs (account, regime, arguments, signals, inputs_sha256, status, equity_usd, figures, rules)
           values ('paper', 'any', '{{}}', '', '', 'optimal', 10000, '{{}}', '[]') returning run_id into run;
           insert into trading.allocation_weights values {};
         end$$",
        weights.join(", ")
    ));
    let orders = db.rows(
        "select symbol, string_agg(format('%s %s %s usd %s', sequence, action, round(quantity::numeric, 6)::float8, round(notional_usd::numeric, 6)::float8),
                                   ', ' order by sequence)
         from trading.order_proposals where account = 'paper' group by 1 order by 1",
    );
    let orders: Vec<(String, String)> =
        orders.into_iter().map(|row| (row[0].clone().unwrap(), row[1].clone().unwrap())).collect();
    let expected = [
        ("cover a part", "1 buy_to_cover 30 usd 300"),
        ("enter", "2 buy 30 usd 300"),
        ("enter short", "2 sell_short -30 usd -300"),
        ("flip to long", "1 buy_to_cover 20 usd 200, 2 buy 40 usd 400"),
        ("flip to short", "1 sell -40 usd -400, 2 sell_short -20 usd -200"),
        ("grow", "2 buy 30 usd 300"),
        ("grow short", "2 sell_short -30 usd -300"),
        ("leave", "1 sell -30 usd -300"),
        ("shrink", "1 sell -30 usd -300"),
    ];
    assert_eq!(orders, expected.map(|(name, legs)| (name.to_owned(), legs.to_owned())));
}

#[test]
fn halts_reach_the_book_and_a_failed_allocation_closes_entries() {
    let db = installed("halts");
    db.run("insert into trading.circuit_breakers (scope, key, mode, reason, expires_at) values ('sector', 'util', 'reduce_only', 'x', now() + interval '1 hour')");
    db.run(&format!("select trading.run_allocation({SIGNALS}, account => 'paper')"));
    assert_eq!(
        db.value(
            "select count(*) from trading.allocation_weights w join names using (symbol)
             where group_sector = 'util' and abs(weight) > abs(prev_weight) + 1e-9"
        ),
        "0"
    );
    // A reported conflict leaves the book alone and trips the global breaker.
    db.run(&format!(
        "select trading.run_allocation({SIGNALS}, account => 'paper', arguments => '{{\"net\":\"[0.9,1]\",\"on_infeasible\":\"report\"}}')"
    ));
    assert_eq!(
        db.value("select status || ' ' || detail from trading.allocation_runs where run_id = 2"),
        "held max_turnover 0.15, net min 0.9"
    );
    assert_eq!(
        db.value("select reason from trading.effective_breakers where scope = 'global'"),
        "allocator_failed"
    );
    assert_eq!(db.value("select trading.halt_of('N2', 'tech')"), "reduce_only");
}
