use std::time::Duration;

use super::*;
use crate::feeds::{Position, Scope};

const fn endpoint(path: &'static str) -> Endpoint {
    Endpoint {
        name: "things",
        path,
        limit: "account",
        every: Duration::from_secs(60),
        scope: Scope::Symbol,
        is_planned_by_symbol: false,
    }
}

const fn things(path: &'static str, pages: Pages) -> Listed {
    let line =
        Listed::new(endpoint(path), "things", &[Part::Symbol, Part::Of(&["id"])], Known::Published(&["at"]));
    Listed { pages, ..line }
}

static ONCE: Listed = things("/things?of={symbol}", Pages::Once);
static NUMBERED: Listed = things("/things?of={symbol}&page={page}", Pages::Numbered { most: 5 });
static WINDOWS: Listed =
    things("/things?from={from}&to={to}", Pages::Windows { days: 10, history: 25, back: 3, ahead: 5 });

fn now() -> Timestamp {
    "2026-11-20T12:00:00Z".parse().unwrap()
}

fn question<'q>(line: &'static Listed, position: Option<&'q Position>) -> Question<'q> {
    Question { endpoint: &line.endpoint, symbol: Some("BRK/B"), position, now: now() }
}

/// Reads until nothing more is there: the addresses that were asked, and where the reading stands.
fn read(
    line: &'static Listed,
    mut position: Option<Position>,
    answer: impl Fn(&str) -> String,
) -> (Vec<String>, Option<Position>) {
    let mut asked = Vec::new();
    loop {
        let question = question(line, position.as_ref());
        let target = line.target(&question);
        let polled = line.parse(&question, answer(&target).as_bytes(), now(), |_| true).unwrap();
        asked.push(target);
        assert!(asked.len() < 50, "{asked:?}");
        position = polled.position;
        if !polled.has_more {
            return (asked, position);
        }
    }
}

fn documents(line: &'static Listed, body: &str) -> Vec<String> {
    let polled = line.parse(&question(line, None), body.as_bytes(), now(), |_| true).unwrap();
    polled
        .records
        .iter()
        .map(|record| match record {
            Record::Document(d) => format!("{} {}", d.key, d.payload),
            Record::Rejected(r) => format!("rejected: {}", r.reason),
            other => panic!("{other:?}"),
        })
        .collect()
}

#[test]
fn an_item_without_what_names_it_is_put_apart_and_the_others_are_kept() {
    let body = r#"[{"id":1,"a":"x"},{"id":null},{"a":2},[],{"id":" 7 ","b":1.10}]"#;
    let told = documents(&ONCE, body);
    assert_eq!(told[..2], [r#"BRK/B/1 {"a":"x","id":1}"#, r#"BRK/B/7 {"b":1.10,"id":" 7 "}"#]);
    assert_eq!(told.len(), 5, "{told:?}");
    assert!(told[2..].iter().all(|line| line.starts_with("rejected: no ")), "{told:?}");
    assert_eq!(ONCE.target(&question(&ONCE, None)), "/things?of=BRK%2FB");
}

#[test]
fn an_answer_that_is_no_list_is_refused_whole() {
    for body in ["{}", "null", "[", "7", r#"{"things":[]}"#] {
        let parsed = ONCE.parse(&question(&ONCE, None), body.as_bytes(), now(), |_| true);
        assert!(matches!(parsed, Err(FeedError::Rejected(_))), "{body}");
    }
    static MEMBER: Listed = Listed { list: Some("things"), ..things("/things", Pages::Once) };
    assert_eq!(documents(&MEMBER, r#"{"things":[{"id":1}],"count":1}"#).len(), 1);
    assert!(MEMBER.parse(&question(&MEMBER, None), b"{}", now(), |_| true).is_err());
}

#[test]
fn two_things_of_one_name_in_one_answer_stay_two() {
    let body = r#"[{"id":1,"at":"2026-11-03T00:00:00Z"},{"id":1,"at":"2026-11-02T00:00:00Z"},{"id":1,"at":"2026-11-03T00:00:00Z"}]"#;
    let expected = [
        r#"BRK/B/1 {"at":"2026-11-02T00:00:00Z","id":1}"#,
        r#"BRK/B/1~2 {"at":"2026-11-03T00:00:00Z","id":1}"#,
    ];
    assert_eq!(documents(&ONCE, body), expected);
    static VERSIONS: Listed = Listed { listing: Listing::Version, ..things("/things", Pages::Once) };
    assert!(documents(&VERSIONS, body)[1].starts_with("BRK/B/1 "), "versions with times of their own");
}

#[test]
fn what_looks_ahead_is_left_out() {
    static OMITTING: Listed = Listed { omit: &["ExcessReturn"], ..things("/things", Pages::Once) };
    assert_eq!(documents(&OMITTING, r#"[{"id":1,"ExcessReturn":9.5}]"#), [r#"BRK/B/1 {"id":1}"#]);
}

/// A page of two things, the newest first, one each day until today; as many as there are days since the first of October.
fn page(target: &str) -> String {
    let number: i64 = target.rsplit_once('=').unwrap().1.parse().unwrap();
    let item = |i: i64| {
        let day = now() - chrono::TimeDelta::days(i);
        (i < 9).then(|| format!(r#"{{"id":{i},"at":"{}"}}"#, day.to_rfc3339()))
    };
    let items: Vec<_> = (2 * number..2 * number + 2).filter_map(item).collect();
    format!("[{}]", items.join(","))
}

#[test]
fn pages_are_read_to_the_end_once_and_then_back_to_what_was_known() {
    let (asked, place) = read(&NUMBERED, None, page);
    assert_eq!(asked.len(), 5);
    assert_eq!(asked[4], "/things?of=BRK%2FB&page=4");
    let (asked, _) = read(&NUMBERED, place.clone(), page);
    assert_eq!(asked.len(), 2, "one page that is older than what was known: {asked:?}");
    let mut late = question(&NUMBERED, place.as_ref());
    late.now += chrono::TimeDelta::days(1);
    let listed_late = |hours: i64| {
        let at = now() - chrono::TimeDelta::hours(hours);
        let body = format!(r#"[{{"id":1,"at":"{}"}}]"#, at.to_rfc3339());
        NUMBERED.parse(&late, body.as_bytes(), late.now, |_| true).unwrap().has_more
    };
    assert_eq!([1, 2, 3].map(listed_late), [true, true, false], "vendors list some late");
    // A worker that stops amid the pages goes on there.
    let first = question(&NUMBERED, None);
    let polled = NUMBERED.parse(&first, page("=0").as_bytes(), now(), |_| true).unwrap();
    assert!(polled.has_more);
    let (rest, after) = read(&NUMBERED, polled.position, page);
    assert_eq!((rest[0].as_str(), rest.len()), ("/things?of=BRK%2FB&page=1", 4));
    assert_eq!(after, place);
}

#[test]
fn a_vendor_that_knows_no_pages_is_not_asked_for_ever() {
    let (asked, _) = read(&NUMBERED, None, |_| page("=0"));
    assert_eq!(asked.len(), 3, "twice may be a page of news that has come in between");
    let (asked, _) = read(&NUMBERED, None, |_| "[]".to_owned());
    assert_eq!(asked.len(), 1);
    static LONG: Listed = things("/things?page={page}", Pages::Numbered { most: 3 });
    let (asked, _) = read(&LONG, None, |target| format!(r#"[{{"id":"{target}"}}]"#));
    assert_eq!(asked.len(), 3);
    static OFFSET: Listed = things("/things?offset={offset}", Pages::Offset { size: 2 });
    let of = |target: &str| {
        if target.ends_with("=4") { r#"[{"id":1}]"# } else { r#"[{"id":1},{"id":2}]"# }.to_owned()
    };
    assert_eq!(read(&OFFSET, None, of).0, ["/things?offset=0", "/things?offset=2", "/things?offset=4"]);
}

#[test]
fn a_day_without_a_time_hides_no_news() {
    // Known at its end, it stands at its beginning: what is listed after it is news for later readings.
    let page = |target: &str| match target.ends_with("=0") {
        true => r#"[{"id":3,"at":"2026-11-18 18:00:00"},{"id":2,"at":"2026-11-18 09:00:00"}]"#.to_owned(),
        false if target.ends_with("=1") => r#"[{"id":1,"at":"2026-11-18"}]"#.to_owned(),
        false => "[]".to_owned(),
    };
    let (_, place) =
        read(&NUMBERED, None, |target| if target.ends_with("=0") { page("=1") } else { "[]".to_owned() });
    assert_eq!(read(&NUMBERED, place, page).0.len(), 3);
}

#[test]
fn windows_leave_no_day_out() {
    let (asked, place) = read(&WINDOWS, None, |_| "[]".to_owned());
    let expected = [
        "/things?from=2026-10-26&to=2026-11-04",
        "/things?from=2026-11-05&to=2026-11-14",
        "/things?from=2026-11-15&to=2026-11-24",
        "/things?from=2026-11-25&to=2026-11-25",
    ];
    assert_eq!(asked, expected);
    let (asked, _) = read(&WINDOWS, place, |_| "[]".to_owned());
    assert_eq!(asked, ["/things?from=2026-11-17&to=2026-11-25"]);
    assert_eq!(WINDOWS.pages.effort(), Effort { first: 4, later: 1 });
    let nonsense = Position::from("nonsense");
    assert_eq!(read(&WINDOWS, Some(nonsense), |_| "[]".to_owned()).0, expected);
}
