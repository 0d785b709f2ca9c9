use std::process::ExitCode;

use anyhow::Result;
use common::platform::Platform;
use engine::containers::Containers;
use serde_json::{Value, json};

use super::state::is_running;
use crate::context::Context;
use crate::output;

/// Show what this machine and its store hold
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// `json` or a Go template
    #[arg(short, long)]
    format: Option<String>,
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<ExitCode> {
    let store = context.store()?;
    let containers = Containers::new(store.paths().containers()).list()?;
    let running = containers.iter().filter(|container| is_running(container)).count();
    let images = store.image_ids()?.len();
    let servers = store.servers()?;
    let host = Platform::host();
    let uname = rustix::system::uname();
    let kernel = uname.release().to_string_lossy().into_owned();
    let name = uname.nodename().to_string_lossy().into_owned();
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let memory = memory_bytes();
    let warnings = warnings();
    if let Some(format) = &args.format {
        let value = json!({
            "ID": "",
            "Containers": containers.len(),
            "ContainersRunning": running,
            "ContainersPaused": 0,
            "ContainersStopped": containers.len() - running,
            "Images": images,
            "Driver": "overlay2",
            "DriverStatus": [],
            "Plugins": {"Volume": [], "Network": ["host", "null"], "Authorization": null, "Log": ["none"]},
            "LoggingDriver": "none",
            "CgroupDriver": "cgroupfs",
            "CgroupVersion": cgroup_version(),
            "DockerRootDir": store.root(),
            "KernelVersion": kernel,
            "OSType": host.os,
            "Architecture": uname.machine().to_string_lossy(),
            "OperatingSystem": operating_system(),
            "NCPU": cpus,
            "MemTotal": memory,
            "Name": name,
            "ServerVersion": env!("CARGO_PKG_VERSION"),
            "DefaultRuntime": "gantry",
            "Runtimes": {"gantry": {"path": "gantry"}},
            "IndexServerAddress": "https://index.docker.io/v1/",
            "LiveRestoreEnabled": false,
            "ExperimentalBuild": false,
            "Swarm": {"NodeID": "", "LocalNodeState": "inactive"},
            "Labels": [],
            "SecurityOptions": ["name=seccomp,profile=default"],
            "Warnings": if warnings.is_empty() { Value::Null } else { json!(warnings) },
        });
        output::document(&value, format)?;
        return Ok(ExitCode::SUCCESS);
    }
    output::line(format!("Containers: {}", containers.len()));
    output::line(format!(" Running: {running}"));
    output::line(format!(" Stopped: {}", containers.len() - running));
    output::line(format!("Images: {images}"));
    output::line(format!("Server Version: {} (no daemon: this program)", env!("CARGO_PKG_VERSION")));
    output::line("Storage Driver: overlay2");
    output::line(format!("Cgroup Version: {}", cgroup_version()));
    output::line("Default Runtime: gantry");
    output::line("Security Options: seccomp (profile: default)");
    output::line(format!("Kernel Version: {kernel}"));
    output::line(format!("Operating System: {}", operating_system()));
    output::line(format!("OSType: {}", host.os));
    output::line(format!("Architecture: {}", uname.machine().to_string_lossy()));
    output::line(format!("CPUs: {cpus}"));
    output::line(format!("Total Memory: {}", output::size(memory)));
    output::line(format!("Name: {name}"));
    output::line(format!("Docker Root Dir: {}", store.root().display()));
    for server in servers {
        output::line(format!("Serving: {} (pid {})", server.address, server.pid));
    }
    warnings.iter().for_each(output::note);
    Ok(ExitCode::SUCCESS)
}

/// What containers have to do without on this machine. Only root runs any.
fn warnings() -> Vec<&'static str> {
    let restricts = !rustix::process::geteuid().is_root() || engine::can_restrict_devices();
    let no_devices = "WARNING: no control group restricts devices: containers go without CAP_MKNOD";
    (!restricts).then_some(no_devices).into_iter().collect()
}

/// `2` where all controllers are in the one hierarchy.
fn cgroup_version() -> &'static str {
    if std::path::Path::new("/sys/fs/cgroup/cgroup.controllers").exists() { "2" } else { "1" }
}

/// `MemTotal` of the kernel, in bytes.
fn memory_bytes() -> u64 {
    let info = rustix::system::sysinfo();
    info.totalram.saturating_mul(u64::from(info.mem_unit))
}

/// `PRETTY_NAME` of the system.
fn operating_system() -> String {
    let text = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
    let name = text.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    name.map_or_else(|| "Linux".to_owned(), |name| name.trim_matches('"').to_owned())
}
