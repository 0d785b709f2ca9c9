use super::*;

fn config() -> Config {
    Config {
        version: 0,
        id: String::new(),
        created_ns: 0,
        image: None,
        image_name: "busybox".into(),
        args: vec!["true".into()],
        env: Vec::new(),
        working_dir: String::new(),
        user: String::new(),
        hostname: String::new(),
        network: Network::None,
        mounts: Vec::new(),
        read_only: false,
        terminal: false,
        open_stdin: false,
        auto_remove: false,
        labels: Default::default(),
    }
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
fn a_record_of_a_dead_process_reads_as_exited() {
    with_containers(|containers, _| {
        let mut container = containers.create(config(), "web").unwrap();
        container.state.status = Status::Running;
        container.state.process = Some(Process::of(std::process::id()).unwrap());
        container.write_state();
        assert_eq!(containers.find("web").unwrap().state.status, Status::Running);
        let refused = containers.remove(containers.find("web").unwrap(), false).unwrap_err();
        assert!(matches!(refused, ContainerError::Running { .. }));

        container.state.process.as_mut().unwrap().boot_id = "another".into();
        container.write_state();
        let state = containers.find("web").unwrap().state;
        assert_eq!((state.status, state.exit_code, state.process), (Status::Exited, LOST, None));
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
        assert_eq!(ids(containers), [running.id()]);
        assert!(!path.join(dead).exists() && !path.join(half).exists());
        assert!(containers.create(config(), "dead").is_ok());
        drop(running);
        assert_eq!(containers.list().unwrap().len(), 1);
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
