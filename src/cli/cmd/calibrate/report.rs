//! The report of a calibration, as text and JSON.

use std::collections::BTreeMap;
use std::fmt::Write;

use hedgerow_core::rules::policy::Policy;
use serde::Serialize;

use super::estimate::{CapEstimate, Estimator, PairEstimate, Settings, SignatureEstimate};
use super::leave_one_out::{self, Rates, ToolRow};
use super::reliability::{self, ReliabilityBin};
use super::tools::{self, Tool};
use crate::cmd::evaluate::Corpus;
use crate::error::{Error, Result};

/// The tables of a calibration. docs/calibration.md describes them.
#[derive(Serialize)]
pub struct CalibrationReport {
    pub settings: Settings,
    /// Prior of the policy, in decibans.
    pub prior: f64,
    pub harvest_tools: usize,
    pub other_tools: usize,
    pub signatures: Vec<SignatureEstimate>,
    pub pairs: Vec<PairEstimate>,
    pub caps: Vec<CapEstimate>,
    pub rates: Vec<Rates>,
    pub tools: Vec<ToolRow>,
    /// Reliability with the written weights, and with the proposed weights.
    pub reliability: Vec<ReliabilityBin>,
    pub reliability_proposed: Vec<ReliabilityBin>,
}

impl CalibrationReport {
    /// Computes the report of a scored corpus. A corpus with fewer than [`MIN_TOOLS`] harvest tools
    /// or benign tools is an error.
    pub fn new(corpus: &Corpus, policy: &Policy, settings: Settings) -> Result<Self> {
        let tools = tools::group(corpus);
        let count =
            |is_harvest: bool| tools.iter().filter(|tool| tool.is_harvest == is_harvest).count();
        let (harvest_tools, other_tools) = (count(true), count(false));
        if harvest_tools < MIN_TOOLS || other_tools < MIN_TOOLS {
            return Err(Error::Io(format!(
                "the corpus has {harvest_tools} harvest tools and {other_tools} benign ones: \
                 expected at least {MIN_TOOLS} of each; add recordings with `label` and `tool`"
            )));
        }
        let table = &corpus.signatures;
        let estimator = Estimator::new(&tools, table, policy, settings);
        let signatures = estimator.signatures();
        let proposed: BTreeMap<&str, f64> =
            signatures.iter().map(|row| (row.name.as_str(), row.proposed)).collect();
        let rows = table.rows().iter().enumerate();
        let fitted: BTreeMap<usize, f64> = rows
            .filter_map(|(index, row)| Some((index, *proposed.get(row.name.as_str())?)))
            .collect();
        let written = |tool: &Tool<'_>, position: usize| {
            tool.requests.get(position).map_or(0.0, |request| request.verdict(true).score)
        };
        let with_proposed = |tool: &Tool<'_>, position: usize| {
            let Some(request) = tool.requests.get(position) else { return 0.0 };
            let weight = |hit: usize| {
                fitted.get(&hit).copied().or_else(|| table.get(hit).map(|row| row.weight))
            };
            table.rescore(request.verdict(true), policy, weight).0
        };
        let (rates, tool_rows) = leave_one_out::compare(&tools, table, policy, &estimator, &fitted);
        Ok(Self {
            settings,
            prior: policy.score.prior,
            harvest_tools,
            other_tools,
            pairs: estimator.pairs(),
            caps: estimator.caps(policy),
            rates,
            tools: tool_rows,
            reliability: reliability::bins(&tools, policy.score.prior, written),
            reliability_proposed: reliability::bins(&tools, policy.score.prior, with_proposed),
            signatures,
        })
    }

    /// Returns the report as text.
    pub fn to_text(&self) -> String {
        let mut text = format!(
            "{} harvest tools, {} benign tools; prior {} dB; written weights ± {} dB\n\n",
            self.harvest_tools, self.other_tools, self.prior, self.settings.prior_sd
        );
        for part in [self.signatures_text(), self.pairs_text(), self.caps_text(), self.rates_text()]
        {
            text += &part;
            text.push('\n');
        }
        text += &reliability_text("written weights", &self.reliability);
        text.push('\n');
        text += &reliability_text("proposed weights", &self.reliability_proposed);
        text
    }

    fn signatures_text(&self) -> String {
        let mut text = format!(
            "{:<44} {:>8} {:>8} {:>9} {:>9} {:>8} {:>15} {:>15} {:>8}\n",
            "signature",
            "harvest",
            "other",
            "tools",
            "written",
            "estimate",
            "95 % credible",
            "95 % resampled",
            "proposed"
        );
        for row in &self.signatures {
            let _ = writeln!(
                text,
                "{:<44} {:>7.2}% {:>7.2}% {:>9} {:>9} {:>8.1} {:>15} {:>15} {:>8}",
                row.name,
                100.0 * row.harvest_share,
                100.0 * row.other_share,
                format!("{}/{}", row.harvest_tools, row.other_tools),
                row.written,
                row.estimate.mean,
                range(row.estimate.low, row.estimate.high),
                range(row.resampled.0, row.resampled.1),
                row.proposed,
            );
        }
        text
    }

    fn pairs_text(&self) -> String {
        let mut text = format!(
            "{:<76} {:>6} {:>6} {:>8} {:>15}  family\n",
            "pair", "tools", "sum", "estimate", "95 % credible"
        );
        for row in &self.pairs {
            let _ = writeln!(
                text,
                "{:<76} {:>6} {:>6} {:>8.1} {:>15}  {}",
                format!("{} + {}", row.first, row.second),
                row.tools,
                row.sum,
                row.estimate.mean,
                range(row.estimate.low, row.estimate.high),
                if row.same_family { "same" } else { "different" },
            );
        }
        text
    }

    fn caps_text(&self) -> String {
        let mut text = format!(
            "{:<20} {:>6} {:>9} {:>8} {:>15}\n",
            "family at its cap", "cap", "tools", "estimate", "95 % credible"
        );
        for row in &self.caps {
            let _ = writeln!(
                text,
                "{:<20} {:>6} {:>9} {:>8.1} {:>15}",
                row.family,
                row.cap,
                format!("{}/{}", row.harvest_tools, row.other_tools),
                row.estimate.mean,
                range(row.estimate.low, row.estimate.high),
            );
        }
        text
    }

    fn rates_text(&self) -> String {
        let mut text = format!(
            "{:<10} {:>16} {:>14} {:>15} {:>14}\n",
            "weights", "harvest ≥suspect", "harvest tools", "benign ≥suspect", "benign ≥notice"
        );
        for row in &self.rates {
            let _ = writeln!(
                text,
                "{:<10} {:>15.1}% {:>13.1}% {:>14.2}% {:>13.2}%",
                row.weights,
                100.0 * row.harvest_suspect,
                100.0 * row.harvest_tools_suspect,
                100.0 * row.benign_suspect,
                100.0 * row.benign_notice,
            );
        }
        text
    }
}

fn reliability_text(title: &str, bins: &[ReliabilityBin]) -> String {
    let mut text = format!(
        "{:<18} {:>9} {:>9} {:>9} {:>9}\n",
        title, "harvest", "other", "expected", "observed"
    );
    let percent = |share: Option<f64>| share.map_or("-".to_owned(), |share| format!("{share:.1}%"));
    for bin in bins {
        let _ = writeln!(
            text,
            "{:<18} {:>8.1}% {:>8.2}% {:>9} {:>9}",
            format!("score {} to {}", bin.from, bin.to),
            100.0 * bin.harvest_share,
            100.0 * bin.other_share,
            percent(bin.expected),
            percent(bin.observed),
        );
    }
    text
}

fn range(low: f64, high: f64) -> String {
    format!("{low:.1} to {high:.1}")
}

/// Minimum number of tools with each label. Estimates from fewer tools do not apply to other tools.
const MIN_TOOLS: usize = 3;
