//! `--chown` and the owner of a directory made by WORKDIR: names as the root below knows them.

use common::passwd;

/// User and group, by number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Owner {
    pub uid: u32,
    pub gid: u32,
}

/// What to do about a name that the root does not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unknown {
    /// It is an error.
    Refuse,
    /// It means root, as in BuildKit.
    IsRoot,
}

/// A `--chown` that names nobody.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OwnerError {
    /// No such name in `/etc/passwd`.
    #[error("unknown user `{0}`: the root below has no such name in `/etc/passwd`")]
    User(String),
    /// No such name in `/etc/group`.
    #[error("unknown group `{0}`: the root below has no such name in `/etc/group`")]
    Group(String),
}

/// Reads `user[:group]`. Numbers stand for themselves and a number without a group is its own group; a name without a
/// group has the group that `/etc/passwd` gives it; `root` is 0 in every root, and so is nothing at all: `:5` is `0:5`
/// and `5:` is `5:0`, as in BuildKit. The files are asked for only when there is a name to look up; a missing file is
/// empty.
pub(crate) fn resolve<E: From<OwnerError>>(
    text: &str,
    unknown: Unknown,
    mut file: impl FnMut(&str) -> Result<Vec<u8>, E>,
) -> Result<Owner, E> {
    let (user, group) = match text.split_once(':') {
        Some((user, group)) => (user, Some(group)),
        None => (text, None),
    };
    let mut owner = match number(user) {
        Some(id) => Owner { uid: id, gid: id },
        None if user.is_empty() => Owner::default(),
        None => match passwd::user_by_name(&file("etc/passwd")?, user) {
            Some(user) => Owner { uid: user.uid, gid: user.gid },
            None if unknown == Unknown::IsRoot => Owner::default(),
            None => return Err(OwnerError::User(user.to_owned()).into()),
        },
    };
    if let Some(group) = group {
        owner.gid = match number(group) {
            Some(id) => id,
            None if group.is_empty() => 0,
            None => match passwd::group_by_name(&file("etc/group")?, group) {
                Some(group) => group.gid,
                None if unknown == Unknown::IsRoot => 0,
                None => return Err(OwnerError::Group(group.to_owned()).into()),
            },
        };
    }
    Ok(owner)
}

fn number(word: &str) -> Option<u32> {
    if word == "root" {
        return Some(0);
    }
    word.parse().ok().filter(|id| *id <= passwd::MAX_ID)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_names_are_found_as_buildkit_finds_them() {
        let file = |path: &str| -> Result<Vec<u8>, OwnerError> {
            Ok(match path {
                "etc/passwd" => b"root:x:0:0::/root:/bin/sh\nlp:x:4:7::/:/bin/sh\n".to_vec(),
                _ => b"root:x:0:\nmail:x:8:\n".to_vec(),
            })
        };
        for (text, uid, gid) in [
            ("1", 1, 1),
            ("1:2", 1, 2),
            ("lp", 4, 7),
            ("lp:mail", 4, 8),
            ("2:mail", 2, 8),
            ("root:root", 0, 0),
            (":5", 0, 5),
            ("5:", 5, 0),
            ("lp:", 4, 0),
        ] {
            assert_eq!(resolve(text, Unknown::Refuse, file).unwrap(), Owner { uid, gid }, "{text}");
        }
        assert_eq!(resolve("ghost", Unknown::Refuse, file), Err(OwnerError::User("ghost".into())));
        assert_eq!(resolve("lp:ghost", Unknown::Refuse, file), Err(OwnerError::Group("ghost".into())));
        assert_eq!(resolve("ghost", Unknown::IsRoot, file).unwrap(), Owner::default());
    }
}
