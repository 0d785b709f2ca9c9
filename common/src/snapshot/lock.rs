//! The lock under which a tree gets its name.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, FlockOperation, Mode, OFlags, flock, fstat, openat, statat};
use rustix::io::Errno;

/// Makes the folder `path` and waits until this process alone has its lock. The lock ends with the descriptor.
pub(super) fn make_and_lock(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    loop {
        std::fs::create_dir_all(path)?;
        let folder = match openat(CWD, path, flags, Mode::empty()) {
            Err(Errno::NOENT) => continue,
            folder => folder?,
        };
        while let Err(errno) = flock(&folder, FlockOperation::LockExclusive) {
            if errno != Errno::INTR {
                return Err(errno.into());
            }
        }
        if is_still_at(&folder, path)? {
            return Ok(folder);
        }
    }
}

/// Whoever had the lock before may have removed the folder, or moved it away.
fn is_still_at(folder: &OwnedFd, path: &Path) -> io::Result<bool> {
    let locked = fstat(folder)?;
    match statat(CWD, path, AtFlags::empty()) {
        Ok(named) => Ok((named.st_dev, named.st_ino) == (locked.st_dev, locked.st_ino)),
        Err(Errno::NOENT) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}
