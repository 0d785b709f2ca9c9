//! `cargo xtask bench`.
use anyhow::Result;

pub fn run(_rows: &[&str]) -> Result<()> {
    Ok(())
}
