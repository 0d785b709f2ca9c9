//! `/v2/<name>/tags/list`.
//!
//! Spec: <https://github.com/opencontainers/distribution-spec/blob/main/spec.md#listing-tags>

use axum::response::Response;
use serde_json::json;

use crate::auth::{Authorized, Pull, Repository};
use crate::call::{Call, blocking};
use crate::catalog::listing;
use crate::error::Error;
use crate::page::Page;

/// end-8a and end-8b.
pub(crate) async fn list(
    repository: Authorized<Repository, Pull>,
    call: &Call<'_>,
) -> Result<Response, Error> {
    let page = Page::parse(&call.query)?;
    blocking(move || {
        let served = &repository.served;
        let name = served.path();
        let mut tags = served.tags(page.last.as_deref(), Some(page.limit + 1))?;
        if tags.is_empty() && !served.exists()? {
            return Err(Error::NameUnknown(name.to_string()));
        }
        let next = page.cut(&format!("/v2/{name}/tags/list"), &mut tags);
        Ok(listing(&json!({ "name": name, "tags": tags }), next))
    })
    .await
}
