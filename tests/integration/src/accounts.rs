//! What miners know of their shares, against what a ledger says.
//!
//! A share that was answered `true` must be in the ledger. One that was never answered, or whose answer says that
//! nobody knows, may be. No other may; and each at most once. Where a miner knows all its outcomes, that leaves one number.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::fs;
use std::path::Path;

use seam_load::account::HEADER;
use serde_json::Value;

/// The answer that does not say whether the share was counted: no quorum, or busy.
const UNDECIDED: i64 = 20;

/// Stale by now; but it may be the second time that a proxy sends it.
const STALE: i64 = 21;

/// Whom miners of an account connected to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Via {
    /// Nodes, which nobody sends a share to again.
    Nodes,
    /// Proxies, which do.
    Proxies,
}

/// Every share of some miners, by user.
#[derive(Clone, Debug, Default)]
pub struct Accounts {
    users: BTreeMap<String, HashMap<String, Share>>,
}

#[derive(Clone, Copy, Debug)]
struct Share {
    work: u128,
    fate: Fate,
}

/// What a miner knows of a share; of several answers the greatest holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fate {
    Refused,
    Unknown,
    Acknowledged,
}

/// Shares and their work, in expected hashes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sum {
    /// How many.
    pub shares: u64,
    /// Expected hashes.
    pub work: u128,
}

/// The miners' side in numbers.
#[derive(Clone, Copy, Debug, Default)]
pub struct Summary {
    /// Users.
    pub users: u64,
    /// Users that know the outcome of every share.
    pub exact: u64,
    /// Answered `true`.
    pub acknowledged: u64,
    /// Unanswered, or answered that nobody knows.
    pub unknown: u64,
    /// Refused for good.
    pub refused: u64,
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { users, exact, acknowledged, unknown, refused } = self;
        write!(
            f,
            "{acknowledged} acknowledged, {unknown} unknown, {refused} refused; {exact} of {users} users know all"
        )
    }
}

impl Accounts {
    /// Adds what a load generator wrote down.
    pub fn add_file(&mut self, path: &Path, via: Via) {
        let text = fs::read_to_string(path).unwrap();
        let mut lines = text.lines();
        assert_eq!(lines.next(), Some(HEADER), "{}", path.display());
        for line in lines {
            self.add_line(line, via);
        }
    }

    /// Adds other miners' shares, who have other users.
    pub fn add(&mut self, others: &Self) {
        self.users.extend(others.users.clone());
    }

    fn add_line(&mut self, line: &str, via: Via) {
        let fields: Vec<&str> = line.split(',').collect();
        let [hash, user, _session, work, answer, code, ..] = fields[..] else {
            panic!("not a line of an account: {line}");
        };
        let fate = match answer {
            "true" => Fate::Acknowledged,
            "none" => Fate::Unknown,
            _ => match code.parse::<i64>().unwrap() {
                UNDECIDED => Fate::Unknown,
                STALE if via == Via::Proxies => Fate::Unknown,
                _ => Fate::Refused,
            },
        };
        let work = work.parse().unwrap();
        let shares = self.users.entry(user.to_owned()).or_default();
        let share = shares.entry(hash.to_owned()).or_insert(Share { work, fate });
        share.fate = share.fate.max(fate);
    }

    /// The numbers.
    pub fn summary(&self) -> Summary {
        let mut summary = Summary { users: self.users.len() as u64, ..Summary::default() };
        for shares in self.users.values() {
            let count = |fate| shares.values().filter(|share| share.fate == fate).count() as u64;
            summary.acknowledged += count(Fate::Acknowledged);
            summary.refused += count(Fate::Refused);
            let unknown = count(Fate::Unknown);
            summary.unknown += unknown;
            summary.exact += u64::from(unknown == 0);
        }
        summary
    }

    /// Everything that is wrong with a ledger that says `rounds` (as `/v1/rounds` has it).
    ///
    /// # Errors
    /// A line for each user whose credit is not what it must be.
    pub fn check(&self, rounds: &Value) -> Result<(), Vec<String>> {
        let ledger = credit(rounds);
        let mut wrong: Vec<String> = Vec::new();
        for (user, shares) in &self.users {
            let sum = |least: Fate| {
                let counted = shares.values().filter(|share| share.fate >= least);
                counted.fold(Sum::default(), |sum, share| sum.plus(1, share.work))
            };
            let (least, most) = (sum(Fate::Acknowledged), sum(Fate::Unknown));
            let has = ledger.get(user).copied().unwrap_or_default();
            if has.shares < least.shares || has.work < least.work {
                wrong.push(format!("{user}: {has} in the ledger, {least} acknowledged"));
            }
            if has.shares > most.shares || has.work > most.work {
                wrong
                    .push(format!("{user}: {has} in the ledger, {most} submitted and not refused"));
            }
        }
        let strangers = ledger.iter().filter(|(user, _)| !self.users.contains_key(*user));
        wrong.extend(strangers.map(|(user, has)| format!("{user}: {has} in the ledger of nobody")));
        if wrong.is_empty() { Ok(()) } else { Err(wrong) }
    }
}

impl Sum {
    fn plus(self, shares: u64, work: u128) -> Self {
        Self { shares: self.shares + shares, work: self.work + work }
    }
}

impl fmt::Display for Sum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} shares of work {}", self.shares, self.work)
    }
}

/// The credit of every user, over all rounds: each share is in the current one or in one that is not orphaned.
fn credit(rounds: &Value) -> BTreeMap<String, Sum> {
    let past = rounds["past"].as_array().unwrap();
    assert!(past.len() < 1_000, "older rounds are not told: not all shares can be found");
    let standing = past.iter().filter(|round| round["status"] != "orphaned");
    let mut users: BTreeMap<String, Sum> = BTreeMap::new();
    for round in standing.chain([&rounds["current"]]) {
        for (user, credit) in round["users"].as_object().unwrap() {
            let work = credit["work"].as_str().unwrap().parse().unwrap();
            let sum = users.entry(user.clone()).or_default();
            *sum = sum.plus(credit["shares"].as_u64().unwrap(), work);
        }
    }
    users
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Al knows all of his: two counted, one refused. Bo has one counted and two that he knows nothing of.
    fn accounts() -> Accounts {
        let mut accounts = Accounts::default();
        for line in [
            "a1,al,0,100,true,0,1,2",
            "a2,al,0,50,none,0,1,2",
            "a2,al,0,50,true,0,1,2",
            "a3,al,0,100,false,23,1,2",
            "b1,bo,1,100,true,0,1,2",
            "b2,bo,1,100,none,0,1,2",
            "b3,bo,1,100,false,20,1,2",
        ] {
            accounts.add_line(line, Via::Nodes);
        }
        accounts
    }

    fn ledger(al: (u64, u64), bo: (u64, u64)) -> Value {
        let user = |(shares, work): (u64, u64)| json!({"shares": shares, "work": work.to_string()});
        json!({
            "current": {"users": {"bo": user(bo)}},
            "past": [
                {"status": "confirmed", "users": {"al": user(al)}},
                {"status": "orphaned", "users": {"al": user((7, 700)), "bo": user((7, 700))}},
            ],
        })
    }

    fn complaint(ledger: &Value) -> String {
        accounts().check(ledger).unwrap_err().join("\n")
    }

    #[test]
    fn ledger_with_what_miners_know_is_right_whatever_became_of_the_rest() {
        for bo in [(1, 100), (2, 200), (3, 300)] {
            assert_eq!(accounts().check(&ledger((2, 150), bo)), Ok(()));
        }
        let summary = accounts().summary();
        assert_eq!((summary.users, summary.exact), (2, 1));
        assert_eq!((summary.acknowledged, summary.unknown, summary.refused), (3, 2, 1));
    }

    #[test]
    fn stale_share_may_count_only_if_a_proxy_may_have_sent_it_before() {
        for (via, unknown, refused) in [(Via::Nodes, 0, 1), (Via::Proxies, 1, 0)] {
            let mut accounts = Accounts::default();
            accounts.add_line("a1,al,0,100,false,21,1,2", via);
            let summary = accounts.summary();
            assert_eq!((summary.unknown, summary.refused), (unknown, refused), "{via:?}");
        }
    }

    #[test]
    fn missing_share_is_found() {
        assert!(complaint(&ledger((1, 100), (1, 100))).contains("al: 1 shares"));
        assert!(complaint(&ledger((2, 150), (0, 0))).contains("bo: 0 shares"));
        assert!(complaint(&json!({"current": {"users": {}}, "past": []})).contains("al: 0 shares"));
    }

    #[test]
    fn share_counted_twice_is_found() {
        assert!(complaint(&ledger((3, 250), (1, 100))).contains("al: 3 shares"));
        assert!(complaint(&ledger((2, 150), (4, 400))).contains("bo: 4 shares"));
    }

    #[test]
    fn wrong_work_is_found_where_the_number_of_shares_is_right() {
        assert!(complaint(&ledger((2, 149), (1, 100))).contains("work 149"));
        assert!(complaint(&ledger((2, 151), (1, 100))).contains("work 151"));
    }

    #[test]
    fn credit_of_a_stranger_is_found() {
        let mut ledger = ledger((2, 150), (1, 100));
        ledger["current"]["users"]["eve"] = json!({"shares": 1, "work": "1"});
        assert!(complaint(&ledger).contains("eve: 1 shares"));
    }
}
