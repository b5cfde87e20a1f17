//! Texts that several commands print.

use hedgerow_core::Release;
use hedgerow_core::ruleset::short_digest;

use crate::dates;

/// Returns a release in one line: `active 0123456789ab, canary 456789abcdef for 10 %`.
pub fn describe_release(release: &Release) -> String {
    let mut text = format!("active {}", short_digest(&release.active));
    if let Some(canary) = &release.canary {
        text += &format!(", canary {} for {} %", short_digest(&canary.digest), canary.percent);
    }
    if let Some(shadow) = &release.shadow {
        text += &format!(", shadow {}", short_digest(&shadow.digest));
    }
    if let Some(expires) = release.expires {
        text += &format!(", until {}", dates::format_utc(expires));
    }
    text
}
