//! The body: a small one read whole by the platform; any other up to the scan window, the rest streamed
//! on as it comes. No more than the window and a chunk is ever held, and the stream is neither cloned nor
//! teed (a tee buffers without bound for the slower side: cloudflare/workerd#5175).

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

/// What was read of a body, and what is still to come.
pub struct RequestBody {
    bytes: Vec<u8>,
    /// The same as it came, where the platform read it: it is sent on without a copy.
    js_bytes: Option<Uint8Array>,
    scan_window: usize,
    content_length: Option<u64>,
    /// Whether there is a body at all; an empty one is not the same.
    has_body: bool,
    unread: Option<Unread>,
    read_stop: Option<ReadStop>,
    memory_lease: MemoryLease,
}

/// Why less than the window was read.
#[derive(Clone, Copy, Debug)]
pub enum ReadStop {
    /// The client took too long.
    Timeout,
    /// The isolate holds too much of other bodies.
    MemoryPressure,
}

/// The part of a body that has not been read.
struct Unread {
    stream: ReadableStream,
    reader: ReadableStreamByobReader,
    /// A read that was under way when the deadline came: the platform forbids to let go of it.
    pending_read: Option<JsFuture>,
}

/// A body on its way to the origin.
pub enum UpstreamBody {
    /// None.
    None,
    /// All of it; the platform sends its length.
    Buffered(Uint8Array),
    /// A stream, and what must run to fill it.
    Stream(ReadableStream, Pump),
}

/// Moves a body that is larger than the window.
pub struct Pump {
    prefix: Uint8Array,
    unread: Unread,
    sink: WritableStream,
}

/// The client's upload broke off.
#[derive(Debug)]
pub struct UploadAborted;

impl RequestBody {
    /// Reads until the body ends, exceeds `window`, or has had its time or its share of memory.
    /// `declared` is its length as far as the client told it: no reason to set memory aside.
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
        // One byte more than the window tells whether that was all.
        while body.bytes.len() <= scan_window && !body.memory_lease.is_over_limit() {
            let read = JsFuture::from(reader.read_with_array_buffer_view(&buffer));
            match select(read, &mut deadline).await {
                Either::Left((read, _)) => {
                    match chunk_from_result(read.map_err(|_| UploadAborted)?) {
                        Some(chunk) => {
                            body.append(&chunk);
                            // The read took the buffer away and gives it back with the chunk.
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

    /// Reads a body that says that it is small: in one go, without a deadline. A client that drips waits for
    /// nobody but itself, and cannot have it scored by less than all.
    async fn read_all(&mut self, request: &Request) -> Result<(), UploadAborted> {
        let read = request.array_buffer().map_err(|_| UploadAborted)?;
        let buffer = JsFuture::from(read).await.map_err(|_| UploadAborted)?;
        let bytes = Uint8Array::new(&buffer);
        self.append(&bytes);
        self.js_bytes = Some(bytes);
        Ok(())
    }

    fn append(&mut self, chunk: &Uint8Array) {
        let start = self.bytes.len();
        self.bytes.resize(start.saturating_add(chunk.length() as usize), 0);
        if let Some(destination) = self.bytes.get_mut(start..) {
            chunk.copy_to(destination);
        }
        self.memory_lease.grow(chunk.length() as usize);
    }

    /// The bytes that are scored.
    pub fn scanned(&self) -> &[u8] {
        self.bytes.get(..self.scan_window).unwrap_or(&self.bytes)
    }

    /// The whole body, where it has been read.
    pub fn complete_bytes(&self) -> Option<&[u8]> {
        self.unread.is_none().then_some(self.bytes.as_slice())
    }

    /// Why less than the window was read, where that is so.
    pub fn read_stop(&self) -> Option<ReadStop> {
        self.read_stop
    }

    /// Bytes of the whole body, as far as known.
    pub fn size(&self) -> Option<u64> {
        if self.unread.is_none() { Some(self.bytes.len() as u64) } else { self.content_length }
    }

    /// Bytes that are not scored: at least one where their number is not known.
    pub fn unscanned_bytes(&self) -> u64 {
        let scanned_bytes = self.scanned().len() as u64;
        match (&self.unread, self.content_length) {
            (None, _) => (self.bytes.len() as u64).saturating_sub(scanned_bytes),
            (Some(_), Some(content_length)) => content_length.saturating_sub(scanned_bytes),
            (Some(_), None) => (self.bytes.len() as u64).saturating_sub(scanned_bytes).max(1),
        }
    }

    /// The body for the origin: these bytes, then the rest. What was read leaves Wasm's memory, which
    /// all requests of the isolate share, before the origin is even asked.
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
            // The platform keeps clients to their word, so the length can be passed on.
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
    /// Moves everything. Fails where the client's upload broke off; that the origin wants no more
    /// (it may have answered already) is no failure.
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
        // Native streams on both sides: the platform moves the bytes without waking us.
        match JsFuture::from(unread.stream.pipe_to(&sink)).await {
            Ok(_) => Ok(()),
            Err(_) => source_failed(&unread.stream).await,
        }
    }
}

/// After a pipe failed: an error if the source did, none if the sink did.
async fn source_failed(stream: &ReadableStream) -> Result<(), UploadAborted> {
    let reader = ReadableStreamDefaultReader::new(stream).map_err(|_| UploadAborted)?;
    JsFuture::from(reader.read()).await.map(drop).map_err(|_| UploadAborted)
}

async fn close_writer(writer: &WritableStreamDefaultWriter) -> Result<(), UploadAborted> {
    let _ = JsFuture::from(writer.close()).await;
    Ok(())
}

/// The bytes of a read; `None` at the end.
fn chunk_from_result(result: JsValue) -> Option<Uint8Array> {
    let result: ReadableStreamReadResult = result.unchecked_into();
    if result.get_done().unwrap_or(false) {
        return None;
    }
    result.get_value().dyn_into().ok()
}

/// A transform stream of the platform's own: its ends are native, which the standard one's are not.
fn native_transform_stream(class: &str, arguments: &Array) -> Result<TransformStream, JsValue> {
    let constructor: Function =
        Reflect::get(&js_sys::global(), &JsValue::from_str(class))?.dyn_into()?;
    Ok(Reflect::construct(&constructor, arguments)?.unchecked_into())
}

/// A first buffer of the size that the client told, so that most requests come in one read; one of
/// the full size where it told none, or more.
fn first_buffer_bytes(content_length: Option<u64>) -> u32 {
    content_length
        .and_then(|length| u32::try_from(length).ok())
        .map_or(CHUNK_BYTES, |length| length.clamp(1 << 10, CHUNK_BYTES))
}

/// What a body holds of the isolate's memory: all requests share it (cloudflare/workers-rs#255).
#[derive(Default)]
struct MemoryLease(usize);

impl MemoryLease {
    fn grow(&mut self, bytes: usize) {
        self.0 = self.0.saturating_add(bytes);
        HELD_BYTES.set(HELD_BYTES.get().saturating_add(bytes));
    }

    /// Whether this body must make do with what it has. Small ones never must.
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
    static HELD_BYTES: Cell<usize> = const { Cell::new(0) };
}

impl ReadStop {
    /// Its word in the log.
    pub fn name(self) -> &'static str {
        match self {
            Self::Timeout => "timeout",
            Self::MemoryPressure => "memory_pressure",
        }
    }
}

/// How long a client may take to fill the window. Who drips longer is scored by what came, and waits
/// for the origin from then on: nobody else does.
const READ_TIMEOUT: Duration = Duration::from_secs(10);

/// Bytes of one read: most requests come in one.
const CHUNK_BYTES: u32 = 64 << 10;

/// Bytes of bodies that an isolate holds at most before it reads no more of large ones: of its 128 MB
/// a quarter, because the vectors they are read into are up to twice as large while they grow, and
/// JavaScript needs room, too. Twelve windows of 2 MiB: who uploads as many at once, and slowly, gets
/// bodies scored by their first 64 KiB, and the log says so (`unscanned`, `cut`).
const MAX_HELD_BYTES: usize = 24 << 20;
