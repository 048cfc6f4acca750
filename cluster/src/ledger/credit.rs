//! Credit of users: a table that shares are added to, and its packed form once a round is closed.

use std::ops::{AddAssign, SubAssign};
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::users::UserId;

/// Users in one page of the table, the unit that is copied when a share is counted while a
/// snapshot is being written.
const PAGE: usize = 64;

/// Shares of one round at most, and expected hashes of one round at most. No pool comes near; a
/// snapshot that says otherwise is refused, so that no sum over all rounds can overflow.
const MAX_ROUND: Credit = Credit { shares: 1 << 48, work: 1 << 112 };

/// Shares and their work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Credit {
    /// How many shares.
    pub shares: u64,
    /// Expected hashes.
    pub work: u128,
}

impl AddAssign for Credit {
    fn add_assign(&mut self, other: Self) {
        self.shares += other.shares;
        self.work += other.work;
    }
}

impl SubAssign for Credit {
    fn sub_assign(&mut self, other: Self) {
        self.shares = self.shares.saturating_sub(other.shares);
        self.work = self.work.saturating_sub(other.work);
    }
}

/// The credit of every user of a round that is still open. Pages are in the order of user numbers,
/// so that the encoding needs no sorting.
#[derive(Clone, Debug, Default)]
pub struct Table {
    pages: Vec<Option<Arc<[Credit; PAGE]>>>,
    users: u32,
    total: Credit,
}

impl Table {
    /// Users that have credit.
    pub fn users(&self) -> u32 {
        self.users
    }

    /// The credit of all.
    pub fn total(&self) -> Credit {
        self.total
    }

    /// The credit of one.
    pub fn of(&self, user: UserId) -> Credit {
        let user = user.0 as usize;
        match self.pages.get(user / PAGE) {
            Some(Some(page)) => page[user % PAGE],
            _ => Credit::default(),
        }
    }

    /// Users that have credit, in the order of their numbers.
    pub fn iter(&self) -> impl Iterator<Item = (UserId, Credit)> {
        self.pages.iter().enumerate().flat_map(|(number, page)| {
            page.iter().flat_map(move |page| {
                page.iter()
                    .enumerate()
                    .filter(|(_, credit)| credit.shares > 0)
                    .map(move |(slot, credit)| (UserId((number * PAGE + slot) as u32), *credit))
            })
        })
    }

    pub(super) fn add(&mut self, user: UserId, credit: Credit) {
        if credit.shares == 0 {
            return;
        }
        let slot = self.slot(user);
        let first = slot.shares == 0;
        *slot += credit;
        self.users += u32::from(first);
        self.total += credit;
    }

    pub(super) fn merge(&mut self, detail: &Detail) {
        for (user, credit) in detail.iter() {
            self.add(user, credit);
        }
    }

    /// Takes back what [`Table::merge`] added.
    pub(super) fn take(&mut self, detail: &Detail) {
        for (user, credit) in detail.iter() {
            let slot = self.slot(user);
            let before = slot.shares;
            *slot -= credit;
            let gone = before > 0 && slot.shares == 0;
            self.users -= u32::from(gone);
            self.total -= credit;
        }
    }

    pub(super) fn pack(&self) -> Detail {
        let mut bytes = Vec::with_capacity(self.users as usize * 12);
        let mut next = 0;
        for (user, credit) in self.iter() {
            put(&mut bytes, u128::from(user.0 - next));
            put(&mut bytes, u128::from(credit.shares));
            put(&mut bytes, credit.work);
            next = user.0 + 1;
        }
        Detail { bytes: bytes.into() }
    }

    fn slot(&mut self, user: UserId) -> &mut Credit {
        let user = user.0 as usize;
        let number = user / PAGE;
        if number >= self.pages.len() {
            self.pages.resize(number + 1, None);
        }
        let page = self.pages[number].get_or_insert_with(|| Arc::new([Credit::default(); PAGE]));
        &mut Arc::make_mut(page)[user % PAGE]
    }
}

/// The credit of every user of a closed round, about 10 bytes each: for each in the order of their
/// numbers the distance to the one before, shares and work, as LEB128 numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Detail {
    bytes: Arc<[u8]>,
}

impl Detail {
    /// Users in the order of their numbers.
    pub fn iter(&self) -> impl Iterator<Item = (UserId, Credit)> + '_ {
        let mut rest = &*self.bytes;
        let mut next = 0;
        std::iter::from_fn(move || entry(&mut rest, &mut next))
    }

    /// Bytes that it takes.
    pub fn size(&self) -> usize {
        self.bytes.len()
    }

    /// Checks what came from a snapshot: it must be what [`Table::pack`] makes and name only users
    /// below `users`.
    pub(super) fn parse(&self, users: usize) -> Result<Table, &'static str> {
        let bytes = &*self.bytes;
        let mut table = Table::default();
        let (mut rest, mut next) = (bytes, 0);
        while !rest.is_empty() {
            let (user, credit) =
                entry(&mut rest, &mut next).ok_or("a round's credit is malformed")?;
            if user.0 as usize >= users {
                return Err("a round credits a user that does not exist");
            }
            let total = table.total();
            if credit.shares > MAX_ROUND.shares - total.shares
                || credit.work > MAX_ROUND.work - total.work
            {
                return Err("a round's credit is beyond any pool's");
            }
            table.add(user, credit);
        }
        if table.pack() == *self { Ok(table) } else { Err("a round's credit is not canonical") }
    }

    pub(super) fn table(&self) -> Table {
        let mut table = Table::default();
        table.merge(self);
        table
    }

    /// The table of it without another's credit, which was merged into it.
    pub(super) fn without(&self, other: &Self) -> Table {
        let mut table = self.table();
        table.take(other);
        table
    }
}

impl Serialize for Detail {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.bytes)
    }
}

/// Reads the bytes as they are: `Detail::parse` has to follow.
impl<'de> Deserialize<'de> for Detail {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bytes = <&[u8]>::deserialize(deserializer)?;
        Ok(Self { bytes: bytes.into() })
    }
}

fn entry(rest: &mut &[u8], next: &mut u32) -> Option<(UserId, Credit)> {
    let user = next.checked_add(u32::try_from(take(rest)?).ok()?)?;
    let shares = u64::try_from(take(rest)?).ok()?;
    let work = take(rest)?;
    *next = user.checked_add(1)?;
    Some((UserId(user), Credit { shares, work }))
}

fn put(bytes: &mut Vec<u8>, mut value: u128) {
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}

fn take(rest: &mut &[u8]) -> Option<u128> {
    let mut value = 0u128;
    for shift in (0..128).step_by(7) {
        let (&byte, tail) = rest.split_first()?;
        *rest = tail;
        let part = u128::from(byte & 0x7f);
        if shift == 126 && part > 3 {
            return None;
        }
        value |= part << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}
