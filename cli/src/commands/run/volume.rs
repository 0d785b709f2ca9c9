//! `--volume`: folders and files of the host that the container sees.

use std::fs;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context as _, Result};
use engine::containers::{Mount, MountSource};

use crate::error::{self, verbatim};

/// All of them; two at one place are refused.
pub(super) fn binds(volumes: &[String]) -> Result<Vec<Mount>> {
    let mut mounts: Vec<Mount> = Vec::new();
    for volume in volumes {
        let mount = bind(volume)?;
        if mounts.iter().any(|other| other.destination == mount.destination) {
            let at = mount.destination.display();
            return Err(verbatim(format!("gantry: Duplicate mount point: {at}")));
        }
        mounts.push(mount);
    }
    Ok(mounts)
}

/// `-v HOST:CONTAINER[:OPTIONS]`
fn bind(volume: &str) -> Result<Mount> {
    let invalid = || verbatim(format!("gantry: invalid volume specification: '{volume}'"));
    let mut parts = volume.split(':');
    let (source, destination) = match (parts.next(), parts.next()) {
        (Some(source), Some(destination)) if !source.is_empty() && !destination.is_empty() => {
            (source, destination)
        }
        (Some(_), None) => {
            return Err(verbatim(format!("gantry: anonymous volumes ('{volume}') are not supported yet")));
        }
        _ => return Err(invalid()),
    };
    let options = parts.next().unwrap_or_default();
    if parts.next().is_some() {
        return Err(invalid());
    }
    let read_only = is_read_only(options)?;
    let place = clean(destination);
    let wrong = if !place.is_absolute() {
        Some(format!("invalid mount path: '{destination}' mount path must be absolute"))
    } else if place == Path::new("/") {
        Some("invalid specification: destination can't be '/'".to_owned())
    } else {
        None
    };
    if let Some(wrong) = wrong {
        let config = "invalid mount config for type \"bind\"";
        return Err(verbatim(format!("gantry: invalid volume specification: '{volume}': {config}: {wrong}")));
    }
    let source = host_folder(source)?;
    Ok(Mount {
        source: MountSource::Bind(source),
        destination: place,
        options: options.to_owned(),
        read_only,
    })
}

/// What options say, of each kind one at most.
fn is_read_only(options: &str) -> Result<bool> {
    let invalid = || verbatim(format!("gantry: invalid mode: {options}"));
    let mut kinds = Vec::new();
    for option in options.split(',').filter(|_| !options.is_empty()) {
        let kind = match option {
            "ro" | "rw" => "access",
            // Relabelling is for SELinux alone.
            "z" | "Z" => "label",
            "cached" | "delegated" | "consistent" => "consistency",
            // That of a private mount is the default.
            "rprivate" | "private" => "propagation",
            "rshared" | "shared" | "rslave" | "slave" => {
                return Err(verbatim(format!("gantry: mount propagation '{option}' is not supported yet")));
            }
            _ => return Err(invalid()),
        };
        if kinds.contains(&kind) {
            return Err(invalid());
        }
        kinds.push(kind);
    }
    Ok(options.split(',').any(|option| option == "ro"))
}

/// The path without blank steps and ways back, as its words say: nobody looks at symlinks yet.
fn clean(path: &str) -> PathBuf {
    let mut clean = PathBuf::new();
    for component in Path::new(path).components() {
        match component {
            Component::ParentDir => drop(clean.pop()),
            other => clean.push(other),
        }
    }
    clean
}

/// A path of the host; a folder that is not there is made, as docker does.
fn host_folder(source: &str) -> Result<PathBuf> {
    let is_relative =
        source.starts_with("./") || source.starts_with("../") || source == "." || source == "..";
    if !is_relative && !source.starts_with('/') {
        check_name(source)?;
        return Err(verbatim(format!(
            "gantry: named volumes ('{source}') are not supported yet; use an absolute path"
        )));
    }
    let path = std::path::absolute(source).with_context(|| format!("cannot make `{source}` absolute"))?;
    if !path.exists() {
        fs::create_dir_all(&path).map_err(|error| {
            let (shown, why) = (path.display(), error::system_words(&error));
            let text = format!("error while creating mount source path '{shown}': mkdir {shown}: {why}");
            verbatim(format!("gantry: {text}"))
        })?;
    }
    Ok(path)
}

/// A volume's name as docker allows it, or its words for another one.
fn check_name(name: &str) -> Result<()> {
    let first = name.starts_with(|c: char| c.is_ascii_alphanumeric());
    if first && name.len() > 1 && name.chars().all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c)) {
        return Ok(());
    }
    Err(verbatim(format!(
        "gantry: create {name}: \"{name}\" includes invalid characters for a local volume name, \
         only \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed. If you intended to pass a host directory, use absolute path"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn volumes_that_are_no_binds_are_refused_with_the_reason() {
        for (volume, text) in [
            ("name:/p", "named volumes"),
            ("/p", "anonymous volumes"),
            ("/tmp:rel", "must be absolute"),
            ("/tmp:/p:nope", "invalid mode: nope"),
            ("/tmp:/p:ro,rw", "invalid mode: ro,rw"),
            ("/tmp:/p:ro,", "invalid mode: ro,"),
            ("/tmp:/p:ro,rslave", "propagation 'rslave' is not supported yet"),
            ("/tmp:/p:ro:x", "invalid volume specification"),
            (":/p", "invalid volume specification"),
            ("/tmp:/", "destination can't be '/'"),
            ("/tmp:/a/..", "destination can't be '/'"),
            ("a&b:/p", "includes invalid characters for a local volume name"),
        ] {
            let error = bind(volume).unwrap_err().to_string();
            assert!(error.contains(text), "{volume}: {error}");
        }
        assert!(bind("/tmp:/p:z,ro,cached").unwrap().read_only);
        assert!(!bind("/tmp:/p:").unwrap().read_only);
        assert_eq!(bind("/tmp:/a//./b/../c/").unwrap().destination.to_str(), Some("/a/c"));
        let below_a_file = bind("/proc/version/x:/p").unwrap_err().to_string();
        let place = "mount source path '/proc/version/x'";
        let text = format!("gantry: error while creating {place}: mkdir /proc/version/x: not a directory");
        assert_eq!(below_a_file, text);
        let twice = binds(&["/tmp:/p".into(), "/etc:/p/".into()]).unwrap_err();
        assert_eq!(twice.to_string(), "gantry: Duplicate mount point: /p");
    }
}
