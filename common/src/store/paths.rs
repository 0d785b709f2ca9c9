//! Every path of the store is built here and nowhere else.

use std::path::{Path, PathBuf};

use crate::digest::{Algorithm, Digest};
use crate::reference::{Repository, RepositoryPath, Tag};

/// The folders of one store. Pure arithmetic: nothing is looked up.
#[derive(Debug, Clone)]
pub struct Paths {
    root: PathBuf,
}

impl Paths {
    /// The paths of the store at `root`.
    pub fn new(root: &Path) -> Self {
        Paths { root: root.to_owned() }
    }

    /// The store's root folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// `format`: version of this tree.
    pub fn format(&self) -> PathBuf {
        self.root.join("format")
    }

    /// `secret`: proof that somebody may read this store.
    pub fn secret(&self) -> PathBuf {
        self.root.join("secret")
    }

    /// `blobs/`
    pub fn blobs(&self) -> PathBuf {
        self.root.join("blobs")
    }

    /// `blobs/<alg>/<hh>/<hex>`
    pub fn blob(&self, digest: &Digest) -> PathBuf {
        fanned_out(self.blobs(), digest)
    }

    /// `layers/`
    pub fn layers(&self) -> PathBuf {
        self.root.join("layers")
    }

    /// `layers/<alg>/<hh>/<hex>/` of one diff ID.
    pub fn layer(&self, diff_id: &Digest) -> PathBuf {
        fanned_out(self.layers(), diff_id)
    }

    /// `layers/<alg>/<hh>/<hex>/index`
    pub fn layer_index(&self, diff_id: &Digest) -> PathBuf {
        self.layer(diff_id).join("index")
    }

    /// `layers/<alg>/<hh>/<hex>/tar`
    pub fn layer_tar(&self, diff_id: &Digest) -> PathBuf {
        self.layer(diff_id).join("tar")
    }

    /// `layers/<alg>/<hh>/<hex>/previous`: the diff ID of the layer that this one is a new version of.
    pub fn layer_previous(&self, diff_id: &Digest) -> PathBuf {
        self.layer(diff_id).join("previous")
    }

    /// `layers/<alg>/<hh>/<hex>/as/`: a file for each compressed form.
    pub fn layer_forms(&self, diff_id: &Digest) -> PathBuf {
        self.layer(diff_id).join("as")
    }

    /// `layers/<alg>/<hh>/<hex>/as/<codec>`
    pub fn layer_form(&self, diff_id: &Digest, codec: &str) -> PathBuf {
        self.layer_forms(diff_id).join(codec)
    }

    /// `snapshots/<ids>/`: trees unpacked with one id mapping.
    pub fn snapshots(&self, ids: &str) -> PathBuf {
        self.root.join("snapshots").join(ids)
    }

    /// `snapshots/<ids>/<alg>/<hh>/<hex>/` of one chain ID; the folder `tree` in it is the unpacked layer.
    pub fn snapshot(&self, ids: &str, chain_id: &Digest) -> PathBuf {
        fanned_out(self.snapshots(ids), chain_id)
    }

    /// `images/`
    pub fn all_images(&self) -> PathBuf {
        self.root.join("images")
    }

    /// `images/<alg>/`
    pub fn images(&self, algorithm: Algorithm) -> PathBuf {
        self.all_images().join(algorithm.as_str())
    }

    /// `images/<alg>/<config digest>`
    pub fn image(&self, id: &Digest) -> PathBuf {
        self.images(id.algorithm()).join(id.hex())
    }

    /// `repos/local/`
    pub fn local_repositories(&self) -> PathBuf {
        self.root.join("repos/local")
    }

    /// `repos/local/<host>/<path>/`
    pub fn local_repository(&self, repository: &Repository) -> PathBuf {
        self.local_repositories().join(repository.host()).join(repository.path().as_str())
    }

    /// `repos/served/`
    pub fn served_repositories(&self) -> PathBuf {
        self.root.join("repos/served")
    }

    /// `repos/served/<path>/`
    pub fn served_repository(&self, path: &RepositoryPath) -> PathBuf {
        self.served_repositories().join(path.as_str())
    }

    /// `refs/`
    pub fn refs(&self) -> PathBuf {
        self.root.join("refs")
    }

    /// `refs/<alg>/<hh>/<hex>/`: one empty file for each repository that this blob may be read through.
    pub fn refs_of(&self, digest: &Digest) -> PathBuf {
        fanned_out(self.refs(), digest)
    }

    /// `refs/<alg>/<hh>/<hex>/<repo>`, `/` written as `:`.
    pub fn reference(&self, digest: &Digest, repository: &RepositoryPath) -> PathBuf {
        self.refs_of(digest).join(repository.as_str().replace('/', ":"))
    }

    /// `uploads/`
    pub fn uploads(&self) -> PathBuf {
        self.root.join("uploads")
    }

    /// `uploads/<session>/`
    pub fn upload(&self, session: &str) -> PathBuf {
        self.uploads().join(session)
    }

    /// `ingest/`: files and folders being written.
    pub fn ingest(&self) -> PathBuf {
        self.root.join("ingest")
    }

    /// `cache/`: records of the build cache and cache mounts.
    pub fn cache(&self) -> PathBuf {
        self.root.join("cache")
    }

    /// `containers/`: the run engine's.
    pub fn containers(&self) -> PathBuf {
        self.root.join("containers")
    }

    /// `volumes/`: the run engine's.
    pub fn volumes(&self) -> PathBuf {
        self.root.join("volumes")
    }

    /// `networks/`: the run engine's.
    pub fn networks(&self) -> PathBuf {
        self.root.join("networks")
    }

    /// `leases/`
    pub fn leases(&self) -> PathBuf {
        self.root.join("leases")
    }

    /// `serving/`
    pub fn serving(&self) -> PathBuf {
        self.root.join("serving")
    }

    /// `events/`: one file a day.
    pub fn events(&self) -> PathBuf {
        self.root.join("events")
    }

    /// `trash/`: one folder a day.
    pub fn trash(&self) -> PathBuf {
        self.root.join("trash")
    }
}

/// Folders and files of one repository, local or served.
#[derive(Debug, Clone)]
pub(super) struct RepositoryPaths {
    pub(super) root: PathBuf,
}

impl RepositoryPaths {
    /// `_tags/`
    pub(super) fn tags(&self) -> PathBuf {
        self.root.join(TAGS)
    }

    /// `_tags/<tag>`
    pub(super) fn tag(&self, tag: &Tag) -> PathBuf {
        self.tags().join(tag.as_str())
    }

    /// `_manifests/`
    pub(super) fn manifests(&self) -> PathBuf {
        self.root.join(MANIFESTS)
    }

    /// `_manifests/<alg>/<hex>`
    pub(super) fn manifest(&self, digest: &Digest) -> PathBuf {
        self.manifests().join(digest.algorithm().as_str()).join(digest.hex())
    }

    /// `_referrers/`
    pub(super) fn all_referrers(&self) -> PathBuf {
        self.root.join(REFERRERS)
    }

    /// `_referrers/<alg>/<hex>/`
    pub(super) fn referrers(&self, subject: &Digest) -> PathBuf {
        self.all_referrers().join(subject.algorithm().as_str()).join(subject.hex())
    }

    /// `_referrers/<alg>/<hex>/<alg>-<hex>`
    pub(super) fn referrer(&self, subject: &Digest, referrer: &Digest) -> PathBuf {
        self.referrers(subject).join(flat(referrer))
    }
}

/// Marks a folder as a repository that has, or had, tags.
pub(super) const TAGS: &str = "_tags";
/// Marks a folder as a repository that has, or had, manifests.
pub(super) const MANIFESTS: &str = "_manifests";
/// The folder of who refers to manifests of a repository.
pub(super) const REFERRERS: &str = "_referrers";

/// How the names of forms begin, of layers and of images, that came from elsewhere.
pub(crate) const FOREIGN: &str = "foreign-";

/// `<alg>-<hex>`: a digest as one file name.
pub(super) fn flat(digest: &Digest) -> String {
    format!("{}-{}", digest.algorithm(), digest.hex())
}

/// Reads what [`flat`] wrote.
pub(super) fn from_flat(name: &str) -> Option<Digest> {
    let (algorithm, hex) = name.split_once('-')?;
    Digest::new(algorithm.parse().ok()?, hex).ok()
}

/// Reads the name of a repository in `refs/<alg>/<hh>/<hex>/`.
pub(super) fn from_reference(name: &str) -> Option<RepositoryPath> {
    name.replace(':', "/").parse().ok()
}

/// Whether a form of a layer can be called so: `foreign-<digest>`, or `<codec>-<version>`.
pub(crate) fn is_form_name(name: &str) -> bool {
    if let Some(blob) = name.strip_prefix(FOREIGN) {
        return blob.parse::<Digest>().is_ok();
    }
    match name.split_once('-') {
        Some(("plain" | "gzip" | "zstd", version)) => version.starts_with(|c: char| c.is_ascii_digit()),
        _ => false,
    }
}

/// `<alg>/<hh>/<hex>` below `folder`; `<hh>` keeps folders small.
fn fanned_out(mut folder: PathBuf, digest: &Digest) -> PathBuf {
    folder.push(digest.algorithm().as_str());
    folder.push(&digest.hex()[..2]);
    folder.push(digest.hex());
    folder
}
