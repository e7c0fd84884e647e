//! The vendors' REST questions about the published trades.

use crate::{
    Protocol, Trade, Venue, alpaca,
    bars::{self, Bar},
    hello,
    question::Question,
    trade::rfc3339,
};

/// Trades of one page.
const PAGE: usize = 1_000;

impl Venue {
    /// Status and body of the answer to `GET target` while `published` trades are out.
    pub fn answer(&self, target: &str, published: usize) -> (u16, String) {
        let question = Question::new(target);
        let path = question.path;
        let out = &self.trades[..published];
        let body = match (self.protocol, path.rsplit('/').next().unwrap_or_default()) {
            (Protocol::Hello, "greetings") => hello::page(out, &question),
            (Protocol::Coinbase, "ticker") => Some(coinbase_trades(out, &question)),
            (Protocol::Coinbase, "candles") => coinbase_bars(out, &question),
            (Protocol::CoinbaseExchange, "trades") => Some(exchange_trades(out, &question)),
            (Protocol::CoinbaseExchange, "candles") => exchange_bars(out, &question),
            (Protocol::Kraken, "Trades") => Some(kraken_trades(&self.trades, out, &question)),
            (Protocol::Kraken, "OHLC") => kraken_bars(out, &question),
            (Protocol::Alpaca, _) if path.starts_with("/v2/stocks/") => self.alpaca_page(out, &question),
            (Protocol::AlpacaCrypto, _) if path.starts_with("/v1beta3/crypto/us/") => {
                self.alpaca_page(out, &question)
            }
            (Protocol::Yahoo, symbol) if path.starts_with("/v8/finance/chart/") => {
                yahoo_bars(out, &question, &symbol.replace("%5E", "^"))
            }
            _ => None,
        };
        body.map_or_else(|| (404, "<html>not found</html>".to_owned()), |body| (200, body))
    }

    fn alpaca_page(&self, out: &[Trade], question: &Question) -> Option<String> {
        let symbol = question.parameter("symbols")?.replace("%2F", "/");
        if question.path.contains("latest") {
            let newest = out.iter().rev().find(|trade| trade.symbol == symbol)?;
            return Some(format!(
                r#"{{"trades":{{"{symbol}":{{{}}}}}}}"#,
                alpaca::fields(self.protocol, newest)
            ));
        }
        let (start, end) = (question.micros("start")?, question.micros("end")?);
        let (kind, rows): (_, Vec<String>) = if question.path.ends_with("/bars") {
            let width = match question.parameter("timeframe")? {
                "1Min" => 60,
                "1Hour" => 3_600,
                "1Day" => 86_400,
                _ => return None,
            };
            let bars = bars::of(out, &symbol, width);
            let inside = bars.iter().filter(|bar| (start..=end).contains(&(bar.start * 1_000_000)));
            ("bars", inside.map(|bar| alpaca_bar(bar, width)).collect())
        } else {
            let inside = out.iter().filter(|t| t.symbol == symbol && (start..=end).contains(&t.micros));
            ("trades", inside.map(|t| format!("{{{}}}", alpaca::fields(self.protocol, t))).collect())
        };
        let from = question.number("page_token").and_then(|token| usize::try_from(token).ok()).unwrap_or(0);
        let limit = question.number("limit").and_then(|limit| usize::try_from(limit).ok()).unwrap_or(PAGE);
        let to = (from + limit.min(PAGE)).min(rows.len());
        let token = if to < rows.len() { format!("\"{to}\"") } else { "null".to_owned() };
        let page = rows.get(from..to)?.join(",");
        Some(format!(r#"{{"{kind}":{{"{symbol}":[{page}]}},"next_page_token":{token}}}"#))
    }
}

fn alpaca_bar(bar: &Bar, width: i64) -> String {
    format!(
        r#"{{"t":"{}","o":{},"h":{},"l":{},"c":{},"v":{},"n":{},"vw":{}}}"#,
        // Daily bars are stamped with midnight in New York, which is five hours behind in winter.
        rfc3339(if width == 86_400 { bar.start + 18_000 } else { bar.start } * 1_000_000),
        bar.open,
        bar.high,
        bar.low,
        bar.close,
        bar.volume(),
        bar.count,
        bar.vwap()
    )
}

fn coinbase_trades(out: &[Trade], question: &Question) -> String {
    let symbol = question.product();
    let start = question.number("start").unwrap_or(0) * 1_000_000;
    let end = question.number("end").map_or(i64::MAX, |end| end * 1_000_000);
    let chosen = out.iter().rev().filter(|t| t.symbol == symbol && (start..=end).contains(&t.micros));
    let items: Vec<_> = chosen
        .take(PAGE)
        .map(|t| {
            format!(
                r#"{{"trade_id":"{}","product_id":"{}","price":"{}","size":"{}","time":"{}","side":"{}"}}"#,
                t.id,
                t.symbol,
                t.price,
                t.size,
                rfc3339(t.micros),
                if t.is_buy { "BUY" } else { "SELL" }
            )
        })
        .collect();
    format!(r#"{{"trades":[{}],"best_bid":"1","best_ask":"2"}}"#, items.join(","))
}

/// Bars that start in the asked range, both ends included, newest first.
fn newest_first<'a>(out: &'a [Trade], question: &Question, width: i64, most: usize) -> Option<Vec<Bar<'a>>> {
    let (start, end) = (question.number("start")?, question.number("end")?);
    let mut bars = bars::of(out, question.product(), width);
    bars.retain(|bar| (start..=end).contains(&bar.start));
    bars.reverse();
    bars.truncate(most);
    Some(bars)
}

fn coinbase_bars(out: &[Trade], question: &Question) -> Option<String> {
    let width = match question.parameter("granularity")? {
        "ONE_MINUTE" => 60,
        "ONE_HOUR" => 3_600,
        "ONE_DAY" => 86_400,
        _ => return None,
    };
    let items: Vec<_> = newest_first(out, question, width, 350)?
        .iter()
        .map(|bar| {
            format!(
                r#"{{"start":"{}","low":"{}","high":"{}","open":"{}","close":"{}","volume":"{}"}}"#,
                bar.start,
                bar.low,
                bar.high,
                bar.open,
                bar.close,
                bar.volume()
            )
        })
        .collect();
    Some(format!(r#"{{"candles":[{}]}}"#, items.join(",")))
}

fn exchange_trades(out: &[Trade], question: &Question) -> String {
    let symbol = question.product();
    let after = question.number("after").unwrap_or(i64::MAX);
    let chosen = out.iter().rev().filter(|t| t.symbol == symbol && t.id < after);
    let items: Vec<_> = chosen
        .take(PAGE)
        .map(|t| {
            format!(
                r#"{{"time":"{}","trade_id":{},"price":"{}","size":"{}","side":"{}"}}"#,
                rfc3339(t.micros),
                t.id,
                t.price,
                t.size,
                if t.is_buy { "sell" } else { "buy" }
            )
        })
        .collect();
    format!("[{}]", items.join(","))
}

fn exchange_bars(out: &[Trade], question: &Question) -> Option<String> {
    let width = question.number("granularity")?;
    let items: Vec<_> = newest_first(out, question, width, 300)?
        .iter()
        .map(|bar| {
            let Bar { start, low, high, open, close, .. } = bar;
            format!("[{start},{low},{high},{open},{close},{}]", bar.volume())
        })
        .collect();
    Some(format!("[{}]", items.join(",")))
}

/// Whether `pair` is `symbol` in the spelling of REST: `XBTUSD` is `BTC/USD`.
fn is_pair(symbol: &str, pair: &str) -> bool {
    let older = |asset| if asset == "BTC" { "XBT" } else { asset };
    symbol.split('/').map(older).collect::<String>() == pair
}

const UNKNOWN_PAIR: &str = r#"{"error":["EQuery:Unknown asset pair"]}"#;

fn kraken_trades(known: &[Trade], out: &[Trade], question: &Question) -> String {
    let pair = question.parameter("pair").unwrap_or_default();
    let since = question.number("since").unwrap_or(0);
    if !known.iter().any(|t| is_pair(&t.symbol, pair)) {
        return UNKNOWN_PAIR.to_owned();
    }
    let chosen = out.iter().filter(|t| is_pair(&t.symbol, pair) && t.micros * 1_000 > since);
    let page: Vec<_> = chosen.take(PAGE).collect();
    let items: Vec<_> = page
        .iter()
        .map(|t| {
            format!(
                r#"["{}","{}",{}.{:06},"{}","m","",{}]"#,
                t.price,
                t.size,
                t.micros / 1_000_000,
                t.micros % 1_000_000,
                if t.is_buy { "b" } else { "s" },
                t.id
            )
        })
        .collect();
    let last = page.last().map_or(since, |t| t.micros * 1_000);
    format!(r#"{{"error":[],"result":{{"X{pair}":[{}],"last":"{last}"}}}}"#, items.join(","))
}

/// The newest 720 bars after `since`, the forming one among them.
fn kraken_bars(out: &[Trade], question: &Question) -> Option<String> {
    let pair = question.parameter("pair")?;
    let (width, since) = (question.number("interval")? * 60, question.number("since")?);
    let Some(trade) = out.iter().find(|t| is_pair(&t.symbol, pair)) else {
        return Some(UNKNOWN_PAIR.to_owned());
    };
    let symbol = &trade.symbol;
    let mut bars = bars::of(out, symbol, width);
    bars.retain(|bar| bar.start > since);
    bars.drain(..bars.len().saturating_sub(720));
    let last = bars.last().map_or(since, |bar| bar.start);
    let items: Vec<_> = bars
        .iter()
        .map(|bar| {
            format!(
                r#"[{},"{}","{}","{}","{}","{}","{}",{}]"#,
                bar.start,
                bar.open,
                bar.high,
                bar.low,
                bar.close,
                bar.vwap(),
                bar.volume(),
                bar.count
            )
        })
        .collect();
    Some(format!(r#"{{"error":[],"result":{{"X{pair}":[{}],"last":{last}}}}}"#, items.join(",")))
}

/// Daily bars as arrays, stamped with the opening of New York, and after them a session without data.
fn yahoo_bars(out: &[Trade], question: &Question, symbol: &str) -> Option<String> {
    let (start, end) = (question.number("period1")?, question.number("period2")?);
    let mut bars = bars::of(out, symbol, 86_400);
    bars.retain(|bar| (start..end).contains(&bar.start));
    let newest = bars.last()?.start;
    let opening = |day: i64| day + 14 * 3_600 + 1_800;
    let column = |of: &dyn Fn(&Bar) -> String| {
        bars.iter().map(of).chain(["null".to_owned()]).collect::<Vec<_>>().join(",")
    };
    let times: Vec<_> = bars
        .iter()
        .map(|bar| bar.start)
        .chain([newest + 86_400])
        .map(|day| opening(day).to_string())
        .collect();
    Some(format!(
        r#"{{"chart":{{"result":[{{"meta":{{"symbol":"{symbol}","currency":"USD","exchangeTimezoneName":"America/New_York","gmtoffset":-18000,"dataGranularity":"1d"}},"timestamp":[{}],"indicators":{{"quote":[{{"open":[{}],"high":[{}],"low":[{}],"close":[{}],"volume":[{}]}}],"adjclose":[{{"adjclose":[{}]}}]}}}}],"error":null}}}}"#,
        times.join(","),
        column(&|bar| bar.open.to_owned()),
        column(&|bar| bar.high.to_owned()),
        column(&|bar| bar.low.to_owned()),
        column(&|bar| bar.close.to_owned()),
        column(&|bar| bar.volume()),
        column(&|bar| bar.close.to_owned())
    ))
}
