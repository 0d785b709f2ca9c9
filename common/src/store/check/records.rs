use std::path::PathBuf;

use serde::Deserialize;
use serde::de::Error as _;

use super::{Check, Fault, Record};
use crate::digest::{Algorithm, Digest};
use crate::store::disk;
use crate::store::error::StoreError;
use crate::store::listing::{self, Sort};

/// What records of containers lie in `containers/<id>/`.
const CONTAINER_RECORDS: [&str; 3] = ["config.json", "settings.json", "state.json"];

/// What all records begin with. What else is in one, its owner knows: the builder, or the engine.
#[derive(Deserialize)]
struct Head {
    #[serde(rename = "version")]
    _version: u32,
    /// Of a build step.
    #[serde(rename = "diff_id")]
    _diff_id: Option<Digest>,
    /// Of a container's `config.json`.
    id: Option<String>,
}

impl Check<'_> {
    /// The records of the build cache, `cache/steps/<hh>/<hex>`: lines of JSON.
    pub(super) fn steps(&mut self) -> Result<(), StoreError> {
        let steps = self.store.paths().cache().join("steps");
        for first in listing::names(&steps, Sort::Folder)? {
            let folder = steps.join(first);
            let is_key = |name: &str| Digest::new(Algorithm::Sha256, name).ok().map(|_| name.to_owned());
            for key in listing::known(&folder, Sort::File, is_key)? {
                self.record(Record::Step, folder.join(key), |bytes| {
                    let mut lines = serde_json::Deserializer::from_slice(bytes);
                    Head::deserialize(&mut lines)?;
                    Vec::<(String, String)>::deserialize(&mut lines)?;
                    lines.end()
                })?;
            }
        }
        Ok(())
    }

    /// The records of containers. One that is just being made, or removed, lacks some.
    pub(super) fn containers(&mut self) -> Result<(), StoreError> {
        let containers = self.store.paths().containers();
        for id in listing::names(&containers, Sort::Folder)? {
            for name in CONTAINER_RECORDS {
                self.record(Record::Container, containers.join(&id).join(name), |bytes| {
                    let head: Head = serde_json::from_slice(bytes)?;
                    match head.id {
                        Some(other) if other != id => {
                            Err(serde_json::Error::custom("it is of another container"))
                        }
                        _ => Ok(()),
                    }
                })?;
            }
        }
        Ok(())
    }

    fn record(
        &mut self,
        record: Record,
        path: PathBuf,
        check: impl FnOnce(&[u8]) -> serde_json::Result<()>,
    ) -> Result<(), StoreError> {
        if let Some(Err(source)) = disk::read(&path)?.map(|bytes| check(&bytes)) {
            self.report.faults.push(Fault::Record { record, path, source });
        }
        Ok(())
    }
}
