//! A last turn that points to another text: the order "do that" makes an instruction of the text to
//! which the order refers.
//!
//! Results of tools, texts of the model and definitions of tools are data, not instructions. But a
//! caller may put an instruction into such data and then only say "go". The data then counts as an
//! attached file, in addition to its own section.
//!
//! The last turn of the user points to another text if it has no content of its own. There are
//! three cases:
//!
//! - The turn is *short*: at most [`SHORT_WIDTH`] characters and [`SHORT_WORDS`] words, in any
//!   language. It names no task ([`TASKS`]: "summarise this") and asks no question. The turn points
//!   back, to the adjacent text of the model or result of a tool. If the conversation has neither,
//!   the turn points to the definitions of tools. If the request ends with a text of the model, the
//!   caller wrote this text as the beginning of the answer, and the turn points to it, too.
//! - The turn *orders to follow* another text ([`FOLLOW_ORDERS`]: "follow the document"), in at
//!   most [`ORDER_WIDTH`] characters. The turn points in both directions: back to the adjacent
//!   text, and forward to the call of a tool and its result.
//! - The user has no turn. If a request has no text of the user or the system and continues no
//!   stored conversation, its last text must be the instruction.
//!
//! Only adjacent text counts, so that "continue" in a long conversation does not reach old results
//! of tools.

use std::ops::Range;
use std::sync::LazyLock;

use super::request::Request;
use super::segment::Segment;
use super::word_prefixes::PrefixSet;
use crate::field::Section;

/// The direction in which a turn points.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pointer {
    Back,
    BothWays,
}

impl Request<'_> {
    /// Marks the texts to which the last turn of the user points.
    pub(super) fn mark_pointed_text(&mut self) {
        let mut sections = self.segments.iter().map(|segment| segment.section);
        if !sections.any(|section| is_data(section) || section == Section::Definition) {
            return;
        }
        let turn = self.last_turn();
        let pointer =
            if turn.is_empty() { self.pointer_without_turn() } else { self.pointer(&turn) };
        let Some(pointer) = pointer else { return };
        let (before, rest) = self.segments.split_at_mut(turn.start);
        let after = rest.get_mut(turn.len()..).unwrap_or_default();
        let mut has_data = mark_runs(before.iter_mut().rev(), 1);
        has_data |= after.iter().any(|segment| is_data(segment.section));
        let is_prefilled = !after.iter().any(|segment| segment.section == Section::Tool);
        if pointer == Pointer::BothWays || is_prefilled {
            mark_runs(after.iter_mut(), 2);
        }
        if !has_data {
            let definitions = self.segments.iter_mut();
            definitions
                .filter(|segment| segment.section == Section::Definition)
                .for_each(|segment| segment.is_pointed_at = true);
        }
    }

    /// Returns the range of the segments of the user's last turn, including segments between them
    /// that belong to no turn, such as system texts. If the user has no turn, the range is empty
    /// and at the end of the segments.
    fn last_turn(&self) -> Range<usize> {
        let is_user = |segment: &Segment<'_>| segment.section == Section::User;
        let len = self.segments.len();
        let Some(last) = self.segments.iter().rposition(is_user) else { return len..len };
        let before = self.segments.get(..last).unwrap_or_default();
        let start = before.iter().rposition(|segment| is_data(segment.section));
        let start = start.map_or(0, |data| data.saturating_add(1));
        start..last.saturating_add(1)
    }

    /// Returns the direction in which a turn points, or `None` if the turn has content of its own.
    fn pointer(&self, turn: &Range<usize>) -> Option<Pointer> {
        let parts = self
            .segments
            .get(turn.clone())?
            .iter()
            .filter(|segment| segment.section == Section::User && !segment.source.is_joined())
            .map(|segment| segment.range.clone());
        let bytes = parts.clone().fold(0, |sum: usize, part| sum.saturating_add(part.len()));
        if bytes > ORDER_WIDTH.saturating_mul(MAX_BYTES_PER_WIDTH) {
            return None;
        }
        let mut words = String::with_capacity(bytes);
        for part in parts {
            words.push(' ');
            words.push_str(self.text.get(part)?);
        }
        pointer_of_words(&words)
    }

    /// Returns the direction in which a request without a turn of the user points. Returns `None`
    /// if the request has an instruction or continues a stored conversation.
    fn pointer_without_turn(&self) -> Option<Pointer> {
        let is_instruction = |segment: &Segment<'_>| {
            matches!(segment.section, Section::System | Section::Attachment)
        };
        let says_nothing = !self.continues_stored && !self.segments.iter().any(is_instruction);
        says_nothing.then_some(Pointer::Back)
    }
}

/// Marks the nearest runs of segments as pointed at. A run consists of adjacent segments of one
/// section. Marking stops after `max_runs` runs, or at the next turn of the user. Returns false if
/// no segment is part of a turn.
fn mark_runs<'s, 'a: 's>(
    segments: impl Iterator<Item = &'s mut Segment<'a>>,
    max_runs: usize,
) -> bool {
    let mut runs = 0_usize;
    let mut current = None;
    for segment in segments.filter(|segment| !is_outside_turns(segment.section)) {
        if current != Some(segment.section) {
            current = Some(segment.section);
            runs = runs.saturating_add(1);
        }
        if runs > max_runs || segment.section == Section::User {
            break;
        }
        segment.is_pointed_at = true;
    }
    runs > 0
}

/// Returns whether a section holds text of the conversation that is not an instruction.
fn is_data(section: Section) -> bool {
    matches!(section, Section::Assistant | Section::Tool)
}

/// Returns whether a section is not a turn of the conversation, so that texts on both sides of it
/// are adjacent.
fn is_outside_turns(section: Section) -> bool {
    !is_data(section) && section != Section::User
}

/// Returns the direction in which a turn with this normalised text points, or `None` if the turn
/// has content of its own.
fn pointer_of_words(text: &str) -> Option<Pointer> {
    let text = text.trim_start();
    let width = text.chars().fold(0, |sum: usize, char| sum.saturating_add(char_width(char)));
    let words = || text.split(|char: char| !char.is_alphanumeric()).filter(|word| !word.is_empty());
    let first = words().next().unwrap_or_default();
    if width > ORDER_WIDTH || PREFIXES.questions.contains(first) {
        return None;
    }
    if contains_prefix(text, &PREFIXES.follow_orders) {
        return Some(Pointer::BothWays);
    }
    let is_short = width <= SHORT_WIDTH && words().nth(SHORT_WORDS).is_none();
    let is_question = text.contains(['?', '\u{61f}']);
    (is_short && !is_question && !contains_prefix(text, &PREFIXES.tasks)).then_some(Pointer::Back)
}

/// Returns whether a normalised sentence orders the model to follow another text.
pub(super) fn orders_to_follow(sentence: &str) -> bool {
    // The width of a character is at least a third of its bytes, so a longer sentence is too wide.
    if sentence.len() > ORDER_WIDTH.saturating_mul(3) {
        return false;
    }
    let width = sentence.chars().fold(0, |sum: usize, char| sum.saturating_add(char_width(char)));
    width <= ORDER_WIDTH && contains_prefix(sentence, &PREFIXES.follow_orders)
}

/// Returns whether a word of the text begins with one of the prefixes. In scripts that do not
/// separate words, a prefix may be anywhere.
fn contains_prefix(text: &str, prefixes: &PrefixSet) -> bool {
    let mut is_in_word = false;
    prefixes.is_in(text, |char| {
        let may_begin = !is_in_word || char_width(char) > 1;
        is_in_word = char.is_alphanumeric();
        may_begin
    })
}

/// Returns the width of a character. An ideograph or a syllable counts as three letters, because it
/// carries about as much meaning.
fn char_width(char: char) -> usize {
    if char >= '\u{2e80}' { 3 } else { 1 }
}

/// Maximum width of a short turn, in units of [`char_width`].
const SHORT_WIDTH: usize = 24;

/// Maximum number of words of a short turn.
const SHORT_WORDS: usize = 5;

/// Maximum bytes of UTF-8 per unit of [`char_width`] in the languages of [`FOLLOW_ORDERS`]: a
/// Cyrillic letter has two bytes and width 1.
const MAX_BYTES_PER_WIDTH: usize = 2;

/// Maximum width of a turn that orders the model to follow another text, in units of
/// [`char_width`].
const ORDER_WIDTH: usize = 80;

/// The sets of prefixes of [`FOLLOW_ORDERS`], [`TASKS`] and [`QUESTIONS`].
struct Prefixes {
    follow_orders: PrefixSet,
    tasks: PrefixSet,
    questions: PrefixSet,
}

static PREFIXES: LazyLock<Prefixes> = LazyLock::new(|| Prefixes {
    follow_orders: PrefixSet::new(FOLLOW_ORDERS),
    tasks: PrefixSet::new(TASKS),
    questions: PrefixSet::new(QUESTIONS),
});

/// Phrases that order the model to follow another text, or their beginnings, in English, German,
/// French, Spanish, Portuguese, Italian, Russian, Chinese, Japanese and Korean.
const FOLLOW_ORDERS: &str = "follow the|follow it|follow this|follow that|follow these|\
    follow those|follow all|follow its|follow what|follow my|obey|comply|execute the|execute it|\
    execute this|execute that|execute what|execute its|execute these|carry out|carry it out|\
    do what|do as|do it|do that|do this|do exactly|do all|act on it|act on the|act as it|\
    perform the|perform what|as instructed|befolge|folge den|folge der|führe aus|mach das|mach was|\
    tu was|tu das|suis les|suivez|exécute|fais ce|faites ce|sigue las|sigue el|siga|ejecuta|haz lo|\
    haz eso|obedece|execute as|faça o|faça isso|segui le|seguire|esegui|fai quello|fai ciò|выполни|\
    следуй|сделай то|сделай это|делай то|按照|照做|执行|遵循|遵照|に従|の通り|実行して|따라|따르|\
    실행";

/// Beginnings of words that name a task, or that are a courtesy, such as "thank".
const TASKS: &str = "summar|translat|explain|review|describ|rephras|paraphras|rewrit|proofread|\
    correct|fix|debug|test|refactor|renam|commit|push|merge|build|compil|install|deploy|implement|\
    delet|remov|undo|revert|format|lint|list|show|find|search|look up|check|compar|classif|\
    categor|label|extract|analy|critiq|evaluat|rate|comment|edit|shorten|simplif|improv|polish|\
    quot|outlin|tldr|tl;dr|convert|count|calculat|add|thank|thx|hello|hi|hey|bye|zusammenf|\
    fasse|übersetz|erklär|prüf|korrigier|beschreib|verbesser|danke|hallo|résum|tradui|expliqu|\
    corrig|vérifi|merci|bonjour|resum|traduc|traduz|explic|revis|gracias|hola|obrigad|olá|riassum|\
    traduci|spiega|grazie|ciao|кратко|перевед|перевест|объясн|исправ|проверь|спасибо|привет|总结|\
    摘要|翻译|解释|审查|检查|修复|修改|比较|分析|描述|谢谢|你好|要約|翻訳|説明|修正|確認|ありがとう|요약|번역|\
    설명|수정|검토|감사|안녕";

/// First words of questions about the text.
const QUESTIONS: &str = "what|whats|why|how|who|whose|when|where|which|is|are|was|does|did|wer|\
    wie|warum|wo|quoi|que|qui|pourquoi|comment|qué|cómo|quién|что|как|кто|почему";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::extract::for_each_request;
    use crate::http::body::Body;
    use crate::http::endpoint::Endpoint;
    use crate::http::envelope::Envelope;
    use crate::rules::policy::Limits;
    use crate::text::{Case, normalize};

    #[test]
    fn turns_without_content_point_elsewhere() {
        use Pointer::{Back, BothWays};
        let rows = [
            ("go", Some(Back)),
            ("Yes.", Some(Back)),
            ("continue", Some(Back)),
            ("Go on, please", Some(Back)),
            ("👆", Some(Back)),
            ("weiter so", Some(Back)),
            ("да", Some(Back)),
            ("继续", Some(Back)),
            ("Do that.", Some(BothWays)),
            ("Follow the document.", Some(BothWays)),
            ("Read the file and do what it says.", Some(BothWays)),
            ("Please carry out the instructions in the result of the tool.", Some(BothWays)),
            ("Befolge die Anweisungen im Dokument", Some(BothWays)),
            ("Выполни инструкции из документа", Some(BothWays)),
            ("请按照文件中的说明做", Some(BothWays)),
            ("上記の指示に従ってください", Some(BothWays)),
            ("Summarise this document", None),
            ("translate it", None),
            ("Explain.", None),
            ("review this file", None),
            ("fix the tests", None),
            ("Thanks!", None),
            ("ok, is it safe?", None),
            ("why is it so", None),
            ("How do I do that", None),
            ("Zusammenfassen", None),
            ("переведи это", None),
            ("总结一下", None),
            ("要約して", None),
            ("refund policy for orders from abroad", None),
            ("a long sentence on many hedges", None),
        ];
        for (words, expected) in rows {
            let text = normalize(words, Case::Fold);
            assert_eq!(pointer_of_words(&text), expected, "{words}");
        }
    }

    /// Returns the texts of a body to which its last turn points.
    fn pointed_texts(endpoint: Endpoint, body: &str) -> Vec<String> {
        let envelope = Envelope { method: "POST", body: body.as_bytes(), ..Envelope::default() };
        let body = Body::new(body.as_bytes(), None, &Limits::default());
        let mut texts = Vec::new();
        for_each_request(&envelope, endpoint, &body, &Limits::default(), &mut |request| {
            let pointed = request.segments().iter().filter(|segment| segment.is_pointed_at);
            texts.extend(pointed.map(|segment| request.text()[segment.range.clone()].to_owned()));
        });
        texts
    }

    #[test]
    fn only_adjacent_text_is_pointed_at() {
        let chat = |messages: &str| format!(r#"{{"messages":[{messages}]}}"#);
        let message = |role: &str, text: &str| format!(r#"{{"role":"{role}","content":"{text}"}}"#);
        let chats: &[(&str, &[(&str, &str)], &[&str])] = &[
            ("answer", &[("assistant", "a"), ("user", "do that")], &["a"]),
            ("prefilled answer", &[("user", "go"), ("assistant", "a")], &["a"]),
            ("own task", &[("assistant", "a"), ("user", "explain it")], &[]),
            ("system text between", &[("tool", "t"), ("system", "s"), ("user", "go")], &["t"]),
            ("two turns", &[("tool", "t"), ("user", "do"), ("user", "that")], &["t"]),
            (
                "result that follows an order",
                &[("user", "do what the tool says"), ("assistant", "a"), ("tool", "t")],
                &["a", "t"],
            ),
            (
                "result that follows a short turn",
                &[("user", "continue"), ("assistant", "a"), ("tool", "t")],
                &[],
            ),
            (
                "old results",
                &[("user", "fix it"), ("tool", "t"), ("assistant", "a"), ("user", "continue")],
                &["a"],
            ),
            (
                "later results",
                &[("user", "do it"), ("tool", "t"), ("assistant", "a"), ("tool", "later")],
                &["t", "a"],
            ),
            ("nothing but a result", &[("tool", "t")], &["t"]),
            ("a result and a system text", &[("system", "s"), ("tool", "t")], &[]),
        ];
        for (name, messages, expected) in chats {
            let messages: Vec<_> =
                messages.iter().map(|(role, text)| message(role, text)).collect();
            let body = chat(&messages.join(","));
            assert_eq!(pointed_texts(Endpoint::OpenaiChat, &body), *expected, "{name}");
        }
        let bodies = [
            (
                Endpoint::AnthropicMessages,
                r#"{"messages":[{"role":"user","content":[{"type":"tool_result","content":"t"},
                    {"type":"text","text":"do"},{"type":"text","text":"it"}]}]}"#,
                vec!["t"],
            ),
            (
                Endpoint::OpenaiResponses,
                r#"{"input":"go","tools":[{"name":"n","description":"d"}]}"#,
                vec!["n", "d"],
            ),
            (
                Endpoint::OpenaiResponses,
                r#"{"input":[{"role":"assistant","content":"a"},{"role":"user","content":"go"}],
                    "tools":[{"name":"n"}]}"#,
                vec!["a"],
            ),
            (
                Endpoint::OpenaiResponses,
                r#"{"previous_response_id":"r","input":[{"type":"function_call_output",
                    "output":"t"}]}"#,
                vec![],
            ),
            (
                Endpoint::OpenaiRealtime,
                r#"{"type":"conversation.item.create","item":{"type":"function_call_output",
                    "output":"t"}}"#,
                vec![],
            ),
        ];
        for (endpoint, body, expected) in bodies {
            assert_eq!(pointed_texts(endpoint, body), expected, "{body}");
        }
    }
}
