//! `seamctl`: what an operator types. Each command is one module; this file only chooses.

#![forbid(unsafe_code)]

mod admin;
mod certs;
mod cli;
mod cluster_file;
mod commands;
mod dev;
mod examples;
mod failure;
mod mine;
mod print;
mod private_file;

use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches};

use crate::cli::{Cli, Command, DevCommand};
use crate::failure::Failure;

fn main() -> ExitCode {
    let matches = examples::add(Cli::command()).get_matches();
    let cli = Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("seamctl: {failure}");
            failure.exit_code()
        }
    }
}

fn run(cli: Cli) -> Result<(), Failure> {
    let out = print::Output { json: cli.json };
    match cli.command {
        Command::Dev(DevCommand::Up(options)) => dev::up(&options),
        Command::Mine(options) => mine::run(&options, out),
        Command::Certs(command) => certs::run(&command, out),
        Command::Status => commands::status::run(&cli.target.connect()?, out),
        Command::Cluster(command) => {
            commands::members::cluster(&cli.target.connect()?, &command, out)
        }
        Command::Member(command) => commands::members::run(&cli.target.connect()?, &command, out),
        Command::Drain(options) => commands::drain::drain(&cli.target.connect()?, &options, out),
        Command::Undrain(options) => {
            commands::drain::undrain(&cli.target.connect()?, &options, out)
        }
        Command::User(command) => commands::users::run(&cli.target.connect()?, &command, out),
        Command::Blocks => commands::rounds::blocks(&cli.target.connect()?, out),
        Command::Rounds(options) => commands::rounds::rounds(&cli.target.connect()?, &options, out),
        Command::Payouts(options) => commands::payouts::run(&cli.target.connect()?, &options, out),
        Command::Backup(options) => commands::backup::backup(&cli.target.connect()?, &options, out),
        Command::Restore(options) => {
            commands::backup::restore(&cli.target.connect()?, &options, out)
        }
    }
}
