//! The rows of `docs/conformance-rows.tsv`: what each promises, which modules of tests quote it, and which of them a run has asserted.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Barrier, Mutex, PoisonError};
use tonic::{Code, Status};

/// One promise.
#[derive(Debug, Clone)]
pub struct Row {
    /// `RPC/CODE` or `RPC/behaviour`; `*` stands for every RPC.
    pub id: String,
    /// When it applies, or what it is.
    pub condition: String,
    /// Why it is not served; `None` is tested.
    pub not_served: Option<String>,
}

impl Row {
    /// The call that it is about, or `*`.
    pub fn rpc(&self) -> &str {
        self.id.split('/').next().unwrap_or_default()
    }
}

/// A file of the project, by its path from the top.
pub fn from_top(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the project's folder").join(path)
}

/// All rows, in the order of the file.
pub fn all() -> Vec<Row> {
    let text = std::fs::read_to_string(from_top("docs/conformance-rows.tsv")).expect("the list of rows");
    let row = |line: &str| {
        let fields: Vec<&str> = line.split('\t').collect();
        let [id, condition, state] = fields[..] else { panic!("not three fields: {line:?}") };
        assert!(!condition.is_empty(), "{id} has no condition");
        let why = state.strip_prefix("not served: ").filter(|why| why.len() > 10);
        assert!(state == "tested" || why.is_some(), "{id}: the state is `tested` or `not served: ` with a reason, not {state:?}");
        Row { id: id.to_owned(), condition: condition.to_owned(), not_served: why.map(str::to_owned) }
    };
    let rows: Vec<Row> = text.lines().skip(1).map(row).collect();
    let ids: BTreeSet<&str> = rows.iter().map(|row| row.id.as_str()).collect();
    assert_eq!(ids.len(), rows.len(), "an id is there twice");
    rows
}

/// Ids, each with the modules of the suite that it belongs to (`conformance::stage`, `copies`, `vm::publishing`).
pub type Modules = BTreeMap<String, BTreeSet<String>>;

/// Every quoted text in the suite that has the form of an id, and where it is quoted.
pub fn quoted() -> Modules {
    let rpcs: BTreeSet<String> = windlass_csi::methods::methods().map(|method| method.name).collect();
    let is_id = |text: &&str| {
        let mut parts = text.split('/');
        let (rpc, rest) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        let is_word = !rest.is_empty() && rest.chars().all(|c| c.is_ascii_alphabetic() || c == '_' || c == '-');
        (rpc == "*" || rpcs.contains(rpc)) && is_word
    };
    let mut found = Modules::new();
    let suite = from_top("tests/suite");
    let mut folders = vec![suite.clone()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path()) {
            if entry.is_dir() {
                folders.push(entry);
                continue;
            }
            let source = std::fs::read_to_string(&entry).expect("a source");
            let path = entry.strip_prefix(&suite).expect("beneath the suite").with_extension("").display().to_string();
            let module = path.trim_end_matches("/mod").replace('/', "::");
            source.split('"').filter(is_id).for_each(|id| {
                found.entry(id.to_owned()).or_default().insert(module.clone());
            });
        }
    }
    found
}

/// Where a run notes what it asserted: beside the binaries.
fn notes() -> PathBuf {
    let own = std::env::current_exe().expect("the program's own path");
    let folder = own.parent().expect("a folder");
    let folder = if folder.ends_with("deps") { folder.parent().expect("a folder") } else { folder };
    folder.join("conformance-ran.tsv")
}

/// Notes that a row's promise was looked at and kept: the test's thread says in which module. (A thread of a test's own has no name.)
pub fn note(id: &str) {
    static NOTED: Mutex<BTreeSet<(String, String)>> = Mutex::new(BTreeSet::new());
    let thread = std::thread::current();
    let Some((module, _)) = thread.name().and_then(|name| name.rsplit_once("::")) else { return };
    if NOTED.lock().unwrap_or_else(PoisonError::into_inner).insert((id.to_owned(), module.to_owned())) {
        let file = std::fs::File::options().create(true).append(true).open(notes());
        file.and_then(|mut file| file.write_all(format!("{id}\t{module}\n").as_bytes())).expect("a note of what was run");
    }
}

/// What was noted since the file was deleted last.
pub fn noted() -> Modules {
    let mut found = Modules::new();
    for line in std::fs::read_to_string(notes()).unwrap_or_default().lines() {
        let (id, module) = line.split_once('\t').expect("a note has two fields");
        found.entry(id.to_owned()).or_default().insert(module.to_owned());
    }
    found
}

/// The call was refused with this code, in these words and without details.
#[track_caller]
pub fn refused<T: std::fmt::Debug>(id: &str, answer: Result<T, Status>, code: Code, says: &str) {
    let status = answer.unwrap_err();
    assert_eq!(status.code(), code, "{id}: {status}");
    assert!(status.message().contains(says) && status.details().is_empty(), "{id}: {status}");
    note(id);
}

/// The call was answered.
#[track_caller]
pub fn answered<T>(id: &str, answer: Result<T, Status>) -> T {
    let answer = answer.unwrap_or_else(|status| panic!("{id}: {status}"));
    note(id);
    answer
}

/// What the row promises is so.
#[track_caller]
pub fn holds(id: &str, is_so: bool) {
    assert!(is_so, "{id}");
    note(id);
}

/// The call was answered ten times, each time the same.
#[track_caller]
pub fn ten_times<T: PartialEq + std::fmt::Debug>(id: &str, call: impl Fn() -> Result<T, Status>) -> T {
    let first = answered(id, call());
    for _ in 0..9 {
        assert_eq!(answered(id, call()), first, "{id}");
    }
    first
}

/// Sixty-four callers came at the same moment, and each got the same answer.
pub fn at_once<T: PartialEq + std::fmt::Debug + Send>(id: &str, call: impl Fn() -> Result<T, Status> + Sync) -> T {
    const CALLERS: usize = 64;
    let barrier = Barrier::new(CALLERS);
    let answers: Vec<_> = std::thread::scope(|scope| {
        let caller = || {
            barrier.wait();
            call()
        };
        let callers: Vec<_> = (0..CALLERS).map(|_| scope.spawn(caller)).collect();
        callers.into_iter().map(|caller| caller.join().expect("no panic")).collect()
    });
    let mut answers = answers.into_iter().map(|answer| answered(id, answer));
    let first = answers.next().expect("a caller");
    answers.for_each(|answer| assert_eq!(answer, first, "{id}"));
    first
}
