//! The port that refuses URLs by their looks.

use async_trait::async_trait;
use commands::ports::AddressCheck;
use integrations::egress::Egress;

pub struct Addresses(pub Egress);

#[async_trait]
impl AddressCheck for Addresses {
    async fn is_private(&self, url: &str) -> bool {
        self.0.is_private(url).await
    }

    fn check(&self, url: &str) -> Result<(), String> {
        self.0.policy().check_url(url).map(|_| ()).map_err(|error| error.to_string())
    }
}
