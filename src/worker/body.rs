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
pub struct Inbound {
    bytes: Vec<u8>,
    /// The same as it came, where the platform read it: it is sent on without a copy.
    whole: Option<Uint8Array>,
    window: usize,
    declared: Option<u64>,
    /// Whether there is a body at all; an empty one is not the same.
    present: bool,
    rest: Option<Rest>,
    cut: Option<Cut>,
    held: Held,
}

/// Why less than the window was read.
#[derive(Clone, Copy, Debug)]
pub enum Cut {
    /// The client took too long.
    Late,
    /// The isolate holds too much of other bodies.
    Crowded,
}

/// The part of a body that has not been read.
struct Rest {
    stream: ReadableStream,
    reader: ReadableStreamByobReader,
    /// A read that was under way when the deadline came: the platform forbids to let go of it.
    pending: Option<JsFuture>,
}

/// A body on its way to the origin.
pub enum Outbound {
    /// None.
    None,
    /// All of it; the platform sends its length.
    Whole(Uint8Array),
    /// A stream, and what must run to fill it.
    Stream(ReadableStream, Pump),
}

/// Moves a body that is larger than the window.
pub struct Pump {
    first: Uint8Array,
    rest: Rest,
    sink: WritableStream,
}

/// The client's upload broke off.
#[derive(Debug)]
pub struct BrokenOff;

impl Inbound {
    /// Reads until the body ends, exceeds `window`, or has had its time or its share of memory.
    /// `declared` is its length as far as the client told it: no reason to set memory aside.
    pub async fn read(
        request: &Request,
        declared: Option<u64>,
        window: usize,
    ) -> Result<Self, BrokenOff> {
        let held = Held::default();
        let mut inbound = Self {
            bytes: Vec::new(),
            whole: None,
            window,
            declared,
            present: false,
            rest: None,
            cut: None,
            held,
        };
        let Some(stream) = request.body() else { return Ok(inbound) };
        inbound.present = true;
        if declared.is_some_and(|length| length <= u64::from(CHUNK)) {
            inbound.read_whole(request).await?;
            return Ok(inbound);
        }
        let reader = ReadableStreamByobReader::new(&stream).map_err(|_| BrokenOff)?;
        let mut deadline = Delay::from(PATIENCE);
        let mut buffer = Uint8Array::new_with_length(first_chunk(declared));
        // One byte more than the window tells whether that was all.
        while inbound.bytes.len() <= window && !inbound.held.is_enough() {
            let read = JsFuture::from(reader.read_with_array_buffer_view(&buffer));
            match select(read, &mut deadline).await {
                Either::Left((read, _)) => match chunk(read.map_err(|_| BrokenOff)?) {
                    Some(chunk) => {
                        inbound.append(&chunk);
                        // The read took the buffer away and gives it back with the chunk.
                        buffer = Uint8Array::new(&chunk.buffer());
                    }
                    None => return Ok(inbound),
                },
                Either::Right((_, read)) => {
                    inbound.rest = Some(Rest { stream, reader, pending: Some(read) });
                    inbound.cut = Some(Cut::Late);
                    return Ok(inbound);
                }
            }
        }
        inbound.rest = Some(Rest { stream, reader, pending: None });
        inbound.cut = (inbound.bytes.len() <= window).then_some(Cut::Crowded);
        Ok(inbound)
    }

    /// Reads a body that says that it is small: in one go, without a deadline. A client that drips waits for
    /// nobody but itself, and cannot have it scored by less than all.
    async fn read_whole(&mut self, request: &Request) -> Result<(), BrokenOff> {
        let read = request.array_buffer().map_err(|_| BrokenOff)?;
        let buffer = JsFuture::from(read).await.map_err(|_| BrokenOff)?;
        let whole = Uint8Array::new(&buffer);
        self.append(&whole);
        self.whole = Some(whole);
        Ok(())
    }

    fn append(&mut self, chunk: &Uint8Array) {
        let start = self.bytes.len();
        self.bytes.resize(start.saturating_add(chunk.length() as usize), 0);
        if let Some(end) = self.bytes.get_mut(start..) {
            chunk.copy_to(end);
        }
        self.held.grow(chunk.length() as usize);
    }

    /// The bytes that are scored.
    pub fn window(&self) -> &[u8] {
        self.bytes.get(..self.window).unwrap_or(&self.bytes)
    }

    /// The whole body, where it has been read.
    pub fn whole(&self) -> Option<&[u8]> {
        self.rest.is_none().then_some(self.bytes.as_slice())
    }

    /// Why less than the window was read, where that is so.
    pub fn cut(&self) -> Option<Cut> {
        self.cut
    }

    /// Bytes of the whole body, as far as known.
    pub fn size(&self) -> Option<u64> {
        if self.rest.is_none() { Some(self.bytes.len() as u64) } else { self.declared }
    }

    /// Bytes that are not scored: at least one where their number is not known.
    pub fn unscanned(&self) -> u64 {
        let scanned = self.window().len() as u64;
        match (&self.rest, self.declared) {
            (None, _) => (self.bytes.len() as u64).saturating_sub(scanned),
            (Some(_), Some(declared)) => declared.saturating_sub(scanned),
            (Some(_), None) => (self.bytes.len() as u64).saturating_sub(scanned).max(1),
        }
    }

    /// The body for the origin: these bytes, then the rest. What was read leaves Wasm's memory, which
    /// all requests of the isolate share, before the origin is even asked.
    pub fn outbound(self) -> Result<Outbound, JsValue> {
        if !self.present {
            return Ok(Outbound::None);
        }
        if let Some(whole) = self.whole {
            return Ok(Outbound::Whole(whole));
        }
        let first = Uint8Array::from(self.bytes.as_slice());
        let Some(rest) = self.rest else { return Ok(Outbound::Whole(first)) };
        let channel = match self.declared {
            // The platform keeps clients to their word, so the length can be passed on.
            Some(length) => {
                transform("FixedLengthStream", &Array::of1(&JsValue::from_f64(length as f64)))?
            }
            None => transform("IdentityTransformStream", &Array::new())?,
        };
        Ok(Outbound::Stream(channel.readable(), Pump { first, rest, sink: channel.writable() }))
    }
}

impl Pump {
    /// Moves everything. Fails where the client's upload broke off; that the origin wants no more
    /// (it may have answered already) is no failure.
    pub async fn run(self) -> Result<(), BrokenOff> {
        let Self { first, mut rest, sink } = self;
        let Ok(writer) = sink.get_writer() else { return Ok(()) };
        if JsFuture::from(writer.write_with_chunk(&first)).await.is_err() {
            return Ok(());
        }
        drop(first);
        if let Some(pending) = rest.pending.take() {
            match pending.await {
                Ok(result) => match chunk(result) {
                    Some(chunk)
                        if JsFuture::from(writer.write_with_chunk(&chunk)).await.is_ok() => {}
                    Some(_) => return Ok(()),
                    None => return close(&writer).await,
                },
                Err(_) => {
                    let _ = JsFuture::from(writer.abort()).await;
                    return Err(BrokenOff);
                }
            }
        }
        writer.release_lock();
        rest.reader.release_lock();
        // Native streams on both sides: the platform moves the bytes without waking us.
        match JsFuture::from(rest.stream.pipe_to(&sink)).await {
            Ok(_) => Ok(()),
            Err(_) => whose(&rest.stream).await,
        }
    }
}

/// After a pipe failed: an error if the source did, none if the sink did.
async fn whose(stream: &ReadableStream) -> Result<(), BrokenOff> {
    let reader = ReadableStreamDefaultReader::new(stream).map_err(|_| BrokenOff)?;
    JsFuture::from(reader.read()).await.map(drop).map_err(|_| BrokenOff)
}

async fn close(writer: &WritableStreamDefaultWriter) -> Result<(), BrokenOff> {
    let _ = JsFuture::from(writer.close()).await;
    Ok(())
}

/// The bytes of a read; `None` at the end.
fn chunk(result: JsValue) -> Option<Uint8Array> {
    let result: ReadableStreamReadResult = result.unchecked_into();
    if result.get_done().unwrap_or(false) {
        return None;
    }
    result.get_value().dyn_into().ok()
}

/// A transform stream of the platform's own: its ends are native, which the standard one's are not.
fn transform(class: &str, arguments: &Array) -> Result<TransformStream, JsValue> {
    let constructor: Function =
        Reflect::get(&js_sys::global(), &JsValue::from_str(class))?.dyn_into()?;
    Ok(Reflect::construct(&constructor, arguments)?.unchecked_into())
}

/// A first buffer of the size that the client told, so that most requests come in one read; one of
/// the full size where it told none, or more.
fn first_chunk(declared: Option<u64>) -> u32 {
    declared
        .and_then(|length| u32::try_from(length).ok())
        .map_or(CHUNK, |length| length.clamp(1 << 10, CHUNK))
}

/// What a body holds of the isolate's memory: all requests share it (cloudflare/workers-rs#255).
#[derive(Default)]
struct Held(usize);

impl Held {
    fn grow(&mut self, bytes: usize) {
        self.0 = self.0.saturating_add(bytes);
        HELD.set(HELD.get().saturating_add(bytes));
    }

    /// Whether this body must make do with what it has. Small ones never must.
    fn is_enough(&self) -> bool {
        self.0 >= CHUNK as usize && HELD.get() > HELD_MAX
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        HELD.set(HELD.get().saturating_sub(self.0));
    }
}

thread_local! {
    static HELD: Cell<usize> = const { Cell::new(0) };
}

impl Cut {
    /// Its word in the log.
    pub fn name(self) -> &'static str {
        match self {
            Self::Late => "late",
            Self::Crowded => "crowded",
        }
    }
}

/// How long a client may take to fill the window. Who drips longer is scored by what came, and waits
/// for the origin from then on: nobody else does.
const PATIENCE: Duration = Duration::from_secs(10);

/// Bytes of one read: most requests come in one.
const CHUNK: u32 = 64 << 10;

/// Bytes of bodies that an isolate holds at most before it reads no more of large ones: of its 128 MB
/// a quarter, because the vectors they are read into are up to twice as large while they grow, and
/// JavaScript needs room, too. Twelve windows of 2 MiB: who uploads as many at once, and slowly, gets
/// bodies scored by their first 64 KiB, and the log says so (`unscanned`, `cut`).
const HELD_MAX: usize = 24 << 20;
