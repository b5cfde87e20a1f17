//! A request from a file or from standard input.

use std::io::Read;
use std::path::Path;

use hedgerow::recorded::Recorded;

use super::account::Accounts;
use super::{Failure, Result};

/// Reads one request from a file, or from standard input where the path is `-`.
pub fn read_one(path: &Path) -> Result<Recorded> {
    let mut bytes = Vec::new();
    let read = match path.to_str() {
        Some("-") => std::io::stdin().read_to_end(&mut bytes).map(|_| ()),
        _ => std::fs::read(path).map(|read| bytes = read),
    };
    read.map_err(|error| Failure::Unable(format!("{}: {error}", path.display())))?;
    let recorded = Recorded::parse(&bytes);
    let mut recorded =
        recorded.map_err(|problem| Failure::Unable(format!("{}: {problem}", path.display())))?;
    Accounts::new().name(&mut recorded);
    Ok(recorded)
}
