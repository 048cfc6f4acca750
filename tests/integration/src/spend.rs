//! Transactions of the kinds that blocks have to carry: segwit v0 and taproot spends.

use bitcoin::absolute::LockTime;
use bitcoin::consensus::encode::serialize_hex;
use bitcoin::hashes::Hash;
use bitcoin::key::{Keypair, TapTweak};
use bitcoin::secp256k1::{Message, Secp256k1};
use bitcoin::sighash::{Prevouts, SighashCache};
use bitcoin::transaction::Version;
use bitcoin::{
    Amount, Block, CompressedPublicKey, EcdsaSighashType, OutPoint, ScriptBuf, Sequence,
    TapSighashType, Transaction, TxIn, TxOut, Witness, ecdsa, taproot,
};

use crate::bitcoind::Rpc;

/// Above any relay minimum for transactions of these sizes.
const FEE: Amount = Amount::from_sat(2_000);

/// An output that can be spent.
#[derive(Clone, Debug)]
pub struct Coin {
    /// Where it is.
    pub outpoint: OutPoint,
    /// What it is.
    pub output: TxOut,
}

/// A key (always the same: there is nothing to protect), with the addresses of both witness versions.
pub struct Wallet {
    keypair: Keypair,
}

impl Default for Wallet {
    fn default() -> Self {
        let keypair = Keypair::from_seckey_slice(&Secp256k1::new(), &[0x5e; 32]).unwrap();
        Self { keypair }
    }
}

impl Coin {
    /// What the coinbase of one of our blocks pays the pool.
    pub fn of_coinbase(block: &Block) -> Self {
        let coinbase = &block.txdata[0];
        Self {
            outpoint: OutPoint { txid: coinbase.compute_txid(), vout: 0 },
            output: coinbase.output[0].clone(),
        }
    }

    /// An output of a transaction.
    pub fn of(transaction: &Transaction, vout: u32) -> Self {
        Self {
            outpoint: OutPoint { txid: transaction.compute_txid(), vout },
            output: transaction.output[vout as usize].clone(),
        }
    }
}

impl Wallet {
    /// Splits a coin that anyone may spend (P2WSH of `OP_TRUE`) into one P2WPKH and one P2TR output of ours.
    /// The spend itself is a segwit v0 spend.
    pub fn take(&self, coin: &Coin) -> Transaction {
        let script = ScriptBuf::from_bytes(vec![0x51]);
        assert_eq!(coin.output.script_pubkey, script.to_p2wsh(), "not the address of dev up");
        let half = (coin.output.value - FEE) / 2;
        let outputs = [self.v0_script(), self.taproot_script()]
            .map(|script_pubkey| TxOut { value: half, script_pubkey });
        let mut transaction = unsigned(coin, outputs.to_vec());
        transaction.input[0].witness = Witness::from_slice(&[script.as_bytes()]);
        transaction
    }

    /// Spends a P2WPKH coin of ours to ourselves, with an ECDSA signature.
    pub fn spend_v0(&self, coin: &Coin) -> Transaction {
        let mut transaction = self.to_ourselves(coin);
        let sighash = SighashCache::new(&transaction)
            .p2wpkh_signature_hash(
                0,
                &coin.output.script_pubkey,
                coin.output.value,
                EcdsaSighashType::All,
            )
            .unwrap();
        let signature = Secp256k1::new()
            .sign_ecdsa(&Message::from_digest(sighash.to_byte_array()), &self.keypair.secret_key());
        transaction.input[0].witness =
            Witness::p2wpkh(&ecdsa::Signature::sighash_all(signature), &self.keypair.public_key());
        transaction
    }

    /// Spends a P2TR coin of ours to ourselves, by its key.
    pub fn spend_taproot(&self, coin: &Coin) -> Transaction {
        let secp = Secp256k1::new();
        let mut transaction = self.to_ourselves(coin);
        let sighash = SighashCache::new(&transaction)
            .taproot_key_spend_signature_hash(
                0,
                &Prevouts::All(&[&coin.output]),
                TapSighashType::Default,
            )
            .unwrap();
        let tweaked = self.keypair.tap_tweak(&secp, None).to_keypair();
        let signature =
            secp.sign_schnorr_no_aux_rand(&Message::from_digest(sighash.to_byte_array()), &tweaked);
        transaction.input[0].witness = Witness::p2tr_key_spend(&taproot::Signature {
            signature,
            sighash_type: TapSighashType::Default,
        });
        transaction
    }

    fn to_ourselves(&self, coin: &Coin) -> Transaction {
        let output = TxOut { value: coin.output.value - FEE, script_pubkey: self.taproot_script() };
        unsigned(coin, vec![output])
    }

    fn v0_script(&self) -> ScriptBuf {
        let key = CompressedPublicKey(self.keypair.public_key());
        ScriptBuf::new_p2wpkh(&key.wpubkey_hash())
    }

    fn taproot_script(&self) -> ScriptBuf {
        ScriptBuf::new_p2tr(&Secp256k1::new(), self.keypair.x_only_public_key().0, None)
    }
}

impl Rpc {
    /// Puts a transaction into the mempool; panics if Core does not want it.
    pub fn send(&self, transaction: &Transaction) {
        self.call("sendrawtransaction", &[&serialize_hex(transaction)]);
    }
}

fn unsigned(coin: &Coin, output: Vec<TxOut>) -> Transaction {
    Transaction {
        version: Version::TWO,
        lock_time: LockTime::ZERO,
        input: vec![TxIn {
            previous_output: coin.outpoint,
            script_sig: ScriptBuf::new(),
            sequence: Sequence::ENABLE_RBF_NO_LOCKTIME,
            witness: Witness::new(),
        }],
        output,
    }
}
