//! System calls that no safe crate offers: the only place with unsafe code. Each function is safe to call and does
//! one thing.

#![expect(unsafe_code, reason = "this module exists to hold it")]

mod bpf;
mod mount;
mod process;
mod seccomp;

pub(crate) use bpf::attach_device_program;
pub(crate) use mount::set_read_only;
pub(crate) use process::{SignalQueue, execute, reset_signals, send_signal, unshare};
pub(crate) use seccomp::load_filter;
