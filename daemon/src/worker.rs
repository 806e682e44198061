//! The role `worker`: takes questions from its socket, one at a time, and does what they ask with `windlass-linux`. It may hang.

use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::time::Duration;
use windlass_linux::{Fate, Lease, OpenRoots, Tools};
use windlass_plan::failure::{Failure, Reason};
use windlass_plan::step::{Outcome, Step};
use windlass_wire::frame;
use windlass_wire::worker::{Answer, Ask, Look, Setup, Surveyed};

/// Runs until the daemon closes the socket. A step that is under way then is finished first.
pub(crate) fn run() -> ExitCode {
    let Ok(mut socket) = windlass_linux::inherited_socket(3) else {
        eprintln!("windlass: `worker` is started by the daemon, with its socket as descriptor 3");
        return ExitCode::FAILURE;
    };
    super::serve::log();
    match serve(&mut socket) {
        Ok(()) | Err(frame::FrameError::Closed) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error = &error as &dyn std::error::Error, "the worker's connection failed");
            ExitCode::FAILURE
        }
    }
}

fn serve(socket: &mut UnixStream) -> Result<(), frame::FrameError> {
    let setup: Setup = frame::read(socket, frame::LIMIT)?;
    let roots = OpenRoots::open(&setup.roots);
    let tools = Tools::find().limiting(&setup.limited_groups);
    let mut lease = None;
    loop {
        let ask: Ask = frame::read(socket, frame::LIMIT)?;
        let answer = match &roots {
            Ok(roots) => answer(ask, roots, &tools, &setup, &mut lease),
            Err(failure) => Err(failure.clone()),
        };
        frame::write(socket, &answer.unwrap_or_else(Answer::Failed))?;
    }
}

fn answer<'a>(ask: Ask, roots: &'a OpenRoots, tools: &'a Tools, setup: &Setup, lease: &mut Option<Lease<'a>>) -> Result<Answer, Failure> {
    match ask {
        Ask::Lease { volume, patience_ms, look } => {
            *lease = None;
            let lease = lease.insert(Lease::take(roots, tools, &setup.locks, volume, Duration::from_millis(patience_ms))?);
            look.map_or(Ok(Answer::Ok), |look| observed(lease, &look))
        }
        Ask::Release { is_gone } => {
            if let Some(lease) = lease.take() {
                lease.release(if is_gone { Fate::Forget } else { Fate::Keep });
            }
            Ok(Answer::Ok)
        }
        Ask::Observe(look) => observed(leased(lease)?, &look),
        Ask::Key(key) => {
            leased(lease)?.give_key(key.open());
            Ok(Answer::Ok)
        }
        Ask::Do(steps) => Ok(Answer::Done(done(leased(lease)?, &steps)?)),
        Ask::Undo(undos) => {
            let lease = leased(lease)?;
            Ok(Answer::Undone(undos.iter().map(|undo| lease.undo(undo)).collect()))
        }
        Ask::Usage(place) => Ok(Answer::Usage(leased(lease)?.usage(&place)?)),
        Ask::SourceExists { folder, name } => Ok(Answer::Exists(windlass_linux::source_exists(&folder, &name)?)),
        Ask::Survey => {
            let found = windlass_linux::survey()?.into_iter().map(surveyed);
            Ok(Answer::Survey(found.collect()))
        }
    }
}

fn done(lease: &mut Lease<'_>, steps: &[Step]) -> Result<Vec<Outcome>, Failure> {
    let mut outcomes = Vec::with_capacity(steps.len());
    for step in steps {
        outcomes.push(lease.apply(step)?);
        if outcomes.last() == Some(&Outcome::NeedsPreen) {
            break;
        }
    }
    Ok(outcomes)
}

fn observed(lease: &mut Lease<'_>, look: &Look) -> Result<Answer, Failure> {
    Ok(Answer::Observed(lease.observe_near(look.device.as_deref())?))
}

fn surveyed(found: windlass_linux::Surveyed) -> Surveyed {
    let windlass_linux::Surveyed { name, short, cluster, backing, size, is_read_only, mounted_at, below } = found;
    Surveyed { short_key: short, device: name, cluster, backing, size, is_read_only, mounted_at, below }
}

fn leased<'l, 'a>(lease: &'l mut Option<Lease<'a>>) -> Result<&'l mut Lease<'a>, Failure> {
    lease.as_mut().ok_or_else(|| Failure::new(Reason::WorkerLost, "the worker holds no volume"))
}
