//! From a request to an image in the store.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use common::image::names::{self, NameError, Purpose};
use common::image::record;
use common::oci::ImageConfig;
use common::platform::Platform;
use common::reference::{Reference, Tag};
use common::store::{Store, TaggedImage};

use crate::clock;
use crate::context::{Context, IgnoreFile};
use crate::dockerfile::{self, Checks, Dockerfile, Kind, Parsed, Warning};
use crate::error::{BuildError, Cause};
use crate::event::Event;
use crate::execute::{self, execute};
use crate::ignore::Patterns;
use crate::image::{self, Layers};
use crate::plan::{self, BaseImage, Plan, Planned, plan};
use crate::progress::Progress;
use crate::request::{BuildRequest, Built, DockerfileSource, Environment};
use crate::sources;
use crate::variables;

/// Builds an image.
///
/// # Errors
/// [`BuildError`]; the store is sound then and holds no image that was not there before.
pub fn build(
    store: &Store,
    request: &BuildRequest,
    environment: &Environment<'_>,
) -> Result<Built, BuildError> {
    let progress = Progress::new(environment.events);
    let parsed = read_dockerfile(request, &progress)?;
    let dockerfile = &parsed.dockerfile;
    let empty = store.scratch()?;
    let root = request.context.as_deref().unwrap_or(empty.path());
    let context = Context::open(store, root, read_ignore(request, root, &progress)?)?;
    let Planned { plan, warnings } = make_plan(store, request, environment, &parsed, &progress);
    let verdict = warn(dockerfile, &warnings, request, environment.events);
    let plan = plan?;
    verdict?;
    let epoch = epoch(request, &plan)?;
    let missing = sources::check(&plan, &context);
    if !missing.is_empty() {
        return Err(BuildError::of_problems(&dockerfile.source, missing));
    }
    if let Some(draft) = &plan.stages[plan.target].draft {
        // Layers only make it longer, and are made in vain when it is too long.
        record::encode(&draft.image)?;
    }
    let inputs = execute::Inputs {
        store,
        request,
        environment,
        source: &dockerfile.source,
        plan: &plan,
        context: &context,
        epoch,
        progress: &progress,
    };
    let layers = execute(&inputs);
    context.save();
    finish(store, request, plan, layers?, epoch, &progress)
}

fn read_dockerfile(request: &BuildRequest, progress: &Progress<'_>) -> Result<Parsed, BuildError> {
    let name = match &request.dockerfile {
        DockerfileSource::Text(_) => "Dockerfile".to_owned(),
        DockerfileSource::File(path) => file_name(path),
    };
    progress.run(&format!("[internal] load build definition from {name}"), || {
        let bytes = match &request.dockerfile {
            DockerfileSource::Text(text) => text.clone(),
            DockerfileSource::File(path) => {
                fs::read(path).map_err(|source| BuildError::Read { path: path.clone(), source })?
            }
        };
        Ok(dockerfile::parse_checked(&name, &bytes, checks(request)?)?)
    })
}

/// What a build argument says in place of `# check=`; an empty one says that there is nothing to skip.
fn checks(request: &BuildRequest) -> Result<Option<Checks>, BuildError> {
    let given = request.build_args.get(variables::CHECK_ARG);
    let read = |text: &String| match text.as_str() {
        "" => Ok(Checks::default()),
        options => Checks::parse(options).map_err(BuildError::Checks),
    };
    given.map(read).transpose()
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

/// The ignore file that goes with the Dockerfile (`<Dockerfile>.dockerignore` beside it), else that of the context.
fn read_ignore(
    request: &BuildRequest,
    root: &Path,
    progress: &Progress<'_>,
) -> Result<IgnoreFile, BuildError> {
    let own = match &request.dockerfile {
        DockerfileSource::File(path) => {
            let mut name = path.clone().into_os_string();
            name.push(".dockerignore");
            Some(PathBuf::from(name))
        }
        DockerfileSource::Text(_) => None,
    };
    progress.run("[internal] load .dockerignore", || {
        for path in own.into_iter().chain([root.join(".dockerignore")]) {
            match fs::read(&path) {
                Ok(bytes) => {
                    let name = file_name(&path);
                    let patterns =
                        Patterns::parse(&bytes).map_err(|source| BuildError::Ignore { path, source })?;
                    return Ok(IgnoreFile { name, patterns });
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(source) => return Err(BuildError::Read { path, source }),
            }
        }
        Ok(IgnoreFile::default())
    })
}

/// `SOURCE_DATE_EPOCH` of the build arguments or of a global `ARG`, else of the request.
fn epoch(request: &BuildRequest, plan: &Plan) -> Result<Option<i64>, BuildError> {
    let given = request.build_args.get("SOURCE_DATE_EPOCH").or(plan.epoch.as_ref());
    match given.filter(|text| !text.is_empty()) {
        None => Ok(request.source_date_epoch),
        Some(text) => text.parse().map(Some).map_err(|_| BuildError::Epoch(text.clone())),
    }
}

/// Says what is doubtful, in order of lines; fails when the Dockerfile wants that.
fn warn(
    dockerfile: &Dockerfile,
    warnings: &[Warning],
    request: &BuildRequest,
    events: &(dyn Fn(Event<'_>) + Sync),
) -> Result<(), BuildError> {
    let mut warnings: Vec<&Warning> = dockerfile.warnings.iter().chain(warnings).collect();
    warnings.sort_by_key(|warning| warning.span.start);
    for warning in &warnings {
        let (line, _) = dockerfile.source.line_range(warning.span);
        events(Event::Doubtful { warning, line });
    }
    warn_of_unused_arguments(dockerfile, request, events);
    if warnings.is_empty() || !dockerfile.directives.checks.fails {
        return Ok(());
    }
    let rules: BTreeSet<&str> = warnings.iter().map(|warning| warning.rule.name()).collect();
    Err(BuildError::Doubtful { rules: rules.into_iter().collect::<Vec<_>>().join(", ") })
}

/// Build arguments that no `ARG` asks for were probably mistyped.
fn warn_of_unused_arguments(
    dockerfile: &Dockerfile,
    request: &BuildRequest,
    events: &(dyn Fn(Event<'_>) + Sync),
) {
    let in_stages = dockerfile.stages.iter().flat_map(|stage| &stage.instructions);
    let in_stages = in_stages.filter_map(|instruction| match &instruction.kind {
        Kind::Arg(args) => Some(args),
        _ => None,
    });
    let declared: BTreeSet<&str> =
        dockerfile.global_args.iter().chain(in_stages.flatten()).map(|arg| arg.name.text.as_str()).collect();
    let unused: Vec<&str> = request
        .build_args
        .keys()
        .map(String::as_str)
        .filter(|name| !declared.contains(name) && !variables::is_predefined(name))
        .collect();
    if !unused.is_empty() {
        events(Event::Warning(&format!(
            "[Warning] One or more build-args [{}] were not consumed",
            unused.join(" ")
        )));
    }
}

fn make_plan(
    store: &Store,
    request: &BuildRequest,
    environment: &Environment<'_>,
    parsed: &Parsed,
    progress: &Progress<'_>,
) -> Planned {
    let host = Platform::host();
    let find =
        |name: &str, platform: &Platform| find_image(store, request, environment, progress, name, platform);
    plan(
        parsed,
        &plan::Inputs {
            target: request.target.as_deref(),
            build_args: &request.build_args,
            target_platform: request.platform.clone().unwrap_or_else(|| host.clone()),
            build_platform: host,
            find: &find,
            warn: &|text| (environment.events)(Event::Warning(text)),
        },
    )
}

/// An image of this machine, else of its registry.
fn find_image(
    store: &Store,
    request: &BuildRequest,
    environment: &Environment<'_>,
    progress: &Progress<'_>,
    name: &str,
    platform: &Platform,
) -> Result<(String, BaseImage), Cause> {
    let reference: Reference = name.parse()?;
    let here = match names::find_reference(store, &reference, Purpose::Run(platform)) {
        _ if request.pull => None,
        // Here for another platform only is as good as not here.
        Err(NameError::Platform { .. }) => None,
        found => found?,
    };
    let id = match here {
        Some(found) => found.id,
        None => progress.run(&format!("[internal] load metadata for {reference}"), || {
            (environment.pull)(&reference, platform)
                .map_err(|source| Cause::Pull { image: reference.to_string(), source })
        })?,
    };
    let config = names::config(store, &id).map_err(|error| Cause::Config(id.clone(), Box::new(error)))?;
    Ok((reference.to_string(), BaseImage { id, config }))
}

/// Puts the config, the record and the names into the store.
fn finish(
    store: &Store,
    request: &BuildRequest,
    mut plan: Plan,
    layers: Layers,
    epoch: Option<i64>,
    progress: &Progress<'_>,
) -> Result<Built, BuildError> {
    let stage = plan.stages.swap_remove(plan.target);
    let now = epoch.map_or_else(clock::now, common::layer::Time::from_seconds);
    let draft = stage.draft.expect("the target was planned");
    let mut config = image::finish(draft.image, &layers, &clock::rfc3339(now));
    config.config.labels.extend(request.labels.clone());
    if let Some(platform) = &request.platform {
        set_platform(&mut config, platform);
    }
    let platform = record::platform(&config);
    progress.run_in_parts("exporting to image", |done| {
        // Each layer was stored by its step.
        done("exporting layers");
        let id = record::create(store, &config)?;
        done(&format!("writing image {id}"));
        for tag in &request.tags {
            let image = TaggedImage { platform: platform.clone(), config: id.clone(), source: None };
            names::set_tag(store, tag.repository(), tag.tag().unwrap_or(&Tag::latest()), image)?;
            let name = tag.to_string();
            done(&format!("naming to {}", name.strip_suffix(":latest").unwrap_or(&name)));
        }
        Ok(Built { id, config, platform })
    })
}

/// The platform that was asked for, whatever the base says.
fn set_platform(config: &mut ImageConfig, platform: &Platform) {
    let same = config.os == platform.os && config.architecture == platform.architecture;
    config.os.clone_from(&platform.os);
    config.architecture.clone_from(&platform.architecture);
    if platform.variant.is_some() || !same {
        config.variant.clone_from(&platform.variant);
    }
}
