use super::*;
use crate::{
    feeds::{Feed, PollFeed, Question, find},
    kinds::{Document, Record, Timestamp},
};

fn quiver(also: &[&str]) -> Quiver {
    Quiver::new(FeedSettings {
        symbols: ["NVDA", "AAPL"].map(str::to_owned).to_vec(),
        also: also.iter().map(|name| (*name).to_owned()).collect(),
        credentials: [("QUIVER_API_KEY", Secret("hunter2".to_owned()))].into(),
        ..FeedSettings::default()
    })
}

fn now() -> Timestamp {
    "2026-11-20T12:00:00Z".parse().unwrap()
}

fn ask(endpoint: &str, body: &str) -> Vec<Document> {
    let line = TABLE.iter().find(|line| line.endpoint.name == endpoint).unwrap();
    let question = Question { endpoint: &line.endpoint, symbol: None, position: None, now: now() };
    let polled = quiver(&[]).parse(question, body.as_bytes(), now()).unwrap();
    let document = |record| match record {
        Record::Document(document) => document,
        other => panic!("{other:?}"),
    };
    polled.records.into_iter().map(document).collect()
}

#[test]
fn the_key_is_sent_as_a_bearer_and_never_shown() {
    for line in TABLE {
        let question = Question { endpoint: &line.endpoint, symbol: None, position: None, now: now() };
        let request = PollFeed::request(&quiver(&[]), question).unwrap();
        assert!(request.url.starts_with(REST) && !request.url.contains(['{', '}']), "{}", request.url);
        assert_eq!(request.headers, [("Authorization", Secret("Bearer hunter2".to_owned()))]);
        assert!(!format!("{request:?}").contains("hunter2"));
    }
}

#[test]
fn what_the_vendor_no_longer_describes_is_read_only_where_it_is_named() {
    let names = |quiver: &Quiver| -> Vec<&str> { quiver.endpoints().iter().map(|one| one.name).collect() };
    let usual = names(&quiver(&[]));
    assert_eq!(usual.len(), 9, "{usual:?}");
    assert!(!usual.iter().any(|name| name.starts_with("political") || name.starts_with("etf")));
    assert!(names(&quiver(&["political-beta"])).contains(&"political-beta"));
    let wrong = FeedSettings { also: vec!["polls".to_owned()], ..FeedSettings::default() };
    let Err(message) = find(NAME).unwrap().build(wrong) else { panic!("a name that is none") };
    assert!(message.contains("\"polls\" is none of its endpoints"), "{message}");
    assert!(matches!(find(NAME).unwrap().build(FeedSettings::default()), Ok(Feed::Poll(_))));
}

#[test]
fn a_trade_of_congress_is_known_by_its_disclosure_in_both_spellings() {
    let first = r#"{"Representative":"Jane Q. Public","BioGuideID":"P000999","ReportDate":"2026-11-18","TransactionDate":"2026-10-29",
        "Ticker":"NVDA","Transaction":"Purchase","Range":"$15,001 - $50,000","House":"Representatives","Amount":"15001.0",
        "last_modified":"2026-11-19","ExcessReturn":1.2,"PriceChange":2.3,"SPYChange":1.1}"#;
    let second = r#"{"Name":"Jane Q. Public","BioGuideID":"P000999","Filed":"2026-11-18T00:00:00Z","Traded":"2026-10-29","Ticker":"NVDA",
        "Transaction":"Purchase","Trade_Size_USD":"15001.0","Quiver_Upload_Time":"2026-11-18T16:20:00Z","excess_return":"1.2"}"#;
    let nobody = r#"{"Name":"A","Filed":"2026-11-18","Traded":"2026-10-29","Ticker":null,"Transaction":"Sale","Trade_Size_USD":"1001.0"}"#;
    let other = r#"{"Name":"A","Filed":"2026-11-18","Traded":"2026-10-29","Ticker":"ZZZ","Transaction":"Sale","Trade_Size_USD":"1001.0"}"#;
    let documents = ask("house", &format!("[{first},{nobody},{other}]"));
    let [house] = &documents[..] else { panic!("{documents:?}") };
    assert_eq!(house.key, "NVDA/2026-11-18/P000999/2026-10-29/Purchase/$15,001 - $50,000");
    assert_eq!(
        house.known_at.to_rfc3339(),
        "2026-11-19T05:00:00+00:00",
        "the day was over, not that of the trade"
    );
    assert_eq!(house.event_time.map(|at| at.to_rfc3339()).as_deref(), Some("2026-11-18T00:00:00+00:00"));
    assert_eq!(
        house.payload,
        r#"{"Amount":"15001.0","BioGuideID":"P000999","House":"Representatives","Range":"$15,001 - $50,000","ReportDate":"2026-11-18","Representative":"Jane Q. Public","Ticker":"NVDA","Transaction":"Purchase","TransactionDate":"2026-10-29"}"#,
        "nothing that looks ahead"
    );
    let live = ask("congress", &format!("[{second}]"));
    assert_eq!(live[0].key, "NVDA/2026-11-18/P000999/2026-10-29/Purchase/15001.0");
    assert_eq!(live[0].known_at.to_rfc3339(), "2026-11-18T16:20:00+00:00");
    assert!(
        !live[0].payload.contains("return") && !live[0].payload.contains("Upload"),
        "{}",
        live[0].payload
    );
    // The history has it under the same key, with the same digest.
    let history = ask("congress-bulk", &format!("[{second},{second}]"));
    assert_eq!((&history[0].key, &history[0].digest), (&live[0].key, &live[0].digest));
    assert_eq!(history.len(), 1);
}

#[test]
fn every_dataset_is_dated_by_when_it_could_be_known() {
    for (endpoint, item, key, known) in [
        (
            "insiders",
            r#"{"Ticker":"AAPL","Date":"2026-11-16","Name":"COOK","AcquiredDisposedCode":"D","TransactionCode":"S","Shares":100,
                "PricePerShare":230.5,"fileDate":"2026-11-18","uploaded":"2026-11-18T21:30:05Z"}"#,
            "AAPL/2026-11-18/COOK/2026-11-16/S/100/",
            "2026-11-18T21:30:05+00:00",
        ),
        (
            "lobbying",
            r#"{"Date":"2026-11-17T00:00:00Z","Amount":"50000.0","Client":"APPLE","Issue":"Taxes","Registrant":"SMITH","Ticker":"AAPL"}"#,
            "AAPL/2026-11-17/",
            "2026-11-18T05:00:00+00:00",
        ),
        (
            "gov-contracts",
            r#"{"Ticker":"AAPL","Date":"2026-11-17","Description":"Phones","Agency":"GSA","Amount":1000.5,"action_date":"2026-11-02"}"#,
            "AAPL/2026-11-17/1000.5/",
            "2026-11-18T05:00:00+00:00",
        ),
        (
            "app-ratings",
            r#"{"Ticker":"AAPL","App":"Music","Rating":4.5,"Count":1200,"Time":"2026-11-17T08:00:00Z"}"#,
            "AAPL/Music/2026-11-17",
            "2026-11-17T08:00:00+00:00",
        ),
        (
            "off-exchange",
            r#"{"Ticker":"NVDA","Date":"2026-11-18","OTC_Short":18200311,"OTC_Total":40110222,"DPI":0.4538}"#,
            "NVDA/2026-11-18",
            "2026-11-19T14:00:00+00:00",
        ),
        ("political-beta", r#"{"Ticker":"NVDA","TrumpBeta":0.4}"#, "today/NVDA", "2026-11-20T12:00:00+00:00"),
    ] {
        let documents = ask(endpoint, &format!("[{item}]"));
        let [document] = &documents[..] else { panic!("{endpoint}: {documents:?}") };
        assert!(document.key.starts_with(key), "{endpoint}: {}", document.key);
        assert_eq!(document.known_at.to_rfc3339(), known, "{endpoint}");
    }
}

#[test]
fn an_error_in_the_place_of_a_list_means_what_it_says() {
    let refused = |body: &str| quiver(&[]).refusal(body.as_bytes());
    assert!(matches!(
        refused(r#""Upgrade your subscription plan to access this dataset.""#),
        Some(FeedError::NotInPlan(_))
    ));
    assert!(matches!(
        refused(r#"{"detail":"Upgrade your subscription plan."}"#),
        Some(FeedError::NotInPlan(_))
    ));
    assert!(matches!(refused(r#"{"detail":"Invalid token."}"#), Some(FeedError::Fatal(_))));
    assert!(matches!(
        refused(r#"{"detail":"Request was throttled. Expected available in 30 seconds."}"#),
        Some(FeedError::RateLimited { .. })
    ));
    assert!(matches!(refused(r#"{"detail":"Not found."}"#), Some(FeedError::Rejected(_))));
    assert_eq!(refused("[]"), None);
}

#[test]
fn pages_begin_with_one_and_later_readings_stop_at_what_is_known_but_for_the_history() {
    let feed = quiver(&[]);
    let item = |day: u32| {
        format!(
            r#"{{"Date":"2026-11-{day:02}","Filed":"2026-11-{day:02}","Traded":"2026-11-01","Name":"P","Transaction":"Sale",
                "Trade_Size_USD":"1","Amount":"1","Client":"{day}","Ticker":"AAPL"}}"#
        )
    };
    let read = |endpoint: &str, mut position, newest: u32| {
        let line = TABLE.iter().find(|line| line.endpoint.name == endpoint).unwrap();
        let mut asked = Vec::new();
        loop {
            let question = Question {
                endpoint: &line.endpoint,
                symbol: None,
                position: Option::as_ref(&position),
                now: now(),
            };
            let url = PollFeed::request(&feed, question).unwrap().url;
            let page: u32 = url.split("&page=").nth(1).unwrap().split('&').next().unwrap().parse().unwrap();
            let items: Vec<_> = (1..=newest).rev().skip((page as usize - 1) * 4).take(4).map(item).collect();
            let polled = feed.parse(question, format!("[{}]", items.join(",")).as_bytes(), now()).unwrap();
            asked.push(page);
            position = polled.position;
            if !polled.has_more {
                return (asked, position);
            }
        }
    };
    let (asked, position) = read("lobbying", None, 10);
    assert_eq!(asked, [1, 2, 3, 4], "an empty page is the end");
    assert_eq!(read("lobbying", position, 13).0, [1, 2], "the second has nothing that is new");
    let (_, position) = read("congress-bulk", None, 10);
    assert_eq!(read("congress-bulk", position, 13).0, [1, 2, 3, 4, 5], "what is old is corrected");
    let line = TABLE.iter().find(|line| line.endpoint.name == "congress-bulk").unwrap();
    assert_eq!(feed.effort(&line.endpoint).later, 40, "which the plan knows");
}
