//! Texts and numbers that several commands print.

use hedgerow_core::Release;
use hedgerow_core::ruleset::short_digest;

use crate::dates;

/// Describes a release in one line, such as `active 0123456789ab, canary 456789abcdef for 10 %`.
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

/// Returns `part` in percent of `total`; 0 if `total` is 0.
pub fn percent(part: u64, total: u64) -> f64 {
    if total == 0 { 0.0 } else { 100.0 * part as f64 / total as f64 }
}
