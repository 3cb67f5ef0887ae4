//! Mail servers that misbehave: what is told of them, and how soon.

use std::time::Duration;

use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

use super::{
    mail::{Encryption, Mail},
    outcome::{Failed, Ran},
};
use crate::egress::{Egress, EgressError, EgressPolicy, Scope};

const HELLO: &str = "250-mail.test\r\n250-AUTH LOGIN\r\n250 STARTTLS\r\n";

/// A server that greets, answers each line by its first match, and says nothing where there is none. It gives what it was
/// told, once the client is gone.
async fn server(answers: &'static [(&'static str, &'static str)]) -> (u16, JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let told = tokio::spawn(async move {
        let mut stream = BufReader::new(listener.accept().await.unwrap().0);
        stream.write_all(b"220 mail.test\r\n").await.unwrap();
        let mut told = String::new();
        loop {
            let mut line = String::new();
            if stream.read_line(&mut line).await.unwrap_or(0) == 0 {
                return told;
            }
            told.push_str(&line);
            if let Some((_, answer)) = answers.iter().find(|(start, _)| line.starts_with(start)) {
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        }
    });
    (port, told)
}

/// Long enough that who waits for an answer that never comes is found out.
const LONG: Duration = Duration::from_secs(20);

async fn send(port: u16, encryption: Encryption) -> Ran {
    let egress = Egress::new(EgressPolicy { allow_loopback: true, ..EgressPolicy::default() }).unwrap();
    let address = |text: &str| text.parse().unwrap();
    let envelope = lettre::address::Envelope::new(Some(address("a@b.test")), vec![address("c@d.test")]).unwrap();
    let mail = Mail {
        host: "127.0.0.1".to_owned(),
        port,
        encryption,
        login: Some(("u".to_owned(), "p4ss".to_owned().into())),
        envelope: Some(envelope),
        bytes: b"Subject: s\r\n\r\nQUIT\r\n".to_vec(),
        message_id: "<1@apiq>".to_owned(),
    };
    let ran = mail.send(&egress, Scope::default(), LONG, None).await;
    assert!(ran.call.as_ref().unwrap().duration_ms < 10_000, "somebody waited: {:?}", ran.call);
    ran
}

fn refusal(ran: Ran) -> String {
    match ran.result {
        Err(Failed::Refused(refused)) => refused.refusal.code,
        Err(other) => panic!("{other:?}"),
        Ok(answer) => panic!("{answer:?}"),
    }
}

#[tokio::test]
async fn a_refused_login_is_told_though_the_server_then_is_silent() {
    let (port, _told) = server(&[
        ("EHLO", HELLO),
        ("AUTH", "334 VXNlcm5hbWU6\r\n"),
        ("dQ==", "334 UGFzc3dvcmQ6\r\n"),
        ("cDRzcw==", "535 no\r\n"),
    ])
    .await;
    assert_eq!(refusal(send(port, Encryption::None).await), "SMTP_535");
}

#[tokio::test]
async fn a_refused_hello_is_told_though_the_server_then_is_silent() {
    let (port, _told) = server(&[("EHLO", "554 not you\r\n")]).await;
    assert_eq!(refusal(send(port, Encryption::None).await), "SMTP_554");
    let (port, _told) = server(&[("EHLO", "554 not you\r\n")]).await;
    assert_eq!(refusal(send(port, Encryption::Starttls).await), "SMTP_554");
}

#[tokio::test]
async fn a_mail_that_was_taken_is_done_before_the_goodbye() {
    let (port, told) = server(&[
        ("EHLO", HELLO),
        ("AUTH", "235 welcome\r\n"),
        ("MAIL", "250 ok\r\n"),
        ("RCPT", "250 ok\r\n"),
        ("DATA", "354 go on\r\n"),
        (".", "250 taken\r\n"),
    ])
    .await;
    let answer = send(port, Encryption::None).await.result.unwrap();
    assert_eq!((answer.status, &answer.output["response"]), (Some(250), &"taken".into()));
    // It is said nevertheless, and the connection ends without its answer.
    let told = told.await.unwrap();
    assert!(told.ends_with(".\r\nQUIT\r\n"), "{told}");
}

#[tokio::test]
async fn what_came_before_tls_is_nobodys_word() {
    let (port, told) = server(&[("EHLO", HELLO), ("STARTTLS", "220 go\r\n250 injected\r\n")]).await;
    assert_eq!(refusal(send(port, Encryption::Starttls).await), "SMTP_UNFIT");
    assert_eq!(told.await.unwrap(), "EHLO apiq.invalid\r\nSTARTTLS\r\n", "no handshake, no login");
}

#[tokio::test]
async fn a_line_without_end_is_not_read_to_its_end() {
    async fn babble(mut stream: TcpStream) -> usize {
        let (mut written, piece) = (0, [b'2'; 4096]);
        while stream.write_all(&piece).await.is_ok() {
            written += piece.len();
        }
        written
    }
    for encryption in [Encryption::None, Encryption::Starttls, Encryption::Implicit] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let written = tokio::spawn(async move { babble(listener.accept().await.unwrap().0).await });
        let failed = send(port, encryption).await.result.unwrap_err();
        let expected = matches!(failed, Failed::Egress(EgressError::Connect { .. } | EgressError::Tls { .. }));
        assert!(expected, "{encryption:?}: {failed:?}");
        // What lies in the system's buffers comes on top.
        assert!(written.await.unwrap() < 32 * 1024 * 1024, "{encryption:?}");
    }
}
