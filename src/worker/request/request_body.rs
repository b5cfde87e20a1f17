//! The body of a client's request. It is read up to a limit, and the rest is streamed to the
//! origin.
//!
//! If the declared length is at most 64 KiB and the isolate has room, the platform reads the body
//! at once. Any other body is read in chunks, and at most the limit and one chunk are in Wasm's
//! memory. The stream is neither cloned nor split with `tee`, which buffers without a limit for the
//! slower side (cloudflare/workerd#5175).

use futures_util::future::{Either, select};
use hedgerow_core::http::envelope::ReadStop;
use hedgerow_core::rules::policy::Policy;
use js_sys::futures::JsFuture;
use js_sys::{Array, Function, Reflect, Uint8Array};
use wasm_bindgen::{JsCast, JsValue};
use web_sys::{
    ReadableStream, ReadableStreamByobReader, ReadableStreamDefaultReader, Request,
    TransformStream, WritableStream, WritableStreamDefaultWriter,
};
use worker::Delay;

use crate::request::body_chunk::{CHUNK_BYTES, Unread, UploadAborted, chunk_from_result};
use crate::request::body_memory::MemoryLease;
use crate::request::upload_gate::{Gate, Remainder};
use crate::request::upload_pace::{TICK, UploadPace};

/// A body that was read completely or in part.
pub struct RequestBody {
    /// The bytes that were read: at most `max_bytes` and one chunk.
    bytes: Vec<u8>,
    /// The same bytes in JavaScript, if the platform read the whole body at once. They are sent to
    /// the origin without another copy.
    js_bytes: Option<Uint8Array>,
    /// Maximum bytes that the core scans.
    max_bytes: usize,
    /// Length in bytes, as the client declared it.
    content_length: Option<u64>,
    /// Whether the request has a body. An empty body is a body.
    has_body: bool,
    /// The rest of the body; `None` if the body was read to its end.
    unread: Option<Unread>,
    /// Bytes of a message of a WebSocket that were not copied into Wasm's memory.
    left_out_bytes: u64,
    read_stop: Option<ReadStop>,
    /// Whether reading stopped below the limit because another body needs the memory.
    has_yielded: bool,
    /// The memory that `bytes` take; `None` for a request without a body.
    memory_lease: Option<MemoryLease>,
}

/// A body for the origin.
pub enum UpstreamBody {
    /// The request has no body.
    None,
    /// All bytes of the body. The platform sends their length.
    Buffered(Uint8Array),
    /// A stream, and the pump that writes the body to it.
    Stream(ReadableStream, Pump),
}

/// Copies a body that was not read to its end into a stream.
pub struct Pump {
    /// The bytes that were read, without the bytes that the gate holds.
    prefix: Uint8Array,
    /// The lease of the memory that these bytes take.
    memory_lease: Option<MemoryLease>,
    unread: Unread,
    /// The writable end of the stream.
    sink: WritableStream,
    /// Holds the end of the body back until it is scored. `None` if the rest is copied without
    /// being read.
    gate: Option<Gate>,
}

impl RequestBody {
    /// Reads until the body ends or exceeds the policy's limit, or until reading stops early
    /// because the upload is too slow or another body needs the memory.
    ///
    /// `content_length` is the declared length in bytes. A client can declare any length, so at
    /// most 64 KiB are reserved for it.
    ///
    /// # Errors
    /// If the upload ends early.
    pub async fn read(
        request: &Request,
        content_length: Option<u64>,
        policy: &Policy,
    ) -> Result<Self, UploadAborted> {
        let mut body = Self::of_message(Vec::new(), 0, policy);
        body.content_length = content_length;
        body.has_body = false;
        let Some(stream) = request.body() else { return Ok(body) };
        body.has_body = true;
        let small_bytes = content_length.and_then(|length| usize::try_from(length).ok());
        if let Some(bytes) = small_bytes.filter(|bytes| *bytes <= CHUNK_BYTES as usize)
            && let Some(lease) = MemoryLease::for_body_at_once(bytes)
        {
            body.memory_lease = Some(lease);
            body.read_all(request).await?;
            return Ok(body);
        }
        let lease = MemoryLease::for_body();
        body.read_chunks(stream, policy, &lease).await?;
        body.memory_lease = Some(lease);
        Ok(body)
    }

    /// Reads chunk by chunk, until the body ends or exceeds the limit, or until reading must stop
    /// early.
    async fn read_chunks(
        &mut self,
        stream: ReadableStream,
        policy: &Policy,
        lease: &MemoryLease,
    ) -> Result<(), UploadAborted> {
        let reader = ReadableStreamByobReader::new(&stream).map_err(|_| UploadAborted)?;
        let mut pace = UploadPace::new(policy);
        let mut tick = Delay::from(TICK);
        let mut buffer: Option<Uint8Array> = None;
        // One byte beyond the limit shows that the body is longer.
        while self.bytes.len() <= self.max_bytes {
            if !lease.wait_for_room(CHUNK_BYTES as usize).await {
                self.has_yielded = true;
                break;
            }
            let view = buffer.take().unwrap_or_else(|| {
                let bytes = first_buffer_bytes(self.content_length);
                lease.grow(bytes as usize);
                Uint8Array::new_with_length(bytes)
            });
            let mut read = JsFuture::from(reader.read_with_array_buffer_view(&view));
            let chunk = loop {
                match select(read, &mut tick).await {
                    Either::Left((result, _)) => {
                        break chunk_from_result(result.map_err(|_| UploadAborted)?);
                    }
                    Either::Right((_, pending_read)) => {
                        tick = Delay::from(TICK);
                        read = pending_read;
                    }
                }
                let is_late = pace.is_late(self.bytes.len() as u64);
                if is_late || lease.must_yield() {
                    self.read_stop = is_late.then_some(ReadStop::Late);
                    self.has_yielded = !is_late;
                    self.unread = Some(Unread { stream, reader, pending_read: Some(read) });
                    return Ok(());
                }
            };
            let Some(chunk) = chunk else { return Ok(()) };
            self.append(&chunk);
            lease.grow(chunk.length() as usize);
            // The read has moved the buffer into the chunk: take it back for the next read.
            buffer = Some(Uint8Array::new(&chunk.buffer()));
        }
        self.unread = Some(Unread { stream, reader, pending_read: None });
        Ok(())
    }

    /// Returns the body of a message of a WebSocket. It consists of `bytes` and of `left_out_bytes`
    /// more, which are not scored.
    pub fn of_message(bytes: Vec<u8>, left_out_bytes: u64, policy: &Policy) -> Self {
        Self {
            bytes,
            js_bytes: None,
            max_bytes: policy.scan.max_body,
            content_length: None,
            has_body: true,
            unread: None,
            left_out_bytes,
            read_stop: None,
            has_yielded: false,
            memory_lease: None,
        }
    }

    /// Reads a body with a small declared length, at once and without a deadline. A slow client
    /// only delays its own request, and its body is never scored only in part.
    async fn read_all(&mut self, request: &Request) -> Result<(), UploadAborted> {
        let read = request.array_buffer().map_err(|_| UploadAborted)?;
        let buffer = JsFuture::from(read).await.map_err(|_| UploadAborted)?;
        let bytes = Uint8Array::new(&buffer);
        self.append(&bytes);
        self.js_bytes = Some(bytes);
        Ok(())
    }

    /// Copies a chunk into Wasm's memory.
    fn append(&mut self, chunk: &Uint8Array) {
        let start = self.bytes.len();
        let end = start.saturating_add(chunk.length() as usize);
        if end > self.bytes.capacity() {
            // A vector that doubles its capacity would need memory for three times the body while
            // it grows.
            self.bytes.reserve_exact(end.saturating_sub(start).max(start / 4));
        }
        self.bytes.resize(end, 0);
        if let Some(destination) = self.bytes.get_mut(start..) {
            chunk.copy_to(destination);
        }
    }

    /// Returns the bytes that the core scans, at most the limit of the policy.
    pub fn scanned(&self) -> &[u8] {
        self.bytes.get(..self.max_bytes).unwrap_or(&self.bytes)
    }

    /// Returns the whole body, if all of it was read.
    pub fn complete_bytes(&self) -> Option<&[u8]> {
        let is_complete = self.unread.is_none() && self.left_out_bytes == 0;
        is_complete.then_some(self.bytes.as_slice())
    }

    /// Sets [`ReadStop::Crowded`] if reading stopped because another body needs the memory. Called
    /// if the end of the body cannot be scored.
    pub fn stop_if_yielded(&mut self) {
        if self.has_yielded && self.unread.is_some() {
            self.read_stop = Some(ReadStop::Crowded);
        }
    }

    /// Returns why less than the limit was read; `None` if the limit is reached, if the body is
    /// complete, or if its end can still be scored.
    pub fn read_stop(&self) -> Option<ReadStop> {
        self.read_stop
    }

    /// Returns whether the body continues after the bytes that were read, and may be JSON. A body
    /// that begins with hyphens is multipart, and not JSON. Returns false if
    /// [`read_stop`](Self::read_stop) is set.
    pub fn is_large_json(&self) -> bool {
        let text = self.bytes.trim_ascii_start();
        self.unread.is_some()
            && self.read_stop.is_none()
            && !text.is_empty()
            && !text.starts_with(b"--")
    }

    /// Returns all bytes that were read: the scanned bytes, and at most one chunk after them.
    pub fn read_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Returns the size of the whole body in bytes: the size that was read if the body was read to
    /// its end, otherwise the declared length. Returns `None` if the client declared no length.
    pub fn size(&self) -> Option<u64> {
        let read_bytes = (self.bytes.len() as u64).saturating_add(self.left_out_bytes);
        if self.unread.is_none() { Some(read_bytes) } else { self.content_length }
    }

    /// Returns the number of bytes that are not scored. If the number is unknown, returns a lower
    /// bound, at least 1.
    pub fn unscanned_bytes(&self) -> u64 {
        let scanned_bytes = self.scanned().len() as u64;
        match (&self.unread, self.content_length) {
            (None, _) => (self.bytes.len() as u64)
                .saturating_sub(scanned_bytes)
                .saturating_add(self.left_out_bytes),
            (Some(_), Some(content_length)) => content_length.saturating_sub(scanned_bytes),
            (Some(_), None) => (self.bytes.len() as u64).saturating_sub(scanned_bytes).max(1),
        }
    }

    /// Returns the body for the origin: the bytes that were read, and then the rest. The bytes
    /// leave Wasm's memory, which all requests of the isolate share, before the origin is called.
    ///
    /// With a `gate`, the end of a body that was not read to its end is held back. The gate already
    /// has the last bytes that were read.
    ///
    /// # Errors
    /// If the platform cannot create the stream.
    pub fn into_upstream_body(self, gate: Option<Gate>) -> Result<UpstreamBody, JsValue> {
        if !self.has_body {
            return Ok(UpstreamBody::None);
        }
        if let Some(js_bytes) = self.js_bytes {
            return Ok(UpstreamBody::Buffered(js_bytes));
        }
        let known_bytes = gate.as_ref().map_or(self.bytes.len(), Gate::prefix_bytes);
        let prefix = Uint8Array::from(self.bytes.get(..known_bytes).unwrap_or(&self.bytes));
        let Some(unread) = self.unread else { return Ok(UpstreamBody::Buffered(prefix)) };
        let channel = match self.content_length {
            // The platform enforces the declared length, so the same length can be declared to the
            // origin.
            Some(length) => native_transform_stream(
                "FixedLengthStream",
                &Array::of1(&JsValue::from_f64(length as f64)),
            )?,
            None => native_transform_stream("IdentityTransformStream", &Array::new())?,
        };
        Ok(UpstreamBody::Stream(
            channel.readable(),
            Pump {
                prefix,
                memory_lease: self.memory_lease,
                unread,
                sink: channel.writable(),
                gate,
            },
        ))
    }
}

impl Pump {
    /// Copies the whole body into the stream.
    ///
    /// # Errors
    /// If the client's upload ends early, or the end of the body may not be forwarded. If the
    /// origin stops reading, that is not an error, because the origin may have answered already.
    pub async fn run(self) -> Result<(), UploadAborted> {
        let Self { prefix, memory_lease, mut unread, sink, gate } = self;
        let Ok(writer) = sink.get_writer() else { return Ok(()) };
        if JsFuture::from(writer.write_with_chunk(&prefix)).await.is_err() {
            return Ok(());
        }
        drop(prefix);
        drop(memory_lease);
        if let Some(gate) = gate
            && gate.run(&mut unread, &writer).await? == Remainder::Nothing
        {
            return Ok(());
        }
        if let Some(pending_read) = unread.pending_read.take() {
            match pending_read.await {
                Ok(result) => match chunk_from_result(result) {
                    Some(chunk)
                        if JsFuture::from(writer.write_with_chunk(&chunk)).await.is_ok() => {}
                    Some(_) => return Ok(()),
                    None => return close_writer(&writer).await,
                },
                Err(_) => {
                    let _ = JsFuture::from(writer.abort()).await;
                    return Err(UploadAborted);
                }
            }
        }
        writer.release_lock();
        unread.reader.release_lock();
        // Both streams are native, so the platform copies the bytes without running Hedgerow's
        // code.
        match JsFuture::from(unread.stream.pipe_to(&sink)).await {
            Ok(_) => Ok(()),
            Err(_) => check_source(&unread.stream).await,
        }
    }
}

/// Returns an error if a pipe failed because of its source, and `Ok` if it failed because of its
/// sink.
async fn check_source(stream: &ReadableStream) -> Result<(), UploadAborted> {
    let reader = ReadableStreamDefaultReader::new(stream).map_err(|_| UploadAborted)?;
    JsFuture::from(reader.read()).await.map(drop).map_err(|_| UploadAborted)
}

/// Ends the stream. Errors are ignored: an origin that has stopped reading is not an error.
async fn close_writer(writer: &WritableStreamDefaultWriter) -> Result<(), UploadAborted> {
    let _ = JsFuture::from(writer.close()).await;
    Ok(())
}

/// Creates one of the platform's own transform streams, of the class `class`. Both ends of such a
/// stream are native, unlike the ends of the standard `TransformStream`.
fn native_transform_stream(class: &str, arguments: &Array) -> Result<TransformStream, JsValue> {
    let constructor: Function =
        Reflect::get(&js_sys::global(), &JsValue::from_str(class))?.dyn_into()?;
    Ok(Reflect::construct(&constructor, arguments)?.unchecked_into())
}

/// Returns the number of bytes of the first buffer: the declared length, clamped to 1 to 64 KiB, so
/// that most bodies need one read. Without a declared length, returns 64 KiB.
fn first_buffer_bytes(content_length: Option<u64>) -> u32 {
    content_length
        .and_then(|length| u32::try_from(length).ok())
        .map_or(CHUNK_BYTES, |length| length.clamp(1 << 10, CHUNK_BYTES))
}
