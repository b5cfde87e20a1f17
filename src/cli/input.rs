//! A request from a file or from standard input.

use std::io::Read;
use std::path::Path;

use hedgerow_sigma::recorded::RecordedRequest;

use crate::account_ids::AccountIds;
use crate::{Error, Result};

/// Reads one request from a file, or from standard input where the path is `-`.
pub fn read_request(path: &Path) -> Result<RecordedRequest> {
    let mut bytes = Vec::new();
    let result = match path.to_str() {
        Some("-") => std::io::stdin().read_to_end(&mut bytes).map(|_| ()),
        _ => std::fs::read(path).map(|contents| bytes = contents),
    };
    result.map_err(|error| Error::Io(format!("{}: {error}", path.display())))?;
    let recorded = RecordedRequest::parse(&bytes);
    let mut recorded =
        recorded.map_err(|problem| Error::Io(format!("{}: {problem}", path.display())))?;
    AccountIds::new().assign_account(&mut recorded);
    Ok(recorded)
}
