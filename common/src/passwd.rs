//! Users and groups as an image's `/etc/passwd` and `/etc/group` name them.
//!
//! Pure look-ups in text: whoever calls has read the files out of a root (through a descriptor or a layer's index). A
//! file that does not exist is the empty text. Lines without a number where one belongs are passed over, so that a
//! broken line never makes somebody root.
//!
//! Formats: `passwd(5)`, `group(5)`.

/// The highest user or group ID that docker accepts.
pub const MAX_ID: u32 = i32::MAX as u32;

/// A line of `/etc/passwd`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// The name to log in with.
    pub name: String,
    /// User ID.
    pub uid: u32,
    /// Primary group.
    pub gid: u32,
    /// Home directory; may be empty.
    pub home: String,
}

/// A line of `/etc/group`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// Its name.
    pub name: String,
    /// Group ID.
    pub gid: u32,
    /// Names of the users for whom it is a supplementary group.
    pub members: Vec<String>,
}

/// The users of a `/etc/passwd`, in the file's order.
pub fn users(passwd: &[u8]) -> impl Iterator<Item = User> {
    lines(passwd).filter_map(|line| {
        let mut fields = line.split(':');
        let (name, uid, gid) = (fields.next()?, id(fields.nth(1)?)?, id(fields.next()?)?);
        Some(User { name: name.to_owned(), uid, gid, home: fields.nth(1).unwrap_or_default().to_owned() })
    })
}

/// The groups of a `/etc/group`, in the file's order.
pub fn groups(group: &[u8]) -> impl Iterator<Item = Group> {
    lines(group).filter_map(|line| {
        let mut fields = line.split(':');
        let (name, gid) = (fields.next()?, id(fields.nth(1)?)?);
        let members = fields.next().unwrap_or_default().split(',').filter(|member| !member.is_empty());
        Some(Group { name: name.to_owned(), gid, members: members.map(str::to_owned).collect() })
    })
}

/// The first user of that name.
pub fn user_by_name(passwd: &[u8], name: &str) -> Option<User> {
    users(passwd).find(|user| user.name == name)
}

/// The first user of that ID.
pub fn user_by_id(passwd: &[u8], uid: u32) -> Option<User> {
    users(passwd).find(|user| user.uid == uid)
}

/// The first group of that name.
pub fn group_by_name(group: &[u8], name: &str) -> Option<Group> {
    groups(group).find(|group| group.name == name)
}

/// The highest number is nobody's: system calls take it for "leave the ID as it is", and it is root's to begin with.
fn id(field: &str) -> Option<u32> {
    field.parse().ok().filter(|id| *id != u32::MAX)
}

fn lines(text: &[u8]) -> impl Iterator<Item = String> {
    text.split(|byte| *byte == b'\n')
        .map(|line| String::from_utf8_lossy(line).trim().to_owned())
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
}

/// Whom a process runs as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// User ID.
    pub uid: u32,
    /// Primary group.
    pub gid: u32,
    /// Supplementary groups, in the file's order.
    pub groups: Vec<u32>,
    /// Home directory, `/` for a user without one.
    pub home: String,
}

/// Whom `spec` (`user`, `uid`, `user:group`, `uid:gid` …; empty means root) names in these files, by docker's rules: a
/// number that is also a name's ID gets that user's group and supplementary groups, a number that nobody has is taken as
/// it is with group 0, and an explicit group replaces the supplementary ones.
///
/// # Errors
/// [`UserError`], when a name is in neither file or a number is out of range.
pub fn identify(spec: &str, passwd: &[u8], group: &[u8]) -> Result<Identity, UserError> {
    let mut words = spec.split(':');
    let (user_word, group_word) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let user = find_user(user_word, passwd)?;
    let gid = match group_word {
        "" => user.gid,
        word => find_group(word, group)?,
    };
    let member_of = |candidate: &Group| {
        group_word.is_empty() && !user.name.is_empty() && candidate.members.contains(&user.name)
    };
    let supplementary = groups(group).filter(member_of).map(|group| group.gid).collect();
    let home = if user.home.is_empty() { "/".to_owned() } else { user.home };
    Ok(Identity { uid: user.uid, gid, groups: supplementary, home })
}

/// The user meant by `word`; one without a line in the file has no name.
fn find_user(word: &str, passwd: &[u8]) -> Result<User, UserError> {
    let nameless = |uid| User { name: String::new(), uid, gid: 0, home: String::new() };
    if word.is_empty() {
        return Ok(user_by_id(passwd, 0).unwrap_or_else(|| nameless(0)));
    }
    match numeric(word) {
        None => user_by_name(passwd, word).ok_or_else(|| UserError::NoSuchUser { user: word.to_owned() }),
        Some(id) => {
            let uid = in_range(id)?;
            Ok(user_by_id(passwd, uid).unwrap_or_else(|| nameless(uid)))
        }
    }
}

fn find_group(word: &str, group: &[u8]) -> Result<u32, UserError> {
    match numeric(word) {
        Some(id) => in_range(id),
        None => group_by_name(group, word)
            .map(|group| group.gid)
            .ok_or_else(|| UserError::NoSuchGroup { group: word.to_owned() }),
    }
}

/// What Go's `strconv.Atoi` makes of `word`.
fn numeric(word: &str) -> Option<i64> {
    word.parse().ok()
}

fn in_range(id: i64) -> Result<u32, UserError> {
    u32::try_from(id).ok().filter(|id| *id <= MAX_ID).ok_or(UserError::OutOfRange)
}

/// Why a `user[:group]` names nobody. The texts are docker's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UserError {
    /// The name has no line in `/etc/passwd`.
    #[error("unable to find user {user}: no matching entries in passwd file")]
    NoSuchUser {
        /// The name.
        user: String,
    },
    /// The name has no line in `/etc/group`.
    #[error("unable to find group {group}: no matching entries in group file")]
    NoSuchGroup {
        /// The name.
        group: String,
    },
    /// A number below 0 or above [`MAX_ID`].
    #[error("uids and gids must be in range 0-{MAX_ID}")]
    OutOfRange,
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &[u8] =
        b"root:x:0:0:root:/root:/bin/sh\n# nobody\n\n  www:x:33:33:web:/var/www:/bin/false\n\
        broken:x:many:0::/:\nops:x:1000:1001:,,,::\nops:x:7:7:::\nshort:x:12:13";
    const GROUP: &[u8] = b"root:x:0:\nwww:x:33:\nadm:x:4:ops,www\ndialout:x:20:www\nempty:x:21\nbad:x::ops\n";

    fn check(spec: &str, expected: Result<(u32, u32, &[u32], &str), UserError>) {
        let expected = expected.map(|(uid, gid, groups, home)| Identity {
            uid,
            gid,
            groups: groups.to_vec(),
            home: home.to_owned(),
        });
        assert_eq!(identify(spec, PASSWD, GROUP), expected, "{spec}");
    }

    #[test]
    fn users_and_groups_are_found_by_dockers_rules() {
        check("", Ok((0, 0, &[], "/root")));
        check("root", Ok((0, 0, &[], "/root")));
        check("www", Ok((33, 33, &[4, 20], "/var/www")));
        check("33", Ok((33, 33, &[4, 20], "/var/www")));
        check("www:adm", Ok((33, 4, &[], "/var/www")));
        check("www:", Ok((33, 33, &[4, 20], "/var/www")));
        check(":adm", Ok((0, 4, &[], "/root")));
        check("ops", Ok((1000, 1001, &[4], "/")));
        check("short", Ok((12, 13, &[], "/")));
        check("4242", Ok((4242, 0, &[], "/")));
        check("4242:4343", Ok((4242, 4343, &[], "/")));
        check("2147483647", Ok((MAX_ID, 0, &[], "/")));
    }

    #[test]
    fn the_number_that_means_no_change_is_nobodys() {
        let (passwd, group) = (b"x:x:4294967295:4294967295::/:\n", b"x:x:4294967295:\n");
        assert!(matches!(identify("x", passwd, group), Err(UserError::NoSuchUser { .. })));
        assert!(matches!(identify("0:x", passwd, group), Err(UserError::NoSuchGroup { .. })));
    }

    #[test]
    fn unknown_names_and_wild_numbers_are_errors() {
        check("nobody", Err(UserError::NoSuchUser { user: "nobody".into() }));
        check("broken", Err(UserError::NoSuchUser { user: "broken".into() }));
        check("www:wheel", Err(UserError::NoSuchGroup { group: "wheel".into() }));
        check("www:bad", Err(UserError::NoSuchGroup { group: "bad".into() }));
        check("2147483648", Err(UserError::OutOfRange));
        check("-1", Err(UserError::OutOfRange));
        check("0:4294967296", Err(UserError::OutOfRange));
    }

    #[test]
    fn the_texts_are_dockers() {
        let error = identify("x", b"", b"").unwrap_err();
        assert_eq!(error.to_string(), "unable to find user x: no matching entries in passwd file");
        let error = identify("1:x", b"", b"").unwrap_err();
        assert_eq!(error.to_string(), "unable to find group x: no matching entries in group file");
        let error = identify("-1", b"", b"").unwrap_err();
        assert_eq!(error.to_string(), "uids and gids must be in range 0-2147483647");
    }

    #[test]
    fn a_root_without_files_has_a_nameless_root() {
        let identity = identify("", b"", b"").unwrap();
        assert_eq!(identity, Identity { uid: 0, gid: 0, groups: Vec::new(), home: "/".into() });
    }
}
