//! What time it is, and how images write it.

use std::time::SystemTime;

use common::layer::Time;

/// Now.
pub(crate) fn now() -> Time {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Time { seconds: i64::try_from(since.as_secs()).unwrap_or(i64::MAX), nanos: since.subsec_nanos() }
}

/// `2026-11-21T09:00:00Z`, with as many digits of a second as are not zero.
pub(crate) fn rfc3339(time: Time) -> String {
    let nanos = i32::try_from(time.nanos).unwrap_or_default();
    jiff::Timestamp::new(time.seconds, nanos).unwrap_or(jiff::Timestamp::MAX).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_rfc_3339() {
        assert_eq!(rfc3339(Time::from_seconds(1_700_000_000)), "2023-11-14T22:13:20Z");
        assert_eq!(rfc3339(Time { seconds: 0, nanos: 1_000 }), "1970-01-01T00:00:00.000001Z");
    }
}
