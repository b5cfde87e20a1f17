//! Parameters of a query, as origins decode them.

use std::borrow::Cow;

use percent_encoding::percent_decode;

/// Returns the decoded name and value of each parameter of a query: `%6Bey=a+b` is `key` and `a b`.
/// The value is empty without `=`. Text from `#` on is ignored. Bytes that are not UTF-8 become
/// U+FFFD.
pub fn parameters(query: &str) -> impl Iterator<Item = (Cow<'_, str>, Cow<'_, str>)> {
    let query = query.split('#').next().unwrap_or_default();
    query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decode(name), decode(value))
    })
}

fn decode(text: &str) -> Cow<'_, str> {
    if !text.contains(['%', '+']) {
        return Cow::Borrowed(text);
    }
    let text = text.replace('+', " ");
    Cow::Owned(percent_decode(text.as_bytes()).decode_utf8_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_decoded() {
        let query = "a=1&%6Bey=sk%2D1&b&&=x&c=d+e&key=%ff&z=1#f=2";
        let parsed: Vec<(String, String)> = parameters(query)
            .map(|(name, value)| (name.into_owned(), value.into_owned()))
            .collect();
        let expected = [
            ("a", "1"),
            ("key", "sk-1"),
            ("b", ""),
            ("", "x"),
            ("c", "d e"),
            ("key", "\u{fffd}"),
            ("z", "1"),
        ];
        let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(parsed, expected);
    }
}
