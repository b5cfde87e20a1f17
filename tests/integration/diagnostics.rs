//! Findings that `hedgerow check` and `hedgerow test` report for invalid correlations: position,
//! problem and remedy.
use hedgerow_sigma::RuleFile;

const SELECTOR: &str = include_str!("../../rules/traffic/generation.yml");

/// A valid correlation. Each test changes a part of it.
const VALID: &str = "title: One template, many accounts
id: 11111111-2222-4333-8444-555555555555
name: cluster_sample
status: test
description: Many accounts.
references:
  - https://example.com/
author: Hedgerow
date: 2026-11-25
tags: [hedgerow.cluster]
correlation:
  type: value_count
  rules: [traffic_generation]
  group-by: [hedgerow.template.user]
  timespan: 1h
  condition: {field: hedgerow.account, gte: 4}
falsepositives:
  - Popular tools
level: low
custom_attributes:
  hedgerow.weight: 3
  rsigma.exemplars:
    - name: four
      expect: match
      events:
        - offset: 0s
          event: {hedgerow.account: [a, b, c, d], hedgerow.template.user: t,
                  gen_ai.operation.name: chat}
    - name: more
      expect: match
      events:
        - offset: 0s
          event: {hedgerow.account: [a, b, c, d, e], hedgerow.template.user: t,
                  gen_ai.operation.name: chat}
    - name: 'near: three'
      expect: no-match
      events:
        - offset: 0s
          event: {hedgerow.account: [a, b, c], hedgerow.template.user: t,
                  gen_ai.operation.name: chat}
    - name: 'near: nothing in common'
      expect: no-match
      events:
        - offset: 0s
          event: {hedgerow.account: [a, b], hedgerow.template.user: t,
                  gen_ai.operation.name: chat}
        - offset: 1s
          event: {hedgerow.account: [c, d], hedgerow.template.user: u,
                  gen_ai.operation.name: chat}
";

fn source(path: &str, text: &str) -> RuleFile {
    RuleFile { path: path.to_owned(), text: text.to_owned() }
}

/// Returns the findings for the text of a correlation, as `line:column problem; remedy`.
fn findings_in(text: &str) -> Vec<String> {
    let sources = [source("traffic/generation.yml", SELECTOR), source("cluster/sample.yml", text)];
    let Err(findings) = hedgerow_sigma::check(&sources) else { return Vec::new() };
    let in_sample = findings.iter().filter(|finding| finding.path == "cluster/sample.yml");
    let format = |finding: &hedgerow_sigma::Finding| {
        let hedgerow_sigma::Finding { line, column, problem, remedy, .. } = finding;
        format!("{line}:{column} {problem}; {remedy}")
    };
    in_sample.map(format).collect()
}

#[test]
fn the_unchanged_correlation_is_valid() {
    assert_eq!(findings_in(VALID), [""; 0]);
}

#[test]
fn each_invalid_value_is_a_finding_with_position_and_remedy() {
    let condition = "condition: {field: hedgerow.account, gte: 4}";
    let rows = [
        ("type: value_count", "type: value_median", "12:3", "value_median", "docs/correlations.md"),
        (
            "type: value_count",
            "type: value_percentile",
            "12:3",
            "value_percentile",
            "docs/correlations.md",
        ),
        ("type: value_count", "type: event_count", "16:", "`field` has no effect", "value_count"),
        (
            "type: value_count",
            "type: temporal",
            "16:",
            "expected names of rules, and not a number",
            "remove the condition",
        ),
        (
            condition,
            "condition: {gte: 4}",
            "16:",
            "the condition is invalid: expected one field",
            "{field: NAME, gte: NUMBER}",
        ),
        (
            condition,
            "condition: {field: hedgerow.account, neq: 4}",
            "16:",
            "`neq` is not supported",
            "gte",
        ),
        (
            condition,
            "condition: {field: gen_ai.input.messages, gte: 4}",
            "16:",
            "is of type text",
            "template keys",
        ),
        (
            condition,
            "condition: {field: hedgerow.user.text, gte: 4}",
            "16:",
            "unknown field",
            "docs/fields.md",
        ),
        ("type: value_count", "type: value_sum", "16:", "hedgerow.account", "sum a number"),
        (
            "group-by: [hedgerow.template.user]",
            "group-by: []",
            "14:",
            "groups by 0 fields",
            "group-by",
        ),
        ("  group-by: [hedgerow.template.user]\n", "", "11:", "groups by 0 fields", "group-by"),
        (
            "[hedgerow.template.user]",
            "[hedgerow.template.usr]",
            "14:14",
            "unknown field 'hedgerow.template.usr'",
            "docs/fields.md",
        ),
        (
            "timespan: 1h",
            "timespan: 5s",
            "15:3",
            "expected 10 seconds to 30 days",
            "for example 1h",
        ),
        (
            "timespan: 1h",
            "timespan: 31d",
            "15:3",
            "expected 10 seconds to 30 days",
            "for example 1h",
        ),
        (
            "rules: [traffic_generation]",
            "rules: [traffic_generaton]",
            "13:11",
            "unknown rule 'traffic_generaton'",
            "did you mean 'traffic_generation'?",
        ),
        (
            "rules: [traffic_generation]",
            "rules: [elicitation_*]",
            "13:11",
            "unknown rule 'elicitation_*'",
            "<family>_*",
        ),
        (
            "  timespan: 1h",
            "  timespan: 1h\n  aliases: {who: {traffic_generation: hedgerow.account}}",
            "16:",
            "aliases are not supported",
            "all rules have the same fields",
        ),
        (
            "  timespan: 1h",
            "  timespan: 1h\n  window: tumbling",
            "16:",
            "tumbling windows are not supported",
            "all windows slide",
        ),
        ("  timespan: 1h", "  timespan: 1h\n  timespn: 2h", "16:3", "unknown key", "timespan"),
        ("level: low", "generate: true\nlevel: low", "", "`generate` has no effect", "remove it"),
        (
            "  hedgerow.weight: 3",
            "  hedgerow.weight: 3\n  hedgerow.distinct_by: hedgerow.account",
            "",
            "`hedgerow.distinct_by` needs `type: temporal_ordered`",
            "temporal_ordered",
        ),
        (
            "  hedgerow.weight: 3",
            "  hedgerow.weight: 3\n  hedgerow.ttl: soon",
            "22:",
            "the timespan is invalid",
            "24h",
        ),
        (
            "  hedgerow.weight: 3",
            "  hedgerow.weight: 3\n  hedgerow.ttl: 1s",
            "22:",
            "expected 10 seconds to 30 days",
            "for example 1h",
        ),
        (
            "  hedgerow.weight: 3",
            "  hedgerow.weight: 3\n  hedgerow.events_per_value: none",
            "22:",
            "expected a number above 0",
            "number of events",
        ),
        (
            "  hedgerow.weight: 3",
            "  hedgerow.weight: 3\n  hedgerow.max_events_per_value: 0",
            "22:",
            "expected a number above 0",
            "number of events",
        ),
        (
            "  hedgerow.weight: 3",
            "  hedgerow.weight: 3\n  hedgerow.only: 5",
            "22:",
            "expected the name of a signature",
            "traffic_single_turn",
        ),
        (
            "  hedgerow.weight: 3",
            "  hedgerow.weight: 3\n  hedgerow.evenness: 101",
            "22:",
            "expected a number from 0 to 100",
            "without a sign",
        ),
        (
            "  hedgerow.weight: 3",
            "  hedgerow.weight: 3\n  hedgerow.synchronized_start: 10m",
            "22:",
            "expected a time and a percentage",
            "{within: 10m, min_percent: 60}",
        ),
        (
            "  hedgerow.weight: 3",
            "  hedgerow.weight: 3\n  hedgerow.handover: {within: 10m, min_percent: 110}",
            "22:",
            "expected a number from 0 to 100",
            "without a sign",
        ),
        (
            "  hedgerow.weight: 3",
            "  hedgerow.weight: 3\n  hedgerow.ttls: 3",
            "22:3",
            "unknown key 'hedgerow.ttls'",
            "did you mean 'hedgerow.ttl'?",
        ),
    ];
    let mut missing = Vec::new();
    for (from, to, position, problem, remedy) in rows {
        assert!(VALID.contains(from), "{from}");
        let findings = findings_in(&VALID.replacen(from, to, 1));
        let is_expected = |finding: &String| {
            finding.starts_with(position) && finding.contains(problem) && finding.contains(remedy)
        };
        if !findings.iter().any(is_expected) {
            missing.push(format!("{to}: {position} {problem}; {remedy}\nin {findings:#?}\n"));
        }
    }
    assert!(missing.is_empty(), "{}", missing.concat());
}

#[test]
fn coordination_attributes_need_value_count() {
    let text = VALID
        .replace("type: value_count", "type: event_count")
        .replace("condition: {field: hedgerow.account, gte: 4}", "condition: {gte: 4}")
        .replace("  hedgerow.weight: 3", "  hedgerow.weight: 3\n  hedgerow.evenness: 50");
    let findings = findings_in(&text);
    let is_expected = |finding: &String| finding.contains("need `type: value_count`");
    assert!(findings.iter().any(is_expected), "{findings:?}");
}

#[test]
fn all_findings_are_reported_at_once() {
    let text = VALID
        .replace("timespan: 1h", "timespan: 5s")
        .replace("[hedgerow.template.user]", "[hedgerow.template.usr]")
        .replace("gte: 4}", "neq: 4}")
        .replace("hedgerow.weight: 3", "hedgerow.wait: 3");
    let findings = findings_in(&text);
    for part in ["15:3", "14:14", "`neq`", "hedgerow.wait"] {
        assert!(findings.iter().any(|finding| finding.contains(part)), "{part} in {findings:#?}");
    }
}

#[test]
fn wrong_exemplars_and_untested_thresholds_are_findings_of_test() {
    let test = |text: &str| {
        let sources =
            [source("traffic/generation.yml", SELECTOR), source("cluster/sample.yml", text)];
        let findings = hedgerow_sigma::test(&hedgerow_sigma::check(&sources).unwrap());
        let format =
            |finding: hedgerow_sigma::Finding| format!("{} {}", finding.line, finding.problem);
        findings.into_iter().map(format).collect::<Vec<_>>()
    };
    assert_eq!(test(VALID), [""; 0]);
    let findings = test(&VALID.replace("gte: 4}", "gte: 5}"));
    assert!(findings.iter().any(|finding| finding.contains("exemplar 'four'")), "{findings:?}");
    // Leaves one account in each group of the two near misses. Then no exemplar distinguishes the
    // threshold 4 from the threshold 2.
    let text = VALID
        .replace("[a, b, c]", "[a]")
        .replace("[a, b], hedgerow", "a, hedgerow")
        .replace("[c, d], ", "c, ");
    let findings = test(&text);
    let is_expected = |finding: &String| finding.contains("if the threshold 4 is 2");
    assert!(findings.iter().any(is_expected), "{findings:?}");
}

#[test]
fn nested_correlations_have_two_levels_and_one_first_field() {
    let correlation = |name: &str, rules: &str, group_by: &str, id: u32| {
        let text = VALID
            .replace("name: cluster_sample", &format!("name: {name}"))
            .replace("11111111", &format!("{id:08}"))
            .replace("rules: [traffic_generation]", &format!("rules: [{rules}]"))
            .replace("group-by: [hedgerow.template.user]", &format!("group-by: [{group_by}]"));
        source(&format!("cluster/{}.yml", name.trim_start_matches("cluster_")), &text)
    };
    let first = correlation("cluster_first", "traffic_generation", "hedgerow.template.user", 1);
    let second = correlation("cluster_second", "cluster_first", "hedgerow.template.user", 2);
    let third = correlation("cluster_third", "cluster_second", "hedgerow.template.user", 3);
    let address = correlation("cluster_address", "cluster_first", "client.address", 4);
    let error = |correlations: &[&RuleFile]| {
        let mut sources = vec![source("traffic/generation.yml", SELECTOR)];
        sources.extend(correlations.iter().map(|file| (*file).clone()));
        match hedgerow_sigma::check(&sources) {
            Ok(rules) => rules.ruleset().err().map(|error| error.to_string()),
            Err(findings) => Some(findings.iter().map(|finding| format!("{finding}\n")).collect()),
        }
    };
    assert_eq!(error(&[&first, &second]), None);
    let too_deep = error(&[&first, &second, &third]).unwrap();
    assert!(too_deep.contains("at most two levels deep"), "{too_deep}");
    let other_field = error(&[&first, &address]).unwrap();
    assert!(other_field.contains("group both by the same field first"), "{other_field}");
}
