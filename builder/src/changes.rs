//! Single instructions upon a config, as `import --change` takes them.

use common::oci::{Config, ImageConfig};

use crate::dockerfile::{self, Expander, Fault, Kind, SyntaxErrors};
use crate::image::Draft;

/// Why an instruction cannot change a config.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// It is not of the Dockerfile language.
    #[error("{0}")]
    Syntax(SyntaxErrors),
    /// A word of it cannot be expanded.
    #[error("{change}: {fault}")]
    Word {
        /// The instruction.
        change: String,
        /// What is wrong with the word.
        fault: Fault,
    },
    /// It is no instruction, or one that works on files. The words are docker's.
    #[error("{keyword} is not a valid change command")]
    Keyword {
        /// The instruction's name, in lower case.
        keyword: String,
    },
}

/// The config that the instructions `changes` make of an empty one. Allowed are those that change nothing but the config.
///
/// # Errors
/// [`ChangeError`] for the first that is wrong.
pub fn apply_changes(changes: &[String]) -> Result<Config, ChangeError> {
    let mut draft = Draft::bare(ImageConfig::default());
    for change in changes {
        let instruction = dockerfile::parse_change(change).map_err(syntax)?;
        let lookup = |name: &str| draft.variables.get(name).map(str::to_owned);
        let kind = Expander::new('\\', &lookup)
            .kind(&instruction.kind)
            .map_err(|error| ChangeError::Word { change: change.clone(), fault: error.fault })?;
        match &kind {
            Kind::Add(_)
            | Kind::Arg(_)
            | Kind::Copy(_)
            | Kind::Maintainer(_)
            | Kind::Run(_)
            | Kind::Shell(_) => {
                let keyword = instruction.keyword.text.to_ascii_lowercase();
                return Err(ChangeError::Keyword { keyword });
            }
            Kind::Workdir(path) => drop(draft.workdir(&path.text)),
            _ => draft.apply(&kind),
        }
    }
    Ok(Config { args_escaped: false, ..draft.image.config })
}

/// For a wrong keyword docker has words of its own.
fn syntax(errors: SyntaxErrors) -> ChangeError {
    match errors.errors.first().map(|error| &error.fault) {
        Some(Fault::UnknownInstruction { name, .. } | Fault::Trigger(name)) => {
            ChangeError::Keyword { keyword: name.to_ascii_lowercase() }
        }
        _ => ChangeError::Syntax(errors),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn apply(changes: &[&str]) -> Result<Config, ChangeError> {
        apply_changes(&changes.iter().map(|change| (*change).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn changes_make_a_config_and_nothing_else() {
        let config =
            apply(&["ENV A=1", "ENV B=$A", "CMD [\"sh\"]", "EXPOSE 80", "WORKDIR /w", "USER app"]).unwrap();
        assert_eq!(config.env, ["A=1", "B=1"]);
        assert_eq!(config.cmd, Some(vec!["sh".to_owned()]));
        assert!(config.exposed_ports.contains_key("80/tcp"));
        assert_eq!((config.working_dir.as_str(), config.user.as_str()), ("/w", "app"));
        assert_eq!(apply(&[]).unwrap(), Config::default());
    }

    #[test]
    fn instructions_that_work_on_files_are_refused() {
        for (change, keyword) in [("RUN true", "run"), ("FROM x", "from"), ("COPPY a b", "coppy")] {
            let expected = format!("{keyword} is not a valid change command");
            assert_eq!(apply(&[change]).unwrap_err().to_string(), expected, "{change}");
        }
        assert!(apply(&["ENV A=${"]).is_err());
        let error = apply(&["ENV A"]).unwrap_err().to_string();
        assert!(error.contains("--change:1") && !error.contains("ONBUILD"), "{error}");
    }
}
