//! Leases: ranges of numbers that are given to one process and to no other.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::command::LeaseKind;
use super::outcome::Refusal;

/// Values of extranonce1 in one range.
pub const EXTRANONCE1_RANGE: u32 = 4_096;

/// Ranges of extranonce1 in all; the one after the last is the first again.
pub const EXTRANONCE1_RANGES: u32 = 1 << 20;

/// Grants that are listed with their holder.
pub const MAX_GRANTS: usize = 256;

/// A grant, as it is listed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// Of what.
    pub kind: LeaseKind,
    /// The number. A range of extranonce1 starts at [`EXTRANONCE1_RANGE`] times it.
    pub number: u32,
    /// Who asked.
    pub holder: String,
}

/// What has been given out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leases {
    next_extranonce1: u32,
    /// Starts at 1, so that no job id is 0. Over when it is 0 again.
    next_job: u32,
    recent: VecDeque<Grant>,
}

impl Leases {
    pub(super) fn new() -> Self {
        Self { next_extranonce1: 0, next_job: 1, recent: VecDeque::new() }
    }

    /// The newest grants, the oldest first: at most [`MAX_GRANTS`].
    pub fn recent(&self) -> impl Iterator<Item = &Grant> {
        self.recent.iter()
    }

    pub(super) fn grant(&mut self, kind: LeaseKind, holder: String) -> Result<u32, Refusal> {
        let number = match kind {
            LeaseKind::Extranonce1 => {
                let number = self.next_extranonce1 % EXTRANONCE1_RANGES;
                self.next_extranonce1 = (number + 1) % EXTRANONCE1_RANGES;
                number
            }
            LeaseKind::Job => {
                let number = self.next_job;
                if number == 0 {
                    return Err(Refusal::Exhausted);
                }
                self.next_job = number.wrapping_add(1);
                number
            }
        };
        if self.recent.len() >= MAX_GRANTS {
            self.recent.pop_front();
        }
        self.recent.push_back(Grant { kind, number, holder });
        Ok(number)
    }
}
