//! Files that a command writes for its user: there is the whole of it, or what was there before.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

/// Writes a file beside its name and renames it when it is whole. A device, pipe or socket is written to as it stands:
/// a rename would take it away.
pub(crate) fn write(path: &Path, content: impl FnOnce(&mut dyn Write) -> Result<()>) -> Result<()> {
    let cannot = || format!("cannot write {}", path.display());
    if fs::metadata(path).is_ok_and(|found| !found.is_file() && !found.is_dir()) {
        return fill(File::options().write(true).open(path), content).with_context(cannot);
    }
    let half = half_name(path);
    fill(File::create(&half), content)
        .and_then(|()| Ok(fs::rename(&half, path)?))
        .with_context(cannot)
        .inspect_err(|_| drop(fs::remove_file(&half)))
}

fn fill(file: io::Result<File>, content: impl FnOnce(&mut dyn Write) -> Result<()>) -> Result<()> {
    let mut out = BufWriter::with_capacity(256 << 10, file?);
    content(&mut out)?;
    Ok(out.flush()?)
}

/// A name for a file that is not whole yet.
fn half_name(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".half-{}", std::process::id()));
    path.with_file_name(name)
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
