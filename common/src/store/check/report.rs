use std::fmt;
use std::path::PathBuf;

use crate::digest::Digest;
use crate::reference::{Reference, RepositoryPath, Tag};
use crate::store::StoreError;

/// What a check has found.
#[derive(Debug, Default)]
pub struct CheckReport {
    /// Blobs whose bytes were read.
    pub blobs: u64,
    /// Layers.
    pub layers: u64,
    /// Images.
    pub images: u64,
    /// Repositories of the registry.
    pub repositories: u64,
    /// Manifests in them.
    pub manifests: u64,
    /// Tags, served and local.
    pub tags: u64,
    /// How many bytes were read and hashed.
    pub size_bytes: u64,
    /// What is wrong, sorted.
    pub faults: Vec<Fault>,
    /// What is worth knowing and not wrong.
    pub notes: Vec<Note>,
}

impl CheckReport {
    /// Whether nothing is wrong.
    pub fn is_sound(&self) -> bool {
        self.faults.is_empty()
    }
}

/// Something that names a blob.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Holder {
    /// A manifest of a repository of the registry.
    Manifest {
        /// The repository.
        repository: RepositoryPath,
        /// The manifest.
        manifest: Digest,
    },
    /// An image, by its ID.
    Image(Digest),
    /// A layer, by its diff ID.
    Layer(Digest),
    /// A name on this machine.
    Name(Reference),
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Holder::Manifest { repository, manifest } => {
                write!(f, "manifest {manifest} of repository `{repository}`")
            }
            Holder::Image(id) => write!(f, "image {id}"),
            Holder::Layer(diff_id) => write!(f, "layer {diff_id}"),
            Holder::Name(name) => write!(f, "name `{}`", name.familiar()),
        }
    }
}

/// Something that is wrong with the store, in words for people.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// The bytes of a blob are not those that were stored.
    #[error("blob {digest} is damaged: its bytes have the digest {actual}; {}", remedy(*removed))]
    Blob {
        /// The blob.
        digest: Digest,
        /// The digest of what is, or was, on the disk.
        actual: Digest,
        /// It was removed, as the check was asked to.
        removed: bool,
    },
    /// The tar of a layer is not what it was.
    #[error(
        "tar of layer {diff_id} is damaged: its bytes have the digest {actual}; {}",
        remedy_of_tar(*removed)
    )]
    Tar {
        /// The layer.
        diff_id: Digest,
        /// The digest of what is, or was, on the disk.
        actual: Digest,
        /// It was removed, as the check was asked to.
        removed: bool,
    },
    /// A file or record cannot be read.
    #[error("{}", with_cause(.0))]
    Unreadable(StoreError),
    /// Something names a blob that is not there.
    #[error("{holder} needs blob {digest}, which is not in the store; pull, push, load or build it again")]
    Missing {
        /// What names it.
        holder: Holder,
        /// The blob.
        digest: Digest,
    },
    /// A blob has another length than its descriptor says.
    #[error("{holder} says that blob {digest} has {expected} bytes, but it has {actual}")]
    Size {
        /// What names it.
        holder: Holder,
        /// The blob.
        digest: Digest,
        /// Its length by the descriptor.
        expected: u64,
        /// Its length on the disk.
        actual: u64,
    },
    /// A tag of the registry names a manifest that its repository does not have.
    #[error("tag `{repository}:{tag}` names manifest {manifest}, which is not in that repository")]
    Tag {
        /// The repository.
        repository: RepositoryPath,
        /// The tag.
        tag: Tag,
        /// What it names.
        manifest: Digest,
    },
    /// A name on this machine names an image that is not recorded.
    #[error("name `{}` stands for image {image}, which is not in the store", name.familiar())]
    Name {
        /// The name.
        name: Reference,
        /// What it stands for.
        image: Digest,
    },
    /// A list of referrers names a manifest that its repository does not have.
    #[error("`{repository}` lists {referrer} as referrer of {subject}, but has no such manifest")]
    Referrer {
        /// The repository.
        repository: RepositoryPath,
        /// The manifest that is referred to.
        subject: Digest,
        /// The manifest that is said to refer to it.
        referrer: Digest,
    },
    /// An image needs a layer of which nothing is left to make it from.
    #[error(
        "image {image} needs layer {diff_id}, of which neither the tar nor a compressed form is here; load, pull, import or \
         build it again"
    )]
    Layer {
        /// The image.
        image: Digest,
        /// The layer.
        diff_id: Digest,
    },
    /// What is in a layer is not known any more.
    #[error("list of files of layer {diff_id} is missing or damaged; {}", remedy_of_table(*removed))]
    Index {
        /// The layer.
        diff_id: Digest,
        /// It was removed, as the check was asked to.
        removed: bool,
    },
    /// The record of a blob that a layer travels as cannot be read.
    #[error("record `{form}` of layer {diff_id} is damaged; {}", remedy_of_table(*removed))]
    Form {
        /// The layer.
        diff_id: Digest,
        /// The name of the record.
        form: String,
        /// It was removed, as the check was asked to.
        removed: bool,
    },
    /// A record of the build cache or of a container cannot be understood.
    #[error("record of {record} at {} is damaged: {source}; {}", path.display(), record.remedy())]
    Record {
        /// Of what.
        record: Record,
        /// Where it is.
        path: PathBuf,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// Something that nothing in this program makes there.
    #[error("{} {what}", path.display())]
    Foreign {
        /// Where it is.
        path: PathBuf,
        /// Why it is not the store's.
        what: &'static str,
    },
    /// Something half written that could not be removed.
    #[error("{} was left by a process that is gone, and could not be removed", path.display())]
    Abandoned {
        /// Where it is.
        path: PathBuf,
    },
    /// A blob that the collector should have taken.
    #[error("blob {digest} is reached by nothing, for longer than two grace periods")]
    Uncollected {
        /// The blob.
        digest: Digest,
    },
}

/// Whose record it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Record {
    /// A step's, in the build cache.
    Step,
    /// A container's.
    Container,
}

impl Record {
    fn remedy(self) -> &'static str {
        match self {
            Record::Step => "remove the file, and the step will run again",
            Record::Container => "remove its folder, and the container is gone",
        }
    }
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Record::Step => "a build step",
            Record::Container => "a container",
        })
    }
}

fn remedy(removed: bool) -> &'static str {
    if removed {
        "it was removed; pull, push, load or build it again"
    } else {
        "remove it by `gantry check --remove-damaged`, then pull, push, load or build it again"
    }
}

fn remedy_of_tar(removed: bool) -> &'static str {
    if removed {
        REMOVED
    } else {
        "remove it by `gantry check --remove-damaged`, then load, pull, import or build an image with this layer again"
    }
}

/// One that is damaged is in nobody's way.
fn remedy_of_table(removed: bool) -> &'static str {
    if removed {
        REMOVED
    } else {
        "load, pull, import or build an image with this layer again; `gantry check --remove-damaged` removes what is damaged"
    }
}

const REMOVED: &str = "it was removed; load, pull, import or build an image with this layer again";

/// A fault is one line.
fn with_cause(error: &StoreError) -> String {
    match std::error::Error::source(error) {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}

/// Something that is worth knowing and not wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Note {
    /// Blobs that no tag, image or manifest reaches: remains of what was deleted or interrupted.
    Unreached {
        /// How many.
        blobs: u64,
        /// How long they are together.
        size_bytes: u64,
    },
    /// Something of others beside the store's own folders.
    Foreign {
        /// Where it is.
        path: PathBuf,
    },
    /// Things that running processes are writing.
    Unfinished {
        /// How many.
        count: usize,
    },
    /// Upload sessions that somebody may go on with.
    Uploads {
        /// How many.
        count: usize,
    },
    /// A child of a manifest that was taken out of the repository.
    Removed {
        /// The repository.
        repository: RepositoryPath,
        /// The manifest.
        manifest: Digest,
        /// What it names.
        child: Digest,
    },
    /// A manifest that its subject does not list: its push was interrupted, or its delete.
    Unlisted {
        /// The repository.
        repository: RepositoryPath,
        /// The manifest.
        manifest: Digest,
        /// The manifest it refers to.
        subject: Digest,
    },
    /// References to blobs that are not there and that no manifest needs: pushes that a power cut ended.
    Interrupted {
        /// How many blobs.
        blobs: u64,
    },
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Note::Unreached { blobs, size_bytes } => {
                write!(f, "{blobs} blobs ({size_bytes} bytes) are reached by no tag, image or manifest")
            }
            Note::Foreign { path } => write!(f, "{} is not of the store", path.display()),
            Note::Unfinished { count } => write!(f, "{count} files are being written by running processes"),
            Note::Uploads { count } => write!(f, "{count} uploads wait to be continued"),
            Note::Removed { repository, manifest, child } => {
                write!(f, "manifest {manifest} of `{repository}` names {child}, which was deleted there")
            }
            Note::Unlisted { repository, manifest, subject } => {
                write!(
                    f,
                    "manifest {manifest} of `{repository}` refers to {subject} but is not listed there; push it again"
                )
            }
            Note::Interrupted { blobs } => {
                write!(f, "{blobs} blobs are known to a repository but not here: interrupted pushes")
            }
        }
    }
}
