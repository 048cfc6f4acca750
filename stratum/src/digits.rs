//! Hexadecimal digits, read and written by table: they are most of what a submit is.

const NONE: u8 = 0xff;

/// The value of each byte as a digit.
static VALUES: [u8; 256] = {
    let mut values = [NONE; 256];
    let mut digit = 0;
    while digit < 10 {
        values[b'0' as usize + digit] = digit as u8;
        digit += 1;
    }
    digit = 0;
    while digit < 6 {
        values[b'a' as usize + digit] = 10 + digit as u8;
        values[b'A' as usize + digit] = 10 + digit as u8;
        digit += 1;
    }
    values
};

static DIGITS: &[u8; 16] = b"0123456789abcdef";

/// Bytes that are written in one go.
const CHUNK: usize = 32;

/// Reads a number of any length whose value fits 64 bits; `None` for other text, and for none.
pub(crate) fn number_u64(text: &str) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    let mut value = 0u64;
    for byte in text.bytes() {
        let digit = VALUES[usize::from(byte)];
        if digit == NONE || value >> 60 != 0 {
            return None;
        }
        value = (value << 4) | u64::from(digit);
    }
    Some(value)
}

/// Reads a 32-bit number as miners write it: with or without `0x`, leading zeros.
pub(crate) fn number_u32(text: &str) -> Option<u32> {
    let digits = text.strip_prefix("0x").unwrap_or(text);
    u32::try_from(number_u64(digits)?).ok()
}

/// Reads exactly `out.len()` bytes, two digits each.
pub(crate) fn bytes(text: &str, out: &mut [u8]) -> Option<()> {
    if text.len() != 2 * out.len() {
        return None;
    }
    for (byte, pair) in out.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        let (high, low) = (VALUES[usize::from(pair[0])], VALUES[usize::from(pair[1])]);
        if high == NONE || low == NONE {
            return None;
        }
        *byte = (high << 4) | low;
    }
    Some(())
}

/// Appends two digits for each byte.
pub(crate) fn push(out: &mut Vec<u8>, bytes: &[u8]) {
    for chunk in bytes.chunks(CHUNK) {
        let mut digits = [0; 2 * CHUNK];
        for (pair, byte) in digits.chunks_exact_mut(2).zip(chunk) {
            pair[0] = DIGITS[usize::from(byte >> 4)];
            pair[1] = DIGITS[usize::from(byte & 15)];
        }
        out.extend_from_slice(&digits[..2 * chunk.len()]);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn bytes_read_back_as_written(input in proptest::collection::vec(any::<u8>(), 0..100)) {
            let mut text = Vec::new();
            push(&mut text, &input);
            let expected = hex::encode(&input).into_bytes();
            prop_assert_eq!(&text, &expected);
            let mut output = vec![0; input.len()];
            let text = String::from_utf8(text).unwrap();
            prop_assert_eq!(bytes(&text.to_uppercase(), &mut output), Some(()));
            prop_assert_eq!(output, input);
        }

        #[test]
        fn other_text_is_refused_as_elsewhere(text in ".{0,20}|[0-9a-fA-Fg]{0,20}") {
            let mut ours = [0; 8];
            let mut theirs = [0; 8];
            let same = hex::decode_to_slice(&text, &mut theirs).is_ok();
            prop_assert_eq!(bytes(&text, &mut ours).is_some(), same);
            prop_assert!(!same || ours == theirs);
            let trimmed = text.trim_start_matches('0');
            let number = match (text.is_empty(), trimmed.is_empty()) {
                (true, _) => None,
                (_, true) => Some(0),
                _ => u64::from_str_radix(trimmed, 16).ok().filter(|_| !trimmed.starts_with('+')),
            };
            prop_assert_eq!(number_u64(&text), number);
        }
    }
}
