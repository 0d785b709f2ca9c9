//! Unpacked layers, stacked by overlayfs.

mod ids;
mod overlay;

pub use ids::Ids;
pub use overlay::{MountError, Overlay, ProbeError, Upper, mount_detached, probe};
