//! Leave-one-tool-out cross-validation: detection rates on each tool, with weights that were
//! estimated without that tool.

use std::collections::BTreeMap;

use hedgerow_core::rules::policy::{Band, Policy};
use serde::Serialize;

use super::estimate::Estimator;
use super::tools::Tool;
use crate::cmd::evaluate::SignatureTable;

/// Detection rates with one set of weights. Each tool counts the same.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Rates {
    /// Name of the set of weights: `written` (in the rule files), `fitted` (estimated from all
    /// tools) or `left out` (estimated without the tool whose requests are scored).
    pub weights: &'static str,
    /// Share of harvest requests that are suspect, and of harvest tools with a suspect request.
    pub harvest_suspect: f64,
    pub harvest_tools_suspect: f64,
    /// Share of benign requests that reach the band `suspect`, and the band `notice`.
    pub benign_suspect: f64,
    pub benign_notice: f64,
}

/// Share of a tool's requests that are suspect, with each set of weights.
#[derive(Clone, Debug, Serialize)]
pub struct ToolRow {
    pub tool: String,
    pub is_harvest: bool,
    pub written: f64,
    pub fitted: f64,
    pub left_out: f64,
}

/// Weights by index of the signature.
type Weights = BTreeMap<usize, f64>;

/// Returns the rates for three sets of weights, and a row with the suspect shares of each tool. The
/// sets are the written weights, weights that were estimated from all tools, and weights that were
/// estimated without the tool they are applied to.
pub fn compare(
    tools: &[Tool<'_>],
    table: &SignatureTable,
    policy: &Policy,
    estimator: &Estimator<'_>,
    fitted: &Weights,
) -> (Vec<Rates>, Vec<ToolRow>) {
    let rates = |weights: &dyn Fn(usize, &Tool<'_>) -> Weights| {
        let tools = tools.iter().enumerate();
        let tools =
            tools.map(|(index, tool)| ToolRates::new(tool, table, policy, &weights(index, tool)));
        tools.collect::<Vec<ToolRates>>()
    };
    let written = rates(&|_, _| Weights::new());
    let fitted = rates(&|_, _| fitted.clone());
    let left_out = rates(&|left_out, tool| estimator.without(left_out, tool));
    let rows = tools.iter().zip(&written).zip(fitted.iter().zip(&left_out));
    let rows = rows.map(|((tool, written), (fitted, left_out))| ToolRow {
        tool: tool.name.to_owned(),
        is_harvest: tool.is_harvest,
        written: written.suspect,
        fitted: fitted.suspect,
        left_out: left_out.suspect,
    });
    let sets = [("written", &written), ("fitted", &fitted), ("left out", &left_out)];
    (sets.map(|(weights, rates)| summarize(weights, rates)).into(), rows.collect())
}

impl Estimator<'_> {
    /// Returns the weights of the signatures that match in a tool, estimated without this tool.
    /// `left_out` is the index of the tool.
    fn without(&self, left_out: usize, tool: &Tool<'_>) -> Weights {
        let signatures = self.observed().into_iter().filter(|hit| tool.shares.contains_key(hit));
        let weights = signatures
            .filter_map(|signature| Some((signature, self.proposal_without(signature, left_out)?)));
        weights.collect()
    }
}

/// The rates on one tool.
struct ToolRates {
    is_harvest: bool,
    notice: f64,
    suspect: f64,
}

impl ToolRates {
    /// Scores the requests of a tool. A signature that is not in `weights` keeps its written
    /// weight.
    fn new(tool: &Tool<'_>, table: &SignatureTable, policy: &Policy, weights: &Weights) -> Self {
        let bands = tool.requests.iter().map(|request| {
            let weight = |hit: usize| {
                weights.get(&hit).copied().or_else(|| table.get(hit).map(|row| row.weight))
            };
            table.rescore(request.verdict(true), policy, weight).1
        });
        let bands: Vec<Band> = bands.collect();
        let share = |band: Band| {
            let count = bands.iter().filter(|reached| **reached >= band).count();
            count as f64 / bands.len().max(1) as f64
        };
        Self {
            is_harvest: tool.is_harvest,
            notice: share(Band::Notice),
            suspect: share(Band::Suspect),
        }
    }
}

fn summarize(weights: &'static str, tools: &[ToolRates]) -> Rates {
    let mean = |is_harvest: bool, value: fn(&ToolRates) -> f64| {
        let values = tools.iter().filter(|tool| tool.is_harvest == is_harvest).map(value);
        let (count, sum) =
            values.fold((0.0, 0.0), |(count, sum), value| (count + 1.0, sum + value));
        if count == 0.0 { 0.0 } else { sum / count }
    };
    Rates {
        weights,
        harvest_suspect: mean(true, |tool| tool.suspect),
        harvest_tools_suspect: mean(true, |tool| f64::from(u8::from(tool.suspect > 0.0))),
        benign_suspect: mean(false, |tool| tool.suspect),
        benign_notice: mean(false, |tool| tool.notice),
    }
}
