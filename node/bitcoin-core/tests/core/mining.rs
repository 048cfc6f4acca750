//! Templates, blocks, transactions.

use std::thread;
use std::time::Duration;

use bitcoin::consensus::encode::{deserialize, serialize};
use bitcoin::hashes::Hash;
use bitcoin::{Address, Amount, Block, Network, OutPoint, Transaction};
use seam_bitcoin_core::{
    BlockCheck, BlockHash, BlockOutcome, Chain, Core, Error, Options, TemplateOptions, Txid, Wtxid,
};

use crate::support::{
    DEADLINE, Wallet, assert_sound, coinbase, hash_of, mine, options, solve, start, submit,
};

#[test]
fn blocks_are_mined_and_followed() {
    let (core, _dir) = start();
    let script = Wallet::new().segwit_script();
    let blocks: Vec<Block> = (0..20).map(|_| mine(&core, &script)).collect();

    let status = core.status().unwrap();
    assert_eq!(status.tip.height, 20);
    assert_eq!(status.tip.hash, hash_of(&blocks[19]));
    assert_eq!(status.tip.time, blocks[19].header.time);
    assert!(!status.initial_block_download);

    let known = core.block(hash_of(&blocks[4])).unwrap().unwrap();
    assert_eq!((known.height, known.confirmations), (5, 16));
    assert!(known.in_active_chain() && known.has_data && !known.is_invalid);
    assert_eq!(known.previous, hash_of(&blocks[3]));
    assert_eq!(core.block_hash_at(5).unwrap(), Some(hash_of(&blocks[4])));
    assert_eq!(core.block_hash_at(21).unwrap(), None);
    assert_eq!(core.block_hash_at(u32::MAX).unwrap(), None);
    assert_eq!(core.block(BlockHash([1; 32])).unwrap(), None);
    let read = core.read_block(hash_of(&blocks[4])).unwrap().unwrap();
    assert_eq!(deserialize::<Block>(&read).unwrap(), blocks[4]);
    assert_eq!(core.read_block(BlockHash([1; 32])).unwrap(), None);
    core.stop().unwrap();
}

#[test]
fn chain_is_on_disk_once_it_was_stored() {
    let (core, _dir) = start();
    let script = Wallet::new().segwit_script();
    let blocks: Vec<Block> = (0..3).map(|_| mine(&core, &script)).collect();
    assert_ne!(core.stored_tip().unwrap(), Some(hash_of(&blocks[2])), "nothing was written yet");
    core.store().unwrap();
    assert_eq!(core.stored_tip().unwrap(), Some(hash_of(&blocks[2])));
    mine(&core, &script);
    assert_eq!(core.stored_tip().unwrap(), Some(hash_of(&blocks[2])));
    core.stop().unwrap();
}

#[test]
fn every_kind_of_submission_gets_its_verdict() {
    let (core, _dir) = start();
    let script = Wallet::new().segwit_script();
    let template = core.template(&TemplateOptions::default()).unwrap();
    let first = solve(&template, coinbase(&template, &script, b"first"));
    let second = solve(&template, coinbase(&template, &script, b"second"));

    assert_eq!(core.submit_block(&serialize(&first)).unwrap(), BlockOutcome::Accepted);
    assert_eq!(core.submit_block(&serialize(&first)).unwrap(), BlockOutcome::Duplicate);
    assert_eq!(submit(&core, &template, &first), BlockOutcome::Duplicate);
    // As much work as the tip, but later.
    assert_eq!(submit(&core, &template, &second), BlockOutcome::Inconclusive);
    let stale = core.block(hash_of(&second)).unwrap().unwrap();
    assert!(!stale.in_active_chain() && stale.has_data);

    let template = core.template(&TemplateOptions::default()).unwrap();
    let good = solve(&template, coinbase(&template, &script, b"third"));
    let mut old = template.clone();
    old.time = template.min_time - 1;
    let mut greedy = template.clone();
    greedy.reward += 1;
    for (bad, reason) in [(old, "time-too-old"), (greedy, "bad-cb-amount")] {
        let block = solve(&bad, coinbase(&bad, &script, b"bad"));
        let outcome = submit(&core, &template, &block);
        let BlockOutcome::Rejected { reason: given } = outcome else { panic!("{outcome:?}") };
        assert!(given.starts_with(reason), "{given}");
    }
    let mut no_work = good.clone();
    while no_work.header.validate_pow(no_work.header.target()).is_ok() {
        no_work.header.nonce += 1;
    }
    let outcome = core.submit_block(&serialize(&no_work)).unwrap();
    assert!(
        matches!(&outcome, BlockOutcome::Rejected { reason } if reason.starts_with("high-hash"))
    );

    let bytes = serialize(&good);
    for malformed in [&bytes[..bytes.len() - 1], &[bytes.as_slice(), &[0]].concat(), &[], b"block"]
    {
        assert_eq!(core.submit_block(malformed), Err(Error::Malformed("block")));
        assert_eq!(core.check_block(malformed, true, true), Err(Error::Malformed("block")));
        let result = core.submit_solution(&template, 1, 1, 1, malformed);
        assert_eq!(result, Err(Error::Malformed("coinbase transaction")));
    }
    assert_eq!(core.status().unwrap().tip.height, 1);
    assert_eq!(submit(&core, &template, &good), BlockOutcome::Accepted);
    core.stop().unwrap();
}

#[test]
fn a_block_can_be_checked_before_it_is_solved() {
    let (core, _dir) = start();
    let script = Wallet::new().segwit_script();
    let template = core.template(&TemplateOptions::default()).unwrap();
    let mut block = solve(&template, coinbase(&template, &script, b"seam"));
    assert_eq!(core.check_block(&serialize(&block), true, true).unwrap(), BlockCheck::Valid);
    while block.header.validate_pow(block.header.target()).is_ok() {
        block.header.nonce += 1;
    }
    assert_eq!(core.check_block(&serialize(&block), false, true).unwrap(), BlockCheck::Valid);
    let check = core.check_block(&serialize(&block), true, true).unwrap();
    assert!(matches!(&check, BlockCheck::Invalid { reason } if reason.starts_with("high-hash")));
    block.txdata[0].output[0].value += Amount::ONE_SAT;
    assert!(matches!(
        core.check_block(&serialize(&block), false, true).unwrap(),
        BlockCheck::Invalid { .. }
    ));
    assert_eq!(core.check_template(&template).unwrap(), BlockCheck::Valid);
    assert_eq!(core.status().unwrap().tip.height, 0, "checking is not submitting");

    mine(&core, &script);
    assert_eq!(core.check_template(&template).unwrap(), BlockCheck::NotOnTip);
    assert_eq!(core.check_block(&serialize(&block), false, true).unwrap(), BlockCheck::NotOnTip);
    core.stop().unwrap();
}

#[test]
fn a_longer_branch_reorganizes_our_block_out() {
    let (core, _dir) = start();
    let script = Wallet::new().segwit_script();
    let template = core.template(&TemplateOptions::default()).unwrap();
    let ours = solve(&template, coinbase(&template, &script, b"ours"));
    let theirs = solve(&template, coinbase(&template, &script, b"theirs"));
    assert_eq!(submit(&core, &template, &ours), BlockOutcome::Accepted);
    assert_eq!(submit(&core, &template, &theirs), BlockOutcome::Inconclusive);

    let mut next = core.template(&TemplateOptions::default()).unwrap();
    assert_eq!(next.previous, hash_of(&ours));
    next.previous = hash_of(&theirs);
    let longer = solve(&next, coinbase(&next, &script, b"longer"));
    assert_eq!(core.submit_block(&serialize(&longer)).unwrap(), BlockOutcome::Accepted);

    assert!(!core.block(hash_of(&ours)).unwrap().unwrap().in_active_chain());
    assert_eq!(core.block(hash_of(&theirs)).unwrap().unwrap().confirmations, 2);
    assert_eq!(core.status().unwrap().tip.hash, hash_of(&longer));
    core.stop().unwrap();
}

/// A coinbase output of the wallet that may be spent.
fn matured(core: &Core, script: &bitcoin::ScriptBuf) -> Block {
    let block = mine(core, script);
    for _ in 0..100 {
        mine(core, script);
    }
    block
}

fn first_output(block: &Block) -> (OutPoint, Amount) {
    let coinbase = &block.txdata[0];
    (OutPoint::new(coinbase.compute_txid(), 0), coinbase.output[0].value)
}

fn wtxid(transaction: &Transaction) -> Wtxid {
    transaction.compute_wtxid().to_byte_array().into()
}

#[test]
fn transactions_and_their_fees_are_mined() {
    let (core, _dir) = start();
    let wallet = Wallet::new();
    let (segwit, taproot) = (wallet.segwit_script(), wallet.taproot_script());
    let (from, value) = first_output(&matured(&core, &segwit));

    let fees = [Amount::from_sat(10_000), Amount::from_sat(5_000)];
    let parent = wallet.spend_segwit(from, value, fees[0], &taproot, 1);
    let child_from = OutPoint::new(parent.compute_txid(), 0);
    let child = wallet.spend_taproot(child_from, value - fees[0], fees[1], &segwit, 1);
    for transaction in [&parent, &child] {
        let txid = core.submit_transaction(&serialize(transaction), 0).unwrap();
        assert_eq!(txid, Txid(transaction.compute_txid().to_byte_array()));
    }
    let status = core.status().unwrap();
    assert_eq!(status.mempool_transactions, 2);
    assert_eq!(status.mempool_bytes, u64::try_from(parent.vsize() + child.vsize()).unwrap());

    let options = TemplateOptions { use_mempool: false, ..TemplateOptions::default() };
    let empty = core.template(&options).unwrap();
    assert_eq!((empty.transaction_count, empty.fees), (0, 0));
    assert!(empty.merkle_branch.is_empty());

    let template = core.template(&TemplateOptions::default()).unwrap();
    assert_eq!((template.transaction_count, template.fees), (2, 15_000));
    assert_eq!(template.reward, empty.reward + 15_000);
    assert!(template.coinbase.witness_reserved.is_some());
    let transactions = template.transactions().unwrap();
    for (given, (expected, fee)) in transactions.iter().zip([(&parent, 10_000), (&child, 5_000)]) {
        assert_eq!(*given.data, *serialize(expected));
        assert_eq!(given.wtxid, wtxid(expected));
        assert_eq!(given.txid.0, expected.compute_txid().to_byte_array());
        assert_eq!((given.fee, given.sigops), (fee, u64::from(fee == 10_000)));
    }
    assert_eq!(template.wtxids().unwrap(), [wtxid(&parent), wtxid(&child)]);
    assert_eq!(core.check_template(&template).unwrap(), BlockCheck::Valid);
    let unknown = Wtxid([9; 32]);
    let fetched = core.transactions_by_wtxid(&[wtxid(&child), unknown]).unwrap();
    assert_eq!(fetched, [Some(serialize(&child)), None]);

    let block = mine(&core, &segwit);
    assert_eq!(block.txdata[1..], [parent, child.clone()]);
    assert_eq!(block.txdata[0].output[0].value.to_sat(), template.reward);
    assert_eq!(core.status().unwrap().mempool_transactions, 0);
    let fetched = core.transactions_by_wtxid(&[wtxid(&child)]).unwrap();
    assert_eq!(fetched, [Some(serialize(&child))], "the old template still has it");
    drop(template);
    assert_eq!(core.transactions_by_wtxid(&[wtxid(&child)]).unwrap(), [None]);
    core.stop().unwrap();
}

#[test]
fn transactions_that_break_the_rules_are_refused() {
    let (core, _dir) = start();
    let wallet = Wallet::new();
    let script = wallet.segwit_script();
    let (from, value) = first_output(&matured(&core, &script));
    let fee = Amount::from_sat(1_000);

    let missing = OutPoint::new(from.txid, 7);
    let mut unsigned = wallet.spend_segwit(from, value, fee, &script, 1);
    unsigned.input[0].witness.clear();
    for (transaction, reason) in [
        (wallet.spend_segwit(missing, value, fee, &script, 1), "missing"),
        (wallet.spend_segwit(from, value, Amount::ZERO, &script, 1), "min relay fee"),
        (unsigned, "script-verify-flag"),
    ] {
        let result = core.submit_transaction(&serialize(&transaction), 0);
        let Err(Error::Rejected(given)) = result else { panic!("{result:?}") };
        assert!(given.contains(reason), "{given}");
    }
    let good = serialize(&wallet.spend_segwit(from, value, fee, &script, 1));
    assert!(matches!(core.submit_transaction(&good, 999), Err(Error::Rejected(_))));
    assert_eq!(core.submit_transaction(&good[1..], 0), Err(Error::Malformed("transaction")));
    assert!(core.submit_transaction(&good, 1_000).is_ok());
    assert!(core.submit_transaction(&good, 0).is_ok(), "again is no error");
    core.stop().unwrap();
}

#[test]
fn a_new_tip_wakes_who_waits_for_it() {
    let (core, _dir) = start();
    let known = core.status().unwrap().tip;
    assert_eq!(core.wait_for_tip(known.hash, Duration::from_millis(20)).unwrap(), None);
    let waiting = core.clone();
    let wait = thread::spawn(move || waiting.wait_for_tip(known.hash, DEADLINE));
    let block = mine(&core, &Wallet::new().segwit_script());
    let tip = wait.join().unwrap().unwrap().unwrap();
    assert_eq!((tip.hash, tip.height), (hash_of(&block), 1));
    assert_eq!(tip.time, block.header.time);
    let at_once = core.wait_for_tip(known.hash, Duration::ZERO).unwrap().unwrap();
    assert_eq!(at_once, tip);
    core.stop().unwrap();
}

#[test]
fn a_better_template_is_waited_for() {
    let (core, _dir) = start();
    let wallet = Wallet::new();
    let script = wallet.segwit_script();
    let (from, value) = first_output(&matured(&core, &script));
    let template = core.template(&TemplateOptions::default()).unwrap();
    let fee = Amount::from_sat(5_000);
    let spend = wallet.spend_segwit(from, value, fee, &script, 1);
    core.submit_transaction(&serialize(&spend), 0).unwrap();

    let short = Duration::from_millis(1_100);
    assert!(core.wait_for_template(&template, Some(5_001), short).unwrap().is_none());
    let better = core.wait_for_template(&template, Some(5_000), DEADLINE).unwrap().unwrap();
    assert_eq!((better.fees, better.previous), (5_000, template.previous));

    let (waiting, current) = (core.clone(), better.clone());
    let wait = thread::spawn(move || waiting.wait_for_template(&current, None, DEADLINE));
    let block = mine(&core, &script);
    let next = wait.join().unwrap().unwrap().unwrap();
    assert_eq!((next.previous, next.height), (hash_of(&block), better.height + 1));
    core.stop().unwrap();
}

#[test]
fn options_of_a_template_are_kept_to_limits() {
    let (core, _dir) = start();
    let options = TemplateOptions { reserved_weight: Some(1), ..TemplateOptions::default() };
    let result = core.template(&options);
    assert!(matches!(&result, Err(Error::Failed(_))), "{result:?}");
    let options = TemplateOptions { reserved_weight: Some(4_000), ..TemplateOptions::default() };
    assert!(core.template(&options).is_ok());
    core.stop().unwrap();
}

#[test]
fn addresses_are_those_of_the_chain() {
    let (core, _dir) = start();
    let wallet = Wallet::new();
    for script in [wallet.segwit_script(), wallet.taproot_script()] {
        let address = Address::from_script(&script, Network::Regtest).unwrap().to_string();
        assert_eq!(core.address_script(&address).unwrap(), script.to_bytes());
        let other = Address::from_script(&script, Network::Bitcoin).unwrap().to_string();
        assert!(matches!(core.address_script(&other), Err(Error::Rejected(_))));
        let typo = format!("{}q", &address[..address.len() - 1]);
        assert!(matches!(core.address_script(&typo), Err(Error::Rejected(_))));
    }
    for nonsense in ["", "a", "bcrt1", "é", "\0"] {
        assert!(matches!(core.address_script(nonsense), Err(Error::Rejected(_))));
    }
    core.stop().unwrap();
}

#[test]
fn a_devnet_block_takes_work_and_is_accepted() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options { chain: Chain::devnet(), ..options(dir.path(), &[]) };
    let core = Core::start(&options).unwrap();
    let template = core.template(&TemplateOptions::default()).unwrap();
    assert_eq!((template.height, template.bits), (1, 0x1e03_77ae));
    let block = solve(&template, coinbase(&template, &Wallet::new().segwit_script(), b"seam"));
    assert_sound(&block, 1);
    assert_eq!(submit(&core, &template, &block), BlockOutcome::Accepted);
    assert_eq!(core.status().unwrap().tip.hash, hash_of(&block));
    core.stop().unwrap();
}
