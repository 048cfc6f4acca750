//! The conversation on a socket: connect, talk, and again after a loss.

use std::future::Future;
use std::pin::Pin;
use std::time::{Duration, Instant};

use seam_stratum::LineScanner;
use tokio::io::{self, AsyncReadExt, AsyncWriteExt};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::{self, MissedTickBehavior, timeout};

use super::hashers::{Found, Hashers};
use super::session::{Break, Next, Session};
use super::stream::{Connector, Stream};
use super::tally::{Tally, rate};
use super::{End, MineOptions};
use crate::failure::Failure;

/// Long enough for a distant pool.
const CONNECT: Duration = Duration::from_secs(10);
/// A pool that takes no bytes for so long is gone.
const WRITE: Duration = Duration::from_secs(30);
/// A pool that says nothing for so long is gone: cgminer's limit.
const SILENCE: Duration = Duration::from_secs(90);
/// Answers that are waited for at the end.
const LAST_ANSWERS: Duration = Duration::from_secs(5);
/// The first pause before connecting anew; it doubles.
const BACKOFF: Duration = Duration::from_millis(100);
/// The longest.
const MAX_BACKOFF: Duration = Duration::from_secs(5);
/// The longest that a pool may ask for with `client.reconnect`.
const MAX_WAIT: u32 = 60;
/// Pools with thousands of transactions' merkle branch stay far below.
const MAX_LINE: usize = 256 * 1024;
/// Shares between threads and this task.
const FOUND: usize = 64;
/// How often a person sees how it goes.
const REPORT: Duration = Duration::from_secs(5);

type Stop = Pin<Box<dyn Future<Output = End>>>;

/// Why a conversation was over.
enum Over {
    End(End),
    Lost(String),
    Moved(Option<(String, u16)>, u32),
}

/// Mines until something ends it; how it ended, the counts, and the hashes done.
pub(super) async fn mine(
    options: &MineOptions,
    connector: Connector,
    deadline: Option<Instant>,
    speak: bool,
) -> Result<(End, Tally, u64), Failure> {
    let (sender, found) = mpsc::channel(FOUND);
    let hashers = Hashers::start(options.threads, options.hashrate, &sender);
    drop(sender);
    let mut miner = Miner {
        options,
        connector,
        session: Session::new(options),
        tally: Tally::default(),
        hashers,
        found,
        stop: stop(deadline)?,
        speak,
        started: Instant::now(),
    };
    let end = miner.run().await;
    let Miner { hashers, found, tally, mut session, .. } = miner;
    // A thread may be waiting for room in the channel: close it first.
    drop(found);
    let hashes = hashers.hashes();
    hashers.join();
    session.lost();
    let mut tally = tally;
    tally.unanswered += session.unanswered();
    Ok((end?, tally, hashes))
}

struct Miner<'a> {
    options: &'a MineOptions,
    connector: Connector,
    session: Session,
    tally: Tally,
    hashers: Hashers,
    found: mpsc::Receiver<Found>,
    /// Resolves when it is time to end.
    stop: Stop,
    speak: bool,
    started: Instant,
}

impl Miner<'_> {
    async fn run(&mut self) -> Result<End, Failure> {
        let mut address = self.options.url.address.clone();
        let mut backoff = BACKOFF;
        loop {
            let connected = self.tally.connected;
            let over = match self.connect(&address).await {
                Ok(stream) => self.talk(stream).await?,
                Err(over) => over,
            };
            self.session.lost();
            self.hashers.assign(None);
            if self.tally.connected > connected {
                backoff = BACKOFF;
            }
            let pause = match over {
                Over::End(end) => return Ok(end),
                Over::Moved(place, wait) => {
                    self.tally.moved += 1;
                    self.say(&match &place {
                        Some((host, port)) => format!("sent to {host}:{port}"),
                        None => "asked to reconnect".to_owned(),
                    });
                    if let Some((host, port)) = place {
                        address = format!("{host}:{port}");
                    }
                    Duration::from_secs(wait.min(MAX_WAIT).into())
                }
                Over::Lost(reason) => {
                    // A connection that was never made cannot be dropped.
                    self.tally.dropped += u64::from(self.tally.connected > connected);
                    self.say(&format!("{address}: {reason}; connecting anew"));
                    // Where it was sent to may be what is gone.
                    address.clone_from(&self.options.url.address);
                    let pause = jittered(backoff);
                    backoff = (backoff * 2).min(MAX_BACKOFF);
                    pause
                }
            };
            tokio::select! {
                end = &mut self.stop => return Ok(end),
                () = time::sleep(pause) => {}
            }
        }
    }

    async fn connect(&mut self, address: &str) -> Result<Stream, Over> {
        let connected = tokio::select! {
            end = &mut self.stop => return Err(Over::End(end)),
            connected = timeout(CONNECT, self.connector.connect(address)) => connected,
        };
        match connected {
            Ok(Ok(stream)) => Ok(stream),
            Ok(Err(error)) => Err(Over::Lost(error.to_string())),
            Err(_) => Err(Over::Lost("no connection in time".to_owned())),
        }
    }

    async fn talk(&mut self, stream: Stream) -> Result<Over, Failure> {
        let (mut reader, mut writer) = io::split(stream);
        let mut scanner = LineScanner::new(MAX_LINE);
        let (mut received, mut out) = (Vec::new(), Vec::new());
        let mut heard = Instant::now();
        let mut ending: Option<(End, Instant)> = None;
        let mut tick = time::interval(Duration::from_millis(200));
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut report = Instant::now();
        self.session.begin(&mut out);
        loop {
            if !out.is_empty() {
                let write = async {
                    writer.write_all(&out).await?;
                    writer.flush().await
                };
                match timeout(WRITE, write).await {
                    Ok(Ok(())) => out.clear(),
                    Ok(Err(error)) => return Ok(lost(ending, error.to_string())),
                    Err(_) => return Ok(lost(ending, "takes no bytes".to_owned())),
                }
            }
            if ending.is_none() && self.reached() {
                ending = Some((End::Reached, Instant::now()));
            }
            if let Some((end, since)) = ending {
                self.hashers.assign(None);
                if self.session.submits_pending() == 0 || since.elapsed() > LAST_ANSWERS {
                    return Ok(Over::End(end));
                }
            }
            let next = tokio::select! {
                end = &mut self.stop, if ending.is_none() => {
                    ending = Some((end, Instant::now()));
                    Next::Listen
                }
                read = reader.read_buf(&mut received) => {
                    match read {
                        Ok(0) => return Ok(lost(ending, "closed by the pool".to_owned())),
                        Ok(_) => heard = Instant::now(),
                        Err(error) => return Ok(lost(ending, error.to_string())),
                    }
                    Next::Listen
                }
                Some(found) = self.found.recv(), if ending.is_none() && self.may_submit() => {
                    self.session.submit(found, &mut self.tally, &mut out)
                }
                _ = tick.tick() => {
                    if heard.elapsed() > SILENCE {
                        return Ok(lost(ending, "silent for too long".to_owned()));
                    }
                    if report.elapsed() >= REPORT {
                        report = Instant::now();
                        self.report();
                    }
                    Next::Listen
                }
            };
            if let Some(over) = self.act(next, ending) {
                return Ok(over);
            }
            let mut used = 0;
            loop {
                let line = match scanner.next(&received[used..]) {
                    Ok(Some(line)) => line,
                    Ok(None) => break,
                    Err(error) => return Ok(lost(ending, error.to_string())),
                };
                used += line.consumed;
                if line.line.is_empty() {
                    continue;
                }
                let next = match self.session.hear(line.line, &mut self.tally, &mut out) {
                    Ok(next) => next,
                    Err(Break::Connection(reason)) => return Ok(lost(ending, reason)),
                    Err(refused @ Break::User(_)) => return Err(refused.into()),
                };
                if let Some(over) = self.act(next, ending) {
                    return Ok(over);
                }
            }
            received.drain(..used);
        }
    }

    fn act(&mut self, next: Next, ending: Option<(End, Instant)>) -> Option<Over> {
        match next {
            Next::Listen => None,
            Next::Assign(assignment) => {
                if ending.is_none() {
                    self.hashers.assign(assignment);
                }
                None
            }
            Next::Say(text) => {
                self.say(&text);
                None
            }
            Next::Reconnect(place, wait) => {
                Some(ending.map_or(Over::Moved(place, wait), |(end, _)| Over::End(end)))
            }
        }
    }

    /// Whether as much was accepted as was wanted.
    fn reached(&self) -> bool {
        self.options.blocks.is_some_and(|wanted| self.tally.blocks >= wanted)
            || self.options.shares.is_some_and(|wanted| self.tally.accepted >= wanted)
    }

    /// Never more on the way than are wanted.
    fn may_submit(&self) -> bool {
        let on_their_way = || self.tally.accepted + self.session.submits_pending();
        self.session.can_submit()
            && self.options.shares.is_none_or(|wanted| on_their_way() < wanted)
            && self
                .options
                .blocks
                .is_none_or(|wanted| self.tally.blocks + self.session.blocks_pending() < wanted)
    }

    fn report(&self) {
        self.say(&format!(
            "accepted {}, rejected {}, blocks {}, {}",
            self.tally.accepted,
            self.tally.rejected(),
            self.tally.blocks,
            rate(self.started.elapsed(), self.hashers.hashes()),
        ));
    }

    fn say(&self, text: &str) {
        if self.speak {
            println!("{text}");
        }
    }
}

/// A connection that ends while we are ending is no loss.
fn lost(ending: Option<(End, Instant)>, reason: String) -> Over {
    ending.map_or(Over::Lost(reason), |(end, _)| Over::End(end))
}

/// Between half of `pause` and all of it, so that a herd of miners does not come back at once.
fn jittered(pause: Duration) -> Duration {
    let random = getrandom::u32().unwrap_or(u32::MAX);
    pause.mul_f64(0.5 + f64::from(random) / f64::from(u32::MAX) / 2.0)
}

fn stop(deadline: Option<Instant>) -> Result<Stop, Failure> {
    let signals = |kind| {
        signal(kind).map_err(|error| Failure::Refused(format!("cannot watch signals: {error}")))
    };
    let mut interrupt = signals(SignalKind::interrupt())?;
    let mut terminate = signals(SignalKind::terminate())?;
    Ok(Box::pin(async move {
        let time_is_up = async {
            match deadline {
                Some(deadline) => time::sleep_until(deadline.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = time_is_up => End::Time,
            _ = interrupt.recv() => End::Interrupted,
            _ = terminate.recv() => End::Interrupted,
        }
    }))
}
