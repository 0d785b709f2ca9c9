//! `/proc/PID/mountinfo`: what is mounted where, a line each.
//!
//! ```text
//! 31 24 0:27 / /sys/fs/cgroup/devices rw,relatime shared:9 - cgroup cgroup rw,devices
//!              path                                          kind          options
//! ```
//! Format: `proc_pid_mountinfo(5)`.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

/// Something that is mounted.
pub(crate) struct Mounted<'t> {
    /// Where it is.
    pub(crate) path: PathBuf,
    /// Which file system it is.
    pub(crate) kind: &'t str,
    /// What the file system was told, with commas between.
    pub(crate) options: &'t str,
}

/// All that a table lists, in its order. Lines that are of another form are passed over.
pub(crate) fn parse(table: &str) -> impl Iterator<Item = Mounted<'_>> {
    table.lines().filter_map(|line| {
        let (mount, file_system) = line.split_once(" - ")?;
        let path = mount.split(' ').nth(4)?;
        let mut fields = file_system.split(' ');
        let (kind, _source, options) = (fields.next()?, fields.next()?, fields.next()?);
        Some(Mounted { path: OsString::from_vec(unescaped(path)).into(), kind, options })
    })
}

/// A path with its blanks, which the table writes as `\040`.
fn unescaped(path: &str) -> Vec<u8> {
    let mut pieces = path.split('\\');
    let mut bytes = pieces.next().unwrap_or_default().as_bytes().to_vec();
    for piece in pieces {
        let digits = piece.get(..3).and_then(|digits| u8::from_str_radix(digits, 8).ok());
        bytes.extend(digits);
        bytes.extend(piece.as_bytes().iter().skip(digits.map_or(0, |_| 3)));
    }
    bytes
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn mounts_are_found_at_their_real_places() {
        let table = "30 24 0:26 / /sys/fs/cgroup/root/h rw shared:4 - cgroup2 cgroup2 rw\n\
                     31 24 0:27 / /a\\040b\\134c\\04 rw,relatime - cgroup cgroup rw,devices\nnothing\n";
        let found: Vec<_> =
            parse(table).map(|Mounted { path, kind, options }| (path, kind, options)).collect();
        let expected = [("/sys/fs/cgroup/root/h", "cgroup2", "rw"), ("/a b\\c04", "cgroup", "rw,devices")];
        assert_eq!(found, expected.map(|(path, kind, options)| (Path::new(path).to_owned(), kind, options)));
    }
}
