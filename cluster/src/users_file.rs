//! bcoin-stratum's `users.json`: a JSON object a line, `{"username": …, "password": …}`, where the
//! password is the hex of its double SHA-256.
//!
//! A later line for the same name replaces an earlier one, as there: that is how it changes a
//! password. Beyond what bcoin-stratum reads, a password may be an Argon2id hash as a PHC string,
//! which is how Seam exports users that have one.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use crate::ledger::{MAX_IMPORT, NewUser, Users, Verifier, check_name};

/// Bytes of a line at most, as in bcoin-stratum.
pub const MAX_LINE: usize = 10_000;

/// Why a file can't be imported. Lines count from 1.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UsersFileError {
    /// The line is too long.
    #[error("users file, line {0}: longer than {MAX_LINE} bytes")]
    TooLong(usize),
    /// The line is not the object that it should be.
    #[error("users file, line {line}: {why}")]
    NotAUser {
        /// Which line.
        line: usize,
        /// What is wrong.
        why: String,
    },
    /// The name can't be a user's.
    #[error(
        "users file, line {0}: a user name has 1 to 100 characters, none of them a control \
             character, and no white space around it"
    )]
    BadName(usize),
    /// The password is neither of the two hashes.
    #[error("users file, line {0}: the password is neither 64 hex digits nor an Argon2id hash")]
    BadPassword(usize),
}

/// Which users are exported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Export {
    /// All that have a password, for another Seam cluster.
    All,
    /// Those whose password bcoin-stratum can check: that have not logged in since they were
    /// imported from it.
    Bcoin,
}

#[derive(Serialize, Deserialize)]
struct Line<'a> {
    #[serde(borrow)]
    username: std::borrow::Cow<'a, str>,
    #[serde(borrow)]
    password: std::borrow::Cow<'a, str>,
}

/// Reads a file. Users come in the order of their first line, each name once.
///
/// # Errors
///
/// The first line that is wrong; then nothing of the file should be imported.
pub fn parse(file: &[u8]) -> Result<Vec<NewUser>, UsersFileError> {
    let mut users: Vec<NewUser> = Vec::new();
    let mut by_name = HashMap::new();
    for (index, line) in file.split(|&byte| byte == b'\n').enumerate() {
        let number = index + 1;
        if line.len() > MAX_LINE {
            return Err(UsersFileError::TooLong(number));
        }
        if line.trim_ascii().is_empty() {
            continue;
        }
        let user = parse_line(line, number)?;
        match by_name.get(&user.name) {
            Some(&place) => users[place] = user,
            None => {
                by_name.insert(user.name.clone(), users.len());
                users.push(user);
            }
        }
    }
    Ok(users)
}

/// Splits an import into what fits one command each.
pub fn batches(users: Vec<NewUser>) -> impl Iterator<Item = Vec<NewUser>> {
    let mut users = users.into_iter();
    std::iter::from_fn(move || {
        let batch: Vec<_> = users.by_ref().take(MAX_IMPORT).collect();
        (!batch.is_empty()).then_some(batch)
    })
}

/// Writes users as a file, in the order of their numbers. Says how many were left out: those
/// without a password and, for bcoin-stratum, those whose password it can't check.
pub fn export(users: &Users, which: Export) -> (String, usize) {
    let (mut file, mut left_out) = (String::new(), 0);
    for (_, user) in users.iter() {
        let password = match (&user.verifier, which) {
            (Verifier::Legacy(hash), _) => hex::encode(**hash),
            (Verifier::Argon2id(phc), Export::All) => phc.to_string(),
            _ => {
                left_out += 1;
                continue;
            }
        };
        let line = Line { username: (&*user.name).into(), password: password.into() };
        file += &serde_json::to_string(&line).expect("two strings are always JSON");
        file.push('\n');
    }
    (file, left_out)
}

fn parse_line(line: &[u8], number: usize) -> Result<NewUser, UsersFileError> {
    let line: Line<'_> = serde_json::from_slice(line)
        .map_err(|error| UsersFileError::NotAUser { line: number, why: error.to_string() })?;
    check_name(&line.username).map_err(|_| UsersFileError::BadName(number))?;
    let bad = UsersFileError::BadPassword(number);
    let mut hash = [0; 32];
    let verifier = if hex::decode_to_slice(line.password.as_bytes(), &mut hash).is_ok() {
        Verifier::Legacy(Box::new(hash))
    } else {
        Verifier::Argon2id(line.password.as_ref().into())
    };
    verifier.check().map_err(|_| bad)?;
    Ok(NewUser { name: line.username.into_owned(), verifier })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::{Command, Outcome, State};
    use crate::password::legacy;

    fn line(name: &str, password: &str) -> String {
        format!("{{\"username\":\"{name}\",\"password\":\"{}\"}}\n", hex::encode(legacy(password)))
    }

    #[test]
    fn file_of_bcoin_stratum_imports_and_exports_unchanged() {
        let file = line("alice", "a") + &line("bob", "b");
        let mut state = State::new();
        let users = parse(file.as_bytes()).unwrap();
        let outcome = state.apply(1, &Command::ImportUsers(users.clone()));
        assert_eq!(outcome, Outcome::Imported { added: 2, kept: 0 });
        let outcome = state.apply(2, &Command::ImportUsers(users));
        assert_eq!(outcome, Outcome::Imported { added: 0, kept: 2 });
        assert_eq!(export(state.users(), Export::Bcoin), (file.clone(), 0));
        assert_eq!(export(state.users(), Export::All), (file, 0));
    }

    #[test]
    fn later_line_replaces_an_earlier_one() {
        let file = line("alice", "a") + "\n" + &line("bob", "b") + &line("alice", "c");
        let users = parse(file.trim_end().as_bytes()).unwrap();
        assert_eq!(users.len(), 2);
        assert_eq!(users[0].verifier, Verifier::Legacy(Box::new(legacy("c"))));
    }

    #[test]
    fn bad_line_is_named() {
        let good = line("alice", "a");
        let parse = |bad: &str| parse((good.clone() + bad).as_bytes()).unwrap_err();
        assert!(matches!(parse("{"), UsersFileError::NotAUser { line: 2, .. }));
        assert!(matches!(parse("\0\u{fffd}"), UsersFileError::NotAUser { line: 2, .. }));
        assert_eq!(parse(&line("", "x")), UsersFileError::BadName(2));
        assert_eq!(
            parse("{\"username\":\"a\",\"password\":\"abcd\"}"),
            UsersFileError::BadPassword(2)
        );
        assert_eq!(parse(&" ".repeat(MAX_LINE + 1)), UsersFileError::TooLong(2));
    }

    #[test]
    fn export_for_bcoin_stratum_leaves_out_what_it_can_not_check() {
        let mut state = State::new();
        let argon = Verifier::Argon2id("$argon2id$v=19$m=64,t=2,p=1$c29tZXNhbHQ$AAAA".into());
        let user = NewUser { name: "a\"b".into(), verifier: argon };
        state.apply(1, &Command::AddUser(user.clone()));
        state.apply(2, &Command::EnsureUser { name: "address".into() });
        assert_eq!(export(state.users(), Export::Bcoin), (String::new(), 2));
        let (file, left_out) = export(state.users(), Export::All);
        assert_eq!((parse(file.as_bytes()).unwrap(), left_out), (vec![user], 1));
    }

    #[test]
    fn large_import_is_split() {
        let user = NewUser { name: "a".into(), verifier: Verifier::None };
        let sizes: Vec<_> = batches(vec![user; 2_500]).map(|batch| batch.len()).collect();
        assert_eq!(sizes, [1_000, 1_000, 500]);
    }
}
