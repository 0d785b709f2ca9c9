//! `--chmod`: an octal number, or clauses as chmod(1) takes them.

/// What to do with the mode of each copied thing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Chmod {
    /// Replace it by these bits, also for directories that have to be made.
    Octal(u32),
    /// Change it, clause after clause.
    Symbolic(Vec<Clause>),
}

/// One clause, such as `u=rwX` or `go-w`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Clause {
    who: u32,
    operator: u8,
    permissions: Permissions,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Permissions {
    /// `rwxst` as a mode for everybody, and whether `X` was among them.
    Given { bits: u32, execute_if_useful: bool },
    /// What user (6), group (3) or others (0) have, by the shift.
    CopiedFrom(u32),
}

const USER: u32 = 0o4700;
const GROUP: u32 = 0o2070;
const OTHERS: u32 = 0o0007;
const STICKY: u32 = 0o1000;

/// A `--chmod` that is neither.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "invalid chmod parameter: `{0}`; expected an octal number from 0 to 07777, or clauses such as `u=rwX,go=rX`"
)]
pub struct ChmodError(String);

impl Chmod {
    pub(crate) fn parse(text: &str) -> Result<Self, ChmodError> {
        let error = || ChmodError(text.to_owned());
        if text.starts_with(|c: char| c.is_ascii_digit()) {
            return match u32::from_str_radix(text, 8) {
                Ok(mode @ 0..=0o7777) => Ok(Chmod::Octal(mode)),
                _ => Err(error()),
            };
        }
        let mut clauses = Vec::new();
        for clause in text.split(',') {
            parse_clause(clause.as_bytes(), &mut clauses).ok_or_else(error)?;
        }
        Ok(Chmod::Symbolic(clauses))
    }

    /// The mode of a copied thing that had `mode` at its source.
    pub(crate) fn apply(&self, mode: u32, is_directory: bool) -> u32 {
        match self {
            Chmod::Octal(mode) => *mode,
            Chmod::Symbolic(clauses) => {
                clauses.iter().fold(mode, |mode, clause| clause.apply(mode, is_directory))
            }
        }
    }

    /// The mode of a directory that has to be made on the way to the destination.
    pub(crate) fn of_parents(chmod: Option<&Chmod>) -> u32 {
        match chmod {
            Some(Chmod::Octal(mode)) => mode & 0o777,
            _ => 0o755,
        }
    }
}

fn parse_clause(text: &[u8], clauses: &mut Vec<Clause>) -> Option<()> {
    let operator = text.iter().position(|byte| b"+-=".contains(byte))?;
    let (who, mut rest) = text.split_at(operator);
    let who = who.iter().try_fold(0, |who, byte| {
        Some(
            who | match byte {
                b'u' => USER,
                b'g' => GROUP,
                b'o' => OTHERS,
                b'a' => USER | GROUP | OTHERS,
                _ => return None,
            },
        )
    })?;
    // Nobody named means everybody; the umask of a build is 0.
    let who = if who == 0 { USER | GROUP | OTHERS } else { who };
    while let Some((operator, behind)) = rest.split_first() {
        let end = behind.iter().position(|byte| b"+-=".contains(byte)).unwrap_or(behind.len());
        let permissions = parse_permissions(&behind[..end])?;
        clauses.push(Clause { who, operator: *operator, permissions });
        rest = &behind[end..];
    }
    Some(())
}

fn parse_permissions(text: &[u8]) -> Option<Permissions> {
    match text {
        b"u" => return Some(Permissions::CopiedFrom(6)),
        b"g" => return Some(Permissions::CopiedFrom(3)),
        b"o" => return Some(Permissions::CopiedFrom(0)),
        _ => {}
    }
    let (mut bits, mut execute_if_useful) = (0, false);
    for byte in text {
        match byte {
            b'r' => bits |= 0o444,
            b'w' => bits |= 0o222,
            b'x' => bits |= 0o111,
            b's' => bits |= 0o6000,
            b't' => bits |= STICKY,
            b'X' => execute_if_useful = true,
            _ => return None,
        }
    }
    Some(Permissions::Given { bits, execute_if_useful })
}

impl Clause {
    fn apply(self, mode: u32, is_directory: bool) -> u32 {
        let bits = match self.permissions {
            Permissions::CopiedFrom(shift) => ((mode >> shift) & 7) * 0o111,
            Permissions::Given { bits, execute_if_useful } => {
                let useful = execute_if_useful && (is_directory || mode & 0o111 != 0);
                bits | if useful { 0o111 } else { 0 }
            }
        };
        let everybody = self.who == USER | GROUP | OTHERS;
        let reach = if everybody { self.who | STICKY } else { self.who };
        let bits = bits & reach;
        match self.operator {
            b'+' => mode | bits,
            b'-' => mode & !bits,
            _ => (mode & !reach) | bits,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_change_as_chmod_says() {
        for (chmod, mode, is_directory, expected) in [
            ("755", 0o600, false, 0o755),
            ("04755", 0o600, false, 0o4755),
            ("u=rwX,go=rX", 0o600, false, 0o644),
            ("u=rwX,go=rX", 0o600, true, 0o755),
            ("a+x", 0o644, false, 0o755),
            ("+x", 0o644, false, 0o755),
            ("go-w", 0o666, false, 0o644),
            ("g=u", 0o640, false, 0o660),
            ("u+s", 0o755, false, 0o4755),
            ("g+s,o=", 0o755, true, 0o2750),
            ("+t", 0o777, true, 0o1777),
            ("u=rw+x", 0o000, false, 0o700),
        ] {
            let parsed = Chmod::parse(chmod).unwrap();
            assert_eq!(parsed.apply(mode, is_directory), expected, "{chmod} {mode:o}");
        }
    }

    #[test]
    fn what_is_neither_octal_nor_clauses_is_refused() {
        for text in ["64a", "10000", "", "u", "q+x", "u+q", "u=rw,", "9"] {
            assert!(Chmod::parse(text).is_err(), "{text}");
        }
    }
}
