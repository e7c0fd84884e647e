//! One item of a list: its members, as they were written.

use std::collections::BTreeMap;

use serde_json::value::RawValue;
use sha2::Digest;

use super::html;

/// A field under the names that a vendor has given it, the present one first.
pub(in crate::feeds) type Field = &'static [&'static str];

/// The members of an item. Numbers keep their digits: none passes through `f64`.
pub(in crate::feeds) struct Item<'a> {
    members: BTreeMap<String, &'a RawValue>,
    /// Members in another form than they came in, as JSON.
    rewritten: BTreeMap<String, String>,
}

impl<'a> Item<'a> {
    pub(super) fn read(raw: &'a RawValue) -> Result<Self, String> {
        let members = serde_json::from_str(raw.get()).map_err(|e| format!("no object: {e}"))?;
        Ok(Item { members, rewritten: BTreeMap::new() })
    }

    /// The first of the names whose value is a text that is not empty, or a number.
    pub(super) fn text(&self, field: Field) -> Option<String> {
        field.iter().find_map(|name| {
            let raw = self.member(name)?;
            let raw = raw.as_str();
            let text = match raw.as_bytes().first()? {
                b'"' => serde_json::from_str(raw).ok()?,
                b'-' | b'0'..=b'9' => raw.to_owned(),
                _ => return None,
            };
            let text = text.trim();
            (!text.is_empty()).then(|| text.to_owned())
        })
    }

    /// The texts of the first of the names whose value is a list; `None` where none is.
    pub(super) fn texts(&self, field: Field) -> Option<Vec<String>> {
        field.iter().find_map(|name| serde_json::from_str(self.raw(name)?).ok())
    }

    /// A member as JSON; `a.b` is member `b` of `a`.
    fn member(&self, path: &str) -> Option<String> {
        let Some((outer, inner)) = path.split_once('.') else { return self.raw(path).map(str::to_owned) };
        let inside: BTreeMap<String, &RawValue> = serde_json::from_str(self.raw(outer)?).ok()?;
        Item { members: inside, rewritten: BTreeMap::new() }.member(inner)
    }

    fn raw(&self, name: &str) -> Option<&str> {
        let rewritten = self.rewritten.get(name).map(String::as_str);
        rewritten.or_else(|| self.members.get(name).map(|raw| raw.get()))
    }

    /// Makes plain text of members that are HTML: what is stored may be shown anywhere.
    pub(super) fn make_plain(&mut self, names: &[&str]) {
        for name in names {
            let html = self.members.get(*name).and_then(|raw| serde_json::from_str::<String>(raw.get()).ok());
            if let Some(html) = html {
                let text = serde_json::Value::from(html::text(&html)).to_string();
                self.rewritten.insert((*name).to_owned(), text);
            }
        }
    }

    /// The item as JSON, without some members.
    pub(super) fn payload(&self, omit: &[&str]) -> String {
        let is_kept = |name: &&String| !omit.contains(&name.as_str());
        let member = |name| Some(format!("{}:{}", serde_json::Value::from(name), self.raw(name)?));
        let members: Vec<String> =
            self.members.keys().filter(is_kept).filter_map(|name| member(name.as_str())).collect();
        format!("{{{}}}", members.join(","))
    }
}

/// The beginning of the SHA-256 of a text, in hexadecimal.
pub(super) fn digest(text: &str) -> String {
    sha2::Sha256::digest(text).iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}
