//! Whom an address stands for, where something is counted by addresses.

use std::net::{IpAddr, Ipv6Addr};

/// Who has an address of IPv6 has, or can take, every other one of its net (RFC 4291, 2.5.4: 64 bits are the
/// interface's own), so these count as one.
pub fn counted_as(addr: IpAddr) -> IpAddr {
    match addr.to_canonical() {
        IpAddr::V4(addr) => IpAddr::V4(addr),
        IpAddr::V6(addr) => IpAddr::V6(Ipv6Addr::from_bits(addr.to_bits() >> 64 << 64)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_net_of_ipv6_is_one_and_an_address_of_ipv4_is_itself() {
        let as_is = |text: &str| counted_as(text.parse().expect("an address")).to_string();
        for (addr, counts) in [
            ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
            ("2001:db8:1:2:ffff:ffff:ffff:ffff", "2001:db8:1:2::"),
            ("2001:db8:1:3::6", "2001:db8:1:3::"),
            ("10.1.2.3", "10.1.2.3"),
            ("::ffff:10.1.2.3", "10.1.2.3"),
            ("::1", "::"),
        ] {
            assert_eq!(as_is(addr), counts);
        }
    }
}
