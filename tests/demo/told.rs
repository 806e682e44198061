//! How the demo is printed: scenes, steps with their times, and what the kernel says, set in.

use std::io::{IsTerminal, Write};
use std::process::Command;
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};
use tonic::Status;

/// A heading.
pub(crate) fn scene(title: &str) {
    println!("\n== {title}");
}

/// A line.
pub(crate) fn say(line: &str) {
    println!("   {line}");
}

/// A line about something that was shown to be so.
pub(crate) fn ok(line: &str) {
    println!(" ✓ {line}");
}

/// Does something and tells how long it took.
pub(crate) fn timed<T>(what: &str, deed: impl FnOnce() -> T) -> T {
    let began = Instant::now();
    let result = deed();
    println!("   {:>7.1} ms  {what}", began.elapsed().as_secs_f64() * 1000.0);
    result
}

/// What a program of the machine says.
pub(crate) fn shell(command: &mut Command) {
    match command.output() {
        Ok(output) => indent(&String::from_utf8_lossy(&output.stdout)),
        Err(error) => say(&format!("({error})")),
    }
}

/// Text, set in.
pub(crate) fn indent(text: &str) {
    for line in text.lines() {
        println!("      {line}");
    }
}

/// An error of the machine as an error of the story.
pub(crate) fn io(error: std::io::Error) -> Status {
    Status::internal(error.to_string())
}

/// Does something that takes a while, and shows on a terminal that it goes on.
pub(crate) fn waiting<T>(what: &str, deed: impl FnOnce() -> T) -> T {
    let began = Instant::now();
    let (is_over, over) = std::sync::mpsc::channel::<()>();
    let result = std::thread::scope(|scope| {
        scope.spawn(move || {
            while std::io::stdout().is_terminal() && over.recv_timeout(Duration::from_millis(200)) == Err(RecvTimeoutError::Timeout) {
                print!("\r   {:>7.1} s ...\r", began.elapsed().as_secs_f64());
                let _ = std::io::stdout().flush();
            }
        });
        let result = deed();
        drop(is_over);
        result
    });
    println!("   {:>7.1} s   {what}", began.elapsed().as_secs_f64());
    result
}
