//! The configuration files of a local cluster.

use toml::{Table, Value};

use super::layout::{Layout, NodePorts, ProxyPorts};
use crate::cli::{Authorization, DevChain, DevUpOptions};
use crate::failure::Failure;
use crate::private_file;

/// Pays to the script `OP_TRUE` (as P2WSH): tests and demonstrations spend from it without a key.
const ANYONE_REGTEST: &str = "bcrt1qft5p2uhsdcdc3l2ua4ap5qqfg4pjaqlp250x7us7a8qqhrxrxfsqseac85";
const ANYONE_DEVNET: &str = "tb1qft5p2uhsdcdc3l2ua4ap5qqfg4pjaqlp250x7us7a8qqhrxrxfsqaqh7jw";

/// The least difficulty that the node can do: tests mine with next to no hashing.
const LOWEST_DIFFICULTY: f64 = 1e-10;

/// Miners that a test may bring from the one address that it has.
const CONNECTIONS: i64 = 100_000;

/// Core options that keep a node on loopback and small. A chain that starts at its genesis block of
/// years ago counts as synced (`-maxtipage`), or no transaction would be relayed on it.
const CORE_OPTIONS: [&str; 9] = [
    "-listen=1",
    "-dnsseed=0",
    "-fixedseeds=0",
    "-discover=0",
    "-listenonion=0",
    "-i2pacceptincoming=0",
    "-maxtipage=3153600000",
    "-dbcache=16",
    "-par=1",
];

/// Writes every member's configuration.
pub(super) fn write_all(layout: &Layout, options: &DevUpOptions) -> Result<(), Failure> {
    for node in &layout.nodes {
        write(layout, &node.name, node_table(layout, node, options), &options.set)?;
    }
    for proxy in &layout.proxies {
        write(layout, &proxy.name, proxy_table(layout, proxy), &options.set_proxy)?;
    }
    Ok(())
}

fn node_table(layout: &Layout, node: &NodePorts, options: &DevUpOptions) -> Table {
    let others = || layout.nodes.iter().filter(|other| other.name != node.name);
    let mut core: Vec<String> = CORE_OPTIONS.map(str::to_owned).to_vec();
    core.push(format!("-bind={}", node.p2p()));
    core.extend(others().map(|other| format!("-addnode={}", other.p2p())));
    if options.rpc {
        core.extend(
            ["-server=1", "-rpcbind=127.0.0.1", "-rpcallowip=127.0.0.1"].map(str::to_owned),
        );
        core.push(format!("-rpcport={}", node.rpc));
    } else {
        core.push("-server=0".to_owned());
    }
    core.extend(options.core_options.iter().cloned());

    let (cert, key) = layout.certificate_of(&node.name);
    let anyone = match options.chain {
        DevChain::Regtest => ANYONE_REGTEST,
        DevChain::Devnet => ANYONE_DEVNET,
    };
    let authorization = match options.authorization {
        Authorization::Registered => "registered",
        Authorization::Address => "address",
        Authorization::Open => "open",
    };
    table([
        ("name", node.name.as_str().into()),
        ("data_dir", path(&layout.data_dir(&node.name))),
        (
            "bitcoin",
            section([
                ("chain", layout.chain.as_str().into()),
                ("options", Value::Array(core.into_iter().map(Value::from).collect())),
            ]),
        ),
        (
            "stratum",
            section([("listen", node.stratum().into()), ("public", node.stratum().into())]),
        ),
        (
            "cluster",
            section([
                ("listen", node.cluster().into()),
                ("advertise", node.cluster().into()),
                ("seeds", Value::Array(others().map(|other| other.cluster().into()).collect())),
                ("ca", path(&layout.ca())),
                ("cert", path(&cert)),
                ("key", path(&key)),
            ]),
        ),
        (
            "admin",
            section([("listen", node.admin().into()), ("token_file", path(&layout.token_file()))]),
        ),
        (
            "pool",
            section([
                ("address", options.address.as_deref().unwrap_or(anyone).into()),
                ("authorization", authorization.into()),
                ("admin_password_file", path(&layout.password_file())),
            ]),
        ),
        (
            "difficulty",
            section([
                ("start", options.start_difficulty.into()),
                ("minimum", LOWEST_DIFFICULTY.into()),
                ("target_seconds", f64::from(options.target_seconds).into()),
            ]),
        ),
        (
            "limits",
            section([("connections", CONNECTIONS.into()), ("per_address", CONNECTIONS.into())]),
        ),
    ])
}

fn proxy_table(layout: &Layout, proxy: &ProxyPorts) -> Table {
    let (cert, key) = layout.certificate_of(&proxy.name);
    table([
        ("name", proxy.name.as_str().into()),
        (
            "stratum",
            section([
                ("listen", proxy.stratum().into()),
                ("listen_tls", proxy.stratum_tls().into()),
                ("tls_cert", path(&cert)),
                ("tls_key", path(&key)),
                ("public", proxy.stratum().into()),
            ]),
        ),
        (
            "cluster",
            section([
                (
                    "seeds",
                    Value::Array(layout.nodes.iter().map(|node| node.cluster().into()).collect()),
                ),
                ("ca", path(&layout.ca())),
                ("cert", path(&cert)),
                ("key", path(&key)),
            ]),
        ),
        (
            "admin",
            section([("listen", proxy.admin().into()), ("token_file", path(&layout.token_file()))]),
        ),
    ])
}

fn write(
    layout: &Layout,
    name: &str,
    mut table: Table,
    settings: &[String],
) -> Result<(), Failure> {
    for setting in settings {
        set(&mut table, setting)?;
    }
    let file = layout.config_of(name);
    private_file::write(&file, table.to_string().as_bytes())
        .map_err(|error| Failure::Usage(format!("cannot write {}: {error}", file.display())))
}

/// Lays one `section.key=value` over a configuration. The value is TOML, or else plain text.
fn set(table: &mut Table, setting: &str) -> Result<(), Failure> {
    let wrong = || Failure::Usage(format!("--set {setting:?}: expected SECTION.KEY=VALUE"));
    let (key, text) = setting.split_once('=').ok_or_else(wrong)?;
    let value = format!("value = {text}")
        .parse::<Table>()
        .ok()
        .and_then(|mut parsed| parsed.remove("value"))
        .unwrap_or_else(|| Value::String(text.to_owned()));
    let (place, key) = match key.trim().split_once('.') {
        None => (table, key.trim()),
        Some((name, key)) => {
            let place = table.entry(name).or_insert_with(|| Value::Table(Table::new()));
            (place.as_table_mut().ok_or_else(wrong)?, key)
        }
    };
    place.insert(key.to_owned(), value);
    Ok(())
}

fn table<const N: usize>(entries: [(&str, Value); N]) -> Table {
    entries.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

fn section<const N: usize>(entries: [(&str, Value); N]) -> Value {
    Value::Table(table(entries))
}

fn path(path: &std::path::Path) -> Value {
    Value::String(path.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use bitcoin::{Address, Network, ScriptBuf};

    use super::*;

    #[test]
    fn default_addresses_pay_to_anyone() {
        let script = ScriptBuf::from_bytes(vec![0x51]);
        for (network, text) in
            [(Network::Regtest, ANYONE_REGTEST), (Network::Signet, ANYONE_DEVNET)]
        {
            assert_eq!(Address::p2wsh(&script, network).to_string(), text);
        }
    }

    #[test]
    fn setting_is_toml_or_else_text() {
        let mut table: Table = "[pool]\ntag = \"/seam/\"\n".parse().unwrap();
        for setting in ["pool.tag=/x/", "jobs.refresh_seconds=5", "name=\"a=b\"", "a.b=[1]"] {
            set(&mut table, setting).unwrap();
        }
        assert_eq!(table["pool"]["tag"].as_str(), Some("/x/"));
        assert_eq!(table["jobs"]["refresh_seconds"].as_integer(), Some(5));
        assert_eq!(table["name"].as_str(), Some("a=b"));
        assert!(table["a"]["b"].is_array());
        assert!(set(&mut table, "nonsense").is_err());
        assert!(set(&mut table, "name.x=1").is_err());
    }
}
