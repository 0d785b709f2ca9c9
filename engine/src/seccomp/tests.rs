use super::*;
use crate::capabilities;

const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;
const EPERM: u32 = libc::SECCOMP_RET_ERRNO | libc::EPERM as u32;
const ENOSYS: u32 = libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32;
const KILL: u32 = libc::SECCOMP_RET_KILL_PROCESS;

/// What the kernel would answer: an interpreter for the instructions that are used here.
fn ask(program: &[sock_filter], audit: u32, number: u32, arguments: [u64; 6]) -> u32 {
    let mut data = Vec::new();
    data.extend(number.to_le_bytes());
    data.extend(audit.to_le_bytes());
    data.extend(0_u64.to_le_bytes());
    arguments.iter().for_each(|argument| data.extend(argument.to_le_bytes()));
    let (mut pc, mut accumulator) = (0, 0_u32);
    loop {
        let i = &program[pc];
        pc += 1;
        let branch = |taken| if taken { usize::from(i.jt) } else { usize::from(i.jf) };
        match i.code {
            LOAD => {
                let at = i.k as usize;
                accumulator = u32::from_le_bytes(data[at..at + 4].try_into().unwrap());
            }
            JUMP => pc += i.k as usize,
            JEQ => pc += branch(accumulator == i.k),
            JGT => pc += branch(accumulator > i.k),
            0x35 => pc += branch(accumulator >= i.k),
            0x54 => accumulator &= i.k,
            RETURN => return i.k,
            code => panic!("instruction {code:#x}"),
        }
    }
}

fn check(architecture: Architecture, name: &str, first_argument: u64, expected: u32) {
    check_with(capabilities::DEFAULT, architecture, name, first_argument, expected);
}

fn check_with(set: CapabilitySet, architecture: Architecture, name: &str, first: u64, expected: u32) {
    let program = join(&[X86_64, I386, AARCH64][..2], set).unwrap();
    let program = if architecture.column == 3 { join(&[AARCH64], set).unwrap() } else { program };
    let answer = ask(&program, architecture.audit, numbers(architecture)[name], [first, 0, 0, 0, 0, 0]);
    assert_eq!(answer, expected, "{name}({first:#x}) in column {}", architecture.column);
}

#[test]
fn common_calls_are_allowed_and_dangerous_ones_refused_on_every_architecture() {
    for architecture in [X86_64, I386, AARCH64] {
        for name in ["read", "execve", "futex", "capset", "prctl", "ptrace", "chroot", "fchmodat2"] {
            check(architecture, name, 0, ALLOW);
        }
        for name in
            ["keyctl", "add_key", "mount", "unshare", "setns", "bpf", "reboot", "swapon", "kexec_load"]
        {
            check(architecture, name, 0, EPERM);
        }
        check(architecture, "clone3", 0, ENOSYS);
    }
}

#[test]
fn arguments_decide_where_docker_looks_at_them() {
    for architecture in [X86_64, I386, AARCH64] {
        check(architecture, "clone", 0x0100_0011, ALLOW);
        check(architecture, "clone", 0x1000_0000, EPERM);
        check(architecture, "clone", 0x0002_0000, EPERM);
        check(architecture, "personality", 0, ALLOW);
        check(architecture, "personality", 0xffff_ffff, ALLOW);
        check(architecture, "personality", 0x0004_0000, EPERM);
        for (family, expected) in [(1, ALLOW), (2, ALLOW), (38, EPERM), (39, ALLOW), (40, EPERM), (41, ALLOW)]
        {
            check(architecture, "socket", family, expected);
        }
    }
}

#[test]
fn capabilities_open_the_calls_that_need_them() {
    let admin = capabilities::DEFAULT | CapabilitySet::SYS_ADMIN;
    check_with(admin, X86_64, "mount", 0, ALLOW);
    check_with(admin, X86_64, "clone", 0x1000_0000, ALLOW);
    check_with(admin, X86_64, "clone3", 0, ALLOW);
    check_with(CapabilitySet::empty(), X86_64, "chroot", 0, EPERM);
    check_with(CapabilitySet::SYSLOG, I386, "syslog", 0, ALLOW);
}

#[test]
fn unknown_numbers_are_not_implemented_and_unknown_architectures_killed() {
    let program = join(&[X86_64, I386], capabilities::DEFAULT).unwrap();
    // A gap in the table is a call that is not allowed.
    for (audit, gap) in [(X86_64.audit, 400), (I386.audit, 222)] {
        assert_eq!(ask(&program, audit, gap, [0; 6]), EPERM);
        for number in [470, 1000, 0x4000_0000, 0x4000_0200, u32::MAX] {
            assert_eq!(ask(&program, audit, number, [0; 6]), ENOSYS, "{number}");
        }
    }
    assert_eq!(ask(&program, AARCH64.audit, 0, [0; 6]), KILL);
    assert_eq!(ask(&program, 0, 0, [0; 6]), KILL);
}

#[test]
fn every_allowed_name_has_a_number_somewhere() {
    let known: Vec<_> = [X86_64, I386, AARCH64].map(numbers).into();
    for name in ALLOWED.split_whitespace() {
        assert!(known.iter().any(|numbers| numbers.contains_key(name)), "{name}");
    }
}

#[test]
fn the_program_fits_the_kernels_limit_even_with_every_capability() {
    let program = join(&[X86_64, I386], CapabilitySet::all()).unwrap();
    assert!(program.len() <= 4096, "{}", program.len());
}
