//! `/etc/passwd` and `/etc/group` of an image. An input is `user[:group]` and the two files, NULs between them.
//!
//! - Nobody gets the number that system calls take for "leave it as it is": such a process would stay root.
//! - A number that somebody has is that somebody, under their name too.
#![no_main]

use common::passwd::{group_by_name, groups, identify, user_by_id, user_by_name, users};
use libfuzzer_sys::fuzz_target;

const NOBODY: u32 = u32::MAX;

fuzz_target!(init: fuzzing::plant("passwd", SEEDS), |data: &[u8]| {
    let mut parts = data.splitn(3, |byte| *byte == 0);
    let mut part = || parts.next().unwrap_or_default();
    let (spec, passwd, group) = (part(), part(), part());
    if let Ok(spec) = str::from_utf8(spec)
        && let Ok(identity) = identify(spec, passwd, group)
    {
        let ids = [identity.uid, identity.gid].into_iter().chain(identity.groups);
        ids.for_each(|id| assert_ne!(id, NOBODY, "`{spec}`"));
        assert!(!identity.home.is_empty());
    }
    for user in users(passwd) {
        assert!(user_by_name(passwd, &user.name).is_some_and(|found| found.name == user.name));
        assert!(user_by_id(passwd, user.uid).is_some_and(|found| found.uid == user.uid));
    }
    for found in groups(group) {
        assert!(group_by_name(group, &found.name).is_some_and(|other| other.name == found.name));
    }
});

const SEEDS: [&str; 5] = [
    "www\0root:x:0:0:root:/root:/bin/sh\nwww:x:33:33:web:/var/www:/bin/false\n\0www:x:33:\nadm:x:4:ops,www\n",
    "33:adm\0www:x:33:33\nbroken:x:many:0::/:\n\0adm:x:4:ops,www\n",
    "x\0x:x:4294967295:4294967294:::\n\0",
    "2147483647:2147483648\0# nobody\n\n\0",
    ":\0:::\n\0:::,\n",
];
