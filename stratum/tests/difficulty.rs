//! Difficulty arithmetic against big integers and against the `bitcoin` crate.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use num_bigint::BigUint;
use proptest::prelude::*;
use seam_stratum::{Difficulty, FromServer, Target};

fn d(value: f64) -> Difficulty {
    Difficulty::new(value).unwrap()
}

fn big(target: Target) -> BigUint {
    BigUint::from_bytes_be(&target.to_be_bytes())
}

fn difficulty_1() -> BigUint {
    BigUint::from(0xffff_u32) << 208
}

/// `value` = mantissa × 2^exponent.
fn parts(value: f64) -> (BigUint, i32) {
    let bits = value.to_bits();
    let exponent = ((bits >> 52) & 0x7ff) as i32;
    assert!(exponent > 0, "normal numbers only");
    (BigUint::from((bits & ((1 << 52) - 1)) | (1 << 52)), exponent - 1075)
}

/// `value` × 2^1100, an integer.
fn scaled(value: f64) -> BigUint {
    let (mantissa, exponent) = parts(value);
    mantissa << (exponent + 1100) as usize
}

/// Floats of every magnitude that has a target of its own, and some beyond either end.
fn any_difficulty() -> impl Strategy<Value = f64> {
    (0u64..1 << 52, -40i32..270).prop_map(|(mantissa, exponent)| {
        f64::from_bits(mantissa | (((exponent + 1023) as u64) << 52))
    })
}

#[test]
fn well_known_difficulties_have_their_targets() {
    assert_eq!(d(1.0).target(), Target::DIFFICULTY_1);
    assert_eq!(
        d(1.0).target().to_string(),
        "00000000ffff0000000000000000000000000000000000000000000000000000"
    );
    assert_eq!(
        d(1e-9).target(),
        // floor(0xffff × 2^208 / 1e-9), by big integers from the double's exact value
        Target::parse_hex(&format!("{:x}", (difficulty_1() << 1100usize) / scaled(1e-9))).unwrap()
    );
    assert_eq!(d(1.0).expected_hashes(), 0x1_0001_0001);
    assert_eq!(d(1e-9).expected_hashes(), 4);
    assert_eq!(d(1e-10).expected_hashes(), 1);
    assert_eq!(Target::from_nbits(0x1d00_ffff).unwrap(), Target::DIFFICULTY_1);
    assert_eq!(Target::from_nbits(0x207f_ffff).unwrap().expected_hashes(), 2);
}

#[test]
fn extremes_saturate_instead_of_failing() {
    for tiny in [f64::MIN_POSITIVE, 5e-324, 1e-100, 1e-10] {
        assert_eq!(d(tiny).target(), Target::MAX);
        assert_eq!(d(tiny).expected_hashes(), 1);
    }
    for huge in [2f64.powi(230), f64::MAX] {
        assert_eq!(big(d(huge).target()), BigUint::from(1u8));
        assert_eq!(d(huge).expected_hashes(), u128::MAX);
    }
    for not in [0.0, -0.0, -1.0, f64::NAN, f64::INFINITY] {
        assert!(Difficulty::new(not).is_err());
        assert!(Difficulty::from_bits(not.to_bits()).is_err());
    }
}

#[test]
fn difficulties_print_short_and_exact() {
    for (value, text) in [
        (1.0, "1"),
        (1024.0, "1024"),
        (0.5, "0.5"),
        (1e-9, "0.000000001"),
        (16_384.25, "16384.25"),
        (1e15, "1000000000000000"),
    ] {
        assert_eq!(d(value).to_string(), text);
    }
}

#[test]
fn compact_targets_core_refuses_are_refused() {
    for nbits in [0, 0x0100_3456, 0x0180_0001, 0x0480_0001, 0xff12_3456, 0x2301_0000, 0x2200_0100] {
        assert_eq!(Target::from_nbits(nbits), None, "{nbits:08x}");
    }
    assert_eq!(Target::from_nbits(0x2200_00ff).unwrap().to_be_bytes()[0], 0xff);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn target_is_the_exact_floor(value in any_difficulty()) {
        let exact = (difficulty_1() << 1100usize) / scaled(value);
        let most = (BigUint::from(1u8) << 256usize) - 1u8;
        let expected = exact.clamp(BigUint::from(1u8), most);
        prop_assert_eq!(big(d(value).target()), expected);
    }

    #[test]
    fn difficulty_survives_the_way_to_target_and_back(value in any_difficulty()) {
        let difficulty = d(value);
        let target = difficulty.target();
        if target != Target::MAX && big(target).bits() > 55 {
            prop_assert_eq!(target.difficulty(), difficulty);
        }
    }

    #[test]
    fn difficulty_of_a_target_is_the_nearest_float(bytes: [u8; 32], cut in 0usize..31) {
        let mut bytes = bytes;
        bytes[..cut].fill(0);
        bytes[31] |= 1;
        let target = Target::from_be_bytes(&bytes);
        let error = |value: f64| {
            let (a, b) = (scaled(value) * big(target), difficulty_1() << 1100usize);
            if a > b { a - b } else { b - a }
        };
        let value = target.difficulty().value();
        prop_assert!(error(value) <= error(f64::from_bits(value.to_bits() + 1)));
        prop_assert!(error(value) <= error(f64::from_bits(value.to_bits() - 1)));
    }

    #[test]
    fn expected_hashes_are_the_exact_floor(bytes: [u8; 32], cut in 0usize..32) {
        let mut bytes = bytes;
        bytes[..cut].fill(0);
        let target = Target::from_be_bytes(&bytes);
        let exact = (BigUint::from(1u8) << 256usize) / (big(target) + 1u8);
        let expected = u128::try_from(exact).unwrap_or(u128::MAX);
        prop_assert_eq!(target.expected_hashes(), expected);
    }

    #[test]
    fn harder_never_counts_less(a in any_difficulty(), b in any_difficulty()) {
        let (low, high) = (d(a.min(b)), d(a.max(b)));
        prop_assert!(low <= high);
        prop_assert!(low.target() >= high.target());
        prop_assert!(low.expected_hashes() <= high.expected_hashes());
    }

    #[test]
    fn compact_form_is_the_one_bitcoin_uses(nbits: u32) {
        if let Some(target) = Target::from_nbits(nbits) {
            let theirs = bitcoin::Target::from_compact(bitcoin::CompactTarget::from_consensus(nbits));
            prop_assert_eq!(target.to_be_bytes(), theirs.to_be_bytes());
            prop_assert_eq!(target.to_nbits(), theirs.to_compact_lossy().to_consensus());
        }
    }

    #[test]
    fn compact_form_loses_what_bitcoins_does(bytes: [u8; 32], cut in 0usize..32) {
        let mut bytes = bytes;
        bytes[..cut].fill(0);
        let theirs = bitcoin::Target::from_be_bytes(bytes).to_compact_lossy().to_consensus();
        prop_assert_eq!(Target::from_be_bytes(&bytes).to_nbits(), theirs);
    }

    #[test]
    fn hash_meets_a_target_as_an_integer(hash: [u8; 32], target: [u8; 32], same in 0usize..33) {
        let mut hash = hash;
        for index in 0..same.min(32) {
            hash[31 - index] = target[index];
        }
        let met = BigUint::from_bytes_le(&hash) <= BigUint::from_bytes_be(&target);
        prop_assert_eq!(Target::from_be_bytes(&target).is_met_by(&hash), met);
    }

    #[test]
    fn text_and_bits_bring_the_same_difficulty_back(value in any_difficulty()) {
        let difficulty = d(value);
        prop_assert_eq!(difficulty.to_string().parse::<Difficulty>().unwrap(), difficulty);
        prop_assert_eq!(Difficulty::from_bits(difficulty.to_bits()).unwrap(), difficulty);
        let wire = postcard::to_stdvec(&difficulty).unwrap();
        prop_assert_eq!(postcard::from_bytes::<Difficulty>(&wire).unwrap(), difficulty);
        // What goes out is JSON, and reads as the same number.
        let text = difficulty.to_string();
        prop_assert!(serde_json::from_str::<serde_json::Number>(&text).is_ok());
        let mut line = Vec::new();
        seam_stratum::write::set_difficulty(&mut line, difficulty);
        prop_assert_eq!(
            FromServer::parse(line.trim_ascii_end()),
            Ok(FromServer::SetDifficulty(difficulty))
        );
    }

    #[test]
    fn any_text_is_a_target_or_refused(text in "(0x)?[0-9a-fA-Fxg]{0,70}|.{0,20}") {
        if let Some(target) = Target::parse_hex(&text) {
            let digits = text.strip_prefix("0x").unwrap_or(&text);
            prop_assert_eq!(big(target), BigUint::parse_bytes(digits.as_bytes(), 16).unwrap());
        }
        let _ = text.parse::<Difficulty>();
    }
}
