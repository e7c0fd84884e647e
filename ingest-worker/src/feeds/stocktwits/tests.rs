use std::collections::BTreeSet;

use super::{
    super::{PollFeed, Position, Question},
    *,
};
use crate::kinds::{Record, Timestamp};

/// Messages 1 to `newest`, as the vendor deals them out; a page has `size`.
struct Archive {
    newest: u64,
    size: u64,
}

impl Archive {
    fn answer(&self, url: &str) -> String {
        let bound = |name: &str| {
            let value = url.split(['?', '&']).find_map(|part| part.strip_prefix(name)?.strip_prefix('='));
            value.map(|value| value.parse::<u64>().unwrap())
        };
        let (since, max) = (bound("since").unwrap_or(0), bound("max").unwrap_or(u64::MAX));
        let all: Vec<u64> = (1..=self.newest).rev().filter(|id| *id > since && *id < max).collect();
        let page = &all[..all.len().min(self.size as usize)];
        let message = |id: &u64| {
            format!(
                r#"{{"id":{id},"body":"$BTC.X","created_at":"2026-11-20T15:01:00Z","user":{{"id":1,"username":"u"}}}}"#
            )
        };
        let messages: Vec<String> = page.iter().map(message).collect();
        let more = all.len() > page.len();
        format!(
            r#"{{"response":{{"status":200}},"cursor":{{"more":{more},"since":0,"max":0}},"messages":[{}]}}"#,
            messages.join(",")
        )
    }
}

/// Where the reading of a symbol stands, and what it has read.
#[derive(Default)]
struct Reader {
    position: Option<Position>,
    read: BTreeSet<u64>,
    hours: i64,
}

impl Reader {
    fn question(&self) -> Question<'_> {
        let now: Timestamp = "2026-11-20T16:00:00Z".parse().unwrap();
        let now = now + chrono::TimeDelta::hours(self.hours);
        Question {
            endpoint: &TABLE[0].endpoint,
            symbol: Some("BTC.X"),
            position: self.position.as_ref(),
            now,
        }
    }

    /// Reads a page; whether there is more.
    fn page(&mut self, archive: &Archive) -> bool {
        let feed = Stocktwits::new(FeedSettings::default());
        let url = PollFeed::request(&feed, self.question()).unwrap().url;
        let question = self.question();
        let polled = feed.parse(question, archive.answer(&url).as_bytes(), question.now).unwrap();
        for record in polled.records {
            let Record::Document(document) = record else { panic!("{record:?}") };
            assert_eq!(document.symbol.as_deref(), Some("BTC.X"));
            self.read.insert(document.key.strip_suffix("/BTC.X").unwrap().parse().unwrap());
        }
        self.position = polled.position;
        polled.has_more
    }

    /// Reads until there is no more; how many pages that took.
    fn all(&mut self, archive: &Archive) -> u32 {
        let mut pages = 1;
        while self.page(archive) {
            pages += 1;
            assert!(pages < 100);
        }
        pages
    }

    fn pace(&self, urgency: f64) -> u64 {
        PollFeed::pace(&Stocktwits::new(FeedSettings::default()), self.question(), urgency).as_secs()
    }
}

#[test]
fn a_walk_goes_back_to_what_was_read_and_an_interruption_leaves_no_hole() {
    let mut reader = Reader::default();
    // At first the newest four pages.
    assert_eq!(reader.all(&Archive { newest: 995, size: 30 }), 4);
    assert_eq!(reader.read, (876..=995).collect());
    // Sixty-five more, the numbers now of four digits: two pages and a part.
    assert_eq!(reader.all(&Archive { newest: 1_060, size: 30 }), 3);
    assert_eq!(reader.read, (876..=1_060).collect());
    assert_eq!(reader.all(&Archive { newest: 1_060, size: 30 }), 1);
    // Interrupted after each page, while messages keep coming: they are for the walks that follow.
    let mut newest = 1_200;
    for _ in 0..20 {
        reader.page(&Archive { newest, size: 30 });
        newest += 7;
    }
    reader.all(&Archive { newest, size: 30 });
    reader.all(&Archive { newest, size: 30 });
    assert_eq!(reader.read, (876..=newest).collect());
}

#[test]
fn a_vendor_that_does_not_know_the_bounds_is_not_asked_for_ever() {
    struct Deaf;
    impl Deaf {
        const BODY: &'static str =
            r#"{"cursor":{"more":true},"messages":[{"id":7,"created_at":"2026-11-20T15:01:00Z"}]}"#;
    }
    let feed = Stocktwits::new(FeedSettings::default());
    let mut reader = Reader::default();
    let mut pages = 0;
    loop {
        let question = reader.question();
        let polled = feed.parse(question, Deaf::BODY.as_bytes(), question.now).unwrap();
        pages += 1;
        reader.position = polled.position;
        if !polled.has_more {
            break;
        }
    }
    assert_eq!(pages, 2);
}

#[test]
fn a_symbol_is_asked_about_as_often_as_people_write() {
    let mut reader = Reader::default();
    assert_eq!(reader.pace(1.0), 3_600, "before anything is known");
    reader.all(&Archive { newest: 100, size: 30 });
    assert_eq!(reader.pace(1.0), 3_600, "one reading says nothing of a rate");
    // 160 messages in two hours are 80 an hour: twenty come in a quarter of an hour.
    reader.hours = 2;
    reader.all(&Archive { newest: 260, size: 30 });
    assert_eq!(reader.pace(1.0), 900);
    assert_eq!(reader.pace(3.0), 300, "sooner what matters more");
    assert_eq!(reader.pace(100.0), 120);
    // Silence halves the rate with each reading.
    for (hours, pace) in [(3, 1_800), (4, 3_600), (5, 7_200), (6, 14_400), (7, 21_600), (8, 21_600)] {
        reader.hours = hours;
        reader.all(&Archive { newest: 260, size: 30 });
        assert_eq!(reader.pace(1.0), pace, "at {hours}");
    }
}

#[test]
fn a_refusal_means_what_it_says_and_a_token_is_not_shown() {
    let token = || [("STOCKTWITS_TOKEN", Secret("hunter2".to_owned()))].into();
    let feed = Stocktwits::new(FeedSettings { credentials: token(), ..FeedSettings::default() });
    let reader = Reader::default();
    let request = PollFeed::request(&feed, reader.question()).unwrap();
    assert_eq!(request.url, "https://api.stocktwits.com/api/2/streams/symbol/BTC.X.json?limit=30");
    assert_eq!(request.secret_query, [("access_token", Secret("hunter2".to_owned()))]);
    assert!(!format!("{request:?}").contains("hunter2"));
    let refused = |status: u16| {
        let body = format!(
            r#"{{"response":{{"status":{status}}},"errors":[{{"message":"Client may not make more than 200 requests an hour."}}]}}"#
        );
        let question = reader.question();
        feed.parse(question, body.as_bytes(), question.now).unwrap_err()
    };
    assert!(matches!(refused(429), FeedError::RateLimited { reason, .. } if reason.contains("200 requests")));
    assert!(matches!(refused(404), FeedError::Rejected(_)));
}
