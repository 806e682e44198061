//! What the tests stand on: guests built once, roles started as processes, a folder in memory in place of the daemon's grants.

use command_fds::{CommandFdExt, FdMapping};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};
use windlass_plan::effect::{Effect, EffectAnswer, EffectError, FileFacts, FilesVerb};
use windlass_plan::plugin::{CallFailure, PluginAnswer, PluginCall, RefusalKind};
use windlass_plan::request::Context;
use windlass_wire::frame;
use windlass_wire::lane::Lane;
use windlass_wire::plugin::{Compiled, FromPlugin, Inspection, Level, Limits, Setup, ToPlugin};

/// Nothing in these tests takes longer, also on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A guest as a component, built once.
pub(crate) fn guest(folder: &str) -> PathBuf {
    static BUILT: Mutex<BTreeMap<String, PathBuf>> = Mutex::new(BTreeMap::new());
    let mut built = BUILT.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    built
        .entry(folder.to_owned())
        .or_insert_with(|| {
            let out = Path::new(env!("CARGO_TARGET_TMPDIR")).join("guests").join(format!("{}.wasm", folder.replace('/', "-")));
            let status = Command::new(root.join("tools/guest")).arg("build").arg(root.join(folder)).arg(&out).status().expect("tools/guest runs");
            assert!(status.success(), "{folder} was not built");
            out
        })
        .clone()
}

/// Root becomes somebody else, like every driver; an ordinary user stays who they are.
pub(crate) fn uid() -> Option<u32> {
    static NEXT: AtomicU32 = AtomicU32::new(64_000);
    nix::unistd::geteuid().is_root().then(|| NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Starts a role with a socket as descriptor 3 and files as 4 and up.
pub(crate) fn start(arguments: &[&str], uid: Option<u32>, more: Vec<OwnedFd>) -> (Child, UnixStream) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    ours.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut mappings = vec![FdMapping { parent_fd: theirs.into(), child_fd: 3 }];
    mappings.extend(more.into_iter().zip(4..).map(|(parent_fd, child_fd)| FdMapping { parent_fd, child_fd }));
    let mut command = Command::new(env!("CARGO_BIN_EXE_sandbox-roles"));
    command.arg(arguments[0]).arg(uid.map_or("-".to_owned(), |uid| uid.to_string())).args(&arguments[1..]);
    command.env_clear().stdin(Stdio::null()).fd_mappings(mappings).unwrap();
    (command.spawn().unwrap(), ours)
}

/// Compiles bytes in a child. `Err`: it died without a word.
pub(crate) fn compile(bytes: &[u8], arguments: &[&str]) -> Result<(Compiled, PathBuf), ExitStatus> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("code");
    std::fs::create_dir_all(&folder).unwrap();
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let (input, output) = (folder.join(format!("{}-{number}.wasm", std::process::id())), folder.join(format!("{}-{number}.code", std::process::id())));
    File::create(&input).unwrap().write_all(bytes).unwrap();
    let component = File::open(&input).unwrap();
    std::fs::remove_file(&input).unwrap();
    let mut line = vec!["compile"];
    line.extend(arguments);
    let (mut child, mut socket) = start(&line, uid(), vec![component.into(), File::create(&output).unwrap().into()]);
    let answer = frame::read::<Compiled>(&mut socket, 64 << 10);
    let status = child.wait().unwrap();
    answer.map(|answer| (answer, output)).map_err(|_| status)
}

/// A guest's code, compiled once.
pub(crate) fn code(folder: &str) -> (PathBuf, Inspection) {
    static COMPILED: OnceLock<Mutex<BTreeMap<String, (PathBuf, Inspection)>>> = OnceLock::new();
    let component = guest(folder);
    let mut compiled = COMPILED.get_or_init(Mutex::default).lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    compiled
        .entry(folder.to_owned())
        .or_insert_with(|| match compile(&std::fs::read(component).unwrap(), &[]) {
            Ok((Compiled::Ok(inspection), code)) => (code, inspection),
            other => panic!("{folder}: {other:?}"),
        })
        .clone()
}

/// A plugin process that serves.
pub(crate) struct Plugin {
    pub(crate) child: Child,
    pub(crate) socket: UnixStream,
    /// By which call each is taken.
    lanes: Vec<(Option<u64>, Lane)>,
    pub(crate) missing_walls: Vec<String>,
    pub(crate) files: BTreeMap<String, FileFacts>,
    /// Log lines of the last call.
    pub(crate) log: Vec<(Level, String)>,
    /// Effects of the last call.
    pub(crate) effects: usize,
    /// Effects that are not done here, of all calls.
    pub(crate) asked: Vec<Effect>,
    next: u64,
}

impl Plugin {
    /// Starts one; `Err` is why it is unusable.
    pub(crate) fn start(code: &Path, limits: Limits, config: &[(&str, &str)]) -> Result<Self, String> {
        Self::start_as("plugin-host", uid(), code, limits, config)
    }

    /// Starts one in a role of the tests' own.
    pub(crate) fn start_as(role: &str, uid: Option<u32>, code: &Path, limits: Limits, config: &[(&str, &str)]) -> Result<Self, String> {
        let mut descriptors: Vec<OwnedFd> = vec![File::open(code).unwrap().into()];
        let lane = |descriptors: &mut Vec<OwnedFd>| {
            let (ours, theirs) = UnixStream::pair().unwrap();
            descriptors.push(theirs.into());
            (None, Lane::asking(ours, frame::LIMIT).unwrap())
        };
        let lanes: Vec<_> = (0..limits.concurrency).map(|_| lane(&mut descriptors)).collect();
        let (child, mut socket) = start(&[role, &lanes.len().to_string()], uid, descriptors);
        let config = config.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        frame::write(&mut socket, &Setup { driver: "test.example".to_owned(), limits, config }).unwrap();
        match frame::read(&mut socket, frame::LIMIT).unwrap() {
            FromPlugin::Ready { missing_walls } => {
                Ok(Self { child, socket, lanes, missing_walls, files: BTreeMap::new(), log: Vec::new(), effects: 0, asked: Vec::new(), next: 1 })
            }
            FromPlugin::Unusable { reason } => Err(reason),
            other => panic!("{other:?}"),
        }
    }

    /// A guest of the repository with the usual limits.
    pub(crate) fn of(folder: &str) -> Self {
        Self::start(&code(folder).0, Limits::default(), &[]).unwrap()
    }

    /// Sends a call by a lane that is free; its number.
    pub(crate) fn send(&mut self, call: PluginCall) -> u64 {
        let id = self.next;
        self.next += 1;
        let (by, lane) = self.lanes.iter_mut().find(|(by, _)| by.is_none()).expect("a lane is free");
        *by = Some(id);
        lane.send(&ToPlugin::Call { id, call }).unwrap();
        id
    }

    /// Answers the effect that a call asked for.
    pub(crate) fn answer(&mut self, id: u64, result: Result<EffectAnswer, EffectError>) {
        self.lane(id).send(&ToPlugin::EffectDone { id, result }).unwrap();
    }

    /// The next frame of a call.
    pub(crate) fn receive(&mut self, id: u64) -> FromPlugin {
        let frame = self.lane(id).receive_until(Instant::now() + PATIENCE).unwrap();
        if matches!(frame, FromPlugin::Return { .. }) {
            self.lanes.iter_mut().filter(|(by, _)| *by == Some(id)).for_each(|(by, _)| *by = None);
        }
        frame
    }

    fn lane(&mut self, id: u64) -> &mut Lane {
        &mut self.lanes.iter_mut().find(|(by, _)| *by == Some(id)).expect("the call runs").1
    }

    /// A whole call, with its effects done in memory.
    pub(crate) fn call(&mut self, call: PluginCall) -> Result<PluginAnswer, CallFailure> {
        let id = self.send(call);
        self.finish(id)
    }

    /// What comes of a call that was sent.
    pub(crate) fn finish(&mut self, id: u64) -> Result<PluginAnswer, CallFailure> {
        self.log.clear();
        self.effects = 0;
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until {
            match self.receive(id) {
                FromPlugin::Return { id: of, result } if of == id => return result,
                FromPlugin::Effect { id: of, effect } if of == id => {
                    self.effects += 1;
                    let result = self.effect(effect);
                    self.answer(id, result);
                }
                FromPlugin::Log { id: of, level, message } if of == id => self.log.push((level, message)),
                other => panic!("{other:?}"),
            }
        }
        panic!("no end of call {id}");
    }

    fn effect(&mut self, effect: Effect) -> Result<EffectAnswer, EffectError> {
        let Effect::Files(effect) = effect else {
            self.asked.push(effect);
            return Err(EffectError { kind: RefusalKind::Unavailable, message: "there is no cluster here".to_owned() });
        };
        if effect.folder != "volumes" {
            return Err(EffectError { kind: RefusalKind::PermissionDenied, message: format!("no folder {:?} was granted", effect.folder) });
        }
        let missing = || EffectError { kind: RefusalKind::NotFound, message: "no such file".to_owned() };
        Ok(match effect.verb {
            FilesVerb::Create { name, size, properties } => {
                let is_new = !self.files.contains_key(&name);
                let file = self.files.entry(name.clone()).or_insert(FileFacts { name, size, properties });
                EffectAnswer::Created { file: file.clone(), is_new }
            }
            FilesVerb::Copy { name, to, size, properties } => {
                let is_new = !self.files.contains_key(&to);
                let size = if is_new { self.files.get(&name).ok_or_else(missing)?.size.max(size) } else { size };
                let file = self.files.entry(to.clone()).or_insert(FileFacts { name: to, size, properties });
                EffectAnswer::Created { file: file.clone(), is_new }
            }
            FilesVerb::Stat { name } => EffectAnswer::File(self.files.get(&name).cloned()),
            FilesVerb::Grow { name, size } => {
                let file = self.files.get_mut(&name).ok_or_else(missing)?;
                file.size = file.size.max(size);
                EffectAnswer::Grown(file.clone())
            }
            FilesVerb::Delete { name } => {
                self.files.remove(&name);
                EffectAnswer::Deleted
            }
            FilesVerb::List { after, limit } => {
                EffectAnswer::Files(self.files.values().filter(|file| file.name > after).take(limit as usize).cloned().collect())
            }
            FilesVerb::Room => EffectAnswer::Room { available: 1 << 40, total: 1 << 41 },
        })
    }

    /// A line of `/proc/PID/status`.
    pub(crate) fn status(&self, key: &str) -> String {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(&format!("{key}:"))).unwrap_or_else(|| panic!("{key} in {status}"));
        line.trim().to_owned()
    }

    /// Is it still there, and not a zombie?
    pub(crate) fn is_alive(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Closes the socket, as a daemon does that needs it no more; how the process ended.
    pub(crate) fn hang_up(&mut self) -> ExitStatus {
        self.socket.shutdown(std::net::Shutdown::Both).unwrap();
        self.child.wait().unwrap()
    }
}

impl Drop for Plugin {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A context from pairs.
pub(crate) fn context(pairs: &[(&str, &str)]) -> Context {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}
