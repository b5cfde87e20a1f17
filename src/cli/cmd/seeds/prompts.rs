//! Reads the prompts of a collection: JSON lines, CSV or plain lines.

use serde_json::Value;

/// A problem in a file of prompts.
#[derive(Debug, PartialEq, Eq)]
pub struct Problem {
    /// Number of the line, from 1.
    pub line: u64,
    /// Problem and remedy.
    pub text: String,
}

/// Returns the prompts of a file. `extension` is the extension of the file's name, and determines
/// the format: JSON lines, CSV, or one prompt per line. `field` is the member or column that
/// contains the prompt. Blank lines are skipped.
pub fn parse(text: &str, extension: &str, field: &str) -> Result<Vec<String>, Problem> {
    match extension {
        "jsonl" | "ndjson" => numbered_lines(text)
            .map(|(line, text)| parse_json(text, field).map_err(|text| Problem { line, text }))
            .collect(),
        "csv" => parse_csv(text, field),
        _ => Ok(numbered_lines(text).map(|(_, line)| line.to_owned()).collect()),
    }
}

/// Returns the lines that are not blank, with their numbers from 1.
fn numbered_lines(text: &str) -> impl Iterator<Item = (u64, &str)> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty())
}

/// Returns the string in the member `field` of a JSON object, or an error message.
fn parse_json(line: &str, field: &str) -> Result<String, String> {
    let value: Value = serde_json::from_str(line)
        .map_err(|error| format!("this is not JSON: {error}; write one object per line"))?;
    match value.get(field) {
        Some(Value::String(prompt)) => Ok(prompt.clone()),
        Some(_) => Err(format!("'{field}' is not a string; name another member with --field")),
        None => {
            let members = value.as_object().into_iter().flat_map(|members| members.keys());
            let members: Vec<&str> = members.map(String::as_str).collect();
            let remedy = format!("name one of its members with --field: {}", members.join(", "));
            Err(format!("the line has no member '{field}'; {remedy}"))
        }
    }
}

/// Returns the values of the column `field`. The first record contains the names of the columns.
fn parse_csv(text: &str, field: &str) -> Result<Vec<String>, Problem> {
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    let to_problem = |error: csv::Error| {
        let line = error.position().map_or(1, csv::Position::line);
        Problem { line, text: format!("{error}; correct the record, or its quotes") }
    };
    let columns = reader.headers().map_err(to_problem)?.clone();
    let index = columns.iter().position(|column| column == field).ok_or_else(|| {
        let columns: Vec<&str> = columns.iter().collect();
        let remedy = format!("name one of its columns with --field: {}", columns.join(", "));
        Problem { line: 1, text: format!("the file has no column '{field}'; {remedy}") }
    })?;
    let mut prompts = Vec::new();
    for record in reader.records() {
        let record = record.map_err(to_problem)?;
        prompts.extend(record.get(index).map(str::to_owned));
    }
    Ok(prompts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prompts_are_read_from_each_format() {
        let rows: [(&str, &str, Result<&[&str], (u64, &str)>); 8] = [
            ("txt", "one\r\n\n  two\n", Ok(&["one", "  two"])),
            ("jsonl", "{\"q\":\"a\\nb\"}\n\n{\"q\":\"c\"}", Ok(&["a\nb", "c"])),
            ("jsonl", "{\"q\":\"a\"}\n{\"p\":1,\"x\":2}", Err((2, "--field: p, x"))),
            ("jsonl", "\n{\"q\":7}", Err((2, "not a string"))),
            ("ndjson", "{", Err((1, "not JSON"))),
            ("csv", "id,q\n1,\"a, \"\"b\"\"\nc\"\n2,d\n", Ok(&["a, \"b\"\nc", "d"])),
            ("csv", "id,p\n", Err((1, "--field: id, p"))),
            ("csv", "id,q\n1,a\n2,b,c\n", Err((3, "correct the record"))),
        ];
        for (extension, text, expected) in rows {
            match (parse(text, extension, "q"), expected) {
                (Ok(prompts), Ok(expected)) => assert_eq!(prompts, expected, "{text}"),
                (Err(problem), Err((line, part))) => {
                    assert_eq!(problem.line, line, "{text}: {problem:?}");
                    assert!(problem.text.contains(part), "{text}: {problem:?}");
                }
                (found, _) => panic!("{text}: {found:?}"),
            }
        }
    }
}
