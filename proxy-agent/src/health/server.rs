//! One HTTP server, for whoever can reach it: nobody has said who they are. So a connection lives as long as it asks, and there
//! are so many of them. Knows nothing of what is answered.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time;

/// Pause when no connection can be accepted: most likely there are no descriptors.
const RETRY: Duration = Duration::from_secs(1);

/// What clients of one server may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Connections at a time; further ones wait to be accepted.
    pub(super) connections: usize,
    /// Time for the head of a request, from when the connection is made or the last answer was sent.
    pub(super) head: Duration,
    /// Time for everything. An answer that nobody takes is given up after as long again.
    pub(super) life: Duration,
}

impl Limits {
    /// More than anybody needs who is meant to ask.
    pub(super) const DEFAULT: Self =
        Self { connections: 128, head: Duration::from_secs(10), life: Duration::from_secs(120) };
}

/// Answers on a listener until `end`; then idle connections are closed, and the others once they are answered.
pub(super) async fn serve(
    listener: TcpListener,
    routes: Router,
    limits: Limits,
    end: impl Future<Output = ()>,
) {
    let room = Arc::new(Semaphore::new(limits.connections));
    // Every connection sees when this is dropped.
    let (_open, closing) = watch::channel(());
    let mut end = pin!(end);
    loop {
        let (stream, place) = tokio::select! {
            () = &mut end => return,
            accepted = accept(&listener, &room) => accepted,
        };
        let (routes, closing) = (routes.clone(), closing.clone());
        tokio::spawn(async move {
            converse(stream, routes, limits, closing).await;
            drop(place);
        });
    }
}

/// The next connection, once there is room for it.
async fn accept(listener: &TcpListener, room: &Arc<Semaphore>) -> (TcpStream, Option<OwnedSemaphorePermit>) {
    // Nobody closes the semaphore.
    let place = room.clone().acquire_owned().await.ok();
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return (stream, place),
            Err(error) => {
                tracing::warn!(%error, "a connection cannot be accepted");
                time::sleep(RETRY).await;
            }
        }
    }
}

async fn converse(stream: TcpStream, routes: Router, limits: Limits, mut closing: watch::Receiver<()>) {
    let service = TowerToHyperService::new(routes);
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(limits.head);
    let mut connection = pin!(http.serve_connection(TokioIo::new(stream), service));
    // However it ends, it is its client's business.
    tokio::select! {
        _ = &mut connection => return,
        _ = closing.changed() => {}
        () = time::sleep(limits.life) => {}
    }
    Pin::as_mut(&mut connection).graceful_shutdown();
    let _ = time::timeout(limits.life, connection).await;
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    /// A server that answers until the test is over, and a way to connect to it.
    async fn start(limits: Limits) -> std::net::SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let routes = Router::new().route("/", get(|| async { "ok" }));
        tokio::spawn(serve(listener, routes, limits, std::future::pending()));
        address
    }

    async fn ask(stream: &mut TcpStream) {
        stream.write_all(b"GET / HTTP/1.1\r\nHost: node\r\n\r\n").await.unwrap();
    }

    async fn is_answered(stream: &mut TcpStream) -> bool {
        let mut answer = Vec::new();
        let mut byte = [0];
        while !answer.ends_with(b"\r\n\r\nok") && stream.read_exact(&mut byte).await.is_ok() {
            answer.extend(byte);
        }
        answer.starts_with(b"HTTP/1.1 200 OK\r\n")
    }

    #[tokio::test]
    async fn who_does_not_ask_is_closed_before_and_after_an_answer() {
        let address = start(Limits { head: Duration::from_millis(100), ..Limits::DEFAULT }).await;
        let mut silent = TcpStream::connect(address).await.unwrap();
        let mut slow = TcpStream::connect(address).await.unwrap();
        slow.write_all(b"GET / HTTP/1.1\r\nHost:").await.unwrap();
        let mut idle = TcpStream::connect(address).await.unwrap();
        ask(&mut idle).await;
        assert!(is_answered(&mut idle).await);
        for stream in [&mut silent, &mut slow, &mut idle] {
            let mut rest = Vec::new();
            let closed = time::timeout(Duration::from_secs(20), stream.read_to_end(&mut rest)).await;
            assert_eq!(closed.expect("it is closed").unwrap_or(0), rest.len());
        }
    }

    #[tokio::test]
    async fn more_connections_than_may_be_wait_until_one_is_over() {
        let address = start(Limits { connections: 1, ..Limits::DEFAULT }).await;
        let mut first = TcpStream::connect(address).await.unwrap();
        ask(&mut first).await;
        assert!(is_answered(&mut first).await);
        let mut second = TcpStream::connect(address).await.unwrap();
        ask(&mut second).await;
        for _ in 0..20 {
            ask(&mut first).await;
            assert!(is_answered(&mut first).await);
        }
        let early = second.try_read(&mut [0; 1]).map_err(|error| error.kind());
        assert_eq!(early, Err(std::io::ErrorKind::WouldBlock));
        drop(first);
        assert!(is_answered(&mut second).await);
    }

    #[tokio::test]
    async fn nobody_stays_for_ever_by_asking() {
        let address = start(Limits { life: Duration::from_millis(50), ..Limits::DEFAULT }).await;
        let mut stream = TcpStream::connect(address).await.unwrap();
        let asking = async {
            loop {
                // Closed between two requests, the second cannot be sent or is not answered.
                let request = stream.write_all(b"GET / HTTP/1.1\r\nHost: node\r\n\r\n").await;
                if request.is_err() || !is_answered(&mut stream).await {
                    return;
                }
            }
        };
        time::timeout(Duration::from_secs(20), asking).await.expect("it is closed");
    }
}
