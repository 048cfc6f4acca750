//! From a round to amounts per user: integer satoshi that sum to exactly the reward less the fee.
//!
//! A user's part is `distributed × work / total work`, rounded down. What rounding leaves, less
//! than one satoshi a user, goes one satoshi each to the users with the largest remainders; equal
//! remainders are ordered by name. The fee is rounded down, in favour of the users.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::str::FromStr;

use bitcoin::address::NetworkUnchecked;
use bitcoin::{Address, Amount, Network};
use serde::Serialize;

use crate::ledger::{Credit, Round, Status, Users};

/// What the pool keeps, in millionths of the reward.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fee {
    ppm: u32,
}

impl Fee {
    /// The fee of a reward in satoshi, rounded down.
    pub fn of(self, reward: u64) -> u64 {
        (u128::from(reward) * u128::from(self.ppm) / 1_000_000) as u64
    }
}

/// From a percentage: a decimal number from 0 to 100 with up to four decimals.
impl FromStr for Fee {
    type Err = PayoutError;

    fn from_str(percent: &str) -> Result<Self, PayoutError> {
        let bad = || PayoutError::BadFee(percent.to_owned());
        let (whole, decimals) = percent.split_once('.').unwrap_or((percent, "0"));
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        if !digits(whole) || !digits(decimals) || whole.len() > 3 || decimals.len() > 4 {
            return Err(bad());
        }
        let whole: u32 = whole.parse().map_err(|_| bad())?;
        let decimals: u32 = format!("{decimals:0<4}").parse().map_err(|_| bad())?;
        let ppm = whole * 10_000 + decimals;
        if ppm <= 1_000_000 { Ok(Self { ppm }) } else { Err(bad()) }
    }
}

/// Why there are no amounts.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PayoutError {
    /// The fee does not parse.
    #[error("{0:?} is not a fee: give a percentage from 0 to 100 with up to four decimals")]
    BadFee(String),
    /// The block is not in the chain.
    #[error("block {0} is orphaned: its shares were returned to the round that was current then")]
    Orphaned(String),
    /// No work to divide by.
    #[error("the round of block {0} has no shares: its reward is the operator's to give")]
    Empty(String),
    /// Its shares were paid with another block.
    #[error(
        "the shares of block {hash} were paid with round {round} while it was orphaned: \
         its reward is the operator's to give"
    )]
    PaidWith {
        /// The block.
        hash: String,
        /// The round.
        round: u64,
    },
    /// Only totals are remembered.
    #[error("the ledger no longer remembers the users of block {0}: see its file in shares/")]
    Forgotten(String),
    /// More work than there can be.
    #[error("the round's work is beyond 2^120 hashes")]
    TooMuchWork,
}

/// What each user of a round gets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Payout {
    /// Height of the round's block.
    pub height: u32,
    /// Its hash.
    pub hash: String,
    /// `pending`, `confirmed` or `mature`: only then can the reward be spent.
    pub status: &'static str,
    /// What the coinbase pays, in satoshi.
    pub reward: u64,
    /// What the pool keeps, in satoshi.
    pub fee: u64,
    /// What is distributed, in satoshi: the sum of all amounts.
    pub distributed: u64,
    /// Users by name.
    pub users: Vec<Part>,
}

/// What one user gets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Part {
    /// The user's name.
    pub user: String,
    /// Shares.
    pub shares: u64,
    /// Expected hashes, as a decimal number in a string.
    #[serde(serialize_with = "as_string")]
    pub work: u128,
    /// Satoshi.
    pub amount: u64,
}

/// What can be paid to an address at once, and what can't.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Outputs {
    /// Bitcoin per address, as decimal numbers: what the RPC `walletcreatefundedpsbt` takes as
    /// outputs.
    #[serde(serialize_with = "as_outputs")]
    pub outputs: Vec<(String, u64)>,
    /// Satoshi of users whose address would get less than the network relays.
    pub dust: BTreeMap<String, u64>,
    /// Satoshi of users whose name is not an address of this chain.
    pub no_address: BTreeMap<String, u64>,
}

impl Payout {
    /// Computes the amounts of a round.
    ///
    /// # Errors
    ///
    /// When the round's shares are elsewhere, forgotten, or none.
    pub fn of(round: &Round, users: &Users, fee: Fee) -> Result<Self, PayoutError> {
        let hash = round.block.hash.to_string();
        if round.status.is_orphaned() {
            return Err(PayoutError::Orphaned(hash));
        }
        if let Some(round) = round.paid_with {
            return Err(PayoutError::PaidWith { hash, round });
        }
        let Some(detail) = &round.detail else { return Err(PayoutError::Forgotten(hash)) };
        let mut parts: Vec<(&str, Credit)> = detail
            .iter()
            .filter_map(|(id, credit)| Some((&*users.by_id(id)?.name, credit)))
            .collect();
        parts.sort_unstable_by_key(|(name, _)| *name);
        let reward = round.block.reward;
        let kept = fee.of(reward);
        let work: Vec<_> = parts.iter().map(|(_, credit)| credit.work).collect();
        let amounts = divide(reward - kept, &work)?.ok_or(PayoutError::Empty(hash.clone()))?;
        let part = |((user, credit), amount): (&(&str, Credit), u64)| Part {
            user: (*user).to_owned(),
            shares: credit.shares,
            work: credit.work,
            amount,
        };
        Ok(Self {
            height: round.block.height,
            hash,
            status: Status::as_str(round.status),
            reward,
            fee: kept,
            distributed: reward - kept,
            users: parts.iter().zip(amounts).map(part).collect(),
        })
    }

    /// `user,shares,work,amount` with a header line, as RFC 4180 has it. A name that a spreadsheet
    /// would take for a formula is preceded by an apostrophe.
    pub fn csv(&self) -> String {
        let mut csv = String::from("user,shares,work,amount\r\n");
        for Part { user, shares, work, amount } in &self.users {
            let guard = if user.starts_with(['=', '+', '-', '@']) { "'" } else { "" };
            let user = user.replace('"', "\"\"");
            // Writing to a string never fails.
            let _ = write!(csv, "\"{guard}{user}\",{shares},{work},{amount}\r\n");
        }
        csv
    }

    /// Amounts to addresses, for users whose name is an address of the chain. An address that
    /// comes under several spellings gets one output.
    pub fn outputs(&self, network: Network) -> Outputs {
        let mut outputs = Outputs::default();
        let mut by_address: BTreeMap<String, (Address, Vec<&Part>)> = BTreeMap::new();
        for part in self.users.iter().filter(|part| part.amount > 0) {
            let address = part.user.parse::<Address<NetworkUnchecked>>();
            match address.map(|address| address.require_network(network)) {
                Ok(Ok(address)) => {
                    let entry = by_address.entry(address.to_string());
                    entry.or_insert((address, Vec::new())).1.push(part);
                }
                _ => {
                    outputs.no_address.insert(part.user.clone(), part.amount);
                }
            }
        }
        for (text, (address, parts)) in by_address {
            let amount = parts.iter().map(|part| part.amount).sum();
            if Amount::from_sat(amount) < address.script_pubkey().minimal_non_dust() {
                let each = parts.iter().map(|part| (part.user.clone(), part.amount));
                outputs.dust.extend(each);
            } else {
                outputs.outputs.push((text, amount));
            }
        }
        outputs
    }
}

/// Divides an amount by work; `None` if there is no work.
fn divide(amount: u64, work: &[u128]) -> Result<Option<Vec<u64>>, PayoutError> {
    let total = work.iter().try_fold(0u128, |sum, &work| {
        sum.checked_add(work).filter(|&sum| sum <= MAX_WORK).ok_or(PayoutError::TooMuchWork)
    })?;
    if total == 0 {
        return Ok(None);
    }
    let (mut amounts, mut remainders) = (Vec::new(), Vec::new());
    for (place, &work) in work.iter().enumerate() {
        let (part, remainder) = multiply_divide(amount, work, total);
        amounts.push(part);
        remainders.push((remainder, place));
    }
    let left = amount - amounts.iter().sum::<u64>();
    remainders.sort_unstable_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(&b.1)));
    for (_, place) in remainders.into_iter().take(left as usize) {
        amounts[place] += 1;
    }
    Ok(Some(amounts))
}

/// So that twice the total and a user's work still fit 128 bits.
const MAX_WORK: u128 = 1 << 120;

/// `amount × work / total` and its remainder, exactly: long division, one bit of `amount` a time.
fn multiply_divide(amount: u64, work: u128, total: u128) -> (u64, u128) {
    let (mut quotient, mut remainder) = (0u64, 0u128);
    for bit in (0..64).rev() {
        let carried = 2 * remainder + if amount >> bit & 1 == 1 { work } else { 0 };
        quotient = 2 * quotient + (carried / total) as u64;
        remainder = carried % total;
    }
    (quotient, remainder)
}

fn as_string<S: serde::Serializer>(work: &u128, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(work)
}

fn as_outputs<S: serde::Serializer>(
    outputs: &[(String, u64)],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(outputs.iter().map(|(address, amount)| {
        let amount = format!("{}.{:08}", amount / 100_000_000, amount % 100_000_000);
        BTreeMap::from([(address, amount)])
    }))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ledger::State;
    use crate::ledger::testing::Ledger;

    fn round(users: &[(&str, u64)]) -> State {
        let mut ledger = Ledger::new();
        for (name, work) in users {
            let user = ledger.user(name);
            ledger.share(user, *work);
        }
        ledger.block(7, 1);
        ledger.state
    }

    fn payout(state: &State, fee: &str) -> Result<Payout, PayoutError> {
        let round = state.rounds().closed().next().unwrap();
        Payout::of(round, state.users(), fee.parse().unwrap())
    }

    #[test]
    fn amounts_sum_to_the_reward_less_the_fee_and_ties_go_by_name() {
        let state = round(&[("carol", 1), ("alice", 1), ("bob", 1)]);
        let payout = payout(&state, "1.5").unwrap();
        assert_eq!((payout.reward, payout.fee), (5_000_000_000, 75_000_000));
        assert_eq!(payout.distributed, 4_925_000_000);
        let parts: Vec<_> = payout.users.iter().map(|p| (p.user.as_str(), p.amount)).collect();
        let expected = [("alice", 1_641_666_667), ("bob", 1_641_666_667), ("carol", 1_641_666_666)];
        assert_eq!(parts, expected);
    }

    #[test]
    fn round_without_shares_pays_nobody() {
        let state = round(&[]);
        assert!(matches!(payout(&state, "0"), Err(PayoutError::Empty(_))));
    }

    #[test]
    fn orphan_pays_nobody() {
        let mut ledger = Ledger::new();
        let alice = ledger.user("alice");
        ledger.share(alice, 1);
        ledger.block(7, 1);
        ledger.orphan(1);
        assert!(matches!(payout(&ledger.state, "0"), Err(PayoutError::Orphaned(_))));
    }

    #[test]
    fn fee_is_exact_and_bounded() {
        let fee = |text: &str| text.parse::<Fee>();
        assert_eq!(fee("2").unwrap().of(101), 2);
        assert_eq!(fee("0.0001").unwrap().of(1_000_000), 1);
        assert_eq!(fee("100").unwrap().of(u64::MAX), u64::MAX);
        for bad in ["", "-1", "100.0001", "1.00001", "1e2", ".", "1.", "1%", "1000"] {
            assert!(fee(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn outputs_go_to_addresses_once_each_and_dust_is_told() {
        let address = "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080";
        let upper = address.to_uppercase();
        let small = "bcrt1qrp33g0q5c5txsp9arysrx4k6zdkfs4nce4xj0gdcccefvpysxf3qzf4jry";
        let state =
            round(&[(address, 1 << 40), (&upper, 1 << 40), (small, 70_000), ("bob", 1 << 40)]);
        let payout = payout(&state, "0").unwrap();
        let outputs = payout.outputs(Network::Regtest);
        assert_eq!(outputs.outputs.len(), 1);
        assert_eq!(outputs.outputs[0].0, address);
        assert_eq!(outputs.no_address.keys().collect::<Vec<_>>(), ["bob"]);
        let sum = outputs.outputs[0].1
            + outputs.no_address.values().sum::<u64>()
            + outputs.dust.values().sum::<u64>();
        assert_eq!(sum, payout.distributed);
        let json = serde_json::to_value(&outputs).unwrap();
        assert_eq!(outputs.dust.keys().collect::<Vec<_>>(), [small]);
        assert_eq!(json["outputs"][0][address], "33.33333263");
        assert_eq!(payout.outputs(Network::Bitcoin).outputs, []);
    }

    #[test]
    fn csv_quotes_names_and_disarms_formulas() {
        let state = round(&[("=1+\"2\",3", 1)]);
        let csv = payout(&state, "0").unwrap().csv();
        let expected = "user,shares,work,amount\r\n\"'=1+\"\"2\"\",3\",1,1,5000000000\r\n";
        assert_eq!(csv, expected);
    }

    proptest! {
        #[test]
        fn payout_is_exact_and_fair(
            amount in 0..2_100_000_000_000_000u64,
            work in prop::collection::vec(0..1u128 << 110, 1..50),
        ) {
            let total: u128 = work.iter().sum();
            prop_assume!(total > 0);
            let amounts = divide(amount, &work).unwrap().unwrap();
            prop_assert_eq!(amounts.iter().sum::<u64>(), amount);
            for (part, work) in amounts.iter().zip(&work) {
                let (floor, remainder) = multiply_divide(amount, *work, total);
                prop_assert!(*part == floor || (*part == floor + 1 && remainder > 0));
            }
        }

        #[test]
        fn long_division_is_division(amount: u64, work: u64, more: u64) {
            let total = u128::from(work) + u128::from(more) + 1;
            let product = u128::from(amount) * u128::from(work);
            let expected = ((product / total) as u64, product % total);
            prop_assert_eq!(multiply_divide(amount, work.into(), total), expected);
        }
    }
}
