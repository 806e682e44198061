//! The binary `windlass`: one program, four roles (serve, worker, plugin-host, effects) and the commands for people.

mod admin;
mod authority;
mod claims;
mod cli;
mod command;
mod config;
mod dev;
mod effects;
mod health;
mod house;
mod http;
mod keys;
mod refused;
mod registration;
mod serve;
mod served;
mod service;
mod status;
mod story;
mod worker;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::run()
}
