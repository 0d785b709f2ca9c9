//! Control groups: one for each container, in which only docker's devices can be opened. A container may make device
//! files (CAP_MKNOD), so without this it could make one for the host's disk.
//!
//! ```text
//! v1      <mount of `devices`>/gantry/<id>/   devices.deny, devices.allow
//! v2      <mount of cgroup2>/gantry/<id>/     a program attached to the folder
//! hybrid  as v1 where `devices` is mounted, else as v2
//! ```
//! Moving another process between groups makes the kernel wait for all processors, 10 ms and more. A v1 hierarchy lets a
//! thread move itself without that, so `__init` enters the group before the container exists, which is born in it, and
//! leaves at the end. In v2 the container is moved.
//!
//! The group's folder is locked (shared) as long as its `__init` lives. Groups of those that were killed are empty and
//! unlocked: whoever makes a group removes them first.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Dir, FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use rustix::process::Pid;

use crate::mountinfo::{self, Mounted};
use crate::sys;

/// The folder in a hierarchy that holds our groups.
const FOLDER: &str = "gantry";
/// How often another process may remove a group before it is locked.
const ATTEMPTS: usize = 5;

/// Character devices that may be opened: major and minor number, any minor where there is none. Null, zero, full,
/// random, urandom, tty, ptmx and the pseudo terminals. Every device file may be made.
const DEVICES: [(u32, Option<u32>); 8] = [
    (1, Some(3)),
    (1, Some(5)),
    (1, Some(7)),
    (1, Some(8)),
    (1, Some(9)),
    (5, Some(0)),
    (5, Some(2)),
    (136, None),
];

/// The control group of one container.
#[derive(Debug)]
pub(crate) struct Group {
    way: Way,
    parent: OwnedFd,
    name: String,
    /// Locked.
    folder: OwnedFd,
}

/// How processes get into a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// As children of this process, which is in it.
    Born,
    /// They are moved.
    Moved,
}

/// Makes the group `id`. `None` where groups do not exist, cannot be made, or cannot restrict devices.
pub(crate) fn make_group(id: &str) -> Option<Group> {
    let table = std::fs::read_to_string("/proc/self/mountinfo").ok()?;
    find(&table)?.make_group(id).ok()
}

/// Whether this machine lets us restrict which devices a container opens. Where it does not, containers go without
/// CAP_MKNOD.
pub fn can_restrict_devices() -> bool {
    make_group(&format!("probe-{}", std::process::id())).map(Group::remove_unused).is_some()
}

/// A mounted hierarchy of groups that can restrict devices.
#[derive(Debug, PartialEq, Eq)]
enum Hierarchy {
    Devices(PathBuf),
    Unified(PathBuf),
}

/// The one to use, out of `/proc/self/mountinfo`.
fn find(table: &str) -> Option<Hierarchy> {
    let mut unified = None;
    for Mounted { path, kind, options } in mountinfo::parse(table) {
        match kind {
            "cgroup" if options.split(',').any(|option| option == "devices") => {
                return Some(Hierarchy::Devices(path));
            }
            "cgroup2" => unified = Some(Hierarchy::Unified(path)),
            _ => {}
        }
    }
    unified
}

impl Hierarchy {
    fn make_group(&self, id: &str) -> io::Result<Group> {
        let (way, mount) = match self {
            Hierarchy::Devices(mount) => (Way::Born, mount),
            Hierarchy::Unified(mount) => (Way::Moved, mount),
        };
        let parent = make_folder(&open_folder(CWD, mount)?, FOLDER)?;
        sweep(&parent)?;
        let folder = lock_new(&parent, id)?;
        let group = Group { way, parent, name: id.to_owned(), folder };
        let restricted = match self {
            Hierarchy::Devices(_) => group.restrict_by_lists(),
            Hierarchy::Unified(_) => sys::attach_device_program(&group.folder, &device_program()),
        };
        match restricted {
            Ok(()) => Ok(group),
            Err(error) => {
                group.remove_unused();
                Err(error)
            }
        }
    }
}

impl Group {
    /// From now on children of this process, which has one thread, are in the group, if that is the way.
    pub(crate) fn enter(&self) -> io::Result<()> {
        match self.way {
            Way::Born => write(&self.folder, "tasks", &["0".to_owned()]),
            Way::Moved => Ok(()),
        }
    }

    /// Puts a child, and all that it starts from now on, into the group, if it is not there already.
    pub(crate) fn add(&self, pid: Pid) -> io::Result<()> {
        match self.way {
            Way::Born => Ok(()),
            Way::Moved => write(&self.folder, "cgroup.procs", &[pid.as_raw_nonzero().to_string()]),
        }
    }

    /// Leaves and removes the group, whose other processes have ended. What fails is left to the next who makes one.
    pub(crate) fn remove(self) {
        if self.way == Way::Born
            && let Err(error) = write(&self.parent, "tasks", &["0".to_owned()])
        {
            tracing::debug!(group = self.name, %error, "cannot leave the control group");
        }
        self.remove_unused();
    }

    /// Removes the group, in which nobody ever was.
    fn remove_unused(self) {
        if let Err(errno) = rustix::fs::unlinkat(&self.parent, &self.name, AtFlags::REMOVEDIR) {
            tracing::debug!(group = self.name, %errno, "control group stays");
        }
    }

    fn restrict_by_lists(&self) -> io::Result<()> {
        write(&self.folder, "devices.deny", &["a".to_owned()])?;
        let opened = DEVICES.iter().map(|(major, minor)| {
            let minor = minor.map_or("*".to_owned(), |minor| minor.to_string());
            format!("c {major}:{minor} rw")
        });
        let lines: Vec<_> = ["c *:* m".to_owned(), "b *:* m".to_owned()].into_iter().chain(opened).collect();
        write(&self.folder, "devices.allow", &lines)
    }
}

/// Writes each value by a call of its own, as these files want it.
fn write(folder: &OwnedFd, name: &str, values: &[String]) -> io::Result<()> {
    // Files are there on a real hierarchy, and made on one that a test pretends.
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let mut file = File::from(rustix::fs::openat(folder, name, flags, Mode::from_raw_mode(0o600))?);
    values.iter().try_for_each(|value| file.write_all(format!("{value}\n").as_bytes()))
}

fn open_folder(parent: impl std::os::fd::AsFd, path: impl AsRef<Path>) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::openat(parent, path.as_ref(), flags, Mode::empty())
}

fn make_folder(parent: &OwnedFd, name: &str) -> rustix::io::Result<OwnedFd> {
    match rustix::fs::mkdirat(parent, name, Mode::from_raw_mode(0o755)) {
        Ok(()) | Err(Errno::EXIST) => open_folder(parent, name),
        Err(errno) => Err(errno),
    }
}

/// Makes and locks a folder. Another process may take it for an abandoned one in between.
fn lock_new(parent: &OwnedFd, name: &str) -> io::Result<OwnedFd> {
    for _ in 0..ATTEMPTS {
        let folder = match make_folder(parent, name) {
            Err(Errno::NOENT) => continue,
            folder => folder?,
        };
        match rustix::fs::flock(&folder, FlockOperation::NonBlockingLockShared) {
            Ok(()) if same(&folder, parent, name) => return Ok(folder),
            Ok(()) | Err(Errno::WOULDBLOCK) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Err(io::ErrorKind::WouldBlock.into())
}

/// Whether `name` still means the open folder.
fn same(folder: &OwnedFd, parent: &OwnedFd, name: &str) -> bool {
    let now = rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW);
    matches!((rustix::fs::fstat(folder), now), (Ok(held), Ok(named)) if held.st_ino == named.st_ino)
}

/// Removes the groups whose `__init` is gone. One that still has processes stays: the kernel says so.
fn sweep(parent: &OwnedFd) -> io::Result<()> {
    for entry in Dir::read_from(parent)? {
        let entry = entry?;
        let name = entry.file_name();
        if name.to_bytes().starts_with(b".") {
            continue;
        }
        // Files, and groups that others remove at the same time, are passed over.
        let Ok(folder) = open_folder(parent, Path::new(std::ffi::OsStr::new(&*name.to_string_lossy())))
        else {
            continue;
        };
        if rustix::fs::flock(&folder, FlockOperation::NonBlockingLockExclusive).is_ok() {
            let _ = rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR);
        }
    }
    Ok(())
}

/// The lists above as eBPF: the answer is 1 for a device that is allowed.
///
/// Input is `struct bpf_cgroup_dev_ctx`: access and type in one word, major, minor.
fn device_program() -> Vec<u64> {
    const LOAD_WORD: u8 = 0x61;
    const SHIFT_RIGHT: u8 = 0x77;
    const AND: u8 = 0x57;
    const SKIP_UNLESS_EQUAL: u8 = 0x55;
    const SET: u8 = 0xb7;
    const EXIT: u8 = 0x95;
    const MAKE: u32 = 1;
    const CHARACTER_DEVICE: u32 = 2;
    let instruction = |code: u8, to: u8, from: u8, offset: u16, value: u32| {
        u64::from(code)
            | u64::from(to) << 8
            | u64::from(from) << 12
            | u64::from(offset) << 16
            | u64::from(value) << 32
    };
    let skip_unless = |register, value, count| instruction(SKIP_UNLESS_EQUAL, register, 0, count, value);
    let answer = |value| [instruction(SET, 0, 0, 0, value), instruction(EXIT, 0, 0, 0, 0)];

    let (kind, access, major, minor) = (2, 3, 4, 5);
    let mut program = vec![
        instruction(LOAD_WORD, kind, 1, 0, 0),
        instruction(LOAD_WORD, access, 1, 0, 0),
        instruction(LOAD_WORD, major, 1, 4, 0),
        instruction(LOAD_WORD, minor, 1, 8, 0),
        instruction(AND, kind, 0, 0, 0xffff),
        instruction(SHIFT_RIGHT, access, 0, 0, 16),
        skip_unless(access, MAKE, 2),
    ];
    program.extend(answer(1));
    program.push(instruction(SKIP_UNLESS_EQUAL, kind, 0, 0, CHARACTER_DEVICE));
    let refuse_others = program.len() - 1;
    for (allowed_major, allowed_minor) in DEVICES {
        match allowed_minor {
            Some(allowed_minor) => {
                program.extend([skip_unless(major, allowed_major, 3), skip_unless(minor, allowed_minor, 2)]);
            }
            None => program.push(skip_unless(major, allowed_major, 2)),
        }
        program.extend(answer(1));
    }
    let distance = u16::try_from(program.len() - refuse_others - 1).expect("the list is short");
    program[refuse_others] = skip_unless(kind, CHARACTER_DEVICE, distance);
    program.extend(answer(0));
    program
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::testing::eventually;

    const V1: &str = "31 24 0:27 / /sys/fs/cgroup/devices rw,relatime - cgroup cgroup rw,devices";
    const V2: &str = "30 24 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate";

    #[test]
    fn the_hierarchy_is_found_in_every_layout() {
        let devices = Some(Hierarchy::Devices("/sys/fs/cgroup/devices".into()));
        let unified = Some(Hierarchy::Unified("/sys/fs/cgroup".into()));
        let other = "29 24 0:25 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids";
        assert_eq!(find(&format!("{other}\n{V1}")), devices);
        assert_eq!(find(V2), unified);
        assert_eq!(find(&format!("{V2}\n{V1}")), devices);
        assert_eq!(find(other), None);
        assert_eq!(find(""), None);
    }

    #[test]
    fn a_group_denies_all_and_allows_the_list() {
        let mount = tempfile::tempdir().unwrap();
        let group = Hierarchy::Devices(mount.path().into()).make_group("c1").unwrap();
        group.enter().unwrap();
        group.add(Pid::INIT).unwrap();
        let read = |name: &str| fs::read_to_string(mount.path().join("gantry/c1").join(name)).unwrap();
        assert_eq!(read("devices.deny"), "a\n");
        let allowed = "c *:* m\nb *:* m\nc 1:3 rw\nc 1:5 rw\nc 1:7 rw\nc 1:8 rw\nc 1:9 rw\nc 5:0 rw\nc 5:2 rw\nc 136:* rw\n";
        assert_eq!(read("devices.allow"), allowed);
        assert_eq!(read("tasks"), "0\n");
        group.remove();
        assert_eq!(fs::read_to_string(mount.path().join("gantry/tasks")).unwrap(), "0\n");
    }

    #[test]
    fn abandoned_groups_are_swept_and_held_ones_are_not() {
        let mount = tempfile::tempdir().unwrap();
        let folder = open_folder(CWD, mount.path()).unwrap();
        let held = lock_new(&folder, "held").unwrap();
        drop(lock_new(&folder, "abandoned").unwrap());
        let sweeps_away = |name: &str| {
            sweep(&folder).unwrap();
            !mount.path().join(name).exists()
        };
        eventually(|| sweeps_away("abandoned"));
        assert!(mount.path().join("held").exists());
        drop(held);
        eventually(|| sweeps_away("held"));
    }

    #[test]
    fn a_read_only_or_missing_hierarchy_is_an_error_that_names_nothing_worse() {
        let error = Hierarchy::Devices("/nowhere".into()).make_group("x").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }

    /// As a real process sees it, in whichever hierarchies this machine has.
    #[test]
    fn a_process_in_the_group_opens_the_listed_devices_only() {
        let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let found: Vec<_> = table.lines().filter_map(find).collect();
        if found.is_empty() || !rustix::process::geteuid().is_root() {
            eprintln!("skipped: no control groups that this user may use");
            return;
        }
        for hierarchy in found {
            let id = format!("test-devices-{}", std::process::id());
            let group = match hierarchy.make_group(&id) {
                Ok(group) => group,
                Err(error) => {
                    eprintln!("skipped: {hierarchy:?}: {error}");
                    continue;
                }
            };
            let script = "read go; for d in zero kmsg; do head -c1 /dev/$d >/dev/null 2>&1 && echo $d; done";
            let mut shell = std::process::Command::new("sh");
            let shell = shell.args(["-c", script]).stdin(std::process::Stdio::piped());
            let mut child = shell.stdout(std::process::Stdio::piped()).spawn().unwrap();
            let pid = Pid::from_child(&child).as_raw_nonzero().to_string();
            write(&group.folder, "cgroup.procs", &[pid]).unwrap();
            child.stdin.take().unwrap().write_all(b"\n").unwrap();
            let output = child.wait_with_output().unwrap();
            Group { way: Way::Moved, ..group }.remove();
            assert_eq!(String::from_utf8(output.stdout).unwrap(), "zero\n", "{hierarchy:?}");
            let (Hierarchy::Devices(mount) | Hierarchy::Unified(mount)) = hierarchy;
            assert!(!mount.join(FOLDER).join(id).exists());
        }
    }

    /// What the kernel would answer: an interpreter for the instructions that are used.
    fn ask(kind: u32, access: u32, major: u32, minor: u32) -> bool {
        let program = device_program();
        let input = [(access << 16) | kind, major, minor];
        let mut registers = [0_u64; 11];
        let mut at = 0;
        loop {
            let word = program[at];
            at += 1;
            let (to, value) = ((word >> 8 & 15) as usize, word >> 32);
            match word & 0xff {
                0x61 => registers[to] = u64::from(input[(word >> 16 & 0xffff) as usize / 4]),
                0x77 => registers[to] >>= value,
                0x57 => registers[to] &= value,
                0x55 if registers[to] != value => at += (word >> 16 & 0xffff) as usize,
                0x55 => {}
                0xb7 => registers[to] = value,
                0x95 => return registers[0] == 1,
                code => panic!("instruction {code:#x}"),
            }
        }
    }

    #[test]
    fn the_program_says_what_the_lists_say() {
        let (block, character) = (1, 2);
        let (make, read, write) = (1, 2, 4);
        assert!(ask(block, make, 8, 0) && ask(character, make, 9, 9));
        assert!(!ask(block, read, 8, 0) && !ask(block, make | read, 8, 0));
        assert!(ask(character, read | write, 1, 3) && ask(character, read, 5, 2));
        assert!(!ask(character, read, 1, 1) && !ask(character, read, 5, 1) && !ask(block, read, 1, 3));
        assert!(ask(character, write, 136, 77) && !ask(character, write, 137, 0));
    }
}
