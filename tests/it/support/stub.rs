//! A third party on loopback: a small HTTP/1.1 server that remembers every request and can misbehave on demand.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// A request as it arrived. Header names are in lower case.
#[derive(Debug, Clone)]
pub struct Seen {
    pub method: String,
    pub path: String,
    pub query: String,
    pub headers: BTreeMap<String, String>,
    pub body: Vec<u8>,
}

impl Seen {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }

    /// `POST /orders`
    pub fn route(&self) -> String {
        format!("{} {}", self.method, self.path)
    }
}

#[derive(Debug, Clone)]
pub enum Reply {
    Answer {
        status: u16,
        headers: Vec<(String, String)>,
        body: Vec<u8>,
    },
    /// Answer after a while.
    Late(Duration, Box<Reply>),
    /// Never answer, keep the connection.
    Hang,
    /// Close without a byte.
    Close,
    /// Half of an answer, then the connection breaks.
    Cut,
    /// A byte after each while, without an end.
    Trickle(Duration),
    /// As many bytes as are taken, without an end.
    Endless,
}

impl Reply {
    pub fn json(status: u16, body: &Value) -> Reply {
        Reply::of(status, "application/json", body.to_string())
    }

    pub fn of(status: u16, kind: &str, body: impl Into<Vec<u8>>) -> Reply {
        Reply::Answer { status, headers: vec![("content-type".into(), kind.into())], body: body.into() }
    }

    pub fn with(mut self, name: &str, value: &str) -> Reply {
        if let Reply::Answer { headers, .. } = &mut self {
            headers.push((name.to_owned(), value.to_owned()));
        }
        self
    }
}

type Handler = dyn Fn(&Seen) -> Reply + Send + Sync;

#[derive(Default)]
struct State {
    seen: Vec<Seen>,
    scripts: HashMap<String, VecDeque<Reply>>,
}

pub struct Stub {
    url: String,
    state: Arc<Mutex<State>>,
    task: JoinHandle<()>,
}

impl Stub {
    /// `handler` answers whatever no script answers.
    pub async fn start(handler: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Stub {
        Stub::start_on("127.0.0.1:0", handler).await
    }

    /// On this address and port.
    pub async fn start_on(address: &str, handler: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Stub {
        let listener = TcpListener::bind(address).await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let state = Arc::<Mutex<State>>::default();
        let handler: Arc<Handler> = Arc::new(handler);
        let shared = state.clone();
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (state, handler) = (shared.clone(), handler.clone());
                // A client that goes away in the middle is nothing to report.
                tokio::spawn(async move { drop(serve(stream, &state, &*handler).await) });
            }
        });
        Stub { url, state, task }
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    /// The next replies of a route (`POST /orders`), one request each, before the handler's.
    pub fn script(&self, route: &str, replies: impl IntoIterator<Item = Reply>) {
        self.lock().scripts.entry(route.to_owned()).or_default().extend(replies);
    }

    /// Every request so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.lock().seen.clone()
    }

    /// Requests of one route so far.
    pub fn seen_at(&self, route: &str) -> Vec<Seen> {
        self.lock().seen.iter().filter(|seen| seen.route() == route).cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Drop for Stub {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(mut stream: TcpStream, state: &Mutex<State>, handler: &Handler) -> std::io::Result<()> {
    let Some(seen) = read(&mut stream).await? else { return Ok(()) };
    let mut reply = {
        let mut state = lock(state);
        state.seen.push(seen.clone());
        state.scripts.get_mut(&seen.route()).and_then(VecDeque::pop_front)
    }
    .unwrap_or_else(|| handler(&seen));
    if let Reply::Late(wait, then) = reply {
        tokio::time::sleep(wait).await;
        reply = *then;
    }
    match reply {
        Reply::Answer { status, headers, body } => {
            let mut head = format!("HTTP/1.1 {status} Said\r\ncontent-length: {}\r\nconnection: close\r\n", body.len());
            for (name, value) in headers {
                head += &format!("{name}: {value}\r\n");
            }
            stream.write_all(format!("{head}\r\n").as_bytes()).await?;
            if seen.method != "HEAD" {
                stream.write_all(&body).await?;
            }
            stream.shutdown().await
        }
        Reply::Cut => {
            let half = "HTTP/1.1 200 Said\r\ncontent-type: application/json\r\ncontent-length: 900\r\n\r\n{\"half\":";
            stream.write_all(half.as_bytes()).await?;
            stream.shutdown().await
        }
        Reply::Trickle(pace) => {
            stream.write_all(b"HTTP/1.1 200 Said\r\ncontent-type: application/json\r\n\r\n").await?;
            loop {
                stream.write_all(b" ").await?;
                tokio::time::sleep(pace).await;
            }
        }
        Reply::Endless => {
            stream.write_all(b"HTTP/1.1 200 Said\r\ncontent-type: application/json\r\n\r\n").await?;
            loop {
                stream.write_all(&[b' '; 64 * 1024]).await?;
            }
        }
        Reply::Hang => {
            // Until the other side gives up.
            let mut rest = [0u8; 64];
            while stream.read(&mut rest).await? > 0 {}
            Ok(())
        }
        Reply::Close | Reply::Late(..) => Ok(()),
    }
}

/// One request; `None` when the connection closes before one is whole.
async fn read(stream: &mut TcpStream) -> std::io::Result<Option<Seen>> {
    let mut bytes = Vec::new();
    let mut chunk = [0u8; 16 * 1024];
    let end = loop {
        if let Some(at) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break at;
        }
        match stream.read(&mut chunk).await? {
            0 => return Ok(None),
            n => bytes.extend_from_slice(&chunk[..n]),
        }
    };
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let mut lines = head.split("\r\n");
    let mut first = lines.next().unwrap_or_default().split(' ');
    let (method, target) = (first.next().unwrap_or_default(), first.next().unwrap_or_default());
    let pair = |line: &str| line.split_once(':').map(|(name, value)| (name.to_lowercase(), value.trim().to_owned()));
    let headers: BTreeMap<String, String> = lines.filter_map(pair).collect();
    let length: usize = headers.get("content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
    let mut body = bytes.split_off(end + 4);
    while body.len() < length {
        match stream.read(&mut chunk).await? {
            0 => return Ok(None),
            n => body.extend_from_slice(&chunk[..n]),
        }
    }
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    Ok(Some(Seen { method: method.into(), path: path.into(), query: query.into(), headers, body }))
}
