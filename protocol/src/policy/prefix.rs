//! An address or a block of addresses, as a policy names it.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Addresses that share their first bits; the bits behind are zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Prefix {
    base: IpAddr,
    length: u8,
}

/// Why a prefix was refused; the sentence is for people.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PrefixError {
    /// Neither an address nor a prefix.
    #[error("{0} is no address and no prefix")]
    Malformed(String),
    /// Bits behind the prefix are set.
    #[error("{0} has bits behind its prefix; the block is {1}")]
    Bits(String, Prefix),
}

impl Prefix {
    /// A block; bits behind the prefix are cleared, a length beyond the address' is shortened.
    #[must_use]
    pub fn new(address: IpAddr, length: u8) -> Self {
        match address {
            IpAddr::V4(address) => {
                let length = length.min(32);
                let mask = u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0);
                let base = Ipv4Addr::from(u32::from(address) & mask).into();
                Self { base, length }
            }
            IpAddr::V6(address) => {
                let length = length.min(128);
                let mask = u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0);
                let base = Ipv6Addr::from(u128::from(address) & mask).into();
                Self { base, length }
            }
        }
    }

    /// Reads `100.64.0.7`, `100.64.0.0/16`, `fd7d::1` or `fd7d::/48`.
    ///
    /// # Errors
    /// When the text is none of them, or has bits behind its prefix.
    pub fn parse(text: &str) -> Result<Self, PrefixError> {
        let malformed = || PrefixError::Malformed(text.to_owned());
        let (address, length) = match text.split_once('/') {
            Some((address, length)) => {
                let digits = length.bytes().all(|byte| byte.is_ascii_digit());
                let length = length.parse::<u8>().ok().filter(|_| digits);
                (address, Some(length.ok_or_else(malformed)?))
            }
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| malformed())?;
        let bits = if address.is_ipv4() { 32 } else { 128 };
        let length = length.unwrap_or(bits);
        if length > bits {
            return Err(malformed());
        }
        let prefix = Self::new(address, length);
        if prefix.base == address {
            Ok(prefix)
        } else {
            Err(PrefixError::Bits(text.to_owned(), prefix))
        }
    }

    /// Whether it is one address.
    pub(super) const fn is_single(&self) -> bool {
        let bits = if self.base.is_ipv4() { 32 } else { 128 };
        self.length == bits
    }

    /// The first address.
    #[must_use]
    pub const fn base(&self) -> IpAddr {
        self.base
    }

    /// Whether an address lies inside.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        self.base.is_ipv4() == address.is_ipv4() && Self::new(address, self.length) == *self
    }

    /// Whether all of another prefix lies inside.
    #[must_use]
    pub fn encloses(&self, other: &Self) -> bool {
        self.length <= other.length && self.contains(other.base)
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bits = if self.base.is_ipv4() { 32 } else { 128 };
        if self.length == bits {
            write!(f, "{}", self.base)
        } else {
            write!(f, "{}/{}", self.base, self.length)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_holds_what_shares_its_bits() {
        let prefix = Prefix::parse("100.64.0.0/10").unwrap();
        for (address, inside) in [
            ("100.64.0.0", true),
            ("100.127.255.255", true),
            ("100.128.0.0", false),
            ("fd00::1", false),
        ] {
            assert_eq!(
                prefix.contains(address.parse().unwrap()),
                inside,
                "{address}"
            );
        }
        assert!(prefix.encloses(&Prefix::parse("100.64.7.0/24").unwrap()));
        assert!(!prefix.encloses(&Prefix::parse("100.0.0.0/8").unwrap()));
        assert!(Prefix::parse("0.0.0.0/0").unwrap().encloses(&prefix));
        assert!(!Prefix::parse("::/0").unwrap().encloses(&prefix));
    }

    #[test]
    fn a_prefix_has_one_form() {
        for text in [
            "10.0.0.1",
            "10.0.0.0/8",
            "fd7d::1",
            "fd7d::/48",
            "0.0.0.0/0",
        ] {
            assert_eq!(Prefix::parse(text).unwrap().to_string(), text);
        }
        for text in [
            "",
            "/8",
            "10.0.0.0/",
            "10.0.0.0/33",
            "10.0.0.0/+8",
            "::/129",
            "nas",
        ] {
            let refused = Prefix::parse(text).unwrap_err();
            assert_eq!(refused, PrefixError::Malformed(text.to_owned()));
        }
        let told = Prefix::parse("10.0.0.1/8").unwrap_err().to_string();
        assert!(told.ends_with("the block is 10.0.0.0/8"), "{told}");
    }
}
