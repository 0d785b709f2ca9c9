//! Which command a container runs: docker's rules for what an image says and what a user says.

use common::oci::Config;

/// The two halves of a command line. One that is `None` adds nothing; together they have a word at least.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// The first words: what runs.
    pub entrypoint: Option<Vec<String>>,
    /// The words after them.
    pub cmd: Option<Vec<String>>,
}

/// The image's entry point and command, overridden by the user: a new entry point drops the image's command, and an
/// empty one the image's entry point.
///
/// # Errors
/// [`NoCommand`], when nothing is left.
pub fn command(image: &Config, entrypoint: Option<&[String]>, args: &[String]) -> Result<Command, NoCommand> {
    let own = |words: &[String]| (!words.is_empty()).then(|| words.to_vec());
    let cmd = match (entrypoint, args) {
        (None, []) => image.cmd.clone(),
        (_, args) => own(args),
    };
    let entrypoint = match entrypoint {
        // `--entrypoint ""` takes the entry point away.
        Some([only]) if only.is_empty() => None,
        Some(entrypoint) => own(entrypoint),
        None => image.entrypoint.clone(),
    };
    let is_empty = [&entrypoint, &cmd].into_iter().flatten().all(Vec::is_empty);
    if is_empty { Err(NoCommand) } else { Ok(Command { entrypoint, cmd }) }
}

/// Neither the image nor the user says what to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("No command specified")]
pub struct NoCommand;

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    /// An entry point and a command; none where it is empty.
    fn halves((entrypoint, cmd): (&str, &str)) -> Command {
        let half = |text: &str| (!text.is_empty()).then(|| words(text));
        Command { entrypoint: half(entrypoint), cmd: half(cmd) }
    }

    fn check(
        image: (&str, &str),
        entrypoint: Option<&str>,
        args: &str,
        expected: Result<(&str, &str), NoCommand>,
    ) {
        let Command { entrypoint: image_entrypoint, cmd } = halves(image);
        let image = Config { entrypoint: image_entrypoint, cmd, ..Config::default() };
        let entrypoint = entrypoint.map(|word| vec![word.to_owned()]);
        assert_eq!(command(&image, entrypoint.as_deref(), &words(args)), expected.map(halves));
    }

    #[test]
    fn entry_points_and_commands_join_as_docker_joins_them() {
        check(("echo ep", "cmd"), None, "", Ok(("echo ep", "cmd")));
        check(("echo ep", "cmd"), None, "a b", Ok(("echo ep", "a b")));
        check(("echo ep", "cmd"), Some("/bin/ls"), "/etc/passwd", Ok(("/bin/ls", "/etc/passwd")));
        check(("echo ep", "cmd"), Some("/bin/ls"), "", Ok(("/bin/ls", "")));
        check(("echo ep", "cmd"), Some(""), "echo only", Ok(("", "echo only")));
        check(("echo ep", "cmd"), Some(""), "", Err(NoCommand));
        check(("", "sh"), None, "", Ok(("", "sh")));
        check(("", "sh"), None, "ls", Ok(("", "ls")));
        check(("", ""), None, "", Err(NoCommand));
    }
}
