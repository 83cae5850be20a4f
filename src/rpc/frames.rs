//! Counts what a connection reads, in HTTP/2 frames (RFC 9113 §4.1), and holds it against a budget:
//! so many a second, and more for each call that was let in. Who floods with pings, settings,
//! priorities, resets, continuations, empty data, unknown frames, or with requests without a token,
//! has spent it at once; a busy client never does. Looks at the nine bytes of each frame's header,
//! and copies nothing. What a frame means is for h2 to say.

use std::time::Duration;

use tokio::time::Instant;

/// What a client says first (RFC 9113 §3.4).
const PREFACE_BYTES: usize = 24;
const HEADER_BYTES: usize = 9;
/// The type of DATA; its payload is held back by flow control, and costs nothing here.
const DATA: u8 = 0;
/// A frame of headers or settings costs one more for each so many bytes: it must be decoded.
const BYTES_A_FRAME: u32 = 1024;
/// What a call that was let in may send besides: its headers and message, and whatever a library
/// adds (window updates, a ping to measure the line, a reset when its time is up).
const FRAMES_A_CALL: u32 = 64;
/// An answer is acknowledged by window updates; for each so many bytes written one more frame may
/// come.
const WRITTEN_BYTES_A_FRAME: u32 = 4096;
/// The budget that a connection starts with, and can save up at most, in seconds of its rate.
const SAVED_SECONDS: u32 = 10;

/// A connection has sent more frames than its calls need.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FrameFlood;

/// Counts the frames of one connection.
#[derive(Debug)]
pub(super) struct FrameMeter {
    frames_per_second: f64,
    frames_saved_max: f64,
    left: f64,
    refilled_at: Instant,
    preface_left: usize,
    header: [u8; HEADER_BYTES],
    header_read: usize,
    payload_left: u32,
    frames: u64,
    last_stream: u32,
}

impl FrameMeter {
    pub(super) fn new(frames_per_second: u32, now: Instant) -> Self {
        let saved = f64::from(frames_per_second) * f64::from(SAVED_SECONDS);
        Self {
            frames_per_second: f64::from(frames_per_second),
            frames_saved_max: saved,
            left: saved,
            refilled_at: now,
            preface_left: PREFACE_BYTES,
            header: [0; HEADER_BYTES],
            header_read: 0,
            payload_left: 0,
            frames: 0,
            last_stream: 0,
        }
    }

    /// Whether the preface and a whole frame after it, which must be SETTINGS, have come.
    pub(super) fn has_begun(&self) -> bool {
        self.frames > 1 || (self.frames == 1 && self.payload_left == 0)
    }

    /// The highest stream that the client has opened; what GOAWAY has to name.
    pub(super) fn last_stream(&self) -> u32 {
        self.last_stream
    }

    /// Further frames for so many calls that were let in and bytes that were written.
    pub(super) fn grant(&mut self, calls: u32, bytes_written: u32) {
        self.left += f64::from(calls) * f64::from(FRAMES_A_CALL);
        self.left += f64::from(bytes_written) / f64::from(WRITTEN_BYTES_A_FRAME);
    }

    /// Counts what was read.
    pub(super) fn read(&mut self, mut bytes: &[u8], now: Instant) -> Result<(), FrameFlood> {
        let passed: Duration = now.saturating_duration_since(self.refilled_at);
        self.refilled_at = now;
        self.left = (self.left + passed.as_secs_f64() * self.frames_per_second).min(self.frames_saved_max);
        skip(&mut bytes, &mut self.preface_left);
        while !bytes.is_empty() {
            if self.payload_left > 0 {
                let skipped = bytes.len().min(usize::try_from(self.payload_left).unwrap_or(usize::MAX));
                bytes = &bytes[skipped..];
                self.payload_left -= u32::try_from(skipped).unwrap_or(self.payload_left);
                continue;
            }
            let wanted = (HEADER_BYTES - self.header_read).min(bytes.len());
            self.header[self.header_read..self.header_read + wanted].copy_from_slice(&bytes[..wanted]);
            self.header_read += wanted;
            bytes = &bytes[wanted..];
            if self.header_read == HEADER_BYTES {
                self.header_read = 0;
                self.left -= self.begin_frame();
            }
        }
        if self.left < 0.0 { Err(FrameFlood) } else { Ok(()) }
    }

    /// What the frame costs whose header is there.
    fn begin_frame(&mut self) -> f64 {
        let [l0, l1, l2, kind, _, s0, s1, s2, s3] = self.header;
        let length = u32::from_be_bytes([0, l0, l1, l2]);
        self.payload_left = length;
        self.frames += 1;
        // The first bit is reserved. Streams of clients are odd.
        let stream = u32::from_be_bytes([s0 & 0x7f, s1, s2, s3]);
        if stream % 2 == 1 {
            self.last_stream = self.last_stream.max(stream);
        }
        if kind == DATA { 1.0 } else { f64::from(1 + length / BYTES_A_FRAME) }
    }
}

fn skip(bytes: &mut &[u8], left: &mut usize) {
    let skipped = bytes.len().min(*left);
    *bytes = &bytes[skipped..];
    *left -= skipped;
}

#[cfg(test)]
mod tests {
    use super::*;

    const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    const SETTINGS: u8 = 4;
    const PING: u8 = 6;

    fn frame(kind: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        [&length[1..], &[kind, 0], &stream.to_be_bytes(), payload].concat()
    }

    /// How many of these frames are read until it is a flood; at most 1,000,000.
    fn frames_until_flood(meter: &mut FrameMeter, one: &[u8], now: Instant) -> u32 {
        (0..1_000_000).find(|_| meter.read(one, now).is_err()).unwrap_or(1_000_000)
    }

    /// Frames are counted however they are cut into pieces.
    #[test]
    fn frames_are_counted_however_cut() {
        let now = Instant::now();
        let mut bytes = PREFACE.to_vec();
        bytes.extend(frame(SETTINGS, 0, &[0; 18]));
        bytes.extend(frame(1, 7, &[0; 300]));
        bytes.extend(frame(DATA, 7, &[0; 5000]));
        let mut whole = FrameMeter::new(10, now);
        whole.read(&bytes, now).unwrap();

        for size in [1, 2, 8, 9, 10, 23, 24, 25, 4096] {
            let mut meter = FrameMeter::new(10, now);
            for piece in bytes.chunks(size) {
                meter.read(piece, now).unwrap();
            }
            assert_eq!((meter.frames, meter.last_stream()), (3, 7), "pieces of {size}");
            assert!((meter.left - whole.left).abs() < 1e-6, "pieces of {size}");
        }
    }

    /// A connection has begun with its whole first frame.
    #[test]
    fn connection_begins_with_whole_first_frame() {
        let now = Instant::now();
        let mut meter = FrameMeter::new(10, now);
        let settings = frame(SETTINGS, 0, &[0; 6]);

        for piece in [&PREFACE[..12], &PREFACE[12..], &settings[..9], &settings[9..14]] {
            meter.read(piece, now).unwrap();
            assert!(!meter.has_begun());
        }
        meter.read(&settings[14..], now).unwrap();
        assert!(meter.has_begun());
    }

    /// Every kind of frame is a flood at last, and a second later some may come again.
    #[test]
    fn every_frame_kind_floods_then_recovers() {
        let now = Instant::now();
        for (kind, payload) in [(DATA, 0), (2, 5), (3, 4), (SETTINGS, 0), (PING, 8), (8, 4), (9, 0), (0xff, 100)] {
            let mut meter = FrameMeter::new(10, now);
            meter.read(PREFACE, now).unwrap();
            let one = frame(kind, 1, &vec![0; payload]);

            assert_eq!(frames_until_flood(&mut meter, &one, now), 100, "kind {kind}");
            assert_eq!(frames_until_flood(&mut meter, &one, now + Duration::from_secs(1)), 9, "kind {kind}");
        }
    }

    #[test]
    fn large_headers_cost_more() {
        let now = Instant::now();
        let mut meter = FrameMeter::new(10, now);
        meter.read(PREFACE, now).unwrap();

        assert_eq!(frames_until_flood(&mut meter, &frame(1, 1, &[0; 16 * 1024]), now), 5);
    }

    #[test]
    fn a_busy_client_is_never_a_flood() {
        let now = Instant::now();
        let mut meter = FrameMeter::new(1000, now);
        meter.read(PREFACE, now).unwrap();

        // 5,000 calls a second for a minute, each with its message, two window updates, a ping and
        // a reset.
        for call in 0..300_000_u32 {
            let at = now + Duration::from_micros(200) * call;
            for (kind, payload) in [(1, 900), (DATA, 80), (8, 4), (8, 4), (PING, 8), (3, 4)] {
                meter.read(&frame(kind, 2 * call + 1, &vec![0; payload]), at).unwrap();
            }
            meter.grant(1, 400);
        }
        // One large answer after the other, acknowledged half a window at a time.
        for _ in 0..10_000 {
            meter.grant(1, 4 * 1024 * 1024);
            for _ in 0..256 {
                meter.read(&frame(8, 1, &[0; 4]), now).unwrap();
            }
        }
    }
}
