//! What miners put into user names and passwords.

use crate::difficulty::Difficulty;

/// A password as miners send it: comma-separated options, and what is left is the password.
///
/// `x,d=0.5` is the password `x` with difficulty 0.5. Only options that are known *and* can be
/// read are taken out, so that a password with a comma in it still logs in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Password {
    /// What is left, in its order, joined with commas again.
    pub password: String,
    /// The last readable `d=` option.
    pub difficulty: Option<Difficulty>,
}

impl Password {
    /// Splits options from password.
    pub fn parse(text: &str) -> Self {
        let mut difficulty = None;
        let mut rest: Vec<&str> = Vec::new();
        for part in text.split(',') {
            let option = part.trim().strip_prefix("d=").and_then(|value| value.parse().ok());
            match option {
                Some(value) => difficulty = Some(value),
                None => rest.push(part),
            }
        }
        Self { password: rest.join(","), difficulty }
    }
}

/// Splits `user.worker` at the first dot. The user owns the shares; the worker is a name for
/// statistics, empty where there is none.
pub fn split_worker(name: &str) -> (&str, &str) {
    name.split_once('.').unwrap_or((name, ""))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn difficulty_option_leaves_the_password() {
        let parsed = Password::parse("x,d=0.5");
        assert_eq!(parsed.password, "x");
        assert_eq!(parsed.difficulty, Some(Difficulty::new(0.5).unwrap()));
        assert_eq!(Password::parse("d=1e-9").password, "");
        assert_eq!(Password::parse("d=1e-9").difficulty.unwrap().value(), 1e-9);
        assert_eq!(Password::parse("a,d=2,b").password, "a,b");
    }

    #[test]
    fn what_is_no_option_stays_in_the_password() {
        for password in ["", "x", "d=", "d=abc", "d=-1", "d=NaN", "d=inf", "a,b", "sd=5", "d=0"] {
            let parsed = Password::parse(password);
            assert_eq!(parsed.password, password);
            assert_eq!(parsed.difficulty, None);
        }
    }

    #[test]
    fn worker_belongs_to_its_user() {
        assert_eq!(split_worker("alice.rig.1"), ("alice", "rig.1"));
        assert_eq!(split_worker("alice"), ("alice", ""));
        assert_eq!(split_worker(".x"), ("", "x"));
    }

    proptest! {
        #[test]
        fn any_text_splits_without_growing(text in ".*") {
            let parsed = Password::parse(&text);
            prop_assert!(parsed.password.len() <= text.len());
            if parsed.difficulty.is_none() {
                prop_assert_eq!(parsed.password, text);
            }
        }
    }
}
