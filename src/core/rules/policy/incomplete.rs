//! The part of the policy that decides about requests that were not completely scored.

use serde::{Deserialize, Serialize};

use super::band::Action;
use crate::completeness::UnscoredReasons;

/// The effect of a reason why a request was not completely scored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, PartialOrd, Ord)]
#[serde(rename_all = "lowercase")]
pub enum IncompleteAction {
    /// No effect.
    Allow,
    /// The request is degraded.
    Degrade,
    /// The request is refused.
    Refuse,
    /// The upload is awaited. The request is refused if the upload stops or is too slow. Only for
    /// the reason `late`.
    Wait,
}

/// The effect of each reason. Effects apply only in mode Enforce.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Incomplete {
    /// The client stopped sending, or sent too slowly.
    pub late: IncompleteAction,
    /// The isolate held too many bytes of other bodies.
    pub crowded: IncompleteAction,
    /// The body, its text or its batch exceeds a limit of `[scan]`.
    pub window: IncompleteAction,
    /// A content encoding or character set was not decoded, or not to its end.
    pub encoding: IncompleteAction,
    /// The body, or a part of it, is in a binary format that is not read.
    pub opaque: IncompleteAction,
    /// The request exceeded its budget of work.
    pub costly: IncompleteAction,
    /// The request holds media, or files that are not text.
    pub attachment: IncompleteAction,
}

impl Incomplete {
    /// Returns the action for a request with these reasons, and the name of the reason that causes
    /// it. The strictest effect counts; of equally strict effects, the first. Returns `None` if the
    /// request is allowed.
    pub fn action(&self, reasons: UnscoredReasons) -> Option<(Action, &'static str)> {
        let effects = self.effects().into_iter().filter(|(flag, _)| reasons.contains(*flag));
        let (flag, effect) =
            effects.reduce(|a, b| if b.1.as_action() > a.1.as_action() { b } else { a })?;
        let action = effect.as_action();
        let name = flag.names().next().unwrap_or_default();
        (action > Action::Allow).then_some((action, name))
    }

    /// Returns the effect of each reason that has a setting here.
    pub fn effects(&self) -> [(UnscoredReasons, IncompleteAction); 7] {
        [
            (UnscoredReasons::LATE, self.late),
            (UnscoredReasons::CROWDED, self.crowded),
            (UnscoredReasons::WINDOW, self.window),
            (UnscoredReasons::ENCODING, self.encoding),
            (UnscoredReasons::OPAQUE, self.opaque),
            (UnscoredReasons::COSTLY, self.costly),
            (UnscoredReasons::ATTACHMENT, self.attachment),
        ]
    }
}

impl IncompleteAction {
    /// Returns the action with the severity of the effect.
    fn as_action(self) -> Action {
        match self {
            Self::Allow => Action::Allow,
            Self::Degrade => Action::Degrade,
            Self::Refuse | Self::Wait => Action::Block,
        }
    }
}

impl Default for Incomplete {
    fn default() -> Self {
        use IncompleteAction::*;
        // Honest clients send large contexts and pictures, so `window` and `attachment` are
        // allowed. Honest clients do not stall, they label their encodings, and their text does not
        // cost many times its size.
        Self {
            late: Wait,
            crowded: Refuse,
            window: Allow,
            encoding: Refuse,
            opaque: Refuse,
            costly: Refuse,
            attachment: Allow,
        }
    }
}

/// The treatment of requests with a body whose path is not a known endpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct UnknownPaths {
    /// Treatment of requests with a body whose path is not a known endpoint.
    pub treat: UnknownTreatment,
}

/// A treatment of requests with unknown paths.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UnknownTreatment {
    /// JSON bodies are read. A request with a prompt is scored, and at most tagged, because it is
    /// not certain that it is an LLM call.
    #[default]
    Generic,
    /// Such requests are forwarded unread, and counted.
    Pass,
    /// Such requests are refused in mode Enforce.
    Refuse,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_strictest_reason_counts() {
        let policy = Incomplete { window: IncompleteAction::Degrade, ..Incomplete::default() };
        let rows = [
            (UnscoredReasons::empty(), None),
            (UnscoredReasons::ATTACHMENT, None),
            (UnscoredReasons::UNKNOWN_PATH, None),
            (UnscoredReasons::WINDOW, Some((Action::Degrade, "window"))),
            (UnscoredReasons::WINDOW | UnscoredReasons::OPAQUE, Some((Action::Block, "opaque"))),
            (UnscoredReasons::LATE | UnscoredReasons::COSTLY, Some((Action::Block, "late"))),
        ];
        for (reasons, expected) in rows {
            assert_eq!(policy.action(reasons), expected, "{reasons:?}");
        }
    }
}
