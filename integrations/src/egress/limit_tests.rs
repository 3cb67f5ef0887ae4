//! The client against servers that are slow, unwell, or at their limit.

use std::sync::Mutex;

use domain::ids::{ConnectionId, WorkspaceId};
use http::Method;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::test_server::{Say, Server};
use super::*;

fn egress(change: impl Fn(&mut EgressPolicy)) -> Egress {
    let mut policy = EgressPolicy { allow_loopback: true, ..EgressPolicy::default() };
    change(&mut policy);
    Egress::new(policy).unwrap()
}

fn scope(workspace: u128) -> Scope {
    let id = uuid::Uuid::from_u128;
    Scope {
        workspace: Some(WorkspaceId(id(workspace))),
        connection: Some(ConnectionId(id(7))),
        connector: None,
        asked: false,
    }
}

/// Answers one after the other, the last again and again.
async fn saying(answers: Vec<Say>) -> Server {
    let answers = Mutex::new(answers.into_iter().rev().collect::<Vec<_>>());
    Server::start(move |_| {
        let mut answers = answers.lock().unwrap();
        let next = answers.pop().unwrap();
        if answers.is_empty() {
            answers.push(next.clone());
        }
        next
    })
    .await
}

#[tokio::test]
async fn calls_wait_for_the_reset_that_the_api_named_or_fail_at_once() {
    let used_up = |seconds: u32| {
        let headers = format!("X-RateLimit-Limit: 5\r\nX-RateLimit-Remaining: 0\r\nX-RateLimit-Reset: {seconds}\r\n");
        Say::status("200 OK", &headers, "")
    };
    let server = saying(vec![used_up(1), Say::ok("after"), used_up(50), Say::ok("asked")]).await;
    let egress = egress(|_| {});
    let call = || OutboundRequest::get(server.url("/items")).scope(scope(1));
    let first = egress.send(call()).await.unwrap();
    let limit = first.rate_limit.unwrap();
    assert_eq!((limit.limit, limit.remaining), (Some(5), 0));
    let second = egress.send(call()).await.unwrap();
    assert!(second.elapsed > Duration::from_millis(900), "{:?}", second.elapsed);
    assert_eq!(&second.body[..], b"after");
    egress.send(call()).await.unwrap();
    let error = egress.send(call()).await.unwrap_err();
    let EgressError::HeldBack { retry_in, .. } = &error else { panic!("{error:?}") };
    assert!((48..=50).contains(&retry_in.as_secs()), "{error:?}");
    assert!(!error.is_outcome_unknown() && error.is_transient() && !error.was_tried());
    assert_eq!(server.heard().len(), 3, "nothing was sent");
    // Another connection's calls, and a person's test, go out.
    let asked = call().scope(Scope { asked: true, ..scope(1) });
    assert_eq!(&egress.send(asked).await.unwrap().body[..], b"asked");
    let elsewhere = Scope { connection: Some(ConnectionId(uuid::Uuid::from_u128(8))), ..scope(1) };
    egress.send(call().scope(elsewhere)).await.unwrap();
    let stats = egress.stats();
    let count = |name| stats.requests.iter().find(|(outcome, _)| *outcome == name).unwrap().1;
    assert_eq!((count("2xx"), count("held_back"), stats.waited >= 1), (5, 1, true), "{stats:?}");
}

#[tokio::test]
async fn a_host_that_keeps_failing_is_left_alone_by_that_workspace_only() {
    let server = Server::start(|_| Say::status("503 Down", "", "")).await;
    let egress = egress(|policy| policy.breaker_failures = 5);
    let call = |of| egress.send(OutboundRequest::get(server.url("/")).scope(scope(of)));
    for _ in 0..5 {
        assert_eq!(call(1).await.unwrap().status, 503);
    }
    let error = call(1).await.unwrap_err();
    let EgressError::BreakerOpen { retry_in, .. } = &error else { panic!("{error:?}") };
    assert!((13..=15).contains(&retry_in.as_secs()), "{error:?}");
    assert!(error.is_transient() && !error.is_outcome_unknown());
    assert_eq!((server.heard().len(), egress.stats().open_breakers), (5, 1));
    assert_eq!(call(2).await.unwrap().status, 503, "another tenant's calls go out");
    // Who is refused, is answered: bad credentials open nothing.
    let picky = Server::start(|_| Say::status("401 Who", "", "")).await;
    for _ in 0..20 {
        egress.send(OutboundRequest::get(picky.url("/")).scope(scope(1))).await.unwrap();
    }
    assert_eq!(egress.stats().open_breakers, 1);
    // Documents and deliveries have no breaker.
    assert_eq!(egress.send(OutboundRequest::get(server.url("/"))).await.unwrap().status, 503);
}

#[tokio::test]
async fn connections_that_fail_open_it_too_and_a_person_closes_it() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let egress = egress(|policy| policy.breaker_failures = 3);
    let request = |asked| OutboundRequest::get(format!("http://{closed}/")).scope(Scope { asked, ..scope(1) });
    for _ in 0..3 {
        assert!(matches!(egress.send(request(false)).await, Err(EgressError::Connect { .. })));
    }
    assert!(matches!(egress.send(request(false)).await, Err(EgressError::BreakerOpen { .. })));
    assert!(
        matches!(egress.send(request(true)).await, Err(EgressError::Connect { .. })),
        "a test is made all the same"
    );
    let _up = Server::on(&closed.to_string(), |_| Say::ok("up")).await;
    assert_eq!(egress.send(request(true)).await.unwrap().status, 200);
    assert_eq!(egress.send(request(false)).await.unwrap().status, 200);
}

#[tokio::test]
async fn a_busy_host_has_so_many_places() {
    let hanging = Server::start(|_| Say::ThenHang(Vec::new())).await;
    let other = Server::start(|_| Say::ok("hello")).await;
    let egress = egress(|policy| {
        policy.per_host = 2;
        policy.patience = Duration::from_millis(200);
    });
    let held: Vec<_> = (0..2)
        .map(|_| {
            let (egress, url) = (egress.clone(), hanging.url("/"));
            tokio::spawn(async move { egress.send(OutboundRequest::get(url)).await })
        })
        .collect();
    while hanging.heard().len() < 2 {
        tokio::task::yield_now().await;
    }
    let error = egress.send(OutboundRequest::get(hanging.url("/"))).await.unwrap_err();
    assert!(matches!(&error, EgressError::Busy { waited, .. } if waited.as_millis() >= 200), "{error:?}");
    assert!(error.is_transient() && !error.is_outcome_unknown() && hanging.heard().len() == 2);
    egress.send(OutboundRequest::get(other.url("/"))).await.unwrap();
    assert_eq!(egress.stats().under_way, 2);
    held.iter().for_each(|task| task.abort());
    for task in held {
        assert!(task.await.unwrap_err().is_cancelled());
    }
    assert_eq!((egress.stats().under_way, egress.stats().waiting), (0, 0), "who is cancelled leaves no place taken");
}

#[tokio::test]
async fn safe_requests_are_repeated_when_that_is_asked_for() {
    let down = || Say::status("503 Down", "Retry-After: 1\r\n", "");
    let server = saying(vec![Say::Bytes(Vec::new()), down(), Say::ok("at last")]).await;
    let egress = egress(|_| {});
    let answer = egress.send(OutboundRequest::get(server.url("/")).retries(3)).await.unwrap();
    assert_eq!((answer.status, answer.attempts), (200, 3));
    assert!(answer.elapsed > Duration::from_secs(1), "Retry-After: {:?}", answer.elapsed);
    assert_eq!(egress.stats().retries, 2);
    let server = saying(vec![down()]).await;
    let post = OutboundRequest::new(Method::POST, server.url("/")).body("x").retries(3);
    assert_eq!(egress.send(post).await.unwrap().status, 503);
    assert_eq!(server.heard().len(), 1, "what is not safe is not repeated");
    let missing = saying(vec![Say::status("404 No", "", "")]).await;
    egress.send(OutboundRequest::get(missing.url("/")).retries(3)).await.unwrap();
    assert_eq!(missing.heard().len(), 1, "a 404 stays one");
    // No longer than the request may take.
    let late = saying(vec![Say::status("429 Slow", "Retry-After: 60\r\n", "")]).await;
    let answer = egress.send(OutboundRequest::get(late.url("/")).retries(3)).await.unwrap();
    assert_eq!((answer.status, answer.attempts), (429, 1));
}

#[tokio::test]
async fn bodies_in_encodings_that_nobody_asked_for_are_refused() {
    let server = Server::start(|request| {
        assert!(request.contains("accept-encoding: gzip\r\n"), "{request}");
        let encoding = request.split_whitespace().nth(1).unwrap_or_default().trim_start_matches('/').to_owned();
        Say::status("200 OK", &format!("Content-Encoding: {encoding}\r\n"), "\u{1}\u{2}")
    })
    .await;
    for encoding in ["br", "deflate", "zstd", "compress", "gzip,gzip", "br,gzip", "GZIP"] {
        let error = egress(|_| {}).send(OutboundRequest::get(server.url(&format!("/{encoding}")))).await.unwrap_err();
        assert!(matches!(error, EgressError::Protocol { .. }), "{encoding}: {error:?}");
    }
    for plain in ["identity", "utf-8", "aws-chunked"] {
        let answer = egress(|_| {}).send(OutboundRequest::get(server.url(&format!("/{plain}")))).await.unwrap();
        assert_eq!(&answer.body[..], b"\x01\x02", "{plain}");
    }
}

/// A server that sends one byte after the other, for ever.
async fn trickling(head: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut heard = [0; 1024];
                let _ = stream.read(&mut heard).await;
                let mut ticks = tokio::time::interval(Duration::from_millis(20));
                let mut sent = stream.write_all(head.as_bytes()).await;
                while sent.is_ok() {
                    ticks.tick().await;
                    sent = stream.write_all(b"x").await;
                }
            });
        }
    });
    url
}

#[tokio::test]
async fn a_trickle_is_cut_off_in_time() {
    for head in [
        "",
        "HTTP/1.1 200 OK\r\nX-Long: ",
        "HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n",
        "HTTP/1.1 200 OK\r\n\r\n",
    ] {
        let request = OutboundRequest::get(trickling(head).await).timeout(Duration::from_millis(400));
        let began = Instant::now();
        let error = egress(|_| {}).send(request).await.unwrap_err();
        // A first line that is none is noticed earlier.
        let expected = matches!(error, EgressError::Timeout { sent: true, .. }) || head.is_empty();
        assert!(expected && began.elapsed() < Duration::from_secs(3), "{head:?}: {error:?} {:?}", began.elapsed());
    }
}

#[tokio::test]
async fn a_stream_gives_pieces_and_ends_at_the_cap() {
    let server = Server::start(|_| Say::ok(&"x".repeat(300_000))).await;
    let egress = egress(|_| {});
    let request = OutboundRequest::get(server.url("/"));
    let mut answer = egress.open(&request).await.unwrap();
    assert_eq!((answer.status, answer.header("Content-Length"), egress.stats().under_way), (200, Some("300000"), 1));
    let (mut pieces, mut bytes) = (0, 0);
    while let Some(piece) = answer.chunk().await.unwrap() {
        pieces += 1;
        bytes += piece.len();
    }
    assert!(bytes == 300_000 && pieces > 1, "{pieces} pieces, {bytes} bytes");
    drop(answer);
    assert_eq!(egress.stats().under_way, 0);
    let first = egress.open(&request).await.unwrap().first(1_000).await.unwrap();
    assert_eq!(first.body.len(), 1_000);
    let mut capped = egress.open(&request.clone().max_response_bytes(100_000)).await.unwrap();
    let error = loop {
        match capped.chunk().await {
            Ok(piece) => assert!(piece.is_some()),
            Err(error) => break error,
        }
    };
    assert_eq!(error, EgressError::ResponseTooLarge { limit: 100_000 });
}

#[tokio::test]
async fn what_is_recorded_holds_no_query_and_no_header() {
    let server = saying(vec![Say::redirect(302, "/there"), Say::ok("{\"a\":1}")]).await;
    let request = OutboundRequest::new(Method::POST, server.url("/pay/17?key=canary"))
        .sensitive_header("X-Key", "canary")
        .body("canary")
        .scope(scope(1));
    let facts = request.facts();
    let facts = egress(|_| {}).send(request).await.unwrap().complete(facts);
    assert_eq!((facts.method.as_str(), facts.path.as_str()), ("POST", "/pay/17"));
    assert_eq!(facts.host, format!("127.0.0.1:{}", server.port));
    assert_eq!((facts.status, facts.request_bytes, facts.response_bytes), (Some(200), 6, 7));
    assert_eq!((facts.attempts, facts.redirects), (1, 1));
    assert!(!format!("{facts:?}").contains("canary"));
    let plain = OutboundRequest::get("https://api.example/x").facts();
    assert_eq!((plain.host.as_str(), plain.attempts), ("api.example", 0));
}
