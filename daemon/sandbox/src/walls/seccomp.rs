//! System call filters: short lists of what a role needs, and who is killed for asking.
//!
//! What is on no list fails with EPERM, since a C library may try a call that it can do without. What only an attack would try (exec,
//! sockets, mounts, tracing, kernel modules) kills the process: code that got that far gets no second try, and the daemon sees
//! SIGSYS and knows. The strictest of all installed filters decides, so later ones only ever take away.

use super::WallError;
use libc::c_long;
use seccompiler::{BpfProgram, SeccompAction, SeccompCmpArgLen as Length, SeccompCmpOp as Op, SeccompCondition, SeccompFilter, SeccompRule};
use std::collections::BTreeMap;

type Rules = BTreeMap<c_long, Vec<SeccompRule>>;

/// The filter of a role, or of a stage of it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Filter {
    /// The plugin process while it loads: threads may be made and mapped code made executable.
    Load,
    /// The plugin process while it serves: neither.
    Serve,
    /// The compile child: threads, and no executable memory at all.
    Compile,
    /// The effects process: everything but what a storage client never needs.
    Effects,
}

impl Filter {
    /// Installs it for the process's life, on all its threads.
    pub(crate) fn install(self) -> Result<(), WallError> {
        let programs = self.programs().map_err(WallError::Filter)?;
        programs.iter().try_for_each(|program| seccompiler::apply_filter_all_threads(program)).map_err(WallError::Seccomp)
    }

    /// The list of allowed calls comes last, because `seccomp` itself is on none of them but the first stage's.
    fn programs(self) -> Result<Vec<BpfProgram>, seccompiler::BackendError> {
        let deadly = || program(all(&DEADLY), SeccompAction::Allow, SeccompAction::KillProcess);
        let allowed = |rules| program(rules, SeccompAction::Errno(libc::EPERM as u32), SeccompAction::Allow);
        // glibc then falls back to `clone`, whose flags a filter can see.
        let clone3 = || program(all(&[libc::SYS_clone3]), SeccompAction::Allow, SeccompAction::Errno(libc::ENOSYS as u32));
        Ok(match self {
            Filter::Load => vec![deadly()?, clone3()?, allowed(load()?)?],
            Filter::Serve => vec![allowed(serve()?)?],
            Filter::Compile => vec![deadly()?, clone3()?, allowed(compile()?)?],
            Filter::Effects => vec![clone3()?, program(effects()?, SeccompAction::Allow, SeccompAction::Errno(libc::EPERM as u32))?],
        })
    }
}

fn program(rules: Rules, otherwise: SeccompAction, matched: SeccompAction) -> Result<BpfProgram, seccompiler::BackendError> {
    SeccompFilter::new(rules, otherwise, matched, std::env::consts::ARCH.try_into()?)?.try_into()
}

fn all(calls: &[c_long]) -> Rules {
    calls.iter().map(|call| (*call, Vec::new())).collect()
}

/// What a serving plugin process needs; every other role of ours needs it too.
const BASE: [c_long; 33] = [
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_readv,
    libc::SYS_writev,
    libc::SYS_recvfrom,
    libc::SYS_sendto,
    libc::SYS_ppoll,
    libc::SYS_close,
    libc::SYS_futex,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_brk,
    libc::SYS_sched_yield,
    libc::SYS_sigaltstack,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_gettid,
    libc::SYS_getpid,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_nanosleep,
    libc::SYS_getrandom,
    libc::SYS_restart_syscall,
    libc::SYS_fstat,
    libc::SYS_lseek,
    libc::SYS_set_robust_list,
    libc::SYS_rseq,
    libc::SYS_getrusage,
    libc::SYS_sched_getaffinity,
    libc::SYS_rt_sigaction,
];

/// What is needed to load or compile, on top.
const START: [c_long; 7] =
    [libc::SYS_memfd_create, libc::SYS_ftruncate, libc::SYS_fcntl, libc::SYS_seccomp, libc::SYS_clone3, libc::SYS_statx, libc::SYS_membarrier];

/// What nothing of ours ever calls, and an intruder would.
const DEADLY: [c_long; 53] = [
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_pidfd_open,
    libc::SYS_pidfd_getfd,
    libc::SYS_pidfd_send_signal,
    libc::SYS_kill,
    libc::SYS_tkill,
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_keyctl,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_reboot,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_open_tree,
    libc::SYS_move_mount,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    libc::SYS_setns,
    libc::SYS_unshare,
    libc::SYS_open_by_handle_at,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_socket,
    libc::SYS_socketpair,
    libc::SYS_connect,
    libc::SYS_bind,
    libc::SYS_listen,
    libc::SYS_accept,
    libc::SYS_accept4,
    libc::SYS_setuid,
    libc::SYS_setgid,
    libc::SYS_setresuid,
    libc::SYS_setresgid,
    libc::SYS_setgroups,
    libc::SYS_capset,
];

/// What the effects process, which has files and a network, is still denied.
const NEVER: [c_long; 38] = [
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_pidfd_getfd,
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_keyctl,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_reboot,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_open_tree,
    libc::SYS_move_mount,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    libc::SYS_setns,
    libc::SYS_unshare,
    libc::SYS_open_by_handle_at,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_mknodat,
    libc::SYS_personality,
];

const EXEC: u64 = libc::PROT_EXEC as u64;

fn load() -> Result<Rules, seccompiler::BackendError> {
    let mut rules = base()?;
    rules.extend(all(&START));
    rules.insert(libc::SYS_mprotect, Vec::new());
    rules.extend(starting()?);
    Ok(rules)
}

fn serve() -> Result<Rules, seccompiler::BackendError> {
    base()
}

fn compile() -> Result<Rules, seccompiler::BackendError> {
    let mut rules = base()?;
    rules.extend(all(&START));
    rules.extend(starting()?);
    Ok(rules)
}

/// Memory that is never executable, and an abort of this very process.
fn base() -> Result<Rules, seccompiler::BackendError> {
    let mut rules = all(&BASE);
    #[cfg(target_arch = "x86_64")]
    rules.insert(libc::SYS_poll, Vec::new());
    rules.insert(libc::SYS_mmap, vec![has(2, Op::MaskedEq(EXEC), 0)?]);
    rules.insert(libc::SYS_mprotect, vec![has(2, Op::MaskedEq(EXEC), 0)?]);
    rules.insert(libc::SYS_tgkill, vec![has(0, Op::Eq, u64::from(std::process::id()))?]);
    Ok(rules)
}

/// Threads and no other children; limits of this process; its threads' names.
fn starting() -> Result<Rules, seccompiler::BackendError> {
    let thread = (libc::CLONE_VM | libc::CLONE_THREAD) as u64;
    let named = [libc::PR_SET_NAME, libc::PR_SET_NO_NEW_PRIVS, libc::PR_SET_VMA];
    Ok(BTreeMap::from([
        (libc::SYS_clone, vec![has(0, Op::MaskedEq(thread), thread)?]),
        (libc::SYS_prlimit64, vec![has(0, Op::Eq, 0)?]),
        (libc::SYS_prctl, named.into_iter().map(|option| has(0, Op::Eq, option as u64)).collect::<Result<_, _>>()?),
    ]))
}

/// The denied ones. `clone` is denied where it asks for a namespace.
fn effects() -> Result<Rules, seccompiler::BackendError> {
    let mut rules = all(&NEVER);
    let namespaces =
        [libc::CLONE_NEWNS, libc::CLONE_NEWUSER, libc::CLONE_NEWNET, libc::CLONE_NEWPID, libc::CLONE_NEWIPC, libc::CLONE_NEWUTS, libc::CLONE_NEWCGROUP];
    let asks = |flag: i32| has(0, Op::MaskedEq(flag as u64), flag as u64);
    rules.insert(libc::SYS_clone, namespaces.into_iter().map(asks).collect::<Result<_, _>>()?);
    Ok(rules)
}

fn has(argument: u8, op: Op, value: u64) -> Result<SeccompRule, seccompiler::BackendError> {
    SeccompRule::new(vec![SeccompCondition::new(argument, Length::Dword, op, value)?])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_serving_process_has_no_call_that_opens_or_starts_anything() {
        let rules = serve().unwrap();
        for call in [
            libc::SYS_openat,
            libc::SYS_openat2,
            libc::SYS_clone,
            libc::SYS_clone3,
            libc::SYS_memfd_create,
            libc::SYS_prctl,
            libc::SYS_ioctl,
            libc::SYS_seccomp,
        ] {
            assert!(!rules.contains_key(&call), "{call}");
        }
        assert!(DEADLY.iter().all(|call| !load().unwrap().contains_key(call)), "nothing is both needed and deadly");
    }

    #[test]
    fn every_filter_can_be_made() {
        for filter in [Filter::Load, Filter::Serve, Filter::Compile, Filter::Effects] {
            assert!(filter.programs().is_ok());
        }
    }
}
