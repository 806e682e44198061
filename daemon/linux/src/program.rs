//! The programs that we run, mkfs and e2fsck (and modprobe, once a boot): found once, run bare, with a deadline, bounded output, the volume's lock and a cgroup of their own (law 14).

use crate::cgroup::{Cgroup, Cgroups};
use crate::limit;
use crate::sys;
use crate::words;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, PipeReader, Read};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};
use windlass_plan::failure::{Failure, Reason};
use windlass_plan::paths::HostPath;

const FOLDERS: [&str; 6] = ["/usr/sbin", "/sbin", "/usr/bin", "/bin", "/usr/local/sbin", "/run/current-system/sw/bin"];
const PATH: &str = "/usr/sbin:/sbin:/usr/bin:/bin";

/// More output than this is read and dropped.
const MOST_OUTPUT: usize = 64 << 10;

/// How long a killed program may take to end; one that waits for a device does not.
const DYING: Duration = Duration::from_secs(3);

/// Where the programs are, by absolute path.
#[derive(Debug, Clone)]
pub struct Tools {
    pub(crate) mkfs_ext4: Tool,
    pub(crate) mkfs_xfs: Tool,
    pub(crate) e2fsck: Tool,
    /// Loads the kernel's RBD client, where it is a module that nobody has loaded yet: once a boot.
    pub(crate) modprobe: Tool,
    pub(crate) cgroups: Cgroups,
    /// The control groups in which I/O is limited.
    pub(crate) limited: Vec<PathBuf>,
}

/// One program. A missing one is an error when it is needed, not before: a node that only ever mounts needs none.
#[derive(Debug, Clone)]
pub(crate) struct Tool {
    name: &'static str,
    package: &'static str,
    path: Option<PathBuf>,
}

impl Tools {
    /// Looks for the programs in a fixed list of folders.
    pub fn find() -> Self {
        Self {
            mkfs_ext4: Tool::find("mkfs.ext4", "e2fsprogs"),
            mkfs_xfs: Tool::find("mkfs.xfs", "xfsprogs"),
            e2fsck: Tool::find("e2fsck", "e2fsprogs"),
            modprobe: Tool::find("modprobe", "kmod"),
            cgroups: Cgroups::find(),
            limited: limit::groups_of_kubernetes(),
        }
    }

    /// The same, with the operator's groups for limits of I/O, where there are any.
    pub fn limiting(mut self, groups: &[HostPath]) -> Self {
        if !groups.is_empty() {
            self.limited = groups.iter().map(|group| PathBuf::from(group.as_str())).collect();
        }
        self
    }

    /// Whether a program gets a cgroup of its own on this machine. Where it does not, its process group alone can be killed.
    pub fn have_cgroups(&self) -> bool {
        self.cgroups.can_be_made()
    }

    /// Programs that are missing, each with the package that has it: for `windlass check`.
    pub fn missing(&self) -> Vec<(&'static str, &'static str)> {
        let all = [&self.mkfs_ext4, &self.mkfs_xfs, &self.e2fsck];
        all.into_iter().filter(|tool| tool.path.is_none()).map(|tool| (tool.name, tool.package)).collect()
    }
}

impl Tool {
    fn find(name: &'static str, package: &'static str) -> Self {
        let path = FOLDERS.iter().map(|folder| Path::new(folder).join(name)).find(|path| path.is_file());
        Self { name, package, path }
    }
}

/// A program that did not do what it should.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProgramError {
    #[error("{name} is not installed; the package {package} has it")]
    Missing { name: &'static str, package: &'static str },
    #[error("cannot run {argv}")]
    Run {
        argv: String,
        #[source]
        source: io::Error,
    },
    #[error("{argv} did not end within {} s and was killed{}", deadline.as_secs(), shown(output))]
    TimedOut { argv: String, deadline: Duration, output: String },
    #[error("{argv} did not end within {} s and cannot be killed: it waits for the device, and keeps the volume's lock", deadline.as_secs())]
    Stuck { argv: String, deadline: Duration },
    #[error("{argv} failed with {status}{}", shown(output))]
    Failed { argv: String, status: ExitStatus, output: String },
}

impl From<ProgramError> for Failure {
    fn from(error: ProgramError) -> Self {
        let reason = match &error {
            ProgramError::Missing { .. } => Reason::MissingPrivilege,
            ProgramError::Run { source, .. } => words::reason(source),
            ProgramError::TimedOut { .. } | ProgramError::Stuck { .. } => Reason::ProgramTimedOut,
            ProgramError::Failed { .. } => Reason::Io,
        };
        words::failure(reason, &error)
    }
}

/// The last lines of a program's output, as part of a sentence.
fn shown(output: &str) -> String {
    let lines: Vec<&str> = output.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let last = lines[lines.len().saturating_sub(6)..].join("; ");
    let last: String = last.chars().filter(|c| !c.is_control()).take(1000).collect();
    if last.is_empty() { String::new() } else { format!(": {last}") }
}

/// A program's end, whatever its status.
#[derive(Debug)]
pub(crate) struct Finished {
    argv: String,
    pub(crate) status: ExitStatus,
    output: String,
}

impl Finished {
    /// The status that `is_good` allows, or the failure that names argv, status and output.
    pub(crate) fn expect(self, is_good: impl Fn(i32) -> bool) -> Result<i32, ProgramError> {
        match self.status.code() {
            Some(code) if is_good(code) => Ok(code),
            _ => Err(ProgramError::Failed { argv: self.argv, status: self.status, output: self.output }),
        }
    }
}

/// Runs the program to its end: no shell, an empty environment, nothing on its standard input, and whatever it has started ends with it.
/// What cannot be killed, and what outlives our own death, holds `lock`.
pub(crate) fn run<S: AsRef<OsStr>>(tool: &Tool, arguments: &[S], cgroups: &Cgroups, lock: &File, deadline: Duration) -> Result<Finished, ProgramError> {
    let path = tool.path.as_deref().ok_or(ProgramError::Missing { name: tool.name, package: tool.package })?;
    let words: Vec<String> = arguments.iter().map(|argument| argument.as_ref().to_string_lossy().into_owned()).collect();
    let argv = format!("{} {}", path.display(), words.join(" "));
    let failed = |source| ProgramError::Run { argv: argv.clone(), source };
    let (reader, writer) = io::pipe().map_err(failed)?;
    let mut command = Command::new(path);
    command.args(arguments).env_clear().env("PATH", PATH).current_dir("/").process_group(0);
    command.stdin(Stdio::null()).stdout(writer.try_clone().map_err(failed)?).stderr(writer);
    sys::keep_open_in(&mut command, lock.as_fd());
    let cgroup = cgroups.make();
    if let Some(cgroup) = &cgroup {
        sys::move_into(&mut command, cgroup.entrance().as_fd());
    }
    let mut child = command.spawn().map_err(failed)?;
    // The command holds the pipe's writing ends, and would keep us from ever seeing its end.
    drop(command);
    let output = match watch(&child, reader, deadline) {
        Ok((output, true)) => output,
        Ok((output, false)) => {
            kill(&mut child, cgroup.as_ref());
            return Err(match ends_within(&child, DYING) {
                true => {
                    let _status = child.wait();
                    ProgramError::TimedOut { argv, deadline, output }
                }
                false => ProgramError::Stuck { argv, deadline },
            });
        }
        Err(source) => {
            kill(&mut child, cgroup.as_ref());
            return Err(failed(source));
        }
    };
    let status = child.wait().map_err(failed)?;
    Ok(Finished { argv, status, output })
}

/// Reads output until the program ends, or until time is up: then the answer is false.
fn watch(child: &Child, mut reader: PipeReader, deadline: Duration) -> io::Result<(String, bool)> {
    let end = Instant::now() + deadline;
    let pidfd = sys::pidfd(child.id())?;
    let mut output = Vec::new();
    let mut is_open = true;
    let mut piece = [0; 4096];
    loop {
        let left = end.saturating_duration_since(Instant::now());
        let is_over = left.is_zero();
        let [has_ended, has_output] =
            if is_open { sys::wait_readable([pidfd.as_fd(), reader.as_fd()], left)? } else { [sys::wait_readable([pidfd.as_fd()], left)?[0], false] };
        if has_output {
            let length = reader.read(&mut piece)?;
            let room = MOST_OUTPUT.saturating_sub(output.len());
            output.extend_from_slice(&piece[..length.min(room)]);
            is_open = length > 0;
        } else if has_ended {
            // Ended, and nothing more to read: a descendant that still has the pipe is not waited for.
            return Ok((String::from_utf8_lossy(&output).into_owned(), true));
        }
        if is_over {
            return Ok((String::from_utf8_lossy(&output).into_owned(), has_ended));
        }
    }
}

fn kill(child: &mut Child, cgroup: Option<&Cgroup>) {
    let _as_well = cgroup.map(Cgroup::kill);
    // The group may be gone already: that is what we want.
    let _gone = sys::kill_group(child.id()).or_else(|_| child.kill());
}

fn ends_within(child: &Child, patience: Duration) -> bool {
    sys::pidfd(child.id()).and_then(|pidfd| sys::wait_readable([pidfd.as_fd()], patience)).is_ok_and(|[ended]| ended)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str, deadline: Duration) -> Result<Finished, ProgramError> {
        let tool = Tool { name: "sh", package: "dash", path: Some("/bin/sh".into()) };
        run(&tool, &["-c", script], &Cgroups::find(), &tempfile::tempfile().unwrap(), deadline)
    }

    #[test]
    fn a_failed_program_tells_argv_status_and_its_last_words() {
        let failed = sh("echo one; echo two >&2; exit 3", Duration::from_secs(20)).unwrap().expect(|code| code == 0).unwrap_err();
        assert_eq!(failed.to_string(), "/bin/sh -c echo one; echo two >&2; exit 3 failed with exit status: 3: one; two");
    }

    #[test]
    fn a_program_that_does_not_end_is_killed_with_its_children() {
        let begun = Instant::now();
        let failed = sh("echo begun; sleep 1000 & sleep 1000", Duration::from_millis(300)).unwrap_err();
        assert!(matches!(&failed, ProgramError::TimedOut { output, .. } if output == "begun\n"), "{failed}");
        assert!(begun.elapsed() < Duration::from_secs(20));
    }

    /// The processes whose command line has this word.
    fn running(word: &str) -> usize {
        let processes = std::fs::read_dir("/proc").unwrap().flatten();
        processes.filter(|process| std::fs::read_to_string(process.path().join("cmdline")).is_ok_and(|line| line.split('\0').any(|own| own == word))).count()
    }

    #[test]
    fn loop_what_a_program_leaves_behind_ends_with_it_whatever_session_it_went_to() {
        assert!(Cgroups::find().can_be_made(), "this machine has no cgroups of the second version that we may write to");
        let finished = sh("setsid sleep 1000.125 </dev/null >/dev/null 2>&1 & exit 0", Duration::from_secs(20)).unwrap();
        assert_eq!(finished.expect(|code| code == 0).unwrap(), 0);
        assert_eq!(running("1000.125"), 0);

        let failed = sh("setsid sleep 1000.25 & exec sleep 1000.25", Duration::from_millis(300)).unwrap_err();
        assert!(matches!(failed, ProgramError::TimedOut { .. }), "{failed}");
        assert_eq!(running("1000.25"), 0);
    }

    #[test]
    fn output_without_end_is_cut() {
        let finished = sh("head -c 1000000 /dev/zero; exit 0", Duration::from_secs(20)).unwrap();
        assert_eq!(finished.output.len(), MOST_OUTPUT);
        assert_eq!(finished.expect(|code| code == 0).unwrap(), 0);
    }

    #[test]
    fn the_environment_is_empty_and_the_input_too() {
        let finished = sh("env | grep -v -e ^PWD= -e ^PATH= -e ^_= -e ^SHLVL= -e ^OLDPWD=; cat; pwd", Duration::from_secs(20)).unwrap();
        assert_eq!(finished.output, "/\n");
    }

    #[test]
    fn a_program_that_is_missing_says_which_package_has_it() {
        let tool = Tool::find("mkfs.nosuch", "nosuchprogs");
        let error = run(&tool, &["-x"], &Cgroups::find(), &tempfile::tempfile().unwrap(), Duration::from_secs(1)).unwrap_err();
        assert_eq!(error.to_string(), "mkfs.nosuch is not installed; the package nosuchprogs has it");
    }
}
