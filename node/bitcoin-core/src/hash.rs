//! The three kinds of hash, so that one is not taken for another.

use std::fmt;

macro_rules! hash {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(
            /// The bytes in internal order.
            pub [u8; 32],
        );

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().rev().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }

        impl From<[u8; 32]> for $name {
            fn from(bytes: [u8; 32]) -> Self {
                Self(bytes)
            }
        }

        impl From<$name> for [u8; 32] {
            fn from(hash: $name) -> Self {
                hash.0
            }
        }
    };
}

hash! {
    /// The double SHA-256 of a block header.
    BlockHash
}

hash! {
    /// The double SHA-256 of a transaction without its witness.
    Txid
}

hash! {
    /// The double SHA-256 of a transaction with its witness (BIP 141).
    Wtxid
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_prints_reversed() {
        let mut bytes = [0; 32];
        bytes[31] = 0x12;
        bytes[0] = 0xab;
        let text = BlockHash(bytes).to_string();
        assert!(text.starts_with("1200") && text.ends_with("00ab") && text.len() == 64);
    }
}
