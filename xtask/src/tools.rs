//! Tools that chores need and Debian does not package, built once into the target folder: cargo's own, and clients of
//! registries that are written in Go.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::shell;

/// Foreign clients that tests push and pull with. Of crane, the last version that Debian 12's Go builds.
const CLIENTS: &[Module] = &[
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

/// Where the program `name` of that version is; installs it when it is not there.
pub fn install(name: &str, version: &str) -> Result<PathBuf> {
    let program = bin().join(name);
    if !program.is_file() {
        eprintln!("tools: installing {name} {version}");
        let tools = shell::target_dir().join("tools");
        let root = tools.to_str().context("the target folder's name is not UTF-8")?;
        // For this host's default target: a tool need not be static.
        let args = ["install", "--quiet", "--locked", "--root", root, "--version", version, name];
        shell::run(&mut shell::command(env!("CARGO"), args))?;
    }
    Ok(program)
}

/// Builds the clients that are not there, and returns the folder that they are in, for the PATH.
/// What cannot be built is named with the reason; the tests that want it say that they are skipped.
pub fn clients() -> Result<PathBuf> {
    let bin = bin();
    let missing = CLIENTS.iter().filter(|m| !bin.join(m.program).is_file() && !shell::has(m.program));
    for module in missing {
        eprintln!("tools: building {} {}", module.program, module.version);
        if let Err(error) = module.build(&bin) {
            let reason = format!("{error:#}");
            let reason = reason.lines().last().unwrap_or_default();
            eprintln!("tools: {} cannot be built: {reason}", module.program);
        }
    }
    Ok(bin)
}

/// A program and the Go module that it is built of, at a version of our choice.
#[derive(Clone, Copy)]
struct Module {
    program: &'static str,
    module: &'static str,
    version: &'static str,
    /// The package of the program within the module.
    package: &'static str,
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

/// Where they are.
fn bin() -> PathBuf {
    shell::target_dir().join("tools/bin")
}
