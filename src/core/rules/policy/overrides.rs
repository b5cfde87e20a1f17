//! Overrides of mode and actions for accounts, tenants and clusters.

use serde::{Deserialize, Serialize};

use super::band::{Actions, Mode};

/// The overrides for one account, or for all accounts of one tenant.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PrincipalPolicy {
    /// Id of the account or the tenant (a keyed hash), as decisions show it.
    pub id: String,
    /// Mode; `None` if the account or the tenant does not override it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub mode: Option<Mode>,
    /// Actions; `None` if the account or the tenant does not override them.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub actions: Option<Actions>,
    /// Reason, for people.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reason: Option<String>,
    /// End in seconds since the epoch, after which the override has no effect; `None` if it does
    /// not end. `policy.toml` has the date of the last day instead.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub until: Option<u64>,
}

/// The stricter treatment of one cluster.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClusterPolicy {
    /// Id of the cluster, as decisions show it, or one of its aliases.
    pub id: String,
    /// Mode; without effect if it is milder than the mode of the route.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub mode: Option<Mode>,
    /// Actions. An action has no effect if the route has a stricter action in the same band.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub actions: Option<Actions>,
    /// Reason, for people.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reason: Option<String>,
    /// End in seconds since the epoch, after which the override has no effect; `None` if it does
    /// not end. `policy.toml` has the date of the last day instead.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub until: Option<u64>,
}

/// A cluster of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestCluster {
    /// Current id.
    pub id: u32,
    /// Aliases, which are ids of clusters that were merged into this one. The list contains at
    /// least the aliases that the policy names.
    pub aliases: Vec<u32>,
}

/// The mode and the actions that apply to one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Disposition {
    /// Mode in effect.
    pub mode: Mode,
    /// Actions in effect.
    pub actions: Actions,
}

impl PrincipalPolicy {
    /// Returns whether the override has an effect at the time `now`, in seconds since the epoch.
    pub fn is_in_force(&self, now: u64) -> bool {
        self.until.is_none_or(|end| now < end)
    }
}

impl ClusterPolicy {
    /// Returns whether the override has an effect at the time `now`, in seconds since the epoch.
    pub fn is_in_force(&self, now: u64) -> bool {
        self.until.is_none_or(|end| now < end)
    }
}

/// Returns the id of a cluster as text: 8 hexadecimal digits.
pub fn format_cluster_id(id: u32) -> String {
    format!("{id:08x}")
}

/// Parses the id of a cluster; `None` if `text` is not 8 hexadecimal digits, or if the id is 0.
pub fn parse_cluster_id(text: &str) -> Option<u32> {
    let is_valid = text.len() == 8 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    u32::from_str_radix(text, 16).ok().filter(|id| is_valid && *id != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_clusters_are_eight_digits() {
        let rows = [
            ("5b0f3a91", Some(0x5b0f_3a91)),
            ("5B0F3A91", Some(0x5b0f_3a91)),
            ("00000000", None),
            ("+b0f3a91", None),
            ("5b0f3a9", None),
            ("team", None),
        ];
        for (text, expected) in rows {
            assert_eq!(parse_cluster_id(text), expected, "{text}");
        }
    }
}
