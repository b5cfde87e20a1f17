//! Adds entries to the arrays of `policy.toml` and removes them, without changing the rest of the
//! file.

use toml_edit::{Array, ArrayOfTables, Datetime, DocumentMut, Item, Table, Value, value};

use crate::error::{Error, Result};

/// A new entry of an array, such as `[[exemption]]`.
pub struct Entry {
    /// Name of the array.
    kind: &'static str,
    table: Table,
}

impl Entry {
    /// Returns an entry without members.
    pub fn new(kind: &'static str) -> Self {
        Self { kind, table: Table::new() }
    }

    /// Adds a member.
    pub fn with(mut self, key: &str, member: Value) -> Self {
        self.table.insert(key, value(member));
        self
    }

    /// Adds a text, in which line breaks and other control characters become spaces.
    pub fn text(self, key: &str, text: &str) -> Self {
        let words: Vec<&str> = text.split(|c: char| c.is_whitespace() || c.is_control()).collect();
        let words: Vec<&str> = words.into_iter().filter(|word| !word.is_empty()).collect();
        self.with(key, words.join(" ").into())
    }

    /// Adds the entry after the last one of its array, or at the end of the file.
    pub fn add_to(mut self, document: &mut DocumentMut) -> Result<()> {
        if let Some(entries) = entries_mut(document, self.kind)? {
            entries.push(self.table);
            return Ok(());
        }
        // Comments at the end of the file stay before the entry.
        let mut comments = document.trailing().as_str().unwrap_or_default().to_owned();
        document.set_trailing("");
        if !comments.is_empty() || !document.as_table().is_empty() {
            comments.push('\n');
        }
        self.table.decor_mut().set_prefix(comments);
        self.table.set_position(Some(isize::MAX));
        let mut entries = ArrayOfTables::new();
        entries.push(self.table);
        document.insert(self.kind, Item::ArrayOfTables(entries));
        Ok(())
    }
}

/// Returns a list of names as a TOML value.
pub fn names(names: &[String]) -> Value {
    Value::Array(names.iter().map(String::as_str).collect::<Array>())
}

/// Returns a day as a TOML value.
pub fn day(text: &str) -> Result<Value> {
    let day = text.parse::<Datetime>();
    day.map(Value::from).map_err(|error| Error::Io(format!("the day '{text}': {error}")))
}

/// Returns the text of a changed document, with the line ends that the first line of its source
/// has. The document itself writes `\n` only.
pub fn to_text(document: &DocumentMut, source: &str) -> String {
    let text = document.to_string();
    let mut lines = source.split_inclusive('\n');
    if lines.next().is_some_and(|line| line.ends_with("\r\n")) {
        return text.replace('\n', "\r\n");
    }
    text
}

/// Returns whether an array has an entry whose member `key` is `label`.
pub fn contains(document: &DocumentMut, kind: &str, key: &str, label: &str) -> bool {
    let entries = document.get(kind).and_then(Item::as_array_of_tables);
    entries.is_some_and(|entries| find(entries, key, label).is_some())
}

/// Removes the entry of an array whose member `key` is `label`, with the comment lines directly
/// above it. Returns whether the array has such an entry.
pub fn remove(document: &mut DocumentMut, kind: &str, key: &str, label: &str) -> Result<bool> {
    let Some(entries) = entries_mut(document, kind)? else { return Ok(false) };
    let Some(index) = find(entries, key, label) else { return Ok(false) };
    let removed = entries.remove(index);
    if entries.is_empty() {
        document.remove(kind);
    }
    let comments = removed.decor().prefix().and_then(|prefix| prefix.as_str()).unwrap_or_default();
    let kept = comments_about_file(comments).to_owned();
    if kept.is_empty() {
        return Ok(true);
    }
    let next = removed.position().and_then(|end| next_position(document.as_table(), end));
    match next.and_then(|position| table_at(document.as_table_mut(), position)) {
        Some(table) => {
            let prefix = table.decor().prefix().and_then(|prefix| prefix.as_str());
            let prefix = kept + prefix.unwrap_or_default();
            table.decor_mut().set_prefix(prefix);
        }
        None => {
            let trailing = kept + document.trailing().as_str().unwrap_or_default();
            document.set_trailing(trailing);
        }
    }
    Ok(true)
}

/// Returns the part of the comments above an entry that is before the last empty line. These
/// comments are about the file, not about the entry. A line of spaces is empty.
fn comments_about_file(comments: &str) -> &str {
    let mut about_file = "";
    let mut end: usize = 0;
    for line in comments.split_inclusive('\n') {
        // The spaces before the entry, without a line end, are not a line.
        if line.ends_with('\n') && line.trim().is_empty() {
            about_file = comments.get(..end).unwrap_or_default();
        }
        end = end.saturating_add(line.len());
    }
    about_file
}

/// The `name` and the `id` of a rule: the two keys by which a `[[signature]]` can name the rule.
#[derive(Clone, Copy)]
pub struct RuleLabel<'r> {
    pub name: &'r str,
    /// `None` for a list, which has no id.
    pub id: Option<&'r str>,
}

impl<'r> RuleLabel<'r> {
    /// Returns the keys, and the value of each.
    fn keys(self) -> impl Iterator<Item = (&'static str, &'r str)> {
        [("name", Some(self.name)), ("id", self.id)]
            .into_iter()
            .filter_map(|(key, value)| Some((key, value?)))
    }
}

/// Returns whether the policy has a `[[signature]]` for a rule.
pub fn has_setting(document: &DocumentMut, rule: RuleLabel<'_>) -> bool {
    rule.keys().any(|(key, value)| contains(document, "signature", key, value))
}

/// Removes the member `setting` of the `[[signature]]` for a rule; the whole entry if it has no
/// other setting. Returns whether the entry has the member.
pub fn remove_setting(
    document: &mut DocumentMut,
    rule: RuleLabel<'_>,
    setting: &str,
) -> Result<bool> {
    let Some(entries) = entries_mut(document, "signature")? else { return Ok(false) };
    let label = rule.keys().find(|(key, value)| find(entries, key, value).is_some());
    let Some((label_key, label)) = label else { return Ok(false) };
    let entry = find(entries, label_key, label).and_then(|index| entries.get_mut(index));
    let Some(entry) = entry.filter(|entry| entry.contains_key(setting)) else { return Ok(false) };
    let other = if setting == "off" { "weight" } else { "off" };
    if !entry.contains_key(other) {
        return remove(document, "signature", label_key, label);
    }
    entry.remove(setting);
    Ok(true)
}

/// Returns the entries of an array; `None` if the policy does not have the array. Returns
/// `Rejected` if the array is not written as `[[kind]]` sections.
fn entries_mut<'d>(
    document: &'d mut DocumentMut,
    kind: &str,
) -> Result<Option<&'d mut ArrayOfTables>> {
    let Some(item) = document.get_mut(kind) else { return Ok(None) };
    item.as_array_of_tables_mut().map(Some).ok_or_else(|| {
        Error::Rejected(format!(
            "policy.toml has '{kind}' in another form: expected sections [[{kind}]]; write it as \
             such sections, or change it by hand"
        ))
    })
}

/// Returns the index of the entry whose member `key` is `label`.
fn find(entries: &ArrayOfTables, key: &str, label: &str) -> Option<usize> {
    let has_label = |entry: &Table| entry.get(key).and_then(Item::as_str) == Some(label);
    entries.iter().position(has_label)
}

/// Returns the smallest position above `after` of the tables in a table.
fn next_position(table: &Table, after: isize) -> Option<isize> {
    let below = table.iter().flat_map(|(_, item)| tables(item));
    let positions = below.flat_map(|table| {
        table.position().filter(|own| *own > after).into_iter().chain(next_position(table, after))
    });
    positions.min()
}

/// Returns the tables of a value: the value itself, or the entries of an array.
fn tables(item: &Item) -> Vec<&Table> {
    match item {
        Item::Table(table) => vec![table],
        Item::ArrayOfTables(entries) => entries.iter().collect(),
        _ => Vec::new(),
    }
}

/// Returns the table at a position.
fn table_at(table: &mut Table, position: isize) -> Option<&mut Table> {
    if table.position() == Some(position) {
        return Some(table);
    }
    table.iter_mut().find_map(|(_, item)| match item {
        Item::Table(table) => table_at(table, position),
        Item::ArrayOfTables(entries) => {
            entries.iter_mut().find_map(|entry| table_at(entry, position))
        }
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "# Ours.\nmode = \"shadow\"   # until May\n\n[bands]\nsuspect = 60\n\n\
                        # Docs.\n#\n# [[exemption]]\n# name = \"x\"\n";

    fn entry(name: &str) -> Entry {
        Entry::new("exemption").text("name", name).with("until", day("2027-01-31").unwrap())
    }

    #[test]
    fn entries_are_added_and_removed_and_nothing_else_changes() {
        let first = "\n[[exemption]]\nname = \"a\"\nuntil = 2027-01-31\n";
        let mut document: DocumentMut = FILE.parse().unwrap();
        entry("a").add_to(&mut document).unwrap();
        assert_eq!(document.to_string(), format!("{FILE}{first}"));
        let mut document: DocumentMut = document.to_string().parse().unwrap();
        entry("b").add_to(&mut document).unwrap();
        let both = format!("{FILE}{first}{}", first.replace("\"a\"", "\"b\""));
        assert_eq!(document.to_string(), both);
        assert!(contains(&document, "exemption", "name", "b"));
        for (name, expected) in [("b", format!("{FILE}{first}")), ("a", FILE.to_owned())] {
            let mut document: DocumentMut = document.to_string().parse().unwrap();
            assert!(remove(&mut document, "exemption", "name", "b").unwrap());
            if name == "a" {
                let mut again: DocumentMut = document.to_string().parse().unwrap();
                assert!(remove(&mut again, "exemption", "name", "a").unwrap());
                document = again;
            }
            assert_eq!(document.to_string(), expected, "{name}");
            assert!(!remove(&mut document, "exemption", "name", "c").unwrap());
        }
    }

    #[test]
    fn comments_before_a_removed_entry_stay_if_they_are_not_its_own() {
        // The comments above the entry, and those that stay.
        let rows = [
            ("# Docs.\n\n# Ticket 1.\n", "# Docs.\n"),
            ("# Docs.\r\n\r\n# Ticket 1.\r\n", "# Docs.\n"),
            ("# Docs.\n \t\n# Ticket 1.\n", "# Docs.\n"),
            ("# Docs.\n\n# More.\n\n# Ticket 1.\n", "# Docs.\n\n# More.\n"),
            ("# Docs.\n\n", "# Docs.\n"),
            ("# Ticket 1.\n  ", ""),
            ("# Ticket 1.\n", ""),
        ];
        for (comments, kept) in rows {
            for rest in ["", "\n[bands]\nsuspect = 60\n"] {
                let text = format!("{comments}[[exemption]]\nname = \"a\"\n{rest}");
                let mut document: DocumentMut = text.parse().unwrap();
                assert!(remove(&mut document, "exemption", "name", "a").unwrap());
                assert_eq!(document.to_string(), format!("{kept}{rest}"), "{text:?}");
            }
        }
    }

    #[test]
    fn line_ends_stay() {
        for source in [FILE.to_owned(), FILE.replace('\n', "\r\n"), String::new()] {
            let mut document: DocumentMut = source.parse().unwrap();
            assert_eq!(to_text(&document, &source), source);
            entry("a").add_to(&mut document).unwrap();
            let text = to_text(&document, &source);
            let line_ends = text.matches('\n').count();
            let expected = if source.contains('\r') { line_ends } else { 0 };
            assert_eq!(text.matches("\r\n").count(), expected, "{text:?}");
            let mut changed: DocumentMut = text.parse().unwrap();
            assert!(remove(&mut changed, "exemption", "name", "a").unwrap());
            assert_eq!(to_text(&changed, &text), source);
        }
    }

    #[test]
    fn one_setting_of_a_signature_is_removed() {
        for (key, label) in [("name", "a"), ("id", "i")] {
            let text = format!("[[signature]]\n{key} = \"{label}\"\nweight = 5.0\noff = true\n");
            let mut document: DocumentMut = text.parse().unwrap();
            let rule = RuleLabel { name: "a", id: Some("i") };
            let other = RuleLabel { name: "b", id: None };
            assert!(has_setting(&document, rule) && !has_setting(&document, other), "{text}");
            assert!(!remove_setting(&mut document, other, "off").unwrap());
            assert!(remove_setting(&mut document, rule, "off").unwrap());
            assert_eq!(document.to_string(), text.replace("off = true\n", ""));
            assert!(!remove_setting(&mut document, rule, "off").unwrap());
            assert!(remove_setting(&mut document, rule, "weight").unwrap());
            assert_eq!(document.to_string(), "");
        }
    }

    #[test]
    fn texts_are_one_line_and_other_forms_are_refused() {
        let mut document = DocumentMut::new();
        let entry = Entry::new("exemption").text("reason", " a\n[[x]] \"b\"\u{7} ");
        entry.add_to(&mut document).unwrap();
        let written: DocumentMut = document.to_string().parse().unwrap();
        assert!(contains(&written, "exemption", "reason", "a [[x]] \"b\""), "{document}");
        let mut document: DocumentMut = "exemption = [{ name = \"a\" }]\n".parse().unwrap();
        assert!(self::entry("b").add_to(&mut document).is_err());
        assert!(remove(&mut document, "exemption", "name", "a").is_err());
    }
}
