//! Manifests, tags and the catalog.
//!
//! Spec: <https://github.com/opencontainers/distribution-spec/blob/main/spec.md#pulling-manifests>,
//! <https://github.com/opencontainers/distribution-spec/blob/main/spec.md#content-discovery>

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE, LINK};
use http::{Method, StatusCode};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use url::Url;

use super::Client;
use super::challenge::Scopes;
use super::error::{Cause, ClientError};
use super::host::Host;
use super::wire::{Body, Call, Reply};
use crate::digest::{Algorithm, Digest};
use crate::oci::{Descriptor, MANIFEST_LIMIT_BYTES, media_type};
use crate::reference::{Repository, Tag};

/// One page of tags or names may have this many bytes.
const LIST_LIMIT_BYTES: u64 = 16 * 1024 * 1024;
/// A registry whose list goes on for ever is not believed.
const PAGE_LIMIT: usize = 10_000;

const DIGEST_HEADER: &str = "docker-content-digest";

/// The kinds that are read; schema 1 is not among them, so that registries convert or refuse.
const ACCEPTED: [&str; 4] = [
    media_type::OCI_INDEX,
    media_type::DOCKER_MANIFEST_LIST,
    media_type::OCI_MANIFEST,
    media_type::DOCKER_MANIFEST,
];

/// A manifest or index as it came; the digest is that of the bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    /// What the registry called it, without parameters; `None` when it did not say or said `application/json`.
    pub media_type: Option<String>,
    /// Digest of `bytes`.
    pub digest: Digest,
    /// As they came.
    pub bytes: Bytes,
}

impl Client {
    /// Gets the manifest that `identifier` (a tag or a digest) names. Its bytes match their digest, and the one that
    /// the registry tells.
    ///
    /// # Errors
    /// When no endpoint has it; the error is that of the registry itself, not of a mirror.
    pub async fn manifest(&self, repository: &Repository, identifier: &str) -> Result<Fetched, ClientError> {
        let endpoints = self.endpoints(repository).await?;
        let (registry, mirrors) = endpoints.split_last().expect("the registry itself is always there");
        for mirror in mirrors {
            match mirror.manifest(repository, identifier).await {
                Ok(fetched) => return Ok(fetched),
                Err(error) => tracing::info!(%error, "the mirror does not serve the manifest"),
            }
        }
        registry.manifest(repository, identifier).await
    }

    /// Asks for a manifest without getting it; `None` when there is none. The registry's word is taken for it.
    ///
    /// # Errors
    /// When the registry cannot be asked, or does not tell the digest.
    pub async fn head_manifest(
        &self,
        repository: &Repository,
        identifier: &str,
    ) -> Result<Option<Descriptor>, ClientError> {
        let host = self.host(repository).await?;
        let call =
            accepting(Call::new(Method::HEAD, host.url(&manifest_path(repository, identifier)).await?));
        let reply = host.send(call, Scopes::pull(repository.path())).await?;
        if reply.status() == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        let reply = reply.expect(&[StatusCode::OK]).await?;
        let digest = told_digest(&reply).ok_or_else(|| reply.broken("the answer tells no digest"))?;
        let size = reply.content_length().ok_or_else(|| reply.broken("the answer tells no length"))?;
        Ok(Some(Descriptor::new(&told_type(&reply).unwrap_or_default(), digest, size)))
    }

    /// Puts a manifest under a tag or its digest.
    ///
    /// # Errors
    /// When the registry does not take it, or says that it got other bytes.
    pub async fn put_manifest(
        &self,
        repository: &Repository,
        identifier: &str,
        media_type: &str,
        bytes: Bytes,
    ) -> Result<Digest, ClientError> {
        let host = self.host(repository).await?;
        let digest = Digest::sha256(&bytes);
        let call = Call::new(Method::PUT, host.url(&manifest_path(repository, identifier)).await?)
            .header(CONTENT_TYPE, media_type)
            .body(Body::Bytes(bytes));
        let reply = host.send(call, Scopes::push(repository.path())).await?;
        // The spec says 201; others of the kind are seen in the wild.
        let reply = reply.expect(&[StatusCode::CREATED, StatusCode::OK, StatusCode::ACCEPTED]).await?;
        match told_digest(&reply) {
            Some(told) if told.algorithm() == digest.algorithm() && told != digest => {
                Err(reply.line.failed(Cause::Digest { expected: digest, actual: told }))
            }
            _ => Ok(digest),
        }
    }

    /// All tags of a repository, in the registry's order.
    ///
    /// # Errors
    /// When the registry does not list them.
    pub async fn tags(&self, repository: &Repository) -> Result<Vec<Tag>, ClientError> {
        #[derive(Deserialize)]
        struct Page {
            #[serde(default)]
            tags: Option<Vec<String>>,
        }
        let host = self.host(repository).await?;
        let path = format!("{}/tags/list", repository.path());
        let pages: Vec<Page> = host.pages(&path, Scopes::pull(repository.path())).await?;
        let tags = pages.into_iter().flat_map(|page| page.tags.unwrap_or_default());
        // What is no tag could not be asked for either.
        Ok(tags.filter_map(|tag| tag.parse().ok()).collect())
    }

    /// All repositories of a registry, in its order.
    ///
    /// # Errors
    /// When the registry does not list them; many do not.
    pub async fn catalog(&self, registry: &str) -> Result<Vec<String>, ClientError> {
        #[derive(Deserialize)]
        struct Page {
            #[serde(default)]
            repositories: Option<Vec<String>>,
        }
        let host = self.host_named(registry).await?;
        let pages: Vec<Page> = host.pages("_catalog", Scopes::catalog()).await?;
        Ok(pages.into_iter().flat_map(|page| page.repositories.unwrap_or_default()).collect())
    }
}

impl Host {
    async fn manifest(&self, repository: &Repository, identifier: &str) -> Result<Fetched, ClientError> {
        let call = accepting(Call::new(Method::GET, self.url(&manifest_path(repository, identifier)).await?));
        let reply = self.send(call, Scopes::pull(repository.path())).await?.expect(&[StatusCode::OK]).await?;
        let line = reply.line.clone();
        let (told, media_type) = (told_digest(&reply), told_type(&reply));
        let bytes = reply.bytes(MANIFEST_LIMIT_BYTES).await?;

        let wanted = identifier.parse::<Digest>().ok();
        for expected in [&wanted, &told].into_iter().flatten() {
            let actual = expected.algorithm().digest(&bytes);
            if actual != *expected {
                return Err(line.failed(Cause::Digest { expected: expected.clone(), actual }));
            }
        }
        let digest = wanted.or(told).unwrap_or_else(|| Algorithm::Sha256.digest(&bytes));
        Ok(Fetched { media_type, digest, bytes })
    }

    /// Follows `Link: <…>; rel="next"`.
    async fn pages<T: DeserializeOwned>(&self, path: &str, scopes: Scopes) -> Result<Vec<T>, ClientError> {
        let mut pages = Vec::new();
        let mut next = Some(self.url(path).await?);
        while let Some(url) = next {
            let reply = self.send(Call::new(Method::GET, url), scopes.clone()).await?;
            let reply = reply.expect(&[StatusCode::OK]).await?;
            next = next_page(&reply)?;
            let malformed = reply.broken("the list is not JSON of the right shape");
            if pages.len() == PAGE_LIMIT {
                return Err(reply.broken("the list does not end"));
            }
            let body = reply.bytes(LIST_LIMIT_BYTES).await?;
            pages.push(serde_json::from_slice(&body).map_err(|_| malformed)?);
        }
        Ok(pages)
    }
}

fn next_page(reply: &Reply) -> Result<Option<Url>, ClientError> {
    let Some(link) = reply.header(LINK.as_str()) else { return Ok(None) };
    let target = link.split_once('<').and_then(|(_, rest)| rest.split_once('>')).map(|(target, _)| target);
    let url = target.and_then(|target| reply.url.join(target).ok());
    url.map(Some).ok_or_else(|| reply.broken("the Link to the next page is malformed"))
}

fn manifest_path(repository: &Repository, identifier: &str) -> String {
    format!("{}/manifests/{identifier}", repository.path())
}

fn accepting(call: Call<'_>) -> Call<'_> {
    ACCEPTED.into_iter().fold(call, |call, media_type| call.header(ACCEPT, media_type))
}

/// A digest of an algorithm that is not known here cannot be checked, and is passed over.
fn told_digest(reply: &Reply) -> Option<Digest> {
    reply.header(DIGEST_HEADER)?.parse().ok()
}

fn told_type(reply: &Reply) -> Option<String> {
    let told = reply.header(CONTENT_TYPE.as_str())?.split(';').next()?.trim();
    let says_nothing = matches!(told, "" | "application/json" | "text/plain" | "application/octet-stream");
    (!says_nothing).then(|| told.to_owned())
}
