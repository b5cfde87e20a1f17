//! Clusters of requests, and how the policy treats them.
use hedgerow_core::engine::LocalEngine;
use hedgerow_core::{Client, Decision, Envelope, Ruleset};
use serde_json::{Value, json};

/// Accounts that must share a key before a correlation fires.
const THRESHOLD: usize = 4;

fn correlation(name: &str, group_by: &str, weight: f64) -> Value {
    let thresholds = json!([{ "comparator": "gte", "value": THRESHOLD }]);
    json!({
        "name": name, "id": name, "title": name, "family": "cluster", "status": "stable",
        "weight": weight, "rules": ["traffic_generation"], "group_by": [group_by],
        "timespan": 3600, "ttl": 3600,
        "measure": { "value_count": { "field": "hedgerow.account", "thresholds": thresholds } },
    })
}

/// Returns rules with a correlation by template and a weaker correlation by address.
fn ruleset(policy: &Value) -> Ruleset {
    let selections = json!({ "words": { "field": {
        "field": "hedgerow.prompt.user", "exists": true
    } } });
    let signature = json!({
        "name": "traffic_generation", "id": "1", "title": "A prompt", "family": "traffic",
        "status": "stable", "weight": 0, "selections": selections, "condition": { "is": "words" },
    });
    let bundle = json!({
        "format": 1, "policy": policy, "sources": {}, "signatures": [signature],
        "correlations": [
            correlation("cluster_template", "hedgerow.template.user", 12.0),
            correlation("cluster_address", "client.address", 11.0),
        ],
    });
    Ruleset::load(bundle.to_string().as_bytes()).unwrap()
}

/// Returns a prompt from the template of a campaign. No two campaigns share eight words in a row.
fn prompt(campaign: &str, number: usize) -> String {
    let words: Vec<String> = (0..40).map(|index| format!("{campaign}{index}")).collect();
    format!("{}. Entry {number}", words.join(" "))
}

/// Sends a request, and returns its decision.
fn decide(
    engine: &mut LocalEngine<'_>,
    ruleset: &Ruleset,
    (campaign, number): (&str, usize),
    address: &str,
    account: &str,
) -> Decision {
    let content = prompt(campaign, number);
    let body = json!({ "messages": [{ "role": "user", "content": content }] }).to_string();
    let envelope = Envelope {
        method: "POST",
        path: "/v1/chat/completions",
        body: body.as_bytes(),
        account: Some(account),
        client: Client { address: Some(address), ..Client::default() },
        now: 1_800_000_000,
        ..Envelope::default()
    };
    let evaluation = engine.evaluate(&envelope, 200).unwrap();
    let indicators = engine.indicators();
    let envelope = Envelope { indicators: Some(indicators), ..envelope };
    Decision::new(ruleset, &envelope, evaluation.assessment, evaluation.disposition)
}

/// Sends the requests of two campaigns, one that shares a template and one that shares an address.
/// Then sends a request with both keys, and returns its decision. If `bridge` is set, two accounts
/// of each campaign take part in a third campaign before this request.
fn play(ruleset: &Ruleset, bridge: bool) -> Decision {
    let mut engine = LocalEngine::new(ruleset, true);
    for number in 0..THRESHOLD {
        let (template, shared) = (format!("t{number}"), format!("a{number}"));
        let other = format!("198.51.{number}.1");
        decide(&mut engine, ruleset, ("amber", number), &other, &template);
        let text = format!("single{number}");
        decide(&mut engine, ruleset, (&text, number), "203.0.113.7", &shared);
    }
    if bridge {
        for (number, account) in ["t0", "t1", "a0", "a1"].into_iter().enumerate() {
            let other = format!("192.0.{number}.1");
            decide(&mut engine, ruleset, ("bridge", number), &other, account);
        }
    }
    decide(&mut engine, ruleset, ("amber", 99), "203.0.113.7", "both")
}

fn policy(sections: &[(&str, &str)]) -> Value {
    let sections = sections.iter().map(|(id, suspect)| {
        let mut actions = json!({ "clear": "allow", "notice": "tag", "hostile": "block" });
        actions["suspect"] = json!(suspect);
        json!({ "id": id, "mode": "enforce", "actions": actions })
    });
    let bands = json!({ "notice": 2.0, "suspect": 5.0, "hostile": 99.0 });
    json!({ "bands": bands, "cluster": sections.collect::<Vec<Value>>() })
}

/// Regression: only the cluster of the strongest indicator determined the treatment.
#[test]
fn a_request_in_two_clusters_gets_the_stricter_treatment() {
    let plain = play(&ruleset(&policy(&[])), false);
    let strongest = plain.cluster.clone().unwrap();
    let [other] = plain.other_clusters.as_slice() else { panic!("{plain:?}") };
    assert_eq!((plain.mode.name(), plain.action.name()), ("shadow", "degrade"));
    let rows = [
        (vec![(strongest.as_str(), "block")], &strongest, "block"),
        (vec![(other.as_str(), "block")], other, "block"),
        (vec![(strongest.as_str(), "throttle"), (other.as_str(), "block")], other, "block"),
        (vec![(strongest.as_str(), "block"), (other.as_str(), "throttle")], &strongest, "block"),
        (vec![(strongest.as_str(), "allow"), (other.as_str(), "tag")], &strongest, "degrade"),
    ];
    for (sections, deciding, action) in rows {
        let decision = play(&ruleset(&policy(&sections)), false);
        assert_eq!((decision.mode.name(), decision.action.name()), ("enforce", action));
        assert_eq!(decision.cluster.as_ref(), Some(deciding), "{sections:?}");
        assert_eq!(decision.other_clusters.len(), 1, "{sections:?}");
        assert_ne!(&decision.other_clusters[0], deciding);
    }
}

/// Regression: a policy section for the id of a cluster did not apply after the cluster had merged
/// into another one.
#[test]
fn sections_for_merged_ids_still_apply() {
    let apart = play(&ruleset(&policy(&[])), false);
    let ids = [apart.cluster.unwrap(), apart.other_clusters[0].clone()];
    let merged = play(&ruleset(&policy(&[])), true);
    let (id, aliases) = (merged.cluster.unwrap(), merged.cluster_aliases);
    assert!(ids.contains(&id) && merged.other_clusters.is_empty());
    let former = ids.iter().find(|other| **other != id).unwrap();
    assert!(aliases.contains(former), "{aliases:?}");
    let decision = play(&ruleset(&policy(&[(former.as_str(), "block")])), true);
    assert_eq!(decision.cluster_aliases.first(), Some(former));
    assert_eq!((decision.mode.name(), decision.action.name()), ("enforce", "block"));
}
