//! Why a command did not succeed, and the exit code that says so to scripts.

use std::process::ExitCode;

/// Shown at the end of `--help`, so that a script's author needs no other page.
pub(crate) const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  refused or failed: the message says by whom and why
  2  wrong usage, or a file that was named cannot be used
  3  unreachable: no admin address answered in time";

/// A command's failure; each kind has its own exit code.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The other side refused, or the work itself failed.
    #[error("{0}")]
    Refused(String),
    /// What was asked for makes no sense, or a named file cannot be used.
    #[error("{0}")]
    Usage(String),
    /// Nobody answered.
    #[error("{0}")]
    Unreachable(String),
}

impl Failure {
    /// The process exit code, as `EXIT_CODES` documents it (2 is also what clap exits with).
    pub(crate) fn exit_code(&self) -> ExitCode {
        match self {
            Self::Refused(_) => ExitCode::from(1),
            Self::Usage(_) => ExitCode::from(2),
            Self::Unreachable(_) => ExitCode::from(3),
        }
    }
}
