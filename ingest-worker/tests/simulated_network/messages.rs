//! Feeds of messages, in simulated time: none is lost, and the requests of an hour go where they are worth most.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use chrono::TimeDelta;
use kronos_ingest::{
    error::FeedError,
    exact::micros,
    feeds::{Feed, FeedSettings, PollFeed, find},
    wire::Secret,
};
use proptest::{collection::vec, prelude::*, test_runner::TestRunner};
use tokio::time::Instant;

use crate::{
    database::Tables,
    polling::{DAY, Fault, Vendor, fault, live, live_heeding, paused},
    world::START,
};

const HOUR: u64 = 3_600;

fn feed(name: &str) -> Arc<dyn PollFeed> {
    let entry = find(name).unwrap();
    let settings = FeedSettings {
        rest_url: Some("http://vendor".to_owned()),
        credentials: entry.credentials.iter().map(|name| (*name, Secret("hunter2-key".to_owned()))).collect(),
        ..FeedSettings::default()
    };
    let Ok(Feed::Poll(feed)) = entry.build(settings) else { unreachable!("{name} is polled") };
    feed
}

/// What Stocktwits answers where messages 1 to `newest` were written.
fn page(target: &str, newest: u64) -> (u16, String) {
    let bound = |name: &str| -> Option<u64> {
        target.split(['?', '&']).find_map(|part| part.strip_prefix(name)?.strip_prefix('=')?.parse().ok())
    };
    let (since, max) = (bound("since").unwrap_or(0), bound("max").unwrap_or(u64::MAX));
    let all: Vec<u64> = (since + 1..=newest.min(max - 1)).rev().collect();
    let message = |id: &u64| {
        let written = micros(START).unwrap() + TimeDelta::seconds(i64::try_from(*id).unwrap());
        format!(r#"{{"id":{id},"created_at":"{}","user":{{"username":"u"}}}}"#, written.to_rfc3339())
    };
    let messages: Vec<String> = all.iter().take(30).map(message).collect();
    let more = all.len() > 30;
    (200, format!(r#"{{"cursor":{{"more":{more}}},"messages":[{}]}}"#, messages.join(",")))
}

#[test]
fn any_faults_and_kills_leave_every_message() {
    // Messages of two symbols until there are 118 and 25, of which the first reading may take four pages.
    let expected: Vec<String> = [("AAPL", 118), ("BTCUSD", 25)]
        .iter()
        .map(|(symbol, count)| format!("{symbol} {count} {count} 1 {count}"))
        .collect();
    let names: BTreeMap<String, String> = [("AAPL", "AAPL"), ("BTC.X", "BTCUSD")]
        .map(|(native, ours)| (native.to_owned(), ours.to_owned()))
        .into();
    let stored = "select symbol, count(*), count(distinct msg_id), min(msg_id::int), max(msg_id::int)
                  from market.social_messages group by 1 order by 1";
    let lives = vec((vec(fault(), 0..12), 1u64..4_000, 0usize..4), 0..5);
    let config = ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() };
    let tables = Mutex::new(Tables::new("messages_kills"));
    TestRunner::new(config)
        .run(&lives, |lives| {
            let mut tables = tables.lock().unwrap_or_else(PoisonError::into_inner);
            tables.rows("truncate market.social_messages, market.feed_cursors, market.feed_refusals, market.rejected_rows");
            let feed = feed("stocktwits");
            let mut elapsed = 0;
            for (faults, seconds, unsaved) in lives.into_iter().chain([(Vec::<Fault>::new(), 40 * HOUR, 0)]) {
                let resumed = tables.resume_polls("stocktwits");
                let (mut batches, ended) = paused().block_on(async {
                    let started = Instant::now();
                    let begins = micros(START).unwrap() + TimeDelta::seconds(i64::try_from(elapsed).unwrap());
                    let vendor = Vendor::at(begins, faults, move |target: &str| {
                        let now = elapsed + started.elapsed().as_secs();
                        let is_coin = target.contains("BTC.X");
                        page(target, if is_coin { (1 + now / 600).min(25) } else { (40 + now / 60).min(118) })
                    });
                    live(&vendor, &feed, &names, resumed, Duration::from_secs(seconds)).await
                });
                prop_assert!(ended.is_none(), "{:?}", ended);
                elapsed += seconds;
                batches.truncate(batches.len().saturating_sub(unsaved));
                tables.store(&batches);
                tables.store(&batches);
            }
            prop_assert_eq!(&tables.rows(stored), &expected);
            Ok(())
        })
        .unwrap();
}

/// Seconds at which each of `symbols` was asked for in `span`, where `written` says how many messages it has after so many seconds.
fn asked(
    symbols: &[String],
    span: Duration,
    weights: BTreeMap<String, f64>,
    written: impl Fn(&str, u64) -> u64 + Send + Sync + 'static,
) -> BTreeMap<String, Vec<u64>> {
    let names = symbols.iter().map(|symbol| (symbol.clone(), symbol.clone())).collect();
    paused().block_on(async {
        let started = Instant::now();
        let vendor = Vendor::new([], move |target: &str| {
            let symbol = target.split(['/', '?']).nth(5).unwrap().trim_end_matches(".json");
            page(target, written(symbol, started.elapsed().as_secs()))
        });
        let nothing = (Vec::new(), Vec::new());
        let (_, ended) = live_heeding(&vendor, &feed("stocktwits"), &names, nothing, span, weights).await;
        assert!(ended.is_none(), "{ended:?}");
        symbols.iter().map(|symbol| (symbol.clone(), vendor.times(&format!("/{symbol}.json")))).collect()
    })
}

#[test]
fn a_quiet_symbol_is_asked_about_less_often() {
    let symbols: Vec<String> = (0..60).map(|i| format!("Q{i}")).chain(["BUSY".to_owned()]).collect();
    // Two messages a minute, and one in twelve hours.
    let written =
        |symbol: &str, now: u64| if symbol == "BUSY" { 1 + now / 30 } else { 1 + now / (12 * HOUR) };
    let asked = asked(&symbols, DAY * 2, BTreeMap::new(), written);
    let of_the_second_day = |symbol: &str| asked[symbol].iter().filter(|at| **at >= 24 * HOUR).count();
    // Twenty messages take ten minutes, so it is asked about 144 times a day, for one page each.
    assert!((130..=150).contains(&of_the_second_day("BUSY")), "{}", of_the_second_day("BUSY"));
    // At most every six hours.
    assert!((0..60).all(|i| (4..=5).contains(&of_the_second_day(&format!("Q{i}")))));
}

#[test]
fn no_hour_has_more_requests_than_the_vendor_takes_and_each_has_its_share() {
    // Three hundred symbols, each wanted every twenty minutes, and one every five: 900 requests an hour.
    let symbols: Vec<String> = (0..300).map(|i| format!("S{i}")).collect();
    let weight = |symbol: &'_ String| (symbol.clone(), if symbol == "S7" { 40.0 } else { 10.0 });
    let asked = asked(&symbols, DAY, symbols.iter().map(weight).collect(), |_, now| 1 + now / 600);
    let mut all: Vec<u64> = asked.values().flatten().copied().collect();
    all.sort_unstable();
    for (i, at) in all.iter().enumerate() {
        assert!(all[..=i].iter().rev().take_while(|before| at - **before < HOUR).count() <= 200);
    }
    assert!(all.len() > 23 * 190, "and none is wasted: {}", all.len());
    // What is wanted four times as often has four times as much of what there is.
    let mean = (all.len() - asked["S7"].len()) as f64 / 299.0;
    assert!((3.2..4.8).contains(&(asked["S7"].len() as f64 / mean)), "{} against {mean}", asked["S7"].len());
    assert!(symbols.iter().all(|symbol| !asked[symbol].is_empty()), "nobody waits for ever");
}

/// Runs Truth Social for days: how often it was asked, how it ended, and which refusals stand.
fn posts(tables: &mut Tables, status: u16) -> (usize, Option<Result<(), FeedError>>, Vec<String>) {
    let names = [("107".to_owned(), "107".to_owned())].into();
    let resumed = tables.resume_polls("truthsocial");
    let (asked, batches, ended) = paused().block_on(async {
        let body = if status == 200 { "[]" } else { "error code: 1020" };
        let vendor = Vendor::new([], move |_: &str| (status, body.to_owned()));
        let (batches, ended) = live(&vendor, &feed("truthsocial"), &names, resumed, DAY * 3).await;
        (vendor.times("").len(), batches, ended)
    });
    tables.store(&batches);
    let standing =
        "select channel, symbol, until is null, reason from market.feed_refusals where lifted_at is null";
    (asked, ended, tables.rows(standing))
}

#[test]
fn a_feed_that_was_refused_stays_blocked_until_somebody_lifts_it() {
    let mut tables = Tables::new("messages_blocked");
    let (asked, ended, standing) = posts(&mut tables, 403);
    assert!(matches!(ended, Some(Err(FeedError::Fatal(_)))), "{ended:?}");
    assert_eq!((asked, standing), (1, vec!["* * t HTTP 403 error code: 1020".to_owned()]));
    // It would answer now, and is not asked.
    let (asked, ended, standing) = posts(&mut tables, 200);
    assert_eq!((asked, standing.len()), (0, 1));
    let Some(Err(FeedError::Fatal(reason))) = ended else { panic!("{ended:?}") };
    assert!(reason.contains("market.feed_refusals"), "{reason}");
    tables.rows("delete from market.feed_refusals where feed = 'truthsocial'");
    let (asked, ended, standing) = posts(&mut tables, 200);
    assert!(asked > 100 && ended.is_none() && standing.is_empty(), "{asked} {ended:?} {standing:?}");
}
