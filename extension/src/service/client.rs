//! A session's side of the service: ask, wait on the latch, ask once more when the engine went away meanwhile.
//!
//! A request may be repeated because its answer depends on nothing but itself. Whatever interrupts the wait drops the
//! connection, which is how the engine learns that nobody waits any more; a connection is kept only after a whole
//! answer, so no stale reply can be read later.

use super::{SOCKET, supervisor};
use crate::engine::wait::{Patience, Readiness, wait};
use crate::error::{Error, Result};
use crate::guc;
use kronos_engine::answer::{Answer, Assembly};
use kronos_engine::frame::{FrameError, FrameReader, write};
use kronos_engine::message::{Refusal, Request};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
use std::cell::Cell;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

/// How long a session waits for a service that is starting or restarting.
const START: Duration = Duration::from_secs(10);

/// How long it waits between two attempts to connect.
const RETRY: Duration = Duration::from_millis(10);

/// What the engine may be silent beyond `kronos.engine_timeout`: the supervisor replaces it before.
const GRACE: Duration = Duration::from_secs(5);

/// How often a request is sent again whose engine has ended before it answered.
const RETRIES: u32 = 4;

/// Half the pause before the first of these times; each next one is twice as long.
const REST: Duration = Duration::from_millis(25);

/// Bytes read at a time.
const PIECE: usize = 64 << 10;

thread_local! {
    /// Only the main thread of a backend makes requests, so this is one per process.
    static KEPT: Cell<Option<UnixStream>> = const { Cell::new(None) };
}

/// Why an attempt has no answer.
enum Failed {
    /// The engine went away before a whole answer had come.
    Lost(String),
    /// Repeating would not help.
    Final(Error),
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Self::Final(error)
    }
}

impl From<std::io::Error> for Failed {
    fn from(error: std::io::Error) -> Self {
        Self::Lost(error.to_string())
    }
}

impl From<FrameError> for Failed {
    fn from(error: FrameError) -> Self {
        Self::Final(Error::Internal { what: error.to_string() })
    }
}

/// Whether a service runs, or will without being asked.
pub fn is_expected() -> bool {
    guc::preloaded() || std::path::Path::new(SOCKET).exists()
}

/// Has the engine of the server answer a request, serving interrupts until it has.
///
/// # Errors
/// The engine's own; a timeout by `kronos.request_timeout`; [`Error::NotReady`] when no service can be reached or the
/// engine does not respond.
pub fn call(request: &Request) -> Result<Answer> {
    let patience = Patience::of_session();
    let mut message = Vec::new();
    write(request, &mut message).map_err(|error| match error {
        FrameError::TooLong { length, limit } => Error::LimitExceeded {
            what: "size of the request in bytes",
            got: length as u64,
            limit: limit as u64,
            guc: "kronos.max_series_per_call",
        },
        other => Error::Internal { what: other.to_string() },
    })?;
    let (mut lost, mut first) = (0, None);
    loop {
        match attempt(&message, request.series_count(), patience) {
            Ok(answer) => return Ok(answer),
            Err(Failed::Final(error)) => return Err(error),
            Err(Failed::Lost(reason)) => {
                lost += 1;
                let since = first.get_or_insert_with(Instant::now);
                // A request that brings engines down must not do so for ever; how long it took until the first did is no fault of it.
                if lost > RETRIES || since.elapsed() > guc::engine_timeout() + GRACE {
                    return Err(Error::EngineFailed {
                        reason: format!("The engine ended {lost} times while answering: {reason}"),
                    });
                }
                rest(REST * (1 << lost), patience)?;
            }
        }
    }
}

/// Lets an engine that has just ended be replaced, serving interrupts.
fn rest(pause: Duration, patience: Patience) -> Result<()> {
    let since = Instant::now();
    while let Some(left) = pause.checked_sub(since.elapsed()) {
        wait(None, patience, Some(left.min(RETRY)))?;
    }
    Ok(())
}

fn attempt(message: &[u8], series: usize, patience: Patience) -> Result<Answer, Failed> {
    let mut stream = match KEPT.take().filter(is_quiet) {
        Some(kept) => kept,
        None => open(patience)?,
    };
    let limit = guc::engine_timeout() + GRACE;
    let mut heard = Instant::now();
    let mut rest = message;
    while !rest.is_empty() {
        match stream.write(rest) {
            Ok(count) => {
                rest = &rest[count..];
                heard = Instant::now();
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                await_engine(&stream, Readiness::Writable, patience, heard, limit)?;
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
    let mut assembly = Assembly::new(series);
    let mut reader = FrameReader::default();
    let mut piece = vec![0; PIECE];
    loop {
        match stream.read(&mut piece) {
            Ok(0) => return Err(Failed::Lost("it closed the connection".into())),
            Ok(count) => {
                heard = Instant::now();
                reader.push(&piece[..count]);
                while let Some(reply) = reader.next_message()? {
                    let last = assembly.take(reply).map_err(|refusal| {
                        if !matches!(refusal, Refusal::Protocol { .. } | Refusal::Broken { .. }) {
                            KEPT.set(stream.try_clone().ok());
                        }
                        Error::from(refusal)
                    })?;
                    if let Some(answer) = last {
                        KEPT.set(Some(stream));
                        return Ok(answer);
                    }
                }
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                await_engine(&stream, Readiness::Readable, patience, heard, limit)?;
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Waits for the engine; it gives a sign of life every second, however long its work takes.
fn await_engine(
    stream: &UnixStream,
    readiness: Readiness,
    patience: Patience,
    heard: Instant,
    limit: Duration,
) -> Result<(), Failed> {
    let silent = heard.elapsed();
    if silent >= limit {
        return Err(Failed::Final(Error::NotReady {
            what: format!("the inference service has not responded for {} ms", silent.as_millis()),
            hint: "Its supervisor replaces an engine that hangs; repeat the query, and check the server log."
                .into(),
        }));
    }
    Ok(wait(Some((stream.as_fd(), readiness)), patience, Some(limit - silent))?)
}

/// Whether nothing has happened to a kept connection: no reply nobody asked for, no hang-up.
fn is_quiet(stream: &UnixStream) -> bool {
    let mut fds = [PollFd::new(stream, PollFlags::IN | PollFlags::RDHUP)];
    poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })) == Ok(0)
}

/// Connects, waiting for a service that is about to be there and starting one where none would come by itself.
fn open(patience: Patience) -> Result<UnixStream, Failed> {
    let since = Instant::now();
    let mut may_start = !guc::preloaded();
    let mut started = true;
    loop {
        match try_connect() {
            Ok(stream) => return Ok(stream),
            Err(Errno::NOENT | Errno::CONNREFUSED) => {
                if std::mem::take(&mut may_start) {
                    started = supervisor::register(false);
                }
            }
            // The backlog is full for a moment.
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(error) => return Err(Failed::Lost(std::io::Error::from(error).to_string())),
        }
        if since.elapsed() > START {
            return Err(Failed::Final(unreachable_service(started)));
        }
        wait(None, patience, Some(RETRY))?;
    }
}

fn try_connect() -> Result<UnixStream, Errno> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    connect(&socket, &SocketAddrUnix::new(SOCKET)?)?;
    Ok(UnixStream::from(socket))
}

fn unreachable_service(started: bool) -> Error {
    Error::NotReady {
        what: "the inference service is not available".into(),
        hint: if started {
            "Check the server log; shared_preload_libraries should contain 'kronos'.".into()
        } else {
            "No background worker is free: raise max_worker_processes, or add 'kronos' to shared_preload_libraries."
                .into()
        },
    }
}
