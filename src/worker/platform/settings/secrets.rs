//! Secrets that may have two values while one replaces the other, and the origin's secret.

use hedgerow_core::api::ConfigProblem;

/// Minimum length of ACCOUNT_SECRET, TAG_SECRET, IDENTITY_SECRET and ORIGIN_SECRET in bytes: half
/// the length of the output of `openssl rand -hex 32`. An attacker could find a shorter secret by
/// trying values.
pub const MIN_SECRET_BYTES: usize = 32;

/// Returns the values of a secret, which are separated by white space. Values that are too short
/// are left out.
pub fn values(text: Option<&str>) -> Vec<String> {
    let values = text.unwrap_or_default().split_whitespace();
    values.filter(|value| value.len() >= MIN_SECRET_BYTES).map(str::to_owned).collect()
}

/// Returns the problem of a secret that has more than two values, or, besides a usable value, one
/// that is too short.
pub fn list_problem(name: &str, text: Option<&str>) -> Option<ConfigProblem> {
    let count = text.unwrap_or_default().split_whitespace().count();
    let usable = values(text).len();
    let problem = match usable {
        0 => return None,
        1.. if count > 2 => format!("{name} has {count} values"),
        _ if usable < count => format!("a value of {name} is ignored, because it is too short"),
        _ => return None,
    };
    Some(ConfigProblem::new(
        format!(
            "{problem}: expected one of at least {MIN_SECRET_BYTES} characters, or two while one \
             replaces the other"
        ),
        format!("set it again: `npx wrangler secret put {name}` (docs/origin.md)"),
    ))
}

/// Returns the reason why a secret counts as not set: it is missing or too short, or white space
/// divides it into values that are too short.
pub fn absence(name: &str, text: Option<&str>) -> String {
    match text.map(|text| text.trim().len()) {
        None => format!("{name} is missing"),
        Some(MIN_SECRET_BYTES..) => format!(
            "white space divides {name} into values that are too short: expected one of at least \
             {MIN_SECRET_BYTES} characters without white space"
        ),
        Some(_) => format!("{name} is too short: expected at least {MIN_SECRET_BYTES} characters"),
    }
}

/// The secrets that ORIGIN_SECRET must not equal, because the origin receives it in clear text.
const OTHER_SECRETS: [&str; 6] =
    ["ACCOUNT_SECRET", "ADMIN_TOKEN", "IDENTITY_SECRET", "READ_TOKEN", "STOP_TOKEN", "TAG_SECRET"];

/// Parses ORIGIN_SECRET. Returns `None` if it is not set. `value_of` returns the value of a secret.
///
/// # Errors
/// If the secret is too short, cannot be the value of a header, or equals another secret. Then it
/// is not sent.
pub fn origin_secret(
    value_of: &dyn Fn(&str) -> Option<String>,
) -> Result<Option<String>, ConfigProblem> {
    let text = value_of("ORIGIN_SECRET").unwrap_or_default();
    let secret = text.trim();
    if secret.is_empty() {
        return Ok(None);
    }
    let has_secret = |text: String| text.split_whitespace().any(|value| value == secret);
    let equal = OTHER_SECRETS.iter().find(|name| value_of(name).is_some_and(has_secret));
    let problem = if let Some(name) = equal {
        format!("it equals {name}, but each secret must have only one purpose")
    } else if secret.len() < MIN_SECRET_BYTES || !secret.bytes().all(|byte| byte.is_ascii_graphic())
    {
        "expected at least 32 visible ASCII characters without spaces".to_owned()
    } else {
        return Ok(Some(secret.to_owned()));
    };
    Err(ConfigProblem::new(
        format!("ORIGIN_SECRET is not sent to the origin: {problem}"),
        "set another: `openssl rand -hex 32 | tee origin-secret | npx wrangler secret put \
         ORIGIN_SECRET`",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: &str = "old-secret-of-the-tests-with-32-bytes-or-more";
    const NEW: &str = "new-secret-of-the-tests-with-32-bytes-or-more";

    #[test]
    fn a_secret_has_one_value_or_two() {
        let rows: [(Option<String>, &[&str], Option<&str>); 8] = [
            (None, &[], None),
            (Some(" ".to_owned()), &[], None),
            (Some("short".to_owned()), &[], None),
            (Some("short shorter".to_owned()), &[], None),
            (Some(format!("{OLD}\n")), &[OLD], None),
            (Some(format!(" {OLD}  {NEW} ")), &[OLD, NEW], None),
            (Some(format!("{OLD} short")), &[OLD], Some("is ignored, because it is too short")),
            (Some(format!("{OLD} {NEW} {OLD}")), &[OLD, NEW, OLD], Some("S has 3 values")),
        ];
        for (text, expected, problem) in rows {
            assert_eq!(values(text.as_deref()), expected, "{text:?}");
            let found = list_problem("S", text.as_deref());
            assert_eq!(found.is_some(), problem.is_some(), "{text:?}");
            let message = found.map(|found| found.message).unwrap_or_default();
            assert!(message.contains(problem.unwrap_or_default()), "{message}");
            assert!(!message.contains(OLD) && !message.contains("short "), "{message}");
        }
    }

    #[test]
    fn the_origins_secret_must_fit_into_a_header() {
        let rows = [
            (None, Ok(None)),
            (Some("  "), Ok(None)),
            (Some(OLD), Ok(Some(OLD))),
            (Some(" old-secret-of-the-tests-with-32-bytes-or-more\n"), Ok(Some(OLD))),
            (Some("short"), Err("at least 32")),
            (Some("old-secret-of-the-tests with-32-bytes-or-more"), Err("without spaces")),
            (Some("old-secret-of-the-tests\nwith-32-bytes-or-more"), Err("without spaces")),
            (Some("old-secret-of-the-tests-with-32-bytes-or-möre"), Err("visible ASCII")),
        ];
        for (text, expected) in rows {
            let value_of = |name: &str| match name {
                "ORIGIN_SECRET" => text.map(str::to_owned),
                _ => Some(NEW.to_owned()),
            };
            match (origin_secret(&value_of), expected) {
                (Ok(found), Ok(expected)) => assert_eq!(found.as_deref(), expected, "{text:?}"),
                (Err(found), Err(part)) => {
                    assert!(found.message.contains(part), "{}", found.message);
                }
                (found, _) => panic!("{text:?}: {:?}", found.is_ok()),
            }
        }
    }

    #[test]
    fn the_origins_secret_must_not_equal_another_secret() {
        for other in OTHER_SECRETS {
            for text in [OLD.to_owned(), format!(" {OLD}\n"), format!("{NEW} {OLD}")] {
                let value_of = |name: &str| match name {
                    "ORIGIN_SECRET" => Some(format!("{OLD}\n")),
                    name if name == other => Some(text.clone()),
                    _ => None,
                };
                let problem = origin_secret(&value_of).unwrap_err();
                assert!(problem.message.contains(&format!("equals {other},")), "{other}");
                assert!(!problem.message.contains(OLD), "{other}");
            }
        }
    }

    #[test]
    fn the_absence_of_a_secret_has_a_reason() {
        let phrase = "correct horse battery staple in the tests";
        let halves = "the-first-line-of-a-secret\nand-its-second-line";
        let rows = [
            (None, "S is missing"),
            (Some("short"), "S is too short: expected at least 32"),
            (Some("  short and padded with white space  "), "white space divides S"),
            (Some("                 short                "), "S is too short"),
            (Some(phrase), "white space divides S"),
            (Some(halves), "white space divides S"),
        ];
        for (text, expected) in rows {
            assert!(values(text).is_empty(), "{text:?}");
            let reason = absence("S", text);
            assert!(reason.starts_with(expected), "{reason}");
        }
    }
}
