//! Yahoo chart v8: daily bars of the cross-asset leaders, for a one-off back-fill.
//!
//! There is no contract and no published limit, so there is no stream, two seconds pass between requests, and a
//! refusal ends the back-fill instead of being tried again, unless it is that there is no such symbol.

use std::time::Duration;

use chrono::TimeDelta;
use serde::Deserialize;

use super::{FeedSettings, History, Page, Plan, Request, Secret, StreamFeed, TradeIds, from_json};
use crate::{
    error::FeedError,
    exact::micros,
    kinds::{Bar, BarWidth, Record, Rejected, Timestamp},
};

pub(super) const NAME: &str = "yahoo";
pub(super) const REST: &str = "https://query1.finance.yahoo.com";
/// Prices settle some minutes after the close.
const SETTLING: TimeDelta = TimeDelta::minutes(20);

pub(super) struct Yahoo {
    rest: String,
}

impl Yahoo {
    pub(super) fn new(settings: FeedSettings) -> Self {
        Yahoo { rest: settings.rest_url_or(REST) }
    }
}

/// `{"chart":{"result":[{"meta":{…},"timestamp":[…],"indicators":{"quote":[{…}],"adjclose":[{…}]}}],"error":null}}`
#[derive(Deserialize)]
struct Body {
    chart: Chart,
}

#[derive(Deserialize)]
struct Chart {
    result: Option<Vec<Series>>,
    error: Option<ChartError>,
}

#[derive(Deserialize)]
struct ChartError {
    code: String,
    description: Option<String>,
}

#[derive(Deserialize)]
struct Series {
    meta: Meta,
    #[serde(default)]
    timestamp: Vec<i64>,
    indicators: Indicators,
}

/// `{"symbol":"SPY","currency":"USD","exchangeTimezoneName":"America/New_York","gmtoffset":-18000,"dataGranularity":"1d"}`
#[derive(Deserialize)]
struct Meta {
    #[serde(rename = "exchangeTimezoneName")]
    zone: Option<String>,
    gmtoffset: Option<i64>,
    #[serde(rename = "regularMarketTime")]
    regular_market_time: Option<i64>,
}

impl Meta {
    /// Session date of an instant: the offset of `meta` is today's, so the named zone decides across a change of clocks.
    fn session_date(&self, time: Timestamp) -> chrono::NaiveDate {
        match self.zone.as_deref().and_then(|zone| zone.parse::<chrono_tz::Tz>().ok()) {
            Some(zone) => time.with_timezone(&zone).date_naive(),
            None => {
                (time + TimeDelta::seconds(self.gmtoffset.unwrap_or(0).clamp(-86_400, 86_400))).date_naive()
            }
        }
    }
}

#[derive(Deserialize)]
struct Indicators {
    #[serde(default)]
    quote: Vec<Columns>,
    #[serde(default)]
    adjclose: Vec<AdjustedColumn>,
}

/// Arrays with nulls at sessions without data.
#[derive(Deserialize, Default)]
struct Columns {
    #[serde(default)]
    open: Vec<Option<f64>>,
    #[serde(default)]
    high: Vec<Option<f64>>,
    #[serde(default)]
    low: Vec<Option<f64>>,
    #[serde(default)]
    close: Vec<Option<f64>>,
    #[serde(default)]
    volume: Vec<Option<f64>>,
}

#[derive(Deserialize)]
struct AdjustedColumn {
    #[serde(default)]
    adjclose: Vec<Option<f64>>,
}

impl StreamFeed for Yahoo {
    fn name(&self) -> &'static str {
        NAME
    }

    fn plan(&self, _now: Timestamp) -> Option<Plan> {
        None
    }

    fn parse(&self, _payload: &[u8], _received_at: Timestamp) -> Result<Vec<Record>, FeedError> {
        Err(FeedError::Rejected("the Yahoo chart interface has no stream".to_owned()))
    }

    fn request(&self, history: &History) -> Option<Request> {
        let History::Bars { symbol, width_seconds: 86_400, from, to } = history else { return None };
        Some(Request {
            url: format!(
                "{}/v8/finance/chart/{}?period1={}&period2={}&interval=1d&events=div%7Csplit&includeAdjustedClose=true",
                self.rest,
                symbol.replace('^', "%5E").replace('=', "%3D"),
                from.timestamp(),
                to.timestamp()
            ),
            headers: vec![("User-Agent", Secret("Mozilla/5.0".to_owned()))],
            history: history.clone(),
        })
    }

    fn parse_page(&self, request: &Request, body: &[u8], received_at: Timestamp) -> Result<Page, FeedError> {
        let History::Bars { symbol, from, to, .. } = &request.history else {
            return Err(FeedError::Fatal("Yahoo has no history of trades".to_owned()));
        };
        let body: Body = from_json(body)?;
        if let Some(error) = body.chart.error {
            let reason = format!("{}: {}", error.code, error.description.unwrap_or_default());
            // What it does not have, it does not have; others it may.
            return Err(match error.code.as_str() {
                "Not Found" => FeedError::Rejected(reason),
                _ => FeedError::Fatal(reason),
            });
        }
        let mut records = Vec::new();
        for series in body.chart.result.unwrap_or_default() {
            let empty = Columns::default();
            let columns = series.indicators.quote.first().unwrap_or(&empty);
            let adjusted = series.indicators.adjclose.first().map_or(&[][..], |column| &column.adjclose);
            let running_session =
                series.meta.regular_market_time.and_then(|t| micros(t.checked_mul(1_000_000)?)).map_or_else(
                    || series.meta.session_date(received_at),
                    |newest| series.meta.session_date(newest).max(series.meta.session_date(received_at)),
                );
            for (i, start) in series.timestamp.iter().enumerate() {
                let at = |column: &[Option<f64>]| column.get(i).copied().flatten();
                let prices = (at(&columns.open), at(&columns.high), at(&columns.low), at(&columns.close));
                let (Some(open), Some(high), Some(low), Some(close)) = prices else { continue };
                let Some(opened) = start.checked_mul(1_000_000).and_then(micros) else {
                    let text = start.to_string();
                    records.push(Record::Rejected(Rejected::new(
                        text.as_bytes(),
                        "time out of range",
                        received_at,
                    )));
                    continue;
                };
                let date = series.meta.session_date(opened);
                let Some(time) = date.and_hms_opt(0, 0, 0).map(|t| t.and_utc()) else { continue };
                // The last row of a running session is a part of a bar.
                if date >= running_session || time < *from || time >= *to {
                    continue;
                }
                records.push(Record::Bar(Bar {
                    symbol: symbol.clone(),
                    width: BarWidth::of_seconds(86_400),
                    time,
                    open,
                    high,
                    low,
                    close,
                    volume: at(&columns.volume),
                    amount: None,
                    trade_count: None,
                    close_adj: at(adjusted),
                    // Adjusted closes are rewritten by later dividends: the newest answer wins.
                    sequence: received_at.timestamp_micros(),
                    received_at,
                    known_at: time + TimeDelta::days(1) + SETTLING,
                }));
            }
        }
        Ok(Page { records, next: None })
    }

    fn trade_ids(&self) -> TradeIds {
        TradeIds::Absent
    }

    fn request_interval(&self) -> Duration {
        Duration::from_secs(2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BODY: &str = r#"{"chart":{"result":[{"meta":{"symbol":"SPY","currency":"USD","exchangeTimezoneName":"America/New_York","gmtoffset":-18000,"dataGranularity":"1d"},"timestamp":[1763562600,1763649000,1763735400],"indicators":{"quote":[{"open":[661.0,null,663.0],"high":[665.1,null,664.0],"low":[659.2,null,662.0],"close":[664.3,null,663.5],"volume":[71000000,null,1000]}],"adjclose":[{"adjclose":[664.1,null,663.5]}]}}],"error":null}}"#;

    fn page(body: &str, now: &str) -> Result<Page, FeedError> {
        let feed = Yahoo::new(FeedSettings::default());
        let (from, to) = ("2025-01-01T00:00:00Z".parse().unwrap(), "2026-01-01T00:00:00Z".parse().unwrap());
        let history = History::Bars { symbol: "^VIX".into(), width_seconds: 86_400, from, to };
        let request = feed.request(&history).unwrap();
        assert!(request.url.contains("/chart/%5EVIX?"), "{}", request.url);
        feed.parse_page(&request, body.as_bytes(), now.parse().unwrap())
    }

    #[test]
    fn holes_and_the_running_session_are_left_out() {
        let records = page(BODY, "2025-11-21T16:00:00Z").unwrap().records;
        let [Record::Bar(bar)] = &records[..] else { panic!("{records:?}") };
        assert_eq!(bar.time.to_rfc3339(), "2025-11-19T00:00:00+00:00");
        assert_eq!((bar.close, bar.close_adj), (664.3, Some(664.1)));
        assert!(bar.known_at > bar.end());
        assert_eq!(page(BODY, "2025-11-22T16:00:00Z").unwrap().records.len(), 2);
    }

    #[test]
    fn an_error_in_the_body_ends_the_back_fill_unless_it_is_of_the_symbol_alone() {
        let error = |code: &str| {
            let body =
                format!(r#"{{"chart":{{"result":null,"error":{{"code":"{code}","description":"No"}}}}}}"#);
            page(&body, "2025-11-21T16:00:00Z").unwrap_err()
        };
        assert_eq!(error("Not Found"), FeedError::Rejected("Not Found: No".into()));
        assert_eq!(error("Unauthorized"), FeedError::Fatal("Unauthorized: No".into()));
    }
}
