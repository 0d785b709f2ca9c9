//! What a container must not be able to do.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use crate::tests;
use crate::world::{Test, World, check, check_refused, run};

pub(crate) const TESTS: &[Test] = tests![
    the_system_call_filter_is_on_and_new_privileges_are_allowed,
    capabilities_are_dockers,
    dangerous_calls_are_refused,
    programs_with_threads_run,
    a_32_bit_program_runs,
    paths_of_the_kernel_are_masked_or_read_only,
    everybody_may_ping_and_listen_in_a_network_of_its_own,
    devices_are_dockers,
    the_hosts_disk_cannot_be_opened,
    no_descriptor_leaks_into_the_container,
    a_symlink_in_place_of_proc_or_dev_is_refused,
    links_in_the_image_do_not_lead_to_the_host,
    the_hosts_program_cannot_be_replaced,
];

fn the_system_call_filter_is_on_and_new_privileges_are_allowed(world: &World) {
    let script = "grep -E '^(NoNewPrivs|Seccomp):' /proc/self/status";
    for user in ["", "app"] {
        let mut spec = world.spec("a", &["sh", "-c", script]);
        user.clone_into(&mut spec.user);
        check(&spec, "NoNewPrivs:\t0\nSeccomp:\t2\n");
    }
}

fn capabilities_are_dockers(world: &World) {
    let sets = |user: &str, permitted: &str| {
        let mut spec = world.spec("a", &["grep", "^Cap", "/proc/self/status"]);
        user.clone_into(&mut spec.user);
        check(
            &spec,
            &format!(
                "CapInh:\t0000000000000000\nCapPrm:\t{permitted}\nCapEff:\t{permitted}\nCapBnd:\t00000000a80425fb\n\
                 CapAmb:\t0000000000000000\n"
            ),
        );
    };
    sets("", "00000000a80425fb");
    sets("app", "0000000000000000");
}

/// Compiles `source` statically into the world's root as `/bin/probe`. False, said so, without a C compiler.
fn compile(world: &World, source: &str) -> bool {
    let path = world.path("probe.c");
    fs::write(&path, source).unwrap();
    let output = world.root().join("bin/probe");
    let compiled =
        Command::new("gcc").arg("-static").arg("-pthread").arg("-o").arg(output).arg(path).status();
    match compiled {
        Ok(status) => status.success(),
        Err(_) => {
            eprintln!("skipped: gcc is not installed");
            false
        }
    }
}

fn dangerous_calls_are_refused(world: &World) {
    let source = r#"
        #define _GNU_SOURCE
        #include <errno.h>
        #include <stdio.h>
        #include <sys/syscall.h>
        #include <sys/socket.h>
        #include <unistd.h>
        #define TRY(name, ...) do { errno = 0; long r = __VA_ARGS__; printf(name " %s\n", r >= 0 ? "ok" : \
            errno == EPERM ? "EPERM" : errno == ENOSYS ? "ENOSYS" : errno == EACCES ? "EACCES" : "other"); } while (0)
        int main(void) {
            TRY("keyctl", syscall(SYS_keyctl, 0, 0));
            TRY("clone3", syscall(SYS_clone3, 0, 0));
            TRY("newer", syscall(4000));
            TRY("x32", syscall(0x40000000 | 39));
            TRY("unshare", syscall(SYS_unshare, 0x10000000));
            TRY("mount", syscall(SYS_mount, 0, "/", 0, 0, 0));
            TRY("bpf", syscall(SYS_bpf, 0, 0, 0));
            TRY("vsock", socket(40, SOCK_STREAM, 0));
            TRY("getpid", syscall(SYS_getpid));
        }"#;
    if compile(world, source) {
        let expected = "keyctl EPERM\nclone3 ENOSYS\nnewer ENOSYS\nx32 ENOSYS\nunshare EPERM\nmount EPERM\nbpf EPERM\n\
                        vsock EPERM\ngetpid ok\n";
        check(&world.spec("a", &["probe"]), expected);
    }
}

fn programs_with_threads_run(world: &World) {
    let source = r#"
        #include <pthread.h>
        #include <stdio.h>
        static void *say(void *text) { puts(text); return 0; }
        int main(void) {
            pthread_t thread;
            if (pthread_create(&thread, 0, say, "from a thread")) return 1;
            return pthread_join(thread, 0);
        }"#;
    if compile(world, source) {
        check(&world.spec("a", &["probe"]), "from a thread\n");
    }
}

/// `write(1, "32 bits\n", 8); exit(0)` by `int 0x80`, behind an ELF header and one program header.
fn elf32() -> Vec<u8> {
    const BASE: u32 = 0x0804_8000;
    let code_at = BASE + 52 + 32;
    let mut code = Vec::new();
    let text = b"32 bits\n";
    // mov eax, 4; mov ebx, 1; mov ecx, text; mov edx, 8; int 0x80; mov eax, 1; xor ebx, ebx; int 0x80
    let length_of_code = 5 * 4 + 2 + 5 + 2 + 2;
    code.extend([0xb8, 4, 0, 0, 0, 0xbb, 1, 0, 0, 0, 0xb9]);
    code.extend((code_at + length_of_code).to_le_bytes());
    code.extend([0xba, 8, 0, 0, 0, 0xcd, 0x80, 0xb8, 1, 0, 0, 0, 0x31, 0xdb, 0xcd, 0x80]);
    code.extend(text);
    let size = 52 + 32 + u32::try_from(code.len()).unwrap();
    let mut file = b"\x7fELF\x01\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    file.extend([2, 0, 3, 0]); // executable, 386
    [1, code_at, 52, 0, 0].iter().for_each(|word| file.extend(word.to_le_bytes()));
    [52_u16, 32, 1, 0, 0, 0].iter().for_each(|half| file.extend(half.to_le_bytes()));
    // PT_LOAD, readable and executable.
    [1, 0, BASE, BASE, size, size, 5, 0x1000].iter().for_each(|word: &u32| file.extend(word.to_le_bytes()));
    file.extend(code);
    file
}

fn a_32_bit_program_runs(world: &World) {
    if !cfg!(target_arch = "x86_64") {
        eprintln!("skipped: only x86_64 runs 32-bit programs");
        return;
    }
    let path = world.root().join("bin/small");
    fs::write(&path, elf32()).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    if let Err(error) = Command::new(&path).output() {
        eprintln!("skipped: this kernel runs no 32-bit programs: {error}");
        return;
    }
    check(&world.spec("a", &["small"]), "32 bits\n");
}

fn everybody_may_ping_and_listen_in_a_network_of_its_own(world: &World) {
    let files = ["/proc/sys/net/ipv4/ip_unprivileged_port_start", "/proc/sys/net/ipv4/ping_group_range"];
    let hosts: String = files.iter().map(|file| fs::read_to_string(file).unwrap()).collect();
    let mut spec = world.spec("a", &["cat", files[0], files[1]]);
    check(&spec, "0\n0\t2147483647\n");
    spec.network = engine::Network::Host;
    check(&spec, &hosts);
}

fn paths_of_the_kernel_are_masked_or_read_only(world: &World) {
    let outcome = world.shell(
        "echo 1 > /proc/sys/kernel/panic; echo x > /proc/irq/default_smp_affinity; mkdir /sys/fs/x; cat /proc/keys",
    );
    let refusals = outcome.stderr.matches("Read-only file system").count();
    assert_eq!((refusals, outcome.stdout.as_str()), (3, ""), "{}", outcome.stderr);
    check(
        &world.spec(
            "b",
            &["sh", "-c", "ls /proc/scsi /sys/firmware /proc/acpi 2>/dev/null | grep -vE '^$|:'; true"],
        ),
        "",
    );
}

fn devices_are_dockers(world: &World) {
    let expected =
        "fd\nfull\nmqueue\nnull\nptmx\npts\nrandom\nshm\nstderr\nstdin\nstdout\ntty\nurandom\nzero\n";
    check(&world.spec("a", &["ls", "-1", "/dev"]), expected);
    check(
        &world.spec(
            "b",
            &[
                "sh",
                "-c",
                "stat -c %a /dev/shm /dev/null /dev/pts/ptmx; grep -c 'shm.*size=65536k' /proc/mounts",
            ],
        ),
        "1777\n666\n666\n1\n",
    );
}

fn the_hosts_disk_cannot_be_opened(world: &World) {
    let script = "mknod /disk b 254 0 && dd if=/disk of=/dev/null count=1 2>&1; \
                  mknod /null c 1 3 && echo x > /null && echo null";
    let outcome = world.shell(script);
    assert!(outcome.stdout.contains("Operation not permitted"), "{outcome:?}");
    assert!(outcome.stdout.ends_with("null\n"), "{outcome:?}");
}

fn no_descriptor_leaks_into_the_container(world: &World) {
    let _mine = fs::File::open(world.root().join("etc/passwd")).unwrap();
    // The listing itself opens one.
    check(&world.spec("a", &["sh", "-c", "ls /proc/1/fd; true"]), "0\n1\n2\n");
    // Only the container's root has such a folder.
    let mut spec = world.spec("b", &["ls", "data"]);
    for descriptor in 3..20 {
        spec.working_dir = format!("/proc/self/fd/{descriptor}");
        let outcome = run(&spec);
        assert!(outcome.status.is_err() || outcome.stderr.is_empty(), "{outcome:?}");
    }
}

fn a_symlink_in_place_of_proc_or_dev_is_refused(world: &World) {
    for name in ["proc", "dev", "sys"] {
        symlink("/etc", world.root().join(name)).unwrap();
        let text = format!("/{name} is a symlink: a file system is only mounted on a directory");
        check_refused(&world.spec(name, &["true"]), 125, &text);
        fs::remove_file(world.root().join(name)).unwrap();
    }
    assert!(!Path::new("/etc/kcore").exists() && !Path::new("/etc/stdin").exists());
}

fn links_in_the_image_do_not_lead_to_the_host(world: &World) {
    let secret = world.path("secret");
    fs::write(&secret, "app:x:7:7::/:\n").unwrap();
    fs::create_dir(world.root().join("dev")).unwrap();
    symlink("/etc/passwd", world.root().join("dev/null")).unwrap();
    symlink("/etc/passwd", world.root().join("dev/console")).unwrap();
    fs::remove_file(world.root().join("etc/passwd")).unwrap();
    symlink(&secret, world.root().join("etc/passwd")).unwrap();
    let mut spec = world.spec("a", &["true"]);
    "app".clone_into(&mut spec.user);
    check_refused(&spec, 125, "unable to find user app: no matching entries in passwd file");
    spec.user = String::new();
    check(&spec, "");
}

/// As the command of a container: says what the kernel thinks of writing to the program that runs.
pub(crate) fn write_to_own_program() {
    let access = rustix::fs::access("/proc/self/exe", rustix::fs::Access::WRITE_OK);
    println!("{}", access.map_err(std::io::Error::from).unwrap_err().kind());
    std::process::exit(0);
}

fn the_hosts_program_cannot_be_replaced(world: &World) {
    check(
        &world.spec("a", &["/proc/self/exe", "write-to-own-program"]),
        "read-only filesystem or storage medium\n",
    );
}
