//! The notice: a header that shows the client that its request was degraded.

use serde::{Deserialize, Serialize};

use super::band::Band;
use super::refusals::{ClientValue, LINK_PLACEHOLDER, fill};
use crate::enforce::appeal::reference_of;
use crate::error::Error;

/// The notice of degraded requests. Without a name of the header, no notice is sent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NoticePolicy {
    /// Name of the header, in lower case; `None` if no notice is sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub header: Option<String>,
    /// Text of the notice, with placeholders.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// URL of a page for the client, with placeholders.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub link: Option<String>,
    /// Whether requests in band hostile also get the notice.
    pub hostile: bool,
    /// Ids or labels of the accounts and tenants that get the notice; all if the list is empty.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub only: Vec<String>,
    /// Ids or labels of the accounts and tenants that get no notice.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub except: Vec<String>,
}

impl NoticePolicy {
    /// Returns whether a degraded request gets the notice. `names` are the ids and the labels of
    /// its account and its tenant.
    pub fn applies_to(&self, band: Band, names: &[Option<&str>]) -> bool {
        let has_name = |list: &[String]| {
            list.iter().any(|listed| names.iter().flatten().any(|name| name == listed))
        };
        (band < Band::Hostile || self.hostile)
            && (self.only.is_empty() || has_name(&self.only))
            && !has_name(&self.except)
    }

    /// Returns the value of the header.
    pub fn value(&self, request_id: &str) -> String {
        let text = self.text.as_deref().unwrap_or(LINK_PLACEHOLDER);
        let appeal = reference_of(request_id).unwrap_or_default();
        fill(text, self.link.as_deref(), request_id, &appeal)
    }

    /// Returns whether all settings have their defaults.
    pub(super) fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// Checks name, text and link.
    pub(super) fn validate(&self) -> Result<(), Error> {
        ClientValue::HeaderName.validate("notice.header", self.header.as_deref())?;
        ClientValue::HeaderText.validate("notice.text", self.text.as_deref())?;
        ClientValue::Link.validate("notice.link", self.link.as_deref())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts_are_chosen_by_id_or_label_and_band() {
        let list = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let policy = |hostile, only: &[&str], except: &[&str]| NoticePolicy {
            hostile,
            only: list(only),
            except: list(except),
            ..NoticePolicy::default()
        };
        let names = [Some("a1"), Some("t1"), None, Some("Acme Ltd")];
        let rows = [
            (policy(false, &[], &[]), Band::Suspect, true),
            (policy(false, &[], &[]), Band::Hostile, false),
            (policy(true, &[], &[]), Band::Hostile, true),
            (policy(false, &["a1"], &[]), Band::Suspect, true),
            (policy(false, &["a2", "t1"], &[]), Band::Suspect, true),
            (policy(false, &["Acme Ltd"], &[]), Band::Clear, true),
            (policy(false, &["a2", "acme ltd"], &[]), Band::Suspect, false),
            (policy(false, &[], &["t1"]), Band::Suspect, false),
            (policy(false, &["a1"], &["Acme Ltd"]), Band::Suspect, false),
            (policy(false, &[], &["a2"]), Band::Suspect, true),
            (policy(false, &["a1"], &[]), Band::Hostile, false),
        ];
        for (policy, band, expected) in rows {
            assert_eq!(policy.applies_to(band, &names), expected, "{policy:?} {band:?}");
        }
        assert!(!policy(false, &["a1"], &[]).applies_to(Band::Suspect, &[None, None]));
    }

    #[test]
    fn the_value_has_text_and_link() {
        let id = "01991b2c-3d4e-7c9e-9d38-3f2f6a9c8b7a";
        let rows = [
            (Some("Limited."), None, "Limited."),
            (None, Some("https://a.example/n"), "https://a.example/n"),
            (Some("Limited."), Some("https://a.example/n"), "Limited. https://a.example/n"),
            (Some("See {link} now"), Some("https://a.example/n"), "See https://a.example/n now"),
            (Some("{appeal}"), None, "06CHP-B1X9V-4YEKG-FSFDA-E8PYPZ"),
            (
                None,
                Some("https://a.example/?r={request_id}"),
                &format!("https://a.example/?r={id}"),
            ),
        ];
        for (text, link, expected) in rows {
            let [text, link] = [text, link].map(|value| value.map(str::to_owned));
            let notice = NoticePolicy { text, link, ..NoticePolicy::default() };
            assert_eq!(notice.value(id), expected);
        }
    }
}
