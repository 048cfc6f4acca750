//! `seamctl payouts`: a round as amounts, for people, spreadsheets and wallets.

use std::str::FromStr;

use bitcoin::{Address, Amount};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::admin::{Admin, escape};
use crate::cli::{PayoutFormat, PayoutsOptions};
use crate::failure::Failure;
use crate::print::{self, Output};

/// What the cluster computes. Amounts are in satoshi.
#[derive(Debug, Deserialize, Serialize)]
struct Payouts {
    height: u32,
    hash: String,
    status: String,
    /// What the coinbase pays.
    reward: u64,
    /// What the pool keeps.
    fee: u64,
    payouts: Vec<Payout>,
}

/// One user's part.
#[derive(Debug, Deserialize, Serialize)]
struct Payout {
    user: String,
    /// Expected hashes, decimal.
    work: String,
    amount: u64,
}

/// Runs the command.
pub(crate) fn run(admin: &Admin, options: &PayoutsOptions, out: Output) -> Result<(), Failure> {
    if !is_percent(&options.fee) {
        return Err(Failure::Usage(format!(
            "--fee {:?}: expected 0 to 100 with at most two decimals",
            options.fee
        )));
    }
    let path = format!("/v1/payouts?height={}&fee={}", options.height, escape(&options.fee));
    let answer = admin.get(&path)?;
    let format = if out.json { PayoutFormat::Json } else { options.format };
    if format == PayoutFormat::Json {
        return Output { json: true }.show(&answer, String::new);
    }
    let payouts: Payouts = serde_json::from_value(answer)
        .map_err(|error| Failure::Refused(format!("the answer is not understood: {error}")))?;
    match format {
        PayoutFormat::Csv => print::raw(csv(&payouts).as_bytes()),
        PayoutFormat::Outputs => {
            let outputs = outputs(&payouts)?;
            Output { json: true }.show(&outputs, String::new)
        }
        PayoutFormat::Table | PayoutFormat::Json => print::raw(describe(&payouts).as_bytes()),
    }
}

/// `0` to `100`, with at most two decimals.
fn is_percent(text: &str) -> bool {
    let (whole, decimals) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    digits(whole)
        && digits(decimals)
        && decimals.len() <= 2
        && text.parse::<f64>().is_ok_and(|percent| percent <= 100.0)
}

fn describe(payouts: &Payouts) -> String {
    let mut lines = vec![["USER", "WORK", "AMOUNT (BTC)"].map(str::to_owned).to_vec()];
    lines.extend(
        payouts.payouts.iter().map(|p| vec![p.user.clone(), p.work.clone(), btc(p.amount)]),
    );
    format!(
        "block {} {} ({}): reward {}, fee {}\n{}",
        payouts.height,
        payouts.hash,
        payouts.status,
        btc(payouts.reward),
        btc(payouts.fee),
        print::align(&lines)
    )
}

fn csv(payouts: &Payouts) -> String {
    let mut text = "user,work,satoshi\n".to_owned();
    for payout in &payouts.payouts {
        text.push_str(&format!("{},{},{}\n", quoted(&payout.user), payout.work, payout.amount));
    }
    text
}

/// A CSV field (RFC 4180). A leading sign would be a formula to a spreadsheet, and a user name comes from
/// anyone: a quote in front keeps it text.
fn quoted(field: &str) -> String {
    let text = if field.starts_with(['=', '+', '-', '@', '\t', '\r']) {
        format!("'{field}")
    } else {
        field.to_owned()
    };
    if text.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text
    }
}

/// The `outputs` argument of Bitcoin Core's `createpsbt` and `walletcreatefundedpsbt`: a list of
/// `{"ADDRESS": BTC}`. Every user has to be an address; nobody is left out silently.
fn outputs(payouts: &Payouts) -> Result<Value, Failure> {
    let strangers: Vec<&str> = payouts
        .payouts
        .iter()
        .map(|payout| payout.user.as_str())
        .filter(|user| Address::from_str(user).is_err())
        .collect();
    if let Some(first) = strangers.first() {
        return Err(Failure::Refused(format!(
            "{} of {} users are no addresses ({first:?} for one): use --format csv and your own list",
            strangers.len(),
            payouts.payouts.len()
        )));
    }
    payouts
        .payouts
        .iter()
        .filter(|payout| payout.amount > 0)
        .map(|payout| {
            // Digits as they are: a float could lose one.
            let amount = serde_json::from_str(&btc(payout.amount))
                .map_err(|error| Failure::Refused(error.to_string()))?;
            Ok(Value::Object(Map::from_iter([(payout.user.clone(), amount)])))
        })
        .collect::<Result<Vec<_>, _>>()
        .map(Value::Array)
}

fn btc(satoshi: u64) -> String {
    let amount = Amount::from_sat(satoshi);
    format!("{}.{:08}", amount.to_sat() / 100_000_000, amount.to_sat() % 100_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payouts(users: &[(&str, u64)]) -> Payouts {
        Payouts {
            height: 7,
            hash: "00ab".to_owned(),
            status: "pending".to_owned(),
            reward: 5_000_000_000,
            fee: 0,
            payouts: users
                .iter()
                .map(|(user, amount)| Payout {
                    user: (*user).to_owned(),
                    work: "1".to_owned(),
                    amount: *amount,
                })
                .collect(),
        }
    }

    #[test]
    fn fee_is_a_percentage_with_two_decimals() {
        for good in ["0", "1", "1.5", "2.25", "100", "100.00"] {
            assert!(is_percent(good), "{good}");
        }
        for bad in ["", "-1", "101", "100.01", "1.234", "x", "1.", ".5", "1e1", "inf"] {
            assert!(!is_percent(bad), "{bad}");
        }
    }

    #[test]
    fn user_name_cannot_leave_its_csv_field() {
        let text = csv(&payouts(&[("a,\"b\"", 1), ("=cmd()", 2)]));
        assert_eq!(text, "user,work,satoshi\n\"a,\"\"b\"\"\",1,1\n'=cmd(),1,2\n");
    }

    #[test]
    fn outputs_are_exact_and_leave_nobody_out_silently() {
        let address = "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080";
        let list = outputs(&payouts(&[(address, 123_456_789)])).unwrap();
        assert_eq!(list.to_string(), format!(r#"[{{"{address}":1.23456789}}]"#));
        assert!(outputs(&payouts(&[(address, 1), ("bob", 2)])).is_err());
    }
}
