use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufWriter, IsTerminal, Read, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::AtomicBool;

use anyhow::{Context as _, Result, bail};
use builder::{BuildRequest, Built, DockerfileSource, Environment, Network, Piped, export};
use common::image::archive::{self, ArchiveFormat, Saved};
use common::platform::Platform;
use common::reference::Reference;
use common::store::Store;

use super::pull;
use super::tag::check_new_name;
use crate::context::Context;
use crate::error::verbatim;
use crate::interrupt;
use crate::output;
use crate::progress::{BuildProgress, Style};
use crate::runner::EngineRunner;
use crate::values;
use crate::whole_file;

/// Build an image from a Dockerfile
///
/// CONTEXT is the directory that COPY and ADD read; `-` reads it from stdin as a tar, compressed or
/// not, or a Dockerfile without a context. The Dockerfile is `Dockerfile` in the context unless `-f` names another; what
/// `.dockerignore` lists is left out. Unchanged steps come from the cache, which is keyed by content:
/// a touched file changes nothing.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  gantry build -t app .
  gantry build -f deploy/Dockerfile --target test --build-arg VERSION=2 -t app:test .
  gantry build --output type=oci,dest=app.tar .
  SOURCE_DATE_EPOCH=0 gantry build -q .          one digest, wherever and whenever it is built
  tar c . | gantry build -t app -")]
pub(crate) struct Args {
    /// The build context: a directory, or `-`
    #[arg(value_name = "CONTEXT")]
    context: String,
    /// The Dockerfile, `-` for stdin [default: CONTEXT/Dockerfile]
    #[arg(short, long, value_name = "FILE")]
    file: Option<String>,
    /// A name for the image; may be given several times
    #[arg(short, long = "tag", value_name = "NAME[:TAG]")]
    tags: Vec<Reference>,
    /// Set an ARG; without a value it is taken from the environment
    #[arg(long, value_name = "NAME[=VALUE]", value_parser = build_arg)]
    build_arg: Vec<String>,
    /// Add a label
    #[arg(long, value_name = "NAME=VALUE", value_parser = label)]
    label: Vec<String>,
    /// The stage to build, by name or number [default: the last]
    #[arg(long, value_name = "STAGE")]
    target: Option<String>,
    /// What the image runs on [default: this machine]
    #[arg(long, value_name = "OS/ARCH")]
    platform: Option<Platform>,
    /// Run every step again
    #[arg(long)]
    no_cache: bool,
    /// Ask the registry for base images, also when they are here
    #[arg(long)]
    pull: bool,
    /// Network of RUN: `default` and `host` are the host's, `none` is loopback only
    #[arg(long, value_name = "MODE", default_value = "default", value_parser = ["default", "host", "none"])]
    network: String,
    /// A secret for RUN --mount=type=secret
    #[arg(long, value_name = "id=ID[,src=FILE|,env=VARIABLE]")]
    secret: Vec<String>,
    /// Where the result goes, besides the store: `type=oci|docker|tar|local,dest=PATH`; `-` is stdout, a bare path is `local`
    #[arg(short, long, value_name = "SPEC")]
    output: Vec<String>,
    /// Write the image ID to this file
    #[arg(long, value_name = "FILE")]
    iidfile: Option<PathBuf>,
    /// Print only the image ID
    #[arg(short, long)]
    quiet: bool,
    /// How progress is shown
    #[arg(long, value_name = "KIND", default_value = "auto", value_parser = ["auto", "plain", "tty", "quiet"])]
    progress: String,
    /// Accepted when it switches them off: there are no attestations yet
    #[arg(long, hide = true, value_name = "MODE", value_parser = switched_off)]
    provenance: Option<String>,
    /// Accepted when it switches them off: there are no attestations yet
    #[arg(long, hide = true, value_name = "MODE", value_parser = switched_off)]
    sbom: Option<String>,
    /// Accepted and without effect: intermediate containers never outlive their step
    #[arg(long, hide = true)]
    rm: bool,
    /// Accepted and without effect: intermediate containers never outlive their step
    #[arg(long, hide = true)]
    force_rm: bool,
    /// Accepted and without effect: the image is in the store in any case
    #[arg(long, hide = true)]
    load: bool,
    /// Accepted and without effect: the context is read where it lies
    #[arg(long, hide = true)]
    compress: bool,
    /// Accepted and without effect, as with docker unless content trust is switched on
    #[arg(long, hide = true)]
    disable_content_trust: bool,
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<ExitCode> {
    if args.compress {
        output::note("WARNING: --compress has no effect: the context is read where it lies");
    }
    let exports = args.output.iter().map(|spec| Export::parse(spec)).collect::<Result<Vec<_>>>()?;
    if exports.iter().filter(|export| export.exporter_to_stdout().is_some()).count() > 1 {
        bail!("more than one --output goes to stdout: give all but one a file by `dest=`");
    }
    if io::stdout().is_terminal() {
        exports.iter().try_for_each(Export::check_console)?;
    }
    check_sources(args)?;
    exports.iter().try_for_each(Export::check)?;
    if let Some(file) = &args.iidfile {
        check_id_file(file)?;
    }
    let store = context.store_or_new()?;
    let interrupted = interrupt::exit_on_signal()?;
    let piped = if args.context == "-" { Some(Piped::read(&store, io::stdin())?) } else { None };
    if let Some(Piped::Context(context)) = &piped {
        for name in context.left_out() {
            output::note(format!(
                "WARNING: `{name}` of the build context is left out: no image can hold a file of that name"
            ));
        }
    }
    let request = request(args, piped.as_ref())?;
    let progress = BuildProgress::new(style(args));
    let built = builder::build(
        &store,
        &request,
        &Environment {
            runner: &EngineRunner,
            pull: &|reference, platform| {
                let pulled = pull::one(context, reference, platform, true);
                // Boxed so that its type can still be asked for, which hints depend on.
                let boxed = anyhow::Error::reallocate_into_boxed_dyn_error_without_backtrace;
                pulled.map(|pulled| pulled.id).map_err(boxed)
            },
            events: &|event| progress.event(event),
            cancelled: &AtomicBool::new(false),
        },
    );
    progress.finish();
    let built = built?;
    for export in &exports {
        interrupted.leaves(format!("the image is built, {}", export.unfinished()));
        export.write(&store, &built, &request.tags)?;
    }
    drop(interrupted);
    if let Some(file) = &args.iidfile {
        whole_file::write(file, |out| Ok(write!(out, "{}", built.id)?))?;
    }
    if style(args) == Style::Quiet {
        output::line(&built.id);
    }
    Ok(ExitCode::SUCCESS)
}

fn is_nameless(text: &str) -> bool {
    text.is_empty() || text.starts_with('=')
}

/// `--label`, which has a name.
fn label(text: &str) -> Result<String, String> {
    if is_nameless(text) { Err(format!("invalid label '{text}': empty name")) } else { Ok(text.to_owned()) }
}

/// `--build-arg`, which has a name.
fn build_arg(text: &str) -> Result<String, String> {
    if is_nameless(text) { Err(format!("invalid environment variable: {text}")) } else { Ok(text.to_owned()) }
}

/// The mode of something that is not here yet.
fn switched_off(mode: &str) -> Result<String, String> {
    match values::boolean(mode) {
        Ok(false) => Ok(mode.to_owned()),
        _ => Err("only `false` is here yet".to_owned()),
    }
}

/// The file for the ID can be written, and holds none of an earlier build when this one fails.
fn check_id_file(file: &Path) -> Result<()> {
    whole_file::check(file)?;
    let is_link = fs::symlink_metadata(file).is_ok_and(|found| found.is_symlink());
    // As `/dev/stdout`: what a descriptor of ours leads to, of whatever kind.
    let is_the_systems = is_link && ["/dev", "/proc"].iter().any(|top| file.starts_with(top));
    if !is_the_systems && fs::metadata(file).is_ok_and(|found| found.is_file()) {
        fs::remove_file(file).with_context(|| format!("cannot remove {}", file.display()))?;
    }
    Ok(())
}

fn style(args: &Args) -> Style {
    match args.progress.as_str() {
        _ if args.quiet => Style::Quiet,
        "quiet" => Style::Quiet,
        "plain" => Style::Plain,
        "tty" => Style::Terminal,
        _ if output::stderr_is_terminal() => Style::Terminal,
        _ => Style::Plain,
    }
}

/// Refuses what cannot be read before anything is.
fn check_sources(args: &Args) -> Result<()> {
    match args.file.as_deref() {
        Some("-") if args.context == "-" => {
            Err(verbatim("invalid argument: can't use stdin for both build context and dockerfile"))
        }
        _ if args.context == "-" => Ok(()),
        _ => check_context(Path::new(&args.context)),
    }
}

/// The context and the Dockerfile. What came through stdin holds the context, or is the Dockerfile.
fn sources(args: &Args, piped: Option<&Piped>) -> Result<(Option<PathBuf>, DockerfileSource)> {
    let file = args.file.as_deref();
    match piped {
        Some(Piped::Dockerfile(_)) if file.is_some() => {
            Err(verbatim("ambiguous Dockerfile source: both stdin and flag correspond to Dockerfiles"))
        }
        Some(Piped::Dockerfile(text)) => Ok((None, DockerfileSource::Text(text.clone()))),
        Some(Piped::Context(context)) => {
            let dockerfile = context.dockerfile(Path::new(file.unwrap_or("Dockerfile")))?;
            Ok((Some(context.path().to_owned()), DockerfileSource::File(dockerfile)))
        }
        None => {
            let folder = PathBuf::from(&args.context);
            let dockerfile = match file {
                Some("-") => DockerfileSource::Text(read_stdin()?),
                Some(file) => DockerfileSource::File(PathBuf::from(file)),
                None => DockerfileSource::File(folder.join("Dockerfile")),
            };
            Ok((Some(folder), dockerfile))
        }
    }
}

fn request(args: &Args, piped: Option<&Piped>) -> Result<BuildRequest> {
    let (context, dockerfile) = sources(args, piped)?;
    let tags = args.tags.iter().map(|name| {
        if name.digest().is_some() {
            return Err(verbatim("Error: build tag cannot contain a digest"));
        }
        check_new_name(name).map(|()| name.clone())
    });
    Ok(BuildRequest {
        context,
        dockerfile,
        target: args.target.clone(),
        build_args: build_args(&args.build_arg),
        labels: args.label.iter().map(|label| pair(label)).collect(),
        platform: args.platform.clone(),
        no_cache: args.no_cache,
        pull: args.pull,
        source_date_epoch: source_date_epoch()?,
        network: if args.network == "none" { Network::None } else { Network::Host },
        secrets: args.secret.iter().map(|spec| secret(spec)).collect::<Result<_>>()?,
        ssh: BTreeMap::new(),
        tags: tags.collect::<Result<_>>()?,
    })
}

fn check_context(folder: &Path) -> Result<()> {
    if let Some(refusal) = folder.to_str().and_then(remote_context) {
        return Err(verbatim(refusal));
    }
    match fs::metadata(folder) {
        Ok(found) if found.is_dir() => Ok(()),
        Ok(_) => bail!("the build context `{}` is not a directory", folder.display()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(verbatim(format!(
            "error: unable to prepare context: path \"{}\" not found",
            folder.display()
        ))),
        Err(error) => {
            Err(error).with_context(|| format!("cannot read the build context `{}`", folder.display()))
        }
    }
}

/// Why a context that is somewhere else cannot be built from, if it is; told apart as docker does it.
fn remote_context(context: &str) -> Option<String> {
    let is = |schemes: &[&str]| schemes.iter().any(|scheme| context.starts_with(scheme));
    let (repository, _) = context.split_once('#').unwrap_or((context, ""));
    let is_url = is(&["http://", "https://"]);
    if is(&["git://", "ssh://", "git@", "github.com/"]) || (is_url && repository.ends_with(".git")) {
        let scheme = if is(&["github.com/"]) { "https://" } else { "" };
        return Some(format!(
            "error: cannot build from {context}: contexts from git are not here yet\n  hint: clone it first: \
             git clone {scheme}{repository} FOLDER && gantry build FOLDER"
        ));
    }
    is_url.then(|| {
        format!(
            "error: cannot build from {context}: contexts from URLs are not here yet\n  hint: fetch it first: \
             curl -fL {context} | gantry build -"
        )
    })
}

fn read_stdin() -> Result<Vec<u8>> {
    let mut text = Vec::new();
    io::stdin().read_to_end(&mut text).context("cannot read the Dockerfile from stdin")?;
    Ok(text)
}

/// `NAME=value`; a bare `NAME` is taken from the environment, and left out where that has none.
fn build_args(args: &[String]) -> BTreeMap<String, String> {
    let given = args.iter().filter_map(|arg| match arg.split_once('=') {
        Some((name, value)) => Some((name.to_owned(), value.to_owned())),
        None => std::env::var(arg).ok().map(|value| (arg.clone(), value)),
    });
    given.collect()
}

fn pair(text: &str) -> (String, String) {
    let (name, value) = text.split_once('=').unwrap_or((text, ""));
    (name.to_owned(), value.to_owned())
}

/// The environment's `SOURCE_DATE_EPOCH`, in seconds since 1970.
fn source_date_epoch() -> Result<Option<i64>> {
    match std::env::var("SOURCE_DATE_EPOCH") {
        Ok(text) if !text.is_empty() => {
            let parsed = text.parse();
            Ok(Some(
                parsed
                    .with_context(|| format!("SOURCE_DATE_EPOCH is `{text}`, expected seconds since 1970"))?,
            ))
        }
        _ => Ok(None),
    }
}

/// `id=ID[,src=FILE|,env=VARIABLE]`; without both, the variable or file of that name.
fn secret(spec: &str) -> Result<(String, Vec<u8>)> {
    let field = |names: &[&str]| {
        let mut fields = spec.split(',').filter_map(|field| field.split_once('='));
        fields.find(|(name, _)| names.contains(name)).map(|(_, value)| value.to_owned())
    };
    let source = field(&["src", "source"]);
    let id = field(&["id"]).or_else(|| source.clone());
    let id = id.with_context(|| format!("--secret {spec} has no `id=`"))?;
    let variable = field(&["env"]).or_else(|| source.is_none().then(|| id.clone()));
    if let Some(value) = variable.and_then(std::env::var_os) {
        return Ok((id, value.into_encoded_bytes()));
    }
    let file = source.unwrap_or_else(|| id.clone());
    let value = fs::read(&file).with_context(|| format!("cannot read secret `{id}` from {file}"))?;
    Ok((id, value))
}

/// A place for the result besides the store.
#[derive(Debug, PartialEq, Eq)]
struct Export {
    kind: ExportKind,
    /// `-` is stdout.
    dest: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ExportKind {
    /// Nothing besides the store.
    Image,
    Archive(ArchiveFormat),
    /// The flattened root in one tar.
    Tar,
    /// The flattened root as a folder.
    Local,
}

impl Export {
    fn parse(spec: &str) -> Result<Self> {
        if spec.is_empty() {
            bail!("--output is empty, expected `type=` and `dest=`, or a folder");
        }
        if !spec.contains('=') {
            let kind = if spec == "-" { ExportKind::Tar } else { ExportKind::Local };
            return Ok(Export { kind, dest: spec.to_owned() });
        }
        let (mut kind, mut dest) = (None, None);
        for field in spec.split(',') {
            match field.split_once('=') {
                Some(("type", name)) => {
                    kind = Some(match name {
                        "oci" => ExportKind::Archive(ArchiveFormat::Oci),
                        "docker" => ExportKind::Archive(ArchiveFormat::Docker),
                        "tar" => ExportKind::Tar,
                        "local" => ExportKind::Local,
                        "image" => ExportKind::Image,
                        _ => {
                            bail!("--output {spec}: type `{name}` is none of oci, docker, tar, local, image")
                        }
                    });
                }
                Some(("dest", "")) => bail!("--output {spec}: `dest` is empty"),
                Some(("dest", path)) => dest = Some(path.to_owned()),
                _ => bail!("--output {spec}: `{field}` is neither `type=` nor `dest=`"),
            }
        }
        let kind = kind.with_context(|| format!("--output {spec}: `type=` is missing"))?;
        match (kind, dest) {
            (ExportKind::Local, None) => bail!("--output {spec}: `dest=` is missing"),
            // docker loads such an archive into its images, where the result is in any case.
            (ExportKind::Archive(ArchiveFormat::Docker) | ExportKind::Image, None) => {
                Ok(Export { kind: ExportKind::Image, dest: String::new() })
            }
            (kind, dest) => Ok(Export { kind, dest: dest.unwrap_or_else(|| "-".to_owned()) }),
        }
    }

    /// Refuses an archive that would go to stdout, which is a terminal.
    fn check_console(&self) -> Result<()> {
        match self.exporter_to_stdout() {
            Some(name) => bail!("dest file is required for {name} exporter. refusing to write to console"),
            None => Ok(()),
        }
    }

    /// Refuses what could not be written in the end.
    fn check(&self) -> Result<()> {
        match self.kind {
            _ if self.dest == "-" => Ok(()),
            ExportKind::Image => Ok(()),
            ExportKind::Archive(_) | ExportKind::Tar => whole_file::check(Path::new(&self.dest)),
            ExportKind::Local => {
                let folder =
                    Path::new(&self.dest).ancestors().find(|folder| folder.symlink_metadata().is_ok());
                // A relative path begins in the current directory.
                whole_file::check_folder(folder.unwrap_or(Path::new(".")))
                    .with_context(|| format!("cannot write {}", self.dest))
            }
        }
    }

    /// docker's name for what writes to stdout, when it is stdout that is written to.
    fn exporter_to_stdout(&self) -> Option<&'static str> {
        match self.kind {
            _ if self.dest != "-" => None,
            ExportKind::Image | ExportKind::Local => None,
            ExportKind::Archive(ArchiveFormat::Oci) => Some("oci"),
            ExportKind::Archive(ArchiveFormat::Docker) => Some("docker"),
            ExportKind::Tar => Some("tar"),
        }
    }

    /// What an interrupt leaves of it.
    fn unfinished(&self) -> String {
        match self.kind {
            ExportKind::Local => format!("and {} holds a part of its files", self.dest),
            _ => interrupt::unwritten((self.dest != "-").then_some(Path::new(&self.dest))),
        }
    }

    fn write(&self, store: &Store, built: &Built, tags: &[Reference]) -> Result<()> {
        let diff_ids = &built.config.rootfs.diff_ids;
        match self.kind {
            ExportKind::Image => Ok(()),
            ExportKind::Local => {
                let cannot = || format!("cannot write {}", self.dest);
                fs::create_dir_all(&self.dest).with_context(cannot)?;
                let folder = File::open(&self.dest).with_context(cannot)?;
                export::directory(store, diff_ids, folder.as_fd()).with_context(cannot)
            }
            ExportKind::Tar => self.to_file(|out| Ok(export::tar(store, diff_ids, out)?)),
            ExportKind::Archive(format) => {
                let image = Saved { id: built.id.clone(), names: tags.to_vec() };
                self.to_file(|out| Ok(archive::save(store, &[image], format, out, &|_| {})?))
            }
        }
    }

    fn to_file(&self, content: impl FnOnce(&mut dyn Write) -> Result<()>) -> Result<()> {
        if self.dest == "-" {
            let mut out = BufWriter::new(io::stdout().lock());
            content(&mut out)?;
            return out.flush().context("cannot write to stdout");
        }
        whole_file::write(Path::new(&self.dest), content)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outputs_are_read_as_buildx_reads_them() {
        let parse = |spec: &str| Export::parse(spec).map(|export| (export.kind, export.dest));
        let oci = ExportKind::Archive(ArchiveFormat::Oci);
        assert_eq!(parse("type=oci,dest=a.tar").unwrap(), (oci, "a.tar".to_owned()));
        assert_eq!(parse("out").unwrap(), (ExportKind::Local, "out".to_owned()));
        assert_eq!(parse("-").unwrap(), (ExportKind::Tar, "-".to_owned()));
        assert_eq!(parse("type=docker").unwrap().0, ExportKind::Image);
        for wrong in ["type=local", "dest=x", "type=nope,dest=x", "type=oci,what=x", "type=oci,dest=", ""] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn archives_are_not_written_to_a_terminal() {
        let check = |spec: &str| Export::parse(spec).unwrap().check_console().map_err(|e| e.to_string());
        for (spec, exporter) in
            [("type=oci", "oci"), ("type=docker,dest=-", "docker"), ("type=tar", "tar"), ("-", "tar")]
        {
            let expected =
                format!("dest file is required for {exporter} exporter. refusing to write to console");
            assert_eq!(check(spec), Err(expected), "{spec}");
        }
        for fine in ["type=oci,dest=a.tar", "type=docker", "type=image", "out"] {
            assert_eq!(check(fine), Ok(()), "{fine}");
        }
    }

    #[test]
    fn arguments_without_a_value_come_from_the_environment() {
        let args = build_args(&["A=1".into(), "B=".into(), "SURELY_NOT_SET_ANYWHERE".into()]);
        assert_eq!(args, BTreeMap::from([("A".into(), "1".into()), ("B".into(), String::new())]));
    }
}
