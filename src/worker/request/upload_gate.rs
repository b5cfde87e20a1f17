//! The gate of a large upload, which holds the end of the upload back until the end is scored.
//!
//! A body beyond the policy's limit is not held in memory, and neither is a slow one whose memory
//! other bodies need. Such a body streams to the origin while the client is still sending it. An
//! origin does not act on JSON without its end. So the gate holds back the end, at most the last
//! mebibyte. After the end is scored, the gate either forwards it or aborts the request to the
//! origin.

use std::collections::VecDeque;

use futures_channel::oneshot::{Receiver, Sender, channel};
use futures_util::future::{Either, select};
use hedgerow_core::extract::json_position::JsonPosition;
use hedgerow_core::http::envelope::ReadStop;
use js_sys::Uint8Array;
use js_sys::futures::JsFuture;
use web_sys::WritableStreamDefaultWriter;
use worker::Delay;

use crate::request::body_chunk::{CHUNK_BYTES, Unread, UploadAborted, chunk_from_result};
use crate::request::body_memory::{MemoryLease, max_held_bytes};
use crate::request::upload_pace::{TICK, UploadPace};

/// The pump's side of a gate.
pub struct Gate {
    position: JsonPosition,
    /// Number of bytes of the body before the first held chunk.
    passed: u64,
    /// The last bytes that have arrived, which are not forwarded yet.
    held: HeldBytes,
    /// The lease of the memory that the held chunks take.
    memory: MemoryLease,
    end: Sender<BodyEnd>,
    may_forward: Receiver<bool>,
}

/// The scorer's side of a gate.
pub struct GateHandle {
    /// Receives the end of the body. Cancelled if the client's upload or the request to the origin
    /// ended early.
    pub end: Receiver<BodyEnd>,
    /// Sends whether the end may be forwarded. Dropping the sender aborts the request to the
    /// origin.
    pub may_forward: Sender<bool>,
}

/// The end of a body, as JSON.
pub struct BodyEnd {
    /// Text that opens the JSON objects and lists in which the last bytes begin, and then the last
    /// bytes.
    pub json: Vec<u8>,
    /// Number of bytes of the opening text in `json`.
    pub opening_bytes: usize,
    /// Number of bytes of the whole body, or of the part that has arrived.
    pub body_bytes: u64,
    /// Reason why reading stopped before the end; `None` if `json` has the end of the body.
    pub read_stop: Option<ReadStop>,
}

/// The work that remains after a gate.
#[derive(PartialEq, Eq)]
pub enum Remainder {
    /// Nothing: the whole body was forwarded, or the origin stopped reading.
    Nothing,
    /// The rest of the body must be forwarded without being read.
    Unread,
}

impl Gate {
    /// Creates a gate for a body whose beginning was read. The last bytes of the beginning are held
    /// back, too. They are scored again together with the end, because the end may be too short on
    /// its own.
    pub fn new(beginning: &[u8], memory: MemoryLease) -> (Self, GateHandle) {
        let (end, end_receiver) = channel();
        let (may_forward_sender, may_forward) = channel();
        let passed = beginning.len().saturating_sub(OVERLAP_BYTES);
        let (before, held) = beginning.split_at_checked(passed).unwrap_or((beginning, &[]));
        let mut position = JsonPosition::default();
        position.advance(before);
        let gate = Self {
            position,
            passed: passed as u64,
            held: HeldBytes::new(held),
            memory,
            end,
            may_forward,
        };
        (gate, GateHandle { end: end_receiver, may_forward: may_forward_sender })
    }

    /// Returns the number of bytes of the beginning that are not held back.
    pub fn prefix_bytes(&self) -> usize {
        usize::try_from(self.passed).unwrap_or(usize::MAX)
    }

    /// Returns the number of bytes of the body that have arrived.
    fn received(&self) -> u64 {
        self.passed.saturating_add(self.held.bytes as u64)
    }

    /// Copies the rest of the body to the origin, except for its end. Then waits until the scorer
    /// decides whether the end may be forwarded, and forwards or discards the end.
    ///
    /// # Errors
    /// If the upload ends early, or if the end may not be forwarded.
    pub async fn run(
        mut self,
        unread: &mut Unread,
        writer: &WritableStreamDefaultWriter,
    ) -> Result<Remainder, UploadAborted> {
        let mut pace = UploadPace::without_deadline(self.received());
        let mut tick = Delay::from(TICK);
        let mut buffer: Option<Uint8Array> = None;
        let read_stop = loop {
            let read = unread.pending_read.take().unwrap_or_else(|| {
                let view =
                    buffer.take().unwrap_or_else(|| Uint8Array::new_with_length(CHUNK_BYTES));
                JsFuture::from(unread.reader.read_with_array_buffer_view(&view))
            });
            let chunk = match self.wait_for_chunk(read, &mut pace, &mut tick).await {
                Ok(Ok(chunk)) => chunk,
                Ok(Err(UploadAborted)) => return abort(writer).await,
                Err((read_stop, read)) => {
                    unread.pending_read = Some(read);
                    break Some(read_stop);
                }
            };
            let Some(chunk) = chunk else { break None };
            buffer = self.held.push(chunk);
            if !self.pass_excess(writer).await {
                return Ok(Remainder::Nothing);
            }
            // Check this here, too: an upload that never pauses does not reach the check at each
            // tick.
            if self.memory.must_yield() {
                break Some(ReadStop::Crowded);
            }
        };
        self.finish(read_stop, writer).await
    }

    /// Waits for a read. Returns the chunk; `None` at the end of the body. The inner error means
    /// that the upload ended early. The outer error means that the upload is too slow, or another
    /// body needs the memory: the error contains the reason and the pending read.
    async fn wait_for_chunk(
        &self,
        mut read: JsFuture,
        pace: &mut UploadPace,
        tick: &mut Delay,
    ) -> Result<Result<Option<Uint8Array>, UploadAborted>, (ReadStop, JsFuture)> {
        loop {
            match select(read, &mut *tick).await {
                Either::Left((result, _)) => {
                    return Ok(result.map(chunk_from_result).map_err(|_| UploadAborted));
                }
                Either::Right((_, pending_read)) => {
                    *tick = Delay::from(TICK);
                    read = pending_read;
                }
            }
            if pace.is_late(self.received()) {
                return Err((ReadStop::Late, read));
            }
            if self.memory.must_yield() {
                return Err((ReadStop::Crowded, read));
            }
        }
    }

    /// Forwards the first held chunks until the others fit into [`max_held_bytes`]. Returns whether
    /// the origin still reads. An origin that stops reading has answered already, or has
    /// disconnected.
    async fn pass_excess(&mut self, writer: &WritableStreamDefaultWriter) -> bool {
        while self.held.bytes > max_held_bytes() {
            let Some(first) = self.held.pop() else { break };
            let bytes = first.to_vec();
            self.position.advance(&bytes);
            self.passed = self.passed.saturating_add(bytes.len() as u64);
            if JsFuture::from(writer.write_with_chunk(&first)).await.is_err() {
                return false;
            }
        }
        true
    }

    /// Sends the held chunks to the scorer, and waits for its answer. Then forwards the chunks, or
    /// aborts the request to the origin if they may not be forwarded.
    async fn finish(
        self,
        read_stop: Option<ReadStop>,
        writer: &WritableStreamDefaultWriter,
    ) -> Result<Remainder, UploadAborted> {
        let Self { position, passed, held, memory: _memory, end, may_forward, .. } = self;
        let mut json = position.opening();
        let opening_bytes = json.len();
        let chunks = held.into_chunks();
        chunks.iter().for_each(|chunk| json.extend_from_slice(&chunk.to_vec()));
        let body_bytes = passed.saturating_add((json.len() - opening_bytes) as u64);
        let _ = end.send(BodyEnd { json, opening_bytes, body_bytes, read_stop });
        if may_forward.await != Ok(true) {
            return abort(writer).await;
        }
        for chunk in chunks {
            if JsFuture::from(writer.write_with_chunk(&chunk)).await.is_err() {
                return Ok(Remainder::Nothing);
            }
        }
        if read_stop.is_some() {
            return Ok(Remainder::Unread);
        }
        let _ = JsFuture::from(writer.close()).await;
        Ok(Remainder::Nothing)
    }
}

/// Bytes that are held back, in JavaScript's memory.
///
/// A chunk keeps in memory the whole buffer into which it was read. If a client sends single bytes,
/// each byte would take a buffer. So small chunks are copied together into one buffer.
struct HeldBytes {
    /// Full chunks.
    chunks: VecDeque<Uint8Array>,
    /// The buffer of the last chunk, which is not full.
    last: Uint8Array,
    last_bytes: u32,
    /// Bytes in all chunks.
    bytes: usize,
}

impl HeldBytes {
    fn new(bytes: &[u8]) -> Self {
        let last = Uint8Array::new_with_length(CHUNK_BYTES);
        let mut held = Self { chunks: VecDeque::new(), last, last_bytes: 0, bytes: 0 };
        for chunk in bytes.chunks(CHUNK_BYTES as usize) {
            held.push(Uint8Array::from(chunk));
        }
        held
    }

    /// Appends a chunk of at most 64 KiB. Returns its buffer for the next read, unless the chunk
    /// itself is held.
    fn push(&mut self, chunk: Uint8Array) -> Option<Uint8Array> {
        let length = chunk.length();
        self.bytes = self.bytes.saturating_add(length as usize);
        if self.last_bytes == 0 && length == CHUNK_BYTES {
            self.chunks.push_back(chunk);
            return None;
        }
        let room = CHUNK_BYTES.saturating_sub(self.last_bytes).min(length);
        self.last.set(&chunk.subarray(0, room), self.last_bytes);
        self.last_bytes = self.last_bytes.saturating_add(room);
        if self.last_bytes >= CHUNK_BYTES {
            let next = Uint8Array::new_with_length(CHUNK_BYTES);
            next.set(&chunk.subarray(room, length), 0);
            self.chunks.push_back(std::mem::replace(&mut self.last, next));
            self.last_bytes = length.saturating_sub(room);
        }
        Some(Uint8Array::new(&chunk.buffer()))
    }

    /// Removes and returns the first full chunk; `None` if no chunk is full.
    fn pop(&mut self) -> Option<Uint8Array> {
        let chunk = self.chunks.pop_front()?;
        self.bytes = self.bytes.saturating_sub(chunk.length() as usize);
        Some(chunk)
    }

    /// Returns all chunks.
    fn into_chunks(mut self) -> VecDeque<Uint8Array> {
        if self.last_bytes > 0 {
            self.chunks.push_back(self.last.subarray(0, self.last_bytes));
        }
        self.chunks
    }
}

/// Aborts the request to the origin. Always returns an error.
async fn abort<T>(writer: &WritableStreamDefaultWriter) -> Result<T, UploadAborted> {
    let _ = JsFuture::from(writer.abort()).await;
    Err(UploadAborted)
}

/// Bytes of the beginning that are held back: the minimum that may be held back for any body.
const OVERLAP_BYTES: usize = 128 << 10;
