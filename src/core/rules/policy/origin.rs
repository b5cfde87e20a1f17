//! Settings of what the origin sees of a client, and of what the public sees of Hedgerow.

use serde::{Deserialize, Serialize};

/// Settings of the headers that the origin gets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OriginSettings {
    /// Treatment of headers with which proxies describe a client.
    pub forwarded: ForwardedHeaders,
}

/// The treatment of headers with which proxies describe a client: `forwarded`, `x-forwarded-*`,
/// `x-real-ip` and others with the client's address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ForwardedHeaders {
    /// Forward the headers as the client sent them.
    #[default]
    Pass,
    /// Remove the headers, and set them from the connection of the client.
    Set,
    /// Remove the headers.
    Remove,
}

/// Settings of Hedgerow's own paths.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AdminSettings {
    /// Whether the version and the files of the console need a token.
    pub hidden: bool,
}

impl OriginSettings {
    /// Returns whether all settings have their defaults.
    pub(super) fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl AdminSettings {
    /// Returns whether all settings have their defaults.
    pub(super) fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::rules::policy::Policy;

    #[test]
    fn settings_are_parsed_and_defaults_are_not_written() {
        let rows = [
            (json!({}), Some(json!({}))),
            (json!({"origin": {"forwarded": "pass"}, "admin": {"hidden": false}}), Some(json!({}))),
            (
                json!({"origin": {"forwarded": "set"}}),
                Some(json!({"origin": {"forwarded": "set"}})),
            ),
            (
                json!({"origin": {"forwarded": "remove"}, "admin": {"hidden": true}}),
                Some(json!({"origin": {"forwarded": "remove"}, "admin": {"hidden": true}})),
            ),
            (json!({"origin": {"forwarded": "strip"}}), None),
            (json!({"origin": {"forward": "set"}}), None),
            (json!({"admin": {"hidden": "yes"}}), None),
            (json!({"admin": {"hide": true}}), None),
        ];
        for (setting, expected) in rows {
            let policy = serde_json::from_value::<Policy>(setting.clone()).ok();
            let written = policy.map(|policy| {
                let mut value = serde_json::to_value(policy).unwrap();
                let members = value.as_object_mut().unwrap();
                members.retain(|name, _| ["origin", "admin"].contains(&name.as_str()));
                value
            });
            assert_eq!(written, expected, "{setting}");
        }
    }
}
