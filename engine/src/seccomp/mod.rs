//! The system calls that a container may make: docker's default profile, for the machine's own calls and, on x86_64,
//! for those of 32-bit programs.
//!
//! ```text
//! arch = native?  ── number > newest known ─► ENOSYS      (x32 calls are such numbers)
//!                 ── clone3                ─► ENOSYS      (glibc then uses clone, whose flags a filter can see)
//!                 ── allowed               ─► ALLOW
//!                 ── else                  ─► EPERM
//! arch = i386?    ── the same with its numbers
//! else            ─► the process is killed
//! ```
//! ENOSYS for what is newer than the tables lets libraries fall back to older calls, as they do on older kernels.
//! seccompiler turns lists of calls and conditions into programs; the dispatch around them is ours, since its own kills
//! all but one architecture. Nothing is loaded when anything fails, and then nothing is started either.
//!
//! `syscalls.tsv` has the numbers (name, x86_64, i386, aarch64), `allowed.txt` the names that are always allowed.

use std::collections::{BTreeMap, HashMap};

use rustix::thread::CapabilitySet;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen as Length, SeccompCmpOp as Op, SeccompCondition,
    SeccompFilter, SeccompRule, TargetArch, sock_filter,
};

const SYSCALLS: &str = include_str!("syscalls.tsv");
const ALLOWED: &str = include_str!("allowed.txt");

/// Calls that come with a capability.
const WITH_CAPABILITY: &[(CapabilitySet, &[&str])] = &[
    (CapabilitySet::DAC_READ_SEARCH, &["open_by_handle_at"]),
    (
        CapabilitySet::SYS_ADMIN,
        &[
            "bpf",
            "clone",
            "clone3",
            "fanotify_init",
            "fsconfig",
            "fsmount",
            "fsopen",
            "fspick",
            "lookup_dcookie",
            "lsm_get_self_attr",
            "lsm_list_modules",
            "lsm_set_self_attr",
            "mount",
            "mount_setattr",
            "move_mount",
            "open_tree",
            "perf_event_open",
            "quotactl",
            "quotactl_fd",
            "setdomainname",
            "sethostname",
            "setns",
            "syslog",
            "umount",
            "umount2",
            "unshare",
        ],
    ),
    (CapabilitySet::SYS_BOOT, &["reboot"]),
    (CapabilitySet::SYS_CHROOT, &["chroot"]),
    (CapabilitySet::SYS_MODULE, &["delete_module", "init_module", "finit_module"]),
    (CapabilitySet::SYS_PACCT, &["acct"]),
    (CapabilitySet::SYS_PTRACE, &["kcmp", "pidfd_getfd", "process_madvise"]),
    (CapabilitySet::SYS_RAWIO, &["iopl", "ioperm"]),
    (CapabilitySet::SYS_TIME, &["settimeofday", "stime", "clock_settime", "clock_settime64"]),
    (CapabilitySet::SYS_TTY_CONFIG, &["vhangup"]),
    (CapabilitySet::SYS_NICE, &["get_mempolicy", "mbind", "set_mempolicy", "set_mempolicy_home_node"]),
    (CapabilitySet::SYSLOG, &["syslog"]),
    (CapabilitySet::BPF, &["bpf"]),
    (CapabilitySet::PERFMON, &["perf_event_open"]),
];

/// `personality(2)`: Linux and 32-bit Linux, each with and without the old `uname`, and the question what it is.
const PERSONALITIES: [u64; 5] = [0, 0x8, 0x2_0000, 0x2_0008, 0xffff_ffff];
/// The `CLONE_NEW*` flags.
const CLONE_NAMESPACES: u64 = 0x7e02_0000;
const AF_VSOCK: u64 = 40;
/// The address family of the kernel's crypto API is left out, too: it has led to privilege escalations.
const AF_ALG: u64 = 38;

/// A set of system call numbers: a column of `syscalls.tsv`.
#[derive(Clone, Copy)]
struct Architecture {
    /// `AUDIT_ARCH_…` of `linux/audit.h`.
    audit: u32,
    column: usize,
}

#[cfg(any(test, target_arch = "x86_64"))]
const X86_64: Architecture = Architecture { audit: 0xc000_003e, column: 1 };
#[cfg(any(test, target_arch = "x86_64"))]
const I386: Architecture = Architecture { audit: 0x4000_0003, column: 2 };
#[cfg(any(test, target_arch = "aarch64"))]
const AARCH64: Architecture = Architecture { audit: 0xc000_00b7, column: 3 };

#[cfg(target_arch = "x86_64")]
const NATIVE: &[Architecture] = &[X86_64, I386];
#[cfg(target_arch = "aarch64")]
const NATIVE: &[Architecture] = &[AARCH64];

/// The program for a container with these capabilities, for the kernels of this machine's architecture.
///
/// # Errors
/// When the program would be longer than the kernel takes.
pub(crate) fn compile(capabilities: CapabilitySet) -> Result<BpfProgram, seccompiler::Error> {
    join(NATIVE, capabilities)
}

fn join(
    architectures: &[Architecture],
    capabilities: CapabilitySet,
) -> Result<BpfProgram, seccompiler::Error> {
    let mut program = vec![load(OFFSET_ARCH)];
    for architecture in architectures {
        let body = body(*architecture, capabilities)?;
        let length = u32::try_from(body.len()).expect("a program has at most 4096 instructions");
        // A conditional jump reaches 255 instructions, so an unconditional one stands behind it.
        program.push(jump_if(JEQ, architecture.audit, 1, 0));
        program.push(sock_filter { code: JUMP, jt: 0, jf: 0, k: length });
        program.extend(body);
    }
    program.push(answer(libc::SECCOMP_RET_KILL_PROCESS));
    Ok(program)
}

/// What is asked once the architecture is known.
fn body(architecture: Architecture, capabilities: CapabilitySet) -> Result<BpfProgram, seccompiler::Error> {
    let numbers = numbers(architecture);
    let newest = numbers.values().copied().max().unwrap_or(0);
    let enosys = answer(libc::SECCOMP_RET_ERRNO | libc::ENOSYS.cast_unsigned());
    let mut program = vec![load(OFFSET_NUMBER), jump_if(JGT, newest, 0, 1), enosys.clone()];
    if let Some(clone3) = numbers.get("clone3").filter(|_| !capabilities.contains(CapabilitySet::SYS_ADMIN)) {
        program.extend([jump_if(JEQ, *clone3, 0, 1), enosys]);
    }
    let filter: BpfProgram = SeccompFilter::new(
        rules(&numbers, capabilities)?,
        SeccompAction::Errno(libc::EPERM.cast_unsigned()),
        SeccompAction::Allow,
        // Only decides the prologue, which is cut off.
        TargetArch::x86_64,
    )?
    .try_into()?;
    program.extend_from_slice(&filter[PROLOGUE..]);
    Ok(program)
}

fn numbers(architecture: Architecture) -> HashMap<&'static str, u32> {
    SYSCALLS
        .lines()
        .filter_map(|line| {
            let mut fields = line.split('\t');
            let name = fields.next()?;
            Some((name, fields.nth(architecture.column - 1)?.parse().ok()?))
        })
        .collect()
}

/// Number → the conditions of which one must hold; none: always allowed.
fn rules(
    numbers: &HashMap<&'static str, u32>,
    capabilities: CapabilitySet,
) -> Result<BTreeMap<i64, Vec<SeccompRule>>, seccompiler::Error> {
    let mut rules = BTreeMap::new();
    for (name, conditions) in conditional()? {
        if let Some(number) = numbers.get(name) {
            rules.insert(i64::from(*number), conditions);
        }
    }
    let granted = WITH_CAPABILITY.iter().filter(|(capability, _)| capabilities.contains(*capability));
    let names = ALLOWED.split_whitespace().chain(granted.flat_map(|(_, names)| names.iter().copied()));
    for number in names.filter_map(|name| numbers.get(name)) {
        rules.insert(i64::from(*number), Vec::new());
    }
    Ok(rules)
}

/// Calls that are allowed with some arguments.
fn conditional() -> Result<[(&'static str, Vec<SeccompRule>); 3], seccompiler::Error> {
    let first_argument =
        |op, value| SeccompRule::new(vec![SeccompCondition::new(0, Length::Qword, op, value)?]);
    let personalities: Result<_, _> =
        PERSONALITIES.iter().map(|value| first_argument(Op::Eq, *value)).collect();
    Ok([
        ("personality", personalities?),
        ("clone", vec![first_argument(Op::MaskedEq(CLONE_NAMESPACES), 0)?]),
        (
            "socket",
            vec![
                first_argument(Op::Lt, AF_ALG)?,
                first_argument(Op::Eq, AF_ALG + 1)?,
                first_argument(Op::Gt, AF_VSOCK)?,
            ],
        ),
    ])
}

/// Instructions with which seccompiler asks for its one architecture: load, compare, kill.
const PROLOGUE: usize = 3;
/// In `struct seccomp_data`.
const OFFSET_NUMBER: u32 = 0;
const OFFSET_ARCH: u32 = 4;
// `linux/bpf_common.h`: class | operation | operand.
const LOAD: u16 = 0x20;
const JUMP: u16 = 0x05;
const JEQ: u16 = 0x15;
const JGT: u16 = 0x25;
const RETURN: u16 = 0x06;

fn load(offset: u32) -> sock_filter {
    sock_filter { code: LOAD, jt: 0, jf: 0, k: offset }
}

fn jump_if(code: u16, value: u32, then: u8, otherwise: u8) -> sock_filter {
    sock_filter { code, jt: then, jf: otherwise, k: value }
}

fn answer(action: u32) -> sock_filter {
    sock_filter { code: RETURN, jt: 0, jf: 0, k: action }
}

#[cfg(test)]
mod tests;
