use std::fs::File;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::Store;
use super::disk::{self, Lock};
use super::error::StoreError;
use super::listing::{self, Sort};
use super::scratch;

/// Where a server of this store can be reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// `host:port` that it listens on.
    pub address: String,
    /// Random, new for each start; part of what is proved to it.
    pub instance_key: String,
    /// Its process.
    pub pid: u32,
}

/// Says that this process serves the store, until dropped.
#[derive(Debug)]
pub struct Serving {
    path: PathBuf,
    _lock: File,
}

const VERSION: u32 = 1;

/// `serving/<id>`; its owner holds a lock on it.
#[derive(Serialize, Deserialize)]
struct ServingFile {
    version: u32,
    address: String,
    instance_key: String,
    pid: u32,
}

impl Store {
    /// Makes a server known to other processes. Records of dead ones are removed.
    ///
    /// # Errors
    /// [`StoreError::Io`] when the record cannot be written.
    pub fn announce(&self, server: &Server) -> Result<Serving, StoreError> {
        self.sweep_servers()?;
        let path = self.paths().serving().join(disk::random_id()?);
        let record = ServingFile {
            version: VERSION,
            address: server.address.clone(),
            instance_key: server.instance_key.clone(),
            pid: server.pid,
        };
        let lock = disk::replace(&self.paths().ingest(), &path, &disk::encode(&record), 0o600)?;
        Ok(Serving { path, _lock: lock })
    }

    /// The servers of this store that are alive. Records of dead ones are removed.
    ///
    /// # Errors
    /// [`StoreError`] when a record cannot be read.
    pub fn servers(&self) -> Result<Vec<Server>, StoreError> {
        let mut servers = Vec::new();
        for id in listing::known(&self.paths().serving(), Sort::File, disk::as_random_id)? {
            let path = self.paths().serving().join(id);
            let file = disk::absent_is_none(File::open(&path)).map_err(StoreError::io("open", &path))?;
            let Some(file) = file else { continue };
            if Lock::try_on(&file).map_err(StoreError::io("lock", &path))? {
                scratch::unless_read_only(disk::remove_file(&path))?;
                continue;
            }
            let record: Option<ServingFile> = disk::read_record(&path, VERSION)?;
            servers.extend(record.map(|r| Server {
                address: r.address,
                instance_key: r.instance_key,
                pid: r.pid,
            }));
        }
        Ok(servers)
    }

    /// Removes the records of servers that are gone; how many.
    pub(super) fn sweep_servers(&self) -> Result<usize, StoreError> {
        scratch::sweep_folder(&self.paths().serving())
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        if let Err(error) = disk::remove_file(&self.path) {
            tracing::warn!(%error, "cannot remove the record of this server");
        }
    }
}
