//! Which command a container runs: docker's rules for what an image says and what a user says.

use common::oci::Config;

/// The image's entry point and command, overridden by the user: a new entry point drops the image's command, and an
/// empty one the image's entry point.
///
/// # Errors
/// [`NoCommand`], when nothing is left.
pub fn command(
    image: &Config,
    entrypoint: Option<&[String]>,
    args: &[String],
) -> Result<Vec<String>, NoCommand> {
    let image_entrypoint = image.entrypoint.as_deref().unwrap_or_default();
    let image_command = image.cmd.as_deref().unwrap_or_default();
    let (first, rest) = match entrypoint {
        Some(entrypoint) => (entrypoint, args),
        None if args.is_empty() => (image_entrypoint, image_command),
        None => (image_entrypoint, args),
    };
    // `--entrypoint ""` takes the entry point away.
    let first = if first == [String::new()] { &[] } else { first };
    let words = [first, rest].concat();
    if words.is_empty() { Err(NoCommand) } else { Ok(words) }
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

    fn check(
        image: (&str, &str),
        entrypoint: Option<&[&str]>,
        args: &str,
        expected: Result<&str, NoCommand>,
    ) {
        let image = Config {
            entrypoint: (!image.0.is_empty()).then(|| words(image.0)),
            cmd: (!image.1.is_empty()).then(|| words(image.1)),
            ..Config::default()
        };
        let entrypoint: Option<Vec<String>> =
            entrypoint.map(|words| words.iter().map(|word| (*word).to_owned()).collect());
        assert_eq!(command(&image, entrypoint.as_deref(), &words(args)), expected.map(words));
    }

    #[test]
    fn entry_points_and_commands_join_as_docker_joins_them() {
        check(("echo ep", "cmd"), None, "", Ok("echo ep cmd"));
        check(("echo ep", "cmd"), None, "a b", Ok("echo ep a b"));
        check(("echo ep", "cmd"), Some(&["/bin/ls"]), "/etc/passwd", Ok("/bin/ls /etc/passwd"));
        check(("echo ep", "cmd"), Some(&["/bin/ls"]), "", Ok("/bin/ls"));
        check(("echo ep", "cmd"), Some(&[""]), "echo only", Ok("echo only"));
        check(("echo ep", "cmd"), Some(&[""]), "", Err(NoCommand));
        check(("", "sh"), None, "", Ok("sh"));
        check(("", "sh"), None, "ls", Ok("ls"));
        check(("", ""), None, "", Err(NoCommand));
    }
}
