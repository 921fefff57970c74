//! Messages between the worker and a kernel process: frames over a private pair of sockets.
//!
//! A frame is two lengths (four bytes each), a JSON value and raw bytes. Descriptors travel with the first byte.

use std::io::{self, IoSlice, IoSliceMut, Read as _, Write as _};
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;

use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::threads::Used;
use crate::protocol::{Counts, Failure};

/// Largest size in bytes of a JSON value, and of the raw bytes after it.
const MOST_JSON: usize = 1 << 20;
pub(super) const MOST_BYTES: usize = 1 << 16;

/// Largest number of descriptors of a frame, as in Linux.
const MOST_DESCRIPTORS: usize = 253;

/// Commands of the worker to a kernel process.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) enum Command {
    /// Loads the shared objects of the descriptors in order; the last one is the kernel. Names the function of each
    /// call.
    Load { entries: Vec<String> },
    /// Writes the raw bytes to a global, from byte `offset` on.
    SetSymbol { symbol: String, offset: usize },
    /// Maps the memory of the descriptors, with these sizes, and prepares the arguments of the calls of one run.
    Bind { sizes: Vec<usize>, calls: Vec<Call>, watched: bool },
    /// Launches this number of times, untimed.
    Run { bound: usize, times: u32 },
    /// Launches once and reads the counters.
    Count { bound: usize },
    /// Prepares the caches for a sample.
    Prepare { bound: usize, cache: Caches },
    /// Takes a sample over `batch` launches. With `lead`, an untimed launch and this number of nanoseconds come before.
    Sample { bound: usize, batch: u32, lead: Option<u64> },
    /// Makes the core forget learned branches.
    Forget,
    /// Does nothing: the first command after a stop takes longer.
    Wake,
    /// Spins for a time, and answers as for a sample.
    Spin { nanoseconds: u64 },
}

impl Command {
    /// Whether the calling thread stays on its core: true during a sample and before one.
    pub fn is_for_a_sample(&self) -> bool {
        matches!(self, Self::Prepare { .. } | Self::Sample { .. } | Self::Forget | Self::Wake | Self::Spin { .. })
    }
}

/// State of the caches before a sample.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) enum Caches {
    /// Without the arguments. Only if the worker cannot flush them itself.
    Flushed,
    /// With the previous contents, and with the worker's writes as if this process had made them.
    Holding(Vec<Stretch>),
}

/// A part of the memory of a launch.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(super) struct Stretch {
    /// Index of the descriptor.
    pub memory: usize,
    /// Offset in bytes.
    pub offset: usize,
    /// Size in bytes.
    pub bytes: usize,
}

/// A call of one function of the kernel.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Call {
    /// Arguments in the order of the signature.
    pub arguments: Vec<Argument>,
    /// Memory that is filled with zero bytes before the call.
    pub zero: Vec<Stretch>,
}

/// An argument of a call.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) enum Argument {
    /// The address of memory.
    Pointer(Stretch),
    /// A scalar's bytes.
    Scalar(Vec<u8>),
    /// The bytes of a struct, and the addresses in it, each with its offset.
    Struct { bytes: Vec<u8>, pointers: Vec<(usize, Stretch)> },
}

impl Argument {
    /// The memory of the argument's addresses.
    pub fn stretches(&self) -> Vec<Stretch> {
        match self {
            Self::Pointer(stretch) => vec![*stretch],
            Self::Scalar(_) => Vec::new(),
            Self::Struct { pointers, .. } => pointers.iter().map(|(_, stretch)| *stretch).collect(),
        }
    }
}

/// Answers of a kernel process.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) enum Answer {
    /// The command was done.
    Done,
    /// The launches were done.
    Ran(Used),
    /// The launch was done, with its counts or the reason why there are none.
    Counted(Result<Counts, String>),
    /// A sample: nanoseconds by the clock and of processor time, over the whole batch.
    Sampled { clock: u64, processor: u64, used: Used },
}

/// One end of the channel.
#[derive(Debug)]
pub(super) struct Channel(UnixStream);

/// A frame that was received.
pub(super) struct Frame<T> {
    /// Number of the command, which its answer repeats.
    pub number: u64,
    pub value: T,
    pub bytes: Vec<u8>,
    pub descriptors: Vec<OwnedFd>,
}

impl Channel {
    /// Both ends of a new channel.
    pub fn pair() -> io::Result<(Self, OwnedFd)> {
        let (one, other) = UnixStream::pair()?;
        Ok((Self(one), other.into()))
    }

    pub fn of(descriptor: OwnedFd) -> Self {
        Self(descriptor.into())
    }

    pub fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }

    /// Sets a time after which receiving fails with [`io::ErrorKind::WouldBlock`].
    pub fn set_tick(&self, tick: std::time::Duration) -> io::Result<()> {
        self.0.set_read_timeout(Some(tick))
    }

    pub fn send<T: Serialize>(&self, number: u64, value: &T, bytes: &[u8], descriptors: &[RawFd]) -> io::Result<()> {
        let mut frame = vec![0; 8];
        serde_json::to_writer(&mut frame, &(number, value))?;
        let json = (frame.len() - 8) as u32;
        frame[..4].copy_from_slice(&json.to_ne_bytes());
        frame[4..8].copy_from_slice(&(bytes.len() as u32).to_ne_bytes());
        frame.extend_from_slice(bytes);
        let sent = if descriptors.is_empty() {
            0
        } else {
            let control = [ControlMessage::ScmRights(descriptors)];
            sendmsg::<()>(self.as_raw_fd(), &[IoSlice::new(&frame)], &control, MsgFlags::empty(), None)?
        };
        (&self.0).write_all(&frame[sent..])
    }

    /// Receives a frame. `waits` is called after each [tick](Self::set_tick) without data, and ends the wait by an
    /// error.
    pub fn receive<T: DeserializeOwned>(&self, waits: &mut dyn FnMut() -> io::Result<()>) -> io::Result<Frame<T>> {
        let mut lengths = [0; 8];
        let mut descriptors = Vec::new();
        let read = loop {
            match self.first(&mut lengths, &mut descriptors) {
                Err(error) if is_tick(&error) => waits()?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => break read?,
            }
        };
        self.rest(&mut lengths[read..], waits)?;
        let [json, bytes] = [0, 4].map(|at| u32::from_ne_bytes(lengths[at..at + 4].try_into().expect("four")) as usize);
        if json > MOST_JSON || bytes > MOST_BYTES {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a frame that is too long"));
        }
        let mut text = vec![0; json];
        self.rest(&mut text, waits)?;
        let mut raw = vec![0; bytes];
        self.rest(&mut raw, waits)?;
        let (number, value) = serde_json::from_slice(&text)?;
        Ok(Frame { number, value, bytes: raw, descriptors })
    }

    /// Receives the first bytes, with the descriptors.
    fn first(&self, into: &mut [u8], descriptors: &mut Vec<OwnedFd>) -> io::Result<usize> {
        let mut space = nix::cmsg_space!([RawFd; MOST_DESCRIPTORS]);
        #[cfg(target_os = "linux")]
        let flags = MsgFlags::MSG_CMSG_CLOEXEC;
        #[cfg(not(target_os = "linux"))]
        let flags = MsgFlags::empty();
        let mut parts = [IoSliceMut::new(into)];
        let message = recvmsg::<()>(self.as_raw_fd(), &mut parts, Some(&mut space), flags)?;
        for control in message.cmsgs()? {
            if let ControlMessageOwned::ScmRights(received) = control {
                // SAFETY: the system has just made these descriptors for this process, and no other code owns them.
                descriptors.extend(received.into_iter().map(|descriptor| unsafe { OwnedFd::from_raw_fd(descriptor) }));
            }
        }
        match message.bytes {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            read => Ok(read),
        }
    }

    fn rest(&self, mut into: &mut [u8], waits: &mut dyn FnMut() -> io::Result<()>) -> io::Result<()> {
        while !into.is_empty() {
            match (&self.0).read(into) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(read) => into = &mut into[read..],
                Err(error) if is_tick(&error) => waits()?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

fn is_tick(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

/// The answer of a kernel process.
pub(super) type Answered = Result<Answer, Failure>;

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    #[test]
    fn frames_carry_values_bytes_and_descriptors() {
        let (judge, other) = Channel::pair().unwrap();
        let other = Channel::of(other);
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"there").unwrap();
        let command = Command::SetSymbol { symbol: "s".into(), offset: 3 };
        judge.send(7, &command, b"raw", &[file.as_raw_fd()]).unwrap();
        judge.send(8, &Command::Run { bound: 0, times: 2 }, b"", &[]).unwrap();
        drop(judge);
        let never = &mut || unreachable!("it is there");
        let mut frame: Frame<Command> = other.receive(never).unwrap();
        assert_eq!((frame.number, &frame.value, &frame.bytes[..]), (7, &command, &b"raw"[..]));
        assert_eq!(File::from(frame.descriptors.remove(0)).metadata().unwrap().len(), 5);
        assert_eq!(other.receive::<Command>(never).unwrap().value, Command::Run { bound: 0, times: 2 });
        assert!(other.receive::<Command>(never).is_err_and(|error| error.kind() == io::ErrorKind::UnexpectedEof));
    }

    #[test]
    fn malformed_frames_are_errors_and_silence_is_polled() {
        let (judge, other) = Channel::pair().unwrap();
        let mut other = UnixStream::from(other);
        judge.set_tick(std::time::Duration::from_millis(1)).unwrap();
        other.write_all(b"\0\0").unwrap();
        let mut asked = 0;
        let mut twice = || {
            asked += 1;
            if asked == 2 { Err(io::Error::other("enough")) } else { Ok(()) }
        };
        assert_eq!(judge.receive::<Command>(&mut twice).err().unwrap().to_string(), "enough");
        other.write_all(b"is the rest of something").unwrap();
        assert!(judge.receive::<Command>(&mut || Ok(())).is_err_and(|e| e.kind() == io::ErrorKind::InvalidData));
    }
}
