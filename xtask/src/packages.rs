//! What chores need beside Rust: Debian packages, and programs that are built from Go modules since Debian has none.

use std::fs;
use std::path::{Path, PathBuf};
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
    package("go", "golang-go"),
];

/// A program and the Go module that it is built of, at a version of our choice.
#[derive(Clone, Copy)]
pub struct Module {
    program: &'static str,
    module: &'static str,
    version: &'static str,
    /// The package of the program within the module.
    package: &'static str,
}

/// For `test`: clients that Debian does not package. Of crane, the last version that Debian 12's Go builds.
pub const CLIENTS: &[Module] = &[
    Module {
        program: "crane",
        module: "github.com/google/go-containerregistry",
        version: "v0.16.1",
        package: "cmd/crane",
    },
    Module {
        program: "regctl",
        module: "github.com/regclient/regclient",
        version: "v0.11.7",
        package: "cmd/regctl",
    },
    Module { program: "oras", module: "oras.land/oras", version: "v1.3.3", package: "cmd/oras" },
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
    shell::output(&mut shell::command("apt-get", ["update", "-q"]))?;
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

/// Builds the programs that are not there into `tools/bin` of the target folder, and returns that folder for the PATH.
/// What cannot be built is named with the reason; the tests that want it say that they are skipped.
pub fn build(wanted: &[Module]) -> Result<PathBuf> {
    let bin = shell::target_dir().join("tools/bin");
    let missing = wanted.iter().filter(|m| !bin.join(m.program).is_file() && !shell::has(m.program));
    for module in missing {
        eprintln!("packages: building {} {}", module.program, module.version);
        if let Err(error) = module.build(&bin) {
            let reason = format!("{error:#}");
            let reason = reason.lines().last().unwrap_or_default();
            eprintln!("packages: {} cannot be built: {reason}", module.program);
        }
    }
    Ok(bin)
}

impl Module {
    /// By a module of our own that requires exactly this version: `go install` would ask for the list of all versions,
    /// which not every mirror has.
    fn build(&self, bin: &Path) -> Result<()> {
        let own = shell::target_dir().join("tools/go").join(self.program);
        fs::create_dir_all(&own).with_context(|| format!("cannot make {}", own.display()))?;
        let text = format!("module tools\n\nrequire {} {}\n", self.module, self.version);
        fs::write(own.join("go.mod"), text).with_context(|| format!("cannot write to {}", own.display()))?;
        let mut go = shell::command("go", ["build", "-mod=mod", "-trimpath", "-buildvcs=false", "-o"]);
        go.arg(bin.join(self.program)).arg(format!("{}/{}", self.module, self.package));
        shell::output(go.current_dir(&own).env("CGO_ENABLED", "0")).map(drop)
    }
}

/// Whether this process is root.
pub fn is_root() -> Result<bool> {
    let id = Command::new("id").arg("-u").output().context("cannot run `id -u`")?;
    Ok(id.stdout.trim_ascii() == b"0")
}
