use std::process::ExitCode;

use anyhow::Result;
use common::digest::Digest;
use common::image::names::{self, Found, NameError};
use common::layer;
use common::reference::Reference;
use common::store::{Store, if_sound};
use engine::containers::{Container, Containers};

use super::images::require;
use super::state::{is_running, short_id};
use crate::context::Context;
use crate::error::{self, verbatim};
use crate::output;
use crate::report;

/// Remove images, or names of images
///
/// An image that has several names loses only the one that is given; with its last name, the image goes.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Names or IDs
    #[arg(value_name = "IMAGE", required = true)]
    images: Vec<String>,
    /// Also remove images that stopped containers use, and IDs that have several names
    #[arg(short, long)]
    force: bool,
    /// Accepted and without effect: there are no untagged parents here
    #[arg(long)]
    no_prune: bool,
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<ExitCode> {
    let store = context.store()?;
    let mut failures = Vec::new();
    for wanted in &args.images {
        match remove(&store, wanted, args.force) {
            Ok(lines) => lines.iter().for_each(output::line),
            Err(error) => failures.push(error),
        }
    }
    // docker tells what went wrong when all that goes is gone.
    let mut code = ExitCode::SUCCESS;
    for error in failures {
        let shown = report::failure(&error, error::FAILED);
        let missing = matches!(error.downcast_ref(), Some(NameError::NotFound { .. }));
        if !(args.force && missing) {
            code = shown;
        }
    }
    Ok(code)
}

/// Removes one name or image; the lines are docker's.
fn remove(store: &Store, wanted: &str, force: bool) -> Result<Vec<String>> {
    let found = match require(store, wanted) {
        Ok(found) => found,
        // What a damaged record named cannot be told; the name itself can go.
        Err(error) => {
            return match wanted.parse::<Reference>() {
                Ok(name) if names::remove_damaged_tag(store, &name)? => {
                    Ok(vec![format!("Untagged: {}", name.familiar())])
                }
                _ => Err(error),
            };
        }
    };
    let mut tags = names::tags(store)?.by_image.remove(&found.id).unwrap_or_default();
    let containers = Containers::new(store.paths().containers()).list()?;
    let users: Vec<&Container> =
        containers.iter().filter(|container| container.config.image.as_ref() == Some(&found.id)).collect();

    let digests = if_sound(store.image(&found.id))?.map(|image| image.names).unwrap_or_default();
    if let Some(name) = &found.name {
        let mut all = tags.iter().chain(&digests);
        let last_tag = name.digest().is_none()
            && !tags.iter().any(|tag| tag != name && tag.repository() == name.repository());
        // Without a tag in their repository, digests are names of nothing.
        let goes = |other: &Reference| {
            is_same_name(other, name)
                || last_tag && other.tag().is_none() && other.repository() == name.repository()
        };
        if all.any(|other| !goes(other)) {
            let gone: Vec<Reference> = digests.iter().filter(|digest| goes(digest)).cloned().collect();
            return untag(store, &found.id, name, &gone);
        }
    }
    refuse(&found, &tags, &digests, &users, wanted, force)?;

    let mut lines = Vec::new();
    for tag in tags.drain(..) {
        names::remove_tag(store, &tag, &found.id)?;
        lines.push(format!("Untagged: {}", tag.familiar()));
    }
    lines.extend(digests.iter().map(|name| format!("Untagged: {}", name.familiar())));
    // A container that is there needs the image's config no more: it has a copy. Its layers stay while it refers to them.
    let chains = chains(store, &found.id);
    store.remove_image(&found.id)?;
    store.reach().image(&found.id).sync()?;
    lines.push(format!("Deleted: {}", found.id));
    let kept = kept_chains(store)?;
    lines.extend(
        chains.iter().rev().filter(|chain| !kept.contains(chain)).map(|chain| format!("Deleted: {chain}")),
    );
    Ok(lines)
}

/// The same tag, or the same digest, whatever tag stands in front of that.
fn is_same_name(one: &Reference, other: &Reference) -> bool {
    one.repository() == other.repository() && one.identifier() == other.identifier()
}

/// Takes a name away from an image that keeps others, and those of its digests that go with it.
fn untag(store: &Store, id: &Digest, name: &Reference, digests: &[Reference]) -> Result<Vec<String>> {
    let mut lines = Vec::new();
    if name.digest().is_none() {
        names::remove_tag(store, name, id)?;
        lines.push(format!("Untagged: {}", name.familiar()));
    }
    if !digests.is_empty() {
        store.update_image(id, |image| image.names.retain(|name| !digests.contains(name)))?;
        lines.extend(digests.iter().map(|digest| format!("Untagged: {}", digest.familiar())));
    }
    Ok(lines)
}

/// docker's conflicts: an image in use, and an ID that several repositories name.
fn refuse(
    found: &Found,
    tags: &[Reference],
    digests: &[Reference],
    users: &[&Container],
    wanted: &str,
    force: bool,
) -> Result<()> {
    let short = found.id.short();
    let conflict = |text: String| Err(verbatim(format!("Error: conflict: {text}")));
    if let Some(user) = users.iter().find(|container| is_running(container)) {
        let id = short_id(user);
        return match &found.name {
            Some(name) if !force => conflict(format!(
                "unable to remove repository reference \"{}\" (must force) - container {id} is using its referenced image {short}",
                name_as_typed(name, wanted)
            )),
            _ => conflict(format!(
                "unable to delete {short} (cannot be forced) - image is being used by running container {id}"
            )),
        };
    }
    if force {
        return Ok(());
    }
    if let Some(user) = users.first() {
        let id = short_id(user);
        return match &found.name {
            Some(name) => conflict(format!(
                "unable to remove repository reference \"{}\" (must force) - container {id} is using its referenced image {short}",
                name_as_typed(name, wanted)
            )),
            None => conflict(format!(
                "unable to delete {short} (must be forced) - image is being used by stopped container {id}"
            )),
        };
    }
    if found.name.is_none() && !is_one_name(tags, digests) {
        return conflict(format!(
            "unable to delete {short} (must be forced) - image is referenced in multiple repositories"
        ));
    }
    Ok(())
}

/// Whether an image is called by one tag at most, and by digests of that tag's repository alone.
fn is_one_name(tags: &[Reference], digests: &[Reference]) -> bool {
    let mut repositories = tags.iter().chain(digests).map(Reference::repository);
    let first = repositories.next();
    tags.len() <= 1 && repositories.all(|other| Some(other) == first)
}

fn name_as_typed(name: &Reference, wanted: &str) -> String {
    if wanted.contains(':') { name.familiar() } else { wanted.to_owned() }
}

/// The chain IDs of an image's layers, lowest first.
fn chains(store: &Store, id: &Digest) -> Vec<Digest> {
    let diff_ids = names::config(store, id).map(|config| config.rootfs.diff_ids).unwrap_or_default();
    (1..=diff_ids.len()).map(|n| layer::chain_id(&diff_ids[..n])).collect()
}

/// Those that another image still has.
fn kept_chains(store: &Store) -> Result<Vec<Digest>> {
    Ok(store.image_ids()?.iter().flat_map(|id| chains(store, id)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_tag_and_digests_of_its_repository_are_one_name() {
        let parse =
            |names: &[&str]| -> Vec<Reference> { names.iter().map(|name| name.parse().unwrap()).collect() };
        let digest = format!("a@sha256:{}", "0".repeat(64));
        let other = format!("b@sha256:{}", "0".repeat(64));
        for (tags, digests, expected) in [
            (&[][..], &[][..], true),
            (&["a:1"], &[], true),
            (&["a:1", "a:2"], &[], false),
            (&["a:1", "b:1"], &[], false),
            (&["a:1"], &[digest.as_str()], true),
            (&["a:1"], &[other.as_str()], false),
            (&[], &[digest.as_str(), other.as_str()], false),
        ] {
            assert_eq!(is_one_name(&parse(tags), &parse(digests)), expected, "{tags:?} {digests:?}");
        }
    }
}
