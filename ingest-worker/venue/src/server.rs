//! The venue behind sockets on loopback: websocket and REST on one port, with faults on demand.
//!
//! It publishes at its own pace whether anybody listens or not, as venues do: who is away misses trades.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime},
};

use futures_util::{SinkExt, StreamExt};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
};
use tokio_tungstenite::tungstenite::Message;

use crate::{KEY, Protocol, SECRET, Venue};

/// What goes wrong; each counts frames (or requests) of the whole server, 0 is never.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    pub drop_every: u64,
    pub duplicate_every: u64,
    /// Sends a frame after its successor.
    pub swap_every: u64,
    /// Sends noise before a frame.
    pub garbage_every: u64,
    /// Drops the connection without a goodbye.
    pub disconnect_every: u64,
    /// Answers a request with 503, or 429 with `Retry-After`, in turn.
    pub refuse_every: u64,
    /// Requests allowed in two seconds, as told by `X-RateLimit-*`; who asks more is refused and counted.
    pub quota: u64,
}

/// Pace of the publication.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Trades published at each tick.
    pub trades: usize,
    pub tick: Duration,
}

/// A running venue; it stops when this is dropped.
pub struct Server {
    pub address: SocketAddr,
    published: watch::Receiver<usize>,
    total: usize,
    tasks: tokio::task::JoinSet<()>,
    begin: Arc<watch::Sender<bool>>,
    shared: Arc<Shared>,
}

struct Shared {
    venue: Venue,
    faults: Faults,
    frames: AtomicU64,
    requests: AtomicU64,
    quota: Mutex<Quota>,
    counter: AtomicUsize,
    published: watch::Receiver<usize>,
}

/// The running period of the request limit.
#[derive(Default)]
struct Quota {
    /// Seconds since 1970 at which it ends.
    reset: u64,
    used: u64,
    violations: u64,
}

impl Quota {
    /// Counts a request; what the answer says about the limit, and whether it is over it.
    fn request(&mut self, allowed: u64) -> (String, bool) {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        if now >= self.reset {
            (self.reset, self.used) = (now + 2, 0);
        }
        self.used += 1;
        let is_over = self.used > allowed;
        self.violations += u64::from(is_over);
        let remaining = allowed.saturating_sub(self.used);
        let reset = self.reset;
        let headers = format!(
            "X-RateLimit-Limit: {allowed}\r\nX-RateLimit-Remaining: {remaining}\r\nX-RateLimit-Reset: {reset}\r\n"
        );
        (headers, is_over)
    }
}

impl Server {
    /// Starts on a free port of loopback; publication begins with the first subscription.
    ///
    /// # Errors
    /// When no port can be opened.
    pub async fn start(venue: Venue, faults: Faults, pace: Pace) -> std::io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let (publish, published) = watch::channel(0);
        let (begin, mut begun) = watch::channel(false);
        let total = venue.trades.len();
        let shared = Arc::new(Shared {
            venue,
            faults,
            frames: AtomicU64::new(0),
            requests: AtomicU64::new(0),
            quota: Mutex::default(),
            counter: AtomicUsize::new(0),
            published: published.clone(),
        });
        let mut tasks = tokio::task::JoinSet::new();
        tasks.spawn(async move {
            drop(begun.wait_for(|begun| *begun).await);
            let mut ticks = tokio::time::interval(pace.tick);
            let mut out = 0;
            while out < total {
                ticks.tick().await;
                out = (out + pace.trades).min(total);
                publish.send_replace(out);
            }
            // The last value stays readable for as long as the sender lives.
            std::future::pending::<()>().await;
        });
        let begin = Arc::new(begin);
        let (to_begin, to_share) = (Arc::clone(&begin), Arc::clone(&shared));
        tasks.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (shared, begin) = (Arc::clone(&to_share), Arc::clone(&to_begin));
                tokio::spawn(async move {
                    // A peer that is gone is the test's doing.
                    drop(serve(stream, &shared, &begin).await);
                });
            }
        });
        Ok(Server { address, published, total, tasks, begin, shared })
    }

    /// Begins to publish although nobody listens.
    pub fn begin(&self) {
        self.begin.send_replace(true);
    }

    /// Requests beyond the announced limit.
    pub fn violations(&self) -> u64 {
        self.shared.quota.lock().unwrap_or_else(PoisonError::into_inner).violations
    }

    /// Waits until every trade is out.
    pub async fn finished(&mut self) {
        let total = self.total;
        drop(self.published.wait_for(|out| *out >= total).await);
    }

    /// Trades that are out.
    pub fn published(&self) -> usize {
        *self.published.borrow()
    }

    /// Stops serving at once.
    pub fn stop(mut self) {
        self.tasks.abort_all();
    }
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

async fn serve(mut stream: TcpStream, shared: &Shared, begin: &watch::Sender<bool>) -> Result<(), Failure> {
    let mut head = [0; 4096];
    let request = loop {
        let read = stream.peek(&mut head).await?;
        let text = String::from_utf8_lossy(&head[..read]).into_owned();
        if text.contains("\r\n\r\n") || read == 0 {
            break text;
        }
        tokio::task::yield_now().await;
    };
    if request.to_lowercase().contains("upgrade: websocket") {
        return publish(stream, shared, begin).await;
    }
    // REST clients keep connections: answer until they leave.
    let mut pending = Vec::new();
    loop {
        while !pending.windows(4).any(|w| w == b"\r\n\r\n") {
            let mut chunk = [0; 4096];
            let read = stream.read(&mut chunk).await?;
            if read == 0 {
                return Ok(());
            }
            pending.extend_from_slice(&chunk[..read]);
        }
        let text = String::from_utf8_lossy(&pending).into_owned();
        pending.clear();
        let target = text.split(' ').nth(1).unwrap_or("/").to_owned();
        let number = shared.requests.fetch_add(1, Ordering::Relaxed) + 1;
        let out = *shared.published.borrow();
        let (limits, is_over) = match shared.faults.quota {
            0 => (String::new(), false),
            allowed => shared.quota.lock().unwrap_or_else(PoisonError::into_inner).request(allowed),
        };
        let (status, extra, body) = match is_due(number, shared.faults.refuse_every) {
            _ if !is_allowed(&text, shared.venue.protocol) => {
                (403, limits, r#"{"message":"forbidden."}"#.to_owned())
            }
            _ if is_over => (429, limits, r#"{"message":"too many requests."}"#.to_owned()),
            true if number.is_multiple_of(2) => {
                (429, "Retry-After: 1\r\n".to_owned(), "slow down".to_owned())
            }
            true => (503, limits, "<html>busy</html>".to_owned()),
            false => {
                let (status, body) = shared.venue.answer(&target, out);
                (status, limits, body)
            }
        };
        let head = format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\n{extra}\r\n", body.len());
        stream.write_all(head.as_bytes()).await?;
        stream.write_all(body.as_bytes()).await?;
    }
}

/// Alpaca wants the account in the headers of every request.
fn is_allowed(request: &str, protocol: Protocol) -> bool {
    let has = |name: &str, value: &str| {
        let mut headers = request.lines().filter_map(|line| line.split_once(':'));
        headers.any(|(key, given)| key.eq_ignore_ascii_case(name) && given.trim() == value)
    };
    !matches!(protocol, Protocol::Alpaca | Protocol::AlpacaCrypto)
        || (has("APCA-API-KEY-ID", KEY) && has("APCA-API-SECRET-KEY", SECRET))
}

fn is_due(number: u64, every: u64) -> bool {
    every > 0 && number.is_multiple_of(every)
}

async fn publish(stream: TcpStream, shared: &Shared, begin: &watch::Sender<bool>) -> Result<(), Failure> {
    let mut socket = tokio_tungstenite::accept_async(stream).await?;
    loop {
        match socket.next().await {
            Some(Ok(Message::Text(text))) => {
                for answer in shared.venue.acknowledge(&text) {
                    socket.send(Message::text(answer)).await?;
                }
                if shared.venue.is_subscription(&text) {
                    break;
                }
            }
            Some(Ok(_)) => {}
            _ => return Ok(()),
        }
    }
    let mut published = shared.published.clone();
    // A subscription brings what is published from now on.
    let mut sent = *published.borrow_and_update();
    begin.send_replace(true);
    let mut sequence = 0;
    let mut heartbeats = tokio::time::interval(Duration::from_secs(1));
    let mut held: Option<String> = None;
    loop {
        tokio::select! {
            changed = published.changed() => {
                changed?;
                let out = *published.borrow_and_update();
                while sent < out {
                    let end = (sent + shared.venue.protocol.packed()).min(out);
                    sequence += 1;
                    let frame = shared.venue.frame(&shared.venue.trades[sent..end], sequence);
                    sent = end;
                    let number = shared.frames.fetch_add(1, Ordering::Relaxed) + 1;
                    if is_due(number, shared.faults.disconnect_every) {
                        return Ok(());
                    }
                    if is_due(number, shared.faults.garbage_every) {
                        socket.feed(Message::text("{\"type\":\"match\",\"trade_id\":")).await?;
                    }
                    if is_due(number, shared.faults.drop_every) {
                        continue;
                    }
                    if is_due(number, shared.faults.swap_every) {
                        held = Some(frame);
                        continue;
                    }
                    if is_due(number, shared.faults.duplicate_every) {
                        socket.feed(Message::text(frame.clone())).await?;
                    }
                    socket.feed(Message::text(frame)).await?;
                    if let Some(trade) = shared.venue.trades.get(end - 1).filter(|_| shared.venue.has_quotes) {
                        sequence += i64::from(shared.venue.protocol == Protocol::Coinbase);
                        socket.feed(Message::text(shared.venue.quote(trade, sequence))).await?;
                    }
                    if let Some(late) = held.take() {
                        socket.feed(Message::text(late)).await?;
                    }
                }
                socket.flush().await?;
            }
            _ = heartbeats.tick() => {
                let counter = shared.counter.fetch_add(1, Ordering::Relaxed);
                for frame in shared.venue.heartbeat(sent, i64::try_from(counter)?, sequence + 1) {
                    socket.send(Message::text(frame)).await?;
                }
                sequence += i64::from(shared.venue.protocol == Protocol::Coinbase);
            }
            message = socket.next() => match message {
                Some(Ok(Message::Text(text))) => {
                    for answer in shared.venue.acknowledge(&text) {
                        socket.send(Message::text(answer)).await?;
                    }
                }
                Some(Ok(_)) => {}
                _ => return Ok(()),
            },
        }
    }
}
