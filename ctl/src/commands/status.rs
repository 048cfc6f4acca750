//! `seamctl status`: one picture from what every reachable member says.

use serde_json::Value;

use crate::admin::{Admin, Kind};
use crate::failure::Failure;
use crate::print::{self, Output, cell};

/// What a member knows about itself better than others do.
const OWN_FIELDS: [&str; 6] = ["ready", "not_ready", "draining", "sessions", "hashrate", "held"];

/// Runs the command.
pub(crate) fn run(admin: &Admin, out: Output) -> Result<(), Failure> {
    let mut seen = Vec::new();
    let mut last = None;
    for endpoint in admin.endpoints() {
        match admin.get_at(endpoint, "/v1/status") {
            Ok(document) => seen.push(document),
            Err(failure) => {
                if endpoint.kind != Kind::Unknown {
                    eprintln!("seamctl: {failure}");
                }
                last = Some(failure);
            }
        }
    }
    let Some(document) = merge(&seen) else {
        return Err(last.unwrap_or_else(|| Failure::Usage("the cluster file is empty".to_owned())));
    };
    out.show(&document, || describe(&document))
}

/// The document of the member that knows most, with each other member's own word about itself.
fn merge(seen: &[Value]) -> Option<Value> {
    let authority = seen.iter().max_by_key(|document| {
        (
            document["kind"] == "node",
            document["quorum"] == true,
            document["leader"] == document["name"],
            document["ledger"]["index"].as_u64(),
        )
    })?;
    let mut merged = authority.clone();
    for document in seen {
        let list = if document["kind"] == "proxy" { "proxies" } else { "nodes" };
        let Some(members) = merged[list].as_array_mut() else { continue };
        let Some(member) = members.iter_mut().find(|member| member["name"] == document["name"])
        else {
            continue;
        };
        for field in OWN_FIELDS {
            if !document[field].is_null() {
                member[field] = document[field].clone();
            }
        }
        for field in ["height", "tip"] {
            if !document["bitcoin"][field].is_null() {
                member[field] = document["bitcoin"][field].clone();
            }
        }
        if document["bitcoin"]["initial_download"] == true {
            for field in ["headers", "progress"] {
                member[field] = document["bitcoin"][field].clone();
            }
        }
    }
    Some(merged)
}

fn describe(document: &Value) -> String {
    let lose = match document["can_lose_one"].as_bool() {
        Some(true) => "yes",
        Some(false) => "no",
        None => "unknown",
    };
    let mut text = format!(
        "chain {}, leader {}, quorum {}\ncan lose one node now: {lose}{}\nledger at {}, hash {}\n\n",
        cell(&document["chain"]),
        cell(&document["leader"]),
        cell(&document["quorum"]),
        document["because"].as_str().map(|because| format!(" ({because})")).unwrap_or_default(),
        cell(&document["ledger"]["index"]),
        cell(&document["ledger"]["hash"]),
    );
    let list = |key: &str| document[key].as_array().cloned().unwrap_or_default();
    let mut nodes = list("nodes");
    for node in &mut nodes {
        if let Some(hashrate) = node["hashrate"].as_f64() {
            node["hashrate"] = scaled(hashrate).into();
        }
        if let Some(age) = node["age"].as_f64() {
            node["age"] = format!("{age:.1}").into();
        }
    }
    text.push_str(&print::table(
        &nodes,
        &[
            ("NODE", "name"),
            ("ROLE", "role"),
            ("UP", "up"),
            ("READY", "ready"),
            ("DRAINING", "draining"),
            ("SESSIONS", "sessions"),
            ("HASHRATE", "hashrate"),
            ("LAG", "lag"),
            ("AGE", "age"),
            ("HEIGHT", "height"),
            ("TIP", "tip"),
        ],
    ));
    for node in list("nodes") {
        if let Some(progress) = node["progress"].as_f64() {
            text.push_str(&format!(
                "{} downloads the chain: {:.2} %, {} of {} blocks; it takes miners when it is done\n",
                cell(&node["name"]),
                100.0 * progress,
                cell(&node["height"]),
                cell(&node["headers"]),
            ));
        }
    }
    if !list("proxies").is_empty() {
        text.push('\n');
        text.push_str(&print::table(
            &list("proxies"),
            &[
                ("PROXY", "name"),
                ("UP", "up"),
                ("READY", "ready"),
                ("DRAINING", "draining"),
                ("SESSIONS", "sessions"),
                ("HELD", "held"),
            ],
        ));
    }
    text
}

/// Hashes a second, as people say it.
fn scaled(mut hashrate: f64) -> String {
    const UNITS: [&str; 8] = ["H/s", "kH/s", "MH/s", "GH/s", "TH/s", "PH/s", "EH/s", "ZH/s"];
    let mut unit = 0;
    while hashrate >= 999.5 && unit + 1 < UNITS.len() {
        hashrate /= 1000.0;
        unit += 1;
    }
    format!("{hashrate:.1} {}", UNITS[unit])
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn picture_is_the_leaders_with_each_members_own_word() {
        let follower = json!({
            "kind": "node", "name": "a", "quorum": true, "leader": "b", "ready": false, "sessions": 7,
            "ledger": {"index": 9, "hash": "x"}, "bitcoin": {"height": 5, "tip": "aa"},
            "nodes": [{"name": "a", "sessions": 0}, {"name": "b", "sessions": 0}], "proxies": [],
        });
        let leader = json!({
            "kind": "node", "name": "b", "quorum": true, "leader": "b", "ready": true, "sessions": 3,
            "ledger": {"index": 9, "hash": "x"}, "bitcoin": {"height": 6, "tip": "bb"},
            "nodes": [{"name": "a", "sessions": 6, "lag": 1}, {"name": "b", "lag": 0}], "proxies": [],
        });
        let merged = merge(&[follower, leader]).unwrap();
        assert_eq!(merged["name"], "b");
        assert_eq!(
            merged["nodes"],
            json!([
                {"name": "a", "sessions": 7, "lag": 1, "ready": false, "height": 5, "tip": "aa"},
                {"name": "b", "sessions": 3, "lag": 0, "ready": true, "height": 6, "tip": "bb"},
            ])
        );
    }

    #[test]
    fn initial_download_shows_its_progress() {
        let node = json!({
            "kind": "node", "name": "a",
            "bitcoin": {
                "height": 400_000, "tip": "aa", "headers": 900_000, "initial_download": true,
                "progress": 0.1234,
            },
            "nodes": [{"name": "a"}], "proxies": [],
        });
        let text = describe(&merge(std::slice::from_ref(&node)).unwrap());
        assert!(text.contains("a downloads the chain: 12.34 %, 400000 of 900000 blocks"), "{text}");
        let mut synced = node;
        synced["bitcoin"]["initial_download"] = json!(false);
        assert!(!describe(&merge(&[synced]).unwrap()).contains("downloads"));
    }

    #[test]
    fn hashrate_is_said_in_its_unit() {
        let said = [0.0, 999.0, 1500.0, 4.1e15, 1e30].map(scaled);
        assert_eq!(said[..4], ["0.0 H/s", "999.0 H/s", "1.5 kH/s", "4.1 PH/s"]);
        assert!(said[4].ends_with(" ZH/s"));
    }

    #[test]
    fn nothing_seen_is_no_picture() {
        assert_eq!(merge(&[]), None);
    }
}
