//! The real network: HTTP and websockets over TLS.

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

use super::{
    Answer, Connection, Received, Request, Transport,
    answer::{classify, retry_after, used_up},
};
use crate::error::{Error, FeedError, Result};

/// Largest frame accepted; the largest real ones (order book snapshots) are under 1 MiB.
const MAX_FRAME: usize = 16 << 20;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

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
            // Where an answer points elsewhere, headers with keys would go along.
            .redirect(reqwest::redirect::Policy::none())
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

    fn ask(&self, request: Request) -> BoxFuture<'static, Result<Answer, FeedError>> {
        let (http, limits) = (self.http.clone(), self.limits.clone());
        async move {
            let mut url = reqwest::Url::parse(&request.url).map_err(|e| FeedError::Fatal(e.to_string()))?;
            for (name, value) in &request.secret_query {
                url.query_pairs_mut().append_pair(name, &value.0);
            }
            let host = url.authority().to_owned();
            limits.wait(&host).await;
            let mut builder = http.request(request.method, url).timeout(request.timeout);
            for (name, value) in &request.headers {
                builder = builder.header(*name, &value.0);
            }
            if let Some(body) = request.body {
                builder = builder.header("Content-Type", body.content_type).body(body.text);
            }
            let response = builder.send().await.map_err(transient)?;
            let status = response.status().as_u16();
            let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
            let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
            let header = |name: &str| response.headers().get(name)?.to_str().ok();
            let pause = header("x-ratelimit-remaining")
                .zip(header("x-ratelimit-reset"))
                .and_then(|(remaining, reset)| used_up(remaining, reset, request.reserve, now));
            let wait = header("retry-after").and_then(|text| retry_after(text, now)).or(pause);
            let content_type = header("content-type").unwrap_or_default().to_owned();
            if let Some(pause) = pause {
                tracing::debug!(
                    host,
                    seconds = pause.as_secs(),
                    "no request is left until the limit is reset"
                );
                limits.hold(&host, pause);
            }
            let mut body = Vec::new();
            let mut chunks = response.bytes_stream_checked();
            while let Some(chunk) = chunks.next().await {
                let chunk = chunk?;
                if body.len() + chunk.len() > request.max_body {
                    let reason = format!("response of more than {} bytes", request.max_body);
                    return Err(FeedError::Rejected(reason));
                }
                body.extend_from_slice(&chunk);
            }
            Ok(Answer { status, wait, content_type, body })
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
                Err(error) => Some((Err(transient(error)), None)),
            }
        })
        .boxed()
    }
}

/// Errors of the client without its URL, which may hold credentials.
fn transient(error: reqwest::Error) -> FeedError {
    let error = error.without_url();
    let mut text = error.to_string();
    if let Some(cause) = std::error::Error::source(&error) {
        text = format!("{text}: {cause}");
    }
    FeedError::Transient(text)
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
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    use super::*;
    use crate::wire::{Method, Secret};

    /// Asks a server on loopback that answers once with `reply`, or never with an empty one; also what it was asked.
    async fn exchange(reply: &str, change: impl FnOnce(&mut Request)) -> (Result<Answer, FeedError>, String) {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let reply = reply.to_owned();
        let serving = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut asked = Vec::new();
            // Until the end of the body, which the tests mark.
            while !asked.ends_with(b"\r\n\r\n") && !asked.ends_with(b"}") {
                let mut chunk = [0; 1024];
                let read = stream.read(&mut chunk).await.unwrap();
                asked.extend_from_slice(&chunk[..read]);
            }
            if reply.is_empty() {
                // Until the client hangs up.
                drop(stream.read(&mut [0; 1]).await);
            } else {
                drop(stream.write_all(reply.as_bytes()).await);
            }
            String::from_utf8(asked).unwrap()
        });
        let mut request = Request::get(format!("http://{address}/orders"));
        change(&mut request);
        let answer = Network::new().unwrap().ask(request).await;
        (answer, serving.await.unwrap())
    }

    #[tokio::test]
    async fn any_method_and_body_and_both_places_for_keys_arrive() {
        let reply = "HTTP/1.1 201 Created\r\nContent-Type: application/json\r\nRetry-After: 3\r\nContent-Length: 2\r\n\r\n{}";
        let (answer, asked) = exchange(reply, |request| {
            let url = request.url.clone();
            *request = Request::json(Method::DELETE, url, r#"{"id":1}"#);
            request.headers.push(("X-Key", Secret("one".to_owned())));
            request.secret_query.push(("apikey", Secret("t wo".to_owned())));
        })
        .await;
        let answer = answer.unwrap();
        assert_eq!((answer.status, answer.body.as_slice()), (201, &b"{}"[..]));
        assert_eq!(
            (answer.wait, answer.content_type.as_str()),
            (Some(Duration::from_secs(3)), "application/json")
        );
        assert!(asked.starts_with("DELETE /orders?apikey=t+wo HTTP/1.1"), "{asked}");
        assert!(asked.to_lowercase().contains("x-key: one") && asked.ends_with(r#"{"id":1}"#), "{asked}");
    }

    #[tokio::test]
    async fn answers_are_bounded_in_size_and_time_and_lead_nowhere_else() {
        let reply = format!("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{}", "x".repeat(100));
        let (answer, _) = exchange(&reply, |request| request.max_body = 99).await;
        assert!(matches!(answer, Err(FeedError::Rejected(_))), "{answer:?}");
        let reply = "HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:9/\r\nContent-Length: 0\r\n\r\n";
        let (answer, _) = exchange(reply, |_| ()).await;
        assert_eq!(answer.unwrap().status, 302);
        let (answer, _) = exchange("", |request| {
            request.timeout = Duration::from_millis(50);
            request.secret_query.push(("apikey", Secret("hunter2".to_owned())));
        })
        .await;
        let Err(FeedError::Transient(reason)) = answer else { panic!("{answer:?}") };
        assert!(!reason.contains("hunter2") && !reason.contains("apikey"), "{reason}");
    }
}
