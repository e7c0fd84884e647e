//! The network as the streams see it: open a websocket, get a REST response. Tests put a scripted one in its place.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use futures_util::{FutureExt, SinkExt, StreamExt, future::BoxFuture};
use tokio::{net::TcpStream, time::Instant};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async_with_config,
    tungstenite::{Message, protocol::WebSocketConfig},
};

use crate::{
    error::{Error, FeedError, Result},
    feed::Request,
};

/// Largest frame and response accepted; the largest real ones (order book snapshots) are under 1 MiB.
const MAX_FRAME: usize = 16 << 20;
const MAX_BODY: usize = 64 << 20;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(30);

/// What comes out of an open connection.
#[derive(Clone, Debug, PartialEq)]
pub enum Received {
    /// A text or binary frame.
    Frame(Vec<u8>),
    /// A ping or pong: the peer lives.
    Alive,
    /// The end, with the peer's code and reason where it gave them.
    Closed { code: Option<u16>, reason: String },
}

/// An open websocket. All methods may be dropped while waiting.
pub trait Connection: Send {
    fn send(&mut self, text: String) -> BoxFuture<'_, Result<(), FeedError>>;
    fn ping(&mut self) -> BoxFuture<'_, Result<(), FeedError>>;
    fn receive(&mut self) -> BoxFuture<'_, Received>;
}

/// Opens connections and answers requests.
pub trait Transport: Send + Sync {
    fn open(&self, url: String) -> BoxFuture<'static, Result<Box<dyn Connection>, FeedError>>;
    /// The body of a successful response; refusals come as the [`FeedError`] they mean.
    fn get(&self, request: Request) -> BoxFuture<'static, Result<Vec<u8>, FeedError>>;
}

/// The real network.
#[derive(Clone)]
pub struct Network {
    http: reqwest::Client,
    limits: Limits,
}

/// Until when each host has asked not to be asked, as told by the headers of its answers.
#[derive(Clone, Default)]
struct Limits(Arc<Mutex<HashMap<String, Instant>>>);

impl Limits {
    /// Waits until the host of a request takes it.
    async fn wait(&self, host: &str) {
        let until = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(host).copied();
        if let Some(until) = until {
            tokio::time::sleep_until(until).await;
        }
    }

    fn hold(&self, host: &str, pause: Duration) {
        let until = Instant::now() + pause;
        let mut holds = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let held = holds.entry(host.to_owned()).or_insert(until);
        *held = until.max(*held);
    }
}

impl Network {
    /// Sets up TLS for both kinds of connection.
    ///
    /// # Errors
    /// [`Error::Usage`] when the system's certificates cannot be used.
    pub fn new() -> Result<Self> {
        // A provider that is installed already is ours, from an earlier call.
        drop(rustls::crypto::ring::default_provider().install_default());
        let http = reqwest::Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(RESPONSE_TIMEOUT)
            .user_agent(concat!("kronos-ingest/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|e| Error::Usage(format!("could not set up HTTP: {e}")))?;
        Ok(Network { http, limits: Limits::default() })
    }
}

impl Transport for Network {
    fn open(&self, url: String) -> BoxFuture<'static, Result<Box<dyn Connection>, FeedError>> {
        async move {
            let config =
                WebSocketConfig::default().max_message_size(Some(MAX_FRAME)).max_frame_size(Some(MAX_FRAME));
            let opening = connect_async_with_config(&url, Some(config), true);
            let (socket, _) = tokio::time::timeout(CONNECT_TIMEOUT, opening)
                .await
                .map_err(|_| FeedError::Transient("no handshake in 10 s".to_owned()))?
                .map_err(handshake_error)?;
            Ok(Box::new(WebSocket { socket }) as Box<dyn Connection>)
        }
        .boxed()
    }

    fn get(&self, request: Request) -> BoxFuture<'static, Result<Vec<u8>, FeedError>> {
        let (http, limits) = (self.http.clone(), self.limits.clone());
        async move {
            let url = reqwest::Url::parse(&request.url).map_err(|e| FeedError::Fatal(e.to_string()))?;
            let host = url.authority().to_owned();
            limits.wait(&host).await;
            let mut builder = http.get(&request.url);
            for (name, value) in &request.headers {
                builder = builder.header(*name, &value.0);
            }
            let response = builder.send().await.map_err(|e| transient(&e))?;
            let status = response.status().as_u16();
            let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
            let pause = pause(response.headers(), now.as_secs());
            if let Some(pause) = pause {
                tracing::debug!(
                    host,
                    seconds = pause.as_secs(),
                    "no request is left until the limit is reset"
                );
                limits.hold(&host, pause);
            }
            let retry_after = retry_after(response.headers()).or(pause);
            let mut body = Vec::new();
            let mut chunks = response.bytes_stream_checked();
            while let Some(chunk) = chunks.next().await {
                let chunk = chunk?;
                if body.len() + chunk.len() > MAX_BODY {
                    return Err(FeedError::Rejected(format!("response of more than {MAX_BODY} bytes")));
                }
                body.extend_from_slice(&chunk);
            }
            classify(status, retry_after, &body)?;
            Ok(body)
        }
        .boxed()
    }
}

/// The body of a response chunk by chunk, so that its size can be bounded.
trait BodyStream {
    fn bytes_stream_checked(
        self,
    ) -> futures_util::stream::BoxStream<'static, Result<bytes::Bytes, FeedError>>;
}

impl BodyStream for reqwest::Response {
    fn bytes_stream_checked(
        self,
    ) -> futures_util::stream::BoxStream<'static, Result<bytes::Bytes, FeedError>> {
        futures_util::stream::unfold(Some(self), |response| async {
            let mut response = response?;
            match response.chunk().await {
                Ok(Some(chunk)) => Some((Ok(chunk), Some(response))),
                Ok(None) => None,
                Err(error) => Some((Err(transient(&error)), None)),
            }
        })
        .boxed()
    }
}

/// Errors of the client without its URL, which may be long and holds nothing new.
fn transient(error: &reqwest::Error) -> FeedError {
    let mut text = error.to_string();
    if let Some(cause) = std::error::Error::source(error) {
        text = format!("{text}: {cause}");
    }
    FeedError::Transient(text)
}

/// What an HTTP status means. 404 and its kin concern the request, not the feed.
///
/// # Errors
/// Everything but a success.
pub fn classify(status: u16, retry_after: Option<Duration>, body: &[u8]) -> Result<(), FeedError> {
    let text = String::from_utf8_lossy(&body[..body.len().min(200)]).into_owned();
    let reason = format!("HTTP {status} {text}");
    match status {
        200..=299 => Ok(()),
        429 | 418 => Err(FeedError::RateLimited { reason, retry_after }),
        401..=403 => Err(FeedError::Fatal(reason)),
        408 | 425 | 500..=599 => Err(FeedError::Transient(reason)),
        _ => Err(FeedError::Rejected(reason)),
    }
}

fn retry_after(headers: &reqwest::header::HeaderMap) -> Option<Duration> {
    let seconds: u64 = headers.get("retry-after")?.to_str().ok()?.parse().ok()?;
    Some(Duration::from_secs(seconds.min(3_600)))
}

/// How long `X-RateLimit-*` asks to wait: nothing while requests remain.
fn pause(headers: &reqwest::header::HeaderMap, now: u64) -> Option<Duration> {
    let number = |name: &str| headers.get(name)?.to_str().ok()?.trim().parse::<u64>().ok();
    if number("x-ratelimit-remaining")? > 0 {
        return None;
    }
    // A time where it is one, else seconds from now.
    let reset = number("x-ratelimit-reset")?;
    let wait = if reset > 1_000_000_000 { reset.saturating_sub(now) } else { reset };
    Some(Duration::from_secs(wait.min(3_600)))
}

fn handshake_error(error: tokio_tungstenite::tungstenite::Error) -> FeedError {
    match error {
        tokio_tungstenite::tungstenite::Error::Http(response) => {
            let body = response.body().clone().unwrap_or_default();
            match classify(response.status().as_u16(), None, &body) {
                // A path that is not there today may be there after the venue's maintenance.
                Ok(()) | Err(FeedError::Rejected(_)) => FeedError::Transient(format!(
                    "handshake answered with HTTP {}",
                    response.status().as_u16()
                )),
                Err(error) => error,
            }
        }
        other => FeedError::Transient(other.to_string()),
    }
}

struct WebSocket {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
}

impl Connection for WebSocket {
    fn send(&mut self, text: String) -> BoxFuture<'_, Result<(), FeedError>> {
        let sending = self.socket.send(Message::text(text));
        sending.map(|sent| sent.map_err(|e| FeedError::Transient(e.to_string()))).boxed()
    }

    fn ping(&mut self) -> BoxFuture<'_, Result<(), FeedError>> {
        let sending = self.socket.send(Message::Ping(bytes::Bytes::new()));
        sending.map(|sent| sent.map_err(|e| FeedError::Transient(e.to_string()))).boxed()
    }

    fn receive(&mut self) -> BoxFuture<'_, Received> {
        async {
            match self.socket.next().await {
                Some(Ok(Message::Text(text))) => Received::Frame(text.as_bytes().to_vec()),
                Some(Ok(Message::Binary(bytes))) => Received::Frame(bytes.to_vec()),
                Some(Ok(Message::Close(frame))) => Received::Closed {
                    code: frame.as_ref().map(|f| f.code.into()),
                    reason: frame.map_or_else(|| "closed by the peer".to_owned(), |f| f.reason.to_string()),
                },
                Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => Received::Alive,
                Some(Err(error)) => Received::Closed { code: None, reason: error.to_string() },
                None => Received::Closed { code: None, reason: "connection lost".to_owned() },
            }
        }
        .boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_used_up_limit_is_waited_for() {
        let headers = |remaining: &str, reset: &str| {
            let mut headers = reqwest::header::HeaderMap::new();
            headers.insert("x-ratelimit-remaining", remaining.parse().unwrap());
            headers.insert("x-ratelimit-reset", reset.parse().unwrap());
            headers
        };
        let now = 1_800_000_000;
        assert_eq!(pause(&headers("1", "1800000009"), now), None);
        assert_eq!(pause(&headers("0", "1800000009"), now), Some(Duration::from_secs(9)));
        assert_eq!(pause(&headers("0", "7"), now), Some(Duration::from_secs(7)));
        assert_eq!(pause(&headers("0", "1799999999"), now), Some(Duration::ZERO));
        assert_eq!(pause(&headers("0", "soon"), now), None);
        assert_eq!(pause(&reqwest::header::HeaderMap::new(), now), None);
    }

    #[test]
    fn statuses_are_told_apart() {
        let wait = Some(Duration::from_secs(7));
        assert!(classify(200, None, b"").is_ok());
        assert!(
            matches!(classify(429, wait, b""), Err(FeedError::RateLimited { retry_after, .. }) if retry_after == wait)
        );
        for status in [401, 402, 403] {
            assert!(matches!(classify(status, None, b""), Err(FeedError::Fatal(_))), "{status}");
        }
        assert!(
            matches!(classify(503, None, b"busy"), Err(FeedError::Transient(text)) if text.contains("busy"))
        );
        assert!(matches!(classify(404, None, b"<html>"), Err(FeedError::Rejected(_))));
    }
}
