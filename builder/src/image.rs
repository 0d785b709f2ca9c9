//! The image that a stage is becoming: config and history, shaped as BuildKit's Dockerfile frontend shapes them.
//!
//! Each instruction leaves one history entry (but ONBUILD and arguments of no consequence, as there), with the comment
//! `buildkit.dockerfile.v0`. When the entries were made is filled in at the end by [`finish_history`]: a layer's time is
//! known only when it is there.

use std::collections::{HashMap, HashSet};

use common::digest::Digest;
use common::oci::{Config, Empty, Healthcheck, History, ImageConfig, RootFs};
use common::platform::Platform;

use crate::dockerfile::{self, CommandLine, Kind, history};
use crate::tree::absolute;
use crate::variables::Variables;

const COMMENT: &str = "buildkit.dockerfile.v0";

/// `PATH` of an image that says nothing.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What one stage has come to, as far as it can be told from its text and its base.
#[derive(Debug, Clone)]
pub(crate) struct Draft {
    pub image: ImageConfig,
    /// What words and RUN see: `ENV` and `ARG`.
    pub variables: Variables,
    /// Where in the config's `env` a name stands.
    env_places: HashMap<String, usize>,
    /// Each `ARG` so far, for RUN's history entry.
    pub arguments: Vec<(String, Option<String>)>,
    /// A `CMD` of this stage: a later `ENTRYPOINT` then leaves it alone.
    has_cmd: bool,
    /// A `WORKDIR` of this stage or of one that it stands upon.
    pub has_workdir: bool,
}

impl Draft {
    /// What `FROM scratch` begins with.
    pub(crate) fn scratch(platform: &Platform) -> Self {
        let config = Config {
            working_dir: "/".to_owned(),
            env: vec![format!("PATH={DEFAULT_PATH}")],
            ..Config::default()
        };
        Draft::upon_image(ImageConfig {
            architecture: platform.architecture.clone(),
            os: platform.os.clone(),
            os_version: platform.os_version.clone(),
            os_features: platform.os_features.clone(),
            variant: platform.variant.clone(),
            config,
            ..ImageConfig::default()
        })
    }

    /// What `FROM image` begins with when nobody has looked at the image.
    pub(crate) fn upon_unknown(platform: &Platform) -> Self {
        let mut draft = Draft::scratch(platform);
        draft.variables.open();
        draft
    }

    /// What `FROM image` begins with. The image's ONBUILD triggers are taken out by the caller.
    pub(crate) fn upon_image(mut image: ImageConfig) -> Self {
        image.created = None;
        let config = &mut image.config;
        if !config.env.iter().any(|line| line.starts_with("PATH=")) {
            config.env.push(format!("PATH={DEFAULT_PATH}"));
        }
        if !config.working_dir.is_empty() && !config.working_dir.starts_with('/') {
            config.working_dir = absolute("/", &config.working_dir);
        }
        Draft::bare(image)
    }

    /// A config as it is, without what a stage adds.
    pub(crate) fn bare(image: ImageConfig) -> Self {
        let mut draft = Draft {
            image,
            variables: Variables::default(),
            env_places: HashMap::new(),
            arguments: Vec::new(),
            has_cmd: false,
            has_workdir: false,
        };
        draft.take_env();
        draft
    }

    /// What `FROM stage` begins with: all but the triggers, which this stage runs.
    pub(crate) fn upon_stage(base: &Draft) -> Self {
        let mut draft = Draft { has_cmd: false, ..base.clone() };
        draft.image.config.on_build.clear();
        draft.take_env();
        draft
    }

    fn take_env(&mut self) {
        for (at, line) in self.image.config.env.iter().enumerate() {
            let (name, value) = line.split_once('=').unwrap_or((line, ""));
            self.variables.set(name, value);
            self.env_places.entry(name.to_owned()).or_insert(at);
        }
    }

    /// Where relative paths begin; never empty.
    pub(crate) fn working_dir(&self) -> &str {
        match self.image.config.working_dir.as_str() {
            "" => "/",
            path => path,
        }
    }

    /// What runs the shell form.
    pub(crate) fn shell(&self) -> Vec<String> {
        match &self.image.config.shell {
            Some(shell) if !shell.is_empty() => shell.clone(),
            _ => vec!["/bin/sh".to_owned(), "-c".to_owned()],
        }
    }

    /// An expanded instruction that only changes config and history: all but ARG, RUN and WORKDIR. Of ADD and COPY this
    /// is the history entry.
    pub(crate) fn apply(&mut self, kind: &Kind) {
        let text = history::created_by(kind, &self.shell());
        let makes_layer = matches!(kind, Kind::Add(_) | Kind::Copy(_));
        if let Some(text) = text {
            self.record(text, !makes_layer);
        }
        match kind {
            Kind::Env(pairs) => pairs.iter().for_each(|pair| self.set_env(&pair.key.text, &pair.value.text)),
            Kind::Cmd(command) => {
                self.image.config.cmd = Some(history::with_shell(command, &self.shell()));
                self.image.config.args_escaped = true;
                self.has_cmd = true;
            }
            // The base's `CMD` was meant for the base's entry point, so it goes.
            Kind::Entrypoint(command) => {
                self.image.config.entrypoint = Some(history::with_shell(command, &self.shell()));
                if !self.has_cmd {
                    self.image.config.cmd = None;
                }
            }
            Kind::Healthcheck(check) => self.image.config.healthcheck = Some(healthcheck(check)),
            _ => self.apply_plain(kind),
        }
    }

    fn apply_plain(&mut self, kind: &Kind) {
        let config = &mut self.image.config;
        match kind {
            Kind::Label(labels) => {
                let labels = labels.iter().map(|label| (label.key.text.clone(), label.value.text.clone()));
                config.labels.extend(labels);
            }
            Kind::Maintainer(name) => self.image.author = Some(name.text.clone()),
            Kind::Expose(ports) => {
                config.exposed_ports.extend(ports.iter().map(|port| (port.text.clone(), Empty {})));
            }
            Kind::User(user) => config.user.clone_from(&user.text),
            Kind::Volume(volumes) => {
                config.volumes.extend(volumes.iter().map(|volume| (volume.text.clone(), Empty {})));
            }
            Kind::Stopsignal(signal) => config.stop_signal = Some(signal.text.clone()),
            Kind::Shell(words) => config.shell = Some(words.clone()),
            Kind::Onbuild(onbuild) => config.on_build.push(onbuild.expression.clone()),
            _ => {}
        }
    }

    fn set_env(&mut self, name: &str, value: &str) {
        self.variables.set(name, value);
        let line = format!("{name}={value}");
        let env = &mut self.image.config.env;
        match self.env_places.get(name) {
            Some(at) => env[*at] = line,
            None => {
                self.env_places.insert(name.to_owned(), env.len());
                env.push(line);
            }
        }
    }

    /// One `ARG` instruction; the values are final, `None` for an argument that has none.
    pub(crate) fn arg(&mut self, arguments: Vec<(String, Option<String>)>) {
        self.record(history::arg(&arguments), true);
        for (name, value) in &arguments {
            if let Some(value) = value {
                self.variables.set(name, value);
            }
        }
        self.arguments.extend(arguments);
    }

    /// The new working directory; a layer is made unless it is the root.
    pub(crate) fn workdir(&mut self, path: &str) -> String {
        // As BuildKit has it: an absolute path stays as it was written.
        let path = if path.starts_with('/') { path.to_owned() } else { absolute(self.working_dir(), path) };
        path.clone_into(&mut self.image.config.working_dir);
        self.record(history::workdir(&path), path == "/");
        path
    }

    /// `args` are the command line after the shell was put in front.
    pub(crate) fn run(&mut self, args: &[String]) {
        let mut seen = HashSet::new();
        let arguments = self.arguments.iter().filter(|(name, _)| seen.insert(name));
        let arguments: Vec<(String, String)> = arguments
            .map(|(name, value)| {
                let value = self.variables.get(name).or(value.as_deref()).unwrap_or_default();
                (name.clone(), value.to_owned())
            })
            .collect();
        self.record(history::run(args, &arguments), false);
    }

    fn record(&mut self, text: String, empty_layer: bool) {
        self.image.history.push(History {
            created_by: Some(text),
            comment: Some(COMMENT.to_owned()),
            empty_layer,
            ..History::default()
        });
    }
}

fn healthcheck(check: &dockerfile::Healthcheck) -> Healthcheck {
    match check {
        dockerfile::Healthcheck::None => {
            Healthcheck { test: vec!["NONE".to_owned()], ..Healthcheck::default() }
        }
        dockerfile::Healthcheck::Check {
            command,
            interval,
            timeout,
            start_period,
            start_interval,
            retries,
        } => {
            let test = match command {
                CommandLine::Exec(words) => [&["CMD".to_owned()], words.as_slice()].concat(),
                CommandLine::Shell(text) => vec!["CMD-SHELL".to_owned(), text.clone()],
            };
            let nanos =
                |duration: &std::time::Duration| i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX);
            Healthcheck {
                test,
                interval: nanos(interval),
                timeout: nanos(timeout),
                start_period: nanos(start_period),
                start_interval: nanos(start_interval),
                retries: i64::from(*retries),
            }
        }
    }
}

/// What a stage came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Layers {
    /// All diff IDs, from the lowest.
    pub diff_ids: Vec<Digest>,
    /// When each layer above the base image came to be, RFC 3339.
    pub created: Vec<String>,
}

/// The config as it is stored: the layers, and a time for each new history entry.
///
/// An entry with a layer takes that layer's time; one without takes that of the entry before it or, at the beginning, of the
/// first new layer. `fallback` (RFC 3339) is for a stage that has no layer at all.
pub(crate) fn finish(mut image: ImageConfig, layers: &Layers, fallback: &str) -> ImageConfig {
    let mut created = layers.created.iter();
    for entry in image.history.iter_mut().filter(|entry| !entry.empty_layer && entry.created.is_none()) {
        entry.created = created.next().cloned();
    }
    if let Some(first) = image.history.iter().position(|entry| entry.created.is_none()) {
        let (before, new) = image.history.split_at_mut(first);
        let later = new.iter().find_map(|entry| entry.created.clone());
        let earlier = || before.iter().rev().find_map(|entry| entry.created.clone());
        let mut time = later.or_else(earlier).unwrap_or_else(|| fallback.to_owned());
        for entry in new {
            match &entry.created {
                Some(own) => time.clone_from(own),
                None => entry.created = Some(time.clone()),
            }
        }
    }
    let last = image.history.iter().rev().find_map(|entry| entry.created.clone());
    image.created = Some(last.unwrap_or_else(|| fallback.to_owned()));
    image.rootfs = RootFs { diff_ids: layers.diff_ids.clone(), ..RootFs::default() };
    image
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draft() -> Draft {
        Draft::scratch(&"linux/amd64".parse().unwrap())
    }

    fn history(draft: &Draft) -> Vec<(&str, bool)> {
        let entries = draft.image.history.iter();
        entries.map(|entry| (entry.created_by.as_deref().unwrap(), entry.empty_layer)).collect()
    }

    fn command(word: &str) -> CommandLine {
        CommandLine::Exec(vec![word.to_owned()])
    }

    #[test]
    fn an_entry_point_drops_the_command_of_the_base_but_not_its_own() {
        let mut base = draft();
        base.apply(&Kind::Cmd(command("base")));
        let mut upon = Draft::upon_stage(&base);
        upon.apply(&Kind::Entrypoint(command("e")));
        assert_eq!(upon.image.config.cmd, None);
        base.apply(&Kind::Entrypoint(command("e")));
        assert_eq!(base.image.config.cmd, Some(vec!["base".to_owned()]));
    }

    #[test]
    fn run_tells_the_arguments_it_could_see() {
        let mut draft = draft();
        draft.arg(vec![("A".into(), Some("1".into())), ("B".into(), None), ("A".into(), Some("2".into()))]);
        draft.run(&["make".to_owned()]);
        assert_eq!(history(&draft), [("ARG A=1 B A=2", true), ("RUN |2 A=2 B= make # buildkit", false)]);
    }

    #[test]
    fn a_working_directory_is_relative_to_the_last_one() {
        let mut draft = draft();
        assert_eq!(draft.workdir("w/../x/"), "/x");
        assert_eq!(draft.workdir("y"), "/x/y");
        assert_eq!(draft.workdir("/tmp/"), "/tmp/");
        assert_eq!(draft.workdir("/"), "/");
        let expected =
            [("WORKDIR /x", false), ("WORKDIR /x/y", false), ("WORKDIR /tmp/", false), ("WORKDIR /", true)];
        assert_eq!(history(&draft), expected);
    }

    #[test]
    fn entries_without_a_layer_take_the_time_of_one() {
        let mut draft = draft();
        draft.workdir("/");
        draft.workdir("/a");
        draft.workdir("/");
        let layers = Layers { diff_ids: Vec::new(), created: vec!["T1".to_owned()] };
        let image = finish(draft.image, &layers, "T0");
        let times: Vec<&str> = image.history.iter().map(|entry| entry.created.as_deref().unwrap()).collect();
        assert_eq!(times, ["T1", "T1", "T1"]);
        assert_eq!(image.created.as_deref(), Some("T1"));
    }
}
