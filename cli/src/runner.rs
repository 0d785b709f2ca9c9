//! Joins builder and engine: runs a step of a build as a container without a name.

use std::path::PathBuf;

use builder::{ExitStatus, MountKind, Step, StepError, StepRunner, Stream};
use engine::{RunError, RunSpec, Source};

/// What BuildKit calls the host inside a RUN.
const HOSTNAME: &str = "buildkitsandbox";

/// The engine as the builder's runner of steps.
#[derive(Debug)]
pub(crate) struct EngineRunner;

impl StepRunner for EngineRunner {
    fn check(&self) -> Result<(), StepError> {
        if rustix::process::geteuid().is_root() {
            return Ok(());
        }
        Err(StepError::Unsupported("RUN needs root so far; COPY and ADD do not".to_owned()))
    }

    fn run(&self, step: &Step<'_>, output: &mut dyn FnMut(Stream, &[u8])) -> Result<ExitStatus, StepError> {
        let spec = spec(step);
        let ran = engine::run_step(
            &spec,
            &mut |stream, bytes| {
                let stream = match stream {
                    engine::Stream::Stdout => Stream::Stdout,
                    engine::Stream::Stderr => Stream::Stderr,
                };
                output(stream, bytes);
            },
            Some(step.cancelled),
        );
        match ran {
            Ok(status) => Ok(exit_status(status.code)),
            Err(_) if step.cancelled.load(std::sync::atomic::Ordering::Relaxed) => Err(StepError::Cancelled),
            // A command that is not there ends a RUN as one that failed, with the code that a shell would give.
            Err(error @ RunError::Failed(_)) if error.exit_code() != 125 => {
                output(Stream::Stderr, format!("{error}\n").as_bytes());
                Ok(exit_status(error.exit_code()))
            }
            Err(error) => Err(StepError::Runner(Box::new(error))),
        }
    }
}

fn exit_status(code: i32) -> ExitStatus {
    match code {
        129..=192 => ExitStatus::Signal(code - 128),
        code => ExitStatus::Code(u8::try_from(code).unwrap_or(u8::MAX)),
    }
}

fn spec(step: &Step<'_>) -> RunSpec {
    let mut env = step.env.to_vec();
    for (name, value) in step.secret_env {
        let value = String::from_utf8_lossy(value);
        env.push(format!("{name}={value}"));
    }
    RunSpec {
        id: format!("build-{}-{}", std::process::id(), next_number()),
        root: engine::Root::Overlay(step.root.clone()),
        read_only: false,
        args: step.args.to_vec(),
        env,
        working_dir: step.working_dir.to_owned(),
        user: step.user.to_owned(),
        hostname: HOSTNAME.to_owned(),
        network: match step.network {
            builder::Network::Host => engine::Network::Host,
            builder::Network::None => engine::Network::None,
        },
        mounts: step.mounts.iter().map(mount).collect(),
        terminal: None,
        is_step: true,
    }
}

fn next_number() -> u64 {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NUMBER: AtomicU64 = AtomicU64::new(1);
    NUMBER.fetch_add(1, Ordering::Relaxed)
}

fn mount(mount: &builder::Mount) -> engine::Mount {
    let source = match &mount.kind {
        MountKind::Directory(path) | MountKind::Socket(path) => Source::Bind(path.clone()),
        MountKind::Tmpfs { size_bytes } => {
            // As in BuildKit: programs and devices in it work, set-user-ID bits do not.
            let options = ["exec", "dev"].map(str::to_owned).into_iter();
            Source::Tmpfs(options.chain(size_bytes.map(|bytes| format!("size={bytes}"))).collect())
        }
        MountKind::Tree { root, source } => {
            Source::Tree { overlay: root.clone(), path: PathBuf::from(source) }
        }
        MountKind::File { content, mode, uid, gid } => {
            Source::File { content: content.clone(), mode: *mode, uid: *uid, gid: *gid }
        }
    };
    engine::Mount { source, destination: PathBuf::from(&mount.target), read_only: mount.read_only }
}
