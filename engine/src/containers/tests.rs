use super::*;
use crate::testing::eventually;

fn config() -> Config {
    let process = common::oci::Config { cmd: Some(vec!["true".into()]), ..Default::default() };
    Config { image_name: "busybox".into(), process, ..Config::default() }
}

fn with_containers(test: impl FnOnce(&Containers, &Path)) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("containers");
    test(&Containers::new(&path), &path);
}

fn ids(containers: &Containers) -> Vec<String> {
    containers.list().unwrap().iter().map(|container| container.id().to_owned()).collect()
}

#[test]
fn containers_are_found_by_id_name_and_unique_prefix() {
    with_containers(|containers, _| {
        let first = containers.create(config(), "web").unwrap();
        let second = containers.create(config(), "").unwrap();
        assert_eq!(first.config.hostname, first.id()[..12]);
        for reference in [first.id(), "web", "/web", &first.id()[..12]] {
            assert_eq!(containers.find(reference).unwrap().id(), first.id());
        }
        assert_eq!(containers.find(second.name()).unwrap().id(), second.id());
        assert_eq!(ids(containers), [second.id(), first.id()]);
        let unknown = containers.find("nothing").unwrap_err();
        assert_eq!(unknown.to_string(), "No such container: nothing");
        assert!(matches!(containers.find(""), Err(ContainerError::Unknown { .. })));
    });
}

#[test]
fn an_ambiguous_prefix_is_refused() {
    with_containers(|containers, _| {
        // Of seventeen IDs two begin with the same digit.
        let made: Vec<_> = (0..17).map(|_| containers.create(config(), "").unwrap().config.id).collect();
        let first_digits: Vec<_> = made.iter().map(|id| &id[..1]).collect();
        let twice =
            first_digits.iter().find(|digit| first_digits.iter().filter(|d| d == digit).count() > 1).unwrap();
        let error = containers.find(twice).unwrap_err();
        assert_eq!(error.to_string(), format!("Multiple IDs found with provided prefix: {twice}"));
    });
}

#[test]
fn a_name_belongs_to_one_container_until_that_is_removed() {
    with_containers(|containers, _| {
        let first = containers.create(config(), "web").unwrap();
        let conflict = containers.create(config(), "web").unwrap_err().to_string();
        assert_eq!(
            conflict,
            format!(
                "Conflict. The container name \"/web\" is already in use by container \"{}\". You have to remove (or \
                 rename) that container to be able to reuse that name.",
                first.id()
            )
        );
        assert_eq!(ids(containers), [first.id()]);
        containers.remove(first, false).unwrap();
        assert!(ids(containers).is_empty());
        containers.create(config(), "web").unwrap();
    });
}

#[test]
fn the_end_of_a_container_whose_runner_was_killed_is_recorded_by_whoever_finds_it() {
    with_containers(|containers, path| {
        let mut container = containers.create(config(), "web").unwrap();
        container.state.status = Status::Running;
        container.state.process = Some(Process::of(std::process::id()).unwrap());
        container.write_state();
        assert_eq!(containers.find("web").unwrap().state.status, Status::Running);
        let refused = containers.remove(containers.find("web").unwrap(), false).unwrap_err();
        assert!(matches!(refused, ContainerError::Running { .. }));

        container.state.process.as_mut().unwrap().boot_id = "another".into();
        container.write_state();
        // Whoever runs it is still there, and about to say how it ended.
        assert_eq!(containers.find("web").unwrap().state.status, Status::Running);

        drop(container);
        let before = now_ns();
        eventually(|| containers.find("web").unwrap().state.status == Status::Exited);
        let state = containers.find("web").unwrap().state;
        assert_eq!((state.status, state.exit_code, &state.process), (Status::Exited, LOST, &None));
        assert!(state.finished_ns.unwrap() >= before);
        // It was found once, and that is on disk.
        assert_eq!(containers.list().unwrap()[0].state, state);
        let recorded: State = read(&path.join(containers.find("web").unwrap().id()), "state.json").unwrap();
        assert_eq!(recorded, state);
        containers.remove(containers.find("web").unwrap(), false).unwrap();
    });
}

#[test]
fn what_the_dead_left_is_swept_and_what_is_held_is_not() {
    with_containers(|containers, path| {
        let running = containers.create(Config { auto_remove: true, ..config() }, "running").unwrap();
        let dead = containers.create(Config { auto_remove: true, ..config() }, "dead").unwrap().config.id;
        // Half made: nothing but the mark, or a folder without records.
        let half = "0".repeat(64);
        fs::write(path.join("leaving").join(&half), "").unwrap();
        fs::create_dir(path.join(&half)).unwrap();
        // Somebody else's, and in nobody's way.
        let stray = path.join("leaving/stray");
        fs::create_dir(&stray).unwrap();
        eventually(|| ids(containers) == [running.id()]);
        assert!(!path.join(dead).exists() && !path.join(half).exists());
        assert!(containers.create(config(), "dead").is_ok());
        drop(running);
        eventually(|| containers.list().unwrap().len() == 1);
        fs::remove_dir(stray).unwrap();
        assert_eq!(fs::read_dir(path.join("leaving")).unwrap().count(), 0);
        assert_eq!(fs::read_dir(path.join("names")).unwrap().count(), 1);
    });
}

#[test]
fn many_at_once_get_names_of_their_own() {
    with_containers(|containers, _| {
        let made = std::thread::scope(|scope| {
            let threads: Vec<_> =
                (0..8).map(|_| scope.spawn(|| containers.create(config(), "only").is_ok())).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).filter(|ok| *ok).count()
        });
        assert_eq!(made, 1);
    });
}

#[test]
fn nothing_is_made_by_looking() {
    with_containers(|containers, path| {
        assert!(ids(containers).is_empty());
        assert!(containers.find("x1").is_err());
        assert!(!path.exists());
    });
}

#[test]
fn records_keep_all_that_was_asked_for() {
    with_containers(|containers, path| {
        let strings = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        let process = common::oci::Config {
            entrypoint: Some(strings(&["sh", "-c"])),
            cmd: Some(strings(&["echo $0", "x"])),
            stop_signal: Some("SIGINT".into()),
            ..Default::default()
        };
        let mount = Mount {
            source: MountSource::Bind("/srv".into()),
            destination: "/data".into(),
            options: "ro,z".into(),
            read_only: true,
        };
        let config = Config { process, mounts: vec![mount], network: NetworkMode::Host, ..config() };
        let made = containers.create(config, "web").unwrap();
        assert_eq!(made.config.args(), ["sh", "-c", "echo $0", "x"]);
        assert_eq!(containers.find("web").unwrap().config, made.config);
        let text = fs::read_to_string(path.join(made.id()).join("config.json")).unwrap();
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        // The words of others: docker's for the network, the image specification's for the process.
        assert_eq!(value["network"], "host");
        assert_eq!(value["process"]["Entrypoint"], serde_json::json!(["sh", "-c"]));
        assert_eq!(value["process"]["StopSignal"], "SIGINT");
        assert_eq!(value["mounts"][0]["source"], serde_json::json!({"bind": "/srv"}));
    });
}

#[test]
fn a_newer_record_says_so_and_is_not_removed_by_force_either() {
    for name in ["config.json", "settings.json", "state.json"] {
        with_containers(|containers, path| {
            let id = containers.create(config(), "new").unwrap().config.id;
            let file = path.join(&id).join(name);
            fs::write(&file, r#"{"version": 2, "shape": "unknown"}"#).unwrap();
            let found = containers.find("new").unwrap();
            let damage = found.damage().unwrap();
            assert!(matches!(damage, ContainerError::Version { found: 2, .. }), "{damage}");
            assert!(damage.to_string().contains(&format!("{name} has version 2")), "{damage}");
            for force in [false, true] {
                let refused = containers.remove(containers.find("new").unwrap(), force).unwrap_err();
                assert!(matches!(refused, ContainerError::Version { found: 2, .. }), "{refused}");
            }
            assert!(file.exists());
            assert_eq!(ids(containers), [id]);
        });
    }
}

#[test]
fn a_path_that_cannot_be_written_down_is_an_error() {
    use std::os::unix::ffi::OsStrExt;
    with_containers(|containers, _| {
        let mount = Mount {
            source: MountSource::Bind(std::ffi::OsStr::from_bytes(b"/\xff").into()),
            destination: "/data".into(),
            options: String::new(),
            read_only: false,
        };
        assert!(containers.create(Config { mounts: vec![mount], ..config() }, "").is_err());
        assert!(ids(containers).is_empty());
    });
}

#[test]
fn a_damaged_container_is_listed_found_and_removed_by_force() {
    for name in ["config.json", "settings.json", "state.json"] {
        for content in [None, Some(""), Some("{}"), Some(r#"{"version": 1, "id": "other"}"#)] {
            with_containers(|containers, path| {
                let whole = containers.create(config(), "whole").unwrap();
                let id = containers.create(config(), "web").unwrap().config.id;
                let record = path.join(&id).join(name);
                content.map_or_else(|| fs::remove_file(&record), |text| fs::write(&record, text)).unwrap();
                assert_eq!(ids(containers).len(), 2);
                for reference in [&*id, &id[..12], "web"] {
                    let found = containers.find(reference).unwrap();
                    assert_eq!((found.id(), found.name()), (&*id, "web"), "{name} {content:?}");
                    assert!(found.damage().unwrap().to_string().contains(name));
                    let dead = name == "state.json";
                    assert_eq!(found.state.status, if dead { Status::Dead } else { Status::Created });
                }
                let refused = containers.remove(containers.find(&id).unwrap(), false).unwrap_err();
                assert!(matches!(refused, ContainerError::Damaged { .. }), "{refused}");
                containers.remove(containers.find(&id).unwrap(), true).unwrap();
                assert_eq!(ids(containers), [whole.id()]);
                containers.create(config(), "web").unwrap();
            });
        }
    }
}

#[test]
fn what_is_being_made_or_removed_is_not_damaged_and_what_somebody_holds_stays() {
    with_containers(|containers, path| {
        let container = containers.create(config(), "web").unwrap();
        let id = container.config.id.clone();
        fs::remove_file(path.join(&id).join("state.json")).unwrap();
        let error = containers.remove(containers.find(&id).unwrap(), true).unwrap_err();
        assert!(matches!(error, ContainerError::Held { .. }), "{error}");
        fs::write(path.join("leaving").join(&id), "").unwrap();
        assert!(ids(containers).is_empty());
        drop(container);
        assert!(ids(containers).is_empty());
        assert!(!path.join(&id).exists());
    });
}
