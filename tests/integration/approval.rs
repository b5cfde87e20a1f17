//! Changes that one can approve: content digests, the end of canaries and shadows, patches of every
//! bundle of a release, comparisons with the active rules, and commands that change the policy.
use hedgerow_core::rules::policy::Policy;
use hedgerow_core::{Bundle, Release, ruleset};
use serde_json::{Value, json};

use crate::release::{Workspace, write_recording};

fn weight(weight: i32) -> String {
    format!("[[signature]]\nname = 'synthesis_pairs'\nweight = {weight}\n")
}

const EXEMPTION: &str =
    "[[exemption]]\nname = 'audit'\npath = '/v1/audit'\nreason = 'r'\nuntil = 2999-01-31\n";

impl Workspace {
    /// Pushes rules with this policy, and returns the result.
    fn push_policy(&self, policy: &str, arguments: &[&str]) -> Value {
        self.write("rules/policy.toml", policy);
        self.json(&[&["push"], arguments].concat())
    }

    /// Releases an active bundle of weight 5, a canary of weight 7 and a shadow of weight 9.
    fn release_three(&self) -> Release {
        self.push_policy(&weight(5), &["--release"]);
        self.push_policy(&weight(7), &["--canary", "12.5"]);
        self.push_policy(&weight(9), &["--shadow"]);
        self.release()
    }

    fn policy_of(&self, digest: &str) -> Policy {
        let text = self.read(&format!("registry/bundles/{digest}.json"));
        Bundle::parse(text.as_bytes()).unwrap().policy
    }
}

#[test]
fn builds_of_the_same_rules_have_the_same_content_digest() {
    let workspace = Workspace::new("content");
    workspace.write("rules/policy.toml", &weight(5));
    let built = workspace.json(&["build", "rules", "-o", "built.json"]);
    let content = built["content"].as_str().unwrap();
    assert!(ruleset::is_digest(content), "{content}");
    let pushed = workspace.push_policy(&weight(5), &[]);
    assert_eq!(pushed["content"], content);
    assert_ne!(pushed["digest"], built["digest"]);
    workspace.push_policy(&weight(6), &[]);
    // A comment changes the digest of a source file, but no decision.
    let again = workspace.push_policy(&format!("# Approved.\n{}", weight(5)), &["--release"]);
    assert_eq!((&again["content"], &again["serial"]), (&content.into(), &3.into()));
    assert_ne!(again["digest"], pushed["digest"]);
    let diff = workspace.json(&["diff", "built.json", "active"]);
    assert_eq!((&diff["from_content"], &diff["to_content"]), (&content.into(), &content.into()));
    let text = workspace.succeed(&["build", "rules", "-o", "built.json"]);
    assert!(text.contains(&format!("{content}  content digest")), "{text}");
    let text = workspace.succeed(&["diff", "active", "rules"]);
    assert!(text.contains(&format!(", content {content}")), "{text}");
    for policy in [weight(6), format!("mode = 'enforce'\n{}", weight(5)), EXEMPTION.to_owned()] {
        workspace.write("rules/policy.toml", &policy);
        let changed = workspace.json(&["build", "rules", "-o", "built.json"]);
        assert_ne!(changed["content"], content, "{policy}");
    }
}

#[test]
fn only_the_approved_content_is_pushed() {
    let workspace = Workspace::new("approved");
    workspace.write("rules/policy.toml", &weight(5));
    let approved = workspace.json(&["build", "rules", "-o", "built.json"])["content"].clone();
    let push = ["push", "--release", "--expect-content", approved.as_str().unwrap()];
    workspace.write("rules/policy.toml", &weight(6));
    let output = workspace.exit_with(1, &push);
    assert!(output.contains("nothing was pushed") && output.contains("expected"), "{output}");
    assert!(!workspace.path.join("registry").exists(), "nothing was written");
    workspace.write("rules/policy.toml", &format!("{}\n# later\n", weight(5)));
    assert_eq!(workspace.json(&push)["content"], approved);
    let output = workspace.exit_with(2, &["push", "--expect-content", "0123456789ab"]);
    assert!(output.contains("all 64 hexadecimal digits"), "{output}");
}

#[test]
fn a_release_says_what_it_changes_and_ends() {
    let workspace = Workspace::new("ends");
    let before = workspace.release_three();
    workspace.write("rules/policy.toml", &weight(3));
    let bundles = || std::fs::read_dir(workspace.path.join("registry/bundles")).unwrap().count();
    let stored = bundles();
    let output = workspace.exit_with(1, &["push", "--release"]);
    let canary = &before.canary.as_ref().unwrap().digest[..12];
    let shadow = &before.shadow.as_ref().unwrap().digest[..12];
    for part in [
        format!("changes from the active rules {}:", &before.active[..12]),
        "~ policy signature[synthesis_pairs].weight: 5.0 → 3.0".to_owned(),
        format!(
            "this release ends the canary {canary} for 12.5 % of the accounts and the shadow \
             {shadow}"
        ),
        "add --yes, or carry the change".to_owned(),
    ] {
        assert!(output.contains(&part), "{part}: {output}");
    }
    assert_eq!((workspace.release(), bundles()), (before.clone(), stored), "nothing has changed");
    let output = workspace.exit_with(1, &["release", &before.active]);
    assert!(output.contains("this release ends the canary"), "{output}");
    // Another share of the same canary ends nothing.
    workspace.succeed(&["release", &before.canary.unwrap().digest, "--canary", "25"]);
    let pushed = workspace.json(&["push", "--release", "--yes"]);
    let diff = &pushed["diff"]["policy"][0];
    assert_eq!((&diff["from"], &diff["to"]), (&json!(5.0), &json!(3.0)));
    let release = workspace.release();
    assert_eq!((release.canary, release.shadow), (None, None));
    assert_eq!(pushed["digest"], release.active.as_str());
    workspace.succeed(&["push", "--release"]);
}

#[test]
fn a_patch_reaches_every_bundle_and_keeps_the_shares() {
    let workspace = Workspace::new("patch");
    let before = workspace.release_three();
    // The rules directory has the canary's rules, and the urgent exemption.
    let policy = weight(7) + EXEMPTION;
    let pushed = workspace.push_policy(&policy, &["--release", "--patch", "--note", "urgent"]);
    let patch = &pushed["patch"];
    assert_eq!(patch["base"], "canary");
    let paths: Vec<&str> = patch["diff"]["policy"]
        .as_array()
        .unwrap()
        .iter()
        .map(|setting| setting["path"].as_str().unwrap())
        .collect();
    let expected = ["name", "path", "reason", "until"];
    assert_eq!(paths, expected.map(|key| format!("exemption[audit].{key}")));
    let after = workspace.release();
    let (canary_before, canary) = (before.canary.unwrap(), after.canary.unwrap());
    let shadow = after.shadow.unwrap().digest;
    assert_eq!((after.serial, after.note.as_str()), (before.serial + 1, "urgent"));
    assert_eq!((canary.percent, canary.order), (12.5, Some(canary_before.digest)));
    for (digest, weight) in [(&after.active, 5.0), (&canary.digest, 7.0), (&shadow, 9.0)] {
        let policy = workspace.policy_of(digest);
        assert_eq!(policy.signatures[0].weight, Some(weight), "{digest}");
        assert_eq!(policy.exemptions.len(), 1, "{digest}");
    }
    assert_eq!(pushed["content"], patch["bundles"][1]["content"], "the canary is the directory");
    // The same again changes nothing, and a change of what the bundles differ in is refused.
    let output = workspace.exit_with(1, &["push", "--release", "--patch"]);
    assert!(output.contains("the rules do not differ from the canary bundle"), "{output}");
    workspace.write("rules/policy.toml", &(weight(8) + EXEMPTION));
    let output = workspace.exit_with(1, &["push", "--release", "--patch=canary"]);
    for role in ["active", "shadow"] {
        let conflict = format!("\n  {role} ");
        assert!(output.contains(&conflict), "{output}");
    }
    assert!(output.contains(": policy.signature[synthesis_pairs].weight"), "{output}");
    assert_eq!(workspace.release().serial, after.serial);
    // A second patch keeps the order of the first canary.
    workspace.push_policy(&weight(7), &["--release", "--patch", "--yes"]);
    let again = workspace.release().canary.unwrap();
    assert_eq!(again.order, workspace.release_order(&after.serial));
    let text = {
        workspace.write("rules/policy.toml", &(weight(7) + EXEMPTION));
        workspace.succeed(&["push", "--release", "--patch=canary"])
    };
    for part in ["the change, from the canary bundle", "~ policy exemption[audit]", "active: "] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

/// Two people change the policy, and the files of the second one lack the change of the first one.
#[test]
fn a_patch_that_undoes_a_release_needs_a_confirmation_or_the_base() {
    let workspace = Workspace::new("patch_loss");
    let own = EXEMPTION.replace("audit", "own");
    let patch = ["push", "--release", "--patch"];
    workspace.push_policy(&weight(5), &["--release"]);
    let base = workspace.json(&["build", "rules", "-o", "built.json"])["content"].clone();
    let base = base.as_str().unwrap();
    workspace.push_policy(&(weight(5) + EXEMPTION), &patch[1..]);
    workspace.write("rules/policy.toml", &(weight(5) + &own));
    let before = workspace.release();
    let bundles = || std::fs::read_dir(workspace.path.join("registry/bundles")).unwrap().count();
    let stored = bundles();
    let output = workspace.exit_with(1, &patch);
    for part in [
        "the change removes or replaces parts of the active bundle",
        ": exemption[audit]: expected a confirmation",
        "take over their files; otherwise add --yes or --expect-base ",
    ] {
        assert!(output.contains(part), "{part}: {output}");
    }
    let pinned = [&patch[..], &["--expect-base", base]].concat();
    let output = workspace.exit_with(1, &pinned);
    assert!(output.contains(&format!("expected {base}, and nothing was released")), "{output}");
    assert_eq!((workspace.release(), bundles()), (before, stored), "nothing has changed");
    let output = workspace.exit_with(2, &["push", "--release", "--expect-base", base]);
    assert!(output.contains("--patch"), "{output}");
    // With the colleague's change in the files, the change only adds, and nothing is asked.
    workspace.push_policy(&(weight(5) + EXEMPTION + &own), &patch[1..]);
    let current = workspace.json(&["diff", "active", "rules"])["from_content"].clone();
    workspace.write("rules/policy.toml", &weight(5));
    let pinned = [&patch[..], &["--expect-base", current.as_str().unwrap()]].concat();
    assert_eq!(workspace.json(&pinned)["patch"]["base_content"], current);
    assert!(workspace.policy_of(&workspace.release().active).exemptions.is_empty());
    workspace.push_policy(&(weight(5) + EXEMPTION), &patch[1..]);
    workspace.push_policy(&weight(6), &[&patch[1..], &["--yes"]].concat());
}

impl Workspace {
    /// Returns the order of the canary of an earlier release.
    fn release_order(&self, serial: &u64) -> Option<String> {
        let text = self.read(&format!("registry/releases/{serial}.json"));
        Release::parse(text.as_bytes()).unwrap().canary.unwrap().order
    }
}

#[test]
fn a_patch_needs_a_release_of_pushed_bundles() {
    let workspace = Workspace::new("patch_none");
    let patch = ["push", "--release", "--patch"];
    assert!(workspace.exit_with(1, &patch).contains("no release is in force"));
    workspace.push_policy(&weight(5), &["--canary", "5"]);
    assert!(workspace.exit_with(1, &patch).contains("has the embedded rules"));
    workspace.exit_with(2, &["push", "--patch"]);
    workspace.exit_with(2, &["push", "--release", "--patch=other"]);
    workspace.succeed(&["promote"]);
    let output = workspace.exit_with(1, &["push", "--release", "--patch=shadow"]);
    assert!(output.contains("has no shadow"), "{output}");
}

#[test]
fn a_push_is_judged_by_its_difference_from_the_active_rules() {
    let workspace = Workspace::new("difference");
    let replay = ["--replay", "recording.jsonl"];
    let noisy = format!("{}\n[noise]\nsuspect = 1.0\n", weight(22));
    write_recording(&workspace, "benign", 98, 2);
    let first = workspace.json(&["push", "--release"]);
    assert_eq!(first["noise"], Value::Null);
    // The active rules make 2 % suspect already, which the budget would not allow.
    let report = workspace.push_policy("# None.\n[bands]\nnotice = 19.0\n", &replay);
    let change = &report["noise"]["change"];
    assert_eq!(report["noise"]["benign"]["suspect"], 2);
    assert_eq!(change["benign_before"]["suspect"], 2);
    assert_eq!(change["new_false_positives"]["suspect"], 0);
    let text = workspace.succeed(&[&["push"][..], &replay].concat());
    assert!(text.contains("with the active rules: 2 notice or worse, 2 suspect"), "{text}");
    workspace.push_policy("[[signature]]\nname = 'synthesis_pairs'\noff = true\n", &["--release"]);
    workspace.write("rules/policy.toml", &weight(22));
    let output = workspace.exit_with(1, &[&["push"][..], &replay].concat());
    for part in [
        "suspect that the active rules do not: 2 of 100 (2.00 %, 0 before and 2 now)",
        "at most 0.1 %",
        "synthesis_pairs",
    ] {
        assert!(output.contains(part), "{part}: {output}");
    }
    // Lost detections.
    workspace.push_policy(&noisy, &["--release"]);
    write_recording(&workspace, "harvest", 1, 9);
    let harvest = workspace.read("recording.jsonl");
    write_recording(&workspace, "benign", 20, 0);
    let benign = workspace.read("recording.jsonl");
    workspace.write("recording.jsonl", &(harvest + &benign));
    workspace.write("rules/policy.toml", &weight(1));
    let output = workspace.exit_with(1, &[&["push"][..], &replay].concat());
    let expected = "the rules lose detections: 9 of 10 harvest requests (90.00 %) are no longer \
                    suspect (9 before and 0 now)";
    assert!(output.contains(expected), "{output}");
    assert!(!output.contains("question-answer"), "never the text: {output}");
}

const ACCOUNT: &str = "0123456789abcdef0123456789abcdef";

#[test]
fn commands_change_the_policy_and_undo_the_change() {
    let workspace = Workspace::new("commands");
    let policy = "# Ours.\nmode = \"shadow\" # until May\n\n# Docs at the end.\n";
    workspace.write("rules/policy.toml", policy);
    let end = ["--reason", "ticket 7", "--until", "2999-01-31"];
    let rows: [(&[&str], &[&str], &str); 7] = [
        (
            &["exempt", "audit", "--account", ACCOUNT, "--signature", "synthesis_pairs"],
            &["exempt", "audit", "--remove"],
            "[[exemption]]\nname = \"audit\"\naccount = \"0123456789abcdef0123456789abcdef\"\n\
             signatures = [\"synthesis_pairs\"]\nreason = \"ticket 7\"\nuntil = 2999-01-31\n",
        ),
        (
            &["exempt", "batch", "--path", "/v1/batches/**"],
            &["exempt", "batch", "--remove"],
            "[[exemption]]\nname = \"batch\"\npath = \"/v1/batches/**\"\nreason = \"ticket 7\"\n\
             until = 2999-01-31\n",
        ),
        (
            &["disable", "synthesis_pairs"],
            &["disable", "synthesis_pairs", "--remove"],
            "[[exemption]]\nname = \"disabled-synthesis_pairs\"\n\
             signatures = [\"synthesis_pairs\"]\nreason = \"ticket 7\"\nuntil = 2999-01-31\n",
        ),
        (
            &["override", "--account", ACCOUNT, "--mode", "enforce"],
            &["override", "--account", ACCOUNT, "--remove"],
            "[[account]]\nid = \"0123456789abcdef0123456789abcdef\"\nmode = \"enforce\"\n\
             reason = \"ticket 7\"\nuntil = 2999-01-31\n",
        ),
        (
            &["override", "--tenant", ACCOUNT, "--mode", "shadow"],
            &["override", "--tenant", ACCOUNT, "--remove"],
            "[[tenant]]\nid = \"0123456789abcdef0123456789abcdef\"\nmode = \"shadow\"\n\
             reason = \"ticket 7\"\nuntil = 2999-01-31\n",
        ),
        (
            &["override", "--cluster", "5b0f3a91", "--mode", "enforce"],
            &["override", "--cluster", "5b0f3a91", "--remove"],
            "[[cluster]]\nid = \"5b0f3a91\"\nmode = \"enforce\"\nreason = \"ticket 7\"\n\
             until = 2999-01-31\n",
        ),
        (&["weigh", "synthesis_pairs", "-3"], &["weigh", "synthesis_pairs", "--remove"], ""),
    ];
    for (change, undo, expected) in rows {
        let end = if change[0] == "weigh" { &end[..2] } else { &end };
        let change = [change, end].concat();
        let text = workspace.succeed(&change);
        assert!(text.contains("~ policy "), "{change:?}: {text}");
        assert!(text.contains("release it with `hedgerow push --release --patch`"), "{text}");
        if expected.is_empty() {
            let changed = workspace.read("rules/policy.toml");
            assert!(changed.contains("weight = -3.0\nreason = \"ticket 7\""), "{changed}");
        } else {
            assert_eq!(workspace.read("rules/policy.toml"), format!("{policy}\n{expected}"));
        }
        let output = workspace.exit_with(1, &change);
        assert!(output.contains("already") && output.contains("--remove"), "{output}");
        workspace.succeed(undo);
        assert_eq!(workspace.read("rules/policy.toml"), policy, "{undo:?}");
        let output = workspace.exit_with(1, undo);
        assert!(output.contains("expected"), "{output}");
    }
    workspace.succeed(&["disable", "synthesis_pairs", "--reason", "ticket 7"]);
    let off = workspace.read("rules/policy.toml");
    assert!(off.ends_with("name = \"synthesis_pairs\"\noff = true\nreason = \"ticket 7\"\n"));
    let output = workspace.exit_with(1, &["weigh", "synthesis_pairs", "3", "--reason", "x"]);
    assert!(output.contains("disables 'synthesis_pairs' already"), "{output}");
    let answer = workspace.json(&["disable", "synthesis_pairs", "--remove"]);
    assert_eq!(answer["next"], "hedgerow push --release --patch");
    assert_eq!(workspace.read("rules/policy.toml"), policy);
}

#[test]
fn the_next_command_and_the_output_name_the_rules_of_the_command() {
    let workspace = Workspace::new("next_command");
    let change = ["exempt", "x", "--path", "/a", "--reason", "r", "--until", "7d"];
    let config = ["--rules", "rules", "--config", "hedgerow.toml"];
    let text = workspace.succeed(&[&change[..], &config].concat());
    let next = "`hedgerow push rules --release --patch --config hedgerow.toml`";
    assert!(text.contains(&format!("release it with {next}; omit --patch while the")), "{text}");
}

#[test]
fn ends_of_policy_entries_are_days() {
    let workspace = Workspace::new("ends_in_hours");
    for change in [
        &["exempt", "x", "--path", "/a"][..],
        &["disable", "synthesis_pairs"],
        &["override", "--account", "0123456789abcdef0123456789abcdef", "--mode", "shadow"],
    ] {
        let end = ["--reason", "r", "--until", "12h"];
        let output = workspace.exit_with(2, &[change, &end].concat());
        assert!(output.contains("--until '12h' is invalid: expected days"), "{output}");
    }
    assert!(!workspace.path.join("rules/policy.toml").exists(), "nothing was written");
}

#[cfg(unix)]
#[test]
fn a_linked_policy_stays_a_link_and_keeps_its_permissions() {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{PermissionsExt, symlink};

    let workspace = Workspace::new("linked_policy");
    workspace.write("shared.toml", "mode = 'shadow'\n");
    let shared = workspace.path.join("shared.toml");
    fs::set_permissions(&shared, Permissions::from_mode(0o600)).unwrap();
    let policy = workspace.path.join("rules/policy.toml");
    symlink("../shared.toml", &policy).unwrap();
    workspace.succeed(&["exempt", "x", "--path", "/a", "--reason", "r", "--until", "7d"]);
    assert!(fs::symlink_metadata(&policy).unwrap().is_symlink());
    assert!(workspace.read("shared.toml").contains("name = \"x\""));
    assert_eq!(fs::metadata(&shared).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn a_policy_with_windows_line_ends_keeps_them() {
    let workspace = Workspace::new("line_ends");
    let policy = "# Ours.\r\nmode = \"shadow\"\r\n\r\n# Docs at the end.\r\n";
    workspace.write("rules/policy.toml", policy);
    let exempt = ["exempt", "audit", "--path", "/v1/audit", "--reason", "r", "--until", "7d"];
    workspace.succeed(&exempt);
    let changed = workspace.read("rules/policy.toml");
    assert!(changed.starts_with(policy), "{changed:?}");
    assert_eq!(changed.matches('\n').count(), changed.matches("\r\n").count(), "{changed:?}");
    workspace.succeed(&["exempt", "audit", "--remove"]);
    assert_eq!(workspace.read("rules/policy.toml"), policy);
}

#[test]
fn invalid_changes_of_the_policy_write_nothing() {
    let workspace = Workspace::new("refused_changes");
    let end = ["--reason", "r", "--until", "7d"];
    let rows: [(i32, &[&str], &str); 7] = [
        (1, &["exempt", "all"], "exempts everything"),
        (1, &["exempt", "x", "--account", "ana"], "expected 32 digits"),
        (1, &["exempt", "x", "--signature", "synthesis_pair"], "unknown signature"),
        (1, &["override", "--cluster", "5b0f3a91", "--mode", "shadow"], "can only tighten"),
        (1, &["disable", "unknown_rule"], "unknown signature"),
        (2, &["override", "--mode", "shadow"], "required"),
        (2, &["exempt", "x", "--path", "/a", "--remove"], "cannot be used with"),
    ];
    for (code, change, expected) in rows {
        let output = workspace.exit_with(code, &[change, &end].concat());
        assert!(output.contains(expected), "{change:?}: {output}");
    }
    for until in ["2020-01-31", "0d", "soon"] {
        let exempt = ["exempt", "x", "--path", "/a", "--reason", "r", "--until", until];
        let output = workspace.exit_with(2, &exempt);
        assert!(output.contains("expected a time in the future"), "{output}");
    }
    let output = workspace.exit_with(1, &["weigh", "synthesis_pairs", "500", "--reason", "r"]);
    assert!(output.contains("the weight is invalid"), "{output}");
    assert!(!workspace.path.join("rules/policy.toml").exists(), "nothing was written");
    workspace.write("rules/policy.toml", "mode = 'dark'\n");
    let output =
        workspace.exit_with(1, &["exempt", "x", "--path", "/a", "--reason", "r", "--until", "7d"]);
    assert!(output.contains("invalid before the change"), "{output}");
    workspace.write("rules/policy.toml", EXEMPTION);
    let same = ["exempt", "other", "--path", "/v1/audit", "--reason", "r", "--until", "7d"];
    let output = workspace.exit_with(1, &same);
    assert!(output.contains("'audit' exempts the same already"), "{output}");
}

/// An entry of the upper layer would replace the whole entry of the lower layer.
#[test]
fn commands_do_not_replace_entries_of_a_lower_layer() {
    let workspace = Workspace::new("lower_layer");
    std::fs::create_dir_all(workspace.path.join("ours")).unwrap();
    workspace.write("ours/policy.toml", "# Ours.\n");
    let settings = "directory = 'registry'\nrules = ['rules', 'ours']\nkey = 'key'\n";
    workspace.write("hedgerow.toml", settings);
    let lower = format!(
        "[[account]]\nid = '{ACCOUNT}'\nactions = {{ suspect = 'block' }}\nreason = 'r'\n\
         [[tenant]]\nid = '{ACCOUNT}'\nactions = {{ suspect = 'block' }}\nreason = 'r'\n\
         [[cluster]]\nid = '5b0f3a91'\nmode = 'enforce'\nreason = 'r'\n\
         [[exemption]]\nname = 'disabled-synthesis_answer'\npath = '/a'\nreason = 'r'\n\
         until = 2999-01-31\n{EXEMPTION}{}",
        weight(5)
    );
    workspace.write("rules/policy.toml", &lower);
    let end = ["--reason", "r", "--until", "7d"];
    let lower_remedy = "rules/policy.toml belongs to a lower layer";
    let rows: [(&[&str], &[&str], &[&str], &str); 5] = [
        (
            &["override", "--account", ACCOUNT],
            &["--mode", "enforce"],
            &end,
            "rules/policy.toml has settings of the account",
        ),
        (
            &["override", "--tenant", ACCOUNT],
            &["--mode", "enforce"],
            &end,
            "rules/policy.toml has settings of the tenant",
        ),
        (
            &["override", "--cluster", "5b0f3a91"],
            &["--mode", "enforce"],
            &end,
            "rules/policy.toml has settings of the cluster",
        ),
        (
            &["exempt", "audit"],
            &["--path", "/b"],
            &end,
            "the exemption 'audit' exists already (last day 2999-01-31)",
        ),
        (
            &["weigh", "synthesis_pairs"],
            &["7"],
            &end[..2],
            "gives the weight 5 to 'synthesis_pairs' already",
        ),
    ];
    for (command, change, end, expected) in rows {
        let output = workspace.exit_with(1, &[command, change, end].concat());
        assert!(output.contains(expected) && output.contains(lower_remedy), "{output}");
        let output = workspace.exit_with(1, &[command, &["--remove"]].concat());
        assert!(output.contains("rules/policy.toml") && output.contains("expected"), "{output}");
        assert!(output.contains("of the uppermost layer"), "{output}");
    }
    let output = workspace.exit_with(1, &["disable", "synthesis_answer", "--remove"]);
    let expected = "the exemption 'disabled-synthesis_answer' is in rules/policy.toml";
    assert!(output.contains(expected), "{output}");
    assert_eq!(workspace.read("ours/policy.toml"), "# Ours.\n", "nothing was written");
    workspace.succeed(&[&["exempt", "own", "--path", "/b"][..], &end].concat());
    workspace.succeed(&["exempt", "own", "--remove"]);
}

#[test]
fn a_setting_that_gives_the_id_of_a_rule_is_found_by_the_name() {
    let workspace = Workspace::new("by_id");
    let by_id = weight(5)
        .replace("name = 'synthesis_pairs'", "id = '5d0f2a6e-5a3b-4a3c-9a54-1f0c4b1f7a10'");
    workspace.write("rules/policy.toml", &by_id);
    let weigh = ["weigh", "synthesis_pairs", "7", "--reason", "r"];
    let output = workspace.exit_with(1, &weigh);
    let remedy = "remove it with `hedgerow weigh synthesis_pairs --remove`";
    assert!(output.contains(remedy), "{output}");
    workspace.succeed(&["weigh", "synthesis_pairs", "--remove"]);
    assert_eq!(workspace.read("rules/policy.toml"), "");
    workspace.succeed(&weigh);
}

#[test]
fn a_rule_is_disabled_in_one_form_and_enabled_from_both() {
    let workspace = Workspace::new("disabled_twice");
    let disable = ["disable", "synthesis_pairs", "--reason", "r"];
    let with_end = [&disable[..], &["--until", "2999-01-31"]].concat();
    workspace.succeed(&with_end);
    let before = workspace.read("rules/policy.toml");
    let output = workspace.exit_with(1, &disable);
    for part in [
        "'disabled-synthesis_pairs' disables 'synthesis_pairs' already (last day 2999-01-31)",
        "remove it with `hedgerow disable synthesis_pairs --remove`",
    ] {
        assert!(output.contains(part), "{part}: {output}");
    }
    assert_eq!(workspace.read("rules/policy.toml"), before, "nothing was written");
    // An exemption that has ended does not disable the rule.
    workspace.write("rules/policy.toml", &before.replace("2999", "2020"));
    workspace.succeed(&disable);
    let output = workspace.exit_with(1, &with_end);
    assert!(output.contains("disables 'synthesis_pairs' already"), "{output}");
    workspace.succeed(&["disable", "synthesis_pairs", "--remove"]);
    assert_eq!(workspace.read("rules/policy.toml"), "");
    let output = workspace.exit_with(1, &["disable", "synthesis_pairs", "--remove"]);
    assert!(output.contains("is not disabled in the policy"), "{output}");
}
