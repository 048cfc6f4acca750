//! Share difficulty and the targets it stands for, exactly.
//!
//! A pool difficulty is relative to the *pool* difficulty-1 target `0x00000000FFFF0000…00`
//! (2^224 − 2^208): the one that stratum miners divide by. All conversions are done on the exact
//! rational value of the floating-point number, in 256-bit integers; nothing is rounded twice.

use core::fmt;
use core::hash::{Hash, Hasher};
use core::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::u256::U256;

/// A pool difficulty: a finite number above zero.
///
/// Equality, order and hash are those of the exact IEEE 754 value, and it travels (`serde`) as
/// the 64 bits of that value, so that no node ever sees another number than its peer.
/// It prints as the shortest decimal that reads back as the same value, integers without `.0`.
#[derive(Clone, Copy, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(try_from = "u64", into = "u64")]
pub struct Difficulty(f64);

impl Difficulty {
    /// Difficulty 1: 2^32 / 0.99998… expected hashes.
    pub const ONE: Self = Self(1.0);

    /// The smallest difficulty the servers of this project accept from configuration: below
    /// it every hash is a share (see [`Difficulty::target`]).
    pub const MIN_USEFUL: Self = Self(1e-10);

    /// Checks that `value` is finite and above zero.
    pub fn new(value: f64) -> Result<Self, DifficultyError> {
        if value.is_finite() && value > 0.0 { Ok(Self(value)) } else { Err(DifficultyError) }
    }

    /// Reads back [`Difficulty::to_bits`].
    pub fn from_bits(bits: u64) -> Result<Self, DifficultyError> {
        Self::new(f64::from_bits(bits))
    }

    /// The bits of the IEEE 754 double: how a difficulty is stored and compared.
    pub fn to_bits(self) -> u64 {
        self.0.to_bits()
    }

    /// The value as a float.
    pub fn value(self) -> f64 {
        self.0
    }

    /// `self`, moved into `low..=high`.
    pub fn clamp_to(self, low: Self, high: Self) -> Self {
        self.max(low).min(high)
    }

    /// The target of this difficulty: floor((2^224 − 2^208) / difficulty), at least 1 and at
    /// most 2^256 − 1 (which any difficulty below 2.33e-10 reaches: every hash is a share).
    pub fn target(self) -> Target {
        // The value is mantissa × 2^exponent, exactly.
        let bits = self.0.to_bits();
        let raw_exponent = (bits >> 52) as i32 & 0x7ff;
        if raw_exponent == 0 {
            return Target::MAX; // subnormal, far below 2^-32
        }
        let mantissa = (bits & ((1 << 52) - 1)) | (1 << 52);
        // floor(0xffff × 2^shift / mantissa), with the quotient of floors being the floor of
        // the quotient when the shift is negative.
        let shift = 208 - (raw_exponent - 1075);
        if shift < 0 {
            return Target(U256([1, 0, 0, 0])); // difficulty is above 2^260
        }
        let shift = shift as u32;
        // 16 + shift bits over 53 bits: at least 2^(shift − 37).
        if shift >= 294 {
            return Target::MAX;
        }
        let mut numerator = [0u64; 6];
        let wide = 0xffff_u128 << (shift % 64);
        numerator[(shift / 64) as usize] = wide as u64;
        numerator[(shift / 64) as usize + 1] = (wide >> 64) as u64;
        let mut remainder = 0u64;
        for limb in numerator.iter_mut().rev() {
            let part = (u128::from(remainder) << 64) | u128::from(*limb);
            *limb = (part / u128::from(mantissa)) as u64;
            remainder = (part % u128::from(mantissa)) as u64;
        }
        if numerator[4] != 0 || numerator[5] != 0 {
            return Target::MAX;
        }
        let quotient = U256([numerator[0], numerator[1], numerator[2], numerator[3]]);
        if quotient.is_zero() { Target(U256([1, 0, 0, 0])) } else { Target(quotient) }
    }

    /// The hashes a share of this difficulty takes on average: its credit in the ledger.
    ///
    /// floor(2^256 / (target + 1)), at least 1, saturating at `u128::MAX`. This is the formula of
    /// Bitcoin Core's `GetBlockProof`.
    pub fn expected_hashes(self) -> u128 {
        self.target().expected_hashes()
    }
}

impl Eq for Difficulty {}

// The value is never NaN and never a zero of either sign, so order is total and equal values have
// equal bits.
#[expect(clippy::derive_ord_xor_partial_ord, reason = "total on the values the type admits")]
impl Ord for Difficulty {
    fn cmp(&self, other: &Self) -> core::cmp::Ordering {
        self.0.total_cmp(&other.0)
    }
}

impl Hash for Difficulty {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.to_bits().hash(state);
    }
}

impl TryFrom<u64> for Difficulty {
    type Error = DifficultyError;

    fn try_from(bits: u64) -> Result<Self, DifficultyError> {
        Self::from_bits(bits)
    }
}

impl From<Difficulty> for u64 {
    fn from(difficulty: Difficulty) -> Self {
        difficulty.to_bits()
    }
}

/// Reads a decimal number such as `512`, `0.5` or `1e-9`.
impl FromStr for Difficulty {
    type Err = DifficultyError;

    fn from_str(text: &str) -> Result<Self, DifficultyError> {
        let value: f64 = text.trim().parse().map_err(|_| DifficultyError)?;
        Self::new(value)
    }
}

impl fmt::Display for Difficulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Above 2^53 digits would suggest a precision that is not there, and integers above 2^63
        // overflow the JSON parsers of miners: an exponent makes them a JSON real.
        if self.0 < 9_007_199_254_740_992.0 {
            fmt::Display::fmt(&self.0, f)
        } else {
            fmt::LowerExp::fmt(&self.0, f)
        }
    }
}

impl fmt::Debug for Difficulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A number that is no difficulty: zero, negative, infinite or not a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a difficulty is a finite number above zero")]
pub struct DifficultyError;

/// A 256-bit number that a hash, read as a little-endian integer, must not exceed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Target(U256);

impl Target {
    /// Every hash meets it.
    pub const MAX: Self = Self(U256::MAX);

    /// The target of pool difficulty 1.
    pub const DIFFICULTY_1: Self = Self(U256([0, 0, 0, 0x0000_0000_ffff_0000]));

    /// From 32 bytes, most significant first (as targets are written).
    pub fn from_be_bytes(bytes: &[u8; 32]) -> Self {
        Self(U256::from_be_bytes(bytes))
    }

    /// To 32 bytes, most significant first.
    pub fn to_be_bytes(self) -> [u8; 32] {
        let mut bytes = self.0.to_le_bytes();
        bytes.reverse();
        bytes
    }

    /// Whether a block-header hash meets this target. `hash` is in the order SHA-256 gives it,
    /// which is the little-endian integer.
    pub fn is_met_by(&self, hash: &[u8; 32]) -> bool {
        U256::from_le_bytes(hash) <= self.0
    }

    /// Expands the compact form of a block header. `None` where Bitcoin Core finds no target in
    /// it: negative, zero, or above 2^256 − 1.
    pub fn from_nbits(nbits: u32) -> Option<Self> {
        let exponent = nbits >> 24;
        let mantissa = u64::from(nbits & 0x007f_ffff);
        let value = if exponent <= 3 {
            U256([mantissa >> (8 * (3 - exponent)), 0, 0, 0])
        } else {
            let base = U256([mantissa, 0, 0, 0]);
            let shift = 8 * (exponent - 3);
            if mantissa != 0 && base.bits() + shift > 256 {
                return None;
            }
            base.shl(shift)
        };
        let negative = nbits & 0x0080_0000 != 0 && mantissa != 0;
        if negative || value.is_zero() { None } else { Some(Self(value)) }
    }

    /// The compact form of a block header, rounded down to its 23 bits of precision.
    pub fn to_nbits(self) -> u32 {
        let mut size = self.0.bits().div_ceil(8);
        let mut compact = if size <= 3 {
            (self.0.0[0] as u32) << (8 * (3 - size))
        } else {
            self.0.shr(8 * (size - 3)).0[0] as u32
        };
        if compact & 0x0080_0000 != 0 {
            compact >>= 8;
            size += 1;
        }
        compact | (size << 24)
    }

    /// Reads a target as `mining.suggest_target` sends it: up to 64 hexadecimal digits, most
    /// significant first, with or without `0x`. `None` for anything else, and for zero.
    pub fn parse_hex(text: &str) -> Option<Self> {
        let digits = text.strip_prefix("0x").unwrap_or(text);
        if digits.is_empty() || digits.len() > 64 {
            return None;
        }
        let mut value = U256::ZERO;
        for digit in digits.chars() {
            value = value.shl(4);
            value.0[0] |= u64::from(digit.to_digit(16)?);
        }
        if value.is_zero() { None } else { Some(Self(value)) }
    }

    /// The difficulty of this target: (2^224 − 2^208) / target, rounded once, to nearest even.
    /// Zero is read as 1. It is the inverse of [`Difficulty::target`] for every target of 2^55 and above
    /// that one gives, except those that saturated.
    pub fn difficulty(self) -> Difficulty {
        let divisor = if self.0.is_zero() { U256([1, 0, 0, 0]) } else { self.0 };
        let one = Self::DIFFICULTY_1.0;
        let mut exponent = one.bits() as i32 - divisor.bits() as i32;
        let mut division = one.quotient_bits(divisor);
        if !division.next_bit() {
            exponent -= 1;
            division.next_bit(); // this one is set: both top bits were
        }
        let mut mantissa = 1u64;
        for _ in 0..52 {
            mantissa = (mantissa << 1) | u64::from(division.next_bit());
        }
        let half = division.next_bit();
        if half && (division.has_remainder() || mantissa & 1 == 1) {
            mantissa += 1;
        }
        // Exponents are within −32..=224: the power of two and the product are exact.
        Difficulty(mantissa as f64 * 2f64.powi(exponent - 52))
    }

    /// floor(2^256 / (target + 1)), at least 1, saturating at `u128::MAX`. See
    /// [`Difficulty::expected_hashes`].
    pub fn expected_hashes(self) -> u128 {
        let Some(divisor) = self.0.checked_increment() else {
            return 1;
        };
        // 2^256 / d = (2^256 − d) / d + 1
        let numerator = U256::ZERO.wrapping_sub(divisor);
        if numerator < divisor {
            return 1;
        }
        let bits = numerator.bits() - divisor.bits();
        if bits >= 128 {
            return u128::MAX;
        }
        let mut division = numerator.quotient_bits(divisor);
        let mut quotient = U256::ZERO;
        for _ in 0..=bits {
            quotient = quotient.shl(1);
            quotient.0[0] |= u64::from(division.next_bit());
        }
        quotient.low_u128().saturating_add(1)
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d] = self.0.0;
        write!(f, "{d:016x}{c:016x}{b:016x}{a:016x}")
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
