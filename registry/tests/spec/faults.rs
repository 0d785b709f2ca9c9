//! Clients that lie, stall or vanish, disks that are full, and servers that are killed.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, SystemTime};

use common::digest::Digest;
use common::oci::media_type::OCI_MANIFEST;
use common::store::{CheckOptions, Store};
use registry::{ServeOptions, bind};
use reqwest::{Client, StatusCode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::{CONFIG, Image, World, descriptor, manifest, noise, until};

/// Waits until a request holds a session: the server, which is in this process, has its data open. To try it by
/// another request could take the session from the one that is waited for.
async fn until_held(location: &str) {
    let data = Path::new(location.rsplit('/').next().unwrap()).join("data");
    until(async || is_open(&data)).await;
}

/// Whether this process, and so the server, has a file open whose path ends so.
fn is_open(end: &Path) -> bool {
    let open = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
    open.filter_map(|file| std::fs::read_link(file.path()).ok()).any(|path| path.ends_with(end))
}

async fn range_of(world: &World, location: &str) -> String {
    world.get(location).await.is(StatusCode::NO_CONTENT).header("range").to_owned()
}

/// Use case "Resumable Push": "Company X's build servers lose connectivity to a distribution endpoint before
/// completing a blob transfer. After connectivity returns, the build server attempts to re-upload the blob."
#[tokio::test]
async fn a_cut_upload_goes_on_where_it_was_cut() {
    let world = World::start().await;
    let blob = noise(1, 1_000_000);
    let location = world.begin("a").await;
    let mut stream = TcpStream::connect(world.address).await.unwrap();
    let head = format!("PATCH {location} HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(&blob[..600_000]).await.unwrap();
    stream.shutdown().await.unwrap();
    drop(stream);

    until(async || range_of(&world, &location).await == "0-599999").await;
    world.patch(&location, 600_000, &blob[600_000..]).await.is(StatusCode::ACCEPTED);
    world.put(&format!("{location}?digest={}", Digest::sha256(&blob)), "").await.is(StatusCode::CREATED);
    world.end().await;
}

/// An answer that comes before the body was sent arrives, though nobody wants the body.
#[tokio::test]
async fn an_early_refusal_reaches_a_client_that_is_still_sending() {
    let world = World::start().await;
    let location = world.begin("a").await;
    for _ in 0..20 {
        world.patch(&location, 7, &noise(1, 900_000)).await.fails(416, "BLOB_UPLOAD_INVALID");
        world
            .put(&format!("/v2/a/blobs/uploads/x?digest={}", Digest::sha256(b"")), noise(1, 900_000))
            .await
            .fails(404, "BLOB_UPLOAD_UNKNOWN");
    }
    let put = format!(
        "PUT {location}?digest=bad HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\nConnection: close\r\n\
         Expect: 100-continue\r\n\r\n"
    );
    let answer = world.raw(put.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 400"), "nobody has to send what is refused: {answer}");
    world.end().await;
}

/// A single request that is cut leaves nothing, and its blob does not exist.
#[tokio::test]
async fn a_cut_single_post_leaves_nothing() {
    let world = World::start().await;
    let digest = Digest::sha256(b"0123456789");
    let mut stream = TcpStream::connect(world.address).await.unwrap();
    let head = format!(
        "POST /v2/a/blobs/uploads/?digest={digest} HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(b"01234").await.unwrap();
    drop(stream);
    until(async || std::fs::read_dir(world.store.root().join("ingest")).unwrap().count() == 0).await;
    assert_eq!(world.head(&format!("/v2/a/blobs/{digest}")).await.status, StatusCode::NOT_FOUND);
    world.end().await;
}

/// Who sends headers too slowly is let go, and so is a connection that says nothing.
#[tokio::test]
async fn slow_headers_end_the_connection() {
    let world = World::start_with(|options, _| options.limits.headers = Duration::from_millis(200)).await;
    for beginning in ["", "GET /v2/ HTT", "GET /v2/ HTTP/1.1\r\nHost: x\r\nX-Slow: "] {
        let answer = world.raw(beginning.as_bytes()).await;
        assert!(!answer.contains("200 OK"), "{answer}");
    }
    world.get("/v2/").await.is(StatusCode::OK);
    world.end().await;
}

/// A body that stops without an end is given up, and what came of it can be resumed.
#[tokio::test]
async fn an_idle_body_is_408_and_stays_resumable() {
    let world = World::start_with(|options, _| options.limits.idle = Duration::from_millis(200)).await;
    let location = world.begin("a").await;
    let request = format!(
        "PATCH {location} HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\nConnection: close\r\n\r\n01234"
    );
    let answer = world.raw(request.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    assert_eq!(range_of(&world, &location).await, "0-4");
    let request =
        "PUT /v2/a/manifests/v1 HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\nConnection: close\r\n\r\n{";
    let answer = world.raw(request.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    world.end().await;
}

/// One request at a time holds a session: the second learns so and harms nothing.
#[tokio::test]
async fn a_second_writer_is_told_that_the_session_is_busy() {
    let world = World::start().await;
    let location = world.begin("a").await;
    let mut first = TcpStream::connect(world.address).await.unwrap();
    let head = format!(
        "PATCH {location} HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\nConnection: close\r\n\r\n01234"
    );
    first.write_all(head.as_bytes()).await.unwrap();
    until_held(&location).await;
    world.patch(&location, 0, b"x").await.fails(409, "BLOB_UPLOAD_INVALID");
    world.delete(&location).await.fails(409, "BLOB_UPLOAD_INVALID");

    first.write_all(b"56789").await.unwrap();
    let mut answer = String::new();
    first.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 202"), "{answer}");
    let digest = Digest::sha256(b"0123456789");
    world.put(&format!("{location}?digest={digest}"), "").await.is(StatusCode::CREATED);
    world.end().await;
}

/// Two lengths, odd chunks, trailers: nothing that comes behind such a request is taken for another one.
#[tokio::test]
async fn requests_with_two_lengths_are_not_two_requests() {
    let world = World::start().await;
    let hidden = "DELETE /v2/a/manifests/v1 HTTP/1.1\r\nHost: x\r\n\r\n";
    world.push_image("a", "v1", b"layer").await;
    for head in [
        "Content-Length: 4\r\nContent-Length: 100",
        "Content-Length: 4\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: xchunked\r\nContent-Length: 4",
        "Content-Length: +4",
        "Content-Length: -1",
        "Content-Length: 99999999999999999999999",
    ] {
        let request = format!(
            "POST /v2/a/blobs/uploads/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{head}\r\n\r\n0\r\n\r\n{hidden}"
        );
        world.raw(request.as_bytes()).await;
        world.get("/v2/a/manifests/v1").await.is(StatusCode::OK);
    }
    let location = world.begin("a").await;
    let request = format!(
        "PATCH {location} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\nTrailer: X\r\n\r\n\
         4\r\nblob\r\n0\r\nX: y\r\n\r\n"
    );
    let answer = world.raw(request.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 202"), "{answer}");
    assert_eq!(range_of(&world, &location).await, "0-3");
    world.end().await;
}

/// Who asks for a blob and does not read it is let go after a while.
#[tokio::test]
async fn a_reader_that_stalls_is_let_go() {
    let world = World::start_with(|options, _| options.limits.idle = Duration::from_millis(200)).await;
    let digest = world.push_blob("a", &noise(1, 30_000_000)).await;
    let mut stream = TcpStream::connect(world.address).await.unwrap();
    let request = format!("GET /v2/a/blobs/{digest} HTTP/1.1\r\nHost: x\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    // The answer has begun, so the blob is open until the server gives up.
    let mut read = vec![stream.read_u8().await.unwrap()];
    until(async || !is_open(Path::new(digest.hex()))).await;
    let _ = stream.read_to_end(&mut read).await;
    assert!(read.len() < 30_000_000, "{}", read.len());
    world.end().await;
}

/// More connections than are allowed wait for their turn; none is lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn too_many_connections_wait() {
    let world = World::start_with(|options, _| options.limits.connections = 2).await;
    let requests = (0..20).map(|_| world.raw(b"GET /v2/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"));
    for answer in futures_util::future::join_all(requests).await {
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
    world.end().await;
}

/// A shutdown lets an upload that has begun come to its end and takes no new one.
#[tokio::test]
async fn a_shutdown_waits_for_an_upload() {
    let world = World::start().await;
    let location = world.begin("a").await;
    let digest = Digest::sha256(b"0123456789");
    let mut upload = TcpStream::connect(world.address).await.unwrap();
    let head =
        format!("PUT {location}?digest={digest} HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n01234");
    upload.write_all(head.as_bytes()).await.unwrap();
    until_held(&location).await;

    let address = world.address;
    let stopping = tokio::spawn(world.stop());
    until(async || TcpStream::connect(address).await.is_err()).await;
    assert!(!stopping.is_finished());
    upload.write_all(b"56789").await.unwrap();
    let mut answer = String::new();
    upload.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
    let store = stopping.await.unwrap();
    assert_eq!(store.blob_size(&digest).unwrap(), Some(10));
}

/// A request that never ends does not keep the server from ending.
#[tokio::test]
async fn a_shutdown_does_not_wait_for_ever() {
    let world = World::start_with(|options, _| options.limits.drain = Duration::from_millis(200)).await;
    let location = world.begin("a").await;
    let mut upload = TcpStream::connect(world.address).await.unwrap();
    let head = format!("PATCH {location} HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n01234");
    upload.write_all(head.as_bytes()).await.unwrap();
    until_held(&location).await;
    world.end().await;
}

/// Pushes, moves and deletions of the same names at once: every answer is one that the spec knows, and the store is
/// sound at the end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pushes_and_deletions_at_once_leave_a_sound_store() {
    let world = World::start().await;
    let subject = world.push_image("a", "subject", b"layer").await;
    let mut referrer = manifest(b"layer");
    referrer["subject"] = descriptor(OCI_MANIFEST, &subject.manifest);
    let referrer = referrer.to_string().into_bytes();
    let digest = Digest::sha256(&referrer);
    let path = format!("/v2/a/manifests/{digest}");
    let push = async || {
        for _ in 0..60 {
            // Not found: it was deleted each time that the push began anew.
            let status = world.put_manifest("a", "latest", OCI_MANIFEST, &referrer).await.status;
            assert!(matches!(status, StatusCode::CREATED | StatusCode::NOT_FOUND), "{status}");
            world.push_blob("a", b"layer").await;
        }
    };
    let delete = async || {
        for _ in 0..120 {
            let status = world.delete(&path).await.status;
            assert!(matches!(status, StatusCode::ACCEPTED | StatusCode::NOT_FOUND), "{status}");
            world.delete("/v2/a/manifests/latest").await;
            world.delete(&format!("/v2/a/blobs/{}", subject.layer)).await;
        }
    };
    tokio::join!(push(), push(), delete(), delete());
    let listed = world.get(&format!("/v2/a/referrers/{}", subject.digest)).await.json();
    let there = world.head(&path).await.status == StatusCode::OK;
    assert_eq!(listed["manifests"].as_array().unwrap().len(), usize::from(there));
    world.end().await;
}

/// A small file system of its own, unmounted when dropped.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount(size: &str) -> Option<SmallDisk> {
        let folder = tempfile::tempdir().unwrap();
        let options = format!("size={size},mode=700");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(folder.path()).stderr(Stdio::null());
        mount.status().is_ok_and(|status| status.success()).then_some(SmallDisk(folder))
    }

    fn remount(&self, mode: &str) {
        let mut remount = Command::new("mount");
        let remounted = remount.args(["-o", &format!("remount,{mode}")]).arg(self.0.path()).status();
        assert!(remounted.is_ok_and(|status| status.success()));
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg(self.0.path()).status();
        assert!(unmounted.is_ok_and(|status| status.success()), "the small disk is still mounted");
    }
}

/// A copy of a registry on a read-only mount is served; it takes nothing.
#[tokio::test]
async fn a_store_on_a_read_only_mount_is_served() {
    let Some(disk) = SmallDisk::mount("4m") else {
        eprintln!("skipped: a small tmpfs needs the right to mount");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(disk.0.path(), folder.path().join("store")).unwrap();
    let world = World::start_in(folder, |_, _| {}).await;
    let image = world.push_image("a", "v1", b"layer").await;
    let stopped = world.stop().await;
    // What dead processes left, and a blob whose age a reader would renew.
    let left = [("ingest", "left"), ("serving", "left"), ("leases", r#"{"version":1,"expires":1}"#)];
    let left = left.map(|(folder, text)| {
        let path = stopped.root().join(folder).join("00112233445566778899aabbccddeeff");
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        path
    });
    let blob = std::fs::File::open(stopped.paths().blob(&image.layer)).unwrap();
    blob.set_modified(SystemTime::now() - Duration::from_hours(2)).unwrap();
    drop(blob);
    disk.remount("ro");
    let world = World::start_in(stopped.folder, |_, _| {}).await;
    world.get("/v2/a/manifests/v1").await.is(StatusCode::OK);
    let blob = format!("/v2/a/blobs/{}", image.layer);
    world.head(&blob).await.is(StatusCode::OK);
    world.get(&blob).await.is(StatusCode::OK);
    world.post("/v2/a/blobs/uploads/").await.fails(403, "DENIED");
    world.delete("/v2/a/manifests/v1").await.fails(403, "DENIED");
    let stopped = world.stop().await;
    assert!(left.iter().all(|path| path.exists()), "it was read-only");

    disk.remount("rw");
    World::start_in(stopped.folder, |_, _| {}).await.end().await;
    assert!(!left.iter().any(|path| path.exists()));
}

/// A full disk is a clear answer; what is there can be read, nothing half is visible, and with room it goes on.
#[tokio::test]
async fn a_full_disk_is_507_and_pulls_go_on() {
    let Some(disk) = SmallDisk::mount("4m") else {
        eprintln!("skipped: a small tmpfs needs the right to mount");
        return;
    };
    let world = World::start_with(|_, _| {}).await;
    let stopped = world.stop().await;
    std::os::unix::fs::symlink(disk.0.path(), stopped.folder.path().join("small")).unwrap();
    std::fs::remove_dir_all(stopped.folder.path().join("store")).unwrap();
    std::fs::rename(stopped.folder.path().join("small"), stopped.folder.path().join("store")).unwrap();
    let world = World::start_in(stopped.folder, |_, _| {}).await;

    let image = world.push_image("a", "v1", &noise(1, 1_000_000)).await;
    let large = noise(2, 6_000_000);
    let digest = Digest::sha256(&large);
    let location = world.begin("a").await;
    world.put(&format!("{location}?digest={digest}"), large).await.fails(507, "UNKNOWN");
    assert_eq!(world.head(&format!("/v2/a/blobs/{digest}")).await.status, StatusCode::NOT_FOUND);
    assert!(world.get(&format!("/v2/a/blobs/{}", image.layer)).await.body == noise(1, 1_000_000));
    world.get("/v2/a/manifests/v1").await.is(StatusCode::OK);

    // Who sends all before it reads learns it too, be it ten times what there is room for.
    for _ in 0..10 {
        let location = world.begin("a").await;
        let head = format!("PATCH {location} HTTP/1.1\r\nHost: x\r\nContent-Length: 40000000\r\n\r\n");
        let mut stream = TcpStream::connect(world.address).await.unwrap();
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(&vec![0; 40_000_000]).await.unwrap();
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"HTTP/1.1 507");
    }

    // What did not fit is given back, without waiting for the client.
    world.get(&location).await.fails(404, "BLOB_UPLOAD_UNKNOWN");
    world.push_image("a", "v2", &noise(3, 1_000_000)).await;
    world.end().await;
    drop(disk);
}

const FOLDER: &str = "GANTRY_TEST_SERVED_FOLDER";

/// Not a test: the server that is killed below. Runs only in the process that was started for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_server_that_is_killed() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let store = Store::open(Path::new(&folder)).unwrap();
    let server = bind(store, &ServeOptions::new("127.0.0.1:0".parse().unwrap())).unwrap();
    println!("listening on {}", server.address());
    server.serve(std::future::pending()).await.unwrap();
}

fn start_child(folder: &Path) -> (Child, String) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "faults::the_server_that_is_killed", "--nocapture"])
        .env(FOLDER, folder)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let address =
        lines.map_while(Result::ok).find_map(|line| Some(line.split_once("listening on ")?.1.to_owned()));
    (child, address.expect("the server says where it listens"))
}

/// Pushes images until the server dies; answers those whose push was acknowledged.
async fn push_until_killed(base: &str, seed: u64) -> Vec<(String, Image)> {
    let client = Client::builder().no_proxy().build().unwrap();
    let mut acknowledged = Vec::new();
    for n in 0.. {
        let layer = noise(seed * 1_000_000 + n, 30_000);
        let image = Image::new(&layer);
        let name = format!("r{seed}");
        for blob in [CONFIG, &layer] {
            let url = format!("{base}/v2/{name}/blobs/uploads/?digest={}", Digest::sha256(blob));
            let Ok(response) = client.post(url).body(blob.to_vec()).send().await else { return acknowledged };
            assert_eq!(response.status(), StatusCode::CREATED);
        }
        let url = format!("{base}/v2/{name}/manifests/t{n}");
        let request = client.put(url).header("content-type", OCI_MANIFEST).body(image.manifest.clone());
        let Ok(response) = request.send().await else { return acknowledged };
        assert_eq!(response.status(), StatusCode::CREATED);
        acknowledged.push((format!("{name}/manifests/t{n}"), image));
    }
    acknowledged
}

/// Killed at any moment under load: everything that was answered 201 is there, and nothing half written is visible.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_server_loses_nothing_that_it_acknowledged() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("store");
    let mut acknowledged = Vec::new();
    for round in 0..10 {
        let (mut child, address) = start_child(&root);
        let base = format!("http://{address}");
        let pushers = (0..3).map(|n| {
            let base = base.clone();
            tokio::spawn(async move { push_until_killed(&base, round * 10 + n).await })
        });
        let pushers: Vec<_> = pushers.collect();
        tokio::time::sleep(Duration::from_millis(20 + 37 * round)).await;
        child.kill().unwrap();
        child.wait().unwrap();
        for pusher in pushers {
            acknowledged.extend(pusher.await.unwrap());
        }
        let report = Store::open(&root).unwrap().check(&CheckOptions::default()).unwrap();
        assert!(report.faults.is_empty(), "{:#?}", report.faults);
    }
    assert!(!acknowledged.is_empty());

    let (mut child, address) = start_child(&root);
    let client = Client::builder().no_proxy().build().unwrap();
    for (path, image) in &acknowledged {
        let manifest = client.get(format!("http://{address}/v2/{path}")).send().await.unwrap();
        assert_eq!(manifest.bytes().await.unwrap(), image.manifest);
        let name = path.split('/').next().unwrap();
        let blob =
            client.get(format!("http://{address}/v2/{name}/blobs/{}", image.layer)).send().await.unwrap();
        assert_eq!(Digest::sha256(&blob.bytes().await.unwrap()), image.layer);
    }
    child.kill().unwrap();
    child.wait().unwrap();
}
