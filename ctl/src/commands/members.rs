//! `seamctl cluster init` and `seamctl member`.

use serde_json::json;
use ureq::http::Method;

use crate::admin::{Admin, Payload, escape, rows};
use crate::cli::{ClusterCommand, MemberCommand};
use crate::failure::Failure;
use crate::print::{self, Output};

/// Runs `cluster …`.
pub(crate) fn cluster(admin: &Admin, command: &ClusterCommand, out: Output) -> Result<(), Failure> {
    match command {
        ClusterCommand::Init => {
            // Two nodes asked would be two clusters: it must be clear which one is meant.
            let first = admin.first_endpoint()?;
            let answer = admin.change_at(
                first,
                Method::POST,
                "/v1/cluster/init",
                Payload::Json(&json!({})),
            )?;
            out.show(&answer, || format!("{} is a cluster of one now\n", first.address))
        }
    }
}

/// Runs `member …`.
pub(crate) fn run(admin: &Admin, command: &MemberCommand, out: Output) -> Result<(), Failure> {
    match command {
        MemberCommand::List => {
            let answer = admin.get("/v1/members")?;
            out.show(&answer, || {
                print::table(
                    &rows(&answer, "members"),
                    &[("NAME", "name"), ("ID", "id"), ("ROLE", "role"), ("ADDRESS", "address")],
                )
            })
        }
        MemberCommand::Add { name } => {
            let answer =
                admin.change(Method::POST, "/v1/members", Payload::Json(&json!({"name": name})))?;
            out.show(&answer, || format!("{name} may join\n"))
        }
        MemberCommand::Remove { name } => {
            let path = format!("/v1/members/{}", escape(name));
            let answer = admin.change(Method::DELETE, &path, Payload::None)?;
            out.show(&answer, || {
                format!("{name} is no member any more; it may join again with an empty disk\n")
            })
        }
    }
}
