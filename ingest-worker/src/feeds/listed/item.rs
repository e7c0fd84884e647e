//! One item of a list: its members, as they were written.

use std::collections::BTreeMap;

use serde_json::value::RawValue;
use sha2::Digest;

/// A field under the names that a vendor has given it, the present one first.
pub(in crate::feeds) type Field = &'static [&'static str];

/// The members of an item. Numbers keep their digits: none passes through `f64`.
pub(in crate::feeds) struct Item<'a>(BTreeMap<String, &'a RawValue>);

impl<'a> Item<'a> {
    pub(super) fn read(raw: &'a RawValue) -> Result<Self, String> {
        serde_json::from_str(raw.get()).map(Item).map_err(|e| format!("no object: {e}"))
    }

    /// The first of the names whose value is a text that is not empty, or a number.
    pub(super) fn text(&self, field: Field) -> Option<String> {
        field.iter().find_map(|name| {
            let raw = self.member(name)?.get();
            let text = match raw.as_bytes().first()? {
                b'"' => serde_json::from_str(raw).ok()?,
                b'-' | b'0'..=b'9' => raw.to_owned(),
                _ => return None,
            };
            let text = text.trim();
            (!text.is_empty()).then(|| text.to_owned())
        })
    }

    /// A member; `a.b` is member `b` of `a`.
    fn member(&self, path: &str) -> Option<&'a RawValue> {
        let Some((outer, inner)) = path.split_once('.') else { return self.0.get(path).copied() };
        let raw = *self.0.get(outer)?;
        Item::read(raw).ok()?.member(inner)
    }

    pub(super) fn omit(&mut self, names: &[&str]) {
        self.0.retain(|name, _| !names.contains(&name.as_str()));
    }

    /// The item as JSON, without what was omitted.
    pub(super) fn payload(&self) -> String {
        let members: Vec<String> = self
            .0
            .iter()
            .map(|(name, raw)| format!("{}:{}", serde_json::Value::from(name.as_str()), raw.get()))
            .collect();
        format!("{{{}}}", members.join(","))
    }
}

/// The beginning of the SHA-256 of a text, in hexadecimal.
pub(super) fn digest(text: &str) -> String {
    sha2::Sha256::digest(text).iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}
