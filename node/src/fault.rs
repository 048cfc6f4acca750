//! Errors that an operator sees: each has a code, and `docs/errors.md` has a page for each code.

use std::fmt;

use seam_cluster::fault;
use seam_cluster::settings::SettingsError;

/// What stopped the node, or what it refuses to start with, in one line.
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
    /// The payout address is missing, mistyped or of another chain.
    PayoutAddress,
    /// An address cannot be listened on.
    Listen,
    /// A directory cannot be created or written.
    Directory,
    /// A file with a secret cannot be read.
    Secret,
    /// A certificate or key cannot be used.
    Certificate,
    /// A value is outside its limits.
    OutOfRange,
    /// Bitcoin Core did not start.
    CoreStart,
    /// Bitcoin Core asked to be shut down.
    CoreStopped,
    /// The ledger did not start.
    LedgerStart,
    /// A part of the node panicked.
    Panicked,
    /// The users file cannot be imported.
    UsersFile,
    /// Shares could not be committed in time.
    NoQuorum,
    /// Bitcoin Core refused a block that we solved.
    BlockRefused,
    /// Stopping took longer than allowed.
    StopTooSlow,
    /// A solved block could not be kept on disk.
    BlockNotKept,
    /// Bitcoin Core finds fault with its own template.
    TemplateRefused,
    /// The ledger's store failed while it ran.
    LedgerFailed,
}

impl Code {
    /// Every code, in the order of the document.
    pub const ALL: [Self; 20] = [
        Self::ConfigUnreadable,
        Self::ConfigInvalid,
        Self::UnknownKey,
        Self::PayoutAddress,
        Self::Listen,
        Self::Directory,
        Self::Secret,
        Self::Certificate,
        Self::OutOfRange,
        Self::CoreStart,
        Self::CoreStopped,
        Self::LedgerStart,
        Self::Panicked,
        Self::UsersFile,
        Self::NoQuorum,
        Self::BlockRefused,
        Self::StopTooSlow,
        Self::BlockNotKept,
        Self::TemplateRefused,
        Self::LedgerFailed,
    ];

    /// 2 where the operator has to change the configuration, 1 otherwise.
    #[must_use]
    pub fn exit_code(self) -> u8 {
        match self {
            Self::ConfigUnreadable
            | Self::ConfigInvalid
            | Self::UnknownKey
            | Self::PayoutAddress
            | Self::Listen
            | Self::Directory
            | Self::Secret
            | Self::Certificate
            | Self::OutOfRange
            | Self::UsersFile => 2,
            Self::CoreStart
            | Self::CoreStopped
            | Self::LedgerStart
            | Self::Panicked
            | Self::NoQuorum
            | Self::BlockRefused
            | Self::StopTooSlow
            | Self::BlockNotKept
            | Self::TemplateRefused
            | Self::LedgerFailed => 1,
        }
    }

    /// As it is printed, for example `SEAM-N003`.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::ConfigUnreadable => "SEAM-N001",
            Self::ConfigInvalid => "SEAM-N002",
            Self::UnknownKey => "SEAM-N003",
            Self::PayoutAddress => "SEAM-N004",
            Self::Listen => "SEAM-N005",
            Self::Directory => "SEAM-N006",
            Self::Secret => "SEAM-N007",
            Self::Certificate => "SEAM-N008",
            Self::OutOfRange => "SEAM-N009",
            Self::CoreStart => "SEAM-N010",
            Self::CoreStopped => "SEAM-N011",
            Self::LedgerStart => "SEAM-N012",
            Self::Panicked => "SEAM-N013",
            Self::UsersFile => "SEAM-N014",
            Self::NoQuorum => "SEAM-N015",
            Self::BlockRefused => "SEAM-N016",
            Self::StopTooSlow => "SEAM-N017",
            Self::BlockNotKept => "SEAM-N018",
            Self::TemplateRefused => "SEAM-N019",
            Self::LedgerFailed => "SEAM-N020",
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
