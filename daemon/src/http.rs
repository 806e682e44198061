//! `/healthz` and `/readyz` over HTTP, for whoever cannot speak gRPC: bounded in connections, size and time.

use crate::house::House;
use anyhow::Context;
use hyper::body::Incoming;
use hyper::header::CONTENT_TYPE;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::collections::VecDeque;
use std::convert::Infallible;
use std::fmt::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::Instant;

/// Connections at once; with a further one the oldest is closed.
const CONNECTIONS: usize = 64;
/// But not before it has had this long to ask: whoever asks at once is answered, also while somebody opens connections as fast as they are taken.
const GRACE: Duration = Duration::from_millis(250);
/// For a whole connection: it has one question.
const PATIENCE: Duration = Duration::from_secs(5);
/// Bytes of a question.
const LARGEST: usize = 8 << 10;

/// Listens until the daemon ends.
pub(crate) fn listen(house: &Arc<House>, address: SocketAddr, mut ends: watch::Receiver<bool>) -> anyhow::Result<()> {
    let bound = std::net::TcpListener::bind(address).and_then(|listener| listener.set_nonblocking(true).map(|()| listener));
    let listener = bound.and_then(TcpListener::from_std).with_context(|| format!("cannot listen on {address} (`http.listen`)"))?;
    let address = listener.local_addr()?;
    tracing::info!(%address, "answering /healthz and /readyz");
    let house = house.clone();
    tokio::spawn(async move {
        let mut connections: VecDeque<(Instant, AbortHandle)> = VecDeque::new();
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                _ = ends.wait_for(|ends| *ends) => return,
            };
            let Ok((socket, _)) = accepted else {
                // No descriptor is free: it would fail again at once.
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            };
            make_room(&mut connections).await;
            let asked = tokio::spawn(tokio::time::timeout(PATIENCE, serve(house.clone(), socket)));
            connections.push_back((Instant::now(), asked.abort_handle()));
        }
    });
    Ok(())
}

/// Closes the oldest connection where there is no place for one more, once it has had its time. Until then, others wait in the kernel's queue.
async fn make_room(connections: &mut VecDeque<(Instant, AbortHandle)>) {
    connections.retain(|(_, connection)| !connection.is_finished());
    let Some((since, _)) = connections.front().filter(|_| connections.len() >= CONNECTIONS) else { return };
    tokio::time::sleep_until(*since + GRACE).await;
    connections.retain(|(_, connection)| !connection.is_finished());
    if connections.len() >= CONNECTIONS
        && let Some((_, oldest)) = connections.pop_front()
    {
        oldest.abort();
    }
}

async fn serve(house: Arc<House>, socket: TcpStream) {
    let answer = service_fn(move |request| std::future::ready(Ok::<_, Infallible>(answer(&house, &request))));
    let mut server = http1::Builder::new();
    server.keep_alive(false).max_buf_size(LARGEST).timer(TokioTimer::new()).header_read_timeout(PATIENCE);
    if let Err(error) = server.serve_connection(TokioIo::new(socket), answer).await {
        tracing::debug!(%error, "an HTTP connection failed");
    }
}

fn answer(house: &House, request: &Request<Incoming>) -> Response<String> {
    let path = request.uri().path();
    let (status, text) = match (request.method(), path) {
        (&Method::GET | &Method::HEAD, "/healthz") => (StatusCode::OK, "ok\n".to_owned()),
        (&Method::GET | &Method::HEAD, "/readyz") => ready(house, |_| true),
        (&Method::GET | &Method::HEAD, _) => match path.strip_prefix("/readyz/") {
            Some(driver) if house.all().iter().any(|served| served.driver.name().as_str() == driver) => ready(house, |name| name == driver),
            _ => (StatusCode::NOT_FOUND, "there are /healthz, /readyz, and /readyz/DRIVER for each driver\n".to_owned()),
        },
        _ => (StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD are answered\n".to_owned()),
    };
    let mut response = Response::new(text);
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

/// Ready is who has a plugin that serves. A driver that is there for teardown alone, since its file is gone, is nothing to wait for.
fn ready(house: &House, is_asked: impl Fn(&str) -> bool) -> (StatusCode, String) {
    let (mut status, mut text) = (StatusCode::OK, String::new());
    for served in house.all().iter().filter(|served| is_asked(served.driver.name().as_str())) {
        let how = match served.unready() {
            None => "ok".to_owned(),
            Some(_) if !house.has_file(served.driver.name()) => "for teardown alone".to_owned(),
            Some(why) => {
                status = StatusCode::SERVICE_UNAVAILABLE;
                why
            }
        };
        let _ = writeln!(text, "{}: {how}", served.driver.name());
    }
    if text.is_empty() {
        text.push_str("ok: there is no driver\n");
    }
    (status, text)
}
