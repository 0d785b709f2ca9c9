//! What Go's types say about docker's fields and JSON does not: what a field is when it holds nothing, its type, its name.

/// The value of a field that is null or left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Nil {
    /// `[]`
    List,
    /// `map[]`; whatever it is asked for is not there, and that is no error.
    Map,
    /// The same; what is not there is an empty text for `index`.
    MapOfTexts,
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
    "Warnings",
];

const MAPS: &[&str] = &["ExposedPorts", "Networks", "PortBindings", "Ports", "Volumes"];

const MAPS_OF_TEXTS: &[&str] = &["Data", "DriverOpts", "Label", "Labels", "StorageOpt", "Sysctls", "Tmpfs"];

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

const INT64S: &[&str] = &[
    "CpuCount",
    "CpuPercent",
    "CpuPeriod",
    "CpuQuota",
    "CpuRealtimePeriod",
    "CpuRealtimeRuntime",
    "CpuShares",
    "KernelMemory",
    "KernelMemoryTCP",
    "MemTotal",
    "Memory",
    "MemoryReservation",
    "MemorySwap",
    "NanoCpus",
    "ShmSize",
    "Size",
    "VirtualSize",
];

const WORDS: &[&str] = &["CapAdd", "CapDrop", "Cmd", "Entrypoint"];

/// Fields whose name in Go, which templates use, is not the one in JSON.
const RENAMED: &[(&str, &str)] = &[("APIVersion", "ApiVersion"), ("ID", "Id")];

/// What a field of this name is when it holds nothing; `None` for a name that says nothing about it.
pub(super) fn nil(name: &str) -> Option<Nil> {
    let kinds = [
        (LISTS, Nil::List),
        (MAPS, Nil::Map),
        (MAPS_OF_TEXTS, Nil::MapOfTexts),
        (POINTERS, Nil::Pointer),
        (TEXTS, Nil::Text),
    ];
    kinds.iter().find(|(names, _)| names.contains(&name)).map(|(_, nil)| *nil)
}

/// The type of a field in Go, where its value does not show it.
pub(super) fn go_type(name: &str) -> Option<&'static str> {
    let types = [(INT64S, "int64"), (WORDS, "strslice.StrSlice")];
    types.iter().find(|(names, _)| names.contains(&name)).map(|(_, go_type)| *go_type)
}

/// What a field is called in JSON.
pub(super) fn in_json(name: &str) -> Option<&'static str> {
    RENAMED.iter().find(|(go, _)| *go == name).map(|(_, json)| *json)
}
