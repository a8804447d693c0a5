//! The internet checksum (RFC 1071), fast enough to be taken of every packet.

/// A sum of 16-bit words as they lie in memory: whichever end comes first, the checksum comes out in network order.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sum(u64);

impl Sum {
    /// The pseudo-header of RFC 9293 §3.1 and RFC 8200 §8.1: both addresses, the protocol, and the bytes from the
    /// transport header on.
    pub(crate) fn pseudo(addresses: &[u8], protocol: u8, length: usize) -> Self {
        let length = u32::try_from(length).expect("no packet has 4 GiB");
        Self::default()
            .bytes(addresses)
            .bytes(&length.to_be_bytes())
            .bytes(&[0, protocol])
    }

    /// Adds bytes that begin at an even place; an odd last one counts as if a zero followed.
    pub(crate) fn bytes(self, bytes: &[u8]) -> Self {
        // Eight sums side by side: the compiler keeps them in wide registers.
        let mut sums = [0_u64; 8];
        let (blocks, rest) = bytes.as_chunks::<32>();
        for block in blocks {
            for (sum, word) in sums.iter_mut().zip(block.as_chunks::<4>().0) {
                *sum += u64::from(u32::from_ne_bytes(*word));
            }
        }
        let words = rest.chunks(2);
        let word = |word: &[u8]| u16::from_ne_bytes([word[0], word.get(1).copied().unwrap_or(0)]);
        let rest: u64 = words.map(|bytes| u64::from(word(bytes))).sum();
        Self(self.0 + sums.iter().sum::<u64>() + rest)
    }

    /// The sum itself, as a packet carries it whose checksum is left to others.
    pub(crate) fn folded(self) -> [u8; 2] {
        let mut sum = self.0;
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        u16::try_from(sum).expect("folded to 16 bits").to_ne_bytes()
    }

    /// The checksum of all that was added.
    pub(crate) fn checksum(self) -> [u8; 2] {
        self.folded().map(|byte| !byte)
    }

    /// The checksum of a transport that has none when it is zero, so that zero is sent as its other form.
    pub(crate) fn transport_checksum(self) -> [u8; 2] {
        match self.checksum() {
            [0, 0] => [0xff; 2],
            sum => sum,
        }
    }

    /// Whether what was added contains its own right checksum.
    pub(crate) fn is_right(self) -> bool {
        self.folded() == [0xff; 2]
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// As RFC 1071 §1 says it, a word at a time.
    fn plain(bytes: &[u8]) -> u16 {
        let mut sum = 0_u32;
        for word in bytes.chunks(2) {
            sum += u32::from(word[0]) << 8 | u32::from(word.get(1).copied().unwrap_or(0));
            sum = (sum & 0xffff) + (sum >> 16);
        }
        !u16::try_from(sum).unwrap()
    }

    #[test]
    fn the_example_of_the_standard_comes_out() {
        let bytes = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
        assert_eq!(Sum::default().bytes(&bytes).folded(), [0xdd, 0xf2]);
    }

    proptest! {
        #[test]
        fn wide_sums_are_the_plain_ones(
            head in proptest::collection::vec(any::<u8>(), 0..40),
            bytes in proptest::collection::vec(any::<u8>(), 0..3000),
        ) {
            let head = &head[..head.len() & !1];
            let sum = Sum::default().bytes(head).bytes(&bytes).checksum();
            let whole = [head, &bytes].concat();
            // All zeros and all ones are one number.
            let same = |sum: u16| if sum == 0xffff && whole.iter().all(|b| *b == 0) { 0 } else { sum };
            prop_assert_eq!(same(u16::from_be_bytes(sum)), same(plain(&whole)));
        }

        #[test]
        fn what_carries_its_checksum_is_right_and_one_flipped_bit_is_not(
            bytes in proptest::collection::vec(any::<u8>(), 2..2000),
            at in any::<proptest::sample::Index>(),
        ) {
            let mut bytes = bytes;
            bytes[..2].fill(0);
            let sum = Sum::default().bytes(&bytes).checksum();
            bytes[..2].copy_from_slice(&sum);
            prop_assert!(Sum::default().bytes(&bytes).is_right());
            let at = at.index(bytes.len());
            bytes[at] ^= 1;
            prop_assert!(!Sum::default().bytes(&bytes).is_right());
        }
    }
}
