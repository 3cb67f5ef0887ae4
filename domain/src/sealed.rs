//! Values that only the vault can read: personal data, inputs, outputs, bodies.
//!
//! A `Sealed<T>` is ciphertext with the name of the key that opens it. It can be stored, compared, copied and
//! published; nothing here can open it. `vault` seals before `decide` and opens after a read.

use std::marker::PhantomData;

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
