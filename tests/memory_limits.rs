//! What a bundle takes at most, whatever stands in it: the bytes live at once while it is loaded and
//! checked. A bundle is signed, but a signature says who made it, not that its maker was careful.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test that cannot go on should stop; the numbers are wanted in its output"
)]

use std::fmt::Write;
use std::sync::atomic::{AtomicBool, Ordering};

use hedgerow_core::Ruleset;
use hedgerow_core::ruleset::{MAX_BUNDLE_BYTES, MAX_COMPILE_BYTES};
use peak_alloc::PeakAlloc;

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

/// Whether bundles stay within the limits on what they hold, or only within [`MAX_BYTES`].
static IS_WITHIN: AtomicBool = AtomicBool::new(false);

/// A bundle of as many pieces as fit, between what stands before and behind them.
fn filled(before: &str, behind: &str, piece: &mut dyn FnMut(usize) -> String) -> String {
    let mut text = before.to_owned();
    let room = MAX_BUNDLE_BYTES - behind.len();
    let is_within = IS_WITHIN.load(Ordering::Relaxed);
    let (mut containers, mut values, mut comparisons) = (0, 0, 0);
    for number in 0.. {
        let piece = piece(number);
        if text.len() + piece.len() + 1 > room {
            break;
        }
        if is_within {
            containers += piece.matches(['{', '[']).count();
            values += piece.matches(['{', '[', ',']).count() + 1;
            let most = if piece.contains("regex") { 9_990 } else { 49_900 };
            comparisons += piece.matches(r#""field":{"#).count();
            if containers > 199_000 || values > 399_000 || comparisons > most {
                break;
            }
            if piece.starts_with('"') && piece.len() > 3 && !piece.contains(':') && number > 59_000
            {
                break;
            }
        }
        if number > 0 {
            text.push(',');
        }
        text += &piece;
    }
    text + behind
}

/// The first `count` pieces, however long that is.
fn some(
    before: &str,
    behind: &str,
    count: usize,
    piece: &mut dyn FnMut(usize) -> String,
) -> String {
    let pieces: Vec<String> = (0..count).map(piece).collect();
    format!("{before}{}{behind}", pieces.join(","))
}

const HEAD: &str = r#"{"format":2,"policy":{},"sources":{},"signatures":["#;
const TAIL: &str = "]}";
const SIGNATURE: &str =
    r#"{"name":"a","id":"a","title":"","family":"a","status":"stable","weight":1,"selections":{"#;

/// A bundle of one signature, whose only selection holds `pieces`.
fn selection(before: &str, behind: &str, piece: &mut dyn FnMut(usize) -> String) -> String {
    let before = format!(r#"{HEAD}{SIGNATURE}"a":{before}"#);
    filled(&before, &format!(r#"{behind}}},"condition":{{"is":"a"}}}}{TAIL}"#), piece)
}

fn string(value: &str) -> String {
    format!(
        r#"{{"field":{{"field":"hedgerow.prompt.user","string":{{"string_match":"contains","value":"{value}"}}}}}}"#
    )
}

fn regex(pattern: &str, literal: &str) -> String {
    format!(
        r#"{{"field":{{"field":"hedgerow.prompt.user","regex":{{"pattern":"{pattern}","required_literals":[{{"alternatives":["{literal}"],"min_distance":0}}]}}}}}}"#
    )
}

/// The number in letters: no two grams are alike for long.
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
        ("empty tests", selection(r#"{"any":["#, "]}", &mut |_| any(""))),
        ("tests of one", selection(r#"{"any":["#, "]}", &mut |_| nested("", "any", 40))),
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
                format!(
                    r#"{{"field":{{"field":"hedgerow.turns","number":{{"comparator":"gt","value":{number}}}}}}}"#
                )
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
            let is_within = IS_WITHIN.load(Ordering::Relaxed);
            let (count, length) =
                if is_within { (8, 127 << 10) } else { (1, MAX_BUNDLE_BYTES - 500) };
            selection(r#"{"any":["#, "]}", &mut |number| match number < count {
                true => string(
                    &(0..length / 8).map(|at| letters(at * 9 + number, 8)).collect::<String>(),
                ),
                false => " ".repeat(MAX_BUNDLE_BYTES),
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
            "required_literals",
            selection(
                r#"{"field":{"field":"hedgerow.prompt.user","regex":{"pattern":"a","required_literals":[{"min_distance":0,"alternatives":["#,
                "]}]}}}",
                &mut |number| format!(r#""{}""#, letters(number, 5)),
            ),
        ),
        (
            "empty required literals",
            selection(
                r#"{"field":{"field":"hedgerow.prompt.user","regex":{"pattern":"a","required_literals":["#,
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
            "ones where a comparison should be",
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
        ("ten thousand signatures of the same words", {
            some(HEAD, TAIL, 9_999, &mut |number| {
                let words = some("", "", 4, &mut |word| string(&letters(number + word * 7, 6)));
                format!(r#"{SIGNATURE}"":{{"any":[{words}]}}}},"condition":{{"is":""}}}}"#)
            })
        }),
        (
            "sources",
            filled(r#"{"format":2,"policy":{},"signatures":[],"sources":{"#, "}}", &mut |number| {
                format!(r#""{number}":"""#)
            }),
        ),
    ];
    shapes.extend(lists());
    shapes.extend(policies());
    if !IS_WITHIN.load(Ordering::Relaxed) {
        shapes.extend(patterns());
    }
    shapes
}

fn lists() -> Vec<(&'static str, String)> {
    let list = |kind: &str, entry: &mut dyn FnMut(usize) -> String| {
        filled(
            &format!(
                r#"{{"format":2,"policy":{{}},"sources":{{}},"signatures":[],"lists":[{{"name":"a","title":"","kind":"{kind}","weight":1,"entries":["#
            ),
            "]}]}",
            entry,
        )
    };
    vec![
        ("list of systems", list("as_number", &mut |_| r#"{"value":"1"}"#.to_owned())),
        ("list of addresses", list("address", &mut |_| r#"{"value":"::"}"#.to_owned())),
        ("list of fingerprints", list("tls_fingerprint", &mut |_| r#"{"value":"a"}"#.to_owned())),
        (
            "lists",
            filled(
                r#"{"format":2,"policy":{},"sources":{},"signatures":[],"lists":["#,
                "]}",
                &mut |_| {
                    r#"{"name":"","title":"","kind":"account","weight":1,"entries":[]}"#.to_owned()
                },
            ),
        ),
    ]
}

fn policies() -> Vec<(&'static str, String)> {
    let policy = |before: &str, behind: &str, piece: &mut dyn FnMut(usize) -> String| {
        let behind = format!(r#"{behind}}},"sources":{{}},"signatures":[]}}"#);
        filled(&format!(r#"{{"format":2,"policy":{{{before}"#), &behind, piece)
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

/// Patterns that are large once they are read, or once they are compiled.
fn patterns() -> Vec<(&'static str, String)> {
    let mut shapes = Vec::new();
    let pieces = [
        ("letters", "a"),
        ("classes", r"\\w"),
        ("classes of either case", r"(?i:\\pL)"),
        ("groups", "(?:a|b)"),
        ("repetitions", r"\\w{9}"),
        ("nested repetitions", r"(?:(?:\\w{1,40}){1,40}){1,40}"),
        ("empty repetitions", "(?:){999}"),
        ("nothing", "|"),
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
fn no_bundle_takes_more_than_is_said() {
    let rules = hedgerow_sigma::build(std::path::Path::new(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../rules"
    )))
    .unwrap();
    let rules = String::from_utf8(rules).unwrap();
    let mut worst = ("", measured("the shipped rules", &rules));
    for is_within in [false, true] {
        IS_WITHIN.store(is_within, Ordering::Relaxed);
        for (name, text) in shapes() {
            assert!(text.len() <= MAX_BUNDLE_BYTES, "{name}: {}", text.len());
            let peak = measured(name, &text);
            if peak > worst.1 {
                worst = (name, peak);
            }
        }
    }
    println!("worst: {} with {} KiB", worst.0, worst.1 >> 10);
    assert!(worst.1 <= MAX_COMPILE_BYTES, "{} takes {} bytes", worst.0, worst.1);
}

/// The most bytes that were live at once.
fn measured(name: &str, text: &str) -> usize {
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
    peak
}
