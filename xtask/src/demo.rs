//! `cargo xtask demo`: the whole path of the product on a real image, with real output and the time of each step.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::Signal;

use crate::{gantry, packages, shell};

const IMAGE: &str = "demo:latest";
const GREETING: &str = "Hello from a container";

/// Everything is kept below the target folder, so that a second invocation takes seconds.
pub fn run() -> Result<()> {
    packages::ensure(packages::DEMO)?;
    let folder = shell::target_dir().join("demo");
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let started = Instant::now();
    let binary = step("release build", gantry::build_release)?;
    let size_bytes = fs::metadata(&binary)?.len();
    println!("{}: one static file, {:.1} MB", binary.display(), size_bytes as f64 / 1e6);
    let demo = Demo { binary, folder };
    demo.base()?;
    demo.build_twice()?;
    demo.serve_push_and_pull()?;
    demo.check()?;
    println!("\nAll of it took {}.", seconds(started.elapsed()));
    println!("Try it yourself: {} --root {} images", demo.binary.display(), demo.first().display());
    Ok(())
}

struct Demo {
    binary: PathBuf,
    folder: PathBuf,
}

impl Demo {
    fn first(&self) -> PathBuf {
        self.folder.join("store")
    }

    fn second(&self) -> PathBuf {
        self.folder.join("second-store")
    }

    fn gantry<'a>(&self, store: &Path, args: impl IntoIterator<Item = &'a str>) -> Command {
        let mut command = gantry::command(&self.binary, store);
        command.args(args);
        command
    }

    /// Makes a Debian root and imports it as `debian:bookworm`.
    fn base(&self) -> Result<()> {
        let tar = self.folder.join("debian.tar");
        if !tar.is_file() {
            let half = self.folder.join("debian.tar.half");
            step("make a Debian root with mmdebstrap", || {
                let args = ["--quiet", "--variant=minbase", "--format=tar", "bookworm"];
                shell::output(shell::command("mmdebstrap", args).arg(&half))
            })?;
            fs::rename(&half, &tar)?;
        }
        if shell::output(&mut self.gantry(&self.first(), ["images", "-q", "debian:bookworm"]))?.is_empty() {
            show(
                self.gantry(&self.first(), ["import", "-c", r#"CMD ["bash"]"#])
                    .arg(&tar)
                    .arg("debian:bookworm"),
            )?;
        }
        Ok(())
    }

    /// The second build runs nothing: each step is found in the cache.
    fn build_twice(&self) -> Result<()> {
        let context = shell::workspace().join("fixtures/demo");
        let build = || {
            let mut command = self.gantry(&self.first(), ["build", "--progress", "plain", "-t", IMAGE]);
            command.arg(&context);
            command
        };
        show(&mut build())?;
        let mut again = build();
        println!("\n$ {}", shell::show(&again));
        let begun = Instant::now();
        let output = again.output().context("cannot start gantry")?;
        let log = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "the second build failed:\n{log}");
        let cached = log.lines().filter(|line| line.ends_with("CACHED")).count();
        println!("{}", log.trim_end());
        ensure!(cached == 5, "all 5 steps should have been cached, {cached} were");
        println!("  [{} for a build whose {cached} steps are all cached]", seconds(begun.elapsed()));
        Ok(())
    }

    /// Serves the first store; a foreign client and gantry with an empty second store pull from it.
    fn serve_push_and_pull(&self) -> Result<()> {
        let address = free_address()?;
        let mut server = Server::start(self, &self.first(), &address)?;
        let name = format!("{address}/demo:latest");
        show(&mut self.gantry(&self.first(), ["tag", IMAGE, &name]))?;
        show(&mut self.gantry(&self.first(), ["push", &name]))?;
        let foreign = self.folder.join("skopeo");
        clear(&foreign)?;
        let to = format!("dir:{}", foreign.display());
        show(&mut shell::command(
            "skopeo",
            ["copy", "--src-tls-verify=false", &format!("docker://{name}"), &to],
        ))?;
        let by_skopeo = format!("sha256:{}", sha256(&foreign.join("manifest.json"))?);

        clear(&self.second())?;
        show(&mut self.gantry(&self.second(), ["pull", &name]))?;
        let format = "{{index .RepoDigests 0}}";
        let by_gantry =
            shell::output(&mut self.gantry(&self.second(), ["inspect", "--format", format, &name]))?;
        let by_gantry = by_gantry.rsplit('@').next().unwrap_or_default().to_owned();
        println!("\ndigest of what skopeo pulled   {by_skopeo}");
        println!("digest of what gantry pulled   {by_gantry}");
        ensure!(by_skopeo == by_gantry, "the digests differ");

        let greeting = show_output(&mut self.gantry(&self.second(), ["run", "--rm", &name]))?;
        ensure!(greeting.contains(GREETING), "the program did not greet: {greeting}");
        server.stop()
    }

    fn check(&self) -> Result<()> {
        for store in [self.first(), self.second()] {
            show(&mut self.gantry(&store, ["check"]))?;
        }
        Ok(())
    }
}

/// A running `gantry serve`, ended with its value.
struct Server {
    child: Child,
}

impl Server {
    fn start(demo: &Demo, store: &Path, address: &str) -> Result<Self> {
        let mut command = demo.gantry(store, ["serve", "--addr", address]);
        println!("\n$ {} &", shell::show(&command));
        let begun = Instant::now();
        let mut child = command.stderr(Stdio::piped()).spawn().context("cannot start gantry serve")?;
        let mut lines = BufReader::new(child.stderr.take().expect("stderr is piped")).lines();
        let first = lines.next().transpose()?.unwrap_or_default();
        println!("{first}\n  [{} until it listened]", seconds(begun.elapsed()));
        // Its further lines are of no interest here, but the pipe must not fill up.
        std::thread::spawn(move || lines.for_each(drop));
        if let Some(status) = child.try_wait()? {
            bail!("gantry serve ended with {status}: {first}");
        }
        Ok(Server { child })
    }

    /// Asks it to end, as Ctrl-C does, and waits.
    fn stop(&mut self) -> Result<()> {
        shell::signal(&self.child, Signal::INT)?;
        let status = self.child.wait()?;
        println!("\nthe server was shut down ({status})");
        ensure!(status.success(), "the server should end with status 0");
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Port 5000 of loopback, or another one and a line that says so.
fn free_address() -> Result<String> {
    if TcpListener::bind("127.0.0.1:5000").is_ok() {
        return Ok("127.0.0.1:5000".to_owned());
    }
    let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string();
    println!("\nport 5000 is taken on this machine, the registry listens on {address} instead");
    Ok(address)
}

fn step<T>(what: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    println!("\n# {what}");
    let begun = Instant::now();
    let done = work()?;
    println!("  [{}]", seconds(begun.elapsed()));
    Ok(done)
}

/// Shows the command, its output and its time.
fn show(command: &mut Command) -> Result<()> {
    println!("\n$ {}", shell::show(command));
    let begun = Instant::now();
    shell::run(command)?;
    println!("  [{}]", seconds(begun.elapsed()));
    Ok(())
}

fn show_output(command: &mut Command) -> Result<String> {
    println!("\n$ {}", shell::show(command));
    let begun = Instant::now();
    let output = shell::output(command)?;
    println!("{output}\n  [{}]", seconds(begun.elapsed()));
    std::io::stdout().flush()?;
    Ok(output)
}

fn seconds(time: Duration) -> String {
    format!("{:.2} s", time.as_secs_f64())
}

fn sha256(file: &Path) -> Result<String> {
    let line = shell::output(Command::new("sha256sum").arg(file))?;
    Ok(line.split_whitespace().next().unwrap_or_default().to_owned())
}

fn clear(folder: &Path) -> Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot clear {}", folder.display()))
        }
        _ => Ok(()),
    }
}
