//! From the ledger to share deltas: expected returns, signals and `trading.rebalance`, on cases worked by hand.

use super::desk::{CHAIN, book, closes, installed, installed_with, near, number, three_points};
use kronos_tests::rows;

/// A forecast of a column of dates is labelled by midnight in its calendar's zone, and known at the close of the session.
#[test]
fn dates_are_those_of_the_calendars_zone() {
    let slopes = [("UTC", "00:00"), ("America/New_York", "16:00"), ("Asia/Tokyo", "15:30"), ("Australia/Sydney", "16:00")]
        .map(|(zone, close)| {
            let db = installed_with(&format!("dates_of_{}", zone.to_lowercase().replace('/', "_")), "date");
            three_points(&db);
            if zone != "UTC" {
                db.run(&format!(
                    "set session_replication_role = replica;
                     create table local as select * from ledger.forecasts;
                     delete from ledger.forecasts;
                     update local set ts = timezone('{zone}', timezone('UTC', ts)),
                       cutoff = timezone('{zone}', timezone('UTC', cutoff) - interval '1 day' + time '{close}');
                     insert into ledger.forecasts select * from local"
                ));
            }
            db.value("select n || ' ' || round(slope::numeric, 6) from trading.forecast_skill('bars', 1, day(5))")
        });
    assert_eq!(slopes, ["3 0.750000"; 4]);
}

#[test]
fn only_the_newest_pages_of_a_long_ledger_are_read() {
    let db = installed("signals_plan");
    closes(&db, "A", &[0.01; 3]);
    db.run(
        "insert into ledger.forecasts (run_id, kind, relation, series, target, ts, step, issued_at, cutoff, forecast, lower, upper, level,
           model_version)
         select 1, 'live', 'bars', 'S' || s, 'close', day(d), 1, day(d), day(d), 100, 99, 101, 0.9, 'old@1'
         from generate_series(-2000, -20) d, generate_series(1, 40) s order by d;
         select said('m@1', 'A', 2, 0.01)",
    );
    db.run("vacuum analyze ledger.forecasts");
    let output = db
        .program("psql")
        .args(["-X", "-q", "-c", "load 'auto_explain'", "-c"])
        .arg(
            "set auto_explain.log_nested_statements = on; set auto_explain.log_min_duration = 0; set auto_explain.log_analyze = on;
             set auto_explain.log_timing = off; set auto_explain.log_level = 'notice'",
        )
        .args(["-c", "select * from trading.expected_returns('bars', 1, day(3))"])
        .output()
        .unwrap();
    let plans = String::from_utf8_lossy(&output.stderr);
    let plan = plans
        .split("Query Text:")
        .find(|plan| plan.contains("with latest as"))
        .unwrap_or_else(|| panic!("{plans}"));
    // The newest ranges of ts lead to the rows, not the whole table: pages by the index, or chunks of a hypertable.
    let of_forecasts = plan.split("latest").last().unwrap_or_default();
    let excluded = of_forecasts.split("Chunks excluded during startup: ").nth(1);
    let excluded = excluded.and_then(|rest| rest.split_whitespace().next()?.parse::<u32>().ok());
    let few = of_forecasts.contains("forecasts_brin") || excluded.is_some_and(|chunks| chunks > 50);
    assert!(few && of_forecasts.contains("(ts > "), "{plan}");
}

#[test]
fn widths_of_months_and_clock_changes_lose_no_forecast() {
    let db = installed("signals_widths");
    closes(&db, "A", &[0.01; 95]);
    db.run("select said('m@1', 'A', d, 0.01) from generate_series(0, 94) d");
    // Every day from January to March, through the change of clocks, for widths whose ends depend on where they start.
    let differing = "select count(*) from generate_series(10, 95) d, unnest('{1 month,1 day,23:00,1 month 2 days,3 months}'::interval[]) w
        where (select count(*) from ledger.forecasts f where f.ts + w > day(d)) <>
              (select count(*) from ledger.forecasts f where f.ts + w > day(d) and f.ts > day(d) - w - interval '4 days')";
    let mut client = db.connect();
    client.batch_execute("set timezone = 'America/New_York'").unwrap();
    assert_eq!(rows(&mut client, differing)[0][0].as_deref(), Some("0"));
}

#[test]
fn volatility_is_that_of_the_interval_and_has_a_floor() {
    let db = installed("volatility");
    for (p, z) in [
        (0.5, 0.0),
        (0.95, 1.644_853_626_951_472_2),
        (0.975, 1.959_963_984_540_054),
        (0.9999, 3.719_016_485_455_709),
    ] {
        near(number(&db, &format!("select trading.normal_quantile({p})")), z);
        near(number(&db, &format!("select trading.normal_quantile({})", 1.0 - p)), -z);
    }
    db.error("select trading.normal_quantile(1)").is("22023", "probability must be between 0 and 1, got 1");
    near(
        number(&db, "select trading.band_volatility(exp(-0.0329), exp(0.0329), 0.9)"),
        0.0329 / 1.644_853_626_951_472_2,
    );
    for bounds in ["0, 1, 0.9", "2, 1, 0.9", "1, null, 0.9", "1, 'nan', 0.9", "1, 2, null"] {
        assert_eq!(db.value(&format!("select trading.band_volatility({bounds})")), "", "{bounds}");
    }
    closes(&db, "A", &[0.01]);
    db.run("select said('m@1', 'A', 1, 0.01, 0.0001)");
    let volatility = |arguments: &str| {
        number(&db, &format!("select volatility from trading.expected_returns('bars', 1, day(2){arguments})"))
    };
    near(volatility(""), 0.25 / 252f64.sqrt());
    near(volatility(", bars_per_year => 365"), 0.25 / 365f64.sqrt());
}

#[test]
fn the_whole_chain_from_the_ledger_to_share_deltas() {
    let db = installed("whole_chain");
    book(&db);
    let run = db.value(&format!("call trading.rebalance('bars', 1, account => 'paper', {CHAIN})"));
    assert_eq!(run, "1");
    assert_eq!(
        db.rows("select status, issued_by = current_user, equity_usd, arguments #>> '{group_limits,group_sector,*}' from trading.allocation_runs"),
        [["optimal", "t", "100000", r#"{"net": [-0.15, 0.15], "gross": 0.3}"#].map(|value| Some(value.to_owned())).to_vec()]
    );
    // Every name forecast or held; what nobody forecasts may only shrink; what has no borrow is not shorted.
    assert_eq!(db.value("select count(*) from trading.allocation_weights"), "13");
    assert_eq!(db.value("select weight between 0 and prev_weight + 1e-9 and status like '%reduce_only%' from trading.allocation_weights where symbol = 'X'"), "t");
    assert_eq!(
        db.value("select string_agg(symbol, ' ' order by symbol) from trading.allocation_weights w left join trading.terms t using (symbol)
                  where not coalesce(t.shortable, false) and w.expected_return < -0.009"),
        "N12 N15 N18 N21",
        "three without borrow and one without terms would be shorted"
    );
    assert_eq!(
        db.value(
            "select count(*) from trading.allocation_weights w left join trading.terms t using (symbol)
                  where not coalesce(t.shortable, false) and w.weight < least(0, w.prev_weight) - 1e-9"
        ),
        "0"
    );
    for (rule, query) in [
        ("sector net", "select max(abs(net)) <= 0.15 + 1e-6 from (select sum(weight) as net from trading.allocation_weights join trading.terms using (symbol) group by sector) s"),
        ("gross", "select sum(abs(weight)) <= 1.5 + 1e-6 from trading.allocation_weights"),
        ("turnover", "select sum(abs(trade)) / 2 <= 0.15 + 1e-6 from trading.allocation_weights"),
        ("net", "select sum(weight) between -0.1 - 1e-6 and 0.3 + 1e-6 from trading.allocation_weights"),
        ("caps", "select bool_and(weight between least(-0.03, prev_weight) - 1e-6 and greatest(0.05, prev_weight) + 1e-6) from trading.allocation_weights"),
        ("something is traded", "select count(*) > 3 from trading.order_proposals where run_id = 1"),
        ("share deltas are the trades", "select bool_and(abs(shares - trade * 100000 / price_usd) < 1e-6) from trading.allocation_weights
            join (select symbol, sum(quantity) as shares from trading.order_proposals where run_id = 1 group by 1) o using (symbol)"),
        ("what is held and what is proposed add up to the weight, at today's price", "select bool_and(abs((coalesce(h.quantity, 0) + coalesce(o.shares, 0)) * w.price_usd / 100000 - w.weight) < 1e-9)
            from trading.allocation_weights w left join trading.positions h using (symbol)
            left join (select symbol, sum(quantity) as shares from trading.order_proposals where run_id = 1 group by 1) o using (symbol)"),
        ("expected returns are those of the chain", "select bool_and(w.expected_return = s.expected_return) from trading.allocation_weights w
            join trading.signals('bars', 1, account => 'paper', as_of => day(41)) s using (symbol)"),
        ("the model is trusted as far as it says", "select bool_and(abs(expected_return - 0.01 * sin(substr(symbol, 2)::int * 2.0)) < 1e-9)
            from trading.allocation_weights where symbol <> 'X'"),
    ] {
        assert_eq!(db.value(query), "t", "{rule}");
    }
    // What is recorded can be run again, on the same inputs.
    db.run("select trading.run_allocation(signals, risk, account, arguments, regime) from trading.allocation_runs where run_id = 1");
    assert_eq!(
        db.value("select count(distinct inputs_sha256) || ' ' || count(distinct (figures->>'objective')) from trading.allocation_runs"),
        "1 1"
    );
}

#[test]
fn only_what_can_be_borrowed_is_sold_short() {
    let db = installed("chain_borrow");
    book(&db);
    // Three names that are alike but for their terms: with borrow, without it, and without terms.
    db.run(
        "insert into bars select s, day(d), 50 from unnest('{LENT,KEPT,BARE}'::text[]) s, generate_series(0, 40) d;
         select said('m@1', s, 40, -0.02) from unnest('{LENT,KEPT,BARE}'::text[]) s;
         insert into trading.terms (symbol, known_at, shortable, cost_bps, borrow_bps_year, adv_usd)
         values ('LENT', day(0), true, 2, 25.2, 1e8), ('KEPT', day(0), false, 2, 25.2, 1e8)",
    );
    let signals = "trading.signals('bars', 1, account => 'paper', as_of => day(41)) where symbol in ('LENT', 'KEPT', 'BARE')";
    assert_eq!(
        db.value(&format!(
            "select string_agg(symbol || ' ' || shortable, ', ' order by symbol) from {signals}"
        )),
        "BARE false, KEPT false, LENT true"
    );
    // A day of 252 costs a tenth of a basis point to borrow; 1e8 dollars are a thousand times the equity.
    assert_eq!(
        db.value("select concat_ws(' ', round(borrow_bps::numeric, 12)::float8, adv_weight, cost_bps)
                  from trading.signals('bars', 1, account => 'paper', as_of => day(41)) where symbol = 'LENT'"),
        "0.1 1000 2"
    );
    db.run(&format!("call trading.rebalance('bars', 1, account => 'paper', {CHAIN})"));
    let weight = |symbol: &str| {
        number(&db, &format!("select weight from trading.allocation_weights where symbol = '{symbol}'"))
    };
    assert!(weight("LENT") < -0.01, "{}", weight("LENT"));
    assert!(weight("KEPT") >= -1e-9 && weight("BARE") >= -1e-9, "{} {}", weight("KEPT"), weight("BARE"));
}

#[test]
fn what_the_broker_does_not_lend_is_not_sold_short_and_what_it_does_not_trade_is_not_entered() {
    let db = installed("chain_broker");
    book(&db);
    // Names that are alike but for what the broker says, from day 40 on; of the desk's terms none says whether they can be borrowed.
    db.run(
        "create function asset(s text, d int, id text, what jsonb) returns void language sql as $$
           insert into market.alpaca_assets (source, kind, key, symbol, known_at, received_at, payload, digest)
           select 'alpaca_assets', 'alpaca_assets', id, s, day(d), day(d), p, sha256(p::text::bytea)
           from (select jsonb_build_object('id', id, 'symbol', s, 'status', 'active', 'tradable', true, 'shortable', true, 'easy_to_borrow', true)
                        || what as p) x $$;
         insert into bars select s, day(d), 50 from unnest('{EASY,HARD,NONE,SHUT,RISE,GONE,DESK}'::text[]) s, generate_series(0, 40) d;
         select said('m@1', s, 40, case s when 'RISE' then 0.02 when 'GONE' then 0.02 else -0.02 end)
         from unnest('{EASY,HARD,NONE,SHUT,RISE,GONE,DESK}'::text[]) s;
         insert into trading.terms (symbol, known_at, cost_bps, borrow_bps_year)
         select s, day(0), 2, 25.2 from unnest('{EASY,HARD,NONE,SHUT,RISE,GONE}'::text[]) s;
         insert into trading.terms (symbol, known_at, shortable) values ('DESK', day(0), false), ('KEEN', day(0), true);
         select asset(s, 40, s, what) from (values ('EASY', '{}'::jsonb), ('HARD', '{\"easy_to_borrow\": false}'), ('NONE', '{\"shortable\": false}'),
           ('SHUT', '{\"tradable\": false}'), ('RISE', '{\"shortable\": false}'), ('GONE', '{\"status\": \"inactive\"}'), ('DESK', '{}'),
           ('KEEN', '{\"easy_to_borrow\": false}')) v (s, what);
         -- The ticker was another company's; a day after the book is made, everything is lent.
         select asset('EASY', 41, 'older', '{\"status\": \"inactive\", \"tradable\": false}');
         select asset('HARD', 42, 'HARD', '{}')",
    );
    let of = |day: u32, what: &str| {
        db.value(&format!(
            "select string_agg(concat_ws(' ', symbol, {what}), ', ' order by symbol) from trading.borrowability(day({day}))"
        ))
    };
    assert_eq!(
        of(41, "coalesce(reason, 'lent')"),
        "DESK lent, EASY lent, GONE inactive, HARD hard to borrow, KEEN hard to borrow, NONE not shortable, RISE not shortable, SHUT not tradable"
    );
    assert_eq!(of(39, "reason"), "", "nothing was known");
    assert_eq!(
        db.value("select string_agg(concat_ws(' ', symbol, shortable, veto), ', ' order by symbol) from trading.terms_at(day(42))
                  where symbol in ('HARD', 'DESK', 'GONE', 'KEEN')"),
        "DESK f f, GONE f t, HARD t f, KEEN f f",
        "of the desk's word and the broker's newest the stricter"
    );
    db.run(&format!("call trading.rebalance('bars', 1, account => 'paper', {CHAIN})"));
    let weight = |symbol: &str| {
        number(&db, &format!("select weight from trading.allocation_weights where symbol = '{symbol}'"))
    };
    assert!(weight("EASY") < -0.01, "{}", weight("EASY"));
    assert!(weight("RISE") > 0.01, "who cannot be borrowed can be bought: {}", weight("RISE"));
    for name in ["HARD", "NONE", "SHUT", "DESK"] {
        assert!(weight(name) >= -1e-9, "{name} {}", weight(name));
    }
    assert!(
        weight("GONE").abs() < 1e-9 && weight("SHUT").abs() < 1e-9,
        "{} {}",
        weight("GONE"),
        weight("SHUT")
    );
}

#[test]
fn returns_halts_regimes_and_mistakes() {
    let db = installed("chain_halts");
    book(&db);
    let rebalance =
        |more: &str| format!("call trading.rebalance('bars', 1, account => 'paper', {CHAIN}{more})");
    // A history of returns takes the place of uncorrelated volatilities.
    let risk = "risk => 'select symbol, time as ts, ln(close / lag(close) over (partition by symbol order by time)) as ret from bars where symbol <> ''X'''";
    db.run(&rebalance(&format!(", {risk}")));
    assert!(
        db.value("select status from trading.allocation_weights where symbol = 'X'")
            .contains("short_history")
    );
    // Regimes have their own knobs.
    db.run("insert into trading.policy_knobs (knob, regime, value) values ('gross', 'risk_off', 0.1)");
    db.run("insert into trading.policy_knobs (knob, regime, value) values ('max_turnover', 'risk_off', 1)");
    db.run(&rebalance(", regime => 'risk_off'"));
    assert_eq!(
        db.value("select sum(abs(weight)) <= 0.1 + 1e-6 from trading.allocation_weights where run_id = 2"),
        "t"
    );
    // A sector's breaker closes its entries, the global one the desk.
    db.run("insert into trading.circuit_breakers (scope, key, mode, reason, expires_at) values ('sector', 'util', 'reduce_only', 'news', now() + interval '1 day')");
    db.run(&rebalance(""));
    assert_eq!(
        db.value("select count(*) from trading.allocation_weights join trading.terms using (symbol) where run_id = 3 and sector = 'util' and abs(weight) > abs(prev_weight) + 1e-9"),
        "0"
    );
    db.run("insert into trading.circuit_breakers (scope, key, mode, reason, expires_at) values ('global', '*', 'flatten', 'drawdown', now() + interval '1 day')");
    db.error(&rebalance(""))
        .is("55000", "trading is halted by circuit breaker 2")
        .detail("flatten because of drawdown")
        .hint("clear_breaker(2");
    db.run("select trading.clear_breaker(2, 'over')");
    db.error(&rebalance(", account => 'nobody'").replacen("account => 'paper', ", "", 1))
        .is("42704", "account \"nobody\" does not exist");
    db.error("call trading.rebalance('bars', 1, chain => '{\"step\":2}')")
        .is("22023", "unrecognized key \"step\" of chain")
        .hint("bar_width");
    db.error("call trading.rebalance('bars', 1, chain => '{\"as_of\":\"2020-01-01\"}')")
        .is("22023", "at least one name");
    for table in ["terms", "scores"] {
        db.error(&format!("delete from trading.{table}")).is("55000", "append-only");
    }
}

/// What is recorded can be run again later, so a chain that names no instant is of the one at which it runs.
#[test]
fn a_run_records_the_instant_that_it_is_of() {
    let db = installed("chain_instant");
    book(&db);
    db.run(
        "begin; call trading.rebalance('bars', 1, account => 'paper');
         create table recorded as
         select position('as_of => ' || quote_literal(to_jsonb(now()) #>> '{}') in signals) > 0 as instant from trading.allocation_runs;
         commit",
    );
    assert_eq!(db.value("select instant from recorded"), "t");
}

/// A forecast of five days says less and less of what is to come: 105 from 100 is 5 % on its first day, and nothing once it is reached.
#[test]
fn what_is_left_of_a_forecast_is_measured_from_todays_price() {
    let db = installed("what_is_left");
    closes(&db, "A", &[0.01; 40]);
    db.run(
        "update bars set close = exp(4.6 + 0.003 * extract(day from time) * sin(extract(day from time))) where symbol = 'A';
         insert into ledger.forecasts (run_id, kind, relation, series, target, ts, step, issued_at, cutoff, forecast, lower, upper, level, model_version)
         select 1, 'live', 'bars', 'A', 'close', day(d + 5), 5, day(d + 1), day(d + 1), price('A', d + 5), 1, 1000, 0.9, 'm@1'
         from generate_series(0, 31) d",
    );
    for day in 32..=36 {
        near(
            number(
                &db,
                &format!("select forecast_return from trading.expected_returns('bars', 5, day({day}))"),
            ),
            number(&db, &format!("select ln(price('A', 36) / price('A', {}))", day - 1)),
        );
    }
    assert_eq!(db.value("select count(*) from trading.expected_returns('bars', 5, day(37))"), "0");
}

/// A book of a past date is made of what backtests say of it, by whoever may trade, and what comes later changes nothing.
#[test]
fn a_book_is_replayed_over_past_dates_from_backtests() {
    let db = installed("replayed");
    book(&db);
    let replay = |kinds: &str, day: u32| {
        db.value(&format!(
            "select coalesce(string_agg(symbol || ' ' || expected_return, ', ' order by symbol), '')
             from trading.expected_returns('bars', 1, day({day}), kinds => '{kinds}')"
        ))
    };
    let live = replay("{live}", 35);
    db.run(
        "insert into ledger.forecasts (run_id, kind, relation, series, target, ts, step, issued_at, cutoff, forecast, lower, upper, level, model_version)
         select run_id, 'backtest', relation, series, target, ts, step, now(), cutoff, forecast, lower, upper, level, model_version from ledger.forecasts;
         delete from bars where time > day(34)",
    );
    assert_eq!(replay("{backtest}", 35), live, "the same forecasts are the same book");
    assert!(live.starts_with("N10 0.0"), "{live}");
    let trader = db.role("trader");
    db.run(&format!("grant market_operator to {trader}; select kronos.grant_access('{trader}', 'use'); grant select on bars to {trader}"));
    let mut session = db.connect_as(&trader);
    let seen = rows(
        &mut session,
        "select count(*) from trading.expected_returns('bars', 1, day(35), kinds => '{backtest}')",
    );
    assert_eq!(seen, [[Some("12".to_owned())]]);
}

/// A daily history under forecasts of five days: the stated risk is that of five days, by scenarios as well. Nothing
/// is traded, so that it is the same book.
#[test]
fn risk_is_of_the_horizon_of_the_forecasts() {
    let db = installed("horizon");
    book(&db);
    db.run(
        "insert into ledger.forecasts (run_id, kind, relation, series, target, ts, step, issued_at, cutoff, forecast, lower, upper, level, model_version)
         select run_id, kind, relation, series, target, ts + interval '4 days', 5, issued_at, cutoff, forecast, lower, upper, level, model_version
         from ledger.forecasts where cutoff = day(41)",
    );
    let risk = "risk => 'select symbol, time as ts, close / lag(close) over (partition by symbol order by time) - 1 as ret from bars'";
    let figure = |more: &str| {
        let run = db.value(&format!(
            "call trading.rebalance('bars', 5, account => 'paper', {risk}, {CHAIN}, arguments => '{{\"net\": \"[-2,2]\", \"gross\": 3, \"max_turnover\": 0{more}}}')"
        ));
        number(
            &db,
            &format!(
                "select (figures ->> 'volatility')::float8 from trading.allocation_runs where run_id = {run}"
            ),
        )
    };
    let (daily, weekly) = (
        figure(", \"options\": {\"horizon\": 1}, \"method\": \"min_variance\""),
        figure(", \"method\": \"min_variance\""),
    );
    assert!((weekly / daily - 5f64.sqrt()).abs() < 1e-3, "{weekly} {daily}");
    assert_eq!(
        db.value("select arguments #>> '{options,horizon}' from trading.allocation_runs order by run_id desc limit 1"),
        "5"
    );
    db.error("select * from propose_weights('select ''N10'' as symbol, 0.01 as expected_return', 'select symbol, time as ts, 0.01 as ret from bars', method => 'cvar', options => '{\"horizon\": 2.5}')")
        .is("22023", "option \"horizon\" must be a whole number of dates");
}

/// 130/30: the net of one leaves no buying power, so the reserve of the knobs gives way, and says so; an option does not.
#[test]
fn a_knob_gives_way_to_what_the_caller_says() {
    let db = installed("knob_gives_way");
    book(&db);
    let call = |options: &str| {
        format!("call trading.rebalance('bars', 1, account => 'paper', {CHAIN}, arguments => '{{\"net\": \"[1,1]\", \"gross\": 1.6, \"max_turnover\": 3,
            \"weight_bounds\": \"[-0.3,0.3]\", \"group_limits\": {{}}{options}}}')")
    };
    let (mut client, notices) = db.connect_with_notices();
    client.batch_execute(&call("")).unwrap();
    let said = notices.lock().unwrap().join("\n");
    assert!(
        said.contains("NOTICE: the knob cash_reserve, 0.05, is left out: net [1,1] leaves no room for it"),
        "{said}"
    );
    assert_eq!(
        db.value("select allocation_runs.status || ' ' || round(sum(weight)::numeric, 4) || ' ' || (min(weight) < -0.01) from trading.allocation_runs join trading.allocation_weights using (run_id)
                  group by run_id, allocation_runs.status"),
        "optimal 1.0000 true"
    );
    client.batch_execute(&call(", \"options\": {\"cash_reserve\": 0.05}")).unwrap();
    let said = notices.lock().unwrap().join("\n");
    assert!(said.contains("WARNING: allocation run 2 broke limits that contradict each other"), "{said}");
}

#[test]
fn an_operator_can_run_it() {
    let db = installed("chain_operator");
    book(&db);
    let role = db.role("operator");
    db.run(&format!("grant market_operator to {role}; select kronos.grant_access('{role}', 'use'); grant select on bars to {role}"));
    let mut operator = db.connect_as(&role);
    assert_eq!(
        rows(&mut operator, &format!("call trading.rebalance('bars', 1, account => 'paper', {CHAIN})")),
        [[Some("1".to_owned())]]
    );
    // Without the bars there are no forecasts to see.
    db.run(&format!("revoke select on bars from {role}"));
    db.error_in(&mut operator, "select * from trading.expected_returns('bars', 1)")
        .is("42501", "permission denied for table bars");
}
