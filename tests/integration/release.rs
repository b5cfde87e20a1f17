//! Keys, signatures, bundles and releases, and the commands for them.
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::{fs, thread};

use hedgerow_core::rules::list::{List, ListEntry, ListKind};
use hedgerow_core::rules::release::{Canary, EMBEDDED, ShadowBundle};
use hedgerow_core::rules::trusted_keys::TrustedKeys;
use hedgerow_core::ruleset::Diff;
use hedgerow_core::{Bundle, Client, Envelope, Release, Ruleset, ruleset};
use hedgerow_sigma::RuleFile;
use serde_json::{Value, json};

use crate::{from_root, hedgerow_command, skip};

/// The directory of one test, with settings that use the folders `registry` (releases) and `rules`.
pub struct Workspace {
    pub path: PathBuf,
    env: Vec<(&'static str, String)>,
}

const RULE: &str = include_str!("../fixtures/pairs.yml");

const SETTINGS: &str = "directory = 'registry'\nrules = 'rules'\nkey = 'key'\n";

impl Workspace {
    /// Returns a workspace with settings and rules, but without a key.
    fn without_key(name: &str) -> Self {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("release").join(name);
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(path.join("rules")).unwrap();
        fs::write(path.join("rules/pairs.yml"), RULE).unwrap();
        fs::write(path.join("hedgerow.toml"), SETTINGS).unwrap();
        Self { path, env: Vec::new() }
    }

    pub fn new(name: &str) -> Self {
        let workspace = Self::without_key(name);
        workspace.succeed(&["keygen", "--output", "key"]);
        workspace
    }

    fn with(mut self, name: &'static str, value: &str) -> Self {
        self.env.push((name, value.to_owned()));
        self
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = hedgerow_command();
        command.args(arguments).current_dir(&self.path).stdin(Stdio::null());
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("HEDGEROW_")) {
            command.env_remove(name);
        }
        command.env("USER", "ana").envs(self.env.iter().map(|(name, value)| (name, value)));
        command
    }

    pub fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Runs a command that must succeed, and returns its standard output.
    pub fn succeed(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {}", all_output(&output));
        String::from_utf8(output.stdout).unwrap()
    }

    pub fn json(&self, arguments: &[&str]) -> Value {
        serde_json::from_str(&self.succeed(&[&["--format", "json"], arguments].concat())).unwrap()
    }

    /// Runs a command that must exit with a code, and returns all output.
    pub fn exit_with(&self, code: i32, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}", all_output(&output));
        all_output(&output)
    }

    pub fn write(&self, path: &str, text: &str) {
        fs::write(self.path.join(path), text).unwrap();
    }

    pub fn read(&self, path: &str) -> String {
        fs::read_to_string(self.path.join(path)).unwrap()
    }

    fn keys(&self) -> TrustedKeys {
        TrustedKeys::parse(&self.read("key.pub")).unwrap()
    }

    pub fn release(&self) -> Release {
        Release::parse(self.read("registry/release.json").as_bytes()).unwrap()
    }

    /// Changes the rules so that a push uploads a new bundle, and returns its digest.
    fn push(&self, weight: i32) -> String {
        self.write(
            "rules/policy.toml",
            &format!("[[signature]]\nname = 'synthesis_pairs'\nweight = {weight}\n"),
        );
        self.json(&["push"])["digest"].as_str().unwrap().to_owned()
    }
}

fn all_output(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    text(&output.stdout) + &text(&output.stderr)
}

#[test]
fn signed_bytes_verify_and_changed_bytes_do_not() {
    let workspace = Workspace::new("keys");
    let digest = workspace.push(5);
    let path = format!("registry/bundles/{digest}.json");
    let (bundle, signature) = (workspace.read(&path), workspace.read(&format!("{path}.minisig")));
    let keys = workspace.keys();
    assert!(
        workspace.read("key.pub").contains(keys.verify(bundle.as_bytes(), &signature).unwrap())
    );
    assert!(signature.contains(&format!("trusted comment: hedgerow bundle {digest}")));
    assert!(signature.len() <= 900, "{}", signature.len());
    workspace.succeed(&["release"]);
    let (release, released) =
        (workspace.read("registry/release.json"), workspace.read("registry/release.json.minisig"));
    keys.verify(release.as_bytes(), &released).unwrap();
    assert!(released.contains("trusted comment: hedgerow release 1\n"), "{released}");
    let other = Workspace::new("keys_other");
    let signed_again = signature.replace("hedgerow bundle", "hedgerow bundles");
    let rows: [(&str, &TrustedKeys, String, &str); 5] = [
        ("another key", &other.keys(), bundle.clone(), &signature),
        ("a changed byte", &keys, bundle.replacen("22", "23", 1), &signature),
        ("bundle with the signature of the release", &keys, bundle.clone(), &released),
        ("release with the signature of the bundle", &keys, release, &signature),
        ("a changed comment", &keys, bundle.clone(), &signed_again),
    ];
    for (name, keys, text, signature) in rows {
        assert!(keys.verify(text.as_bytes(), signature).is_err(), "{name}");
    }
    assert!(
        TrustedKeys::default().verify(bundle.as_bytes(), &signature).is_err(),
        "without keys nothing is trusted"
    );
}

#[cfg(unix)]
#[test]
fn keys_are_private_and_never_overwritten() {
    use std::os::unix::fs::PermissionsExt;
    let workspace = Workspace::new("owner");
    let mode =
        |path: &str| fs::metadata(workspace.path.join(path)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("key"), mode("key.pub") & 0o600), (0o600, 0o600));
    let key = workspace.read("key");
    let output = workspace.exit_with(2, &["keygen", "--output", "key"]);
    assert!(output.contains("keys are never overwritten"), "{output}");
    fs::remove_file(workspace.path.join("key")).unwrap();
    workspace.exit_with(2, &["keygen", "--output", "key"]);
    assert!(!workspace.path.join("key").exists(), "the public key is not overwritten either");
    workspace.write("key", &key);
    fs::set_permissions(workspace.path.join("key"), fs::Permissions::from_mode(0o644)).unwrap();
    let output = all_output(&workspace.run(&["push"]));
    assert!(output.contains("others can read key") && output.contains("chmod 600"), "{output}");
}

#[test]
fn a_key_may_have_a_passphrase() {
    let workspace =
        Workspace::without_key("passphrase").with("HEDGEROW_KEY_PASSWORD", "correct horse");
    workspace.succeed(&["keygen", "--output", "key", "--password"]);
    workspace.succeed(&["push"]);
    let wrong = Workspace { path: workspace.path.clone(), env: Vec::new() };
    let output = wrong.exit_with(2, &["push"]);
    assert!(output.contains("expected HEDGEROW_KEY_PASSWORD, or a terminal"), "{output}");
    let wrong = wrong.with("HEDGEROW_KEY_PASSWORD", "battery staple");
    let output = wrong.exit_with(2, &["push"]);
    assert!(
        output.contains("passphrase does not open this key") && !output.contains("staple"),
        "{output}"
    );
    let output = Workspace::without_key("no_terminal").exit_with(2, &["keygen", "--password"]);
    assert!(output.contains("or a terminal"), "{output}");
    workspace.write("key", "untrusted comment: x\nbm90IGEga2V5\n");
    assert!(workspace.exit_with(2, &["push"]).contains("not a minisign secret key"));
    workspace.write("key", &workspace.read("key.pub"));
    assert!(workspace.exit_with(2, &["push"]).contains("not its .pub"));
}

/// The test is skipped if minisign is not installed.
#[test]
fn keys_and_signatures_are_compatible_with_minisign() {
    if Command::new("minisign").arg("-v").output().is_err() {
        return skip("minisign is not installed (Debian: apt-get install minisign)");
    }
    let workspace = Workspace::new("minisign");
    let digest = workspace.push(5);
    workspace.succeed(&["release"]);
    for file in [format!("registry/bundles/{digest}.json"), "registry/release.json".to_owned()] {
        minisign(&workspace, &["-V", "-p", "key.pub", "-m", &file], "");
    }
    minisign(&workspace, &["-S", "-s", "key", "-m", "key.pub", "-x", "theirs.minisig"], "");
    workspace
        .keys()
        .verify(workspace.read("key.pub").as_bytes(), &workspace.read("theirs.minisig"))
        .unwrap();
    // A key with an empty passphrase, and a key without a passphrase (`-W`).
    for (flags, passphrase) in [(&[][..], "\n\n"), (&["-W"][..], "")] {
        let workspace = Workspace::without_key("minisign_key");
        minisign(&workspace, &[&["-G", "-p", "key.pub", "-s", "key"], flags].concat(), passphrase);
        workspace.succeed(&["push", "--release"]);
        let file = "registry/release.json";
        let (release, signature) =
            (workspace.read(file), workspace.read(&format!("{file}.minisig")));
        workspace.keys().verify(release.as_bytes(), &signature).unwrap();
        minisign(&workspace, &["-S", "-s", "key", "-m", file, "-x", "theirs.minisig"], passphrase);
        workspace.keys().verify(release.as_bytes(), &workspace.read("theirs.minisig")).unwrap();
    }
}

/// Runs the reference implementation of minisign, which reads passphrases from standard input.
fn minisign(workspace: &Workspace, arguments: &[&str], passphrase: &str) {
    let mut command = Command::new("minisign");
    command.args(arguments).current_dir(&workspace.path).stdin(Stdio::piped());
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(passphrase.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "minisign {arguments:?}: {}", all_output(&output));
}

#[test]
fn equivalent_rules_are_uploaded_once() {
    let workspace = Workspace::new("twice");
    let first = workspace.json(&["push"]);
    assert_eq!((&first["new"], &first["serial"]), (&true.into(), &1.into()));
    let second = workspace.json(&["push"]);
    assert_eq!((&second["new"], &second["digest"]), (&false.into(), &first["digest"]));
    let text = workspace.succeed(&["push", "--canary", "10"]);
    assert!(text.contains("nothing to upload") && text.contains("release 1 published"), "{text}");
    workspace.push(5);
    let digest = workspace.push(6);
    let path = format!("registry/bundles/{digest}.json");
    let bundle = Bundle::parse(workspace.read(&path).as_bytes()).unwrap();
    assert_eq!((bundle.serial, ruleset::digest(workspace.read(&path).as_bytes())), (3, digest));
    assert!(bundle.created > 1_700_000_000);
}

#[test]
fn rules_with_findings_are_not_pushed() {
    let workspace = Workspace::new("findings");
    for (from, to, found) in [
        ("level: critical\n", "", "the level is missing"),
        ("'Words to train on'", "'question-answer pairs to train on'", "matches alone"),
        ("|contains: 'to train'", "|re: '(to train'", "does not compile"),
    ] {
        workspace.write("rules/pairs.yml", &RULE.replace(from, to));
        let output = workspace.exit_with(1, &["push", "--release"]);
        assert!(output.contains("rules/pairs.yml:") && output.contains(found), "{output}");
    }
    assert!(!workspace.path.join("registry").exists(), "nothing was written");
}

/// Writes a recording of `clear` harmless requests and `suspect` requests for pairs.
pub fn write_recording(workspace: &Workspace, label: &str, clear: usize, suspect: usize) {
    let ask = |content: &str| {
        let body = json!({ "model": "m", "messages": [{ "role": "user", "content": content }] });
        let row =
            json!({ "path": "/v1/chat/completions", "body": body, "label": label, "account": "a" });
        format!("{row}\n")
    };
    let text = ask("What grows in a hedgerow?").repeat(clear)
        + &ask("Ten question-answer pairs to train on, please.").repeat(suspect);
    workspace.write("recording.jsonl", &text);
}

#[test]
fn rules_that_hit_benign_requests_are_not_pushed() {
    let workspace = Workspace::new("noise");
    let push = ["push", "--replay", "recording.jsonl"];
    write_recording(&workspace, "benign", 999, 1);
    let text = workspace.succeed(&push);
    assert!(text.contains("benign requests: 1000, of which 1 notice"), "{text}");
    assert!(text.contains("0.56 % and 0.56 %"), "{text}");
    write_recording(&workspace, "benign", 998, 2);
    let output = workspace.exit_with(1, &push);
    let expected =
        ["2 of 1000 benign requests (0.20 %) are suspect", "0.1 %", "synthesis_pairs", " 2"];
    for part in expected {
        assert!(output.contains(part), "{part}: {output}");
    }
    assert!(!output.contains("question-answer"), "never the text: {output}");
    workspace.write("rules/policy.toml", "[noise]\nsuspect = 1.0\nnotice = 0.1\n");
    let output = workspace.exit_with(1, &push);
    assert!(output.contains("are notice or worse"), "{output}");
    workspace.write("rules/policy.toml", "[noise]\nsuspect = 1.0\n");
    workspace.succeed(&push);
    write_recording(&workspace, "harvest", 0, 5);
    assert!(workspace.exit_with(1, &push).contains("labelled \"benign\""));
    workspace.write("recording.jsonl", "not json\n");
    assert!(workspace.exit_with(1, &push).contains("recording.jsonl:1:1: the line is invalid"));
}

#[test]
fn release_promote_and_rollback_change_the_manifest() {
    let workspace = Workspace::new("sequence");
    let first = workspace.push(5);
    workspace.succeed(&["release", "--note", "the first"]);
    let expected = Release {
        format_version: 1,
        serial: 1,
        created: workspace.release().created,
        active: first.clone(),
        canary: None,
        shadow: None,
        expires: None,
        resumes: None,
        note: "the first".to_owned(),
        author: "ana".to_owned(),
    };
    assert_eq!(workspace.release(), expected);
    let second = workspace.push(6);
    workspace.succeed(&["release", "--shadow"]);
    let third = workspace.push(7);
    workspace.succeed(&["release", &third[..8], "--canary", "12.5%", "--expires", "7d"]);
    let release = workspace.release();
    assert_eq!((release.serial, &release.active), (3, &first));
    assert_eq!(release.canary, Some(Canary { digest: third.clone(), percent: 12.5, order: None }));
    assert_eq!(release.shadow, Some(ShadowBundle { digest: second.clone() }), "the shadow stays");
    assert_eq!(release.expires.unwrap() - release.created, 604_800);
    workspace.succeed(&["promote", "--note", "fine so far"]);
    let release = workspace.release();
    assert_eq!((release.serial, &release.active), (4, &third));
    assert_eq!((release.canary, release.shadow, release.expires), (None, None, None));
    workspace.succeed(&["release", &second, "--shadow"]);
    workspace.succeed(&["promote"]);
    assert_eq!(workspace.release().active, second, "without a canary the shadow is promoted");
    let output = workspace.exit_with(1, &["promote"]);
    assert!(output.contains("neither canary nor shadow"), "{output}");
    workspace.succeed(&["rollback"]);
    assert_eq!(workspace.release().active, third, "the previous bundle");
    workspace.succeed(&["rollback", "--to", &first[..6]]);
    assert_eq!((workspace.release().serial, workspace.release().active), (8, first.clone()));
    let output = workspace.exit_with(1, &["rollback", "--to", &first]);
    assert!(output.contains("is active already"), "{output}");
    workspace.succeed(&["release", EMBEDDED]);
    assert_eq!(workspace.release().active, EMBEDDED);
    for serial in 1..=9 {
        let path = format!("registry/releases/{serial}.json");
        let (text, signature) = (workspace.read(&path), workspace.read(&format!("{path}.minisig")));
        workspace.keys().verify(text.as_bytes(), &signature).unwrap();
    }
    let left = fs::read_dir(workspace.path.join("registry")).unwrap();
    let left = left.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert_eq!(left.filter(|name| name.ends_with(".tmp")).count(), 0);
}

/// Regression: `rollback` replaced the active bundle instead of ending the canary, and kept the
/// expiry of the release.
#[test]
fn a_rollback_ends_the_canary_first() {
    let workspace = Workspace::new("canary_back");
    let first = workspace.push(5);
    workspace.succeed(&["release", "--expires", "30d"]);
    let ends = workspace.release().expires;
    let second = workspace.push(6);
    workspace.succeed(&["release", "--canary", "5"]);
    assert_eq!(workspace.release().expires, ends, "a canary keeps the expiry");
    workspace.succeed(&["release", &second, "--canary", "25", "--expires", "9d"]);
    assert!(workspace.release().expires < ends, "unless another expiry is given");
    workspace.succeed(&["rollback"]);
    let release = workspace.release();
    assert_eq!((release.active, release.canary, release.shadow), (first.clone(), None, None));
    assert!(workspace.exit_with(1, &["rollback", "--to", &first]).contains("is active already"));
    workspace.succeed(&["rollback"]);
    assert_eq!(workspace.release().active, EMBEDDED, "no bundle was active before the first");
}

/// Regression: `push` did not upload rules again if an equivalent bundle was signed with the old
/// key. If PUBLIC_KEYS no longer contained the old key, every isolate would have rejected the
/// release.
#[test]
fn a_new_key_uploads_equivalent_rules_again() {
    let workspace = Workspace::new("rotation");
    let first = workspace.push(5);
    let old = workspace.read("key.pub").lines().last().unwrap().to_owned();
    fs::rename(workspace.path.join("key"), workspace.path.join("old.key")).unwrap();
    fs::rename(workspace.path.join("key.pub"), workspace.path.join("old.key.pub")).unwrap();
    workspace.succeed(&["keygen", "--output", "key"]);
    let workspace = workspace.with("HEDGEROW_PUBLIC_KEYS", &old);
    let second = workspace.push(5);
    assert_ne!(first, second);
    let path = format!("registry/bundles/{second}.json");
    let (text, signature) = (workspace.read(&path), workspace.read(&format!("{path}.minisig")));
    let new = TrustedKeys::parse(&workspace.read("key.pub")).unwrap();
    new.verify(text.as_bytes(), &signature).unwrap();
    assert_eq!(workspace.push(5), second, "a bundle signed with this key is not uploaded again");
}

#[test]
fn before_the_first_release_the_embedded_rules_are_active() {
    let workspace = Workspace::new("embedded");
    assert!(workspace.exit_with(1, &["release"]).contains("run `hedgerow push` first"));
    assert!(workspace.exit_with(1, &["rollback"]).contains("no release yet"));
    let digest = workspace.push(5);
    workspace.succeed(&["release", "--canary", "5"]);
    assert_eq!(
        (workspace.release().active, workspace.release().canary.unwrap().digest),
        (EMBEDDED.to_owned(), digest.clone())
    );
    workspace.succeed(&["promote"]);
    workspace.succeed(&["rollback"]);
    assert_eq!(workspace.release().active, EMBEDDED);
    let workspace = Workspace::new("embedded_none");
    workspace.push(5);
    workspace.succeed(&["release"]);
    workspace.succeed(&["rollback"]);
    assert_eq!(workspace.release().active, EMBEDDED, "nothing was active before");
}

#[test]
fn invalid_releases_are_rejected() {
    let workspace = Workspace::new("refused");
    let digest = workspace.push(5);
    workspace.push(6);
    let rows: [(i32, &[&str], &str); 11] = [
        (1, &["release", "--expires", "1d"], "at least two days"),
        (1, &["release", "--expires", "2026-01-01"], "at least two days"),
        (2, &["release", "--expires", "soon"], "is invalid"),
        (2, &["release", "--canary", "0"], "above 0"),
        (2, &["release", "--canary", "101"], "up to 100"),
        (2, &["release", "--canary", "5", "--shadow"], "cannot be used with"),
        (2, &["release", "xyz!"], "is not the name of a bundle"),
        (1, &["release", "0000000000"], "no bundle '0000000000'"),
        (2, &["release", "--wait"], "--wait needs a deployment"),
        (2, &["push", "--note", "x"], "expected --release, --canary or --shadow"),
        (2, &["push", "--release", "--shadow"], "expected one of them"),
    ];
    for (code, arguments, expected) in rows {
        let output = workspace.exit_with(code, arguments);
        assert!(output.contains(expected), "{arguments:?}: {output}");
    }
    assert!(!workspace.path.join("registry/release.json").exists());
    workspace.succeed(&["release", &digest]);
    let output = workspace.exit_with(1, &["release", &digest, "--canary", "5"]);
    assert!(output.contains("is active for all accounts already"), "{output}");
    // An attacker with write access, but without the key, changes the manifest or a bundle.
    let release = workspace.read("registry/release.json");
    workspace.write("registry/release.json", &release.replace("\"serial\":1", "\"serial\":2"));
    let output = workspace.exit_with(1, &["release"]);
    assert!(output.contains("one of the two was changed"), "{output}");
    workspace.write("registry/release.json", &release);
    let path = format!("registry/bundles/{digest}.json");
    workspace.write(&path, &workspace.read(&path).replacen("22", "21", 1));
    let output = workspace.exit_with(1, &["release", &digest]);
    assert!(output.contains("another digest"), "{output}");
}

#[test]
fn releases_of_other_keys_are_continued_if_the_keys_are_trusted() {
    let workspace = Workspace::new("colleague");
    workspace.succeed(&["push", "--release"]);
    fs::rename(workspace.path.join("key.pub"), workspace.path.join("old.pub")).unwrap();
    fs::remove_file(workspace.path.join("key")).unwrap();
    workspace.succeed(&["keygen", "--output", "key"]);
    let output = workspace.exit_with(1, &["release"]);
    assert!(output.contains("not accepted") && output.contains("public_keys"), "{output}");
    let old = workspace.read("old.pub").lines().nth(1).unwrap().to_owned();
    workspace.write("hedgerow.toml", &format!("{SETTINGS}public_keys = ['{old}']\n"));
    workspace.succeed(&["release"]);
    assert_eq!(workspace.release().serial, 2);
}

#[test]
fn errors_in_the_settings_have_line_and_column() {
    let workspace = Workspace::new("settings");
    let rows = [
        ("rules = 'rules'\ntokn_file = 'x'\n", "hedgerow.toml:2:1: unknown field `tokn_file`"),
        ("url = 5\n", "hedgerow.toml:1:7: "),
        ("\n  key = \n", "hedgerow.toml:2:"),
        (
            "url = 'https://x'\ndirectory = 'y'\n",
            "hedgerow.toml:2:13: `url` and `directory` are both set",
        ),
        ("token = 'secret-secret-secret-secret'\n", "hedgerow.toml:1:1: unknown field `token`"),
    ];
    for (text, expected) in rows {
        workspace.write("hedgerow.toml", text);
        let output = workspace.exit_with(2, &["push"]);
        assert!(output.contains(expected) && !output.contains("secret-secret"), "{text}: {output}");
    }
    workspace.write("hedgerow.toml", "rules = 'rules'\nkey = 'key'\n");
    assert!(workspace.exit_with(2, &["push"]).contains("no registry is configured"));
    assert!(workspace.exit_with(2, &["--config", "nowhere.toml", "push"]).contains("nowhere.toml"));
    let elsewhere = Workspace { path: workspace.path.join("rules"), env: Vec::new() };
    workspace.write("hedgerow.toml", SETTINGS);
    elsewhere.succeed(&["push", "--config", "../hedgerow.toml"]);
    assert!(workspace.path.join("registry/bundles").is_dir(), "paths are relative to the file");
    elsewhere.with("HEDGEROW_CONFIG", "../hedgerow.toml").succeed(&["release"]);
    for command in ["status", "audit"] {
        let output = workspace.exit_with(2, &[command]);
        assert!(output.contains("needs a deployment"), "{output}");
    }
    let workspace = workspace.with("HEDGEROW_AUTHOR", "ben");
    workspace.succeed(&["release"]);
    assert_eq!(workspace.release().author, "ben");
    let workspace = workspace.with("HEDGEROW_URL", "https://a").with("HEDGEROW_DIRECTORY", "b");
    assert!(workspace.exit_with(2, &["push"]).contains("both set"));
}

const TOKEN: &str = "0123456789-a-secret-token-0123456789";

/// Returns a workspace with settings for a deployment.
fn remote(name: &str, url: &str) -> Workspace {
    let workspace = Workspace::new(name);
    workspace
        .write("hedgerow.toml", &format!("url = '{url}'\nkey = 'key'\ntoken_file = 'token'\n"));
    workspace.write("token", &format!("{TOKEN}\n"));
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = fs::Permissions::from_mode(0o600);
        fs::set_permissions(workspace.path.join("token"), mode).unwrap();
    }
    workspace
}

/// Serves every request with the bytes that `answer` returns for its first line.
fn serve(answer: impl Fn(&str) -> Vec<u8> + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let (mut first, mut length) = (String::new(), 0);
            let _ = reader.read_line(&mut first);
            loop {
                let mut line = String::new();
                if reader.read_line(&mut line).unwrap_or(0) < 3 {
                    break;
                }
                if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                    length = value.trim().parse().unwrap();
                }
            }
            let mut body = vec![0; length];
            let _ = reader.read_exact(&mut body);
            let _ = stream.write_all(&answer(&first));
        }
    });
    url
}

fn http(status: u16, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("HTTP/1.1 {status} X\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}")
        .into_bytes()
}

#[test]
fn no_answer_of_a_server_makes_the_token_visible() {
    let error = |code: &str| {
        let message = format!("no: {TOKEN}");
        let remedy = format!("try \u{1b}[2J {TOKEN}");
        let error = json!({ "code": code, "message": message, "remedy": remedy, "serial": 41 });
        json!({ "error": error }).to_string()
    };
    let large = "x".repeat(17 << 20);
    let rows: Vec<(Vec<u8>, i32, &str)> = vec![
        (http(401, &error("unauthorized")), 2, "the token was refused"),
        (http(403, &error("scope")), 2, "correct the token file"),
        (http(404, "not found"), 2, "ADMIN_TOKEN is not set"),
        (
            http(409, &error("serial")),
            1,
            "the current serial is 41; look at it with `hedgerow status`",
        ),
        (http(409, &error("precondition")), 1, "no: [token]"),
        (http(422, &error("bundle")), 1, "no: [token]"),
        (http(429, &error("throttled")), 2, "429"),
        (http(500, "oops"), 2, "500"),
        (http(503, &error("unavailable")), 2, "no: [token]"),
        (http(302, ""), 2, "redirect"),
        (http(200, "<html>"), 2, "the answer is not readable"),
        (http(200, "[]"), 2, "the answer is not readable"),
        (http(200, TOKEN), 2, "the answer is not readable"),
        (http(200, &large), 2, "larger than"),
        (b"garbage\r\n\r\n".to_vec(), 2, "GET http://127.0.0.1"),
        (Vec::new(), 2, "GET http://127.0.0.1"),
    ];
    for (number, (answer, code, expected)) in rows.into_iter().enumerate() {
        let workspace = remote(&format!("token_{number}"), &serve(move |_| answer.clone()));
        for arguments in [&["release"][..], &["status"], &["--format", "json", "audit"]] {
            let output = workspace.exit_with(code, arguments);
            assert!(output.contains(expected), "{arguments:?} {expected}: {output}");
            assert!(
                !output.contains(TOKEN) && !output.contains('\u{1b}'),
                "{arguments:?}: {output}"
            );
        }
    }
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let output = remote("token_gone", &format!("http://{gone}")).exit_with(2, &["status"]);
    assert!(output.contains("the connection was refused"), "{output}");
}

#[test]
fn the_token_is_not_sent_unencrypted() {
    let workspace = remote("plain", "http://example.com");
    assert!(workspace.exit_with(2, &["status"]).contains("would send the token unencrypted"));
    let rows = [
        ("http://127.0.0.1.example.com", "unencrypted"),
        ("http://localhost@example.com", "unencrypted"),
        ("ftp://example.com", "https://"),
        ("example.com", "https://"),
        ("https://ana@example.com", "user name"),
        ("https://example.com/?x=1", "query"),
    ];
    for (url, expected) in rows {
        let output = workspace.exit_with(2, &["status", "--url", url]);
        assert!(output.contains(expected) && !output.contains(TOKEN), "{url}: {output}");
    }
    workspace.write("token", "short");
    let output = workspace.exit_with(2, &["status", "--url", "https://example.com"]);
    assert!(
        output.contains("token: the token is invalid") && !output.contains("short\n"),
        "{output}"
    );
    fs::remove_file(workspace.path.join("token")).unwrap();
    assert!(
        workspace
            .exit_with(2, &["status", "--url", "https://example.com"])
            .contains("expected a file with the token")
    );
}

#[cfg(unix)]
#[test]
fn a_token_file_that_others_can_read_causes_a_warning() {
    use std::os::unix::fs::PermissionsExt;
    let workspace = remote("open", &serve(|_| http(200, "{}")));
    fs::set_permissions(workspace.path.join("token"), fs::Permissions::from_mode(0o640)).unwrap();
    let output = workspace.run(&["status"]);
    assert_eq!(output.status.code(), Some(0));
    assert!(all_output(&output).contains("warning: others can read token; run `chmod 600 token`"));
}

#[test]
fn commands_use_the_admin_api_of_a_deployment() {
    let url = serve(|first| {
        let status = json!({
            "now": 1_800_000_090, "version": "0.1.0", "embedded": "e".repeat(64), "keys": ["RW"],
            "release": { "serial": 6, "kind": "release", "published": 1_800_000_010,
                "contents": { "a".repeat(64): "c".repeat(64) }, "release": {
                "release": 1, "serial": 6, "created": 1_800_000_000, "active": "a".repeat(64),
                "note": "weighs less", "author": "ana" } },
            "publication": { "serial": 6, "pending": null, "attempts": 0, "problem": null },
            "pull": { "url_set": true, "checked": 1_800_000_080, "changed": null,
                "problem": "404" },
            "ledger": { "reachable": true },
            "exemptions": [{ "name": "audit", "until": 1_801_440_000, "reason": "nightly" }],
            "traffic": { "seconds": 60, "requests": 200, "by_serial": { "6": 150, "0": 50 },
                "by_ruleset": {}, "by_role": { "active": 200 }, "by_band": {}, "by_action": {},
                "by_colo": {}, "signatures": [{ "name": "synthesis_pairs", "hits": 3 }],
                "errors": [{ "message": "expired", "count": 2 }],
                "shadow": { "ruleset": "b".repeat(64), "requests": 9,
                    "bands": [{ "from": "clear", "to": "notice", "count": 4 }],
                    "signatures": [{ "name": "new_one", "only_active": 0, "only_shadow": 4 }] } },
        });
        let words: Vec<&str> = first.split(' ').collect();
        match (words[0], words[1].strip_prefix("/_hedgerow/v1").unwrap()) {
            ("GET", "/bundles") => http(200, r#"{"bundles":[]}"#),
            ("GET", "/releases?limit=1") => http(200, r#"{"releases":[]}"#),
            ("GET", "/status") => http(200, &status.to_string()),
            ("GET", path) if path.starts_with("/audit") => {
                let entry = json!({ "id": 1, "at": 1_800_000_000, "actor": "admin",
                    "action": "release", "subject": "6", "author": "ana", "client": null,
                    "result": "ok" });
                http(200, &json!({ "entries": [entry] }).to_string())
            }
            ("PUT", _) => http(201, "{}"),
            ("GET", path) if path.starts_with("/diff?from=embedded&to=") => {
                let diff = Diff { added: vec!["synthesis_pairs".to_owned()], ..Diff::default() };
                http(200, &serde_json::to_string(&diff).unwrap())
            }
            ("POST", "/releases") => {
                http(202, r#"{"serial":1,"published":false,"problem":"KV refused"}"#)
            }
            other => panic!("{other:?}"),
        }
    });
    let workspace = remote("deployment", &url);
    let output = workspace.exit_with(1, &["push", "--release", "--wait", "--wait-seconds", "1"]);
    for part in [
        "uploaded",
        "+ synthesis_pairs",
        "release 1 stored",
        "KV refused",
        "release 6 was published after it",
    ] {
        assert!(output.contains(part), "{part}: {output}");
    }
    let text = workspace.succeed(&["status"]);
    for part in [
        "release     6 (release): active aaaaaaaaaaaa",
        "content of active cccccccccccc",
        "90 s ago (2027-01-15 08:00), by ana",
        "weighs less",
        "published   6, 80 s ago",
        "pull        last 10 s ago, last change never",
        "404",
        "by release  6 75.0 %, embedded 25.0 %",
        "2027-01-31  never matched in this period",
        "only shadow",
        "clear → notice",
        "2  expired",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert_eq!(workspace.json(&["status"])["traffic"]["requests"], 200);
    // Without a terminal, each refresh prints a line.
    let mut watching =
        workspace.command(&["status", "--watch"]).stdout(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(watching.stdout.take().unwrap()).lines();
    let lines: Vec<String> = lines.take(2).map(|line| line.unwrap()).collect();
    watching.kill().unwrap();
    watching.wait().unwrap();
    for line in &lines {
        assert!(line.contains("release 6: 75 % of 200 requests, 2 errors"), "{line}");
    }
    assert_eq!(lines.len(), 2);
    let text = workspace.succeed(&["audit"]);
    assert!(text.contains("2027-01-15 08:00  admin     release         6"), "{text}");
}

#[test]
fn wait_ends_when_the_traffic_has_the_release() {
    for (requests, arrived, code, expected) in [
        (100, 96, 0, "release 1: 96 %, arrived"),
        (100, 50, 1, "has not arrived within 1 s: still 50 % on the embedded rules"),
        (0, 0, 1, "no traffic in the last minute"),
    ] {
        let url = serve(move |first| {
            let by_serial = json!({ "1": arrived, "0": requests - arrived });
            let traffic = json!({ "requests": requests, "by_serial": by_serial });
            match first.split(' ').nth(1).unwrap().strip_prefix("/_hedgerow/v1").unwrap() {
                "/bundles" => http(200, r#"{"bundles":[]}"#),
                "/releases?limit=1" => http(200, r#"{"releases":[]}"#),
                "/releases" => http(201, r#"{"serial":1,"published":true,"problem":null}"#),
                "/status" => http(200, &json!({ "traffic": traffic }).to_string()),
                other => panic!("{other}"),
            }
        });
        let workspace = remote("waiting", &url);
        let arguments = ["release", EMBEDDED, "--wait", "--wait-seconds", "1"];
        let output = workspace.exit_with(code, &arguments);
        assert!(output.contains(expected) && output.contains("release 1 published"), "{output}");
        let output = workspace.run(&[&["--format", "json"][..], &arguments].concat());
        let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(answer["waited"]["done"], code == 0, "{answer}");
    }
}

#[test]
fn the_deployment_compares_with_its_embedded_rules() {
    let rules = Workspace::without_key("embedded_rules").path.join("rules");
    let digest = ruleset::digest(&hedgerow_sigma::build(&rules).unwrap());
    let stored = digest.clone();
    let url = serve(move |first| {
        let path = first.split(' ').nth(1).unwrap().strip_prefix("/_hedgerow/v1").unwrap();
        if path == "/bundles" {
            return http(200, &json!({ "bundles": [{ "digest": stored }] }).to_string());
        }
        assert_eq!(path, format!("/diff?from=embedded&to={stored}"));
        let diff = Diff { added: vec!["new_one".to_owned()], ..Diff::default() };
        http(200, &serde_json::to_string(&diff).unwrap())
    });
    let workspace = remote("embedded_diff", &url);
    let text = workspace.succeed(&["diff", "embedded", "rules"]);
    assert!(text.contains("+ new_one") && text.contains(&digest), "{text}");
    workspace.write("rules/policy.toml", "mode = 'enforce'\n");
    let output = workspace.exit_with(1, &["diff", "embedded", "rules"]);
    assert!(output.contains("push it"), "{output}");
}

/// Regression: the diff did not contain changed correlations.
#[test]
fn a_diff_contains_correlations_and_concepts() {
    let sources = hedgerow_sigma::read(&from_root("rules")).unwrap();
    let before = hedgerow_sigma::check(&sources).unwrap().bundle();
    let mut after = before.clone();
    let removed = after.correlations.remove(0).name;
    after.correlations[0].weight += 1.0;
    after.correlations[1].timespan += 60;
    let mut added = removed.clone();
    added.push_str("_too");
    let mut new = before.correlations[0].clone();
    new.name = added.clone();
    after.correlations.push(new);
    after.concepts[0].terms.pop();
    after.concepts[0].terms.extend(["one".to_owned(), "two".to_owned()]);
    let diff = Diff::between(&before, &after);
    let concept = &diff.concepts[0];
    assert_eq!((concept.added, concept.removed, diff.concepts.len()), (2, 1, 1));
    let names: Vec<&str> = diff.weights.iter().map(|change| change.name.as_str()).collect();
    assert_eq!(diff.removed, [removed]);
    assert_eq!(diff.added, [added]);
    assert_eq!(names, [after.correlations[0].name.as_str()]);
    assert_eq!(diff.changed, [after.correlations[1].name.as_str()]);
    assert!(Diff::between(&before, &before).is_empty());
}

#[test]
fn diff_shows_rules_policy_and_decisions() {
    let workspace = Workspace::new("diff");
    let first = workspace.push(5);
    workspace.succeed(&["release"]);
    fs::create_dir_all(workspace.path.join("rules/lists")).unwrap();
    workspace.write(
        "rules/lists/resellers.toml",
        "title = 'Resellers'\nkind = 'as_number'\nweight = 12.0\n[[entry]]\nvalue = '64496'\n",
    );
    workspace.write("rules/policy.toml", "mode = 'enforce'\n[bands]\nsuspect = 40.0\n");
    let text = workspace.succeed(&["diff", "active", "rules"]);
    for part in [
        &format!("from {first}"),
        "~ list_resellers: 1 entries added, 0 removed",
        "~ policy bands.suspect: 50.0 → 40.0",
        "~ policy mode: \"shadow\" → \"enforce\"",
        "~ policy signature[synthesis_pairs].weight: 5.0 → unset",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let second = workspace.json(&["push", "--shadow"])["digest"].as_str().unwrap().to_owned();
    let answer = workspace.json(&["diff", "shadow", &first[..10]]);
    assert_eq!((&answer["from"], &answer["to"]), (&second.clone().into(), &first.into()));
    let diff: Diff = serde_json::from_value(answer["diff"].clone()).unwrap();
    assert_eq!((diff.lists[0].removed, diff.added.len(), diff.changed.len()), (1, 0, 0));
    assert!(workspace.succeed(&["diff", "shadow", "rules"]).contains("no differences"));
    workspace.succeed(&["build", "rules", "-o", "built.json"]);
    assert!(workspace.succeed(&["diff", "built.json", &second]).contains("no differences"));
    assert!(workspace.exit_with(1, &["diff", "canary", "rules"]).contains("has no canary"));
    assert!(workspace.exit_with(2, &["diff", "embedded", "rules"]).contains("in the Worker"));
    assert!(workspace.exit_with(2, &["diff", "nonsense", "rules"]).contains("is not a bundle"));
    workspace.write("rules/policy.toml", "[bands]\nsuspect = 90.0\n");
    write_recording(&workspace, "harvest", 3, 2);
    let answer = workspace.json(&["diff", "shadow", "rules", "--replay", "recording.jsonl"]);
    let replay = &answer["replay"];
    let expected = json!([{ "label": "harvest", "from": "suspect, degrade",
        "to": "notice, tag in shadow", "requests": 2 }]);
    assert_eq!(
        (&replay["requests"], &replay["changed"], &replay["counts"]),
        (&5.into(), &2.into(), &expected)
    );
    let example = &replay["examples"][0];
    assert_eq!((&example["line"], &example["to"]["band"]), (&4.into(), &"notice".into()));
    let text = workspace.succeed(&["diff", "shadow", "rules", "--replay", "recording.jsonl"]);
    assert!(
        text.contains("recording.jsonl:4  a  suspect, degrade 61.31 → notice, tag in shadow 61.31"),
        "{text}"
    );
    assert!(!text.contains("question-answer"), "never the text: {text}");
    // Regression: decisions with the same band but different actions counted as equal.
    workspace.write("rules/policy.toml", "[actions]\nsuspect = 'block'\n");
    workspace.write("rules/policy.toml", "mode = 'enforce'\n[actions]\nsuspect = 'block'\n");
    workspace.succeed(&["build", "rules", "-o", "enforced.json"]);
    workspace.write("rules/policy.toml", "[actions]\nsuspect = 'block'\n");
    let arguments = ["diff", "rules", "enforced.json", "--replay", "recording.jsonl"];
    let replay = &workspace.json(&arguments)["replay"];
    assert_eq!(replay["counts"][0]["from"], "suspect, block in shadow");
    assert_eq!(replay["counts"][0]["to"], "suspect, block");
    workspace.write("rules/pairs.yml", &RULE.replace("level: critical\n", ""));
    assert!(workspace.exit_with(1, &["diff", "active", "rules"]).contains("the level is missing"));
}

#[test]
fn lists_are_parsed_and_their_errors_found() {
    let list = |path: &str, text: &str| {
        let source = RuleFile { path: path.to_owned(), text: text.to_owned() };
        hedgerow_sigma::check(&[source])
            .map(|rules| rules.lists)
            .map_err(|findings| findings.iter().map(ToString::to_string).collect::<Vec<_>>())
    };
    let whole = "title = 'X'\nkind = 'address'\nweight = 5\n\n[[entry]]\n\
                 value = '203.0.113.0/24'\nreason = 'seen'\nuntil = 2027-01-31\n";
    let expected = List {
        name: "list_x".to_owned(),
        title: "X".to_owned(),
        kind: ListKind::Address,
        weight: 5.0,
        entries: vec![ListEntry {
            value: "203.0.113.0/24".to_owned(),
            until: Some(1_801_440_000),
            reason: Some("seen".to_owned()),
        }],
    };
    assert_eq!(list("lists/x.toml", whole).unwrap(), [expected]);
    let rows = [
        ("title", "titel", "1:1: the list has no 'title'"),
        ("kind = 'address'\n", "", "the list has no 'kind'"),
        ("'address'", "'adress'", "2:8: "),
        ("weight = 5", "weight = 500", "3:10: the weight is invalid: expected a number from"),
        ("/24", "/33", "6:9: the value '203.0.113.0/33' is invalid: expected address"),
        ("'seen'", "' '", "7:10: the reason is empty"),
        ("2027-01-31", "'soon'", "8:9: "),
        (
            "\n\n",
            "\n[[entry]]\nvalue = '203.0.113.0/24'\n\n",
            "the value '203.0.113.0/24' is repeated",
        ),
        (
            "'address'",
            "'template'",
            "6:9: the value '203.0.113.0/24' is invalid: expected template",
        ),
        ("value = '203.0.113.0/24'\n", "", "has no 'value'"),
        ("title", "title = 'Y'\ntitle", "2:1: the key is repeated"),
        ("[[entry]]", "[[entry]", "not TOML"),
    ];
    for (from, to, expected) in rows {
        let found = list("lists/x.toml", &whole.replacen(from, to, 1)).unwrap_err();
        let is_found =
            found.iter().any(|line| line.starts_with("lists/x.toml:") && line.contains(expected));
        assert!(is_found, "{to}: {found:#?}");
    }
    let found = list("lists/My List.toml", whole).unwrap_err();
    assert!(found[0].contains("a-z, 0-9 and underscores"), "{found:#?}");
}

#[test]
fn list_entries_count_until_they_expire() {
    let workspace = Workspace::without_key("weighs");
    fs::create_dir_all(workspace.path.join("rules/lists")).unwrap();
    workspace.write(
        "rules/lists/resellers.toml",
        "title = 'R'\nkind = 'as_number'\nweight = 25.0\n\
         [[entry]]\nvalue = '64496'\nuntil = 2027-01-31\n",
    );
    let ruleset =
        || Ruleset::load(&hedgerow_sigma::build(&workspace.path.join("rules")).unwrap()).unwrap();
    let score = |ruleset: &Ruleset, as_number: u32, now: u64| {
        let client = Client { as_number: Some(as_number), ..Client::default() };
        let body = br#"{"messages":[{"role":"user","content":"What grows in a hedgerow?"}]}"#;
        let envelope = Envelope {
            method: "POST",
            path: "/v1/chat/completions",
            body,
            client,
            now,
            ..Envelope::default()
        };
        let assessment = ruleset.assess(&envelope).unwrap();
        let names =
            assessment.hits.iter().map(|hit| ruleset.signatures()[hit.signature].name.clone());
        (assessment.band.name(), names.collect::<Vec<_>>())
    };
    let rules = ruleset();
    let on = ("suspect", vec!["list_resellers".to_owned()]);
    assert_eq!(score(&rules, 64_496, 0), on);
    assert_eq!(score(&rules, 64_497, 0), ("clear", Vec::new()));
    assert_eq!(
        score(&rules, 64_496, 1_801_440_000),
        ("clear", Vec::new()),
        "its last day has passed"
    );
    workspace.write("rules/policy.toml", "[[signature]]\nname = 'list_resellers'\nweight = 1.0\n");
    assert_eq!(score(&ruleset(), 64_496, 0), ("clear", on.1), "the policy changes its weight");
    workspace.write("rules/policy.toml", "[[signature]]\nname = 'list_resellers'\noff = true\n");
    assert_eq!(score(&ruleset(), 64_496, 0), ("clear", Vec::new()), "or switches it off");
}
