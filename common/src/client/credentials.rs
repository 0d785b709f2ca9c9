//! What proves to a registry who is asking.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use http::HeaderValue;

use super::helper::{Entry, TOKEN_USER};

/// Credentials for one registry. They are never shown, also not by `{:?}`.
#[derive(Clone, PartialEq, Eq)]
pub enum Credentials {
    /// A user and a password, for Basic or to get a token with.
    Password {
        /// User name.
        username: String,
        /// Password or access key.
        password: String,
    },
    /// An OAuth2 refresh token, to get access tokens with.
    IdentityToken {
        /// The token.
        token: String,
    },
    /// A bearer token, used as it is.
    RegistryToken {
        /// The token.
        token: String,
    },
}

impl Credentials {
    /// The `Authorization` of Basic; only a password has one.
    pub(super) fn basic(&self) -> Option<HeaderValue> {
        let Credentials::Password { username, password } = self else { return None };
        Some(secret("Basic", &BASE64.encode(format!("{username}:{password}"))))
    }

    pub(super) fn from_helper(entry: Entry) -> Option<Self> {
        match entry.username.as_str() {
            "" => None,
            TOKEN_USER => Some(Credentials::IdentityToken { token: entry.secret }),
            _ => Some(Credentials::Password { username: entry.username, password: entry.secret }),
        }
    }

    pub(super) fn to_helper(&self, server: &str) -> Entry {
        let (username, secret) = match self {
            Credentials::Password { username, password } => (username.as_str(), password),
            Credentials::IdentityToken { token } | Credentials::RegistryToken { token } => {
                (TOKEN_USER, token)
            }
        };
        Entry { server_url: server.to_owned(), username: username.to_owned(), secret: secret.clone() }
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Credentials::Password { username, .. } => write!(f, "Password {{ username: {username:?}, .. }}"),
            Credentials::IdentityToken { .. } => f.write_str("IdentityToken"),
            Credentials::RegistryToken { .. } => f.write_str("RegistryToken"),
        }
    }
}

/// An `Authorization` value that the HTTP library does not log. A token that is no header value is sent as an empty
/// one, which the server refuses.
pub(super) fn secret(scheme: &str, value: &str) -> HeaderValue {
    let mut header =
        HeaderValue::from_str(&format!("{scheme} {value}")).unwrap_or_else(|_| HeaderValue::from_static(""));
    header.set_sensitive(true);
    header
}
