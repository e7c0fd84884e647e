//! Feeds of facts, in simulated time: whatever fails in between, the tables are those of a vendor that never failed.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use chrono::TimeDelta;
use kronos_ingest::{
    exact::micros,
    feeds::{Feed, FeedSettings, PollFeed, find},
    store::Batch,
    wire::Secret,
};
use proptest::{collection::vec, prelude::*, test_runner::TestRunner};

use crate::{
    database::Tables,
    polling::{DAY, Fault, Vendor, fault, live, paused},
    world::START,
};

const KEY: &str = "hunter2-key-of-the-account";

fn feed(name: &str, symbols: &[&str], plan: Option<&str>) -> Arc<dyn PollFeed> {
    let entry = find(name).unwrap();
    let settings = FeedSettings {
        symbols: symbols.iter().map(|symbol| (*symbol).to_owned()).collect(),
        rest_url: Some("http://vendor".to_owned()),
        plan: plan.map(str::to_owned),
        credentials: entry.credentials.iter().map(|name| (*name, Secret(KEY.to_owned()))).collect(),
        ..FeedSettings::default()
    };
    let Ok(Feed::Poll(feed)) = entry.build(settings) else { unreachable!("{name} is polled") };
    feed
}

/// The spelling of the vendor, and ours.
fn names() -> BTreeMap<String, String> {
    [("AAPL", "AAPL"), ("BRK-B", "BRK.B")].map(|(native, ours)| (native.to_owned(), ours.to_owned())).into()
}

/// Before and after it has restated a quarter and changed its mind.
#[derive(Clone, Copy, PartialEq)]
enum Era {
    First,
    Restated,
}

fn parameter<'t>(target: &'t str, name: &str) -> Option<&'t str> {
    target.split(['?', '&']).find_map(|part| part.strip_prefix(name)?.strip_prefix('='))
}

/// Quarters of a statement, the newest first; those of 2022 and one that is restated.
fn statements(symbol: &str, era: Era) -> String {
    let quarter = |(end, period, accepted): (&str, &str, &str)| {
        let revenue = if era == Era::Restated && period == "Q2" { "9.99" } else { "10.5" };
        format!(
            r#"{{"date":"{end}","symbol":"{symbol}","period":"{period}","acceptedDate":"{accepted}","revenue":"{revenue}","epsdiluted":0}}"#
        )
    };
    let quarters = [
        ("2023-06-30", "Q2", "2023-08-03 16:30:41"),
        ("2023-03-31", "Q1", "2023-05-04 16:30:27"),
        ("2022-12-31", "Q4", "2023-02-02 06:02:00"),
    ];
    format!("[{}]", quarters.map(quarter).join(","))
}

/// A page of news, the newest first. Another item appears above with each question until there are `total`, so pages move while
/// they are read.
fn news(target: &str, asked: &AtomicU64) -> String {
    const PAGE: u64 = 4;
    let total = 9 + asked.fetch_add(1, Ordering::Relaxed).min(6);
    let page: u64 = parameter(target, "page").unwrap().parse().unwrap();
    let item = |number: u64| {
        let symbol = ["AAPL", "BRK-B", "ZZZ"][(number % 3) as usize];
        format!(
            r#"{{"symbol":"{symbol}","publishedDate":"2023-11-14 {number:02}:00:00","title":"{number}","url":"https://site/{number}"}}"#
        )
    };
    let newest = total.saturating_sub(page * PAGE);
    let items: Vec<_> = (newest.saturating_sub(PAGE)..newest).rev().map(item).collect();
    format!("[{}]", items.join(","))
}

/// What the vendor answers: statements, news, estimates; nothing at the other endpoints.
fn answer(target: &str, era: Era, asked: &AtomicU64) -> (u16, String) {
    let (path, _) = target.split_once('?').unwrap_or((target, ""));
    let symbol = parameter(target, "symbol").unwrap_or_default();
    let is_quarter = parameter(target, "period") == Some("quarter");
    let body = match path {
        "/income-statement" | "/cash-flow-statement" if is_quarter => statements(symbol, era),
        "/analyst-estimates" if is_quarter && parameter(target, "page") == Some("0") => {
            let estimate = if era == Era::Restated { "1.60" } else { "1.50" };
            format!(r#"[{{"symbol":"{symbol}","date":"2024-09-30","estimatedEpsAvg":{estimate}}}]"#)
        }
        "/news/stock-latest" => news(target, asked),
        "/profile" if symbol == "BRK-B" => return (402, format!("{KEY} has no plan for this: Premium")),
        _ => "[]".to_owned(),
    };
    (200, body)
}

/// Every version of every document, in its order, with its time where the vendor gives one.
const DOCUMENTS: &str = "
    select kind, key, symbol, payload,
           row_number() over (partition by kind, key order by known_at) as version,
           case when kind in ('fmp_income_statement', 'fmp_cash_flow') and known_at < '2023-11-01' or kind = 'fmp_news' then known_at end
    from market.documents order by kind, key, known_at";

/// Lives of a worker at one era of the vendor; the last one is clean and long enough to read everything.
fn live_through(tables: &mut Tables, era: Era, lives: Vec<(Vec<Fault>, u64, usize)>) -> String {
    let feed = feed("fmp", &["AAPL", "BRK-B"], Some("ultimate"));
    let asked = Arc::new(AtomicU64::new(0));
    let mut told = String::new();
    for (i, (faults, seconds, unsaved)) in lives.into_iter().chain([(Vec::new(), 1_500, 0)]).enumerate() {
        // Years later the vendor is read from the beginning again.
        let resumed = if i == 0 { (Vec::new(), Vec::new()) } else { tables.resume_polls("fmp") };
        let asked = Arc::clone(&asked);
        let begins =
            micros(START).unwrap() + TimeDelta::days(i64::from(era == Era::Restated) * 30 + i as i64 + 1);
        let (mut batches, ended) = paused().block_on(async {
            let vendor = Vendor::at(begins, faults, move |target: &str| answer(target, era, &asked));
            live(&vendor, &feed, &names(), resumed, Duration::from_secs(seconds)).await
        });
        assert!(ended.is_none(), "{ended:?}");
        batches.truncate(batches.len().saturating_sub(unsaved));
        tables.store(&batches);
        // The writer may have stored them before it was killed, and stores them again.
        tables.store(&batches);
        told.push_str(&format!("{batches:?}"));
    }
    told
}

fn empty(tables: &Tables) {
    let children = tables.rows("select relation from market.document_tables").join(", ");
    tables.rows(&format!("truncate market.documents, {children}, market.feed_cursors, market.feed_refusals, market.rejected_rows"));
}

#[test]
fn any_faults_and_kills_leave_the_facts_of_the_clean_vendor() {
    let mut tables = Tables::new("facts_kills");
    for era in [Era::First, Era::Restated] {
        live_through(&mut tables, era, Vec::new());
    }
    let expected = tables.rows(DOCUMENTS);
    let counts = "select kind, count(*), count(distinct key) from market.documents group by 1 order by 1";
    assert_eq!(
        tables.rows(counts),
        ["fmp_analyst_estimates 4 2", "fmp_cash_flow 8 6", "fmp_income_statement 8 6", "fmp_news 10 10"],
        "a restatement and an estimate have two versions, news of others are not kept"
    );
    let restated = "select revenue, known_at at time zone 'America/New_York' from market.fmp_income_statement
                    where symbol = 'BRK.B' and period = 'Q2' order by known_at";
    let rows = tables.rows(restated);
    assert_eq!(rows[0], "10.5 2023-08-03 16:30:41");
    assert!(rows[1].starts_with("9.99 2023-12-"), "known when it was seen: {rows:?}");
    let lives = || vec((vec(fault(), 0..40), 1u64..200, 0usize..4), 0..3);
    let config = ProptestConfig { cases: 25, failure_persistence: None, ..ProptestConfig::default() };
    let tables = Mutex::new(tables);
    TestRunner::new(config)
        .run(&(lives(), lives()), |(first, second)| {
            let mut tables = tables.lock().unwrap_or_else(PoisonError::into_inner);
            empty(&tables);
            for (era, lives) in [(Era::First, first), (Era::Restated, second)] {
                let told = live_through(&mut tables, era, lives);
                prop_assert!(!told.contains("hunter2"), "a key in what is stored");
            }
            prop_assert_eq!(&tables.rows(DOCUMENTS), &expected);
            Ok(())
        })
        .unwrap();
}

#[test]
fn what_the_plan_has_not_for_one_name_it_has_for_the_others() {
    let feed = feed("fmp", &["AAPL", "BRK-B"], Some("ultimate"));
    let asked = AtomicU64::new(0);
    let (vendor, batches) = paused().block_on(async {
        let vendor = Vendor::new(Vec::new(), move |target: &str| answer(target, Era::First, &asked));
        let resumed = (Vec::new(), Vec::new());
        let (batches, _) = live(&vendor, &feed, &names(), resumed, DAY * 2 + Duration::from_secs(600)).await;
        (vendor, batches)
    });
    assert_eq!(vendor.times("/profile?symbol=BRK-B").len(), 3, "a day of rest");
    assert_eq!(vendor.times("/profile?symbol=AAPL").len(), 3);
    let refusals: Vec<_> = batches.iter().flat_map(|batch: &Batch| &batch.refusals).collect();
    assert_eq!(refusals.len(), 3);
    assert_eq!((refusals[0].channel.as_str(), refusals[0].symbol.as_str()), ("profile", "BRK.B"));
    assert_eq!(refusals[0].reason.as_deref(), Some("HTTP 402 (secret) has no plan for this: Premium"));
    let news = vendor.times("/news/stock-latest");
    assert!(news.len() < 2 * (2 * 288 + 10), "later readings go back to what is known: {}", news.len());
}

#[test]
fn news_do_not_wait_for_the_first_reading_of_a_universe() {
    let universe: Vec<String> = (0..300).map(|i| format!("S{i}")).collect();
    let names = universe.iter().map(|name| (name.clone(), name.clone())).collect();
    let symbols: Vec<&str> = universe.iter().map(String::as_str).collect();
    let feed = feed("fmp", &symbols, Some("starter"));
    let vendor = paused().block_on(async {
        let vendor = Vendor::new(Vec::new(), |_: &str| (200, "[]".to_owned()));
        live(&vendor, &feed, &names, (Vec::new(), Vec::new()), Duration::from_secs(1_000)).await;
        vendor
    });
    let last = vendor.times("/earnings?symbol=S0");
    assert!(last.is_empty(), "the universe is not read yet");
    assert_eq!(vendor.times("/news/stock-latest").len(), 4, "every five minutes");
}

#[test]
fn vintages_of_a_series_are_read_once_and_again() {
    let observations = |last: &str| {
        format!(
            r#"{{"count":3,"observations":[
                 {{"realtime_start":"2023-09-13","realtime_end":"2023-10-11","date":"2023-08-01","value":"306.2"}},
                 {{"realtime_start":"2023-10-12","realtime_end":"{last}","date":"2023-08-01","value":"306.3"}},
                 {{"realtime_start":"2023-10-12","realtime_end":"9999-12-31","date":"2023-09-01","value":"."}}]}}"#
        )
    };
    let mut tables = Tables::new("facts_vintages");
    let feed = feed("fred", &["CPIAUCSL"], None);
    let names = [("CPIAUCSL".to_owned(), "CPIAUCSL".to_owned())].into();
    // A vintage ends, which changes nothing of what it said.
    for last in ["9999-12-31", "2023-11-13", "2023-11-13"] {
        let body = observations(last);
        let (batches, ended) = paused().block_on(async {
            let vendor = Vendor::new(vec![Fault::Page, Fault::Status(429, Some(30))], move |target: &str| {
                let is_series = target.starts_with("/fred/series/observations?series_id=CPIAUCSL&");
                (200, if is_series { body.clone() } else { r#"{"release_dates":[]}"#.to_owned() })
            });
            live(&vendor, &feed, &names, (Vec::new(), Vec::new()), Duration::from_secs(120)).await
        });
        assert!(ended.is_none(), "{ended:?}");
        tables.store(&batches);
    }
    let known = "select key, payload ->> 'value', known_at at time zone 'America/New_York' from market.documents order by 3, 1";
    assert_eq!(
        tables.rows(known),
        [
            "CPIAUCSL/2023-08-01 306.2 2023-09-14 00:00:00",
            "CPIAUCSL/2023-08-01 306.3 2023-10-13 00:00:00",
            "CPIAUCSL/2023-09-01 . 2023-10-13 00:00:00",
        ]
    );
}
