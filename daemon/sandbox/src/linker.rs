//! Looks at a component's imports and exports, links what it may have, and says in plain words what it may not.

use crate::bindings::windlass::plugin as wit;
use crate::exports::Exports;
use crate::floor;
use crate::host::InCall;
use crate::text;
use wasmtime::Engine;
use wasmtime::component::types::ComponentItem;
use wasmtime::component::{Component, Linker};

/// What can be imported, for people.
const OFFERED: &str = "windlass:plugin/{log,config,files,rbd}@0.1 and, for the language's own library, wasi:{cli,clocks,filesystem,io,random,sockets}@0.2";

/// Exports that only a driver with a controller can have.
const OF_CONTROLLER: [&str; 6] = ["listing", "capacity", "publishing", "modification", "snapshots", "snapshot-listing"];

/// Why a component is not one of ours.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unfit {
    /// It exports nothing of `windlass:plugin`.
    #[error("it exports nothing of windlass:plugin@0.1.0, so it is no storage driver; a driver exports `driver`, and `node` or `controller` or both")]
    NoDriver,
    /// It exports another version.
    #[error("it exports {name}, another version than this daemon's, which is 0.1.0; build it with the SDK of that version")]
    Version {
        /// The export.
        name: String,
    },
    /// `driver` alone.
    #[error("it exports `driver`, but neither `node` nor `controller`: it could do nothing")]
    NoRole,
    /// Part of a controller, without the controller.
    #[error("it exports `{name}` and not `controller`: {name} is about volumes that the driver's own controller makes")]
    NoController {
        /// The export.
        name: &'static str,
    },
    /// A list of snapshots, without snapshots.
    #[error("it exports `snapshot-listing` and not `snapshots`: it would list what it cannot make")]
    NoSnapshots,
    /// Something, and not `driver`.
    #[error("it does not export windlass:plugin/driver@0.1.0, which says who it is")]
    Nameless,
    /// It wants what is not there.
    #[error("it imports {name:?}, which does not exist here; what exists: {OFFERED}")]
    Import {
        /// The import.
        name: String,
    },
    /// The name is right and the type is not.
    #[error("its imports or exports have the names of windlass:plugin@0.1.0 and other types; build it from the released WIT")]
    Shape(#[source] wasmtime::Error),
}

/// A component that can be served, and what is advertised from it.
pub(crate) struct Linked {
    /// Its functions.
    pub(crate) exports: Exports,
    /// Interfaces of ours that it exports, by short name.
    pub(crate) exported: Vec<String>,
    /// Interfaces of ours that it imports, by short name.
    pub(crate) imported: Vec<String>,
}

/// Links a component. The compile child does it to refuse early, the plugin process to serve.
pub(crate) fn link(engine: &Engine, component: &Component) -> Result<Linked, Unfit> {
    let kind = component.component_type();
    let exported = exported(kind.exports(engine).map(|(name, _)| name))?;
    let mut linker = Linker::new(engine);
    let mut imported = Vec::new();
    for (name, import) in kind.imports(engine) {
        let unknown = || Unfit::Import { name: text::line(name, 200) };
        let ComponentItem::ComponentInstance(interface) = &import.ty else { return Err(unknown()) };
        let (base, version) = name.split_once('@').ok_or_else(unknown)?;
        match base.strip_prefix("windlass:plugin/") {
            Some(ours) if version.starts_with("0.1.") => {
                match ours {
                    "types" => wit::types::add_to_linker::<_, InCall>(&mut linker, |call| call),
                    "log" => wit::log::add_to_linker::<_, InCall>(&mut linker, |call| call),
                    "config" => wit::config::add_to_linker::<_, InCall>(&mut linker, |call| call),
                    "files" => wit::files::add_to_linker::<_, InCall>(&mut linker, |call| call),
                    "rbd" => wit::rbd::add_to_linker::<_, InCall>(&mut linker, |call| call),
                    _ => return Err(unknown()),
                }
                .map_err(Unfit::Shape)?;
                if ours != "types" {
                    imported.push(ours.to_owned());
                }
            }
            Some(_) => return Err(unknown()),
            None if floor::is_there(base, version) => floor::lay(engine, &mut linker, name, base, interface).map_err(Unfit::Shape)?,
            None => return Err(unknown()),
        }
    }
    let linked = linker.instantiate_pre(component).map_err(Unfit::Shape)?;
    let exports = Exports::find(linked).map_err(Unfit::Shape)?;
    Ok(Linked { exports, exported, imported })
}

/// The exports that are ours, by short name.
fn exported<'a>(names: impl Iterator<Item = &'a str>) -> Result<Vec<String>, Unfit> {
    let mut exported = Vec::new();
    for name in names {
        let Some(ours) = name.strip_prefix("windlass:plugin/") else { continue };
        match ours.split_once('@') {
            Some((short, "0.1.0")) => exported.push(short.to_owned()),
            _ => return Err(Unfit::Version { name: text::line(name, 200) }),
        }
    }
    let has = |name: &str| exported.iter().any(|export| export == name);
    if let Some(name) = OF_CONTROLLER.into_iter().find(|name| has(name) && !has("controller")) {
        return Err(Unfit::NoController { name });
    }
    if has("snapshot-listing") && !has("snapshots") {
        return Err(Unfit::NoSnapshots);
    }
    match (has("driver"), has("node") || has("controller")) {
        (true, true) => Ok(exported),
        (true, false) => Err(Unfit::NoRole),
        (false, true) => Err(Unfit::Nameless),
        (false, false) => Err(Unfit::NoDriver),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_component_exports_makes_it_a_driver() {
        let told = |names: &[&str]| exported(names.iter().copied()).map_err(|unfit| unfit.to_string());
        assert_eq!(told(&["windlass:plugin/driver@0.1.0", "windlass:plugin/node@0.1.0", "memory"]).unwrap(), ["driver", "node"]);
        assert!(told(&["wasi:cli/run@0.2.0"]).unwrap_err().contains("no storage driver"));
        assert!(told(&["windlass:plugin/driver@0.1.0"]).unwrap_err().contains("neither"));
        assert!(told(&["windlass:plugin/node@0.1.0"]).unwrap_err().contains("who it is"));
        assert!(told(&["windlass:plugin/driver@0.2.0"]).unwrap_err().contains("another version"));
        let all = ["driver", "node", "controller", "listing", "capacity", "publishing", "snapshots", "snapshot-listing"]
            .map(|name| format!("windlass:plugin/{name}@0.1.0"));
        assert_eq!(told(&all.each_ref().map(String::as_str)).unwrap().len(), 8);
        let lists_alone = ["driver", "controller", "snapshot-listing"].map(|name| format!("windlass:plugin/{name}@0.1.0"));
        assert!(told(&lists_alone.each_ref().map(String::as_str)).unwrap_err().contains("not `snapshots`"));
        for name in OF_CONTROLLER {
            let words = told(&["windlass:plugin/driver@0.1.0", "windlass:plugin/node@0.1.0", &format!("windlass:plugin/{name}@0.1.0")]).unwrap_err();
            assert!(words.contains(&format!("`{name}` and not `controller`")), "{words}");
        }
    }
}
