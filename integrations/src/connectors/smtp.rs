//! Mail by SMTP: the message and its attachments. `mail` has the conversation with the server.

use base64::{Engine, engine::general_purpose::STANDARD};
use domain::{
    connector::kind::{Action, ConnectorType, Repeat},
    error::FieldError,
};
use lettre::{
    Message,
    address::Envelope,
    message::{Attachment, Mailbox, MultiPart, SinglePart, header::ContentType},
};
use serde_json::{Map, Value, json};

use super::{
    Caps, Connector, Input, Job, Outgoing, Wrong,
    mail::{Encryption, Mail},
};

pub(super) struct Smtp;

/// Fields that hold addresses.
const PEOPLE: [&str; 5] = ["from", "to", "cc", "bcc", "replyTo"];
/// Recipients of one mail.
const MOST_PEOPLE: usize = 100;

impl Connector for Smtp {
    fn kind(&self) -> ConnectorType {
        let people = |description: &str| {
            json!({ "type": ["string", "array"], "minLength": 1, "minItems": 1, "maxItems": MOST_PEOPLE,
                    "items": { "type": "string", "minLength": 1 }, "description": description })
        };
        ConnectorType {
            name: "smtp",
            title: "SMTP",
            description: "Mail by any SMTP server.",
            credential_required: true,
            credential: json!({
                "type": "object", "required": ["host", "port"], "additionalProperties": false,
                "properties": {
                    "host": { "type": "string", "minLength": 1, "maxLength": 253 },
                    "port": { "type": "integer", "minimum": 1, "maximum": 65535 },
                    "tls": { "enum": ["starttls", "implicit", "none"],
                             "description": "starttls when absent: a server that does not offer it gets no mail." },
                    "username": { "type": "string", "minLength": 1, "maxLength": 1024 },
                    "password": { "type": "string", "minLength": 1, "maxLength": 4096, "writeOnly": true },
                    "from": { "type": "string", "description": "Of mails that name no sender." },
                },
                "dependentRequired": { "username": ["password"], "password": ["username"] },
            }),
            config: json!({
                "type": "object", "additionalProperties": false,
                "properties": { "from": { "type": "string", "description": "Goes before the credential's." } },
            }),
            actions: vec![Action {
                name: "send_email",
                title: "Send an e-mail",
                description: "A mail is never sent again when nobody knows whether the server took it.",
                repeat: Repeat::Never,
                input: json!({
                    "type": "object", "required": ["to", "subject"], "additionalProperties": false,
                    "properties": {
                        "to": people("\"ada@example.com\" or \"Ada <ada@example.com>\", one or several."),
                        "cc": people("As `to`."), "bcc": people("As `to`; not in the message."),
                        "from": { "type": "string", "minLength": 1 }, "replyTo": { "type": "string", "minLength": 1 },
                        "subject": { "type": "string", "maxLength": 998 },
                        "text": { "type": "string" }, "html": { "type": "string" },
                        "attachments": {
                            "type": "array", "maxItems": 50,
                            "items": {
                                "type": "object", "required": ["filename", "content"], "additionalProperties": false,
                                "properties": {
                                    "filename": { "type": "string", "minLength": 1, "maxLength": 255 },
                                    "content": { "type": "string", "description": "In base64." },
                                    "contentType": { "type": "string", "description": "application/octet-stream when absent." },
                                },
                            },
                        },
                    },
                }),
                output: json!({ "type": "object", "properties": {
                    "messageId": { "type": "string" }, "response": { "type": "string", "description": "Of the server." },
                    "accepted": { "type": "array", "items": { "type": "string" } },
                } }),
            }],
        }
    }

    fn check(&self, _: &str, input: &Input<'_>, caps: &Caps) -> Vec<FieldError> {
        let mut faults = Vec::new();
        let mut add = |field: String, message: String| faults.push(FieldError::new(field, message));
        if !input.has("text") && !input.has("html") {
            add("text".into(), "is required (or html)".into());
        }
        for (field, address) in PEOPLE.iter().flat_map(|name| input.texts(name)) {
            if let Err(why) = mailbox(address) {
                add(field, why.to_owned());
            }
        }
        if input.text("subject").is_some_and(has_control) {
            add("subject".into(), "must not hold line breaks or other control characters".into());
        }
        let mut total = 0;
        let items = input.map().get("attachments").and_then(Value::as_array);
        for (i, item) in items.into_iter().flatten().enumerate() {
            let known = |name: &str| item.get(name).filter(|value| !input.is_open(value)).and_then(Value::as_str);
            if known("filename").is_some_and(|name| has_control(name) || name.contains(['/', '\\'])) {
                let message = "must be a plain name without slashes and control characters";
                add(format!("attachments[{i}].filename"), message.into());
            }
            if known("contentType").is_some_and(|kind| has_control(kind) || ContentType::parse(kind).is_err()) {
                add(format!("attachments[{i}].contentType"), "is no content type such as text/plain".into());
            }
            let Some(content) = known("content") else { continue };
            // Enough is known without decoding what is too much anyway.
            let about = content.len() / 4 * 3;
            match decode(content, caps.attachment_bytes) {
                Some(bytes) => total += bytes.len(),
                None if about > caps.attachment_bytes => total += about,
                None => add(format!("attachments[{i}].content"), "is no base64".into()),
            }
        }
        if total > caps.attachment_bytes {
            let message = format!("have more than {} bytes together, decoded", caps.attachment_bytes);
            add("attachments".into(), message);
        }
        faults
    }

    fn check_credential(&self, data: &Map<String, Value>) -> Vec<FieldError> {
        let mut faults = Vec::new();
        for name in ["host", "username", "password"] {
            if data.get(name).and_then(Value::as_str).is_some_and(has_control) {
                faults.push(FieldError::new(name, "must not hold line breaks or other control characters"));
            }
        }
        if let Some(Err(why)) = data.get("from").and_then(Value::as_str).map(mailbox) {
            faults.push(FieldError::new("from", why));
        }
        let plain = data.get("tls").and_then(Value::as_str) == Some("none");
        let host = data.get("host").and_then(Value::as_str).unwrap_or_default();
        if plain && data.contains_key("password") && !is_near(host) {
            let message = "none sends the password for everybody to read; only a server on this machine may have it so";
            faults.push(FieldError::new("tls", message));
        }
        faults
    }

    fn request(&self, job: &Job<'_>) -> Result<Outgoing, Wrong> {
        let from = [job.text("from"), job.config.get("from").and_then(Value::as_str).unwrap_or_default()];
        let from = from.into_iter().find(|text| !text.is_empty()).or_else(|| job.secret("from"));
        let from = from
            .ok_or_else(|| Wrong::new("BAD_INPUT", "from: is required (neither credential nor connector names one)"))?;
        let people = |name: &str| -> Result<Vec<Mailbox>, Wrong> {
            let all = match job.input.get(name) {
                Some(Value::Array(items)) => items.iter().filter_map(Value::as_str).collect(),
                other => other.and_then(Value::as_str).into_iter().collect::<Vec<_>>(),
            };
            all.into_iter().map(|text| person(name, text)).collect()
        };
        let (sender, to, cc, bcc) = (person("from", from)?, people("to")?, people("cc")?, people("bcc")?);
        let recipients: Vec<_> = to.iter().chain(&cc).chain(&bcc).map(|mailbox| mailbox.email.clone()).collect();
        if recipients.len() > MOST_PEOPLE {
            return Err(Wrong::new("BAD_INPUT", format!("to: a mail has at most {MOST_PEOPLE} recipients")));
        }
        let broken =
            |error: &dyn std::fmt::Display| Wrong::new("BAD_INPUT", format!("the mail cannot be written: {error}"));
        let message_id = format!("<{}@apiq>", job.reference);
        let mut message = Message::builder().from(sender.clone()).subject(job.text("subject"));
        message = message.message_id(Some(message_id.clone())).date_now();
        for mailbox in to {
            message = message.to(mailbox);
        }
        for mailbox in cc {
            message = message.cc(mailbox);
        }
        for mailbox in people("replyTo")? {
            message = message.reply_to(mailbox);
        }
        let envelope = Envelope::new(Some(sender.email), recipients).map_err(|error| broken(&error))?;
        let parts = attachments(job)?;
        let written = match (content(job), parts.is_empty()) {
            (Content::One(part), true) => message.singlepart(part),
            (Content::Both(parts), true) => message.multipart(parts),
            (content, false) => {
                let mixed = match content {
                    Content::One(part) => MultiPart::mixed().singlepart(part),
                    Content::Both(parts) => MultiPart::mixed().multipart(parts),
                };
                message.multipart(parts.into_iter().fold(mixed, MultiPart::singlepart))
            }
        };
        let bytes = written.map_err(|error| broken(&error))?.formatted();
        Ok(Outgoing::Mail(Box::new(Mail { envelope: Some(envelope), bytes, message_id, ..server(job)? })))
    }

    fn probe(&self, job: &Job<'_>) -> Result<Outgoing, Wrong> {
        Ok(Outgoing::Mail(Box::new(server(job)?)))
    }

    fn derived_secrets(&self, credential: &Map<String, Value>) -> Vec<String> {
        credential.get("password").and_then(Value::as_str).map(|text| STANDARD.encode(text)).into_iter().collect()
    }
}

/// The server of a job, without a message.
fn server(job: &Job<'_>) -> Result<Mail, Wrong> {
    let port = job.credential.get("port").and_then(Value::as_u64).and_then(|port| u16::try_from(port).ok());
    let encryption = match job.secret("tls") {
        Some("none") => Encryption::None,
        Some("implicit") => Encryption::Implicit,
        _ => Encryption::Starttls,
    };
    let login = job.secret("username").zip(job.secret("password"));
    Ok(Mail {
        host: job.secret("host").ok_or_else(|| Wrong::lacking("host"))?.to_owned(),
        port: port.ok_or_else(|| Wrong::lacking("port"))?,
        encryption,
        login: login.map(|(user, password)| (user.to_owned(), password.to_owned().into())),
        envelope: None,
        bytes: Vec::new(),
        message_id: String::new(),
    })
}

enum Content {
    One(SinglePart),
    Both(MultiPart),
}

fn content(job: &Job<'_>) -> Content {
    let (text, html) = (job.text("text").to_owned(), job.text("html").to_owned());
    match (job.input.contains_key("text"), job.input.contains_key("html")) {
        (true, true) => Content::Both(MultiPart::alternative_plain_html(text, html)),
        (false, true) => Content::One(SinglePart::html(html)),
        _ => Content::One(SinglePart::plain(text)),
    }
}

fn attachments(job: &Job<'_>) -> Result<Vec<SinglePart>, Wrong> {
    let items = job.input.get("attachments").and_then(Value::as_array);
    let part = |item: &Value| {
        let text = |name: &str| item.get(name).and_then(Value::as_str);
        let kind = text("contentType").unwrap_or("application/octet-stream");
        let bad = |field: &str| Wrong::new("BAD_INPUT", format!("attachments: {field} is wrong"));
        let kind = ContentType::parse(kind).map_err(|_| bad("contentType"))?;
        let bytes = decode(text("content").unwrap_or_default(), usize::MAX).ok_or_else(|| bad("content"))?;
        Ok(Attachment::new(text("filename").unwrap_or("file").to_owned()).body(bytes, kind))
    };
    items.into_iter().flatten().map(part).collect()
}

/// `None`: it is no base64, or of more than `most` bytes. Line breaks are taken.
fn decode(content: &str, most: usize) -> Option<Vec<u8>> {
    if content.len() / 4 * 3 > most.saturating_add(most / 20).saturating_add(1024) {
        return None;
    }
    let bare: String = content.chars().filter(|c| !c.is_ascii_whitespace()).collect();
    STANDARD.decode(bare).ok()
}

fn has_control(text: &str) -> bool {
    text.chars().any(char::is_control)
}

/// Line breaks first: they are what turns an address into headers.
fn mailbox(text: &str) -> Result<Mailbox, &'static str> {
    if has_control(text) {
        return Err("must not hold line breaks or other control characters");
    }
    text.parse().map_err(|_| "is no address such as \"Ada <ada@example.com>\"")
}

fn person(field: &str, text: &str) -> Result<Mailbox, Wrong> {
    mailbox(text).map_err(|why| Wrong::new("BAD_INPUT", format!("{field}: {why}")))
}

/// Of this machine, by its looks.
pub(super) fn is_near(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    bare.eq_ignore_ascii_case("localhost") || bare.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connectors::tests::{job, object, outgoing};

    fn credential() -> Value {
        json!({ "host": "mail.test", "port": 587, "username": "u", "password": "p4ss", "from": "APIQ <apiq@example.com>" })
    }

    fn mail(input: Value) -> Mail {
        let (input, credential) = (object(input), object(credential()));
        match outgoing(&Smtp, &job("send_email", &input, &credential, None)) {
            Ok(Outgoing::Mail(mail)) => *mail,
            _ => panic!("no mail"),
        }
    }

    fn faults(input: Value, caps: Caps) -> Vec<String> {
        let input = object(input);
        let found = Smtp.check("send_email", &Input::rendered(&input), &caps);
        found.into_iter().map(|fault| fault.field).collect()
    }

    #[test]
    fn a_mail_has_its_parts_and_keeps_the_blind_ones_out() {
        let sent = mail(json!({
            "to": ["Ada <ada@example.com>", "bob@example.com"], "cc": "cy@example.com", "bcc": "eve@example.com",
            "replyTo": "desk@example.com", "subject": "Grüße", "text": "plain", "html": "<b>rich</b>",
            "attachments": [{ "filename": "a.txt", "content": "aGVsbG8=", "contentType": "text/plain" }],
        }));
        let text = String::from_utf8(sent.bytes).unwrap();
        for part in [
            "From: APIQ <apiq@example.com>",
            "To: Ada <ada@example.com>, bob@example.com",
            "Cc: cy@example.com",
            "Reply-To: desk@example.com",
            "multipart/mixed",
            "multipart/alternative",
            "filename=\"a.txt\"",
            "Message-ID: <ref-1@apiq>",
        ] {
            assert!(text.contains(part), "{part}\n{text}");
        }
        assert!(!text.contains("eve@"), "{text}");
        let envelope = sent.envelope.unwrap();
        assert_eq!(envelope.to().len(), 4);
        assert_eq!((sent.host.as_str(), sent.port, sent.encryption), ("mail.test", 587, Encryption::Starttls));
    }

    #[test]
    fn nothing_that_would_become_a_header_gets_through() {
        for address in [
            "a@b.test\r\nBcc: x@y.test",
            "a@b.test\nx",
            "a@b.test\0",
            "\"a\r\nb\" <a@b.test>",
            "no address",
            "a@b.test, c@d.test",
        ] {
            let input = json!({ "to": ["ok@example.com", address], "subject": "s", "text": "t" });
            assert_eq!(faults(input, Caps::default()), ["to[1]"], "{address:?}");
        }
        let input = json!({ "to": "a@b.test", "from": "x\r\n", "replyTo": "y\n", "subject": "s\r\nBcc: eve@x.test",
            "attachments": [{ "filename": "a\r\nb", "content": "!", "contentType": "text/plain\r\nX: y" }, { "filename": "../x", "content": "aGVsbG8=" }] });
        assert_eq!(
            faults(input, Caps::default()),
            [
                "text",
                "from",
                "replyTo",
                "subject",
                "attachments[0].filename",
                "attachments[0].contentType",
                "attachments[0].content",
                "attachments[1].filename"
            ]
        );
    }

    #[test]
    fn attachments_have_a_limit_together() {
        let file = |bytes: usize| json!({ "filename": "f", "content": STANDARD.encode(vec![7; bytes]) });
        let input = |files: Vec<Value>| json!({ "to": "a@b.test", "subject": "s", "text": "t", "attachments": files });
        let caps = Caps { attachment_bytes: 1_000 };
        assert_eq!(faults(input(vec![file(500), file(500)]), caps), [""; 0]);
        assert_eq!(faults(input(vec![file(500), file(501)]), caps), ["attachments"]);
        assert_eq!(faults(input(vec![file(100_000)]), caps), ["attachments"]);
    }

    #[test]
    fn a_password_is_not_sent_in_the_open() {
        let fields =
            |data: Value| Smtp.check_credential(&object(data)).into_iter().map(|f| f.field).collect::<Vec<_>>();
        let open = |host: &str| json!({ "host": host, "port": 25, "tls": "none", "username": "u", "password": "p" });
        assert_eq!(fields(open("mail.test")), ["tls"]);
        assert_eq!(fields(open("127.0.0.1")), [""; 0]);
        assert_eq!(fields(json!({ "host": "a\r\n", "port": 25, "from": "nobody" })), ["host", "from"]);
    }
}
