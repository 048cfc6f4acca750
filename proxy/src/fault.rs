//! Errors that an operator sees: each has a code, and `docs/errors.md` has a page for each code.

use std::fmt;

use seam_cluster::fault;
use seam_cluster::settings::SettingsError;

/// What stopped the proxy, or what it refuses to start with, in one line.
pub type Fault = fault::Fault<Code>;

/// The codes of `docs/errors.md`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// The configuration file cannot be read.
    ConfigUnreadable,
    /// The configuration is not TOML, or a value has the wrong type.
    ConfigInvalid,
    /// A key that Seam does not have.
    UnknownKey,
    /// A value is outside its limits.
    OutOfRange,
    /// An address cannot be listened on.
    Listen,
    /// A file with a secret cannot be read.
    Secret,
    /// A certificate or key cannot be used.
    Certificate,
    /// A part of the proxy panicked.
    Panicked,
}

impl Code {
    /// Every code, in the order of the document.
    pub const ALL: [Self; 8] = [
        Self::ConfigUnreadable,
        Self::ConfigInvalid,
        Self::UnknownKey,
        Self::OutOfRange,
        Self::Listen,
        Self::Secret,
        Self::Certificate,
        Self::Panicked,
    ];

    /// 2 where the operator has to change the configuration, 1 otherwise.
    pub fn exit_code(self) -> u8 {
        if self == Self::Panicked { 1 } else { 2 }
    }

    /// As it is printed, for example `SEAM-P003`.
    pub fn label(self) -> &'static str {
        match self {
            Self::ConfigUnreadable => "SEAM-P001",
            Self::ConfigInvalid => "SEAM-P002",
            Self::UnknownKey => "SEAM-P003",
            Self::OutOfRange => "SEAM-P004",
            Self::Listen => "SEAM-P005",
            Self::Secret => "SEAM-P006",
            Self::Certificate => "SEAM-P007",
            Self::Panicked => "SEAM-P008",
        }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

impl From<&SettingsError> for Code {
    fn from(error: &SettingsError) -> Self {
        match error {
            SettingsError::Unreadable(_) => Self::ConfigUnreadable,
            SettingsError::Invalid(_) => Self::ConfigInvalid,
            SettingsError::UnknownKey(_) => Self::UnknownKey,
            SettingsError::OutOfRange(_) => Self::OutOfRange,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Code;

    #[test]
    fn every_code_has_its_page() {
        let document = include_str!("../../docs/errors.md");
        for code in Code::ALL {
            assert!(document.contains(&format!("## {code}")), "{code} is not in docs/errors.md");
        }
    }
}
