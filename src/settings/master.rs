//! What a master key's setting may say: 32 bytes in base64, or where a key service keeps the key.

use base64::{Engine, engine::general_purpose::STANDARD};
use secrecy::SecretString;

/// `aws-kms:<ARN, id or alias>`
pub const AWS: &str = "aws-kms:";
/// `vault-transit:<URL of the key>`
pub const TRANSIT: &str = "vault-transit:";

/// The sentence never repeats the value.
pub fn check(text: &str) -> Result<SecretString, String> {
    let text = text.trim();
    if let Some(name) = text.strip_prefix(AWS) {
        return match (cfg!(feature = "kms-aws"), name.is_empty()) {
            (false, _) => Err("this build knows no AWS KMS; build it with the feature kms-aws".into()),
            (true, true) => Err("name the key: aws-kms:<ARN or alias>".into()),
            (true, false) => Ok(SecretString::from(text)),
        };
    }
    if let Some(url) = text.strip_prefix(TRANSIT) {
        let sound = (url.starts_with("https://") || url.starts_with("http://")) && url.contains("/keys/");
        return match (cfg!(feature = "kms-vault"), sound) {
            (false, _) => Err("this build knows no Transit service; build it with the feature kms-vault".into()),
            (true, false) => Err("give the key's URL: vault-transit:https://host:8200/v1/transit/keys/<name>".into()),
            (true, true) => Ok(SecretString::from(text)),
        };
    }
    match STANDARD.decode(text) {
        Ok(bytes) if bytes.len() == 32 => Ok(SecretString::from(text)),
        Ok(bytes) => Err(format!("it holds {} bytes, but a master key has 32", bytes.len())),
        Err(_) => Err("it is no base64; give 32 random bytes, e.g. from `openssl rand -base64 32`".into()),
    }
}

pub fn read(path: &str) -> Result<String, String> {
    std::fs::read_to_string(path).map_err(|error| format!("{path} cannot be read ({error})"))
}
