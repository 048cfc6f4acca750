//! 256-bit unsigned integers: just the operations that targets need.

use core::cmp::Ordering;

/// An unsigned 256-bit integer, least significant limb first.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(crate) struct U256(pub(crate) [u64; 4]);

impl U256 {
    pub(crate) const ZERO: Self = Self([0; 4]);
    pub(crate) const MAX: Self = Self([u64::MAX; 4]);

    pub(crate) fn from_be_bytes(bytes: &[u8; 32]) -> Self {
        let mut reversed = *bytes;
        reversed.reverse();
        Self::from_le_bytes(&reversed)
    }

    pub(crate) fn from_le_bytes(bytes: &[u8; 32]) -> Self {
        let mut limbs = [0; 4];
        for (limb, chunk) in limbs.iter_mut().zip(bytes.chunks_exact(8)) {
            let mut word = [0; 8];
            word.copy_from_slice(chunk);
            *limb = u64::from_le_bytes(word);
        }
        Self(limbs)
    }

    pub(crate) fn to_le_bytes(self) -> [u8; 32] {
        let mut bytes = [0; 32];
        for (chunk, limb) in bytes.chunks_exact_mut(8).zip(self.0) {
            chunk.copy_from_slice(&limb.to_le_bytes());
        }
        bytes
    }

    /// The number of bits needed: 0 for zero, 256 for a set top bit.
    pub(crate) fn bits(self) -> u32 {
        for (index, limb) in (0u32..4).zip(self.0).rev() {
            if limb != 0 {
                return 64 * index + 64 - limb.leading_zeros();
            }
        }
        0
    }

    pub(crate) fn is_zero(self) -> bool {
        self.0 == [0; 4]
    }

    /// Shifts left; bits that leave at the top are lost.
    pub(crate) fn shl(self, by: u32) -> Self {
        let (words, bits) = ((by / 64) as usize, by % 64);
        let mut out = [0; 4];
        for index in (words..4).rev() {
            out[index] = self.0[index - words] << bits;
            if bits > 0 && index > words {
                out[index] |= self.0[index - words - 1] >> (64 - bits);
            }
        }
        Self(out)
    }

    pub(crate) fn shr(self, by: u32) -> Self {
        let (words, bits) = ((by / 64) as usize, by % 64);
        let mut out = [0; 4];
        for (limb, index) in out.iter_mut().zip(words..4) {
            *limb = self.0[index] >> bits;
            if bits > 0 && index < 3 {
                *limb |= self.0[index + 1] << (64 - bits);
            }
        }
        Self(out)
    }

    /// `self + 1`, or `None` for 2^256.
    pub(crate) fn checked_increment(self) -> Option<Self> {
        let mut limbs = self.0;
        for limb in &mut limbs {
            let (sum, carry) = limb.overflowing_add(1);
            *limb = sum;
            if !carry {
                return Some(Self(limbs));
            }
        }
        None
    }

    /// `self - other` modulo 2^256.
    pub(crate) fn wrapping_sub(self, other: Self) -> Self {
        let mut out = [0; 4];
        let mut borrow = false;
        for (index, limb) in out.iter_mut().enumerate() {
            let (a, b1) = self.0[index].overflowing_sub(other.0[index]);
            let (b, b2) = a.overflowing_sub(u64::from(borrow));
            *limb = b;
            borrow = b1 || b2;
        }
        Self(out)
    }

    /// The low 128 bits.
    pub(crate) fn low_u128(self) -> u128 {
        u128::from(self.0[0]) | (u128::from(self.0[1]) << 64)
    }

    /// Yields the bits of `self / divisor` from the most significant on, where both were first
    /// shifted so that their top bits meet: the first bit weighs 2^(bits(self) − bits(divisor)).
    /// Bits below weight 1 are those of the binary fraction. Neither may be zero.
    pub(crate) fn quotient_bits(self, divisor: Self) -> QuotientBits {
        debug_assert!(!self.is_zero() && !divisor.is_zero());
        QuotientBits {
            remainder: self.shl(256 - self.bits()),
            overflow: false,
            divisor: divisor.shl(256 - divisor.bits()),
        }
    }
}

impl PartialOrd for U256 {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for U256 {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.iter().rev().cmp(other.0.iter().rev())
    }
}

/// Long division, a bit a step. See [`U256::quotient_bits`].
pub(crate) struct QuotientBits {
    remainder: U256,
    /// Bit 256 of the remainder.
    overflow: bool,
    divisor: U256,
}

impl QuotientBits {
    pub(crate) fn next_bit(&mut self) -> bool {
        let bit = self.overflow || self.remainder >= self.divisor;
        if bit {
            self.remainder = self.remainder.wrapping_sub(self.divisor);
        }
        self.overflow = self.remainder.0[3] >> 63 == 1;
        self.remainder = self.remainder.shl(1);
        bit
    }

    /// Whether any later bit is set.
    pub(crate) fn has_remainder(&self) -> bool {
        self.overflow || !self.remainder.is_zero()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shifts_are_inverse_where_nothing_is_lost() {
        let one = U256([1, 0, 0, 0]);
        for by in 0..256 {
            assert_eq!(one.shl(by).shr(by).0, one.0, "{by}");
            assert_eq!(one.shl(by).bits(), by + 1);
        }
        assert!(one.shl(256).is_zero());
        assert!(U256::MAX.shr(256).is_zero());
    }

    #[test]
    fn subtraction_borrows_through_all_limbs() {
        let top = U256([0, 0, 0, 1]);
        assert_eq!(top.wrapping_sub(U256([1, 0, 0, 0])).0, [u64::MAX, u64::MAX, u64::MAX, 0]);
    }

    #[test]
    fn increment_stops_at_the_top() {
        assert!(U256::MAX.checked_increment().is_none());
        assert_eq!(
            U256([u64::MAX, u64::MAX, 3, 0]).checked_increment().map(|n| n.0),
            Some([0, 0, 4, 0])
        );
    }
}
