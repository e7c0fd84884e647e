//! `backfill`: history of a feed by REST.

use std::collections::BTreeMap;

use chrono::Utc;
use indicatif::{ProgressBar, ProgressStyle};
use tokio::time::Instant;

use crate::{
    error::{Error, FeedError, Result},
    feeds::{History, Page, Request, StreamFeed},
    kinds::{Record, Timestamp},
    load::Loaded,
    store::{Batch, Sink},
    symbols::of_feed,
    wire::{Answer, Backoff, Transport, ask},
};

/// What a back-fill fetches.
#[derive(Clone, Debug)]
pub struct Backfill {
    /// Spelling of the feed, or canonical.
    pub symbols: Vec<String>,
    pub from: Timestamp,
    pub to: Timestamp,
    /// Width of the bars; trades when absent.
    pub width_seconds: Option<i64>,
}

/// What a back-fill brought.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fetched {
    pub loaded: Loaded,
    /// The symbols (spelling of the feed) whose history is refused, with the reasons.
    pub refused: Vec<(String, String)>,
}

/// Failed attempts for one request before the back-fill gives up.
const ATTEMPTS: u32 = 8;

/// Fetches history by REST. A symbol that the feed refuses keeps no other one back.
///
/// # Errors
/// [`Error::Feed`] when the feed itself refuses or keeps failing. What came before is stored; running it again is harmless.
pub async fn backfill(
    feed: &dyn StreamFeed,
    mapping: &BTreeMap<String, String>,
    work: &Backfill,
    transport: &dyn Transport,
    sink: &Sink,
) -> Result<Fetched> {
    let bar = ProgressBar::new(work.symbols.len() as u64);
    if let Ok(style) = ProgressStyle::with_template("{wide_bar} {pos}/{len} symbols {msg} {eta}") {
        bar.set_style(style);
    }
    let mut fetched = Fetched::default();
    for symbol in &work.symbols {
        let native = mapping
            .iter()
            .find_map(|(native, ours)| (native == symbol || ours == symbol).then(|| native.clone()))
            .unwrap_or_else(|| symbol.clone());
        let ours = mapping.get(&native).cloned().unwrap_or_else(|| of_feed(&native));
        let next = feed.request(&work.history(native.clone()));
        if next.is_none() {
            let what = work.width_seconds.map_or("trades".to_owned(), |w| format!("bars of {w} s"));
            return Err(Error::Usage(format!("feed \"{}\" has no history of {what}", feed.name())));
        }
        let one = One { feed, ours: &ours, work, transport, sink, bar: &bar };
        match one.pages(next, &mut fetched.loaded).await {
            Err(Error::Feed {
                error: FeedError::Rejected(reason) | FeedError::NotInPlan(reason), ..
            }) => {
                tracing::error!(
                    feed = feed.name(),
                    symbol = native,
                    reason,
                    "history refused; the others go on"
                );
                fetched.refused.push((native, reason));
            }
            other => other?,
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(fetched)
}

impl Backfill {
    fn history(&self, symbol: String) -> History {
        let (from, to) = (self.from, self.to);
        match self.width_seconds {
            Some(width_seconds) => History::Bars { symbol, width_seconds, from, to },
            None => History::Trades { symbol, from, to, from_id: None, to_id: None },
        }
    }
}

/// The back-fill of one symbol.
struct One<'a> {
    feed: &'a dyn StreamFeed,
    ours: &'a str,
    work: &'a Backfill,
    transport: &'a dyn Transport,
    sink: &'a Sink,
    bar: &'a ProgressBar,
}

impl One<'_> {
    async fn pages(&self, mut next: Option<Request>, loaded: &mut Loaded) -> Result<()> {
        let (feed, work) = (self.feed, self.work);
        while let Some(request) = next {
            let page = fetch(feed, &request, self.transport).await;
            let page = page.map_err(|error| Error::Feed { feed: feed.name().to_owned(), error })?;
            let mut batch = Batch::new(feed.name());
            for mut record in page.records {
                if let Some(symbol) = record.symbol_mut() {
                    self.ours.clone_into(symbol);
                }
                // Pages reach beyond the stretch that was asked for; a bar that is still open comes again.
                let is_outside = matches!(&record, Record::Trade(trade) if trade.event_time < work.from || trade.event_time > work.to);
                if record.row().is_none() || is_outside {
                    continue;
                }
                loaded.count(&record);
                batch.records.push(record);
            }
            self.sink.send(batch).await?;
            self.bar.set_message(format!("{} {} rows", self.ours, loaded.rows));
            next = page.next;
        }
        Ok(())
    }
}

async fn fetch(
    feed: &dyn StreamFeed,
    request: &Request,
    transport: &dyn Transport,
) -> Result<Page, FeedError> {
    let mut backoff = Backoff::default();
    for attempt in 1.. {
        let started = Instant::now();
        let answer = ask(transport, &request.wire()).await.and_then(Answer::success);
        let page = answer.and_then(|body| feed.parse_page(request, &body, Utc::now()));
        tokio::time::sleep_until(started + feed.request_interval()).await;
        let wait = match page {
            Err(FeedError::Transient(_)) if attempt < ATTEMPTS => backoff.next_delay(),
            Err(FeedError::RateLimited { retry_after, .. }) if attempt < ATTEMPTS => {
                retry_after.unwrap_or_default().max(backoff.next_delay())
            }
            settled => return settled,
        };
        tracing::warn!(
            feed = feed.name(),
            attempt,
            wait_ms = wait.as_millis() as u64,
            "history request failed"
        );
        tokio::time::sleep(wait).await;
    }
    Err(FeedError::Transient("too many attempts".to_owned()))
}
