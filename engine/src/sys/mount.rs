//! `mount_setattr(2)`.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

/// Makes the mount that `mount` is the root of, and those below it, read-only.
pub(crate) fn set_read_only(mount: impl AsFd) -> io::Result<()> {
    let attributes =
        libc::mount_attr { attr_set: libc::MOUNT_ATTR_RDONLY, attr_clr: 0, propagation: 0, userns_fd: 0 };
    // SAFETY: the path is an empty string with its nul byte, and with AT_EMPTY_PATH the descriptor, which is open for
    // the length of the call, is meant itself. The kernel reads as many bytes as `attributes` has.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_fd().as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH | libc::AT_RECURSIVE,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
