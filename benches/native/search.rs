//! Searches for bodies that are expensive to score. Tries random texts in random JSON shapes, and
//! random changes of the most expensive bodies found so far. The cost of a body is its scoring time
//! relative to prose of equal size.

use std::io::Write;
use std::time::{Duration, Instant};

use flate2::Compression;
use flate2::write::GzEncoder;
use hedgerow_bench::PhaseBench;
use serde_json::Value;

/// Bytes of each body before compression.
const BODY_BYTES: usize = 256 << 10;
/// Number of the most expensive bodies that the search keeps and changes.
const KEPT: usize = 12;

/// Pieces of text: escapes, expanding characters, marks, look-alikes, white space, and ASCII.
const ATOMS: &[&str] = &[
    r"\b",
    r"\f",
    r"\n",
    r"\t",
    r#"\""#,
    r"\\",
    r"\/",
    r"\u0061",
    r"\u0001",
    r"\u0301",
    r"\u200b",
    r"\ufdfa",
    r"\u0130",
    r"\ud83d\ude00",
    r"\ud83d",
    r"\q",
    "\u{1}",
    "\u{7f}",
    "\u{fdfa}",
    "\u{fdfb}",
    "\u{3300}",
    "\u{3316}",
    "\u{2a74}",
    "\u{bd}",
    "\u{958}",
    "\u{130}",
    "\u{301}",
    "\u{323}",
    "\u{345}",
    "\u{1112}",
    "\u{1161}",
    "\u{11a8}",
    "\u{ac00}",
    "\u{430}",
    "\u{449}",
    "\u{200b}",
    "\u{ad}",
    "\u{1f600}",
    "\u{e01}",
    "\u{e38}",
    "\u{e33}",
    "\u{915}",
    "\u{93c}",
    "\u{627}",
    "\u{64b}",
    "\u{3042}",
    "\u{3099}",
    "\u{ff76}",
    "\u{ff9e}",
    "\u{4e00}",
    "\u{2026}",
    "\u{201c}",
    "\u{a0}",
    "\u{1e9b}",
    "\u{fb01}",
    "\u{1d4b7}",
    " ",
    "  ",
    "a",
    "A",
    "e",
    ".",
    "1",
];

/// Shapes of a body: its beginning, the JSON before each repetition of the text, the JSON after
/// each repetition, and the end of the body.
const SHAPES: &[[&str; 4]] = &[
    [r#"{"messages":[{"role":"user","content":""#, "", "", r#""}]}"#],
    [r#"{"messages":[{"role":"user","content":["#, r#"{"text":""#, r#""},"#, r#"""]}]}"#],
    [r#"{"messages":["#, r#"{"role":"user","content":""#, r#""},"#, r#""a"]}"#],
    [r#"{"messages":["#, r#"{"content":""#, r#"","role":"tool"},"#, r#""a"]}"#],
    [r#"{"messages":["#, "\"", "\",", r#""a"]}"#],
    [r#"{"messages":["a"],"tools":[{"properties":{"#, "\"", r#"":{},"#, r#""a":1}}]}"#],
    [r#"{"messages":["a"],"stop":["#, "\"", "\",", r#""a"]}"#],
    ["{", "\"", "\":1,", r#""messages":["a"]}"#],
    ["{", r#""model":""#, "\",", r#""messages":["a"]}"#],
    [r#"{"messages":["#, r#"{"content":""#, r#"","x":{"content":"b","#, ""],
    [r#"{"messages":[{"content":["#, r#"[{"content":""#, r#""}],"#, r#"""]}]}"#],
    [r#"{"messages":[{"tool_calls":["#, r#"{"function":{"arguments":""#, r#""}},"#, "1]}]}"],
    [r#"{"input":["#, r#"{"type":"function_call_output","output":""#, r#""},"#, r#""a"]}"#],
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Encoding {
    Plain,
    Utf16,
    Gzip,
}

/// A recipe for a body, and its cost.
#[derive(Clone, Debug)]
struct Candidate {
    shape: usize,
    /// Text of one repetition, escaped for a JSON string.
    unit: String,
    /// Repetitions of the unit in one string.
    repeats: usize,
    encoding: Encoding,
    cost: f64,
}

/// A linear congruential generator of random numbers.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963);
        (self.0 >> 33) as usize % bound.max(1)
    }

    fn pick<'t, T>(&mut self, list: &'t [T]) -> &'t T {
        &list[self.below(list.len())]
    }
}

/// Searches for `seconds`, and prints the most expensive recipes with their cost.
pub fn search(bundle: &[u8], seconds: u64) {
    let bench = PhaseBench::new(bundle).expect("the bundle is valid");
    let words = literals(&serde_json::from_slice(bundle).expect("the bundle is JSON"));
    let prose = Candidate {
        shape: 0,
        unit: "The gate keeps the hedge near row 12. A lane follows the old orchard, and ends. "
            .to_owned(),
        repeats: BODY_BYTES,
        encoding: Encoding::Plain,
        cost: 1.0,
    };
    let prose_seconds = |bench: &PhaseBench| time(bench, &prose.body(), 5);
    let mut random = Random(seconds ^ 0x9e37_79b9);
    let mut best: Vec<Candidate> = Vec::new();
    let start = Instant::now();
    let mut tried = 0_u32;
    while start.elapsed() < Duration::from_secs(seconds) {
        let mut candidate = match best.get(random.below(2 * KEPT)) {
            Some(parent) => parent.changed(&words, &mut random),
            None => Candidate::random(&words, &mut random),
        };
        let body = candidate.body();
        candidate.cost = time(&bench, &body, 2) / prose_seconds(&bench);
        tried += 1;
        let is_known =
            best.iter().any(|known| known.is_like(&candidate) && known.cost >= candidate.cost);
        if !is_known
            && best.len().checked_sub(KEPT).is_none_or(|_| candidate.cost > best[KEPT - 1].cost)
        {
            // Measures again and takes the lower cost, because noise can only increase a time.
            candidate.cost = candidate.cost.min(time(&bench, &body, 9) / prose_seconds(&bench));
            best.retain(|known| !known.is_like(&candidate) || known.cost > candidate.cost);
            best.push(candidate);
            best.sort_by(|a, b| b.cost.total_cmp(&a.cost));
            best.truncate(KEPT);
        }
    }
    println!("{tried} bodies of {BODY_BYTES} bytes; times the cost of prose:");
    for found in best {
        let Candidate { unit, repeats, encoding, cost, .. } = &found;
        println!("{cost:6.2}  {encoding:?}, {:?}: {unit:?} × {repeats}", SHAPES[found.shape]);
    }
}

impl Candidate {
    fn random(words: &[String], random: &mut Random) -> Self {
        let pieces = 1 + random.below(5);
        let unit: String = (0..pieces).map(|_| piece(words, random)).collect();
        let encoding = *random.pick(&[
            Encoding::Plain,
            Encoding::Plain,
            Encoding::Plain,
            Encoding::Utf16,
            Encoding::Gzip,
        ]);
        let shape = if random.below(2) == 0 { 0 } else { random.below(SHAPES.len()) };
        let repeats = *random.pick(&[1, 1, 4, 40, 400]);
        Self { shape, unit, repeats, encoding, cost: 0.0 }
    }

    /// Returns a recipe with one change.
    fn changed(&self, words: &[String], random: &mut Random) -> Self {
        let mut changed = self.clone();
        match random.below(6) {
            0 => changed.shape = random.below(SHAPES.len()),
            1 => changed.repeats = *random.pick(&[1, 4, 40, 400]),
            2 => {
                changed.encoding = *random.pick(&[Encoding::Plain, Encoding::Utf16, Encoding::Gzip])
            }
            3 => changed.unit += &piece(words, random),
            4 => changed.unit = piece(words, random) + &changed.unit,
            _ => {
                let chars: Vec<char> = changed.unit.chars().collect();
                changed.unit = chars[random.below(chars.len())..].iter().collect();
            }
        }
        if changed.unit.is_empty() || changed.unit.len() > 400 {
            changed.unit = piece(words, random);
        }
        changed
    }

    /// Returns whether two recipes differ at most in the number of repetitions, and in how often
    /// and in which order the characters of their text occur.
    fn is_like(&self, other: &Self) -> bool {
        let sorted = |text: &str| {
            let mut chars: Vec<char> = text.chars().collect();
            chars.sort_unstable();
            chars.dedup();
            chars
        };
        (self.shape, self.encoding) == (other.shape, other.encoding)
            && sorted(&self.unit) == sorted(&other.unit)
    }

    fn body(&self) -> Vec<u8> {
        let [start, before, after, end] = SHAPES[self.shape];
        let mut body = start.to_owned();
        let text = self.unit.repeat(self.repeats.min(BODY_BYTES / self.unit.len() + 1));
        while body.len() < BODY_BYTES {
            body.extend([before, &text, after]);
        }
        body += end;
        match self.encoding {
            Encoding::Plain => body.into_bytes(),
            Encoding::Utf16 => body.encode_utf16().flat_map(u16::to_le_bytes).collect(),
            Encoding::Gzip => {
                let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
                encoder.write_all(body.as_bytes()).expect("a vector grows");
                encoder.finish().expect("a vector grows")
            }
        }
    }
}

/// Returns a piece of text: an atom, a literal of the rules, or the beginning of a literal.
fn piece(words: &[String], random: &mut Random) -> String {
    match random.below(4) {
        0 => random.pick(words).clone(),
        1 => {
            let word = random.pick(words);
            let chars: Vec<char> = word.chars().collect();
            chars[..random.below(chars.len())].iter().collect::<String>() + " "
        }
        _ => (*random.pick(ATOMS)).to_owned(),
    }
}

/// Returns the time of the fastest of `runs` runs, in seconds.
fn time(bench: &PhaseBench, body: &[u8], runs: u32) -> f64 {
    let timed = |_| {
        let start = Instant::now();
        std::hint::black_box(bench.decide(body));
        start.elapsed().as_secs_f64()
    };
    (0..runs).map(timed).fold(f64::INFINITY, f64::min)
}

/// Returns the literals of a bundle: values of comparisons, and required literals of regexes.
fn literals(bundle: &Value) -> Vec<String> {
    let mut found = Vec::new();
    let mut pending = vec![bundle];
    while let Some(value) = pending.pop() {
        match value {
            Value::Array(values) => pending.extend(values),
            Value::Object(members) => {
                for (key, value) in members {
                    match (key.as_str(), value) {
                        ("value", Value::String(text)) => found.push(text.clone()),
                        ("alternatives", Value::Array(texts)) => {
                            found.extend(texts.iter().filter_map(Value::as_str).map(str::to_owned));
                        }
                        _ => pending.push(value),
                    }
                }
            }
            _ => {}
        }
    }
    // `SHAPES` insert the texts into JSON strings without escaping them.
    found.retain(|text| !text.is_empty() && !text.contains(['"', '\\']));
    found
}
