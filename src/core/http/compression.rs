//! Content encodings: gzip, deflate, zstd and brotli, within limits of output, memory and work.
#![deny(clippy::arithmetic_side_effects)]

use std::io::Read;

use flate2::bufread::{DeflateDecoder, GzDecoder, ZlibDecoder};

use super::head_and_tail::{Output, OutputLimits};
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
    /// Returns the format that a content encoding names, or `None` if the name is unknown.
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

    /// Returns the format that the first bytes identify; `None` if they identify none. Neither JSON
    /// nor multipart begins with the bytes of a format.
    fn from_magic_number(bytes: &[u8]) -> Option<Self> {
        match bytes {
            [0x1f, 0x8b, 8, ..] => Some(Self::Gzip),
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Some(Self::Zstd),
            _ => None,
        }
    }
}

/// Decodes one content encoding, up to about `limits.max_bytes` of output. Returns `None` if the
/// encoding is unknown or clearly not applied. Output before an error is kept.
///
/// If the magic number contradicts the name `coding`, the magic number decides, and `issues`
/// records the contradiction. The name is empty for a body without a content encoding.
pub(super) fn decompress(
    bytes: &[u8],
    coding: &str,
    limits: OutputLimits,
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
    let mut output = Output::new(limits);
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
    let (bytes, output_issues) = output.finish();
    issues.insert(output_issues);
    Some(bytes)
}

impl Output {
    /// Reads the members of a gzip body (RFC 1952). An ordinary body has one member.
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

    /// Reads a decoder to its end, or to the limit, and returns it. `unread` returns the number of
    /// input bytes that the decoder has not read.
    ///
    /// Reading ends if the output becomes more than [`MAX_LAG_BYTES`] shorter than the consumed
    /// input. Compression does not make data longer, but a body that is made to be expensive may be
    /// longer than its content.
    fn read<D: Read>(&mut self, mut decoder: D, unread: impl Fn(&D) -> usize) -> D {
        let input_len = unread(&decoder);
        loop {
            let read_len = self.read_chunk(|chunk| decoder.read(chunk).ok());
            let consumed = input_len.saturating_sub(unread(&decoder));
            let is_behind = consumed > self.total.saturating_add(MAX_LAG_BYTES);
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
}

/// Maximum number of members of a gzip body. The start of each member takes some microseconds.
const MAX_MEMBERS: usize = 1_024;

/// Maximum bytes by which the output may be shorter than the input.
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

    /// Maximum number of frames and blocks. Each may have its own tables, which take some
    /// microseconds to build. Blocks of ordinary bodies hold 128 KiB.
    const MAX_BLOCKS: usize = 4_096;

    /// Bytes that the decoder's buffer and the output may take, in addition to twice the input.
    const MAX_MEMORY_BYTES: usize = 4 << 20;

    /// Maximum bytes of a block.
    const BLOCK_BYTES: usize = 128 << 10;

    /// An empty last block and a checksum, which end a frame whose own end is missing.
    const FRAME_END: &[u8] = &[1, 0, 0, 0, 0, 0, 0];

    /// Decodes all frames; `None` if the first frame needs a dictionary, or more memory than
    /// allowed.
    pub(super) fn read(
        mut input: &[u8],
        output: &mut Output,
        issues: &mut ReadIssues,
    ) -> Option<()> {
        let mut remaining_blocks = MAX_BLOCKS;
        let max_memory = input.len().saturating_mul(2).saturating_add(MAX_MEMORY_BYTES);
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
                    return (output.total > 0).then_some(());
                }
                _ => {
                    output.is_complete = false;
                    return Some(());
                }
            }
            limit_memory(output, window_bytes(input), max_memory);
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

    /// Limits the output so that the decoder's buffer and the output take at most `max_memory`.
    ///
    /// The buffer holds a window, or all of a shorter output. Its size is rounded up to a power of
    /// two.
    fn limit_memory(output: &mut Output, window_bytes: u64, max_memory: usize) {
        let buffer_len = |bytes: usize| bytes.saturating_add(BLOCK_BYTES).next_power_of_two();
        let window_len = usize::try_from(window_bytes.min(MAX_WINDOW_BYTES)).unwrap_or(usize::MAX);
        let max_bytes = output.max_bytes;
        if window_len.saturating_add(2 * BLOCK_BYTES).saturating_add(max_bytes) <= max_memory {
            return;
        }
        output.leave_out_end();
        let all_len = buffer_len(max_bytes);
        if all_len.saturating_add(max_bytes) > max_memory {
            output.max_bytes = (all_len / 2).saturating_sub(BLOCK_BYTES);
        }
    }

    /// Returns the size of the window in bytes, as the header of a frame declares it (RFC 8878,
    /// section 3.1.1.1); `u64::MAX` if the header is incomplete. The window of a single-segment
    /// frame is as large as its content.
    fn window_bytes(frame: &[u8]) -> u64 {
        let Some([descriptor, fields @ ..]) = frame.get(4..) else { return u64::MAX };
        if descriptor & 0x20 == 0 {
            let Some(window) = fields.first() else { return u64::MAX };
            let base = 1_u64 << 10_u32.saturating_add(u32::from(window >> 3));
            return base.saturating_add((base / 8).saturating_mul(u64::from(window & 7)));
        }
        let dictionary_len = match descriptor & 3 {
            3 => 4,
            len => usize::from(len),
        };
        let (size_len, offset) = match descriptor >> 6 {
            0 => (1, 0),
            1 => (2, 256),
            2 => (4, 0),
            _ => (8, 0),
        };
        let Some(size) = fields.get(dictionary_len..).and_then(|rest| rest.get(..size_len)) else {
            return u64::MAX;
        };
        size.iter().rev().fold(0, |size, byte| size << 8 | u64::from(*byte)).saturating_add(offset)
    }

    /// Decodes the blocks of a frame, up to the limit of the output.
    ///
    /// The decoder releases bytes only when it has decoded a whole window of later bytes. If the
    /// end of the output is kept, the released bytes are read after each block. Otherwise the
    /// decoder decodes no more bytes than the output has room for.
    fn read_frame(decoder: &mut FrameDecoder, blocks: &[u8], output: &mut Output) {
        let mut source = blocks.chain(FRAME_END);
        loop {
            let strategy = if output.keeps_end {
                BlockDecodingStrategy::UptoBlocks(1)
            } else {
                BlockDecodingStrategy::UptoBytes(output.room())
            };
            let decoded = decoder.decode_blocks(&mut source, strategy);
            let is_cut = decoded.is_err() || !output.keeps_end && !decoder.is_finished();
            if is_cut && !decoder.is_finished() {
                // The decoder releases its last window only at the end of a frame, so an artificial
                // end is added.
                let _ = decoder.decode_blocks(FRAME_END, BlockDecodingStrategy::UptoBlocks(1));
            }
            // Once the decoder releases bytes, its buffer no longer grows, so memory for the output
            // can be reserved.
            let count = decoder.can_collect();
            if count > 0 {
                output.reserve(if decoder.is_finished() { count } else { usize::MAX });
            }
            while decoder.can_collect() > 0 {
                if output.read_chunk(|chunk| decoder.read(chunk).ok()).is_none_or(|len| len == 0) {
                    output.is_complete = false;
                    return;
                }
            }
            output.is_complete &= !is_cut;
            if is_cut || decoder.is_finished() {
                return;
            }
        }
    }

    /// Returns the total bytes of the complete blocks at the start of `body`, and whether the last
    /// block of the frame is one of them. Subtracts the blocks from `remaining_blocks`, and stops
    /// at 0.
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

    /// Maximum bytes of input. The number of meta-blocks cannot be limited instead: meta-blocks of
    /// a few bytes may have hundreds of tables, and cannot be counted without decoding them.
    const MAX_INPUT_BYTES: usize = 256 << 10;

    /// Decodes a stream; `None` if it needs more memory than allowed, or is not brotli.
    ///
    /// The format has no magic number. If an error occurs before the output is as long as the
    /// input, the bytes are treated as another format.
    pub(super) fn read(bytes: &[u8], output: &mut Output, issues: &mut ReadIssues) -> Option<()> {
        if window_bits(bytes).is_none_or(|bits| bits > MAX_WINDOW_BITS) {
            issues.insert(ReadIssues::ENCODING);
            return None;
        }
        let input = bytes.get(..MAX_INPUT_BYTES).unwrap_or(bytes);
        output.read(Decompressor::new(input, 0), |_| 0);
        if !output.is_complete && output.total < bytes.len().min(output.max_bytes) {
            issues.insert(ReadIssues::INFLATE);
            return None;
        }
        Some(())
    }

    /// Returns the binary logarithm of the window's size, from the header (RFC 7932, section 9.1);
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
