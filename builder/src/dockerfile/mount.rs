//! `RUN --mount=`: a list of `key=value` fields and the mount it describes.
//!
//! Values are expanded when the step runs, so the kind of a mount may be known only then: [`MountFlag`] is what the
//! parser keeps, [`Mount`] what the builder gets from it.
//!
//! Reference: <https://docs.docker.com/reference/dockerfile/#run---mount>

use super::error::{Fault, SyntaxError};
use super::expand::Expander;
use super::fields::{self, Field};
use super::go;
use super::source::{Span, Word};
use super::suggest::nearest;

/// `--mount=` before expansion: nothing but the form of the list and `from` has been checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountFlag {
    /// In order.
    pub fields: Vec<Field>,
    /// The flag's value.
    pub span: Span,
}

/// What a step wants to see at a path. Paths are as they were written; an empty `source` is the root of `from`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mount {
    /// Files of the build context, a stage or an image. What is written there is thrown away.
    Bind {
        /// Stage, image or named context; `None`: the build context.
        from: Option<String>,
        /// Path inside `from`.
        source: String,
        /// Relative to the working directory.
        target: String,
        /// True by default.
        read_only: bool,
    },
    /// A folder that outlives the build.
    Cache {
        /// `id=`; `None`: the target.
        id: Option<String>,
        /// What a new cache begins as; `None`: empty.
        from: Option<String>,
        /// Path inside `from`.
        source: String,
        /// Relative to the working directory.
        target: String,
        /// False by default.
        read_only: bool,
        /// Who may use it at the same time.
        sharing: Sharing,
        /// Owner and mode of a new, empty cache.
        access: Access,
    },
    /// Memory.
    Tmpfs {
        /// Relative to the working directory.
        target: String,
        /// `None`: the kernel's limit.
        size_bytes: Option<u64>,
        /// False by default.
        read_only: bool,
    },
    /// A secret as a file, an environment variable or both.
    Secret {
        /// Which secret.
        id: String,
        /// Path of the file; `None`: only `env`.
        target: Option<String>,
        /// Name of the variable.
        env: Option<String>,
        /// Fail when the secret was not given.
        required: bool,
        /// Of the file; mode 0400 by default.
        access: Access,
    },
    /// The socket of an ssh agent.
    Ssh {
        /// Which agent; `default` when not given.
        id: String,
        /// Path of the socket; `None`: `/run/buildkit/ssh_agent.N`.
        target: Option<String>,
        /// Fail when no agent was given.
        required: bool,
        /// Of the socket; mode 0600 by default.
        access: Access,
    },
}

/// Owner and mode of what a mount creates; `None` where nothing was said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Access {
    /// User id.
    pub uid: Option<u32>,
    /// Group id.
    pub gid: Option<u32>,
    /// Permission bits.
    pub mode: Option<u32>,
}

/// `sharing=` of a cache mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Sharing {
    /// Several writers at once.
    #[default]
    Shared,
    /// A second writer gets another folder.
    Private,
    /// A second writer waits.
    Locked,
}

const KEYS: [&str; 19] = [
    "type",
    "from",
    "source",
    "src",
    "target",
    "dst",
    "destination",
    "readonly",
    "ro",
    "readwrite",
    "rw",
    "id",
    "sharing",
    "required",
    "size",
    "mode",
    "uid",
    "gid",
    "env",
];

const KINDS: [&str; 5] = ["bind", "cache", "tmpfs", "secret", "ssh"];
const SHARINGS: [&str; 3] = ["shared", "private", "locked"];

impl Mount {
    /// Where the mount is seen, upon the working directory; `None` for a secret that is only a variable. An empty path is
    /// the working directory itself, as in BuildKit.
    pub fn target(&self) -> Option<&str> {
        match self {
            Mount::Bind { target, .. } | Mount::Cache { target, .. } | Mount::Tmpfs { target, .. } => {
                Some(target)
            }
            Mount::Secret { target, .. } => target.as_deref(),
            Mount::Ssh { target, .. } => Some(target.as_deref().unwrap_or(SSH_SOCKET)),
        }
    }
}

/// Where the agent's socket is unless the mount says otherwise.
const SSH_SOCKET: &str = "/run/buildkit/ssh_agent.0";

impl MountFlag {
    /// Reads the value of `--mount=`.
    pub(super) fn new(list: &Word) -> Result<Self, SyntaxError> {
        let flag = MountFlag { fields: fields::split(list)?, span: list.span };
        match flag.from() {
            Some(from) if from.text.find('$').is_some_and(|at| at + 1 < from.text.len()) => {
                Err(SyntaxError::at(from, Fault::MountFromVariable))
            }
            _ => Ok(flag),
        }
    }

    /// The stage, image or named context it reads; known before expansion.
    pub fn from(&self) -> Option<&Word> {
        let is_from = |field: &&Field| field.key.text.eq_ignore_ascii_case("from");
        let from = self.fields.iter().rev().find(is_from)?.value.as_ref()?;
        (!from.text.is_empty()).then_some(from)
    }

    /// The mount, with values expanded.
    ///
    /// # Errors
    /// Unknown keys and values, keys that the kind of mount does not have, and words that cannot be expanded.
    pub fn resolve(&self, expander: &mut Expander<'_>) -> Result<Mount, SyntaxError> {
        let mut draft = Draft::default();
        for field in &self.fields {
            draft.take(field, expander)?;
        }
        draft.finish(self)
    }
}

/// What the fields say, whatever the kind.
#[derive(Default)]
struct Draft<'f> {
    kind: Option<&'static str>,
    from: Option<String>,
    source: Option<String>,
    target: Option<String>,
    id: Option<String>,
    env: Option<String>,
    read_only: Option<bool>,
    required: Option<bool>,
    size_bytes: Option<u64>,
    sharing: Option<Sharing>,
    access: Access,
    /// Keys that not every kind has, as they were typed.
    special: Vec<&'f Word>,
}

impl<'f> Draft<'f> {
    fn take(&mut self, field: &'f Field, expander: &mut Expander<'_>) -> Result<(), SyntaxError> {
        let key = field.key.text.to_ascii_lowercase();
        let value = match &field.value {
            Some(value) if key == "from" => Some(value.clone()),
            Some(value) => Some(expander.word(value)?),
            None => None,
        };
        let read = Value { key: &key, word: &field.key, value: value.as_ref() };
        match key.as_str() {
            "type" => self.kind = Some(read.choice(&KINDS, "`bind`, `cache`, `tmpfs`, `secret` or `ssh`")?),
            "from" => self.from = Some(read.text()?).filter(|from| !from.is_empty()),
            "source" | "src" => self.source = Some(read.text()?),
            "target" | "dst" | "destination" => self.target = Some(read.text()?),
            "id" => self.id = Some(read.text()?),
            "env" => self.env = Some(read.text()?),
            "readonly" | "ro" => self.read_only = Some(read.switch()?),
            "readwrite" | "rw" => self.read_only = Some(!read.switch()?),
            "required" => self.required = Some(read.switch()?),
            "size" => self.size_bytes = Some(read.parse(go::parse_size, "a size like `64m`")?),
            "sharing" => self.sharing = Some(read.sharing()?),
            "mode" => self.access.mode = Some(read.parse(|text| number(text, 8), "an octal number")?),
            "uid" => self.access.uid = Some(read.parse(|text| number(text, 10), "a number")?),
            "gid" => self.access.gid = Some(read.parse(|text| number(text, 10), "a number")?),
            _ if field.value.is_none() => {
                return Err(SyntaxError::at(&field.key, Fault::KeyWithoutValue(key)));
            }
            _ => {
                let nearest = nearest(&key, &KEYS);
                return Err(SyntaxError::at(&field.key, Fault::UnknownKey { flag: "mount", key, nearest }));
            }
        }
        if matches!(
            key.as_str(),
            "from" | "source" | "src" | "required" | "size" | "sharing" | "mode" | "uid" | "gid"
        ) {
            self.special.push(&field.key);
        }
        Ok(())
    }

    fn finish(self, flag: &MountFlag) -> Result<Mount, SyntaxError> {
        let kind = self.kind.unwrap_or("bind");
        for key in &self.special {
            let name = key.text.to_ascii_lowercase();
            if !kind_has(kind, &name) {
                return Err(SyntaxError::at(key, Fault::KeyOfOtherMount { kind, key: name }));
            }
        }
        let Draft { from, id, env, access, size_bytes, .. } = self;
        let source = self.source.unwrap_or_default();
        let target = self.target.filter(|target| !target.is_empty());
        let id = id.filter(|id| !id.is_empty());
        let required = self.required.unwrap_or_default();
        let read_only = self.read_only.unwrap_or(kind == "bind");
        let path = || target.clone().unwrap_or_default();
        Ok(match kind {
            "cache" => Mount::Cache {
                id,
                from,
                source,
                target: path(),
                read_only,
                sharing: self.sharing.unwrap_or_default(),
                access,
            },
            "tmpfs" => {
                Mount::Tmpfs { target: path(), size_bytes: size_bytes.filter(|size| *size > 0), read_only }
            }
            "secret" => {
                let whole = |fault| SyntaxError { span: flag.span, fault };
                let id = match (id, source.is_empty(), &target) {
                    (Some(_), false, _) => return Err(whole(Fault::SecretIdTwice)),
                    (None, false, _) => source,
                    (Some(id), true, _) => id,
                    (None, true, Some(target)) => base_name(target),
                    (None, true, None) => return Err(whole(Fault::SecretWithoutId)),
                };
                let default = || format!("/run/secrets/{}", base_name(&id));
                let target = if env.is_some() { target } else { Some(target.unwrap_or_else(default)) };
                Mount::Secret { id, target, env, required, access }
            }
            "ssh" => Mount::Ssh { id: id.unwrap_or_else(|| "default".to_owned()), target, required, access },
            _ => Mount::Bind { from, source, target: path(), read_only },
        })
    }
}

/// Whether a kind of mount knows a key that not every kind knows.
fn kind_has(kind: &str, key: &str) -> bool {
    match key {
        "required" => matches!(kind, "secret" | "ssh"),
        "size" => kind == "tmpfs",
        "sharing" => kind == "cache",
        "from" => kind != "secret",
        "source" | "src" => kind != "ssh",
        _ => matches!(kind, "secret" | "ssh" | "cache"),
    }
}

/// The last component of a path.
fn base_name(path: &str) -> String {
    let trimmed = path.trim_end_matches('/');
    trimmed.rsplit('/').next().unwrap_or(trimmed).to_owned()
}

fn number(text: &str, radix: u32) -> Option<u32> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| u32::from_str_radix(text, radix).ok())?
}

/// One field's value on its way to its type.
struct Value<'v> {
    key: &'v str,
    word: &'v Word,
    value: Option<&'v Word>,
}

impl Value<'_> {
    fn word(&self) -> Result<&Word, SyntaxError> {
        let missing = || SyntaxError::at(self.word, Fault::KeyWithoutValue(self.key.to_owned()));
        self.value.ok_or_else(missing)
    }

    fn text(&self) -> Result<String, SyntaxError> {
        Ok(self.word()?.text.clone())
    }

    fn wrong(&self, value: &Word, expected: &'static str, nearest: Option<&'static str>) -> SyntaxError {
        let (key, text) = (self.key.to_owned(), value.text.clone());
        SyntaxError::at(value, Fault::KeyValue { key, value: text, expected, nearest })
    }

    fn parse<T>(&self, read: impl Fn(&str) -> Option<T>, expected: &'static str) -> Result<T, SyntaxError> {
        let value = self.word()?;
        read(&value.text).ok_or_else(|| self.wrong(value, expected, None))
    }

    fn switch(&self) -> Result<bool, SyntaxError> {
        if self.value.is_none() { Ok(true) } else { self.parse(go::parse_bool, "`true` or `false`") }
    }

    fn choice(&self, choices: &[&'static str], expected: &'static str) -> Result<&'static str, SyntaxError> {
        let value = self.word()?;
        let text = value.text.to_ascii_lowercase();
        let choice = choices.iter().find(|choice| **choice == text);
        choice.copied().ok_or_else(|| self.wrong(value, expected, nearest(&text, choices)))
    }

    fn sharing(&self) -> Result<Sharing, SyntaxError> {
        Ok(match self.choice(&SHARINGS, "`shared`, `private` or `locked`")? {
            "private" => Sharing::Private,
            "locked" => Sharing::Locked,
            _ => Sharing::Shared,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(list: &str) -> Result<Mount, String> {
        let list = Word { text: list.to_owned(), ..Word::default() };
        let env = |name: &str| (name == "KIND").then(|| "cache".to_owned());
        let flag = MountFlag::new(&list).map_err(|error| error.to_string())?;
        flag.resolve(&mut Expander::new('\\', &env)).map_err(|error| error.to_string())
    }

    #[test]
    fn each_kind_has_its_defaults() {
        let (source, target) = (String::new(), "/x".to_owned());
        let bind = Mount::Bind { from: None, source, target, read_only: true };
        assert_eq!(resolve("dst=/x").as_ref(), Ok(&bind));
        assert_eq!(resolve("type=bind,target=/x,ro=true").as_ref(), Ok(&bind));
        let tmpfs = Mount::Tmpfs { target: "/t".into(), size_bytes: Some(64 << 20), read_only: false };
        assert_eq!(resolve("TYPE=TmpFS,target=/t,size=64m"), Ok(tmpfs));
        let ssh =
            Mount::Ssh { id: "default".into(), target: None, required: true, access: Access::default() };
        assert_eq!(resolve("required,type=ssh"), Ok(ssh));
    }

    #[test]
    fn the_kind_may_be_a_variable() {
        let expected = Mount::Cache {
            id: Some("go".into()),
            from: Some("base".into()),
            source: "/src".into(),
            target: "/c".into(),
            read_only: false,
            sharing: Sharing::Locked,
            access: Access { uid: Some(1), gid: None, mode: Some(0o700) },
        };
        let list = "type=$KIND,id=go,from=base,src=/src,target=/c,sharing=Locked,uid=1,mode=0700";
        assert_eq!(resolve(list), Ok(expected));
    }

    #[test]
    fn a_secret_is_named_by_id_source_or_target() {
        let secret = |id: &str, target: Option<&str>, env: Option<&str>| Mount::Secret {
            id: id.into(),
            target: target.map(str::to_owned),
            env: env.map(str::to_owned),
            required: false,
            access: Access::default(),
        };
        assert_eq!(resolve("type=secret,id=a"), Ok(secret("a", Some("/run/secrets/a"), None)));
        assert_eq!(resolve("type=secret,src=b"), Ok(secret("b", Some("/run/secrets/b"), None)));
        assert_eq!(resolve("type=secret,target=/etc/c"), Ok(secret("c", Some("/etc/c"), None)));
        assert_eq!(resolve("type=secret,id=d,env=D"), Ok(secret("d", None, Some("D"))));
        assert!(resolve("type=secret").is_err() && resolve("type=secret,id=a,src=b").is_err());
    }

    #[test]
    fn wrong_fields_are_named() {
        for (list, error) in [
            (
                "type=bnd",
                "`bnd` is not a value of `type`; expected `bind`, `cache`, `tmpfs`, `secret` or `ssh`",
            ),
            ("tarpet=/x", "unknown key `tarpet` of `--mount`"),
            ("target", "`target` needs a value"),
            ("size=1m,target=/x", "a bind mount has no `size`"),
            ("type=cache,mode=9", "`9` is not a value of `mode`; expected an octal number"),
            ("type=secret,id=a,from=b", "a secret mount has no `from`"),
            ("from=$X,target=/x", "`from` of a mount cannot hold variables"),
            ("type=\"bind", "a quote in the list is misplaced"),
        ] {
            assert_eq!(resolve(list).unwrap_err(), error, "{list}");
        }
    }
}
