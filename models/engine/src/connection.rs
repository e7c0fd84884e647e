//! One caller's end of the socket: what has arrived, what is still to be sent.

use crate::frame::{self, FrameError, FrameReader};
use crate::job::{Delivery, RequestId};
use crate::message::{Reply, Request};
use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;

/// Encoded bytes waiting for the socket before more is encoded.
const BACKLOG: usize = 256 << 10;

/// A caller.
#[derive(Debug)]
pub struct Connection {
    stream: UnixStream,
    /// Its process.
    pub pid: u32,
    /// Its request in work.
    pub request: Option<RequestId>,
    reader: FrameReader,
    outgoing: VecDeque<Delivery>,
    encoded: Vec<u8>,
    written: usize,
}

/// Why a caller is let go.
#[derive(Debug, thiserror::Error)]
pub enum Ended {
    /// It hung up.
    #[error("the caller has gone")]
    Gone,
    /// The socket failed.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// It does not follow the protocol.
    #[error(transparent)]
    Protocol(#[from] FrameError),
}

impl Connection {
    /// Takes a caller on; the stream must not block.
    pub fn new(stream: UnixStream, pid: u32) -> Self {
        Self {
            stream,
            pid,
            request: None,
            reader: FrameReader::default(),
            outgoing: VecDeque::new(),
            encoded: Vec::new(),
            written: 0,
        }
    }

    /// The socket.
    pub fn stream(&self) -> &UnixStream {
        &self.stream
    }

    /// Reads what is there; `scratch` is memory to read into.
    pub fn receive(&mut self, scratch: &mut [u8]) -> Result<Option<Request>, Ended> {
        loop {
            match self.stream.read(scratch) {
                Ok(0) => return Err(Ended::Gone),
                Ok(count) => {
                    self.reader.push(&scratch[..count]);
                    if let Some(request) = self.reader.next_message()? {
                        return Ok(Some(request));
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Queues something to be sent.
    pub fn send(&mut self, delivery: Delivery) {
        self.outgoing.push_back(delivery);
    }

    /// Whether something is left to send.
    pub fn wants_to_write(&self) -> bool {
        self.written < self.encoded.len() || !self.outgoing.is_empty()
    }

    /// Sends what the socket takes.
    pub fn flush(&mut self) -> Result<(), Ended> {
        loop {
            self.encode()?;
            if self.written == self.encoded.len() {
                // Memory of a long answer is not kept while the caller is silent.
                (self.encoded, self.written) = (Vec::new(), 0);
                return Ok(());
            }
            match self.stream.write(&self.encoded[self.written..]) {
                Ok(0) => return Err(Ended::Gone),
                Ok(count) => self.written += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Encodes what comes next, in bounded pieces.
    fn encode(&mut self) -> Result<(), Ended> {
        if self.written == self.encoded.len() {
            self.encoded.clear();
            self.written = 0;
        }
        while self.encoded.len() < BACKLOG {
            let reply = match self.outgoing.front_mut() {
                None => break,
                Some(Delivery::Paths(series)) => series.next_piece(),
                Some(Delivery::Reply(_)) => None,
            };
            match reply {
                Some(piece) => self.put(&piece)?,
                None => {
                    if let Some(Delivery::Reply(reply)) = self.outgoing.pop_front() {
                        self.put(&reply)?;
                    }
                }
            }
        }
        Ok(())
    }

    fn put(&mut self, reply: &Reply) -> Result<(), Ended> {
        Ok(frame::write(reply, &mut self.encoded)?)
    }
}
