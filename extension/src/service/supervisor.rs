//! The background worker that keeps an engine running: it owns the socket, starts, watches and replaces the engine.
//!
//! It binds the socket itself and keeps it, so that callers queue in the backlog while no engine runs. It leaves by
//! `proc_exit(1)`, because 0 would unregister it for good.
#![allow(unsafe_code)] // the entry point that the server calls

use super::child::{Child, End};
use super::{LOCK, SOCKET, settings};
use crate::guc;
use kronos_engine::frame::{FrameReader, write};
use kronos_engine::message::{Reply, Request};
use kronos_engine::restart::pause_after;
use pgrx::bgworkers::{BackgroundWorker, BackgroundWorkerBuilder, BgWorkerStartTime, SignalWakeFlags};
use pgrx::{log, pg_sys, warning};
use rustix::fs::{FlockOperation, flock};
use std::fs::{File, Permissions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::{Duration, Instant};

/// How often the worker looks when nothing wakes it.
const TICK: Duration = Duration::from_secs(1);

/// An engine that lived so long did not die of what it began with.
const HEALTHY: Duration = Duration::from_secs(10);

/// How long a supervisor waits for one that is leaving to let go of the socket.
const HANDOVER: Duration = Duration::from_secs(5);

/// Has the server start a supervisor: at its own start when called from there, else now, at a session's request.
///
/// `false` when the server has no place for another background worker.
pub fn register(at_start: bool) -> bool {
    let worker = BackgroundWorkerBuilder::new("kronos supervisor")
        .set_type("kronos supervisor")
        .set_library("kronos")
        .set_function("kronos_supervisor_main")
        .enable_shmem_access(None)
        .set_start_time(BgWorkerStartTime::ConsistentState)
        .set_restart_time(Some(Duration::from_secs(1)));
    if at_start {
        worker.load();
        return true;
    }
    worker.load_dynamic().is_ok()
}

/// What the server calls in the worker's process.
#[pgrx::pg_guard]
#[unsafe(no_mangle)]
pub extern "C-unwind" fn kronos_supervisor_main(_argument: pg_sys::Datum) {
    BackgroundWorker::attach_signal_handlers(
        SignalWakeFlags::SIGHUP | SignalWakeFlags::SIGTERM | SignalWakeFlags::SIGCHLD,
    );
    let code = match Supervisor::open() {
        Ok(Some(supervisor)) => {
            supervisor.run();
            1
        }
        // Another one is at work.
        Ok(None) => 0,
        Err(error) => {
            warning!("kronos: could not listen on \"{SOCKET}\": {error}");
            1
        }
    };
    // SAFETY: the end of a process of the server, on its only thread.
    unsafe { pg_sys::proc_exit(code) }
}

struct Supervisor {
    listener: UnixListener,
    /// Held for as long as the process lives.
    _lock: File,
    child: Option<(Child, Instant)>,
    contact: Option<Contact>,
    /// Deaths shortly after birth, in a row.
    early_deaths: u32,
    restarts: u64,
    /// When the next engine may be started.
    due: Instant,
}

impl Supervisor {
    /// Takes the socket over; `None` when another supervisor keeps it.
    fn open() -> io::Result<Option<Self>> {
        let lock = File::options().create(true).append(true).open(LOCK)?;
        let since = Instant::now();
        while let Err(error) = flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            if error != rustix::io::Errno::WOULDBLOCK {
                return Err(error.into());
            }
            if since.elapsed() > HANDOVER || !BackgroundWorker::wait_latch(Some(Duration::from_millis(100))) {
                return Ok(None);
            }
        }
        // Whatever bears the name is a crashed server's: we hold the lock. Bound under another name first, so that
        // nobody finds a socket on which nobody listens.
        let fresh = format!("{SOCKET}.new");
        for name in [fresh.as_str(), SOCKET] {
            match std::fs::remove_file(name) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        let listener = UnixListener::bind(&fresh)?;
        std::fs::set_permissions(&fresh, Permissions::from_mode(0o600))?;
        std::fs::rename(&fresh, SOCKET)?;
        Ok(Some(Self {
            listener,
            _lock: lock,
            child: None,
            contact: None,
            early_deaths: 0,
            restarts: 0,
            due: Instant::now(),
        }))
    }

    fn run(mut self) {
        loop {
            if self.child.is_none() && Instant::now() >= self.due {
                self.start();
            }
            let wait =
                if self.child.is_some() { TICK } else { self.due.saturating_duration_since(Instant::now()) };
            let stay = BackgroundWorker::wait_latch(Some(wait.clamp(Duration::from_millis(1), TICK)));
            if !stay {
                break;
            }
            if BackgroundWorker::sighup_received() {
                // SAFETY: what every process of the server does at this signal.
                unsafe { pg_sys::ProcessConfigFile(pg_sys::GucContext::PGC_SIGHUP) };
                // What has been said is said again, with the new settings.
                self.contact = None;
            }
            self.bury();
            self.watch();
        }
        if let Some((child, _)) = self.child.take() {
            child.destroy();
        }
        let _ = std::fs::remove_file(SOCKET);
    }

    fn start(&mut self) {
        match Child::fork(&self.listener, settings(), self.restarts) {
            Ok(child) => {
                log!("kronos: engine started with process ID {}", child.pid());
                self.child = Some((child, Instant::now()));
            }
            Err(error) => {
                warning!("kronos: could not start an engine: {error}");
                self.pause();
            }
        }
    }

    /// Notices that the engine has ended.
    fn bury(&mut self) {
        let Some((child, born)) = &self.child else { return };
        let Some(end) = child.ended() else { return };
        let how = match end {
            End::Signal(signal) => format!("was ended by signal {signal}"),
            End::Exit(code) => format!("exited with code {code}"),
        };
        warning!("kronos: engine with process ID {} {how}", child.pid());
        if born.elapsed() > HEALTHY {
            self.early_deaths = 0;
        }
        (self.child, self.contact) = (None, None);
        self.restarts += 1;
        self.pause();
    }

    /// Puts the next start off, the longer the more often it has failed.
    fn pause(&mut self) {
        self.early_deaths += 1;
        self.due = Instant::now() + pause_after(self.early_deaths);
    }

    /// Tells the engine its settings, and kills one that does not answer.
    fn watch(&mut self) {
        let Some((child, _)) = &self.child else { return };
        let contact = match &mut self.contact {
            Some(contact) => contact,
            none => match Contact::open() {
                Ok(contact) => none.insert(contact),
                // An engine that has just ended is buried in the next round.
                Err(_) => return,
            },
        };
        let timeout = guc::engine_timeout();
        match contact.exchange(timeout / 3) {
            Ok(silent) if silent < timeout => {}
            Ok(silent) => {
                warning!(
                    "kronos: engine with process ID {} has not answered for {} ms, replacing it",
                    child.pid(),
                    silent.as_millis()
                );
                child.kill();
            }
            Err(_) => self.contact = None,
        }
    }
}

/// The supervisor's own connection to its engine.
struct Contact {
    stream: UnixStream,
    reader: FrameReader,
    /// When the message without an answer was sent.
    sent: Option<Instant>,
    heard: Instant,
}

impl Contact {
    fn open() -> io::Result<Self> {
        let stream = UnixStream::connect(SOCKET)?;
        stream.set_nonblocking(true)?;
        let mut contact = Self { stream, reader: FrameReader::default(), sent: None, heard: Instant::now() };
        contact.tell()?;
        Ok(contact)
    }

    fn tell(&mut self) -> io::Result<()> {
        let mut message = Vec::new();
        write(&Request::Configure(settings()), &mut message).map_err(io::Error::other)?;
        self.stream.write_all(&message)?;
        self.sent = Some(Instant::now());
        Ok(())
    }

    /// Takes answers, speaks again when the last one is older than `every`; for how long the engine has been silent.
    fn exchange(&mut self, every: Duration) -> io::Result<Duration> {
        let mut piece = [0; 512];
        loop {
            match self.stream.read(&mut piece) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(count) => self.reader.push(&piece[..count]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        while self.reader.next_message::<Reply>().map_err(io::Error::other)?.is_some() {
            (self.sent, self.heard) = (None, Instant::now());
        }
        match self.sent {
            Some(sent) => Ok(sent.elapsed()),
            None if self.heard.elapsed() >= every => self.tell().map(|()| Duration::ZERO),
            None => Ok(Duration::ZERO),
        }
    }
}
