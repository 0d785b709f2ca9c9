//! `cargo xtask bench`: gantry and a rival, in turns, in one run. What counts is the ratio; machines are noisy.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::Signal;

use crate::{gantry, packages, shell};

const ROUNDS: usize = 11;
const BLOB_BYTES: u64 = 1 << 30;

/// A row of the table: its name on the command line, and what measures it.
type Row = (&'static str, fn(&Bench) -> Result<Comparison>);

const ROWS: &[Row] = &[("cached-rebuild", cached_rebuild), ("blob-pull", blob_pull), ("run", run_true)];

/// Measures the rows that are named, or all.
pub fn run(names: &[&str]) -> Result<()> {
    if let Some(unknown) = names.iter().find(|name| !ROWS.iter().any(|(known, _)| known == *name)) {
        let known: Vec<&str> = ROWS.iter().map(|(name, _)| *name).collect();
        bail!("there is no row `{unknown}`; rows are {}", known.join(", "));
    }
    packages::ensure(packages::BENCH)?;
    let binary = gantry::build_release()?;
    let folder = tempfile()?;
    let bench = Bench { binary, folder: folder.clone() };
    let wanted = ROWS.iter().filter(|(name, _)| names.is_empty() || names.contains(name));
    let mut lines = Vec::new();
    for (name, measure) in wanted {
        eprintln!("bench: {name} …");
        match measure(&bench) {
            Ok(comparison) => lines.push(comparison.to_string()),
            Err(error) => lines.push(format!("{name}: skipped: {error:#}")),
        }
    }
    println!(
        "{:<34} {:>10} {:>10}   {:>10} {:>10}   ratio of medians",
        "", "gantry min", "median", "rival min", "median"
    );
    lines.iter().for_each(|line| println!("{line}"));
    fs::remove_dir_all(&folder).with_context(|| format!("cannot clear {}", folder.display()))
}

struct Bench {
    binary: PathBuf,
    folder: PathBuf,
}

impl Bench {
    fn gantry<'a>(&self, args: impl IntoIterator<Item = &'a str>) -> Command {
        let mut command = gantry::command(&self.binary, &self.folder.join("store"));
        command.args(args);
        command
    }

    /// A tar of a root with a static busybox.
    fn busybox(&self) -> Result<PathBuf> {
        let tar = self.folder.join("busybox.tar");
        if tar.is_file() {
            return Ok(tar);
        }
        let busybox = shell::find("busybox").context("busybox is not installed")?;
        let root = self.folder.join("root");
        fs::create_dir_all(root.join("bin"))?;
        fs::copy(busybox, root.join("bin/busybox"))?;
        for name in ["sh", "true"] {
            std::os::unix::fs::symlink("busybox", root.join("bin").join(name))?;
        }
        shell::output(Command::new("tar").arg("-cf").arg(&tar).arg("-C").arg(&root).arg("."))?;
        Ok(tar)
    }
}

/// Times of two contenders.
struct Comparison {
    name: String,
    ours: Vec<Duration>,
    theirs: Vec<Duration>,
}

impl Comparison {
    /// Runs the two in turns; the first round warms up and is not counted.
    fn measure(
        name: &str,
        mut ours: impl FnMut() -> Result<()>,
        mut theirs: impl FnMut() -> Result<()>,
    ) -> Result<Self> {
        let mut comparison = Comparison { name: name.to_owned(), ours: Vec::new(), theirs: Vec::new() };
        for round in 0..=ROUNDS {
            let (a, b) = (timed(&mut ours)?, timed(&mut theirs)?);
            if round > 0 {
                comparison.ours.push(a);
                comparison.theirs.push(b);
            }
        }
        comparison.ours.sort();
        comparison.theirs.sort();
        Ok(comparison)
    }
}

impl std::fmt::Display for Comparison {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let ms = |time: Duration| format!("{:.1} ms", time.as_secs_f64() * 1000.0);
        let median = |times: &[Duration]| times[times.len() / 2];
        let (ours, theirs) = (median(&self.ours), median(&self.theirs));
        let ratio = theirs.as_secs_f64() / ours.as_secs_f64();
        write!(
            f,
            "{:<34} {:>10} {:>10}   {:>10} {:>10}   {ratio:.1} × as fast",
            self.name,
            ms(self.ours[0]),
            ms(ours),
            ms(self.theirs[0]),
            ms(theirs)
        )
    }
}

fn timed(work: &mut impl FnMut() -> Result<()>) -> Result<Duration> {
    let begun = Instant::now();
    work()?;
    Ok(begun.elapsed())
}

fn quietly(command: &mut Command) -> Result<()> {
    shell::output(command).map(drop)
}

/// Ten steps upon a small root, all of them cached, against docker's classic builder.
fn cached_rebuild(bench: &Bench) -> Result<Comparison> {
    let docker = Dockerd::start(&bench.folder)?;
    import_both(bench, &docker)?;
    let context = bench.folder.join("context");
    fs::create_dir_all(&context)?;
    fs::write(context.join("file"), "content\n")?;
    let mut dockerfile = "FROM bench:base\n".to_owned();
    for n in 0..5 {
        dockerfile += &format!("COPY file /copied/{n}\nRUN /bin/true {n}\n");
    }
    fs::write(context.join("Dockerfile"), dockerfile)?;
    let context = context.to_str().context("the folder's name is not UTF-8")?;
    Comparison::measure(
        "10 cached steps, against docker",
        || quietly(&mut bench.gantry(["build", "-q", "-t", "bench:built", context])),
        || {
            quietly(
                docker
                    .command(&["build", "-q", "--network", "none", "-t", "bench:built", context])
                    .env("DOCKER_BUILDKIT", "0"),
            )
        },
    )
}

/// `run --rm … true` without a network.
fn run_true(bench: &Bench) -> Result<Comparison> {
    let docker = Dockerd::start(&bench.folder)?;
    import_both(bench, &docker)?;
    const RUN: [&str; 6] = ["run", "--rm", "--network", "none", "bench:base", "/bin/true"];
    Comparison::measure(
        "run --rm true, against docker",
        || quietly(&mut bench.gantry(RUN)),
        || quietly(&mut docker.command(&RUN)),
    )
}

/// One blob of 1 GiB over loopback, against docker-registry.
fn blob_pull(bench: &Bench) -> Result<Comparison> {
    let rival = shell::find("docker-registry").context("docker-registry is not installed")?;
    let data = bench.folder.join("registry");
    let [ours, theirs] = [free_port()?, free_port()?];
    let config = bench.folder.join("registry.yml");
    let text = format!(
        "version: 0.1\nlog: {{level: error}}\nstorage:\n  filesystem: {{rootdirectory: {}}}\nhttp: {{addr: 127.0.0.1:{theirs}}}\n",
        data.display()
    );
    fs::write(&config, text)?;
    let mut serve = bench.gantry(["serve", "--addr", &format!("127.0.0.1:{ours}")]);
    let _ours = Background::start(&mut serve)?;
    let _theirs = Background::start(Command::new(rival).arg("serve").arg(&config))?;

    let blob = bench.folder.join("blob");
    fs::write(&blob, [])?;
    shell::output(
        Command::new("sh").arg("-c").arg(format!("head -c {BLOB_BYTES} /dev/urandom > {}", blob.display())),
    )?;
    let digest = shell::output(Command::new("sha256sum").arg(&blob))?;
    let digest = digest.split_whitespace().next().context("sha256sum printed nothing")?.to_owned();
    for port in [ours, theirs] {
        answers(port)?;
        upload(port, &blob, &digest)?;
    }
    let pull = |port: u16| {
        let url = format!("http://127.0.0.1:{port}/v2/bench/blobs/sha256:{digest}");
        quietly(&mut shell::command("curl", ["-fsS", "-o", "/dev/null", &url]))
    };
    Comparison::measure("pull of 1 GiB, against docker-registry", || pull(ours), || pull(theirs))
}

fn import_both(bench: &Bench, docker: &Dockerd) -> Result<()> {
    let tar = bench.busybox()?;
    let tar = tar.to_str().context("the folder's name is not UTF-8")?;
    let import = ["import", "-c", "ENV PATH=/bin", tar, "bench:base"];
    quietly(&mut bench.gantry(import))?;
    quietly(&mut docker.command(&import))
}

fn upload(port: u16, blob: &Path, digest: &str) -> Result<()> {
    let start = format!("http://127.0.0.1:{port}/v2/bench/blobs/uploads/");
    let head = shell::output(&mut shell::command(
        "curl",
        ["-fsS", "-D", "-", "-o", "/dev/null", "-X", "POST", &start],
    ))?;
    let location = head
        .lines()
        .find_map(|line| line.split_once(':').filter(|(name, _)| name.eq_ignore_ascii_case("location")))
        .map(|(_, value)| value.trim().to_owned())
        .context("the upload got no Location")?;
    let location =
        if location.starts_with('/') { format!("http://127.0.0.1:{port}{location}") } else { location };
    let separator = if location.contains('?') { '&' } else { '?' };
    let url = format!("{location}{separator}digest=sha256:{digest}");
    let mut put =
        shell::command("curl", ["-fsS", "-X", "PUT", "-H", "Content-Type: application/octet-stream"]);
    quietly(put.arg("-T").arg(blob).arg(&url))
}

/// Waits until a registry answers, ten seconds at most.
fn answers(port: u16) -> Result<()> {
    let url = format!("http://127.0.0.1:{port}/v2/");
    let wait = [
        "-fsS",
        "--retry",
        "50",
        "--retry-connrefused",
        "--retry-delay",
        "0",
        "--retry-max-time",
        "10",
        &url,
    ];
    quietly(&mut shell::command("curl", wait))
}

fn free_port() -> Result<u16> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

fn tempfile() -> Result<PathBuf> {
    let folder = shell::target_dir().join("bench").join(std::process::id().to_string());
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    Ok(folder)
}

/// A program that is ended with its value.
struct Background(Child);

impl Background {
    fn start(command: &mut Command) -> Result<Self> {
        let quiet = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Ok(Background(quiet.spawn().with_context(|| format!("cannot start {}", shell::show(command)))?))
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        // Asked politely first: dockerd unmounts what it mounted.
        let _ = shell::signal(&self.0, Signal::TERM);
        let _ = self.0.wait();
    }
}

/// A dockerd of our own, in network and mount namespaces of its own, so that the host's firewall, bridges and mounts stay as
/// they are.
struct Dockerd {
    _daemon: Background,
    host: String,
}

impl Dockerd {
    fn start(folder: &Path) -> Result<Self> {
        ensure!(packages::is_root()?, "dockerd needs root");
        let program = shell::find("dockerd").context("dockerd is not installed")?;
        let at = folder.join("dockerd");
        fs::create_dir_all(&at)?;
        let host = format!("unix://{}", at.join("docker.sock").display());
        let mut command = Command::new("unshare");
        command.args(["--net", "--mount"]).arg(program).args([
            "--bridge=none",
            "--iptables=false",
            "--group",
            "root",
            "--host",
            &host,
        ]);
        command.arg("--data-root").arg(at.join("data")).arg("--exec-root").arg(at.join("exec"));
        command.arg("--pidfile").arg(at.join("pid"));
        let daemon = Background::start(&mut command)?;
        let docker = Dockerd { _daemon: daemon, host };
        let begun = Instant::now();
        while shell::output(&mut docker.command(&["version"])).is_err() {
            ensure!(begun.elapsed() < Duration::from_secs(60), "dockerd did not answer within a minute");
            std::thread::park_timeout(Duration::from_millis(100));
        }
        Ok(docker)
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = shell::command("docker", ["--host", &self.host]);
        command.args(args);
        command
    }
}
