//! Tests of maximum memory: the bytes that are allocated at the same time for a bundle with any
//! content, and for a request with any body.
//!
//! Bundles and requests both need limits. A bundle is signed, but a signature does not prove that
//! its author was careful. Any client can send a body.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test that cannot continue must stop, and prints what it measures"
)]

use std::fmt::Write;
use std::sync::atomic::{AtomicBool, Ordering};

use hedgerow_core::correlate::indicator::Indicators;
use hedgerow_core::ruleset::{MAX_BUNDLE_BYTES, MAX_COMPILE_BYTES};
use hedgerow_core::{Envelope, Ruleset};
use hostile_bodies::{hostile_bodies, prose};
use peak_alloc::PeakAlloc;

#[path = "hostile_bodies.rs"]
mod hostile_bodies;

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

/// Whether generated bundles respect all limits of their content, or only [`MAX_BUNDLE_BYTES`].
static RESPECTS_CONTENT_LIMITS: AtomicBool = AtomicBool::new(false);

/// Returns a bundle with as many pieces between `before` and `after` as its limits allow.
fn filled(before: &str, after: &str, piece: &mut dyn FnMut(usize) -> String) -> String {
    let mut text = before.to_owned();
    let max_len = MAX_BUNDLE_BYTES - after.len();
    let respects_content_limits = RESPECTS_CONTENT_LIMITS.load(Ordering::Relaxed);
    let (mut containers, mut values, mut comparisons) = (0, 0, 0);
    for number in 0.. {
        let piece = piece(number);
        if text.len() + piece.len() + 1 > max_len {
            break;
        }
        if respects_content_limits {
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

/// Returns `before`, the first `count` pieces and `after`, without a limit of the length.
fn with_count(
    before: &str,
    after: &str,
    count: usize,
    piece: &mut dyn FnMut(usize) -> String,
) -> String {
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

/// Returns a number written in letters, so that texts have few character sequences in common.
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
            let respects_content_limits = RESPECTS_CONTENT_LIMITS.load(Ordering::Relaxed);
            let (count, length) =
                if respects_content_limits { (8, 127 << 10) } else { (1, MAX_BUNDLE_BYTES - 500) };
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
        ("terms of a concept", {
            let near = r#""near":{"within":"sentence","parts":[["a"],["a"]]}"#;
            let test = format!(r#"{{"field":{{"field":"hedgerow.prompt.user",{near}}}}}"#);
            let signature = format!(r#"{SIGNATURE}"a":{test}}},"condition":{{"is":"a"}}}}"#);
            let before =
                format!(r#"{HEAD}{signature}],"concepts":[{{"name":"a","rare":true,"terms":["#);
            let max =
                if RESPECTS_CONTENT_LIMITS.load(Ordering::Relaxed) { 29_000 } else { usize::MAX };
            filled(&before, "]}]}", &mut |number| match number {
                number if number >= max => " ".repeat(MAX_BUNDLE_BYTES),
                number => format!(r#""{}""#, letters(number, 12)),
            })
        }),
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
            let pieces = with_count("", "", 20_000, &mut |number| string(&letters(number, 6)));
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
            with_count(HEAD, TAIL, 9_999, &mut |number| {
                let words =
                    with_count("", "", 4, &mut |word| string(&letters(number + word * 7, 6)));
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
    if !RESPECTS_CONTENT_LIMITS.load(Ordering::Relaxed) {
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

/// Returns bundles with regexes that are large after parsing or after compilation.
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

/// Tests the limits one after the other, because each test counts all allocations of the process.
#[test]
fn memory_is_bounded() {
    no_bundle_takes_more_than_the_compile_limit();
    no_request_takes_more_than_its_share();
}

fn shipped_rules() -> Vec<u8> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../rules");
    hedgerow_sigma::build(std::path::Path::new(path)).unwrap()
}

/// Bytes that a request may allocate in addition to three times the bytes that were sent.
const REQUEST_ALLOWANCE: usize = 4 << 20;

/// Additional bytes of a brotli request: the window that the decoder allocates if the stream asks
/// for it.
const BROTLI_WINDOW_BYTES: usize = 4 << 20;

/// Maximum bytes that any request may allocate.
const MAX_REQUEST_BYTES: usize = 12 << 20;

/// Regression: four kilobytes of gzip that contained U+FDFA took 176 MB.
fn no_request_takes_more_than_its_share() {
    let ruleset = Ruleset::load(&shipped_rules()).unwrap();
    ruleset.compile_regexes().unwrap();
    let mut highest_share = 0.0_f64;
    for size in [4 << 10, 256 << 10, 1 << 20, (2 << 20) - 100] {
        let mut rows: Vec<(&str, &str, Vec<u8>)> = hostile_bodies(size)
            .into_iter()
            .map(|body| (body.name, body.encoding, body.bytes))
            .collect();
        rows.push(("prose", "", prose(size)));
        for (name, encoding, mut bytes) in rows {
            // The Worker does not read more than the scan window.
            bytes.truncate(2 << 20);
            let peak = measure_request(&ruleset, encoding, &bytes);
            let window = if encoding == "br" { BROTLI_WINDOW_BYTES } else { 0 };
            let limit = (3 * bytes.len() + REQUEST_ALLOWANCE + window).min(MAX_REQUEST_BYTES);
            highest_share = highest_share.max(peak as f64 / limit as f64);
            let (peak, limit) = (peak >> 10, limit >> 10);
            assert!(peak <= limit, "{name} of {} bytes: {peak} of {limit} KiB", bytes.len());
        }
    }
    println!("requests take at most {:.0} % of their limit", highest_share * 100.0);
    assert!(highest_share > 0.5, "{highest_share}: the bodies do not measure the limit");
}

/// Returns the maximum bytes that are allocated at the same time for a request, including its body.
fn measure_request(ruleset: &Ruleset, encoding: &str, body: &[u8]) -> usize {
    let headers = [("content-encoding".to_owned(), encoding.to_owned())];
    let indicators = Indicators::default();
    let envelope = Envelope {
        method: "POST",
        path: "/v1/chat/completions",
        headers: &headers,
        body,
        indicators: Some(&indicators),
        ..Envelope::default()
    };
    // Fills the regex caches before the measurement, because they belong to the ruleset and not to
    // the request.
    ruleset.assess(&envelope);
    let before = ALLOCATOR.current_usage();
    ALLOCATOR.reset_peak_usage();
    ruleset.assess(&envelope);
    ALLOCATOR.peak_usage() - before + body.len()
}

fn no_bundle_takes_more_than_the_compile_limit() {
    let rules = String::from_utf8(shipped_rules()).unwrap();
    let mut worst = measure("the shipped rules", &rules);
    let mut loaded = 0;
    for respects_content_limits in [false, true] {
        RESPECTS_CONTENT_LIMITS.store(respects_content_limits, Ordering::Relaxed);
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
    /// Maximum bytes that were allocated at the same time.
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
