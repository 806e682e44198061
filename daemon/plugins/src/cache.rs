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
    /// Opens the folder, or makes it. `engine` names the compiler and its settings: code of another is never found, and goes, as does what
    /// a daemon that died had not written to the end. The folder is one daemon's, which holds its lock.
    pub fn open(folder: &Path, engine: &str) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        let cache = Self { folder: folder.to_owned(), engine: engine.to_owned() };
        for entry in std::fs::read_dir(folder)?.flatten() {
            let name = entry.file_name();
            let Some(name) = name.to_str().filter(|name| cache.is_waste(name)) else { continue };
            if let Err(error) = std::fs::remove_file(entry.path()) {
                tracing::warn!(name, %error, "old compiled code could not be removed");
            }
        }
        Ok(cache)
    }

    /// Is a file ours, and of no use to anybody any more? What we did not name stays.
    fn is_waste(&self, name: &str) -> bool {
        let Some((digest, rest)) = name.split_once('-') else { return false };
        let is_ours = digest.len() == 64 && digest.bytes().all(|byte| byte.is_ascii_hexdigit());
        let engine = rest.strip_suffix(".code").or_else(|| rest.strip_suffix(".json"));
        let is_unfinished = rest.rsplit_once(".new").is_some_and(|(_, pid)| !pid.is_empty() && pid.bytes().all(|byte| byte.is_ascii_digit()));
        is_ours && (is_unfinished || engine.is_some_and(|engine| engine != self.engine))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_of_another_engine_and_what_was_never_finished_go() {
        let dir = tempfile::tempdir().unwrap();
        let digest = "0123456789abcdef".repeat(4);
        let kept = [format!("{digest}-engine-2.0.code"), format!("{digest}-engine-2.0.json"), "notes.new1".to_owned(), "lost+found".to_owned()];
        let gone = [
            format!("{digest}-engine-1.9.code"),
            format!("{digest}-engine-1.9.json"),
            format!("{digest}-engine-2.0.new17"),
            format!("{digest}-engine-1.9.new4242"),
        ];
        for name in kept.iter().chain(&gone) {
            std::fs::write(dir.path().join(name), b"").unwrap();
        }
        Cache::open(dir.path(), "engine-2.0").unwrap();
        let mut left: Vec<String> = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        left.sort();
        let mut kept = kept;
        kept.sort();
        assert_eq!(left, kept);
    }
}
