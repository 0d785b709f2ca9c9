//! `RUN`.

use super::flags::{Choices, Known};
use super::{Faults, Parsed};
use crate::dockerfile::error::Fault;
use crate::dockerfile::fields;
use crate::dockerfile::go;
use crate::dockerfile::instruction::{Device, Kind, Network, Run, Security};
use crate::dockerfile::mount::MountFlag;
use crate::dockerfile::source::Word;
use crate::dockerfile::suggest::nearest;

const FLAGS: Known =
    Known { names: &["mount", "network", "security", "device"], switches: &[], lists: &["mount", "device"] };

const NETWORKS: Choices<Network> = Choices {
    values: &[("default", Network::Default), ("none", Network::None), ("host", Network::Host)],
    expected: "`default`, `none` or `host`",
};

const SECURITIES: Choices<Security> = Choices {
    values: &[("sandbox", Security::Sandbox), ("insecure", Security::Insecure)],
    expected: "`sandbox` or `insecure`",
};

pub(super) fn run(parsed: &Parsed<'_>, faults: &mut Faults) -> Option<Kind> {
    let flags = parsed.flags("RUN", &FLAGS, faults);
    let run = Run {
        command: parsed.command_line(),
        heredocs: parsed.statement.heredocs.clone(),
        network: flags.choice("network", &NETWORKS, faults),
        security: flags.choice("security", &SECURITIES, faults),
        mounts: flags.all("mount").filter_map(|value| faults.keep(MountFlag::new(value))).collect(),
        devices: flags.all("device").filter_map(|value| device(value, faults)).collect(),
    };
    Some(Kind::Run(run))
}

/// `name`, `name=…` and `required[=bool]`; a field that is neither is the name.
fn device(value: &Word, faults: &mut Faults) -> Option<Device> {
    let mut device = Device { name: String::new(), required: false, span: value.span };
    for field in faults.keep(fields::split(value))? {
        let key = field.key.text.to_ascii_lowercase();
        match (key.as_str(), &field.value) {
            ("required", None) => device.required = true,
            ("required", Some(text)) => match go::parse_bool(&text.text) {
                Some(required) => device.required = required,
                None => {
                    let (value, expected) = (text.text.clone(), "`true` or `false`");
                    faults.add(text.span, Fault::KeyValue { key, value, expected, nearest: None });
                }
            },
            ("name", Some(_)) if !device.name.is_empty() => {
                faults.add(field.key.span, Fault::DeviceNameTwice);
            }
            ("name", Some(name)) => device.name.clone_from(&name.text),
            _ if device.name.is_empty() => device.name.clone_from(&field.whole.text),
            (_, None) => faults.add(field.key.span, Fault::KeyWithoutValue(key)),
            (_, Some(_)) => {
                let nearest = nearest(&key, &["name", "required"]);
                faults.add(field.key.span, Fault::UnknownKey { flag: "device", key, nearest });
            }
        }
    }
    Some(device)
}
