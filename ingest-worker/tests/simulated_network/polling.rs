//! A feed that is polled, in simulated time: refusals, limits, faults, kills.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use chrono::TimeDelta;
use futures_util::{FutureExt, future::BoxFuture};
use kronos_ingest::{
    drive::{Attention, KnownRefusal, Mark, Outcome, Place, Poller, Reading},
    error::FeedError,
    exact::micros,
    feeds::{Endpoint, Feed, FeedSettings, PollFeed, Polled, Question, Scope, find},
    kinds::{Document, Record, Timestamp},
    store::{Batch, Limits, Sink, UsageRow},
    wire::{Answer, Bandwidth, Connection, Limit, Request, Secret, Transport},
};
use kronos_venue::{Protocol, Trade, Venue};
use proptest::{collection::vec, prelude::*, test_runner::TestRunner};
use tokio::{sync::watch, time::Instant};

use crate::{database::Tables, world::START};

/// What happens to one request.
#[derive(Clone, Debug)]
pub enum Fault {
    None,
    Status(u16, Option<u64>),
    /// A page for people, with a status of success.
    Page,
    /// Cut in the middle.
    Truncated,
    /// A refusal of an interface that is closed.
    Legacy,
    /// Every item of a list twice.
    Doubled,
    /// The last byte comes after so many seconds.
    Slow(u64),
    Lost,
}

pub fn fault() -> impl Strategy<Value = Fault> {
    prop_oneof![
        4 => Just(Fault::None),
        1 => (prop_oneof![Just(429u16), Just(500), Just(503), Just(404)], proptest::option::of(0u64..90))
            .prop_map(|(status, wait)| Fault::Status(status, wait)),
        1 => Just(Fault::Status(402, None)),
        1 => Just(Fault::Status(403, None)),
        1 => Just(Fault::Page),
        1 => Just(Fault::Truncated),
        1 => Just(Fault::Legacy),
        2 => Just(Fault::Doubled),
        1 => (1u64..29).prop_map(Fault::Slow),
        1 => Just(Fault::Lost),
    ]
}

/// Status and body for a path.
type Answering = Box<dyn Fn(&str) -> (u16, String) + Send + Sync>;

/// The vendor, and what was asked of it when.
pub struct Vendor {
    answer: Answering,
    started: Instant,
    /// What the clock says when it starts.
    begins: Timestamp,
    faults: Mutex<VecDeque<Fault>>,
    asked: Mutex<Vec<(u64, String)>>,
}

impl Vendor {
    /// A vendor a day after the last greeting.
    pub fn new(
        faults: impl IntoIterator<Item = Fault>,
        answer: impl Fn(&str) -> (u16, String) + Send + Sync + 'static,
    ) -> Arc<Self> {
        Self::at(micros(START).unwrap() + TimeDelta::days(1), faults, answer)
    }

    pub fn at(
        begins: Timestamp,
        faults: impl IntoIterator<Item = Fault>,
        answer: impl Fn(&str) -> (u16, String) + Send + Sync + 'static,
    ) -> Arc<Self> {
        Arc::new(Vendor {
            answer: Box::new(answer),
            started: Instant::now(),
            begins,
            faults: Mutex::new(faults.into_iter().collect()),
            asked: Mutex::default(),
        })
    }

    /// Seconds at which something was asked whose address has `part`.
    pub fn times(&self, part: &str) -> Vec<u64> {
        let asked = self.asked.lock().unwrap();
        asked.iter().filter(|(_, url)| url.contains(part)).map(|(second, _)| *second).collect()
    }
}

/// The network of the worker.
pub struct Line(pub Arc<Vendor>);

impl Transport for Line {
    fn open(&self, _url: String) -> BoxFuture<'static, Result<Box<dyn Connection>, FeedError>> {
        async { Err(FeedError::Fatal("no stream".into())) }.boxed()
    }

    fn ask(&self, request: Request) -> BoxFuture<'static, Result<Answer, FeedError>> {
        let vendor = Arc::clone(&self.0);
        async move {
            vendor.asked.lock().unwrap().push((vendor.started.elapsed().as_secs(), request.url.clone()));
            tokio::time::sleep(Duration::from_millis(10)).await;
            let target = request.url.strip_prefix("http://vendor").unwrap().to_owned();
            let (status, body) = (vendor.answer)(&target);
            let fault = vendor.faults.lock().unwrap().pop_front().unwrap_or(Fault::None);
            let answer = |status, body: &str| Answer { status, body: body.into(), ..Answer::default() };
            Ok(match fault {
                Fault::None => answer(status, &body),
                Fault::Status(status, wait) => {
                    Answer { wait: wait.map(Duration::from_secs), ..answer(status, "{\"error\":\"no\"}") }
                }
                Fault::Page => answer(200, "<!doctype html><title>Back soon</title>"),
                Fault::Truncated => answer(200, &body[..body.len() / 2]),
                Fault::Legacy => answer(403, r#"{"Error Message":"Legacy Endpoint : no longer supported"}"#),
                Fault::Doubled => answer(status, &doubled(&body)),
                Fault::Slow(seconds) => {
                    tokio::time::sleep(Duration::from_secs(seconds)).await;
                    answer(status, &body)
                }
                Fault::Lost => {
                    tokio::time::sleep(Duration::from_secs(30)).await;
                    return Err(FeedError::Transient("timed out".into()));
                }
            })
        }
        .boxed()
    }
}

/// A list with each of its items twice, wherever it is in the answer.
fn doubled(body: &str) -> String {
    let inside = body
        .find('[')
        .zip(body.rfind(']'))
        .map(|(start, end)| (&body[..start], &body[start + 1..end], &body[end..]));
    match inside {
        Some((head, items, tail)) if !items.trim().is_empty() => format!("{head}[{items},{items}{tail}"),
        _ => body.to_owned(),
    }
}

/// Runs a feed for `span`, or until it stops by itself; what it handed to the writer, and how it ended.
pub async fn live(
    vendor: &Arc<Vendor>,
    feed: &Arc<dyn PollFeed>,
    symbols: &BTreeMap<String, String>,
    resumed: (Vec<Mark>, Vec<KnownRefusal>),
    span: Duration,
) -> (Vec<Batch>, Option<Result<(), FeedError>>) {
    live_as(vendor, feed, symbols, resumed, span, |poller| poller).await
}

/// The same where some symbols matter more than others.
pub async fn live_heeding(
    vendor: &Arc<Vendor>,
    feed: &Arc<dyn PollFeed>,
    symbols: &BTreeMap<String, String>,
    resumed: (Vec<Mark>, Vec<KnownRefusal>),
    span: Duration,
    weights: BTreeMap<String, f64>,
) -> (Vec<Batch>, Option<Result<(), FeedError>>) {
    let attention = Arc::new(Attention::new(weights));
    live_as(vendor, feed, symbols, resumed, span, |poller| poller.heeding(attention)).await
}

/// The same of a poller that `adjust` has changed.
async fn live_as(
    vendor: &Arc<Vendor>,
    feed: &Arc<dyn PollFeed>,
    symbols: &BTreeMap<String, String>,
    (marks, refusals): (Vec<Mark>, Vec<KnownRefusal>),
    span: Duration,
    adjust: impl FnOnce(Poller) -> Poller,
) -> (Vec<Batch>, Option<Result<(), FeedError>>) {
    let (started, begins) = (vendor.started, vendor.begins);
    let clock = move || begins + TimeDelta::from_std(started.elapsed()).unwrap();
    let (sink, mut queue) = Sink::channel(Limits::default());
    let transport = Arc::new(Line(Arc::clone(vendor)));
    let poller = Poller::new(Arc::clone(feed), transport, symbols, marks, &refusals, sink, Arc::new(clock));
    let poller = adjust(poller);
    let (_stop, shutdown) = watch::channel(false);
    let collecting = tokio::spawn(async move {
        let mut batches = Vec::new();
        while let Some(batch) = queue.recv().await {
            batches.push(batch);
        }
        batches
    });
    let ended = tokio::time::timeout(span, poller.run(shutdown)).await.ok();
    (collecting.await.unwrap(), ended)
}

fn hello() -> Arc<dyn PollFeed> {
    let settings = FeedSettings { rest_url: Some("http://vendor".to_owned()), ..FeedSettings::default() };
    let Ok(Feed::Poll(feed)) = find("hello").unwrap().build(settings) else {
        unreachable!("hello is polled")
    };
    feed
}

/// Greetings of two symbols, several versions of each.
fn greetings(count: i64) -> Venue {
    let trade = |i: i64| Trade {
        symbol: ["AAA", "B-B"][(i % 2).unsigned_abs() as usize].to_owned(),
        id: i / 2 + 1,
        micros: START + i * 1_000_000,
        price: i.to_string(),
        size: "1".to_owned(),
        is_buy: true,
    };
    Venue { protocol: Protocol::Hello, trades: (0..count).map(trade).collect(), has_quotes: false }
}

fn symbols() -> BTreeMap<String, String> {
    [("AAA", "AAA"), ("B-B", "BB")].map(|(native, ours)| (native.to_owned(), ours.to_owned())).into()
}

pub fn paused() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap()
}

pub const DAY: Duration = Duration::from_secs(86_400);

#[test]
fn any_faults_and_kills_leave_the_documents_of_the_clean_feed() {
    const COUNT: i64 = 60;
    let venue = greetings(COUNT);
    let expected: Vec<String> = venue
        .trades
        .iter()
        .map(|t| format!("{} {} {}", t.symbol.replace('-', ""), t.price, (t.micros - START) / 1_000_000))
        .collect();
    // Each life ends after some seconds, and what it handed over last is lost.
    let lives = vec((vec(fault(), 0..12), 1u64..300, 0usize..4), 0..6);
    let config = ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() };
    let tables = Mutex::new(Tables::new("polling_kills"));
    TestRunner::new(config)
        .run(&lives, |lives| {
            let mut tables = tables.lock().unwrap_or_else(PoisonError::into_inner);
            tables.rows("truncate market.documents, market.feed_cursors, market.feed_refusals, market.rejected_rows");
            let feed = hello();
            let all = lives.into_iter().chain([(Vec::new(), 600, 0)]);
            for (faults, seconds, unsaved) in all {
                let resumed = tables.resume_polls("hello");
                let venue = venue.clone();
                let (mut batches, ended) = paused().block_on(async {
                    let answer = move |target: &str| venue.answer(target, venue.trades.len());
                    let vendor = Vendor::new(faults, answer);
                    live(&vendor, &feed, &symbols(), resumed, Duration::from_secs(seconds)).await
                });
                prop_assert!(ended.is_none(), "{ended:?}");
                batches.truncate(batches.len().saturating_sub(unsaved));
                tables.store(&batches);
                // The writer may have stored them before it was killed, and stores them again.
                tables.store(&batches);
            }
            let found = tables.rows(
                "select symbol, payload ->> 'text', extract(epoch from known_at)::bigint - 1700000000
                 from market.documents order by (payload ->> 'text')::bigint",
            );
            prop_assert_eq!(&found, &expected);
            let places = "select symbol, position ->> 'position', position ->> 'has_more' from market.feed_cursors order by 1";
            prop_assert_eq!(tables.rows(places), ["AAA 30 false", "BB 30 false"]);
            Ok(())
        })
        .unwrap();
}

/// A feed with an endpoint that everybody has, and one that is paid for symbol by symbol: added here, touching nothing else.
struct Toy;

const TOY: &[Endpoint] = &[
    Endpoint {
        name: "open",
        path: "/open",
        limit: "all",
        every: Duration::from_secs(600),
        scope: Scope::Whole,
        is_planned_by_symbol: false,
    },
    Endpoint {
        name: "paid",
        path: "/paid",
        limit: "all",
        every: Duration::from_secs(600),
        scope: Scope::Symbol,
        is_planned_by_symbol: true,
    },
];

impl PollFeed for Toy {
    fn name(&self) -> &'static str {
        "toy"
    }

    fn limits(&self) -> &'static [Limit] {
        const LIMITS: &[Limit] =
            &[Limit { name: "all", requests: 60, per: Duration::from_secs(60), burst: 5 }];
        LIMITS
    }

    fn endpoints(&self) -> Vec<&'static Endpoint> {
        TOY.iter().collect()
    }

    fn request(&self, question: Question<'_>) -> Result<Request, FeedError> {
        let symbol = question.symbol.unwrap_or_default();
        let headers = vec![("X-Key", Secret("hunter2".to_owned()))];
        Ok(Request { headers, ..Request::get(format!("http://vendor{}/{symbol}", question.endpoint.path)) })
    }

    fn parse(&self, question: Question<'_>, body: &[u8], at: Timestamp) -> Result<Polled, FeedError> {
        let text = std::str::from_utf8(body).map_err(|e| FeedError::Rejected(e.to_string()))?;
        let document = Document::new(question.endpoint.name, question.symbol.unwrap_or("all"), text, at)
            .map_err(FeedError::Rejected)?;
        Ok(Polled { records: vec![Record::Document(document)], position: None, has_more: text == "\"more\"" })
    }
}

fn toy() -> Arc<dyn PollFeed> {
    Arc::new(Toy)
}

fn run_toy(
    faults: Vec<Fault>,
    span: Duration,
    resumed: (Vec<Mark>, Vec<KnownRefusal>),
    answer: impl Fn(&str) -> (u16, String) + Send + Sync + 'static,
) -> (Arc<Vendor>, Vec<Batch>, Option<Result<(), FeedError>>) {
    paused().block_on(async {
        let vendor = Vendor::new(faults, answer);
        let (batches, ended) = live(&vendor, &toy(), &symbols(), resumed, span).await;
        (vendor, batches, ended)
    })
}

const NOTHING: (Vec<Mark>, Vec<KnownRefusal>) = (Vec::new(), Vec::new());

fn fine(_: &str) -> (u16, String) {
    (200, "{}".to_owned())
}

#[test]
fn each_endpoint_is_read_as_often_as_its_row_says() {
    let (vendor, batches, _) = run_toy(Vec::new(), Duration::from_secs(3_599), NOTHING, fine);
    assert_eq!(vendor.times("/open").len(), 6);
    assert_eq!(vendor.times("/paid/AAA").len(), 6);
    assert!(batches.iter().all(|batch| batch.records.len() == 1 && batch.marks.len() == 1));
}

#[test]
fn what_a_plan_does_not_have_rests_for_a_day_and_is_visible() {
    let answer = |target: &str| if target == "/paid/AAA" { (402, "pay".to_owned()) } else { fine(target) };
    let (vendor, batches, _) = run_toy(Vec::new(), DAY * 2 + DAY / 2, NOTHING, answer);
    assert_eq!(vendor.times("/paid/AAA"), [0, 86_400, 172_800]);
    assert!(vendor.times("/paid/B-B").len() > 300 && vendor.times("/open").len() > 300, "the others go on");
    let refusals: Vec<_> = batches.iter().flat_map(|batch| &batch.refusals).collect();
    assert_eq!(refusals.len(), 3);
    let first = refusals[0];
    assert_eq!((first.channel.as_str(), first.symbol.as_str()), ("paid", "AAA"));
    assert_eq!(first.until.unwrap() - first.at, TimeDelta::days(1));
    assert!(first.reason.as_ref().unwrap().contains("402"));
}

#[test]
fn a_refusal_outlives_a_restart_and_ends_with_an_answer() {
    let mut tables = Tables::new("polling_refusal");
    let refused = |target: &str| if target == "/open/" { (403, "Legacy".to_owned()) } else { fine(target) };
    let (_, batches, _) = run_toy(Vec::new(), Duration::from_secs(60), NOTHING, refused);
    tables.store(&batches);
    let standing = "select channel, symbol, reason, lifted_at is null from market.feed_refusals";
    assert_eq!(tables.rows(standing), ["open * HTTP 403 Legacy t"]);
    // The clock of the database is years ahead of the vendor's.
    assert!(tables.resume_polls("toy").1.is_empty(), "what is over is not waited for");
    tables.rows("update market.feed_refusals set until = until + interval '100 years'");
    let (marks, known) = tables.resume_polls("toy");
    assert_eq!((known[0].endpoint.as_str(), known[0].symbol.as_str()), ("open", "*"));
    let (vendor, batches, _) = run_toy(Vec::new(), DAY + Duration::from_secs(60), (marks, known), fine);
    assert_eq!(vendor.times("/open"), [86_400], "not longer than a day by any clock");
    tables.store(&batches);
    assert_eq!(tables.rows(standing), ["open * HTTP 403 Legacy f"]);
}

#[test]
fn nothing_is_asked_while_the_bandwidth_of_the_last_days_is_used_up() {
    let mut tables = Tables::new("polling_bandwidth");
    // Two bytes an answer; half of six may be used before midnight, 1 h 46 min after the start.
    let run = |used: Vec<UsageRow>, span: Duration| {
        paused().block_on(async {
            let vendor = Vendor::new(Vec::new(), fine);
            let allowed = Some(Bandwidth { bytes: 6, days: 2 });
            let within = |poller: Poller| poller.resume(used, allowed);
            let (batches, _) = live_as(&vendor, &toy(), &symbols(), NOTHING, span, within).await;
            (vendor, batches)
        })
    };
    let (vendor, batches) = run(Vec::new(), DAY);
    assert_eq!(vendor.times("").len(), 3, "what was used yesterday counts today");
    tables.store(&batches);
    tables.store(&batches[..2]);
    let used = "select feed, requests, bytes, allowed_bytes from market.feed_usage";
    assert_eq!(tables.rows(used), ["toy 3 6 6"], "stored again, it is not used again");
    let (vendor, _) = run(Vec::new(), DAY * 3);
    let times = vendor.times("");
    assert_eq!(times.len(), 6, "{times:?}");
    assert!(times[3] >= 86_400, "{times:?}");
    let stored: Vec<_> = batches.iter().flat_map(|batch| batch.usage.clone()).collect();
    assert_eq!(
        run(stored, Duration::from_secs(6_000)).0.times(""),
        [] as [u64; 0],
        "nor by a worker that starts"
    );
}

#[test]
fn an_account_that_is_not_known_stops_the_feed() {
    let (vendor, batches, ended) = run_toy(vec![Fault::Status(401, None)], DAY, NOTHING, fine);
    assert!(matches!(ended, Some(Err(FeedError::Fatal(_)))), "{ended:?}");
    assert_eq!(vendor.asked.lock().unwrap().len(), 1);
    let refusal = &batches[0].refusals[0];
    assert_eq!((refusal.channel.as_str(), refusal.until), ("*", None));
}

#[test]
fn a_key_that_a_vendor_quotes_is_stored_nowhere() {
    for status in [200, 401, 402, 404, 429, 500] {
        // Where the message is cut, too.
        let quoted = format!("{{\"error\": \"{}hunter2 hunter2", "x".repeat(182));
        let answer = move |_: &str| (status, quoted.clone());
        let (_, batches, ended) = run_toy(Vec::new(), Duration::from_secs(60), NOTHING, answer);
        let told = format!("{batches:?} {ended:?}");
        assert!(!told.contains("hunt"), "{told}");
        assert_eq!(told.contains("(sec"), ![429, 500].contains(&status), "{status}: {told}");
    }
}

#[test]
fn a_limit_holds_all_that_share_it() {
    let limited = vec![Fault::Status(429, Some(100)), Fault::Status(429, None), Fault::Status(429, None)];
    let (vendor, batches, _) = run_toy(limited, Duration::from_secs(500), NOTHING, fine);
    let times = vendor.times("");
    assert_eq!(times[..2], [0, 100], "what the vendor says");
    // Without a time of the vendor's the pauses grow.
    assert!(times[2] - times[1] <= times[3] - times[2] + 1, "{times:?}");
    assert_eq!(batches.iter().map(|batch| batch.records.len()).sum::<usize>(), 3);
    let burst = vendor.asked.lock().unwrap().len();
    assert_eq!(burst, 6, "each question was put until it was answered");
}

#[test]
fn pages_for_people_and_broken_json_are_asked_again_and_only_the_latter_is_kept() {
    let faults =
        vec![Fault::Page, Fault::Truncated, Fault::Lost, Fault::Status(500, None), Fault::Status(404, None)];
    let answer = |_: &str| (200, r#"{"text":"twenty characters"}"#.to_owned());
    let (vendor, batches, _) = run_toy(faults, Duration::from_secs(500), NOTHING, answer);
    let records: Vec<_> = batches.iter().flat_map(|batch| &batch.records).collect();
    let rejected: Vec<_> =
        records.iter().filter_map(|r| if let Record::Rejected(r) = r { Some(r) } else { None }).collect();
    assert_eq!(records.len() - rejected.len(), 3, "all three questions were answered in the end");
    assert_eq!(rejected.len(), 2, "{rejected:?}");
    assert!(rejected.iter().any(|r| r.reason.contains("HTTP 404")), "{rejected:?}");
    assert_eq!(vendor.asked.lock().unwrap().len(), 8);
}

#[test]
fn a_page_that_is_followed_by_itself_is_not_asked_for_ever() {
    let (vendor, _, _) = run_toy(Vec::new(), DAY, NOTHING, |_| (200, "\"more\"".to_owned()));
    let asked = vendor.asked.lock().unwrap().len();
    assert!(asked < 3 * 24 * 7 + 30, "{asked} questions in a day");
}

#[test]
fn a_worker_that_resumes_waits_out_the_rest_and_goes_on_amid_pages() {
    let mark = |endpoint: &str, symbol: &str, has_more| Mark {
        endpoint: endpoint.to_owned(),
        symbol: symbol.to_owned(),
        sequence: 7,
        place: Place { position: None, has_more, asked_at: micros(START).unwrap() + TimeDelta::days(1) },
    };
    let marks = vec![mark("open", "*", false), mark("paid", "AAA", true)];
    let (vendor, batches, _) = run_toy(Vec::new(), Duration::from_secs(700), (marks, Vec::new()), fine);
    assert_eq!(vendor.times("/open"), [600]);
    assert_eq!(vendor.times("/paid/AAA"), [0, 600]);
    assert_eq!(vendor.times("/paid/B-B"), [0, 600]);
    let first = batches.iter().find(|batch| batch.marks[0].symbol == "AAA").unwrap();
    assert_eq!(first.marks[0].sequence, 8);
}

#[test]
fn a_reading_ends_when_each_question_is_answered_refused_or_given_up() {
    let answer = |target: &str| match target {
        "/paid/AAA" => (402, "pay".to_owned()),
        "/paid/B-B" => (500, "broken".to_owned()),
        other => fine(other),
    };
    let reading = Arc::new(Reading::new(indicatif::ProgressBar::hidden()));
    let (vendor, ended) = paused().block_on(async {
        let vendor = Vendor::new(Vec::new(), answer);
        let to_the_end = |poller: Poller| poller.to_the_end(Arc::clone(&reading));
        let (_, ended) = live_as(&vendor, &toy(), &symbols(), NOTHING, DAY, to_the_end).await;
        (vendor, ended)
    });
    assert_eq!(ended, Some(Ok(())));
    let Outcome { read, refused, failed } = reading.outcome();
    assert_eq!((read, refused, failed.len()), (1, 1, 1));
    assert_eq!((failed[0].0.as_str(), failed[0].1.as_str()), ("paid", "BB"));
    assert!(failed[0].2.contains("500"), "{failed:?}");
    let asked = ["/open/", "/paid/AAA", "/paid/B-B"].map(|target| vendor.times(target).len());
    assert_eq!(asked, [1, 1, 8]);
}
