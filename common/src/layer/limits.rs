//! What reader and writer hold to alike: how long things may be, and what the kernel takes.

use super::index::Kind;

/// The longest name of one file, in bytes.
pub(super) const MAX_NAME_BYTES: usize = 255;
/// The longest path and link target, in bytes: what Linux takes in one system call, without the NUL.
pub(super) const MAX_PATH_BYTES: usize = 4095;
/// The longest tar, so that no position overflows.
pub(super) const MAX_TAR_BYTES: u64 = 1 << 60;
/// The longest PAX header or GNU long name, in bytes.
pub(super) const MAX_EXTENSION_BYTES: u64 = 1 << 20;
/// What the kernel takes at most, `XATTR_NAME_MAX` and `XATTR_SIZE_MAX`.
const MAX_XATTR_NAME_BYTES: usize = 255;
const MAX_XATTR_BYTES: usize = 64 << 10;
/// The highest numbers of a device: the kernel has 12 and 20 bits for them and drops the others.
const MAX_MAJOR: u32 = 0xfff;
const MAX_MINOR: u32 = 0xf_ffff;

/// File capabilities.
pub(super) const CAPABILITY: &[u8] = b"security.capability";
/// In front of the name of something that is gone.
pub(super) const WHITEOUT_PREFIX: &[u8] = b".wh.";

/// How much one tar may ask for.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Entries, extensions not counted.
    pub entries: u64,
    /// Zeros that sparse files have in their holes, all together, in bytes.
    pub hole_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { entries: 1 << 20, hole_bytes: 64 << 30 }
    }
}

/// Whether the kernel takes the numbers of an entry for what they are.
pub(super) fn check_numbers<C>(uid: u32, gid: u32, kind: &Kind<C>) -> Result<(), &'static str> {
    if uid.max(gid) == u32::MAX {
        return Err("owner 4294967295, which the kernel takes for none");
    }
    match kind {
        Kind::CharDevice { major, minor } | Kind::BlockDevice { major, minor }
            if *major > MAX_MAJOR || *minor > MAX_MINOR =>
        {
            Err("device number over 4095:1048575")
        }
        _ => Ok(()),
    }
}

/// Whether the kernel takes as many bytes.
pub(super) fn check_xattr_size(name: &[u8], value: &[u8]) -> Result<(), &'static str> {
    if name.len() > MAX_XATTR_NAME_BYTES || value.len() > MAX_XATTR_BYTES {
        return Err("an extended attribute of over 64 KiB, or whose name has over 255 bytes");
    }
    Ok(())
}

/// Whether the kernel takes `value` for file capabilities: version 2, or 3 with a user that there can be.
///
/// Reference: <https://man7.org/linux/man-pages/man7/capabilities.7.html>, "File capability extended attribute
/// versioning".
pub(super) fn is_capability(value: &[u8]) -> bool {
    match (value, value.len()) {
        ([0 | 1, 0, 0, 2, ..], 20) => true,
        ([0 | 1, 0, 0, 3, .., a, b, c, d], 24) => [a, b, c, d] != [&0xff; 4],
        _ => false,
    }
}
