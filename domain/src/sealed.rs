//! Values that only the vault can read: personal data, inputs, outputs, bodies.
//!
//! A `Sealed<T>` is ciphertext with the name of the key that opens it. It can be stored, compared, copied and
//! published; nothing here can open it. `vault` seals before `decide` and opens after a read.

use std::{collections::BTreeSet, marker::PhantomData};

use serde::{Deserialize, Serialize};

/// AES-256-GCM ciphertext of `T`'s JSON. Additional data: workspace, subject and field (see `vault`).
#[derive(Serialize, Deserialize)]
#[serde(bound = "")]
pub struct Sealed<T> {
    /// Whose key: `user:<uuid>` or `workspace:<uuid>`. Destroying that key erases the value everywhere.
    #[serde(rename = "s")]
    pub subject: String,
    /// Version of the subject's key.
    #[serde(rename = "k")]
    pub key_version: i32,
    /// 96 bits, base64.
    #[serde(rename = "n")]
    pub nonce: String,
    /// Ciphertext with its tag, base64.
    #[serde(rename = "c")]
    pub ciphertext: String,
    #[serde(skip)]
    marker: PhantomData<fn() -> T>,
}

impl<T> Sealed<T> {
    /// For the vault: everybody else receives sealed values ready made.
    pub fn from_parts(subject: String, key_version: i32, nonce: String, ciphertext: String) -> Self {
        Self { subject, key_version, nonce, ciphertext, marker: PhantomData }
    }
}

impl<T> Clone for Sealed<T> {
    fn clone(&self) -> Self {
        Self::from_parts(self.subject.clone(), self.key_version, self.nonce.clone(), self.ciphertext.clone())
    }
}

impl<T> PartialEq for Sealed<T> {
    fn eq(&self, other: &Self) -> bool {
        self.subject == other.subject
            && self.key_version == other.key_version
            && self.nonce == other.nonce
            && self.ciphertext == other.ciphertext
    }
}

impl<T> std::fmt::Debug for Sealed<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "sealed({} v{})", self.subject, self.key_version)
    }
}

/// The key that a value is sealed with: whose, and in which version.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct SealedBy {
    pub subject: String,
    pub version: i32,
}

impl<T> Sealed<T> {
    pub fn by(&self) -> SealedBy {
        SealedBy { subject: self.subject.clone(), version: self.key_version }
    }
}

/// Adds the keys of all sealed values in an event's JSON, as `Sealed` writes them. Inside a JSON text quotes are escaped,
/// so what people write is not taken for one; an object of theirs with the same fields names a key that nobody has.
pub fn keys_in(json: &str, keys: &mut BTreeSet<SealedBy>) {
    for (at, begin) in json.match_indices(r#"{"s":""#) {
        let rest = &json[at + begin.len()..];
        let Some((subject, rest)) = rest.split_once(r#"","k":"#) else { return };
        let Some((version, rest)) = rest.split_once(',') else { return };
        if let Ok(version) = version.parse()
            && rest.starts_with(r#""n":""#)
            && !subject.contains('"')
        {
            keys.insert(SealedBy { subject: subject.to_owned(), version });
        }
    }
}

/// A sealed JSON value, in the event itself or, when large, in a blob (whose content is the `Sealed` as JSON).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Stored {
    Blob {
        /// SHA-256 of the blob's bytes, hex.
        blob: String,
        /// Bytes of the sealed JSON.
        size: u64,
    },
    Inline(Sealed<serde_json::Value>),
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_keys_of_sealed_values_are_found_in_events() {
        let sealed = |subject: &str, version| {
            Sealed::<String>::from_parts(subject.to_owned(), version, "bg==".to_owned(), "Yw==".to_owned())
        };
        let text = serde_json::to_string(&sealed("workspace:9", 9)).unwrap();
        let event = json!({
            "said": text,
            "one": { "deep": [1] },
            "two": Stored::Blob { blob: "ab".into(), size: 1 },
            "like": { "s": "\\\"" },
        });
        let mut json = event.to_string();
        json.pop();
        let (one, two) = (sealed("user:1", 1), sealed("workspace:2", 12));
        let (one, two) = (serde_json::to_string(&one).unwrap(), serde_json::to_string(&two).unwrap());
        json.push_str(&format!(",\"a\":{one},\"b\":[{two},{one}]}}"));
        serde_json::from_str::<serde_json::Value>(&json).unwrap();
        let mut keys = BTreeSet::new();
        keys_in(&json, &mut keys);
        let expected = [sealed("user:1", 1).by(), sealed("workspace:2", 12).by()];
        assert_eq!(keys.into_iter().collect::<Vec<_>>(), expected, "{json}");
    }
}
