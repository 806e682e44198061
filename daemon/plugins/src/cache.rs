//! Compiled code on disk: named by the component's digest and the engine, written whole, never changed in place, never fed from outside.

use crate::component::Component;
use serde::{Deserialize, Serialize};
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use windlass_wire::plugin::Inspection;

/// The folder of compiled code, the daemon's own (0700).
#[derive(Debug, Clone)]
pub struct Cache {
    folder: PathBuf,
    engine: String,
}

/// What is kept beside the code.
#[derive(Debug, Serialize, Deserialize)]
struct Entry {
    inspection: Inspection,
    code_digest: String,
}

/// Compiled code, open for the plugin process to map.
pub struct Code {
    /// Read-only.
    pub file: File,
    /// What the component's type says.
    pub inspection: Inspection,
}

impl Cache {
    /// Opens the folder, or makes it. `engine` names the compiler and its settings: code of another is never found.
    pub fn open(folder: &Path, engine: &str) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        Ok(Self { folder: folder.to_owned(), engine: engine.to_owned() })
    }

    /// The code of a component, if it was compiled before and is whole.
    pub fn find(&self, component: &Component) -> Option<Code> {
        let (code, entry) = self.paths(component);
        let entry: Entry = serde_json::from_slice(&std::fs::read(entry).ok()?).ok()?;
        let file = File::open(code).ok()?;
        // A file that was cut short by a full disk is compiled again. Its bytes are ours: nobody else can write here.
        (file.metadata().ok()?.len() == entry.inspection.code_size).then_some(Code { file, inspection: entry.inspection })
    }

    /// Keeps code: first the code, then what says that it is whole.
    pub fn keep(&self, component: &Component, mut bytes: File, inspection: Inspection) -> io::Result<Code> {
        let (code, entry) = self.paths(component);
        self.write(&code, |file| io::copy(&mut bytes, file).map(drop))?;
        let text = serde_json::to_vec_pretty(&Entry { inspection: inspection.clone(), code_digest: component.digest.clone() })?;
        self.write(&entry, |file| file.write_all(&text))?;
        Ok(Code { file: File::open(code)?, inspection })
    }

    fn write(&self, path: &Path, fill: impl FnOnce(&mut File) -> io::Result<()>) -> io::Result<()> {
        let temporary = path.with_extension(format!("new{}", std::process::id()));
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o644).open(&temporary)?;
        fill(&mut file)?;
        file.sync_all()?;
        std::fs::rename(&temporary, path)?;
        File::open(&self.folder)?.sync_all()
    }

    fn paths(&self, component: &Component) -> (PathBuf, PathBuf) {
        let stem = format!("{}-{}", component.digest, self.engine);
        (self.folder.join(format!("{stem}.code")), self.folder.join(format!("{stem}.json")))
    }
}
