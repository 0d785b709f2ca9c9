//! Debian packages that chores need beside Rust.

use std::process::Command;

use anyhow::{Context, Result};

use crate::shell;

/// A program and the Debian package that brings it.
#[derive(Clone, Copy)]
pub struct Package {
    program: &'static str,
    package: &'static str,
}

const fn package(program: &'static str, package: &'static str) -> Package {
    Package { program, package }
}

/// For `demo`: a Debian root and a foreign client.
pub const DEMO: &[Package] =
    &[package("cc", "gcc"), package("mmdebstrap", "mmdebstrap"), package("skopeo", "skopeo")];

/// For `test`: the foreign clients, builders and tools that results are compared with.
pub const TEST: &[Package] = &[
    package("cc", "gcc"),
    package("mmdebstrap", "mmdebstrap"),
    package("skopeo", "skopeo"),
    package("busybox", "busybox-static"),
    package("dockerd", "docker.io"),
    package("podman", "podman"),
    package("umoci", "umoci"),
    package("python3", "python3"),
    package("iptables", "iptables"),
    package("xz", "xz-utils"),
    package("zstd", "zstd"),
    package("strace", "strace"),
    package("curl", "curl"),
    package("bzip2", "bzip2"),
    package("ip", "iproute2"),
    package("mount", "mount"),
    package("pgrep", "procps"),
    package("go", "golang-go"),
];

/// For `bench`: the rivals.
pub const BENCH: &[Package] = &[
    package("cc", "gcc"),
    package("busybox", "busybox-static"),
    package("dockerd", "docker.io"),
    package("docker-registry", "docker-registry"),
    package("iptables", "iptables"),
    package("ip", "iproute2"),
    package("curl", "curl"),
];

/// For `fuzz`: libFuzzer is built from its source.
pub const FUZZ: &[Package] = &[package("cc", "gcc"), package("c++", "g++")];

/// Installs what is missing, when this is root on a Debian family; else says what is missing. Returns normally in both
/// cases: what cannot go on without a program says so itself.
pub fn ensure(wanted: &[Package]) -> Result<()> {
    let missing: Vec<&str> = wanted.iter().filter(|p| !shell::has(p.program)).map(|p| p.package).collect();
    if missing.is_empty() {
        return Ok(());
    }
    if !shell::has("apt-get") || !is_root()? {
        eprintln!(
            "packages: missing, and not installed (that needs root on a Debian family): {}",
            missing.join(" ")
        );
        return Ok(());
    }
    eprintln!("packages: installing {}", missing.join(" "));
    let install = |packages: &[&str]| {
        let mut command = shell::command("apt-get", ["install", "-yq", "--no-install-recommends"]);
        command.args(packages).env("DEBIAN_FRONTEND", "noninteractive");
        shell::output(&mut command)
    };
    if let Err(error) = shell::output(&mut shell::command("apt-get", ["update", "-q"])) {
        eprintln!("packages: the lists cannot be brought up to date, going on with the old ones: {error:#}");
    }
    if install(&missing).is_err() {
        // One by one, so that a package that this release lacks does not keep away the others.
        for package in missing {
            if let Err(error) = install(&[package]) {
                eprintln!("packages: {package} cannot be installed: {error:#}");
            }
        }
    }
    Ok(())
}

/// Whether this process is root.
pub fn is_root() -> Result<bool> {
    let id = Command::new("id").arg("-u").output().context("cannot run `id -u`")?;
    Ok(id.stdout.trim_ascii() == b"0")
}
