use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::{Check, CheckOptions, Fault, Holder, Note};
use crate::digest::{Algorithm, Digest, hex};
use crate::oci::{self, Descriptor, ImageConfig, ManifestOrIndex, media_type};
use crate::reference::Reference;
use crate::store::disk;
use crate::store::error::{ReadError, StoreError};
use crate::store::listing::{self, Sort};
use crate::store::paths::{FOREIGN, from_flat, from_reference, is_form_name};
use crate::store::scratch;
use crate::store::{ManifestLink, ServedRepository, Store, UploadId};

/// The beginnings of `layers/<alg>/<hh>/<hex>/index` and `…/as/<codec>`. A CRC-32 of all before it ends both files.
const INDEX_MAGIC: &[u8; 8] = b"gantryLI";
const FORM_MAGIC: &[u8; 8] = b"gantryLF";

/// The beginning of `layers/<alg>/<hh>/<hex>/as/<codec>`, which `common::layer::form` draws; what follows is the
/// business of layers.
struct LayerForm {
    blob: Digest,
    size_bytes: u64,
}

impl Check<'_> {
    /// What is being written, and what should not be there any more.
    pub(super) fn unfinished(&mut self) -> Result<(), StoreError> {
        let ingest = self.store.paths().ingest();
        let mut count = 0;
        let (files, folders) = (listing::names(&ingest, Sort::File)?, listing::names(&ingest, Sort::Folder)?);
        for id in files.into_iter().chain(folders) {
            let path = ingest.join(id);
            // All was swept a moment ago; this may have been left since.
            match scratch::sweep(&path) {
                Ok(swept) => count += usize::from(!swept && path.exists()),
                Err(_) => self.report.faults.push(Fault::Abandoned { path }),
            }
        }
        if count > 0 {
            self.report.notes.push(Note::Unfinished { count });
        }
        let uploads = self.store.paths().uploads();
        let sessions = listing::known(&uploads, Sort::Folder, |name| name.parse::<UploadId>().ok())?;
        if !sessions.is_empty() {
            self.report.notes.push(Note::Uploads { count: sessions.len() });
        }
        Ok(())
    }

    /// The repositories of the registry.
    pub(super) fn served(&mut self) -> Result<(), StoreError> {
        for path in self.store.served_repositories(None, None)? {
            self.report.repositories += 1;
            let repository = self.store.served(&path);
            self.served_tags(&repository)?;
            for manifest in repository.manifests()? {
                self.report.manifests += 1;
                match repository.manifest(&manifest) {
                    Ok(Some(link)) => self.manifest(&repository, &manifest, &link)?,
                    Ok(None) => {}
                    Err(error) => self.report.faults.push(Fault::Unreadable(error)),
                }
            }
            self.referrers(&repository)?;
        }
        Ok(())
    }

    fn served_tags(&mut self, repository: &ServedRepository) -> Result<(), StoreError> {
        for tag in repository.tags(None, None)? {
            self.report.tags += 1;
            let record = match repository.tag(&tag) {
                Ok(Some(record)) => record,
                Ok(None) => continue,
                Err(error) => {
                    self.report.faults.push(Fault::Unreadable(error));
                    continue;
                }
            };
            let linked = repository.paths().manifest(&record.manifest).exists();
            if !linked && repository.tag(&tag).is_ok_and(|again| again.as_ref() == Some(&record)) {
                let (repository, manifest) = (repository.path().clone(), record.manifest);
                self.report.faults.push(Fault::Tag { repository, tag, manifest });
            }
        }
        Ok(())
    }

    /// A manifest is there, is what its link says, and so are its children.
    fn manifest(
        &mut self,
        repository: &ServedRepository,
        manifest: &Digest,
        link: &ManifestLink,
    ) -> Result<(), StoreError> {
        let holder = Holder::Manifest { repository: repository.path().clone(), manifest: manifest.clone() };
        let still_linked = || repository.paths().manifest(manifest).exists();
        self.need(&holder, manifest, Some(link.size_bytes), still_linked)?;
        if let Some(subject) = &link.subject
            && !repository.paths().referrer(subject, manifest).exists()
        {
            self.report.notes.push(Note::Unlisted {
                repository: repository.path().clone(),
                manifest: manifest.clone(),
                subject: subject.clone(),
            });
        }
        for Child { descriptor, .. } in self.children(manifest, Some(&link.media_type)) {
            let child = &descriptor.digest;
            let known = repository.paths().manifest(child).exists() || repository.has_ref(child)?;
            self.reached.insert(child.clone());
            if known {
                self.need(&holder, child, Some(descriptor.size), still_linked)?;
            } else if !link.absent_children.contains(child) && descriptor.urls.is_empty() {
                self.report.notes.push(Note::Removed {
                    repository: repository.path().clone(),
                    manifest: manifest.clone(),
                    child: child.clone(),
                });
            }
        }
        Ok(())
    }

    fn referrers(&mut self, repository: &ServedRepository) -> Result<(), StoreError> {
        for subject in subjects(repository)? {
            for referrer in listing::known(&repository.paths().referrers(&subject), Sort::File, from_flat)? {
                let linked = || repository.paths().manifest(&referrer).exists();
                let listed = || repository.paths().referrer(&subject, &referrer).exists();
                if !linked() && listed() && !linked() {
                    let (repository, subject) = (repository.path().clone(), subject.clone());
                    self.report.faults.push(Fault::Referrer { repository, subject, referrer });
                }
            }
            if let Err(error) = repository.referrers(&subject, None, None) {
                self.report.faults.push(Fault::Unreadable(error));
            }
        }
        Ok(())
    }

    /// The names on this machine.
    pub(super) fn local(&mut self) -> Result<(), StoreError> {
        for name in self.store.local_repositories()? {
            let repository = self.store.local(&name);
            for tag in repository.tags(None, None)? {
                self.report.tags += 1;
                let record = match repository.tag(&tag) {
                    Ok(record) => record,
                    Err(error) => {
                        self.report.faults.push(Fault::Unreadable(error));
                        continue;
                    }
                };
                let still_there = || repository.tag(&tag).is_ok_and(|again| again == record);
                let name = Reference::Tag(name.clone(), tag.clone());
                for image in record.iter().flat_map(|record| &record.images) {
                    if !self.store.paths().image(&image.config).exists() && still_there() {
                        let (name, image) = (name.clone(), image.config.clone());
                        self.report.faults.push(Fault::Name { name, image });
                    }
                    if let Some(source) = &image.source {
                        let holder = Holder::Name(name.clone());
                        self.need(&holder, &source.digest, Some(source.size), still_there)?;
                        self.reach_children(&source.digest, Some(&source.media_type));
                    }
                }
            }
        }
        Ok(())
    }

    /// Images have a config, the manifests that they have on record, and layers.
    pub(super) fn images(&mut self) -> Result<(), StoreError> {
        for id in self.store.image_ids()? {
            self.report.images += 1;
            let record = match self.store.image(&id) {
                Ok(Some(record)) => record,
                Ok(None) => continue,
                Err(error) => {
                    self.report.faults.push(Fault::Unreadable(error));
                    continue;
                }
            };
            let holder = Holder::Image(id.clone());
            let path = self.store.paths().image(&id);
            let still_there = || path.exists();
            self.need(&holder, &id, None, still_there)?;
            for manifest in record.manifests.values() {
                self.need(&holder, &manifest.digest, Some(manifest.size), still_there)?;
                self.reach_children(&manifest.digest, Some(&manifest.media_type));
            }
            for diff_id in self.diff_ids(&id) {
                self.needed.insert(diff_id.clone());
                let has_index = self.store.paths().layer_index(&diff_id).exists();
                if !self.has_layer(&diff_id)? && still_there() {
                    self.report.faults.push(Fault::Layer { image: id.clone(), diff_id });
                } else if !has_index && still_there() {
                    self.report.faults.push(Fault::Index { diff_id, removed: false });
                }
            }
        }
        Ok(())
    }

    fn diff_ids(&mut self, id: &Digest) -> Vec<Digest> {
        let Some(config) = self.read(id, oci::CONFIG_LIMIT_BYTES) else { return Vec::new() };
        match serde_json::from_slice::<ImageConfig>(&config) {
            Ok(config) => config.rootfs.diff_ids,
            Err(source) => {
                let path = self.store.paths().blob(id);
                self.report.faults.push(Fault::Unreadable(StoreError::Damaged { path, source }));
                Vec::new()
            }
        }
    }

    /// Whether the bytes of a layer can be had from what is here.
    fn has_layer(&self, diff_id: &Digest) -> Result<bool, StoreError> {
        let forms = self.store.paths().layer_forms(diff_id);
        if self.store.paths().layer_tar(diff_id).exists() {
            return Ok(true);
        }
        for codec in form_names(&forms)? {
            if let Some(bytes) = disk::read(&forms.join(codec))?
                && let Some(form) = parse_form(&bytes)
                && self.store.blob_size(&form.blob)?.is_some()
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The tables of layers are what was written, and the blobs that they travel as exist.
    pub(super) fn layers(&mut self, options: &CheckOptions<'_>) -> Result<(), StoreError> {
        let remove = |store: &Store, path: &Path, magic| {
            let is_damaged = |mut file: &File| {
                let mut bytes = Vec::new();
                file.read_to_end(&mut bytes)?;
                Ok(table(&bytes, magic).is_none())
            };
            if options.remove_damaged { store.remove_if(path, is_damaged) } else { Ok(false) }
        };
        for (diff_id, _) in fanned_out(&self.store.paths().layers(), Sort::Folder)? {
            self.report.layers += 1;
            let path = self.store.paths().layer_index(&diff_id);
            if disk::read(&path)?.is_some_and(|bytes| table(&bytes, INDEX_MAGIC).is_none()) {
                let removed = remove(self.store, &path, INDEX_MAGIC)?;
                self.report.faults.push(Fault::Index { diff_id: diff_id.clone(), removed });
            }
            let forms = self.store.paths().layer_forms(&diff_id);
            for codec in form_names(&forms)? {
                let path = forms.join(&codec);
                let Some(bytes) = disk::read(&path)? else { continue };
                match parse_form(&bytes) {
                    Some(form) => {
                        let holder = Holder::Layer(diff_id.clone());
                        let is_derived =
                            !codec.starts_with(FOREIGN) && self.store.paths().layer_tar(&diff_id).exists();
                        if is_derived || !self.needed.contains(&diff_id) {
                            self.dispensable.entry(form.blob.clone()).or_default().push(path.clone());
                        }
                        self.need(&holder, &form.blob, Some(form.size_bytes), || path.exists())?;
                    }
                    None => {
                        let removed = remove(self.store, &path, FORM_MAGIC)?;
                        let diff_id = diff_id.clone();
                        self.report.faults.push(Fault::Form { diff_id, form: codec, removed });
                    }
                }
            }
        }
        Ok(())
    }

    /// Blobs that may be read through a repository are there.
    pub(super) fn refs(&mut self) -> Result<(), StoreError> {
        let mut blobs = 0;
        for (digest, folder) in fanned_out(&self.store.paths().refs(), Sort::Folder)? {
            let holders = listing::known(&folder, Sort::File, from_reference)?;
            // If a manifest needs it, that was said already.
            let missing = !holders.is_empty() && self.store.blob_size(&digest)?.is_none();
            blobs += u64::from(missing && !self.reached.contains(&digest));
        }
        if blobs > 0 {
            self.report.notes.push(Note::Interrupted { blobs });
        }
        Ok(())
    }

    /// `holder` needs a blob; a fault if it is not there although the holder still is.
    fn need(
        &mut self,
        holder: &Holder,
        digest: &Digest,
        size_bytes: Option<u64>,
        still_there: impl Fn() -> bool,
    ) -> Result<(), StoreError> {
        self.reached.insert(digest.clone());
        let (holder, digest) = (holder.clone(), digest.clone());
        match (self.store.blob_size(&digest)?, size_bytes) {
            (None, _) if still_there() => self.report.faults.push(Fault::Missing { holder, digest }),
            (Some(actual), Some(expected)) if actual != expected => {
                self.report.faults.push(Fault::Size { holder, digest, expected, actual });
            }
            _ => {}
        }
        Ok(())
    }

    /// Marks all that a manifest or index names, and what these name.
    fn reach_children(&mut self, manifest: &Digest, media_type: Option<&str>) {
        for Child { descriptor, is_manifest } in self.children(manifest, media_type) {
            let new = self.reached.insert(descriptor.digest.clone());
            if new && is_manifest {
                self.reach_children(&descriptor.digest, Some(&descriptor.media_type));
            }
        }
    }

    /// What a manifest or index names; nothing when it cannot be read, which is reported elsewhere.
    fn children(&mut self, manifest: &Digest, media_type: Option<&str>) -> Vec<Child> {
        let Some(bytes) = self.read(manifest, oci::MANIFEST_LIMIT_BYTES) else { return Vec::new() };
        let child = |is_manifest| move |descriptor| Child { descriptor, is_manifest };
        match ManifestOrIndex::parse(&bytes, media_type) {
            Ok(ManifestOrIndex::Manifest(manifest)) => {
                std::iter::once(manifest.config).chain(manifest.layers).map(child(false)).collect()
            }
            Ok(ManifestOrIndex::Index(index)) => index
                .manifests
                .into_iter()
                .map(|descriptor| {
                    let kind = descriptor.media_type.as_str();
                    let is_manifest = media_type::is_manifest(kind) || media_type::is_index(kind);
                    Child { descriptor, is_manifest }
                })
                .collect(),
            Err(_) => Vec::new(),
        }
    }

    /// A small blob, verified. One that is missing or damaged is reported elsewhere.
    fn read(&self, digest: &Digest, limit_bytes: u64) -> Option<Vec<u8>> {
        match self.store.read_blob(digest, limit_bytes) {
            Ok(bytes) => Some(bytes),
            Err(ReadError::Missing { .. } | ReadError::Damaged { .. } | ReadError::TooLarge { .. }) => None,
            Err(ReadError::Store(error)) => {
                tracing::debug!(%error, "cannot read a blob; the bytes are looked at later");
                None
            }
        }
    }
}

struct Child {
    descriptor: Descriptor,
    is_manifest: bool,
}

/// The manifests that others of this repository refer to.
fn subjects(repository: &ServedRepository) -> Result<Vec<Digest>, StoreError> {
    let mut subjects = Vec::new();
    let folder = repository.paths().all_referrers();
    for algorithm in algorithms(&folder)? {
        let parse = |name: &str| Digest::new(algorithm, name).ok();
        subjects.extend(listing::known(&folder.join(algorithm.as_str()), Sort::Folder, parse)?);
    }
    Ok(subjects)
}

fn form_names(forms: &Path) -> Result<Vec<String>, StoreError> {
    listing::known(forms, Sort::File, |name| is_form_name(name).then(|| name.to_owned()))
}

/// The digests that `folder/<alg>/<hh>/<hex>` name, and these paths.
pub(super) fn fanned_out(folder: &Path, sort: Sort) -> Result<Vec<(Digest, PathBuf)>, StoreError> {
    let mut found = Vec::new();
    for algorithm in algorithms(folder)? {
        let folder = folder.join(algorithm.as_str());
        for first in listing::names(&folder, Sort::Folder)? {
            let folder = folder.join(&first);
            let parse = |name: &str| {
                let digest = Digest::new(algorithm, name).ok().filter(|_| is_below(name, &first))?;
                Some((digest, folder.join(name)))
            };
            found.extend(listing::known(&folder, sort, parse)?);
        }
    }
    Ok(found)
}

/// Whether a digest with the digits `hex` belongs into the folder `first`.
pub(super) fn is_below(hex: &str, first: &str) -> bool {
    first.len() == 2 && hex.starts_with(first)
}

fn algorithms(folder: &Path) -> Result<Vec<Algorithm>, StoreError> {
    listing::known(folder, Sort::Folder, |name| name.parse().ok())
}

/// What follows magic and version in an undamaged table.
fn table<'a>(bytes: &'a [u8], magic: &[u8; 8]) -> Option<&'a [u8]> {
    let (table, crc) = bytes.split_last_chunk()?;
    let (_version, body) = table.strip_prefix(magic)?.split_first()?;
    (crc32fast::hash(table) == u32::from_le_bytes(*crc)).then_some(body)
}

/// The codec, then the blob's algorithm, digest and length, a LEB128 number.
fn parse_form(bytes: &[u8]) -> Option<LayerForm> {
    let (_codec, rest) = table(bytes, FORM_MAGIC)?.split_first()?;
    let (algorithm, rest) = rest.split_first()?;
    let algorithm = match algorithm {
        0 => Algorithm::Sha256,
        1 => Algorithm::Sha512,
        _ => return None,
    };
    let (digest, rest) = rest.split_at_checked(algorithm.hex_len() / 2)?;
    let blob = Digest::new(algorithm, &hex(digest)).ok()?;
    let mut size_bytes = 0u64;
    for (at, byte) in rest.iter().enumerate().take(10) {
        size_bytes |= u64::from(byte & 0x7f).checked_shl(7 * at as u32)?;
        if byte & 0x80 == 0 {
            return Some(LayerForm { blob, size_bytes });
        }
    }
    None
}
