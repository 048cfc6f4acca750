//! A chain of one's own to test on: starting Core, mining, spending, a `bitcoind` beside it.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use bitcoin::absolute::LockTime;
use bitcoin::block::{Header, Version};
use bitcoin::consensus::encode::{deserialize, serialize};
use bitcoin::hashes::Hash;
use bitcoin::key::{Keypair, Secp256k1, TapTweak};
use bitcoin::secp256k1::{All, Message};
use bitcoin::sighash::{EcdsaSighashType, Prevouts, SighashCache, TapSighashType};
use bitcoin::transaction::Version as TxVersion;
use bitcoin::{
    Amount, Block, CompactTarget, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxMerkleNode,
    TxOut, WPubkeyHash, Witness, merkle_tree,
};
use seam_bitcoin_core::{BITCOIN_CLI, BITCOIND, BlockOutcome, Chain, Core, Options, Template};
use tempfile::TempDir;

/// How long anything may take on a machine that is busy with other tests.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

pub(crate) fn options(dir: &Path, extra: &[&str]) -> Options {
    let alone = ["-listen=0", "-connect=0", "-dnsseed=0", "-fixedseeds=0", "-natpmp=0"];
    // Later ones win, as on bitcoind's command line.
    let extra = alone.iter().chain(extra).map(|&option| option.to_owned()).collect();
    Options { data_dir: dir.to_owned(), chain: Chain::Regtest, extra }
}

/// A regtest Core without peers, in a directory that goes away with it.
pub(crate) fn start() -> (Core, TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let core = Core::start(&options(dir.path(), &[])).unwrap();
    (core, dir)
}

/// Tries until it is so; fails the test if it does not come to be.
pub(crate) fn until<T>(what: &str, mut attempt: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(value) = attempt() {
            return value;
        }
        assert!(start.elapsed() < DEADLINE, "waited in vain for {what}");
        thread::yield_now();
    }
}

/// One key, and what it takes to be paid and to spend.
pub(crate) struct Wallet {
    secp: Secp256k1<All>,
    pair: Keypair,
}

impl Wallet {
    pub(crate) fn new() -> Self {
        let secp = Secp256k1::new();
        let pair = Keypair::from_seckey_slice(&secp, &[7; 32]).unwrap();
        Self { secp, pair }
    }

    pub(crate) fn segwit_script(&self) -> ScriptBuf {
        let hash = WPubkeyHash::hash(&self.pair.public_key().serialize());
        ScriptBuf::new_p2wpkh(&hash)
    }

    pub(crate) fn taproot_script(&self) -> ScriptBuf {
        ScriptBuf::new_p2tr(&self.secp, self.pair.x_only_public_key().0, None)
    }

    /// Spends an output of the segwit script, paying `fee`, and the rest to `to` in equal pieces.
    pub(crate) fn spend_segwit(
        &self,
        from: OutPoint,
        value: Amount,
        fee: Amount,
        to: &ScriptBuf,
        pieces: usize,
    ) -> Transaction {
        let mut tx = unsigned(from, value - fee, to, pieces);
        let script = self.segwit_script();
        let hash = SighashCache::new(&tx)
            .p2wpkh_signature_hash(0, &script, value, EcdsaSighashType::All)
            .unwrap();
        let message = Message::from_digest(hash.to_byte_array());
        let signature = bitcoin::ecdsa::Signature {
            signature: self.secp.sign_ecdsa(&message, &self.pair.secret_key()),
            sighash_type: EcdsaSighashType::All,
        };
        tx.input[0].witness = Witness::p2wpkh(&signature, &self.pair.public_key());
        tx
    }

    /// Spends an output of the taproot script by its key.
    pub(crate) fn spend_taproot(
        &self,
        from: OutPoint,
        value: Amount,
        fee: Amount,
        to: &ScriptBuf,
        pieces: usize,
    ) -> Transaction {
        let mut tx = unsigned(from, value - fee, to, pieces);
        let spent = [TxOut { value, script_pubkey: self.taproot_script() }];
        let hash = SighashCache::new(&tx)
            .taproot_key_spend_signature_hash(0, &Prevouts::All(&spent), TapSighashType::Default)
            .unwrap();
        let message = Message::from_digest(hash.to_byte_array());
        let pair = self.pair.tap_tweak(&self.secp, None).to_keypair();
        let signature = bitcoin::taproot::Signature {
            signature: self.secp.sign_schnorr_no_aux_rand(&message, &pair),
            sighash_type: TapSighashType::Default,
        };
        tx.input[0].witness = Witness::p2tr_key_spend(&signature);
        tx
    }
}

fn unsigned(from: OutPoint, value: Amount, to: &ScriptBuf, pieces: usize) -> Transaction {
    let share = value / u64::try_from(pieces).unwrap();
    let output = TxOut { value: share, script_pubkey: to.clone() };
    Transaction {
        version: TxVersion::TWO,
        lock_time: LockTime::ZERO,
        input: vec![TxIn {
            previous_output: from,
            script_sig: ScriptBuf::new(),
            sequence: Sequence::MAX,
            witness: Witness::new(),
        }],
        output: vec![output; pieces],
    }
}

/// The coinbase for a template, paying everything to one script.
pub(crate) fn coinbase(template: &Template, pay_to: &ScriptBuf, tag: &[u8]) -> Transaction {
    let parts = &template.coinbase;
    let mut script = parts.script_prefix.clone();
    script.push(u8::try_from(tag.len()).unwrap());
    script.extend_from_slice(tag);
    let mut witness = Witness::new();
    if let Some(reserved) = &parts.witness_reserved {
        witness.push(reserved);
    }
    let mut output =
        vec![TxOut { value: Amount::from_sat(template.reward), script_pubkey: pay_to.clone() }];
    output.extend(parts.required_outputs.iter().map(|required| TxOut {
        value: Amount::from_sat(required.value),
        script_pubkey: ScriptBuf::from_bytes(required.script.clone()),
    }));
    Transaction {
        version: TxVersion(parts.version.try_into().unwrap()),
        lock_time: LockTime::from_consensus(parts.lock_time),
        input: vec![TxIn {
            previous_output: OutPoint::null(),
            script_sig: ScriptBuf::from_bytes(script),
            sequence: Sequence(parts.sequence),
            witness,
        }],
        output,
    }
}

/// The template's block with proof of work. The merkle root comes from the branch, as a miner's.
pub(crate) fn solve(template: &Template, coinbase: Transaction) -> Block {
    let root = template.merkle_branch.iter().fold(
        TxMerkleNode::from_byte_array(coinbase.compute_txid().to_byte_array()),
        |left, right| {
            let pair = [left.to_byte_array(), *right].concat();
            TxMerkleNode::hash(&pair)
        },
    );
    let mut header = Header {
        version: Version::from_consensus(template.version),
        prev_blockhash: bitcoin::BlockHash::from_byte_array(template.previous.0),
        merkle_root: root,
        time: template.time,
        bits: CompactTarget::from_consensus(template.bits),
        nonce: 0,
    };
    while header.validate_pow(header.target()).is_err() {
        header.nonce = header.nonce.checked_add(1).unwrap();
    }
    let mut txdata = vec![coinbase];
    for transaction in template.transactions().unwrap() {
        txdata.push(deserialize(&transaction.data).unwrap());
    }
    Block { header, txdata }
}

/// A second opinion on a block, from code that is not Core's.
pub(crate) fn assert_sound(block: &Block, height: u32) {
    assert!(block.check_merkle_root());
    assert!(block.check_witness_commitment());
    // Heights up to 16 are a single opcode, which the other code does not read.
    if height > 16 {
        assert_eq!(block.bip34_block_height(), Ok(height.into()));
    }
    let hashes = block.txdata.iter().map(|tx| tx.compute_txid().to_raw_hash());
    let root = merkle_tree::calculate_root(hashes).unwrap();
    assert_eq!(root, block.header.merkle_root.to_raw_hash());
}

/// Mines one block with what is in the mempool, and returns it.
pub(crate) fn mine(core: &Core, pay_to: &ScriptBuf) -> Block {
    let template = core.template(&Default::default()).unwrap();
    let block = solve(&template, coinbase(&template, pay_to, b"seam"));
    assert_sound(&block, template.height);
    let outcome = submit(core, &template, &block);
    assert_eq!(outcome, BlockOutcome::Accepted);
    block
}

pub(crate) fn submit(core: &Core, template: &Template, block: &Block) -> BlockOutcome {
    let header = block.header;
    let version = header.version.to_consensus();
    let coinbase = serialize(&block.txdata[0]);
    core.submit_solution(template, version, header.time, header.nonce, &coinbase).unwrap()
}

pub(crate) fn hash_of(block: &Block) -> seam_bitcoin_core::BlockHash {
    block.block_hash().to_byte_array().into()
}

/// A `bitcoind` of the same build as another process, killed with the value.
pub(crate) struct Bitcoind {
    child: Child,
    dir: PathBuf,
    pub(crate) p2p: String,
    rpc_port: u16,
}

impl Bitcoind {
    /// Starts it and waits until it answers.
    pub(crate) fn start(dir: &Path) -> Self {
        let [p2p_port, rpc_port] = [free_port(), free_port()];
        let child = Command::new(BITCOIND)
            .args(["-regtest", "-connect=0", "-listenonion=0", "-natpmp=0", "-printtoconsole=0"])
            .arg("-debug=net")
            .arg(format!("-datadir={}", dir.display()))
            .arg(format!("-bind=127.0.0.1:{p2p_port}"))
            .arg(format!("-rpcport={rpc_port}"))
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let p2p = format!("127.0.0.1:{p2p_port}");
        let mut this = Self { child, dir: dir.to_owned(), p2p, rpc_port };
        until("bitcoind", || {
            assert!(this.child.try_wait().unwrap().is_none(), "bitcoind ended");
            this.try_call(&["getblockcount"])
        });
        this
    }

    pub(crate) fn rpc_port(&self) -> u16 {
        self.rpc_port
    }

    pub(crate) fn call(&self, arguments: &[&str]) -> String {
        self.try_call(arguments).unwrap_or_else(|| panic!("bitcoin-cli {arguments:?}"))
    }

    fn try_call(&self, arguments: &[&str]) -> Option<String> {
        let output = Command::new(BITCOIN_CLI)
            .arg("-regtest")
            .arg(format!("-datadir={}", self.dir.display()))
            .arg(format!("-rpcport={}", self.rpc_port))
            .args(arguments)
            .output()
            .unwrap();
        output.status.success().then(|| String::from_utf8(output.stdout).unwrap().trim().to_owned())
    }

    /// Asks it to stop and waits until it has.
    pub(crate) fn stop(mut self) {
        self.call(&["stop"]);
        assert!(self.child.wait().unwrap().success());
    }
}

impl Drop for Bitcoind {
    fn drop(&mut self) {
        // Fails if it has been stopped before.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A port that was free a moment ago.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}
