//! What the load generator was answered, against what the ledger holds.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::path::Path;

use serde_json::Value;

/// Shares and work of a user.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Credit {
    /// How many.
    pub(crate) shares: u64,
    /// Expected hashes.
    pub(crate) work: u128,
}

/// Users with what they have.
pub(crate) type Credits = BTreeMap<String, Credit>;

/// What was acknowledged, by an accounting file. Panics if a submit was not answered, or an acknowledged hash comes twice.
pub(crate) fn acknowledged(file: &Path) -> Credits {
    let text = fs::read_to_string(file).unwrap();
    let mut lines = text.lines();
    assert_eq!(lines.next(), Some(seam_load::account::HEADER));
    let (mut credits, mut hashes) = (Credits::new(), HashSet::new());
    for line in lines {
        let fields: Vec<&str> = line.split(',').collect();
        let [hash, user, _session, work, answer, ..] = fields[..] else { panic!("{line}") };
        assert_ne!(answer, "none", "no answer: {line}");
        if answer == "true" {
            assert!(hashes.insert(hash.to_owned()), "acknowledged twice: {line}");
            let credit = credits.entry(user.to_owned()).or_default();
            credit.shares += 1;
            credit.work += work.parse::<u128>().unwrap();
        }
    }
    credits
}

/// What the ledger holds, current and past rounds together, by `seamctl rounds --json`.
pub(crate) fn recorded(rounds: &Value) -> Credits {
    let mut credits = Credits::new();
    let past = rounds["past"].as_array().unwrap();
    for round in past.iter().chain([&rounds["current"]]) {
        for (user, part) in round["users"].as_object().unwrap() {
            let credit = credits.entry(user.clone()).or_default();
            credit.shares += part["shares"].as_u64().unwrap();
            credit.work += part["work"].as_str().unwrap().parse::<u128>().unwrap();
        }
    }
    credits
}
