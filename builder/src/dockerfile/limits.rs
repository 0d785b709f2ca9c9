//! How much a Dockerfile may ask for.

/// The largest file.
pub(super) const MAX_FILE_BYTES: usize = 16 << 20;
/// The longest physical line, as in BuildKit.
pub(super) const MAX_LINE_BYTES: usize = 65_535;
/// Heredocs of one instruction.
pub(super) const MAX_HEREDOCS: usize = 128;
/// Ports that one instruction exposes.
pub(super) const MAX_PORTS: usize = 1 << 17;
