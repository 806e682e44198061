//! The WASI that every component gets, and that does nothing: no arguments, no environment, no files, no network.
//!
//! Written by hand and small on purpose: wasmtime's own WASI brings a runtime and the code where most of its advisories were. Time and
//! randomness are fixed for `driver` and `node`, so that two runs give equal plans, and real for `controller`. What a component imports
//! beyond that is linked to functions that refuse: standard libraries import more than they use.

mod clocks;
mod random;
mod streams;

use crate::call::{Call, Ended};
use wasmtime::component::types::{ComponentInstance, ComponentItem, Type};
use wasmtime::component::{Linker, LinkerInstance, Resource, ResourceType, Val};
use wasmtime::{Engine, StoreContextMut};

use streams::{Input, Output};

const PACKAGES: [&str; 6] = ["wasi:cli/", "wasi:clocks/", "wasi:filesystem/", "wasi:io/", "wasi:random/", "wasi:sockets/"];

/// A resource of which there never is one.
struct Nothing;

/// Is the interface part of the floor?
pub(crate) fn is_there(base: &str, version: &str) -> bool {
    version.starts_with("0.2.") && PACKAGES.iter().any(|package| base.starts_with(package))
}

/// Links one interface as the component imports it, under its own name and version.
pub(crate) fn lay(engine: &Engine, linker: &mut Linker<Call>, name: &str, base: &str, interface: &ComponentInstance) -> wasmtime::Result<()> {
    let mut instance = linker.instance(name)?;
    let short = base.trim_start_matches("wasi:");
    for (item, kind) in interface.exports(engine) {
        match kind.ty {
            ComponentItem::Resource(_) if item == "pollable" => instance.resource(item, resource(item), |mut store, pollable| {
                clocks::forget(store.data_mut(), pollable);
                Ok(())
            })?,
            ComponentItem::Resource(_) => instance.resource(item, resource(item), |_, _| Ok(()))?,
            ComponentItem::ComponentFunc(_) => {
                let is_laid = cli(&mut instance, short, item)?
                    || clocks::lay(&mut instance, short, item)?
                    || random::lay(&mut instance, short, item)?
                    || streams::lay(&mut instance, short, item)?;
                if !is_laid {
                    refuse(&mut instance, name, item)?;
                }
            }
            _ => {}
        }
    }
    Ok(())
}

/// The names are unique in WASI 0.2; whoever uses a type of another interface means the same one.
fn resource(name: &str) -> ResourceType {
    match name {
        "output-stream" => ResourceType::host::<Output>(),
        "input-stream" => ResourceType::host::<Input>(),
        "pollable" => ResourceType::host::<clocks::Pollable>(),
        "error" => ResourceType::host::<streams::Failed>(),
        "terminal-input" => ResourceType::host::<TerminalInput>(),
        "terminal-output" => ResourceType::host::<TerminalOutput>(),
        _ => ResourceType::host::<Nothing>(),
    }
}

/// There is no terminal.
struct TerminalInput;
struct TerminalOutput;

fn cli(instance: &mut LinkerInstance<'_, Call>, interface: &str, name: &str) -> wasmtime::Result<bool> {
    match (interface, name) {
        ("cli/environment", "get-environment") => instance.func_wrap(name, |_, (): ()| Ok((Vec::<(String, String)>::new(),))),
        ("cli/environment", "get-arguments") => instance.func_wrap(name, |_, (): ()| Ok((Vec::<String>::new(),))),
        ("cli/environment", "initial-cwd") => instance.func_wrap(name, |_, (): ()| Ok((None::<String>,))),
        ("cli/exit", "exit") => instance.func_wrap(name, |_, (_,): (Result<(), ()>,)| -> wasmtime::Result<()> { Err(Ended::Exit.into()) }),
        ("cli/exit", "exit-with-code") => instance.func_wrap(name, |_, (_,): (u8,)| -> wasmtime::Result<()> { Err(Ended::Exit.into()) }),
        ("cli/stdin", "get-stdin") => instance.func_wrap(name, |_, (): ()| Ok((Resource::<Input>::new_own(0),))),
        ("cli/stdout", "get-stdout") => instance.func_wrap(name, |_, (): ()| Ok((Resource::<Output>::new_own(1),))),
        ("cli/stderr", "get-stderr") => instance.func_wrap(name, |_, (): ()| Ok((Resource::<Output>::new_own(2),))),
        ("cli/terminal-stdin", "get-terminal-stdin") => instance.func_wrap(name, |_, (): ()| Ok((None::<Resource<TerminalInput>>,))),
        ("cli/terminal-stdout", "get-terminal-stdout") => instance.func_wrap(name, |_, (): ()| Ok((None::<Resource<TerminalOutput>>,))),
        ("cli/terminal-stderr", "get-terminal-stderr") => instance.func_wrap(name, |_, (): ()| Ok((None::<Resource<TerminalOutput>>,))),
        _ => return Ok(false),
    }?;
    Ok(true)
}

/// A function that refuses in the words of its own type: no directories, an error code that says "not allowed", or the end of the call.
fn refuse(instance: &mut LinkerInstance<'_, Call>, interface: &str, name: &str) -> wasmtime::Result<()> {
    let full = format!("{interface}#{name}");
    instance.func_new(name, move |store: StoreContextMut<'_, Call>, kind, _: &[Val], results: &mut [Val]| {
        store.data().alive()?;
        let mut kinds = kind.results();
        let refused = match (kinds.next(), kinds.next()) {
            (Some(kind), None) => no(&kind),
            _ => None,
        };
        match (refused, results) {
            (Some(value), [result]) => *result = value,
            _ => return Err(Ended::Inert { name: full.clone() }.into()),
        }
        Ok(())
    })
}

/// "No" as a value of this type, where there is one.
fn no(kind: &Type) -> Option<Val> {
    match kind {
        Type::List(_) => Some(Val::List(Vec::new())),
        Type::Option(_) => Some(Val::Option(None)),
        Type::Result(result) => {
            let Type::Enum(codes) = result.err()? else { return None };
            let codes: Vec<String> = codes.names().map(str::to_owned).collect();
            let code = ["access-denied", "access", "not-permitted", "not-supported", "unsupported"].into_iter().find(|code| codes.iter().any(|c| c == code))?;
            Some(Val::Result(Err(Some(Box::new(Val::Enum(code.to_owned()))))))
        }
        _ => None,
    }
}
