//! `seccomp(2)`.

use std::io;

use seccompiler::sock_filter;

/// Puts the calling thread, and all that it will start, under `program`. The caller needs CAP_SYS_ADMIN, since
/// `no_new_privs` is left alone.
///
/// # Errors
/// What the kernel says, or `InvalidInput` for a program longer than it takes.
pub(crate) fn load_filter(program: &[sock_filter]) -> io::Result<()> {
    let mut filter: Vec<libc::sock_filter> =
        program.iter().map(|i| libc::sock_filter { code: i.code, jt: i.jt, jf: i.jf, k: i.k }).collect();
    let len = u16::try_from(filter.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let prog = libc::sock_fprog { len, filter: filter.as_mut_ptr() };
    // SAFETY: seccomp(SECCOMP_SET_MODE_FILTER) reads one `sock_fprog` and the `len` instructions it points at; both live
    // until the call returns, and the kernel copies and verifies them.
    let result =
        unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &raw const prog) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
