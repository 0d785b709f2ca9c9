//! The official conformance program, where it is installed.
//!
//! Found by `$OCI_CONFORMANCE` or as `conformance` in PATH; build it from the sources of the distribution spec
//! (`conformance/`, commit 967efdc). Its exit code is 0 also when it could not begin, so its report is read.

use std::path::PathBuf;
use std::process::Command;

use crate::support::World;

fn program() -> Option<PathBuf> {
    let named = std::env::var_os("OCI_CONFORMANCE").map(PathBuf::from);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|folder| folder.join("conformance"));
    named.into_iter().chain(found).find(|path| path.is_file())
}

/// The number behind `kind` and dots in the summary at the report's end.
fn count(report: &str, kind: &str) -> Option<u32> {
    let number = |line: &str| {
        line.trim().strip_prefix(kind)?.trim_start_matches('.').strip_prefix(':')?.trim().parse().ok()
    };
    report.lines().rev().find_map(number)
}

async fn check_conformance(version: &'static str, variables: &[(&str, &str)], users: Option<&str>) {
    let Some(program) = program() else {
        eprintln!(
            "skipped: conformance program missing (set OCI_CONFORMANCE or put `conformance` into PATH)"
        );
        return;
    };
    let world = World::start_with(|options, folder| {
        if let Some(users) = users {
            std::fs::write(folder.join("users"), users).unwrap();
            options.htpasswd = Some(folder.join("users"));
        }
    })
    .await;
    let results = world.folder.path().join("results");
    std::fs::create_dir(&results).unwrap();
    let mut command = Command::new(program);
    command
        .current_dir(&results)
        .env("OCI_REGISTRY", world.address.to_string())
        .env("OCI_TLS", "disabled")
        .env("OCI_VERSION", version)
        .env("OCI_RESULTS_DIR", &results)
        .envs(variables.iter().copied());
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let report = String::from_utf8_lossy(&output.stdout);
    let counts = ["Pass", "FAIL", "Error", "Skip"].map(|kind| count(&report, kind));
    assert!(
        counts[0].is_some_and(|passed| passed > 800),
        "{report}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(counts[1..].iter().all(|count| count.unwrap_or(0) == 0), "{report}");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn conformance_at_the_released_version() {
    check_conformance("1.1", &[], None).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn conformance_at_the_development_version() {
    check_conformance("dev", &[("OCI_DATA_SPARSE", "true")], None).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn conformance_with_users() {
    let users = format!("tester:{}\n", bcrypt::hash("secret", 4).unwrap());
    let login = [("OCI_USERNAME", "tester"), ("OCI_PASSWORD", "secret")];
    check_conformance("1.1", &login, Some(&users)).await;
}
