//! Mail against real servers: maildev in the open and with TLS from the first byte, and with STARTTLS the library that
//! maildev is made of (maildev itself hides the command).

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use crate::connectors::{credential, step};
use crate::support::client::http;
use crate::support::keeper::{Keeper, free_port};
use crate::support::tls::{Authority, Pair};
use crate::support::{Client, Server, until};

const PASSWORD: &str = "canary-password-7d";

/// The folder of npm's programs, filled once; `None` (and said so) where that does not work.
fn installed() -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("maildev");
    fs::create_dir_all(&folder).unwrap();
    let lock = File::create(folder.join("lock")).unwrap();
    lock.lock().unwrap();
    let modules = folder.join("node_modules");
    if modules.join(".bin/maildev").exists() && modules.join("smtp-server").exists() {
        return Some(modules);
    }
    let arguments = ["install", "--no-audit", "--no-fund", "--no-save", "--prefix"];
    match Command::new("npm").args(arguments).arg(&folder).args(["maildev@2", "smtp-server@3"]).output() {
        Ok(output) if output.status.success() => Some(modules),
        Ok(output) => {
            eprintln!("skipped: npm installs no maildev: {}", String::from_utf8_lossy(&output.stderr));
            None
        }
        Err(error) => {
            eprintln!("skipped: there is no npm: {error}");
            None
        }
    }
}

struct MailServer {
    _keeper: Keeper,
    port: u16,
    web: u16,
}

impl MailServer {
    async fn maildev(modules: &Path, folder: &Path, more: &[&str]) -> MailServer {
        let (port, web) = (free_port(), free_port());
        let mut command = Command::new(modules.join(".bin/maildev"));
        command.args(["--ip", "127.0.0.1", "--smtp", &port.to_string(), "--web", &web.to_string()]).args(more);
        let keeper = Keeper::spawn(&command, &folder.join(format!("maildev-{port}.log")));
        let server = MailServer { _keeper: keeper, port, web };
        until("maildev answers", Duration::from_secs(60), async || server.ask().await).await;
        server
    }

    /// A server that wants STARTTLS and a login, and tells what it took by HTTP as maildev does.
    async fn starttls(modules: &Path, folder: &Path, pair: &Pair) -> MailServer {
        let (port, web) = (free_port(), free_port());
        let (certificate, key) = (folder.join("server.pem"), folder.join("server.key"));
        fs::write(&certificate, &pair.certificate).unwrap();
        fs::write(&key, &pair.private_key).unwrap();
        let script = format!(
            r#"const {{ SMTPServer }} = require({module:?}); const fs = require('fs'); const http = require('http');
            const taken = [];
            new SMTPServer({{
              key: fs.readFileSync({key:?}), cert: fs.readFileSync({certificate:?}),
              onAuth: (a, s, done) => a.username === 'u' && a.password === {PASSWORD:?} && s.secure
                ? done(null, {{ user: 'u' }}) : done(new Error('no')),
              onData: (stream, s, done) => {{ let text = ''; stream.on('data', d => text += d);
                stream.on('end', () => {{ taken.push({{ text, secure: s.secure, to: s.envelope.rcptTo.map(r => r.address) }}); done(); }}); }},
            }}).on('error', () => {{}}).listen({port}, '127.0.0.1');
            http.createServer((q, a) => a.end(JSON.stringify(taken))).listen({web}, '127.0.0.1');"#,
            module = modules.join("smtp-server"),
        );
        let mut command = Command::new("node");
        command.args(["-e", &script]);
        let keeper = Keeper::spawn(&command, &folder.join("starttls.log"));
        let server = MailServer { _keeper: keeper, port, web };
        until("the mail server answers", Duration::from_secs(60), async || server.ask().await).await;
        server
    }

    /// What it took.
    async fn ask(&self) -> Option<Value> {
        let answer = http().get(format!("http://127.0.0.1:{}/email", self.web)).send().await.ok()?;
        serde_json::from_str(&answer.text().await.ok()?).ok()
    }
}

fn mail(credential: &str, input: Value) -> Value {
    let mut step = step("mail", "smtp", "send_email", credential, input);
    step["retry"] = json!({ "maxAttempts": 2, "initialInterval": "50ms" });
    step
}

async fn sent(client: &Client, step: Value, input: Value) -> Value {
    let workflow = client.workflow(json!({ "name": "mail", "steps": [step] })).await;
    client.execute(&workflow, input).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mail_arrives_with_its_attachments() {
    let Some(modules) = tokio::task::spawn_blocking(installed).await.unwrap() else { return };
    let folder = tempfile::tempdir().unwrap();
    let maildev = MailServer::maildev(&modules, folder.path(), &[]).await;
    let server = Server::start_with(&[("APIQ_MAIL_ATTACHMENTS_MAX_BYTES", "1000")]).await;
    let maria = server.account("maria").await;
    let client = &maria.client;
    let data = json!({ "host": "127.0.0.1", "port": maildev.port, "tls": "none", "from": "APIQ <apiq@example.com>" });
    let smtp = credential(client, "smtp", data).await;
    let input = json!({
        "to": ["Ada <ada@example.com>", "{{ input.second }}"], "bcc": "eve@example.com", "subject": "Grüße, {{ input.name }}",
        "text": "Hello\n.\n..two dots", "html": "<b>Hello</b>",
        "attachments": [{ "filename": "note.txt", "contentType": "text/plain", "content": "{{ input.file }}" }],
    });
    let values = |file: &str| json!({ "second": "bob@example.com", "name": "Ada", "file": file });
    let execution = sent(client, mail(&smtp, input.clone()), values("YXR0YWNoZWQ=")).await;
    assert_eq!(execution["status"], "completed", "{execution}");
    let step = &execution["steps"][0];
    assert_eq!(
        (&step["httpStatus"], &step["output"]["accepted"]),
        (&json!(250), &json!(["ada@example.com", "bob@example.com", "eve@example.com"])),
        "{step}"
    );
    let taken = maildev.ask().await.unwrap();
    assert_eq!(taken.as_array().unwrap().len(), 1);
    let arrived = &taken[0];
    assert_eq!(arrived["subject"], "Grüße, Ada");
    assert_eq!(arrived["text"].as_str().unwrap().trim_end(), "Hello\n.\n..two dots");
    assert_eq!(
        (&arrived["attachments"][0]["fileName"], &arrived["html"]),
        (&json!("note.txt"), &json!("<b>Hello</b>")),
        "{arrived}"
    );
    assert_eq!(
        arrived["messageId"].as_str().unwrap(),
        step["output"]["messageId"].as_str().unwrap().trim_matches(['<', '>'])
    );
    assert!(arrived["headers"]["bcc"].is_null(), "{arrived}");

    // What only the values decide: nothing is sent.
    let large = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, vec![7u8; 1001]);
    for (values, field) in [
        (values(&large), "attachments"),
        (values("no base64!"), "attachments[0].content"),
        (json!({ "second": "x@y.test\r\nBcc: z@y.test", "name": "A", "file": "" }), "to[1]"),
        (json!({ "second": "b@example.com", "name": "A\r\nBcc: z@y.test", "file": "" }), "subject"),
    ] {
        let execution = sent(client, mail(&smtp, input.clone()), values).await;
        assert_eq!(execution["error"]["code"], "BAD_INPUT", "{execution}");
        let message = execution["error"]["message"].as_str().unwrap();
        assert!(message.contains(field) && !message.contains("y.test"), "{field}: {message}");
    }
    assert_eq!(maildev.ask().await.unwrap().as_array().unwrap().len(), 1);

    // Who asks for STARTTLS gets no mail through a server that hides it; a closed port is told as that.
    let data = json!({ "host": "127.0.0.1", "port": maildev.port, "from": "a@example.com" });
    let strict = credential(client, "smtp", data).await;
    let plain = json!({ "to": "ada@example.com", "subject": "s", "text": "t" });
    let refused = sent(client, mail(&strict, plain.clone()), json!({})).await;
    assert_eq!(refused["error"]["code"], "SMTP_UNFIT", "{refused}");
    assert!(refused["error"]["message"].as_str().unwrap().contains("STARTTLS"), "{refused}");
    let nobody = json!({ "host": "127.0.0.1", "port": free_port(), "tls": "none", "from": "a@example.com" });
    let nobody = credential(client, "smtp", nobody).await;
    let failed = sent(client, mail(&nobody, plain), json!({})).await;
    assert_eq!(
        (&failed["error"]["code"], failed["steps"][0]["attempts"].as_array().unwrap().len()),
        (&json!("NETWORK"), 2),
        "{failed}"
    );
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_travels_over_tls_only_to_whom_the_machine_trusts() {
    let Some(modules) = tokio::task::spawn_blocking(installed).await.unwrap() else { return };
    let folder = tempfile::tempdir().unwrap();
    let (authority, stranger) = (Authority::new(), Authority::new());
    let roots = folder.path().join("roots.pem");
    fs::write(&roots, authority.pem()).unwrap();
    let pair = authority.server();
    let (certificate, key) = (folder.path().join("m.pem"), folder.path().join("m.key"));
    fs::write(&certificate, &pair.certificate).unwrap();
    fs::write(&key, &pair.private_key).unwrap();
    let (certificate, key) = (certificate.to_str().unwrap(), key.to_str().unwrap());
    let more = [
        "--incoming-secure",
        "--incoming-cert",
        certificate,
        "--incoming-key",
        key,
        "--incoming-user",
        "u",
        "--incoming-pass",
        PASSWORD,
    ];
    let implicit = MailServer::maildev(&modules, folder.path(), &more).await;
    let starttls = MailServer::starttls(&modules, folder.path(), &pair).await;
    let other = tempfile::tempdir().unwrap();
    let untrusted = MailServer::starttls(&modules, other.path(), &stranger.server()).await;

    let server = Server::start_with(&[("SSL_CERT_FILE", roots.to_str().unwrap())]).await;
    let maria = server.account("maria").await;
    let client = &maria.client;
    let with = async |port: u16, tls: &str, password: &str| {
        let data = json!({ "host": "127.0.0.1", "port": port, "tls": tls, "username": "u", "password": password, "from": "a@example.com" });
        credential(client, "smtp", data).await
    };
    let input = json!({ "to": "ada@example.com", "subject": "s", "text": "t" });
    for (mailer, tls) in [(&implicit, "implicit"), (&starttls, "starttls")] {
        let good = with(mailer.port, tls, PASSWORD).await;
        let execution = sent(client, mail(&good, input.clone()), json!({})).await;
        assert_eq!(execution["status"], "completed", "{tls}: {execution}");
        let taken = mailer.ask().await.unwrap();
        assert_eq!(taken.as_array().unwrap().len(), 1, "{tls}");
        if tls == "starttls" {
            assert_eq!(taken[0]["secure"], true, "{taken}");
        }
        let bad = with(mailer.port, tls, "wrong").await;
        let refused = sent(client, mail(&bad, input.clone()), json!({})).await;
        assert_eq!(refused["error"]["code"], "SMTP_535", "{tls}: {refused}");
        assert!(!refused.to_string().contains(PASSWORD), "{refused}");
        // The test logs in and sends nothing.
        for (credential, expected) in [(&good, "success"), (&bad, "failed")] {
            let body = json!({ "connectorType": "smtp", "name": "mail", "credentialId": credential });
            let made = client.post("/connectors", body).await.data(201);
            let path = format!("/connectors/{}/test", made["id"].as_str().unwrap());
            let tested = client.post(&path, json!({})).await.data(200);
            assert_eq!(tested["status"], expected, "{tls}: {tested}");
        }
        assert_eq!(mailer.ask().await.unwrap().as_array().unwrap().len(), 1, "{tls}");
    }
    let strange = with(untrusted.port, "starttls", PASSWORD).await;
    let refused = sent(client, mail(&strange, input), json!({})).await;
    assert_eq!(refused["error"]["code"], "NETWORK", "{refused}");
    assert!(refused["error"]["message"].as_str().unwrap().contains("no secure connection"), "{refused}");
    assert_eq!(untrusted.ask().await.unwrap(), json!([]));
    assert!(!server.output().contains(PASSWORD));
    server.finish().await;
}
