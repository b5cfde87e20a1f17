//! Modes, bands and actions: the severity of a score, and the response to it.

use serde::{Deserialize, Serialize};

/// The mode: whether actions are carried out. The variants are in ascending order of severity.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, PartialOrd, Ord)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Decide and record, but forward every request.
    #[default]
    Shadow,
    /// Carry the actions out.
    Enforce,
}

/// An action on a request. The variants are in ascending order of severity.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, PartialOrd, Ord)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// Forward the request.
    #[default]
    Allow,
    /// Forward the request, with the score in headers for the origin.
    Tag,
    /// Forward the request without the parameters that make responses worth harvesting.
    Degrade,
    /// Refuse the request with status 429.
    Throttle,
    /// Refuse the request with status 403.
    Block,
}

/// The severity of a score. The variants are in ascending order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, PartialOrd, Ord)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "lowercase")]
pub enum Band {
    /// No sign of harvesting.
    #[default]
    Clear,
    /// Weak signs, which are worth a review only if many requests have them.
    Notice,
    /// More likely harvesting than not.
    Suspect,
    /// Harvesting, with the highest certainty that one request can give.
    Hostile,
}

/// Scores at which bands begin.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Bands {
    /// Minimum score of band notice, in percent.
    pub notice: f64,
    /// Minimum score of band suspect, in percent.
    pub suspect: f64,
    /// Minimum score of band hostile, in percent.
    pub hostile: f64,
}

/// The action for each band.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Actions {
    /// Action in band clear.
    pub clear: Action,
    /// Action in band notice.
    pub notice: Action,
    /// Action in band suspect.
    pub suspect: Action,
    /// Action in band hostile.
    pub hostile: Action,
}

impl Bands {
    /// Returns the band of a score in percent.
    pub fn band(&self, score: f64) -> Band {
        match score {
            score if score >= self.hostile => Band::Hostile,
            score if score >= self.suspect => Band::Suspect,
            score if score >= self.notice => Band::Notice,
            _ => Band::Clear,
        }
    }
}

impl Actions {
    /// Returns, for each band, the stricter of the two actions.
    pub fn strictest(self, other: Self) -> Self {
        Self {
            clear: self.clear.max(other.clear),
            notice: self.notice.max(other.notice),
            suspect: self.suspect.max(other.suspect),
            hostile: self.hostile.max(other.hostile),
        }
    }

    /// Returns the action for a band.
    pub fn action(&self, band: Band) -> Action {
        match band {
            Band::Clear => self.clear,
            Band::Notice => self.notice,
            Band::Suspect => self.suspect,
            Band::Hostile => self.hostile,
        }
    }
}

impl Band {
    /// Returns the band with a name; `None` for an unknown name.
    pub fn parse(name: &str) -> Option<Self> {
        let all = [Self::Clear, Self::Notice, Self::Suspect, Self::Hostile];
        all.into_iter().find(|band| band.name() == name)
    }

    /// Returns the name in logs and headers.
    pub fn name(self) -> &'static str {
        match self {
            Self::Clear => "clear",
            Self::Notice => "notice",
            Self::Suspect => "suspect",
            Self::Hostile => "hostile",
        }
    }
}

impl Action {
    /// Returns the name in logs and headers.
    pub fn name(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Tag => "tag",
            Self::Degrade => "degrade",
            Self::Throttle => "throttle",
            Self::Block => "block",
        }
    }

    /// Returns the action with a name; `None` for an unknown name.
    pub fn parse(name: &str) -> Option<Self> {
        let all = [Self::Allow, Self::Tag, Self::Degrade, Self::Throttle, Self::Block];
        all.into_iter().find(|action| action.name() == name)
    }
}

impl Mode {
    /// Returns the name in logs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Shadow => "shadow",
            Self::Enforce => "enforce",
        }
    }

    /// Returns the mode with a name; `None` for an unknown name.
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Shadow, Self::Enforce].into_iter().find(|mode| mode.name() == name)
    }
}

impl Default for Bands {
    fn default() -> Self {
        Self { notice: 5.0, suspect: 50.0, hostile: 95.0 }
    }
}

impl Default for Actions {
    fn default() -> Self {
        Self {
            clear: Action::Allow,
            notice: Action::Tag,
            suspect: Action::Degrade,
            hostile: Action::Block,
        }
    }
}
