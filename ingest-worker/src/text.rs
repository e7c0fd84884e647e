//! Texts of others as they are stored and shown.

use std::borrow::Cow;

/// A text of a venue as it is stored: NUL, which `text` cannot hold, and other control characters, which would command the
/// terminals of those who read it, are replaced by U+FFFD; tabs and ends of lines stay.
pub fn clean(text: &str) -> Cow<'_, str> {
    let commands = |c: char| c.is_control() && !matches!(c, '\t' | '\n' | '\r');
    match text.contains(commands) {
        true => Cow::Owned(text.replace(commands, "\u{fffd}")),
        false => Cow::Borrowed(text),
    }
}
