//! Clients name the far end differently (`localhost`, the socket's path, plain or percent-encoded): all of them are served.

use super::row;
use harness::{DRIVER, Daemon};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// One frame of HTTP/2.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a short frame").to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A header, literal and not indexed, its texts as they are.
fn header(name: &str, value: &str) -> Vec<u8> {
    let text = |text: &str| {
        let mut bytes = Vec::new();
        let length = text.len();
        if length < 127 {
            bytes.push(length as u8);
        } else {
            // HPACK's integers: seven bits, then seven at a time.
            bytes.push(127);
            let mut rest = length - 127;
            while rest >= 128 {
                bytes.push((rest % 128) as u8 | 128);
                rest /= 128;
            }
            bytes.push(rest as u8);
        }
        bytes.extend_from_slice(text.as_bytes());
        bytes
    };
    [vec![0], text(name), text(value)].concat()
}

/// Calls GetPluginInfo ten times over one connection with the authority; how many answers name the driver.
fn answers(daemon: &Daemon, authority: &str) -> usize {
    const CALLS: u32 = 10;
    let mut socket = UnixStream::connect(daemon.socket()).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let mut sent = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    sent.extend(frame(4, 0, 0, &[]));
    for call in 0..CALLS {
        let headers = [
            (":method", "POST"),
            (":scheme", "http"),
            (":path", "/csi.v1.Identity/GetPluginInfo"),
            (":authority", authority),
            ("content-type", "application/grpc"),
            ("te", "trailers"),
        ];
        let block: Vec<u8> = headers.iter().flat_map(|(name, value)| header(name, value)).collect();
        // END_HEADERS; then an empty message, END_STREAM.
        sent.extend(frame(1, 4, call * 2 + 1, &block));
        sent.extend(frame(0, 1, call * 2 + 1, &[0; 5]));
    }
    socket.write_all(&sent).unwrap();
    let (mut ended, mut named) = (0, 0);
    while ended < CALLS {
        let mut head = [0; 9];
        if socket.read_exact(&mut head).is_err() {
            break;
        }
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let mut payload = vec![0; length];
        socket.read_exact(&mut payload).unwrap();
        let (kind, flags) = (head[3], head[4]);
        if kind == 0 && payload.windows(DRIVER.len()).any(|window| window == DRIVER.as_bytes()) {
            named += 1;
        }
        // A stream ends with END_STREAM on data or headers, or by RST_STREAM.
        if (matches!(kind, 0 | 1) && flags & 1 != 0) || kind == 3 {
            ended += 1;
        }
    }
    named
}

#[test]
fn plugin_the_far_end_may_be_called_localhost() {
    let daemon = Daemon::start();
    row("*/authority").holds(answers(&daemon, "localhost") == 10, "ten of ten calls to localhost");
}

#[test]
fn plugin_the_far_end_may_be_called_by_the_sockets_path() {
    let daemon = Daemon::start();
    let path = daemon.socket().display().to_string();
    row("*/authority").holds(answers(&daemon, &path) == 10, "ten of ten calls to the socket's path");
}

#[test]
fn plugin_the_far_end_may_be_called_by_the_sockets_path_percent_encoded() {
    let daemon = Daemon::start();
    let path = daemon.socket().display().to_string().replace('/', "%2F");
    row("*/authority").holds(answers(&daemon, &path) == 10, "ten of ten calls to the socket's encoded path");
}
