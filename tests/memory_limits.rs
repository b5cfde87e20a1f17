//! Maximum memory of a bundle with any content: bytes allocated at once while it is loaded and
//! compiled. A bundle is signed, but a signature does not prove that its author was careful.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test that cannot continue must stop, and prints what it measures"
)]

use std::fmt::Write;
use std::sync::atomic::{AtomicBool, Ordering};

use hedgerow_core::Ruleset;
use hedgerow_core::ruleset::{MAX_BUNDLE_BYTES, MAX_COMPILE_BYTES};
use peak_alloc::PeakAlloc;

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

/// Whether bundles keep the limits of their content, or only [`MAX_BUNDLE_BYTES`].
static KEEPS_LIMITS: AtomicBool = AtomicBool::new(false);

/// Returns a bundle of as many pieces as fit between `before` and `after`.
fn filled(before: &str, after: &str, piece: &mut dyn FnMut(usize) -> String) -> String {
    let mut text = before.to_owned();
    let max_len = MAX_BUNDLE_BYTES - after.len();
    let keeps_limits = KEEPS_LIMITS.load(Ordering::Relaxed);
    let (mut containers, mut values, mut comparisons) = (0, 0, 0);
    for number in 0.. {
        let piece = piece(number);
        if text.len() + piece.len() + 1 > max_len {
            break;
        }
        if keeps_limits {
            containers += piece.matches(['{', '[']).count();
            values += piece.matches(['{', '[', ',']).count() + 1;
            let max_comparisons = if piece.contains("regex") { 9_990 } else { 49_900 };
            comparisons += piece.matches(r#""field":{"#).count();
            if containers > 199_000 || values > 399_000 || comparisons > max_comparisons {
                break;
            }
            let is_literal = piece.starts_with('"') && piece.len() > 3 && !piece.contains(':');
            if is_literal && number > 59_000 {
                break;
            }
        }
        if number > 0 {
            text.push(',');
        }
        text += &piece;
    }
    text + after
}

/// Returns the first `count` pieces between `before` and `after`, of any length.
fn some(before: &str, after: &str, count: usize, piece: &mut dyn FnMut(usize) -> String) -> String {
    let pieces: Vec<String> = (0..count).map(piece).collect();
    format!("{before}{}{after}", pieces.join(","))
}

const HEAD: &str = r#"{"format":1,"policy":{},"sources":{},"signatures":["#;
const TAIL: &str = "]}";
const SIGNATURE: &str =
    r#"{"name":"a","id":"a","title":"","family":"a","status":"stable","weight":1,"selections":{"#;

/// Returns a bundle of one signature whose only selection contains the pieces.
fn selection(before: &str, after: &str, piece: &mut dyn FnMut(usize) -> String) -> String {
    let before = format!(r#"{HEAD}{SIGNATURE}"a":{before}"#);
    filled(&before, &format!(r#"{after}}},"condition":{{"is":"a"}}}}{TAIL}"#), piece)
}

fn string(value: &str) -> String {
    let test = format!(r#""string":{{"string_match":"contains","value":"{value}"}}"#);
    format!(r#"{{"field":{{"field":"hedgerow.prompt.user",{test}}}}}"#)
}

fn regex(pattern: &str, literal: &str) -> String {
    let literals = format!(r#"[{{"alternatives":["{literal}"],"min_distance":0}}]"#);
    let regex = format!(r#"{{"pattern":"{pattern}","required_literals":{literals}}}"#);
    format!(r#"{{"field":{{"field":"hedgerow.prompt.user","regex":{regex}}}}}"#)
}

/// Returns the number in letters, so that texts share few grams.
fn letters(mut number: usize, length: usize) -> String {
    let mut text = String::new();
    for _ in 0..length {
        text.push(char::from(b'a' + (number % 26) as u8));
        number = number / 26 + number % 7 * 1_000_003;
    }
    text
}

fn nested(inner: &str, outer: &str, depth: usize) -> String {
    format!("{}{inner}{}", format!(r#"{{"{outer}":["#).repeat(depth), "]}".repeat(depth))
}

fn shapes() -> Vec<(&'static str, String)> {
    let any = |inner: &str| format!(r#"{{"any":[{inner}]}}"#);
    let mut shapes = vec![
        ("empty selections", selection(r#"{"any":["#, "]}", &mut |_| any(""))),
        ("nested selections", selection(r#"{"any":["#, "]}", &mut |_| nested("", "any", 40))),
        ("comparisons", selection(r#"{"any":["#, "]}", &mut |number| string(&letters(number, 6)))),
        (
            "comparisons with case",
            selection(r#"{"any":["#, "]}", &mut |number| {
                let value = letters(number, 12);
                string(&value).replace(r#""value""#, r#""cased":true,"value""#)
            }),
        ),
        (
            "numbers",
            selection(r#"{"any":["#, "]}", &mut |number| {
                let test = format!(r#""number":{{"comparator":"gt","value":{number}}}"#);
                format!(r#"{{"field":{{"field":"hedgerow.turns",{test}}}}}"#)
            }),
        ),
        (
            "headers",
            selection(r#"{"any":["#, "]}", &mut |number| {
                format!(r#"{{"field":{{"field":"http.request.header.{number}","exists":true}}}}"#)
            }),
        ),
        (
            "networks",
            selection(r#"{"any":["#, "]}", &mut |number| {
                let (a, b) = (number / 256 % 256, number % 256);
                format!(r#"{{"field":{{"field":"client.address","cidr":"10.{a}.{b}.0/24"}}}}"#)
            }),
        ),
        (
            "regexes",
            selection(r#"{"any":["#, "]}", &mut |number| {
                let word = letters(number, 8);
                regex(&word, &word)
            }),
        ),
        ("long literals", {
            let keeps_limits = KEEPS_LIMITS.load(Ordering::Relaxed);
            let (count, length) =
                if keeps_limits { (8, 127 << 10) } else { (1, MAX_BUNDLE_BYTES - 500) };
            selection(r#"{"any":["#, "]}", &mut |number| {
                if number >= count {
                    return " ".repeat(MAX_BUNDLE_BYTES);
                }
                let words = (0..length / 8).map(|at| letters(at * 9 + number, 8));
                string(&words.collect::<String>())
            })
        }),
        (
            "comparisons and regexes",
            selection(r#"{"any":["#, "]}", &mut |number| match number % 8 {
                0 => regex(&format!("{}(?:ab?|c?d){{9}}", letters(number, 8)), &letters(number, 8)),
                _ => string(&letters(number, 12)).replace(r#""value""#, r#""cased":true,"value""#),
            }),
        ),
        (
            "required literals",
            selection(
                concat!(
                    r#"{"field":{"field":"hedgerow.prompt.user","regex":{"pattern":"a","#,
                    r#""required_literals":[{"min_distance":0,"alternatives":["#,
                ),
                "]}]}}}",
                &mut |number| format!(r#""{}""#, letters(number, 5)),
            ),
        ),
        (
            "empty required literals",
            selection(
                concat!(
                    r#"{"field":{"field":"hedgerow.prompt.user","regex":{"pattern":"a","#,
                    r#""required_literals":["#,
                ),
                "]}}}",
                &mut |_| r#"{"min_distance":0,"alternatives":[""]}"#.to_owned(),
            ),
        ),
        (
            "arrays where a comparison should be",
            selection(r#"{"field":{"field":"hedgerow.prompt.user","regex":["#, "]}}", &mut |_| {
                "[]".to_owned()
            }),
        ),
        (
            "numbers where a comparison should be",
            selection(r#"{"field":{"field":"hedgerow.prompt.user","other":["#, "]}}", &mut |_| {
                "1".to_owned()
            }),
        ),
        (
            "conditions",
            filled(
                &format!(r#"{HEAD}{SIGNATURE}"a":{}}},"condition":{{"any":["#, string("abcdef")),
                &format!("]}}}}{TAIL}"),
                &mut |_| nested(r#"{"is":"a"}"#, "any", 20),
            ),
        ),
        ("conditions that repeat a selection", {
            let pieces = some("", "", 20_000, &mut |number| string(&letters(number, 6)));
            filled(
                &format!(r#"{HEAD}{SIGNATURE}"a":{{"any":[{pieces}]}}}},"condition":{{"any":["#),
                &format!("]}}}}{TAIL}"),
                &mut |_| r#"{"is":"a"}"#.to_owned(),
            )
        }),
        (
            "selections",
            filled(
                &format!(r#"{HEAD}{SIGNATURE}"a":{{"any":[]}},"#),
                &format!(r#"}},"condition":{{"is":"a"}}}}{TAIL}"#),
                &mut |number| format!(r#""{number}":{{"any":[]}}"#),
            ),
        ),
        (
            "signatures",
            filled(HEAD, TAIL, &mut |_| {
                format!(r#"{SIGNATURE}"":{{"any":[]}}}},"condition":{{"any":[]}}}}"#)
            }),
        ),
        ("ten thousand signatures with shared words", {
            some(HEAD, TAIL, 9_999, &mut |number| {
                let words = some("", "", 4, &mut |word| string(&letters(number + word * 7, 6)));
                format!(r#"{SIGNATURE}"":{{"any":[{words}]}}}},"condition":{{"is":""}}}}"#)
            })
        }),
        (
            "sources",
            filled(r#"{"format":1,"policy":{},"signatures":[],"sources":{"#, "}}", &mut |number| {
                format!(r#""{number}":"""#)
            }),
        ),
    ];
    shapes.extend(lists());
    shapes.extend(policies());
    if !KEEPS_LIMITS.load(Ordering::Relaxed) {
        shapes.extend(patterns());
    }
    shapes
}

const LISTS: &str = r#"{"format":1,"policy":{},"sources":{},"signatures":[],"lists":["#;

fn lists() -> Vec<(&'static str, String)> {
    let list = |kind: &str, entry: &mut dyn FnMut(usize) -> String| {
        let list = format!(r#"{{"name":"a","title":"","kind":"{kind}","weight":1,"entries":["#);
        filled(&format!("{LISTS}{list}"), "]}]}", entry)
    };
    vec![
        ("list of AS numbers", list("as_number", &mut |_| r#"{"value":"1"}"#.to_owned())),
        ("list of addresses", list("address", &mut |_| r#"{"value":"::"}"#.to_owned())),
        ("list of fingerprints", list("tls_fingerprint", &mut |_| r#"{"value":"a"}"#.to_owned())),
        (
            "lists",
            filled(LISTS, "]}", &mut |_| {
                r#"{"name":"","title":"","kind":"account","weight":1,"entries":[]}"#.to_owned()
            }),
        ),
    ]
}

fn policies() -> Vec<(&'static str, String)> {
    let policy = |before: &str, after: &str, piece: &mut dyn FnMut(usize) -> String| {
        let after = format!(r#"{after}}},"sources":{{}},"signatures":[]}}"#);
        filled(&format!(r#"{{"format":1,"policy":{{{before}"#), &after, piece)
    };
    vec![
        (
            "exemptions",
            policy(r#""exemption":["#, "]", &mut |_| {
                r#"{"name":"","reason":"","until":1}"#.to_owned()
            }),
        ),
        (
            "exempted signatures",
            policy(
                r#""exemption":[{"name":"","reason":"","until":1,"signatures":["#,
                "]}]",
                &mut |_| r#""""#.to_owned(),
            ),
        ),
        ("routes", policy(r#""route":["#, "]", &mut |_| r#"{"path":""}"#.to_owned())),
        ("accounts", policy(r#""account":["#, "]", &mut |_| r#"{"id":""}"#.to_owned())),
        ("overrides", policy(r#""signature":["#, "]", &mut |_| r#"{"name":""}"#.to_owned())),
        ("caps", policy(r#""score":{"caps":{"#, "}}", &mut |number| format!(r#""{number}":1"#))),
    ]
}

/// Returns bundles with patterns that are large after parsing or after compilation.
fn patterns() -> Vec<(&'static str, String)> {
    let mut shapes = Vec::new();
    let pieces = [
        ("letters", "a"),
        ("classes", r"\\w"),
        ("case-insensitive classes", r"(?i:\\pL)"),
        ("groups", "(?:a|b)"),
        ("repetitions", r"\\w{9}"),
        ("nested repetitions", r"(?:(?:\\w{1,40}){1,40}){1,40}"),
        ("empty repetitions", "(?:){999}"),
        ("empty alternatives", "|"),
    ];
    for length in [500, 4_000, MAX_BUNDLE_BYTES - 1_000] {
        for (name, piece) in pieces {
            let mut is_first = true;
            let pattern = piece.repeat(length / piece.len());
            let text = selection(r#"{"any":["#, "]}", &mut |number| {
                let mut prefix = String::new();
                let _ = write!(prefix, "word{}", letters(number, 4));
                if length > 4_000 && !is_first {
                    return " ".repeat(MAX_BUNDLE_BYTES);
                }
                is_first = false;
                regex(&format!("{prefix}{pattern}"), &prefix)
            });
            shapes.push((name, text));
        }
    }
    shapes
}

#[test]
fn no_bundle_takes_more_than_the_compile_limit() {
    let rules = hedgerow_sigma::build(std::path::Path::new(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../rules"
    )))
    .unwrap();
    let rules = String::from_utf8(rules).unwrap();
    let mut worst = measure("the shipped rules", &rules);
    let mut loaded = 0;
    for keeps_limits in [false, true] {
        KEEPS_LIMITS.store(keeps_limits, Ordering::Relaxed);
        for (name, text) in shapes() {
            assert!(text.len() <= MAX_BUNDLE_BYTES, "{name}: {}", text.len());
            let measured = measure(name, &text);
            loaded += usize::from(measured.is_loaded);
            if measured.peak > worst.peak {
                worst = measured;
            }
        }
    }
    let Measured { name, peak, .. } = worst;
    println!("worst: {name} with {} KiB; {loaded} bundles load", peak >> 10);
    assert!(peak <= MAX_COMPILE_BYTES, "{name} takes {peak} bytes");
    assert!(loaded > 10, "bundles that are rejected at once measure nothing: {loaded}");
}

struct Measured<'n> {
    name: &'n str,
    /// Maximum bytes that were allocated at once.
    peak: usize,
    is_loaded: bool,
}

/// Loads and compiles a bundle, and measures the allocations.
fn measure<'n>(name: &'n str, text: &str) -> Measured<'n> {
    let before = ALLOCATOR.current_usage();
    ALLOCATOR.reset_peak_usage();
    let loaded = Ruleset::load(text.as_bytes());
    let load = ALLOCATOR.peak_usage() - before;
    let loaded = loaded.and_then(|ruleset| ruleset.compile_regexes().map(|()| ruleset));
    let peak = ALLOCATOR.peak_usage() - before;
    let held = ALLOCATOR.current_usage() - before;
    let result: String = match &loaded {
        Ok(_) => "loads".to_owned(),
        Err(error) => error.to_string().chars().take(100).collect(),
    };
    println!(
        "{:>6} KiB ({:>6} to load, {:>6} held) of {:>5}: {name}: {result}",
        peak >> 10,
        load >> 10,
        held >> 10,
        text.len() >> 10
    );
    Measured { name, peak, is_loaded: loaded.is_ok() }
}
