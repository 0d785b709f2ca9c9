//! What COPY, ADD and bind mounts of RUN take: is it there, and if not, why.

use crate::context::Context;
use crate::copy::select::{Link, SelectError, Wanted, locate};
use crate::copy::source::RootTree;
use crate::dockerfile::Mount;
use crate::error::{Cause, Failure, LinkToNothing, Problem};
use crate::ignore::{PatternError, Patterns};
use crate::plan::{Plan, Stage};
use crate::steps::{Action, CopySource, Step};
use crate::tree;

/// Looks into the context for all that the plan takes from it, before anything is done.
pub(crate) fn check(plan: &Plan, context: &Context) -> Vec<Problem> {
    let stages = plan.stages.iter().filter(|stage| stage.draft.is_some());
    let steps = stages.flat_map(|stage| stage.steps.iter().map(move |step| (stage, step)));
    steps.flat_map(|(stage, step)| missing(stage, step, context)).collect()
}

fn missing(stage: &Stage, step: &Step, context: &Context) -> Vec<Problem> {
    let look = |wanted: Result<Wanted, PatternError>| {
        let wanted = wanted?;
        locate(context, &wanted).map_err(|error| cause(error, &wanted, None))
    };
    let causes = from_context(&step.action).into_iter().filter_map(|wanted| look(wanted).err());
    let problem = |cause: Cause| {
        let hint = hint(context, &cause);
        Problem::Instruction(Box::new(Failure { span: step.span, stage: stage.title.clone(), cause, hint }))
    };
    causes.map(problem).collect()
}

/// What a step takes from the context.
fn from_context(action: &Action) -> Vec<Result<Wanted, PatternError>> {
    match action {
        Action::Copy(copy) if copy.from.is_none() => {
            copy.sources.iter().map(|source| wanted(source, &copy.exclude)).collect()
        }
        Action::Run(run) => {
            let sources = run.mounts.iter().filter_map(|(mount, _)| match mount {
                Mount::Bind { from: None, source, .. } => Some(bound(source)),
                _ => None,
            });
            sources.map(Ok).collect()
        }
        _ => Vec::new(),
    }
}

/// What the source of a mount means.
pub(crate) fn bound(source: &str) -> Wanted {
    Wanted { source: tree::clean(source.as_bytes()), ..Wanted::default() }
}

/// What a source of an instruction means.
pub(crate) fn wanted(source: &CopySource, exclude: &[String]) -> Result<Wanted, PatternError> {
    let patterns = |texts: &[String]| {
        (!texts.is_empty()).then(|| Patterns::new(texts.iter().map(String::as_str))).transpose()
    };
    Ok(Wanted {
        source: source.path.clone(),
        include: patterns(source.include.as_slice())?,
        exclude: patterns(exclude)?,
        required: source.required.clone(),
    })
}

/// Why there is nothing to copy; `root` is what was looked into, the context without.
pub(crate) fn cause<E: Into<Cause>>(
    error: SelectError<E>,
    wanted: &Wanted,
    root: Option<&RootTree>,
) -> Cause {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (path, link) = match error {
        SelectError::NotFound { path, link } => (path, link),
        SelectError::Tree(error) => return error.into(),
    };
    let path = text(if path.is_empty() { &wanted.source } else { &path });
    let from = root.map(|root| root.name.clone());
    match link {
        None => Cause::SourceNotFound { path, from },
        Some(Link { path: link, target, end }) => Cause::LinkToNothing(Box::new(LinkToNothing {
            path,
            link: text(&link),
            target: text(&target),
            end: text(&end),
            from,
        })),
    }
}

/// What to do about it.
pub(crate) fn hint(context: &Context, cause: &Cause) -> Option<String> {
    match cause {
        Cause::SourceNotFound { path, from: None } => context.ignored_by(path.as_bytes()),
        Cause::LinkToNothing(link) if link.from.is_none() => {
            let ignored = |path: &str| context.ignored_by(path.as_bytes());
            let ignored = ignored(&link.path).or_else(|| ignored(&link.end));
            Some(ignored.unwrap_or_else(|| {
                "links do not lead out of the build context; a leading `/` in them is its top".to_owned()
            }))
        }
        _ => None,
    }
}
