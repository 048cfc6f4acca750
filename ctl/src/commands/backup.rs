//! `seamctl backup` and `restore`: the ledger in one checksummed file.

use std::fs;
use std::io::Read;

use serde_json::json;
use ureq::http::Method;

use crate::admin::{Admin, Payload};
use crate::cli::{BackupOptions, RestoreOptions};
use crate::failure::Failure;
use crate::print::{Output, cell};
use crate::private_file;

/// Media type of a snapshot.
const SNAPSHOT: &str = "application/octet-stream";

/// Saves the ledger.
pub(crate) fn backup(admin: &Admin, options: &BackupOptions, out: Output) -> Result<(), Failure> {
    let mut bytes = Vec::new();
    admin
        .download("/v1/backup")?
        .read_to_end(&mut bytes)
        .map_err(|error| Failure::Unreachable(format!("the answer broke off: {error}")))?;
    private_file::write(&options.file, &bytes).map_err(|error| {
        Failure::Usage(format!("cannot write {}: {error}", options.file.display()))
    })?;
    out.show(&json!({"file": options.file, "bytes": bytes.len()}), || {
        format!("{}: {} bytes\n", options.file.display(), bytes.len())
    })
}

/// Forms a new cluster, on a node that is in none, from a saved ledger.
pub(crate) fn restore(admin: &Admin, options: &RestoreOptions, out: Output) -> Result<(), Failure> {
    let bytes = fs::read(&options.file).map_err(|error| {
        Failure::Usage(format!("cannot read {}: {error}", options.file.display()))
    })?;
    let first = admin.first_endpoint()?;
    let answer = admin.change_at(
        first,
        Method::POST,
        "/v1/cluster/restore",
        Payload::Bytes(SNAPSHOT, &bytes),
    )?;
    out.show(&answer, || {
        format!(
            "{} is a new cluster with the saved ledger: index {}, hash {}\n",
            first.address,
            cell(&answer["ledger"]["index"]),
            cell(&answer["ledger"]["hash"])
        )
    })
}
