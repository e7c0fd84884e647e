use super::*;
use crate::{
    feeds::{Endpoint, PollFeed, Question, Scope, listed::Pages},
    kinds::{Document, Record, Timestamp},
};

fn fmp(plan: Option<&str>) -> Fmp {
    Fmp::new(FeedSettings {
        symbols: vec!["AAPL".to_owned(), "BRK-B".to_owned()],
        plan: plan.map(str::to_owned),
        credentials: [("FMP_API_KEY", Secret("hunter2".to_owned()))].into(),
        ..FeedSettings::default()
    })
}

fn now() -> Timestamp {
    "2026-11-20T12:00:00Z".parse().unwrap()
}

fn ask(endpoint: &str, symbol: Option<&'static str>, body: &str) -> Result<Vec<Document>, FeedError> {
    let endpoint = fmp(None).endpoints().into_iter().find(|one| one.name == endpoint).unwrap();
    let question = Question { endpoint, symbol, position: None, now: now() };
    let polled = fmp(None).parse(question, body.as_bytes(), now())?;
    let document = |record| match record {
        Record::Document(document) => document,
        other => panic!("{other:?}"),
    };
    Ok(polled.records.into_iter().map(document).collect())
}

#[test]
fn each_line_of_the_table_asks_for_what_it_reads() {
    let mut names = BTreeSet::new();
    for line in TABLE {
        let Endpoint { name, path, limit, scope, .. } = line.endpoint;
        assert!(names.insert(name), "{name} twice");
        assert_eq!(limit, LIMITS[0][0].name, "{name}");
        assert_eq!(path.contains("{symbol}"), scope == Scope::Symbol, "{name}");
        assert_eq!(path.contains("{page}"), matches!(line.pages, Pages::Numbered { .. }), "{name}");
        assert_eq!(path.contains("{from}"), matches!(line.pages, Pages::Windows { .. }), "{name}");
        let question =
            Question { endpoint: &line.endpoint, symbol: Some("BRK-B"), position: None, now: now() };
        let url = PollFeed::request(&fmp(None), question).unwrap().url;
        assert!(url.starts_with(REST) && !url.contains(['{', '}']), "{url}");
        assert!(!url.contains("hunter2"));
    }
}

#[test]
fn prices_are_bars_known_at_the_next_opening_once_their_day_is_over() {
    let endpoint = fmp(None).endpoints().into_iter().find(|one| one.name == "prices").unwrap();
    // Half past eight in the evening of the 19th in New York.
    let now: Timestamp = "2026-11-20T01:30:00Z".parse().unwrap();
    let question = Question { endpoint, symbol: Some("BRK-B"), position: None, now };
    let url = PollFeed::request(&fmp(None), question).unwrap().url;
    assert!(url.ends_with("/historical-price-eod/full?symbol=BRK-B&from=2026-10-30&to=2026-11-20"), "{url}");
    let body = br#"[{"symbol":"BRK-B","date":"2026-11-19","open":1,"high":2,"low":1,"close":2,"volume":3},
        {"symbol":"BRK-B","date":"2026-11-18","open":"500.5","high":505,"low":499,"close":501.25,"volume":3000000,"vwap":501},
        {"symbol":"BRK-B","date":"2026-11-13","open":490,"high":495,"low":489,"close":494,"volume":null},
        {"symbol":"BRK-B","date":"2026-11-12","open":490,"high":495,"low":489,"close":0}]"#;
    let polled = fmp(None).parse(question, body, now).unwrap();
    let told: Vec<_> = polled
        .records
        .iter()
        .map(|record| match record {
            Record::Bar(b) => format!(
                "{} {} {} {} {:?} {}",
                b.symbol,
                b.time.format("%F %T"),
                b.open,
                b.close,
                b.volume,
                b.known_at.format("%F %T")
            ),
            Record::Rejected(r) => r.reason.clone(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(
        told,
        [
            "BRK-B 2026-11-18 00:00:00 500.5 501.25 Some(3000000.0) 2026-11-19 14:30:00",
            "BRK-B 2026-11-13 00:00:00 490 494 None 2026-11-16 14:30:00",
            "no price in \"close\"",
        ],
        "the session of the 19th still changes"
    );
}

#[test]
fn holdings_of_a_fund_are_known_by_the_name_that_is_held() {
    let body = r#"[{"asset":"AAPL","name":"Apple","weightPercentage":7.1,"sharesNumber":9,"updatedAt":"2026-11-19 05:00:00"},{"asset":"","name":"Cash"}]"#;
    let documents = ask("etf-holdings", Some("SPY"), body).unwrap();
    let [held] = &documents[..] else { panic!("{documents:?}") };
    assert_eq!(
        (held.kind.as_str(), held.key.as_str(), held.symbol.as_deref()),
        ("fmp_etf_holdings", "SPY/AAPL", Some("AAPL"))
    );
    assert!(!held.payload.contains("updatedAt"), "a stamp is no news");
}

#[test]
fn a_key_is_sent_and_never_shown_and_a_plan_is_a_limit() {
    let question =
        Question { endpoint: &TABLE[0].endpoint, symbol: Some("AAPL"), position: None, now: now() };
    let request = PollFeed::request(&fmp(None), question).unwrap();
    assert_eq!(request.headers, [("apikey", Secret("hunter2".to_owned()))]);
    assert!(!format!("{request:?}").contains("hunter2"));
    assert_eq!(ListedFeed::limits(&fmp(None))[0].requests, 250);
    assert_eq!(ListedFeed::limits(&fmp(Some("ultimate")))[0].requests, 3_000);
}

#[test]
fn an_error_in_the_place_of_a_list_means_what_it_says() {
    let refused = |message: &str| {
        ask("profile", Some("AAPL"), &format!(r#"{{"Error Message":"{message}"}}"#)).unwrap_err()
    };
    assert!(matches!(refused("Limit Reach . Please upgrade your plan"), FeedError::RateLimited { .. }));
    assert!(matches!(refused("Invalid API KEY. Please retry"), FeedError::Fatal(_)));
    for text in [
        "Exclusive Endpoint : This endpoint is not available under your current subscription",
        "Legacy Endpoint : Due to Legacy endpoints being no longer supported",
        "Premium Query Parameter",
    ] {
        assert!(matches!(refused(text), FeedError::NotInPlan(_)), "{text}");
    }
    assert!(matches!(refused("No such thing"), FeedError::Rejected(_)));
    assert!(matches!(ask("profile", Some("AAPL"), "{}"), Err(FeedError::Rejected(_))));
    assert_eq!(ask("profile", Some("AAPL"), "[]").unwrap(), []);
}

#[test]
fn a_statement_is_a_document_of_its_period_known_after_the_close() {
    let body = r#"[{"date":"2026-09-30","symbol":"BRK-B","reportedCurrency":"USD","filingDate":"2026-11-02",
                    "acceptedDate":"2026-11-02 16:31:05","fiscalYear":"2026","period":"Q3","revenue":94930000000,"epsDiluted":"1.64"},
                   {"date":"2026-06-30","fillingDate":"2026-08-01","period":"Q2","revenue":0}]"#;
    let documents = ask("income-statement", Some("BRK-B"), body).unwrap();
    let [second, third] = &documents[..] else { panic!("{documents:?}") };
    assert_eq!((third.kind.as_str(), third.key.as_str()), ("fmp_income_statement", "BRK-B/2026-09-30/Q3"));
    assert_eq!(third.symbol.as_deref(), Some("BRK-B"));
    assert_eq!(third.known_at.to_rfc3339(), "2026-11-02T21:31:05+00:00");
    assert_eq!(third.event_time.map(|at| at.to_rfc3339()).as_deref(), Some("2026-09-30T00:00:00+00:00"));
    assert_eq!(second.known_at.to_rfc3339(), "2026-08-02T04:00:00+00:00");
    assert!(second.payload.contains(r#""revenue":0"#), "nothing is rewritten");
}

#[test]
fn estimates_and_profiles_have_no_past() {
    let body = r#"[{"symbol":"AAPL","date":"2027-09-30","epsAvg":8.1},{"symbol":"AAPL","date":"2028-09-30","estimatedEpsAvg":9}]"#;
    for (endpoint, key) in [
        ("analyst-estimates", "AAPL/quarter/2027-09-30"),
        ("analyst-estimates-annual", "AAPL/annual/2027-09-30"),
    ] {
        let documents = ask(endpoint, Some("AAPL"), body).unwrap();
        assert_eq!(documents[0].key, key);
        assert!(documents.iter().all(|document| document.known_at == now()));
    }
    assert_eq!(ask("profile", Some("AAPL"), r#"[{"symbol":"AAPL"}]"#).unwrap()[0].known_at, now());
}

#[test]
fn news_of_everybody_are_kept_for_the_symbols_that_are_followed() {
    let item = |symbol: &str| {
        format!(
            r#"{{"symbol":{symbol},"publishedDate":"2026-11-19 18:00:00","title":"t","url":"https://site/a"}}"#
        )
    };
    let body = format!("[{},{},{}]", item(r#""AAPL""#), item(r#""ZZZ""#), item(r#""BRK-B""#));
    let documents = ask("stock-news-latest", None, &body).unwrap();
    let mut symbols: Vec<_> = documents.iter().filter_map(|d| d.symbol.clone()).collect();
    symbols.sort();
    assert_eq!(symbols, ["AAPL", "BRK-B"]);
    assert_ne!(documents[0].key, documents[1].key, "one item about two names is news of both");
    assert_eq!(documents[0].known_at.to_rfc3339(), "2026-11-19T23:00:00+00:00");
    // The same item, asked for by symbol, is the same document.
    let one = ask("stock-news", Some("AAPL"), &format!("[{}]", item(r#""AAPL""#))).unwrap();
    assert!(documents.iter().any(|d| (&d.key, &d.digest) == (&one[0].key, &one[0].digest)));
}

#[test]
fn a_release_of_the_calendar_has_no_symbol() {
    let body = r#"[{"date":"2026-11-13 13:30:00","country":"US","event":"CPI YoY (Oct)","estimate":2.9,"actual":0}]"#;
    let documents = ask("economic-calendar", None, body).unwrap();
    assert_eq!(documents[0].key, "US/CPI YoY (Oct)/2026-11-13 13:30:00");
    assert_eq!((documents[0].symbol.as_deref(), documents[0].known_at), (None, now()));
}
