//! The port that refuses URLs by their looks.

use commands::ports::AddressCheck;
use integrations::egress::Egress;

pub struct Addresses(pub Egress);

impl AddressCheck for Addresses {
    fn check(&self, url: &str) -> Result<(), String> {
        self.0.policy().check_url(url).map(|_| ()).map_err(|error| error.to_string())
    }
}
