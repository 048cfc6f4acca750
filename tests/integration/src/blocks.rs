//! A second opinion on blocks, from code that has no part in making them.

use bitcoin::Block;

/// Panics unless the `bitcoin` crate finds merkle root, witness commitment, BIP 34 height and proof of work right.
pub fn assert_sound(block: &Block, height: u64) {
    let hash = block.block_hash();
    assert!(block.check_merkle_root(), "merkle root of {hash}");
    assert!(block.check_witness_commitment(), "witness commitment of {hash}");
    assert_eq!(coinbase_height(block), Some(height), "BIP 34 height of {hash}");
    block
        .header
        .validate_pow(block.header.target())
        .unwrap_or_else(|error| panic!("proof of work of {hash}: {error}"));
    assert!(block.txdata[0].is_coinbase(), "first transaction of {hash}");
    assert!(!block.txdata[1..].iter().any(|tx| tx.is_coinbase()), "second coinbase in {hash}");
}

fn coinbase_height(block: &Block) -> Option<u64> {
    let script = &block.txdata[0].input[0].script_sig;
    match script.as_bytes().first()? {
        // OP_1 to OP_16, which the `bitcoin` crate does not read as heights.
        small @ 0x51..=0x60 => Some(u64::from(small - 0x50)),
        _ => block.bip34_block_height().ok(),
    }
}
