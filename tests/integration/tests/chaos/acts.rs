//! What goes wrong, and how it is put right.

use std::time::Duration;

use seam_integration::{Dice, until, until_within};

use crate::{PATIENCE, Stage};

/// How long what goes wrong stays so, at most.
const MOMENT: Duration = Duration::from_secs(4);

/// What a stop may take.
const STOP: Duration = Duration::from_secs(40);

/// Milliseconds that a slow disk's sync takes, at most. A vote may have to wait for one sync and takes
/// another, within the 0.7 s that `Timing` leaves it; with a slower disk and a dead node nobody is elected.
const SYNC: u64 = 330;

/// Milliseconds by which a clock is wrong, at most: less than a job lives, or whoever is behind mines for nothing.
const STEP: u64 = 240_000;

/// Hashes that may be tried for a block of our own: far beyond the 4.8 million that it takes.
const TRIES: &str = "1000000000";

/// One thing that goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Act {
    /// A node is killed.
    Kill,
    /// Two of three are: the quorum is gone.
    KillTwo,
    /// A member is silent for a while.
    Freeze,
    /// A member hears and is heard no more.
    Cut,
    /// A member is heard, and hears nothing.
    Deafen,
    /// A member hears, and is not heard.
    Mute,
    /// A node is told to stop.
    Terminate,
    /// A node hands its sessions over.
    Drain,
    /// A proxy is killed.
    KillProxy,
    /// A proxy is told to stop.
    TerminateProxy,
    /// A node's syncs take long, until the weather clears.
    SlowDisk,
    /// A node's disk is full.
    FullDisk,
    /// A node's clock is wrong, until the weather clears.
    ClockStep,
    /// A node loses all it has, is removed, and joins again under its name.
    Replace,
    /// The chain changes its mind about its newest blocks, and perhaps once more.
    Reorganise,
    /// A member gets a new certificate.
    Certificate,
}

impl Act {
    pub(crate) const ALL: [Self; 16] = [
        Self::Kill,
        Self::KillTwo,
        Self::Freeze,
        Self::Cut,
        Self::Deafen,
        Self::Mute,
        Self::Terminate,
        Self::Drain,
        Self::KillProxy,
        Self::TerminateProxy,
        Self::SlowDisk,
        Self::FullDisk,
        Self::ClockStep,
        Self::Replace,
        Self::Reorganise,
        Self::Certificate,
    ];

    /// Whether there is something to put right.
    fn lasts(self) -> bool {
        !matches!(self, Self::SlowDisk | Self::ClockStep | Self::Certificate)
    }

    /// Whether nothing else can be wrong at the time: it takes a quorum, or both of the others.
    fn is_alone(self) -> bool {
        matches!(self, Self::KillTwo | Self::Drain | Self::Replace | Self::Reorganise)
    }
}

/// An act and whom it meets: what the dice say, whatever the machine does.
#[derive(Debug)]
pub(crate) struct Trouble {
    pub(crate) act: Act,
    /// Whom it meets: nodes have the lower numbers.
    member: usize,
    moment: Duration,
    size: u64,
    /// The block that the chain is to forget.
    block: Option<String>,
}

impl Trouble {
    pub(crate) fn draw(act: Act, dice: &mut Dice, stage: &Stage) -> Self {
        let (nodes, proxies) = (stage.nodes.len() as u64, stage.proxies.len() as u64);
        let anyone = dice.number();
        let member = match act {
            Act::KillProxy | Act::TerminateProxy => nodes + anyone % proxies,
            Act::Freeze | Act::Cut | Act::Deafen | Act::Mute | Act::Certificate => {
                anyone % (nodes + proxies)
            }
            _ => anyone % nodes,
        };
        let (moment, size) = (dice.moment(MOMENT), dice.number());
        Self { act, member: member as usize, moment, size, block: None }
    }

    /// Whether both can be wrong at once.
    pub(crate) fn goes_with(&self, other: &Self) -> bool {
        !self.act.is_alone() && !other.act.is_alone() && self.member != other.member
    }

    /// How long it stays so.
    pub(crate) fn moment(&self) -> Duration {
        self.moment
    }

    /// Lets it go wrong.
    pub(crate) fn begin(&mut self, stage: &mut Stage) {
        let member = stage.member(self.member);
        let what = match self.act {
            Act::SlowDisk => format!(", {} ms a sync from now on", self.size % SYNC),
            Act::ClockStep => format!(", {} ms ahead from now on", self.step()),
            _ => String::new(),
        };
        stage.say(&format!("{:?} {member}{what}", self.act));
        match self.act {
            Act::Kill | Act::KillProxy => stage.cluster.kill(&member),
            Act::KillTwo => {
                for other in stage.others(&member) {
                    stage.cluster.kill(&other);
                }
            }
            Act::Freeze => stage.cluster.freeze(&member),
            Act::Cut => stage.island.cut(&member),
            Act::Deafen => stage.island.deafen(&member),
            Act::Mute => stage.island.mute(&member),
            Act::Terminate | Act::TerminateProxy => stage.cluster.terminate(&member, STOP),
            Act::Drain => {
                stage.cluster.ctl(&["drain", &member]);
            }
            Act::SlowDisk => {
                stage.weather.slow(&member, Duration::from_millis(self.size % SYNC));
            }
            Act::FullDisk => stage.weather.fill(&member),
            Act::ClockStep => stage.weather.step(&member, self.step()),
            Act::Replace => lose(stage, &member),
            Act::Reorganise => self.block = Some(forget_blocks(stage, &member, self.size)),
            Act::Certificate => stage.renew_certificate(&member),
        }
    }

    /// Puts it right. When all is well again is the caller's to see.
    pub(crate) fn end(&mut self, stage: &mut Stage) {
        let member = stage.member(self.member);
        if self.act.lasts() {
            stage.say(&format!("{:?} {member} ends", self.act));
        }
        match self.act {
            Act::Kill | Act::KillProxy | Act::Terminate | Act::TerminateProxy | Act::Replace => {
                stage.start_member(&member);
            }
            Act::KillTwo => {
                for other in stage.others(&member) {
                    stage.start_member(&other);
                }
            }
            Act::Freeze => stage.cluster.thaw(&member),
            Act::Cut | Act::Deafen | Act::Mute => stage.island.heal(&member),
            Act::Drain => {
                stage.cluster.ctl(&["undrain", &member]);
            }
            Act::FullDisk => {
                stage.weather.empty(&member);
                // A ledger that could not be written is written no more by this process.
                stage.cluster.kill(&member);
                stage.start_member(&member);
            }
            Act::Reorganise => {
                let block = self.block.as_deref().unwrap();
                for node in &stage.nodes {
                    stage.cluster.rpc(node).call("reconsiderblock", &[block]);
                }
            }
            Act::SlowDisk | Act::ClockStep | Act::Certificate => {}
        }
    }

    /// Milliseconds, ahead or behind.
    fn step(&self) -> i64 {
        (self.size % (2 * STEP)) as i64 - STEP as i64
    }
}

/// A node's host is gone for good: "A lost disk" in `docs/operating.md`.
fn lose(stage: &mut Stage, node: &str) {
    stage.cluster.kill(node);
    let mut said = String::new();
    until_within(PATIENCE, "the removal of a lost member", || {
        let removed = stage.cluster.try_ctl(&["member", "remove", node]);
        if !removed.status.success() {
            let why = String::from_utf8_lossy(&removed.stderr).trim().to_owned();
            if why != said {
                stage.say(&format!("not removed yet: {why}"));
            }
            said = why;
        }
        // What was asked before may have been done, though the answer got lost.
        (removed.status.success() || said.contains("there is no member")).then_some(())
    });
    stage.weather.wipe(node, &stage.cluster.member(node).data_dir);
}

/// All nodes refuse the newest block or two; half of the times the chain soon has others that are heavier. Returns the
/// lowest that was refused.
fn forget_blocks(stage: &Stage, node: &str, size: u64) -> String {
    let rpc = stage.cluster.rpc(node);
    // Miners find one every few seconds.
    let height = until("a block", || Some(rpc.height()).filter(|height| *height > 0));
    let depth = (1 + size % 2).min(height);
    let block = rpc.hash_at(height - depth + 1);
    stage.say(&format!("{block} at height {} is no good any more", height - depth + 1));
    for other in &stage.nodes {
        // One that has not heard of it yet cannot refuse it.
        until("all nodes to know the block", || {
            stage.cluster.rpc(other).try_call("invalidateblock", &[&block]).ok()
        });
    }
    if size & 2 == 0 {
        let blocks = (depth + 1).to_string();
        rpc.call("generatetodescriptor", &[&blocks, "raw(51)", TRIES]);
        stage.say(&format!("{blocks} others are in its place"));
    }
    block
}
