//! What a command finds around it: the store's folder, Docker's configuration, the terminal.

use std::env;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use common::client::{Client, ClientOptions, Proxies};
use common::store::Store;

/// Flags that every verb takes, in front of it or behind it.
#[derive(Debug, clap::Args)]
pub(crate) struct Global {
    /// Folder of the store
    #[arg(long, value_name = "DIR", global = true, help_heading = "Global options")]
    pub(crate) root: Option<PathBuf>,
    /// Folder of docker's client configuration [default: $DOCKER_CONFIG or ~/.docker]
    #[arg(long, value_name = "DIR")]
    pub(crate) config: Option<PathBuf>,
    /// Log decisions to stderr, as with `--log-level debug`
    #[arg(short = 'D', long)]
    debug: bool,
    /// Log lines of this level and above go to stderr: debug, info, warn, error, fatal
    #[arg(short = 'l', long, value_name = "LEVEL", value_parser = ["trace", "debug", "info", "warn", "error", "fatal"])]
    log_level: Option<String>,
    /// Print the version and exit
    #[arg(short = 'v', long, action = clap::ArgAction::Version)]
    version: Option<bool>,
}

impl Global {
    /// The level in `tracing`'s words.
    pub(crate) fn log_level(&self) -> &str {
        match self.log_level.as_deref() {
            Some("fatal") => "error",
            Some(level) => level,
            None if self.debug => "debug",
            None => "warn",
        }
    }
}

/// Read once, before the verb runs.
#[derive(Debug)]
pub(crate) struct Context {
    root: PathBuf,
    /// Folder of Docker's `config.json`: `--config`, else `$DOCKER_CONFIG`, else `~/.docker`.
    pub(crate) docker_config: PathBuf,
}

impl Context {
    /// # Errors
    /// When neither a flag nor the environment says where the store is.
    pub(crate) fn new(global: &Global) -> Result<Self> {
        let home = env::var_os("HOME").filter(|home| !home.is_empty()).map(PathBuf::from);
        let root = match &global.root {
            Some(root) => root.clone(),
            None => default_root(home.as_deref())?,
        };
        let docker_config = global
            .config
            .clone()
            .or_else(|| env::var_os("DOCKER_CONFIG").filter(|v| !v.is_empty()).map(PathBuf::from))
            .or_else(|| home.map(|home| home.join(".docker")))
            .unwrap_or_else(|| PathBuf::from("/root/.docker"));
        let root = std::path::absolute(&root)
            .with_context(|| format!("cannot make `{}` absolute", root.display()))?;
        Ok(Context { root, docker_config })
    }

    /// docker's `config.json`.
    pub(crate) fn docker_config_file(&self) -> PathBuf {
        self.docker_config.join("config.json")
    }

    /// A client that reads docker's files, and the proxies of the environment.
    pub(crate) fn client(&self) -> Result<Client> {
        let variable = |name: &str| {
            let lower = name.to_ascii_lowercase();
            [name, &lower].iter().find_map(|name| env::var(name).ok()).filter(|value| !value.is_empty())
        };
        let proxies = Proxies {
            http: variable("HTTP_PROXY"),
            https: variable("HTTPS_PROXY"),
            none_for: variable("NO_PROXY"),
        };
        let mut certs_dirs = vec![PathBuf::from("/etc/docker/certs.d")];
        if !rustix::process::geteuid().is_root() {
            certs_dirs.insert(0, self.docker_config.join("certs.d"));
        }
        let options = ClientOptions {
            config_file: Some(self.docker_config_file()),
            daemon_file: Some(PathBuf::from("/etc/docker/daemon.json")),
            certs_dirs,
            proxies,
            ..ClientOptions::default()
        };
        Ok(Client::new(options)?)
    }

    /// Opens the store as it is: a slip in `--root` makes none, and shows an empty one.
    pub(crate) fn store(&self) -> Result<Store> {
        Ok(Store::open_as_it_is(&self.root)?)
    }

    /// Opens the store for a command that puts something into it, and makes it when there is none.
    pub(crate) fn store_or_new(&self) -> Result<Store> {
        Ok(Store::open(&self.root)?)
    }
}

/// `/var/lib/gantry` for root, `$XDG_DATA_HOME/gantry` for others.
fn default_root(home: Option<&Path>) -> Result<PathBuf> {
    if let Some(root) = env::var_os("GANTRY_ROOT").filter(|root| !root.is_empty()) {
        return Ok(root.into());
    }
    if rustix::process::geteuid().is_root() {
        return Ok("/var/lib/gantry".into());
    }
    if let Some(data) = env::var_os("XDG_DATA_HOME").filter(|data| Path::new(data).is_absolute()) {
        return Ok(Path::new(&data).join("gantry"));
    }
    match home {
        Some(home) => Ok(home.join(".local/share/gantry")),
        None => bail!("cannot tell where the store is: set `--root`, `$GANTRY_ROOT` or `$HOME`"),
    }
}
