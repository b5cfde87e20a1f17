//! Single decisions, as the ledger keeps some of them for the console: the record of a request that the
//! log has, with what its score is made of. Clear requests are most, and least worth a look: only the
//! first few of each report go along.

use hedgerow::Decision;
use hedgerow::policy::{Action, Mode};
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};

use crate::clock::millis;
use crate::outbox::{Place, model_name};

/// Decisions of one report: clear ones, and all others.
pub const CLEAR: usize = 16;
pub const OTHERS: usize = 48;

/// A decision's record; docs/openapi.yaml says what its members mean.
#[derive(Serialize)]
struct Record<'a> {
    request_id: &'a str,
    at: f64,
    colo: &'a str,
    model: Option<&'a str>,
    role: &'static str,
    serial: Option<u64>,
    error: Option<&'a str>,
    #[serde(flatten)]
    decision: &'a Decision,
}

/// Why a request was not scored, and what became of it.
#[derive(Serialize)]
struct Unscored<'a> {
    request_id: &'a str,
    at: f64,
    colo: &'a str,
    model: Option<&'a str>,
    role: &'static str,
    serial: Option<u64>,
    error: &'a str,
    account: Option<&'a str>,
    dialect: &'a str,
    operation: &'a str,
    score: Option<f64>,
    prior: f64,
    evidence: f64,
    contributions: [(); 0],
    band: Option<&'a str>,
    action: Action,
    mode: Mode,
    hits: [(); 0],
    shadow_hits: [(); 0],
    exemption: Option<&'a str>,
    ruleset: &'a str,
    body_bytes: u64,
    unscanned: u64,
    unreadable: [(); 0],
    entries: usize,
}

/// Records that wait for the next report.
#[derive(Default)]
pub struct Recent {
    clear: Vec<Box<RawValue>>,
    others: Vec<Box<RawValue>>,
}

impl Recent {
    /// Keeps a decision, while there is room.
    pub fn decided(
        &mut self,
        id: &str,
        place: &Place<'_>,
        decision: &Decision,
        model: Option<&str>,
    ) {
        let is_clear = decision.band == hedgerow::policy::Band::Clear;
        let (kept, most) = match is_clear {
            true => (&mut self.clear, CLEAR),
            false => (&mut self.others, OTHERS),
        };
        if kept.len() >= most {
            return;
        }
        let record = Record {
            request_id: id,
            at: millis(),
            colo: place.colo,
            model: model_name(model),
            role: place.role.name(),
            serial: place.serial,
            error: None,
            decision,
        };
        kept.extend(to_raw_value(&record).ok());
    }

    /// Keeps a request that could not be scored.
    pub fn unscored(&mut self, place: &Place<'_>, line: &crate::log::Line<'_>, error: &str) {
        if self.others.len() >= OTHERS {
            return;
        }
        let record = Unscored {
            request_id: line.request_id,
            at: millis(),
            colo: place.colo,
            model: None,
            role: place.role.name(),
            serial: place.serial,
            error,
            account: line.account,
            dialect: line.dialect,
            operation: line.operation,
            score: None,
            prior: 0.0,
            evidence: 0.0,
            contributions: [],
            band: None,
            action: line.action,
            mode: line.mode,
            hits: [],
            shadow_hits: [],
            exemption: None,
            ruleset: line.ruleset,
            body_bytes: line.body_bytes,
            unscanned: line.unscanned,
            unreadable: [],
            entries: 0,
        };
        self.others.extend(to_raw_value(&record).ok());
    }

    /// Takes all of them out.
    pub fn take(&mut self) -> Vec<Box<RawValue>> {
        let mut all = std::mem::take(&mut self.clear);
        all.append(&mut self.others);
        all
    }
}
