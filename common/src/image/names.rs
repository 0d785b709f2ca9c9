//! From what a user types to an image, and the tags of this machine.

use std::collections::BTreeMap;

use crate::digest::Digest;
use crate::oci::{CONFIG_LIMIT_BYTES, ImageConfig};
use crate::platform::Platform;
use crate::reference::{Reference, ReferenceError, Tag};
use crate::store::{Expect, FindError, LocalTag, ReadError, Store, StoreError, TaggedImage, if_sound};

/// An image of this machine, and the name by which it was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The config digest.
    pub id: Digest,
    /// The name, when it was asked for by one and not by its ID.
    pub name: Option<Reference>,
    /// The manifest or index that a tag says it came as, or that was asked for by digest.
    pub source: Option<Digest>,
}

/// Why a name does not lead to one image.
#[derive(Debug, thiserror::Error)]
pub enum NameError {
    /// Nothing on this machine is called so.
    #[error("No such image: {wanted}")]
    NotFound {
        /// What was asked for; a tag is completed to `latest` as docker does.
        wanted: String,
    },
    /// The name is there, but not for this platform.
    #[error("image `{wanted}` is here, but not for platform {platform}; it has {}", have.join(", "))]
    Platform {
        /// What was asked for.
        wanted: String,
        /// The platform that was asked for.
        platform: Box<Platform>,
        /// Those that there are.
        have: Vec<String>,
    },
    /// It is neither a name nor an ID.
    #[error(transparent)]
    Reference(#[from] ReferenceError),
    /// Several IDs begin so.
    #[error(transparent)]
    Id(#[from] FindError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why the config of an image cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Its bytes are not in the store, or damaged.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// Its bytes are not a config.
    #[error("config of image {id} cannot be understood")]
    Parse {
        /// The image.
        id: Digest,
        /// What is wrong.
        source: serde_json::Error,
    },
}

/// What an image is wanted for, when a name stands for several platforms.
#[derive(Debug, Clone, Copy)]
pub enum Purpose<'p> {
    /// To run, or to build upon: it must be for this platform.
    Run(&'p Platform),
    /// To be shown, named, sent or removed: the best for this platform, else the one that was named last, as a tag of
    /// docker means that image whatever it is for.
    Handle(&'p Platform),
}

/// The image that `wanted` means: a name with tag or digest, an ID, or a unique beginning of one. A name wins over an ID,
/// as with docker.
///
/// # Errors
/// [`NameError::NotFound`] when there is none; the others as they say.
pub fn find(store: &Store, wanted: &str, purpose: Purpose<'_>) -> Result<Found, NameError> {
    let parsed = wanted.parse::<Reference>();
    if let Ok(reference) = &parsed
        && let Some(found) = find_reference(store, reference, purpose)?
    {
        return Ok(found);
    }
    let digits = wanted.strip_prefix("sha256:").unwrap_or(wanted);
    if digits.bytes().all(|b| b.is_ascii_hexdigit())
        && let Some(id) = store.find_image(wanted)?
    {
        return Ok(Found { id, name: None, source: None });
    }
    match parsed {
        Ok(reference) => Err(NameError::NotFound { wanted: reference.familiar() }),
        Err(ReferenceError::ImageId) => Err(NameError::NotFound { wanted: wanted.to_owned() }),
        // `sha256:abc` is the beginning of an ID that is not here, and no name.
        Err(_) if wanted.starts_with("sha256:") => Err(NameError::NotFound { wanted: wanted.to_owned() }),
        Err(error) => Err(error.into()),
    }
}

/// The image of a reference, `None` when there is none of that name.
///
/// # Errors
/// [`NameError::Platform`] when it is to be run and the name is there for other platforms only.
pub fn find_reference(
    store: &Store,
    reference: &Reference,
    purpose: Purpose<'_>,
) -> Result<Option<Found>, NameError> {
    let found = |id: Digest, source| Found { id, name: Some(reference.clone()), source };
    if let Some(digest) = reference.digest() {
        return Ok(find_digest(store, reference, digest)?.map(|id| found(id, Some(digest.clone()))));
    }
    let tag = reference.tag().cloned().unwrap_or_else(Tag::latest);
    let Some(record) = store.local(reference.repository()).tag(&tag)? else { return Ok(None) };
    let image = match purpose {
        Purpose::Handle(host) => match record.best(host).or(record.images.last()) {
            Some(image) => image,
            None => return Ok(None),
        },
        Purpose::Run(platform) => record.best(platform).ok_or_else(|| NameError::Platform {
            wanted: reference.familiar(),
            platform: Box::new(platform.clone()),
            have: record.images.iter().map(|image| image.platform.to_string()).collect(),
        })?,
    };
    let source = image.source.as_ref().map(|source| source.digest.clone());
    Ok(Some(found(image.config.clone(), source)))
}

/// An image that was pulled or pushed as `repository@digest`, or has that ID.
fn find_digest(store: &Store, reference: &Reference, digest: &Digest) -> Result<Option<Digest>, StoreError> {
    let name = Reference::Digest(reference.repository().clone(), digest.clone());
    Ok(store.images()?.0.into_iter().find(|image| image.names.contains(&name)).map(|image| image.id))
}

/// The config of an image.
///
/// # Errors
/// [`ConfigError`] when it is missing, damaged or malformed.
pub fn config(store: &Store, id: &Digest) -> Result<ImageConfig, ConfigError> {
    let bytes = store.read_blob(id, CONFIG_LIMIT_BYTES)?;
    ImageConfig::parse(&bytes).map_err(|source| ConfigError::Parse { id: id.clone(), source })
}

/// The tags of this machine.
#[derive(Debug, Default)]
pub struct Tags {
    /// By image, each list sorted.
    pub by_image: BTreeMap<Digest, Vec<Reference>>,
    /// What is wrong with the records that cannot be understood: the names in them are not listed.
    pub damaged: Vec<StoreError>,
}

/// All tags of this machine.
///
/// # Errors
/// [`StoreError::Io`] when a folder or record cannot be read.
pub fn tags(store: &Store) -> Result<Tags, StoreError> {
    let mut tags = Tags::default();
    for name in store.local_repositories()? {
        let repository = store.local(&name);
        for tag in repository.tags(None, None)? {
            let record = match repository.tag(&tag) {
                Ok(Some(record)) => record,
                // Gone since it was listed: no longer a name.
                Ok(None) => continue,
                Err(error) if error.is_of_one_record() => {
                    tags.damaged.push(error);
                    continue;
                }
                Err(error) => return Err(error),
            };
            for image in record.images {
                let names = tags.by_image.entry(image.config).or_default();
                names.push(Reference::Tag(name.clone(), tag.clone()));
            }
        }
    }
    tags.by_image.values_mut().for_each(|names| names.sort());
    Ok(tags)
}

/// Names an image; whatever had the name for this platform has it no longer, and a damaged record is written anew. Durable
/// when it returns.
///
/// # Errors
/// [`StoreError`] when the record cannot be written.
pub fn set_tag(
    store: &Store,
    repository: &crate::reference::Repository,
    tag: &Tag,
    image: TaggedImage,
) -> Result<(), StoreError> {
    let local = store.local(repository);
    loop {
        let old = if_sound(local.tag(tag))?;
        let mut record = old.clone().unwrap_or_default();
        record.set(image.clone());
        let expect = old.as_ref().map_or(Expect::Absent, Expect::Is);
        if local.set_tag(tag, &record, expect)? {
            return store.reach().local_tags(&local).sync();
        }
        // Somebody else changed it meanwhile: add to what they wrote.
    }
}

/// Takes away a name whose record is damaged; whether it was there and is.
///
/// # Errors
/// [`StoreError`] when the record cannot be read or removed.
pub fn remove_damaged_tag(store: &Store, reference: &Reference) -> Result<bool, StoreError> {
    let Reference::Tag(repository, tag) = reference else { return Ok(false) };
    let local = store.local(repository);
    let removed = local.delete_tag(tag, Expect::Absent)?;
    if removed {
        store.reach().local_tags(&local).sync()?;
    }
    Ok(removed)
}

/// Takes a name away from an image; whether it was there. Other platforms keep it.
///
/// # Errors
/// [`StoreError`] when the record cannot be read or written.
pub fn remove_tag(store: &Store, reference: &Reference, id: &Digest) -> Result<bool, StoreError> {
    let Reference::Tag(repository, tag) = reference else { return Ok(false) };
    let local = store.local(repository);
    loop {
        let Some(old) = local.tag(tag)? else { return Ok(false) };
        let images: Vec<TaggedImage> =
            old.images.iter().filter(|image| image.config != *id).cloned().collect();
        if images.len() == old.images.len() {
            return Ok(false);
        }
        let done = match images.is_empty() {
            true => local.delete_tag(tag, Expect::Is(&old))?,
            false => local.set_tag(tag, &LocalTag { images }, Expect::Is(&old))?,
        };
        if done {
            return store.reach().local_tags(&local).sync().map(|()| true);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::ImageRecord;

    struct Machine {
        _folder: tempfile::TempDir,
        store: Store,
    }

    fn machine() -> Machine {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        Machine { _folder: folder, store }
    }

    fn add(store: &Store, name: &str, content: &str, platform: &str) -> Digest {
        let id = store.put(content.as_bytes()).unwrap();
        store.put_image(&ImageRecord::new(id.clone(), 0)).unwrap();
        let reference: Reference = name.parse().unwrap();
        let image = TaggedImage { platform: platform.parse().unwrap(), config: id.clone(), source: None };
        set_tag(store, reference.repository(), reference.tag().unwrap(), image).unwrap();
        id
    }

    fn host() -> Platform {
        "linux/amd64".parse().unwrap()
    }

    #[test]
    fn an_image_is_found_by_every_spelling_of_its_name_and_by_its_id() {
        let machine = machine();
        let id = add(&machine.store, "busybox", "{}", "linux/amd64");
        for wanted in
            ["busybox", "busybox:latest", "docker.io/library/busybox", id.short(), id.hex(), &id.to_string()]
        {
            assert_eq!(find(&machine.store, wanted, Purpose::Run(&host())).unwrap().id, id, "{wanted}");
        }
    }

    #[test]
    fn what_is_not_there_is_named_as_docker_names_it() {
        let machine = machine();
        let error = find(&machine.store, "nosuch", Purpose::Run(&host())).unwrap_err();
        assert_eq!(error.to_string(), "No such image: nosuch:latest");
        assert!(matches!(find(&machine.store, "Upper", Purpose::Run(&host())), Err(NameError::Reference(_))));
    }

    #[test]
    fn a_name_for_other_platforms_cannot_be_run_and_says_which_it_has() {
        let machine = machine();
        add(&machine.store, "a", "{}", "linux/s390x");
        let error = find(&machine.store, "a", Purpose::Run(&host())).unwrap_err();
        assert!(error.to_string().ends_with("it has linux/s390x"), "{error}");
    }

    #[test]
    fn a_name_for_other_platforms_is_handled_as_the_image_that_it_got_last() {
        let machine = machine();
        let found = || find(&machine.store, "a", Purpose::Handle(&host())).unwrap().id;
        let first = add(&machine.store, "a", "1", "linux/s390x");
        assert_eq!(found(), first);
        let second = add(&machine.store, "a", "2", "linux/riscv64");
        assert_eq!(found(), second);
        let again = add(&machine.store, "a", "3", "linux/s390x");
        assert_eq!(found(), again, "a platform that is named again is the last");
        let own = add(&machine.store, "a", "4", "linux/amd64");
        add(&machine.store, "a", "5", "linux/riscv64");
        assert_eq!(found(), own, "this machine's own comes first");
    }

    #[test]
    fn removing_the_name_of_one_platform_leaves_the_others() {
        let machine = machine();
        let one = add(&machine.store, "a", "1", "linux/amd64");
        let two = add(&machine.store, "a", "2", "linux/arm64");
        let name: Reference = "a".parse().unwrap();
        assert!(remove_tag(&machine.store, &name, &one).unwrap());
        assert!(!remove_tag(&machine.store, &name, &one).unwrap());
        assert_eq!(tags(&machine.store).unwrap().by_image, BTreeMap::from([(two, vec![name])]));
    }

    #[test]
    fn a_damaged_name_hides_no_other_and_is_written_anew_or_removed() {
        let machine = machine();
        let store = &machine.store;
        let id = add(store, "sound", "1", "linux/amd64");
        let name: Reference = "broken".parse().unwrap();
        let damage = || {
            add(store, "broken", "2", "linux/amd64");
            let path = machine._folder.path().join("repos/local/docker.io/library/broken/_tags/latest");
            std::fs::write(path, "garbage").unwrap();
        };
        damage();
        let listed = tags(store).unwrap();
        assert_eq!(listed.by_image, BTreeMap::from([(id.clone(), vec!["sound".parse().unwrap()])]));
        assert!(matches!(&listed.damaged[..], [StoreError::Damaged { .. }]), "{:?}", listed.damaged);
        assert!(!remove_damaged_tag(store, &"sound".parse().unwrap()).unwrap());
        assert!(remove_damaged_tag(store, &name).unwrap());
        assert!(!remove_damaged_tag(store, &name).unwrap());
        damage();
        let again = add(store, "broken", "3", "linux/amd64");
        assert_eq!(find(store, "broken", Purpose::Run(&host())).unwrap().id, again);
    }
}
