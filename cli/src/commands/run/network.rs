//! `--network`.

use anyhow::Result;
use engine::containers::NetworkMode;

use crate::error::verbatim;

/// The network that is asked for; of several none is right, as long as there are none that can be joined together.
pub(super) fn mode(names: &[String]) -> Result<NetworkMode> {
    let refused = |text: &str| Err(verbatim(format!("gantry: {text}")));
    if let Some(twice) =
        names.iter().enumerate().find_map(|(n, name)| names[..n].contains(name).then_some(name))
    {
        return refused(&format!("network \"{twice}\" is specified multiple times"));
    }
    match names {
        [] => Ok(NetworkMode::None),
        [name] => match name.as_str() {
            "none" => Ok(NetworkMode::None),
            "host" => Ok(NetworkMode::Host),
            "bridge" | "default" => {
                refused("there are no bridge networks yet; use --network host or --network none")
            }
            other if other.starts_with("container:") => {
                refused("networks of other containers cannot be joined yet; use --network host or none")
            }
            "" => refused("no name set for network"),
            other => refused(&format!("network {other} not found")),
        },
        several
            if several.iter().any(|name| is_built_in(name))
                && !several.iter().all(|name| is_built_in(name)) =>
        {
            refused("conflicting options: cannot attach both user-defined and non-user-defined network-modes")
        }
        several => {
            let mut several = several.to_vec();
            several.sort_unstable();
            refused(&format!("Container cannot be connected to network endpoints: {}", several.join(", ")))
        }
    }
}

fn is_built_in(name: &str) -> bool {
    matches!(name, "none" | "host" | "bridge" | "default") || name.starts_with("container:")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_that_exclude_each_other_are_refused_in_dockers_words() {
        let mode = |names: &[&str]| {
            let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            mode(&names).map_err(|error| error.to_string())
        };
        assert_eq!(mode(&[]), Ok(NetworkMode::None));
        assert_eq!(mode(&["host"]), Ok(NetworkMode::Host));
        for (names, text) in [
            (&["none", "host"][..], "Container cannot be connected to network endpoints: host, none"),
            (&["none", "none"], "network \"none\" is specified multiple times"),
            (
                &["none", "mine"],
                "conflicting options: cannot attach both user-defined and non-user-defined network-modes",
            ),
            (&["mine"], "network mine not found"),
            (&[""], "no name set for network"),
        ] {
            assert_eq!(mode(names), Err(format!("gantry: {text}")));
        }
    }
}
