//! `wasi:clocks` and the pollables of `wasi:io`: fixed for pure calls, coarse for others; waiting ends with the call's time.

use crate::call::{Call, Ended, Nature};
use std::time::{Duration, Instant, SystemTime};
use wasmtime::StoreContextMut;
use wasmtime::component::{ComponentType, Lift, LinkerInstance, Lower, Resource};

/// Timers of one call that wait at once.
const TIMERS: usize = 64;

/// The representation of a pollable that is always ready.
pub(super) const READY: u32 = u32::MAX;

/// Something to wait for: a timer by its number, or [`READY`].
pub(super) struct Pollable;

#[derive(ComponentType, Lift, Lower, Clone, Copy)]
#[component(record)]
struct Datetime {
    seconds: u64,
    nanoseconds: u32,
}

/// The guest's clocks show milliseconds: enough for time-outs, too coarse to measure the machine with.
const GRAIN: Duration = Duration::from_millis(1);

pub(super) fn lay(instance: &mut LinkerInstance<'_, Call>, interface: &str, name: &str) -> wasmtime::Result<bool> {
    match (interface, name) {
        ("clocks/monotonic-clock", "now") => instance.func_wrap(name, |store: StoreContextMut<'_, Call>, (): ()| Ok((now(store.data()),))),
        ("clocks/monotonic-clock", "resolution") => instance.func_wrap(name, |_, (): ()| Ok((GRAIN.as_nanos() as u64,))),
        ("clocks/monotonic-clock", "subscribe-duration") => {
            instance.func_wrap(name, |mut store: StoreContextMut<'_, Call>, (nanoseconds,): (u64,)| Ok((timer(store.data_mut(), nanoseconds)?,)))
        }
        ("clocks/monotonic-clock", "subscribe-instant") => instance.func_wrap(name, |mut store: StoreContextMut<'_, Call>, (when,): (u64,)| {
            let left = when.saturating_sub(now(store.data()));
            Ok((timer(store.data_mut(), left)?,))
        }),
        ("clocks/wall-clock", "now") => instance.func_wrap(name, |store: StoreContextMut<'_, Call>, (): ()| Ok((wall(store.data()),))),
        ("clocks/wall-clock", "resolution") => instance.func_wrap(name, |_, (): ()| Ok((Datetime { seconds: 0, nanoseconds: GRAIN.subsec_nanos() },))),
        ("io/poll", "[method]pollable.ready") => instance.func_wrap(name, |store: StoreContextMut<'_, Call>, (pollable,): (Resource<Pollable>,)| {
            store.data().alive()?;
            Ok((due(store.data(), &pollable).is_none_or(|due| due <= Instant::now()),))
        }),
        ("io/poll", "[method]pollable.block") => instance.func_wrap(name, |store: StoreContextMut<'_, Call>, (pollable,): (Resource<Pollable>,)| {
            store.data().alive()?;
            Ok(due(store.data(), &pollable).map_or(Ok(()), |due| store.data().sleep(due))?)
        }),
        ("io/poll", "poll") => {
            instance.func_wrap(name, |store: StoreContextMut<'_, Call>, (pollables,): (Vec<Resource<Pollable>>,)| Ok((poll(store.data(), &pollables)?,)))
        }
        _ => return Ok(false),
    }?;
    Ok(true)
}

fn now(call: &Call) -> u64 {
    match call.nature {
        Nature::Pure => 0,
        Nature::Effectful => call.shared.started.elapsed().as_millis() as u64 * GRAIN.as_nanos() as u64,
    }
}

fn wall(call: &Call) -> Datetime {
    let since = match call.nature {
        Nature::Pure => Duration::ZERO,
        Nature::Effectful => SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default(),
    };
    Datetime { seconds: since.as_secs(), nanoseconds: since.subsec_millis() * GRAIN.subsec_nanos() }
}

/// In a pure call no time passes, and every timer is due.
fn timer(call: &mut Call, nanoseconds: u64) -> Result<Resource<Pollable>, Ended> {
    call.alive()?;
    if call.nature == Nature::Pure || nanoseconds == 0 {
        return Ok(Resource::new_own(READY));
    }
    let start = Instant::now();
    // A wait that is too long to be a time outlasts the call anyway.
    let due = start.checked_add(Duration::from_nanos(nanoseconds)).unwrap_or(start + Duration::from_secs(1 << 30));
    let free = call.timers.iter().position(Option::is_none);
    let slot = match free {
        Some(slot) => slot,
        None if call.timers.len() < TIMERS => {
            call.timers.push(None);
            call.timers.len() - 1
        }
        None => return Err(Ended::Timers { limit: TIMERS }),
    };
    call.timers[slot] = Some(due);
    Ok(Resource::new_own(slot as u32))
}

/// The guest dropped a pollable.
pub(super) fn forget(call: &mut Call, pollable: u32) {
    if let Some(slot) = call.timers.get_mut(pollable as usize) {
        *slot = None;
    }
}

fn due(call: &Call, pollable: &Resource<Pollable>) -> Option<Instant> {
    call.timers.get(pollable.rep() as usize).copied().flatten()
}

/// Which are ready; waits for the first where none is.
fn poll(call: &Call, pollables: &[Resource<Pollable>]) -> Result<Vec<u32>, Ended> {
    call.alive()?;
    let dues: Vec<Option<Instant>> = pollables.iter().map(|pollable| due(call, pollable)).collect();
    if dues.iter().all(Option::is_some)
        && let Some(first) = dues.iter().flatten().min()
    {
        call.sleep(*first)?;
    }
    let now = Instant::now();
    Ok((0_u32..).zip(&dues).filter(|(_, due)| due.is_none_or(|due| due <= now)).map(|(index, _)| index).collect())
}
