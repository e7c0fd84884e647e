//! The vendor of the smallest feed that is polled: greetings, numbered for each symbol; of five, one changes with each number.

use crate::{
    question::Question,
    trade::{Trade, rfc3339},
};

/// Greetings of one page.
const PAGE: usize = 7;

/// `GET /v1/greetings?symbol=AAA&after=5`
pub(crate) fn page(out: &[Trade], question: &Question) -> Option<String> {
    let (symbol, after) = (question.parameter("symbol")?, question.number("after")?);
    let mut rest = out.iter().filter(|t| t.symbol == symbol && t.id > after);
    let items: Vec<_> = rest
        .by_ref()
        .take(PAGE)
        .map(|t| {
            let (number, id, published) = (t.id, t.id % 5, rfc3339(t.micros));
            format!(
                r#"{{"number":{number},"id":"{symbol}/{id}","published":"{published}","text":"{}"}}"#,
                t.price
            )
        })
        .collect();
    let more = rest.next().is_some();
    Some(format!(r#"{{"greetings":[{}],"more":{more}}}"#, items.join(",")))
}
