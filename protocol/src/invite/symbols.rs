//! The twenty symbols of a code: 4 bits version, 80 bits secret, 1 bit parity, 15 bits check.
//!
//! The check is a shortened Reed-Solomon code over GF(32), 17 symbols of data and 3 of check, distance 4: every single
//! wrong symbol is found and corrected, every two wrong or swapped symbols are noticed and never taken for one. The
//! parity bit (over version and secret) halves the chance that more mistakes pass for one or none.

use std::fmt;

use zeroize::Zeroizing;

use super::{CodeError, SECRET_BYTES, Suggestion, VERSION};
use crate::id::BASE32_SYMBOLS;

/// Symbols of a code.
const SYMBOLS: usize = 20;
const DATA: usize = 17;
const CHECKS: usize = SYMBOLS - DATA;
const GROUP: usize = 5;

/// Twenty symbols as values 0 to 31, and as they were typed.
pub(super) struct Symbols {
    values: Zeroizing<[u8; SYMBOLS]>,
    typed: Zeroizing<[u8; SYMBOLS]>,
}

impl Symbols {
    /// The symbols of a version (4 bits) and a secret.
    pub(super) fn encode(version: u8, secret: &[u8; SECRET_BYTES]) -> Self {
        let mut bits = Zeroizing::new(u128::from(version & 15));
        for byte in secret {
            *bits = *bits << 8 | u128::from(*byte);
        }
        *bits = *bits << 1 | u128::from(bits.count_ones() & 1);
        let mut values = Zeroizing::new([0; SYMBOLS]);
        for (index, value) in values[..DATA].iter_mut().enumerate() {
            *value = (*bits >> (5 * (DATA - 1 - index)) & 31) as u8;
        }
        fill_checks(&mut values);
        let typed = Zeroizing::new(values.map(printed));
        Self { values, typed }
    }

    /// Reads twenty symbols, without a look at their check.
    pub(super) fn parse(text: &str) -> Result<Self, CodeError> {
        let symbols = || text.chars().filter(|symbol| !is_separator(*symbol));
        let count = symbols().count();
        if count != SYMBOLS {
            return Err(CodeError::Length { symbols: count });
        }
        let mut values = Zeroizing::new([0; SYMBOLS]);
        let mut typed = Zeroizing::new([0; SYMBOLS]);
        for (index, symbol) in symbols().enumerate() {
            let capital = symbol.to_ascii_uppercase();
            values[index] = value_of(capital).ok_or(CodeError::Symbol(capital))?;
            typed[index] = capital as u8;
        }
        Ok(Self { values, typed })
    }

    /// The version and the secret, if the checks fit.
    pub(super) fn decode(&self) -> Result<(u8, Zeroizing<[u8; SECRET_BYTES]>), CodeError> {
        split(&self.values).ok_or_else(|| CodeError::Checksum {
            suggestion: self.suggestion(),
        })
    }

    /// The one symbol whose change makes a code of our version.
    fn suggestion(&self) -> Option<Suggestion> {
        // One wrong symbol, off by e at the place of weight w, has the syndromes e, e·w and e·w².
        let [error, first, second] = syndromes(&self.values);
        if error == 0 || times(first, first) != times(error, second) {
            return None;
        }
        let index = (0..SYMBOLS).find(|index| times(error, weight(*index)) == first)?;
        let mut corrected = self.values.clone();
        corrected[index] ^= error;
        let (version, _) = split(&corrected)?;
        (version == VERSION).then(|| Suggestion {
            position: index + 1,
            should: char::from(printed(corrected[index])),
            is: char::from(self.typed[index]),
        })
    }
}

impl fmt::Display for Symbols {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, symbol) in self.typed.iter().enumerate() {
            if index > 0 && index % GROUP == 0 {
                f.write_str("-")?;
            }
            write!(f, "{}", char::from(*symbol))?;
        }
        Ok(())
    }
}

/// Takes version and secret apart if syndromes and parity are zero.
fn split(values: &[u8; SYMBOLS]) -> Option<(u8, Zeroizing<[u8; SECRET_BYTES]>)> {
    let mut bits = Zeroizing::new(0u128);
    for value in &values[..DATA] {
        *bits = *bits << 5 | u128::from(*value);
    }
    if syndromes(values) != [0; CHECKS] || !bits.count_ones().is_multiple_of(2) {
        return None;
    }
    let mut secret = Zeroizing::new([0; SECRET_BYTES]);
    for (index, byte) in secret.iter_mut().enumerate() {
        *byte = (*bits >> (1 + 8 * (SECRET_BYTES - 1 - index))) as u8;
    }
    Some(((*bits >> (1 + 8 * SECRET_BYTES)) as u8, secret))
}

/// Divides the data by the generator (x - 1)(x - a)(x - a²) and puts the remainder behind it.
fn fill_checks(values: &mut [u8; SYMBOLS]) {
    let (a, b) = (2, times(2, 2));
    let generator = [1 ^ a ^ b, a ^ b ^ times(a, b), times(a, b)];
    let mut rest = [0; CHECKS];
    for value in &values[..DATA] {
        let lead = value ^ rest[0];
        rest = [
            rest[1] ^ times(lead, generator[0]),
            rest[2] ^ times(lead, generator[1]),
            times(lead, generator[2]),
        ];
    }
    values[DATA..].copy_from_slice(&rest);
}

/// The word as a polynomial, at 1, a and a²: all zero for a code.
fn syndromes(values: &[u8; SYMBOLS]) -> [u8; CHECKS] {
    [1, 2, times(2, 2)].map(|point| {
        values
            .iter()
            .fold(0, |sum, value| times(sum, point) ^ value)
    })
}

/// a to the power of the place of a symbol.
fn weight(index: usize) -> u8 {
    (index + 1..SYMBOLS).fold(1, |power, _| times(power, 2))
}

/// Multiplies in GF(32) = GF(2)\[a\] / (a⁵ + a² + 1); a is 2.
fn times(left: u8, right: u8) -> u8 {
    let mut product = 0;
    for bit in (0..5).rev() {
        product <<= 1;
        product ^= (product >> 5) * 0b10_0101;
        product ^= left * (right >> bit & 1);
    }
    product
}

fn printed(value: u8) -> u8 {
    BASE32_SYMBOLS[usize::from(value & 31)]
}

fn value_of(capital: char) -> Option<u8> {
    let symbol = match capital {
        'O' => b'0',
        'I' | 'L' => b'1',
        other => u8::try_from(other).ok()?,
    };
    let index = BASE32_SYMBOLS.iter().position(|known| *known == symbol)?;
    u8::try_from(index).ok()
}

/// White space and the hyphens that word processors make of one.
fn is_separator(symbol: char) -> bool {
    symbol.is_whitespace() || matches!(symbol, '-' | '\u{2010}'..='\u{2015}' | '\u{2212}')
}
