//! The commands for people: each asks, and prints a table or JSON.

pub(crate) mod check;
pub(crate) mod csi;
pub(crate) mod devices;
pub(crate) mod explain;
pub(crate) mod ops;
pub(crate) mod plugin;
pub(crate) mod rehearsal;
pub(crate) mod signing;
pub(crate) mod starter;
pub(crate) mod status;

use crate::admin::{Question, Reply};
use crate::cli::Ask;
use anyhow::Context;
use comfy_table::{ContentArrangement, Table, presets};
use std::io::{BufRead, BufReader, IsTerminal, Write};
use std::os::unix::net::UnixStream;

/// How to print.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Output {
    /// For people.
    Table,
    /// For programs.
    Json,
}

/// Asks a running daemon.
pub(crate) fn ask<T: serde::de::DeserializeOwned>(ask: &Ask, question: &Question) -> anyhow::Result<T> {
    let path = ask.admin.display();
    let mut stream = UnixStream::connect(&ask.admin)
        .with_context(|| format!("no daemon answers at {path}; is it running, and are you root? (`--admin PATH` names another)"))?;
    let mut text = serde_json::to_vec(question)?;
    text.push(b'\n');
    stream.write_all(&text)?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line)?;
    match serde_json::from_str(&line).with_context(|| format!("the daemon at {path} is of another version"))? {
        Reply::Ok(value) => Ok(serde_json::from_value(value)?),
        Reply::Error(error) => anyhow::bail!("{error}"),
    }
}

/// Prints for programs.
pub(crate) fn print_json<T: serde::Serialize>(value: &T) -> anyhow::Result<()> {
    print(&serde_json::to_string_pretty(value)?)
}

/// Prints a table, as wide as the terminal; to a pipe, as wide as it needs to be.
pub(crate) fn print_table(header: &[&str], rows: Vec<Vec<String>>) -> anyhow::Result<()> {
    let mut table = Table::new();
    let arrangement = if std::io::stdout().is_terminal() { ContentArrangement::Dynamic } else { ContentArrangement::Disabled };
    table.load_preset(presets::NOTHING).set_content_arrangement(arrangement).set_header(header).add_rows(rows);
    let text: Vec<String> = table.lines().map(|line| line.trim_end().to_owned()).collect();
    print(&text.join("\n"))
}

/// Prints a line; a reader that has gone (`| head`) is no error.
pub(crate) fn print(text: &str) -> anyhow::Result<()> {
    match writeln!(std::io::stdout(), "{text}") {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        other => Ok(other?),
    }
}

/// Bytes for people: exact where that is short.
pub(crate) fn size(bytes: u64) -> String {
    for (unit, shift) in [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)] {
        if bytes >= 1 << shift {
            let whole = bytes as f64 / (1_u64 << shift) as f64;
            return if bytes.trailing_zeros() >= shift { format!("{whole:.0} {unit}") } else { format!("{whole:.1} {unit}") };
        }
    }
    format!("{bytes} B")
}
