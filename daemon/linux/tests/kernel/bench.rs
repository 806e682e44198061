//! A folder to mount in, volumes in files, and the certainty that nothing is left behind, also after a panic.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;
use windlass_linux::{Fate, Lease, OpenRoots, Tools};
use windlass_plan::attach::Filesystem;
use windlass_plan::capability::{FilesystemKind, MountFlags};
use windlass_plan::failure::{Failure, Reason};
use windlass_plan::ids::{DriverName, VolumeId, VolumeKey};
use windlass_plan::paths::{HostPath, Place, Root, Roots};
use windlass_plan::step::{AttachFile, Bind, Device, Mount, Outcome, PlaceNode, Probe, Step, TargetKind, Undo, Writable};

pub(crate) const MIB: u64 = 1 << 20;

/// A test's own folder: `root` to mount beneath, `files` for volumes, `locks`.
pub(crate) struct Bench {
    folder: Option<tempfile::TempDir>,
    base: PathBuf,
    roots: OpenRoots,
    tools: Tools,
}

impl Bench {
    pub(crate) fn new() -> Self {
        // The kernel shows real paths; a tmpfs would have no direct I/O.
        let folder = tempfile::Builder::new().prefix("windlass-linux-").tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let base = folder.path().canonicalize().unwrap();
        for name in ["root", "files", "locks"] {
            fs::create_dir(base.join(name)).unwrap();
        }
        let root = host(&base.join("root"));
        let roots = OpenRoots::open(&Roots::new(vec![Root { spelled: root.clone(), real: root, kept: Vec::new() }])).unwrap();
        Self { folder: Some(folder), base, roots, tools: Tools::find() }
    }

    pub(crate) fn path(&self, below: &str) -> PathBuf {
        self.base.join(below)
    }

    /// A folder beneath the root, made.
    pub(crate) fn folder(&self, below: &str) -> Place {
        fs::create_dir_all(self.base.join("root").join(below)).unwrap();
        place(below)
    }

    pub(crate) fn at(&self, place: &Place) -> PathBuf {
        self.base.join("root").join(&place.below)
    }

    /// A volume with a sparse file of `size` bytes.
    pub(crate) fn volume(&self, name: &str, size: u64) -> Volume<'_> {
        let volume = self.existing(name);
        File::create_new(volume.file()).unwrap().set_len(size).unwrap();
        volume
    }

    /// A volume whose file is there, or not yet. Its key is this bench's own: other benches use the same names.
    pub(crate) fn existing(&self, name: &str) -> Volume<'_> {
        let instance = self.base.to_str().unwrap();
        let key = VolumeKey::derive(instance, &DriverName::parse("test").unwrap(), &VolumeId::parse(name).unwrap());
        Volume { bench: self, key, name: name.to_owned() }
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        let is_clear = clear(&self.base);
        if !is_clear && let Some(folder) = self.folder.take() {
            eprintln!("{} stays: something is still mounted in it", folder.keep().display());
        }
    }
}

/// Unmounts what is mounted beneath `base` and unbinds loop devices of files beneath it, either of which may keep the other busy. False:
/// something is still mounted.
fn clear(base: &Path) -> bool {
    for _ in 0..5 {
        for point in mounts(base).iter().rev() {
            let _may_be_busy = Command::new("umount").arg(point).output();
        }
        for (name, backing) in loops() {
            if Path::new(&backing).starts_with(base) {
                let _may_be_busy = Command::new("losetup").arg("-d").arg(format!("/dev/{name}")).output();
            }
        }
    }
    mounts(base).is_empty()
}

/// Where something is mounted beneath `base`, in the kernel's order.
pub(crate) fn mounts(base: &Path) -> Vec<String> {
    let text = fs::read_to_string("/proc/self/mountinfo").unwrap();
    text.lines().filter_map(|line| line.split(' ').nth(4)).filter(|point| Path::new(point).starts_with(base)).map(str::to_owned).collect()
}

/// Loop devices that are bound, with the file below.
pub(crate) fn loops() -> Vec<(String, String)> {
    let names = fs::read_dir("/sys/block").unwrap().filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    names.filter_map(|name| Some((name.clone(), fs::read_to_string(format!("/sys/block/{name}/loop/backing_file")).ok()?.trim_end().to_owned()))).collect()
}

pub(crate) fn host(path: &Path) -> HostPath {
    HostPath::parse(path.to_str().unwrap()).unwrap()
}

pub(crate) fn place(below: &str) -> Place {
    Place { root: 0, below: below.to_owned() }
}

/// Runs a program that must succeed.
pub(crate) fn run(program: &str, arguments: &[&str]) -> String {
    let output: Output = Command::new(program).args(arguments).output().unwrap_or_else(|error| panic!("{program}: {error}"));
    assert!(output.status.success(), "{program} {arguments:?}: {}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A number that stands for a file's whole content.
pub(crate) fn digest(path: &Path) -> u64 {
    use std::hash::{DefaultHasher, Hasher};
    use std::io::Read;
    let mut hasher = DefaultHasher::new();
    let mut file = File::open(path).unwrap();
    let mut piece = vec![0; 1 << 20];
    loop {
        let length = file.read(&mut piece).unwrap();
        if length == 0 {
            return hasher.finish();
        }
        hasher.write(&piece[..length]);
    }
}

pub(crate) fn reason(result: Result<impl std::fmt::Debug, Failure>) -> Reason {
    result.unwrap_err().reason
}

/// A volume in a file.
pub(crate) struct Volume<'a> {
    pub(crate) bench: &'a Bench,
    pub(crate) key: VolumeKey,
    pub(crate) name: String,
}

impl<'a> Volume<'a> {
    pub(crate) fn file(&self) -> PathBuf {
        self.bench.path("files").join(&self.name)
    }

    pub(crate) fn lease(&self) -> Lease<'a> {
        self.lease_in("locks")
    }

    /// As another daemon would, which keeps its locks elsewhere.
    pub(crate) fn lease_in(&self, locks: &str) -> Lease<'a> {
        let locks = host(&self.bench.path(locks));
        Lease::take(&self.bench.roots, &self.bench.tools, &locks, self.key, Duration::from_secs(30)).unwrap()
    }

    pub(crate) fn attach(&self, writable: Writable) -> Step {
        self.attach_from("files", writable)
    }

    /// The same, with the folder of the volume's file reached by another way.
    pub(crate) fn attach_from(&self, folder: &str, writable: Writable) -> Step {
        Step::AttachFile(AttachFile { volume: self.key, folder: host(&self.bench.path(folder)), name: self.name.clone(), writable })
    }

    pub(crate) fn attached(&self, lease: &mut Lease<'_>, writable: Writable) -> Device {
        match lease.apply(&self.attach(writable)).unwrap() {
            Outcome::Attached(device) => device,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn detach(&self) -> Undo {
        Undo::Detach { volume: self.key }
    }

    pub(crate) fn unmount(&self, place: &Place, made: Option<TargetKind>) -> Undo {
        Undo::Unmount { volume: self.key, place: place.clone(), made }
    }

    /// Attached, formatted and mounted at `at`.
    pub(crate) fn staged(&self, lease: &mut Lease<'_>, kind: FilesystemKind, at: &Place) -> Device {
        let device = self.attached(lease, Writable::ReadWrite);
        lease.apply(&Step::Format(Filesystem { kind, label: None })).unwrap();
        assert_eq!(lease.apply(&mount(at, kind, Writable::ReadWrite)), Ok(Outcome::Done));
        device
    }

    /// Everything undone, in order; nothing may be left.
    pub(crate) fn gone(&self, mut lease: Lease<'_>, places: &[(&Place, Option<TargetKind>)]) {
        for (place, made) in places {
            lease.undo(&self.unmount(place, *made)).unwrap();
        }
        lease.undo(&self.detach()).unwrap();
        let observed = lease.observe().unwrap();
        assert_eq!((observed.devices.len(), observed.mounts.len()), (0, 0));
        lease.release(Fate::Forget);
    }
}

pub(crate) fn probed(lease: &mut Lease<'_>) -> Probe {
    match lease.apply(&Step::Probe { is_never_written: false }).unwrap() {
        Outcome::Probed(probe) => probe,
        other => panic!("{other:?}"),
    }
}

pub(crate) fn mount(place: &Place, kind: FilesystemKind, writable: Writable) -> Step {
    Step::Mount(Mount { place: place.clone(), kind, flags: MountFlags::default(), writable })
}

pub(crate) fn place_node(place: &Place) -> Step {
    Step::PlaceNode(PlaceNode { place: place.clone() })
}

pub(crate) fn bind(from: &Place, to: &Place, kind: TargetKind, writable: Writable) -> Step {
    Step::Bind(Bind { from: from.clone(), to: to.clone(), kind, flags: MountFlags::default(), writable })
}
