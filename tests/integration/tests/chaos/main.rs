//! Everything that can go wrong, one thing after another and two at once, under load, with the checker always on.
//!
//! A minute by default; `SEAM_CHAOS_SECONDS=3600` for an hour. The seed is printed, and `SEAM_SEED` repeats what is done
//! to whom and for how long (the machine's own timing is not repeated). What happens when is printed as it happens.
//!
//! Needs root: for network namespaces, control groups and mounts.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used)] // A panic is a failed test.

mod acts;
mod miners;
mod stage;
mod weather;

use std::collections::BTreeMap;
use std::time::Duration;
use std::{env, thread};

use seam_integration::{Agreement, Dice, Island};

use crate::acts::{Act, Trouble};
use crate::miners::Miners;
use crate::stage::Stage;

/// How long, where `SEAM_CHAOS_SECONDS` says nothing.
const SECONDS: u64 = 60;

/// Acts between two looks at the whole ledger.
const ACTS: usize = 8;

/// How long anything may take to be well again. Longer is a hang.
const PATIENCE: Duration = Duration::from_secs(90);

/// MB of anonymous memory that a process may have more at the end than early, beyond half of what it had.
const GROWTH: u64 = 32;

#[test]
fn nothing_is_lost_or_doubled_whatever_goes_wrong() {
    let seconds = env::var("SEAM_CHAOS_SECONDS").map_or(SECONDS, |text| text.parse().unwrap());
    let length = Duration::from_secs(seconds);
    let Some(island) = Island::enter() else { return };
    let mut plan = Plan { dice: Dice::new(), deck: Vec::new() };
    let mut stage = Stage::start(island);
    let mut miners = Miners::new(length);
    let mut agreement = Agreement::default();
    let mut done: BTreeMap<Act, usize> = BTreeMap::new();
    let mut early = None;
    while stage.elapsed() < length {
        miners.start(&stage.cluster);
        for _ in 0..ACTS {
            for act in plan.act(&mut stage) {
                *done.entry(act).or_default() += 1;
            }
            stage.recover();
            agreement.look(&stage.cluster);
            miners.go_on();
            if stage.elapsed() >= length {
                break;
            }
        }
        stage.weather.clear(&stage.nodes);
        stage.recover();
        miners.stop(&stage.cluster);
        let rounds = agreement.settle(&stage.cluster);
        miners.check(&rounds);
        stage.check_logs();
        let memory = stage.memory();
        let (past, looks) = (rounds["past"].as_array().unwrap().len(), agreement.indices());
        stage.say(&format!("{miners}; {past} rounds, {looks} ledgers compared; MB {memory:?}"));
        if stage.elapsed() * 10 > length {
            early.get_or_insert(memory);
        }
    }
    let (early, late) = (early.unwrap_or_default(), stage.memory());
    stage.say(&format!("acts {done:?}; MB early {early:?}, late {late:?}"));
    for (name, bytes) in &late {
        let before = early[name];
        assert!(*bytes <= before + before / 2 + GROWTH, "{name} grew: {before} to {bytes} MB");
    }
    assert!(miners.acknowledged() > 100, "a test of nothing");
    stage.cluster.stop();
}

/// What the dice say, whatever the machine does. Every act has its turn before any has its next.
struct Plan {
    dice: Dice,
    deck: Vec<Act>,
}

impl Plan {
    /// Does what comes next, alone or with what comes after it.
    fn act(&mut self, stage: &mut Stage) -> Vec<Act> {
        let mut first = self.draw(stage);
        let second = self.dice.number().is_multiple_of(2);
        let Some(mut second) = second.then(|| self.draw(stage)) else {
            first.begin(stage);
            thread::sleep(first.moment()); // The moment is what is tried here, and below.
            first.end(stage);
            return vec![first.act];
        };
        first.begin(stage);
        let together = first.goes_with(&second);
        if !together {
            thread::sleep(first.moment());
            first.end(stage);
            stage.recover();
        }
        second.begin(stage);
        thread::sleep(second.moment());
        if together {
            first.end(stage);
            thread::sleep(first.moment() / 2);
        }
        second.end(stage);
        vec![first.act, second.act]
    }

    fn draw(&mut self, stage: &Stage) -> Trouble {
        if self.deck.is_empty() {
            self.deck = Act::ALL.to_vec();
            self.dice.shuffle(&mut self.deck);
        }
        let act = self.deck.pop().unwrap();
        Trouble::draw(act, &mut self.dice, stage)
    }
}
