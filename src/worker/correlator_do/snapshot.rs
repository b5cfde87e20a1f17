//! Snapshots of a correlator's counts: the tables `snapshot_part` and `sequences`.
//!
//! The alarm writes a snapshot every `correlate.snapshot_interval` seconds while batches arrive,
//! and once more if no batch has arrived since the last alarm. A new session begins with the
//! snapshot, after a restart of the object or a change of the rules.

use hedgerow_core::correlate::PARTITIONS;
use hedgerow_core::correlate::batch::SequenceTracker;
use worker::SqlStorageValue;

use super::{Correlator, Session, now};
use crate::platform::clock::now_seconds;
use crate::platform::log;
use crate::platform::panic::catch_panic;
use crate::platform::sql::integer;

/// Maximum bytes of a partition in one row. A row of a Durable Object's SQLite has at most two
/// megabytes.
const CHUNK_BYTES: usize = 1 << 20;

impl Correlator {
    /// Restores the snapshot into a new session. A partition that cannot be decoded is left out.
    ///
    /// # Errors
    /// If the tables cannot be read.
    // Not inlined: see `catch_panic`.
    #[inline(never)]
    pub(super) fn restore(&self, mut session: Session) -> Result<Session, String> {
        for partition in 0..PARTITIONS {
            let query = "SELECT bytes FROM snapshot_part WHERE number = ? ORDER BY chunk";
            let bytes = self.read_blob(query, vec![integer(partition as u64)])?;
            if bytes.is_empty() {
                continue;
            }
            let restored = catch_panic(|| session.correlator.merge_partition(&bytes, now()));
            if !matches!(restored, Some(Ok(()))) {
                let error = "a partition of the snapshot cannot be decoded";
                log::correlator_error("restore", error);
            }
        }
        let sequences = self.read_blob("SELECT bytes FROM sequences", Vec::new())?;
        session.sequences = SequenceTracker::decode(&sequences).unwrap_or_default();
        Ok(session)
    }

    /// Writes the partitions that have changed, and the sequence numbers. Nothing is awaited
    /// between the writes, so that the platform commits all of them or none.
    pub(super) fn write_snapshot(&self) -> worker::Result<()> {
        let mut session = self.session.borrow_mut();
        let Some(session) = session.as_mut() else { return Ok(()) };
        let sql = self.sql();
        while let Some((partition, bytes)) = session.correlator.first_dirty_partition() {
            let number = || integer(partition as u64);
            let chunks = bytes.chunks(CHUNK_BYTES);
            let query = "DELETE FROM snapshot_part WHERE number = ? AND chunk >= ?";
            sql.exec(query, vec![number(), integer(chunks.len() as u64)])?;
            for (chunk, bytes) in chunks.enumerate() {
                let query =
                    "INSERT OR REPLACE INTO snapshot_part (number, chunk, bytes) VALUES (?, ?, ?)";
                sql.exec(query, vec![number(), integer(chunk as u64), bytes.to_vec().into()])?;
            }
            session.correlator.mark_saved(partition);
        }
        let sequences = session.sequences.encode().into();
        sql.exec("INSERT OR REPLACE INTO sequences (id, bytes) VALUES (0, ?)", vec![sequences])?;
        self.last_snapshot.set(now_seconds());
        Ok(())
    }

    /// Returns the blobs in all rows of a query, concatenated.
    fn read_blob(&self, query: &str, values: Vec<SqlStorageValue>) -> Result<Vec<u8>, String> {
        let rows = self.sql().exec(query, values).map_err(|error| error.to_string())?;
        let mut blob = Vec::new();
        for row in rows.raw() {
            for value in row.map_err(|error| error.to_string())? {
                if let SqlStorageValue::Blob(bytes) = value {
                    blob.extend(bytes);
                }
            }
        }
        Ok(blob)
    }
}
