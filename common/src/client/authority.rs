//! How references and docker's files call the place that a URL leads to.

use url::Url;

/// Host and port as references have them.
pub(super) fn authority(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}
