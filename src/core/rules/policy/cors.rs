//! Origins of web pages whose scripts may read Hedgerow's own responses.

use serde::{Deserialize, Serialize};

/// The setting `cors`: the web origins that may read Hedgerow's own responses. Responses of the
/// origin server keep their own headers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "CorsSetting", into = "CorsSetting")]
pub enum Cors {
    /// Any web origin, without cookies. This reveals little, because Hedgerow's own responses hold
    /// only an error and ids.
    #[default]
    Reflect,
    /// No web origin.
    Off,
    /// The listed web origins: scheme, host and port, as browsers write them.
    Origins(Vec<String>),
}

/// The setting as it is written: a word, or a list of origins.
#[derive(Serialize, Deserialize)]
#[serde(untagged, expecting = "expected \"reflect\", \"off\" or a list of origins")]
enum CorsSetting {
    Word(String),
    Origins(Vec<String>),
}

impl Cors {
    /// Returns whether scripts of the web origin `origin`, the value of the header `Origin`, may
    /// read Hedgerow's own responses.
    pub fn allows(&self, origin: &str) -> bool {
        match self {
            Self::Reflect => true,
            Self::Off => false,
            Self::Origins(origins) => origins.iter().any(|allowed| allowed == origin),
        }
    }

    /// Returns whether the setting is the default.
    pub(super) fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl TryFrom<CorsSetting> for Cors {
    type Error = String;

    fn try_from(setting: CorsSetting) -> Result<Self, String> {
        match setting {
            CorsSetting::Word(word) => match word.as_str() {
                "reflect" => Ok(Self::Reflect),
                "off" => Ok(Self::Off),
                _ => Err(format!("'{word}' is not a setting of cors: expected reflect or off")),
            },
            CorsSetting::Origins(origins) => match origins.iter().find(|text| !is_origin(text)) {
                None => Ok(Self::Origins(origins)),
                Some(text) => Err(format!(
                    "'{text}' is not a web origin: expected scheme and host in lower case, without \
                     a path, such as https://app.example.com"
                )),
            },
        }
    }
}

impl From<Cors> for CorsSetting {
    fn from(cors: Cors) -> Self {
        match cors {
            Cors::Reflect => Self::Word("reflect".to_owned()),
            Cors::Off => Self::Word("off".to_owned()),
            Cors::Origins(origins) => Self::Origins(origins),
        }
    }
}

/// Returns whether `text` is a web origin as browsers send it: scheme, host and perhaps a port.
/// `null` does not count, although browsers send it, because pages of many sites share it.
fn is_origin(text: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_graphic() && !byte.is_ascii_uppercase();
    text.split_once("://").is_some_and(|(scheme, host)| {
        !scheme.is_empty()
            && !host.is_empty()
            && text.bytes().all(is_allowed)
            && !host.contains(['/', '?', '#', '@', '*'])
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn settings_are_parsed_and_allow_origins() {
        let (app, other) = ("https://app.example.com", "https://other.example");
        let rows = [
            (json!("reflect"), [true, true, true]),
            (json!("off"), [false, false, false]),
            (json!([]), [false, false, false]),
            (json!([app]), [true, false, false]),
        ];
        for (setting, expected) in rows {
            let cors: Cors = serde_json::from_value(setting.clone()).unwrap();
            assert_eq!([app, other, "null"].map(|origin| cors.allows(origin)), expected);
            assert_eq!(serde_json::to_value(&cors).unwrap(), setting);
        }
    }

    #[test]
    fn settings_that_would_never_apply_are_rejected() {
        let rows = [
            json!("all"),
            json!("*"),
            json!(true),
            json!(["*"]),
            json!(["null"]),
            json!(["app.example.com"]),
            json!(["https://app.example.com/"]),
            json!(["https://App.example.com"]),
            json!(["https://*.example.com"]),
            json!(["https://a b"]),
        ];
        for setting in rows {
            assert!(serde_json::from_value::<Cors>(setting.clone()).is_err(), "{setting}");
        }
    }
}
