//! The kernel's settings of a network namespace of its own, as docker has them.

use std::fs;

/// Files in `/proc/sys`, which shows the namespace of whoever looks: everybody in there may listen at any port and ping.
const SETTINGS: [(&str, &str); 2] =
    [("net/ipv4/ip_unprivileged_port_start", "0"), ("net/ipv4/ping_group_range", "0 2147483647")];

/// Applies them to this process' network namespace, each where the kernel has it and lets it be changed: in a user
/// namespace not all groups exist.
pub(super) fn apply() {
    for (name, value) in SETTINGS {
        if let Err(error) = fs::write(format!("/proc/sys/{name}"), value) {
            tracing::debug!(name, %error, "kernel setting stays");
        }
    }
}
