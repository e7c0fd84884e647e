//! What a configuration asks of the vendors, told before anything is asked.

use std::{collections::BTreeMap, time::Duration};

use crate::{
    config::Config,
    error::{Error, Result},
    feeds::{self, Endpoint, Feed, PollFeed, Scope},
    recording::unknown_feed,
    wire::{Bandwidth, Limit},
};

/// What an answer takes, about: a limit is asked one question at a time, so a large one is bounded by this.
const ANSWER: Duration = Duration::from_millis(250);
const DAY: Duration = Duration::from_secs(86_400);

/// What counts against one limit of a feed.
#[derive(Clone, Debug, PartialEq)]
pub struct Load {
    pub feed: &'static str,
    pub limit: &'static str,
    pub symbols: usize,
    /// Requests that the limit allows in a day.
    pub allowed: f64,
    pub endpoints: Vec<Share>,
    /// Bytes that the vendor allows, where it counts them.
    pub bandwidth: Option<Bandwidth>,
}

/// What one endpoint adds to it.
#[derive(Clone, Debug, PartialEq)]
pub struct Share {
    pub endpoint: &'static str,
    /// Requests until everything was read once, at most.
    pub first: u64,
    /// Requests of a day after that.
    pub daily: f64,
    /// Bytes of an answer, about.
    pub answer: f64,
}

impl Load {
    fn new(feed: &dyn PollFeed, limit: &Limit, symbols: usize, allowed: Option<Bandwidth>) -> Self {
        let share = |endpoint: &Endpoint| {
            let asked = if endpoint.scope == Scope::Symbol { symbols } else { 1 };
            let effort = feed.effort(endpoint);
            let readings = DAY.as_secs_f64() / endpoint.every.as_secs_f64().max(1.0);
            Share {
                endpoint: endpoint.name,
                first: asked as u64 * u64::from(effort.first),
                daily: asked as f64 * f64::from(effort.later) * readings,
                answer: feed.answer_bytes(endpoint) as f64,
            }
        };
        Load {
            feed: feed.name(),
            limit: limit.name,
            symbols,
            allowed: in_a_day(limit),
            endpoints: feed
                .endpoints()
                .into_iter()
                .filter(|one| one.limit == limit.name)
                .map(share)
                .collect(),
            bandwidth: allowed.or_else(|| feed.bandwidth()),
        }
    }

    /// Bytes until everything was read once, and of the days that the vendor counts, both about.
    pub fn bytes(&self, days: u32) -> (f64, f64) {
        let first = self.endpoints.iter().map(|share| share.first as f64 * share.answer).sum();
        let daily: f64 = self.endpoints.iter().map(|share| share.daily * share.answer).sum();
        (first, daily * f64::from(days))
    }

    /// Requests until everything was read once, at most.
    pub fn first(&self) -> u64 {
        self.endpoints.iter().map(|share| share.first).sum()
    }

    /// Requests of a day after that.
    pub fn daily(&self) -> f64 {
        self.endpoints.iter().map(|share| share.daily).sum()
    }

    /// Days until everything was read once, at most.
    pub fn days(&self) -> f64 {
        self.first() as f64 / self.allowed
    }
}

/// What every polled feed of the configuration asks, whether it is enabled or not. Nothing is asked, so no credentials are needed.
///
/// # Errors
/// A section that does not fit its feed; a configuration without a feed that is polled.
pub fn plan(config: &Config) -> Result<Vec<Load>> {
    let wrong = |message| Error::Config { path: "feeds".into(), message };
    let mut loads = Vec::new();
    for (name, section) in &config.feeds {
        let entry = feeds::find(name).ok_or_else(|| Error::Usage(unknown_feed(name)))?;
        let settings = section.settings(entry, &BTreeMap::new()).map_err(wrong)?;
        let symbols = settings.symbols.len();
        if let Feed::Poll(feed) = entry.build(settings).map_err(wrong)? {
            let allowed = section.bandwidth();
            loads.extend(feed.limits().iter().map(|limit| Load::new(&*feed, limit, symbols, allowed)));
        }
    }
    if loads.is_empty() {
        return Err(Error::Usage("no feed of the configuration is polled".to_owned()));
    }
    Ok(loads)
}

/// What is due of a feed and how long it takes, as people read it.
pub fn due(feed: &str, limit: &Limit, questions: u64, requests: u64) -> String {
    let name = limit.name;
    match questions {
        0 => format!("{feed}, {name}: nothing is due"),
        _ => format!(
            "{feed}, {name}: {questions} questions are due, {requests} requests at most, {}",
            span(requests as f64 / in_a_day(limit))
        ),
    }
}

/// Requests that a limit allows in a day.
fn in_a_day(limit: &Limit) -> f64 {
    let each = limit.per.as_secs_f64() / f64::from(limit.requests.max(1));
    DAY.as_secs_f64() / each.max(ANSWER.as_secs_f64())
}

/// The plan as people read it, with a line for each endpoint where `is_whole`.
pub fn told(loads: &[Load], is_whole: bool) -> String {
    let mut text = format!(
        "{:<28} {:>8} {:>12} {:>10} {:>12}\n",
        "feed, limit", "symbols", "a day", "of limit", "first time"
    );
    for load in loads {
        let share = load.daily() / load.allowed;
        text.push_str(&format!(
            "{:<28} {:>8} {:>12.0} {:>9.1}% {:>12}  {}\n",
            format!("{}, {}", load.feed, load.limit),
            load.symbols,
            load.daily(),
            share * 100.0,
            load.first(),
            span(load.days()),
        ));
        for one in load.endpoints.iter().filter(|_| is_whole) {
            let name = format!("  {}", one.endpoint);
            text.push_str(&format!(
                "{name:<28} {:>8} {:>12.0} {:>10} {:>12}\n",
                "", one.daily, "", one.first
            ));
        }
        if let Some(Bandwidth { bytes, days }) = load.bandwidth {
            let (first, later) = load.bytes(days);
            let [first, later, allowed] = [first, later, bytes as f64].map(|bytes| bytes / 1e9);
            text.push_str(&format!(
                "  about {first:.1} GB the first time, {later:.1} GB in {days} days, of {allowed:.1} GB\n"
            ));
            if first.max(later) > allowed {
                text.push_str("  more than the plan's bandwidth: nothing is asked while it is used up\n");
            }
        }
        if share > 1.0 {
            text.push_str(&format!(
                "  more than {} allows: everything is read {share:.1} times as seldom as its line says\n",
                load.limit
            ));
        }
    }
    text
}

/// A time in days, as people say it.
fn span(days: f64) -> String {
    let minutes = (days * 1_440.0).ceil();
    match minutes {
        ..=90.0 => format!("{minutes:.0} min"),
        ..=2_880.0 => format!("{:.0} h", minutes / 60.0),
        _ => format!("{days:.1} days"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Result<Vec<Load>> {
        plan(&Config::parse(text).unwrap())
    }

    #[test]
    fn a_universe_costs_what_its_lines_say() {
        let loads = of("[feeds.hello]\nsymbols = [\"A\", \"B\", \"C\"]").unwrap();
        // 1,200 a minute, but an answer takes a quarter of a second; each of three is asked every minute.
        let [load] = &loads[..] else { panic!("{loads:?}") };
        assert_eq!((load.allowed, load.first(), load.daily()), (345_600.0, 3, 3.0 * 1_440.0));
        assert_eq!((load.feed, load.limit, load.symbols), ("hello", "account", 3));
    }

    #[test]
    fn a_plan_that_is_too_small_is_told() {
        let symbols: Vec<String> = (0..3_400).map(|i| format!("\"S{i}\"")).collect();
        let config = |plan: &str| {
            format!("[feeds.fmp]\nenabled = false\nsymbols = [{}]\nplan = \"{plan}\"", symbols.join(","))
        };
        let load = of(&config("basic")).unwrap().remove(0);
        assert!((load.allowed - 250.0).abs() < 1e-9);
        assert!(told(&[load], false).contains("more than account allows"));
        let load = of(&config("starter")).unwrap().remove(0);
        let statements = load.endpoints.iter().find(|share| share.endpoint == "income-statement").unwrap();
        assert_eq!((statements.first, statements.daily), (3_400, 3_400.0));
        let told = told(&[load], true);
        assert!(!told.contains("more than account") && told.contains("  income-statement"), "{told}");
    }

    #[test]
    fn bytes_are_told_where_the_vendor_counts_them() {
        let config = |line: &str| format!("[feeds.fmp]\nsymbols = [\"A\"]\nplan = \"starter\"\n{line}");
        let load = of(&config("")).unwrap().remove(0);
        assert_eq!(load.bandwidth, Some(Bandwidth { bytes: 20_000_000_000, days: 30 }));
        // Of one symbol: ten readings of statements at 150 kB, half of them once a day and half once a week.
        let of_statements = |share: &&Share| share.answer == 150_000.0;
        let daily: f64 = load.endpoints.iter().filter(of_statements).map(|share| share.daily).sum();
        assert!((daily - (5.0 + 5.0 / 7.0)).abs() < 1e-9, "{daily}");
        assert!(told(&[load], false).contains(" GB in 30 days, of 20.0 GB"));
        let small = of(&config("bandwidth_mb = 1")).unwrap();
        assert!(told(&small, false).contains("more than the plan's bandwidth"));
    }

    #[test]
    fn a_configuration_without_a_polled_feed_says_so() {
        assert!(matches!(of("[feeds.kraken]\nsymbols = [\"BTC/USD\"]"), Err(Error::Usage(_))));
        assert!(matches!(of(""), Err(Error::Usage(_))));
    }

    #[test]
    fn spans_are_told_in_words() {
        assert_eq!([0.0, 0.01, 0.5, 2.5].map(span), ["0 min", "15 min", "12 h", "2.5 days"]);
    }
}
