//! The guard against the attack inputs in `attacks.txt`, and the client against broken servers.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use http::Method;

use super::test_server::{Say, Server};
use super::*;

/// Scripted answers to look-ups: each call takes the next one, the last repeats.
pub(super) struct Script {
    answers: Mutex<VecDeque<Vec<IpAddr>>>,
    asked: AtomicUsize,
}

impl Script {
    pub(super) fn new(answers: &[&[&str]]) -> Arc<Self> {
        let parse = |answer: &&[&str]| answer.iter().map(|ip| ip.parse().unwrap()).collect();
        Arc::new(Self { answers: Mutex::new(answers.iter().map(parse).collect()), asked: AtomicUsize::new(0) })
    }

    pub(super) fn answer(&self, _name: &str, port: u16) -> Vec<SocketAddr> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let mut answers = self.answers.lock().unwrap();
        let answer = if answers.len() > 1 { answers.pop_front() } else { answers.front().cloned() };
        answer.unwrap_or_default().into_iter().map(|ip| SocketAddr::new(ip, port)).collect()
    }
}

fn strict() -> Egress {
    Egress::new(EgressPolicy::default()).unwrap()
}

fn loopback() -> Egress {
    Egress::new(EgressPolicy { allow_loopback: true, ..EgressPolicy::default() }).unwrap()
}

fn lines(data: &str, port: u16) -> Vec<String> {
    let control = [("{cr}", "\r"), ("{lf}", "\n"), ("{tab}", "\t"), ("{nul}", "\0"), ("{del}", "\u{7f}")];
    let special = [&control[..], &[("{sp}", " "), ("{nbsp}", "\u{a0}"), ("{shy}", "\u{ad}")]].concat();
    data.lines()
        .filter(|line| !line.is_empty() && !line.starts_with("# "))
        .map(|line| special.iter().fold(line.to_owned(), |line, (name, c)| line.replace(name, c)))
        .map(|line| line.replace("{port}", &port.to_string()))
        .collect()
}

/// Refused by a rule, not failed for lack of a network.
fn is_refusal(error: &EgressError) -> bool {
    use EgressError::*;
    matches!(error, InvalidUrl { .. } | BlockedScheme { .. } | BlockedAddress { .. } | BlockedPort { .. })
}

#[tokio::test]
async fn every_attack_is_refused_and_none_reaches_a_listener() {
    let internal = Server::start(|_| Say::ok("secret")).await;
    let egress = strict();
    let attacks = lines(include_str!("attacks.txt"), internal.port);
    assert!(attacks.len() > 150, "only {} attacks", attacks.len());
    let mut through = Vec::new();
    for url in &attacks {
        if egress.policy().check_url(url).is_ok() {
            through.push(format!("{url:?}: passes the check without I/O"));
        }
        match egress.send(OutboundRequest::get(url)).await {
            Err(error) if is_refusal(&error) && !error.is_outcome_unknown() => {}
            other => through.push(format!("{url:?}: {other:?}")),
        }
    }
    assert!(through.is_empty(), "{} of {} got through:\n{}", through.len(), attacks.len(), through.join("\n"));
    assert_eq!(internal.hits(), 0);
}

#[tokio::test]
async fn legitimate_controls_pass_when_loopback_is_open() {
    let server = Server::start(|_| Say::ok("hello")).await;
    let egress = loopback();
    let controls = lines(include_str!("controls.txt"), server.port);
    for url in &controls {
        let answer = egress.send(OutboundRequest::get(url)).await.unwrap_or_else(|error| panic!("{url}: {error}"));
        assert_eq!((answer.status, &answer.body[..]), (200, &b"hello"[..]), "{url}");
    }
    assert_eq!(server.heard().len(), controls.len());
}

#[tokio::test]
async fn opening_loopback_opens_nothing_else() {
    let egress = loopback();
    for url in [
        "http://169.254.169.254/",
        "http://10.0.0.1/",
        "http://0.0.0.0/",
        "http://[::]/",
        "http://[64:ff9b::127.0.0.1]/",
        "http://[2002:7f00:1::]/",
        "http://192.168.1.1/",
    ] {
        let error = egress.send(OutboundRequest::get(url)).await.unwrap_err();
        assert!(matches!(error, EgressError::BlockedAddress { .. }), "{url}: {error:?}");
    }
}

#[tokio::test]
async fn listed_networks_open_but_metadata_never_does() {
    let everything = ["0.0.0.0/0", "::/0"].map(|net| net.parse().unwrap()).to_vec();
    let policy = EgressPolicy { allow_private: everything, ..EgressPolicy::default() };
    for url in ["http://10.1.2.3/", "http://127.0.0.1/", "http://[fd12::1]/", "http://192.168.0.1/"] {
        assert!(policy.check_url(url).is_ok(), "{url}");
    }
    for url in ["http://169.254.169.254/", "http://[fd00:ec2::254]/", "http://100.100.100.200/", "http://0.0.0.0/"] {
        assert!(matches!(policy.check_url(url), Err(EgressError::BlockedAddress { .. })), "{url}");
    }
}

#[tokio::test]
async fn own_listeners_are_closed_even_when_loopback_is_open() {
    let own = Server::start(|_| Say::ok("secret")).await;
    let port = own.port;
    let open = Server::start(move |_| Say::redirect(302, &format!("http://127.0.0.1:{port}/"))).await;
    for denied in ["127.0.0.1", "0.0.0.0", "[::]", "[::1]"] {
        let policy = EgressPolicy {
            allow_loopback: true,
            deny_addresses: vec![format!("{denied}:{port}").parse().unwrap()],
            ..EgressPolicy::default()
        };
        let egress = Egress::new(policy).unwrap();
        let hosts =
            ["127.0.0.1", "127.0.0.2", "localhost", "db.localhost", "[::1]", "[::ffff:127.0.0.1]", "2130706433"];
        let mut urls: Vec<_> = hosts.map(|host| format!("http://{host}:{port}/")).to_vec();
        urls.push(open.url("/"));
        for url in urls {
            let error = egress.send(OutboundRequest::get(&url)).await.unwrap_err();
            assert!(
                matches!(error, EgressError::BlockedPort { port: p, .. } if p == port),
                "{denied} {url}: {error:?}"
            );
        }
    }
    assert_eq!(own.hits(), 0);
}

#[tokio::test]
async fn one_closed_address_closes_a_name() {
    let internal = Server::start(|_| Say::ok("secret")).await;
    for answer in [&["127.0.0.1"][..], &["8.8.8.8", "127.0.0.1"], &["2606:4700::1111", "::ffff:10.0.0.1"], &["fe80::1"]]
    {
        let script = Script::new(&[answer]);
        let egress =
            Egress::with_lookup(EgressPolicy::default(), Lookup::Scripted(script.clone()), Vec::new()).unwrap();
        let url = format!("http://rebind.example:{}/?token=canary", internal.port);
        let error = egress.send(OutboundRequest::get(url)).await.unwrap_err();
        assert_eq!(error, EgressError::BlockedAddress { host: "rebind.example".into() }, "{answer:?}");
        let text = format!("{error} {error:?}");
        assert!(!answer.iter().any(|ip| text.contains(ip)) && !text.contains("canary"), "{text}");
    }
    assert_eq!(internal.hits(), 0);
}

// Only Linux routes all of 127.0.0.0/8 to the loopback without further ado.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_name_that_rebinds_is_connected_where_it_was_checked() {
    let outside = Server::on("127.0.0.2:0", |_| Say::ok("outside")).await;
    let internal = Server::on(&format!("127.0.0.1:{}", outside.port), |_| Say::ok("secret")).await;
    let script = Script::new(&[&["127.0.0.2"], &["127.0.0.1"]]);
    let policy = EgressPolicy { allow_private: vec!["127.0.0.2/32".parse().unwrap()], ..EgressPolicy::default() };
    let egress = Egress::with_lookup(policy, Lookup::Scripted(script.clone()), Vec::new()).unwrap();
    let url = format!("http://rebind.example:{}/", outside.port);
    assert_eq!(&egress.send(OutboundRequest::get(&url)).await.unwrap().body[..], b"outside");
    assert_eq!(script.asked.load(Ordering::SeqCst), 1, "the connection must not look the name up again");
    let error = egress.send(OutboundRequest::get(&url)).await.unwrap_err();
    assert_eq!(error, EgressError::BlockedAddress { host: "rebind.example".into() });
    assert_eq!((outside.hits(), internal.hits()), (1, 0));
}

#[tokio::test]
async fn the_client_connects_no_name_without_a_checked_address() {
    let server = Server::start(|_| Say::ok("hello")).await;
    // As `Egress::new` does: each test may be a process of its own.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = build_client(Duration::from_secs(1), &[], None).unwrap();
    let error = client.get(format!("http://localhost:{}/", server.port)).send().await.unwrap_err();
    assert!(error.is_connect());
    assert_eq!(server.hits(), 0);
}

#[tokio::test]
async fn redirects_inside_are_refused_for_every_status() {
    for status in [301, 302, 303, 307, 308] {
        for target in [
            "http://169.254.169.254/latest/meta-data/",
            "//169.254.169.254/",
            "http://[fd00:ec2::254]/",
            "http://2852039166/",
            "http://10.0.0.1/",
            "file:///etc/passwd",
            "gopher://127.0.0.1/",
            "http://user@127.0.0.1/",
            "http://127.0.0.1\\@example.com/",
        ] {
            let server = Server::start(move |_| Say::redirect(status, target)).await;
            let error = loopback().send(OutboundRequest::get(server.url("/"))).await.unwrap_err();
            assert!(is_refusal(&error), "{status} {target}: {error:?}");
        }
    }
}

#[tokio::test]
async fn a_redirect_is_checked_like_a_first_request() {
    let internal = Server::start(|_| Say::ok("secret")).await;
    let port = internal.port;
    let outside = Server::start(move |_| Say::redirect(302, &format!("http://inside.example:{port}/"))).await;
    let policy = EgressPolicy { allow_loopback: true, ..EgressPolicy::default() };
    let script = Script::new(&[&["10.9.8.7", "127.0.0.1"]]);
    let egress = Egress::with_lookup(policy, Lookup::Scripted(script), Vec::new()).unwrap();
    let error = egress.send(OutboundRequest::get(outside.url("/"))).await.unwrap_err();
    assert_eq!(error, EgressError::BlockedAddress { host: "inside.example".into() });
    assert_eq!(internal.hits(), 0);
}

#[tokio::test]
async fn credentials_do_not_follow_to_another_host() {
    let other = Server::start(|_| Say::ok("other")).await;
    let port = other.port;
    let first = Server::start(move |request| match request.starts_with("GET /here") {
        true => Say::redirect(302, &format!("http://127.0.0.1:{port}/there")),
        false => Say::redirect(302, "/here"),
    })
    .await;
    let request = OutboundRequest::get(first.url("/start"))
        .header("Authorization", "Bearer canary1")
        .header("cookie", "sid=canary2")
        .sensitive_header("X-CRM-Key", "canary3")
        .header("X-Plain", "kept");
    let answer = loopback().send(request).await.unwrap();
    assert_eq!((answer.status, answer.final_url), (200, format!("http://127.0.0.1:{port}/there")));
    let same_host = &first.heard()[1];
    assert!((1..=3).all(|n| same_host.contains(&format!("canary{n}"))), "{same_host}");
    let other_host = &other.heard()[0];
    assert!(!other_host.contains("canary"), "{other_host}");
    assert!(other_host.contains("x-plain: kept") && !other_host.to_lowercase().contains("referer"), "{other_host}");
}

#[tokio::test]
async fn methods_and_bodies_over_redirects() {
    let server = Server::start(|request| match request.split_whitespace().nth(1) {
        Some("/303") => Say::redirect(303, "/end"),
        Some("/307") => Say::redirect(307, "end"),
        Some("/loop") => Say::redirect(302, "/loop"),
        _ => Say::ok("done"),
    })
    .await;
    let egress = loopback();
    let post = |path: &str| OutboundRequest::new(Method::POST, server.url(path)).body("payload");
    egress.send(post("/303")).await.unwrap();
    egress.send(post("/307")).await.unwrap();
    let heard = server.heard();
    assert!(heard[1].starts_with("GET /end") && !heard[1].contains("payload"), "{}", heard[1]);
    assert!(heard[3].starts_with("POST /end") && heard[3].ends_with("payload"), "{}", heard[3]);
    let error = egress.send(OutboundRequest::get(server.url("/loop"))).await.unwrap_err();
    assert_eq!(error, EgressError::TooManyRedirects { limit: 5 });
    assert_eq!(server.heard().len(), 4 + 6);
    let unfollowed = egress.send(post("/303").follow_redirects(false)).await.unwrap();
    assert_eq!((unfollowed.status, unfollowed.header("LOCATION")), (303, Some("/end")));
}

#[tokio::test]
async fn only_the_origins_that_were_named_are_called() {
    let (one, two) = (Server::start(|_| Say::ok("one")).await, Server::start(|_| Say::ok("two")).await);
    let there = two.url("/landed");
    let redirecting = Server::start(move |_| Say::redirect(302, &there)).await;
    let egress = loopback();
    let asks = |url: String, origins: &[&Server]| {
        let origins = origins.iter().map(|server| server.url("").trim_end_matches('/').to_owned()).collect();
        egress.send(OutboundRequest::get(url).origins(Some(origins)))
    };
    assert_eq!(asks(one.url("/x"), &[&two, &one]).await.unwrap().status, 200);
    let error = asks(one.url("/x"), &[&two]).await.unwrap_err();
    assert!(matches!(&error, EgressError::NotApproved { .. }) && !error.is_outcome_unknown(), "{error}");
    let error = asks(redirecting.url("/"), &[&redirecting, &one]).await.unwrap_err();
    assert!(matches!(&error, EgressError::RedirectRefused { .. }), "{error}");
    assert!(two.heard().is_empty(), "called without approval");
    assert_eq!(asks(redirecting.url("/"), &[&redirecting, &two]).await.unwrap().status, 200);
}

#[tokio::test]
async fn answers_are_bounded() {
    let server = Server::start(|request| match request.split_whitespace().nth(1) {
        Some("/exact") => Say::ok(&"x".repeat(1000)),
        Some("/declared") => Say::ok(&"x".repeat(1001)),
        Some("/endless") => Say::ThenHang(
            [&b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3e9\r\n"[..], &[b'x'; 1001]].concat(),
        ),
        _ => {
            let head = &b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n"[..];
            Say::Bytes([head, &gzip_of_zeros(4000)].concat())
        }
    })
    .await;
    let egress = loopback();
    let get = |path: &str| egress.send(OutboundRequest::get(server.url(path)).max_response_bytes(1000));
    assert_eq!(get("/exact").await.unwrap().body.len(), 1000);
    for path in ["/declared", "/endless", "/bomb"] {
        let error = get(path).await.unwrap_err();
        assert_eq!(error, EgressError::ResponseTooLarge { limit: 1000 }, "{path}");
        assert!(error.is_outcome_unknown());
    }
    assert!(gzip_of_zeros(4000).len() < 1000, "the bomb must be small on the wire");
}

#[tokio::test]
async fn failures_say_whether_the_request_may_have_arrived() {
    let silent = Server::start(|_| Say::ThenHang(Vec::new())).await;
    let slow_body = Server::start(|_| Say::ThenHang(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc".to_vec())).await;
    let dropped = Server::start(|_| Say::Bytes(Vec::new())).await;
    let half = Server::start(|_| Say::Bytes(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc".to_vec())).await;
    let garbage = Server::start(|_| Say::Bytes(b"SSH-2.0-OpenSSH_9.2\r\n\r\n".to_vec())).await;
    let bad_gzip = Server::start(|_| Say::status("200 OK", "Content-Encoding: gzip\r\n", "not gzip")).await;
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let short = Duration::from_millis(300);
    let policy = EgressPolicy { allow_loopback: true, connect_timeout: short, ..EgressPolicy::default() };
    let egress = Egress::new(policy).unwrap();
    let tls = |server: &Server| server.url("/").replace("http:", "https:");
    let long = Duration::from_secs(20);
    for (url, limit, expected, unknown) in [
        (silent.url("/"), short, "Timeout", true),
        (slow_body.url("/"), short, "Timeout", true),
        (dropped.url("/"), long, "Interrupted", true),
        (half.url("/"), long, "Interrupted", true),
        (garbage.url("/"), long, "Protocol", true),
        (bad_gzip.url("/"), long, "Protocol", true),
        (format!("http://127.0.0.1:{closed}/"), long, "Connect", false),
        // A server that never answers the TLS greeting: the connect limit ends it, and nothing was sent.
        (tls(&silent), long, "Timeout", false),
        (tls(&garbage), long, "Tls", false),
        ("http://nowhere.invalid/".into(), long, "Dns", false),
    ] {
        let url = format!("{url}?key=canary");
        let request = OutboundRequest::new(Method::POST, &url).sensitive_header("X-Key", "canary").body("canary");
        let error = egress.send(request.timeout(limit)).await.unwrap_err();
        let text = format!("{error:?}");
        assert!(text.starts_with(expected), "{url}: {text}");
        assert_eq!(error.is_outcome_unknown(), unknown, "{url}: {text}");
        assert!(error.is_transient(), "{url}: {text}");
        assert!(!format!("{text} {error}").contains("canary"), "{text} {error}");
    }
}

#[tokio::test]
async fn a_failure_behind_a_redirect_is_an_unknown_outcome() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let server = Server::start(move |_| Say::redirect(303, &format!("http://127.0.0.1:{closed}/done"))).await;
    let request = OutboundRequest::new(Method::POST, server.url("/orders")).body("{}");
    let error = loopback().send(request).await.unwrap_err();
    assert!(matches!(error, EgressError::Interrupted { .. }) && error.is_outcome_unknown(), "{error:?}");
}

#[tokio::test]
async fn debug_forms_show_no_secrets() {
    let server = Server::start(|_| Say::status("200 OK", "Set-Cookie: canary\r\n", "canary")).await;
    let request = OutboundRequest::get(server.url("/path?key=canary#canary")).header("X-Key", "canary").body("canary");
    let shown = format!("{request:?}");
    let answer = loopback().send(request).await.unwrap();
    let shown = format!("{shown} {answer:?}");
    assert!(!shown.contains("canary") && shown.contains("/path") && shown.contains("set-cookie"), "{shown}");
    assert_eq!(format!("{:?}", OutboundRequest::get("canary://x@y")).matches("canary").count(), 0);
}

/// The second half of the next test: does its work in a process whose environment names a proxy, and nowhere else.
#[tokio::test]
async fn proxy_child() {
    if std::env::var_os("APIQ_TEST_PROXY_CHILD").is_none() {
        return;
    }
    println!("the child runs");
    let server = Server::start(|_| Say::ok("direct")).await;
    let answer = loopback().send(OutboundRequest::get(server.url("/"))).await.unwrap();
    assert_eq!(&answer.body[..], b"direct");
}

#[tokio::test]
async fn proxies_from_the_environment_are_ignored() {
    let proxy = Server::start(|_| Say::ok("proxied")).await;
    let mut child = tokio::process::Command::new(std::env::current_exe().unwrap());
    child
        .args(["egress::tests::proxy_child", "--exact", "--nocapture"])
        .env("APIQ_TEST_PROXY_CHILD", "1")
        .env_remove("NO_PROXY")
        .env_remove("no_proxy");
    for name in ["http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"] {
        child.env(name, proxy.url("/"));
    }
    let output = child.output().await.unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("the child runs"), "{text}");
    assert_eq!(proxy.hits(), 0);
}

/// A gzip stream of at least `size` zeros (its checksum left out: readers stop before it), about 1/158 of the size.
/// DEFLATE with the fixed code: one literal zero, then copies of 258 bytes from one byte back.
fn gzip_of_zeros(size: usize) -> Vec<u8> {
    let mut bits: Vec<bool> = Vec::new();
    let mut code = |value: u32, width: u32| bits.extend((0..width).rev().map(|bit| value >> bit & 1 == 1));
    code(0b1, 1); // last block
    code(0b10, 2); // fixed code (01, low bit first)
    code(0b0011_0000, 8); // the literal 0
    for _ in 0..size.div_ceil(258) {
        code(0b1100_0101, 8); // length 258
        code(0, 5); // distance 1
    }
    code(0, 7); // end of block
    let mut out = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
    for byte in bits.chunks(8) {
        out.push(byte.iter().enumerate().fold(0, |byte, (at, bit)| byte | (u8::from(*bit) << at)));
    }
    out
}
