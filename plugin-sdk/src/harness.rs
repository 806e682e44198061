//! Runs a driver's logic in `cargo test`, without daemon, root or cluster, and checks its answers as the daemon would.

use crate::host::{FileImports, Imports};
use crate::{
    AttachPlan, CapacityFacts, CapacityRange, Context, CreateFacts, Description, Expanded, File, FileDriver, Files, Host, Level, NodeDriver, NodeFacts,
    NodeInfo, Page, Refusal, Room, Source, Topology, ValidateFacts, Volume, VolumeFacts,
};
use std::cell::RefCell;
use std::collections::BTreeMap;

/// Bytes that the properties of a file may have.
const PROPERTIES_LIMIT: usize = 3 << 10;
/// Bytes that a string may have, and a map, as CSI says.
const STRING_LIMIT: usize = 128;
const MAP_LIMIT: usize = 4 << 10;

/// An operator's configuration and grants, simulated. Files live in memory and are as sparse as can be.
///
/// Where an answer is one that the daemon refuses whatever the caller asked (an id that is too long, a folder that was not
/// granted, a plan that differs from call to call), the method panics and says which rule was broken.
#[derive(Default)]
pub struct Harness {
    config: Context,
    folders: RefCell<BTreeMap<String, Simulated>>,
    lines: RefCell<Vec<(Level, String)>>,
}

#[derive(Default)]
struct Simulated {
    total: u64,
    files: BTreeMap<String, File>,
}

impl Harness {
    /// No configuration and no grant.
    pub fn new() -> Self {
        Self::default()
    }

    /// One more key of the `[config]` table.
    #[must_use]
    pub fn config(mut self, key: &str, value: &str) -> Self {
        self.config = self.config.with(key, value);
        self
    }

    /// One more granted folder, on a file system of `total` bytes of which none is used.
    #[must_use]
    pub fn folder(self, name: &str, total: u64) -> Self {
        self.folders.borrow_mut().insert(name.to_owned(), Simulated { total, files: BTreeMap::new() });
        self
    }

    /// Puts a file into a granted folder behind the driver's back.
    pub fn put(&self, folder: &str, file: File) {
        let mut folders = self.folders.borrow_mut();
        let folder = folders.get_mut(folder).expect("the test puts a file into a folder that it granted");
        folder.files.insert(file.name.clone(), file);
    }

    /// The files of a granted folder, in the order of their names.
    pub fn files(&self, folder: &str) -> Vec<File> {
        self.folders.borrow().get(folder).map(|folder| folder.files.values().cloned().collect()).unwrap_or_default()
    }

    /// Lines that were logged so far.
    pub fn lines(&self) -> Vec<(Level, String)> {
        self.lines.borrow().clone()
    }

    /// `driver.describe`
    pub fn describe<D: NodeDriver>(&self) -> Description {
        let said = D::describe();
        assert_eq!(said, D::describe(), "describe is pure: the same answer each time");
        assert!((1..=STRING_LIMIT).contains(&said.version.len()), "the version is {} bytes long; 1 to {STRING_LIMIT} are allowed", said.version.len());
        said
    }

    /// `driver.probe`
    pub fn probe<D: NodeDriver>(&self) -> Result<bool, Refusal> {
        D::probe(&self.host())
    }

    /// `node.attach`, twice: the plans must be equal, and name a granted folder.
    pub fn attach<D: NodeDriver>(&self, facts: &VolumeFacts) -> Result<AttachPlan, Refusal> {
        let plan = D::attach(&self.host(), facts);
        assert_eq!(plan, D::attach(&self.host(), facts), "attach is pure: the same plan each time");
        let plan = plan?;
        let Source::File { folder, name } = &plan.source;
        assert!(self.folders.borrow().contains_key(folder), "the plan names the folder {folder:?}, which was not granted");
        assert!(is_file_name(name), "the plan names the file {name:?}, which is not one plain component");
        if let Some(label) = plan.filesystem.as_ref().and_then(|filesystem| filesystem.label.as_ref()) {
            assert!(is_label(label), "the label {label:?} is not 1 to 12 letters, digits, `-` and `_`");
        }
        Ok(plan)
    }

    /// `node.node-info`, for a node of this name.
    pub fn node_info<D: NodeDriver>(&self, node: &str) -> Result<NodeInfo, Refusal> {
        D::node_info(&self.host(), &NodeFacts { node: node.to_owned(), topology: Topology::new() })
    }

    /// `controller.create-volume`
    pub fn create_volume<D: FileDriver>(&self, facts: &CreateFacts) -> Result<Volume, Refusal> {
        let volume = D::create_volume(&self.host(), &self.effects(), facts)?;
        check_volume(&volume);
        assert!(facts.capacity.admits(volume.capacity), "{} bytes are not in the range that was asked for", volume.capacity);
        Ok(volume)
    }

    /// `controller.delete-volume`
    pub fn delete_volume<D: FileDriver>(&self, volume: &str) -> Result<(), Refusal> {
        D::delete_volume(&self.host(), &self.effects(), volume)
    }

    /// `controller.validate`
    pub fn validate<D: FileDriver>(&self, facts: &ValidateFacts) -> Result<Option<String>, Refusal> {
        D::validate(&self.host(), &self.effects(), facts)
    }

    /// `controller.list-volumes`
    pub fn list_volumes<D: FileDriver>(&self, max_entries: u32, token: &str) -> Result<Page, Refusal> {
        let page = D::list_volumes(&self.host(), &self.effects(), max_entries, token)?;
        assert!(page.volumes.len() <= max_entries as usize, "{} entries, and {max_entries} were asked for at most", page.volumes.len());
        page.volumes.iter().for_each(check_volume);
        Ok(page)
    }

    /// `controller.capacity`
    pub fn capacity<D: FileDriver>(&self, facts: &CapacityFacts) -> Result<Room, Refusal> {
        D::capacity(&self.host(), &self.effects(), facts)
    }

    /// `controller.expand`
    pub fn expand<D: FileDriver>(&self, volume: &str, required: u64, limit: u64) -> Result<Expanded, Refusal> {
        let range = CapacityRange { required, limit };
        let expanded = D::expand(&self.host(), &self.effects(), volume, &range)?;
        assert!(range.admits(expanded.capacity), "{} bytes are not in the range that was asked for", expanded.capacity);
        Ok(expanded)
    }

    fn host(&self) -> Host<'_> {
        Host { imports: self }
    }

    fn effects(&self) -> Files<'_> {
        Files { imports: self }
    }

    /// Does something in a granted folder, by a name that may be a file's.
    fn within<T>(&self, folder: &str, name: &str, deed: impl FnOnce(&mut Simulated) -> Result<T, Refusal>) -> Result<T, Refusal> {
        let mut folders = self.folders.borrow_mut();
        let Some(folder) = folders.get_mut(folder) else {
            return Err(Refusal::precondition(format!("the folder {folder:?} was not granted")));
        };
        if !is_file_name(name) {
            return Err(Refusal::invalid(format!("{name:?} cannot be a file's name")));
        }
        deed(folder)
    }
}

impl Imports for Harness {
    fn config(&self, key: &str) -> Option<String> {
        self.config.get(key).map(str::to_owned)
    }
    fn log(&self, level: Level, line: &str) {
        self.lines.borrow_mut().push((level, line.to_owned()));
    }
}

impl FileImports for Harness {
    fn create(&self, folder: &str, name: &str, size: u64, properties: Context) -> Result<(File, bool), Refusal> {
        self.within(folder, name, |folder| {
            if properties.bytes() > PROPERTIES_LIMIT {
                return Err(Refusal::invalid(format!("the properties are larger than {PROPERTIES_LIMIT} bytes")));
            }
            let is_new = !folder.files.contains_key(name);
            let file = folder.files.entry(name.to_owned()).or_insert_with(|| File { name: name.to_owned(), size, properties });
            Ok((file.clone(), is_new))
        })
    }
    fn stat(&self, folder: &str, name: &str) -> Result<Option<File>, Refusal> {
        self.within(folder, name, |folder| Ok(folder.files.get(name).cloned()))
    }
    fn grow(&self, folder: &str, name: &str, size: u64) -> Result<File, Refusal> {
        self.within(folder, name, |folder| {
            let file = folder.files.get_mut(name).ok_or_else(|| Refusal::not_found(format!("there is no file {name:?}")))?;
            file.size = file.size.max(size);
            Ok(file.clone())
        })
    }
    fn delete(&self, folder: &str, name: &str) -> Result<(), Refusal> {
        self.within(folder, name, |folder| {
            folder.files.remove(name);
            Ok(())
        })
    }
    fn list(&self, folder: &str, after: &str, limit: u32) -> Result<Vec<File>, Refusal> {
        let name = if after.is_empty() { "any" } else { after };
        self.within(folder, name, |folder| Ok(folder.files.values().filter(|file| file.name.as_str() > after).take(limit as usize).cloned().collect()))
    }
    fn free(&self, folder: &str) -> Result<(u64, u64), Refusal> {
        self.within(folder, "any", |folder| Ok((folder.total, folder.total)))
    }
}

/// What the daemon asks of every volume that a driver describes.
fn check_volume(volume: &Volume) {
    assert!((1..=STRING_LIMIT).contains(&volume.id.len()), "the id is {} bytes long; 1 to {STRING_LIMIT} are allowed", volume.id.len());
    assert!(volume.context.bytes() <= MAP_LIMIT, "the volume's context has {} bytes; {MAP_LIMIT} are allowed", volume.context.bytes());
    if let Some((key, _)) = volume.context.iter().find(|(key, _)| key.starts_with("windlass.io/")) {
        panic!("the volume's context has the key {key:?}; those with this prefix are the daemon's");
    }
}

fn is_file_name(name: &str) -> bool {
    (1..=200).contains(&name.len()) && !name.starts_with('.') && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
}

fn is_label(label: &str) -> bool {
    (1..=12).contains(&label.len()) && !label.starts_with('-') && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
}
