//! Overlay mounts that no mount table shows.
//!
//! [`mount_detached`] stacks folders into one tree and answers with a descriptor of its root. The mount lives in no
//! mount namespace: it is gone with the descriptor, so a process that dies by `kill -9` leaves none behind. Whoever
//! wants it at a path attaches the descriptor with `move_mount(2)` in a mount namespace of their own.
//!
//! Every mount says `redirect_dir=nofollow,metacopy=off,index=off`: a folder is data from an image, and a redirect in
//! it must not be followed. In a user namespace `userxattr` is added, as the kernel keeps `trusted.*` for real root.
//!
//! Options of a mount share one page, which holds about 45 store paths, and images have up to 127 layers. So layers are
//! named by descriptor, in the newest of three ways that the kernel takes: `fsconfig` with the descriptors themselves
//! (6.13), `fsconfig` with `/proc/self/fd/N` (6.5), `mount(2)` with `/proc/self/fd/N` inside a mount namespace
//! that one thread makes and takes along when it ends.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, mkdirat, openat, statat, unlinkat};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MountPropagationFlags, OpenTreeFlags,
    fsconfig_create, fsconfig_set_fd, fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, mount,
    mount_change, open_tree,
};

use serde::{Deserialize, Serialize};

use super::ids;
use crate::store::StoreError;

/// The folders that make one merged tree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Overlay {
    /// Folders that are only read, topmost first. With none, the upper folder is the whole tree.
    pub lowers: Vec<PathBuf>,
    /// Where changes go, and a folder for the kernel's use on the same file system; without it the mount is read-only.
    pub upper: Option<Upper>,
}

/// The writable top of an [`Overlay`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Upper {
    /// Takes every change.
    pub tree: PathBuf,
    /// An empty folder beside it that belongs to the kernel.
    pub work: PathBuf,
    /// Changes may be lost at a power cut, so neither `fsync` inside nor the end of the mount waits for the disk.
    /// A work folder serves one such mount only.
    pub volatile: bool,
}

/// Why a merged tree could not be mounted.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    /// A folder of the overlay cannot be opened.
    #[error("cannot open {}", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The kernel refused the mount; its log (`dmesg`) often says why.
    #[error("cannot mount an overlay of {lowers} folders: {step}")]
    Mount {
        /// How many lower folders were asked for.
        lowers: usize,
        /// The call or option that failed.
        step: String,
        /// What the kernel said.
        source: io::Error,
    },
}

/// Mounts `overlay` where nobody sees it; the descriptor is that of its root and keeps it alive.
///
/// # Errors
/// When a folder cannot be opened, or overlayfs is not to be had here; [`probe`] tells the second beforehand.
pub fn mount_detached(overlay: &Overlay) -> Result<OwnedFd, MountError> {
    let opened = Opened::new(overlay)
        .map_err(|(path, errno)| MountError::Folder { path: path.to_owned(), source: errno.into() })?;
    if let ([], Some((tree, ..))) = (&opened.lowers[..], &opened.upper) {
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        return open_tree(tree, "", flags | OpenTreeFlags::AT_EMPTY_PATH)
            .map_err(|errno| Refused { step: "open_tree".into(), errno }.error(0));
    }
    let mut result = opened.mount(Way::Descriptors);
    if matches!(&result, Err(refused) if refused.errno == Errno::INVAL && refused.step == LOWER) {
        result = opened.mount(Way::Names);
        // A kernel that knows neither says so late.
        if matches!(&result, Err(refused) if refused.errno == Errno::INVAL) {
            result = opened.mount(Way::Classic);
        }
    }
    result.map_err(|refused| refused.error(overlay.lowers.len()))
}

/// Says by a real mount in `scratch`, an empty folder on the file system that shall hold the trees, whether overlayfs
/// works here, whiteouts and opaque folders included.
///
/// # Errors
/// The reason why it does not work.
pub fn probe(scratch: &Path) -> Result<(), ProbeError> {
    let path = |name: &str| scratch.join(name);
    for name in ["lower", "lower/gone", "lower/again", "upper", "work"] {
        std::fs::create_dir(path(name)).map_err(StoreError::io("make", &path(name)))?;
    }
    let upper = Upper { tree: path("upper"), work: path("work"), volatile: true };
    let root = mount_detached(&Overlay { lowers: vec![path("lower")], upper: Some(upper) })?;
    let change = || -> rustix::io::Result<()> {
        unlinkat(&root, "gone", AtFlags::REMOVEDIR)?;
        unlinkat(&root, "again", AtFlags::REMOVEDIR)?;
        mkdirat(&root, "again", Mode::RWXU)
    };
    change().map_err(|errno| ProbeError::Whiteout(Some(errno.into())))?;
    drop(root);
    let gone = statat(CWD, path("upper/gone"), AtFlags::SYMLINK_NOFOLLOW)
        .map_err(|errno| ProbeError::Whiteout(Some(errno.into())))?;
    if FileType::from_raw_mode(gone.st_mode) != FileType::CharacterDevice || gone.st_rdev != 0 {
        return Err(ProbeError::Whiteout(None));
    }
    let mut value = [0u8; 8];
    match rustix::fs::lgetxattr(
        path("upper/again"),
        format!("{}opaque", ids::overlay_notes()),
        &mut value[..],
    ) {
        Ok(1) if value[0] == b'y' => Ok(()),
        Ok(_) => Err(ProbeError::Opaque(None)),
        Err(errno) => Err(ProbeError::Opaque(Some(errno.into()))),
    }
}

/// Why overlayfs cannot be used for a store's trees.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// The kernel does not mount it: missing right, missing file system, or a file system below that cannot carry it.
    #[error("overlayfs cannot be mounted here")]
    Mount(#[from] MountError),
    /// A removed file left no whiteout that could be read again.
    #[error("overlayfs records no removals on this file system")]
    Whiteout(#[source] Option<io::Error>),
    /// A folder made anew is not marked as opaque.
    #[error("overlayfs records no replaced folders on this file system")]
    Opaque(#[source] Option<io::Error>),
    /// The place for the attempt could not be made.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// How layers are named to the kernel, newest first.
#[derive(Debug, Clone, Copy)]
enum Way {
    Descriptors,
    Names,
    Classic,
}

struct Refused {
    step: String,
    errno: Errno,
}

impl Refused {
    fn at<'a>(step: impl fmt::Display + 'a) -> impl FnOnce(Errno) -> Self + 'a {
        move |errno| Refused { step: step.to_string(), errno }
    }

    fn error(self, lowers: usize) -> MountError {
        MountError::Mount { lowers, step: self.step, source: self.errno.into() }
    }
}

/// The folders of an overlay, opened once so that every way means the same ones.
struct Opened<'a> {
    overlay: &'a Overlay,
    lowers: Vec<OwnedFd>,
    upper: Option<(OwnedFd, OwnedFd, bool)>,
}

impl<'a> Opened<'a> {
    fn new(overlay: &'a Overlay) -> Result<Self, (&'a Path, Errno)> {
        let open = |path: &'a PathBuf| {
            openat(CWD, path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
                .map_err(|errno| (path.as_path(), errno))
        };
        let lowers = overlay.lowers.iter().map(open).collect::<Result<_, _>>()?;
        let upper = match &overlay.upper {
            Some(upper) => Some((open(&upper.tree)?, open(&upper.work)?, upper.volatile)),
            None => None,
        };
        Ok(Opened { overlay, lowers, upper })
    }

    fn mount(&self, way: Way) -> Result<OwnedFd, Refused> {
        match way {
            Way::Descriptors => self.configure(|context, key, folder| fsconfig_set_fd(context, key, folder)),
            Way::Names => {
                self.configure(|context, key, folder| fsconfig_set_string(context, key, name(folder)))
            }
            Way::Classic => self.mount_in_a_namespace(),
        }
    }

    fn configure(
        &self,
        set: impl Fn(BorrowedFd<'_>, &str, BorrowedFd<'_>) -> rustix::io::Result<()>,
    ) -> Result<OwnedFd, Refused> {
        let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC).map_err(Refused::at("fsopen"))?;
        // What `df` shows.
        fsconfig_set_string(&context, "source", "overlay").map_err(Refused::at("source"))?;
        for lower in &self.lowers {
            set(context.as_fd(), LOWER, lower.as_fd()).map_err(Refused::at(LOWER))?;
        }
        if let Some((tree, work, volatile)) = &self.upper {
            set(context.as_fd(), "upperdir", tree.as_fd()).map_err(Refused::at("upperdir"))?;
            set(context.as_fd(), "workdir", work.as_fd()).map_err(Refused::at("workdir"))?;
            if *volatile {
                fsconfig_set_flag(&context, "volatile").map_err(Refused::at("volatile"))?;
            }
        }
        for (key, value) in FIXED {
            fsconfig_set_string(&context, *key, *value).map_err(Refused::at(key))?;
        }
        if ids::in_user_namespace() {
            fsconfig_set_flag(&context, "userxattr").map_err(Refused::at("userxattr"))?;
        }
        fsconfig_create(&context).map_err(Refused::at("fsconfig"))?;
        fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())
            .map_err(Refused::at("fsmount"))
    }

    /// `mount(2)` needs a place, and a mount in our own namespace would outlive a `kill -9`. So a thread enters a
    /// mount namespace of its own, mounts there and clones the mount; the namespace ends with the thread. Folders are
    /// opened anew in it, since overlayfs takes none of another namespace.
    fn mount_in_a_namespace(&self) -> Result<OwnedFd, Refused> {
        std::thread::scope(|scope| {
            scope
                .spawn(|| mount_classic(self.overlay))
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    fn classic_options(&self) -> String {
        let lowers: Vec<String> = self.lowers.iter().map(|lower| name(lower.as_fd())).collect();
        let mut options = format!("lowerdir={}", lowers.join(":"));
        if let Some((tree, work, volatile)) = &self.upper {
            options += &format!(",upperdir={},workdir={}", name(tree.as_fd()), name(work.as_fd()));
            options += if *volatile { ",volatile" } else { "" };
        }
        for (key, value) in FIXED {
            options += &format!(",{key}={value}");
        }
        options + if ids::in_user_namespace() { ",userxattr" } else { "" }
    }
}

fn mount_classic(overlay: &Overlay) -> Result<OwnedFd, Refused> {
    // The file descriptor table stays shared, which is what makes the newer function unsafe.
    #[expect(
        deprecated,
        reason = "its replacement is unsafe for the sake of CLONE_FILES, which is not asked for"
    )]
    rustix::thread::unshare(rustix::thread::UnshareFlags::NEWNS | rustix::thread::UnshareFlags::FS)
        .map_err(Refused::at("unshare"))?;
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
        .map_err(Refused::at("making mounts private"))?;
    // Any folder serves as the place; what the mount hides is hidden from this thread alone.
    let place = overlay.lowers.first().ok_or(Errno::INVAL).map_err(Refused::at("lowerdir"))?;
    let opened = Opened::new(overlay).map_err(|(path, errno)| Refused::at(path.display())(errno))?;
    let options = std::ffi::CString::new(opened.classic_options()).expect("numbers and words hold no NUL");
    mount("overlay", place, "overlay", MountFlags::empty(), options.as_c_str())
        .map_err(Refused::at("mount"))?;
    open_tree(CWD, place, OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC)
        .map_err(Refused::at("open_tree"))
}

/// Adds a folder below those named before; kernels before 6.5 do not know it.
const LOWER: &str = "lowerdir+";

/// What every mount says, see the head of this file. (`redirect_dir=off` would follow redirects on some kernels.)
const FIXED: &[(&str, &str)] = &[("redirect_dir", "nofollow"), ("metacopy", "off"), ("index", "off")];

fn name(folder: BorrowedFd<'_>) -> String {
    format!("/proc/self/fd/{}", folder.as_raw_fd())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Read;

    use super::*;

    /// `layers` folders, each with a file of its own and one called `top` that says which layer it is from.
    fn stack(at: &Path, layers: usize) -> Overlay {
        let lowers: Vec<PathBuf> = (0..layers).map(|n| at.join(format!("{n:0>100}"))).collect();
        for (n, lower) in lowers.iter().enumerate() {
            fs::create_dir(lower).unwrap();
            fs::write(lower.join(format!("file-{n}")), "").unwrap();
            fs::write(lower.join("top"), n.to_string()).unwrap();
        }
        let [tree, work] = ["upper", "work"].map(|name| at.join(name));
        fs::create_dir(&tree).unwrap();
        fs::create_dir(&work).unwrap();
        Overlay { lowers, upper: Some(Upper { tree, work, volatile: true }) }
    }

    fn read(root: &OwnedFd, name: &str) -> String {
        let mut text = String::new();
        let fd = openat(root, name, OFlags::RDONLY, Mode::empty()).unwrap();
        fs::File::from(fd).read_to_string(&mut text).unwrap();
        text
    }

    fn check_mount(way: Way) {
        let folder = tempfile::tempdir().unwrap();
        if let Err(error) = probe_in(folder.path()) {
            eprintln!("skipped: {error}");
            return;
        }
        let overlay = stack(folder.path(), 127);
        let opened = Opened::new(&overlay).unwrap();
        let root = match opened.mount(way) {
            Err(refused) if refused.errno == Errno::INVAL => {
                eprintln!("skipped: this kernel does not know {way:?} ({})", refused.step);
                return;
            }
            result => result.map_err(|refused| refused.error(127)).unwrap(),
        };
        assert_eq!(read(&root, "top"), "0");
        for n in 0..127 {
            assert_eq!(read(&root, &format!("file-{n}")), "");
        }
        unlinkat(&root, "top", AtFlags::empty()).unwrap();
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!mounts.contains(folder.path().to_str().unwrap()), "{mounts}");
        assert!(!mounts.contains("upperdir=/proc/self/fd"), "{mounts}");
    }

    fn probe_in(folder: &Path) -> Result<(), ProbeError> {
        let scratch = folder.join("probe");
        fs::create_dir(&scratch).unwrap();
        probe(&scratch)
    }

    #[test]
    fn a_hundred_and_twenty_seven_layers_are_mounted_by_descriptor() {
        check_mount(Way::Descriptors);
    }

    #[test]
    fn a_hundred_and_twenty_seven_layers_are_mounted_by_name() {
        check_mount(Way::Names);
    }

    #[test]
    fn a_hundred_and_twenty_seven_layers_are_mounted_as_old_kernels_do_it() {
        check_mount(Way::Classic);
    }

    #[test]
    fn a_missing_folder_is_named() {
        let overlay = Overlay { lowers: vec![PathBuf::from("/nowhere/at/all")], upper: None };
        assert_eq!(mount_detached(&overlay).unwrap_err().to_string(), "cannot open /nowhere/at/all");
    }

    #[test]
    fn folders_that_make_no_overlay_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let mut overlay = stack(folder.path(), 1);
        if let Some(upper) = &mut overlay.upper {
            upper.work = upper.tree.clone();
        }
        let error = mount_detached(&overlay).unwrap_err();
        assert!(matches!(error, MountError::Mount { lowers: 1, .. }), "{error}");
    }
}
