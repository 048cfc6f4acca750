//! `seamctl user`.

use std::fs;
use std::io::{self, Read};
use std::path::Path;

use serde_json::json;
use ureq::http::Method;

use crate::admin::{Admin, Payload, escape, rows};
use crate::cli::UserCommand;
use crate::failure::Failure;
use crate::print::{self, Output};
use crate::private_file;

/// Media type of a `users.json`: one JSON object per line.
const LINES: &str = "application/x-ndjson";

/// Runs the command.
pub(crate) fn run(admin: &Admin, command: &UserCommand, out: Output) -> Result<(), Failure> {
    match command {
        UserCommand::Add { name, password } => {
            let body = json!({"name": name, "password": password.read()?});
            let answer = admin.change(Method::POST, "/v1/users", Payload::Json(&body))?;
            out.show(&answer, || format!("{name} may mine on every node now\n"))
        }
        UserCommand::List => {
            let answer = admin.get("/v1/users")?;
            out.show(&answer, || {
                print::table(&rows(&answer, "users"), &[("NAME", "name"), ("DISABLED", "disabled")])
            })
        }
        UserCommand::Password { name, password } => {
            let path = format!("/v1/users/{}/password", escape(name));
            let body = json!({"password": password.read()?});
            let answer = admin.change(Method::POST, &path, Payload::Json(&body))?;
            out.show(&answer, || format!("{name} logs in with the new password now\n"))
        }
        UserCommand::Disable { name } => switch(admin, name, "disable", out),
        UserCommand::Enable { name } => switch(admin, name, "enable", out),
        UserCommand::Import { file } => import(admin, file, out),
        UserCommand::Export { output } => export(admin, output.as_deref()),
    }
}

fn switch(admin: &Admin, name: &str, action: &str, out: Output) -> Result<(), Failure> {
    let path = format!("/v1/users/{}/{action}", escape(name));
    let answer = admin.change(Method::POST, &path, Payload::None)?;
    out.show(&answer, || format!("{name} is {action}d\n"))
}

fn import(admin: &Admin, file: &Path, out: Output) -> Result<(), Failure> {
    let read = if file == Path::new("-") {
        let mut bytes = Vec::new();
        io::stdin().read_to_end(&mut bytes).map(|_| bytes)
    } else {
        fs::read(file)
    };
    let bytes =
        read.map_err(|error| Failure::Usage(format!("cannot read {}: {error}", file.display())))?;
    let answer = admin.change(Method::POST, "/v1/users/import", Payload::Bytes(LINES, &bytes))?;
    out.show(&answer, || match answer["imported"].as_u64() {
        Some(imported) => format!("{imported} users imported\n"),
        None => "imported\n".to_owned(),
    })
}

fn export(admin: &Admin, output: Option<&Path>) -> Result<(), Failure> {
    let mut bytes = Vec::new();
    admin
        .download("/v1/users/export")?
        .read_to_end(&mut bytes)
        .map_err(|error| Failure::Unreachable(format!("the answer broke off: {error}")))?;
    match output {
        None => print::raw(&bytes),
        Some(path) => private_file::write(path, &bytes)
            .map_err(|error| Failure::Usage(format!("cannot write {}: {error}", path.display()))),
    }
}
