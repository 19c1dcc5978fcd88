//! Versions as clusters compare them: major.minor decides, the patch only tells.

use std::fmt;
use std::str::FromStr;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    pub major: u64,
    pub minor: u64,
    pub patch: u64,
}

impl Version {
    pub const fn new(major: u64, minor: u64) -> Version {
        Version { major, minor, patch: 0 }
    }

    /// The same version without its patch: what a cluster agrees on.
    pub fn without_patch(self) -> Version {
        Version { patch: 0, ..self }
    }

    /// Whether a downgrade leads from `other` to this version.
    pub fn is_one_minor_below(self, other: Version) -> bool {
        self.major == other.major && self.minor + 1 == other.minor
    }

    /// Reads `X.Y` or `X.Y.Z`, as people name the target of a downgrade.
    pub fn parse_loose(text: &str) -> Option<Version> {
        text.parse().ok().or_else(|| format!("{text}.0").parse().ok())
    }

    /// `3.7`, as etcd names a cluster version in labels and answers.
    pub fn major_minor(self) -> String {
        format!("{}.{}", self.major, self.minor)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseVersionError(pub String);

impl fmt::Display for ParseVersionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is not a version of the form X.Y.Z", self.0)
    }
}

impl std::error::Error for ParseVersionError {}

impl FromStr for Version {
    type Err = ParseVersionError;

    /// Reads `X.Y.Z`; a pre-release or build part behind it is dropped.
    fn from_str(text: &str) -> Result<Version, ParseVersionError> {
        let error = || ParseVersionError(text.to_owned());
        let core = text.split(['-', '+']).next().unwrap_or_default();
        let mut parts = core.split('.').map(|part| part.parse::<u64>().map_err(|_| error()));
        let mut next = || parts.next().unwrap_or_else(|| Err(error()));
        let version = Version { major: next()?, minor: next()?, patch: next()? };
        match parts.next() {
            None => Ok(version),
            Some(_) => Err(error()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_parse_and_order() {
        let version: Version = "3.7.3".parse().unwrap();
        assert_eq!(version.without_patch(), Version::new(3, 7));
        assert!("3.6.13".parse::<Version>().unwrap() < version);
        assert_eq!("3.8.0-alpha.0".parse::<Version>().unwrap(), Version::new(3, 8));
        assert_eq!(Version::parse_loose("3.6"), Some(Version::new(3, 6)));
        assert_eq!(Version::parse_loose("3.6.1").map(Version::without_patch), Some(Version::new(3, 6)));
        for bad in ["", "3", "x.y", "3.6."] {
            assert_eq!(Version::parse_loose(bad), None, "{bad}");
        }
        assert!(Version::new(3, 6).is_one_minor_below(Version::new(3, 7)));
        for bad in ["", "3.7", "3.7.x", "3.7.3.1", "not_decided"] {
            assert!(bad.parse::<Version>().is_err(), "{bad}");
        }
    }
}
