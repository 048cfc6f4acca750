//! Core in process beside a `bitcoind` of the same build: the same chain, the same mempool.

use std::hint::black_box;

use bitcoin::consensus::encode::{serialize, serialize_hex};
use bitcoin::{Amount, Block, OutPoint};
use seam_bitcoin_core::{BlockOutcome, Core, Template, TemplateOptions};

use crate::rpc::Rpc;
use crate::support::{Wallet, coinbase, solve, submit};
use crate::table::{Row, Table};

/// Transactions in the full mempool.
pub(crate) const TRANSACTIONS: usize = 2_000;

/// New tips for each figure.
const ROUNDS: usize = 100;

/// Core's maturity of coinbase outputs, in blocks.
const MATURITY: usize = 100;

pub(crate) fn with_mempool() -> TemplateOptions {
    TemplateOptions { check: false, ..TemplateOptions::default() }
}

pub(crate) fn without_mempool() -> TemplateOptions {
    TemplateOptions { use_mempool: false, ..with_mempool() }
}

/// The two that are compared, kept on the same chain with the same mempool.
pub(crate) struct Both<'a> {
    pub(crate) core: &'a Core,
    pub(crate) rpc: &'a Rpc,
    pub(crate) wallet: &'a Wallet,
}

impl Both<'_> {
    /// The first block's coinbase can be spent behind these.
    pub(crate) fn begin(&self) -> Block {
        let first = self.mine(&with_mempool());
        for _ in 0..MATURITY {
            self.mine(&with_mempool());
        }
        first
    }

    fn mine(&self, options: &TemplateOptions) -> Block {
        let template = self.core.template(options).unwrap();
        let script = self.wallet.segwit_script();
        let block = solve(&template, coinbase(&template, &script, b"seam"));
        assert_eq!(submit(self.core, &template, &block), BlockOutcome::Accepted);
        self.tell_bitcoind(&block);
        block
    }

    /// A solved block without transactions, so that the mempool stays, and its template.
    pub(crate) fn empty_block(&self) -> (Template, Block) {
        let template = self.core.template(&without_mempool()).unwrap();
        let script = self.wallet.segwit_script();
        let block = solve(&template, coinbase(&template, &script, b"seam"));
        (template, block)
    }

    pub(crate) fn tell_bitcoind(&self, block: &Block) {
        let verdict = self.rpc.call("submitblock", &format!("[\"{}\"]", serialize_hex(block)));
        assert!(verdict.contains("\"result\":null"), "{verdict}");
    }

    /// As many transactions as there are, none of which needs another.
    pub(crate) fn fill_mempool(&self, first: &Block) {
        let script = self.wallet.segwit_script();
        let from = OutPoint::new(first.txdata[0].compute_txid(), 0);
        let fee = Amount::from_sat(200_000);
        let value = first.txdata[0].output[0].value;
        let fan = self.wallet.spend_segwit(from, value, fee, &script, TRANSACTIONS);
        self.core.submit_transaction(&serialize(&fan), 0).unwrap();
        self.mine(&with_mempool());
        for (index, output) in (0..).zip(&fan.output) {
            let from = OutPoint::new(fan.compute_txid(), index);
            let fee = Amount::from_sat(1_000 + u64::from(index));
            let spend = self.wallet.spend_segwit(from, output.value, fee, &script, 1);
            self.core.submit_transaction(&serialize(&spend), 0).unwrap();
            let sent =
                self.rpc.call("sendrawtransaction", &format!("[\"{}\"]", serialize_hex(&spend)));
            assert!(sent.contains("\"error\":null"), "{sent}");
        }
        let template = self.core.template(&with_mempool()).unwrap();
        assert_eq!(template.transaction_count, TRANSACTIONS);
    }

    /// Each on a new tip, Core's caches as cold as they are then: what is compared goes first.
    pub(crate) fn measure(&self, table: &mut Table, mempool: &'static str) {
        let mut rows = [
            "getblocktemplate over RPC",
            "getblocktemplate over RPC, the same tip again (cached)",
            "template in process",
            "template in process, checked by Core",
            "empty template in process",
            "its wtxids",
            "its transactions, serialised",
        ]
        .map(|what| Row::micros("template", what, mempool));
        let ask = || {
            let answer = self.rpc.call("getblocktemplate", "[{\"rules\":[\"segwit\"]}]");
            assert!(answer.contains("\"error\":null"), "{answer}");
        };
        for round in 0..ROUNDS {
            let (template, block) = self.empty_block();
            assert_eq!(submit(self.core, &template, &block), BlockOutcome::Accepted);
            self.tell_bitcoind(&block);
            let mut made = None;
            let plain = || made = Some(self.core.template(&with_mempool()).unwrap());
            let checked = || {
                let options = TemplateOptions { check: true, ..with_mempool() };
                drop(black_box(self.core.template(&options).unwrap()));
            };
            // The check fills caches that the other one profits from: in turn the first.
            if round % 2 == 0 {
                rows[2].time(plain);
                rows[3].time(checked);
            } else {
                rows[3].time(checked);
                rows[2].time(plain);
            }
            rows[4].time(|| drop(black_box(self.core.template(&without_mempool()).unwrap())));
            let made = made.unwrap();
            rows[5].time(|| drop(black_box(made.wtxids().unwrap())));
            rows[6].time(|| drop(black_box(made.transactions().unwrap())));
            rows[0].time(ask);
            rows[1].time(ask);
        }
        let (rpc, rest) = rows.split_at_mut(1);
        for row in &mut rest[1..4] {
            row.faster_than(&rpc[0]);
        }
        table.add(rows);
    }
}
