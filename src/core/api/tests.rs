//! One example of the JSON of each response and body.

mod examples;

use std::fmt::Debug;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, from_value, json, to_value};

use self::examples::*;
use super::*;
use crate::evaluate::decision::DecisionHit;
use crate::evaluate::score::Contribution;
use crate::field::{Field, FieldId};
use crate::matching::Evidence;
use crate::rules::policy::{Action, Band, Mode};
use crate::rules::release::RulesetRole;

/// Asserts that `value` is serialised to `json`, and that `json` is deserialised to `value`.
fn assert_json<T: Serialize + DeserializeOwned + PartialEq + Debug>(value: T, json: Value) {
    assert_eq!(to_value(&value).unwrap(), json);
    assert_eq!(from_value::<T>(json).unwrap(), value);
}

fn counts<const COUNT: usize>(counts: [(&str, u64); COUNT]) -> Counts {
    counts.map(|(name, count)| (name.to_owned(), count)).into()
}

/// Returns `object` with `members` added.
fn extended(mut object: Value, members: Value) -> Value {
    object.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
    object
}

#[test]
fn audit() {
    let entry = AuditEntry {
        id: 8,
        at: 1_700_000_000,
        actor: "admin".into(),
        action: "indicator.revoke".into(),
        subject: "00000000000000ff: ours".into(),
        author: String::new(),
        client_hash: None,
        result: "ok".into(),
    };
    let json = json!({
        "id": 8, "at": 1_700_000_000, "actor": "admin", "action": "indicator.revoke",
        "subject": "00000000000000ff: ours", "author": "", "client": null, "result": "ok",
    });
    assert_json(AuditLog { entries: vec![entry] }, json!({ "entries": [json] }));
}

#[test]
fn bundles() {
    let info = BundleInfo {
        digest: "ab".into(),
        content: "cd".into(),
        serial: 2,
        created: 1_700_000_000,
        bytes: 77,
        signatures: 6,
        lists: 1,
        uploaded: 1_700_000_009,
    };
    let json = json!({
        "digest": "ab", "content": "cd", "serial": 2, "created": 1_700_000_000, "bytes": 77,
        "signatures": 6, "lists": 1, "uploaded": 1_700_000_009,
    });
    assert_json(BundleList { bundles: vec![info] }, json!({ "bundles": [json] }));
    let upload = BundleUpload { bundle: "{}".into(), signature: "s".into() };
    assert_json(upload, json!({ "bundle": "{}", "signature": "s" }));
    let signed = SignedBundle { digest: "ab".into(), bundle: "{}".into(), signature: "s".into() };
    assert_json(signed, json!({ "digest": "ab", "bundle": "{}", "signature": "s" }));
}

#[test]
fn clusters() {
    let traffic = ClusterTraffic {
        minutes: 60,
        requests: 7,
        by_band: counts([("suspect", 7)]),
        by_model: counts([("other", 7)]),
    };
    let traffic_json = json!({
        "minutes": 60, "requests": 7, "by_band": { "suspect": 7 }, "by_model": { "other": 7 },
    });
    let list =
        ClusterList { clusters: vec![ClusterInfo { summary: cluster(), traffic: Some(traffic) }] };
    let json = extended(cluster_json(), json!({ "traffic": traffic_json }));
    assert_json(list, json!({ "clusters": [json] }));
    let link = ClusterLink { key: "00000000000000ff".into(), correlation: "cluster_hour".into() };
    let bridge = ClusterBridge { account: "00000000000000aa".into(), keys: 3, parts: 2 };
    let details = ClusterDetails {
        summary: cluster(),
        links: vec![link],
        bridges: vec![bridge],
        traffic: None,
    };
    let links = json!([{ "key": "00000000000000ff", "correlation": "cluster_hour" }]);
    let bridges = json!([{ "account": "00000000000000aa", "keys": 3, "parts": 2 }]);
    let members = json!({ "links": links, "bridges": bridges, "traffic": null });
    assert_json(details, extended(cluster_json(), members));
    let request = SplitRequest {
        accounts: vec!["00000000000000aa".into()],
        reason: "a tester of ours".into(),
        author: "ana".into(),
        dry_run: true,
    };
    let json = json!({
        "accounts": ["00000000000000aa"], "reason": "a tester of ours", "author": "ana",
        "dry_run": true,
    });
    assert_json(request, json);
    let result = SplitResult { accounts: 1, clusters: vec![cluster()], dry_run: true };
    assert_json(result, json!({ "accounts": 1, "clusters": [cluster_json()], "dry_run": true }));
}

#[test]
fn decisions() {
    let evidence = vec![Evidence { field: Field::Known(FieldId::PromptUser), start: 3, end: 21 }];
    let hit = DecisionHit {
        name: "synthesis_pairs".into(),
        family: "synthesis".into(),
        weight: 22.0,
        evidence,
        innocence: Vec::new(),
        key: None,
    };
    let contribution = Contribution { family: "synthesis".into(), raw: 22.0, capped: 20.0 };
    let record = DecisionRecord {
        request_id: "id".into(),
        at: 1_700_000_000_250.0,
        colo: "ORD".into(),
        model: Some("small".into()),
        role: RulesetRole::Canary,
        serial: Some(5),
        error: None,
        account: Some("00".into()),
        account_kind: Some("jwt".into()),
        tenant: Some("01".into()),
        account_label: Some("acme/7".into()),
        tenant_label: Some("acme".into()),
        cluster: Some("0a1b2c3d".into()),
        cluster_aliases: vec!["4e5f6071".into()],
        other_clusters: vec!["8293a4b5".into()],
        dialect: "openai".into(),
        operation: "chat".into(),
        score: Some(50.5),
        prior: -20.0,
        evidence: 20.0,
        contributions: vec![contribution],
        band: Some(Band::Suspect),
        action: Action::Degrade,
        mode: Mode::Shadow,
        enforced: true,
        degraded: Some("edited".into()),
        hits: vec![hit],
        shadow_hits: vec!["quiet".into()],
        exemption: None,
        ruleset: "ab".into(),
        body_bytes: 90,
        unscanned_bytes: 0,
        unreadable: vec!["costly".into()],
        unscored: vec!["costly".into()],
        scored_share: None,
        incomplete: Some("costly".into()),
        entries: 1,
    };
    let json = json!({
        "request_id": "id", "at": 1_700_000_000_250.0, "colo": "ORD", "model": "small",
        "role": "canary", "serial": 5, "error": null, "account": "00",
        "account_kind": "jwt", "tenant": "01", "account_label": "acme/7",
        "tenant_label": "acme", "cluster": "0a1b2c3d",
        "cluster_aliases": ["4e5f6071"], "other_clusters": ["8293a4b5"],
        "dialect": "openai", "operation": "chat", "score": 50.5, "prior": -20.0,
        "evidence": 20.0,
        "contributions": [{ "family": "synthesis", "raw": 22.0, "capped": 20.0 }],
        "band": "suspect", "action": "degrade", "mode": "shadow", "enforced": true,
        "degraded": "edited",
        "hits": [{
            "name": "synthesis_pairs", "family": "synthesis", "weight": 22.0,
            "evidence": [{ "field": "hedgerow.prompt.user", "start": 3, "end": 21 }],
        }],
        "shadow_hits": ["quiet"], "exemption": null, "ruleset": "ab", "body_bytes": 90,
        "unscanned_bytes": 0, "unreadable": ["costly"], "unscored": ["costly"],
        "scored_share": null, "incomplete": "costly", "entries": 1,
    });
    let list = DecisionList {
        decisions: vec![record.clone()],
        stored: 4,
        capacity: 2_000,
        kept: 3,
        counted: 7,
        next: Some("1700000000250_id".into()),
    };
    let json = json!({
        "decisions": [json], "stored": 4, "capacity": 2_000, "kept": 3, "counted": 7,
        "next": "1700000000250_id",
    });
    assert_json(list, json);
    let failed = DecisionRecord { cluster: None, score: None, band: None, ..record };
    let failed = to_value(failed).unwrap();
    assert_eq!((&failed["score"], &failed["band"]), (&Value::Null, &Value::Null));
    assert!(failed.get("cluster").is_none());
}

#[test]
fn errors() {
    let error = ErrorDetails {
        code: "serial".into(),
        message: "release 5 is there already".into(),
        remedy: "release again".into(),
        serial: Some(5),
    };
    let json = json!({
        "code": "serial", "message": "release 5 is there already", "remedy": "release again",
    });
    let without_serial = ErrorBody { error: ErrorDetails { serial: None, ..error.clone() } };
    assert_json(without_serial, json!({ "error": json }));
    assert_json(ErrorBody { error }, json!({ "error": extended(json, json!({ "serial": 5 })) }));
}

#[test]
fn health() {
    let details = HealthDetails {
        ruleset: None,
        signatures: None,
        mode: Some(Mode::Enforce),
        release: Some(5),
        rejection: Some("it has expired".into()),
    };
    let report = HealthReport {
        memory_bytes: 65_536,
        status: HealthStatus::Degraded,
        problems: vec![ConfigProblem::new("ORIGIN is missing", "set it")],
        warnings: Vec::new(),
        details: Some(details),
    };
    let json = json!({
        "status": "degraded", "warnings": [], "memory_bytes": 65_536,
        "problems": [{ "message": "ORIGIN is missing", "remedy": "set it" }],
    });
    let details = json!({
        "ruleset": null, "signatures": null, "mode": "enforce", "release": 5,
        "rejection": "it has expired",
    });
    assert_json(report.clone(), extended(json.clone(), details));
    // Parsing this JSON gives details whose members are all `None`, and not `details: None`. So the
    // test compares only the JSON.
    assert_eq!(to_value(HealthReport { details: None, ..report }).unwrap(), json);
}

#[test]
fn version() {
    let version = VersionInfo {
        version: "0.2.0".into(),
        ruleset: Some("ab".into()),
        release: None,
        panic_unwind: true,
        console_host: ConsoleHost::Shared,
    };
    let json = json!({
        "version": "0.2.0", "ruleset": "ab", "release": null, "panic_unwind": true,
        "console_host": "shared",
    });
    assert_json(version, json);
}

#[test]
fn indicators() {
    let list = IndicatorList { indicators: vec![indicator()], total: 70 };
    assert_json(list, json!({ "indicators": [indicator_json()], "total": 70 }));
    let details = IndicatorDetails {
        key: "00000000000000ff".into(),
        indicators: vec![indicator()],
        cluster: Some(cluster()),
    };
    let json = json!({
        "key": "00000000000000ff", "indicators": [indicator_json()], "cluster": cluster_json(),
    });
    assert_json(details, json);
    let request = RevokeRequest { reason: "ours".into(), author: "bo".into(), until: None };
    assert_json(request, json!({ "reason": "ours", "author": "bo", "until": null }));
    let result = RevokeResult { key: "00000000000000ff".into(), count: 1 };
    assert_json(result, json!({ "key": "00000000000000ff", "count": 1 }));
    let request = RevokeMatchingRequest {
        filter: RevokeFilter {
            correlation: Some("cluster_hour".into()),
            ..RevokeFilter::default()
        },
        reason: "ours".into(),
        author: "bo".into(),
        until: None,
        dry_run: true,
    };
    let filter = json!({
        "correlation": "cluster_hour", "cluster": null, "account": null, "from": null, "to": null,
    });
    let json = json!({
        "filter": filter, "reason": "ours", "author": "bo", "until": null, "dry_run": true,
    });
    assert_json(request, json);
    let result = RevokeMatchingResult { count: 7, dry_run: true };
    assert_json(result, json!({ "count": 7, "dry_run": true }));
}

#[test]
fn live_ticket() {
    let ticket = LiveTicket { ticket: "1700000030.ab".into(), expires: 1_700_000_030 };
    assert_json(ticket, json!({ "ticket": "1700000030.ab", "expires": 1_700_000_030 }));
}

#[test]
fn principals() {
    let entry = PrincipalEntry {
        request_id: Some("r".into()),
        account: Some("acme/7".into()),
        ..PrincipalEntry::default()
    };
    let upload = PrincipalsUpload { principals: vec![entry] };
    assert_json(upload, json!({ "principals": [{ "request_id": "r", "account": "acme/7" }] }));
    let outcome = |status, id: Option<&str>| PrincipalOutcome { status, id: id.map(Into::into) };
    let result = PrincipalsResult {
        stored: 1,
        principals: vec![
            outcome(PrincipalStatus::Stored, Some("00")),
            outcome(PrincipalStatus::UnknownRequest, None),
            outcome(PrincipalStatus::NoAccount, None),
        ],
    };
    let json = json!({ "stored": 1, "principals": [
        { "status": "stored", "id": "00" }, { "status": "unknown_request", "id": null },
        { "status": "no_account", "id": null },
    ] });
    assert_json(result, json);
    assert_json(LabelQuery { ids: vec!["00".into()] }, json!({ "ids": ["00"] }));
    let labels = Labels { labels: [("00".to_owned(), "acme".to_owned())].into() };
    assert_json(labels, json!({ "labels": { "00": "acme" } }));
}

#[test]
fn releases() {
    let list = ReleaseList { releases: vec![release()] };
    assert_json(list, json!({ "releases": [release_json()] }));
    let upload = ReleaseUpload { release: "{}".into(), signature: "s".into() };
    assert_json(upload, json!({ "release": "{}", "signature": "s" }));
    let problem = Some("KV is slow".into());
    let result = PublishResult { serial: 5, published: false, problem, stopped: true };
    let json = json!({
        "serial": 5, "published": false, "problem": "KV is slow", "stopped": true,
    });
    assert_json(result, json);
}

#[test]
fn a_release_of_an_unknown_format_is_null() {
    let json = extended(release_json(), json!({ "release": { "release": 2, "serial": 5 } }));
    let info: ReleaseInfo = from_value(json).unwrap();
    assert_eq!((info.serial, info.release), (5, None));
}

#[test]
fn series() {
    let points = || vec![1, 2];
    let series = Series {
        minutes: 2,
        step: 60,
        at: vec![1_700_000_000, 1_700_000_060],
        bands: BandSeries {
            clear: vec![0, 9],
            notice: vec![0, 0],
            suspect: points(),
            hostile: vec![0, 0],
        },
        actions: ActionSeries {
            allow: vec![0, 9],
            tag: vec![0, 0],
            degrade: points(),
            throttle: vec![0, 0],
            block: vec![0, 0],
        },
        scores: vec![9, 3],
        signatures: vec![SignatureSeries {
            name: "synthesis_pairs".into(),
            hits: 3,
            points: points(),
        }],
        errors: vec![ErrorSeries { message: "it failed".into(), count: 3, points: points() }],
        rulesets: vec![RulesetTraffic {
            ruleset: "ab".into(),
            serial: 0,
            role: RulesetRole::Embedded,
            requests: 12,
            bands: counts([("clear", 9), ("suspect", 3)]),
        }],
    };
    let json = json!({
        "minutes": 2, "step": 60, "at": [1_700_000_000, 1_700_000_060],
        "bands": { "clear": [0, 9], "notice": [0, 0], "suspect": [1, 2], "hostile": [0, 0] },
        "actions": {
            "allow": [0, 9], "tag": [0, 0], "degrade": [1, 2], "throttle": [0, 0],
            "block": [0, 0],
        },
        "scores": [9, 3],
        "signatures": [{ "name": "synthesis_pairs", "hits": 3, "points": [1, 2] }],
        "errors": [{ "message": "it failed", "count": 3, "points": [1, 2] }],
        "rulesets": [{
            "ruleset": "ab", "serial": 0, "role": "embedded", "requests": 12,
            "bands": { "clear": 9, "suspect": 3 },
        }],
    });
    assert_json(series, json);
}

#[test]
fn status() {
    let status = DeploymentStatus {
        now: 1_700_000_100,
        version: "0.2.0".into(),
        embedded: Some("cd".into()),
        embedded_content: "ef".into(),
        keys: vec!["RW".into()],
        release: Some(release()),
        stop: Some(stop_status()),
        mode_ceiling: Some(Mode::Enforce),
        exemptions: vec![ExemptionInfo {
            name: "audit".into(),
            until: 1_800_000_000,
            reason: "nightly".into(),
        }],
        publication: PublicationStatus { serial: Some(4), pending: Some(5), ..<_>::default() },
        pull: Some(PullStatus { url_set: true, checked: Some(1_700_000_050), ..<_>::default() }),
        indicators: IndicatorStatus {
            count: 3,
            clusters: 1,
            pending: true,
            max: 100,
            max_per_correlation: 25,
            by_correlation: Counts::from([("cluster_hour".into(), 3)]),
            top_accounts: vec![IndicatorCause { id: "00000000000000a1".into(), count: 2 }],
            ..IndicatorStatus::default()
        },
        principals: PrincipalsStatus { count: 7, max: 10, labels: 2, ..<_>::default() },
        ledger: LedgerStatus { reachable: false },
        traffic: TrafficSummary::default(),
    };
    let json = json!({
        "now": 1_700_000_100, "version": "0.2.0", "embedded": "cd",
        "embedded_content": "ef", "keys": ["RW"], "release": release_json(), "stop": stop_json(),
        "mode_ceiling": "enforce",
        "exemptions": [{ "name": "audit", "until": 1_800_000_000, "reason": "nightly" }],
        "publication": { "serial": 4, "pending": 5, "attempts": 0, "problem": null },
        "pull": {
            "url_set": true, "checked": 1_700_000_050, "changed": null, "problem": null,
        },
        "indicators": {
            "count": 3, "clusters": 1, "pending": true, "problem": null, "max": 100,
            "max_per_correlation": 25, "by_correlation": { "cluster_hour": 3 }, "revoked": 0,
            "links": 0, "max_links": 0, "queued_firings": 0, "queued_observations": 0,
            "kv_writes": 0, "kv_budget": 0,
            "refused_by_quota": 0, "refused_as_weak": 0, "replaced": 0,
            "top_accounts": [{ "id": "00000000000000a1", "count": 2 }], "top_tenants": [],
            "top_networks": [],
        },
        "principals": {
            "count": 7, "max": 10, "labels": 2, "pending": false, "problem": null,
        },
        "ledger": { "reachable": false },
        "traffic": TrafficSummary::default(),
    });
    assert_json(status, json);
}

#[test]
fn stops() {
    let request = StopRequest { paths: vec!["/a".into()], reason: "x".into(), author: "bo".into() };
    assert_json(request, json!({ "paths": ["/a"], "reason": "x", "author": "bo" }));
    let request: StopRequest = from_value(json!({ "reason": "x" })).unwrap();
    assert!(request.paths.is_empty());
    // A misspelt `paths` must not stop all requests.
    assert!(from_value::<StopRequest>(json!({ "reason": "x", "path": "/a" })).is_err());
    assert_json(stop_status(), stop_json());
}

#[test]
fn traffic() {
    let shadow = ShadowTraffic {
        ruleset: "ef".into(),
        requests: 3,
        bands: vec![BandChange { from: Band::Clear, to: Band::Notice, count: 3 }],
        signatures: vec![SignatureDifference {
            name: "grading".into(),
            only_active: 0,
            only_shadow: 3,
        }],
    };
    let traffic = TrafficSummary {
        seconds: 60,
        requests: 3,
        by_serial: counts([("5", 3)]),
        by_ruleset: counts([("ab", 3)]),
        by_role: counts([("active", 3)]),
        by_band: counts([("clear", 3)]),
        by_action: counts([("allow", 3)]),
        by_mode: counts([("shadow", 3)]),
        by_colo: counts([("ORD", 3)]),
        by_exemption: counts([("audit", 2)]),
        signatures: vec![SignatureHits { name: "grading".into(), hits: 1 }],
        incomplete: 1,
        by_unscored: counts([("late", 1)]),
        forwarded_unread: vec![PathCount { method: "PUT".into(), path: "/a/*".into(), count: 2 }],
        enforced_not_kept: 1,
        memory_mib: counts([("32", 1)]),
        errors: vec![ErrorCount { message: "it failed".into(), count: 2 }],
        shadow: Some(shadow),
    };
    let json = json!({
        "seconds": 60, "requests": 3, "by_serial": { "5": 3 }, "by_ruleset": { "ab": 3 },
        "by_role": { "active": 3 }, "by_band": { "clear": 3 }, "by_action": { "allow": 3 },
        "by_mode": { "shadow": 3 }, "by_colo": { "ORD": 3 }, "by_exemption": { "audit": 2 },
        "signatures": [{ "name": "grading", "hits": 1 }],
        "incomplete": 1, "by_unscored": { "late": 1 }, "memory_mib": { "32": 1 },
        "forwarded_unread": [{ "method": "PUT", "path": "/a/*", "count": 2 }],
        "enforced_not_kept": 1, "errors": [{ "message": "it failed", "count": 2 }],
        "shadow": {
            "ruleset": "ef", "requests": 3,
            "bands": [{ "from": "clear", "to": "notice", "count": 3 }],
            "signatures": [{ "name": "grading", "only_active": 0, "only_shadow": 3 }],
        },
    });
    assert_json(traffic, json);
}

#[test]
fn missing_members_of_a_status_have_defaults() {
    let status: DeploymentStatus = from_value(json!({ "traffic": { "requests": 1 } })).unwrap();
    let traffic = TrafficSummary { requests: 1, ..TrafficSummary::default() };
    assert_eq!(status, DeploymentStatus { traffic, ..DeploymentStatus::default() });
    assert!(status.ledger.reachable);
}
