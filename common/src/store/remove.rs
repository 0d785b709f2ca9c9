//! Removing a folder and all below it, whatever it looks like: deeper than paths and descriptors reach, forbidden to
//! its own owner, the kernel's folder of an overlay. `std::fs::remove_dir_all` gives up on each of these.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{Access, AtFlags, Dir, Mode, OFlags, accessat, chmodat, openat, unlinkat};
use rustix::io::Errno;

/// What opens a folder and nothing else.
const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Removes `name` in `folder` and, when it is a folder, all below it, however deep; nothing there is success.
///
/// # Errors
/// What the kernel says; then some of the tree may be gone already.
pub fn remove_tree(folder: impl AsFd, name: &[u8]) -> rustix::io::Result<()> {
    let mut above: Option<OwnedFd> = None;
    let mut path: Vec<Level> = Vec::new();
    match remove_file_or_enter(folder.as_fd(), name)? {
        None => return Ok(()),
        Some((fd, level)) => {
            above.replace(fd);
            path.push(level);
        }
    }
    while let (Some(current), Some(level)) = (&above, path.last_mut()) {
        if let Some(name) = level.left.pop() {
            if let Some((fd, level)) = remove_file_or_enter(current.as_fd(), &name)? {
                above = Some(fd);
                path.push(level);
            }
            continue;
        }
        let level = path.pop().expect("the last level was just looked at");
        if path.is_empty() {
            unlinkat(folder.as_fd(), &level.name, AtFlags::REMOVEDIR)?;
        } else {
            // No descriptor is kept for the levels above, of which there may be thousands.
            let up = openat(current, "..", FOLDER, Mode::empty())?;
            unlinkat(&up, &level.name, AtFlags::REMOVEDIR)?;
            above = Some(up);
        }
    }
    Ok(())
}

struct Level {
    name: Vec<u8>,
    left: Vec<Vec<u8>>,
}

/// Unlinks `name`, or opens it when it is a folder.
fn remove_file_or_enter(folder: BorrowedFd<'_>, name: &[u8]) -> rustix::io::Result<Option<(OwnedFd, Level)>> {
    match unlinkat(folder, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(None),
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(errno) => return Err(errno),
    }
    match unlinkat(folder, name, AtFlags::REMOVEDIR) {
        Ok(()) => return Ok(None),
        Err(Errno::NOTEMPTY | Errno::EXIST | Errno::ACCESS) => {}
        Err(errno) => return Err(errno),
    }
    let opened = match openat(folder, name, FOLDER, Mode::empty()) {
        // Only without the rights of root: an owner may forbid himself to look.
        Err(Errno::ACCESS) => {
            chmodat(folder, name, Mode::RWXU, AtFlags::empty())?;
            openat(folder, name, FOLDER, Mode::empty())
        }
        opened => opened,
    }?;
    let left = folder_names(opened.as_fd())?;
    if !left.is_empty() && accessat(&opened, ".", Access::WRITE_OK, AtFlags::EACCESS).is_err() {
        chmodat(folder, name, Mode::RWXU, AtFlags::empty())?;
    }
    Ok(Some((opened, Level { name: name.to_vec(), left })))
}

/// What is in a folder, in no order.
pub(crate) fn folder_names(folder: BorrowedFd<'_>) -> rustix::io::Result<Vec<Vec<u8>>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push(name.to_vec());
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use rustix::fs::{CWD, mkdirat};

    use super::*;

    #[test]
    fn a_tree_deeper_than_any_path_is_removed() {
        let parent = tempfile::tempdir().unwrap();
        let mut folder = openat(CWD, parent.path(), FOLDER, Mode::empty()).unwrap();
        let top = folder.try_clone().unwrap();
        let name = "n".repeat(200);
        for depth in 0..2000 {
            mkdirat(&folder, &name, Mode::RWXU).unwrap();
            folder = openat(&folder, &name, FOLDER, Mode::empty()).unwrap();
            if depth % 100 == 0 {
                openat(&folder, "file", OFlags::CREATE | OFlags::WRONLY, Mode::empty()).unwrap();
            }
        }
        chmodat(&top, &name, Mode::empty(), AtFlags::empty()).unwrap();
        drop(folder);
        remove_tree(&top, name.as_bytes()).unwrap();
        remove_tree(&top, name.as_bytes()).unwrap();
        assert_eq!(folder_names(top.as_fd()).unwrap().len(), 0);
    }
}
