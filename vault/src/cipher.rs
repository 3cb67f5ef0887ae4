//! AES-256-GCM with a random 96-bit nonce and additional data.

use aes_gcm::{
    Aes256Gcm, KeyInit, Nonce,
    aead::{Aead, Payload},
};
use zeroize::Zeroizing;

use crate::VaultError;

/// 256 bits, wiped on drop.
pub(crate) type Key = Zeroizing<[u8; 32]>;

pub(crate) fn random_key() -> Key {
    let mut key = Zeroizing::new([0u8; 32]);
    rand::fill(&mut key[..]);
    key
}

pub(crate) fn encrypt(key: &Key, aad: &[u8], plain: &[u8]) -> Result<([u8; 12], Vec<u8>), VaultError> {
    let mut nonce = [0u8; 12];
    rand::fill(&mut nonce[..]);
    let cipher = Aes256Gcm::new_from_slice(&key[..]).map_err(|_| VaultError::MasterKeyShape)?;
    let payload = Payload { msg: plain, aad };
    let sealed = cipher.encrypt(&Nonce::from(nonce), payload).map_err(|_| VaultError::Tampered)?;
    Ok((nonce, sealed))
}

pub(crate) fn decrypt(key: &Key, aad: &[u8], nonce: &[u8], sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, VaultError> {
    let nonce: [u8; 12] = nonce.try_into().map_err(|_| VaultError::Tampered)?;
    let cipher = Aes256Gcm::new_from_slice(&key[..]).map_err(|_| VaultError::MasterKeyShape)?;
    let payload = Payload { msg: sealed, aad };
    cipher.decrypt(&Nonce::from(nonce), payload).map(Zeroizing::new).map_err(|_| VaultError::Tampered)
}

/// Nonce and ciphertext in one: how wrapped keys are stored.
pub(crate) fn wrap(key: &Key, aad: &[u8], plain: &[u8]) -> Result<Vec<u8>, VaultError> {
    let (nonce, sealed) = encrypt(key, aad, plain)?;
    Ok([nonce.as_slice(), &sealed].concat())
}

pub(crate) fn unwrap(key: &Key, aad: &[u8], wrapped: &[u8]) -> Result<Key, VaultError> {
    let (nonce, sealed) = wrapped.split_at_checked(12).ok_or(VaultError::Tampered)?;
    let plain = decrypt(key, aad, nonce, sealed)?;
    let bytes: [u8; 32] = plain.as_slice().try_into().map_err(|_| VaultError::Tampered)?;
    Ok(Zeroizing::new(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trips_and_notices_every_change() {
        let key = random_key();
        let (nonce, sealed) = encrypt(&key, b"ws|user", b"secret").unwrap();
        assert_eq!(decrypt(&key, b"ws|user", &nonce, &sealed).unwrap().as_slice(), b"secret");
        let mut changed = sealed.clone();
        changed[0] ^= 1;
        assert!(decrypt(&key, b"ws|user", &nonce, &changed).is_err());
        assert!(decrypt(&key, b"ws|other", &nonce, &sealed).is_err());
        assert!(decrypt(&random_key(), b"ws|user", &nonce, &sealed).is_err());
        let wrapped = wrap(&key, b"a", &random_key()[..]).unwrap();
        assert!(unwrap(&key, b"a", &wrapped).is_ok());
        assert!(unwrap(&key, b"a", &wrapped[..11]).is_err());
    }
}
