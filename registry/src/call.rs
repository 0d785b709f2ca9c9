//! What a handler is given: the server's parts, and the request without its body.

use std::sync::Arc;

use http::HeaderMap;
use http::header::AsHeaderName;

use crate::auth::{Action, Authorized, Gate, Resource, Subject};
use crate::cache::Cache;
use crate::error::Error;
use crate::intake::Intake;
use crate::pieces::Pool;

/// What all requests of one server share.
pub(crate) struct App {
    pub(crate) gate: Gate,
    pub(crate) pieces: Arc<Pool>,
    pub(crate) manifests: Cache,
    pub(crate) intake: Intake,
    /// Whether manifests may be pushed before what they refer to.
    pub(crate) absent_children: bool,
}

/// A request without its body.
pub(crate) struct Call<'a> {
    pub(crate) app: &'a App,
    pub(crate) headers: &'a HeaderMap,
    pub(crate) query: Query,
    pub(crate) subject: Subject,
}

impl Call<'_> {
    /// Asks the gate on behalf of whoever sent this request.
    ///
    /// # Errors
    /// Those of [`Gate::authorize`].
    pub(crate) fn authorize<R: Resource, A: Action>(
        &self,
        name: R::Name<'_>,
    ) -> Result<Authorized<R, A>, Error> {
        self.app.gate.authorize(&self.subject, name)
    }

    /// A header as text, when it is there and is text.
    pub(crate) fn header(&self, name: impl AsHeaderName) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

/// The query of a request, decoded. Parameters that nobody asks for, such as `ns`, are no fault.
#[derive(Debug)]
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    /// Decodes the text behind the `?`.
    pub(crate) fn parse(text: Option<&str>) -> Self {
        let pairs = url::form_urlencoded::parse(text.unwrap_or_default().as_bytes());
        Query(pairs.map(|(name, value)| (name.into_owned(), value.into_owned())).collect())
    }

    /// The first value of parameter `name`.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.all(name).next()
    }

    /// All values of parameter `name`.
    pub(crate) fn all<'q>(&'q self, name: &str) -> impl Iterator<Item = &'q str> {
        self.0.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// Runs store calls on a thread where they may block.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(panicked) => Err(Error::Internal(Box::new(panicked))),
    }
}
