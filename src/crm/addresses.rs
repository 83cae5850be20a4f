//! Which addresses a vendor's name may lead to, for whatever connects to one: no tenant and no
//! vendor's answer names a machine of the operator's own network.

use std::{
    error, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use thiserror::Error;

/// The name has no address that may be used.
#[derive(Debug, Error)]
#[error("resolves to no public address")]
pub(super) struct NoPublicAddress;

/// The name has no address, as far as anybody says.
#[derive(Debug, Error)]
#[error("the name cannot be resolved")]
pub(super) struct NameUnknown(#[source] io::Error);

/// Where a host is. What is checked is what is connected to: a check before could be answered
/// differently from the connection's own look-up.
pub(super) async fn usable(
    host: &str,
    port: u16,
    only_public: bool,
) -> Result<Vec<SocketAddr>, Box<dyn error::Error + Send + Sync>> {
    let found = tokio::net::lookup_host((host, port)).await.map_err(NameUnknown)?;
    let usable: Vec<SocketAddr> = found.filter(|address| !only_public || is_public(address.ip())).collect();
    if usable.is_empty() { Err(NoPublicAddress.into()) } else { Ok(usable) }
}

/// An error and all that it comes from.
pub(super) fn causes<'a>(
    error: &'a (dyn error::Error + 'static),
) -> impl Iterator<Item = &'a (dyn error::Error + 'static)> {
    std::iter::successors(Some(error), |error| error.source())
}

/// Addresses that may be a vendor's: not loopback, private, link-local, shared (RFC 6598),
/// documentation, benchmarking, multicast, reserved, nor an IPv6 form that leads to one of those
/// (mapped, NAT64, 6to4, Teredo).
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => is_public_v4(v4),
        IpAddr::V6(v6) => is_public_v6(v6),
    }
}

fn is_public_v4(v4: Ipv4Addr) -> bool {
    let [a, b, c, _] = v4.octets();
    let is_shared = a == 100 && (64..128).contains(&b);
    let is_benchmark = a == 198 && (b == 18 || b == 19);
    let is_protocol = a == 192 && b == 0 && c == 0;
    let is_relay = a == 192 && b == 88 && c == 99;
    !(v4.is_loopback()
        || v4.is_private()
        || v4.is_link_local()
        || v4.is_multicast()
        || v4.is_documentation()
        || a == 0
        || a >= 240
        || is_shared
        || is_benchmark
        || is_protocol
        || is_relay)
}

fn is_public_v6(v6: Ipv6Addr) -> bool {
    let segments = v6.segments();
    // 2000::/3 is all that is assigned to hosts (IANA); the rest of this list lies within it.
    let is_global_unicast = segments[0] & 0xe000 == 0x2000;
    let is_special = segments[0] == 0x2001 && segments[1] < 0x0200;
    let is_documentation = (segments[0] == 0x2001 && segments[1] == 0x0db8) || segments[0] & 0xfff0 == 0x3ff0;
    let is_6to4 = segments[0] == 0x2002;
    is_global_unicast && !is_special && !is_documentation && !is_6to4
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_public_addresses_are_connected_to() {
        for private in [
            "127.0.0.1",
            "0.0.0.0",
            "10.1.2.3",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "192.0.0.8",
            "198.18.0.1",
            "192.0.2.1",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "255.255.255.255",
            "240.0.0.1",
            "192.88.99.1",
            "::1",
            "::",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "64:ff9b::7f00:1",
            "64:ff9b:1::1",
            "fe80::1",
            "fc00::1",
            "fd12::1",
            "ff02::1",
            "2001::1",
            "2001:db8::1",
            "2002:7f00:1::",
            "3fff::1",
            "100::1",
            "::7f00:1",
        ] {
            assert!(!is_public(private.parse().unwrap()), "{private}");
        }
        for public in
            ["8.8.8.8", "104.16.51.111", "172.32.0.1", "100.128.0.1", "2606:4700::6810:336f", "2a00:1450:4001::1"]
        {
            assert!(is_public(public.parse().unwrap()), "{public}");
        }
    }
}
