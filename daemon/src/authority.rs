//! Lets a client call the far end by its socket's path, plain or percent-encoded, as some do: h2 takes `:authority` for a host alone.
//!
//! `/` and `%` in it become `-` before h2 sees them, and it resets no stream for them. Each of the three is one byte in a plain text of
//! HPACK and six bits in a Huffman-coded one, so no length changes, and the header tables of both ends go on agreeing. Nothing is taken
//! apart that h2 would not take apart as well, and what is not understood here is passed on as it is.

use std::io;
use std::ops::Range;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tonic::transport::server::Connected;

/// "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", which comes before the first frame.
const PREFACE: usize = 24;
/// Length, kind, flags and stream of a frame.
const HEAD: usize = 9;
/// The largest frame that h2 takes, unless it is told otherwise.
const LARGEST: usize = 16 << 10;

const HEADERS: u8 = 1;
const PADDED: u8 = 0x08;
const PRIORITY: u8 = 0x20;
/// `:authority` in HPACK's static table.
const AUTHORITY: usize = 1;

/// A connection whose client may call us by a path.
pub(crate) struct Named<S> {
    inner: S,
    frames: Frames,
    ready: Vec<u8>,
    given: usize,
}

impl<S> Named<S> {
    /// Takes a connection over at its first byte.
    pub(crate) fn new(inner: S) -> Self {
        Self { inner, frames: Frames { held: Vec::new(), pass: PREFACE }, ready: Vec::new(), given: 0 }
    }
}

/// Where in the stream of frames we are.
struct Frames {
    /// The head of a frame, and all of one with headers, as far as they have come.
    held: Vec<u8>,
    /// Bytes that are still to be passed on unseen.
    pass: usize,
}

impl Frames {
    fn feed(&mut self, mut bytes: &[u8], out: &mut Vec<u8>) {
        while !bytes.is_empty() {
            if self.pass > 0 {
                let (now, rest) = bytes.split_at(self.pass.min(bytes.len()));
                out.extend_from_slice(now);
                self.pass -= now.len();
                bytes = rest;
                continue;
            }
            let wanted = self.wanted();
            let (now, rest) = bytes.split_at((wanted - self.held.len()).min(bytes.len()));
            self.held.extend_from_slice(now);
            bytes = rest;
            if self.held.len() == HEAD && self.wanted() == HEAD {
                self.pass = length(&self.held);
            } else if self.held.len() < self.wanted() {
                continue;
            } else {
                let flags = self.held[4];
                let _ = soften(&mut self.held[HEAD..], flags);
            }
            out.append(&mut self.held);
        }
    }

    /// How much is held of the frame before it goes on: its head, and the whole of it where it holds headers.
    fn wanted(&self) -> usize {
        match self.held.get(..HEAD) {
            Some(head) if head[3] == HEADERS && length(head) <= LARGEST => HEAD + length(head),
            _ => HEAD,
        }
    }
}

fn length(head: &[u8]) -> usize {
    usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2])
}

/// Finds the authority in a frame of headers. `None`: from here on it is not understood, and h2 says what is wrong with it.
fn soften(frame: &mut [u8], flags: u8) -> Option<()> {
    let mut block = 0..frame.len();
    if flags & PADDED != 0 {
        block = 1..frame.len().checked_sub(usize::from(*frame.first()?))?;
    }
    if flags & PRIORITY != 0 {
        block.start += 5;
    }
    let block = frame.get_mut(block)?;
    let mut at = 0;
    while let Some(&first) = block.get(at) {
        let (prefix, is_literal) = match first {
            0x80.. => (7, false),
            0x40.. => (6, true),
            0x20.. => (5, false),
            _ => (4, true),
        };
        let index = integer(block, &mut at, prefix)?;
        if !is_literal {
            continue;
        }
        let is_authority = if index == 0 {
            let (is_coded, name) = string(block, &mut at)?;
            !is_coded && block[name] == *b":authority"
        } else {
            index == AUTHORITY
        };
        let (is_coded, value) = string(block, &mut at)?;
        match (is_authority, is_coded) {
            (true, true) => soften_coded(&mut block[value]),
            (true, false) => block[value].iter_mut().filter(|byte| matches!(byte, b'/' | b'%')).for_each(|byte| *byte = b'-'),
            (false, _) => {}
        }
    }
    Some(())
}

/// An integer with a prefix of so many bits (RFC 7541, 5.1).
fn integer(block: &[u8], at: &mut usize, prefix: u32) -> Option<usize> {
    let most = (1 << prefix) - 1;
    let mut number = usize::from(*block.get(*at)?) & most;
    *at += 1;
    if number < most {
        return Some(number);
    }
    for shift in [0, 7, 14, 21] {
        let byte = usize::from(*block.get(*at)?);
        *at += 1;
        number += (byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

/// A text (RFC 7541, 5.2): whether it is Huffman-coded, and where it is.
fn string(block: &[u8], at: &mut usize) -> Option<(bool, Range<usize>)> {
    let is_coded = *block.get(*at)? & 0x80 != 0;
    let length = integer(block, at, 7)?;
    let range = *at..at.checked_add(length).filter(|end| *end <= block.len())?;
    *at = range.end;
    Some((is_coded, range))
}

/// The code is canonical: how long a symbol is follows from how large its first bits are. Symbols of more than eight bits are in no path
/// that is named here; at the first of them, which may be the padding, the walk ends.
fn soften_coded(text: &mut [u8]) {
    const SLASH: usize = 0x18;
    const PERCENT: usize = 0x15;
    const DASH: usize = 0x16;
    let mut at = 0;
    loop {
        let bits = |count: usize| peek(text, at, count);
        let width = match (bits(5), bits(6), bits(7), bits(8)) {
            (Some(0..0x0a), ..) => 5,
            (_, Some(0..0x2e), ..) => 6,
            (_, _, Some(0..0x7c), _) => 7,
            (_, _, _, Some(0..0xfe)) => 8,
            _ => return,
        };
        if width == 6 && matches!(bits(6), Some(SLASH | PERCENT)) {
            for bit in 0..6 {
                let (byte, mask) = ((at + bit) / 8, 0x80 >> ((at + bit) % 8));
                if DASH >> (5 - bit) & 1 == 1 { text[byte] |= mask } else { text[byte] &= !mask }
            }
        }
        at += width;
    }
}

/// The next `count` bits, if there are as many.
fn peek(text: &[u8], at: usize, count: usize) -> Option<usize> {
    (at..at + count).try_fold(0, |bits, at| Some(bits << 1 | usize::from(text.get(at / 8)? >> (7 - at % 8) & 1)))
}

impl<S: AsyncRead + Unpin> AsyncRead for Named<S> {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        while this.given == this.ready.len() {
            this.ready.clear();
            this.given = 0;
            let mut chunk = [0; 4096];
            let mut chunk = ReadBuf::new(&mut chunk);
            ready!(Pin::new(&mut this.inner).poll_read(context, &mut chunk))?;
            if chunk.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
            this.frames.feed(chunk.filled(), &mut this.ready);
        }
        let rest = &this.ready[this.given..];
        let now = rest.len().min(buffer.remaining());
        buffer.put_slice(&rest[..now]);
        this.given += now;
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Named<S> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().inner).poll_write(context, bytes)
    }
    fn poll_write_vectored(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().inner).poll_write_vectored(context, bytes)
    }
    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_flush(context)
    }
    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_shutdown(context)
    }
}

impl<S: Connected> Connected for Named<S> {
    type ConnectInfo = S::ConnectInfo;

    fn connect_info(&self) -> Self::ConnectInfo {
        self.inner.connect_info()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A stream with one frame of headers and one of data that holds the same bytes, fed in pieces of each size.
    fn check(block: &[u8], flags: u8, want: &[u8]) {
        let stream = |headers: &[u8]| {
            let frame = |kind: u8, payload: &[u8]| [&[0, 0, payload.len() as u8, kind, flags, 0, 0, 0, 1], payload].concat();
            [&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], &frame(4, &[]), &frame(HEADERS, headers), &frame(0, block), &frame(HEADERS, headers)].concat()
        };
        for size in 1..40 {
            let (mut frames, mut out) = (Frames { held: Vec::new(), pass: PREFACE }, Vec::new());
            stream(block).chunks(size).for_each(|piece| frames.feed(piece, &mut out));
            assert_eq!(out, stream(want), "in pieces of {size}");
        }
    }

    fn coded(text: &str) -> Vec<u8> {
        let code = |c| match c {
            '/' => "011000",
            '%' => "010101",
            '-' => "010110",
            '.' => "010111",
            'c' => "00100",
            's' => "01000",
            'i' => "00110",
            'o' => "00111",
            'k' => "1110101",
            '2' => "00010",
            'F' => "1100001",
            _ => unreachable!("{c} is in no text here"),
        };
        let mut bits: String = text.chars().map(code).collect();
        bits.push_str(&"1".repeat((8 - bits.len() % 8) % 8));
        let bytes: Vec<u8> = bits.as_bytes().chunks(8).map(|byte| byte.iter().fold(0, |all, bit| all << 1 | (bit - b'0'))).collect();
        [&[0x80 | bytes.len() as u8], &bytes[..]].concat()
    }

    #[test]
    fn a_path_becomes_a_host_in_every_way_to_write_it() {
        let plain = |text: &str| [&[text.len() as u8], text.as_bytes()].concat();
        for (given, want) in [("/csi/csi.sock", "-csi-csi.sock"), ("%2Fcsi%2Fcsi.sock", "-2Fcsi-2Fcsi.sock"), ("csi.sock", "csi.sock")] {
            for text in [plain, coded] {
                check(&[&[0x83, 0x41], &text(given)[..]].concat(), 4, &[&[0x83, 0x41], &text(want)[..]].concat());
                check(&[&[0x01], &text(given)[..], &[0x86]].concat(), 4, &[&[0x01], &text(want)[..], &[0x86]].concat());
            }
            let named = |text: &str| [&[0x10], &plain(":authority")[..], &plain(text)].concat();
            check(&named(given), 4, &named(want));
            // Padding and priority around it.
            let padded = |text: &str| [&[2, 0, 0, 0, 0, 9], &named(text)[..], &[0, 0]].concat();
            check(&padded(given), 4 | PADDED | PRIORITY, &padded(want));
        }
    }

    #[test]
    fn what_is_no_authority_or_is_broken_is_passed_on_as_it_is() {
        let path = [&[0x44, 5][..], b"/a/%b"].concat();
        check(&path, 4, &path);
        for broken in [&[0x41][..], &[0x41, 0x7f], &[0x41, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff], &[0x41, 9, b'/'], &[0x7f, 0x80], &[0x41, 0x81, 0xff], &[]] {
            check(broken, 4, broken);
            check(broken, 4 | PADDED, broken);
            check(broken, 4 | PRIORITY, broken);
        }
    }
}
