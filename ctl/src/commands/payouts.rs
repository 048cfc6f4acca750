//! `seamctl payouts`: a round as amounts, for people, spreadsheets and wallets.

use std::collections::BTreeMap;

use bitcoin::{Address, Amount, Network, ScriptBuf};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::admin::{Admin, escape};
use crate::cli::{PayoutFormat, PayoutsOptions};
use crate::failure::Failure;
use crate::print::{self, Output};

/// What the cluster computes. Amounts are in satoshi.
#[derive(Debug, Deserialize)]
struct Payouts {
    height: u32,
    hash: String,
    status: String,
    /// What the coinbase pays.
    reward: u64,
    /// What the pool keeps.
    fee: u64,
    users: Vec<Part>,
}

/// What one user gets.
#[derive(Debug, Deserialize)]
struct Part {
    user: String,
    shares: u64,
    /// Expected hashes, decimal.
    work: String,
    amount: u64,
}

/// Runs the command.
pub(crate) fn run(admin: &Admin, options: &PayoutsOptions, out: Output) -> Result<(), Failure> {
    if !is_percent(&options.fee) {
        return Err(Failure::Usage(format!(
            "--fee {:?}: expected 0 to 100 with at most four decimals",
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
            let outputs = outputs(&payouts, network(admin)?)?;
            for (address, amount) in &outputs.dust {
                eprintln!("seamctl: {address} is left out: {amount} satoshi are not relayed");
            }
            Output { json: true }.show(&outputs.list, String::new)
        }
        PayoutFormat::Table | PayoutFormat::Json => print::raw(describe(&payouts).as_bytes()),
    }
}

/// `0` to `100`, with at most four decimals: the cluster counts in millionths.
fn is_percent(text: &str) -> bool {
    let (whole, decimals) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    digits(whole)
        && digits(decimals)
        && decimals.len() <= 4
        && text.parse::<f64>().is_ok_and(|percent| percent <= 100.0)
}

fn describe(payouts: &Payouts) -> String {
    let mut lines = vec![["USER", "WORK", "AMOUNT (BTC)"].map(str::to_owned).to_vec()];
    lines.extend(payouts.users.iter().map(|p| vec![p.user.clone(), p.work.clone(), btc(p.amount)]));
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
    let mut text = "user,shares,work,amount\n".to_owned();
    for payout in &payouts.users {
        let Part { user, shares, work, amount } = payout;
        text.push_str(&format!("{},{shares},{work},{amount}\n", quoted(user)));
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

/// What a wallet can pay at once.
#[derive(Debug)]
struct Outputs {
    /// The `outputs` argument of Bitcoin Core's `createpsbt` and `walletcreatefundedpsbt`.
    list: Value,
    /// Addresses that would get less than the network relays, in satoshi.
    dust: Vec<(String, u64)>,
}

/// A list of `{"ADDRESS": BTC}`. Every user has to be an address of the chain; nobody is left out silently. An address
/// that comes in several spellings is paid once.
fn outputs(payouts: &Payouts, network: Network) -> Result<Outputs, Failure> {
    let mut by_script: BTreeMap<ScriptBuf, (Address, u64)> = BTreeMap::new();
    let mut strangers = Vec::new();
    for part in payouts.users.iter().filter(|part| part.amount > 0) {
        let address =
            part.user.parse().ok().and_then(|a: Address<_>| a.require_network(network).ok());
        match address {
            None => strangers.push(part.user.as_str()),
            Some(address) => {
                by_script.entry(address.script_pubkey()).or_insert((address, 0)).1 += part.amount;
            }
        }
    }
    if let Some(first) = strangers.first() {
        return Err(Failure::Refused(format!(
            "{} of {} users are no addresses of {network} ({first:?} for one): use --format csv \
             and your own list",
            strangers.len(),
            payouts.users.len()
        )));
    }
    let mut outputs = Outputs { list: Value::Null, dust: Vec::new() };
    let mut list = Vec::new();
    for (script, (address, amount)) in by_script {
        if Amount::from_sat(amount) < script.minimal_non_dust() {
            outputs.dust.push((address.to_string(), amount));
            continue;
        }
        // Digits as they are: a float could lose one.
        let value = serde_json::from_str(&btc(amount))
            .map_err(|error| Failure::Refused(error.to_string()))?;
        list.push(Value::Object(Map::from_iter([(address.to_string(), value)])));
    }
    outputs.list = Value::Array(list);
    Ok(outputs)
}

/// The chain that the cluster mines, as addresses know it.
fn network(admin: &Admin) -> Result<Network, Failure> {
    let status = admin.get("/v1/status")?;
    match status["chain"].as_str().unwrap_or_default() {
        "mainnet" => Ok(Network::Bitcoin),
        "testnet4" => Ok(Network::Testnet4),
        "signet" | "devnet" => Ok(Network::Signet),
        "regtest" => Ok(Network::Regtest),
        other => Err(Failure::Refused(format!("unknown chain {other:?}"))),
    }
}

fn btc(satoshi: u64) -> String {
    let coin = Amount::ONE_BTC.to_sat();
    format!("{}.{:08}", satoshi / coin, satoshi % coin)
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
            users: users
                .iter()
                .map(|(user, amount)| Part {
                    user: (*user).to_owned(),
                    shares: 3,
                    work: "1".to_owned(),
                    amount: *amount,
                })
                .collect(),
        }
    }

    #[test]
    fn fee_is_a_percentage_with_four_decimals() {
        for good in ["0", "1", "1.5", "2.0625", "100", "100.00"] {
            assert!(is_percent(good), "{good}");
        }
        for bad in ["", "-1", "101", "100.01", "1.23456", "x", "1.", ".5", "1e1", "inf"] {
            assert!(!is_percent(bad), "{bad}");
        }
    }

    #[test]
    fn user_name_cannot_leave_its_csv_field() {
        let text = csv(&payouts(&[("a,\"b\"", 1), ("=cmd()", 2)]));
        assert_eq!(text, "user,shares,work,amount\n\"a,\"\"b\"\"\",3,1,1\n'=cmd(),3,1,2\n");
    }

    #[test]
    fn outputs_are_exact_and_leave_nobody_out_silently() {
        let address = "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080";
        let twice = payouts(&[(address, 123_456_000), (&address.to_uppercase(), 789)]);
        let paid = outputs(&twice, Network::Regtest).unwrap();
        assert_eq!(paid.list.to_string(), format!(r#"[{{"{address}":1.23456789}}]"#));
        let dust = outputs(&payouts(&[(address, 7)]), Network::Regtest).unwrap();
        assert_eq!((dust.list.to_string().as_str(), dust.dust), ("[]", vec![(address.into(), 7)]));
        assert!(outputs(&payouts(&[(address, 1), ("bob", 2)]), Network::Regtest).is_err());
        assert!(outputs(&payouts(&[(address, 1)]), Network::Bitcoin).is_err());
    }
}
