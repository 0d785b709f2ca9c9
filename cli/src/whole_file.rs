//! Files that a command writes for its user: there is the whole of it, or what was there before.
//!
//! Until it is whole a file has no name, so that nothing is left of it however the command ends. Where the file system has
//! no such files, it has a hidden name beside its own until then, which goes away with an interrupt and stays after a
//! kill -9.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use anyhow::{Context as _, Result};
use rustix::fs::{Access, AtFlags, CWD, Mode, OFlags};

/// Hidden names that are in use.
static UNFINISHED: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

/// Writes a file. A device, pipe or socket is written to as it stands: a rename would take it away; and so that it does not
/// take a link away, as `/dev/stdout` is one, the file behind it is written.
pub(crate) fn write(path: &Path, content: impl FnOnce(&mut dyn Write) -> Result<()>) -> Result<()> {
    let cannot = || format!("cannot write {}", path.display());
    if fs::metadata(path).is_ok_and(|found| !found.is_file() && !found.is_dir()) {
        return fill(File::options().write(true).open(path), content).map(drop).with_context(cannot);
    }
    let path = &behind_links(path).with_context(cannot)?;
    let hidden = Hidden::new(path);
    match unnamed(path) {
        Some(file) => fill(Ok(file), content).and_then(|file| Ok(hidden.name(&file)?)),
        None => hidden.create().and_then(|file| fill(Ok(file), content)).map(drop),
    }
    .and_then(|()| Ok(hidden.publish(path)?))
    .with_context(cannot)
}

/// Looks whether [`write()`] can begin to write `path`: who has to work long for the content knows it before.
pub(crate) fn check(path: &Path) -> Result<()> {
    let look = || match fs::metadata(path) {
        Ok(found) if found.is_dir() => Err(io::ErrorKind::IsADirectory.into()),
        Ok(found) if !found.is_file() => check_access(path, Access::WRITE_OK),
        _ => check_folder(folder_of(&behind_links(path)?)),
    };
    look().with_context(|| format!("cannot write {}", path.display()))
}

/// Looks whether files can be made in `folder`.
pub(crate) fn check_folder(folder: &Path) -> io::Result<()> {
    if !fs::metadata(folder)?.is_dir() {
        return Err(io::ErrorKind::NotADirectory.into());
    }
    check_access(folder, Access::WRITE_OK | Access::EXEC_OK)
}

fn check_access(path: &Path, access: Access) -> io::Result<()> {
    Ok(rustix::fs::accessat(CWD, path, access, AtFlags::EACCESS)?)
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// The path that links lead to, where a file need not be yet; as open(2), no more than forty of them are followed.
fn behind_links(path: &Path) -> io::Result<PathBuf> {
    let mut path = path.to_owned();
    for _link in 0..=40 {
        match fs::read_link(&path) {
            Ok(target) => path = path.parent().unwrap_or(Path::new("/")).join(target),
            // It is none, or is not there; what else may be wrong shows when the file is made.
            Err(_) => return Ok(path),
        }
    }
    Err(rustix::io::Errno::LOOP.into())
}

/// Removes what is not whole. No file is begun or finished any more until the answer is dropped.
pub(crate) fn remove_unfinished() -> impl Drop {
    let unfinished = unfinished();
    // What cannot be removed cannot be helped: the command ends.
    unfinished.iter().for_each(|hidden| drop(fs::remove_file(hidden)));
    unfinished
}

fn unfinished() -> MutexGuard<'static, Vec<PathBuf>> {
    UNFINISHED.lock().unwrap_or_else(PoisonError::into_inner)
}

fn fill(file: io::Result<File>, content: impl FnOnce(&mut dyn Write) -> Result<()>) -> Result<File> {
    let mut out = BufWriter::with_capacity(256 << 10, file?);
    content(&mut out)?;
    Ok(out.into_inner().map_err(io::IntoInnerError::into_error)?)
}

/// A file without a name in the folder of `path`, where such a thing can be had and named later.
fn unnamed(path: &Path) -> Option<File> {
    let flags = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
    let file = rustix::fs::open(folder_of(path), flags, Mode::from_raw_mode(0o666)).ok()?;
    fs::exists(descriptor(&file)).is_ok_and(|exists| exists).then(|| file.into())
}

/// How the kernel calls an open file.
fn descriptor(file: &impl AsRawFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()))
}

/// A name for a file that is about to become whole. There is no file of this name when the value is gone.
struct Hidden(PathBuf);

impl Hidden {
    fn new(path: &Path) -> Self {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Hidden(path.with_file_name(format!(".gantry-{}-{:x}", std::process::id(), now.as_nanos())))
    }

    fn create(&self) -> Result<File> {
        let mut unfinished = unfinished();
        let file = File::create_new(&self.0)?;
        unfinished.push(self.0.clone());
        Ok(file)
    }

    /// Gives a file without a name this one.
    fn name(&self, file: &File) -> io::Result<()> {
        let mut unfinished = unfinished();
        unfinished.push(self.0.clone());
        Ok(rustix::fs::linkat(CWD, descriptor(file), CWD, &self.0, AtFlags::SYMLINK_FOLLOW)?)
    }

    fn publish(&self, path: &Path) -> io::Result<()> {
        let _unfinished = unfinished();
        fs::rename(&self.0, path)
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        let mut unfinished = unfinished();
        if let Some(at) = unfinished.iter().position(|hidden| *hidden == self.0) {
            unfinished.swap_remove(at);
            // It is not there when it was published.
            let _ = fs::remove_file(&self.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::unix::fs::FileTypeExt;

    use anyhow::bail;

    use super::*;

    #[test]
    fn what_was_there_stays_until_the_new_file_is_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        write(&path, |out| Ok(out.write_all(b"old")?)).unwrap();
        let failed = write(&path, |out| {
            out.write_all(b"new")?;
            bail!("no more")
        });
        assert_eq!(format!("{:#}", failed.unwrap_err()), format!("cannot write {}: no more", path.display()));
        assert_eq!(fs::read(&path).unwrap(), b"old");
        write(&path, |out| Ok(out.write_all(b"new")?)).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_cannot_be_written_is_known_before() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::write(at("file"), "").unwrap();
        for fine in ["file", "new"] {
            check(&at(fine)).unwrap();
        }
        for (wrong, why) in [("", "is a directory"), ("no/x", "No such file"), ("file/x", "not a directory")]
        {
            let error = format!("{:#}", check(&at(wrong)).unwrap_err());
            assert!(error.starts_with("cannot write /") && error.contains(why), "{error}");
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_link_stays_one_and_the_file_behind_it_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let (file, link) = (folder.path().join("file"), folder.path().join("link"));
        fs::write(&file, "old").unwrap();
        std::os::unix::fs::symlink("file", &link).unwrap();
        write(&link, |out| Ok(out.write_all(b"new")?)).unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read(&file).unwrap(), b"new");
    }

    #[test]
    fn a_link_to_nothing_stays_one_and_the_file_behind_it_is_made() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir(at("real")).unwrap();
        for (link, target) in [("first", "real/second"), ("real/second", "new"), ("loop", "loop")] {
            std::os::unix::fs::symlink(target, at(link)).unwrap();
        }
        write(&at("first"), |out| Ok(out.write_all(b"new")?)).unwrap();
        assert!(fs::symlink_metadata(at("first")).unwrap().is_symlink());
        assert!(fs::symlink_metadata(at("real/second")).unwrap().is_symlink());
        assert_eq!(fs::read(at("real/new")).unwrap(), b"new");
        let error = write(&at("loop"), |_| Ok(())).unwrap_err();
        assert!(format!("{error:#}").contains("Too many levels of symbolic links"), "{error:#}");
        assert!(fs::symlink_metadata(at("loop")).unwrap().is_symlink());
    }

    #[test]
    fn a_hidden_name_goes_away_with_an_interrupt() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let hidden = Hidden::new(&path);
        hidden.create().unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        drop(remove_unfinished());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        hidden.create().unwrap();
        hidden.publish(&path).unwrap();
        drop(hidden);
        assert!(path.exists());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_pipe_is_written_to_and_stays_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pipe");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &path,
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
            0,
        )
        .unwrap();
        let reader = std::thread::spawn({
            let path = path.clone();
            move || {
                let mut text = String::new();
                File::open(path).and_then(|mut pipe| pipe.read_to_string(&mut text)).map(|_| text)
            }
        });
        write(&path, |out| Ok(out.write_all(b"through")?)).unwrap();
        assert_eq!(reader.join().unwrap().unwrap(), "through");
        assert!(fs::metadata(&path).unwrap().file_type().is_fifo());
    }
}
