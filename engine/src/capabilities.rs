//! Capabilities a container gets.

use rustix::thread::CapabilitySet;

/// Docker's fourteen.
///
/// <https://docs.docker.com/engine/containers/run/#runtime-privilege-and-linux-capabilities>
pub(crate) const DEFAULT: CapabilitySet = CapabilitySet::AUDIT_WRITE
    .union(CapabilitySet::CHOWN)
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::FSETID)
    .union(CapabilitySet::KILL)
    .union(CapabilitySet::MKNOD)
    .union(CapabilitySet::NET_BIND_SERVICE)
    .union(CapabilitySet::NET_RAW)
    .union(CapabilitySet::SETFCAP)
    .union(CapabilitySet::SETGID)
    .union(CapabilitySet::SETPCAP)
    .union(CapabilitySet::SETUID)
    .union(CapabilitySet::SYS_CHROOT);

/// What no process started from here can ever have more of.
pub(crate) fn bounding() -> rustix::io::Result<CapabilitySet> {
    let mut set = CapabilitySet::empty();
    for capability in CapabilitySet::all().iter() {
        // Fails for those that are newer than the kernel.
        match rustix::thread::capability_is_in_bounding_set(capability) {
            Ok(true) => set |= capability,
            Ok(false) | Err(rustix::io::Errno::INVAL) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(set)
}

/// The same set in the runtime specification's words: `CAP_CHOWN` and so on.
pub(crate) fn names(set: CapabilitySet) -> Vec<String> {
    set.iter_names().map(|(name, _)| format!("CAP_{name}")).collect()
}

#[cfg(test)]
mod tests {
    use libcontainer::oci_spec::runtime::Capability;

    use super::*;

    #[test]
    fn the_default_set_is_dockers() {
        assert_eq!(DEFAULT.bits(), 0xa804_25fb);
    }

    #[test]
    fn names_are_the_specifications() {
        let names = names(CapabilitySet::all());
        assert_eq!(names.len(), 41);
        for name in names {
            assert!(serde_json::from_value::<Capability>(name.clone().into()).is_ok(), "{name}");
        }
    }
}
