//! The choice of a language by the header `Accept-Language` (RFC 9110, section 12.5.4).

/// Returns the tag that a client prefers, by the lookup of RFC 4647, section 3.4: a range is
/// shortened from its end until it equals a tag. The range with the highest quality that finds a
/// tag decides; of equal ones, the first. Returns `None` if no range finds a tag.
///
/// Only the first 16 ranges count, and only ranges of at most 35 bytes. Ranges with an invalid
/// quality, or with the quality 0, do not count. The range `*` never finds a tag.
///
/// ```
/// use hedgerow_core::http::language::lookup;
/// let tags = ["en", "de", "pt-BR"];
/// assert_eq!(lookup("fr, de-CH;q=0.8, en;q=0.5", &tags), Some("de"));
/// ```
pub fn lookup<'t>(accept_language: &str, tags: &[&'t str]) -> Option<&'t str> {
    let mut best: (u16, Option<&'t str>) = (0, None);
    for entry in accept_language.split(',').take(MAX_RANGES) {
        let (range, weight) = entry.split_once(';').unwrap_or((entry, "q=1"));
        let quality = quality(weight).unwrap_or_default();
        if quality > best.0
            && let Some(tag) = tag_of(range.trim(), tags)
        {
            best = (quality, Some(tag));
        }
    }
    best.1
}

/// Returns the tag of a range.
fn tag_of<'t>(mut range: &str, tags: &[&'t str]) -> Option<&'t str> {
    if range.len() > MAX_TAG_BYTES {
        return None;
    }
    loop {
        if let Some(tag) = tags.iter().find(|tag| tag.eq_ignore_ascii_case(range)) {
            return Some(tag);
        }
        (range, _) = range.rsplit_once('-')?;
        // A single letter or digit begins a subtag that was removed.
        if let Some((shorter, [_])) = range.rsplit_once('-').map(|(a, b)| (a, b.as_bytes())) {
            range = shorter;
        }
    }
}

/// Returns a quality in thousandths; `None` if it is invalid. `weight` is the text after the
/// semicolon, such as `q=0.8`.
fn quality(weight: &str) -> Option<u16> {
    let (name, value) = weight.trim().split_once('=')?;
    let (whole, decimals) = value.split_once('.').unwrap_or((value, ""));
    let is_valid = name.eq_ignore_ascii_case("q")
        && whole.len() == 1
        && decimals.len() <= 3
        && value.bytes().all(|byte| byte == b'.' || byte.is_ascii_digit());
    let thousandths = format!("{whole}{decimals:0<3}").parse().ok();
    thousandths.filter(|quality| is_valid && *quality <= 1_000)
}

/// Returns whether `tag` has the form of a language tag: subtags of at most 8 letters and digits,
/// of which the first has at least two letters.
pub fn is_language_tag(tag: &str) -> bool {
    let is_subtag = |subtag: &str| {
        (1..=8).contains(&subtag.len()) && subtag.bytes().all(|byte| byte.is_ascii_alphanumeric())
    };
    let first = tag.split('-').next().unwrap_or_default();
    tag.len() <= MAX_TAG_BYTES
        && first.len() >= 2
        && first.bytes().all(|byte| byte.is_ascii_alphabetic())
        && tag.split('-').all(is_subtag)
}

/// Maximum number of ranges that are read.
const MAX_RANGES: usize = 16;

/// Maximum bytes of a tag, and of a range that is read (RFC 5646, section 4.4.1).
const MAX_TAG_BYTES: usize = 35;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_range_with_a_tag_decides() {
        let many = format!("{}de", "fr,".repeat(15));
        let too_many = format!("{}de", "fr,".repeat(16));
        let long = format!("de-{}", "abcdefgh-".repeat(4));
        let rows = [
            ("", None),
            ("de", Some("de")),
            ("DE-ch-1996", Some("de")),
            ("zh-Hant-CN-x-private1-private2", Some("zh-Hant")),
            ("zh-Hans", None),
            ("pt", None),
            ("pt-br", Some("pt-BR")),
            ("de-x", Some("de")),
            ("fr, de;q=0.5, en;q=0.7", Some("en")),
            ("de, en", Some("de")),
            ("en;q=0.8, de;q=0.8", Some("en")),
            ("en;q=0.800 , de ; Q=0.801", Some("de")),
            ("de;q=0, en;q=0.001", Some("en")),
            ("*", None),
            ("*, de;q=0.1", Some("de")),
            ("de;q=2, en;q=0.1", Some("en")),
            ("de;q=1.001", None),
            ("de;q=0.0001, en;q=0.1", Some("en")),
            ("de;q=-1", None),
            ("de;q=", None),
            ("de;level=1", None),
            ("de;q=.5", None),
            ("de;q=0.5.5", None),
            ("d\u{e9}", None),
            ("----", None),
            (",;,=;q", None),
            (many.as_str(), Some("de")),
            (too_many.as_str(), None),
            (long.as_str(), None),
        ];
        for (header, expected) in rows {
            assert_eq!(lookup(header, &["en", "de", "pt-BR", "zh-Hant"]), expected, "{header}");
        }
    }

    #[test]
    fn tags_have_subtags_of_letters_and_digits() {
        let rows = [
            ("en", true),
            ("pt-BR", true),
            ("zh-Hant-TW", true),
            ("de-1996", true),
            ("x-private", false),
            ("e", false),
            ("", false),
            ("en-", false),
            ("en_GB", false),
            ("1e", false),
            ("en-abcdefghi", false),
            ("en-aaaaaaaa-aaaaaaaa-aaaaaaaa-aaaaaaaa", false),
        ];
        for (tag, expected) in rows {
            assert_eq!(is_language_tag(tag), expected, "{tag}");
        }
    }
}
