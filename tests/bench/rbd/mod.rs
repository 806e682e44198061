//! `windlass-bench rbd`: what a volume in a Ceph cluster costs, beside bare system calls and beside programs, in one machine and one run.

mod bare;
mod counts;
mod figure;
mod guest;

use anyhow::{Context, Result, ensure};
pub(crate) use figure::Form;
use figure::{Figure, Goal, Report};
use guest::{Job, Order, Times};
use harness::bench::{self, Bench};
use harness::rbd;
use harness::vm::{GuestDaemon, stripped};
use std::time::Duration;

pub(crate) use guest::run as in_guest;

/// How often each thing is done, and with how many volumes.
const ROUNDS: usize = 9;
const FRESH_ROUNDS: usize = 9;
const TOGETHER: usize = 50;
const TOGETHER_ROUNDS: usize = 3;
const FEW: usize = 10;
const MANY: usize = 1000;

/// Where this binary lies in the machine.
const HERE: &str = "/run/windlass-bench";

/// Measures everything.
pub(crate) fn run(form: Form) -> Result<()> {
    bench::told_by(say);
    let mut report = Report::begin(form);
    let bench = Bench::start()?;
    let daemon = GuestDaemon::prepared(&bench.node1, "bench");
    let driver = rbd::serve(&daemon, &bench.cluster);
    let own = std::env::current_exe().context("the bench's own path")?;
    bench.node1.put(HERE, 0o755, &stripped(&own)?);
    let ordered = |job| order(&bench, &daemon, job);

    // Not before the other: its component is compiled by now, which takes too long under strace.
    say("programs, counted under strace");
    report.add(counts::programs(&bench)?);
    say(&format!("stages of a formatted volume, {ROUNDS} rounds"));
    let formatted = ordered(Job::Formatted { rounds: ROUNDS })?;
    let stage = Some(Goal::Ratio(1.10));
    report.add([
        beside("NodeStage, formatted ext4", &formatted, "stage", stage),
        beside("NodeStage, formatted ext4, new connection", &formatted, "stage, new connection", stage),
        beside("NodeUnstage", &formatted, "unstage", stage),
        beside("NodeUnstage, new connection", &formatted, "unstage, new connection", stage),
        beside("NodePublish", &formatted, "publish", Some(Goal::Over(1.0))),
        beside("NodeUnpublish", &formatted, "unpublish", Some(Goal::Over(1.0))),
    ]);
    say(&format!("stages of new volumes, {FRESH_ROUNDS} rounds"));
    let fresh = ordered(Job::Fresh { rounds: FRESH_ROUNDS })?;
    report.add([beside("NodeStage, fresh ext4", &fresh, "fresh stage", stage)]);
    say(&format!("{TOGETHER} new volumes at once, {TOGETHER_ROUNDS} rounds"));
    let together = ordered(Job::Together { volumes: TOGETHER, rounds: TOGETHER_ROUNDS })?;
    report.add([beside(&format!("NodeStage of {TOGETHER} fresh volumes at once"), &together, "together", Some(Goal::Ratio(1.0)))]);

    // The kernel renews the watch of each mapped image, which counts too.
    bench.node1.shell("cd /sys/bus/rbd/devices; for id in *; do echo $id >/sys/bus/rbd/remove_single_major; done");
    let mut made = 0;
    for volumes in [FEW, MANY] {
        say(&format!("operations, with {volumes} volumes"));
        ordered(Job::Fill { from: made, to: volumes })?;
        made = volumes;
        report.add(counts::operations(&bench.cluster, &driver, volumes)?);
    }
    report.end();
    Ok(())
}

fn say(line: &str) {
    eprintln!("bench: {line}");
}

/// Has a process in the machine do a job.
fn order(bench: &Bench, daemon: &GuestDaemon, job: Job) -> Result<Times> {
    let order = Order { folder: daemon.folder().to_owned(), monitor: bench.cluster.monitor_v1(), key: bench.cluster.admin_key().to_owned(), job };
    let output = bench.node1.try_output(&[HERE, "rbd-in-guest"], &serde_json::to_vec(&order)?, Duration::from_secs(1200))?;
    ensure!(output.status.success(), "in the machine: {}\n{}\n{}", output.status, String::from_utf8_lossy(&output.stderr), daemon.log());
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// A median beside those of the same done bare and by programs, whose names follow from its own.
fn beside(what: &str, times: &Times, name: &str, goal: Option<Goal>) -> Figure {
    let kind = name.split(',').next().unwrap_or(name);
    let value = median(times, name).unwrap_or_default();
    Figure::time(what, value, median(times, &format!("{kind}, bare")), median(times, &format!("{kind}, programs")), goal)
}

fn median(times: &Times, name: &str) -> Option<Duration> {
    let mut sorted = times.get(name)?.clone();
    sorted.sort_unstable();
    sorted.get(sorted.len().saturating_sub(1) / 2).map(|nanos| Duration::from_nanos(*nanos))
}
