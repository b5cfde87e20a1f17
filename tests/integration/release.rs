//! From rules to what is in force: keys, signatures, bundles, releases, and the commands around them.
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

/// A directory of one test, with settings for a registry in `registry` and rules in `rules`.
struct Desk {
    path: PathBuf,
    env: Vec<(&'static str, String)>,
}

const RULE: &str = include_str!("../fixtures/pairs.yml");

const SETTINGS: &str = "directory = 'registry'\nrules = 'rules'\nkey = 'key'\n";

impl Desk {
    /// A directory with settings and rules, and without a key.
    fn bare(name: &str) -> Self {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("release").join(name);
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(path.join("rules")).unwrap();
        fs::write(path.join("rules/pairs.yml"), RULE).unwrap();
        fs::write(path.join("hedgerow.toml"), SETTINGS).unwrap();
        Self { path, env: Vec::new() }
    }

    fn new(name: &str) -> Self {
        let desk = Self::bare(name);
        desk.fine(&["keygen", "--output", "key"]);
        desk
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

    fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Its standard output, of a command that has to succeed.
    fn fine(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {}", all(&output));
        String::from_utf8(output.stdout).unwrap()
    }

    fn json(&self, arguments: &[&str]) -> Value {
        serde_json::from_str(&self.fine(&[&["--format", "json"], arguments].concat())).unwrap()
    }

    /// All output of a command that has to fail so.
    fn fails(&self, code: i32, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}", all(&output));
        all(&output)
    }

    fn write(&self, path: &str, text: &str) {
        fs::write(self.path.join(path), text).unwrap();
    }

    fn read(&self, path: &str) -> String {
        fs::read_to_string(self.path.join(path)).unwrap()
    }

    fn keys(&self) -> TrustedKeys {
        TrustedKeys::parse(&self.read("key.pub")).unwrap()
    }

    fn release(&self) -> Release {
        Release::parse(self.read("registry/release.json").as_bytes()).unwrap()
    }

    /// Changes the rules, so that a push has something new; the digest of that push.
    fn push(&self, weight: i32) -> String {
        self.write(
            "rules/policy.toml",
            &format!("[[signature]]\nname = 'synthesis_pairs'\nweight = {weight}\n"),
        );
        self.json(&["push"])["digest"].as_str().unwrap().to_owned()
    }
}

fn all(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    text(&output.stdout) + &text(&output.stderr)
}

#[test]
fn keys_sign_and_what_was_changed_is_refused() {
    let desk = Desk::new("keys");
    let digest = desk.push(5);
    let path = format!("registry/bundles/{digest}.json");
    let (bundle, signature) = (desk.read(&path), desk.read(&format!("{path}.minisig")));
    let keys = desk.keys();
    assert!(desk.read("key.pub").contains(keys.verify(bundle.as_bytes(), &signature).unwrap()));
    assert!(signature.contains(&format!("trusted comment: hedgerow bundle {digest}")));
    assert!(signature.len() <= 900, "{}", signature.len());
    desk.fine(&["release"]);
    let (release, released) =
        (desk.read("registry/release.json"), desk.read("registry/release.json.minisig"));
    keys.verify(release.as_bytes(), &released).unwrap();
    assert!(released.contains("trusted comment: hedgerow release 1\n"), "{released}");
    let other = Desk::new("keys_other");
    let signed_again = signature.replace("hedgerow bundle", "hedgerow bundles");
    let rows: [(&str, &TrustedKeys, String, &str); 5] = [
        ("another's key", &other.keys(), bundle.clone(), &signature),
        ("a byte", &keys, bundle.replacen("22", "23", 1), &signature),
        ("swapped", &keys, bundle.clone(), &released),
        ("swapped back", &keys, release, &signature),
        ("the comment", &keys, bundle.clone(), &signed_again),
    ];
    for (what, keys, text, signature) in rows {
        assert!(keys.verify(text.as_bytes(), signature).is_err(), "{what}");
    }
    assert!(
        TrustedKeys::default().verify(bundle.as_bytes(), &signature).is_err(),
        "no key, no belief"
    );
}

#[cfg(unix)]
#[test]
fn a_key_is_its_owners_and_never_overwritten() {
    use std::os::unix::fs::PermissionsExt;
    let desk = Desk::new("owner");
    let mode =
        |path: &str| fs::metadata(desk.path.join(path)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("key"), mode("key.pub") & 0o600), (0o600, 0o600));
    let key = desk.read("key");
    let said = desk.fails(2, &["keygen", "--output", "key"]);
    assert!(said.contains("no key is overwritten"), "{said}");
    fs::remove_file(desk.path.join("key")).unwrap();
    desk.fails(2, &["keygen", "--output", "key"]);
    assert!(!desk.path.join("key").exists(), "the public key alone is not overwritten either");
    desk.write("key", &key);
    fs::set_permissions(desk.path.join("key"), fs::Permissions::from_mode(0o644)).unwrap();
    let said = all(&desk.run(&["push"]));
    assert!(said.contains("others can read key") && said.contains("chmod 600"), "{said}");
}

#[test]
fn a_key_may_have_a_passphrase() {
    let desk = Desk::bare("passphrase").with("HEDGEROW_KEY_PASSWORD", "correct horse");
    desk.fine(&["keygen", "--output", "key", "--password"]);
    desk.fine(&["push"]);
    let wrong = Desk { path: desk.path.clone(), env: Vec::new() };
    let said = wrong.fails(2, &["push"]);
    assert!(said.contains("no terminal to ask at; set HEDGEROW_KEY_PASSWORD"), "{said}");
    let wrong = wrong.with("HEDGEROW_KEY_PASSWORD", "battery staple");
    let said = wrong.fails(2, &["push"]);
    assert!(
        said.contains("passphrase does not open this key") && !said.contains("staple"),
        "{said}"
    );
    let said = Desk::bare("no_terminal").fails(2, &["keygen", "--password"]);
    assert!(said.contains("no terminal"), "{said}");
    desk.write("key", "untrusted comment: x\nbm90IGEga2V5\n");
    assert!(desk.fails(2, &["push"]).contains("no minisign secret key"));
    desk.write("key", &desk.read("key.pub"));
    assert!(desk.fails(2, &["push"]).contains("not the .pub beside it"));
}

/// `rsign`, which set-up installs; without it this is not tested here.
#[test]
fn keys_and_signatures_are_those_of_minisign() {
    if Command::new("minisign").arg("-v").output().is_err() {
        return skip("minisign is not installed (Debian: apt-get install minisign)");
    }
    let desk = Desk::new("minisign");
    let digest = desk.push(5);
    desk.fine(&["release"]);
    for file in [format!("registry/bundles/{digest}.json"), "registry/release.json".to_owned()] {
        minisign(&desk, &["-V", "-p", "key.pub", "-m", &file], "");
    }
    minisign(&desk, &["-S", "-s", "key", "-m", "key.pub", "-x", "theirs.minisig"], "");
    desk.keys().verify(desk.read("key.pub").as_bytes(), &desk.read("theirs.minisig")).unwrap();
    // A key with an empty passphrase, and a key without one.
    for (flags, passphrase) in [(&[][..], "\n\n"), (&["-W"][..], "")] {
        let desk = Desk::bare("minisign_key");
        minisign(&desk, &[&["-G", "-p", "key.pub", "-s", "key"], flags].concat(), passphrase);
        desk.fine(&["push", "--release"]);
        let file = "registry/release.json";
        let (release, signature) = (desk.read(file), desk.read(&format!("{file}.minisig")));
        desk.keys().verify(release.as_bytes(), &signature).unwrap();
        minisign(&desk, &["-S", "-s", "key", "-m", file, "-x", "theirs.minisig"], passphrase);
        desk.keys().verify(release.as_bytes(), &desk.read("theirs.minisig")).unwrap();
    }
}

/// Runs the reference implementation of minisign, which reads passphrases from standard input.
fn minisign(desk: &Desk, arguments: &[&str], passphrase: &str) {
    let mut command = Command::new("minisign");
    command.args(arguments).current_dir(&desk.path).stdin(Stdio::piped());
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(passphrase.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "minisign {arguments:?}: {}", all(&output));
}

#[test]
fn the_same_rules_are_pushed_once() {
    let desk = Desk::new("twice");
    let first = desk.json(&["push"]);
    assert_eq!((&first["new"], &first["serial"]), (&true.into(), &1.into()));
    let second = desk.json(&["push"]);
    assert_eq!((&second["new"], &second["digest"]), (&false.into(), &first["digest"]));
    let text = desk.fine(&["push", "--canary", "10"]);
    assert!(text.contains("nothing to upload") && text.contains("release 1 published"), "{text}");
    desk.push(5);
    let digest = desk.push(6);
    let path = format!("registry/bundles/{digest}.json");
    let bundle = Bundle::parse(desk.read(&path).as_bytes()).unwrap();
    assert_eq!((bundle.serial, ruleset::digest(desk.read(&path).as_bytes())), (3, digest));
    assert!(bundle.created > 1_700_000_000);
}

#[test]
fn rules_with_findings_are_not_pushed() {
    let desk = Desk::new("findings");
    for (from, to, found) in [
        ("level: critical\n", "", "no level"),
        ("'Words to train on'", "'question-answer pairs to train on'", "matches alone"),
        ("|contains: 'to train'", "|re: '(to train'", "does not compile"),
    ] {
        desk.write("rules/pairs.yml", &RULE.replace(from, to));
        let said = desk.fails(1, &["push", "--release"]);
        assert!(said.contains("rules/pairs.yml:") && said.contains(found), "{said}");
    }
    assert!(!desk.path.join("registry").exists(), "nothing was written");
}

/// A recording of so many requests that ask a question, and so many that ask for pairs.
fn recording(desk: &Desk, label: &str, clear: usize, suspect: usize) {
    let ask = |content: &str| {
        let body = json!({ "model": "m", "messages": [{ "role": "user", "content": content }] });
        let row =
            json!({ "path": "/v1/chat/completions", "body": body, "label": label, "account": "a" });
        format!("{row}\n")
    };
    let text = ask("What grows in a hedgerow?").repeat(clear)
        + &ask("Ten question-answer pairs to train on, please.").repeat(suspect);
    desk.write("recording.jsonl", &text);
}

#[test]
fn rules_that_hit_the_benign_are_not_pushed() {
    let desk = Desk::new("noise");
    let push = ["push", "--replay", "recording.jsonl"];
    recording(&desk, "benign", 999, 1);
    let text = desk.fine(&push);
    assert!(text.contains("benign requests: 1000, of which 1 notice"), "{text}");
    recording(&desk, "benign", 998, 2);
    let said = desk.fails(1, &push);
    for part in ["2 of 1000 benign requests (0.20 %) are suspect", "0.1 %", "synthesis_pairs", " 2"]
    {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert!(!said.contains("question-answer"), "never the text: {said}");
    desk.write("rules/policy.toml", "[noise]\nsuspect = 1.0\nnotice = 0.1\n");
    let said = desk.fails(1, &push);
    assert!(said.contains("are notice or worse"), "{said}");
    desk.write("rules/policy.toml", "[noise]\nsuspect = 1.0\n");
    desk.fine(&push);
    recording(&desk, "harvest", 0, 5);
    assert!(desk.fails(1, &push).contains("labelled \"benign\""));
    desk.write("recording.jsonl", "not json\n");
    assert!(desk.fails(1, &push).contains("recording.jsonl:1:1: not JSON"));
}

#[test]
fn from_canary_to_everybody_and_back() {
    let desk = Desk::new("sequence");
    let first = desk.push(5);
    desk.fine(&["release", "--note", "the first"]);
    let expected = Release {
        format_version: 1,
        serial: 1,
        created: desk.release().created,
        active: first.clone(),
        canary: None,
        shadow: None,
        expires: None,
        note: "the first".to_owned(),
        author: "ana".to_owned(),
    };
    assert_eq!(desk.release(), expected);
    let second = desk.push(6);
    desk.fine(&["release", "--shadow"]);
    let third = desk.push(7);
    desk.fine(&["release", &third[..8], "--canary", "12.5%", "--expires", "7d"]);
    let release = desk.release();
    assert_eq!((release.serial, &release.active), (3, &first));
    assert_eq!(release.canary, Some(Canary { digest: third.clone(), percent: 12.5 }));
    assert_eq!(release.shadow, Some(ShadowBundle { digest: second.clone() }), "the shadow stays");
    assert_eq!(release.expires.unwrap() - release.created, 604_800);
    desk.fine(&["promote", "--note", "fine so far"]);
    let release = desk.release();
    assert_eq!((release.serial, &release.active), (4, &third));
    assert_eq!((release.canary, release.shadow, release.expires), (None, None, None));
    desk.fine(&["release", &second, "--shadow"]);
    desk.fine(&["promote"]);
    assert_eq!(desk.release().active, second, "without a canary the shadow is promoted");
    let said = desk.fails(1, &["promote"]);
    assert!(said.contains("neither canary nor shadow"), "{said}");
    desk.fine(&["rollback"]);
    assert_eq!(desk.release().active, third, "the one before");
    desk.fine(&["rollback", "--to", &first[..6]]);
    assert_eq!((desk.release().serial, desk.release().active), (8, first.clone()));
    let said = desk.fails(1, &["rollback", "--to", &first]);
    assert!(said.contains("in force already"), "{said}");
    desk.fine(&["release", EMBEDDED]);
    assert_eq!(desk.release().active, EMBEDDED);
    for serial in 1..=9 {
        let path = format!("registry/releases/{serial}.json");
        let (text, signature) = (desk.read(&path), desk.read(&format!("{path}.minisig")));
        desk.keys().verify(text.as_bytes(), &signature).unwrap();
    }
    let left = fs::read_dir(desk.path.join("registry")).unwrap();
    let left = left.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert_eq!(left.filter(|name| name.ends_with(".tmp")).count(), 0);
}

/// `rollback` once moved the active bundle back while a canary was to be ended, and left an end behind.
#[test]
fn a_rollback_ends_the_canary_first() {
    let desk = Desk::new("canary_back");
    let first = desk.push(5);
    desk.fine(&["release", "--expires", "30d"]);
    let ends = desk.release().expires;
    let second = desk.push(6);
    desk.fine(&["release", "--canary", "5"]);
    assert_eq!(desk.release().expires, ends, "what ends still ends, with a canary beside it");
    desk.fine(&["release", &second, "--canary", "25", "--expires", "9d"]);
    assert!(desk.release().expires < ends, "unless another end is given");
    desk.fine(&["rollback"]);
    let release = desk.release();
    assert_eq!((release.active, release.canary, release.shadow), (first.clone(), None, None));
    assert!(desk.fails(1, &["rollback", "--to", &first]).contains("in force already"));
    desk.fine(&["rollback"]);
    assert_eq!(desk.release().active, EMBEDDED, "there was none before the first");
}

/// A bundle that the old key signed was taken for pushed already: with the old key gone from
/// PUBLIC_KEYS, every isolate would have refused the release.
#[test]
fn a_new_key_signs_the_same_rules_anew() {
    let desk = Desk::new("rotation");
    let first = desk.push(5);
    let old = desk.read("key.pub").lines().last().unwrap().to_owned();
    fs::rename(desk.path.join("key"), desk.path.join("old.key")).unwrap();
    fs::rename(desk.path.join("key.pub"), desk.path.join("old.key.pub")).unwrap();
    desk.fine(&["keygen", "--output", "key"]);
    let desk = desk.with("HEDGEROW_PUBLIC_KEYS", &old);
    let second = desk.push(5);
    assert_ne!(first, second);
    let path = format!("registry/bundles/{second}.json");
    let (text, signature) = (desk.read(&path), desk.read(&format!("{path}.minisig")));
    let new = TrustedKeys::parse(&desk.read("key.pub")).unwrap();
    new.verify(text.as_bytes(), &signature).unwrap();
    assert_eq!(desk.push(5), second, "its own it knows");
}

#[test]
fn the_first_release_falls_back_on_the_embedded_rules() {
    let desk = Desk::new("embedded");
    assert!(desk.fails(1, &["release"]).contains("`hedgerow push` first"));
    assert!(desk.fails(1, &["rollback"]).contains("no release yet"));
    let digest = desk.push(5);
    desk.fine(&["release", "--canary", "5"]);
    assert_eq!(
        (desk.release().active, desk.release().canary.unwrap().digest),
        (EMBEDDED.to_owned(), digest.clone())
    );
    desk.fine(&["promote"]);
    desk.fine(&["rollback"]);
    assert_eq!(desk.release().active, EMBEDDED);
    let desk = Desk::new("embedded_none");
    desk.push(5);
    desk.fine(&["release"]);
    desk.fine(&["rollback"]);
    assert_eq!(desk.release().active, EMBEDDED, "nothing was in force before");
}

#[test]
fn what_must_not_be_released_is_refused() {
    let desk = Desk::new("refused");
    let digest = desk.push(5);
    desk.push(6);
    let rows: [(i32, &[&str], &str); 11] = [
        (1, &["release", "--expires", "1d"], "less than two days"),
        (1, &["release", "--expires", "2026-01-01"], "less than two days"),
        (2, &["release", "--expires", "soon"], "no time"),
        (2, &["release", "--canary", "0"], "above 0"),
        (2, &["release", "--canary", "101"], "up to 100"),
        (2, &["release", "--canary", "5", "--shadow"], "cannot be used with"),
        (2, &["release", "xyz!"], "names no bundle"),
        (1, &["release", "0000000000"], "no bundle '0000000000'"),
        (2, &["release", "--wait"], "--wait needs `url`"),
        (2, &["push", "--note", "x"], "add --release"),
        (2, &["push", "--release", "--shadow"], "give one"),
    ];
    for (code, arguments, expected) in rows {
        let said = desk.fails(code, arguments);
        assert!(said.contains(expected), "{arguments:?}: {said}");
    }
    assert!(!desk.path.join("registry/release.json").exists());
    desk.fine(&["release", &digest]);
    let said = desk.fails(1, &["release", &digest, "--canary", "5"]);
    assert!(said.contains("in force for all already"), "{said}");
    // Somebody with write access, and without the key, changes the manifest or a bundle.
    let release = desk.read("registry/release.json");
    desk.write("registry/release.json", &release.replace("\"serial\":1", "\"serial\":2"));
    let said = desk.fails(1, &["release"]);
    assert!(said.contains("one of the two was changed"), "{said}");
    desk.write("registry/release.json", &release);
    let path = format!("registry/bundles/{digest}.json");
    desk.write(&path, &desk.read(&path).replacen("22", "21", 1));
    let said = desk.fails(1, &["release", &digest]);
    assert!(said.contains("other bytes"), "{said}");
}

#[test]
fn what_others_signed_is_built_upon_when_they_are_known() {
    let desk = Desk::new("colleague");
    desk.fine(&["push", "--release"]);
    fs::rename(desk.path.join("key.pub"), desk.path.join("old.pub")).unwrap();
    fs::remove_file(desk.path.join("key")).unwrap();
    desk.fine(&["keygen", "--output", "key"]);
    let said = desk.fails(1, &["release"]);
    assert!(said.contains("not accepted") && said.contains("public_keys"), "{said}");
    let old = desk.read("old.pub").lines().nth(1).unwrap().to_owned();
    desk.write("hedgerow.toml", &format!("{SETTINGS}public_keys = ['{old}']\n"));
    desk.fine(&["release"]);
    assert_eq!(desk.release().serial, 2);
}

#[test]
fn mistakes_in_the_settings_have_a_place() {
    let desk = Desk::new("settings");
    let rows = [
        ("rules = 'rules'\ntokn_file = 'x'\n", "hedgerow.toml:2:1: unknown field `tokn_file`"),
        ("url = 5\n", "hedgerow.toml:1:7: "),
        ("\n  key = \n", "hedgerow.toml:2:"),
        (
            "url = 'https://x'\ndirectory = 'y'\n",
            "hedgerow.toml:2:1: `url` and `directory` exclude",
        ),
        ("token = 'secret-secret-secret-secret'\n", "hedgerow.toml:1:1: unknown field `token`"),
    ];
    for (text, expected) in rows {
        desk.write("hedgerow.toml", text);
        let said = desk.fails(2, &["push"]);
        assert!(said.contains(expected) && !said.contains("secret-secret"), "{text}: {said}");
    }
    desk.write("hedgerow.toml", "rules = 'rules'\nkey = 'key'\n");
    assert!(desk.fails(2, &["push"]).contains("no registry"));
    assert!(desk.fails(2, &["--config", "nowhere.toml", "push"]).contains("nowhere.toml"));
    let elsewhere = Desk { path: desk.path.join("rules"), env: Vec::new() };
    desk.write("hedgerow.toml", SETTINGS);
    elsewhere.fine(&["push", "--config", "../hedgerow.toml"]);
    assert!(desk.path.join("registry/bundles").is_dir(), "paths are relative to the file");
    elsewhere.with("HEDGEROW_CONFIG", "../hedgerow.toml").fine(&["release"]);
    for command in ["status", "audit"] {
        let said = desk.fails(2, &[command]);
        assert!(said.contains("needs `url`"), "{said}");
    }
    let desk = desk.with("HEDGEROW_AUTHOR", "ben");
    desk.fine(&["release"]);
    assert_eq!(desk.release().author, "ben");
    let desk = desk.with("HEDGEROW_URL", "https://a").with("HEDGEROW_DIRECTORY", "b");
    assert!(desk.fails(2, &["push"]).contains("both set"));
}

const TOKEN: &str = "0123456789-a-secret-token-0123456789";

/// Settings for a deployment.
fn remote(name: &str, url: &str) -> Desk {
    let desk = Desk::new(name);
    desk.write("hedgerow.toml", &format!("url = '{url}'\nkey = 'key'\ntoken_file = 'token'\n"));
    desk.write("token", &format!("{TOKEN}\n"));
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = fs::Permissions::from_mode(0o600);
        fs::set_permissions(desk.path.join("token"), mode).unwrap();
    }
    desk
}

/// A server that gives `answer` of every request's first line; whole answers, or what else it likes.
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
fn whatever_a_server_answers_the_token_stays_unseen() {
    let error = |code: &str| {
        format!(
            r#"{{"error":{{"code":"{code}","message":"no: {TOKEN}","remedy":"try \u001b[2J {TOKEN}","serial":41}}}}"#
        )
    };
    let large = "x".repeat(17 << 20);
    let rows: Vec<(Vec<u8>, i32, &str)> = vec![
        (http(401, &error("unauthorized")), 2, "the token was refused"),
        (http(403, &error("scope")), 2, "may only read"),
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
        (http(200, "<html>"), 2, "not what this version expects"),
        (http(200, "[]"), 2, "not what this version expects"),
        (http(200, TOKEN), 2, "not what this version expects"),
        (http(200, &large), 2, "larger than"),
        (b"garbage\r\n\r\n".to_vec(), 2, "GET http://127.0.0.1"),
        (Vec::new(), 2, "GET http://127.0.0.1"),
    ];
    for (number, (answer, code, expected)) in rows.into_iter().enumerate() {
        let desk = remote(&format!("token_{number}"), &serve(move |_| answer.clone()));
        for arguments in [&["release"][..], &["status"], &["--format", "json", "audit"]] {
            let said = desk.fails(code, arguments);
            assert!(said.contains(expected), "{arguments:?} {expected}: {said}");
            assert!(!said.contains(TOKEN) && !said.contains('\u{1b}'), "{arguments:?}: {said}");
        }
    }
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let said = remote("token_gone", &format!("http://{gone}")).fails(2, &["status"]);
    assert!(said.contains("nobody listens there"), "{said}");
}

#[test]
fn the_token_goes_nowhere_unencrypted() {
    let desk = remote("plain", "http://example.com");
    assert!(desk.fails(2, &["status"]).contains("would send the token unencrypted"));
    let rows = [
        ("http://127.0.0.1.example.com", "unencrypted"),
        ("http://localhost@example.com", "unencrypted"),
        ("ftp://example.com", "https://"),
        ("example.com", "https://"),
        ("https://ana@example.com", "user name"),
        ("https://example.com/?x=1", "query"),
    ];
    for (url, expected) in rows {
        let said = desk.fails(2, &["status", "--url", url]);
        assert!(said.contains(expected) && !said.contains(TOKEN), "{url}: {said}");
    }
    desk.write("token", "short");
    let said = desk.fails(2, &["status", "--url", "https://example.com"]);
    assert!(said.contains("token: this is no token") && !said.contains("short\n"), "{said}");
    fs::remove_file(desk.path.join("token")).unwrap();
    assert!(
        desk.fails(2, &["status", "--url", "https://example.com"])
            .contains("should hold the token")
    );
}

#[cfg(unix)]
#[test]
fn a_token_that_others_can_read_is_warned_of() {
    use std::os::unix::fs::PermissionsExt;
    let desk = remote("open", &serve(|_| http(200, "{}")));
    fs::set_permissions(desk.path.join("token"), fs::Permissions::from_mode(0o640)).unwrap();
    let output = desk.run(&["status"]);
    assert_eq!(output.status.code(), Some(0));
    assert!(all(&output).contains("warning: others can read token; run `chmod 600 token`"));
}

#[test]
fn a_deployment_is_pushed_to_and_waited_for() {
    let url = serve(|first| {
        let status = json!({
            "now": 1_800_000_090, "version": "0.1.0", "embedded": "e".repeat(64), "keys": ["RW"],
            "release": { "serial": 6, "kind": "release", "published": 1_800_000_010, "release": {
                "release": 1, "serial": 6, "created": 1_800_000_000, "active": "a".repeat(64),
                "note": "what it is for", "author": "ana" } },
            "publication": { "serial": 6, "pending": null, "attempts": 0, "problem": null },
            "pull": { "url_set": true, "checked": 1_800_000_080, "changed": null, "problem": "404" },
            "ledger": { "reachable": true },
            "traffic": { "seconds": 60, "requests": 200, "by_serial": { "6": 150, "0": 50 },
                "by_ruleset": {}, "by_role": { "active": 200 }, "by_band": {}, "by_action": {},
                "by_colo": {}, "signatures": [{ "name": "synthesis_pairs", "hits": 3 }],
                "errors": [{ "what": "expired", "count": 2 }],
                "shadow": { "ruleset": "b".repeat(64), "requests": 9,
                    "bands": [{ "from": "clear", "to": "notice", "count": 4 }],
                    "signatures": [{ "name": "new_one", "only_active": 0, "only_shadow": 4 }] } },
        });
        let words: Vec<&str> = first.split(' ').collect();
        match (words[0], words[1].strip_prefix("/_hedgerow/v1").unwrap()) {
            ("GET", "/bundles") => http(200, r#"{"bundles":[]}"#),
            ("GET", "/releases?limit=1") => http(200, r#"{"releases":[]}"#),
            ("GET", "/status") => http(200, &status.to_string()),
            ("GET", path) if path.starts_with("/audit") => http(
                200,
                r#"{"entries":[{"id":1,"at":1800000000,"who":"publish","what":"release","subject":"6","author":"ana","from":null,"result":"ok"}]}"#,
            ),
            ("PUT", _) => http(201, "{}"),
            ("POST", "/releases") => {
                http(202, r#"{"serial":1,"published":false,"problem":"KV refused"}"#)
            }
            other => panic!("{other:?}"),
        }
    });
    let desk = remote("deployment", &url);
    let output = desk.run(&["push", "--release", "--wait", "--wait-seconds", "1"]);
    let said = all(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    for part in ["uploaded", "release 1 stored", "KV refused", "release 6 was published after it"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    let text = desk.fine(&["status"]);
    for part in [
        "release     6 (release): active aaaaaaaaaaaa",
        "90 s ago (2027-01-15 08:00), by ana",
        "what it is for",
        "published   6, 80 s ago",
        "pull        looked 10 s ago, something new never",
        "404",
        "by release  6 75.0 %, embedded 25.0 %",
        "only shadow",
        "clear → notice",
        "2  expired",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert_eq!(desk.json(&["status"])["traffic"]["requests"], 200);
    // Without a terminal each look is a line, until somebody ends it.
    let mut watching = desk.command(&["status", "--watch"]).stdout(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(watching.stdout.take().unwrap()).lines();
    let lines: Vec<String> = lines.take(2).map(|line| line.unwrap()).collect();
    watching.kill().unwrap();
    watching.wait().unwrap();
    for line in &lines {
        assert!(line.contains("release 6: 75 % of 200 requests, 2 errors"), "{line}");
    }
    assert_eq!(lines.len(), 2);
    let text = desk.fine(&["audit"]);
    assert!(text.contains("2027-01-15 08:00  publish   release         6"), "{text}");
}

#[test]
fn waiting_ends_when_the_traffic_has_the_release() {
    for (requests, arrived, code, expected) in [
        (100, 96, 0, "release 1: 96 %, arrived"),
        (100, 50, 1, "has not arrived within 1 s: still 50 % on the embedded rules"),
        (0, 0, 1, "no traffic in the last minute"),
    ] {
        let url = serve(move |first| {
            let traffic = json!({ "requests": requests, "by_serial": { "1": arrived, "0": requests - arrived } });
            match first.split(' ').nth(1).unwrap().strip_prefix("/_hedgerow/v1").unwrap() {
                "/bundles" => http(200, r#"{"bundles":[]}"#),
                "/releases?limit=1" => http(200, r#"{"releases":[]}"#),
                "/releases" => http(201, r#"{"serial":1,"published":true,"problem":null}"#),
                "/status" => http(200, &json!({ "traffic": traffic }).to_string()),
                other => panic!("{other}"),
            }
        });
        let desk = remote("waiting", &url);
        let arguments = ["release", EMBEDDED, "--wait", "--wait-seconds", "1"];
        let said = desk.fails(code, &arguments);
        assert!(said.contains(expected) && said.contains("release 1 published"), "{said}");
        let output = desk.run(&[&["--format", "json"][..], &arguments].concat());
        let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(answer["waited"]["done"], code == 0, "{answer}");
    }
}

#[test]
fn only_the_deployment_compares_with_its_embedded_rules() {
    let rules = Desk::bare("embedded_rules").path.join("rules");
    let digest = ruleset::digest(&hedgerow_sigma::build(&rules).unwrap());
    let known = digest.clone();
    let url = serve(move |first| {
        let path = first.split(' ').nth(1).unwrap().strip_prefix("/_hedgerow/v1").unwrap();
        match path == "/bundles" {
            true => http(200, &json!({ "bundles": [{ "digest": known }] }).to_string()),
            false => {
                assert_eq!(path, format!("/diff?from=embedded&to={known}"));
                let diff = Diff { added: vec!["new_one".to_owned()], ..Diff::default() };
                http(200, &serde_json::to_string(&diff).unwrap())
            }
        }
    });
    let desk = remote("embedded_diff", &url);
    let text = desk.fine(&["diff", "embedded", "rules"]);
    assert!(text.contains("+ new_one") && text.contains(&digest), "{text}");
    desk.write("rules/policy.toml", "mode = 'enforce'\n");
    let said = desk.fails(1, &["diff", "embedded", "rules"]);
    assert!(said.contains("push it"), "{said}");
}

/// They were once left out: whoever changed a correlation was told that both decide alike.
#[test]
fn correlations_differ_too() {
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
    let diff = Diff::between(&before, &after);
    let names: Vec<&str> = diff.weights.iter().map(|own| own.name.as_str()).collect();
    assert_eq!(diff.removed, [removed]);
    assert_eq!(diff.added, [added]);
    assert_eq!(names, [after.correlations[0].name.as_str()]);
    assert_eq!(diff.changed, [after.correlations[1].name.as_str()]);
    assert!(Diff::between(&before, &before).is_empty());
}

#[test]
fn differences_are_told() {
    let desk = Desk::new("diff");
    let first = desk.push(5);
    desk.fine(&["release"]);
    fs::create_dir_all(desk.path.join("rules/lists")).unwrap();
    desk.write(
        "rules/lists/resellers.toml",
        "title = 'Resellers'\nkind = 'as_number'\nweight = 12.0\n[[entry]]\nvalue = '64496'\n",
    );
    desk.write("rules/policy.toml", "mode = 'enforce'\n[bands]\nsuspect = 40.0\n");
    let text = desk.fine(&["diff", "active", "rules"]);
    for part in [
        &format!("from {first}"),
        "~ list_resellers: 1 entries added, 0 removed",
        "~ policy bands.suspect: 50.0 → 40.0",
        "~ policy mode: \"shadow\" → \"enforce\"",
        "~ policy signature[synthesis_pairs].weight: 5.0 → unset",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let second = desk.json(&["push", "--shadow"])["digest"].as_str().unwrap().to_owned();
    let answer = desk.json(&["diff", "shadow", &first[..10]]);
    assert_eq!((&answer["from"], &answer["to"]), (&second.clone().into(), &first.into()));
    let diff: Diff = serde_json::from_value(answer["diff"].clone()).unwrap();
    assert_eq!((diff.lists[0].removed, diff.added.len(), diff.changed.len()), (1, 0, 0));
    assert!(desk.fine(&["diff", "shadow", "rules"]).contains("no differences"));
    desk.fine(&["build", "rules", "-o", "built.json"]);
    assert!(desk.fine(&["diff", "built.json", &second]).contains("no differences"));
    assert!(desk.fails(1, &["diff", "canary", "rules"]).contains("has no canary"));
    assert!(desk.fails(2, &["diff", "embedded", "rules"]).contains("in the Worker"));
    assert!(desk.fails(2, &["diff", "nonsense", "rules"]).contains("no file, no directory"));
    desk.write("rules/policy.toml", "[bands]\nsuspect = 90.0\n");
    recording(&desk, "harvest", 3, 2);
    let answer = desk.json(&["diff", "shadow", "rules", "--replay", "recording.jsonl"]);
    let replay = &answer["replay"];
    let expected = json!([{ "label": "harvest", "from": "suspect, degrade", "to": "notice, tag in shadow", "requests": 2 }]);
    assert_eq!(
        (&replay["requests"], &replay["changed"], &replay["counts"]),
        (&5.into(), &2.into(), &expected)
    );
    let example = &replay["examples"][0];
    assert_eq!((&example["line"], &example["to"]["band"]), (&4.into(), &"notice".into()));
    let text = desk.fine(&["diff", "shadow", "rules", "--replay", "recording.jsonl"]);
    assert!(
        text.contains("recording.jsonl:4  a  suspect, degrade 61.31 → notice, tag in shadow 61.31"),
        "{text}"
    );
    assert!(!text.contains("question-answer"), "never the text: {text}");
    // The same band, and yet all else: once it was said that no decision differs.
    desk.write("rules/policy.toml", "[actions]\nsuspect = 'block'\n");
    desk.write("rules/policy.toml", "mode = 'enforce'\n[actions]\nsuspect = 'block'\n");
    desk.fine(&["build", "rules", "-o", "enforced.json"]);
    desk.write("rules/policy.toml", "[actions]\nsuspect = 'block'\n");
    let arguments = ["diff", "rules", "enforced.json", "--replay", "recording.jsonl"];
    let replay = &desk.json(&arguments)["replay"];
    assert_eq!(replay["counts"][0]["from"], "suspect, block in shadow");
    assert_eq!(replay["counts"][0]["to"], "suspect, block");
    desk.write("rules/pairs.yml", &RULE.replace("level: critical\n", ""));
    assert!(desk.fails(1, &["diff", "active", "rules"]).contains("no level"));
}

#[test]
fn findings_of_lists() {
    let list = |path: &str, text: &str| {
        let source = RuleFile { path: path.to_owned(), text: text.to_owned() };
        hedgerow_sigma::check(&[source])
            .map(|rules| rules.lists)
            .map_err(|findings| findings.iter().map(ToString::to_string).collect::<Vec<_>>())
    };
    let whole = "title = 'X'\nkind = 'address'\nweight = 5\n\n[[entry]]\nvalue = '203.0.113.0/24'\nreason = 'seen'\nuntil = 2027-01-31\n";
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
        ("title", "titel", "1:1: this list has no 'title'"),
        ("kind = 'address'\n", "", "this list has no 'kind'"),
        ("'address'", "'adress'", "2:8: "),
        ("weight = 5", "weight = 500", "3:10: the weight is no number from"),
        ("/24", "/33", "6:9: '203.0.113.0/33' is no address"),
        ("'seen'", "' '", "7:10: the reason is empty"),
        ("2027-01-31", "'soon'", "8:9: "),
        ("\n\n", "\n[[entry]]\nvalue = '203.0.113.0/24'\n\n", "stands here twice"),
        ("'address'", "'template'", "6:9: '203.0.113.0/24' is no template"),
        ("value = '203.0.113.0/24'\n", "", "has no 'value'"),
        ("title", "title = 'Y'\ntitle", "2:1: this key stands here twice"),
        ("[[entry]]", "[[entry]", "not TOML"),
    ];
    for (from, to, expected) in rows {
        let found = list("lists/x.toml", &whole.replacen(from, to, 1)).unwrap_err();
        let is_found =
            found.iter().any(|it| it.starts_with("lists/x.toml:") && it.contains(expected));
        assert!(is_found, "{to}: {found:#?}");
    }
    let found = list("lists/My List.toml", whole).unwrap_err();
    assert!(found[0].contains("a-z, 0-9 and underscores"), "{found:#?}");
}

#[test]
fn a_list_weighs_in_a_decision() {
    let desk = Desk::bare("weighs");
    fs::create_dir_all(desk.path.join("rules/lists")).unwrap();
    desk.write(
        "rules/lists/resellers.toml",
        "title = 'R'\nkind = 'as_number'\nweight = 25.0\n[[entry]]\nvalue = '64496'\nuntil = 2027-01-31\n",
    );
    let ruleset =
        || Ruleset::load(&hedgerow_sigma::build(&desk.path.join("rules")).unwrap()).unwrap();
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
    assert_eq!(score(&rules, 64_496, 1_801_440_000), ("clear", Vec::new()), "its last day is over");
    desk.write("rules/policy.toml", "[[signature]]\nname = 'list_resellers'\nweight = 1.0\n");
    assert_eq!(score(&ruleset(), 64_496, 0), ("clear", on.1), "the policy reweighs it");
    desk.write("rules/policy.toml", "[[signature]]\nname = 'list_resellers'\noff = true\n");
    assert_eq!(score(&ruleset(), 64_496, 0), ("clear", Vec::new()), "or switches it off");
}
