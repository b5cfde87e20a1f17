//! What `hedgerow check` says of correlations that it refuses: what is wrong, in which line and column,
//! and what to do; of one file everything at once.
use hedgerow_sigma::RuleFile;

const SELECTOR: &str = include_str!("../../rules/traffic/generation.yml");

const GOOD: &str = "title: One template, many accounts
id: 11111111-2222-4333-8444-555555555555
name: cluster_tried
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
        - {offset: 0s, event: {gen_ai.operation.name: chat, hedgerow.account: [a, b, c, d], hedgerow.template.user: t}}
    - name: more
      expect: match
      events:
        - {offset: 0s, event: {gen_ai.operation.name: chat, hedgerow.account: [a, b, c, d, e], hedgerow.template.user: t}}
    - name: 'near: three'
      expect: no-match
      events:
        - {offset: 0s, event: {gen_ai.operation.name: chat, hedgerow.account: [a, b, c], hedgerow.template.user: t}}
    - name: 'near: nothing in common'
      expect: no-match
      events:
        - {offset: 0s, event: {gen_ai.operation.name: chat, hedgerow.account: [a, b], hedgerow.template.user: t}}
        - {offset: 1s, event: {gen_ai.operation.name: chat, hedgerow.account: [c, d], hedgerow.template.user: u}}
";

fn source(path: &str, text: &str) -> RuleFile {
    RuleFile { path: path.to_owned(), text: text.to_owned() }
}

/// What is said of the correlation, as `line:column problem; remedy`, beside more rules.
fn said(text: &str, more: &[RuleFile]) -> Vec<String> {
    let mut sources =
        vec![source("traffic/generation.yml", SELECTOR), source("cluster/tried.yml", text)];
    sources.extend(more.iter().cloned());
    let Err(findings) = hedgerow_sigma::check(&sources) else { return Vec::new() };
    let own = findings.iter().filter(|finding| finding.path == "cluster/tried.yml");
    own.map(|own| format!("{}:{} {}; {}", own.line, own.column, own.problem, own.remedy)).collect()
}

#[test]
fn the_one_that_is_varied_is_good() {
    assert_eq!(said(GOOD, &[]), [""; 0]);
}

#[test]
fn each_refusal_says_where_and_what_to_do() {
    let temporal = "condition: {field: hedgerow.account, gte: 4}";
    let rows = [
        ("type: value_count", "type: value_median", "12:3", "value_median", "docs/correlations.md"),
        (
            "type: value_count",
            "type: value_percentile",
            "12:3",
            "value_percentile",
            "docs/correlations.md",
        ),
        ("type: value_count", "type: event_count", "16:", "counts no field", "value_count"),
        (
            "type: value_count",
            "type: temporal",
            "16:",
            "not compared with a number",
            "leave the condition out",
        ),
        (
            temporal,
            "condition: {gte: 4}",
            "16:",
            "one field is to be named",
            "{field: NAME, gte: NUMBER}",
        ),
        (
            temporal,
            "condition: {field: hedgerow.account, neq: 4}",
            "16:",
            "`neq` is not supported",
            "gte",
        ),
        (
            temporal,
            "condition: {field: gen_ai.input.messages, gte: 4}",
            "16:",
            "is a text",
            "template keys",
        ),
        (
            temporal,
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
            "it groups by 0 fields",
            "one to",
        ),
        ("  group-by: [hedgerow.template.user]\n", "", "11:", "it groups by 0 fields", "one to"),
        (
            "[hedgerow.template.user]",
            "[hedgerow.template.usr]",
            "14:14",
            "unknown field 'hedgerow.template.usr'",
            "docs/fields.md",
        ),
        ("timespan: 1h", "timespan: 5s", "15:3", "not from 10 seconds to 30 days", "such as 1h"),
        ("timespan: 1h", "timespan: 31d", "15:3", "not from 10 seconds to 30 days", "such as 1h"),
        (
            "rules: [traffic_generation]",
            "rules: [traffic_generaton]",
            "13:11",
            "there is no rule 'traffic_generaton'",
            "did you mean 'traffic_generation'?",
        ),
        (
            "rules: [traffic_generation]",
            "rules: [elicitation_*]",
            "13:11",
            "there is no rule 'elicitation_*'",
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
            "windows slide",
        ),
        ("  timespan: 1h", "  timespan: 1h\n  timespn: 2h", "16:3", "unknown key", "timespan"),
        (
            "level: low",
            "generate: true\nlevel: low",
            "",
            "`generate` says nothing here",
            "remove it",
        ),
        (
            "  hedgerow.weight: 3",
            "  hedgerow.weight: 3\n  hedgerow.distinct_by: hedgerow.account",
            "",
            "only what is in order can be apart",
            "temporal_ordered",
        ),
        (
            "  hedgerow.weight: 3",
            "  hedgerow.weight: 3\n  hedgerow.ttl: soon",
            "22:",
            "this is no time",
            "24h",
        ),
        (
            "  hedgerow.weight: 3",
            "  hedgerow.weight: 3\n  hedgerow.ttl: 1s",
            "22:",
            "not from 10 seconds to 30 days",
            "such as 1h",
        ),
        (
            "  hedgerow.weight: 3",
            "  hedgerow.weight: 3\n  hedgerow.events_per_value: none",
            "22:",
            "no number above 0",
            "number of events",
        ),
        (
            "  hedgerow.weight: 3",
            "  hedgerow.weight: 3\n  hedgerow.evenness: 101",
            "22:",
            "no percentage",
            "0 to 100",
        ),
        (
            "  hedgerow.weight: 3",
            "  hedgerow.weight: 3\n  hedgerow.synchronized_start: 10m",
            "22:",
            "a time and a percentage are missing",
            "{within: 10m, min_percent: 60}",
        ),
        (
            "  hedgerow.weight: 3",
            "  hedgerow.weight: 3\n  hedgerow.handover: {within: 10m, min_percent: 110}",
            "22:",
            "no percentage",
            "0 to 100",
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
    for (from, to, place, problem, remedy) in rows {
        assert!(GOOD.contains(from), "{from}");
        let said = said(&GOOD.replacen(from, to, 1), &[]);
        let is_meant =
            |own: &String| own.starts_with(place) && own.contains(problem) && own.contains(remedy);
        if !said.iter().any(is_meant) {
            missing.push(format!("{to}: {place} {problem}; {remedy}\nin {said:#?}\n"));
        }
    }
    assert!(missing.is_empty(), "{}", missing.concat());
}

/// Time in which events are counted by value is asked of values alone.
#[test]
fn coordination_is_asked_of_values_alone() {
    let text = GOOD
        .replace("type: value_count", "type: event_count")
        .replace("condition: {field: hedgerow.account, gte: 4}", "condition: {gte: 4}")
        .replace("  hedgerow.weight: 3", "  hedgerow.weight: 3\n  hedgerow.evenness: 50");
    let said = said(&text, &[]);
    assert!(said.iter().any(|own| own.contains("only what is counted by value_count")), "{said:?}");
}

#[test]
fn everything_is_said_at_once() {
    let text = GOOD
        .replace("timespan: 1h", "timespan: 5s")
        .replace("[hedgerow.template.user]", "[hedgerow.template.usr]")
        .replace("gte: 4}", "neq: 4}")
        .replace("hedgerow.weight: 3", "hedgerow.wait: 3");
    let said = said(&text, &[]);
    for words in ["15:3", "14:14", "`neq`", "hedgerow.wait"] {
        assert!(said.iter().any(|own| own.contains(words)), "{words} in {said:#?}");
    }
}

/// An exemplar that comes out otherwise, and a bound that none of them needs, are told by `test`.
#[test]
fn exemplars_have_to_need_what_is_asked() {
    let tried = |text: &str| {
        let sources =
            [source("traffic/generation.yml", SELECTOR), source("cluster/tried.yml", text)];
        let findings = hedgerow_sigma::test(&hedgerow_sigma::check(&sources).unwrap());
        findings.into_iter().map(|own| format!("{} {}", own.line, own.problem)).collect::<Vec<_>>()
    };
    assert_eq!(tried(GOOD), [""; 0]);
    let more = tried(&GOOD.replace("gte: 4}", "gte: 5}"));
    assert!(more.iter().any(|own| own.contains("four")), "{more:?}");
    // None but the near miss of three tells four from two.
    let without = GOOD
        .replace("[a, b, c]", "[a]")
        .replace("[a, b], hedgerow", "a, hedgerow")
        .replace("[c, d], ", "c, ");
    let without = tried(&without);
    assert!(without.iter().any(|own| own.contains("half of 4")), "{without:?}");
}

#[test]
fn two_levels_are_the_most_and_both_group_by_the_same_first() {
    let named = |name: &str, rules: &str, group_by: &str, id: u32| {
        let text = GOOD
            .replace("name: cluster_tried", &format!("name: {name}"))
            .replace("11111111", &format!("{id:08}"))
            .replace("rules: [traffic_generation]", &format!("rules: [{rules}]"))
            .replace("group-by: [hedgerow.template.user]", &format!("group-by: [{group_by}]"));
        source(&format!("cluster/{}.yml", name.trim_start_matches("cluster_")), &text)
    };
    let first = named("cluster_first", "traffic_generation", "hedgerow.template.user", 1);
    let second = named("cluster_second", "cluster_first", "hedgerow.template.user", 2);
    let third = named("cluster_third", "cluster_second", "hedgerow.template.user", 3);
    let aside = named("cluster_aside", "cluster_first", "client.address", 4);
    let all = |sources: &[&RuleFile]| {
        let mut all = vec![source("traffic/generation.yml", SELECTOR)];
        all.extend(sources.iter().map(|own| (*own).clone()));
        match hedgerow_sigma::check(&all) {
            Ok(rules) => rules.ruleset().err().map(|own| own.to_string()),
            Err(findings) => Some(findings.iter().map(|own| format!("{own}\n")).collect()),
        }
    };
    assert_eq!(all(&[&first, &second]), None);
    let deep = all(&[&first, &second, &third]).unwrap();
    assert!(deep.contains("at most two levels deep"), "{deep}");
    let apart = all(&[&first, &aside]).unwrap();
    assert!(apart.contains("group both by the same field first"), "{apart}");
}
