//! The dashboards drawn: uPlot, which Grafana draws with, in a browser without a window, with what each query returns from a database.
//!
//! tests/dashboards/panels.js draws and looks at its own pixels: every column between the first and the last value of a line, and of a
//! band, has something drawn in it. `tools/pictures` keeps what it drew in docs/pictures.

use super::{Chosen, Dashboard, dashboards, of_panel, reader, result, substituted};
use kronos_skip::skipped;
use kronos_tests::{Database, project_root, rows};
use postgres::Client;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Three weeks of hourly bars of two symbols, what two models said of the last ten days at noon and at midnight, recorded as a policy's
/// runs, and what feeds, files and validators left behind. All of it is made here.
const FILLED: &str = "
    insert into market.instruments (symbol, name) values ('ALPHA', 'Alpha'), ('BETA', 'Beta');
    insert into market.bars (symbol, bar_width, time, source, open, high, low, close, volume, known_at)
    select symbol, '1 hour', time, 'simulate', open, high, low, close, volume, time + interval '1 hour'
    from kronos.simulate_bars('{ALPHA,BETA}', 504, start => date_trunc('hour', now()) - interval '504 hours', seed => 11);
    insert into ledger.policies (policy, relation, horizon, call, schedule_interval, initial_start)
    select 'hourly_' || m, 'market.bars_1h', 24, 'forecast', '12 hours', now() from unnest('{kronos,hist_vol}'::text[]) m;
    create table cutoffs as
      select date_trunc('hour', now()) - g * interval '12 hours' as at, g from generate_series(0, 20) g;
    create table said as
      select c.at, f.series, 'close' as target, f.ts, f.step, f.close as forecast, f.lower, f.upper, f.quantiles, f.prob_up, f.cutoff, f.model_version
      from cutoffs c cross join lateral kronos.kronos_predict('market.bars_1h', 24, as_of => c.at, quantile_levels => '{0.05,0.25,0.5,0.75,0.95}',
        samples => 100, model => 'kronos-nano') f where f.status is null
      union all
      select c.at, f.series, f.target, f.ts, f.step, f.forecast, f.lower, f.upper, f.quantiles, null, f.cutoff, f.model_version
      from cutoffs c cross join lateral kronos.forecast('hist_vol', 'market.bars_1h', '{close}', 24, as_of => c.at,
        quantile_levels => '{0.05,0.25,0.5,0.75,0.95}') f where f.status is null;
    insert into ledger.runs (policy_id, policy, relation, call, model_version, horizon, n_series, n_ok, n_failed, duration_ms, state, cutoff, issued_at)
    select p.policy_id, p.policy, p.relation, p.call, s.model_version, 24, 2, 2, (s.at = (select max(at) from cutoffs))::int,
           300 + 80 * sin(extract(epoch from s.at)) + 200 * (s.model_version like 'kronos%')::int,
           case when s.at = (select max(at) from cutoffs) then 'partial' else 'done' end, s.at,
           s.at + interval '1 minute' * (1 + (s.model_version like 'kronos%')::int)
    from (select distinct at, model_version from said) s
    join ledger.policies p on p.policy = case when s.model_version like 'kronos%' then 'hourly_kronos' else 'hourly_hist_vol' end
    order by s.at, s.model_version;
    insert into ledger.forecasts (run_id, kind, relation, series, target, ts, step, issued_at, cutoff, forecast, lower, upper, level,
        quantile_levels, quantiles, raw_forecast, raw_lower, raw_upper, prob_up, model_version, calibration)
    select r.run_id, 'live', r.relation, s.series, s.target, s.ts, s.step, r.issued_at, s.cutoff, s.forecast, 1.15 * s.lower - 0.15 * s.forecast,
           1.15 * s.upper - 0.15 * s.forecast, 0.9, '{0.05,0.25,0.5,0.75,0.95}', s.quantiles, s.forecast, s.lower, s.upper, s.prob_up, s.model_version,
           'close_90'
    from said s join ledger.runs r on r.model_version = s.model_version and r.cutoff = s.at;
    insert into ledger.failures (run_id, series, status, ts, detail)
    select run_id, 'GAMMA', 'short_history', now() - interval '1 hour', 'series \"GAMMA\" has 12 bars, the model needs 32'
    from ledger.runs where state = 'partial';
    drop table said, cutoffs;
    insert into market.feed_cursors (feed, channel, symbol, sequence, event_time, updated_at)
    select f, 'trade', s, 9, now(), now() - o * interval '1 minute'
    from (values ('kraken', 'ALPHA', 0), ('kraken', 'BETA', 1), ('yahoo', 'ALPHA', 400)) v (f, s, o);
    update market.sources set stale_after = '1 hour' where source = 'yahoo';
    insert into market.feed_gaps (feed, channel, symbol, cause, from_seq, to_seq, detected_at, status, filled_at, filled_rows)
    select 'kraken', 'trade', 'ALPHA', case when g % 3 = 0 then 'seq' else 'reconnect' end, 10 * g, 10 * g + 3, now() - g * interval '11 hours',
           case when g = 0 then 'open' else 'filled' end, case when g > 0 then now() end, case when g > 0 then 4 end from generate_series(0, 9) g;
    insert into market.feed_sessions (feed, url, opened_at, closed_at, close_code, close_reason, frames, bytes, last_frame_at)
    select 'kraken', 'wss://example', now() - (g + 1) * interval '23 hours', case when g > 0 then now() - g * interval '23 hours' end,
           case when g > 0 then 1001 end, case when g > 0 then 'going away' end, 80000 + 900 * g, 31000000 + 400000 * g, now() - g * interval '23 hours'
    from generate_series(0, 4) g;
    insert into market.rejected_rows (feed, received_at, reason, payload, digest)
    select case when g % 4 = 0 then 'daily.csv' else 'kraken' end, now() - g * interval '9 hours',
           case when g % 4 = 0 then 'line ' || 100 + g || ': close \"n/a\" is not a number' else 'not JSON' end,
           case when g % 4 = 0 then '2024-03-01,ALPHA,n/a' else '{\"ch\":\"trade\",' end, g::text::bytea
    from generate_series(1, 14) g;
    insert into market.validation_findings (check_name, relation, symbol, source, time, detail, last_seen_at)
    select c, 'market.bars', s, 'simulate', now() - g * interval '5 hours', 'close 131.2 is 9 deviations from its neighbours', now() - g * interval '5 hours'
    from unnest('{price_jump,stale_price,ohlc_order}'::text[]) with ordinality c (c, o), unnest('{ALPHA,BETA}'::text[]) s, generate_series(1, 4) g
    where g <= o + 1;
    insert into market.feed_cursors (feed, channel, symbol, sequence, event_time, position, updated_at)
    select f, c, s, 9, now() - o * interval '7 hours', '{\"has_more\": false}', now() - o * interval '5 hours'
    from (values ('fmp', 'income-statement', 1), ('fmp', 'stock-news-latest', 0), ('fmp', 'grades', 2), ('stocktwits', 'messages', 0),
                 ('truthsocial', 'statuses', 40)) v (f, c, o), unnest('{ALPHA,BETA}'::text[]) s;
    insert into market.feed_refusals (feed, channel, symbol, refused_at, until, reason)
    values ('fmp', 'ratios', 'BETA', now() - interval '5 hours', now() + interval '19 hours', 'HTTP 402 Premium Query Parameter'),
           ('truthsocial', '*', '*', now() - interval '8 days', null, 'HTTP 403');
    insert into market.feed_usage (feed, day, requests, bytes, allowed_bytes)
    select f, (now() at time zone 'UTC')::date - d, (n * (1 + 0.2 * sin(d))) * case when d = 0 then 0.4 else 1 end,
           4e8 * (1 + 0.3 * cos(d)), case when f = 'fmp' then 2e10 end
    from (values ('fmp', 14000), ('stocktwits', 4400)) v (f, n), generate_series(0, 29) d;
    insert into market.documents (source, kind, key, symbol, event_time, known_at, received_at, payload, digest)
    select 'fmp', 'fmp_earnings', 'ALPHA/' || d, 'ALPHA', now() + d * interval '1 day', now() - interval '20 days', now(),
           jsonb_build_object('date', (now() + d * interval '1 day')::date, 'epsEstimated', 1.12), sha256(d::text::bytea) from unnest('{-4,1}'::int[]) d;
    insert into market.fmp_grades (source, kind, key, symbol, event_time, known_at, received_at, payload, digest)
    select 'fmp', 'fmp_grades', 'ALPHA/1', 'ALPHA', now() - interval '2 days', now() - interval '2 days', now(),
           '{\"gradingCompany\": \"North Bank\", \"newGrade\": \"Buy\", \"previousGrade\": \"Hold\", \"action\": \"upgrade\"}', sha256('g');
    insert into market.fmp_news (source, kind, key, symbol, event_time, known_at, received_at, payload, digest)
    select 'fmp', 'fmp_news', i::text, 'ALPHA', t, t, t, jsonb_build_object('title', (array['Alpha opens a second plant', 'Alpha raises its outlook',
           'Suppliers of Alpha report strong orders'])[1 + i % 3], 'publisher', (array['The Ledger', 'Harbour News'])[1 + i % 2]), sha256(i::text::bytea)
    from generate_series(1, 9) i, lateral (select now() - i * interval '19 hours' as t) x;
    insert into market.fmp_analyst_estimates (source, kind, key, symbol, known_at, received_at, payload, digest)
    select 'fmp', 'fmp_analyst_estimates', 'ALPHA/quarter/' || q, 'ALPHA', now() - i * interval '26 hours', now(),
           jsonb_build_object('date', now()::date + 91 * q, 'epsAvg', round((1.1 + 0.08 * q - 0.004 * i * q + 0.01 * sin(i))::numeric, 3)),
           sha256((q || '/' || i)::bytea) from generate_series(1, 3) q, generate_series(0, 5) i;
    insert into market.social_messages (source, kind, key, symbol, event_time, known_at, received_at, payload, digest)
    select 'stocktwits', 'social_messages', h || '/' || i, 'ALPHA', t, t, t, jsonb_build_object('id', 100 * h + i, 'body', 'so it goes',
             'user', jsonb_build_object('username', (array['ann', 'bob', 'cat', 'dan', 'eve', 'fay'])[1 + (h * 7 + i * 5) % 6], 'followers', 50 * ((h + i) % 6)),
             'entities', jsonb_build_object('sentiment', case when (h + i) % 3 > 0 then
               jsonb_build_object('basic', case when (h / 24 + i) % 4 = 0 then 'Bearish' else 'Bullish' end) end)), sha256((h || '/' || i)::bytea)
    from generate_series(1, 720) h, generate_series(0, (3 + 3 * sin(h * 0.26) + case when h < 4 then 14 else 0 end)::int) i,
         lateral (select now() - h * interval '1 hour' + i * interval '2 minutes' as t) x;
    analyze;
    insert into ledger.calibrations (calibration, actuals, relation, target, level, method, per, options)
    values ('close_90', 'market.bars_1h', 'market.bars_1h', 'close', 0.9, 'pid', '{series,step}', '{}');
    insert into ledger.calibration_versions (calibration, version, through, updated_through, n_new) values ('close_90', 1, now(), now(), 100);
    insert into ledger.calibration_groups (calibration, scope, model, member, step)
    select 'close_90', 'series', m, s, step from unnest('{kronos-nano,hist_vol}'::text[]) m, unnest('{ALPHA,BETA}'::text[]) s, unnest('{1,6,12,24}'::int[]) step;
    insert into ledger.calibration_state (group_id, version, calibration, n, updated_through, coverage, recent_coverage, raw_coverage, bias,
                                          scale, q_lower, q_upper, mean_width, drift, status, state)
    select group_id, 1, 'close_90', 240, now(), 0.9 + 0.01 * sin(group_id), 0.9 + 0.04 * sin(2 * group_id), 0.81 + 0.03 * cos(group_id), 0, 1, 0.01, 0.01,
           0.004 * sqrt(step), false, null, '' from ledger.calibration_groups;";

/// The browser, and uPlot as `npm ci` puts it beside the page; `None` after saying what is missing.
fn tools() -> Option<(PathBuf, PathBuf)> {
    let how = "make setup (apt-get install chromium npm; npm ci in tests/dashboards)";
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found =
        |name: &str| std::env::split_paths(&path).map(|folder| folder.join(name)).find(|path| path.is_file());
    let Some(browser) = ["chromium", "chromium-browser", "google-chrome"].iter().find_map(|name| found(name))
    else {
        skipped("the dashboards are not drawn, there is no Chromium", how);
        return None;
    };
    let uplot = project_root().join("tests/dashboards/node_modules/uplot/dist");
    if !uplot.join("uPlot.iife.min.js").is_file() {
        skipped("the dashboards are not drawn, uPlot is not installed", how);
        return None;
    }
    Some((browser, uplot))
}

/// A dashboard with the rows of its panels, one for each model where a panel is repeated.
fn with_rows(client: &mut Client, dashboard: &Dashboard, chosen: &Chosen) -> Value {
    let mut panels = Vec::new();
    let mut lower = 0;
    for panel in dashboard.panels() {
        let is_repeated = panel["repeat"] == "model";
        let choices = if is_repeated {
            chosen.models.iter().map(|model| vec![model.clone()]).collect()
        } else {
            vec![chosen.models.clone()]
        };
        for (index, models) in choices.into_iter().enumerate() {
            let chosen = Chosen { models, ..chosen.clone() };
            let sql = of_panel(panel, &panel["targets"][0], &chosen);
            let (columns, _) = result(client, panel["title"].as_str().unwrap(), &sql);
            let rows = rows(client, &format!("select coalesce(json_agg(t), '[]') from ({sql}) t"));
            let rows: Value = serde_json::from_str(rows[0][0].as_deref().unwrap()).unwrap();
            let title = panel["title"].as_str().unwrap().replace("${symbol}", &chosen.symbol);
            let title = title.replace("${model}", &chosen.models.join(", "));
            let mut panel = panel.clone();
            let height = panel["gridPos"]["h"].as_u64().unwrap();
            lower += if index > 0 { height } else { 0 };
            panel["gridPos"]["y"] = (panel["gridPos"]["y"].as_u64().unwrap() + lower).into();
            panels.push(json!({"panel": panel, "title": title, "columns": columns, "rows": rows}));
        }
    }
    let marked = dashboard.annotations().flat_map(|(title, target)| {
        let sql = substituted(target["rawSql"].as_str().unwrap(), chosen);
        let marks = rows(client, &format!("select coalesce(json_agg(t), '[]') from ({sql}) t"));
        let marks: Vec<Value> = serde_json::from_str(marks[0][0].as_deref().unwrap()).unwrap();
        assert!(!marks.is_empty(), "{title} marks nothing");
        marks
    });
    json!({"title": dashboard.json["title"], "annotations": marked.collect::<Vec<_>>(), "panels": panels})
}

/// The page that draws a dashboard.
fn page(dashboard: &Value, theme: &str, uplot: &Path) -> String {
    let read = |path: PathBuf| {
        std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    };
    let own = project_root().join("tests/dashboards");
    let data = json!({"dashboard": dashboard, "theme": theme}).to_string().replace('<', "\\u003c");
    format!(
        "<!doctype html><meta charset=\"utf-8\"><style>{}{}</style><body><script>{}</script>\
         <script type=\"application/json\" id=\"dashboard\">{data}</script><script>{}</script></body>",
        read(uplot.join("uPlot.min.css")),
        read(own.join("page.css")),
        read(uplot.join("uPlot.iife.min.js")),
        read(own.join("panels.js")),
    )
}

/// Opens a page and returns what the browser printed.
fn browse(browser: &Path, folder: &Path, file: &str, arguments: &[&str]) -> String {
    let output = Command::new(browser)
        .args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--hide-scrollbars",
            "--no-first-run",
        ])
        .args(["--virtual-time-budget=10000", "--timeout=60000"])
        .arg(format!("--user-data-dir={}", folder.join("profile").display()))
        .args(arguments)
        .arg(format!("file://{}", folder.join(file).display()))
        .env("HOME", folder)
        // The clock that `make test CLOCK=...` gives to the server is not for a browser.
        .env_remove("LD_PRELOAD")
        .stdin(Stdio::null())
        .output()
        .expect("the browser can be run");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// What the page found out about itself.
fn report(dom: &str) -> Vec<Value> {
    let (_, rest) =
        dom.split_once("id=\"report\"").unwrap_or_else(|| panic!("the page did not finish:\n{dom}"));
    let json = rest.split_once('>').and_then(|(_, rest)| rest.split_once("</script>")).unwrap().0;
    serde_json::from_str(json).unwrap_or_else(|error| panic!("{error}: {json}"))
}

#[test]
fn every_panel_shows_its_data_in_unbroken_lines_and_bands() {
    let Some((browser, uplot)) = tools() else { return };
    let db = Database::installed("dashboards_drawn");
    db.run(FILLED);
    let mut client = reader(&db);
    let models = rows(&mut client, "select distinct model_version from kronos.runs order by 1");
    let chosen = Chosen {
        symbol: "ALPHA".into(),
        models: models.into_iter().flatten().flatten().collect(),
        feeds: ["daily.csv", "fmp", "kraken", "stocktwits", "truthsocial", "yahoo"].map(str::to_owned).into(),
        kind: "live",
    };
    assert_eq!(chosen.models.len(), 2, "{:?}", chosen.models);
    let folder = tempfile::tempdir().unwrap();
    for dashboard in dashboards() {
        let filled = with_rows(&mut client, &dashboard, &chosen);
        let name = dashboard.file.trim_end_matches(".json");
        std::fs::write(folder.path().join("page.html"), page(&filled, "light", &uplot)).unwrap();
        let dom = browse(&browser, folder.path(), "page.html", &["--dump-dom"]);
        let mut lines = 0;
        for panel in report(&dom) {
            let title = format!("{name}: {}", panel["title"]);
            // Nobody asks the engine anything at this moment.
            if panel["title"] == "Requests now" {
                continue;
            }
            assert!(
                panel["rows"].as_u64().unwrap() > 0 && panel["series"].as_u64().unwrap() > 0,
                "{title} is empty"
            );
            if panel["type"] == "timeseries" {
                let times: Vec<f64> =
                    panel["times"].as_array().unwrap().iter().map(|time| time.as_f64().unwrap()).collect();
                assert!(times.windows(2).all(|pair| pair[0] < pair[1]), "{title}: two rows of one time");
            }
            for mark in ["lines", "bands"].iter().filter_map(|kind| panel[*kind].as_array()).flatten() {
                assert_eq!(mark["missing"], 0, "{title}: {mark} is broken");
                lines += 1;
            }
        }
        if !["feeds", "sources"].contains(&name) {
            assert!(lines >= 2, "{name} has lines");
        }
        keep_pictures(&browser, folder.path(), name, &filled, &uplot);
    }
}

/// The first screen of a dashboard as docs/pictures keeps it, where that is asked for.
fn keep_pictures(browser: &Path, folder: &Path, name: &str, filled: &Value, uplot: &Path) {
    let Some(pictures) = std::env::var_os("KRONOS_PICTURES") else { return };
    for theme in ["light", "dark"] {
        let file = format!("{name}-{theme}.html");
        std::fs::write(folder.join(&file), page(filled, theme, uplot)).unwrap();
        let picture = Path::new(&pictures).join(format!("dashboard-{name}-{theme}.png"));
        let screenshot = format!("--screenshot={}", picture.display());
        browse(browser, folder, &file, &["--window-size=1200,800", &screenshot]);
        let bytes = std::fs::metadata(&picture).unwrap().len();
        assert!(bytes < 150_000, "{} has {bytes} bytes", picture.display());
    }
}
