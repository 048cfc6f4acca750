//! Parameters of a request, read one at a time.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::difficulty::Difficulty;

/// The elements of `params`, unread.
pub(crate) struct Params<'a>(Vec<&'a RawValue>);

impl<'a> Params<'a> {
    /// An array gives its elements, a single value itself, absence or `null` nothing. `None` for
    /// more than `most`.
    pub(crate) fn parse(raw: Option<&'a RawValue>, most: usize) -> Option<Self> {
        let values = match raw {
            None => Vec::new(),
            Some(raw) if raw.get().starts_with('[') => serde_json::from_str(raw.get()).ok()?,
            Some(raw) => vec![raw],
        };
        (values.len() <= most).then_some(Self(values))
    }

    pub(crate) fn raw(&self, index: usize) -> Option<&'a RawValue> {
        self.0.get(index).copied()
    }

    /// A string that has to be there.
    pub(crate) fn text(&self, index: usize) -> Option<Cow<'a, str>> {
        text(self.raw(index)?)
    }

    /// A string that may be absent or `null`; the outer `None` is any other type.
    pub(crate) fn optional_text(&self, index: usize) -> Option<Option<Cow<'a, str>>> {
        match self.raw(index) {
            None => Some(None),
            Some(raw) if raw.get() == "null" => Some(None),
            Some(raw) => text(raw).map(Some),
        }
    }

    /// A whole number, or a string that holds one.
    pub(crate) fn number(&self, index: usize) -> Option<u64> {
        let raw = self.raw(index)?;
        serde_json::from_str(raw.get()).ok().or_else(|| text(raw)?.parse().ok())
    }

    /// A difficulty, as a number or as a string that holds one.
    pub(crate) fn difficulty(&self, index: usize) -> Option<Difficulty> {
        difficulty(self.raw(index)?)
    }
}

/// A JSON string, borrowed if it has no escapes.
pub(crate) fn text<'a>(raw: &'a RawValue) -> Option<Cow<'a, str>> {
    #[derive(Deserialize)]
    struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

    serde_json::from_str::<Text<'a>>(raw.get()).ok().map(|text| text.0)
}

/// A difficulty, as a number or as a string that holds one.
fn difficulty(raw: &RawValue) -> Option<Difficulty> {
    // Not through serde_json, whose floats may be off by the last bit.
    match text(raw) {
        Some(text) => text.parse().ok(),
        None => raw.get().parse().ok(),
    }
}
