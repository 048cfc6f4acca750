//! `seamctl drain` and `undrain`.

use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use ureq::http::Method;

use crate::admin::{Admin, Payload};
use crate::cli::{DrainOptions, UndrainOptions};
use crate::failure::Failure;
use crate::print::Output;

/// How often the drained one is asked how far it is.
const ASK_EVERY: Duration = Duration::from_millis(200);

/// Hands over a member's sessions, and waits until it has none.
pub(crate) fn drain(admin: &Admin, options: &DrainOptions, out: Output) -> Result<(), Failure> {
    let endpoint = admin.endpoint(options.name.as_deref())?;
    let started = Instant::now();
    let deadline = started + Duration::from_secs(options.timeout);
    admin.change_at(endpoint, Method::POST, "/v1/drain", Payload::None)?;
    if options.no_wait {
        return out.show(&json!({"drained": false}), || "draining\n".to_owned());
    }
    let mut before = None;
    loop {
        let status = admin.get_at(endpoint, "/v1/status")?;
        let left = sessions_left(&status)?;
        if left == 0 {
            break;
        }
        if !out.json && before != Some(left) {
            eprintln!("{left} sessions left");
        }
        before = Some(left);
        if Instant::now() >= deadline {
            return Err(Failure::Refused(format!(
                "{} still has {left} sessions after {} s; it goes on draining",
                endpoint.address, options.timeout
            )));
        }
        thread::sleep(ASK_EVERY);
    }
    let seconds = started.elapsed().as_secs_f64();
    out.show(&json!({"drained": true, "seconds": seconds}), || {
        format!("drained in {seconds:.1} s\n")
    })
}

/// Lets a drained member take sessions again.
pub(crate) fn undrain(admin: &Admin, options: &UndrainOptions, out: Output) -> Result<(), Failure> {
    let endpoint = admin.endpoint(options.name.as_deref())?;
    let answer = admin.change_at(endpoint, Method::POST, "/v1/undrain", Payload::None)?;
    out.show(&answer, || format!("{} takes sessions again\n", endpoint.address))
}

/// Sessions of a member that is draining; anything else means that someone called it off.
fn sessions_left(status: &Value) -> Result<u64, Failure> {
    if status["draining"] != true {
        return Err(Failure::Refused("the drain was called off".to_owned()));
    }
    status["sessions"]
        .as_u64()
        .ok_or_else(|| Failure::Refused("the status does not tell the sessions".to_owned()))
}
