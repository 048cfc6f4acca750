//! `seamctl blocks` and `seamctl rounds`.

use serde_json::Value;

use crate::admin::{Admin, rows};
use crate::cli::RoundsOptions;
use crate::failure::Failure;
use crate::print::{self, Output, cell};

/// Blocks that the pool found.
pub(crate) fn blocks(admin: &Admin, out: Output) -> Result<(), Failure> {
    let answer = admin.get("/v1/blocks")?;
    out.show(&answer, || {
        print::table(
            &rows(&answer, "blocks"),
            &[
                ("HEIGHT", "height"),
                ("STATUS", "status"),
                ("HASH", "hash"),
                ("NODE", "node"),
                ("USER", "user"),
                ("REWARD", "reward"),
                ("SHARES", "shares"),
            ],
        )
    })
}

/// Shares and work per user.
pub(crate) fn rounds(admin: &Admin, options: &RoundsOptions, out: Output) -> Result<(), Failure> {
    match options.height {
        None => {
            let answer = admin.get("/v1/rounds")?;
            out.show(&answer, || describe(&answer))
        }
        Some(height) => {
            let answer = admin.get(&format!("/v1/rounds/{height}"))?;
            out.show(&answer, || format!("{}\n{}", headline(&answer), users(&answer)))
        }
    }
}

fn describe(answer: &Value) -> String {
    let current = &answer["current"];
    let mut text = format!("current round: {}\n{}", sums(current), users(current));
    for round in rows(&answer["past"], "") {
        text.push_str(&format!("\n{}\n{}", headline(&round), users(&round)));
    }
    text
}

fn headline(round: &Value) -> String {
    format!(
        "block {} {} ({}): {}",
        cell(&round["height"]),
        cell(&round["hash"]),
        cell(&round["status"]),
        sums(round)
    )
}

fn sums(round: &Value) -> String {
    format!("{} shares, work {}", cell(&round["shares"]), cell(&round["work"]))
}

fn users(round: &Value) -> String {
    let lines: Vec<Vec<String>> = round["users"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(name, user)| {
            vec![
                format!("  {name}"),
                format!("{} shares", cell(&user["shares"])),
                format!("work {}", cell(&user["work"])),
            ]
        })
        .collect();
    print::align(&lines)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn rounds_are_told_with_their_users() {
        let answer = json!({
            "current": {"shares": 2, "work": "20", "users": {"bob": {"shares": 2, "work": "20"}}},
            "past": [{"height": 7, "hash": "00ab", "status": "pending", "shares": 1, "work": "10",
                      "users": {"al": {"shares": 1, "work": "10"}}}],
        });
        assert_eq!(
            describe(&answer),
            "current round: 2 shares, work 20\n  bob  2 shares  work 20\n\n\
             block 7 00ab (pending): 1 shares, work 10\n  al  1 shares  work 10\n"
        );
    }
}
