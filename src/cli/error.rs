//! The outcome of a command, its errors, and the exit code of each.
//!
//! - 0: success.
//! - 1: findings or rejection. Rules or a scenario have errors, recorded lines are not readable,
//!   the registry or the noise budget rejected the command, or a rollout did not complete in time.
//! - 2: wrong usage, or a file or the registry could not be read or written.

use std::io;
use std::path::Path;
use std::process::ExitCode;

/// The outcome of a command that did its work.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Exit code 0.
    Success,
    /// Exit code 1: the command found and printed problems that need a correction.
    Findings,
}

/// The reason why a command did not do its work.
#[derive(Debug)]
pub enum Error {
    /// Exit code 2: wrong usage, or a file, a key or the network failed.
    Io(String),
    /// Exit code 1: the command, the registry or the noise budget refuses this input or this state.
    Rejected(String),
    /// Exit code 0: the program that reads standard output, such as `head`, has closed the pipe.
    BrokenPipe,
}

/// The result of a command, or of a step of it.
pub type Result<T> = std::result::Result<T, Error>;

impl Outcome {
    /// Returns `Success` if `is_complete`, otherwise `Findings`.
    pub fn from_complete(is_complete: bool) -> Self {
        if is_complete { Self::Success } else { Self::Findings }
    }

    /// Returns the exit code.
    pub fn exit_code(self) -> ExitCode {
        match self {
            Self::Success => ExitCode::SUCCESS,
            Self::Findings => ExitCode::from(1),
        }
    }
}

/// Returns the error for a file or directory that could not be read or written.
pub fn io_error(path: &Path, error: &io::Error) -> Error {
    Error::Io(format!("{}: {error}", path.display()))
}
