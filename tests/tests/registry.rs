//! The registry with the clients that people use: what they push is what they and others pull, by digest.

use common::platform::Platform;
use tests::{ClosedPort, Dockerd, Server, World, has, htpasswd, import_busybox, is_root, run_client, skip};

/// The digest that the registry names a tag by, asked by a foreign program.
#[track_caller]
fn digest_by_skopeo(world: &World, image: &str) -> String {
    let args = ["inspect", "--tls-verify=false", "--format", "{{.Digest}}", image];
    run_client(world, "skopeo", &args).ok().text().to_owned()
}

/// A world with busybox, pushed as `ADDRESS/team/box:1`; its name and digest.
#[track_caller]
fn pushed(world: &World, server: &Server) -> (String, String) {
    let name = format!("{}/team/box:1", server.address);
    world.gantry(["tag", "busybox", &name]).ok();
    let pushed = world.gantry(["push", &name]).ok();
    let mut words = pushed.stdout.split_whitespace().chain(pushed.stderr.split_whitespace());
    let digest = words.rfind(|word| word.starts_with("sha256:")).expect("push names the digest").to_owned();
    (name, digest)
}

#[test]
fn gantry_pushes_and_pulls_and_the_digest_stays() {
    let world = World::new();
    if !import_busybox(&world) {
        skip!("busybox is not installed");
    }
    let server = Server::start(&world, &[]);
    let (name, digest) = pushed(&world, &server);
    let other = World::new();
    let pulled = other.gantry(["pull", &name]).ok();
    assert!(pulled.stdout.contains(&format!("Digest: {digest}")), "{pulled:?}");
    assert!(pulled.stdout.contains(&format!("Status: Downloaded newer image for {name}")), "{pulled:?}");
    assert!(pulled.stdout.trim_end().ends_with(&name), "{pulled:?}");
    let again = other.gantry(["pull", &name]).ok();
    assert!(again.stdout.contains(&format!("Status: Image is up to date for {name}")), "{again:?}");
    let by_digest = format!("{}@{digest}", name.trim_end_matches(":1"));
    other.gantry(["pull", "-q", &by_digest]).ok();
    let ids =
        |world: &World, name: &str| world.gantry(["images", "-q", "--no-trunc", name]).ok().text().to_owned();
    assert_eq!(ids(&world, &name), ids(&other, &name));
    // What was pulled is pushed again with the bytes that it came as.
    let copy = format!("{}/team/copy:1", server.address);
    other.gantry(["tag", &name, &copy]).ok();
    other.gantry(["push", &copy]).ok();
    if has("skopeo") {
        assert_eq!(digest_by_skopeo(&world, &format!("docker://{copy}")), digest);
    }
    server.stop();
    other.close();
    world.close();
}

#[test]
fn an_image_of_one_platform_does_not_pass_for_another() {
    let world = World::new();
    if !import_busybox(&world) || !is_root() {
        skip!("busybox is not installed, or running it needs root");
    }
    let server = Server::start(&world, &[]);
    let (name, _) = pushed(&world, &server);
    let other = format!(
        "image with reference {name} was found but does not match the specified platform: wanted linux/s390x, actual: {}",
        Platform::host()
    );
    let pulled = world.gantry(["pull", "--platform", "linux/s390x", &name]).ok();
    assert!(pulled.stderr.ends_with(&format!("WARNING: {other}\n")), "{pulled:?}");
    world.gantry(["run", "--rm", "--platform", "linux/s390x", &name, "true"]).fails(125).says(&other);
    let pulled = world.gantry(["pull", "--platform", &Platform::host().to_string(), &name]).ok();
    assert!(!pulled.stderr.contains("WARNING"), "{pulled:?}");
    assert_eq!(world.gantry(["ps", "-aq"]).ok().text(), "");
    server.stop();
    world.close();
}

#[test]
fn all_tags_are_pushed_and_pulled() {
    let world = World::new();
    if !import_busybox(&world) {
        skip!("busybox is not installed");
    }
    let server = Server::start(&world, &[]);
    let name = format!("{}/many", server.address);
    for tag in ["a", "b", "c"] {
        world.gantry(["tag", "busybox", &format!("{name}:{tag}")]).ok();
    }
    world.gantry(["push", "-a", &name]).ok();
    let other = World::new();
    other.gantry(["pull", "-a", &name]).ok();
    assert_eq!(other.gantry(["images", "--format", "{{.Tag}}", &name]).ok().text(), "a\nb\nc");
    server.stop();
    other.close();
    world.close();
}

#[test]
fn skopeo_copies_both_ways_in_both_formats() {
    if !has("skopeo") {
        skip!("skopeo is not installed");
    }
    let world = World::new();
    if !import_busybox(&world) {
        skip!("busybox is not installed");
    }
    let server = Server::start(&world, &[]);
    let (name, digest) = pushed(&world, &server);
    assert_eq!(digest_by_skopeo(&world, &format!("docker://{name}")), digest);
    let from = format!("docker://{name}");
    for (format, extra) in [("oci", &["--all"][..]), ("v2s2", &["--format", "v2s2"])] {
        let target = format!("docker://{}/copied/{format}:1", server.address);
        let mut args = vec!["copy", "--src-tls-verify=false", "--dest-tls-verify=false"];
        args.extend(extra);
        args.extend([from.as_str(), &target]);
        run_client(&world, "skopeo", &args).ok();
        let pulled = World::new();
        pulled.gantry(["pull", target.trim_start_matches("docker://")]).ok();
        pulled.close();
    }
    let folder = format!("oci:{}:x", world.path().join("layout").display());
    run_client(&world, "skopeo", &["copy", "--src-tls-verify=false", &from, &folder]).ok();
    run_client(
        &world,
        "skopeo",
        &["delete", "--tls-verify=false", &format!("docker://{}/copied/oci:1", server.address)],
    )
    .ok();
    server.stop();
    world.close();
}

#[test]
fn podman_pushes_and_pulls() {
    if !has("podman") || !tests::is_root() {
        skip!("podman is not installed, or this is not root");
    }
    let world = World::new();
    if !import_busybox(&world) {
        skip!("busybox is not installed");
    }
    let server = Server::start(&world, &[]);
    let (name, digest) = pushed(&world, &server);
    let root = world.path().join("podman");
    let [graph, runroot] = ["graph", "run"].map(|part| root.join(part).display().to_string());
    let podman = |args: &[&str]| {
        let base = ["--root", &graph, "--runroot", &runroot, "--storage-driver", "vfs"];
        run_client(&world, "podman", &[&base, args].concat())
    };
    podman(&["pull", "-q", "--tls-verify=false", &name]).ok();
    let shown = podman(&["image", "inspect", "--format", "{{.Digest}}", &name]).ok();
    assert_eq!(shown.text(), digest);
    let back = format!("{}/from/podman:1", server.address);
    podman(&["push", "-q", "--tls-verify=false", &name, &back]).ok();
    let other = World::new();
    other.gantry(["pull", "-q", &back]).ok();
    let id =
        |world: &World, name: &str| world.gantry(["images", "-q", "--no-trunc", name]).ok().text().to_owned();
    assert_eq!(id(&other, &back), id(&world, "busybox"));
    server.stop();
    other.close();
    world.close();
}

#[test]
fn crane_pushes_and_pulls() {
    if !has("crane") {
        skip!("crane is not installed");
    }
    let world = World::new();
    if !import_busybox(&world) {
        skip!("busybox is not installed");
    }
    let server = Server::start(&world, &[]);
    let (name, digest) = pushed(&world, &server);
    assert_eq!(run_client(&world, "crane", &["digest", "--insecure", &name]).ok().text(), digest);
    run_client(&world, "crane", &["pull", "--insecure", &name, "pulled.tar"]).ok();
    let back = format!("{}/from/crane:1", server.address);
    run_client(&world, "crane", &["push", "--insecure", "pulled.tar", &back]).ok();
    run_client(&world, "crane", &["validate", "--insecure", "--remote", &back]).ok();
    let catalog = run_client(&world, "crane", &["catalog", "--insecure", &server.address]).ok();
    assert_eq!(catalog.text(), "from/crane\nteam/box");
    server.stop();
    world.close();
}

#[test]
fn docker_pulls_runs_and_pushes() {
    let world = World::new();
    if !import_busybox(&world) {
        skip!("busybox is not installed");
    }
    let Some(docker) = Dockerd::start(world.path()) else {
        skip!("dockerd is not installed, or this is not root")
    };
    let server = Server::start_beside(&docker, &world, &[]);
    // gantry's own client must be where the server is.
    let name = format!("{}/team/box:1", server.address);
    world.gantry(["tag", "busybox", &name]).ok();
    let push = world.command(["push", &name]);
    let mut words = vec![push.get_program().to_string_lossy().into_owned()];
    words.extend(push.get_args().map(|word| word.to_string_lossy().into_owned()));
    let net = format!("--net=/proc/{}/ns/net", docker.pid());
    let mut args = vec![net.as_str()];
    args.extend(words.iter().map(String::as_str));
    run_client(&world, "nsenter", &args).ok();

    docker.docker(&world, &["pull", &name]).ok();
    let id = docker.docker(&world, &["images", "-q", "--no-trunc", &name]).ok();
    assert_eq!(id.text(), world.gantry(["images", "-q", "--no-trunc", "busybox"]).ok().text());
    let ran = docker.docker(&world, &["run", "--rm", "--network", "none", &name, "echo", "hello"]).ok();
    assert_eq!(ran.text(), "hello");
    let back = format!("{}/from/docker:1", server.address);
    docker.docker(&world, &["tag", &name, &back]).ok();
    docker.docker(&world, &["push", &back]).ok();
    server.stop();
    drop(docker);
    world.close();
}

#[test]
fn users_log_in_and_strangers_are_refused() {
    let world = World::new();
    if !import_busybox(&world) {
        skip!("busybox is not installed");
    }
    let users = world.write("users", htpasswd());
    let server = Server::start(&world, &["--htpasswd", users.to_str().expect("UTF-8")]);
    let name = format!("{}/private:1", server.address);
    world.gantry(["tag", "busybox", &name]).ok();
    world.gantry(["push", &name]).fails(1);
    let login = ["login", "-u", "alice", "--password-stdin", &server.address];
    world.gantry_with_stdin(login, b"wrong\n").fails(1);
    let done = world.gantry_with_stdin(login, b"wonderland\n").ok();
    assert!(done.stdout.contains("Login Succeeded"), "{done:?}");
    world.gantry(["push", &name]).ok();
    world.gantry(["logout", &server.address]).ok();
    world.gantry(["pull", &name]).fails(1);
    server.stop();
    world.close();
}

#[test]
fn plain_http_beyond_loopback_is_refused_with_the_reason() {
    let world = World::new();
    world.gantry(["serve", "--addr", "0.0.0.0:0"]).fails(1).says("plain HTTP").says("--insecure");
    world.close();
}

#[test]
fn a_taken_port_is_named() {
    let world = World::new();
    let server = Server::start(&world, &[]);
    world.gantry(["serve", "--addr", &server.address]).fails(1).says("in use");
    server.stop();
    world.close();
}

#[test]
fn a_registry_that_cannot_be_reached_is_named() {
    let world = World::new();
    let port = ClosedPort::new();
    let name = format!("{}/x:1", port.address);
    world.gantry(["pull", &name]).fails(1).says(&port.address.to_string());
    world.close();
}
