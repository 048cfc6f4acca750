//! Session ids: what is given out is taken back, and nothing else.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use proptest::prelude::*;
use seam_stratum::{Extranonce1, Sid, SidKey};

proptest! {
    #[test]
    fn minted_sid_verifies_under_its_key_only(key: [u8; 32], other: [u8; 32], en1: u32) {
        let sid = Sid::mint(&SidKey(key), Extranonce1(en1)).to_string();
        prop_assert_eq!(sid.len(), Sid::TEXT_LEN);
        prop_assert!(sid.starts_with(&Extranonce1(en1).to_string()));
        prop_assert_eq!(Sid::verify(&SidKey(key), &sid), Some(Extranonce1(en1)));
        prop_assert_eq!(Sid::verify(&SidKey(key), &sid.to_uppercase()), Some(Extranonce1(en1)));
        if key != other {
            prop_assert_eq!(Sid::verify(&SidKey(other), &sid), None);
        }
    }

    #[test]
    fn one_changed_digit_forges_nothing(key: [u8; 32], en1: u32, at in 0usize..24, by in 1u32..16) {
        let mut sid = Sid::mint(&SidKey(key), Extranonce1(en1)).to_string();
        let digit = u32::from_str_radix(&sid[at..=at], 16).unwrap();
        sid.replace_range(at..=at, &format!("{:x}", (digit + by) % 16));
        prop_assert_eq!(Sid::verify(&SidKey(key), &sid), None);
    }

    #[test]
    fn any_other_text_is_refused(text in ".{0,40}|[0-9a-f]{0,40}") {
        prop_assert_eq!(Sid::verify(&SidKey([7; 32]), &text), None);
    }
}

#[test]
fn bare_extranonce1_of_bcoin_stratum_is_no_sid() {
    assert_eq!(Sid::verify(&SidKey([1; 32]), "00000001"), None);
}

#[test]
fn secrets_do_not_print() {
    let key = SidKey([0xab; 32]);
    let sid = Sid::mint(&key, Extranonce1(5));
    assert!(!format!("{key:?}").to_lowercase().contains("ab"));
    assert!(!format!("{sid:?}").contains(&sid.to_string()[8..]));
}
