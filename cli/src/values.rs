//! The values of flags: what docker takes, and its words for all else.

use common::platform::Platform;

/// What Go's `strconv.ParseBool` takes, with its words for all else.
pub(crate) fn boolean(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(format!("strconv.ParseBool: parsing \"{text}\": invalid syntax")),
    }
}

/// What Go's `strconv.ParseInt` takes, with its words for all else.
pub(crate) fn integer(text: &str) -> Result<i64, String> {
    text.parse().map_err(|_| format!("strconv.ParseInt: parsing \"{text}\": invalid syntax"))
}

/// A platform; nothing, as a script's empty variable gives it, is this machine's.
pub(crate) fn platform(text: &str) -> Result<Platform, <Platform as std::str::FromStr>::Err> {
    Ok(platform_or_any(text)?.unwrap_or_else(Platform::host))
}

/// A platform; nothing is any.
pub(crate) fn platform_or_any(text: &str) -> Result<Option<Platform>, <Platform as std::str::FromStr>::Err> {
    if text.is_empty() { Ok(None) } else { text.parse().map(Some) }
}
