//! Numbers as people write them: `1234.5`, `1,234.5`, `1.234,5`, `1 234,5`.

use std::borrow::Cow;

/// What separates the whole part of a number from its fraction; the other one separates thousands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecimalMark {
    Point,
    Comma,
}

impl DecimalMark {
    fn characters(self) -> (char, char) {
        match self {
            DecimalMark::Point => ('.', ','),
            DecimalMark::Comma => (',', '.'),
        }
    }

    /// Reads `.` or `,`.
    ///
    /// # Errors
    /// Another text.
    pub fn parse(text: &str) -> Result<Self, String> {
        match text {
            "." => Ok(DecimalMark::Point),
            "," => Ok(DecimalMark::Comma),
            _ => Err("the decimal mark is . or ,".to_owned()),
        }
    }

    /// `text` in the spelling of programs, where it can be read with this mark.
    fn plain(self, text: &str) -> Option<Cow<'_, str>> {
        let (mark, thousands) = self.characters();
        let (whole, fraction) = match text.split_once(mark) {
            Some((whole, fraction)) => (whole, Some(fraction)),
            None => (text, None),
        };
        if fraction.is_some_and(|fraction| fraction.contains(|c: char| is_mark(c) || is_space(c))) {
            return None;
        }
        let is_grouped = |c: char| c == thousands || is_space(c);
        if !whole.contains(is_grouped) {
            return Some(match self {
                DecimalMark::Point => Cow::Borrowed(text),
                DecimalMark::Comma => Cow::Owned(text.replace(mark, ".")),
            });
        }
        let separator = whole.chars().find(|c| is_grouped(*c))?;
        let groups: Vec<&str> = whole.trim_start_matches(['-', '+']).split(separator).collect();
        if !are_groups(&groups) {
            return None;
        }
        let sign = if whole.starts_with('-') { "-" } else { "" };
        let fraction = fraction.map_or(String::new(), |fraction| format!(".{fraction}"));
        Some(Cow::Owned(format!("{sign}{}{fraction}", groups.concat())))
    }
}

fn is_mark(c: char) -> bool {
    matches!(c, '.' | ',')
}

/// Blanks, also those that do not break a line, and the apostrophe of Switzerland.
fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\u{a0}' | '\u{202f}' | '\'' | '\u{2019}')
}

/// Whether these are the digits of one number in groups of three, or the last alone of three and the others of two, as India
/// writes them.
fn are_groups(groups: &[&str]) -> bool {
    let [first, middle @ .., last] = groups else { return false };
    let are_digits = groups.iter().all(|group| group.bytes().all(|byte| byte.is_ascii_digit()));
    let begins = !first.starts_with('0') && (1..=3).contains(&first.len());
    let are_of = |length: usize| middle.iter().all(|group| group.len() == length);
    are_digits && begins && last.len() == 3 && (are_of(3) || are_of(2) && first.len() < 3)
}

/// How the numbers of a file are to be read; what its rows so far leave open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Numbers {
    told: Option<DecimalMark>,
    can_be_point: bool,
    can_be_comma: bool,
    has_comma: bool,
}

impl Numbers {
    pub(super) fn new(told: Option<DecimalMark>) -> Self {
        Numbers { told, can_be_point: true, can_be_comma: true, has_comma: false }
    }

    /// Takes notice of how `text` is written.
    pub(super) fn learn(&mut self, text: &str) {
        if !text.contains(is_mark) {
            return;
        }
        let is_number =
            |mark: DecimalMark| mark.plain(text).is_some_and(|plain| plain.parse::<f64>().is_ok());
        let (point, comma) = (is_number(DecimalMark::Point), is_number(DecimalMark::Comma));
        // What is no number either way says nothing.
        if point || comma {
            self.can_be_point &= point;
            self.can_be_comma &= comma;
            self.has_comma |= text.contains(',');
        }
    }

    /// Whether more rows would tell nothing; a file without commas has decimal points.
    pub(super) fn is_settled(self) -> bool {
        self.told.is_some() || !self.has_comma || self.can_be_point != self.can_be_comma
    }

    /// The text of a number in the spelling of programs.
    ///
    /// # Errors
    /// A text that could be two numbers.
    pub(super) fn plain(self, text: &str) -> Result<Cow<'_, str>, String> {
        let mark = match (self.told, self.has_comma, self.can_be_point, self.can_be_comma) {
            (Some(told), ..) => told,
            (None, false, ..) | (None, _, true, false) => DecimalMark::Point,
            (None, _, false, true) => DecimalMark::Comma,
            (None, ..) => {
                if !text.contains(is_mark) {
                    return Ok(Cow::Borrowed(text));
                }
                return Err(format!(
                    "\"{text}\" has a mark that is decimal or separates thousands, and the file does not say which; say \
                     --decimal , or --decimal ."
                ));
            }
        };
        // What cannot be read stays as it is: whoever wants a number of it says so.
        Ok(mark.plain(text).unwrap_or(Cow::Borrowed(text)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the numbers of a file become; `None` for those that are not read.
    fn read(texts: &[&str], told: Option<DecimalMark>) -> Vec<Option<f64>> {
        let mut numbers = Numbers::new(told);
        texts.iter().for_each(|text| numbers.learn(text));
        texts.iter().map(|text| numbers.plain(text).ok()?.parse().ok()).collect()
    }

    #[test]
    fn a_number_is_read_as_the_file_writes_its_numbers() {
        for (texts, expected) in [
            // Points alone are decimal, also where three digits follow each.
            (&["145.123", "1.234"][..], &[145.123, 1.234][..]),
            (&["12.50", "1,234", "1,234,567.8"], &[12.5, 1_234.0, 1_234_567.8]),
            (&["12,5", "1.234", "1.234.567,8"], &[12.5, 1_234.0, 1_234_567.8]),
            (&["1 234,5", "12\u{a0}345\u{a0}678,25", "-1\u{202f}000,5"], &[1_234.5, 12_345_678.25, -1_000.5]),
            (&["1'234.5", "-2’000"], &[1_234.5, -2_000.0]),
            (&["12,34,567.89"], &[1_234_567.89]),
            (&["1,5e3", "2"], &[1_500.0, 2.0]),
            (&["0,500"], &[0.5]),
        ] {
            let expected: Vec<_> = expected.iter().map(|number| Some(*number)).collect();
            assert_eq!(read(texts, None), expected, "{texts:?}");
        }
    }

    #[test]
    fn what_could_be_two_numbers_is_read_as_told_or_not_at_all() {
        let texts = ["1,234", "7"];
        assert_eq!(read(&texts, None), [None, Some(7.0)]);
        assert_eq!(read(&texts, Some(DecimalMark::Point)), [Some(1_234.0), Some(7.0)]);
        assert_eq!(read(&texts, Some(DecimalMark::Comma)), [Some(1.234), Some(7.0)]);
        // Two ways of writing in one file.
        assert_eq!(read(&["12,5", "12.5", "3"], None), [None, None, Some(3.0)]);
        for text in ["1,23,4", "1.2.3", "12,34", "$5", "1,234.5.6", "1 2 3", ",5,", "0,234,567"] {
            assert_eq!(read(&[text, "1.5"], Some(DecimalMark::Point))[0], None, "{text}");
        }
        let mut numbers = Numbers::new(None);
        numbers.learn("1,234");
        assert!(!numbers.is_settled(), "the next row may tell");
        numbers.learn("12.5");
        assert!(numbers.is_settled());
        assert!(Numbers::new(None).is_settled());
    }
}
