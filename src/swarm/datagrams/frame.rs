//! Datagrams on a stream: a length of 2 bytes, big endian, then so many bytes (`docs/protocol.md` §8.6).

/// Bytes of the largest datagram: what a path of any size carries, and more than any tunnel makes.
pub(super) const DATAGRAM_BYTES_MAX: usize = 2048;
/// Bytes of a length.
const LENGTH_BYTES: usize = 2;
/// Bytes of the largest datagram with its length.
pub(super) const FRAME_BYTES_MAX: usize = LENGTH_BYTES + DATAGRAM_BYTES_MAX;

/// What is on a stream is not datagrams.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a datagram on a stream is empty or too long")]
pub(super) struct Unfit;

/// Writes a datagram behind its length; gives whether it has a length that may be.
pub(super) fn pack(datagram: &[u8], into: &mut Vec<u8>) -> bool {
    let length = u16::try_from(datagram.len()).ok();
    let Some(length) = length.filter(|_| is_fit(datagram.len())) else {
        return false;
    };
    into.extend_from_slice(&length.to_be_bytes());
    into.extend_from_slice(datagram);
    true
}

/// Gives each whole datagram at the front of what came, and how many bytes they took.
///
/// # Errors
/// As soon as a length is read that may not be; what stood before it was given.
pub(super) fn unpack(came: &[u8], mut give: impl FnMut(&[u8])) -> Result<usize, Unfit> {
    let mut taken = 0;
    while let Some((length, rest)) = came[taken..].split_first_chunk::<LENGTH_BYTES>() {
        let length = usize::from(u16::from_be_bytes(*length));
        if !is_fit(length) {
            return Err(Unfit);
        }
        let Some(datagram) = rest.get(..length) else {
            break;
        };
        give(datagram);
        taken += LENGTH_BYTES + length;
    }
    Ok(taken)
}

const fn is_fit(bytes: usize) -> bool {
    bytes > 0 && bytes <= DATAGRAM_BYTES_MAX
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn unpacked(came: &[u8]) -> (Vec<Vec<u8>>, Result<usize, Unfit>) {
        let mut got = Vec::new();
        let taken = unpack(came, |datagram| got.push(datagram.to_vec()));
        (got, taken)
    }

    #[test]
    fn an_empty_datagram_and_one_past_the_limit_pass_neither_way() {
        let mut wire = Vec::new();
        assert!(!pack(&[], &mut wire) && !pack(&[1; DATAGRAM_BYTES_MAX + 1], &mut wire));
        assert!(wire.is_empty());
        assert!(pack(&[1; DATAGRAM_BYTES_MAX], &mut wire));
        let whole = wire.len();
        assert_eq!(whole, FRAME_BYTES_MAX);
        wire.extend([0, 0]);
        assert_eq!(
            unpacked(&wire),
            (vec![vec![1; DATAGRAM_BYTES_MAX]], Err(Unfit))
        );
        assert_eq!(unpacked(&[0x08, 0x01]), (vec![], Err(Unfit)));
    }

    proptest! {
        #[test]
        fn datagrams_come_whole_and_in_order_wherever_the_stream_is_cut(
            datagrams in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..300), 0..9),
            cut in any::<prop::sample::Index>(),
        ) {
            let mut wire = Vec::new();
            for datagram in &datagrams {
                prop_assert!(pack(datagram, &mut wire));
            }
            let cut = cut.index(wire.len() + 1);
            let (mut got, taken) = unpacked(&wire[..cut]);
            let (rest, end) = unpacked(&wire[taken.unwrap()..]);
            got.extend(rest);
            prop_assert_eq!(got, datagrams);
            prop_assert_eq!(taken.unwrap() + end.unwrap(), wire.len());
        }

        #[test]
        fn bytes_of_a_stranger_are_never_read_past_their_end(came in prop::collection::vec(any::<u8>(), 0..5000)) {
            let (got, taken) = unpacked(&came);
            let bytes: usize = got.iter().map(|datagram| datagram.len() + LENGTH_BYTES).sum();
            prop_assert!(bytes <= came.len());
            prop_assert!(taken.is_err() || taken == Ok(bytes));
        }
    }
}
