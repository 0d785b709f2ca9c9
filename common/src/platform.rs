//! Platforms: operating system, CPU and its variant, in Go's words.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// What an image runs on, shown as `os/architecture[/variant]`.
///
/// Spec: <https://github.com/opencontainers/image-spec/blob/main/image-index.md#image-index-property-descriptions>
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Platform {
    /// CPU architecture (`GOARCH`): `amd64`, `arm64`, `arm`, `386` …
    pub architecture: String,
    /// Operating system (`GOOS`): `linux`.
    pub os: String,
    /// Windows only.
    #[serde(rename = "os.version", default, skip_serializing_if = "Option::is_none")]
    pub os_version: Option<String>,
    /// Windows only.
    #[serde(rename = "os.features", default, skip_serializing_if = "Vec::is_empty")]
    pub os_features: Vec<String>,
    /// Variant of the CPU: `v7` of `arm`, `v8` of `arm64`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

impl Platform {
    /// A normalised platform: `x86_64` becomes `amd64`, `arm64/v8` loses its variant, `arm` gets `v7`.
    ///
    /// Rules: <https://github.com/containerd/platforms/blob/main/database.go>
    pub fn new(os: &str, architecture: &str, variant: Option<&str>) -> Self {
        let variant = variant.filter(|v| !v.is_empty()).map(str::to_ascii_lowercase);
        let architecture = architecture.to_ascii_lowercase();
        let (architecture, variant) = match (architecture.as_str(), variant.as_deref()) {
            ("i386" | "i686" | "x86" | "386", _) => ("386", None),
            ("x86_64" | "x86-64" | "amd64", Some("v1") | None) => ("amd64", None),
            ("x86_64" | "x86-64" | "amd64", Some(v)) => ("amd64", Some(v)),
            ("aarch64" | "arm64", Some("8" | "v8") | None) => ("arm64", None),
            ("aarch64" | "arm64", Some(v)) => ("arm64", Some(v)),
            ("armhf", _) => ("arm", Some("v7")),
            ("armel", _) => ("arm", Some("v6")),
            ("arm", None | Some("" | "7")) => ("arm", Some("v7")),
            ("arm", Some("5")) => ("arm", Some("v5")),
            ("arm", Some("6")) => ("arm", Some("v6")),
            ("arm", Some("8")) => ("arm", Some("v8")),
            (other, v) => (other, v),
        };
        let os = match os.to_ascii_lowercase().as_str() {
            "macos" => "darwin".to_owned(),
            other => other.to_owned(),
        };
        Platform {
            architecture: architecture.to_owned(),
            os,
            os_version: None,
            os_features: Vec::new(),
            variant: variant.map(str::to_owned),
        }
    }

    /// The platform that this program runs on.
    pub fn host() -> Self {
        let architecture = match std::env::consts::ARCH {
            "powerpc64" if cfg!(target_endian = "little") => "ppc64le",
            other => other,
        };
        Platform::new("linux", architecture, None)
    }

    /// Whether an image of `self` is what somebody who wants `wanted` means; both normalised first.
    pub fn matches(&self, wanted: &Platform) -> bool {
        let (a, b) = (self.normalized(), wanted.normalized());
        (a.os, a.architecture, a.variant) == (b.os, b.architecture, b.variant)
    }

    /// How well an image of `self` serves a host of platform `host`; smaller is better, `None` not at all.
    /// An arm host runs older arm variants, an amd64 one lower levels, an arm64 one also 32-bit arm.
    pub fn fitness(&self, host: &Platform) -> Option<u32> {
        let (image, host) = (self.normalized(), host.normalized());
        if image.os != host.os {
            return None;
        }
        let level = |p: &Platform, default: u32| {
            p.variant.as_deref().and_then(|v| v.strip_prefix('v')?.parse().ok()).unwrap_or(default)
        };
        match (image.architecture.as_str(), host.architecture.as_str()) {
            ("arm", "arm64") => Some(100 + 8u32.saturating_sub(level(&image, 7))),
            (a, b) if a != b => None,
            ("arm", _) => level(&host, 7).checked_sub(level(&image, 7)),
            ("amd64", _) => level(&host, 1).checked_sub(level(&image, 1)),
            ("arm64", _) => level(&host, 8).checked_sub(level(&image, 8)),
            _ => (image.variant == host.variant).then_some(0),
        }
    }

    fn normalized(&self) -> Platform {
        Platform::new(&self.os, &self.architecture, self.variant.as_deref())
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        if let Some(variant) = &self.variant {
            write!(f, "/{variant}")?;
        }
        Ok(())
    }
}

/// A text that is not a platform.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a platform; expected `os/architecture[/variant]`, e.g. `linux/amd64`")]
pub struct PlatformError(String);

impl FromStr for Platform {
    type Err = PlatformError;

    /// Reads `os/arch[/variant]`, or one word: an architecture of Linux, or an operating system.
    fn from_str(text: &str) -> Result<Self, PlatformError> {
        let error = || PlatformError(text.to_owned());
        let well_formed = |part: &&str| {
            !part.is_empty()
                && part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
        };
        let parts: Vec<&str> = text.split('/').collect();
        if !parts.iter().all(well_formed) {
            return Err(error());
        }
        let host = Platform::host();
        match parts[..] {
            [os @ ("linux" | "windows" | "darwin" | "freebsd")] => {
                Ok(Platform::new(os, &host.architecture, host.variant.as_deref()))
            }
            [architecture] => {
                let platform = Platform::new("linux", architecture, None);
                let known = [
                    "amd64", "arm64", "arm", "386", "ppc64le", "s390x", "riscv64", "mips64le", "loong64",
                    "mips64", "mips", "mipsle", "ppc64",
                ];
                if known.contains(&platform.architecture.as_str()) { Ok(platform) } else { Err(error()) }
            }
            [os, architecture] => Ok(Platform::new(os, architecture, None)),
            [os, architecture, variant] => Ok(Platform::new(os, architecture, Some(variant))),
            _ => Err(error()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_of_one_platform_are_one_value() {
        for (text, expected) in [
            ("linux/x86_64", "linux/amd64"),
            ("aarch64", "linux/arm64"),
            ("linux/arm64/v8", "linux/arm64"),
            ("linux/arm", "linux/arm/v7"),
            ("linux/arm/6", "linux/arm/v6"),
            ("linux/i386", "linux/386"),
        ] {
            assert_eq!(text.parse::<Platform>().unwrap().to_string(), expected, "{text}");
        }
        for text in ["", "/", "linux/", "linux/amd64/v1/x", "nonsense", "a b"] {
            assert!(text.parse::<Platform>().is_err(), "{text}");
        }
    }

    #[test]
    fn the_newest_variant_that_the_host_can_run_fits_best() {
        let host: Platform = "linux/arm64".parse().unwrap();
        let fit = |text: &str| text.parse::<Platform>().unwrap().fitness(&host);
        assert_eq!(fit("linux/arm64"), Some(0));
        assert!(fit("linux/arm/v7") < fit("linux/arm/v6"));
        assert_eq!(fit("linux/amd64"), None);
        assert_eq!(fit("windows/arm64"), None);
    }
}
