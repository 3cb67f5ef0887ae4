//! Connecting to NATS by URL. The client library ignores user and password inside a URL, so they are taken out here
//! and given as options; that also keeps them out of its traces and errors.

use async_nats::ConnectErrorKind;
use secrecy::{ExposeSecret, SecretString};

/// A NATS URL split into what may be shown and what may not.
struct Target {
    address: String,
    user: Option<String>,
    password: Option<String>,
}

impl Target {
    fn parse(url: &str) -> Result<Target, String> {
        let parsed: async_nats::ServerAddr =
            url.parse().map_err(|_| "it is no NATS URL such as nats://user:password@host:4222".to_owned())?;
        let (scheme, host, port) = (parsed.scheme(), parsed.host(), parsed.port());
        if !matches!(scheme, "nats" | "tls") {
            return Err(format!("its scheme is \"{scheme}\", not nats or tls"));
        }
        if host.is_empty() {
            return Err("it names no host".into());
        }
        let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
        Ok(Target {
            address: format!("{scheme}://{host}:{port}"),
            user: parsed.username().map(decode),
            password: parsed.password().map(decode),
        })
    }
}

/// Whether a URL can be used, with the reason when not.
pub(super) fn check(url: &str) -> Result<(), String> {
    Target::parse(url).map(|_| ())
}

/// Connect with the credentials of the URL: `nats://user:password@host:port`, `nats://token@host:port`, or none.
///
/// A server that is not there is no error: the log does without NATS, and the client goes on trying.
///
/// # Errors
/// The server refuses the credentials; the sentence names the address without them.
pub async fn connect(url: &SecretString) -> anyhow::Result<async_nats::Client> {
    let target = Target::parse(url.expose_secret()).map_err(|reason| anyhow::anyhow!("APIQ_NATS_URL: {reason}"))?;
    let options = || {
        let options = async_nats::ConnectOptions::new().name("apiq");
        match (target.user.clone(), target.password.clone()) {
            (Some(user), Some(password)) => options.user_and_password(user, password),
            (Some(token), None) => options.token(token),
            _ => options,
        }
    };
    let address = target.address.as_str();
    let error = match options().connect(address).await {
        Ok(client) => return Ok(client),
        Err(error) => error,
    };
    match error.kind() {
        ConnectErrorKind::Dns | ConnectErrorKind::Io | ConnectErrorKind::TimedOut => {
            tracing::warn!("NATS at {address} does not answer ({error}): work is found by sweeps until it does");
            let later = options().retry_on_initial_connect().connect(address).await;
            later.map_err(|error| anyhow::anyhow!("cannot connect to NATS at {address}: {error}"))
        }
        _ => anyhow::bail!("cannot connect to NATS at {address}: {error}"),
    }
}

/// Percent-decoding; what is no valid escape stays as it is.
fn decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let escape = (bytes[at] == b'%').then(|| text.get(at + 1..at + 3)).flatten();
        match escape.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => {
                decoded.push(byte);
                at += 3;
            }
            None => {
                decoded.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_taken_out_of_the_address() {
        let target = Target::parse("nats://me:p%40ss%2Fword@127.0.0.1:4333").unwrap();
        assert_eq!(target.address, "nats://127.0.0.1:4333");
        assert_eq!((target.user.as_deref(), target.password.as_deref()), (Some("me"), Some("p@ss/word")));
        assert_eq!(Target::parse("tls://[::1]").unwrap().address, "tls://[::1]:4222");
        let bare = Target::parse("127.0.0.1").unwrap();
        assert_eq!((bare.address.as_str(), bare.user), ("nats://127.0.0.1:4222", None));
    }

    #[test]
    fn another_scheme_is_refused() {
        assert!(check("http://localhost:4222").is_err());
        assert!(check("ws://localhost:4222").unwrap_err().contains("ws"));
        assert!(check("").is_err());
    }

    #[test]
    fn broken_escapes_stay() {
        assert_eq!(decode("100%"), "100%");
        assert_eq!(decode("%zz%41"), "%zzA");
    }
}
