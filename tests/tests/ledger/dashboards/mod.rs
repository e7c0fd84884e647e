//! The dashboards under sql/dashboards: they are what Grafana imports, and every query of theirs runs, as the role that
//! docs/dashboards.md describes, on a database without data (no rows, no error) and on one with data (rows).

mod alerting;
mod render;

use kronos_tests::{Database, project_root, rows};
use postgres::{Client, SimpleQueryMessage};
use serde_json::Value;
use std::collections::{BTreeSet, HashSet};

struct Dashboard {
    file: String,
    json: Value,
}

fn dashboards() -> Vec<Dashboard> {
    let folder = project_root().join("sql/dashboards");
    let mut found: Vec<Dashboard> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
        .map(|path| Dashboard {
            file: path.file_name().unwrap().display().to_string(),
            json: serde_json::from_str(&std::fs::read_to_string(&path).unwrap())
                .unwrap_or_else(|error| panic!("{}: {error}", path.display())),
        })
        .collect();
    found.sort_by(|a, b| a.file.cmp(&b.file));
    let names: Vec<&str> = found.iter().map(|dashboard| dashboard.file.as_str()).collect();
    let all =
        ["calibration.json", "feeds.json", "forecast.json", "name.json", "service.json", "sources.json"];
    assert_eq!(names, all);
    found
}

impl Dashboard {
    fn list(&self, pointer: &str) -> &[Value] {
        self.json
            .pointer(pointer)
            .and_then(Value::as_array)
            .unwrap_or_else(|| panic!("{} has no {pointer}", self.file))
    }

    /// Panels that show something; rows only divide.
    fn panels(&self) -> impl Iterator<Item = &Value> {
        self.list("/panels").iter().filter(|panel| panel["type"] != "row")
    }

    fn variables(&self) -> &[Value] {
        self.list("/templating/list")
    }

    /// Names and queries of what is marked on every panel with a time axis.
    fn annotations(&self) -> impl Iterator<Item = (String, &Value)> {
        let named = |mark: &Value| format!("{}: {}", self.file, mark["name"].as_str().unwrap());
        self.list("/annotations/list").iter().map(move |mark| (named(mark), &mark["target"]))
    }

    /// Title, panel and query of every target of every panel.
    fn queries(&self) -> impl Iterator<Item = (String, &Value, &Value)> {
        self.panels().flat_map(move |panel| {
            let title = format!("{}: {}", self.file, panel["title"].as_str().unwrap());
            panel["targets"].as_array().unwrap().iter().map(move |target| (title.clone(), panel, target))
        })
    }
}

#[test]
fn what_grafana_asks_of_a_dashboard_is_there() {
    let mut uids = HashSet::new();
    for dashboard in dashboards() {
        let Dashboard { file, json } = &dashboard;
        for key in ["uid", "title", "description", "timezone"] {
            assert!(json[key].as_str().is_some_and(|text| !text.is_empty()), "{file}: {key}");
        }
        assert!(json["schemaVersion"].as_u64().is_some_and(|version| version >= 36), "{file}");
        assert!(json.get("id").is_none_or(Value::is_null), "{file}: a numeric id belongs to one Grafana");
        assert!(json["time"]["from"].is_string() && json["time"]["to"].is_string(), "{file}");
        let uid = json["uid"].as_str().unwrap();
        assert!(uid.len() <= 40 && uid.chars().all(|c| c.is_ascii_alphanumeric() || c == '-'), "{uid}");
        assert!(uids.insert(uid.to_owned()), "{uid} twice");

        let datasource = &dashboard.variables()[0];
        assert_eq!(
            (&datasource["name"], &datasource["type"]),
            (&"datasource".into(), &"datasource".into()),
            "{file}"
        );
        let kind = datasource["query"].as_str().unwrap();
        let uses_it = |of: &Value| of["uid"] == "${datasource}" && of["type"] == kind;

        assert_eq!(json["__inputs"][0]["pluginId"], kind, "{file}");
        assert_eq!(datasource["current"]["value"], "${DS_KRONOS}", "{file}");
        let required: BTreeSet<&str> = dashboard
            .list("/__requires")
            .iter()
            .filter(|required| required["type"] == "panel")
            .map(|required| required["id"].as_str().unwrap())
            .collect();
        let kinds: BTreeSet<&str> = dashboard.panels().map(|panel| panel["type"].as_str().unwrap()).collect();
        assert_eq!(required, kinds, "{file}");

        let mut ids = HashSet::new();
        let mut taken: HashSet<(u64, u64)> = HashSet::new();
        for panel in dashboard.list("/panels") {
            let title = format!("{file}: {}", panel["title"].as_str().unwrap());
            assert!(ids.insert(panel["id"].as_u64().unwrap()), "{title}: id twice");
            let at = |key: &str| panel["gridPos"][key].as_u64().unwrap();
            assert!(at("w") > 0 && at("h") > 0 && at("x") + at("w") <= 24, "{title}");
            for x in at("x")..at("x") + at("w") {
                for y in at("y")..at("y") + at("h") {
                    assert!(taken.insert((x, y)), "{title} lies on another panel");
                }
            }
        }
        for panel in dashboard.panels() {
            let title = format!("{file}: {}", panel["title"].as_str().unwrap());
            assert!(uses_it(&panel["datasource"]), "{title}");
            assert!(
                panel["fieldConfig"]["defaults"]["noValue"].as_str().is_some_and(|text| !text.is_empty()),
                "{title} does not say what it means that it is empty"
            );
            let mut refs = HashSet::new();
            for target in panel["targets"].as_array().unwrap() {
                assert!(uses_it(&target["datasource"]) && target["rawQuery"] == true, "{title}");
                assert!(refs.insert(target["refId"].as_str().unwrap()), "{title}: refId twice");
                assert!(["table", "time_series"].contains(&target["format"].as_str().unwrap()), "{title}");
            }
        }
        for mark in dashboard.list("/annotations/list") {
            assert!(uses_it(&mark["datasource"]) && uses_it(&mark["target"]["datasource"]), "{file}: {mark}");
            assert!(mark["enable"] == true && mark["target"]["rawQuery"] == true, "{file}: {mark}");
        }
        // Every variable that is used is there, and every one that is there is used.
        let text = json.to_string();
        let used: BTreeSet<&str> = text
            .match_indices("${")
            .map(|(at, _)| &text[at + 2..at + text[at..].find('}').unwrap()])
            .map(|inner| inner.split(':').next().unwrap())
            // Asked for when the file is imported; a file that is provisioned takes the first data source.
            .filter(|name| *name != "DS_KRONOS")
            .collect();
        let named: BTreeSet<&str> =
            dashboard.variables().iter().map(|v| v["name"].as_str().unwrap()).collect();
        assert_eq!(used, named, "{file}");
        for variable in dashboard.variables().iter().filter(|variable| variable["type"] == "query") {
            assert!(uses_it(&variable["datasource"]), "{file}: {}", variable["name"]);
            assert_eq!(variable["query"], variable["definition"], "{file}: {}", variable["name"]);
        }
    }
}

/// The values that a reader has chosen, as Grafana would put them into a query.
#[derive(Clone)]
struct Chosen {
    symbol: String,
    models: Vec<String>,
    feeds: Vec<String>,
    kind: &'static str,
}

fn literal(value: &str) -> String {
    format!("'{}'", value.replace('\'', "''"))
}

/// A query with variables and macros replaced by what Grafana replaces them by.
fn substituted(sql: &str, chosen: &Chosen) -> String {
    with_interval(sql, chosen, "1h", 3600)
}

/// The query of a panel's target, with the least interval that the panel asks for.
fn of_panel(panel: &Value, target: &Value, chosen: &Chosen) -> String {
    let sql = target["rawSql"].as_str().unwrap();
    match panel["interval"].as_str() {
        None => substituted(sql, chosen),
        Some("1d") => with_interval(sql, chosen, "1d", 86_400),
        Some(other) => panic!("how long is {other}?"),
    }
}

fn with_interval(sql: &str, chosen: &Chosen, interval: &str, seconds: u32) -> String {
    let all = |values: &[String]| values.iter().map(|value| literal(value)).collect::<Vec<_>>().join(",");
    let mut sql = sql
        .replace("${bars:raw}", "market.bars_1h")
        .replace("${bars:sqlstring}", "'market.bars_1h'")
        .replace("${symbol:sqlstring}", &literal(&chosen.symbol))
        .replace("${model:sqlstring}", &all(&chosen.models))
        .replace("${feed:sqlstring}", &all(&chosen.feeds))
        .replace("${kind:sqlstring}", &literal(chosen.kind))
        .replace("$__interval", interval);
    let filter =
        |column: &str| format!("{column} BETWEEN now() - interval '7 days' AND now() + interval '2 days'");
    let group = |arguments: &str| {
        let (column, width) = arguments.split_once(',').unwrap();
        assert_eq!(width.trim(), interval);
        format!("floor(extract(epoch from {column})/{seconds})*{seconds}")
    };
    for (name, expand) in [("$__timeFilter(", &filter as &dyn Fn(&str) -> String), ("$__timeGroup(", &group)]
    {
        while let Some(at) = sql.find(name) {
            let end = at + sql[at..].find(')').unwrap();
            let inner = sql[at + name.len()..end].to_owned();
            sql.replace_range(at..=end, &expand(&inner));
        }
    }
    assert!(!sql.contains("$__") && !sql.contains("${") && !sql.contains("[["), "not substituted: {sql}");
    sql
}

/// A login that may read and no more, as docs/dashboards.md makes it.
fn reader(db: &Database) -> Client {
    let role = db.role("grafana");
    db.run(&format!("grant market_reader to {role}; select kronos.grant_access('{role}', 'use')"));
    let mut client = db.connect_as(&role);
    client.batch_execute("set default_transaction_read_only = on; set statement_timeout = '30s'").unwrap();
    client
}

/// Columns and number of rows that a query returns.
fn result(client: &mut Client, title: &str, sql: &str) -> (Vec<String>, usize) {
    let messages = client.simple_query(sql).unwrap_or_else(|error| panic!("{title}\n{sql}\n{error:?}"));
    let mut columns = Vec::new();
    let mut count = 0;
    for message in messages {
        match message {
            SimpleQueryMessage::RowDescription(names) => {
                columns = names.iter().map(|column| column.name().to_owned()).collect();
            }
            SimpleQueryMessage::Row(_) => count += 1,
            _ => {}
        }
    }
    (columns, count)
}

/// The relations of bars that the set-up makes.
const BARS: &str = "select c.oid from pg_class c
    where c.relnamespace = 'market'::regnamespace and c.relkind in ('r', 'v', 'm') and c.relname like 'bars\\_%'";

/// What the engine and the catalogue of models say does not depend on the tables of people's data.
fn is_of_the_engine(sql: &str) -> bool {
    ["stat_engine", "stat_devices", "stat_models", "stat_activity"].iter().any(|view| sql.contains(view))
}

#[test]
fn without_data_every_panel_is_empty_and_none_fails() {
    let db = Database::installed("dashboards_empty");
    let mut client = reader(&db);
    // Without options a variable is empty, whether one or several values may be chosen.
    for models in [vec![], vec![String::new()]] {
        let chosen = Chosen { symbol: String::new(), feeds: models.clone(), models, kind: "live" };
        for dashboard in dashboards() {
            for variable in dashboard.variables().iter().filter(|variable| variable["type"] == "query") {
                let sql = substituted(variable["query"].as_str().unwrap(), &chosen);
                // The relations of bars are there before their rows: a panel always has one to read from.
                let expected = if variable["name"] == "bars" { rows(&mut client, BARS).len() } else { 0 };
                assert_eq!(result(&mut client, &dashboard.file, &sql).1, expected, "{sql}");
            }
            for (title, panel, target) in dashboard.queries() {
                let sql = of_panel(panel, target, &chosen);
                let (_, count) = result(&mut client, &title, &sql);
                assert!(count == 0 || is_of_the_engine(&sql), "{title} has {count} rows of nothing");
            }
            for (title, target) in dashboard.annotations() {
                let sql = substituted(target["rawSql"].as_str().unwrap(), &chosen);
                assert_eq!(result(&mut client, &title, &sql).1, 0, "{title}");
            }
        }
    }
}

/// Hourly bars of three days, forecasts of a model and of a baseline from cutoffs within them and from their end, runs, a
/// policy, failures, feeds with gaps and findings.
const DATA: &str = "
    insert into market.instruments (symbol, name) values ('A', 'A');
    insert into market.bars (symbol, bar_width, time, source, open, high, low, close, volume, known_at)
    select 'A', '1 hour', h, 'simulate', p, p + 1, p - 1, p, 10, h + interval '1 hour'
    from (select date_trunc('hour', now()) - g * interval '1 hour' as h, 100 + 5 * sin(g * 0.3) as p
          from generate_series(1, 72) g) b;
    insert into ledger.policies (policy, relation, horizon, call, schedule_interval, initial_start)
    values ('hourly', 'market.bars_1h', 12, 'kronos_predict', '1 hour', now());
    insert into ledger.runs (policy_id, policy, relation, call, model_version, horizon, n_series, n_ok, n_failed, duration_ms, state, cutoff)
    select p.policy_id, p.policy, p.relation, p.call, m, 12, 2, 1, 1, 40, 'done', date_trunc('hour', now())
    from ledger.policies p, unnest(array['model@1', 'hist_vol']) m;
    insert into ledger.forecasts (run_id, kind, relation, series, target, ts, step, issued_at, cutoff, forecast, lower, upper, level,
        quantile_levels, quantiles, raw_forecast, raw_lower, raw_upper, prob_up, model_version, calibration)
    select r.run_id, 'live', r.relation, 'A', 'close', c.cutoff + (s - 1) * interval '1 hour', s, c.cutoff, c.cutoff, 100, 96, 104, 0.9,
           '{0.05,0.5,0.95}', '{95,100,105}', 100, 97, 103, 0.5, r.model_version, 'close_90'
    from ledger.runs r,
         (select date_trunc('hour', now()) - g * interval '6 hours' as cutoff from generate_series(0, 8) g) c, generate_series(1, 12) s;
    insert into ledger.failures (run_id, series, status, ts) values (1, 'B', 'gap', now());
    insert into market.feed_cursors (feed, channel, symbol, sequence, event_time, updated_at)
    values ('kraken', 'trade', 'A', 9, now(), now() - interval '1 hour');
    insert into market.feed_gaps (feed, channel, symbol, cause, from_seq, to_seq, detected_at) values ('kraken', 'trade', 'A', 'seq', 1, 3, now());
    insert into market.feed_sessions (feed, url, opened_at) values ('kraken', 'wss://example', now());
    insert into market.rejected_rows (feed, received_at, reason, payload, digest) values ('kraken', now(), 'not JSON', '{', 'x');
    insert into market.validation_findings (check_name, relation, symbol, source, time, detail)
    values ('price_jump', 'market.bars', 'A', 'simulate', now(), 'x');
    insert into market.feed_cursors (feed, channel, symbol, sequence, event_time, position, updated_at)
    values ('fmp', 'news', 'A', 9, now(), '{}', now());
    insert into market.feed_refusals (feed, channel, symbol, refused_at, reason) values ('fmp', 'grades', '*', now(), 'HTTP 402');
    insert into market.feed_usage (feed, day, requests, bytes, allowed_bytes) values ('fmp', (now() at time zone 'UTC')::date, 10, 1000, 9000);
    insert into market.documents (source, kind, key, symbol, event_time, known_at, received_at, payload, digest)
    values ('fmp', 'fmp_earnings', 'A', 'A', now() + interval '1 day', now() - interval '1 day', now(), '{}', sha256('a'));
    insert into market.fmp_grades (source, kind, key, symbol, event_time, known_at, received_at, payload, digest)
    values ('fmp', 'fmp_grades', 'A', 'A', now(), now() - interval '1 day', now(), '{}', sha256('a'));
    insert into market.fmp_news (source, kind, key, symbol, event_time, known_at, received_at, payload, digest)
    values ('fmp', 'fmp_news', 'A', 'A', now(), now() - interval '1 day', now(), jsonb_build_object('title', 't', 'site', 's'), sha256('a'));
    insert into market.fmp_analyst_estimates (source, kind, key, symbol, known_at, received_at, payload, digest)
    select 'fmp', 'fmp_analyst_estimates', 'A/annual', 'A', now() - i * interval '1 day', now(),
           jsonb_build_object('date', now()::date + 90, 'epsAvg', i), sha256(i::text::bytea) from generate_series(1, 2) i;
    insert into market.social_messages (source, kind, key, symbol, event_time, known_at, received_at, payload, digest)
    select 'stocktwits', 'social_messages', h || '/' || i, 'A', t, t, now(),
           jsonb_build_object('user', jsonb_build_object('username', 'u'), 'entities', jsonb_build_object('sentiment', jsonb_build_object('basic', 'Bullish'))), sha256((h || '/' || i)::bytea)
    from generate_series(1, 200) h, generate_series(0, h % 3) i, lateral (select now() - h * interval '1 hour' as t) x;
    insert into ledger.calibrations (calibration, actuals, relation, target, level, method, per, options)
    values ('close_90', 'market.bars_1h', 'market.bars_1h', 'close', 0.9, 'pid', '{series,step}', '{}');
    insert into ledger.calibration_versions (calibration, version, through, updated_through, n_new)
    select 'close_90', v, now(), now(), 100 from generate_series(1, 2) v;
    insert into ledger.calibration_groups (calibration, scope, model, member, step)
    select 'close_90', g.scope, g.model, g.member, 1
    from (values ('series', 'model', 'A'), ('series', 'hist_vol', 'A'), ('series', 'other', 'A'), ('series', 'model', 'B'),
                 ('global', 'model', '')) g (scope, model, member);
    insert into ledger.calibration_state (group_id, version, calibration, n, updated_through, coverage, recent_coverage, raw_coverage, bias,
                                          scale, q_lower, q_upper, mean_width, drift, status, state)
    select g.group_id, v, 'close_90', 100 * v, now(), 0.91, 0.7 + 0.1 * v, 0.4, 0, 1, 0.01, 0.01, 0.02, v = 2 and g.model = 'model',
           case when v = 2 and g.model = 'model' then 'undercoverage' end, ''
    from ledger.calibration_groups g, generate_series(1, 2) v;";

#[test]
fn with_data_every_panel_has_rows() {
    let db = Database::installed("dashboards_data");
    db.run(DATA);
    db.run(
        "insert into market.instruments (symbol, name) values ('0', 'zero');
         insert into market.rejected_rows (feed, received_at, reason, payload, digest) values ('daily.csv', now(), 'no time', 'x', 'y');
         -- A relation of somebody's own that was forecast last; one without prices is not offered.
         create table own (symbol text, time timestamptz, close float8);
         create table strange (t timestamptz, x float8);
         grant select on own, strange to market_reader;
         insert into ledger.runs (relation, call, state, issued_at) select r, 'kronos_predict', 'failed', now() + interval '1 second'
         from unnest('{own,strange}'::regclass[]) r",
    );
    let mut client = reader(&db);
    let chosen = Chosen {
        symbol: "A".into(),
        models: vec!["hist_vol".into(), "model@1".into()],
        feeds: vec!["fmp".into(), "kraken".into()],
        kind: "live",
    };
    for dashboard in dashboards() {
        for variable in dashboard.variables().iter().filter(|variable| variable["type"] == "query") {
            let sql = substituted(variable["query"].as_str().unwrap(), &chosen);
            let options: Vec<String> = rows(&mut client, &sql).into_iter().flatten().flatten().collect();
            let expected = match variable["name"].as_str().unwrap() {
                // What was forecast comes first, before every other relation of bars.
                "bars" => {
                    assert_eq!(options[0], "public.own", "{}", dashboard.file);
                    assert_eq!(options[1], "market.bars_1h", "{}", dashboard.file);
                    assert_eq!(options.len(), 1 + rows(&mut client, BARS).len());
                    continue;
                }
                "kind" => vec!["live".to_owned()],
                // The ledger's series, then instruments that nobody forecasts.
                "symbol" => vec![chosen.symbol.clone(), "0".to_owned()],
                "model" => chosen.models.clone(),
                // What was loaded from a file is no stream, and has rejected rows all the same.
                "feed" => vec!["daily.csv".to_owned(), "fmp".to_owned(), "kraken".to_owned()],
                other => panic!("what are the options of {other}?"),
            };
            assert_eq!(options, expected, "{}", dashboard.file);
        }
        for (title, panel, target) in dashboard.queries() {
            let sql = of_panel(panel, target, &chosen);
            let (columns, count) = result(&mut client, &title, &sql);
            // Nobody asks the engine anything at this moment.
            assert!(count > 0 || sql.contains("stat_activity"), "{title} has no rows\n{sql}");
            if target["format"] == "time_series" {
                assert_eq!(columns[0], "time", "{title}");
                assert!(sql.contains("order by"), "{title}: time series must be in order");
            }
            let distinct: HashSet<&String> = columns.iter().collect();
            assert_eq!(distinct.len(), columns.len(), "{title}: columns of the same name");
        }
        for (title, target) in dashboard.annotations() {
            let sql = substituted(target["rawSql"].as_str().unwrap(), &chosen);
            let (columns, count) = result(&mut client, &title, &sql);
            assert_eq!(
                (columns, count),
                (["time", "text", "tags"].map(str::to_owned).into(), 3),
                "{title}\n{sql}"
            );
        }
    }
}

#[test]
fn the_numbers_of_the_calibration_panels() {
    let db = Database::installed("dashboards_numbers");
    db.run(DATA);
    let mut client = reader(&db);
    let chosen = Chosen { symbol: "A".into(), models: vec!["model@1".into()], feeds: vec![], kind: "live" };
    let dashboards = dashboards();
    let panel = |title: &str| {
        let (_, panel, target) = dashboards[0].queries().find(|(name, ..)| name.ends_with(title)).unwrap();
        of_panel(panel, target, &chosen)
    };
    // The same by another way: every forecast of a past bar, against the sine that made the bars.
    let by_hand = "select count(*) || ' ' || round(avg((abs(p - 100) <= 4)::int), 6) || ' ' || round(avg((abs(p - 100) <= 3)::int), 6)
        from (select 100 + 5 * sin(0.3 * (1 + round(extract(epoch from last - f.ts) / 3600))::float8) as p
              from ledger.forecasts f, (select max(time) as last from market.bars) b where f.model_version = 'model@1' and f.ts <= last) o";
    let table = panel("By model and calibration");
    let summary = format!(
        "select n || ' ' || round(coverage, 6) || ' ' || round(coverage_of_the_model, 6) from ({table}) t"
    );
    assert_eq!(rows(&mut client, &summary)[0][0], rows(&mut db.connect(), by_hand)[0][0]);
    // Shares of where outcomes fell sum to one, and so do the shares expected.
    let fell = panel("Where outcomes fell");
    let sums = format!(
        "select round(sum(share)::numeric, 9) || ' ' || round(sum(expected)::numeric, 9) from ({fell}) t"
    );
    assert_eq!(rows(&mut client, &sums)[0][0].as_deref(), Some("1.000000000 1.000000000"));
    // Of each calibration the newest state of the symbol under the model chosen, whose version is not part of its name there.
    let learnt = panel("What calibrations have learnt");
    let of_state = format!(
        "select string_agg(concat_ws(' ', calibration, model, series, step, n, target, coverage, recent_coverage, coverage_of_the_model, drift, status), ';')
         from ({learnt}) t"
    );
    assert_eq!(
        rows(&mut client, &of_state)[0][0].as_deref(),
        Some("close_90 model A 1 200 0.9 0.91 0.9 0.4 t undercoverage")
    );
}
