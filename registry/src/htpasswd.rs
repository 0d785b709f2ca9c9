//! Users in a file of htpasswd's format, one `name:hash` a line; blank lines and `#` lines are skipped.
//!
//! Only bcrypt hashes are taken. The others that htpasswd can write are refused by name when the file is read: MD5
//! and SHA-1 can be guessed at billions a second, crypt cuts passwords at 8 characters.

use std::collections::{BTreeMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};

use bcrypt::HashParts;
use common::digest::{Algorithm, Digest};
use tokio::sync::Semaphore;

use crate::watched::Watched;

/// A bcrypt check takes a core for about 60 ms; more than this many at once only starve the rest of the server.
const CHECKS_AT_ONCE: usize = 2;

/// Credentials remembered as right; when there are more, all are checked anew.
const REMEMBERED: usize = 1024;

/// Why a user file is not usable.
#[derive(Debug, thiserror::Error)]
pub enum HtpasswdError {
    /// The file cannot be read.
    #[error("cannot read users from `{}`: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A line is not `name:hash`, or the hash is of a kind that is not taken.
    #[error("users in `{}`, line {line}: {reason}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// What is wrong with it.
        reason: LineError,
    },
    /// Nobody could log in.
    #[error("no user in `{}`: add one with `htpasswd -B -c {} NAME`", path.display(), path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
}

/// What is wrong with a line.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum LineError {
    /// There is no `:` or nothing in front of it.
    #[error("must be `name:hash`")]
    Format,
    /// A hash that htpasswd writes without `-B`.
    #[error(
        "the password of `{user}` is kept as {kind}, which is too weak; only bcrypt is taken: `htpasswd -B FILE {user}`"
    )]
    Weak {
        /// Whose password.
        user: String,
        /// How it is kept.
        kind: &'static str,
    },
    /// Neither bcrypt nor anything that htpasswd writes.
    #[error("the bcrypt hash of `{user}` is malformed")]
    Malformed {
        /// Whose password.
        user: String,
    },
    /// The name stands there twice; which password counts would be a guess.
    #[error("user `{user}` stands there a second time")]
    Twice {
        /// Who.
        user: String,
    },
}

type Entries = BTreeMap<String, String>;

/// Users and their passwords, as the file has them now.
pub(crate) struct Htpasswd {
    entries: Watched<Entries, HtpasswdError>,
    /// Keyed digests of user, password and hash that were checked and found right. A changed hash is another key.
    verified: Mutex<HashSet<Digest>>,
    key: [u8; 32],
    checks: Arc<Semaphore>,
}

impl Htpasswd {
    /// Reads `path`, and reads it again whenever it changes.
    pub(crate) fn open(path: &Path) -> Result<Self, HtpasswdError> {
        let file = path.to_owned();
        let entries = Watched::new(vec![path.to_owned()], move || read(&file))?;
        let mut key = [0; 32];
        getrandom::fill(&mut key).expect("the kernel has random bytes");
        let checks = Arc::new(Semaphore::new(CHECKS_AT_ONCE));
        Ok(Htpasswd { entries, verified: Mutex::default(), key, checks })
    }

    /// Whether `user` has this password. An unknown user takes as long as a wrong password.
    pub(crate) async fn verify(&self, user: &str, password: &str) -> bool {
        let entries = self.entries.get();
        let known = entries.get(user);
        let Some(hash) = known.or_else(|| entries.values().next()).cloned() else { return false };
        let credential = self.credential(user, password, &hash);
        if known.is_some() && self.remembers(&credential) {
            return true;
        }
        let _permit = self.checks.acquire().await.expect("never closed");
        let password = password.to_owned();
        let check = move || bcrypt::verify(password, &hash).unwrap_or(false);
        let right = tokio::task::spawn_blocking(check).await.unwrap_or(false) && known.is_some();
        if right {
            self.remember(credential);
        }
        right
    }

    fn credential(&self, user: &str, password: &str, hash: &str) -> Digest {
        let mut hasher = Algorithm::Sha256.hasher();
        hasher.update(&self.key);
        for part in [user, password, hash] {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part.as_bytes());
        }
        hasher.finish()
    }

    fn remembers(&self, credential: &Digest) -> bool {
        self.verified.lock().unwrap_or_else(PoisonError::into_inner).contains(credential)
    }

    fn remember(&self, credential: Digest) {
        let mut verified = self.verified.lock().unwrap_or_else(PoisonError::into_inner);
        if verified.len() >= REMEMBERED {
            verified.clear();
        }
        verified.insert(credential);
    }
}

fn read(path: &Path) -> Result<Entries, HtpasswdError> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| HtpasswdError::Io { path: path.to_owned(), source })?;
    let mut entries = Entries::new();
    for (index, line) in text.lines().enumerate() {
        parse_line(line.trim(), &mut entries).map_err(|reason| HtpasswdError::Line {
            path: path.to_owned(),
            line: index + 1,
            reason,
        })?;
    }
    if entries.is_empty() {
        return Err(HtpasswdError::Empty { path: path.to_owned() });
    }
    Ok(entries)
}

fn parse_line(line: &str, entries: &mut Entries) -> Result<(), LineError> {
    if line.is_empty() || line.starts_with('#') {
        return Ok(());
    }
    let (user, hash) = line.split_once(':').filter(|(user, _)| !user.is_empty()).ok_or(LineError::Format)?;
    check_hash(user, hash)?;
    match entries.insert(user.to_owned(), hash.to_owned()) {
        Some(_) => Err(LineError::Twice { user: user.to_owned() }),
        None => Ok(()),
    }
}

fn check_hash(user: &str, hash: &str) -> Result<(), LineError> {
    let user = user.to_owned();
    if ["$2a$", "$2b$", "$2x$", "$2y$"].iter().any(|prefix| hash.starts_with(prefix)) {
        return HashParts::from_str(hash).map(drop).map_err(|_| LineError::Malformed { user });
    }
    let kind = match hash {
        _ if hash.starts_with("$apr1$") => "MD5 (apr1)",
        _ if hash.starts_with("$1$") => "MD5",
        _ if hash.starts_with("{SHA}") => "SHA-1",
        _ if hash.starts_with("$5$") => "SHA-256 crypt",
        _ if hash.starts_with("$6$") => "SHA-512 crypt",
        _ if hash.len() == 13 => "DES crypt",
        _ => "plain text or an unknown hash",
    };
    Err(LineError::Weak { user, kind })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_file(text: &str, expected: Result<usize, &str>) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("users");
        std::fs::write(&path, text).unwrap();
        match (read(&path), expected) {
            (Ok(entries), Ok(users)) => assert_eq!(entries.len(), users),
            (Err(error), Err(words)) => assert!(error.to_string().contains(words), "{error}"),
            (read, _) => panic!("{text}: {read:?}"),
        }
    }

    #[test]
    fn only_bcrypt_is_taken_and_the_reason_is_told() {
        let bcrypt = bcrypt::hash("secret", 4).unwrap();
        check_file(&format!("# staff\n\nann:{bcrypt}\nbob:{bcrypt}\n"), Ok(2));
        check_file(
            &format!("ann:{bcrypt}\nann:{bcrypt}\n"),
            Err("line 2: user `ann` stands there a second time"),
        );
        check_file("ann:$apr1$x$y", Err("line 1: the password of `ann` is kept as MD5 (apr1)"));
        check_file("ann:{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=", Err("SHA-1"));
        check_file("ann:rqXexS6ZhobKA", Err("DES crypt"));
        check_file("ann:secret", Err("plain text"));
        check_file("ann:$2y$05$short", Err("malformed"));
        check_file("ann", Err("must be `name:hash`"));
        check_file("\n# nobody\n", Err("no user"));
    }

    #[tokio::test]
    async fn a_password_is_right_for_its_user_only() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("users");
        let line = |user, password| format!("{user}:{}\n", bcrypt::hash(password, 4).unwrap());
        std::fs::write(&path, line("ann", "a") + &line("bob", "b")).unwrap();
        let users = Htpasswd::open(&path).unwrap();
        for _ in 0..2 {
            assert!(users.verify("ann", "a").await);
            assert!(!users.verify("ann", "b").await);
            assert!(!users.verify("bob", "a").await);
            assert!(!users.verify("eve", "a").await);
        }

        std::fs::write(&path, line("ann", "new")).unwrap();
        users.entries.expire();
        assert!(!users.verify("ann", "a").await, "a changed password ends what was remembered");
        assert!(users.verify("ann", "new").await);
        assert!(!users.verify("bob", "b").await, "a removed user is gone");
    }
}
