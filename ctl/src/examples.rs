//! What stands below each command's help: when to use it, what its exit code says, and lines to copy.

use clap::Command;

use crate::failure::EXIT_CODES;

/// Commands with what is worth knowing about each and examples. Each example is parsed by a test.
const HELP: &[(&str, &str, &str)] = &[
    (
        "dev up",
        "Stops with Ctrl-C or SIGTERM, exit code 0. What dies stays dead unless --respawn is given. Ends with 1 when not all are ready in time.",
        "seamctl dev up --nodes 3 --proxies 1 --dir /tmp/pool
seamctl dev up --nodes 3 --dir /tmp/pool --chain devnet --authorization open
seamctl --cluster /tmp/pool/cluster.json status",
    ),
    (
        "status",
        "Needs no token. With several addresses each member's own word is taken; one that answers is enough for 0.
LAG is in ledger entries, AGE in seconds since a node last said how it is.",
        "seamctl --admin node-0.seam:9333 status
seamctl --admin node-0.seam:9333,node-1.seam:9333 --json status",
    ),
    (
        "cluster init",
        "All other nodes join by themselves through their seeds. Refused (1) by a node that belongs to a cluster.",
        "seamctl --admin node-0.seam:9333 --token-file admin.token cluster init",
    ),
    (
        "member list",
        "A learner receives the ledger and does not vote yet.",
        "seamctl --admin node-0.seam:9333 member list",
    ),
    (
        "member add",
        "Waits until the node votes. Seldom needed: a node with a new name joins by itself.",
        "seamctl --admin node-0.seam:9333 --token-file admin.token member add node-3",
    ),
    (
        "member remove",
        "For good: before a node is taken out, and before one with a lost disk comes back empty. Not for an upgrade.
Needs a quorum of the members that there are. Drain the node first if it runs.",
        "seamctl --admin node-0.seam:9333 --token-file admin.token member remove node-2",
    ),
    (
        "drain",
        "A node's sessions move to the other nodes; a proxy's miners are told to connect again. The leadership is given up, too. The
process goes on running and stays a member. Exit code 1 when sessions are left after --timeout; it goes on draining.",
        "seamctl --admin node-2.seam:9333 --token-file admin.token drain
seamctl --cluster /tmp/pool/cluster.json drain node-2 --timeout 60",
    ),
    (
        "undrain",
        "Also calls off a drain that goes on.",
        "seamctl --admin node-2.seam:9333 --token-file admin.token undrain
seamctl --cluster /tmp/pool/cluster.json undrain node-2",
    ),
    (
        "user add",
        "The user can mine on every node once the command is done. Refused (1) if the name is taken.",
        "seamctl --admin node-0.seam:9333 --token-file admin.token user add alice --password-stdin < password.txt",
    ),
    ("user list", "", "seamctl --admin node-0.seam:9333 user list"),
    (
        "user password",
        "It counts on every node once the command is done. Miners that are logged in stay logged in.",
        "seamctl --admin node-0.seam:9333 --token-file admin.token user password alice --password-stdin < password.txt",
    ),
    (
        "user disable",
        "",
        "seamctl --admin node-0.seam:9333 --token-file admin.token user disable alice",
    ),
    (
        "user enable",
        "",
        "seamctl --admin node-0.seam:9333 --token-file admin.token user enable alice",
    ),
    (
        "user import",
        "Takes bcoin-stratum's users.json. Users that are known already stay as they are.",
        "seamctl --admin node-0.seam:9333 --token-file admin.token user import users.json
seamctl --admin node-0.seam:9333 --token-file admin.token user import - < users.json",
    ),
    (
        "user export",
        "Holds password hashes.",
        "seamctl --admin node-0.seam:9333 --token-file admin.token user export --output users.json",
    ),
    ("blocks", "Newest first.", "seamctl --admin node-0.seam:9333 blocks"),
    (
        "rounds",
        "Work counts expected hashes, in integers.",
        "seamctl --admin node-0.seam:9333 rounds
seamctl --admin node-0.seam:9333 --json rounds --height 871200",
    ),
    (
        "payouts",
        "The amounts and the fee add up to the reward exactly. Pay when the block is mature.",
        "seamctl --admin node-0.seam:9333 payouts --height 871200 --fee 1.5
seamctl --admin node-0.seam:9333 payouts --height 871200 --format outputs",
    ),
    (
        "backup",
        "While the cluster runs, from any member. What a restore loses is the shares since.",
        "seamctl --admin node-0.seam:9333 --token-file admin.token backup seam.backup",
    ),
    (
        "restore",
        "In place of `cluster init`, on one node that belongs to no cluster; the others join it with empty disks. Only when the old
cluster is gone for good: two clusters with one identity must never run.",
        "seamctl --admin node-0.seam:9333 --token-file admin.token restore seam.backup",
    ),
    ("certs ca", "Keep ca.key off the servers.", "seamctl certs ca --dir ca"),
    (
        "certs node",
        "The name is the `name` in the node's configuration. Run again to renew: members read changed files without a restart.",
        "seamctl certs node node-0 --dir ca --out node-0 --host node-0.seam",
    ),
    (
        "certs proxy",
        "The name is the `name` in the proxy's configuration. Run again to renew.",
        "seamctl certs proxy proxy-0 --dir ca --out proxy-0",
    ),
    (
        "mine",
        "For tests and private chains. Ends with 0 when its limit is reached or it is interrupted.",
        "seamctl mine --url 127.0.0.1:3333 --user alice.rig --password x --blocks 1
seamctl mine --url stratum+ssl://127.0.0.1:3334 --ca ca.pem --user alice --for 60",
    ),
];

/// Puts notes, examples and exit codes below the help of every command.
pub(crate) fn add(command: Command) -> Command {
    add_below(command, "")
}

fn add_below(command: Command, path: &str) -> Command {
    let command = command.mut_subcommands(|sub| {
        let path = format!("{path} {}", sub.get_name()).trim_start().to_owned();
        add_below(sub, &path)
    });
    match HELP.iter().find(|(of, ..)| *of == path) {
        None => command,
        Some((_, notes, examples)) => {
            let notes = if notes.is_empty() { String::new() } else { format!("{notes}\n\n") };
            let examples: String = examples.lines().map(|line| format!("  {line}\n")).collect();
            command.after_help(format!("{notes}Examples:\n{examples}\n{EXIT_CODES}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::*;
    use crate::cli::Cli;

    fn leaves(command: &Command, path: &str, found: &mut Vec<String>) {
        for sub in command.get_subcommands().filter(|sub| sub.get_name() != "help") {
            let path = format!("{path} {}", sub.get_name()).trim_start().to_owned();
            if sub.has_subcommands() {
                leaves(sub, &path, found);
            } else {
                found.push(path);
            }
        }
    }

    #[test]
    fn every_command_has_examples_and_they_are_valid() {
        let mut commands = Vec::new();
        leaves(&Cli::command(), "", &mut commands);
        assert_eq!(commands, HELP.iter().map(|(path, ..)| *path).collect::<Vec<_>>());
        for (path, _, examples) in HELP {
            assert!(examples.contains(path), "{path} has no example of its own");
            for line in examples.lines() {
                let words = line.split(" < ").next().unwrap_or_default().split(' ');
                if let Err(error) = Cli::try_parse_from(words) {
                    panic!("{line}: {error}");
                }
            }
        }
    }

    #[test]
    fn help_of_every_command_says_its_exit_codes() {
        let mut commands = Vec::new();
        leaves(&Cli::command(), "", &mut commands);
        for path in commands {
            let words = ["seamctl"].into_iter().chain(path.split(' ')).chain(["--help"]);
            let help = add(Cli::command()).try_get_matches_from(words).unwrap_err().to_string();
            assert!(help.contains("Examples:\n") && help.contains("Exit codes:\n"), "{help}");
        }
    }
}
