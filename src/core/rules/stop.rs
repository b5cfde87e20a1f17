//! The stop: an order of an operator on call that lowers the mode to Shadow, for all requests or
//! for some paths. It needs a token, but not the signing key. The registry publishes it in KV, and
//! isolates apply it.
//!
//! A stop can only lower the mode. It stays in force until a signed release names it in `resumes`.
//! Other releases do not end it, so that an automatic release during an incident does not enforce
//! again.

use serde::{Deserialize, Serialize};

use super::policy::Mode;
use super::release::Release;
use crate::error::Error;
use crate::http::route::path_matches;

/// Maximum bytes of an encoded stop.
pub const MAX_STOP_BYTES: usize = 16 << 10;

/// Maximum number of path patterns of a stop.
pub const MAX_STOP_PATHS: usize = 16;

/// Maximum bytes of a path pattern. All patterns of a stop together are smaller than
/// [`MAX_STOP_BYTES`].
const MAX_PATH_BYTES: usize = 256;

/// An order to stop enforcing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(default)]
pub struct Stop {
    /// Time of the order, which also identifies it: no two orders have the same time.
    pub at: u64,
    /// Patterns of the paths that the order is for; empty for all requests.
    pub paths: Vec<String>,
    /// Reason, for people.
    pub reason: String,
    /// Name of the person who gave the order; empty if it is not known.
    pub author: String,
    /// Serial of the release that ended the order; null while the order is in force.
    pub ended_by: Option<u64>,
}

impl Stop {
    /// Checks the path patterns of an order. Returns all problems in one error.
    pub fn check_paths(paths: &[String]) -> Result<(), Error> {
        let mut problems = Vec::new();
        if paths.len() > MAX_STOP_PATHS {
            problems.push(format!("{} paths: expected at most {MAX_STOP_PATHS}", paths.len()));
        }
        for path in paths.iter().filter(|path| !is_pattern(path)) {
            let shown: String = path.chars().take(40).collect();
            problems.push(format!("{shown:?} is not a path pattern"));
        }
        if problems.is_empty() {
            return Ok(());
        }
        let remedy = "give patterns such as /v1/chat/** or **/messages, at most 256 characters, \
                      without percent-encoding, dot segments, `;` and `?`; or none to stop all \
                      enforcement";
        Err(Error::new(problems.join("; "), remedy))
    }

    /// Returns whether the order is for all paths of `other`, so that `other` would change nothing.
    pub fn includes(&self, other: &Stop) -> bool {
        let has_path = |path: &String| self.paths.contains(path);
        self.paths.is_empty() || (!other.paths.is_empty() && other.paths.iter().all(has_path))
    }

    /// Returns the order that is in force after `self` was given while `current` was in force. A
    /// later order never lets paths be enforced that the earlier one stopped.
    pub fn merged_with(mut self, current: &Stop) -> Self {
        if self.paths.is_empty() || current.paths.is_empty() {
            self.paths.clear();
            return self;
        }
        let earlier = current.paths.iter().filter(|path| !self.paths.contains(path)).cloned();
        let merged: Vec<String> = earlier.chain(self.paths.iter().cloned()).collect();
        // More patterns than a stop may have: stop everything rather than forget a path.
        self.paths = if merged.len() > MAX_STOP_PATHS { Vec::new() } else { merged };
        self
    }

    /// Returns whether the order is in force under a release; `None` stands for the embedded rules.
    ///
    /// An end takes effect only with the release that ended the stop, or a later one: KV may
    /// deliver the end before that release, while the release before it is still in force.
    pub fn is_in_force(&self, release: Option<&Release>) -> bool {
        let has_ended = match (release, self.ended_by) {
            (Some(release), _) if release.resumes == Some(self.at) => true,
            (Some(release), Some(ended_by)) => release.serial >= ended_by,
            (None, ended_by) => ended_by.is_some(),
            (Some(_), None) => false,
        };
        self.at > 0 && !has_ended
    }

    /// Returns the highest mode that the order allows for a path, if it is in force.
    pub fn ceiling(&self, path: &str) -> Mode {
        let is_stopped =
            self.paths.is_empty() || self.paths.iter().any(|pattern| path_matches(pattern, path));
        if is_stopped { Mode::Shadow } else { Mode::Enforce }
    }

    /// Encodes the order for KV.
    pub fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Decodes an order from KV.
    ///
    /// # Errors
    /// If the value is malformed.
    pub fn decode(bytes: &[u8]) -> Result<Self, Error> {
        serde_json::from_slice(bytes)
            .map_err(|_| Error::new("the stop in KV is malformed", "give the order again"))
    }
}

/// Returns whether a text can match the path of a request. Paths are compared after decoding and
/// resolving, so a pattern with percent-encoding or dot segments would match nothing.
fn is_pattern(text: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_graphic() && !b"?#%;\\\"".contains(&byte);
    let is_dot = |segment: &str| matches!(segment, "." | "..");
    text.len() <= MAX_PATH_BYTES
        && text.starts_with(['/', '*'])
        && text.bytes().all(is_allowed)
        && !text.split('/').any(is_dot)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stop(at: u64, paths: &[&str]) -> Stop {
        let paths = paths.iter().map(|path| (*path).to_owned()).collect();
        Stop { at, paths, ..Stop::default() }
    }

    fn release(serial: u64, resumes: Option<u64>) -> Release {
        let text = serde_json::json!({
            "release": 1, "serial": serial, "created": 0, "active": "embedded", "resumes": resumes,
        });
        Release::parse(text.to_string().as_bytes()).unwrap()
    }

    #[test]
    fn only_a_release_that_names_the_stop_ends_it() {
        let ended = || Stop { ended_by: Some(9), ..stop(3, &[]) };
        let rows = [
            ("embedded rules", stop(3, &[]), None, true),
            ("another release", stop(3, &[]), Some(release(9, None)), true),
            ("it ends an earlier stop", stop(3, &[]), Some(release(9, Some(2))), true),
            ("it ends the stop", stop(3, &[]), Some(release(9, Some(3))), false),
            ("it names a later stop", stop(3, &[]), Some(release(9, Some(4))), true),
            ("ended, before the release arrives", ended(), Some(release(8, None)), true),
            ("ended by this release", ended(), Some(release(9, Some(3))), false),
            ("ended by an earlier release", ended(), Some(release(10, None)), false),
            ("ended, embedded rules", ended(), None, false),
            ("no stop", Stop::default(), None, false),
        ];
        for (name, stop, release, expected) in rows {
            assert_eq!(stop.is_in_force(release.as_ref()), expected, "{name}");
        }
    }

    #[test]
    fn a_stop_lowers_the_mode_for_its_paths() {
        let rows: [(&[&str], &str, Mode); 5] = [
            (&[], "/v1/chat/completions", Mode::Shadow),
            (&["/v1/chat/**"], "/v1/chat/completions", Mode::Shadow),
            (&["/v1/chat/**"], "/V1/CHAT/completions", Mode::Shadow),
            (&["/v1/chat/**"], "/v1/messages", Mode::Enforce),
            (&["/a", "/v1/messages"], "/v1/messages", Mode::Shadow),
        ];
        for (paths, path, expected) in rows {
            assert_eq!(stop(1, paths).ceiling(path), expected, "{paths:?} {path}");
        }
    }

    /// An operator who stops one more path must not start another one again.
    #[test]
    fn a_later_stop_never_narrows_an_earlier_one() {
        let rows: [(&[&str], &[&str], &[&str]); 5] = [
            (&[], &["/a"], &[]),
            (&["/a"], &[], &[]),
            (&["/a"], &["/b"], &["/a", "/b"]),
            (&["/a", "/b"], &["/b"], &["/a", "/b"]),
            (&["/a"], &["/a"], &["/a"]),
        ];
        for (earlier, later, expected) in rows {
            let merged = stop(2, later).merged_with(&stop(1, earlier));
            assert_eq!((merged.at, merged.paths), (2, stop(2, expected).paths));
        }
        let many: Vec<String> = (0..MAX_STOP_PATHS).map(|number| format!("/{number}")).collect();
        let many = Stop { at: 1, paths: many, ..Stop::default() };
        assert!(stop(2, &["/x"]).merged_with(&many).paths.is_empty(), "too many paths: all");
    }

    #[test]
    fn a_stop_includes_narrower_ones() {
        let rows: [(&[&str], &[&str], bool); 5] = [
            (&[], &[], true),
            (&[], &["/a"], true),
            (&["/a", "/b"], &["/b"], true),
            (&["/a"], &["/b"], false),
            (&["/a"], &[], false),
        ];
        for (current, other, expected) in rows {
            assert_eq!(stop(1, current).includes(&stop(2, other)), expected, "{other:?}");
        }
    }

    /// Each invalid pattern would match no request, so that refusals would go on.
    #[test]
    fn path_patterns_are_checked_all_at_once() {
        let check = |paths: &[&str]| Stop::check_paths(&stop(1, paths).paths);
        let valid = ["/v1/chat/**", "/v1/*:generateContent", "**/messages", "/v1/a.b"];
        assert!(check(&[]).is_ok() && check(&valid).is_ok());
        let long = "/x".repeat(129);
        let invalid =
            ["v1/chat", "/a b", "/c?d", "/x%3Ay", "/chat;a=1", "/a/../b", "/.", "/ä", &long];
        let error = check(&invalid).unwrap_err();
        let count = error.problem().matches("is not a path pattern").count();
        assert_eq!(count, invalid.len(), "{error}");
        let error = check(&["/a"; 17]).unwrap_err();
        assert!(error.problem().contains("at most 16"), "{error}");
    }

    #[test]
    fn the_longest_stop_fits_into_kv() {
        let stop = Stop {
            paths: vec![format!("/{}", "x".repeat(MAX_PATH_BYTES - 1)); MAX_STOP_PATHS],
            reason: "\u{10ffff}".repeat(200),
            author: "\"".repeat(200),
            ended_by: Some(u64::MAX),
            at: u64::MAX,
        };
        assert!(Stop::check_paths(&stop.paths).is_ok());
        assert!(stop.encode().len() <= MAX_STOP_BYTES);
    }

    #[test]
    fn a_stop_survives_encoding() {
        let original =
            Stop { reason: "ticket 12".into(), author: "ana".into(), ..stop(3, &["/a"]) };
        assert_eq!(Stop::decode(&original.encode()).unwrap(), original);
        assert!(Stop::decode(b"{").is_err());
    }
}
