//! `bpf(2)`, as far as programs that decide about devices need it.
//!
//! <https://docs.kernel.org/admin-guide/cgroup-v2.html#device-controller>

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

// `enum bpf_cmd`, `enum bpf_prog_type`, `enum bpf_attach_type` and a flag of `linux/bpf.h`.
const PROG_LOAD: libc::c_int = 5;
const PROG_ATTACH: libc::c_int = 8;
const PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const ATTACH_CGROUP_DEVICE: u32 = 6;
const ALLOW_MULTI: u32 = 2;

const LICENCE: &CStr = c"Apache-2.0";

/// The part of `union bpf_attr` that loading reads; the kernel takes the rest as zero.
#[repr(C)]
struct Load {
    kind: u32,
    instruction_count: u32,
    instructions: u64,
    licence: u64,
}

/// The part that attaching reads.
#[repr(C)]
struct Attach {
    target: u32,
    program: u32,
    kind: u32,
    flags: u32,
}

/// Has `program` decide about every device that a process of the control group wants to open or make.
pub(crate) fn attach_device_program(group: impl AsFd, program: &[u64]) -> io::Result<()> {
    let load = Load {
        kind: PROG_TYPE_CGROUP_DEVICE,
        instruction_count: u32::try_from(program.len()).map_err(|_| io::ErrorKind::InvalidInput)?,
        instructions: program.as_ptr() as u64,
        licence: LICENCE.as_ptr() as u64,
    };
    // SAFETY: `Load` begins like the kernel's attribute; both pointers in it are to memory that outlives the call, of the
    // length given and ended by a nul byte. The kernel verifies the program and returns a descriptor that is ours alone.
    let program = unsafe {
        let fd = libc::syscall(libc::SYS_bpf, PROG_LOAD, &raw const load, size_of::<Load>());
        match libc::c_int::try_from(fd) {
            Ok(fd) if fd >= 0 => OwnedFd::from_raw_fd(fd),
            _ => return Err(io::Error::last_os_error()),
        }
    };
    let attach = Attach {
        target: group.as_fd().as_raw_fd().cast_unsigned(),
        program: program.as_raw_fd().cast_unsigned(),
        kind: ATTACH_CGROUP_DEVICE,
        flags: ALLOW_MULTI,
    };
    // SAFETY: `Attach` begins like the kernel's attribute, and both descriptors are open for the length of the call.
    let result = unsafe { libc::syscall(libc::SYS_bpf, PROG_ATTACH, &raw const attach, size_of::<Attach>()) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
