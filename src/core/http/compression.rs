//! Content encodings: gzip, deflate, zstd and brotli, within limits of output, memory and work.
#![deny(clippy::arithmetic_side_effects)]

use std::io::Read;

use flate2::bufread::{DeflateDecoder, GzDecoder, ZlibDecoder};

use crate::extract::issues::ReadIssues;

/// A format of compressed bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Gzip,
    Zlib,
    /// Deflate without a header.
    Deflate,
    Zstd,
    Brotli,
}

impl Format {
    /// Returns the format that a content encoding names, or `None` if it is unknown.
    fn from_name(coding: &str, bytes: &[u8]) -> Option<Self> {
        match coding {
            "gzip" | "x-gzip" => Some(Self::Gzip),
            // RFC 9110 defines `deflate` as zlib's format, but some clients send the bare stream.
            "deflate" if is_zlib(bytes) => Some(Self::Zlib),
            "deflate" => Some(Self::Deflate),
            "zstd" => Some(Self::Zstd),
            "br" => Some(Self::Brotli),
            _ => None,
        }
    }

    /// Returns the format by the first bytes, with which neither JSON nor multipart begins.
    fn from_magic_number(bytes: &[u8]) -> Option<Self> {
        match bytes {
            [0x1f, 0x8b, 8, ..] => Some(Self::Gzip),
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Some(Self::Zstd),
            _ => None,
        }
    }
}

/// Decodes one encoding, at most about `max_bytes` of it. `None` if the encoding is unknown or
/// clearly not applied. Output before an error is kept.
///
/// The magic number decides if it contradicts the name, which is an issue. The name is empty for a
/// body without a content encoding.
pub(super) fn decompress(
    bytes: &[u8],
    coding: &str,
    max_bytes: usize,
    issues: &mut ReadIssues,
) -> Option<Vec<u8>> {
    let named = Format::from_name(coding, bytes);
    let found = Format::from_magic_number(bytes);
    if named.is_none() && (found.is_some() || !coding.is_empty()) {
        issues.insert(ReadIssues::ENCODING);
    }
    let format = found.or(named)?;
    if named.is_some_and(|named| named != format) {
        issues.insert(ReadIssues::ENCODING);
    }
    let is_plain = matches!(bytes.trim_ascii_start(), [b'{', ..])
        || format == Format::Deflate && matches!(bytes.trim_ascii_start(), [b'[', ..]);
    if is_plain || format == Format::Zstd && found.is_none() {
        issues.insert(ReadIssues::INFLATE);
        return None;
    }
    let mut output = Output { bytes: Vec::new(), max_bytes, is_complete: true };
    match format {
        Format::Gzip => output.read_members(bytes),
        Format::Zlib => {
            output.read(ZlibDecoder::new(bytes), |decoder| decoder.get_ref().len());
        }
        Format::Deflate => {
            output.read(DeflateDecoder::new(bytes), |decoder| decoder.get_ref().len());
        }
        Format::Zstd => zstd::read(bytes, &mut output, issues)?,
        Format::Brotli => brotli::read(bytes, &mut output, issues)?,
    }
    if !output.is_complete {
        issues.insert(ReadIssues::INFLATE);
    }
    Some(output.bytes)
}

/// Decompressed bytes, up to a limit.
struct Output {
    bytes: Vec<u8>,
    max_bytes: usize,
    /// Whether the input was decoded to its end.
    is_complete: bool,
}

impl Output {
    /// Reads the members of a gzip body (RFC 1952), of which ordinary bodies have one.
    fn read_members(&mut self, mut input: &[u8]) {
        for _ in 0..MAX_MEMBERS {
            let decoder =
                self.read(GzDecoder::new(input), |decoder: &GzDecoder<_>| decoder.get_ref().len());
            input = decoder.into_inner();
            if input.is_empty() || !self.is_complete {
                return;
            }
        }
        self.is_complete = false;
    }

    /// Reads a decoder to its end, or to the limit, and returns it. `unread` returns the bytes of
    /// input that the decoder has not read.
    ///
    /// Reading ends if the output falls behind the input. Compression does not do that, but input
    /// that is made to be expensive may.
    fn read<D: Read>(&mut self, mut decoder: D, unread: impl Fn(&D) -> usize) -> D {
        let input_len = unread(&decoder);
        loop {
            let free = self.max_bytes.saturating_sub(self.bytes.len()).min(CHUNK_BYTES);
            let start = self.bytes.len();
            let read_len = match free {
                0 => None,
                _ => decoder.read(self.grow(free)).ok(),
            };
            self.bytes.truncate(start.saturating_add(read_len.unwrap_or(0)));
            let consumed = input_len.saturating_sub(unread(&decoder));
            let is_behind = consumed > self.bytes.len().saturating_add(MAX_LAG_BYTES);
            match read_len {
                Some(0) => return decoder,
                Some(_) if !is_behind => {}
                _ => {
                    self.is_complete = false;
                    return decoder;
                }
            }
        }
    }

    /// Appends `count` zeros and returns them. The buffer at most doubles, up to the limit, since a
    /// larger one would exceed the memory of a request.
    fn grow(&mut self, count: usize) -> &mut [u8] {
        let start = self.bytes.len();
        let end = start.saturating_add(count);
        if self.bytes.capacity() < end {
            let capacity = start.saturating_mul(2).min(self.max_bytes).max(end);
            self.bytes.reserve_exact(capacity.saturating_sub(start));
        }
        self.bytes.resize(end, 0);
        self.bytes.get_mut(start..).unwrap_or_default()
    }
}

/// Maximum number of members of a gzip body. Each takes some microseconds to begin.
const MAX_MEMBERS: usize = 1_024;

/// Bytes that are decompressed at a time.
const CHUNK_BYTES: usize = 64 << 10;

/// Bytes by which the output may be shorter than the input.
const MAX_LAG_BYTES: usize = 64 << 10;

/// Returns whether bytes begin with a zlib header (RFC 1950): method 8 and a valid checksum.
fn is_zlib(bytes: &[u8]) -> bool {
    matches!(bytes, [method, flags, ..]
        if method & 0x0f == 8 && (u16::from(*method) << 8 | u16::from(*flags)) % 31 == 0)
}

mod zstd {
    //! Zstandard (RFC 8878): frames with skippable frames between them.

    use std::io::Read;

    use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
    use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

    use super::{Output, ReadIssues};

    /// Maximum bytes of the window. RFC 8878 recommends that decoders support 8 MiB.
    const MAX_WINDOW_BYTES: u64 = 8 << 20;

    /// Maximum number of frames and blocks. Each may have tables of its own, which take some
    /// microseconds to build. Blocks of ordinary bodies hold 128 KiB.
    const MAX_BLOCKS: usize = 4_096;

    /// Maximum bytes of a block.
    const BLOCK_BYTES: usize = 128 << 10;

    /// An empty last block, and a checksum: it ends a frame whose end is missing.
    const FRAME_END: &[u8] = &[1, 0, 0, 0, 0, 0, 0];

    /// Decodes all frames; `None` if the first frame needs more memory than allowed.
    pub(super) fn read(
        mut input: &[u8],
        output: &mut Output,
        issues: &mut ReadIssues,
    ) -> Option<()> {
        let mut remaining_blocks = MAX_BLOCKS;
        output.max_bytes = output.max_bytes.min(max_buffered(input.len(), output.max_bytes));
        while !input.is_empty() {
            let mut decoder = FrameDecoder::new();
            decoder.set_max_window_size(MAX_WINDOW_BYTES);
            let mut body = input;
            let has_checksum = input.get(4).is_some_and(|descriptor| descriptor & 4 != 0);
            remaining_blocks = remaining_blocks.saturating_sub(1);
            match decoder.reset(&mut body) {
                Ok(()) if remaining_blocks > 0 => {}
                Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame {
                    length,
                    ..
                })) if remaining_blocks > 0 => {
                    input = body.get(length as usize..).unwrap_or_default();
                    continue;
                }
                Err(
                    FrameDecoderError::WindowSizeTooBig { .. }
                    | FrameDecoderError::DictNotProvided { .. },
                ) => {
                    issues.insert(ReadIssues::ENCODING);
                    output.is_complete = false;
                    return (!output.bytes.is_empty()).then_some(());
                }
                _ => {
                    output.is_complete = false;
                    return Some(());
                }
            }
            let (blocks_len, has_end) = measure_blocks(body, &mut remaining_blocks);
            let (blocks, rest) = body.split_at_checked(blocks_len).unwrap_or((body, &[]));
            output.is_complete &= has_end;
            read_frame(&mut decoder, blocks, output);
            if !output.is_complete {
                return Some(());
            }
            input = rest.get(if has_checksum { 4 } else { 0 }..).unwrap_or_default();
        }
        Some(())
    }

    /// Returns the bytes of output, at most `max_bytes`, for which the decoder's buffer and the
    /// output take no more than 4 MiB and twice the input.
    ///
    /// The buffer holds a window and a block. Its size is a power of two.
    fn max_buffered(input_len: usize, max_bytes: usize) -> usize {
        let buffer_len = max_bytes.saturating_add(BLOCK_BYTES).next_power_of_two();
        let max_memory = input_len.saturating_mul(2).saturating_add(4 << 20);
        if buffer_len.saturating_add(max_bytes) <= max_memory {
            return max_bytes;
        }
        (buffer_len / 2).saturating_sub(BLOCK_BYTES)
    }

    /// Decodes the blocks of a frame, up to the limit of the output.
    fn read_frame(decoder: &mut FrameDecoder, blocks: &[u8], output: &mut Output) {
        let start = output.bytes.len();
        let room = output.max_bytes.saturating_sub(start);
        let decoded =
            decoder.decode_blocks(blocks.chain(FRAME_END), BlockDecodingStrategy::UptoBytes(room));
        output.is_complete &= matches!(decoded, Ok(true));
        if !decoder.is_finished() {
            // The decoder returns its window only at the end of a frame.
            let _ = decoder.decode_blocks(FRAME_END, BlockDecodingStrategy::UptoBlocks(1));
        }
        let count = decoder.can_collect().min(room);
        let read_len = decoder.read(output.grow(count)).unwrap_or(0);
        output.bytes.truncate(start.saturating_add(read_len));
        output.is_complete &= output.bytes.len() < output.max_bytes;
    }

    /// Returns the bytes of the complete blocks with which `body` begins, and whether the last
    /// block of the frame is one of them. Stops when no blocks remain.
    fn measure_blocks(body: &[u8], remaining_blocks: &mut usize) -> (usize, bool) {
        let mut position = 0_usize;
        while *remaining_blocks > 0 {
            let Some([low, middle, high, ..]) = body.get(position..) else { break };
            let header = u32::from_le_bytes([*low, *middle, *high, 0]);
            let content_len = match header >> 1 & 3 {
                // A block of one repeated byte.
                1 => 1,
                _ => (header >> 3) as usize,
            };
            let end = position.saturating_add(3).saturating_add(content_len);
            if end > body.len() {
                break;
            }
            position = end;
            *remaining_blocks = remaining_blocks.saturating_sub(1);
            if header & 1 != 0 {
                return (position, true);
            }
        }
        (position, false)
    }
}

mod brotli {
    //! Brotli (RFC 7932).

    use brotli_decompressor::Decompressor;

    use super::{Output, ReadIssues};

    /// Maximum bits of the window: 4 MiB, the default of encoders. The decoder allocates all of it.
    const MAX_WINDOW_BITS: u8 = 22;

    /// Maximum bytes of input. Meta-blocks of a few bytes may have hundreds of tables, and cannot
    /// be counted without decoding them.
    const MAX_INPUT_BYTES: usize = 256 << 10;

    /// Decodes a stream; `None` if it needs more memory than allowed, or is not brotli.
    ///
    /// The format has no magic number: bytes whose output is shorter than the input up to an error
    /// are taken for another format.
    pub(super) fn read(bytes: &[u8], output: &mut Output, issues: &mut ReadIssues) -> Option<()> {
        if window_bits(bytes).is_none_or(|bits| bits > MAX_WINDOW_BITS) {
            issues.insert(ReadIssues::ENCODING);
            return None;
        }
        let input = bytes.get(..MAX_INPUT_BYTES).unwrap_or(bytes);
        output.read(Decompressor::new(input, 0), |_| 0);
        if !output.is_complete && output.bytes.len() < bytes.len().min(output.max_bytes) {
            issues.insert(ReadIssues::INFLATE);
            return None;
        }
        Some(())
    }

    /// Returns the size of the window as a power of two, from the header (RFC 7932, section 9.1);
    /// `None` without a header of this format.
    fn window_bits(bytes: &[u8]) -> Option<u8> {
        let header = bytes.first()?;
        Some(match (header & 1, header >> 1 & 7, header >> 4 & 7) {
            (0, ..) => 16,
            (_, 0, 0) => 17,
            (_, 0, 1) => return None,
            (_, 0, bits) => bits.saturating_add(8),
            (_, bits, _) => bits.saturating_add(17),
        })
    }
}
