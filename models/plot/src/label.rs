//! Text as a chart may show it.

/// Text without characters that neither XML nor a terminal should be given.
pub(crate) fn plain(text: &str) -> String {
    let harmful = |c: char| {
        c.is_control()
            || matches!(c, '\u{fffe}' | '\u{ffff}' | '\u{200e}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    text.chars().map(|c| if harmful(c) { '\u{fffd}' } else { c }).collect()
}

/// How many columns of a terminal, or mean widths of a letter, a character takes: two in the scripts of East Asia.
fn columns(c: char) -> usize {
    let wide = matches!(c, '\u{1100}'..='\u{115f}' | '\u{2e80}'..='\u{303e}' | '\u{3041}'..='\u{a4cf}' | '\u{ac00}'..='\u{d7a3}'
        | '\u{f900}'..='\u{faff}' | '\u{fe30}'..='\u{fe6f}' | '\u{ff00}'..='\u{ff60}' | '\u{ffe0}'..='\u{ffe6}' | '\u{1f300}'..='\u{1faff}');
    if wide { 2 } else { 1 }
}

/// The width of a text in columns.
pub(crate) fn width(text: &str) -> usize {
    text.chars().map(columns).sum()
}

/// Text cut to so many columns.
pub(crate) fn shortened(text: &str, most: usize) -> String {
    if width(text) <= most {
        return text.to_owned();
    }
    let mut left = most.saturating_sub(1);
    let fits = |c: &char| {
        let fits = columns(*c) <= left;
        left = left.saturating_sub(columns(*c));
        fits
    };
    text.chars().take_while(fits).chain(['…']).collect()
}

/// Text in lines of at most `most` columns, broken at spaces where there are any; what more than `lines` lines would
/// take is cut.
pub(crate) fn wrapped(text: &str, most: usize, lines: usize) -> Vec<String> {
    let mut rest = text.trim();
    let mut done = Vec::new();
    while !rest.is_empty() {
        if done.len() + 1 >= lines || width(rest) <= most {
            done.push(shortened(rest, most));
            break;
        }
        let mut taken = 0;
        let fitting = rest.char_indices().find(|&(_, c)| {
            taken += columns(c);
            taken > most.max(2)
        });
        let end = fitting.map_or(rest.len(), |(at, _)| at);
        // A space right behind the last character that fits ends the line too.
        let at = if rest[end..].starts_with(' ') { end } else { rest[..end].rfind(' ').unwrap_or(end) };
        // The parts of a line are told apart by a dot, which the end of a line does as well.
        done.push(rest[..at].trim_end_matches([' ', '·']).to_owned());
        rest = rest[at..].trim_start();
    }
    done
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_made_harmless_and_short() {
        assert_eq!(plain("a\u{1b}[31m\n\u{202e}b"), "a\u{fffd}[31m\u{fffd}\u{fffd}b");
        assert_eq!(shortened("ÄÖÜß", 3), "ÄÖ…");
        assert_eq!(shortened("ÄÖÜß", 4), "ÄÖÜß");
        assert_eq!((width("東京"), shortened("東京株", 5)), (4, "東京…".to_owned()));
    }

    #[test]
    fn lines_break_at_spaces_and_else_where_they_must() {
        assert_eq!(wrapped("one two three", 7, 9), ["one two", "three"]);
        assert_eq!(wrapped("onetwothree", 4, 9), ["onet", "woth", "ree"]);
        assert_eq!(wrapped("one two three four", 7, 2), ["one two", "three …"]);
        assert_eq!(wrapped("one · two", 5, 9), ["one", "two"]);
        assert_eq!(wrapped("東京株 価", 4, 9), ["東京", "株", "価"]);
        assert_eq!(wrapped("  ", 4, 9), Vec::<String>::new());
        // A room without room still ends.
        assert_eq!(wrapped("abc", 0, 2), ["ab", "…"]);
    }
}
