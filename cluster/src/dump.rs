//! `shares/<height>-<hash>.json`: a closed round, as bcoin-stratum writes it.
//!
//! Its fields, types, order and indentation are bcoin-stratum's: `size` is the number of users,
//! `ts` the time of the header, `time` when the block was found, `reward` satoshi. `total` and
//! `shares` are difficulties, from the ledger's integers by an exact rule ([`difficulty`]), so that
//! the file is byte-identical on every node. Users are in the order of their names.
//!
//! Beyond bcoin-stratum's there is one field, and only when it says something: `"status":
//! "orphaned"`, last. Such a file shows what the round held; that credit is in a later round again
//! and must not be paid from it. A file is rewritten when its round changes: when the block is
//! orphaned or comes back, and when credit that an orphan returned to it is taken back.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::durable::{self, DurableError};
use crate::ledger::{Round, State, Users};

/// The folder of dumps.
///
/// All calls block, and run on a clone of the state.
#[derive(Debug)]
pub struct Dumps {
    dir: PathBuf,
    /// Rounds whose file is known to be right. Also what makes looking again cheap: a round that
    /// did not change is the same allocation.
    done: HashMap<u64, Arc<Round>>,
}

/// What [`Dumps::reconcile`] did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reconciled {
    /// Files that were missing or different and were written.
    pub written: Vec<PathBuf>,
    /// Rounds whose file is missing and can't be made again, because the ledger remembers only
    /// their totals. Another node's copy is as good.
    pub lost: Vec<u64>,
}

impl Dumps {
    /// Opens the folder, which is created if need be.
    ///
    /// # Errors
    ///
    /// When the file system refuses.
    pub fn open(dir: impl Into<PathBuf>) -> Result<Self, DurableError> {
        let dir = dir.into();
        durable::create_dir(&dir)?;
        Ok(Self { dir, done: HashMap::new() })
    }

    /// Makes every file what the ledger says: at start, and whenever a block was recorded or its
    /// status changed. After the first time only rounds that changed are looked at.
    ///
    /// # Errors
    ///
    /// When the file system refuses; calling again goes on from there.
    pub fn reconcile(&mut self, state: &State) -> Result<Reconciled, DurableError> {
        let mut result = Reconciled::default();
        for round in state.rounds().closed().rev() {
            let known = self.done.get(&round.number);
            if known.is_some_and(|known| Arc::ptr_eq(known, round)) {
                continue;
            }
            let path = self.dir.join(file_name(round));
            match render(round, state.users()) {
                Some(json) => {
                    if !holds(&path, json.as_bytes())? {
                        durable::write(&path, json.as_bytes())?;
                        result.written.push(path);
                    }
                }
                None if path.exists() => {}
                None => result.lost.push(round.number),
            }
            self.done.insert(round.number, round.clone());
        }
        self.done.retain(|number, _| state.rounds().by_number(*number).is_some());
        Ok(result)
    }
}

/// `<height>-<hash>.json`.
pub fn file_name(round: &Round) -> String {
    format!("{}-{}.json", round.block.height, round.block.hash)
}

/// The content of a round's file, unless the ledger remembers only its totals.
pub fn render(round: &Round, users: &Users) -> Option<String> {
    let detail = round.detail.as_ref()?;
    let mut shares: Vec<_> = detail
        .iter()
        .filter_map(|(id, credit)| Some((&*users.by_id(id)?.name, credit.work)))
        .collect();
    shares.sort_unstable();

    let block = &round.block;
    let mut json = String::with_capacity(512 + shares.len() * 48);
    json += "{\n";
    let mut field = |name: &str, value: String| {
        // Writing to a string never fails.
        let _ = writeln!(json, "  \"{name}\": {value},");
    };
    field("network", quoted(&block.network));
    field("height", block.height.to_string());
    field("block", quoted(&block.hash.to_string()));
    field("ts", block.ts.to_string());
    field("time", block.time.to_string());
    field("txid", quoted(&block.txid.to_string()));
    field("address", quoted(&block.address));
    field("reward", block.reward.to_string());
    field("size", round.users.to_string());
    field("total", difficulty(round.total.work));
    json += "  \"shares\": {";
    for (place, (name, work)) in shares.iter().enumerate() {
        json += if place == 0 { "\n    " } else { ",\n    " };
        json += &quoted(name);
        json += ": ";
        json += &difficulty(*work);
    }
    json += if shares.is_empty() { "}" } else { "\n  }" };
    if round.status.is_orphaned() {
        json += ",\n  \"status\": \"orphaned\"";
    }
    json += "\n}";
    Some(json)
}

/// The work of a share of difficulty 1: floor(2^256 / (0xffff × 2^208 + 1)).
const WORK_OF_ONE: u128 = 0x1_0001_0001;

/// Significant digits of a difficulty. Work is rounded to whole hashes, which is off by at most
/// 2^-48 of it, so that with this many a share of an integer difficulty shows as that integer.
const DIGITS: u32 = 14;

/// Work as a difficulty: a decimal number without exponent, to 14 significant digits or to
/// a whole number if that has more, without trailing zeros. There are no ties in rounding, because
/// the divisor is odd.
pub fn difficulty(work: u128) -> String {
    let (mut whole, rest) = (work / WORK_OF_ONE, work % WORK_OF_ONE);
    let decimals = match whole.checked_ilog10() {
        Some(log) => DIGITS.saturating_sub(log + 1),
        // Zeros after the point do not count.
        None => (0..)
            .find(|&zeros| rest * 10u128.pow(zeros + 1) >= WORK_OF_ONE || rest == 0)
            .map_or(0, |zeros| zeros + DIGITS),
    };
    let scale = 10u128.pow(decimals);
    let mut fraction = (rest * scale + WORK_OF_ONE / 2) / WORK_OF_ONE;
    if fraction == scale {
        whole += 1;
        fraction = 0;
    }
    if fraction == 0 {
        return whole.to_string();
    }
    let text = format!("{whole}.{fraction:0width$}", width = decimals as usize);
    text.trim_end_matches('0').to_owned()
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn holds(path: &Path, bytes: &[u8]) -> Result<bool, DurableError> {
    let failed = |source| DurableError::Io { what: "reading", path: path.to_owned(), source };
    match fs::metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(failed(error)),
        Ok(found) if found.len() != bytes.len() as u64 => Ok(false),
        Ok(_) => Ok(fs::read(path).map_err(failed)? == bytes),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ledger::testing::Ledger;

    const ONE: u64 = WORK_OF_ONE as u64;

    fn ledger() -> Ledger {
        let mut ledger = Ledger::new();
        let (bob, alice) = (ledger.user("bob"), ledger.user("al\"ice"));
        ledger.share(bob, 2 * ONE);
        ledger.share(alice, ONE / 2);
        ledger.share(alice, ONE);
        ledger.block(7, 1);
        ledger
    }

    #[test]
    fn dump_is_byte_for_byte_what_bcoin_stratum_writes() {
        let ledger = ledger();
        let rounds = ledger.state.rounds();
        let json = render(rounds.closed().next().unwrap(), ledger.state.users()).unwrap();
        let expected = r#"{
  "network": "regtest",
  "height": 7,
  "block": "0000000000000000000000000000000000000000000000000000000000000001",
  "ts": 1700000000,
  "time": 1700000001,
  "txid": "0000000000000000000000000000000000000000000000000000000000000001",
  "address": "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080",
  "reward": 5000000000,
  "size": 2,
  "total": 3.4999999998836,
  "shares": {
    "al\"ice": 1.4999999998836,
    "bob": 2
  }
}"#;
        assert_eq!(json, expected);
        let value: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(value["shares"]["bob"], 2);
    }

    #[test]
    fn missing_or_changed_dump_is_written_again_and_no_other_is_touched() {
        let dir = tempfile::tempdir().unwrap();
        let mut ledger = ledger();
        ledger.block(8, 2);
        let written = Dumps::open(dir.path()).unwrap().reconcile(&ledger.state).unwrap().written;
        assert_eq!(written.len(), 2);
        let first = fs::read(&written[0]).unwrap();

        fs::remove_file(&written[0]).unwrap();
        fs::write(&written[1], "{}").unwrap();
        let mut dumps = Dumps::open(dir.path()).unwrap();
        assert_eq!(dumps.reconcile(&ledger.state).unwrap().written, written);
        assert_eq!(fs::read(&written[0]).unwrap(), first);

        assert_eq!(dumps.reconcile(&ledger.state).unwrap(), Reconciled::default());
        let mut dumps = Dumps::open(dir.path()).unwrap();
        assert_eq!(dumps.reconcile(&ledger.state).unwrap(), Reconciled::default());
    }

    #[test]
    fn dump_says_that_its_block_was_orphaned_until_it_comes_back() {
        let dir = tempfile::tempdir().unwrap();
        let mut ledger = ledger();
        let mut dumps = Dumps::open(dir.path()).unwrap();
        let path = dumps.reconcile(&ledger.state).unwrap().written.remove(0);
        let before = fs::read_to_string(&path).unwrap();

        ledger.orphan(1);
        assert_eq!(dumps.reconcile(&ledger.state).unwrap().written, std::slice::from_ref(&path));
        let orphaned = fs::read_to_string(&path).unwrap();
        assert_eq!(orphaned, before.replace("  }\n}", "  },\n  \"status\": \"orphaned\"\n}"));

        ledger.confirm(1);
        dumps.reconcile(&ledger.state).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), before);
    }

    #[test]
    fn difficulty_is_decimal_and_exact_for_integers() {
        assert_eq!(difficulty(0), "0");
        assert_eq!(difficulty(1), "0.00000000023282709094019");
        assert_eq!(difficulty(u128::from(ONE) * 1_000_000), "1000000");
        assert_eq!(
            difficulty(u128::from(ONE) * 10u128.pow(18) + 3_000_000_000),
            "1000000000000000001"
        );
        // 2^256 / (target + 1) of the integer difficulties 65536, 999999 and 2^40.
        for (shown, extra) in [(65_536u128, 1), (999_999, 15), (1 << 40, 16_777_472)] {
            assert_eq!(difficulty(shown * WORK_OF_ONE + extra), shown.to_string());
        }
    }

    proptest! {
        #[test]
        fn difficulty_is_the_float_quotient(work in 1..1u128 << 100) {
            let shown: f64 = difficulty(work).parse().unwrap();
            let exact = work as f64 / WORK_OF_ONE as f64;
            prop_assert!((shown / exact - 1.0).abs() < 1e-13, "{} {}", shown, exact);
        }
    }
}
