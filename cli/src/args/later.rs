//! Verbs and flags of docker's that are known and not here yet: saying so beats `unknown flag`, which reads like a slip of
//! the user's.

/// docker's verbs; those of its groups, too.
const VERBS: &[&str] = &[
    "attach", "commit", "cp", "create", "diff", "events", "exec", "export", "kill", "logs", "network",
    "pause", "port", "prune", "rename", "restart", "search", "start", "stats", "stop", "top", "unpause",
    "update", "volume", "wait",
];

/// A long flag, with its letter if it has one.
type Flag = (&'static str, Option<char>);

/// Flags of docker itself, in front of its verbs.
const GLOBAL: &[Flag] = &[
    ("context", Some('c')),
    ("host", Some('H')),
    ("tls", None),
    ("tlscacert", None),
    ("tlscert", None),
    ("tlskey", None),
    ("tlsverify", None),
];

/// Flags of `docker rm`.
const RM: &[Flag] = &[("link", Some('l'))];

/// Flags of `docker image ls`.
const IMAGES: &[Flag] = &[("tree", None)];

/// Flags of the verbs that handle one platform's image of several.
const OF_ONE_PLATFORM: &[Flag] = &[("platform", None)];

/// Flags of `docker run`.
const RUN: &[Flag] = &[
    ("add-host", None),
    ("annotation", None),
    ("blkio-weight", None),
    ("blkio-weight-device", None),
    ("cap-add", None),
    ("cap-drop", None),
    ("cgroup-parent", None),
    ("cgroupns", None),
    ("cpu-count", None),
    ("cpu-percent", None),
    ("cpu-period", None),
    ("cpu-quota", None),
    ("cpu-rt-period", None),
    ("cpu-rt-runtime", None),
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
    ("health-interval", None),
    ("health-retries", None),
    ("health-start-interval", None),
    ("health-start-period", None),
    ("health-timeout", None),
    ("init", None),
    ("io-maxbandwidth", None),
    ("io-maxiops", None),
    ("ip", None),
    ("ip6", None),
    ("ipc", None),
    ("isolation", None),
    ("kernel-memory", None),
    ("link", None),
    ("link-local-ip", None),
    ("log-driver", None),
    ("log-opt", None),
    ("mac-address", None),
    ("memory", Some('m')),
    ("memory-reservation", None),
    ("memory-swap", None),
    ("memory-swappiness", None),
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
    ("sig-proxy", None),
    ("stop-signal", None),
    ("stop-timeout", None),
    ("storage-opt", None),
    ("sysctl", None),
    ("tmpfs", None),
    ("ulimit", None),
    ("userns", None),
    ("uts", None),
    ("volume-driver", None),
    ("volumes-from", None),
];

/// Flags of `docker build` and `docker buildx build`.
const BUILD: &[Flag] = &[
    ("add-host", None),
    ("allow", None),
    ("attest", None),
    ("build-context", None),
    ("builder", None),
    ("cache-from", None),
    ("cache-to", None),
    ("call", None),
    ("cgroup-parent", None),
    ("check", None),
    ("cpu-period", None),
    ("cpu-quota", None),
    ("cpu-shares", Some('c')),
    ("cpuset-cpus", None),
    ("cpuset-mems", None),
    ("isolation", None),
    ("memory", Some('m')),
    ("memory-swap", None),
    ("no-cache-filter", None),
    ("push", None),
    ("security-opt", None),
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
        Some("gantry") => GLOBAL,
        Some("rm") if verb.ends_with("image rm") => OF_ONE_PLATFORM,
        Some("rm") => RM,
        Some("images") => IMAGES,
        Some("ls") if verb.ends_with("image ls") => IMAGES,
        Some("inspect") if verb.ends_with("image inspect") => OF_ONE_PLATFORM,
        Some("push" | "rmi" | "save" | "history") => OF_ONE_PLATFORM,
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
