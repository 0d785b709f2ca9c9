//! Who asks, and what they may do.
//!
//! A handler cannot touch a repository without an [`Authorized`] value for it, and [`Gate::authorize`] is the only
//! place that makes one. It checks the name and the policy; what belongs to the repository is then asked of the
//! repository itself, so a digest alone opens nothing.
//!
//! Without a user file everybody is anonymous and may do everything; with one, everybody in it may do everything and
//! nobody else anything.

use std::marker::PhantomData;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use common::digest::Digest;
use common::reference::RepositoryPath;
use common::store::{Blob, ServedRepository, Store, StoreError};
use http::HeaderMap;
use http::header::AUTHORIZATION;

use crate::error::Error;
use crate::htpasswd::{Htpasswd, HtpasswdError};

/// Who asks. Only [`Gate::identify`] makes one, from credentials that were right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Subject {
    user: Option<Box<str>>,
}

impl Subject {
    /// The user's name; empty for anonymous, which no user can be called.
    pub(crate) fn name(&self) -> &str {
        self.user.as_deref().unwrap_or_default()
    }
}

/// What may be done with a resource. A type each, so that a handler's signature says what it needs.
pub(crate) trait Action {}

macro_rules! actions {
    ($($(#[$doc:meta])* $name:ident),*) => {$(
        $(#[$doc])*
        #[derive(Debug)]
        pub(crate) enum $name {}
        impl Action for $name {}
    )*};
}
actions!(
    /// Read content and listings.
    Pull,
    /// Add content, and point tags at it.
    Push,
    /// Take content and tags away.
    Delete
);

/// What is asked for: one repository, or the registry as such.
pub(crate) trait Resource: Sized {
    /// How a request names it.
    type Name<'a>: Copy;

    /// The resource of that name, which need not exist.
    ///
    /// # Errors
    /// [`Error::NameInvalid`] when it cannot be a name.
    fn named(store: &Store, name: Self::Name<'_>) -> Result<Self, Error>;
}

/// A repository of this registry.
#[derive(Debug)]
pub(crate) struct Repository {
    /// Its records.
    pub(crate) served: ServedRepository,
    /// Where its bytes are, and those of others: [`Repository::open`] asks whether they are its own.
    pub(crate) store: Store,
}

impl Repository {
    /// A blob of this repository; `None` also when only others hold it.
    ///
    /// # Errors
    /// [`StoreError`] when the store fails.
    pub(crate) fn open(&self, digest: &Digest) -> Result<Option<Blob>, StoreError> {
        if self.served.has_ref(digest)? { self.store.open_blob(digest) } else { Ok(None) }
    }
}

impl Resource for Repository {
    type Name<'a> = &'a str;

    fn named(store: &Store, name: &str) -> Result<Self, Error> {
        let path: RepositoryPath = name.parse().map_err(Error::NameInvalid)?;
        Ok(Repository { served: store.served(&path), store: store.clone() })
    }
}

/// The registry as such: that it is there, and what it is called by.
#[derive(Debug)]
pub(crate) struct Registry {
    /// For the list of repositories.
    pub(crate) store: Store,
}

impl Resource for Registry {
    type Name<'a> = ();

    fn named(store: &Store, (): ()) -> Result<Self, Error> {
        Ok(Registry { store: store.clone() })
    }
}

/// Proof that `subject` may do `A` with `resource`.
#[derive(Debug)]
pub(crate) struct Authorized<R, A> {
    resource: R,
    subject: Subject,
    action: PhantomData<A>,
}

impl<R, A> Authorized<R, A> {
    /// Who was allowed.
    pub(crate) fn subject(&self) -> &Subject {
        &self.subject
    }
}

impl<R, A> std::ops::Deref for Authorized<R, A> {
    type Target = R;

    fn deref(&self) -> &R {
        &self.resource
    }
}

/// Decides who comes in.
pub(crate) struct Gate {
    store: Store,
    users: Option<Htpasswd>,
}

impl Gate {
    /// A gate that knows the users in the file `htpasswd`, or that stands open when there is none.
    pub(crate) fn new(store: Store, htpasswd: Option<&Path>) -> Result<Self, HtpasswdError> {
        Ok(Gate { store, users: htpasswd.map(Htpasswd::open).transpose()? })
    }

    /// Who sent `headers`. Credentials that nobody asked for are not looked at.
    ///
    /// # Errors
    /// [`Error::WrongCredentials`].
    pub(crate) async fn identify(&self, headers: &HeaderMap) -> Result<Subject, Error> {
        let (Some(users), Some(header)) = (&self.users, headers.get(AUTHORIZATION)) else {
            return Ok(Subject { user: None });
        };
        let text = header.to_str().ok();
        let (user, password) = text.and_then(basic_credentials).ok_or(Error::WrongCredentials)?;
        if !users.verify(&user, &password).await {
            return Err(Error::WrongCredentials);
        }
        Ok(Subject { user: Some(user.into()) })
    }

    /// Lets `subject` do `A` with the resource called `name`, or not. This is the only maker of [`Authorized`].
    ///
    /// # Errors
    /// [`Error::Unauthorized`] comes before anything else: who may not come in learns nothing about names.
    pub(crate) fn authorize<R: Resource, A: Action>(
        &self,
        subject: &Subject,
        name: R::Name<'_>,
    ) -> Result<Authorized<R, A>, Error> {
        if self.users.is_some() && subject.user.is_none() {
            return Err(Error::Unauthorized);
        }
        let resource = R::named(&self.store, name)?;
        Ok(Authorized { resource, subject: subject.clone(), action: PhantomData })
    }
}

/// Reads `Basic <base64 of user:password>`.
///
/// Spec: <https://www.rfc-editor.org/rfc/rfc7617>
fn basic_credentials(header: &str) -> Option<(String, String)> {
    let (scheme, token) = header.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let text = String::from_utf8(STANDARD.decode(token.trim()).ok()?).ok()?;
    let (user, password) = text.split_once(':')?;
    (!user.is_empty()).then(|| (user.to_owned(), password.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_first_colon_divides_user_from_password() {
        let header = |text: &str| format!("basic {}", STANDARD.encode(text));
        assert_eq!(basic_credentials(&header("ann:a:b")), Some(("ann".into(), "a:b".into())));
        assert_eq!(basic_credentials(&header(":b")), None);
        assert_eq!(basic_credentials(&header("ann")), None);
        assert_eq!(basic_credentials("Bearer abc"), None);
        assert_eq!(basic_credentials("Basic ???"), None);
    }
}
