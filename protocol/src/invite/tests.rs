//! Known codes and keys, typing mistakes, hints.

use proptest::prelude::*;
use proptest::sample::Index;

use super::symbols::Symbols;
use super::*;
use crate::id::{BASE32_SYMBOLS, TransportKey};

const SECRET: [u8; SECRET_BYTES] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9];
const CODE: &str = "20010-81G81-860W4-0JWVG";

#[test]
fn known_secrets_have_their_known_codes() {
    for (secret, code) in [
        ([0; SECRET_BYTES], "20000-00000-00000-01ZT6"),
        ([0xFF; SECRET_BYTES], "3ZZZZ-ZZZZZ-ZZZZZ-ZZD5B"),
        (SECRET, CODE),
    ] {
        assert_eq!(secret_of(secret).code(), code);
        assert_eq!(*InviteCode::parse(code).unwrap().secret.0, secret);
    }
}

#[test]
fn a_known_secret_has_its_known_keys() {
    let keys = secret_of(SECRET).stretch();
    assert_eq!(
        hex(&*keys.key.danger_seed()),
        "d88a425600a7a8c45ec9cb716398f62384815984c5e23fa77f0379024a69291e"
    );
    assert_eq!(
        hex(keys.public().as_bytes()),
        "609de57d5f819f32df346cb5c1a76c3d6477b9621b7ed7e259ba066433b850ad"
    );
    assert_eq!(
        hex(&keys.rendezvous),
        "8773b86aa7c6eb9fa6fba095c59e223414c77d323edbb13d01a860809f75557c"
    );
    assert_eq!(
        hex(&keys.psk),
        "28f5d67af2a6ec73d366e146bb9cd7f5b6dcd1e8becaa910e5525d2c0b18f07b"
    );
}

#[test]
fn locator_mac_and_channel_hash_are_the_known_ones() {
    assert_eq!(hex(&locator(&[1; 32])), "d67c4986d23c0117732bb3f07261f976");
    let mac = m1_mac(&[2; 32], &Digest::new([3; 32]), &[4; 32]);
    assert_eq!(
        hex(&mac),
        "39e94c4ee6d8abb4306f3d0cd91ba9d7329c2cf2ad2dc4d7447d71aa0df970ce"
    );
    let key = |seed| TransportKey::new(Secret::from_seed(&[seed; 32]).public());
    assert_eq!(
        hex(channel_hash(&key(5), &key(6)).as_bytes()),
        "9a7cebbc64d8b8fc761efe16117b2c983cfb704020d029a39934ce70c9db710a"
    );
    assert_ne!(
        channel_hash(&key(5), &key(6)),
        channel_hash(&key(6), &key(5))
    );
}

#[test]
fn macs_are_equal_only_when_every_bit_is() {
    let mac = [5; 32];
    assert!(mac_equal(&mac, &mac));
    for bit in 0..256 {
        let mut other = mac;
        other[bit / 8] ^= 1 << (bit % 8);
        assert!(!mac_equal(&mac, &other));
    }
}

#[test]
fn case_spaces_hyphens_and_look_alikes_do_not_matter() {
    for typed in [
        "2001081g81860w40jwvg",
        "  20010 81G81\n860W4 0JWVG ",
        "2OOlO-8iG8L-86oW4-OJWVG",
        "20010\u{2013}81G81\u{2011}860W4\u{a0}0JWVG",
    ] {
        assert_eq!(InviteCode::parse(typed).unwrap().text(), CODE);
    }
}

#[test]
fn every_single_mistyped_symbol_is_located() {
    let clean: Vec<char> = CODE.replace('-', "").chars().collect();
    for at in 0..clean.len() {
        for wrong in BASE32_SYMBOLS.map(char::from) {
            if wrong == clean[at] {
                continue;
            }
            let mut typed = clean.clone();
            typed[at] = wrong;
            let suggestion = Suggestion {
                position: at + 1,
                should: clean[at],
                is: wrong,
            };
            assert_eq!(mistake(&typed), Some(suggestion));
        }
    }
}

#[test]
fn two_mistyped_symbols_are_noticed_and_never_taken_for_one() {
    let clean: Vec<char> = CODE.replace('-', "").chars().collect();
    for first in 0..clean.len() {
        for second in first + 1..clean.len() {
            for (one, other) in [(1, 1), (1, 2), (31, 7), (16, 30)] {
                let mut typed = clean.clone();
                typed[first] = shifted(typed[first], one);
                typed[second] = shifted(typed[second], other);
                assert_eq!(mistake(&typed), None, "{first} and {second}");
            }
        }
    }
}

#[test]
fn every_two_swapped_symbols_are_noticed() {
    let clean: Vec<char> = CODE.replace('-', "").chars().collect();
    let mut swaps = 0;
    for first in 0..clean.len() {
        for second in first + 1..clean.len() {
            if clean[first] != clean[second] {
                let mut typed = clean.clone();
                typed.swap(first, second);
                assert_eq!(mistake(&typed), None, "{first} and {second}");
                swaps += 1;
            }
        }
    }
    assert!(swaps > 100);
}

#[test]
fn mistakes_are_told_in_the_words_for_people() {
    let said = |text: &str| InviteCode::parse(text).unwrap_err().to_string();
    assert_eq!(
        said("M7K2Q-4XWPA-9TRB"),
        "this is not an invite code: it has 14 symbols, a code has 20"
    );
    assert_eq!(
        said("20010-8XG81-860W4-0JWVG"),
        "the code has a typing mistake: the 7th symbol should probably be 1, not X"
    );
    assert_eq!(
        said("200o0-81G81-860W4-0JWVG"),
        "the code has a typing mistake: the 4th symbol should probably be 1, not O"
    );
    assert_eq!(
        said("20010-81G81-860W4-JWVG0"),
        "the code has a typing mistake"
    );
    assert_eq!(
        said("20010-81G81-860W4-0JWVU"),
        "this is not an invite code: no code has the symbol 'U'"
    );
}

#[test]
fn a_code_of_a_later_version_is_told_from_a_mistake() {
    let later = Symbols::encode(2, &SECRET).to_string();
    assert_eq!(later, "40010-81G81-860W4-0JH22");
    let refused = InviteCode::parse(&later).unwrap_err();
    assert_eq!(refused, CodeError::Version(2));
}

#[test]
fn hints_are_read_and_written_in_one_form() {
    let typed = format!("{CODE}@VPS.example.org:41641,203.0.113.9:1,[2001:DB8:0::1]:65535 \n");
    let code = InviteCode::parse(&typed).unwrap();
    assert_eq!(
        code.text(),
        format!("{CODE}@vps.example.org:41641,203.0.113.9:1,[2001:db8::1]:65535")
    );
    assert_eq!(
        code.hints()[0].host(),
        &Host::Name("vps.example.org".into())
    );
    assert_eq!(code.hints()[1].host(), &Host::V4([203, 0, 113, 9].into()));
    assert_eq!(code.hints()[2].port(), 65535);
}

#[test]
fn a_hint_that_is_not_host_and_port_is_named() {
    let long = format!("{}:1", ["a"; 128].join("."));
    for hint in [
        "",
        "vps.example.org",
        "vps.example.org:",
        "vps.example.org:0",
        "vps.example.org:65536",
        "vps.example.org:+80",
        "vps.example.org :80",
        "vps..org:80",
        ".org:80",
        "org.:80",
        "-a.org:80",
        "a_b.org:80",
        "300.1.2.3:80",
        "1.2.3:80",
        "0x7f.0x1:80",
        "2001:db8::1:80",
        "[2001:db8::1:80",
        "[fe80::1%eth0]:80",
        "[1.2.3.4]:80",
        "bücher.example:80",
        "a.org:80@b.org:80",
        &long,
    ] {
        let refused = InviteCode::parse(&format!("{CODE}@{hint}")).unwrap_err();
        let shown: String = hint.chars().take(64).collect();
        assert_eq!(refused, CodeError::Hint(shown));
    }
    let longest = format!("{}.a:1", ["a"; 126].join("."));
    assert!(InviteCode::parse(&format!("{CODE}@{longest}")).is_ok());
}

#[test]
fn three_hints_are_taken_and_a_fourth_is_refused() {
    let three = format!("{CODE}@a:1,b:2,c:3");
    assert_eq!(InviteCode::parse(&three).unwrap().text(), three);
    let refused = InviteCode::parse(&format!("{three},d:4,???")).unwrap_err();
    assert_eq!(refused, CodeError::Hint("d:4".into()));
}

#[test]
fn a_hint_at_a_relay_names_the_member_behind_it() {
    let key = "txd9g0c2p45bfnabzv9wjs07787e2wqkvak269df08d6hxr7a4d0";
    let typed = format!("{CODE}@relay.example.org:443/{key},[2001:db8::1]:443/{key},a:1");
    let code = InviteCode::parse(&typed).unwrap();
    assert_eq!(code.text(), typed);
    let hint = &code.hints()[0];
    assert_eq!(hint.place(), "relay.example.org:443");
    assert_eq!(hint.member().unwrap().to_string(), key);
    assert_eq!(code.hints()[2].member(), None);
    let capitals = Hint::parse(&format!("a:1/{}", key.to_uppercase())).unwrap();
    assert_eq!(capitals.member(), hint.member());
    let weak = "0".repeat(52);
    for wrong in ["", &key[1..], &weak, &format!("{key}/{key}")] {
        assert!(Hint::parse(&format!("a:1/{wrong}")).is_err(), "{wrong}");
    }
}

#[test]
fn no_secret_can_be_read_from_debug_output() {
    let code = InviteCode::parse(&format!("{CODE}@a:1")).unwrap();
    let shown = format!("{code:?}");
    assert!(shown.contains("InviteSecret(..)") && !shown.contains("20010"));
    assert_eq!(format!("{:?}", CodeText::from(code.text())), "CodeText(..)");
}

proptest! {
    #[test]
    fn every_code_reads_back(bytes: [u8; SECRET_BYTES]) {
        let code = secret_of(bytes).code();
        prop_assert_eq!(code.len(), 23);
        prop_assert_eq!(*InviteCode::parse(&code).unwrap().secret.0, bytes);
    }

    #[test]
    fn a_mistyped_symbol_of_any_code_is_located(
        bytes: [u8; SECRET_BYTES],
        at: Index,
        by in 1u8..32,
    ) {
        let at = at.index(20);
        let clean: Vec<char> = secret_of(bytes).code().replace('-', "").chars().collect();
        let mut typed = clean.clone();
        typed[at] = shifted(typed[at], by);
        let suggestion = mistake(&typed);
        let place = suggestion.map(|suggestion| (suggestion.position, suggestion.should));
        prop_assert_eq!(place, Some((at + 1, clean[at])));
    }

    #[test]
    fn any_text_is_refused_or_reads_back(
        symbols in prop::collection::vec(prop::sample::select(b"01ABUZo-@:,.[] \xC3".as_slice()), 0..60),
        valid: bool,
    ) {
        let mut text = String::from_utf8_lossy(&symbols).into_owned();
        if valid {
            text.insert_str(0, CODE);
        }
        if let Ok(code) = InviteCode::parse(&text) {
            let written = code.text();
            prop_assert_eq!(InviteCode::parse(&written).unwrap().text(), written);
        }
    }
}

/// The suggestion for a text that must be refused for its checks.
fn mistake(typed: &[char]) -> Option<Suggestion> {
    let text: String = typed.iter().collect();
    match InviteCode::parse(&text) {
        Err(CodeError::Checksum { suggestion }) => suggestion,
        other => panic!("{text} gave {other:?}"),
    }
}

fn shifted(symbol: char, by: u8) -> char {
    let known = BASE32_SYMBOLS.iter();
    let index = known.clone().position(|known| char::from(*known) == symbol);
    char::from(BASE32_SYMBOLS[index.unwrap() ^ usize::from(by)])
}

fn secret_of(bytes: [u8; SECRET_BYTES]) -> InviteSecret {
    InviteSecret(Zeroizing::new(bytes))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
