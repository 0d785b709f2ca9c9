//! Several threads and processes at once, and processes that are killed.

use std::io::Write;
use std::process::{Child, Stdio};
use std::time::Instant;

use super::*;

/// Runs this test program again as another process that only runs `role`, with the store at `root`.
fn start(role: &str, root: &Path, arguments: &str) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "snapshot::tests::processes::role", "--nocapture"])
        .env("GANTRY_TEST_ROLE", role)
        .env("GANTRY_TEST_STORE", root)
        .env("GANTRY_TEST_ARGUMENTS", arguments)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// The other process of the tests below; without a role there is nothing to do.
#[test]
fn role() {
    let Ok(role) = std::env::var("GANTRY_TEST_ROLE") else { return };
    let store = Store::open(Path::new(&std::env::var("GANTRY_TEST_STORE").unwrap())).unwrap();
    let arguments = std::env::var("GANTRY_TEST_ARGUMENTS").unwrap();
    let diff_ids: Vec<Digest> = arguments.split_whitespace().map(|text| text.parse().unwrap()).collect();
    let snapshots = Snapshots::with_stacking(&store, Stacking::Overlay);
    match &role[..] {
        "ensure" => drop(snapshots.ensure(&diff_ids).unwrap()),
        "loop" => loop {
            commit_something(&snapshots, &diff_ids);
            let trees = store.root().join("snapshots");
            // Only this process uses the store, so there is something to unpack again.
            remove_tree(CWD, trees.as_os_str().as_encoded_bytes()).unwrap();
        },
        role => panic!("{role}"),
    }
}

/// A step that writes files, and says so when it is through.
fn commit_something(snapshots: &Snapshots, diff_ids: &[Digest]) -> Digest {
    let draft = snapshots.prepare(diff_ids).unwrap();
    let (root, path) = mounted(&draft.overlay());
    for n in 0..20 {
        fs::write(path.join(format!("new-{n}")), n.to_string()).unwrap();
    }
    fs::remove_file(path.join("0/file-0")).unwrap();
    drop(root);
    let layer = draft.commit(&plain()).unwrap();
    println!("committed");
    io::stdout().flush().unwrap();
    layer.diff_id
}

/// Layers of many small files, so that unpacking takes a while.
fn stack(world: &World) -> Vec<Digest> {
    let layer = |n: usize| {
        let mut lines = vec![format!("{n}/")];
        let mut names: Vec<String> = (0..50).map(|file| format!("{n}/file-{file}=text {file}")).collect();
        names.sort_by(|a, b| a.split('=').next().cmp(&b.split('=').next()));
        lines.extend(names);
        world.layer(&lines.iter().map(String::as_str).collect::<Vec<_>>())
    };
    (0..4).map(layer).collect()
}

/// Those on the store; others of the machine come and go.
fn mounts(world: &World) -> Vec<String> {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let root = world.store.root().to_str().unwrap();
    table.lines().filter(|line| line.contains(root)).map(str::to_owned).collect()
}

fn assert_nothing_is_left(world: &World) {
    Store::open(world.store.root()).unwrap();
    let left: Vec<_> = fs::read_dir(world.store.paths().ingest()).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn threads_and_processes_make_each_tree_once() {
    if !can_stack() {
        return;
    }
    let world = World::new();
    let diff_ids = stack(&world);
    let names: Vec<String> = diff_ids.iter().map(Digest::to_string).collect();
    let mut processes: Vec<Child> =
        (0..4).map(|_| start("ensure", world.store.root(), &names.join(" "))).collect();
    let snapshots = world.snapshots(Stacking::Overlay);
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(|| snapshots.ensure(&diff_ids).unwrap())).collect();
        let stacks: Vec<Snapshot> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
        assert!(stacks.windows(2).all(|pair| pair[0] == pair[1]));
    });
    for process in &mut processes {
        assert!(process.wait().unwrap().success());
    }
    assert_eq!(world.merged(Stacking::Overlay, &diff_ids).len(), 4 * 51);
    assert_nothing_is_left(&world);
}

#[test]
fn threads_commit_the_same_step_at_once() {
    if !can_stack() {
        return;
    }
    let world = World::new();
    let diff_ids = stack(&world);
    let snapshots = world.snapshots(Stacking::Overlay);
    let layers: Vec<Digest> = std::thread::scope(|scope| {
        let threads: Vec<_> =
            (0..4).map(|_| scope.spawn(|| commit_something(&snapshots, &diff_ids))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(layers.windows(2).all(|pair| pair[0] == pair[1]), "{layers:?}");
    assert_nothing_is_left(&world);
}

#[test]
fn killed_at_any_time_nothing_is_left_and_every_tree_is_whole() {
    if !can_stack() {
        return;
    }
    let world = World::new();
    let diff_ids = stack(&world);
    let names: Vec<String> = diff_ids.iter().map(Digest::to_string).collect();
    let expected = world.merged(Stacking::Overlay, &diff_ids);
    // One round takes this long; the kills fall into it at even distances.
    let begun = Instant::now();
    let layer = commit_something(&world.snapshots(Stacking::Overlay), &diff_ids);
    let round = begun.elapsed().max(Duration::from_millis(20));
    let mut committed = diff_ids.clone();
    committed.push(layer);
    let whole = world.merged(Stacking::Overlay, &committed);
    for kill in 0..60 {
        let mut process = start("loop", world.store.root(), &names.join(" "));
        let output = process.stdout.take().unwrap();
        let mut lines = io::BufRead::lines(io::BufReader::new(output));
        // The time to start a process is none of ours.
        while lines.next().is_some_and(|line| !line.unwrap().ends_with("committed")) {}
        wait(round * 2 * kill / 60);
        process.kill().unwrap();
        process.wait().unwrap();
        assert_eq!(mounts(&world), [""; 0], "kill {kill}");
        assert_nothing_is_left(&world);
        if kill % 6 == 0 {
            assert_eq!(world.merged(Stacking::Overlay, &diff_ids), expected, "kill {kill}");
            assert_eq!(world.merged(Stacking::Overlay, &committed), whole, "kill {kill}");
        }
    }
}

/// Lets time pass for another process, without a timer that a busy machine stretches.
fn wait(time: Duration) {
    let (_sender, receiver) = std::sync::mpsc::channel::<()>();
    let _ = receiver.recv_timeout(time);
}
