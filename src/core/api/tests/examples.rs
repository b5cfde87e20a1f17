//! Examples of objects that several responses contain, and their JSON.

use serde_json::{Value, json};

use crate::api::{ClusterSummary, IndicatorInfo, ReleaseInfo, StopStatus};
use crate::rules::release::{Canary, Release};
use crate::rules::stop::Stop;

pub fn cluster() -> ClusterSummary {
    ClusterSummary {
        id: "0a1b2c3d".into(),
        aliases: vec!["4e5f6071".into()],
        accounts: 9,
        keys: 2,
        correlations: vec!["cluster_hour".into()],
        first: 1_700_000_000,
        last: 1_700_000_900,
    }
}

pub fn indicator() -> IndicatorInfo {
    IndicatorInfo {
        id: 3,
        correlation: "cluster_hour".into(),
        key: "00000000000000ff".into(),
        first: 1_700_000_000,
        last: 1_700_000_900,
        expires: 1_700_090_000,
        times: 4,
        measured: 12.0,
        threshold: "≥ 10 accounts".into(),
        accounts: 9,
        cluster: Some("0a1b2c3d".into()),
        revoked_at: None,
        reason: None,
        revoked_until: None,
        account: Some("00000000000000a1".into()),
        tenant: None,
        account_label: Some("acme".into()),
        tenant_label: None,
        network: None,
    }
}

pub fn release() -> ReleaseInfo {
    let release = Release {
        format_version: 1,
        serial: 5,
        created: 1_700_000_000,
        active: "embedded".into(),
        canary: Some(Canary { digest: "ab".into(), percent: 2.5, order: None }),
        shadow: None,
        expires: None,
        resumes: Some(1_700_000_030),
        note: "a note".into(),
        author: "bo".into(),
    };
    ReleaseInfo {
        serial: 5,
        kind: "promote".into(),
        published: None,
        release: Some(release),
        contents: [("ab".into(), "cd".into())].into(),
        text: "{}".into(),
        signature: "untrusted comment".into(),
        key: "RW".into(),
    }
}

pub fn release_json() -> Value {
    json!({
        "serial": 5, "kind": "promote", "published": null,
        "release": {
            "release": 1, "serial": 5, "created": 1_700_000_000, "active": "embedded",
            "canary": { "digest": "ab", "percent": 2.5 }, "resumes": 1_700_000_030,
            "note": "a note", "author": "bo",
        },
        "contents": { "ab": "cd" }, "text": "{}", "signature": "untrusted comment", "key": "RW",
    })
}

pub fn stop_status() -> StopStatus {
    let stop = Stop {
        at: 1_700_000_030,
        paths: vec!["/v1/chat/**".into()],
        reason: "ticket 12".into(),
        author: "bo".into(),
        ended_by: None,
    };
    StopStatus { stop, published: false, problem: Some("KV refused".into()) }
}

pub fn stop_json() -> Value {
    let stop = json!({
        "at": 1_700_000_030, "paths": ["/v1/chat/**"], "reason": "ticket 12", "author": "bo",
        "ended_by": null,
    });
    json!({ "stop": stop, "published": false, "problem": "KV refused" })
}

pub fn indicator_json() -> Value {
    json!({
        "id": 3, "correlation": "cluster_hour", "key": "00000000000000ff",
        "first": 1_700_000_000, "last": 1_700_000_900, "expires": 1_700_090_000, "times": 4,
        "measured": 12.0, "threshold": "≥ 10 accounts", "accounts": 9, "cluster": "0a1b2c3d",
        "revoked_at": null, "reason": null, "revoked_until": null, "account": "00000000000000a1",
        "tenant": null, "account_label": "acme", "tenant_label": null, "network": null,
    })
}

pub fn cluster_json() -> Value {
    json!({
        "id": "0a1b2c3d", "aliases": ["4e5f6071"],
        "accounts": 9, "keys": 2, "correlations": ["cluster_hour"],
        "first": 1_700_000_000, "last": 1_700_000_900,
    })
}
