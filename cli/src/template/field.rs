//! What Go's types say about docker's fields and JSON does not: what a field is when it holds nothing.

/// The value of a field that is null or left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Nil {
    /// `[]`
    List,
    /// `map[]`; whatever it is asked for is not there, and that is no error.
    Map,
    /// `<nil>`
    Pointer,
    /// Nothing is printed.
    Text,
}

const LISTS: &[&str] = &[
    "Aliases",
    "Args",
    "Binds",
    "CapAdd",
    "CapDrop",
    "Cmd",
    "DeviceCgroupRules",
    "DeviceRequests",
    "Devices",
    "Dns",
    "DnsOptions",
    "DnsSearch",
    "Entrypoint",
    "Env",
    "ExecIDs",
    "ExtraHosts",
    "GroupAdd",
    "Layers",
    "Links",
    "MaskedPaths",
    "Mounts",
    "OnBuild",
    "ReadonlyPaths",
    "RepoDigests",
    "RepoTags",
    "SecurityOpt",
    "Shell",
    "Ulimits",
    "VolumesFrom",
];

const MAPS: &[&str] = &[
    "Data",
    "DriverOpts",
    "ExposedPorts",
    "Labels",
    "Networks",
    "PortBindings",
    "Ports",
    "StorageOpt",
    "Sysctls",
    "Tmpfs",
    "Volumes",
];

const POINTERS: &[&str] = &[
    "Health",
    "Healthcheck",
    "IPAMConfig",
    "Init",
    "MemorySwappiness",
    "OomKillDisable",
    "PidsLimit",
    "SizeRootFs",
    "SizeRw",
    "StopTimeout",
];

const TEXTS: &[&str] = &["OsVersion", "StopSignal", "Variant"];

/// What a field of this name is when it holds nothing; `None` for a name that says nothing about it.
pub(super) fn nil(name: &str) -> Option<Nil> {
    let kinds = [(LISTS, Nil::List), (MAPS, Nil::Map), (POINTERS, Nil::Pointer), (TEXTS, Nil::Text)];
    kinds.iter().find(|(names, _)| names.contains(&name)).map(|(_, nil)| *nil)
}
