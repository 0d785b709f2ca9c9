//! `login`: whether a registry takes a user and a password.

use http::{Method, StatusCode};

use super::Client;
use super::auth::Source;
use super::challenge::Scopes;
use super::credentials::Credentials;
use super::error::ClientError;
use super::wire::Call;

impl Client {
    /// Tries credentials at `registry` (`docker.io`, `localhost:5000`). Returns what to keep for later: the identity
    /// token where the registry gave one in exchange, else the credentials themselves.
    ///
    /// A registry that lets everybody in does not look at them, and takes any, as with docker.
    ///
    /// # Errors
    /// When the registry refuses them or cannot be asked.
    pub async fn login(&self, registry: &str, credentials: Credentials) -> Result<Credentials, ClientError> {
        let host = self.connect(registry, Source::Given(credentials.clone())).await?;
        let call = Call::new(Method::GET, host.url("").await?);
        host.send(call, Scopes::none()).await?.expect(&[StatusCode::OK]).await?;
        let exchanged = host.authorizer.refresh_token().map(|token| Credentials::IdentityToken { token });
        Ok(exchanged.unwrap_or(credentials))
    }

    /// Asks whether a registry is there and lets us in, with the credentials on file.
    ///
    /// # Errors
    /// When it does not, or cannot be asked.
    pub async fn ping(&self, registry: &str) -> Result<(), ClientError> {
        let host = self.host_named(registry).await?;
        let call = Call::new(Method::GET, host.url("").await?);
        host.send(call, Scopes::none()).await?.expect(&[StatusCode::OK]).await.map(drop)
    }
}
