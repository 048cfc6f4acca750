//! Who a session may submit for: `mining.authorize`, and bcoin-stratum's two administrator calls.

use seam_stratum::login::{Password, split_worker};
use seam_stratum::message::Id;
use seam_stratum::{Difficulty, Reject, write};

use super::answers::Wait;
use super::event::{Event, LoginResult};
use super::submit::write_share;
use super::{Closed, Next, Session, User};
use crate::limits::score;
use crate::pool::Pool;

/// A login that is being checked.
pub(super) struct PendingLogin {
    user: Box<str>,
    /// `d=` in the password.
    difficulty: Option<Difficulty>,
    started: u64,
}

impl Session {
    pub(super) fn authorize(
        &mut self,
        pool: &Pool,
        id: Id<'_>,
        user: &str,
        password: &str,
        out: &mut Vec<u8>,
    ) -> Next {
        let (name, _worker) = split_worker(user);
        let known = self.users.iter().any(|user| *user.name == *name);
        if !known && self.users.len() >= MAX_USERS {
            pool.metrics.limit_hit("users_per_session");
            self.answers.reject(out, id, &Reject::other(TOO_MANY_USERS));
            return Next::Go;
        }
        if self.refused_logins >= pool.settings.login_attempts {
            pool.metrics.limit_hit("login_attempts");
            pool.metrics.login("limited");
            self.answers.answer(out, id, write_refused);
            return Next::Close(Closed::Limit);
        }
        let Password { password, difficulty } = Password::parse(password);
        let started = pool.clock.monotonic_micros();
        let login = PendingLogin { user: name.into(), difficulty, started };
        let sequence = self.answers.push(id, Wait::Login(Box::new(login)));
        self.held = true;
        let reply = self.reply(sequence).or_lost(|| Event::Login(LoginResult::Unavailable));
        pool.gate.login(name, &password, reply);
        Next::Hold
    }

    pub(super) fn login_done(
        &mut self,
        pool: &Pool,
        sequence: u32,
        result: LoginResult,
        out: &mut Vec<u8>,
    ) -> Next {
        let Some(pending) = self.answers.get(sequence) else { return Next::Go };
        let Wait::Login(login) = &mut pending.wait else { return Next::Go };
        let user = std::mem::take(&mut login.user);
        let (difficulty, started) = (login.difficulty, login.started);
        self.held = false;
        let took = pool.clock.monotonic_micros().saturating_sub(started);
        pool.metrics.login_seconds.observe(took as f64 / 1e6);
        let mut next = Next::Go;
        match result {
            LoginResult::Accepted(user_id) => {
                pool.metrics.login("accepted");
                if let Some(wish) = difficulty {
                    let now = pool.clock.monotonic_millis();
                    if self.difficulty.pin(&pool.settings, wish, now) && self.last_job != 0 {
                        pool.jobs.want_refresh();
                    }
                }
                match self.users.iter_mut().find(|known| known.name == user) {
                    Some(known) => known.id = user_id,
                    None => self.users.push(User { name: user, id: user_id }),
                }
                self.changed = true;
                self.answers.decide(sequence, |out, id| write::result_bool(out, id, true));
            }
            LoginResult::Refused => {
                pool.metrics.login("refused");
                self.refused_logins += 1;
                tracing::debug!(peer = %self.peer, %user, "login refused");
                self.answers.decide(sequence, write_refused);
                if self.refused_logins >= pool.settings.login_attempts {
                    pool.metrics.limit_hit("login_attempts");
                    next = Next::Close(Closed::Limit);
                }
            }
            LoginResult::Unavailable => {
                pool.metrics.login("unavailable");
                let reject = Reject::other(LOGIN_UNAVAILABLE);
                self.answers.decide(sequence, |out, id| write::reject(out, id, &reject));
            }
        }
        self.flush(pool, out);
        next
    }

    pub(super) fn authorize_admin(
        &mut self,
        pool: &Pool,
        id: Id<'_>,
        password: &str,
        out: &mut Vec<u8>,
    ) -> Next {
        let right = pool.gate.is_admin(password);
        self.admin |= right;
        if right {
            self.answers.answer(out, id, |out, id| write::result_bool(out, id, true));
            return Next::Go;
        }
        tracing::warn!(peer = %self.peer, "administrator login refused");
        self.answers.answer(out, id, write_refused);
        self.offend(pool, score::ADMIN_LOGIN)
    }

    pub(super) fn add_user(
        &mut self,
        pool: &Pool,
        id: Id<'_>,
        user: &str,
        password: &str,
        out: &mut Vec<u8>,
    ) -> Next {
        if !self.admin {
            self.answers.reject(out, id, &Reject::Unauthorized);
            return self.offend(pool, score::NOT_ADMIN);
        }
        let sequence = self.answers.push(id, Wait::AddUser);
        self.held = true;
        let lost = || Event::UserAdded(Err(ADD_USER_LOST.to_owned()));
        pool.gate.add_user(user, password, self.reply(sequence).or_lost(lost));
        Next::Hold
    }

    pub(super) fn user_added(
        &mut self,
        pool: &Pool,
        sequence: u32,
        result: Result<(), String>,
        out: &mut Vec<u8>,
    ) -> Next {
        self.held = false;
        self.answers.decide(sequence, |out, id| match result {
            Ok(()) => write::result_bool(out, id, true),
            Err(reason) => write::reject(out, id, &Reject::other(reason)),
        });
        self.flush(pool, out);
        Next::Go
    }

    /// Appends every answer whose turn has come.
    pub(super) fn flush(&mut self, pool: &Pool, out: &mut Vec<u8>) {
        self.answers.flush(out, |out, id, share| write_share(pool, out, id, share));
    }
}

/// `false` and the code: some miners look at one, some at the other.
fn write_refused(out: &mut Vec<u8>, id: Id<'_>) {
    let reject = Reject::Unauthorized;
    out.extend_from_slice(b"{\"id\":");
    out.extend_from_slice(id.as_json().as_bytes());
    out.extend_from_slice(b",\"result\":false,\"error\":[");
    out.extend_from_slice(format!("{},\"{}\"", reject.code(), reject.message()).as_bytes());
    out.extend_from_slice(b",null]}\n");
}

/// A farm's proxy logs in its workers one by one; they are one user, seldom a few.
const MAX_USERS: usize = 16;

const TOO_MANY_USERS: &str = "too many users on one connection";

const LOGIN_UNAVAILABLE: &str = "no quorum: the login could not be checked, try again";

const ADD_USER_LOST: &str = "no quorum: the user was not added";
