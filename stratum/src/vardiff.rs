//! Which difficulty a session should have, from the shares it sends.
//!
//! A controller without a clock: every call says how late it is, in milliseconds. It keeps a
//! window over which it sums the difficulty of the shares; the sum over the time is the miner's
//! speed in difficulty per second, whatever the single shares' difficulty was.

use crate::difficulty::Difficulty;

/// How all sessions of a server are steered.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Settings {
    /// Milliseconds between two shares that are aimed at.
    pub target_ms: u32,
    /// Shares after which a window is judged: more are more exact, and slower.
    pub window_shares: u16,
    /// A window is judged after this many target intervals, however few shares it has: this is
    /// what finds a miner that went quiet.
    pub window_targets: u16,
    /// Nothing is changed while the best difficulty is within this factor of the present one.
    pub hysteresis: f64,
    /// The largest factor of one change, either way.
    pub max_step: f64,
    /// The lowest difficulty given out.
    pub min: Difficulty,
    /// The highest difficulty given out.
    pub max: Difficulty,
}

impl Settings {
    /// The shortest window that is judged, in milliseconds: a burst after a stall says nothing.
    const MIN_WINDOW_MS: u64 = 1000;
}

impl Default for Settings {
    /// Ten seconds a share, judged every 24 shares or every minute.
    fn default() -> Self {
        Self {
            target_ms: 10_000,
            window_shares: 24,
            window_targets: 6,
            hysteresis: 1.5,
            max_step: 64.0,
            min: Difficulty::MIN_USEFUL,
            max: Difficulty::new(1e15).unwrap_or(Difficulty::ONE),
        }
    }
}

/// The controller of one session.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Vardiff {
    difficulty: Difficulty,
    /// Sum of the difficulty of the window's shares.
    work: f64,
    window_start_ms: u64,
    shares: u32,
}

impl Vardiff {
    /// Starts at `difficulty`.
    pub fn new(difficulty: Difficulty, now_ms: u64) -> Self {
        Self { difficulty, work: 0.0, window_start_ms: now_ms, shares: 0 }
    }

    /// The difficulty that jobs should be sent with from now on.
    pub fn difficulty(&self) -> Difficulty {
        self.difficulty
    }

    /// Counts a good share that had `difficulty`. `Some` is a new difficulty for the jobs to come.
    pub fn on_share(
        &mut self,
        settings: &Settings,
        difficulty: Difficulty,
        now_ms: u64,
    ) -> Option<Difficulty> {
        self.work += difficulty.value();
        self.shares = self.shares.saturating_add(1);
        let elapsed = now_ms.saturating_sub(self.window_start_ms);
        let enough = self.shares >= u32::from(settings.window_shares);
        if enough && elapsed >= Settings::MIN_WINDOW_MS {
            return self.judge(settings, now_ms);
        }
        self.on_tick(settings, now_ms)
    }

    /// To be called now and then (each re-sent job is a good time): finds sessions that send
    /// less than expected, or nothing. `Some` is a new difficulty for the jobs to come.
    pub fn on_tick(&mut self, settings: &Settings, now_ms: u64) -> Option<Difficulty> {
        let longest = u64::from(settings.target_ms) * u64::from(settings.window_targets);
        let elapsed = now_ms.saturating_sub(self.window_start_ms);
        if elapsed >= longest.max(Settings::MIN_WINDOW_MS) {
            self.judge(settings, now_ms)
        } else {
            None
        }
    }

    /// Starts again from `difficulty`: one the miner asked for, or one restored with its session.
    pub fn restart(&mut self, difficulty: Difficulty, now_ms: u64) {
        *self = Self::new(difficulty, now_ms);
    }

    /// Compares the window with what is wanted and begins the next.
    fn judge(&mut self, settings: &Settings, now_ms: u64) -> Option<Difficulty> {
        let elapsed = now_ms.saturating_sub(self.window_start_ms).max(1) as f64;
        // Without a share the miner's speed is unknown, but half a share is a fair guess.
        let work = if self.shares == 0 { 0.5 * self.difficulty.value() } else { self.work };
        let ideal = work / elapsed * f64::from(settings.target_ms);
        let now = self.difficulty.value();
        let few = self.shares < u32::from(settings.window_shares);
        *self = Self::new(self.difficulty, now_ms);

        let factor = (ideal / now).clamp(1.0 / settings.max_step, settings.max_step);
        // With few shares chance is large: a miner that is merely unlucky keeps its difficulty.
        let band = if few { settings.hysteresis * 1.5 } else { settings.hysteresis };
        if (1.0 / band..=band).contains(&factor) {
            return None;
        }
        let next = round(now * factor).clamp_to(settings.min, settings.max);
        if next == self.difficulty {
            return None;
        }
        self.difficulty = next;
        Some(next)
    }
}

/// Rounds to four significant bits, so that difficulties are short and repeat.
fn round(value: f64) -> Difficulty {
    let bits = value.to_bits();
    let half = 1 << 48;
    let kept = (bits + half) & !((1 << 49) - 1);
    Difficulty::from_bits(kept).unwrap_or(Difficulty::ONE)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn d(value: f64) -> Difficulty {
        Difficulty::new(value).unwrap()
    }

    /// A miner of `speed` (difficulty per second) whose shares come evenly; it takes up a new
    /// difficulty at once. Returns the controller after `secs`.
    fn mine(settings: &Settings, start: f64, speed: f64, secs: f64) -> Vardiff {
        let mut vardiff = Vardiff::new(d(start), 0);
        let mut now = 0.0;
        let mut tick = 0.0;
        while now < secs {
            let difficulty = vardiff.difficulty();
            let gap = difficulty.value() / speed;
            while tick < (now + gap).min(secs) {
                tick += 10.0;
                vardiff.on_tick(settings, (tick * 1000.0) as u64);
                if vardiff.difficulty() != difficulty {
                    break;
                }
            }
            if vardiff.difficulty() != difficulty {
                now = tick;
                continue;
            }
            now += gap;
            tick = tick.max(now);
            vardiff.on_share(settings, difficulty, (now * 1000.0) as u64);
        }
        vardiff
    }

    #[test]
    fn state_is_small() {
        assert!(size_of::<Vardiff>() <= 40);
    }

    #[test]
    fn fast_miner_settles_at_the_target_interval() {
        let settings = Settings::default();
        // 100 TH/s at difficulty 1 would send 23,000 shares a second.
        let settled = mine(&settings, 1.0, 23_283.0, 600.0).difficulty().value();
        let interval = settled / 23_283.0;
        assert!((5.0..20.0).contains(&interval), "{interval}");
    }

    #[test]
    fn miner_at_the_target_keeps_its_difficulty() {
        let settings = Settings::default();
        assert_eq!(mine(&settings, 100.0, 10.0, 3600.0).difficulty(), d(100.0));
    }

    #[test]
    fn quiet_miner_is_lowered_down_to_the_limit() {
        let settings = Settings { min: d(0.001), ..Settings::default() };
        let mut vardiff = Vardiff::new(d(1e6), 0);
        assert_eq!(vardiff.on_tick(&settings, 59_999), None);
        assert!(vardiff.on_tick(&settings, 60_000).unwrap() < d(1e6));
        for minute in 2..60 {
            vardiff.on_tick(&settings, minute * 60_000);
        }
        assert_eq!(vardiff.difficulty(), d(0.001));
    }

    #[test]
    fn clock_that_jumps_back_changes_nothing() {
        let settings = Settings::default();
        let mut vardiff = Vardiff::new(d(1.0), 1_000_000);
        for _ in 0..1000 {
            assert_eq!(vardiff.on_share(&settings, d(1.0), 5), None);
        }
    }

    proptest! {
        #[test]
        fn settles_from_anywhere(start in -9.0..9.0f64, speed in -6.0..7.0f64) {
            let settings = Settings::default();
            let speed = 10f64.powf(speed);
            // Slow enough a start to be simulated share by share.
            let start = 10f64.powf(start).max(speed / 1e4);
            let settled = mine(&settings, start, speed, 3600.0 * 3.0).difficulty().value();
            let interval = settled / speed;
            prop_assert!((3.0..35.0).contains(&interval), "interval {}", interval);
        }

        #[test]
        fn never_leaves_its_limits(
            steps in proptest::collection::vec((any::<bool>(), 0u64..100_000_000, 1e-12..1e12f64), 0..200),
        ) {
            let settings = Settings { min: d(0.5), max: d(1000.0), ..Settings::default() };
            let mut vardiff = Vardiff::new(d(1.0), 0);
            for (share, now, difficulty) in steps {
                let change = if share {
                    vardiff.on_share(&settings, d(difficulty), now)
                } else {
                    vardiff.on_tick(&settings, now)
                };
                if let Some(next) = change {
                    prop_assert!(next >= settings.min && next <= settings.max);
                    prop_assert_eq!(next, vardiff.difficulty());
                }
            }
        }
    }
}
