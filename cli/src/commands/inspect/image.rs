use anyhow::Result;
use common::digest::Digest;
use common::image::names;
use common::image::record;
use common::oci::ImageConfig;
use common::reference::Reference;
use common::store::Store;
use jiff::Timestamp;
use serde_json::{Value, json};

/// docker's document of an image.
pub(super) fn document(store: &Store, id: &Digest) -> Result<Value> {
    let config = names::config(store, id)?;
    let record = store.image(id)?;
    let tags = names::tags(store)?.by_image.remove(id).unwrap_or_default();
    let digests: Vec<String> =
        record.iter().flat_map(|record| &record.names).map(Reference::familiar).collect();
    let created = match (&config.created, &record) {
        (Some(created), _) => created.clone(),
        (None, Some(record)) => {
            Timestamp::from_second(record.created).unwrap_or(Timestamp::UNIX_EPOCH).to_string()
        }
        (None, None) => String::new(),
    };
    let size = record::size_bytes(store, &config)?;
    let comment = config.history.last().and_then(|step| step.comment.clone()).unwrap_or_default();
    let mut value = json!({
        "Id": id,
        "RepoTags": tags.iter().map(Reference::familiar).collect::<Vec<_>>(),
        "RepoDigests": digests,
        "Parent": "",
        "Comment": comment,
        "Created": created,
        "Container": "",
        "DockerVersion": config.other.get("docker_version").cloned().unwrap_or_else(|| json!("")),
        "Author": config.author.clone().unwrap_or_default(),
        "Config": config_document(&config),
        "Architecture": config.architecture,
        "Os": config.os,
        "Size": size,
        "VirtualSize": size,
        "GraphDriver": {"Data": null, "Name": "overlay2"},
        "RootFS": {"Type": "layers", "Layers": config.rootfs.diff_ids},
        "Metadata": {"LastTagTime": "0001-01-01T00:00:00Z"},
    });
    if let Some(variant) = &config.variant {
        value["Variant"] = json!(variant);
    }
    Ok(value)
}

/// docker shows the fields that a template may ask for, also when the image has none.
fn config_document(config: &ImageConfig) -> Value {
    let config = &config.config;
    let or_null = |list: &[String]| if list.is_empty() { Value::Null } else { json!(list) };
    let mut value = json!({
        "Hostname": "",
        "Domainname": "",
        "User": config.user,
        "AttachStdin": false,
        "AttachStdout": false,
        "AttachStderr": false,
        "Tty": false,
        "OpenStdin": false,
        "StdinOnce": false,
        "Env": or_null(&config.env),
        "Cmd": config.cmd,
        "Image": "",
        "Volumes": if config.volumes.is_empty() { Value::Null } else { json!(config.volumes) },
        "WorkingDir": config.working_dir,
        "Entrypoint": config.entrypoint,
        "OnBuild": or_null(&config.on_build),
        "Labels": if config.labels.is_empty() { Value::Null } else { json!(config.labels) },
    });
    let optional = [
        ("ExposedPorts", (!config.exposed_ports.is_empty()).then(|| json!(config.exposed_ports))),
        ("Healthcheck", config.healthcheck.as_ref().map(|check| json!(check))),
        ("StopSignal", config.stop_signal.as_ref().map(|signal| json!(signal))),
        ("StopTimeout", config.stop_timeout.map(|seconds| json!(seconds))),
        ("Shell", config.shell.as_ref().map(|shell| json!(shell))),
    ];
    for (name, field) in optional {
        if let Some(field) = field {
            value[name] = field;
        }
    }
    value
}
