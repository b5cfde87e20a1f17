//! The Rust program of docs/origin.md, which verifies tags, over the test vectors. The programs in
//! other languages run in `tests/scripts/tag-verification.test.mjs`.

mod verify;

use std::collections::HashMap;
use std::fs;

use serde::Deserialize;

use crate::from_root;

#[derive(Deserialize)]
struct VectorFile {
    vectors: Vec<Vector>,
}

#[derive(Deserialize)]
struct Vector {
    name: String,
    secrets: Vec<String>,
    now: i64,
    headers: HashMap<String, String>,
    valid: bool,
}

#[test]
fn the_page_contains_the_program() {
    let page = fs::read_to_string(from_root("docs/origin.md")).unwrap();
    let program = include_str!("tags/verify.rs");
    assert!(
        page.contains(&format!("\n```rust\n{program}```\n")),
        "copy tests/integration/tags/verify.rs to docs/origin.md"
    );
}

#[test]
fn the_program_judges_every_vector() {
    let text = fs::read_to_string(from_root("tests/fixtures/tag-vectors.json")).unwrap();
    let VectorFile { vectors } = serde_json::from_str(&text).unwrap();
    for Vector { name, secrets, now, headers, valid } in &vectors {
        let secrets: Vec<&str> = secrets.iter().map(String::as_str).collect();
        assert_eq!(verify::verify_tags(headers, &secrets, *now), *valid, "{name}");
    }
    for expected in [true, false] {
        assert!(vectors.iter().any(|vector| vector.valid == expected));
    }
}
