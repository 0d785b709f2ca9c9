//! What is mounted into a container, and what that leaves behind.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use common::snapshot::{Overlay, Upper};
use engine::{Mount, Source};

use crate::tests;
use crate::world::{Test, World, check, check_refused, run};

pub(crate) const TESTS: &[Test] = tests![
    directories_and_files_of_the_host_are_bound,
    a_mount_inside_of_another_is_found,
    a_destination_follows_links_inside_the_root,
    a_file_is_not_mounted_on_a_directory,
    proc_is_not_a_place_for_mounts,
    what_sys_does_not_have_is_no_place_for_mounts,
    file_systems_have_dockers_names,
    a_device_can_be_bound_into_dev,
    texts_and_memory_are_mounted,
    a_made_file_has_its_owner_and_mode_and_can_be_executed,
    a_part_of_another_tree_is_mounted,
    stubs_leave_no_trace_in_the_changes,
    a_missing_source_is_refused,
    the_hosts_control_groups_do_not_move_a_container,
];

fn bind(source: PathBuf, destination: &str) -> Mount {
    Mount { source: Source::Bind(source), destination: destination.into(), read_only: false }
}

fn text(text: &str, destination: &str) -> Mount {
    let source = Source::File { content: text.into(), mode: 0o644, uid: 0, gid: 0 };
    Mount { source, destination: destination.into(), read_only: false }
}

fn folder(world: &World, name: &str, content: &str) -> PathBuf {
    let path = world.path(name);
    fs::create_dir(&path).unwrap();
    fs::write(path.join("f"), content).unwrap();
    path
}

fn directories_and_files_of_the_host_are_bound(world: &World) {
    let host = folder(world, "d", "host\n");
    let mut spec = world.spec("a", &["sh", "-c", "cat /m/f /file; echo new > /m/g; touch /ro/x"]);
    spec.mounts = vec![
        bind(host.clone(), "/m"),
        bind(host.join("f"), "/file"),
        Mount { read_only: true, ..bind(host.clone(), "/ro") },
    ];
    let outcome = run(&spec);
    assert_eq!(outcome.stdout, "host\nhost\n", "{outcome:?}");
    assert_eq!(outcome.stderr, "touch: /ro/x: Read-only file system\n");
    assert_eq!(fs::read_to_string(host.join("g")).unwrap(), "new\n");
}

fn a_mount_inside_of_another_is_found(world: &World) {
    let (outer, inner) = (folder(world, "outer", "A\n"), folder(world, "inner", "B\n"));
    let mut spec = world.spec("a", &["cat", "/m/f", "/m/sub/f"]);
    spec.mounts = vec![bind(inner, "/m/sub"), bind(outer, "/m")];
    check(&spec, "A\nB\n");
}

fn a_destination_follows_links_inside_the_root(world: &World) {
    symlink("/data", world.root().join("link")).unwrap();
    symlink("../../../run/resolv.conf", world.root().join("etc/resolv.conf")).unwrap();
    let host = folder(world, "d", "in\n");
    let mut spec = world.spec("a", &["cat", "/data/x/f", "/run/resolv.conf"]);
    spec.mounts = vec![bind(host.clone(), "/link/x"), bind(host.join("f"), "/etc/resolv.conf")];
    check(&spec, "in\nin\n");
    assert!(!world.path("run").exists());
}

fn a_file_is_not_mounted_on_a_directory(world: &World) {
    let file = folder(world, "d", "").join("f");
    let mut spec = world.spec("a", &["true"]);
    spec.mounts = vec![bind(file.clone(), "/etc")];
    let outcome = run(&spec);
    let error = outcome.status.unwrap_err();
    let text = format!(
        "mount {} at /etc: not a directory: Are you trying to mount a directory onto a file",
        file.display()
    );
    assert!(error.to_string().starts_with(&text) && error.exit_code() == 125, "{error}");
}

fn proc_is_not_a_place_for_mounts(world: &World) {
    symlink("/proc/self", world.root().join("link")).unwrap();
    let host = folder(world, "d", "");
    let mut spec = world.spec("a", &["true"]);
    for destination in ["/proc/x", "/proc", "/link/attr"] {
        spec.mounts = vec![bind(host.clone(), destination)];
        check_refused(&spec, 125, &format!("mount {} at {destination}: it is inside /proc", host.display()));
    }
    assert!(!world.upper("a").join("proc/x").exists());
    spec.mounts = vec![bind(host.clone(), "/")];
    check_refused(&spec, 125, &format!("mount {} at /: destination can't be '/'", host.display()));
}

fn what_sys_does_not_have_is_no_place_for_mounts(world: &World) {
    let host = folder(world, "d", "found\n");
    let mut spec = world.spec("a", &["cat", "/sys/kernel/f"]);
    spec.mounts = vec![bind(host.clone(), "/sys/kernel")];
    check(&spec, "found\n");
    let refused = |source: &Path, destination: &str, reason: &str| {
        let mut spec = world.spec("b", &["true"]);
        spec.mounts = vec![bind(source.to_owned(), destination)];
        check_refused(&spec, 125, &format!("mount {} at {destination}: {reason}", source.display()));
    };
    refused(&host, "/sys/x", "read-only file system");
    let mixed = "not a directory: Are you trying to mount a directory onto a file (or vice-versa)? Check if the specified \
                 host path exists and is the expected type";
    refused(&host.join("f"), "/sys", mixed);
    refused(&host.join("f"), "/sys/kernel", mixed);
    assert!(!world.upper("a").join("sys/kernel").exists() && !world.upper("b").join("sys/x").exists());
}

fn file_systems_have_dockers_names(world: &World) {
    let outcome = world.shell("grep -oE '^[^ ]+ (/|/dev/shm) [^ ]+' /proc/mounts");
    assert_eq!(outcome.stdout, "overlay / overlay\nshm /dev/shm tmpfs\n");
}

fn a_device_can_be_bound_into_dev(world: &World) {
    let host = folder(world, "d", "late\n");
    let mut spec =
        world.spec("a", &["sh", "-c", "cat /dev/inside/f /dev/shm/f; head -c 1 /dev/nothing | wc -c"]);
    spec.mounts = vec![
        bind(host.clone(), "/dev/inside"),
        bind(host, "/dev/shm"),
        bind("/dev/null".into(), "/dev/nothing"),
    ];
    check(&spec, "late\nlate\n0\n");
}

fn texts_and_memory_are_mounted(world: &World) {
    let tmpfs = Source::Tmpfs(vec!["size=64k".into(), "mode=0750".into()]);
    let script =
        "cat /etc/hosts; stat -c %a /t; grep ' /t ' /proc/mounts | tr ' ' '\\n' | head -4 | tr '\\n' ' '";
    let mut spec = world.spec("a", &["sh", "-c", script]);
    spec.mounts = vec![
        text("127.0.0.1\tlocalhost\n", "/etc/hosts"),
        Mount { source: tmpfs, destination: "/t".into(), read_only: false },
    ];
    check(
        &spec,
        "127.0.0.1\tlocalhost\n750\ntmpfs /t tmpfs rw,nosuid,nodev,noexec,relatime,size=64k,mode=750 ",
    );
}

fn stubs_leave_no_trace_in_the_changes(world: &World) {
    let old = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
    let set_old = |path: &Path| fs::File::open(path).unwrap().set_modified(old).unwrap();
    set_old(&world.root().join("etc"));
    let mut spec = world.spec("a", &["sh", "-c", "echo x > /mnt/deep/kept"]);
    let upper = world.upper("a");
    set_old(&upper);
    spec.is_step = true;
    spec.mounts = vec![
        text("x\n", "/etc/hosts"),
        text("x\n", "/etc/resolv.conf"),
        text("x\n", "/new/file"),
        bind(folder(world, "d", ""), "/mnt/deep"),
    ];
    check(&spec, "");
    let entries = |path: &Path| -> Vec<_> {
        fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    };
    let mut changed = entries(&upper);
    changed.sort();
    assert_eq!(changed, ["dev", "etc", "proc", "sys"]);
    assert_eq!(entries(&upper.join("etc")), Vec::<String>::new());
    assert_eq!(fs::metadata(upper.join("etc")).unwrap().modified().unwrap(), old);
    assert_eq!(fs::metadata(&upper).unwrap().modified().unwrap(), old);
}

fn a_missing_source_is_refused(world: &World) {
    let mut spec = world.spec("a", &["true"]);
    spec.mounts = vec![bind("/no/such".into(), "/m")];
    check_refused(&spec, 125, "bind source path /no/such: no such file or directory");
}

fn a_made_file_has_its_owner_and_mode_and_can_be_executed(world: &World) {
    let content = "#!/bin/sh\nstat -c '%u:%g %a' $0\n".into();
    let mut spec = world.spec("a", &["/dev/pipes/script"]);
    let source = Source::File { content, mode: 0o750, uid: 3, gid: 4 };
    spec.mounts = vec![Mount { source, destination: "/dev/pipes/script".into(), read_only: true }];
    check(&spec, "3:4 750\n");
}

fn a_part_of_another_tree_is_mounted(world: &World) {
    let (lower, upper, work) = (folder(world, "other", "inside\n"), world.path("up"), world.path("wk"));
    fs::create_dir_all(&upper).unwrap();
    fs::create_dir_all(&work).unwrap();
    symlink("/f", lower.join("link")).unwrap();
    let root =
        Overlay { lowers: vec![lower], upper: Some(Upper { tree: upper.clone(), work, volatile: false }) };
    let tree = |path: &str, destination: &str| Mount {
        source: Source::Tree { overlay: root.clone(), path: path.into() },
        destination: destination.into(),
        read_only: false,
    };
    let mut spec = world.spec("a", &["sh", "-c", "cat /m/f && echo new > /m/new"]);
    spec.mounts = vec![tree("", "/m")];
    check(&spec, "inside\n");
    assert_eq!(fs::read_to_string(upper.join("new")).unwrap(), "new\n");
    let mut spec = world.spec("b", &["cat", "/file"]);
    spec.mounts = vec![tree("link", "/file")];
    check(&spec, "inside\n");
    spec.mounts = vec![tree("no", "/file")];
    check_refused(&spec, 125, "mount /no of another root at /file: no such file or directory");
}

/// With a bind of the root or of `/sys` come the hierarchies that are mounted there.
fn the_hosts_control_groups_do_not_move_a_container(world: &World) {
    if !fs::read_to_string("/proc/self/mountinfo").unwrap().contains(" - cgroup ") {
        eprintln!("skipped: no control groups of version 1 are mounted");
        return;
    }
    let own = |mounts: Vec<Mount>| {
        // Without the ID, which is another one each time.
        let script = "grep -e ':devices:' -e '^0::' /proc/self/cgroup | sed 's,[^/]*$,,'";
        let mut spec = world.spec("a", &["sh", "-c", script]);
        spec.mounts = mounts;
        let outcome = run(&spec);
        assert!(outcome.status.as_ref().is_ok_and(|status| status.success()), "{outcome:?}");
        outcome.stdout
    };
    let without = own(Vec::new());
    for source in ["/", "/sys", "/sys/fs/cgroup"] {
        let mount = bind(source.into(), "/host folder");
        assert_eq!(own(vec![mount.clone()]), without, "{source}");
        assert_eq!(own(vec![Mount { read_only: true, ..mount }]), without, "{source}");
    }
}
