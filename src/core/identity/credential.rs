//! Finds the credentials of a request, chooses the one that counts (the one that determines the
//! account), and derives the account that each one names.

use base64::Engine;
use base64::prelude::{BASE64_STANDARD, BASE64_STANDARD_NO_PAD};

use super::claims::Claims;
use super::credential_place::{
    API_KEY_PROTOCOL, CredentialApi, CredentialPlace, INTERCHANGEABLE, PLACES, is_token,
};
use super::kind::AccountKind;
use super::query::parameters;
use crate::http::route::Dialect;

/// A credential, read but not verified.
#[derive(Clone, PartialEq)]
pub(super) struct Credential {
    pub(super) kind: AccountKind,
    /// The text that names the account: stable while the account keeps its key, subject or name.
    pub(super) account: String,
    /// The credential itself, without its scheme.
    pub(super) credential_text: String,
    /// The claims, if the credential is a token.
    pub(super) claims: Option<Claims>,
}

/// The credentials of a request, in order of precedence.
pub(super) struct Credentials {
    /// The credential that counts; `None` if there is none, or if it is malformed.
    pub(super) first: Option<Credential>,
    /// Whether the credential that counts contains control bytes, which no provider issues.
    pub(super) is_malformed: bool,
    /// Credentials that the origin may read instead of `first`, from places that are alternatives
    /// to the place of `first`. Empty unless `is_ambiguous`.
    pub(super) alternatives: Vec<String>,
    /// The other credentials of an ambiguous request, from places that no API reads as an
    /// alternative to the place of `first`.
    pub(super) unrelated_credentials: Vec<String>,
    /// Whether it is not known which of several credentials the origin reads.
    pub(super) is_ambiguous: bool,
    /// Number of different credentials. Credentials that name the same account count once.
    pub(super) count: u32,
}

/// Finds the credentials of a request. The places are searched in this order: `configured`, then
/// the places of the called API, then [`PLACES`]. This order prevents a header that the origin
/// ignores from changing the account. For the same reason, if the first credential is malformed, no
/// other credential counts.
///
/// A credential at a configured place counts before all others. Otherwise, if there are several
/// credentials, placeholders of SDKs do not count, and the first credential that the origin is
/// known to accept counts. `is_accepted_by_origin` returns whether this is known. The tuple holds
/// the dialect and the path of the request.
pub(super) fn find_credentials(
    headers: &[(String, String)],
    query: &str,
    (dialect, path): (Dialect, &str),
    configured: &[CredentialPlace],
    is_accepted_by_origin: &dyn Fn(&str) -> bool,
) -> Credentials {
    let places = || {
        let of_api = CredentialApi::of(dialect, path).places().iter();
        configured.iter().chain(of_api).chain(PLACES.iter().map(|(place, _)| place)).enumerate()
    };
    let mut found: Vec<FoundCredential> = Vec::new();
    let mut add = |is_place: &dyn Fn(&CredentialPlace) -> bool, value: &str| {
        if found.len() < MAX_CREDENTIALS
            && let Some((rank, place)) = places().find(|(_, place)| is_place(place))
            && let Some(credential) = read_at(place, value)
        {
            let is_configured = rank < configured.len();
            let is_interchangeable = !is_configured && INTERCHANGEABLE.contains(place);
            found.push(FoundCredential { rank, is_configured, is_interchangeable, credential });
        }
    };
    for (name, value) in headers {
        add(&|place| place.is_header(name), value);
    }
    for (name, value) in parameters(query) {
        add(&|place| matches!(place, CredentialPlace::Query(other) if *other == name), &value);
    }
    // The sort is stable, so the first of repeated parameters counts.
    found.sort_by_key(|found| found.rank);
    choose(found, is_accepted_by_origin)
}

/// A credential with its place.
struct FoundCredential {
    rank: usize,
    /// Whether the policy lists the place.
    is_configured: bool,
    /// Whether the place is one of [`INTERCHANGEABLE`], and the policy does not list it.
    is_interchangeable: bool,
    credential: Result<Credential, Malformed>,
}

/// Chooses the credential that counts. `found` is in order of precedence.
fn choose(
    found: Vec<FoundCredential>,
    is_accepted_by_origin: &dyn Fn(&str) -> bool,
) -> Credentials {
    let count = count_accounts(&found);
    let none = Credentials {
        first: None,
        is_malformed: false,
        count,
        alternatives: Vec::new(),
        unrelated_credentials: Vec::new(),
        is_ambiguous: false,
    };
    match found.first().map(|first| (&first.credential, first.is_configured)) {
        None => return none,
        Some((Err(Malformed), _)) => return Credentials { is_malformed: true, ..none },
        Some((Ok(credential), is_configured)) if is_configured || count < 2 => {
            return Credentials { first: Some(credential.clone()), ..none };
        }
        Some((Ok(_), _)) => {}
    }
    let valid: Vec<(Credential, bool)> = found
        .into_iter()
        .filter_map(|found| Some((found.credential.ok()?, found.is_interchangeable)))
        .collect();
    let has_real = valid.iter().any(|(credential, _)| !is_placeholder(&credential.credential_text));
    let real: Vec<(Credential, bool)> = valid
        .into_iter()
        .filter(|(credential, _)| !has_real || !is_placeholder(&credential.credential_text))
        .collect();
    let accepted =
        real.iter().find(|(credential, _)| is_accepted_by_origin(&credential.credential_text));
    if let Some((credential, _)) = accepted {
        // The origin may have accepted another credential of the request, without reading this one.
        return Credentials { first: Some(credential.clone()), is_ambiguous: true, ..none };
    }
    let mut real = real.into_iter();
    let Some((first, is_interchangeable)) = real.next() else { return none };
    let others: Vec<(Credential, bool)> =
        real.filter(|(other, _)| other.account != first.account).collect();
    let is_ambiguous = !others.is_empty();
    let (alternatives, unrelated_credentials): (Vec<_>, Vec<_>) = others
        .into_iter()
        .partition(|(_, is_other_interchangeable)| is_interchangeable && *is_other_interchangeable);
    let text_of = |(other, _): (Credential, bool)| other.credential_text;
    Credentials {
        alternatives: alternatives.into_iter().map(text_of).collect(),
        unrelated_credentials: unrelated_credentials.into_iter().map(text_of).collect(),
        is_ambiguous,
        first: Some(first),
        ..none
    }
}

/// Returns the number of different credentials. Those that name the same account count once.
fn count_accounts(found: &[FoundCredential]) -> u32 {
    let valid = found.iter().filter_map(|found| found.credential.as_ref().ok());
    let mut accounts: Vec<(AccountKind, &str)> =
        valid.map(|credential| (credential.kind, credential.account.as_str())).collect();
    accounts.sort_unstable();
    accounts.dedup();
    u32::try_from(accounts.len()).unwrap_or(u32::MAX)
}

/// Returns whether a credential is a placeholder: a key that an SDK or a server requires but nobody
/// checks. A placeholder is short, or is a word that documentation uses as an example.
fn is_placeholder(credential: &str) -> bool {
    let words = |word: &&&str| credential.eq_ignore_ascii_case(word);
    credential.len() < MIN_KEY_BYTES || PLACEHOLDERS.iter().any(|word| words(&word))
}

/// A credential with control bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed;

/// Reads the credential at a place; `None` if the place holds none.
fn read_at(place: &CredentialPlace, value: &str) -> Option<Result<Credential, Malformed>> {
    let value = match place {
        CredentialPlace::Protocol => {
            let mut protocols = value.split(',').map(str::trim);
            protocols.find_map(|protocol| protocol.strip_prefix(API_KEY_PROTOCOL))?
        }
        CredentialPlace::Query(name)
            if matches!(name.as_ref(), "X-Amz-Credential" | "X-Goog-Credential") =>
        {
            return signed(value, value);
        }
        CredentialPlace::Header(_) | CredentialPlace::Query(_) => value,
    };
    read(value)
}

/// Reads a credential from a value, with or without a scheme, so that one key is one account in
/// every header and spelling. Returns `None` if the value is empty or only the name of a scheme.
pub(super) fn read(value: &str) -> Option<Result<Credential, Malformed>> {
    // A header can contain a tab, but no other control byte.
    let has_control = value.bytes().any(|byte| byte.is_ascii_control() && byte != b'\t');
    let value = value.trim();
    if has_control && !value.is_empty() {
        return Some(Err(Malformed));
    }
    if let Some(access_key) = access_key_of_signature(value) {
        return signed(access_key, value);
    }
    let token = match value.split_once(char::is_whitespace) {
        // A value with a tab is split only after a known scheme. Otherwise, the tab is a part of a
        // malformed key.
        Some((scheme, rest)) if is_token(scheme) && (!value.contains('\t') || is_known(scheme)) => {
            if scheme.eq_ignore_ascii_case("basic") {
                return basic(rest.trim());
            }
            key_after_scheme(rest.trim()).unwrap_or(value)
        }
        _ if is_known(value) => "",
        _ => value,
    };
    if let Some(access_key) = access_key_of_bedrock_key(token) {
        return signed(&access_key, token);
    }
    key(token)
}

/// Returns the credential of a key or a token; `None` if `token` is empty.
fn key(token: &str) -> Option<Result<Credential, Malformed>> {
    let claims = Claims::of_token(token);
    let named = claims.as_ref().and_then(account_of_claims);
    let (kind, account) = match named {
        Some(account) => (AccountKind::Jwt, account),
        None => (AccountKind::Key, token.to_owned()),
    };
    validated(Credential { kind, account, credential_text: token.to_owned(), claims })
}

/// Returns a credential, or [`Malformed`] if its text has control bytes. Returns `None` if its text
/// or its account is empty.
fn validated(credential: Credential) -> Option<Result<Credential, Malformed>> {
    if credential.credential_text.is_empty() || credential.account.is_empty() {
        return None;
    }
    let is_malformed = credential.credential_text.bytes().any(|byte| byte.is_ascii_control());
    Some(if is_malformed { Err(Malformed) } else { Ok(credential) })
}

/// Returns the text that names the account of a token: the issuer and the subject, or the issuer
/// and the client, if the token has no subject. `None` if the token names neither.
fn account_of_claims(claims: &Claims) -> Option<String> {
    let mut names = ["sub"].iter().chain(&CLIENT_CLAIMS);
    names.find_map(|name| account_of_claim(claims, name))
}

/// Returns the text that names the account by the value of one claim of a token; `None` if the
/// token does not have a valid claim of this name.
pub(super) fn account_of_claim(claims: &Claims, name: &str) -> Option<String> {
    let value = claims.text(name)?;
    Some(join(&[&claims.issuer(), name, &value]))
}

/// Joins texts with NUL bytes. The texts have no control bytes, so no two lists give the same
/// result.
pub(super) fn join(parts: &[&str]) -> String {
    parts.join("\0")
}

/// Returns the credential of a signed request; `None` if the access key is empty. The account is
/// the text of `access_key` before the first slash, comma or space.
fn signed(access_key: &str, credential_text: &str) -> Option<Result<Credential, Malformed>> {
    let end = access_key.find(['/', ',', ' ']).unwrap_or(access_key.len());
    let account = access_key.get(..end)?.to_owned();
    validated(Credential {
        kind: AccountKind::Aws,
        account,
        credential_text: credential_text.to_owned(),
        claims: None,
    })
}

/// Returns the text after `Credential=` in a signature of AWS Signature Version 4, or in a
/// signature of another cloud with a similar format. Returns `None` for any other value, and if the
/// access key is empty.
fn access_key_of_signature(value: &str) -> Option<&str> {
    let (scheme, parameters) = value.split_once(char::is_whitespace)?;
    let scheme = scheme.to_ascii_uppercase();
    if !scheme.contains("HMAC") && !scheme.starts_with("AWS4-") {
        return None;
    }
    let name = "credential=";
    let start = parameters.to_ascii_lowercase().find(name)?;
    let access_key = parameters.get(start.saturating_add(name.len())..)?;
    Some(access_key).filter(|text| !text.starts_with(['/', ',', ' ']))
}

/// Returns the access key of a short-term API key of Amazon Bedrock, which is a presigned URL in
/// base64; `None` for any other key.
fn access_key_of_bedrock_key(token: &str) -> Option<String> {
    let encoded = token.strip_prefix("bedrock-api-key-")?;
    let url = BASE64_STANDARD.decode(encoded).ok()?;
    let url = String::from_utf8(url).ok()?;
    let (_, query) = url.split_once('?')?;
    let mut parameters = parameters(query);
    let (_, access_key) = parameters.find(|(name, _)| name == "X-Amz-Credential")?;
    Some(access_key.into_owned()).filter(|text| !text.starts_with('/'))
}

/// Returns the credential of HTTP Basic: the user name, or the password if the user name is empty
/// or only says that the password is a key. Text that cannot be decoded is treated as a key.
fn basic(encoded: &str) -> Option<Result<Credential, Malformed>> {
    let unpadded = encoded.trim_end_matches('=');
    let decoded = BASE64_STANDARD_NO_PAD.decode(unpadded).ok();
    let decoded = decoded.and_then(|bytes| String::from_utf8(bytes).ok());
    let Some((user, password)) = decoded.as_deref().and_then(|text| text.split_once(':')) else {
        return key(encoded);
    };
    let is_key = user.is_empty() || KEY_USERS.iter().any(|name| user.eq_ignore_ascii_case(name));
    if is_key && !password.is_empty() {
        return key(password);
    }
    let (account, credential_text) = (user.to_owned(), encoded.to_owned());
    let is_malformed = user.bytes().any(|byte| byte.is_ascii_control());
    let credential =
        Credential { kind: AccountKind::Basic, account, credential_text, claims: None };
    if is_malformed { Some(Err(Malformed)) } else { validated(credential) }
}

/// Returns the key after a scheme: the first word, without a name and quotes (`token="…"`). `None`
/// if the scheme is followed by a list of parameters.
fn key_after_scheme(rest: &str) -> Option<&str> {
    if rest.contains(',') {
        return None;
    }
    let word = rest.split_whitespace().next().unwrap_or_default();
    let named = KEY_PARAMETERS.iter().find_map(|name| word.strip_prefix(name));
    Some(named.unwrap_or(word).trim_matches('"'))
}

/// Returns whether a word is the name of a scheme that clients use.
fn is_known(word: &str) -> bool {
    SCHEMES.iter().any(|scheme| word.eq_ignore_ascii_case(scheme))
}

/// Minimum bytes of a real credential. A shorter one is a placeholder if the request has others.
const MIN_KEY_BYTES: usize = 8;

/// Placeholders that SDKs and the documentation of servers use where a key is required but not
/// read.
const PLACEHOLDERS: [&str; 16] = [
    "anything",
    "api-key",
    "api_key",
    "apikey",
    "local-key",
    "lm-studio",
    "no-key-required",
    "not-needed",
    "not-used",
    "not_needed",
    "placeholder",
    "sk-no-key-required",
    "sk-placeholder",
    "undefined",
    "your-api-key",
    "YOUR_API_KEY",
];

/// Claims that name the client of a token without a subject: OpenID Connect, OAuth, Entra, Okta,
/// and tokens that clients of Zhipu sign themselves.
const CLIENT_CLAIMS: [&str; 5] = ["azp", "client_id", "appid", "cid", "api_key"];

/// Names of authentication schemes; such a name alone is not a credential.
const SCHEMES: [&str; 6] = ["bearer", "basic", "token", "key", "apikey", "api-key"];

/// User names of HTTP Basic which mean that the password is an API key.
const KEY_USERS: [&str; 7] = ["apikey", "api-key", "api_key", "api", "key", "token", "bearer"];

/// Names that precede a key after its scheme.
const KEY_PARAMETERS: [&str; 4] = ["token=", "key=", "auth=", "api_key="];

/// Maximum number of credentials of a request that are read.
const MAX_CREDENTIALS: usize = 16;

#[cfg(test)]
mod tests {
    use base64::prelude::BASE64_URL_SAFE_NO_PAD;

    use super::super::credential_place::PROTOCOL_HEADER;
    use super::*;

    fn jwt(payload: &str) -> String {
        let [header, payload] =
            [r#"{"alg":"RS256"}"#, payload].map(|part| BASE64_URL_SAFE_NO_PAD.encode(part));
        format!("{header}.{payload}.c2ln")
    }

    /// Returns kind and account of a value; `None` for a missing or malformed credential.
    fn account(value: &str) -> Option<(&'static str, String)> {
        let credential = read(value)?.ok()?;
        Some((credential.kind.name(), credential.account))
    }

    #[test]
    fn a_key_is_one_account_in_every_spelling() {
        let spellings = [
            "sk-1",
            " sk-1 ",
            "Bearer sk-1",
            "bearer  sk-1 ",
            "BEARER\tsk-1",
            "Token sk-1",
            "CredentialApi-Key sk-1",
            "Key sk-1",
            "X1 sk-1",
            "Bearer sk-1 junk",
            "Token token=sk-1",
            "Token token=\"sk-1\"",
            "Basic OnNrLTE=",
            "basic  OnNrLTE",
            "Basic YXBpa2V5OnNrLTE=",
        ];
        for spelling in spellings {
            assert_eq!(account(spelling), Some(("key", "sk-1".to_owned())), "{spelling}");
        }
        for missing in ["", " ", "Bearer", "bearer ", "Basic", "Bearer \"\"", "Basic Og=="] {
            assert_eq!(account(missing), None, "{missing}");
        }
    }

    #[test]
    fn schemes_name_accounts_that_outlive_credentials() {
        let aws = "AWS4-HMAC-SHA256 Credential=AKIAX/20260101/eu/bedrock/aws4_request, \
                   SignedHeaders=host, Signature=00";
        let bedrock = BASE64_STANDARD
            .encode("bedrock.amazonaws.com/?Action=Call&X-Amz-Credential=AKIAX%2F20260101%2Fx");
        let rows = [
            ("SigV4", aws.to_owned(), "aws", "AKIAX"),
            ("SigV4 in lower case", aws.to_ascii_lowercase(), "aws", "akiax"),
            ("Bedrock", format!("Bearer bedrock-api-key-{bedrock}"), "aws", "AKIAX"),
            ("Alibaba", "ACS3-HMAC-SHA256 Credential=AK1,Signature=0".into(), "aws", "AK1"),
            ("no access key", "AWS4-HMAC-SHA256 Signature=0".into(), "key", "Signature=0"),
            ("Basic", "Basic YW5hOnNlY3JldA==".into(), "basic", "ana"),
            ("broken Basic", "Basic !!".into(), "key", "!!"),
            ("Basic without a colon", "Basic YW5h".into(), "key", "YW5h"),
            ("parameters", "Digest a=b, c=d".into(), "key", "Digest a=b, c=d"),
            ("subject", jwt(r#"{"iss":"i","sub":"s","azp":"c"}"#), "jwt", "i\0sub\0s"),
            ("client", format!("Bearer {}", jwt(r#"{"azp":"c"}"#)), "jwt", "\0azp\0c"),
        ];
        for (name, value, kind, expected) in rows {
            assert_eq!(account(&value), Some((kind, expected.to_owned())), "{name}");
        }
        let anonymous = jwt(r#"{"iss":"i"}"#);
        assert_eq!(account(&anonymous), Some(("key", anonymous)));
    }

    #[test]
    fn control_bytes_are_not_part_of_a_credential() {
        let rows = [
            ("sk-1", true),
            ("schl\u{fc}ssel", true),
            ("key\0indicators.v1", false),
            ("sk-1\u{7f}", false),
            ("sk-1\n", false),
            ("sk\t1", false),
            ("Bearer\tsk-1", true),
            ("\u{1}", false),
            ("Basic YQFhOmI=", false),
        ];
        for (value, is_valid) in rows {
            assert_eq!(read(value).unwrap().is_ok(), is_valid, "{value:?}");
        }
    }

    fn first(
        dialect: Dialect,
        path: &str,
        headers: &[(&str, &str)],
        query: &str,
    ) -> (Option<String>, u32) {
        let headers: Vec<(String, String)> =
            headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let found = find_credentials(&headers, query, (dialect, path), &[], &|_| false);
        (found.first.map(|credential| credential.account), found.count)
    }

    #[test]
    fn the_api_decides_which_credential_counts() {
        let headers = [("authorization", "Bearer a"), ("x-api-key", "b"), ("api-key", "c")];
        let rows = [
            (Dialect::Openai, "/v1/chat/completions", "a"),
            (Dialect::Openai, "/openai/deployments/x/chat/completions", "c"),
            (Dialect::Anthropic, "/v1/messages", "b"),
            (Dialect::Anthropic, "/model/claude/invoke", "a"),
            (Dialect::Gemini, "/v1beta/models/x:generateContent", "d"),
            (Dialect::Gemini, "/v1/projects/p/locations/l/models/x:generateContent", "a"),
        ];
        for (dialect, path, expected) in rows {
            let found = first(dialect, path, &headers, "key=d&key=e");
            assert_eq!(found, (Some(expected.to_owned()), 5), "{path}");
        }
        assert_eq!(first(Dialect::Openai, "/", &[], ""), (None, 0));
        let same = [("authorization", "Bearer a"), ("x-api-key", "a")];
        assert_eq!(first(Dialect::Openai, "/", &same, "key=a"), (Some("a".to_owned()), 1));
    }

    #[test]
    fn of_several_credentials_placeholders_do_not_count_and_accepted_ones_do() {
        const REAL: &str = "sk-real-1234567890";
        const JUNK: &str = "sk-junk-0987654321";
        type Headers = &'static [(&'static str, &'static str)];
        // headers, accepted, expected, other credentials that may be read instead
        let rows: [(&str, Headers, &[&str], &str, &[&str]); 10] = [
            ("a dummy", &[("authorization", "Bearer none"), ("api-key", REAL)], &[], REAL, &[]),
            (
                "a word",
                &[("authorization", "Bearer not-needed"), ("x-api-key", REAL)],
                &[],
                REAL,
                &[],
            ),
            ("alone", &[("authorization", "Bearer not-needed")], &[], "not-needed", &[]),
            (
                "two dummies",
                &[("authorization", "Bearer none"), ("api-key", "EMPTY")],
                &[],
                "none",
                &["EMPTY"],
            ),
            ("junk", &[("authorization", JUNK), ("api-key", REAL)], &[], JUNK, &[REAL]),
            ("junk, known key", &[("authorization", JUNK), ("api-key", REAL)], &[REAL], REAL, &[]),
            ("both known", &[("authorization", JUNK), ("api-key", REAL)], &[REAL, JUNK], JUNK, &[]),
            (
                "a gateway's key",
                &[("cf-aig-authorization", JUNK), ("authorization", REAL)],
                &[],
                REAL,
                &[],
            ),
            ("the same key", &[("authorization", REAL), ("api-key", REAL)], &[], REAL, &[]),
            ("configured", &[("x-own", JUNK), ("api-key", REAL)], &[REAL], JUNK, &[]),
        ];
        let configured = [CredentialPlace::try_from("header:x-own".to_owned()).unwrap()];
        for (name, headers, accepted, expected, alternatives) in rows {
            let headers: Vec<(String, String)> =
                headers.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
            let call = (Dialect::Openai, "/v1/chat/completions");
            let is_accepted_by_origin = |text: &str| accepted.contains(&text);
            let found = find_credentials(&headers, "", call, &configured, &is_accepted_by_origin);
            assert_eq!(found.first.unwrap().account, expected, "{name}");
            assert_eq!(found.alternatives, alternatives, "{name}");
        }
        let headers = [("authorization", REAL), ("x-litellm-api-key", JUNK)];
        let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let call = (Dialect::Openai, "/v1/chat/completions");
        let found = find_credentials(&headers, "", call, &[], &|_| false);
        let others = [found.alternatives, found.unrelated_credentials].concat();
        assert_eq!((others, found.is_ambiguous, found.count), (vec![JUNK.to_owned()], true, 2));
    }

    #[test]
    fn every_place_of_the_table_is_read() {
        for (place, _) in PLACES {
            let (headers, query) = match place {
                CredentialPlace::Header(name) => {
                    (vec![(name.as_ref(), "Bearer sk-1")], String::new())
                }
                CredentialPlace::Query(name) => (Vec::new(), format!("a=b&{name}=sk-1")),
                CredentialPlace::Protocol => (
                    vec![(PROTOCOL_HEADER, "realtime, openai-insecure-api-key.sk-1")],
                    String::new(),
                ),
            };
            let found = first(Dialect::Generic, "/", &headers, &query);
            assert_eq!(found, (Some("sk-1".to_owned()), 1), "{place:?}");
        }
        let protocols = [(PROTOCOL_HEADER, "realtime,openai-insecure-api-key.")];
        assert_eq!(first(Dialect::Openai, "/", &protocols, ""), (None, 0));
    }

    #[test]
    fn a_malformed_credential_ends_the_search() {
        let headers = [("api-key".to_owned(), "sk-other".to_owned())];
        let found =
            find_credentials(&headers, "key=sk%001", (Dialect::Gemini, "/"), &[], &|_| false);
        assert!(found.first.is_none() && found.is_malformed);
        let configured = [CredentialPlace::try_from("header:api-key".to_owned()).unwrap()];
        let call = (Dialect::Gemini, "/");
        let found = find_credentials(&headers, "key=sk%001", call, &configured, &|_| false);
        assert_eq!(found.first.map(|credential| credential.account), Some("sk-other".to_owned()));
    }

    proptest::proptest! {
        #[test]
        fn hostile_credentials_are_read_in_bounded_text(
            value in "(Bearer |Basic |AWS4-HMAC-SHA256 Credential=)?\\PC{0,200}",
        ) {
            if let Some(Ok(credential)) = read(&value) {
                proptest::prop_assert!(!credential.account.is_empty());
                proptest::prop_assert!(credential.account.len() <= value.len().max(16) * 2);
            }
        }
    }
}
