//! By what a file that was not touched is known again.

use rustix::fs::Stat;

/// Clocks of file systems tick at most this coarsely, in nanoseconds, when they show parts of a second…
const FINE_TICK: i128 = 20_000_000;
/// … and this coarsely when they do not.
const COARSE_TICK: i128 = 2_000_000_000;

/// What `stat` says of one state of one file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Signature {
    pub device: u64,
    pub inode: u64,
    pub size_bytes: u64,
    /// Nanoseconds since 1970, as is the next one.
    pub mtime: i64,
    pub ctime: i64,
}

impl Signature {
    /// Of what was looked at.
    #[expect(
        clippy::useless_conversion,
        clippy::cast_sign_loss,
        reason = "the types differ between architectures"
    )]
    pub(crate) fn of(stat: &Stat) -> Self {
        let nanos = |seconds: i64, nanos: i64| seconds.wrapping_mul(1_000_000_000).wrapping_add(nanos);
        Signature {
            device: stat.st_dev.into(),
            inode: stat.st_ino.into(),
            size_bytes: stat.st_size as u64,
            mtime: nanos(stat.st_mtime.into(), stat.st_mtime_nsec as i64),
            ctime: nanos(stat.st_ctime.into(), stat.st_ctime_nsec as i64),
        }
    }

    /// Which file, whatever its state.
    pub(super) fn file(&self) -> (u64, u64) {
        (self.device, self.inode)
    }

    /// Whether a change right after `now` (nanoseconds since 1970) could leave the same numbers.
    pub(super) fn is_racy(&self, now: i128) -> bool {
        let newest = i128::from(self.mtime.max(self.ctime));
        let tick = if self.ctime % 1_000_000_000 == 0 { COARSE_TICK } else { FINE_TICK };
        newest + tick >= now
    }
}
