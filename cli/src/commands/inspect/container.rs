use std::path::Path;

use anyhow::Result;
use common::store::Store;
use engine::containers::{Container, MountSource, Status};
use serde_json::{Value, json};

use crate::commands::state::{Sizes, is_running, network_word, status_word, time};
use crate::error::chain;

/// docker's document of a container; with `size` also how much it has written, and how much is below that.
pub(super) fn document(store: &Store, container: &Container, size: bool) -> Result<Value> {
    let (config, state) = (&container.config, &container.state);
    let instant = |at: Option<i64>| time(at).map_or("0001-01-01T00:00:00Z".to_owned(), |at| at.to_string());
    let running = is_running(container);
    let args = config.args();
    let (path, rest) = args.split_first().map_or(("", &[][..]), |(path, rest)| (path.as_str(), rest));
    let mut document = json!({
        "Id": container.id(),
        "Created": instant(Some(config.created_ns)),
        "Path": path,
        "Args": rest,
        "State": {
            "Status": status_word(container),
            "Running": running,
            "Paused": false,
            "Restarting": false,
            "OOMKilled": false,
            "Dead": state.status == Status::Dead,
            "Pid": state.process.as_ref().filter(|_| running).map_or(0, |process| process.pid),
            "ExitCode": state.exit_code,
            "Error": container.damage().map_or_else(|| state.error.clone(), |damage| chain(damage)),
            "StartedAt": instant(state.started_ns),
            "FinishedAt": instant(state.finished_ns),
        },
        "Image": config.image,
        "ResolvConfPath": container.etc_file("resolv.conf"),
        "HostnamePath": container.etc_file("hostname"),
        "HostsPath": container.etc_file("hosts"),
        "LogPath": "",
        "Name": format!("/{}", container.name()),
        "RestartCount": 0,
        "Driver": "overlay2",
        "Platform": "linux",
        "MountLabel": "",
        "ProcessLabel": "",
        "AppArmorProfile": "",
        "ExecIDs": null,
        "HostConfig": host_config(container),
        "GraphDriver": {"Data": {"UpperDir": container.changes()}, "Name": "overlay2"},
    });
    if size {
        let sizes = Sizes::of(store, container)?;
        document["SizeRw"] = json!(sizes.written);
        document["SizeRootFs"] = json!(sizes.whole);
    }
    document["Mounts"] = mounts(container);
    document["Config"] = own_config(container);
    document["NetworkSettings"] = network_settings(container);
    Ok(document)
}

/// What the container was asked for, of the host. Fields for what is not limited have docker's values for that.
fn host_config(container: &Container) -> Value {
    let config = &container.config;
    let binds: Vec<String> = config
        .mounts
        .iter()
        .map(|mount| {
            let MountSource::Bind(source) = &mount.source;
            let colon = if mount.options.is_empty() { "" } else { ":" };
            format!("{}:{}{colon}{}", source.display(), mount.destination.display(), mount.options)
        })
        .collect();
    let mut document = json!({
        "Binds": if binds.is_empty() { Value::Null } else { json!(binds) },
        "ContainerIDFile": config.id_file.as_deref().unwrap_or(Path::new("")),
        "LogConfig": {"Type": "none", "Config": {}},
        "NetworkMode": network_word(container),
        "PortBindings": {},
        "RestartPolicy": {"Name": "no", "MaximumRetryCount": 0},
        "AutoRemove": config.auto_remove,
        "VolumeDriver": "",
        "VolumesFrom": null,
        "CapAdd": null,
        "CapDrop": null,
        "CgroupnsMode": "private",
        "Dns": [],
        "DnsOptions": [],
        "DnsSearch": [],
        "ExtraHosts": null,
        "GroupAdd": null,
        "IpcMode": "private",
        "Cgroup": "",
        "Links": null,
        "OomScoreAdj": 0,
        "PidMode": "",
        "Privileged": false,
        "PublishAllPorts": false,
        "ReadonlyRootfs": config.read_only,
        "SecurityOpt": null,
        "UTSMode": "",
        "UsernsMode": "",
        "ShmSize": 64 << 20,
        "Runtime": "gantry",
        "ConsoleSize": [0, 0],
        "Isolation": "",
    });
    document.as_object_mut().into_iter().for_each(|fields| fields.extend(without_limits()));
    document
}

/// The fields of limits, with docker's values for none.
fn without_limits() -> serde_json::Map<String, Value> {
    let fields = json!({
        "CpuShares": 0,
        "Memory": 0,
        "NanoCpus": 0,
        "CgroupParent": "",
        "BlkioWeight": 0,
        "BlkioWeightDevice": [],
        "BlkioDeviceReadBps": null,
        "BlkioDeviceWriteBps": null,
        "BlkioDeviceReadIOps": null,
        "BlkioDeviceWriteIOps": null,
        "CpuPeriod": 0,
        "CpuQuota": 0,
        "CpuRealtimePeriod": 0,
        "CpuRealtimeRuntime": 0,
        "CpusetCpus": "",
        "CpusetMems": "",
        "Devices": [],
        "DeviceCgroupRules": null,
        "DeviceRequests": null,
        "KernelMemory": 0,
        "KernelMemoryTCP": 0,
        "MemoryReservation": 0,
        "MemorySwap": 0,
        "MemorySwappiness": null,
        "OomKillDisable": false,
        "PidsLimit": null,
        "Ulimits": null,
        "CpuCount": 0,
        "CpuPercent": 0,
        "IOMaximumIOps": 0,
        "IOMaximumBandwidth": 0,
    });
    fields.as_object().cloned().unwrap_or_default()
}

fn mounts(container: &Container) -> Value {
    let mounts = container.config.mounts.iter().map(|mount| {
        let MountSource::Bind(source) = &mount.source;
        json!({
            "Type": "bind",
            "Source": source,
            "Destination": mount.destination,
            "Mode": mount.options,
            "RW": !mount.read_only,
            "Propagation": "rprivate",
        })
    });
    mounts.collect()
}

/// What runs in it, by docker's names, in docker's order.
fn own_config(container: &Container) -> Value {
    let config = &container.config;
    let process = &config.process;
    let mut document = json!({
        "Hostname": config.hostname,
        "Domainname": "",
        "User": process.user,
        "AttachStdin": config.attached.stdin,
        "AttachStdout": config.attached.stdout,
        "AttachStderr": config.attached.stderr,
        "Tty": config.terminal,
        "OpenStdin": config.open_stdin,
        "StdinOnce": config.open_stdin && config.attached.stdin,
        "Env": if process.env.is_empty() { Value::Null } else { json!(process.env) },
        "Cmd": process.cmd,
        "Image": config.image_name,
        "Volumes": if process.volumes.is_empty() { Value::Null } else { json!(process.volumes) },
        "WorkingDir": process.working_dir,
        "Entrypoint": process.entrypoint,
        "OnBuild": null,
        "Labels": process.labels,
    });
    // Only there when they say something.
    let mut optional = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            document[name] = value;
        }
    };
    optional("ExposedPorts", (!process.exposed_ports.is_empty()).then(|| json!(process.exposed_ports)));
    optional("Healthcheck", process.healthcheck.as_ref().map(|check| json!(check)));
    optional("StopSignal", process.stop_signal.as_ref().map(|signal| json!(signal)));
    optional("StopTimeout", process.stop_timeout.map(|seconds| json!(seconds)));
    document
}

/// Without a bridge there are no addresses; the fields are there for templates that ask for them.
fn network_settings(container: &Container) -> Value {
    let network = json!({
        "IPAMConfig": null,
        "Links": null,
        "Aliases": null,
        "NetworkID": "",
        "EndpointID": "",
        "Gateway": "",
        "IPAddress": "",
        "IPPrefixLen": 0,
        "IPv6Gateway": "",
        "GlobalIPv6Address": "",
        "GlobalIPv6PrefixLen": 0,
        "MacAddress": "",
        "DriverOpts": null,
    });
    json!({
        "Bridge": "",
        "SandboxID": "",
        "HairpinMode": false,
        "LinkLocalIPv6Address": "",
        "LinkLocalIPv6PrefixLen": 0,
        "Ports": {},
        "SandboxKey": "",
        "SecondaryIPAddresses": null,
        "SecondaryIPv6Addresses": null,
        "EndpointID": "",
        "Gateway": "",
        "GlobalIPv6Address": "",
        "GlobalIPv6PrefixLen": 0,
        "IPAddress": "",
        "IPPrefixLen": 0,
        "IPv6Gateway": "",
        "MacAddress": "",
        "Networks": {network_word(container): network},
    })
}
