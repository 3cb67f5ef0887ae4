//! A master key in AWS KMS: it wraps and unwraps, and never gives the key. The additional data is the encryption context.
//!
//! Region, credentials and endpoint come from where AWS' own tools look for them (`AWS_REGION`, `AWS_ENDPOINT_URL_KMS`, …).

use async_trait::async_trait;
use aws_config::BehaviorVersion;
use aws_sdk_kms::{
    Client,
    error::{ProvideErrorMetadata, SdkError},
    primitives::Blob,
};
use aws_smithy_http_client::{
    Builder,
    tls::{Provider, rustls_provider::CryptoMode},
};
use sha2::{Digest, Sha256};
use vault::{MasterKeyBackend, MasterKeyError};
use zeroize::Zeroizing;

/// Name of the additional data in the encryption context.
const CONTEXT: &str = "apiq";

pub struct AwsKey {
    id: String,
    name: String,
    client: Client,
}

impl AwsKey {
    /// `name`: ARN, id or alias.
    pub async fn open(name: &str) -> Self {
        let http = Builder::new().tls_provider(Provider::Rustls(CryptoMode::Ring)).build_https();
        let config = aws_config::defaults(BehaviorVersion::latest()).http_client(http).load().await;
        let id = hex::encode(&Sha256::digest(format!("aws-kms:{name}"))[..8]);
        Self { id, name: name.to_owned(), client: Client::new(&config) }
    }
}

/// What KMS refuses for good, by its codes; anything else may pass.
fn failure<E: ProvideErrorMetadata, R>(error: SdkError<E, R>) -> MasterKeyError {
    let code = error.code().unwrap_or("no answer").to_owned();
    let sentence = format!("AWS KMS: {code}");
    let final_codes = [
        "IncorrectKeyException",
        "InvalidCiphertextException",
        "NotFoundException",
        "AccessDeniedException",
        "DisabledException",
        "KMSInvalidStateException",
        "InvalidKeyUsageException",
    ];
    if final_codes.contains(&code.as_str()) {
        MasterKeyError::Refused(sentence)
    } else {
        MasterKeyError::Unavailable(sentence)
    }
}

#[async_trait]
impl MasterKeyBackend for AwsKey {
    fn id(&self) -> &str {
        &self.id
    }

    fn provider(&self) -> &'static str {
        "aws-kms"
    }

    async fn wrap(&self, aad: &str, key: &[u8]) -> Result<Vec<u8>, MasterKeyError> {
        let ask = self.client.encrypt().key_id(&self.name).plaintext(Blob::new(key)).encryption_context(CONTEXT, aad);
        let answer = ask.send().await.map_err(failure)?;
        let wrapped = answer.ciphertext_blob.map(Blob::into_inner);
        wrapped.ok_or_else(|| MasterKeyError::Refused("AWS KMS gave no ciphertext".into()))
    }

    async fn unwrap(&self, aad: &str, wrapped: &[u8]) -> Result<Zeroizing<Vec<u8>>, MasterKeyError> {
        let ask = self.client.decrypt().key_id(&self.name).ciphertext_blob(Blob::new(wrapped));
        let answer = ask.encryption_context(CONTEXT, aad).send().await.map_err(failure)?;
        let plain = answer.plaintext.map(|blob| Zeroizing::new(blob.into_inner()));
        plain.ok_or_else(|| MasterKeyError::Refused("AWS KMS gave no plaintext".into()))
    }
}
