//! The exemptions of the rules in force, for the status.

use hedgerow_core::api::ExemptionInfo;
use hedgerow_core::rules::release::EMBEDDED;
use serde::Deserialize;

use super::tables::{StoredRelease, Tables};
use crate::admin_api::error::ApiError;
use crate::isolate::active_rules;

/// The exemptions of the bundle that was read last.
///
/// The console requests the status every ten seconds, and reading a bundle of 5 MiB takes too long
/// for that. A digest always names the same bundle, so the exemptions never become outdated.
#[derive(Default)]
pub struct ExemptionCache {
    /// Digest of the bundle, or [`EMBEDDED`]; empty before the first bundle.
    bundle: String,
    exemptions: Vec<ExemptionInfo>,
}

impl ExemptionCache {
    /// Returns the exemptions of the active bundle, in the order of its policy. `newest` is the
    /// newest release; `None` if no release is stored. `now` is in seconds since the epoch. The
    /// list is empty if the manifest or the bundle cannot be read.
    ///
    /// # Errors
    /// `unavailable`, if the tables cannot be read.
    pub fn active(
        &mut self,
        tables: &Tables,
        newest: Option<&StoredRelease>,
        now: u64,
    ) -> Result<Vec<ExemptionInfo>, ApiError> {
        let Some(bundle) = active_bundle(newest, now) else { return Ok(Vec::new()) };
        if self.bundle != bundle {
            self.exemptions = if bundle == EMBEDDED {
                active_rules::embedded::bundle()
                    .map(|json| parse_exemptions(&json))
                    .unwrap_or_default()
            } else {
                let Some((text, _)) = tables.bundle_text(&bundle)? else { return Ok(Vec::new()) };
                parse_exemptions(text.as_bytes())
            };
            self.bundle = bundle;
        }
        Ok(self.exemptions.clone())
    }
}

/// Returns the digest of the bundle that decides at `now` for accounts outside of a canary, or
/// [`EMBEDDED`]. Returns `None` if the manifest of the newest release cannot be read.
fn active_bundle(newest: Option<&StoredRelease>, now: u64) -> Option<String> {
    let Some(newest) = newest else { return Some(EMBEDDED.to_owned()) };
    let release = newest.manifest()?;
    Some(if release.is_expired(now) { EMBEDDED.to_owned() } else { release.active })
}

/// Returns the exemptions of a bundle. The list is empty if the bundle is malformed; the registry
/// stores only bundles that are not.
///
/// Reads only these members and skips all others. The types of the core would keep the signatures
/// and lists of the bundle in memory, too.
fn parse_exemptions(bundle: &[u8]) -> Vec<ExemptionInfo> {
    #[derive(Deserialize)]
    struct BundleExtract {
        policy: PolicyExtract,
    }
    #[derive(Deserialize)]
    struct PolicyExtract {
        #[serde(default, rename = "exemption")]
        exemptions: Vec<ExemptionInfo>,
    }
    let extract: Option<BundleExtract> = serde_json::from_slice(bundle).ok();
    extract.map(|extract| extract.policy.exemptions).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use hedgerow_core::rules::policy::Policy;
    use hedgerow_core::ruleset::Bundle;
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn the_embedded_rules_are_active_without_a_release_and_after_its_expiry() {
        let digest = "a".repeat(64);
        let stored = |manifest: Value| {
            let (signature, key) = (String::new(), String::new());
            StoredRelease::new(7, "release", manifest.to_string(), signature, key)
        };
        let release = |active: &str, expires: Option<u64>| {
            stored(json!({
                "release": 1, "serial": 7, "created": 0, "active": active, "expires": expires,
            }))
        };
        // name, newest release, expected
        let rows = [
            ("no release", None, Some(EMBEDDED)),
            ("a release", Some(release(&digest, None)), Some(digest.as_str())),
            ("the embedded rules, released", Some(release(EMBEDDED, None)), Some(EMBEDDED)),
            ("a tolerated expiry", Some(release(&digest, Some(999_999))), Some(digest.as_str())),
            ("after the expiry", Some(release(&digest, Some(1_000))), Some(EMBEDDED)),
            ("an unknown format", Some(stored(json!({ "release": 2 }))), None),
        ];
        for (name, newest, expected) in rows {
            assert_eq!(active_bundle(newest.as_ref(), 1_000_000).as_deref(), expected, "{name}");
        }
    }

    #[test]
    fn exemptions_are_read_from_a_bundle() {
        let policy = json!({ "mode": "enforce", "exemption": [
            { "name": "audit", "reason": "nightly", "until": 100, "path": "/v1/messages" },
            { "name": "twins", "reason": "ticket 7", "until": 200, "signatures": ["a"] },
        ] });
        let policy: Policy = serde_json::from_value(policy).unwrap();
        let bundle = serde_json::to_vec(&Bundle::new(policy, Vec::new())).unwrap();
        let exemption = |name: &str, until, reason: &str| ExemptionInfo {
            name: name.to_owned(),
            until,
            reason: reason.to_owned(),
        };
        let expected = [exemption("audit", 100, "nightly"), exemption("twins", 200, "ticket 7")];
        assert_eq!(parse_exemptions(&bundle), expected);
        for bundle in ["{}", r#"{"policy":{}}"#, "not json"] {
            assert!(parse_exemptions(bundle.as_bytes()).is_empty(), "{bundle}");
        }
    }
}
