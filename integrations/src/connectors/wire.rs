//! What lies under a conversation with a mail server: a stream that ends when too much was said, the way to TLS by
//! STARTTLS, and no waiting for an answer to a goodbye.

use std::{
    fmt, io,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
};

use lettre::transport::smtp::client::AsyncTokioStream;
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader, ReadBuf},
    net::TcpStream,
};

use super::mail::Broken;

/// What a server may say in a whole conversation, in bytes as they come, TLS included.
const MOST: usize = 256 * 1024;
/// How lettre, which waits for a greeting, gets one from a server that has said it before TLS began.
const GREETING: &[u8] = b"220 secured\r\n";

/// A stream that fails once the other side has said too much: a line without end is read into memory otherwise.
pub(super) struct Bounded {
    stream: TcpStream,
    left: usize,
}

impl Bounded {
    pub(super) fn new(stream: TcpStream) -> Self {
        Self { stream, left: MOST }
    }

    pub(super) fn peer(&self) -> io::Result<SocketAddr> {
        self.stream.peer_addr()
    }
}

impl AsyncRead for Bounded {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buffer))?;
        let read = buffer.filled().len() - before;
        match self.left.checked_sub(read) {
            Some(left) => self.left = left,
            None => return Poll::Ready(Err(io::Error::other("the server says too much"))),
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Bounded {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Greeting, EHLO and STARTTLS in the open, up to the byte where the handshake begins. Whatever came before it and is not
/// read would be taken for the secured server's word: somebody in between could have put it there.
pub(super) async fn ask_for_tls(stream: Bounded, hello: &str) -> Result<Bounded, Broken> {
    let mut stream = BufReader::new(stream);
    reply(&mut stream).await?;
    say(&mut stream, &format!("EHLO {hello}\r\n")).await?;
    let offers = reply(&mut stream).await?;
    if !offers.iter().skip(1).any(|offer| offer.trim().eq_ignore_ascii_case("STARTTLS")) {
        let _ = say(&mut stream, "QUIT\r\n").await;
        return Err(Broken::Unfit("the server does not offer STARTTLS, and nothing is sent without it"));
    }
    say(&mut stream, "STARTTLS\r\n").await?;
    reply(&mut stream).await?;
    if !stream.buffer().is_empty() {
        return Err(Broken::Unfit(
            "more than the answer to STARTTLS came in the open, and whose word it is nobody knows",
        ));
    }
    Ok(stream.into_inner())
}

async fn say(stream: &mut BufReader<Bounded>, line: &str) -> Result<(), Broken> {
    stream.write_all(line.as_bytes()).await.map_err(|_| Broken::Off)?;
    stream.flush().await.map_err(|_| Broken::Off)
}

/// The lines of an answer without their codes, when it is a good one.
async fn reply(stream: &mut BufReader<Bounded>) -> Result<Vec<String>, Broken> {
    let mut lines = Vec::new();
    loop {
        let mut line = Vec::new();
        stream.read_until(b'\n', &mut line).await.map_err(|_| Broken::Off)?;
        let line = String::from_utf8_lossy(&line).trim_end().to_owned();
        let code = line.get(..3).and_then(|code| code.parse::<u16>().ok()).ok_or(Broken::Off)?;
        let rest = line.get(3..).unwrap_or_default();
        lines.push(rest.get(1..).unwrap_or_default().to_owned());
        match code {
            _ if rest.starts_with('-') => {}
            200..300 => return Ok(lines),
            _ => return Err(Broken::Refused(code)),
        }
    }
}

/// What lettre speaks over.
pub(super) struct Line<S> {
    stream: S,
    peer: SocketAddr,
    /// Read before the stream's own bytes.
    ahead: &'static [u8],
    /// Until this is true, a goodbye ends the reading: lettre says one when EHLO is refused and waits for its answer, while
    /// the verdict is there already.
    connected: Arc<AtomicBool>,
    parted: bool,
}

impl<S> Line<S> {
    /// `greeted`: the server has said its greeting before.
    pub(super) fn new(stream: S, peer: SocketAddr, greeted: bool, connected: Arc<AtomicBool>) -> Self {
        Self { stream, peer, ahead: if greeted { GREETING } else { b"" }, connected, parted: false }
    }
}

impl<S> fmt::Debug for Line<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Line").field("peer", &self.peer).finish_non_exhaustive()
    }
}

impl<S: AsyncRead + AsyncWrite + Send + Sync + Unpin> AsyncTokioStream for Line<S> {
    fn peer_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.peer)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Line<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if !self.ahead.is_empty() {
            let (now, later) = self.ahead.split_at(self.ahead.len().min(buffer.remaining()));
            buffer.put_slice(now);
            self.ahead = later;
            return Poll::Ready(Ok(()));
        }
        if self.parted {
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Line<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.parted |= bytes == b"QUIT\r\n" && !self.connected.load(Ordering::Relaxed);
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
