//! The runtime specification of a container, with docker's defaults.
//!
//! <https://github.com/opencontainers/runtime-spec/blob/main/config.md>,
//! <https://github.com/moby/moby/blob/master/oci/defaults.go>

use std::path::{Path, PathBuf};

use common::passwd::Identity;
use rustix::thread::CapabilitySet;
use serde_json::{Value, json};

use crate::capabilities;
use crate::spec::RunSpec;

/// Files of the kernel that say too much about the host, or let it be changed.
const MASKED: [&str; 11] = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
];
const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// A mount that has to come after the kernel's file systems, since it lies in one of them.
pub(super) struct LateMount {
    /// Where the prepared mount is.
    pub(super) source: PathBuf,
    /// In the container, absolute.
    pub(super) destination: PathBuf,
}

/// `config.json` for `spec`, whose root is mounted at `root` and whose user is `identity`. The capabilities are what
/// the runtime leaves to our payload, not what the command gets.
pub(super) fn config(
    spec: &RunSpec,
    root: &Path,
    identity: &Identity,
    capabilities: CapabilitySet,
    late_mounts: &[LateMount],
) -> Value {
    let names = capabilities::names(capabilities);
    // With the primary group among the supplementary ones a command cannot drop a group to gain access (CVE-2022-36109).
    let mut groups = vec![identity.gid];
    groups.extend(identity.groups.iter().filter(|gid| **gid != identity.gid));
    json!({
        "ociVersion": "1.0.2",
        "root": {"path": root, "readonly": spec.read_only},
        "hostname": spec.hostname,
        "process": {
            "terminal": spec.terminal.is_some(),
            "user": {"uid": identity.uid, "gid": identity.gid, "additionalGids": groups, "umask": 0o022},
            "args": spec.args,
            "cwd": if spec.working_dir.is_empty() { "/" } else { &spec.working_dir },
            "capabilities": {"bounding": names, "effective": names, "permitted": names},
        },
        "mounts": mounts(late_mounts),
        "linux": {
            "namespaces": [{"type": "mount"}, {"type": "pid"}, {"type": "ipc"}, {"type": "uts"}],
            "maskedPaths": MASKED,
            "readonlyPaths": READ_ONLY,
        },
    })
}

fn mounts(late: &[LateMount]) -> Vec<Value> {
    let mut mounts = vec![
        mount("/proc", "proc", &["nosuid", "noexec", "nodev"]),
        mount("/dev", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
        mount(
            "/dev/pts",
            "devpts",
            &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
        ),
        mount("/sys", "sysfs", &["nosuid", "noexec", "nodev", "ro"]),
        mount("/dev/mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
        named_mount("/dev/shm", "tmpfs", "shm", &["nosuid", "noexec", "nodev", "mode=1777", "size=67108864"]),
    ];
    let replaced =
        |mount: &Value| late.iter().any(|late| late.destination.to_str() == mount["destination"].as_str());
    mounts.retain(|mount| !replaced(mount));
    mounts.extend(late.iter().map(|mount| {
        json!({"source": mount.source, "destination": mount.destination, "type": "bind", "options": ["rbind"]})
    }));
    mounts
}

fn mount(destination: &str, file_system: &str, options: &[&str]) -> Value {
    named_mount(destination, file_system, file_system, options)
}

/// With `source` as the name that `df` shows.
fn named_mount(destination: &str, file_system: &str, source: &str, options: &[&str]) -> Value {
    json!({"destination": destination, "type": file_system, "source": source, "options": options})
}

/// The environment of the command: docker's variables in front, each with the value that was asked for if one was, then
/// the others that were asked for. A step gets what was asked for, in order, as BuildKit has it.
pub(super) fn environment(spec: &RunSpec, identity: &Identity) -> Vec<String> {
    let path = ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    let mut front = Vec::new();
    if !spec.is_step {
        front.extend([path, ("HOSTNAME", spec.hostname.as_str())]);
    }
    front.extend(spec.terminal.map(|_| ("TERM", "xterm")));
    let given = |wanted: &str| spec.env.iter().rev().find(|variable| name(variable) == wanted).cloned();
    let mut env: Vec<String> =
        front.iter().map(|(name, value)| given(name).unwrap_or_else(|| format!("{name}={value}"))).collect();
    let others = spec.env.iter().filter(|variable| !front.iter().any(|(known, _)| name(variable) == *known));
    env.extend(others.cloned());
    for (name, value) in [path, ("HOME", identity.home.as_str())] {
        if !env.iter().any(|variable| self::name(variable) == name) {
            env.push(format!("{name}={value}"));
        }
    }
    env
}

/// Of `NAME=value`.
fn name(variable: &str) -> &str {
    variable.split_once('=').map_or(variable, |(name, _)| name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{Network, Root, WindowSize};

    fn spec(env: &[&str]) -> RunSpec {
        RunSpec {
            id: "x".into(),
            root: Root::Directory("/".into()),
            read_only: false,
            args: vec!["true".into()],
            env: env.iter().map(|variable| (*variable).to_owned()).collect(),
            working_dir: String::new(),
            user: String::new(),
            hostname: "box".into(),
            network: Network::None,
            mounts: Vec::new(),
            terminal: None,
            is_step: false,
        }
    }

    fn root() -> Identity {
        Identity { uid: 0, gid: 0, groups: vec![10, 0], home: "/root".into() }
    }

    #[test]
    fn dockers_variables_fill_the_gaps() {
        let path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
        assert_eq!(environment(&spec(&[]), &root()), [path, "HOSTNAME=box", "HOME=/root"]);
        assert_eq!(
            environment(&spec(&["PATH=/bin", "A=1", "HOME=/h", "HOSTNAME="]), &root()),
            ["PATH=/bin", "HOSTNAME=", "A=1", "HOME=/h"]
        );
        let step = RunSpec { is_step: true, ..spec(&["A=1", "PATH=/bin"]) };
        assert_eq!(environment(&step, &root()), ["A=1", "PATH=/bin", "HOME=/root"]);
        let mut with_terminal = spec(&["TERM=vt52"]);
        with_terminal.terminal = Some(WindowSize { rows: 24, columns: 80 });
        assert_eq!(environment(&with_terminal, &root()), [path, "HOSTNAME=box", "TERM=vt52", "HOME=/root"]);
    }

    #[test]
    fn the_primary_group_is_among_the_supplementary_ones_once() {
        let config = config(&spec(&[]), Path::new("/r"), &root(), CapabilitySet::CHOWN, &[]);
        assert_eq!(config["process"]["user"]["additionalGids"], json!([0, 10]));
        assert_eq!(config["process"]["capabilities"]["permitted"], json!(["CAP_CHOWN"]));
        assert_eq!(config["process"]["cwd"], "/");
    }

    #[test]
    fn the_runtime_reads_what_is_written() {
        let late = LateMount { source: "/w/0".into(), destination: "/dev/kvm".into() };
        let config = config(&spec(&[]), Path::new("/r"), &root(), capabilities::DEFAULT, &[late]);
        let spec: libcontainer::oci_spec::runtime::Spec = serde_json::from_value(config).unwrap();
        assert_eq!(spec.mounts().as_ref().unwrap().len(), 7);
        assert_eq!(spec.process().as_ref().unwrap().user().umask(), Some(0o022));
    }
}
