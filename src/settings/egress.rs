//! `APIQ_EGRESS_ALLOW`: private ranges that outgoing requests may reach although the egress guard would refuse them.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// One allowed range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EgressRule {
    /// `127.0.0.0/8` and `::1/128`.
    Loopback,
    /// A CIDR range whose host bits are zero.
    Range {
        /// Network address.
        network: IpAddr,
        /// Length of the prefix in bits, at most 32 or 128.
        prefix: u8,
    },
}

impl EgressRule {
    /// The rule as CIDR ranges in text, for the egress guard.
    pub fn cidrs(&self) -> Vec<String> {
        match self {
            EgressRule::Loopback => vec!["127.0.0.0/8".into(), "::1/128".into()],
            EgressRule::Range { network, prefix } => vec![format!("{network}/{prefix}")],
        }
    }
}

impl fmt::Display for EgressRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            EgressRule::Loopback => f.write_str("loopback"),
            EgressRule::Range { network, prefix } => write!(f, "{network}/{prefix}"),
        }
    }
}

impl FromStr for EgressRule {
    type Err = String;

    /// `loopback`, a CIDR range, or a single address.
    fn from_str(text: &str) -> Result<EgressRule, String> {
        if text.eq_ignore_ascii_case("loopback") {
            return Ok(EgressRule::Loopback);
        }
        let refuse = || format!("\"{text}\" is neither `loopback` nor a CIDR range such as 10.0.0.0/8");
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix.parse::<u8>().map_err(|_| refuse())?)),
            None => (text, None),
        };
        let network: IpAddr = address.parse().map_err(|_| refuse())?;
        let bits = if network.is_ipv4() { 32 } else { 128 };
        let prefix = prefix.unwrap_or(bits);
        if prefix > bits {
            return Err(format!("\"{text}\": the prefix is longer than {bits} bits"));
        }
        // A typing slip such as 10.0.0.1/8 opens more than was meant: make it explicit.
        if host_bits(network, prefix) != 0 {
            return Err(format!("\"{text}\": the address has bits set behind the prefix"));
        }
        Ok(EgressRule::Range { network, prefix })
    }
}

/// The part of an address behind its prefix.
fn host_bits(network: IpAddr, prefix: u8) -> u128 {
    let (value, bits) = match network {
        IpAddr::V4(v4) => (u128::from(u32::from(v4)), 32),
        IpAddr::V6(v6) => (u128::from(v6), 128),
    };
    let free = bits - u32::from(prefix);
    if free == 128 { value } else { value & ((1u128 << free) - 1) }
}
