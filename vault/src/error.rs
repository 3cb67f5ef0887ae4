//! What can go wrong with secrets. No variant holds one.

#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    #[error("the vault's tables cannot be reached: {0}")]
    Database(#[from] sqlx::Error),
    #[error("the master key must be 32 bytes in base64 (44 characters); make one with: openssl rand -base64 32")]
    MasterKeyShape,
    #[error("the master key is not the one this database's secrets were encrypted with")]
    MasterKeyWrong,
    /// It is kept by a service, and that does not answer.
    #[error("the master key cannot be asked: {0}")]
    MasterKeyUnavailable(String),
    /// The subject's or the workspace's key, or the ciphertext itself, was destroyed: the value is gone for good.
    #[error("the value was erased")]
    Erased,
    #[error("the value cannot be decrypted: it was changed, or belongs to somebody else")]
    Tampered,
    /// The log has no `credential.read` for it.
    #[error("the read is not in the log")]
    Unrecorded,
    /// It was destroyed as a whole: nothing can be stored for it any more.
    #[error("the credential was destroyed")]
    CredentialDestroyed,
    #[error("there is no such credential version")]
    CredentialMissing,
    #[error("the value cannot be encoded: {0}")]
    Encoding(String),
    #[error("the vault's worker is gone")]
    Worker,
}
