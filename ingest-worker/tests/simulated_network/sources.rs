//! Every source whose answers are lists, in simulated time: whatever fails in between, the tables are those of a vendor that never failed.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use chrono::TimeDelta;
use kronos_ingest::{
    drive::Poller,
    error::FeedError,
    exact::micros,
    feeds::{Feed, FeedSettings, PollFeed, find},
    store::{Batch, Limits, Sink},
    wire::Secret,
};
use proptest::{collection::vec, prelude::*, test_runner::TestRunner};

use crate::{
    database::Tables,
    polling::{Fault, Line, Vendor, fault, live, paused},
    world::START,
};

const KEY: &str = "hunter2-key-of-the-account";

/// A source, and what it answers: before and after it has changed its mind, to so many questions before.
struct Source {
    name: &'static str,
    symbols: &'static [&'static str],
    /// Endpoints that are off by default.
    also: &'static [&'static str],
    answer: fn(&str, bool, u64) -> String,
    /// Documents and versions, bars.
    expected: &'static str,
}

const SOURCES: &[Source] = &[
    Source { name: "fmp", symbols: &["AAPL"], also: &[], answer: fmp, expected: "9 12, 3" },
    Source { name: "fred", symbols: &["CPIAUCSL"], also: &[], answer: fred, expected: "2 3, 0" },
    Source {
        name: "quiver",
        symbols: &["AAPL", "NVDA"],
        also: &["political-beta", "political-beta-bulk", "etf-holdings"],
        answer: quiver,
        expected: "30 32, 0",
    },
    Source {
        name: "capitoltrades",
        symbols: &["AAPL", "NVDA"],
        also: &[],
        answer: capitol,
        expected: "10 11, 0",
    },
    Source {
        name: "alpaca_assets",
        symbols: &["AAPL", "NVDA"],
        also: &[],
        answer: assets,
        expected: "2 3, 0",
    },
    Source { name: "alpaca_news", symbols: &["AAPL", "NVDA"], also: &[], answer: news, expected: "7 8, 0" },
    Source { name: "truthsocial", symbols: &["107"], also: &[], answer: posts, expected: "9 10, 0" },
];

fn parameter<'t>(target: &'t str, name: &str) -> Option<&'t str> {
    target.split(['?', '&']).find_map(|part| part.strip_prefix(name)?.strip_prefix('='))
}

/// A page of a list of numbered items, the newest first, from page `first`. Another item appears above with each question until
/// there are fifteen, so pages move while they are read.
fn page(target: &str, first: u64, asked: u64, item: impl Fn(u64) -> String) -> String {
    const PAGE: u64 = 4;
    let total = 9 + asked.min(6);
    let page = parameter(target, "page").unwrap().parse::<u64>().unwrap() - first;
    let newest = total.saturating_sub(page * PAGE);
    let items: Vec<_> = (newest.saturating_sub(PAGE)..newest).rev().map(item).collect();
    format!("[{}]", items.join(","))
}

/// Of three names one is not followed.
fn name_of(number: u64) -> &'static str {
    ["AAPL", "NVDA", "ZZZ"][(number % 3) as usize]
}

fn fmp(target: &str, is_changed: bool, _: u64) -> String {
    let (path, _) = target.split_once('?').unwrap_or((target, ""));
    let is_annual = parameter(target, "period") == Some("annual");
    match path {
        "/income-statement" | "/cash-flow-statement" if !is_annual => {
            let revenue = if is_changed { "9.99" } else { "10.5" };
            format!(
                r#"[{{"date":"2023-06-30","period":"Q2","acceptedDate":"2023-08-03 16:30:41","revenue":"{revenue}"}},
                    {{"date":"2023-03-31","period":"Q1","filingDate":"2023-05-04","revenue":0}}]"#
            )
        }
        "/grades" => r#"[{"date":"2023-11-01","gradingCompany":"A","newGrade":"Buy"},{"date":"2023-11-01","gradingCompany":"A","newGrade":"Hold"}]"#
            .to_owned(),
        "/profile" => format!(r#"[{{"symbol":"AAPL","sector":"{}"}}]"#, if is_changed { "Media" } else { "Technology" }),
        "/etf/holdings" => r#"[{"asset":"MSFT","weightPercentage":7}]"#.to_owned(),
        "/economic-calendar" => r#"[{"date":"2023-11-10 13:30:00","country":"US","event":"CPI","actual":0}]"#.to_owned(),
        "/historical-price-eod/full" => {
            let bar = |day: &str| format!(r#"{{"date":"{day}","open":1,"high":3,"low":1,"close":2,"volume":10}}"#);
            let (from, to) = (parameter(target, "from").unwrap(), parameter(target, "to").unwrap());
            let days = ["2023-11-10", "2023-11-13", "2023-11-14"];
            let inside: Vec<_> = days.iter().filter(|day| (from..=to).contains(*day)).map(|day| bar(day)).collect();
            format!("[{}]", inside.join(","))
        }
        _ => "[]".to_owned(),
    }
}

fn fred(target: &str, is_changed: bool, _: u64) -> String {
    if target.starts_with("/fred/releases") {
        return r#"{"release_dates":[]}"#.to_owned();
    }
    let second =
        r#",{"realtime_start":"2023-11-01","realtime_end":"9999-12-31","date":"2023-08-01","value":"306.3"}"#;
    format!(
        r#"{{"observations":[{{"realtime_start":"2023-09-13","realtime_end":"{}","date":"2023-08-01","value":"306.2"}},
            {{"realtime_start":"2023-10-12","realtime_end":"9999-12-31","date":"2023-09-01","value":"."}}{}]}}"#,
        if is_changed { "2023-10-31" } else { "9999-12-31" },
        if is_changed { second } else { "" }
    )
}

fn quiver(target: &str, is_changed: bool, asked: u64) -> String {
    let (path, _) = target.split_once('?').unwrap_or((target, ""));
    let trade = |number: u64| {
        let party = if is_changed && number == 1 { "R" } else { "D" };
        format!(
            r#"{{"Ticker":"{}","Name":"P{number}","Filed":"2023-11-{:02}","Traded":"2023-10-02","Transaction":"Purchase","Party":"{party}","Trade_Size_USD":"1001.0",
                "excess_return":"{asked}","last_modified":"2023-11-{:02}"}}"#,
            name_of(number),
            number + 1,
            asked % 28 + 1
        )
    };
    let first = |count: u64| format!("[{}]", (0..count).map(trade).collect::<Vec<_>>().join(","));
    match path {
        // The live list has what the bulk has, too.
        "/beta/live/congresstrading" => first(4),
        "/beta/bulk/congresstrading" => page(target, 1, 6, trade),
        "/beta/live/housetrading" => {
            r#"[{"Ticker":"AAPL","Representative":"A","ReportDate":"2023-11-02","Date":"2023-10-01","Transaction":"Exchange","Range":"$1,001 - $15,000"},
                {"Ticker":null,"Representative":"A","ReportDate":"2023-11-02","Date":"2023-10-01","Transaction":"Sale","Range":"$1,001 - $15,000"}]"#
                .to_owned()
        }
        "/beta/live/senatetrading" => r#"[{"Ticker":"NVDA","Senator":"B","ReportDate":"2023-11-02","Date":"2023-10-01","Transaction":"Sale (Full)","Amount":"1001.0"}]"#
            .to_owned(),
        "/beta/live/insiders" => page(target, 1, asked, |number| {
            format!(
                r#"{{"Ticker":"{}","Name":"I{number}","Date":"2023-10-30","fileDate":"2023-11-01","uploaded":"2023-11-01T{number:02}:00:00Z",
                    "TransactionCode":"P","Shares":{number},"PricePerShare":2}}"#,
                name_of(number)
            )
        }),
        "/beta/live/lobbying" if parameter(target, "page") == Some("1") => {
            r#"[{"Ticker":"AAPL","Date":"2023-11-03","Amount":"5","Client":"C"}]"#.to_owned()
        }
        "/beta/live/govcontractsall" if parameter(target, "page") == Some("1") => {
            r#"[{"Ticker":"AAPL","Date":"2023-11-03","Amount":5.5,"Agency":"G"}]"#.to_owned()
        }
        "/beta/live/appratings" => r#"[{"Ticker":"AAPL","App":"M","Rating":4,"Count":9,"Time":"2023-11-03T01:00:00Z"}]"#.to_owned(),
        "/beta/live/offexchange" => r#"[{"Ticker":"AAPL","Date":"2023-11-13","OTC_Short":1,"OTC_Total":2,"DPI":0.5},
                                        {"Ticker":"NVDA","Date":"2023-11-13","OTC_Short":1,"OTC_Total":4,"DPI":0.25}]"#
            .to_owned(),
        "/beta/live/politicalbeta" => format!(r#"[{{"Ticker":"AAPL","TrumpBeta":{}}}]"#, if is_changed { 0.5 } else { 0.25 }),
        "/beta/bulk/politicalbeta" => r#"[{"Ticker":"AAPL","Date":"2023-11-01","TrumpBeta":0.1}]"#.to_owned(),
        "/beta/live/etfholdings" => r#"[{"ETF":"SPY","Ticker":"AAPL","Weight":7}]"#.to_owned(),
        _ => "[]".to_owned(),
    }
}

fn capitol(target: &str, is_changed: bool, asked: u64) -> String {
    let trades = page(target, 1, asked, |number| {
        let kind = if is_changed && number == 0 { "sell" } else { "buy" };
        format!(
            r#"{{"_txId":{number},"pubDate":"2023-11-14T{number:02}:00:00Z","filingDate":"2023-11-10","txType":"{kind}","asset":{{"assetTicker":"{}:US"}}}}"#,
            name_of(number)
        )
    });
    format!(r#"{{"meta":{{}},"data":{trades}}}"#)
}

fn assets(target: &str, is_changed: bool, _: u64) -> String {
    let is_active = parameter(target, "status") == Some("active");
    let share = |id: &str, symbol: &str, status: &str| {
        format!(
            r#"{{"id":"{id}","symbol":"{symbol}","status":"{status}","tradable":true,"shortable":true,"easy_to_borrow":true}}"#
        )
    };
    // One is delisted.
    let listed = match (is_active, is_changed) {
        (true, false) => {
            vec![share("1", "AAPL", "active"), share("2", "NVDA", "active"), share("3", "ZZZ", "active")]
        }
        (true, true) => vec![share("1", "AAPL", "active")],
        (false, false) => vec![],
        (false, true) => vec![share("2", "NVDA", "inactive")],
    };
    format!("[{}]", listed.join(","))
}

/// Five pieces, two to a page, the second and fourth of them about two names; the first is rewritten in December.
fn news(target: &str, is_changed: bool, _: u64) -> String {
    let piece = |number: usize| {
        let names = if number.is_multiple_of(2) { r#""AAPL","NVDA""# } else { r#""AAPL""# };
        let is_rewritten = is_changed && number == 1;
        let updated = if is_rewritten { "2023-12-20T10:00:00Z" } else { "2023-11-14T12:00:00Z" };
        let headline = if is_rewritten { "again" } else { "first" };
        (
            updated,
            format!(
                r#"{{"id":{number},"headline":"{headline}","created_at":"2023-11-14T0{number}:00:00Z","updated_at":"{updated}","symbols":[{names}]}}"#
            ),
        )
    };
    let start = parameter(target, "start").unwrap();
    let listed: Vec<_> = (1..=5).map(piece).filter(|(updated, _)| updated[..10] >= start[..10]).collect();
    let first: usize = parameter(target, "page_token").map_or(0, |token| token[1..].parse().unwrap());
    let page: Vec<_> = listed.iter().skip(first).take(2).map(|(_, piece)| piece.as_str()).collect();
    let token = if first + 2 < listed.len() { format!("\"p{}\"", first + 2) } else { "null".to_owned() };
    format!(r#"{{"news":[{}],"next_page_token":{token}}}"#, page.join(","))
}

/// Posts 98 to 106 of an account, three more than there are questions at first; the first one is edited.
fn posts(target: &str, is_changed: bool, asked: u64) -> String {
    let bound = |name: &str| parameter(target, name).map(|id| id.parse::<u64>().unwrap());
    let newest = 100 + asked.min(6);
    let (above, below) = (bound("since_id").unwrap_or(0), bound("max_id").unwrap_or(u64::MAX));
    let post = |id: u64| {
        let name = if id.is_multiple_of(2) { "$AAPL" } else { "hello" };
        let edited = if is_changed && id == 98 { r#","edited_at":"2023-11-14T20:00:00.000Z""# } else { "" };
        let word = if edited.is_empty() { "up" } else { "down" };
        format!(
            r#"{{"id":"{id}","created_at":"2023-11-14T{:02}:00:00.000Z","content":"<p>{name} {word}</p>"{edited}}}"#,
            id - 97
        )
    };
    let listed = (98..=newest).rev().filter(|id| *id > above && *id < below).take(4).map(post);
    format!("[{}]", listed.collect::<Vec<_>>().join(","))
}

fn feed(source: &Source) -> Arc<dyn PollFeed> {
    let entry = find(source.name).unwrap();
    let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    let settings = FeedSettings {
        symbols: owned(source.symbols),
        also: owned(source.also),
        rest_url: Some("http://vendor".to_owned()),
        plan: entry.plans.last().map(|plan| (*plan).to_owned()),
        credentials: entry.credentials.iter().map(|name| (*name, Secret(KEY.to_owned()))).collect(),
        ..FeedSettings::default()
    };
    let Ok(Feed::Poll(feed)) = entry.build(settings) else { unreachable!("{} is polled", source.name) };
    feed
}

type Lives = Vec<(Vec<Fault>, u64, usize)>;

/// Lives of a worker before or after the source has changed its mind; the last one is clean, and long enough for a second reading.
fn live_through(tables: &mut Tables, source: &Source, is_changed: bool, lives: Lives) -> String {
    const CLEAN: u64 = 9_000;
    let feed = feed(source);
    let names: BTreeMap<_, _> =
        source.symbols.iter().map(|name| ((*name).to_owned(), (*name).to_owned())).collect();
    let asked = Arc::new(AtomicU64::new(0));
    let mut told = String::new();
    // Changes of old items are seen where everything is read again.
    tables.rows("truncate market.feed_cursors");
    for (i, (faults, seconds, unsaved)) in lives.into_iter().chain([(Vec::new(), CLEAN, 0)]).enumerate() {
        if source.name == "truthsocial" {
            // It stays blocked until somebody says otherwise.
            tables.rows("delete from market.feed_refusals");
        }
        let resumed = tables.resume_polls(source.name);
        let (asked, answer) = (Arc::clone(&asked), source.answer);
        let day = i64::from(is_changed) * 40 + i as i64 + 1;
        let (mut batches, ended): (Vec<Batch>, _) = paused().block_on(async {
            let answering =
                move |target: &str| (200, answer(target, is_changed, asked.fetch_add(1, Ordering::Relaxed)));
            // Of the worker's clock: it is wrong by up to three hours, and jumps with each life.
            let skew = TimeDelta::hours(i64::try_from(seconds % 7).unwrap() - 3);
            let begins = micros(START).unwrap() + TimeDelta::days(day) + skew;
            let vendor = Vendor::at(begins, faults, answering);
            live(&vendor, &feed, &names, resumed, Duration::from_secs(seconds)).await
        });
        // Who is turned away by a site without plans does not come back before it is started again.
        let is_turned_away = matches!(&ended, Some(Err(FeedError::Fatal(_))))
            && ["capitoltrades", "truthsocial"].contains(&source.name);
        assert!(ended.is_none() || is_turned_away, "{}: {ended:?}", source.name);
        batches.truncate(batches.len().saturating_sub(unsaved));
        tables.store(&batches);
        // The writer may have stored them before it was killed, and stores them again.
        tables.store(&batches);
        told.push_str(&format!("{batches:?}"));
    }
    told
}

/// Every version of every document, in its order, with its time where the vendor says that it was before anybody asked; every bar.
fn facts(tables: &Tables) -> Vec<String> {
    tables.rows(
        "select kind, key, symbol, payload, row_number() over (partition by kind, key order by known_at) as version,
                case when known_at < '2023-11-15' then known_at end
         from market.documents
         union all
         select 'bar', symbol, source, jsonb_build_array(time, open, high, low, close, volume), 1, known_at from market.bars
         order by 1, 2, 5, 4",
    )
}

fn empty(tables: &Tables) {
    let children = tables.rows("select relation from market.document_tables").join(", ");
    tables.rows(&format!(
        "truncate market.documents, {children}, market.bars, market.feed_cursors, market.feed_refusals, market.feed_usage, market.rejected_rows"
    ));
}

#[test]
fn any_faults_and_kills_leave_the_facts_of_every_clean_source() {
    for source in SOURCES {
        let mut tables = Tables::new(&format!("sources_{}", source.name));
        for is_changed in [false, true] {
            live_through(&mut tables, source, is_changed, Vec::new());
        }
        let counts = "select concat((select count(distinct (kind, key)) from market.documents), ' ', (select count(*) from market.documents), ', ',
                                    (select count(*) from market.bars))";
        assert_eq!(tables.rows(counts), [source.expected], "{}: {:#?}", source.name, facts(&tables));
        assert_eq!(tables.rows("select count(*) from market.rejected_rows"), ["0"], "{}", source.name);
        let expected = facts(&tables);
        let lives = || vec((vec(fault(), 0..30), 1u64..4_000, 0usize..4), 0..3);
        let config = ProptestConfig { cases: 8, failure_persistence: None, ..ProptestConfig::default() };
        let tables = std::cell::RefCell::new(tables);
        TestRunner::new(config)
            .run(&(lives(), lives()), |(first, second)| {
                let mut tables = tables.borrow_mut();
                empty(&tables);
                for (is_changed, lives) in [(false, first), (true, second)] {
                    let told = live_through(&mut tables, source, is_changed, lives);
                    prop_assert!(!told.contains("hunter2"), "a key in what is stored");
                }
                prop_assert_eq!(&facts(&tables), &expected, "{}", source.name);
                Ok(())
            })
            .unwrap();
    }
}

/// Largest resident size of this process so far, in bytes.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1_024
}

#[test]
#[ignore = "measures the memory of the whole process: run it alone"]
fn a_universe_of_3400_names_is_polled_in_bounded_memory() {
    let universe: Vec<String> = (0..3_400).map(|i| format!("S{i}")).collect();
    let names: BTreeMap<_, _> = universe.iter().map(|name| (name.clone(), name.clone())).collect();
    let settings = FeedSettings {
        symbols: universe,
        rest_url: Some("http://vendor".to_owned()),
        plan: Some("ultimate".to_owned()),
        credentials: [("FMP_API_KEY", Secret(KEY.to_owned()))].into(),
        ..FeedSettings::default()
    };
    let Ok(Feed::Poll(feed)) = find("fmp").unwrap().build(settings) else { unreachable!("fmp is polled") };
    // Thirty years of quarters: 150 kB.
    let quarter = |i: u32| {
        format!(
            r#"{{"date":"{}-{:02}-28","period":"Q{}","acceptedDate":"2023-08-03 16:30:41","filler":"{}"}}"#,
            1993 + i / 4,
            i % 4 * 3 + 1,
            i % 4 + 1,
            "x".repeat(1_150)
        )
    };
    let statements = format!("[{}]", (0..120).map(quarter).collect::<Vec<_>>().join(","));
    let before = peak();
    let asked = paused().block_on(async {
        let vendor = Vendor::new(Vec::new(), move |_: &str| (200, statements.clone()));
        let (sink, mut queue) = Sink::channel(Limits::default());
        tokio::spawn(async move { while queue.recv().await.is_some() {} });
        let begins = micros(START).unwrap();
        let clock = Arc::new(move || begins);
        let line = Arc::new(Line(Arc::clone(&vendor)));
        let poller = Poller::new(feed, line, &names, Vec::new(), &[], sink, clock);
        let (_stop, shutdown) = tokio::sync::watch::channel(false);
        tokio::time::timeout(Duration::from_secs(300), poller.run(shutdown)).await.unwrap_err();
        vendor.times("").len()
    });
    let grown = (peak() - before) >> 20;
    println!("{asked} answers of 150 kB, {grown} MiB more than before");
    assert!(asked > 14_000, "{asked}");
    assert!(grown < 128, "{grown} MiB");
}
