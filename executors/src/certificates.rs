//! The port that looks at client certificates before they are stored.

use commands::ports::{CertificateCheck, CertificateFacts};
use domain::error::FieldError;
use integrations::egress::inspect;
use secrecy::SecretString;

pub struct Certificates;

impl CertificateCheck for Certificates {
    fn check(&self, certificate: &str, private_key: &SecretString) -> Result<CertificateFacts, Vec<FieldError>> {
        let field = |of_key: bool| if of_key { "privateKey" } else { "certificate" };
        match inspect(certificate, private_key) {
            Ok(facts) => {
                let (subject, not_before, not_after) = (facts.subject, facts.not_before, facts.not_after);
                Ok(CertificateFacts { subject, not_before, not_after })
            }
            Err(faults) => {
                Err(faults.into_iter().map(|f| FieldError::new(field(f.is_of_key()), f.to_string())).collect())
            }
        }
    }
}
