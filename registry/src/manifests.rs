//! `/v2/<name>/manifests/<tag-or-digest>`.
//!
//! Bytes go out as they came in, under the type they came with; they are read only to know what they refer to.
//! A push looks for children in its own repository only and never makes one readable. Children that are absent
//! are noted, or are a reason to refuse.
//!
//! Order of a push: bytes → link → children looked at once more (which keeps a collector away from them) → referrer →
//! all of that on the disk → tags → on the disk → `201`. Who repeats it after a crash repeats every step.
//!
//! Spec: <https://github.com/opencontainers/distribution-spec/blob/main/spec.md#pushing-manifests>

use axum::body::{Body, Bytes};
use axum::response::Response;
use common::digest::{Algorithm, Digest};
use common::oci::{Descriptor, MANIFEST_LIMIT_BYTES, ManifestOrIndex, media_type};
use common::reference::Tag;
use common::store::{Expect, ManifestLink, ReadError, ServedTag, StoreError};
use http::StatusCode;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, ETAG, LOCATION};

use crate::auth::{Authorized, Delete, Pull, Push, Repository};
use crate::blobs::{CONTENT_DIGEST, finish};
use crate::call::{Call, blocking};
use crate::condition;
use crate::error::Error;

/// How often a push begins anew while others delete the same manifest.
const ATTEMPTS: usize = 3;

/// end-3, `GET`.
pub(crate) async fn get(
    repository: Authorized<Repository, Pull>,
    reference: &str,
    call: &Call<'_>,
) -> Result<Response, Error> {
    let (digest, link) = find(&repository, reference)?;
    if condition::is_held(&digest, call.headers) {
        let response = Response::builder().header(CONTENT_DIGEST, digest.to_string());
        let response = response.header(ETAG, condition::etag(&digest)).status(StatusCode::NOT_MODIFIED);
        return Ok(finish(response, Body::empty()));
    }
    let response = described(&digest, &link);
    if let Some(bytes) = call.app.manifests.get(&digest) {
        return Ok(finish(response, bytes.into()));
    }
    let (store, wanted) = (repository.store.clone(), digest.clone());
    let bytes: Bytes = blocking(move || match store.read_blob(&wanted, MANIFEST_LIMIT_BYTES) {
        Ok(bytes) => Ok(bytes.into()),
        Err(ReadError::Missing { .. }) => Err(Error::ManifestUnknown(wanted.to_string())),
        Err(error) => Err(error.into()),
    })
    .await?;
    call.app.manifests.put(digest, bytes.clone());
    Ok(finish(response, bytes.into()))
}

/// end-3, `HEAD`.
pub(crate) async fn head(
    repository: Authorized<Repository, Pull>,
    reference: &str,
    call: &Call<'_>,
) -> Result<Response, Error> {
    let (digest, link) = find(&repository, reference)?;
    let status =
        if condition::is_held(&digest, call.headers) { StatusCode::NOT_MODIFIED } else { StatusCode::OK };
    Ok(finish(described(&digest, &link).status(status), Body::empty()))
}

/// end-7a and end-7b.
pub(crate) async fn put(
    repository: Authorized<Repository, Push>,
    reference: &str,
    call: &Call<'_>,
    body: &mut Body,
) -> Result<Response, Error> {
    let target = Target::parse(reference, call)?;
    let media_type = content_type(call)?;
    let too_large = || Error::ManifestTooLarge { limit_bytes: MANIFEST_LIMIT_BYTES };
    if call.header(CONTENT_LENGTH).and_then(|n| n.parse().ok()).is_some_and(|n: u64| n > MANIFEST_LIMIT_BYTES)
    {
        return Err(too_large());
    }
    let bytes = call.app.intake.small(body, MANIFEST_LIMIT_BYTES, too_large).await?;
    let absent_children = call.app.absent_children;
    blocking(move || {
        let incoming = Incoming::parse(bytes, media_type, &target)?;
        incoming.store(&repository, &target.tags, absent_children)?;
        tracing::info!(repository = %repository.served.path(), digest = %incoming.digest, "manifest pushed");
        Ok(incoming.response(&repository, &target))
    })
    .await
}

/// end-9.
pub(crate) async fn delete(
    repository: Authorized<Repository, Delete>,
    reference: &str,
) -> Result<Response, Error> {
    let reference = reference.to_owned();
    blocking(move || {
        let deleted = match Reference::parse(&reference)? {
            Reference::Tag(tag) => delete_tag(&repository, &tag)?,
            Reference::Digest(digest) => delete_manifest(&repository, &digest)?,
        };
        if !deleted {
            return Err(Error::ManifestUnknown(reference));
        }
        tracing::info!(repository = %repository.served.path(), reference, "manifest deleted");
        Ok(finish(Response::builder().status(StatusCode::ACCEPTED), Body::empty()))
    })
    .await
}

fn delete_tag(repository: &Repository, tag: &Tag) -> Result<bool, StoreError> {
    let deleted = repository.served.delete_tag(tag, Expect::Anything)?;
    repository.store.reach().tags(&repository.served).sync()?;
    Ok(deleted)
}

/// Takes a manifest out of the repository, with its tags and its entry under its subject.
fn delete_manifest(repository: &Repository, digest: &Digest) -> Result<bool, StoreError> {
    let served = &repository.served;
    let Some(link) = served.manifest(digest)? else { return Ok(false) };
    let deleted = served.unlink_manifest(digest)?;
    let mut reach = repository.store.reach().tags(served).manifest(served, digest);
    if let Some(subject) = &link.subject {
        reach = reach.referrer(served, subject);
    }
    reach.sync()?;
    Ok(deleted)
}

/// What stands behind `/manifests/`.
enum Reference {
    Tag(Tag),
    Digest(Digest),
}

impl Reference {
    /// A colon makes it a digest. What can be neither is not known here.
    fn parse(text: &str) -> Result<Self, Error> {
        if text.contains(':') {
            return Ok(Reference::Digest(text.parse()?));
        }
        text.parse().map(Reference::Tag).map_err(|_| Error::ManifestUnknown(text.to_owned()))
    }
}

/// The manifest that `reference` names in this repository.
///
/// Reads two files of some hundred bytes where it is called, on a thread that serves others: to hand that to another
/// thread takes longer than to do it, and manifests are asked for more often than anything else.
fn find(repository: &Repository, reference: &str) -> Result<(Digest, ManifestLink), Error> {
    let unknown = || Error::ManifestUnknown(reference.to_owned());
    let digest = match Reference::parse(reference)? {
        Reference::Digest(digest) => digest,
        Reference::Tag(tag) => repository.served.tag(&tag)?.ok_or_else(unknown)?.manifest,
    };
    let link = repository.served.manifest(&digest)?.ok_or_else(unknown)?;
    Ok((digest, link))
}

fn described(digest: &Digest, link: &ManifestLink) -> http::response::Builder {
    Response::builder()
        .header(CONTENT_TYPE, &link.media_type)
        .header(CONTENT_LENGTH, link.size_bytes)
        .header(CONTENT_DIGEST, digest.to_string())
        .header(ETAG, condition::etag(digest))
}

/// The type that a manifest was sent as, without parameters; `None` when the sender did not say.
fn content_type(call: &Call<'_>) -> Result<Option<String>, Error> {
    let Some(header) = call.headers.get(CONTENT_TYPE) else { return Ok(None) };
    let text = header.to_str().unwrap_or_default();
    let kind = text.split(';').next().unwrap_or_default().trim();
    match kind {
        media_type::DOCKER_MANIFEST_SCHEMA1 | media_type::DOCKER_MANIFEST_SCHEMA1_SIGNED => {
            Err(Error::SchemaOne)
        }
        _ if media_type::is_manifest(kind) || media_type::is_index(kind) => Ok(Some(kind.to_owned())),
        _ => Err(Error::ManifestType(kind.chars().take(100).collect())),
    }
}

/// Where a manifest goes.
struct Target {
    /// What its digest has to be.
    digest: Option<Digest>,
    /// The tags that will name it.
    tags: Vec<Tag>,
    /// Whether the tags came by query, and the answer has to say which were set.
    by_query: bool,
}

impl Target {
    fn parse(reference: &str, call: &Call<'_>) -> Result<Self, Error> {
        let tag = |text: &str| text.parse::<Tag>().map_err(|_| Error::TagInvalid);
        if !reference.contains(':') {
            return Ok(Target { digest: None, tags: vec![tag(reference)?], by_query: false });
        }
        let digest = Some(reference.parse()?);
        Ok(Target { digest, tags: call.query.all("tag").map(tag).collect::<Result<_, _>>()?, by_query: true })
    }
}

/// A manifest that was pushed, read and found well formed.
struct Incoming {
    bytes: Bytes,
    digest: Digest,
    document: ManifestOrIndex,
    media_type: String,
}

impl Incoming {
    fn parse(bytes: Bytes, media_type: Option<String>, target: &Target) -> Result<Self, Error> {
        let algorithm = target.digest.as_ref().map_or(Algorithm::Sha256, Digest::algorithm);
        let digest = algorithm.digest(&bytes);
        if let Some(expected) = target.digest.as_ref().filter(|expected| **expected != digest) {
            return Err(Error::DigestMismatch { expected: expected.clone(), actual: digest });
        }
        let document = ManifestOrIndex::parse(&bytes, media_type.as_deref())?;
        let (inside, fallback) = match &document {
            ManifestOrIndex::Manifest(manifest) => (&manifest.media_type, media_type::OCI_MANIFEST),
            ManifestOrIndex::Index(index) => (&index.media_type, media_type::OCI_INDEX),
        };
        let media_type = media_type.or_else(|| inside.clone()).unwrap_or_else(|| fallback.to_owned());
        Ok(Incoming { bytes, digest, document, media_type })
    }

    /// Everything of a push that has to last, in the order said above. It begins anew when the manifest is deleted
    /// meanwhile.
    fn store(&self, repository: &Repository, tags: &[Tag], absent_allowed: bool) -> Result<(), Error> {
        let absent_children = self.absent_children(repository)?;
        if !absent_allowed && !absent_children.is_empty() {
            return Err(Error::ManifestChildUnknown(absent_children));
        }
        let link = self.link(absent_children);
        for _ in 0..ATTEMPTS {
            let mut ingest = repository.store.ingest_as(self.digest.algorithm())?;
            ingest.append(&self.bytes)?;
            ingest.commit(&self.digest, None)?;
            repository.served.link_manifest(&self.digest, &link)?;
            if self.reach_all(repository)? && self.set_tags(repository, tags)? {
                return Ok(());
            }
        }
        Err(Error::ManifestUnknown(self.digest.to_string()))
    }

    /// Looks at each child again, lists the referrer, and brings all names that this manifest needs to the disk. False
    /// when the manifest was deleted meanwhile.
    fn reach_all(&self, repository: &Repository) -> Result<bool, StoreError> {
        let (store, served) = (&repository.store, &repository.served);
        let mut reach = store.reach().manifest(served, &self.digest);
        for child in self.children() {
            if repository.open(&child.digest)?.is_some() {
                reach = reach.blob(&child.digest).reference(served, &child.digest);
            } else if served.manifest(&child.digest)?.is_some() && store.open_blob(&child.digest)?.is_some() {
                reach = reach.manifest(served, &child.digest);
            }
        }
        if let Some(subject) = self.subject() {
            if !served.add_referrer(&subject.digest, &self.descriptor())? {
                return Ok(false);
            }
            reach = reach.referrer(served, &subject.digest);
        }
        reach.sync()?;
        Ok(true)
    }

    /// Points `tags` at the manifest, now that it is on the disk. False when it was deleted meanwhile.
    fn set_tags(&self, repository: &Repository, tags: &[Tag]) -> Result<bool, StoreError> {
        let served = &repository.served;
        let record = ServedTag { manifest: self.digest.clone() };
        for tag in tags {
            if !served.set_tag(tag, &record, Expect::Anything)? {
                return Ok(false);
            }
        }
        if !tags.is_empty() {
            repository.store.reach().tags(served).sync()?;
        }
        Ok(true)
    }

    /// The children that this repository does not hold.
    ///
    /// # Errors
    /// [`Error::ManifestChildSize`] when one that it holds has another size than is said here.
    fn absent_children(&self, repository: &Repository) -> Result<Vec<Digest>, Error> {
        let mut absent = Vec::new();
        for child in self.children() {
            let Descriptor { digest, size: stated, .. } = child;
            match held_size(repository, digest)? {
                None => absent.push(digest.clone()),
                Some(actual) if actual == *stated => {}
                Some(actual) => {
                    return Err(Error::ManifestChildSize { digest: digest.clone(), stated: *stated, actual });
                }
            }
        }
        Ok(absent)
    }

    /// What has to be in the repository for the manifest to be complete. Layers that are not to be distributed are
    /// fetched from elsewhere.
    fn children(&self) -> impl Iterator<Item = &Descriptor> {
        let (config, list) = match &self.document {
            ManifestOrIndex::Manifest(manifest) => (Some(&manifest.config), &manifest.layers),
            ManifestOrIndex::Index(index) => (None, &index.manifests),
        };
        config.into_iter().chain(list).filter(|child| !is_elsewhere(child))
    }

    fn subject(&self) -> Option<&Descriptor> {
        match &self.document {
            ManifestOrIndex::Manifest(manifest) => manifest.subject.as_ref(),
            ManifestOrIndex::Index(index) => index.subject.as_ref(),
        }
    }

    /// What kind of artifact this is: what it says, else the type of its config.
    ///
    /// Spec: <https://github.com/opencontainers/distribution-spec/blob/main/spec.md#listing-referrers>
    fn artifact_type(&self) -> Option<&str> {
        let (said, config) = match &self.document {
            ManifestOrIndex::Manifest(manifest) => {
                (&manifest.artifact_type, Some(&manifest.config.media_type))
            }
            ManifestOrIndex::Index(index) => (&index.artifact_type, None),
        };
        said.as_ref().filter(|said| !said.is_empty()).or(config).map(String::as_str)
    }

    /// How the list of its subject's referrers shows this manifest.
    fn descriptor(&self) -> Descriptor {
        let annotations = match &self.document {
            ManifestOrIndex::Manifest(manifest) => &manifest.annotations,
            ManifestOrIndex::Index(index) => &index.annotations,
        };
        Descriptor {
            artifact_type: self.artifact_type().map(str::to_owned),
            annotations: annotations.clone(),
            ..Descriptor::new(&self.media_type, self.digest.clone(), self.bytes.len() as u64)
        }
    }

    fn link(&self, absent_children: Vec<Digest>) -> ManifestLink {
        ManifestLink {
            media_type: self.media_type.clone(),
            size_bytes: self.bytes.len() as u64,
            subject: self.subject().map(|subject| subject.digest.clone()),
            artifact_type: self.artifact_type().map(str::to_owned),
            absent_children,
        }
    }

    fn response(&self, repository: &Repository, target: &Target) -> Response {
        let location = format!("/v2/{}/manifests/{}", repository.served.path(), self.digest);
        let mut response = Response::builder()
            .status(StatusCode::CREATED)
            .header(LOCATION, location)
            .header(CONTENT_DIGEST, self.digest.to_string());
        if let Some(subject) = self.subject() {
            response = response.header("oci-subject", subject.digest.to_string());
        }
        for tag in target.tags.iter().filter(|_| target.by_query) {
            response = response.header("oci-tag", tag.as_str());
        }
        finish(response, Body::empty())
    }
}

/// The size of a blob or manifest of this repository.
fn held_size(repository: &Repository, digest: &Digest) -> Result<Option<u64>, StoreError> {
    if let Some(blob) = repository.open(digest)? {
        return Ok(Some(blob.size_bytes));
    }
    Ok(repository.served.manifest(digest)?.map(|link| link.size_bytes))
}

fn is_elsewhere(descriptor: &Descriptor) -> bool {
    let kind = &descriptor.media_type;
    !descriptor.urls.is_empty() || kind.contains(".nondistributable.") || kind.contains(".foreign.")
}
