//! A bare TCP server for the tests: it says what it is told to, however broken, and remembers what it heard.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// What the server does with a request.
#[derive(Clone)]
pub(super) enum Say {
    /// Send these bytes, then close.
    Bytes(Vec<u8>),
    /// Send these bytes (none is fine) and keep the connection open in silence.
    ThenHang(Vec<u8>),
}

impl Say {
    pub(super) fn ok(body: &str) -> Self {
        Self::status("200 OK", "", body)
    }

    /// `headers` are whole lines, each ending in CRLF.
    pub(super) fn status(status: &str, headers: &str, body: &str) -> Self {
        let length = body.len();
        Self::Bytes(format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {length}\r\n\r\n{body}").into_bytes())
    }

    pub(super) fn redirect(status: u16, location: &str) -> Self {
        Self::status(&format!("{status} Moved"), &format!("Location: {location}\r\n"), "")
    }
}

pub(super) struct Server {
    pub port: u16,
    accepted: Arc<AtomicUsize>,
    heard: Arc<Mutex<Vec<String>>>,
}

impl Server {
    pub(super) async fn start(say: impl Fn(&str) -> Say + Send + Sync + 'static) -> Self {
        Self::on("127.0.0.1:0", say).await
    }

    pub(super) async fn on(address: &str, say: impl Fn(&str) -> Say + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (accepted, heard) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(Vec::new())));
        let (counter, log, say) = (accepted.clone(), heard.clone(), Arc::new(say));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                counter.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(answer(stream, log.clone(), say.clone()));
            }
        });
        Self { port, accepted, heard }
    }

    pub(super) fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    /// Connections seen so far.
    pub(super) fn hits(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }

    /// The requests in order: head and body as text, header names in lower case as the client sends them.
    pub(super) fn heard(&self) -> Vec<String> {
        self.heard.lock().unwrap().clone()
    }
}

async fn answer(mut stream: TcpStream, log: Arc<Mutex<Vec<String>>>, say: Arc<impl Fn(&str) -> Say>) {
    let mut raw = Vec::new();
    let mut buffer = [0; 4096];
    while !is_complete(&raw) {
        match stream.read(&mut buffer).await {
            Ok(0) | Err(_) => break,
            Ok(n) => raw.extend_from_slice(&buffer[..n]),
        }
        if raw.first() == Some(&0x16) {
            break; // a TLS greeting, which never ends in a blank line
        }
    }
    let request = String::from_utf8_lossy(&raw).into_owned();
    let reply = say(&request);
    log.lock().unwrap().push(request);
    match reply {
        Say::Bytes(bytes) => {
            let _ = stream.write_all(&bytes).await;
            let _ = stream.shutdown().await;
        }
        Say::ThenHang(bytes) => {
            let _ = stream.write_all(&bytes).await;
            std::future::pending::<()>().await;
        }
    }
}

fn is_complete(raw: &[u8]) -> bool {
    let text = String::from_utf8_lossy(raw);
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head
        .lines()
        .find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length:").map(|v| v.trim().to_owned()))
        .and_then(|value| value.parse().ok())
        .unwrap_or(0);
    body.len() >= length
}
