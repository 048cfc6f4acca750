//! The session, talked to by a pool that is the test.

use clap::Parser;
use seam_stratum::Nonce2;

use super::*;

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    options: MineOptions,
}

fn session() -> Session {
    let line = ["mine", "--url", "127.0.0.1:1", "--user", "al.rig", "--no-version-rolling"];
    Session::new(&Line::parse_from(line).options)
}

/// A conversation with a pool that is this test.
struct Talk {
    session: Session,
    tally: Tally,
    out: Vec<u8>,
}

impl Talk {
    fn start() -> Self {
        let mut talk = Self { session: session(), tally: Tally::default(), out: Vec::new() };
        talk.session.begin(&mut talk.out);
        talk
    }

    fn hear(&mut self, line: &str) -> Result<Next, Break> {
        self.session.hear(line.as_bytes(), &mut self.tally, &mut self.out)
    }

    fn said(&mut self) -> String {
        String::from_utf8(std::mem::take(&mut self.out)).unwrap()
    }

    /// Answers subscribe (whose id is `id`) and authorize.
    fn greet(&mut self, id: u64, extranonce1: &str) {
        let subscribed = format!(
            r#"{{"id":{id},"result":[[["mining.notify","{extranonce1}beef"]],"{extranonce1}",4],"error":null}}"#
        );
        self.hear(&subscribed).unwrap();
        self.hear(&format!(r#"{{"id":{},"result":true,"error":null}}"#, id + 1)).unwrap();
    }

    fn notify(&mut self, job: &str, prev: &str, clean: bool) -> Next {
        let line = format!(
            r#"{{"id":null,"method":"mining.notify","params":["{job}","{}","01","02",[],"20000000","207fffff","5f5e1000",{clean}]}}"#,
            prev.repeat(32)
        );
        self.hear(&line).unwrap()
    }

    fn find(&mut self, is_block: bool) -> Next {
        let found = Found {
            generation: self.session.generation,
            nonce2: Nonce2::from_counter(1, 4),
            ntime: 0x5f5e_1000,
            nonce: 7,
            version_bits: 0,
            is_block,
            hash: [0; 32],
        };
        self.session.submit(found, &mut self.tally, &mut self.out)
    }
}

#[test]
fn difficulty_holds_from_the_next_job_on() {
    let mut talk = Talk::start();
    talk.greet(1, "00000001");
    talk.hear(r#"{"method":"mining.set_difficulty","params":[0.5]}"#).unwrap();
    talk.notify("a", "11", true);
    let first = talk.session.newest.clone().unwrap();
    talk.hear(r#"{"method":"mining.set_difficulty","params":[2]}"#).unwrap();
    assert_eq!(first.difficulty.value(), 0.5);
    talk.notify("b", "11", false);
    assert_eq!(talk.session.newest.clone().unwrap().difficulty.value(), 2.0);
    talk.find(false);
    talk.hear(r#"{"id":3,"result":true,"error":null}"#).unwrap();
    assert_eq!(talk.tally.work, Difficulty::new(2.0).unwrap().expected_hashes());
}

#[test]
fn unanswered_share_is_sent_again_when_the_session_is_resumed() {
    let mut talk = Talk::start();
    talk.greet(1, "00000001");
    talk.notify("a", "11", true);
    talk.find(false);
    let sent = talk.said();
    let share = sent.lines().last().unwrap().split_once("mining.submit").unwrap().1.to_owned();
    talk.session.lost();
    talk.session.begin(&mut talk.out);
    assert!(talk.said().contains("00000001beef"), "the sid is sent to resume");
    talk.greet(4, "00000001");
    assert!(talk.said().contains(&share), "the same share again");
    talk.hear(r#"{"id":6,"result":true,"error":null}"#).unwrap();
    let tally = &talk.tally;
    assert_eq!((tally.accepted, tally.resumed, tally.resubmitted), (1, 1, 1));
}

#[test]
fn shares_of_a_session_that_is_gone_are_not_sent_again() {
    let mut talk = Talk::start();
    talk.greet(1, "00000001");
    talk.notify("a", "11", true);
    talk.find(false);
    talk.session.lost();
    talk.session.begin(&mut talk.out);
    talk.said();
    talk.greet(4, "00000002");
    assert!(!talk.said().contains("mining.submit"));
    assert_eq!((talk.tally.unanswered, talk.tally.resumed), (1, 0));
}

#[test]
fn work_is_over_once_its_block_is_sent() {
    let mut talk = Talk::start();
    talk.greet(1, "00000001");
    talk.notify("a", "11", true);
    assert!(matches!(talk.find(true), Next::Assign(None)));
    talk.find(true);
    assert_eq!(talk.tally.stale, 1, "a second block on the same parent is not sent");
    assert!(matches!(talk.notify("b", "11", false), Next::Assign(None)));
    assert!(matches!(talk.notify("c", "22", true), Next::Assign(Some(_))));
    talk.hear(r#"{"id":3,"result":true,"error":null}"#).unwrap();
    assert_eq!((talk.tally.blocks, talk.tally.accepted), (1, 1));
}

#[test]
fn work_goes_on_when_its_block_is_refused() {
    let mut talk = Talk::start();
    talk.greet(1, "00000001");
    talk.notify("a", "11", true);
    talk.find(true);
    let next = talk.hear(r#"{"id":3,"result":null,"error":[20,"no",null]}"#).unwrap();
    assert!(matches!(next, Next::Assign(Some(_))));
    assert_eq!(talk.tally.rejected(), 1);
}

#[test]
fn shares_of_older_work_are_not_sent_after_a_new_block() {
    let mut talk = Talk::start();
    talk.greet(1, "00000001");
    talk.notify("a", "11", true);
    let old = talk.session.generation;
    talk.notify("b", "22", true);
    talk.said();
    talk.session.generation = old;
    talk.find(false);
    assert_eq!((talk.said().as_str(), talk.tally.stale), ("", 1));
}

#[test]
fn unknown_user_ends_the_run_but_a_later_refusal_only_the_connection() {
    let mut talk = Talk::start();
    let subscribed = r#"{"id":1,"result":[[],"00000001",4],"error":null}"#;
    talk.hear(subscribed).unwrap();
    let refused = talk.hear(r#"{"id":2,"result":null,"error":[24,"unauthorized",null]}"#);
    assert!(matches!(refused, Err(Break::User(_))));
    talk.session.was_ready = true;
    talk.session.begin(&mut talk.out);
    talk.hear(&subscribed.replace(":1,", ":3,")).unwrap();
    let refused = talk.hear(r#"{"id":4,"result":false,"error":null}"#);
    assert!(matches!(refused, Err(Break::Connection(_))));
}

#[test]
fn parent_of_a_block_that_a_crash_undid_is_work_again() {
    let mut talk = Talk::start();
    talk.greet(1, "00000001");
    talk.notify("a", "11", true);
    talk.find(true);
    talk.hear(r#"{"id":3,"result":true,"error":null}"#).unwrap();
    talk.session.lost();
    talk.session.begin(&mut talk.out);
    talk.greet(4, "00000001");
    assert!(matches!(talk.notify("b", "11", true), Next::Assign(Some(_))));
}

#[test]
fn parent_that_a_reorganisation_brings_back_is_work_again() {
    let mut talk = Talk::start();
    talk.greet(1, "00000001");
    talk.notify("a", "11", true);
    talk.find(true);
    talk.notify("b", "22", true);
    assert!(matches!(talk.notify("c", "11", true), Next::Assign(Some(_))));
}
