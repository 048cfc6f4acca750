//! Nodes agree: the same ledger at the same index, the same dumps.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::{Cluster, until};

/// Ledger hashes by index, as they were seen on any node at any time.
#[derive(Debug, Default)]
pub struct Agreement {
    seen: BTreeMap<u64, (String, String)>,
}

impl Agreement {
    /// Looks at every node that answers; panics if two had different ledgers at one index. Returns the index of each.
    pub fn look(&mut self, cluster: &Cluster) -> Vec<Option<u64>> {
        let nodes = cluster.nodes().iter();
        nodes
            .map(|node| {
                let status = cluster.get(&node.name, "/v1/status")?;
                self.saw(&node.name, &status["ledger"])
            })
            .collect()
    }

    fn saw(&mut self, node: &str, ledger: &Value) -> Option<u64> {
        let (index, hash) = (ledger["index"].as_u64()?, ledger["hash"].as_str()?);
        let first = self.seen.entry(index).or_insert_with(|| (hash.to_owned(), node.to_owned()));
        assert_eq!(first.0, hash, "the ledgers of {} and {node} differ at index {index}", first.1);
        Some(index)
    }

    /// How many indices were seen.
    pub fn indices(&self) -> usize {
        self.seen.len()
    }

    /// Waits until all nodes have the same ledger and the same dumps, and returns the rounds. Nothing may be on its
    /// way into the ledger meanwhile but what becomes of blocks.
    pub fn settle(&mut self, cluster: &Cluster) -> Value {
        until("all nodes to be at one index, with the same dumps", || {
            let at = self.look(cluster);
            let first = at.first().copied().flatten()?;
            if !at.iter().all(|index| *index == Some(first)) {
                return None;
            }
            let dumps = cluster.nodes().iter().map(|node| dumps(&node.data_dir));
            let dumps: Vec<BTreeMap<String, Vec<u8>>> = dumps.collect();
            let rounds: Option<Vec<Value>> =
                cluster.nodes().iter().map(|node| cluster.get(&node.name, "/v1/rounds")).collect();
            let rounds = rounds?;
            // Nothing moved while we looked.
            let same = dumps.iter().all(|other| *other == dumps[0])
                && rounds.iter().all(|other| *other == rounds[0])
                && self.look(cluster).iter().all(|index| *index == Some(first));
            let all_dumped = dumps[0].len() == rounds[0]["past"].as_array()?.len();
            (same && all_dumped).then(|| rounds[0].clone())
        })
    }
}

/// A node's round files by name.
fn dumps(data_dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(data_dir.join("shares")).into_iter().flatten();
    entries
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.path().extension().is_some_and(|end| end == "json"))
        .filter_map(|entry| {
            let name = entry.file_name().into_string().unwrap();
            // It may be replaced while we look.
            Some((name, fs::read(entry.path()).ok()?))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    #[should_panic(expected = "differ at index 7")]
    fn other_ledger_at_the_same_index_is_found() {
        let mut agreement = Agreement::default();
        agreement.saw("a", &json!({"index": 6, "hash": "x"}));
        agreement.saw("a", &json!({"index": 7, "hash": "y"}));
        agreement.saw("b", &json!({"index": 7, "hash": "y"}));
        agreement.saw("c", &json!({"index": 7, "hash": "z"}));
    }
}
