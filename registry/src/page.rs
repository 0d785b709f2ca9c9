//! Listings in pages: `?n=` and `?last=` in, `Link: <…>; rel="next"` out.
//!
//! Spec: <https://github.com/opencontainers/distribution-spec/blob/main/spec.md#listing-tags>

use http::HeaderValue;
use url::form_urlencoded::Serializer;

use crate::call::Query;
use crate::error::Error;

/// What is listed at most in one answer; the rest is behind its `Link`.
const LIMIT: usize = 10_000;

/// Which part of a listing is asked for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Page {
    /// How many entries.
    pub(crate) limit: usize,
    /// Only what comes after this entry.
    pub(crate) last: Option<String>,
}

impl Page {
    /// Reads `n` and `last`.
    ///
    /// # Errors
    /// [`Error::Query`] when `n` is not a number; one that is too large only means as much as possible.
    pub(crate) fn parse(query: &Query) -> Result<Self, Error> {
        let limit = match query.get("n") {
            None => LIMIT,
            Some(n) if !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()) => {
                n.parse().unwrap_or(LIMIT).min(LIMIT)
            }
            Some(_) => return Err(Error::Query { name: "n", reason: "must be a number, 0 or more" }),
        };
        Ok(Page { limit, last: query.get("last").map(str::to_owned) })
    }

    /// Cuts `entries`, of which one more than [`Page::limit`] was asked, to the page, and answers the `Link` to the
    /// next one if there is one.
    pub(crate) fn cut<T: ToString>(&self, path: &str, entries: &mut Vec<T>) -> Option<HeaderValue> {
        let more = entries.len() > self.limit;
        entries.truncate(self.limit);
        let last = entries.last().filter(|_| more)?.to_string();
        Some(link(path, &[("n", &self.limit.to_string()), ("last", &last)]))
    }
}

/// The value of a `Link` to the next page, relative.
///
/// Spec: <https://www.rfc-editor.org/rfc/rfc5988>
pub(crate) fn link(path: &str, query: &[(&str, &str)]) -> HeaderValue {
    let query = Serializer::new(String::new()).extend_pairs(query).finish();
    let link = format!("<{path}?{query}>; rel=\"next\"");
    link.parse().expect("a path of names and an encoded query are printable")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_of_any_size_is_a_limit_and_anything_else_is_refused() {
        let page = |n| Page::parse(&Query::parse(Some(n)));
        assert_eq!(page("n=3&last=x").unwrap(), Page { limit: 3, last: Some("x".into()) });
        assert_eq!(page("").unwrap().limit, LIMIT);
        assert_eq!(page("n=0").unwrap().limit, 0);
        for large in ["n=9223372036854775808", "n=99999999999999999999999999"] {
            assert_eq!(page(large).unwrap().limit, LIMIT);
        }
        for wrong in ["n=-1", "n=", "n=x", "n=1.5", "n=%2B1"] {
            assert!(page(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_page_that_is_not_the_last_has_a_link() {
        let page = Page { limit: 2, last: None };
        let mut entries = vec!["a", "b/c", "d"];
        let next = page.cut("/v2/_catalog", &mut entries);
        assert_eq!(next.unwrap(), "</v2/_catalog?n=2&last=b%2Fc>; rel=\"next\"");
        assert_eq!(entries, ["a", "b/c"]);
        assert_eq!(page.cut("/v2/_catalog", &mut entries), None);
        assert_eq!(Page { limit: 0, last: None }.cut("/v2/_catalog", &mut entries), None);
    }
}
