//! The engine behind a Unix-domain socket: one thread that waits for callers, reads, writes, and notices who has gone.
//!
//! A thread per caller would cost memory with every connection; one `poll` over all of them costs a microsecond.

use crate::connection::{Connection, Ended};
use crate::core::{Core, Origin};
use crate::job::{CallerId, Delivery, RequestId, Sink};
use crate::message::{Refusal, Reply, Request, Settings};
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::io::Errno;
use rustix::net::sockopt::socket_peercred;
use rustix::process::{getppid, getuid};
use std::collections::HashMap;
use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

/// How often a caller that waits gets a sign of life.
pub const HEARTBEAT: Duration = Duration::from_secs(1);

/// How long new callers are left waiting when the process has no descriptor for them.
const EXHAUSTED: Duration = Duration::from_millis(100);

/// Deliveries on their way from the models' threads to the one that writes.
struct Mailbox {
    deliveries: Sender<(CallerId, RequestId, Delivery)>,
    wake: Arc<OwnedFd>,
}

impl Sink for Mailbox {
    fn deliver(&self, caller: CallerId, request: RequestId, delivery: Delivery) {
        // Both fail only when the server has ended, and the process with it.
        if self.deliveries.send((caller, request, delivery)).is_ok() {
            let _ = rustix::io::write(&self.wake, &1u64.to_ne_bytes());
        }
    }
}

/// Serves callers for as long as the process lives. Only callers of the same user are answered.
///
/// # Errors
/// When waiting itself fails, which leaves nothing to be done.
pub fn serve(listener: UnixListener, settings: Settings, origin: Origin) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let wake = Arc::new(eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?);
    let (deliveries, inbox) = channel();
    let core = Core::new(settings, origin, Mailbox { deliveries, wake: wake.clone() });
    Server { listener, wake, core, inbox, callers: HashMap::new(), next: 0, scratch: vec![0; 64 << 10] }.run()
}

struct Server {
    listener: UnixListener,
    wake: Arc<OwnedFd>,
    core: Core,
    inbox: Receiver<(CallerId, RequestId, Delivery)>,
    callers: HashMap<CallerId, Connection>,
    next: CallerId,
    scratch: Vec<u8>,
}

impl Server {
    fn run(mut self) -> io::Result<()> {
        let mut beat = Instant::now() + HEARTBEAT;
        let mut accept_from = Instant::now();
        loop {
            let now = Instant::now();
            if now >= beat {
                beat = now + HEARTBEAT;
                self.give_signs_of_life();
            }
            let accepting = now >= accept_from;
            let until = if accepting { beat } else { beat.min(accept_from) };
            let ready = self.wait(accepting, until.saturating_duration_since(now))?;
            if ready.accept && !self.accept()? {
                accept_from = Instant::now() + EXHAUSTED;
            }
            self.distribute();
            for (caller, events) in ready.callers {
                self.attend(caller, events);
            }
        }
    }

    fn wait(&self, accepting: bool, timeout: Duration) -> io::Result<Ready> {
        let listen = if accepting { PollFlags::IN } else { PollFlags::empty() };
        let mut fds = vec![PollFd::new(&self.listener, listen), PollFd::new(&*self.wake, PollFlags::IN)];
        let ids: Vec<CallerId> = self.callers.keys().copied().collect();
        for connection in self.callers.values() {
            let mut events = PollFlags::IN | PollFlags::RDHUP;
            events.set(PollFlags::OUT, connection.wants_to_write());
            fds.push(PollFd::new(connection.stream(), events));
        }
        let timeout = Timespec { tv_sec: timeout.as_secs() as i64, tv_nsec: timeout.subsec_nanos().into() };
        match poll(&mut fds, Some(&timeout)) {
            Ok(_) => {}
            Err(Errno::INTR) => return Ok(Ready::default()),
            Err(error) => return Err(error.into()),
        }
        let happened = fds[2..].iter().map(PollFd::revents);
        Ok(Ready {
            accept: !fds[0].revents().is_empty(),
            callers: ids.into_iter().zip(happened).filter(|(_, events)| !events.is_empty()).collect(),
        })
    }

    /// Takes every caller that waits; `false` when the process has no descriptors left.
    fn accept(&mut self) -> io::Result<bool> {
        loop {
            match self.listener.accept() {
                Ok((stream, _)) => self.welcome(stream),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(true),
                Err(error)
                    if matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::ConnectionAborted) => {}
                Err(error) => {
                    let short =
                        [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM].map(Errno::raw_os_error);
                    return match error.raw_os_error() {
                        Some(code) if short.contains(&code) => Ok(false),
                        _ => Err(error),
                    };
                }
            }
        }
    }

    /// Whoever is not of the same user finds the connection closed.
    fn welcome(&mut self, stream: UnixStream) {
        let Ok(peer) = socket_peercred(&stream) else { return };
        if peer.uid == getuid() && stream.set_nonblocking(true).is_ok() {
            let pid = peer.pid.as_raw_nonzero().get().unsigned_abs();
            self.callers.insert(self.next, Connection::new(stream, pid));
            self.next += 1;
        }
    }

    /// Hands what the models have finished to the connections that wait for it.
    fn distribute(&mut self) {
        let mut count = [0; 8];
        // Fails when there was nothing to clear.
        let _ = rustix::io::read(&self.wake, &mut count);
        let mut touched = Vec::new();
        while let Ok((caller, request, delivery)) = self.inbox.try_recv() {
            let Some(connection) = self.callers.get_mut(&caller) else { continue };
            if connection.request != Some(request) {
                continue;
            }
            if matches!(&delivery, Delivery::Reply(reply) if reply.is_last()) {
                connection.request = None;
            }
            connection.send(delivery);
            if touched.last() != Some(&caller) {
                touched.push(caller);
            }
        }
        for caller in touched {
            self.flush(caller);
        }
    }

    fn attend(&mut self, caller: CallerId, events: PollFlags) {
        if events.intersects(PollFlags::RDHUP | PollFlags::HUP | PollFlags::ERR | PollFlags::NVAL) {
            return self.part(caller);
        }
        if events.contains(PollFlags::IN) {
            let Some(connection) = self.callers.get_mut(&caller) else { return };
            match connection.receive(&mut self.scratch) {
                Ok(None) => {}
                Ok(Some(request)) => self.take(caller, request),
                Err(Ended::Gone | Ended::Io(_)) => return self.part(caller),
                Err(Ended::Protocol(error)) => {
                    let refusal = Refusal::Protocol { reason: error.to_string() };
                    connection.send(Delivery::Reply(Reply::Refused(refusal)));
                    self.flush(caller);
                    return self.part(caller);
                }
            }
        }
        if events.contains(PollFlags::OUT) {
            self.flush(caller);
        }
    }

    fn take(&mut self, caller: CallerId, request: Request) {
        let connections = self.callers.len() as u64;
        let Some(connection) = self.callers.get_mut(&caller) else { return };
        let refused = if connection.request.is_some() {
            Some("a request before the answer to the one before")
        } else if matches!(request, Request::Configure(_)) && !is_parent(connection.pid) {
            Some("settings from a process that is not the supervisor")
        } else {
            None
        };
        if let Some(what) = refused {
            let refusal = Refusal::Protocol { reason: format!("the caller sent {what}") };
            connection.send(Delivery::Reply(Reply::Refused(refusal)));
            self.flush(caller);
            return self.part(caller);
        }
        let pid = connection.pid;
        let id = self.core.submit(caller, pid, request, connections);
        // Replies wait in the mailbox until this thread looks there, so none is missed.
        if let Some(connection) = self.callers.get_mut(&caller) {
            connection.request = Some(id);
        }
    }

    fn flush(&mut self, caller: CallerId) {
        let Some(connection) = self.callers.get_mut(&caller) else { return };
        if connection.flush().is_err() {
            self.part(caller);
        }
    }

    /// Forgets a caller; its request ends at the next step.
    fn part(&mut self, caller: CallerId) {
        if let Some(Connection { request: Some(request), .. }) = self.callers.remove(&caller) {
            self.core.cancel(request);
        }
    }

    fn give_signs_of_life(&mut self) {
        for (caller, request, progress) in self.core.progress() {
            let Some(connection) = self.callers.get_mut(&caller) else { continue };
            // One that does not read gets no more of them than one.
            if connection.request == Some(request) && !connection.wants_to_write() {
                connection.send(Delivery::Reply(Reply::Progress(progress)));
                self.flush(caller);
            }
        }
    }
}

fn is_parent(pid: u32) -> bool {
    getppid().is_some_and(|parent| parent.as_raw_nonzero().get().unsigned_abs() == pid)
}

/// What `poll` found.
#[derive(Default)]
struct Ready {
    accept: bool,
    callers: Vec<(CallerId, PollFlags)>,
}
