//! Symbols in texts of people.

/// The symbols that a text names as `$AAPL`, each once. Amounts (`$20`) and words in small letters (`$cash`) are none.
pub(super) fn cashtags(text: &str) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    let mut before = ' ';
    for (place, sign) in text.char_indices() {
        let is_alone = sign == '$' && !before.is_alphanumeric() && before != '$';
        before = sign;
        let Some(rest) = text.get(place + 1..).filter(|_| is_alone) else { continue };
        let letters = |text: &str| text.bytes().take_while(u8::is_ascii_uppercase).count();
        let mut length = letters(rest);
        if (1..=6).contains(&length) {
            // A class of shares, or the mark of a coin: BRK.B, BTC.X.
            let class = rest[length..].strip_prefix('.').filter(|class| letters(class) == 1);
            if let Some(class) = class.filter(|class| !class[1..].starts_with(char::is_alphanumeric)) {
                length = rest.len() - class.len() + 1;
            }
            let symbol = &rest[..length];
            let is_whole = !rest[length..].starts_with(char::is_alphanumeric);
            if is_whole && !found.iter().any(|one| one == symbol) {
                found.push(symbol.to_owned());
            }
        }
    }
    found
}
