//! The gate of a large upload: its end is held back until it is scored.
//!
//! A body beyond the limit of the policy is not held in memory: it streams to the origin while the
//! client still sends it. No origin acts on JSON without its end, so that the gate holds back the
//! last mebibyte. It is scored, and then forwarded, or the request to the origin is aborted.

use std::collections::VecDeque;

use futures_channel::oneshot::{Receiver, Sender, channel};
use hedgerow_core::extract::json_position::JsonPosition;
use js_sys::Uint8Array;
use js_sys::futures::JsFuture;
use web_sys::{ReadableStreamByobReader, WritableStreamDefaultWriter};

use crate::request::body_chunk::{CHUNK_BYTES, UploadAborted, chunk_from_result};
use crate::request::body_memory::MemoryLease;

/// The pump's side of a gate.
pub struct Gate {
    position: JsonPosition,
    /// Bytes of the body before the first held chunk.
    passed: u64,
    /// The last chunks, not yet forwarded.
    held: VecDeque<Uint8Array>,
    held_bytes: usize,
    /// The share of the isolate's memory that the held chunks take.
    _memory: MemoryLease,
    end: Sender<BodyEnd>,
    verdict: Receiver<bool>,
}

/// The scorer's side of a gate.
pub struct GateKeeper {
    /// The end of the body. Cancelled if the upload, or the origin, ended early.
    pub end: Receiver<BodyEnd>,
    /// Whether the end may be forwarded. Dropping it aborts the request.
    pub verdict: Sender<bool>,
}

/// The end of a body, as JSON.
pub struct BodyEnd {
    /// The last bytes, after text that opens the objects and lists in which they begin.
    pub json: Vec<u8>,
    /// Bytes of that text.
    pub opening_bytes: usize,
    /// Bytes of the whole body.
    pub body_bytes: u64,
}

impl Gate {
    /// Creates a gate for a body of which `scored` is scored and forwarded, and `received` has been
    /// received after it.
    pub fn new(scored: &[u8], received: &[u8]) -> (Self, GateKeeper) {
        let (end, end_receiver) = channel();
        let (verdict_sender, verdict) = channel();
        let mut position = JsonPosition::default();
        position.advance(scored);
        let passed = scored.len() as u64;
        let mut memory = MemoryLease::default();
        memory.grow(MAX_HELD_BYTES);
        let gate = Self {
            position,
            passed,
            held: VecDeque::from([Uint8Array::from(received)]),
            held_bytes: received.len(),
            _memory: memory,
            end,
            verdict,
        };
        (gate, GateKeeper { end: end_receiver, verdict: verdict_sender })
    }

    /// Copies the rest of the body, without its end; then waits for the verdict.
    ///
    /// # Errors
    /// If the upload ends early, or if the end may not be forwarded.
    pub async fn run(
        mut self,
        reader: &ReadableStreamByobReader,
        writer: &WritableStreamDefaultWriter,
    ) -> Result<(), UploadAborted> {
        loop {
            let buffer = Uint8Array::new_with_length(CHUNK_BYTES);
            let read = JsFuture::from(reader.read_with_array_buffer_view(&buffer)).await;
            let Ok(result) = read else { return abort(writer).await };
            let Some(chunk) = chunk_from_result(result) else { break };
            self.held_bytes = self.held_bytes.saturating_add(chunk.length() as usize);
            self.held.push_back(chunk);
            while self.held_bytes > MAX_HELD_BYTES {
                let Some(first) = self.held.pop_front() else { break };
                self.pass(&first);
                // An origin that stops reading has answered already, or is gone.
                if JsFuture::from(writer.write_with_chunk(&first)).await.is_err() {
                    return Ok(());
                }
            }
        }
        let Self { position, passed, held, end, verdict, .. } = self;
        let mut json = position.opening();
        let opening_bytes = json.len();
        held.iter().for_each(|chunk| json.extend_from_slice(&chunk.to_vec()));
        let body_bytes = passed.saturating_add((json.len() - opening_bytes) as u64);
        let _ = end.send(BodyEnd { json, opening_bytes, body_bytes });
        if verdict.await != Ok(true) {
            return abort(writer).await;
        }
        for chunk in held {
            if JsFuture::from(writer.write_with_chunk(&chunk)).await.is_err() {
                return Ok(());
            }
        }
        let _ = JsFuture::from(writer.close()).await;
        Ok(())
    }

    /// Moves the position over a chunk that is forwarded.
    fn pass(&mut self, chunk: &Uint8Array) {
        let bytes = chunk.to_vec();
        self.position.advance(&bytes);
        self.held_bytes = self.held_bytes.saturating_sub(bytes.len());
        self.passed = self.passed.saturating_add(bytes.len() as u64);
    }
}

/// Aborts the request to the origin.
async fn abort(writer: &WritableStreamDefaultWriter) -> Result<(), UploadAborted> {
    let _ = JsFuture::from(writer.abort()).await;
    Err(UploadAborted)
}

/// Bytes at the end of a body that are held back and scored.
const MAX_HELD_BYTES: usize = 1 << 20;
