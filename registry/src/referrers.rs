//! `/v2/<name>/referrers/<digest>`: which manifests have that one as their subject.
//!
//! Spec: <https://github.com/opencontainers/distribution-spec/blob/main/spec.md#listing-referrers>

use axum::body::Body;
use axum::response::Response;
use common::digest::Digest;
use common::oci::media_type::OCI_INDEX;
use common::oci::{Descriptor, MANIFEST_LIMIT_BYTES};
use common::store::ServedRepository;
use http::header::{CONTENT_TYPE, LINK};
use serde_json::json;

use crate::auth::{Authorized, Pull, Repository};
use crate::blobs::finish;
use crate::call::{Call, blocking};
use crate::error::Error;
use crate::page::link;

/// How many records are read at a time.
const BATCH: usize = LIMIT;

/// A page holds at most this many descriptors …
const LIMIT: usize = 1000;

/// … and about this many bytes: the answer is an index, and clients bound those as they bound manifests.
const LIMIT_BYTES: usize = MANIFEST_LIMIT_BYTES as usize / 2;

/// end-12a and end-12b. A subject that is not known has no referrers; that is no fault.
pub(crate) async fn list(
    repository: Authorized<Repository, Pull>,
    digest: &str,
    call: &Call<'_>,
) -> Result<Response, Error> {
    let subject: Digest = digest.parse()?;
    let artifact_type = call.query.get("artifactType").map(str::to_owned);
    let last = call.query.get("last").map(str::parse).transpose()?;
    blocking(move || {
        let filter = artifact_type.as_deref();
        let page = Page::read(&repository.served, &subject, filter, last)?;
        let mut response = Response::builder().header(CONTENT_TYPE, OCI_INDEX);
        if filter.is_some() {
            response = response.header("oci-filters-applied", "artifactType");
        }
        if let Some(last) = &page.next {
            let path = format!("/v2/{}/referrers/{subject}", repository.served.path());
            let last = last.to_string();
            let also = filter.map(|filter| ("artifactType", filter));
            let query: Vec<_> = also.into_iter().chain([("last", last.as_str())]).collect();
            response = response.header(LINK, link(&path, &query));
        }
        let index = json!({ "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": page.descriptors });
        Ok(finish(response, Body::from(index.to_string())))
    })
    .await
}

/// Some of the referrers of a subject.
struct Page {
    descriptors: Vec<Descriptor>,
    /// The last referrer that was looked at, when there may be more.
    next: Option<Digest>,
}

impl Page {
    fn read(
        repository: &ServedRepository,
        subject: &Digest,
        artifact_type: Option<&str>,
        mut last: Option<Digest>,
    ) -> Result<Page, Error> {
        let mut descriptors = Vec::new();
        let mut size_bytes = 0;
        loop {
            let batch = repository.referrers(subject, last.as_ref(), Some(BATCH))?;
            if batch.is_empty() {
                return Ok(Page { descriptors, next: None });
            }
            for descriptor in batch {
                last = Some(descriptor.digest.clone());
                if artifact_type.is_some_and(|wanted| descriptor.artifact_type.as_deref() != Some(wanted)) {
                    continue;
                }
                size_bytes += about_bytes(&descriptor);
                descriptors.push(descriptor);
                if descriptors.len() >= LIMIT || size_bytes >= LIMIT_BYTES {
                    return Ok(Page { descriptors, next: last });
                }
            }
        }
    }
}

/// About how long a descriptor is as JSON; only annotations can be long.
fn about_bytes(descriptor: &Descriptor) -> usize {
    512 + descriptor.annotations.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>()
}
