//! A server, a client, and content to send.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use common::digest::{Algorithm, Digest};
use common::oci::media_type::{OCI_CONFIG, OCI_INDEX, OCI_LAYER, OCI_MANIFEST};
use common::store::{CheckOptions, Store};
use registry::{ServeError, ServeOptions, bind};
use reqwest::{Client, Method, RequestBuilder, Response, StatusCode};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// A server of a store of its own.
pub(crate) struct World {
    pub(crate) folder: TempDir,
    pub(crate) store: Store,
    pub(crate) address: SocketAddr,
    client: Client,
    base: String,
    credentials: Option<(String, String)>,
    stop: oneshot::Sender<()>,
    served: JoinHandle<Result<(), ServeError>>,
}

impl World {
    pub(crate) async fn start() -> World {
        World::start_with(|_, _| {}).await
    }

    /// A world whose server has other options; `change` may put files into the folder.
    pub(crate) async fn start_with(change: impl FnOnce(&mut ServeOptions, &Path)) -> World {
        World::start_in(tempfile::tempdir().unwrap(), change).await
    }

    /// A world upon what an earlier one left in `folder`.
    pub(crate) async fn start_in(folder: TempDir, change: impl FnOnce(&mut ServeOptions, &Path)) -> World {
        let store = Store::open(&folder.path().join("store")).unwrap();
        let mut options = ServeOptions::new("127.0.0.1:0".parse().unwrap());
        change(&mut options, folder.path());
        let scheme = if options.tls.is_some() { "https" } else { "http" };
        let server = bind(store.clone(), &options).unwrap();
        let address = server.address();
        let (stop, stopped) = oneshot::channel();
        let served = tokio::spawn(server.serve(async {
            let _ = stopped.await;
        }));
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = Client::builder().no_proxy().danger_accept_invalid_certs(true).build().unwrap();
        let base = format!("{scheme}://{address}");
        World { folder, store, address, client, base, credentials: None, stop, served }
    }

    /// From now on requests come from this user; from nobody with `None`.
    pub(crate) fn become_user(&mut self, user: Option<(&str, &str)>) {
        self.credentials = user.map(|(user, password)| (user.to_owned(), password.to_owned()));
    }

    /// A request; `path` may also be a relative `Location` of the server.
    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.client.request(method, format!("{}{path}", self.base));
        match &self.credentials {
            Some((user, password)) => request.basic_auth(user, Some(password)),
            None => request,
        }
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        send(self.request(Method::GET, path)).await
    }

    pub(crate) async fn head(&self, path: &str) -> Answer {
        send(self.request(Method::HEAD, path)).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Answer {
        send(self.request(Method::DELETE, path)).await
    }

    pub(crate) async fn post(&self, path: &str) -> Answer {
        send(self.request(Method::POST, path).header("content-length", "0")).await
    }

    pub(crate) async fn put(&self, path: &str, body: impl Into<Vec<u8>>) -> Answer {
        send(self.request(Method::PUT, path).body(body.into())).await
    }

    /// A chunk of an upload whose first byte stands at `start`.
    pub(crate) async fn patch(&self, path: &str, start: usize, body: &[u8]) -> Answer {
        let range = format!("{start}-{}", start + body.len() - 1);
        send(self.request(Method::PATCH, path).header("content-range", range).body(body.to_vec())).await
    }

    /// Pushes a manifest of the given type by tag or digest, with an optional query behind it.
    pub(crate) async fn put_manifest(&self, name: &str, reference: &str, kind: &str, body: &[u8]) -> Answer {
        let path = format!("/v2/{name}/manifests/{reference}");
        send(self.request(Method::PUT, &path).header("content-type", kind).body(body.to_vec())).await
    }

    /// Begins an upload and answers its location.
    pub(crate) async fn begin(&self, name: &str) -> String {
        let answer = self.post(&format!("/v2/{name}/blobs/uploads/")).await;
        answer.is(StatusCode::ACCEPTED);
        answer.header("location").to_owned()
    }

    /// Pushes a blob, which has to work.
    pub(crate) async fn push_blob(&self, name: &str, bytes: &[u8]) -> Digest {
        let digest = Digest::sha256(bytes);
        let location = self.begin(name).await;
        self.put(&format!("{location}?digest={digest}"), bytes).await.is(StatusCode::CREATED);
        digest
    }

    /// Pushes a config, a layer and a manifest of them under `tag`, which has to work.
    pub(crate) async fn push_image(&self, name: &str, tag: &str, layer: &[u8]) -> Image {
        let image = Image::new(layer);
        self.push_blob(name, CONFIG).await;
        self.push_blob(name, layer).await;
        self.put_manifest(name, tag, OCI_MANIFEST, &image.manifest).await.is(StatusCode::CREATED);
        image
    }

    /// Sends bytes as they are and answers what comes back until the server closes.
    pub(crate) async fn raw(&self, request: &[u8]) -> String {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(request).await.unwrap();
        let mut answer = Vec::new();
        // A reset after the answer is the server's right.
        let _ = stream.read_to_end(&mut answer).await;
        String::from_utf8_lossy(&answer).into_owned()
    }

    /// Stops the server and verifies the store.
    pub(crate) async fn end(self) {
        let store = self.stop().await;
        let report = store.check(&CheckOptions::default()).unwrap();
        assert!(report.faults.is_empty(), "{:#?}", report.faults);
    }

    /// Stops the server; the folder goes with what this returns.
    pub(crate) async fn stop(self) -> StoppedStore {
        let World { folder, store, client, stop, served, .. } = self;
        drop(client);
        stop.send(()).expect("the server runs");
        served.await.unwrap().unwrap();
        assert!(store.servers().unwrap().is_empty(), "the record of the server is gone");
        StoppedStore { store, folder }
    }
}

/// A store after its server.
pub(crate) struct StoppedStore {
    store: Store,
    pub(crate) folder: TempDir,
}

impl std::ops::Deref for StoppedStore {
    type Target = Store;

    fn deref(&self) -> &Store {
        &self.store
    }
}

/// Asks until a condition holds that nothing announces, 10 s at most.
pub(crate) async fn until(mut condition: impl AsyncFnMut() -> bool) {
    for _ in 0..1000 {
        if condition().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("waited for 10 s");
}

/// A response, read whole.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: reqwest::header::HeaderMap,
    pub(crate) body: Vec<u8>,
}

pub(crate) async fn send(request: RequestBuilder) -> Answer {
    let response: Response = request.send().await.unwrap();
    let (status, headers) = (response.status(), response.headers().clone());
    Answer { status, headers, body: response.bytes().await.unwrap().to_vec() }
}

impl Answer {
    #[track_caller]
    pub(crate) fn is(&self, status: StatusCode) -> &Self {
        assert_eq!(self.status, status, "{}", String::from_utf8_lossy(&self.body));
        self
    }

    /// An error of this status and spec code.
    #[track_caller]
    pub(crate) fn fails(&self, status: u16, code: &str) -> &Self {
        assert_eq!(self.status.as_u16(), status, "{}", String::from_utf8_lossy(&self.body));
        assert_eq!(self.header("content-type"), "application/json");
        let body = self.json();
        assert_eq!(body["errors"][0]["code"], code, "{body}");
        assert!(body["errors"][0]["message"].as_str().is_some_and(|message| !message.is_empty()));
        self
    }

    /// The value of a header that has to be there.
    #[track_caller]
    pub(crate) fn header(&self, name: &str) -> &str {
        let value = self.headers.get(name).unwrap_or_else(|| panic!("{} without {name}", self.status));
        value.to_str().unwrap()
    }

    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    /// Location and query of the next page.
    pub(crate) fn next_page(&self) -> Option<String> {
        let link = self.headers.get("link")?.to_str().unwrap();
        let (url, relation) = link.strip_prefix('<').unwrap().split_once(">; ").unwrap();
        assert_eq!(relation, "rel=\"next\"");
        Some(url.to_owned())
    }
}

pub(crate) const CONFIG: &[u8] =
    br#"{"architecture":"amd64","os":"linux","config":{},"rootfs":{"type":"layers","diff_ids":[]}}"#;

/// An image of one layer.
pub(crate) struct Image {
    pub(crate) manifest: Vec<u8>,
    pub(crate) digest: Digest,
    pub(crate) layer: Digest,
}

impl Image {
    pub(crate) fn new(layer: &[u8]) -> Image {
        let manifest = manifest(layer).to_string().into_bytes();
        Image { digest: Digest::sha256(&manifest), manifest, layer: Digest::sha256(layer) }
    }
}

/// The manifest of an image of one layer; its config is [`CONFIG`].
pub(crate) fn manifest(layer: &[u8]) -> Value {
    json!({
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": descriptor(OCI_CONFIG, CONFIG),
        "layers": [descriptor(OCI_LAYER, layer)],
    })
}

/// An index of manifests.
pub(crate) fn index(manifests: &[&[u8]]) -> Value {
    let manifests: Vec<_> = manifests.iter().map(|manifest| descriptor(OCI_MANIFEST, manifest)).collect();
    json!({ "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": manifests })
}

pub(crate) fn descriptor(kind: &str, bytes: &[u8]) -> Value {
    json!({ "mediaType": kind, "digest": Digest::sha256(bytes), "size": bytes.len() })
}

pub(crate) fn sha512(bytes: &[u8]) -> Digest {
    Algorithm::Sha512.digest(bytes)
}

/// Bytes that do not repeat, the same for the same seed.
pub(crate) fn noise(seed: u64, size_bytes: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    (0..size_bytes.div_ceil(8)).flat_map(|_| next()).take(size_bytes).collect()
}
