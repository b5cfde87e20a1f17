//! Bands and actions: how grave a score is, and what is done about it.

use serde::{Deserialize, Serialize};

/// Whether actions are carried out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Decide, record, forward.
    #[default]
    Shadow,
    /// Carry out.
    Enforce,
}

/// What is done with a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, PartialOrd, Ord)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// Forward it.
    #[default]
    Allow,
    /// Forward it with the score in headers for the origin.
    Tag,
    /// Forward it without what makes answers worth harvesting.
    Degrade,
    /// Answer 429.
    Throttle,
    /// Answer 403.
    Block,
}

/// How grave a score is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, PartialOrd, Ord)]
#[serde(rename_all = "lowercase")]
pub enum Band {
    /// Nothing to see.
    #[default]
    Clear,
    /// Worth a look in numbers.
    Notice,
    /// More likely harvesting than not.
    Suspect,
    /// Harvesting, as far as one request can tell.
    Hostile,
}

/// Scores at which bands begin.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Bands {
    /// Notice, from 0 to 100.
    pub notice: f64,
    /// Suspect.
    pub suspect: f64,
    /// Hostile.
    pub hostile: f64,
}

/// Actions by band.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Actions {
    /// In the band clear.
    pub clear: Action,
    /// In the band notice.
    pub notice: Action,
    /// In the band suspect.
    pub suspect: Action,
    /// In the band hostile.
    pub hostile: Action,
}

impl Bands {
    /// The band of a score.
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
    /// The action in a band.
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
    /// The name in logs and headers.
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
    /// The name in logs and headers.
    pub fn name(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Tag => "tag",
            Self::Degrade => "degrade",
            Self::Throttle => "throttle",
            Self::Block => "block",
        }
    }

    /// The action of this name.
    pub fn parse(name: &str) -> Option<Self> {
        let all = [Self::Allow, Self::Tag, Self::Degrade, Self::Throttle, Self::Block];
        all.into_iter().find(|action| action.name() == name)
    }
}

impl Mode {
    /// The name in logs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Shadow => "shadow",
            Self::Enforce => "enforce",
        }
    }

    /// The mode of this name.
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
