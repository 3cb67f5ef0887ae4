//! The master keys that the settings name, wherever they are.

#[cfg(feature = "kms-aws")]
mod aws;
#[cfg(feature = "kms-vault")]
mod transit;

use secrecy::{ExposeSecret, SecretString};
use vault::{MasterKey, MasterKeys};

use crate::settings::{Settings, master::AWS, master::TRANSIT};

/// `current` wraps; the previous one of the settings may be asked to unwrap.
pub async fn keys(current: &SecretString, settings: &Settings) -> anyhow::Result<MasterKeys> {
    let mut keys = MasterKeys::from(key(current, settings).await?);
    if let Some(previous) = &settings.master_key_previous {
        keys = keys.and(key(previous, settings).await?);
    }
    Ok(keys)
}

async fn key(text: &SecretString, settings: &Settings) -> anyhow::Result<MasterKey> {
    let plain = text.expose_secret();
    if let Some(name) = plain.strip_prefix(AWS) {
        return aws_key(name).await;
    }
    if let Some(url) = plain.strip_prefix(TRANSIT) {
        return transit_key(url, settings);
    }
    Ok(MasterKey::from_base64(text)?)
}

#[cfg(feature = "kms-aws")]
async fn aws_key(name: &str) -> anyhow::Result<MasterKey> {
    Ok(MasterKey::new(aws::AwsKey::open(name).await))
}

#[cfg(not(feature = "kms-aws"))]
async fn aws_key(_: &str) -> anyhow::Result<MasterKey> {
    anyhow::bail!("this build knows no AWS KMS; build it with the feature kms-aws")
}

#[cfg(feature = "kms-vault")]
fn transit_key(url: &str, settings: &Settings) -> anyhow::Result<MasterKey> {
    Ok(MasterKey::new(transit::TransitKey::open(url, settings.kms_token.clone())?))
}

#[cfg(not(feature = "kms-vault"))]
fn transit_key(_: &str, _: &Settings) -> anyhow::Result<MasterKey> {
    anyhow::bail!("this build knows no Transit service; build it with the feature kms-vault")
}
