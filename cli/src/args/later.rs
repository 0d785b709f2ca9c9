//! Verbs and flags of docker's that are known and not here yet: saying so beats `unknown flag`, which reads like a slip of
//! the user's.

/// docker's verbs; those of its groups, too.
const VERBS: &[&str] = &[
    "attach", "commit", "cp", "create", "diff", "events", "exec", "export", "kill", "logs", "network",
    "pause", "port", "prune", "rename", "restart", "search", "start", "stats", "stop", "top", "unpause",
    "update", "volume", "wait",
];

/// Long flags of `docker run`, with the letter of those that have one.
const RUN: &[(&str, Option<char>)] = &[
    ("add-host", None),
    ("blkio-weight", None),
    ("cap-add", None),
    ("cap-drop", None),
    ("cpu-period", None),
    ("cpu-quota", None),
    ("cpu-shares", Some('c')),
    ("cpus", None),
    ("cpuset-cpus", None),
    ("cpuset-mems", None),
    ("detach", Some('d')),
    ("detach-keys", None),
    ("device", None),
    ("device-cgroup-rule", None),
    ("device-read-bps", None),
    ("device-read-iops", None),
    ("device-write-bps", None),
    ("device-write-iops", None),
    ("dns", None),
    ("dns-option", None),
    ("dns-search", None),
    ("domainname", None),
    ("expose", None),
    ("gpus", None),
    ("group-add", None),
    ("health-cmd", None),
    ("init", None),
    ("ip", None),
    ("ip6", None),
    ("ipc", None),
    ("link", None),
    ("log-driver", None),
    ("log-opt", None),
    ("mac-address", None),
    ("memory", Some('m')),
    ("memory-reservation", None),
    ("memory-swap", None),
    ("mount", None),
    ("network-alias", None),
    ("no-healthcheck", None),
    ("oom-kill-disable", None),
    ("oom-score-adj", None),
    ("pid", None),
    ("pids-limit", None),
    ("privileged", None),
    ("publish", Some('p')),
    ("publish-all", Some('P')),
    ("restart", None),
    ("runtime", None),
    ("security-opt", None),
    ("shm-size", None),
    ("stop-signal", None),
    ("stop-timeout", None),
    ("sysctl", None),
    ("tmpfs", None),
    ("ulimit", None),
    ("userns", None),
    ("uts", None),
    ("volumes-from", None),
];

/// Long flags of `docker build` and `docker buildx build`.
const BUILD: &[(&str, Option<char>)] = &[
    ("add-host", None),
    ("allow", None),
    ("attest", None),
    ("build-context", None),
    ("builder", None),
    ("cache-from", None),
    ("cache-to", None),
    ("call", None),
    ("check", None),
    ("isolation", None),
    ("memory", Some('m')),
    ("no-cache-filter", None),
    ("provenance", None),
    ("push", None),
    ("sbom", None),
    ("shm-size", None),
    ("squash", None),
    ("ssh", None),
    ("ulimit", None),
];

/// The text for a flag of docker's that this verb will have and has not.
pub(super) fn refused_flag(verb: &str, flag: &str) -> Option<String> {
    let known = match verb.rsplit(' ').next() {
        Some("run") => RUN,
        Some("build") => BUILD,
        _ => return None,
    };
    let (long, _) = known.iter().find(|(long, letter)| match flag.strip_prefix("--") {
        Some(name) => name == *long,
        None => letter.is_some_and(|letter| flag[1..].starts_with(letter)),
    })?;
    Some(format!("{verb}: docker's flag --{long} is not here yet"))
}

/// The text for a verb of docker's that this program will have and has not.
pub(super) fn refused_verb(word: &str) -> Option<String> {
    VERBS.contains(&word).then(|| format!("gantry: docker's command '{word}' is not here yet"))
}
