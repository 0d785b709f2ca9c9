use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};

use serde::Deserialize;

use super::{CONTAINERD_NAME, DockerEntry, OCI_REF_NAME};
use crate::decompress::decompress;
use crate::digest::Digest;
use crate::image::names;
use crate::image::record;
use crate::layer::{self, Codec, Import, ImportOptions, LayerError, StackError, TarError};
use crate::oci::{
    CONFIG_LIMIT_BYTES, Descriptor, ImageConfig, Index, MANIFEST_LIMIT_BYTES, Manifest, ManifestOrIndex,
    ParseError,
};
use crate::platform::Platform;
use crate::reference::{Reference, Tag};
use crate::store::{CommitError, Scratch, Store, StoreError, TaggedImage};

/// One image that was loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    /// Its ID.
    pub id: Digest,
    /// The names it has got.
    pub names: Vec<Reference>,
    /// Names of the archive that are none, and were passed over.
    pub refused_names: Vec<String>,
}

/// Why an archive was not loaded, or not to its end. Images that came before stay.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// It cannot be read.
    #[error("cannot read the archive")]
    Read(#[source] io::Error),
    /// Not even its first bytes are a tar's.
    #[error("it is no tar archive, nor a compressed one: invalid tar header")]
    NoTar,
    /// Neither `manifest.json` nor `index.json` is in it.
    #[error(
        "archive is neither a docker archive nor an OCI layout: it has no `manifest.json` and no `index.json`"
    )]
    Unknown,
    /// It refers to a file that is not in it.
    #[error("archive refers to `{name}`, which is not in it")]
    Missing {
        /// The file.
        name: String,
    },
    /// A document is longer than any real one.
    #[error("`{name}` in the archive has {size_bytes} bytes, at most {limit_bytes} are allowed")]
    TooLarge {
        /// The file.
        name: String,
        /// Its length.
        size_bytes: u64,
        /// What is allowed.
        limit_bytes: u64,
    },
    /// A document is not what it should be.
    #[error("`{name}` in the archive cannot be understood")]
    Json {
        /// The file.
        name: String,
        /// What is wrong.
        source: serde_json::Error,
    },
    /// A manifest is not what it should be.
    #[error("manifest {digest} in the archive cannot be understood")]
    Manifest {
        /// Its digest.
        digest: Digest,
        /// What is wrong.
        source: ParseError,
    },
    /// Bytes in it do not match the digest by which it refers to them.
    #[error("`{name}` in the archive does not match its digest: expected {expected}, got {actual}")]
    Digest {
        /// The file.
        name: String,
        /// What it should be.
        expected: Digest,
        /// What it is.
        actual: Digest,
    },
    /// The config and the list of layers do not fit.
    #[error("image {id} has {diff_ids} diff IDs and {layers} layers")]
    LayerCount {
        /// The image.
        id: Digest,
        /// In the config.
        diff_ids: usize,
        /// In the manifest.
        layers: usize,
    },
    /// It holds no image at all.
    #[error("archive has no image")]
    Empty,
    /// None of its images is for the platform that was asked for.
    #[error("archive has no image for {platform}")]
    Platform {
        /// The platform.
        platform: Box<Platform>,
    },
    /// A layer is refused.
    #[error(transparent)]
    Layer(#[from] LayerError),
    /// The layers of an image do not fit upon each other.
    #[error(transparent)]
    Stack(#[from] StackError),
    /// A blob cannot be stored.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl LoadError {
    /// What the user can do about it, when something can be done.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            LoadError::Layer(error) => error.hint(),
            LoadError::Stack(error) => error.source.hint(),
            _ => None,
        }
    }
}

/// Loads all images of an archive, or those for `platform`. `progress` is told how many bytes of layers were read.
///
/// # Errors
/// [`LoadError`]. Nothing half done stays.
pub fn load(
    store: &Store,
    archive: impl Read + Send,
    platform: Option<&Platform>,
    progress: &(dyn Fn(u64) + Sync),
) -> Result<Vec<Loaded>, LoadError> {
    let archive = Archive::open(store, archive)?;
    let loader = Loader { store, archive, platform, progress };
    let index = loader.document::<Index>("index.json")?;
    let loaded = match (loader.document::<Vec<DockerEntry>>("manifest.json")?, index) {
        // Of an image that travelled, the manifest shall stay; one with plain layers was made for the archive only.
        (Some(entries), Some(index)) if loader.is_compressed(&entries)? => loader.oci_images(&index)?,
        (Some(entries), _) => loader.docker_images(&entries)?,
        (None, Some(index)) => loader.oci_images(&index)?,
        (None, None) => return Err(LoadError::Unknown),
    };
    match platform {
        _ if !loaded.is_empty() => Ok(loaded),
        Some(platform) => Err(LoadError::Platform { platform: Box::new(platform.clone()) }),
        None => Err(LoadError::Empty),
    }
}

/// A tar whose files can be read in any order. What comes compressed, or by a pipe, is written to a file first.
struct Archive {
    file: File,
    /// Offset and length of each file, links resolved.
    files: HashMap<String, (u64, u64)>,
    _scratch: Scratch,
}

impl Archive {
    fn open(store: &Store, input: impl Read + Send) -> Result<Self, LoadError> {
        let scratch = store.scratch()?;
        let path = scratch.path().join("archive");
        let written = || -> Result<File, LoadError> {
            let options = &mut std::fs::OpenOptions::new();
            let mut file = options
                .read(true)
                .write(true)
                .create_new(true)
                .open(&path)
                .map_err(StoreError::io("create", &path))?;
            let mut input = decompress(input).map_err(LoadError::Read)?;
            let mut buffer = vec![0; 256 << 10];
            loop {
                match input.read(&mut buffer).map_err(LoadError::Read)? {
                    0 => return Ok(file),
                    n => file.write_all(&buffer[..n]).map_err(StoreError::io("write", &path))?,
                }
            }
        };
        let mut file = written()?;
        let files = list(&mut file).map_err(|error| match begins_as_tar(&mut file) {
            true => LoadError::Read(error),
            false => LoadError::NoTar,
        })?;
        Ok(Archive { file, files, _scratch: scratch })
    }

    fn size_bytes(&self, name: &str) -> Option<u64> {
        self.files.get(&normal(name)).map(|(_, size_bytes)| *size_bytes)
    }

    /// A file of the archive.
    fn read(&self, name: &str) -> Result<impl Read + use<>, LoadError> {
        let Some((offset, size_bytes)) = self.files.get(&normal(name)).copied() else {
            return Err(LoadError::Missing { name: name.to_owned() });
        };
        let mut file = self.file.try_clone().map_err(LoadError::Read)?;
        file.seek(SeekFrom::Start(offset)).map_err(LoadError::Read)?;
        Ok(file.take(size_bytes))
    }
}

/// Where each file of a tar is.
fn list(file: &mut File) -> io::Result<HashMap<String, (u64, u64)>> {
    let length = file.seek(SeekFrom::End(0))?;
    file.seek(SeekFrom::Start(0))?;
    let mut files = HashMap::new();
    let mut links = Vec::new();
    let mut archive = tar::Archive::new(&mut *file);
    for entry in archive.entries_with_seek()? {
        let entry = entry?;
        let name = normal(&String::from_utf8_lossy(&entry.path_bytes()));
        let kind = entry.header().entry_type();
        if kind.is_file() {
            if entry.raw_file_position().saturating_add(entry.size()) > length {
                let why = TarError::Truncated { offset: length };
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, why));
            }
            files.insert(name, (entry.raw_file_position(), entry.size()));
        } else if let Some(target) =
            entry.link_name_bytes().filter(|_| kind.is_symlink() || kind.is_hard_link())
        {
            let target = String::from_utf8_lossy(&target).into_owned();
            // Old dockers wrote equal layers as symbolic links: `../<id>/layer.tar`.
            let target = if kind.is_symlink() { beside(&name, &target) } else { normal(&target) };
            links.push((name, target));
        }
    }
    for (name, target) in links {
        if let Some(found) = files.get(&target).copied() {
            files.insert(name, found);
        }
    }
    Ok(files)
}

/// Whether a first entry can be read at all.
fn begins_as_tar(file: &mut File) -> bool {
    if file.rewind().is_err() {
        return false;
    }
    let mut archive = tar::Archive::new(file);
    archive.entries().is_ok_and(|mut entries| entries.next().is_none_or(|first| first.is_ok()))
}

fn beside(name: &str, target: &str) -> String {
    let folder = name.rsplit_once('/').map_or("", |(folder, _)| folder);
    normal(&format!("{folder}/{target}"))
}

/// A path without `.`, `..`, and slashes at its ends. It is a key of a table and never opened.
fn normal(name: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in name.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

struct Loader<'a> {
    store: &'a Store,
    archive: Archive,
    /// Images for another one are passed over.
    platform: Option<&'a Platform>,
    progress: &'a (dyn Fn(u64) + Sync),
}

impl Loader<'_> {
    /// Whether the layers of the first image that has some are compressed.
    fn is_compressed(&self, entries: &[DockerEntry]) -> Result<bool, LoadError> {
        let Some(layer) = entries.iter().flat_map(|entry| entry.layers.iter().flatten()).next() else {
            return Ok(false);
        };
        let mut start = Vec::new();
        self.archive.read(layer)?.take(6).read_to_end(&mut start).map_err(LoadError::Read)?;
        Ok(Codec::sniff(&start) != Some(Codec::Plain))
    }

    fn is_wanted(&self, config: &ImageConfig) -> bool {
        self.platform.is_none_or(|wanted| record::platform(config).matches(wanted))
    }

    fn docker_images(&self, entries: &[DockerEntry]) -> Result<Vec<Loaded>, LoadError> {
        entries.iter().filter_map(|entry| self.docker_image(entry).transpose()).collect()
    }

    /// One image by its config; `None` when it is for another platform.
    fn docker_image(&self, entry: &DockerEntry) -> Result<Option<Loaded>, LoadError> {
        let config_bytes = self.bytes(&entry.config, CONFIG_LIMIT_BYTES)?;
        let config: ImageConfig = parse(&entry.config, &config_bytes)?;
        if !self.is_wanted(&config) {
            return Ok(None);
        }
        let id = Digest::sha256(&config_bytes);
        let layers = entry.layers.clone().unwrap_or_default();
        count(&id, &config, layers.len())?;
        for (at, (name, diff_id)) in layers.iter().zip(&config.rootfs.diff_ids).enumerate() {
            self.layer(name, None, diff_id, at == 0)?;
        }
        layer::check_stack(self.store, &config.rootfs.diff_ids)?;
        self.put(&id, &config_bytes)?;
        record::put(self.store, &id, &config, None)?;
        let (mut names, mut refused_names) = (Vec::new(), Vec::new());
        for name in entry.repo_tags.iter().flatten() {
            match name.parse() {
                Ok(reference) => names.push(reference),
                Err(_) => refused_names.push(name.clone()),
            }
        }
        Ok(Some(Loaded { refused_names, ..self.name(id, &config, names, None)? }))
    }

    fn oci_images(&self, index: &Index) -> Result<Vec<Loaded>, LoadError> {
        let mut loaded: Vec<Loaded> = Vec::new();
        for descriptor in &index.manifests {
            let names = names_of(descriptor);
            for image in self.oci_image(descriptor, &names, None)? {
                match loaded.iter_mut().find(|other| other.id == image.id) {
                    Some(other) => {
                        other.names.extend(image.names);
                        other.refused_names.extend(image.refused_names);
                    }
                    None => loaded.push(image),
                }
            }
        }
        Ok(loaded)
    }

    /// An image, or those of an index whose layers are in the archive.
    fn oci_image(
        &self,
        descriptor: &Descriptor,
        names: &[Reference],
        source: Option<&Descriptor>,
    ) -> Result<Vec<Loaded>, LoadError> {
        let name = blob_name(&descriptor.digest);
        let bytes = self.bytes(&name, MANIFEST_LIMIT_BYTES)?;
        verify(&name, &descriptor.digest, &bytes)?;
        let (digest, expected, actual) = (&descriptor.digest, descriptor.size, bytes.len() as u64);
        if actual != expected {
            return Err(CommitError::SizeMismatch { digest: digest.clone(), expected, actual }.into());
        }
        let parsed = ManifestOrIndex::parse(&bytes, Some(&descriptor.media_type));
        let parsed =
            parsed.map_err(|source| LoadError::Manifest { digest: descriptor.digest.clone(), source })?;
        match parsed {
            ManifestOrIndex::Manifest(manifest) => {
                let own =
                    Descriptor::new(&descriptor.media_type, descriptor.digest.clone(), bytes.len() as u64);
                self.put(&descriptor.digest, &bytes)?;
                let image = self.manifest(&manifest, &own, names, source.unwrap_or(&own))?;
                Ok(image.into_iter().collect())
            }
            ManifestOrIndex::Index(index) => {
                self.put(&descriptor.digest, &bytes)?;
                let mut loaded = Vec::new();
                let present = index
                    .manifests
                    .iter()
                    .filter(|child| self.archive.size_bytes(&blob_name(&child.digest)).is_some());
                for child in present {
                    loaded.extend(self.oci_image(child, names, Some(descriptor))?);
                }
                Ok(loaded)
            }
        }
    }

    /// One image by its manifest; `None` for what is no image, such as an attestation, or for another platform.
    fn manifest(
        &self,
        manifest: &Manifest,
        descriptor: &Descriptor,
        names: &[Reference],
        source: &Descriptor,
    ) -> Result<Option<Loaded>, LoadError> {
        if !crate::oci::media_type::is_image_config(&manifest.config.media_type) {
            return Ok(None);
        }
        let config_name = blob_name(&manifest.config.digest);
        let config_bytes = self.bytes(&config_name, CONFIG_LIMIT_BYTES)?;
        verify(&config_name, &manifest.config.digest, &config_bytes)?;
        let config: ImageConfig = parse(&config_name, &config_bytes)?;
        if config.os == "unknown" || (config.os.is_empty() && manifest.layers.is_empty()) {
            return Ok(None);
        }
        if !self.is_wanted(&config) {
            return Ok(None);
        }
        let id = manifest.config.digest.clone();
        count(&id, &config, manifest.layers.len())?;
        for (at, (layer, diff_id)) in manifest.layers.iter().zip(&config.rootfs.diff_ids).enumerate() {
            let blob = (layer.digest.clone(), layer.size);
            self.layer(&blob_name(&layer.digest), Some(blob), diff_id, at == 0)?;
        }
        layer::check_stack(self.store, &config.rootfs.diff_ids)?;
        self.put(&id, &config_bytes)?;
        record::put(self.store, &id, &config, Some(descriptor))?;
        self.name(id, &config, names.to_vec(), Some(source.clone())).map(Some)
    }

    fn layer(
        &self,
        name: &str,
        blob: Option<(Digest, u64)>,
        diff_id: &Digest,
        lowest: bool,
    ) -> Result<(), LoadError> {
        let size_bytes = self.archive.size_bytes(name).unwrap_or(0);
        let known = match &blob {
            // A manifest refers to exactly this blob, so the layer in another form would not do.
            Some((digest, _)) => {
                self.store.blob_size(digest)?.is_some() && layer::is_sound(self.store, diff_id)?
            }
            None => layer::is_sound(self.store, diff_id)?,
        };
        if known {
            (self.progress)(size_bytes);
            return Ok(());
        }
        let options =
            ImportOptions { blob, diff_id: Some(diff_id.clone()), lowest, ..ImportOptions::default() };
        let mut import = Import::new(self.store, options)?;
        import.append_all(self.archive.read(name)?, LoadError::Read, self.progress)?;
        import.finish()?;
        Ok(())
    }

    fn name(
        &self,
        id: Digest,
        config: &ImageConfig,
        names: Vec<Reference>,
        source: Option<Descriptor>,
    ) -> Result<Loaded, LoadError> {
        let platform = record::platform(config);
        for name in &names {
            let image =
                TaggedImage { platform: platform.clone(), config: id.clone(), source: source.clone() };
            let tag = name.tag().cloned().unwrap_or_else(Tag::latest);
            names::set_tag(self.store, name.repository(), &tag, image)?;
        }
        Ok(Loaded { id, names, refused_names: Vec::new() })
    }

    fn put(&self, digest: &Digest, bytes: &[u8]) -> Result<(), LoadError> {
        let mut ingest = self.store.ingest_as(digest.algorithm())?;
        ingest.append(bytes)?;
        ingest.commit(digest, None)?;
        Ok(())
    }

    fn document<T: for<'de> Deserialize<'de>>(&self, name: &str) -> Result<Option<T>, LoadError> {
        if self.archive.size_bytes(name).is_none() {
            return Ok(None);
        }
        parse(name, &self.bytes(name, MANIFEST_LIMIT_BYTES)?).map(Some)
    }

    fn bytes(&self, name: &str, limit_bytes: u64) -> Result<Vec<u8>, LoadError> {
        let mut input = self.archive.read(name)?;
        let size_bytes = self.archive.size_bytes(name).unwrap_or(0);
        if size_bytes > limit_bytes {
            return Err(LoadError::TooLarge { name: name.to_owned(), size_bytes, limit_bytes });
        }
        let mut bytes = Vec::new();
        input.read_to_end(&mut bytes).map_err(LoadError::Read)?;
        Ok(bytes)
    }
}

fn blob_name(digest: &Digest) -> String {
    format!("blobs/{}/{}", digest.algorithm(), digest.hex())
}

fn parse<T: for<'de> Deserialize<'de>>(name: &str, bytes: &[u8]) -> Result<T, LoadError> {
    serde_json::from_slice(bytes).map_err(|source| LoadError::Json { name: name.to_owned(), source })
}

fn verify(name: &str, expected: &Digest, bytes: &[u8]) -> Result<(), LoadError> {
    let actual = expected.algorithm().digest(bytes);
    if actual == *expected {
        return Ok(());
    }
    Err(LoadError::Digest { name: name.to_owned(), expected: expected.clone(), actual })
}

fn count(id: &Digest, config: &ImageConfig, layers: usize) -> Result<(), LoadError> {
    let diff_ids = config.rootfs.diff_ids.len();
    if diff_ids == layers {
        return Ok(());
    }
    Err(LoadError::LayerCount { id: id.clone(), diff_ids, layers })
}

/// The names that an index gives an image: a whole one, or nothing. A bare tag names no repository.
fn names_of(descriptor: &Descriptor) -> Vec<Reference> {
    let whole = |name: &String| name.parse::<Reference>().ok().filter(|_| name.contains([':', '/', '@']));
    let found = descriptor.annotations.get(CONTAINERD_NAME).and_then(whole);
    found.or_else(|| descriptor.annotations.get(OCI_REF_NAME).and_then(whole)).into_iter().collect()
}
