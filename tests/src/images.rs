//! Images that tests start from, made in code or by the system's own tools.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::program::{World, finish};

/// A tar of a root with a static busybox, its commands and a few users; `None` without busybox.
pub fn busybox_root() -> Option<&'static Path> {
    static ROOT: OnceLock<Option<PathBuf>> = OnceLock::new();
    ROOT.get_or_init(make_busybox_root).as_deref()
}

fn make_busybox_root() -> Option<PathBuf> {
    let busybox =
        ["/bin/busybox", "/usr/bin/busybox"].map(Path::new).into_iter().find(|path| path.is_file())?;
    let folder = cache_folder();
    let tar = folder.join("busybox.tar");
    let root = tempfile::tempdir_in(&folder).expect("a temporary folder");
    for name in ["bin", "etc", "tmp", "root", "home/app", "data", "proc", "sys", "dev"] {
        std::fs::create_dir_all(root.path().join(name)).expect("folders");
    }
    std::fs::copy(busybox, root.path().join("bin/busybox")).expect("a copy");
    let list = Command::new(busybox).arg("--list").output().expect("busybox runs");
    for applet in String::from_utf8_lossy(&list.stdout).lines().filter(|name| *name != "busybox") {
        std::os::unix::fs::symlink("busybox", root.path().join("bin").join(applet)).expect("a link");
    }
    let etc =
        |name: &str, text: &str| std::fs::write(root.path().join("etc").join(name), text).expect("a file");
    etc("passwd", "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1000::/home/app:/bin/sh\n");
    etc("group", "root:x:0:\napp:x:1000:\nextra:x:60:app\n");
    std::fs::write(root.path().join("data/file"), "content\n").expect("a file");
    let half = root.path().with_extension("half");
    let made = finish(
        Command::new("tar")
            .args(["--numeric-owner", "--owner=0", "--group=0", "--sort=name", "-cf"])
            .arg(&half)
            .arg("-C")
            .arg(root.path())
            .arg("."),
        None,
    );
    assert_eq!(made.code, 0, "{}", made.stderr);
    std::fs::rename(&half, &tar).expect("a rename");
    Some(tar)
}

/// A world with busybox, or the reason why there is none.
#[track_caller]
pub fn busybox_world() -> Result<World, &'static str> {
    let world = World::new();
    if import_busybox(&world) { Ok(world) } else { Err("busybox is not installed") }
}

/// Imports the busybox root as `busybox`; `false` without busybox.
#[track_caller]
pub fn import_busybox(world: &World) -> bool {
    let Some(tar) = busybox_root() else { return false };
    let [import, name] = ["import", "busybox"].map(OsStr::new);
    let changes = ["-c", r#"CMD ["sh"]"#, "-c", "ENV PATH=/bin"].map(OsStr::new);
    world.gantry([import].into_iter().chain(changes).chain([tar.as_os_str(), name])).ok();
    true
}

/// Imports a Debian root as `debian:bookworm`; `false` when it cannot be made here.
#[track_caller]
pub fn import_debian(world: &World) -> bool {
    static ROOT: OnceLock<Option<PathBuf>> = OnceLock::new();
    let Some(tar) = ROOT.get_or_init(make_debian_root) else { return false };
    let [import, name] = ["import", "debian:bookworm"].map(OsStr::new);
    let change = ["-c", r#"CMD ["bash"]"#].map(OsStr::new);
    world.gantry([import].into_iter().chain(change).chain([tar.as_os_str(), name])).ok();
    true
}

/// mmdebstrap takes some 15 s, so its result is kept beside the build.
fn make_debian_root() -> Option<PathBuf> {
    let tar = cache_folder().join("debian.tar");
    if tar.is_file() {
        return Some(tar);
    }
    let half = tempfile::NamedTempFile::new_in(cache_folder()).expect("a temporary file");
    let made = Command::new("mmdebstrap")
        .args(["--quiet", "--variant=minbase", "--format=tar", "bookworm"])
        .arg(half.path())
        .output()
        .ok()?;
    if !made.status.success() {
        eprintln!("mmdebstrap failed: {}", String::from_utf8_lossy(&made.stderr));
        return None;
    }
    half.persist(&tar).expect("a rename");
    Some(tar)
}

/// Compiles C text into a static program; `None` without a compiler.
pub fn static_program(world: &World, name: &str, source: &str) -> Option<PathBuf> {
    let file = world.write(&format!("{name}.c"), source);
    let program = world.path().join(name);
    let made = Command::new("cc")
        .args(["-O1", "-static", "-pthread", "-o"])
        .arg(&program)
        .arg(file)
        .output()
        .ok()?;
    made.status.success().then_some(program)
}

/// Where expensive roots are kept between runs.
fn cache_folder() -> PathBuf {
    let folder = crate::gantry_binary().parent().expect("a program is in a folder").join("test-roots");
    std::fs::create_dir_all(&folder).expect("a folder");
    folder
}
