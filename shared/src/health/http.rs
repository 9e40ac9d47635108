//! Answers over HTTP, few at a time and not for long.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ACCEPT, ALLOW, AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, HeaderValue, WWW_AUTHENTICATE};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, oneshot};

use super::{Health, ms, text};
use crate::log;

/// More connections than this at a time are not served.
const CONNECTIONS: usize = 16;
/// How long a client may take to send its request.
const HEADERS: Duration = Duration::from_secs(2);
/// How long a connection may take in all.
const CONNECTION: Duration = Duration::from_secs(5);
/// The most bytes that are read of a request.
const MOST_BYTES: usize = 16 * 1024;

/// Prometheus' text format.
const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Serves the endpoints until it is dropped.
pub struct Listening {
    /// The address that it listens on.
    pub address: SocketAddr,
    _end: oneshot::Sender<Infallible>,
}

pub(super) fn listen(health: Health, address: SocketAddr, tasks: Handle) -> std::io::Result<Listening> {
    let is_open = health.0.token.get().is_none();
    let listener = std::net::TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (end, ended) = oneshot::channel::<Infallible>();
    std::thread::Builder::new().name("stepfleet-health".into()).spawn(move || {
        runtime.block_on(async {
            let Ok(listener) = TcpListener::from_std(listener) else { return };
            tokio::select! {
                _ = ended => {}
                never = accept(listener, health, tasks) => match never {},
            }
        });
    })?;
    log::info!(%address, "HTTP endpoints: /livez, /readyz and /metrics");
    if !address.ip().is_loopback() && is_open {
        log::warn!(
            %address,
            "anyone who can reach this address can read metrics, and errors that name hosts: set STEPFLEET_METRICS_TOKEN_FILE to ask for a token"
        );
    }
    Ok(Listening { address, _end: end })
}

async fn accept(listener: TcpListener, health: Health, tasks: Handle) -> Infallible {
    let free = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // For instance, because no more files can be opened.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        if let Ok(permit) = free.clone().try_acquire_owned() {
            let serving = serve(stream, health.clone(), tasks.clone());
            tokio::spawn(async move {
                // A client that is slow or hangs up is not our trouble.
                let _ = tokio::time::timeout(CONNECTION, serving).await;
                drop(permit);
            });
        }
    }
}

async fn serve(stream: TcpStream, health: Health, tasks: Handle) -> hyper::Result<()> {
    let answer = service_fn(|request: Request<Incoming>| {
        let (health, tasks) = (health.clone(), tasks.clone());
        async move { Ok::<_, Infallible>(answer(&request, &health, &tasks).await) }
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEADERS).keep_alive(false).max_buf_size(MOST_BYTES);
    builder.serve_connection(TokioIo::new(stream), answer).await
}

async fn answer(request: &Request<Incoming>, health: &Health, tasks: &Handle) -> Response<Full<Bytes>> {
    if ![Method::GET, Method::HEAD].contains(request.method()) {
        let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, "use GET\n");
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    match request.uri().path() {
        "/livez" if health.is_alive() => plain(StatusCode::OK, "alive\n"),
        "/livez" => plain(StatusCode::SERVICE_UNAVAILABLE, "its tasks have ended\n"),
        "/readyz" => {
            let troubles = health.troubles(tasks).await;
            let status = if troubles.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
            if !is_admitted(request, health) {
                return plain(status, if troubles.is_empty() { "ready\n" } else { "not ready\n" });
            }
            if wants_json(request) {
                let body = serde_json::json!({ "ready": troubles.is_empty(), "troubles": troubles });
                return respond(status, "application/json", format!("{body}\n"));
            }
            plain(status, if troubles.is_empty() { "ready\n".into() } else { text(&troubles, ms(SystemTime::now())) })
        }
        "/metrics" if !is_admitted(request, health) => {
            let mut response = plain(StatusCode::UNAUTHORIZED, "give the token: Authorization: Bearer <token>\n");
            response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            response
        }
        "/metrics" => match health.0.metrics.get() {
            Some(metrics) => respond(StatusCode::OK, METRICS, metrics.scrape(tasks).await),
            None => plain(StatusCode::NOT_FOUND, "this process has no metrics\n"),
        },
        _ => plain(StatusCode::NOT_FOUND, "not found: there are /livez, /readyz and /metrics\n"),
    }
}

/// Whether the request has the token, if there is one.
fn is_admitted(request: &Request<Incoming>, health: &Health) -> bool {
    let given = request.headers().get(AUTHORIZATION).map(HeaderValue::as_bytes);
    health.0.token.get().is_none_or(|token| token.is_in(given))
}

fn wants_json(request: &Request<Incoming>) -> bool {
    let accept = request.headers().get(ACCEPT).and_then(|accept| accept.to_str().ok());
    accept.is_some_and(|accept| accept.contains("application/json"))
}

fn plain(status: StatusCode, body: impl Into<String>) -> Response<Full<Bytes>> {
    respond(status, "text/plain; charset=utf-8", body.into())
}

fn respond(status: StatusCode, kind: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
