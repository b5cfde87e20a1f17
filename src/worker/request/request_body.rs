//! The body of a client's request: read up to the scan window, the rest streamed to the origin.
//!
//! The platform reads a body at once if its declared length is at most 64 KiB. Of any other body at
//! most the window and one chunk are in Wasm's memory. The stream is neither cloned nor teed: a tee
//! buffers without bound for the slower side (cloudflare/workerd#5175).

use std::cell::Cell;
use std::time::Duration;

use futures_util::future::{Either, select};
use js_sys::futures::JsFuture;
use js_sys::{Array, Function, Reflect, Uint8Array};
use wasm_bindgen::{JsCast, JsValue};
use web_sys::{
    ReadableStream, ReadableStreamByobReader, ReadableStreamDefaultReader,
    ReadableStreamReadResult, Request, TransformStream, WritableStream,
    WritableStreamDefaultWriter,
};
use worker::Delay;

/// A body that was read, at least in part.
pub struct RequestBody {
    /// The bytes that were read: up to `scan_window` and one chunk.
    bytes: Vec<u8>,
    /// The same bytes in JavaScript, if the platform read all of them: they are sent without a
    /// copy.
    js_bytes: Option<Uint8Array>,
    /// Maximum number of bytes that are scored.
    scan_window: usize,
    /// Length in bytes, as the client declared it.
    content_length: Option<u64>,
    /// Whether the request has a body. An empty body is a body.
    has_body: bool,
    /// The rest of the body; `None` if the body was read to its end.
    unread: Option<Unread>,
    read_stop: Option<ReadStop>,
    memory_lease: MemoryLease,
}

/// Reason why less than the scan window was read.
#[derive(Clone, Copy, Debug)]
pub enum ReadStop {
    /// The client took longer than ten seconds.
    Timeout,
    /// The isolate holds too many bytes of bodies.
    MemoryPressure,
}

/// The part of a body that has not been read.
struct Unread {
    stream: ReadableStream,
    reader: ReadableStreamByobReader,
    /// A read that was pending at the deadline. It must complete before the reader is released.
    pending_read: Option<JsFuture>,
}

/// A body for the origin.
pub enum UpstreamBody {
    /// The request has no body.
    None,
    /// All bytes. The platform sends their length.
    Buffered(Uint8Array),
    /// A stream, and the pump that fills it.
    Stream(ReadableStream, Pump),
}

/// Fills the stream of a body that was not read to its end.
pub struct Pump {
    /// The bytes that were read.
    prefix: Uint8Array,
    unread: Unread,
    /// The writable end of the stream.
    sink: WritableStream,
}

/// The client's upload ended early.
#[derive(Debug)]
pub struct UploadAborted;

impl RequestBody {
    /// Reads until the body ends, exceeds `scan_window`, times out or uses up its share of memory.
    ///
    /// `content_length` is the declared length in bytes. A client can declare any length, so that
    /// no memory is reserved for it.
    ///
    /// # Errors
    /// If the upload ends early.
    pub async fn read(
        request: &Request,
        content_length: Option<u64>,
        scan_window: usize,
    ) -> Result<Self, UploadAborted> {
        let memory_lease = MemoryLease::default();
        let mut body = Self {
            bytes: Vec::new(),
            js_bytes: None,
            scan_window,
            content_length,
            has_body: false,
            unread: None,
            read_stop: None,
            memory_lease,
        };
        let Some(stream) = request.body() else { return Ok(body) };
        body.has_body = true;
        if content_length.is_some_and(|length| length <= u64::from(CHUNK_BYTES)) {
            body.read_all(request).await?;
            return Ok(body);
        }
        let reader = ReadableStreamByobReader::new(&stream).map_err(|_| UploadAborted)?;
        let mut deadline = Delay::from(READ_TIMEOUT);
        let mut buffer = Uint8Array::new_with_length(first_buffer_bytes(content_length));
        // One byte beyond the window shows that there is more.
        while body.bytes.len() <= scan_window && !body.memory_lease.is_over_limit() {
            let read = JsFuture::from(reader.read_with_array_buffer_view(&buffer));
            match select(read, &mut deadline).await {
                Either::Left((read, _)) => {
                    match chunk_from_result(read.map_err(|_| UploadAborted)?) {
                        Some(chunk) => {
                            body.append(&chunk);
                            // The read detached the buffer; the chunk has it.
                            buffer = Uint8Array::new(&chunk.buffer());
                        }
                        None => return Ok(body),
                    }
                }
                Either::Right((_, pending_read)) => {
                    body.unread = Some(Unread { stream, reader, pending_read: Some(pending_read) });
                    body.read_stop = Some(ReadStop::Timeout);
                    return Ok(body);
                }
            }
        }
        body.unread = Some(Unread { stream, reader, pending_read: None });
        body.read_stop = (body.bytes.len() <= scan_window).then_some(ReadStop::MemoryPressure);
        Ok(body)
    }

    /// Reads a body that is declared as small, at once and without a deadline: a slow client only
    /// delays itself, and cannot have its body scored in part.
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
        self.bytes.resize(start.saturating_add(chunk.length() as usize), 0);
        if let Some(destination) = self.bytes.get_mut(start..) {
            chunk.copy_to(destination);
        }
        self.memory_lease.grow(chunk.length() as usize);
    }

    /// Returns the bytes that are scored: at most the scan window.
    pub fn scanned(&self) -> &[u8] {
        self.bytes.get(..self.scan_window).unwrap_or(&self.bytes)
    }

    /// Returns the whole body, if all of it was read.
    pub fn complete_bytes(&self) -> Option<&[u8]> {
        self.unread.is_none().then_some(self.bytes.as_slice())
    }

    /// Returns why less than the window was read; `None` if the window is full or the body
    /// complete.
    pub fn read_stop(&self) -> Option<ReadStop> {
        self.read_stop
    }

    /// Returns the bytes of the whole body: counted if it was read to its end, else as declared;
    /// `None` if neither is known.
    pub fn size(&self) -> Option<u64> {
        if self.unread.is_none() { Some(self.bytes.len() as u64) } else { self.content_length }
    }

    /// Returns the number of bytes that are not scored. If the number is unknown, returns a lower
    /// bound, at least 1.
    pub fn unscanned_bytes(&self) -> u64 {
        let scanned_bytes = self.scanned().len() as u64;
        match (&self.unread, self.content_length) {
            (None, _) => (self.bytes.len() as u64).saturating_sub(scanned_bytes),
            (Some(_), Some(content_length)) => content_length.saturating_sub(scanned_bytes),
            (Some(_), None) => (self.bytes.len() as u64).saturating_sub(scanned_bytes).max(1),
        }
    }

    /// Returns the body for the origin: the bytes that were read, then the rest. They leave Wasm's
    /// memory, which all requests of the isolate share, before the origin is called.
    pub fn into_upstream_body(self) -> Result<UpstreamBody, JsValue> {
        if !self.has_body {
            return Ok(UpstreamBody::None);
        }
        if let Some(js_bytes) = self.js_bytes {
            return Ok(UpstreamBody::Buffered(js_bytes));
        }
        let prefix = Uint8Array::from(self.bytes.as_slice());
        let Some(unread) = self.unread else { return Ok(UpstreamBody::Buffered(prefix)) };
        let channel = match self.content_length {
            // The platform enforces the declared length, so that it can be declared to the origin.
            Some(length) => native_transform_stream(
                "FixedLengthStream",
                &Array::of1(&JsValue::from_f64(length as f64)),
            )?,
            None => native_transform_stream("IdentityTransformStream", &Array::new())?,
        };
        Ok(UpstreamBody::Stream(
            channel.readable(),
            Pump { prefix, unread, sink: channel.writable() },
        ))
    }
}

impl Pump {
    /// Copies the whole body into the stream.
    ///
    /// # Errors
    /// If the client's upload ends early. An origin that stops reading is not an error: it may have
    /// answered already.
    pub async fn run(self) -> Result<(), UploadAborted> {
        let Self { prefix, mut unread, sink } = self;
        let Ok(writer) = sink.get_writer() else { return Ok(()) };
        if JsFuture::from(writer.write_with_chunk(&prefix)).await.is_err() {
            return Ok(());
        }
        drop(prefix);
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
        // Both streams are native: the platform copies the bytes without running any of our code.
        match JsFuture::from(unread.stream.pipe_to(&sink)).await {
            Ok(_) => Ok(()),
            Err(_) => check_source(&unread.stream).await,
        }
    }
}

/// Finds out why a pipe failed: returns an error if the source failed, `Ok` if the sink did.
async fn check_source(stream: &ReadableStream) -> Result<(), UploadAborted> {
    let reader = ReadableStreamDefaultReader::new(stream).map_err(|_| UploadAborted)?;
    JsFuture::from(reader.read()).await.map(drop).map_err(|_| UploadAborted)
}

/// Ends the stream. An origin that has stopped reading is not an error.
async fn close_writer(writer: &WritableStreamDefaultWriter) -> Result<(), UploadAborted> {
    let _ = JsFuture::from(writer.close()).await;
    Ok(())
}

/// Returns the bytes of a read; `None` at the end of the stream.
fn chunk_from_result(result: JsValue) -> Option<Uint8Array> {
    let result: ReadableStreamReadResult = result.unchecked_into();
    if result.get_done().unwrap_or(false) {
        return None;
    }
    result.get_value().dyn_into().ok()
}

/// Creates one of the platform's own transform streams. Their two ends are native; the ends of the
/// standard `TransformStream` are not.
fn native_transform_stream(class: &str, arguments: &Array) -> Result<TransformStream, JsValue> {
    let constructor: Function =
        Reflect::get(&js_sys::global(), &JsValue::from_str(class))?.dyn_into()?;
    Ok(Reflect::construct(&constructor, arguments)?.unchecked_into())
}

/// Returns the bytes of the first buffer: the declared length, but from 1 to 64 KiB, so that most
/// bodies take one read; 64 KiB if no length is declared.
fn first_buffer_bytes(content_length: Option<u64>) -> u32 {
    content_length
        .and_then(|length| u32::try_from(length).ok())
        .map_or(CHUNK_BYTES, |length| length.clamp(1 << 10, CHUNK_BYTES))
}

/// Bytes of a body in the isolate's memory, which all of its requests share
/// (cloudflare/workers-rs#255). Dropping the lease gives them back.
#[derive(Default)]
struct MemoryLease(usize);

impl MemoryLease {
    fn grow(&mut self, bytes: usize) {
        self.0 = self.0.saturating_add(bytes);
        HELD_BYTES.set(HELD_BYTES.get().saturating_add(bytes));
    }

    /// Returns whether no more of this body may be read. A body below 64 KiB is always read.
    fn is_over_limit(&self) -> bool {
        self.0 >= CHUNK_BYTES as usize && HELD_BYTES.get() > MAX_HELD_BYTES
    }
}

impl Drop for MemoryLease {
    fn drop(&mut self) {
        HELD_BYTES.set(HELD_BYTES.get().saturating_sub(self.0));
    }
}

thread_local! {
    /// Bytes of all bodies in the isolate.
    static HELD_BYTES: Cell<usize> = const { Cell::new(0) };
}

impl ReadStop {
    /// Returns the value of the log's member `read_stop`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Timeout => "timeout",
            Self::MemoryPressure => "memory_pressure",
        }
    }
}

/// Time in which a client must fill the window. After the timeout the request is scored on the
/// bytes received so far.
const READ_TIMEOUT: Duration = Duration::from_secs(10);

/// Maximum number of bytes per read: most bodies take one read.
const CHUNK_BYTES: u32 = 64 << 10;

/// Bytes of bodies in an isolate above which it stops reading large bodies. An isolate has 128 MB,
/// but a vector can be twice as large while it grows, and JavaScript needs memory, too.
///
/// This is twelve windows of 2 MiB. If more large uploads are under way, the bodies above the limit
/// are scored on what was read, 64 KiB at least, and the log shows `read_stop: memory_pressure` and
/// `unscanned_bytes`.
const MAX_HELD_BYTES: usize = 24 << 20;
