//! Which internet addresses are out in the open, and which lead inside.
//!
//! Sources: the IANA special-purpose registries for IPv4 and IPv6, RFC 4291 (IPv6), RFC 6052 (NAT64), RFC 3056 (6to4),
//! RFC 5214 (ISATAP). For IPv6 the rule is turned round: only the global unicast block is open, less its exceptions.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// How far an address reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reach {
    /// The public internet.
    Global,
    /// This machine.
    Loopback,
    /// Private, shared, link-local, documentation, benchmarking: open only where the operator lists the network.
    Reserved,
    /// Cloud metadata services, multicast, "this network", and IPv6 forms that smuggle an IPv4 address which is not
    /// global. Never open, whatever the policy.
    Never,
}

/// Addresses at which a cloud hands out credentials to whoever asks from inside. Some are inside otherwise public or
/// allowable ranges, which is why they are listed one by one.
const METADATA_V4: [[u8; 4]; 6] = [
    [169, 254, 169, 254], // nearly all clouds
    [169, 254, 170, 2],   // containers on AWS
    [169, 254, 170, 23],  // pods on AWS
    [100, 100, 100, 200], // Alibaba
    [168, 63, 129, 16],   // Azure's host
    [192, 0, 0, 192],     // Oracle
];
const METADATA_V6: [[u16; 8]; 3] = [
    [0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254], // AWS
    [0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x23],  // pods on AWS
    [0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254],  // Google
];

const SPECIAL_V4: [([u8; 4], u32, Reach); 15] = [
    ([0, 0, 0, 0], 8, Reach::Never), // connects to this machine on Linux, and is no destination by any standard
    ([10, 0, 0, 0], 8, Reach::Reserved),
    ([100, 64, 0, 0], 10, Reach::Reserved),
    ([127, 0, 0, 0], 8, Reach::Loopback),
    ([169, 254, 0, 0], 16, Reach::Reserved),
    ([172, 16, 0, 0], 12, Reach::Reserved),
    ([192, 0, 0, 0], 24, Reach::Reserved),
    ([192, 0, 2, 0], 24, Reach::Reserved),
    ([192, 88, 99, 0], 24, Reach::Reserved),
    ([192, 168, 0, 0], 16, Reach::Reserved),
    ([198, 18, 0, 0], 15, Reach::Reserved),
    ([198, 51, 100, 0], 24, Reach::Reserved),
    ([203, 0, 113, 0], 24, Reach::Reserved),
    ([224, 0, 0, 0], 4, Reach::Never),
    ([240, 0, 0, 0], 4, Reach::Never),
];

/// The reach of an address. IPv4-mapped IPv6 counts as the IPv4 address, because that is what gets connected.
pub(super) fn reach(ip: IpAddr) -> Reach {
    match ip.to_canonical() {
        IpAddr::V4(v4) => reach_v4(v4),
        IpAddr::V6(v6) => reach_v6(v6),
    }
}

fn reach_v4(ip: Ipv4Addr) -> Reach {
    if METADATA_V4.contains(&ip.octets()) {
        return Reach::Never;
    }
    let inside = |net: [u8; 4], prefix: u32| (u32::from(ip) ^ u32::from_be_bytes(net)) >> (32 - prefix) == 0;
    SPECIAL_V4.iter().find(|(net, prefix, _)| inside(*net, *prefix)).map_or(Reach::Global, |(_, _, reach)| *reach)
}

fn reach_v6(ip: Ipv6Addr) -> Reach {
    let s = ip.segments();
    if METADATA_V6.contains(&s) || s[0] >= 0xff00 {
        return Reach::Never;
    }
    if ip.is_loopback() {
        return Reach::Loopback;
    }
    if let Some(inner) = embedded_v4(s) {
        return match reach_v4(inner) {
            Reach::Global if is_translated(s) => Reach::Global,
            Reach::Global => Reach::Reserved,
            _ => Reach::Never,
        };
    }
    let documentation = (s[0] == 0x2001 && s[1] == 0xdb8) || (s[0] == 0x3fff && s[1] < 0x1000);
    // 2001::/23 is protocol assignments: Teredo, ORCHID, benchmarking.
    let protocol = s[0] == 0x2001 && s[1] < 0x200;
    match s[0] & 0xe000 == 0x2000 && !documentation && !protocol {
        true => Reach::Global,
        false => Reach::Reserved,
    }
}

/// NAT64 and 6to4 are how networks really carry a public IPv4 destination; the other embeddings have no such use.
fn is_translated(s: [u16; 8]) -> bool {
    s[0] == 0x64 || s[0] == 0x2002
}

/// The IPv4 address that an IPv6 address carries inside, if it is of a form that does.
fn embedded_v4(s: [u16; 8]) -> Option<Ipv4Addr> {
    let join = |high: u16, low: u16| Some(Ipv4Addr::from((u32::from(high) << 16) | u32::from(low)));
    match s {
        // 6to4
        [0x2002, high, low, ..] => join(high, low),
        // NAT64 with the well-known prefix
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => join(high, low),
        // "IPv4-compatible" and "IPv4-translated"; `::` itself comes out as 0.0.0.0
        [0, 0, 0, 0, 0, 0, high, low] | [0, 0, 0, 0, 0xffff, 0, high, low] => join(high, low),
        // ISATAP, under any prefix
        [_, _, _, _, 0 | 0x200, 0x5efe, high, low] => {
            // A public tunnel end is a matter of its prefix; only an inner address that leads inside is of interest.
            let inner = join(high, low)?;
            (reach_v4(inner) != Reach::Global).then_some(inner)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Reach {
        reach(text.parse().unwrap())
    }

    #[test]
    fn borders_of_the_ipv4_ranges() {
        for (inside, outside) in [
            ("10.255.255.255", "11.0.0.0"),
            ("10.0.0.0", "9.255.255.255"),
            ("100.64.0.0", "100.63.255.255"),
            ("100.127.255.255", "100.128.0.0"),
            ("127.255.255.255", "128.0.0.0"),
            ("169.254.0.0", "169.253.255.255"),
            ("172.31.255.255", "172.32.0.0"),
            ("172.16.0.0", "172.15.255.255"),
            ("192.0.0.255", "192.0.1.0"),
            ("192.0.2.255", "192.0.3.0"),
            ("192.168.255.255", "192.169.0.0"),
            ("198.19.255.255", "198.20.0.0"),
            ("198.51.100.0", "198.51.99.255"),
            ("203.0.113.255", "203.0.114.0"),
            ("224.0.0.0", "223.255.255.255"),
            ("0.255.255.255", "1.0.0.0"),
        ] {
            assert_ne!(of(inside), Reach::Global, "{inside}");
            assert_eq!(of(outside), Reach::Global, "{outside}");
        }
        assert_eq!(of("255.255.255.255"), Reach::Never);
        assert_eq!(of("168.63.129.16"), Reach::Never);
        assert_eq!(of("168.63.129.17"), Reach::Global);
    }

    #[test]
    fn ipv6_is_closed_but_for_global_unicast() {
        for (address, expected) in [
            ("::", Reach::Never),
            ("::1", Reach::Loopback),
            ("::ffff:127.0.0.1", Reach::Loopback),
            ("::ffff:a9fe:a9fe", Reach::Never),
            ("::ffff:8.8.8.8", Reach::Global),
            ("::127.0.0.1", Reach::Never),
            ("::8.8.8.8", Reach::Reserved),
            ("::ffff:0:127.0.0.1", Reach::Never),
            ("64:ff9b::", Reach::Never),
            ("64:ff9b::a9fe:a9fe", Reach::Never),
            ("64:ff9b::10.0.0.1", Reach::Never),
            ("64:ff9b::8.8.8.8", Reach::Global),
            ("64:ff9b:1::8.8.8.8", Reach::Reserved),
            ("2002:7f00:1::", Reach::Never),
            ("2002:808:808::1", Reach::Global),
            ("2001::1", Reach::Reserved),
            ("2001:1ff::1", Reach::Reserved),
            ("2001:200::1", Reach::Global),
            ("2001:db8::1", Reach::Reserved),
            ("3fff:fff::1", Reach::Reserved),
            ("3fff:1000::1", Reach::Global),
            ("2606:4700::1111", Reach::Global),
            ("2606:4700::5efe:10.0.0.1", Reach::Never),
            ("2606:4700::200:5efe:8.8.8.8", Reach::Global),
            ("fe80::1", Reach::Reserved),
            ("febf::1", Reach::Reserved),
            ("fec0::1", Reach::Reserved),
            ("fc00::1", Reach::Reserved),
            ("fdff::1", Reach::Reserved),
            ("fd00:ec2::254", Reach::Never),
            ("fd20:ce::254", Reach::Never),
            ("ff02::1", Reach::Never),
            ("100::1", Reach::Reserved),
            ("5f00::1", Reach::Reserved),
            ("4000::1", Reach::Reserved),
        ] {
            assert_eq!(of(address), expected, "{address}");
        }
    }
}
