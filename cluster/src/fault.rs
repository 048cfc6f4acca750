//! Errors that an operator sees. Each program has its codes; `docs/errors.md` has a page for each.

use std::fmt;
use std::path::Path;

use crate::settings::SettingsError;

/// What stopped a program, or what it refuses to start with, in one line.
#[derive(Debug, thiserror::Error)]
#[error("{code}: {message}")]
pub struct Fault<C: fmt::Debug + fmt::Display> {
    /// Which page of `docs/errors.md` explains it.
    pub code: C,
    /// What happened, naming the setting or the file.
    pub message: String,
}

impl<C: fmt::Debug + fmt::Display> Fault<C> {
    /// An error with its code.
    pub fn new(code: C, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    /// The same, found in `file`.
    #[must_use]
    pub fn within(self, file: &Path) -> Self {
        Self { message: format!("{}: {}", file.display(), self.message), ..self }
    }
}

impl<C> From<SettingsError> for Fault<C>
where
    C: fmt::Debug + fmt::Display + for<'a> From<&'a SettingsError>,
{
    fn from(error: SettingsError) -> Self {
        Self::new(C::from(&error), error.to_string())
    }
}
