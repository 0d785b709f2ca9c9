//! "Did you mean": the nearest of some names.

/// The option that is nearest to `typed`: at most two edits away, and at most half of the letters are wrong. `None` if
/// one is equal.
pub(crate) fn nearest<'o>(typed: &str, options: &[&'o str]) -> Option<&'o str> {
    // Far longer texts are no typing errors, and would take long to compare.
    if typed.len() > 64 || options.contains(&typed) {
        return None;
    }
    let (distance, option) = options
        .iter()
        .map(|option| (distance(typed, option), *option))
        .min_by_key(|(distance, _)| *distance)?;
    (distance < 3 && distance * 2 <= typed.chars().count()).then_some(option)
}

/// Levenshtein's: insertions, deletions and replacements of characters.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, cb) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(ca != *cb);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_edits_are_near() {
        assert_eq!(nearest("COPPY", &["ADD", "COPY", "CMD"]), Some("COPY"));
        assert_eq!(nearest("chwon", &["chown", "chmod"]), Some("chown"));
        assert_eq!(nearest("APK", &["ADD", "ARG"]), None);
        assert_eq!(nearest("FOO", &["COPY", "WORKDIR"]), None);
        assert_eq!(nearest("COPY", &["COPY"]), None);
    }
}
