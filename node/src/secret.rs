//! Secrets: read from a file or the environment, compared in constant time, never printed.

use std::fmt;
use std::path::Path;

use subtle::ConstantTimeEq;

use crate::fault::{Code, Fault};

/// A password or token.
#[derive(Clone)]
pub struct Secret(String);

impl Secret {
    /// From `file` where one is named, else from `variable`, else none.
    pub fn load(file: &Path, variable: &str) -> Result<Option<Self>, Fault> {
        let text = if file.as_os_str().is_empty() {
            std::env::var(variable).unwrap_or_default()
        } else {
            std::fs::read_to_string(file)
                .map_err(|error| Fault::new(Code::Secret, format!("{}: {error}", file.display())))?
        };
        let text = text.trim_end_matches(['\r', '\n']);
        if text.is_empty() && !file.as_os_str().is_empty() {
            return Err(Fault::new(Code::Secret, format!("{} is empty", file.display())));
        }
        Ok((!text.is_empty()).then(|| Self(text.to_owned())))
    }

    /// A secret from memory.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self(text.to_owned())
    }

    /// Whether `given` is the secret; how much of it is right cannot be timed.
    #[must_use]
    pub fn is(&self, given: &str) -> bool {
        self.0.as_bytes().ct_eq(given.as_bytes()).into()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_not_printed_and_not_its_prefix() {
        let secret = Secret::new("hunter2");
        assert_eq!(format!("{secret:?}"), "(secret)");
        assert!(secret.is("hunter2") && !secret.is("hunter") && !secret.is(""));
    }

    #[test]
    fn a_named_file_must_hold_one() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("token");
        assert!(Secret::load(&file, "SEAM_NONE").is_err());
        std::fs::write(&file, "\n").unwrap();
        assert!(Secret::load(&file, "SEAM_NONE").is_err());
        std::fs::write(&file, "abc\n").unwrap();
        assert!(Secret::load(&file, "SEAM_NONE").unwrap().unwrap().is("abc"));
        assert!(Secret::load(Path::new(""), "SEAM_NONE").unwrap().is_none());
    }
}
