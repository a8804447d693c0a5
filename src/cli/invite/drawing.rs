//! A code as a picture for cameras and as words for the telephone.

use qrcode::render::unicode::Dense1x2;
use qrcode::{EcLevel, QrCode};

use crate::failure::{Exit, Failure};

/// The text as a QR code of half blocks, with its quiet zone.
pub(crate) fn qr(text: &str) -> Result<String, Failure> {
    let code = QrCode::with_error_correction_level(text, EcLevel::L).map_err(|_| {
        Failure::new(
            Exit::Refused,
            "qr_too_long",
            "the code is too long for a QR code",
        )
    })?;
    // A terminal is dark: the light modules are the ones that are drawn.
    let drawn = code
        .render::<Dense1x2>()
        .dark_color(Dense1x2::Light)
        .light_color(Dense1x2::Dark)
        .quiet_zone(true)
        .build();
    Ok(format!("{drawn}\n\n"))
}

/// The text in words, one group a line: `M7K2Q  Mike seven Kilo two Quebec`.
pub(crate) fn spell(text: &str) -> String {
    let (code, hint) = match text.split_once('@') {
        Some((code, hint)) => (code, Some(hint)),
        None => (text, None),
    };
    let mut spelled = String::new();
    for group in code.split('-') {
        let words: Vec<&str> = group.chars().map(word).collect();
        spelled.push_str(&format!("  {group}  {}\n", words.join(" ")));
    }
    if let Some(hint) = hint {
        spelled.push_str(&format!("  then \"at\" and, as it is written: {hint}\n"));
    }
    spelled.push('\n');
    spelled
}

const fn word(symbol: char) -> &'static str {
    match symbol.to_ascii_uppercase() {
        '0' => "zero",
        '1' => "one",
        '2' => "two",
        '3' => "three",
        '4' => "four",
        '5' => "five",
        '6' => "six",
        '7' => "seven",
        '8' => "eight",
        '9' => "nine",
        'A' => "Alfa",
        'B' => "Bravo",
        'C' => "Charlie",
        'D' => "Delta",
        'E' => "Echo",
        'F' => "Foxtrot",
        'G' => "Golf",
        'H' => "Hotel",
        'J' => "Juliett",
        'K' => "Kilo",
        'M' => "Mike",
        'N' => "November",
        'P' => "Papa",
        'Q' => "Quebec",
        'R' => "Romeo",
        'S' => "Sierra",
        'T' => "Tango",
        'V' => "Victor",
        'W' => "Whiskey",
        'X' => "X-ray",
        'Y' => "Yankee",
        'Z' => "Zulu",
        _ => "?",
    }
}

#[cfg(test)]
mod tests {
    use meshnode_protocol::id::BASE32_SYMBOLS;

    use super::*;

    #[test]
    fn a_code_is_spelled_group_by_group() {
        assert_eq!(
            spell("M7K2Q-4XWPA@vps.example.org:41641"),
            "  M7K2Q  Mike seven Kilo two Quebec\n\
             \x20 4XWPA  four X-ray Whiskey Papa Alfa\n\
             \x20 then \"at\" and, as it is written: vps.example.org:41641\n\n"
        );
    }

    #[test]
    fn every_symbol_of_a_code_has_a_word_of_its_own() {
        let mut words: Vec<&str> = BASE32_SYMBOLS
            .iter()
            .map(|b| word(char::from(*b)))
            .collect();
        assert!(!words.contains(&"?"));
        words.sort_unstable();
        words.dedup();
        assert_eq!(words.len(), 32);
    }

    #[test]
    fn a_qr_code_is_square_and_made_of_half_blocks() {
        let drawn = qr("M7K2Q-4XWPA-9TRB3-HZC6D@vps.example.org:41641").unwrap();
        let lines: Vec<&str> = drawn.trim_end_matches('\n').lines().collect();
        let width = lines[0].chars().count();
        assert!(lines.iter().all(|line| line.chars().count() == width));
        assert_eq!(lines.len(), width.div_ceil(2));
        assert!(
            drawn
                .chars()
                .all(|c| " \u{2580}\u{2584}\u{2588}\n".contains(c))
        );
    }
}
