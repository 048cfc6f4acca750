//! Merkle branches of the coinbase and roots from them.

use crate::sha256;

/// The branch that leads from the coinbase to the root, given the txids of all *other*
/// transactions in block order. Empty for a block with only a coinbase.
pub fn branch(txids: &[[u8; 32]]) -> Vec<[u8; 32]> {
    let mut branch = Vec::new();
    // The level without its first node, which depends on the coinbase.
    let mut level = txids.to_vec();
    while let Some(&sibling) = level.first() {
        branch.push(sibling);
        level = level[1..]
            .chunks(2)
            .map(|pair| node(&pair[0], pair.last().unwrap_or(&pair[0])))
            .collect();
    }
    branch
}

/// The merkle root, folding `branch` onto the txid of the coinbase.
pub fn root(coinbase_txid: [u8; 32], branch: &[[u8; 32]]) -> [u8; 32] {
    branch.iter().fold(coinbase_txid, |left, right| node(&left, right))
}

fn node(left: &[u8; 32], right: &[u8; 32]) -> [u8; 32] {
    let mut both = [0; 64];
    both[..32].copy_from_slice(left);
    both[32..].copy_from_slice(right);
    sha256::double_64(&both)
}

#[cfg(test)]
mod tests {
    use bitcoin::hashes::Hash;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn root_is_the_one_bitcoin_computes(
            txids in proptest::collection::vec(any::<[u8; 32]>(), 1..40),
        ) {
            let expected = bitcoin::merkle_tree::calculate_root(
                txids.iter().map(|txid| bitcoin::Txid::from_byte_array(*txid)),
            ).unwrap();
            prop_assert_eq!(root(txids[0], &branch(&txids[1..])), expected.to_byte_array());
        }
    }
}
