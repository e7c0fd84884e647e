//! The text of what vendors send as HTML.

/// The text without its marks, entities as what they stand for. A mark that is not closed is text.
pub(super) fn text(html: &str) -> String {
    let mut out = String::with_capacity(html.len());
    let mut rest = html;
    while let Some(next) = rest.find(['<', '&']) {
        out.push_str(&rest[..next]);
        rest = &rest[next..];
        let (told, after) = if rest.starts_with('<') { mark(rest) } else { entity(rest) };
        out.push_str(&told);
        rest = after;
    }
    out.push_str(rest);
    out.trim().to_owned()
}

/// What a mark at the beginning of a text leaves of itself, and what comes after it.
fn mark(text: &str) -> (String, &str) {
    let is_mark = text[1..].starts_with(|sign: char| sign.is_ascii_alphabetic() || "/!".contains(sign));
    let Some(end) = text.find('>').filter(|_| is_mark) else { return ("<".to_owned(), &text[1..]) };
    let name =
        text[1..end].split(|sign: char| sign.is_whitespace() || sign == '/').find(|part| !part.is_empty());
    let ends_a_line = match name.map(str::to_ascii_lowercase).as_deref() {
        Some("br") => true,
        Some("p" | "div" | "li") => text[1..].starts_with('/'),
        _ => false,
    };
    (if ends_a_line { "\n" } else { "" }.to_owned(), &text[end + 1..])
}

/// Longest entity that is looked for, its end included.
const LONGEST: usize = 10;

/// What an entity at the beginning of a text stands for, and what comes after it.
fn entity(text: &str) -> (String, &str) {
    let end = text.bytes().take(LONGEST).position(|byte| byte == b';');
    let sign = end.and_then(|end| {
        let name = &text[1..end];
        match name {
            "amp" => Some('&'),
            "lt" => Some('<'),
            "gt" => Some('>'),
            "quot" => Some('"'),
            "apos" => Some('\''),
            "nbsp" => Some(' '),
            _ => {
                let number = name.strip_prefix('#')?;
                let code = match number.strip_prefix(['x', 'X']) {
                    Some(number) => u32::from_str_radix(number, 16),
                    None => number.parse(),
                };
                char::from_u32(code.ok()?)
            }
        }
    });
    match (sign, end) {
        (Some(sign), Some(end)) => (sign.to_string(), &text[end + 1..]),
        _ => ("&".to_owned(), &text[1..]),
    }
}

#[cfg(test)]
mod tests {
    use super::text;

    #[test]
    fn marks_go_and_words_stay() {
        for (html, expected) in [
            ("<p>Strong &amp; great</p><p>$AAPL<br/>up</p>", "Strong & great\n$AAPL\nup"),
            (r#"<p>see <a href="https://site/?a=1&b=2" class="x">$<span>TSLA</span></a></p>"#, "see $TSLA"),
            ("&lt;b&gt; &quot;&apos;&#39;&#x27;&nbsp;.", "<b> \"''' ."),
            ("a < b, b > c & d &unknown; &; &#xd800; <", "a < b, b > c & d &unknown; &; &#xd800; <"),
            ("<script>alert(1)</script><!-- no -->é", "alert(1)é"),
            ("&é;<é>", "&é;<é>"),
            ("", ""),
        ] {
            assert_eq!(text(html), expected, "{html}");
        }
    }
}
