//! Frames in their one form, bindings that cannot be moved, answers that are no larger than questions.

use proptest::prelude::*;

use super::*;

const TXID: Txid = [1; TXID_BYTES];
const MAILBOX: Mailbox = Mailbox(0x0807_0605_0403_0201);

fn secret(seed: u8) -> Secret {
    Secret::from_seed(&[seed; 32])
}

fn key(seed: u8) -> TransportKey {
    TransportKey::new(secret(seed).public())
}

fn standing(reason: Option<Reason>) -> Standing {
    Standing {
        seen: ([203, 0, 113, 9], 41_641).into(),
        bound: reason.is_none(),
        reason,
    }
}

#[test]
fn a_header_is_twelve_bytes_in_front_of_what_passes() {
    assert_eq!(
        header(MAILBOX),
        [0x6D, 0x4E, b'R', 1, 1, 2, 3, 4, 5, 6, 7, 8]
    );
    let message = [&[4, 0, 0, 0][..], &[9; 28]].concat();
    let frame = [&header(MAILBOX)[..], &message].concat();
    let passed = Frame::Passed {
        mailbox: MAILBOX,
        datagram: &message,
    };
    assert_eq!(Frame::open(&frame), Some(passed));
}

#[test]
fn a_relay_passes_nothing_but_tunnel_messages_and_probes() {
    let behind = |datagram: &[u8]| [&header(MAILBOX)[..], datagram].concat();
    let stun = [&[0, 1, 0, 0, 0x21, 0x12, 0xA4, 0x42][..], &[0; 12]].concat();
    let nested = behind(&[&[4, 0, 0, 0][..], &[9; 28]].concat());
    let dns = [7; 40];
    for other in [&stun[..], &nested, &dns, &[]] {
        assert_eq!(Frame::open(&behind(other)), None);
    }
    let huge = [&[4, 0, 0, 0][..], &[9; PASSED_BYTES_MAX - 3]].concat();
    assert_eq!(Frame::open(&behind(&huge)), None);
    assert!(Frame::open(&behind(&huge[..PASSED_BYTES_MAX])).is_some());
}

#[test]
fn numbers_below_256_are_words_or_nothing() {
    for number in 0..MAILBOX_MIN {
        let frame = [&header_of(number)[..], &[4, 0, 0, 0], &[9; 28]].concat();
        let word = (HELLO..=LIMITED).contains(&number);
        let expected = word.then_some(Frame::Word(&frame));
        assert_eq!(Frame::open(&frame), expected, "{number}");
    }
}

#[test]
fn no_answer_is_larger_than_its_question() {
    let cookie = Answer::Cookie {
        txid: TXID,
        standing: standing(None),
        cookie: [2; COOKIE_BYTES],
    };
    let hello = Question::Hello(TXID);
    assert!(cookie.to_bytes().len() <= hello.to_bytes().len());
    let bind = Bind::sign(&secret(1), &key(2), [2; COOKIE_BYTES], TXID);
    let bound = Answer::Bound {
        txid: TXID,
        standing: standing(Some(Reason::Full)),
    };
    assert!(bound.to_bytes().len() <= Question::Bind(bind).to_bytes().len());
    let limited = Answer::Limited {
        mailbox: MAILBOX,
        reason: Reason::Rate,
    };
    // The smallest that passes is a WireGuard keepalive, 32 bytes.
    assert!(limited.to_bytes().len() <= HEADER_BYTES + 32);
}

#[test]
fn every_reason_is_read_as_it_is_written_and_no_other_number_is_one() {
    for reason in Reason::ALL {
        assert_eq!(Reason::of(reason.number()), Some(Some(reason)));
    }
    assert_eq!(Reason::of(0), Some(None));
    for number in 8..=u8::MAX {
        assert_eq!(Reason::of(number), None);
    }
}

#[test]
fn an_answer_about_an_ipv4_address_in_ipv6_form_says_ipv4() {
    let answer = |seen: &str| Answer::Bound {
        txid: TXID,
        standing: Standing {
            seen: seen.parse().unwrap(),
            ..standing(None)
        },
    };
    let (plain, mapped) = (answer("203.0.113.9:7"), answer("[::ffff:203.0.113.9]:7"));
    assert_eq!(Answer::parse(&mapped.to_bytes()), Some(plain));
    let mut bytes = plain.to_bytes();
    bytes[HEADER_BYTES + TXID_BYTES] = 6;
    // ::203.0.113.9 in the first bytes is another address; one in the form of IPv4 is refused.
    bytes[HEADER_BYTES + TXID_BYTES + 1..][..16]
        .copy_from_slice(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF, 203, 0, 113, 9]);
    assert_eq!(Answer::parse(&bytes), None);
}

#[test]
fn a_binding_is_proven_by_its_key_at_its_relay_alone() {
    let bind = Bind::sign(&secret(1), &key(2), [2; COOKIE_BYTES], TXID);
    assert_eq!(bind.prove(&key(2)), Ok(key(1)));
    assert_eq!(bind.prove(&key(3)), Err(BadSignature));
    for changed in [
        Bind {
            cookie: [3; COOKIE_BYTES],
            ..bind.clone()
        },
        Bind {
            txid: [3; TXID_BYTES],
            ..bind.clone()
        },
        Bind {
            key: *key(4).as_bytes(),
            ..bind.clone()
        },
        Bind {
            key: [0; 32],
            ..bind
        },
    ] {
        assert_eq!(changed.prove(&key(2)), Err(BadSignature));
    }
}

#[test]
fn a_signature_for_something_else_is_no_binding() {
    let hello = secret(1).sign(Context::Hello, &[key(2).as_bytes(), &[2; 16], &TXID]);
    let bind = Bind {
        txid: TXID,
        cookie: [2; COOKIE_BYTES],
        key: *key(1).as_bytes(),
        signature: hello,
    };
    assert_eq!(bind.prove(&key(2)), Err(BadSignature));
}

proptest! {
    #[test]
    fn any_bytes_are_one_word_at_most_and_written_as_they_were_read(
        number in 0u64..8,
        mut rest in prop::collection::vec(any::<u8>(), 0..140),
        flags in 0u8..10,
    ) {
        // The last two bytes are the likeliest to be right.
        for byte in rest.iter_mut().rev().take(2) {
            *byte %= flags + 1;
        }
        let bytes = [&header_of(number)[..], &rest].concat();
        let (question, answer) = (Question::parse(&bytes), Answer::parse(&bytes));
        prop_assert!(question.is_none() || answer.is_none());
        if let Some(question) = question {
            prop_assert_eq!(question.to_bytes(), bytes);
        } else if let Some(answer) = answer {
            prop_assert_eq!(answer.to_bytes(), bytes);
        }
    }

    #[test]
    fn every_answer_is_read_as_it_was_said(
        txid: Txid,
        cookie: Cookie,
        seen: SocketAddr,
        bound: bool,
        reason in 0usize..8,
        mailbox in MAILBOX_MIN..,
    ) {
        let reason = reason.checked_sub(1).map(|index| Reason::ALL[index]);
        let canonical = seen.ip().to_canonical();
        let seen = SocketAddr::new(canonical, seen.port());
        let standing = Standing { seen, bound, reason };
        let mailbox = Mailbox(mailbox);
        let mut answers = vec![
            Answer::Cookie { txid, standing, cookie },
            Answer::Bound { txid, standing },
        ];
        answers.extend(reason.map(|reason| Answer::Limited { mailbox, reason }));
        for answer in answers {
            prop_assert_eq!(Answer::parse(&answer.to_bytes()), Some(answer));
            prop_assert_eq!(Question::parse(&answer.to_bytes()), None);
        }
    }
}
