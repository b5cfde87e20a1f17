//! Comparisons and policies: tests with tables of small rulesets, and with random regexes. The
//! matcher of the edge (the fast path) is compared with `explain`, which searches all values, and
//! with the naive reference.
use hedgerow_core::evaluate::explain::Explainer;
use hedgerow_core::extract::{FieldValue, Request};
use hedgerow_core::field::{Field, FieldId, Section};
use hedgerow_core::http::unknown_parts::UnknownParts;
use hedgerow_core::matching::Hit;
use hedgerow_core::{Decision, Envelope, Ruleset};
use hedgerow_sigma::RuleFile;
use proptest::prelude::*;

use crate::support::{PlainRequest, parts_of};

/// Returns a rule of level critical (22 dB) with a detection section.
fn rule(name: &str, status: &str, detection: &str) -> RuleFile {
    let id = name.bytes().fold(0_u64, |sum, byte| sum * 31 + u64::from(byte)) & 0xffff_ffff_ffff;
    let related = match status {
        "deprecated" => "related: [{id: 5d0f2a6e-5a3b-4a3c-9a54-000000000001, type: obsolete}]\n",
        _ => "",
    };
    let text = format!(
        "title: A rule of a test\nid: 5d0f2a6e-5a3b-4a3c-9a54-{id:012x}\n\
         name: synthesis_{name}\nstatus: {status}\n{related}description: For one test.\n\
         references: ['https://arxiv.org/abs/2212.10560']\nauthor: Hedgerow\ndate: 2026-11-24\n\
         tags: [hedgerow.synthesis]\nlogsource: {{category: llm_api, product: hedgerow}}\n\
         detection:\n{detection}\n\
         falsepositives: [Nobody]\nlevel: critical\ncustom_attributes:\n  rsigma.exemplars:\n{}",
        ["match", "match", "no-match", "no-match"]
            .iter()
            .enumerate()
            .map(|(number, expect)| format!(
                "    - {{name: '{number}', expect: {expect}, event: {{hedgerow.prompt.user: x}}}}\n"
            ))
            .collect::<String>()
    );
    RuleFile { path: format!("{name}.yml"), text }
}

fn ruleset(sources: &[RuleFile]) -> Result<Ruleset, String> {
    let rules = hedgerow_sigma::check(sources).map_err(|findings| {
        findings.iter().map(|finding| format!("{finding}\n")).collect::<String>()
    })?;
    rules.ruleset().map_err(|error| error.to_string())
}

/// Returns the hit of the fast path in a ruleset of one signature; `None` if the signature does not
/// match.
fn hit(ruleset: &Ruleset, request: &Request<'_>, headers: &[(String, String)]) -> Option<Hit> {
    let bits = ruleset.program().header_bits(headers);
    ruleset.program().matcher().hits(request, &bits).pop()
}

#[test]
fn modifiers_compare_as_documented() {
    use FieldValue::{Keyword, Number, Text};
    let user = |text| (FieldId::PromptUser, Text(Section::User, text));
    let system = |text| (FieldId::SystemInstructions, Text(Section::System, text));
    let agent = |text| (FieldId::UserAgent, Keyword(text));
    let address = |text| (FieldId::ClientAddress, Keyword(text));
    let choices = |number| (FieldId::ChoiceCount, Number(number));
    let text = "hedgerow.prompt.user";
    let rows: &[(String, &[(FieldId, FieldValue<'_>)], bool)] = &[
        (format!("{text}|contains: 'Write  Out'"), &[user("please WRITE\nout all")], true),
        (format!("{text}|contains: write out"), &[system("write out")], false),
        (format!("{text}|contains: [write out, spell out]"), &[user("spell out")], true),
        (format!("{text}|contains|all: [write out, spell out]"), &[user("spell out")], false),
        (
            format!("{text}|contains|all: [write out, spell out]"),
            &[user("spell out"), user("write out")],
            true,
        ),
        (format!("{text}|startswith: write out"), &[user("  Write out this")], true),
        (format!("{text}|startswith: write out"), &[user("now write out"), user("write")], false),
        (format!("{text}|endswith: write out"), &[user("now write out ")], true),
        (format!("{text}|endswith: write out"), &[user("write out now")], false),
        (format!("{text}: write out"), &[user("Write out")], true),
        (format!("{text}: write out"), &[user("write out!")], false),
        (format!("{text}: 'write out*'"), &[user("write out!")], true),
        (format!("{text}|contains|cased: Write Out"), &[user("now Write  Out")], true),
        (format!("{text}|contains|cased: Write Out"), &[user("now write out")], false),
        (format!("{text}|startswith|cased: Write Out"), &[user("write out Write Out")], false),
        (
            format!("{text}|re: 'writ(e|ing) .{{0,9}}by heart$'"),
            &[user("Writing it all by heart")],
            true,
        ),
        (
            format!("{text}|re: 'writ(e|ing) .{{0,9}}by heart$'"),
            &[user("writing it all, all by heart")],
            false,
        ),
        (format!("{text}|re: '^write out'"), &[user("do write out")], false),
        (format!("{text}|re|i: 'WRITE OUT'"), &[user("write out")], true),
        (format!("{text}|exists: true"), &[system("x")], false),
        (format!("{text}|exists: true"), &[user("x")], true),
        ("user_agent.original|startswith: python-".into(), &[agent("Python-Requests/2")], true),
        ("user_agent.original|re: 'requests/[0-9]$'".into(), &[agent("Python-Requests/2")], true),
        ("user_agent.original|re: 'requests/[0-9]$'".into(), &[agent("requests/22")], false),
        ("user_agent.original|contains|cased: Requests".into(), &[agent("requests")], false),
        ("client.address|cidr: 203.0.113.0/24".into(), &[address("203.0.113.9")], true),
        ("client.address|cidr: 203.0.113.0/24".into(), &[address("203.0.114.9")], false),
        ("client.address|cidr: '2001:db8::/32'".into(), &[address("2001:db8::1")], true),
        ("gen_ai.request.choice.count: 4".into(), &[choices(4.0)], true),
        ("gen_ai.request.choice.count|gt: 4".into(), &[choices(4.0)], false),
        ("gen_ai.request.choice.count|gt: 4".into(), &[choices(1.0), choices(5.0)], true),
        ("gen_ai.request.choice.count|gte: 4".into(), &[choices(4.0)], true),
        ("gen_ai.request.choice.count|lt: 4".into(), &[choices(4.0)], false),
        ("gen_ai.request.choice.count|lt: 4".into(), &[choices(3.5)], true),
        ("gen_ai.request.choice.count|lte: 4".into(), &[choices(4.0)], true),
        ("hedgerow.logprobs: true".into(), &[(FieldId::Logprobs, Number(1.0))], true),
        ("hedgerow.logprobs: true".into(), &[(FieldId::Logprobs, Number(0.0))], false),
    ];
    for (test, values, expected) in rows {
        let detection =
            format!("  a: {{\"{}\n  condition: a", test.replacen(": ", "\": ", 1) + "}");
        let ruleset = ruleset(&[rule("one", "stable", &detection)])
            .unwrap_or_else(|findings| panic!("{test}: {findings}"));
        let request = Request::from_values(values.iter().copied());
        let signature = &ruleset.signatures()[0];
        let explained = Explainer::default().holds(signature, &request, &[]);
        let fast = hit(&ruleset, &request, &[]).is_some();
        assert_eq!((fast, explained), (*expected, *expected), "{test} on {values:?}");
        if !test.contains("cased") {
            let naive = PlainRequest::from_request(&request, |_| true).normalized();
            assert_eq!(
                naive.matches(signature, &[], &[]),
                *expected,
                "naive reference: {test} on {values:?}"
            );
        }
    }
}

/// Compares the parts that decide each field with the naive reference.
#[test]
fn a_field_of_an_unknown_part_is_unknown() {
    let fields = FieldId::ALL.iter().copied().map(Field::Known);
    let header = Field::parse("http.request.header.x-title").unwrap();
    for field in fields.chain([header]) {
        assert!(!Envelope::default().is_unknown(&field), "at the edge: {}", field.name());
        for (part, unknown) in UnknownParts::NAMES {
            let envelope = Envelope { unknown, ..Envelope::default() };
            let expected = parts_of(&field.name()).contains(&part);
            assert_eq!(envelope.is_unknown(&field), expected, "{} without {part}", field.name());
        }
    }
}

/// Regression: a log without headers counted as a client without a user agent.
#[test]
fn a_signature_that_tests_an_unknown_part_does_not_hold() {
    let text = "a: {hedgerow.prompt.user|contains: write out}";
    let no_agent = "b: {user_agent.original|exists: false}";
    let agent = "b: {user_agent.original|startswith: python-}";
    let no_title = "b: {http.request.header.x-title|exists: false}";
    let no_number = "b: {client.as.number|exists: false}";
    let python = [("user-agent".to_owned(), "python-requests/2".to_owned())];
    // Selection, headers, and whether the signature holds with all parts known, without
    // the headers, without the body and without the client.
    let rows: [(&str, &[(String, String)], [bool; 4]); 5] = [
        (no_agent, &[], [true, false, false, true]),
        (no_agent, &python, [false, false, false, false]),
        (agent, &python, [true, true, false, true]),
        (no_title, &python, [true, false, false, true]),
        (no_number, &[], [true, true, false, false]),
    ];
    let body = r#"{"messages": [{"role": "user", "content": "write out all"}]}"#;
    let parts = UnknownParts::NAMES.map(|(_, part)| part);
    for (selection, headers, expected) in rows {
        let detection = format!("  {text}\n  {selection}\n  condition: a and b");
        let ruleset = ruleset(&[rule("one", "stable", &detection)])
            .unwrap_or_else(|findings| panic!("{detection}: {findings}"));
        let holds = |unknown: UnknownParts| {
            let path = "/v1/chat/completions";
            let body = body.as_bytes();
            let envelope =
                Envelope { method: "POST", path, headers, body, unknown, ..Envelope::default() };
            let hits = ruleset.assess(&envelope).unwrap().hits;
            !hits.is_empty()
        };
        let [no_headers, no_body, no_client] = parts.map(holds);
        let all = [holds(UnknownParts::default()), no_headers, no_body, no_client];
        assert_eq!(all, expected, "{detection}");
    }
}

/// Generates regexes of words with gaps between the words. They are more complex than the regexes
/// of signatures.
fn pattern() -> impl Strategy<Value = String> {
    let word = prop::sample::select(
        &[
            "write ",
            "grade",
            "answers?",
            "an? question",
            "judge$",
            "^rank ",
            "\u{8bc4}\u{5206}",
            "ab",
        ][..],
    );
    let piece = (prop::collection::vec(word, 1..4), 0..8_usize).prop_map(|(words, suffix)| {
        let suffix = ["", "", "", "", "?", "{1,3}", "+", "{0,2}"][suffix];
        format!("({}){suffix}", words.join("|"))
    });
    let gap = prop::sample::select(
        &["", " ?", ".{0,3}", ".{0,12}", ".{2,40}", ".*", "[a-z ]{1,4}", "(the |an )?", "\\b"][..],
    );
    prop::collection::vec((piece, gap), 1..5).prop_map(|parts| {
        parts.into_iter().map(|(piece, gap)| format!("{piece}{gap}")).collect::<String>()
    })
}

/// Generates texts from the words of [`pattern`] and other words.
fn words() -> impl Strategy<Value = String> {
    let word = prop::sample::select(
        &[
            "write ",
            "grade",
            "answer",
            "answers",
            "a question",
            "an question",
            "judge",
            "rank ",
            "\u{8bc4}\u{5206}",
            "ab",
            " ",
            " the ",
            "x",
            "yy ",
            "zzz, zzz ",
            "\u{e9}",
        ][..],
    );
    prop::collection::vec(word, 0..24).prop_map(|words| words.concat())
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 1_500,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    /// A regex runs only near its required literals (the gate). The result must equal that of a
    /// search of the whole value.
    #[test]
    fn the_regex_gate_finds_the_match_of_a_full_search(
        pattern in pattern(),
        texts in prop::collection::vec(words(), 1..4),
    ) {
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        check_regex_gate("hedgerow.prompt.user", &pattern, &texts)?;
    }

    /// The result also equals that of a full search in text with several roles.
    #[test]
    fn the_regex_gate_finds_the_match_that_begins_in_an_instruction(
        pattern in pattern(),
        texts in prop::collection::vec(words(), 1..5),
    ) {
        let text = format!("Translate the block.\n```\n{}", texts.join("\n```\n"));
        check_regex_gate("hedgerow.prompt.instruction", &pattern, &[&text])?;
    }
}

/// Compares the match of a regex in a field of user text with the match of a full search.
fn check_regex_gate(field: &str, pattern: &str, texts: &[&str]) -> Result<(), TestCaseError> {
    let detection = format!("  a: {{{field}|re: '{pattern}'}}\n  condition: a");
    // Regexes without a required literal are rejected.
    let Ok(ruleset) = ruleset(&[rule("one", "stable", &detection)]) else { return Ok(()) };
    let values =
        texts.iter().map(|text| (FieldId::PromptUser, FieldValue::Text(Section::User, text)));
    let request = Request::from_values(values);
    let explained = Explainer::default().explain(&ruleset.signatures()[0], &request, &[]);
    let evidence = explained.selections[0].comparisons[0].evidence.clone();
    let fast = hit(&ruleset, &request, &[]).map(|mut hit| hit.evidence.pop().unwrap());
    prop_assert_eq!(fast, evidence);
    Ok(())
}

/// Regression: the shipped rules passed all checks although every Worker would have rejected their
/// release.
#[test]
fn regexes_that_the_edge_refuses_are_a_finding_at_the_largest_rule() {
    let detection = |count: usize| {
        let pattern = |number| format!("    - 'word{number} .{{0,700}}end .{{0,700}}stop'\n");
        let patterns: String = (0..count).map(pattern).collect();
        format!("  a:\n   hedgerow.prompt.user|re:\n{patterns}  condition: a")
    };
    let rules = |count| {
        [rule("small", "stable", &detection(1)), rule("large", "stable", &detection(count))]
    };
    assert!(ruleset(&rules(9)).is_ok());
    let findings = ruleset(&rules(90)).unwrap_err();
    for part in ["large.yml:11:1: ", "more than 24 MiB together; ", "this rule takes most, "] {
        assert!(findings.contains(part), "{findings}");
    }
    assert_eq!(findings.lines().count(), 1, "{findings}");
}

/// If text has several roles, it is matched a second time. The second matching replays up to 4,096
/// recorded literals. If there are more, it scans the text again.
#[test]
fn an_order_behind_many_decoys_in_a_quotation_is_found() {
    let test = "  a: {hedgerow.prompt.instruction|contains: forty}\n  condition: a";
    let ruleset = ruleset(&[rule("one", "stable", test)]).unwrap();
    for decoys in [1, 4_094, 4_095, 4_096, 4_097, 4_098] {
        for (order, is_hit) in [("Write forty pairs.", true), ("Write four pairs.", false)] {
            let block = "forty ".repeat(decoys);
            let text = format!("Translate the block.\n```\n{block}\n```\n{order}");
            let values = [(FieldId::PromptUser, FieldValue::Text(Section::User, text.as_str()))];
            let request = Request::from_values(values);
            let hit = hit(&ruleset, &request, &[]);
            assert_eq!(hit.is_some(), is_hit, "{decoys} decoys before: {order}");
        }
    }
}

/// Regression: if searching text by role exhausted the budget, signatures that had already matched
/// were lost.
#[test]
fn a_quotation_that_exhausts_the_second_matching_hides_nothing() {
    let detection = "  order: {hedgerow.prompt.instruction|contains: forty pairs}\n  \
                     regex:\n    hedgerow.prompt.instruction|re: 'alpha .{0,600}omega'\n  \
                     condition: order or regex";
    let ruleset = ruleset(&[rule("one", "stable", detection)]).unwrap();
    let mut exhausted = 0;
    for repeats in [1, 10, 100, 1_000, 10_000] {
        let block = format!("{}omega ", "alpha beta ".repeat(50)).repeat(repeats);
        let text = format!("Write forty pairs.\n```\n{block}\n```");
        let values = [(FieldId::PromptUser, FieldValue::Text(Section::User, text.as_str()))];
        let request = Request::from_values(values);
        let hit = hit(&ruleset, &request, &[]).unwrap();
        assert!(!hit.evidence.is_empty(), "{repeats} repeats");
        exhausted += usize::from(request.work().is_exhausted());
    }
    assert!((1..5).contains(&exhausted), "{exhausted} of five texts exhaust the budget");
}

#[test]
fn text_counts_in_the_role_of_its_passage() {
    let text = "Translate the block.\n```\nwrite forty pairs\n```\nKeep the tone.";
    let rows = [
        ("hedgerow.prompt.instruction|contains: translate the", true),
        ("hedgerow.prompt.instruction|contains: forty pairs", false),
        ("hedgerow.prompt.instruction|re: 'forty .{0,9}pairs|keep .{0,9}tone'", true),
        ("hedgerow.prompt.instruction|re: 'block.{0,99}pairs'", true),
        ("hedgerow.prompt.material|contains: forty pairs", true),
        ("hedgerow.prompt.material|contains: translate the", false),
        ("hedgerow.prompt.material|exists: true", true),
        ("hedgerow.prompt.examples|contains: forty pairs", false),
        ("hedgerow.prompt.user|contains: forty pairs", true),
    ];
    for (test, expected) in rows {
        let selection = test.replacen(": ", "\": ", 1);
        let detection = format!("  a: {{\"{selection}}}\n  condition: a");
        let ruleset = ruleset(&[rule("one", "stable", &detection)])
            .unwrap_or_else(|findings| panic!("{test}: {findings}"));
        let values = [(FieldId::PromptUser, FieldValue::Text(Section::User, text))];
        let request = Request::from_values(values);
        let explained = Explainer::default().holds(&ruleset.signatures()[0], &request, &[]);
        let fast = hit(&ruleset, &request, &[]).is_some();
        assert_eq!((fast, explained), (expected, expected), "{test}");
    }
}

#[test]
fn the_policy_overrides_rules_and_defaults() {
    let detection =
        |word: &str| format!("  a: {{hedgerow.prompt.user|contains: {word}}}\n  condition: a");
    let rules = [
        rule("plain", "stable", &detection("plain words")),
        rule("other", "test", &detection("other words")),
        rule("trial", "experimental", &detection("trial words")),
        rule("gone", "deprecated", &detection("gone words")),
    ];
    let exemption = |rest: &str| {
        format!("[[exemption]]\nname = 'audit'\nreason = 'nightly'\nuntil = 2027-01-31\n{rest}\n")
    };
    let account = "0123456789abcdef0123456789abcdef";
    let chat = "/v1/chat/completions";
    // A row has policy, path, prompt and outcome. The outcome of an LLM call has band, action,
    // mode, hits and shadow hits.
    type Outcome<'o> = Option<(&'o str, &'o str, &'o str, &'o str, &'o str)>;
    let rows: Vec<(&str, String, &str, &str, Outcome<'_>)> = vec![
        (
            "no policy",
            String::new(),
            chat,
            "plain words",
            Some(("suspect", "degrade", "shadow", "synthesis_plain", "")),
        ),
        (
            "an experimental rule is a shadow hit without weight",
            String::new(),
            chat,
            "trial words",
            Some(("clear", "allow", "shadow", "", "synthesis_trial")),
        ),
        (
            "a deprecated rule is not built",
            String::new(),
            chat,
            "gone words",
            Some(("clear", "allow", "shadow", "", "")),
        ),
        (
            "a signature is turned off",
            "[[signature]]\nname = 'synthesis_plain'\noff = true".into(),
            chat,
            "plain words",
            Some(("clear", "allow", "shadow", "", "")),
        ),
        (
            "a signature has another weight",
            "[[signature]]\nname = 'synthesis_plain'\nweight = 10.0".into(),
            chat,
            "plain words",
            Some(("notice", "tag", "shadow", "synthesis_plain", "")),
        ),
        (
            "an account is exempt from everything",
            exemption(&format!("account = '{account}'")),
            chat,
            "plain words",
            Some(("suspect", "allow", "shadow", "synthesis_plain", "")),
        ),
        (
            "an exemption omits one signature",
            exemption("signatures = ['synthesis_plain']"),
            chat,
            "plain words, other words",
            Some(("suspect", "degrade", "shadow", "synthesis_other", "")),
        ),
        (
            "an exemption of another path",
            exemption("path = '/v1/messages'"),
            chat,
            "plain words",
            Some(("suspect", "degrade", "shadow", "synthesis_plain", "")),
        ),
        (
            "a route has other actions and another mode",
            "[[route]]\npath = '/v1/chat/**'\nmode = 'enforce'\n\
             [route.actions]\nsuspect = 'throttle'"
                .into(),
            chat,
            "plain words",
            Some(("suspect", "throttle", "enforce", "synthesis_plain", "")),
        ),
        (
            "an account overrides its route",
            format!(
                "[[route]]\npath = '/v1/chat/**'\nmode = 'enforce'\n\
                 [[account]]\nid = '{account}'\nmode = 'shadow'"
            ),
            chat,
            "plain words",
            Some(("suspect", "degrade", "shadow", "synthesis_plain", "")),
        ),
        (
            "a route adds an LLM endpoint",
            "[[route]]\npath = '/ask'\nendpoint = 'generic'".into(),
            "/ask",
            "plain words",
            Some(("suspect", "degrade", "shadow", "synthesis_plain", "")),
        ),
        (
            "an unknown path is tagged at most",
            String::new(),
            "/ask",
            "plain words",
            Some(("suspect", "tag", "shadow", "synthesis_plain", "")),
        ),
        (
            "unknown paths are passed",
            "[unknown]\ntreat = 'pass'".into(),
            "/ask",
            "plain words",
            None,
        ),
        (
            "a route removes an LLM endpoint",
            "[[route]]\npath = '/v1/chat/**'\nendpoint = 'none'".into(),
            chat,
            "plain words",
            None,
        ),
        (
            "other bands",
            "[bands]\nsuspect = 60.0".into(),
            chat,
            "plain words, other words",
            Some(("suspect", "degrade", "shadow", "synthesis_other,synthesis_plain", "")),
        ),
        (
            "a family is capped",
            "[score]\nfamily_cap = 10.0".into(),
            chat,
            "plain words, other words",
            Some(("notice", "tag", "shadow", "synthesis_other,synthesis_plain", "")),
        ),
    ];
    for (name, policy, path, prompt, expected) in rows {
        let mut sources = rules.to_vec();
        sources.push(RuleFile { path: "policy.toml".into(), text: policy });
        let ruleset = ruleset(&sources).unwrap_or_else(|findings| panic!("{name}: {findings}"));
        let body = serde_json::json!({ "messages": [{ "role": "user", "content": prompt }] });
        let body = body.to_string();
        let envelope = Envelope {
            method: "POST",
            path,
            body: body.as_bytes(),
            account: Some(account),
            now: 1_795_478_400,
            ..Envelope::default()
        };
        let decision = ruleset.assess(&envelope).map(|assessment| {
            let attributes = envelope.attributes(assessment.model.as_deref());
            let disposition = ruleset.policy().disposition(&attributes);
            Decision::new(&ruleset, &envelope, assessment, disposition)
        });
        let outcome = decision.as_ref().map(|decision| {
            let hits: Vec<&str> = decision.hits.iter().map(|hit| hit.name.as_str()).collect();
            (
                decision.band.name(),
                decision.action.name(),
                decision.mode.name(),
                hits.join(","),
                decision.shadow_hits.join(","),
            )
        });
        let expected = expected.map(|(band, action, mode, hits, shadow)| {
            (band, action, mode, hits.to_owned(), shadow.to_owned())
        });
        assert_eq!(outcome, expected, "{name}");
    }
}

/// Regression: a search for required literals in the wrong order was not charged to the budget.
#[test]
fn the_search_for_required_literals_is_charged_to_the_budget() {
    // Returns an alternation of 18 words, and a text that consists of these words.
    let lists = |letter: char| {
        let words: Vec<String> = (0..18).map(|number| format!("{letter}word{number:02}")).collect();
        (words.join("|"), words.join(" "))
    };
    let (first, first_text) = lists('a');
    let (last, last_text) = lists('z');
    let detection =
        format!("  words:\n    hedgerow.prompt.user|re: '({first}) ({last})'\n  condition: words");
    let ruleset = ruleset(&[rule("ordered", "test", &detection)]).unwrap();
    let bits = ruleset.program().header_bits(&[]);
    let is_exhausted = |repeats: usize| {
        let lasts = vec![last_text.as_str(); repeats].join(" ");
        let firsts = vec![first_text.as_str(); repeats].join(" ");
        let text = format!("{lasts} {firsts}");
        let request =
            Request::from_values([(FieldId::PromptUser, FieldValue::Text(Section::User, &text))]);
        let mut matcher = ruleset.program().matcher();
        assert!(matcher.hits(&request, &bits).is_empty());
        request.work().is_exhausted()
    };
    assert!(!is_exhausted(10));
    assert!(is_exhausted(3_000));
}
