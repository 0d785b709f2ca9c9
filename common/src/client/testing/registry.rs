//! A small registry in memory: enough of the protocol for pulls and pushes, and strict about it.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};

use super::{Answer, Request};
use crate::digest::Digest;

/// Shared by the server's closure and the test.
#[derive(Clone, Default)]
pub(crate) struct Registry(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    /// By repository and digest.
    blobs: HashMap<(String, String), Vec<u8>>,
    /// By repository and tag or digest: media type and bytes.
    manifests: HashMap<(String, String), (String, Vec<u8>)>,
    sessions: HashMap<String, Vec<u8>>,
    begun: usize,
    mounted: HashSet<String>,
}

impl Registry {
    pub(crate) fn put_blob(&self, repository: &str, bytes: &[u8]) -> Digest {
        let digest = Digest::sha256(bytes);
        let key = (repository.to_owned(), digest.to_string());
        self.0.lock().unwrap().blobs.insert(key, bytes.to_owned());
        digest
    }

    pub(crate) fn put_manifest(
        &self,
        repository: &str,
        name: &str,
        media_type: &str,
        bytes: &[u8],
    ) -> Digest {
        let digest = Digest::sha256(bytes);
        let mut state = self.0.lock().unwrap();
        for name in [name.to_owned(), digest.to_string()] {
            let entry = (media_type.to_owned(), bytes.to_owned());
            state.manifests.insert((repository.to_owned(), name), entry);
        }
        digest
    }

    pub(crate) fn blob(&self, repository: &str, digest: &Digest) -> Option<Vec<u8>> {
        self.0.lock().unwrap().blobs.get(&(repository.to_owned(), digest.to_string())).cloned()
    }

    pub(crate) fn manifest(&self, repository: &str, name: &str) -> Option<(String, Vec<u8>)> {
        self.0.lock().unwrap().manifests.get(&(repository.to_owned(), name.to_owned())).cloned()
    }

    /// What arrived of a session before its connection was cut.
    pub(crate) fn append(&self, session: &str, bytes: &[u8]) {
        self.0.lock().unwrap().sessions.entry(session.to_owned()).or_default().extend_from_slice(bytes);
    }

    pub(crate) fn forget_sessions(&self) {
        self.0.lock().unwrap().sessions.clear();
    }

    pub(crate) fn sessions_begun(&self) -> usize {
        self.0.lock().unwrap().begun
    }

    pub(crate) fn mounted(&self) -> usize {
        self.0.lock().unwrap().mounted.len()
    }

    pub(crate) fn answer(&self, request: &Request) -> Answer {
        let mut state = self.0.lock().unwrap();
        let Some(path) = request.path().strip_prefix("/v2/") else { return Answer::status(404) };
        if path.is_empty() {
            return Answer::body("{}");
        }
        if let Some((repository, session)) = path.split_once("/blobs/uploads/") {
            return state.upload(request, repository, session);
        }
        if let Some((repository, digest)) = path.split_once("/blobs/") {
            return state.get_blob(request, repository, digest);
        }
        if let Some((repository, name)) = path.split_once("/manifests/") {
            return state.manifest(request, repository, name);
        }
        if let Some(repository) = path.strip_suffix("/tags/list") {
            return state.tags(repository);
        }
        Answer::status(404)
    }
}

impl State {
    fn get_blob(&self, request: &Request, repository: &str, digest: &str) -> Answer {
        let Some(blob) = self.blobs.get(&(repository.to_owned(), digest.to_owned())) else {
            return Answer::error(404, "BLOB_UNKNOWN", "blob unknown to registry");
        };
        match request.header("range").and_then(|r| r.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok())
        {
            Some(start) if start < blob.len() => {
                let mut answer = Answer::body(&blob[start..]);
                answer.status = 206;
                answer.header("Content-Range", format!("bytes {start}-{}/{}", blob.len() - 1, blob.len()))
            }
            _ => Answer::body(blob.as_slice()),
        }
    }

    fn manifest(&mut self, request: &Request, repository: &str, name: &str) -> Answer {
        let key = (repository.to_owned(), name.to_owned());
        if request.method == "PUT" {
            let digest = Digest::sha256(&request.body);
            let media_type = request.header("content-type").unwrap().to_owned();
            if let Some(missing) = self.missing_child(repository, &request.body) {
                return Answer::error(400, "MANIFEST_BLOB_UNKNOWN", &missing);
            }
            for name in [name.to_owned(), digest.to_string()] {
                self.manifests.insert((key.0.clone(), name), (media_type.clone(), request.body.clone()));
            }
            return Answer::status(201).header("Docker-Content-Digest", digest);
        }
        let Some((media_type, bytes)) = self.manifests.get(&key) else {
            return Answer::error(404, "MANIFEST_UNKNOWN", "manifest unknown");
        };
        Answer::body(bytes.as_slice())
            .header("Content-Type", media_type)
            .header("Docker-Content-Digest", Digest::sha256(bytes))
    }

    fn missing_child(&self, repository: &str, manifest: &[u8]) -> Option<String> {
        let manifest: serde_json::Value = serde_json::from_slice(manifest).unwrap();
        let layers = manifest["layers"].as_array().into_iter().flatten();
        let mut blobs = layers.chain(manifest.get("config")).map(|child| child["digest"].as_str().unwrap());
        let mut children = manifest["manifests"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|child| child["digest"].as_str().unwrap());
        let key = |digest: &&str| (repository.to_owned(), (*digest).to_owned());
        blobs
            .find(|digest| !self.blobs.contains_key(&key(digest)))
            .or_else(|| children.find(|digest| !self.manifests.contains_key(&key(digest))))
            .map(str::to_owned)
    }

    fn tags(&self, repository: &str) -> Answer {
        let held = self.manifests.keys().filter(|(r, name)| r == repository && !name.contains(':'));
        let mut tags: Vec<&str> = held.map(|(_, tag)| tag.as_str()).collect();
        tags.sort_unstable();
        Answer::body(serde_json::json!({ "name": repository, "tags": tags }).to_string())
    }

    fn upload(&mut self, request: &Request, repository: &str, session: &str) -> Answer {
        let location = format!("/v2/{repository}/blobs/uploads/{session}?_state=x");
        let progress = |held: usize| format!("0-{}", held.saturating_sub(1));
        match request.method.as_str() {
            "POST" => self.begin(request, repository),
            _ if !self.sessions.contains_key(session) => {
                Answer::error(404, "BLOB_UPLOAD_UNKNOWN", "blob upload unknown to registry")
            }
            "GET" => Answer::status(204)
                .header("Location", location)
                .header("Range", progress(self.sessions[session].len())),
            "PATCH" => {
                let held = self.sessions.get_mut(session).unwrap();
                let range = request.header("content-range").unwrap();
                if range.split('-').next().unwrap().parse() != Ok(held.len()) {
                    return Answer::status(416).header("Range", progress(held.len()));
                }
                held.extend_from_slice(&request.body);
                Answer::status(202).header("Location", location).header("Range", progress(held.len()))
            }
            "PUT" => self.finish(request, repository, session),
            _ => Answer::status(405),
        }
    }

    fn begin(&mut self, request: &Request, repository: &str) -> Answer {
        if let (Some(digest), Some(from)) = (request.query("mount"), request.query("from"))
            && let Some(blob) = self.blobs.get(&(from, digest.clone())).cloned()
        {
            self.mounted.insert(digest.clone());
            self.blobs.insert((repository.to_owned(), digest.clone()), blob);
            return Answer::status(201).header("Location", format!("/v2/{repository}/blobs/{digest}"));
        }
        self.begun += 1;
        let session = format!("s{}", self.begun);
        self.sessions.insert(session.clone(), Vec::new());
        Answer::status(202).header("Location", format!("/v2/{repository}/blobs/uploads/{session}?_state=x"))
    }

    fn finish(&mut self, request: &Request, repository: &str, session: &str) -> Answer {
        let mut blob = self.sessions.remove(session).unwrap();
        blob.extend_from_slice(&request.body);
        let digest = request.query("digest").unwrap();
        if Digest::sha256(&blob).to_string() != digest {
            return Answer::error(400, "DIGEST_INVALID", "provided digest did not match uploaded content");
        }
        self.blobs.insert((repository.to_owned(), digest.clone()), blob);
        Answer::status(201).header("Docker-Content-Digest", digest)
    }
}
