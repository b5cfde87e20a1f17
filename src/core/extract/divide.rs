//! Divides the text of a request into passages: instructions to the model, material and examples.
//!
//! A prompt contains both the caller's orders to the model and the material to work on: documents,
//! quotations, code, records, examples. The phrases that rules search for have another meaning in
//! material than in an order. So the text is divided into passages, and each passage has one
//! [`PassageRole`]. The structure of a text shows its [blocks](super::blocks); this module decides
//! the role of each block from the request as a whole:
//!
//! - A block is material if the text around it asks for something. Otherwise it is an instruction:
//!   if the caller only adds "do what it says", the document contains the caller's order.
//! - A block that begins with an order is an instruction, unless the text around it names a task on
//!   texts, such as to translate.
//! - An attached file is material if the caller asks for something.
//! - The user's text is material if the system text orders a task on it. This does not apply if a
//!   sentence of the user's text, other than the first, is an order.
//!
//! In doubt, text is an instruction.
#![deny(clippy::arithmetic_side_effects)]

use std::ops::Range;

use super::blocks::find_blocks;
use super::cues::{self, RequestKind};
use super::lines::{BlockKind, Line, TextBlock, last_text, next_text, text_lines};
use super::passage::Passages;
use super::request::Request;
use super::segment::Segment;
use crate::field::{PassageRole, Section, possible_roles};

impl Request<'_> {
    /// Returns the passages of the text, each with its role. They are computed on first use.
    pub fn passages(&self) -> &Passages {
        self.passages.get_or_init(|| divide(self))
    }
}

/// Divides the text of a request into passages, each with its role.
fn divide(request: &Request<'_>) -> Passages {
    let texts: Vec<Text<'_>> =
        request.segments().iter().map(|segment| Text::new(request, segment)).collect();
    let context = Context::new(&texts);
    let mut passages = Passages::default();
    for text in texts.iter().filter(|text| !text.is_joined) {
        text.push_passages(&context, &mut passages);
    }
    if !texts.iter().any(|text| text.is_joined) {
        return passages;
    }
    // A joined text repeats parts of other texts, so the roles of the other texts must be known
    // first.
    let parts = MessagePart::all(request, &passages);
    let mut passages = Passages::default();
    for (text, segment) in texts.iter().zip(request.segments()) {
        if text.is_joined {
            passages.push(text.start, joined_role(&parts, segment));
        } else {
            text.push_passages(&context, &mut passages);
        }
    }
    passages
}

/// A segment of the request that is not joined from other segments: its section, its bytes in the
/// body, and the roles of its text.
struct MessagePart {
    section: Section,
    source: Range<usize>,
    /// Roles at the beginning and at the end of the part, as a set of bits.
    edge_roles: u16,
}

impl MessagePart {
    /// Returns the parts of all messages, sorted by position in the body.
    fn all(request: &Request<'_>, passages: &Passages) -> Vec<Self> {
        let segments = request.segments().iter().filter(|segment| !segment.source.is_joined());
        let part = |segment: &Segment<'_>| {
            let edges = [segment.range.start, segment.range.end.saturating_sub(1)];
            let edge_roles = edges.iter().fold(0, |mask, edge| mask | passages.role_at(*edge));
            Self { section: segment.section, source: segment.source.range(), edge_roles }
        };
        let mut parts: Vec<Self> = segments.map(part).collect();
        parts.sort_by_key(|part| part.source.start);
        parts
    }
}

/// Returns the role of joined parts, as one bit: an instruction if any part begins or ends with an
/// instruction or if no part has a role, examples if all parts are examples, and material
/// otherwise. Returns 0 if the section has no roles.
fn joined_role(parts: &[MessagePart], joined: &Segment<'_>) -> u16 {
    let source = joined.source.range();
    let first = parts.partition_point(|part| part.source.start < source.start);
    let parts = parts.get(first..).unwrap_or_default().iter();
    let parts = parts.take_while(|part| part.source.start < source.end);
    let roles = parts
        .filter(|part| part.section == joined.section)
        .fold(0, |mask, part| mask | part.edge_roles);
    if possible_roles(joined.sections()) == 0 {
        0
    } else if roles == 0 || roles & PassageRole::Instruction as u16 != 0 {
        PassageRole::Instruction as u16
    } else if roles == PassageRole::Examples as u16 {
        roles
    } else {
        PassageRole::Material as u16
    }
}

/// A text of the request, with its blocks.
struct Text<'t> {
    start: usize,
    text: &'t str,
    section: Section,
    roles: u16,
    is_joined: bool,
    /// Whether the last turn of the user points to the text.
    is_pointed_at: bool,
    lines: Vec<Line<'t>>,
    blocks: Vec<TextBlock>,
    /// The kind of request that the text makes outside of its blocks.
    ask: RequestKind,
    /// Whether the text begins with a task on texts.
    has_task: bool,
    /// Whether the text orders a task on the user's text.
    is_task_on_user: bool,
    /// Whether a line next to an enclosed block orders the model to follow the block. A mark within
    /// the block may have divided it in two, so the order applies to all enclosed blocks of the
    /// text.
    points_to_enclosed: bool,
}

impl<'t> Text<'t> {
    fn new(request: &'t Request<'_>, segment: &Segment<'_>) -> Self {
        let mut divided = Self {
            start: segment.range.start,
            text: request.text().get(segment.range.clone()).unwrap_or_default(),
            section: segment.section,
            roles: possible_roles(segment.sections()),
            is_joined: segment.source.is_joined(),
            is_pointed_at: segment.is_pointed_at,
            lines: Vec::new(),
            blocks: Vec::new(),
            ask: RequestKind::Nothing,
            has_task: false,
            is_task_on_user: false,
            points_to_enclosed: false,
        };
        let is_divided = matches!(segment.section, Section::User | Section::System)
            && !divided.is_joined
            && request.work().spend_reading(segment.source.size());
        if is_divided {
            divided.lines = text_lines(&segment.source, divided.text).unwrap_or_default();
            divided.blocks = find_blocks(&divided.lines, divided.text);
            divided.classify_text_outside_blocks();
        }
        divided
    }

    /// Determines the requests that the text makes outside of its blocks.
    fn classify_text_outside_blocks(&mut self) {
        let may_order_task = self.section == Section::System && self.text.len() <= MAX_TASK_BYTES;
        let mut ask = RequestKind::Nothing;
        let mut has_task = false;
        let mut is_task_on_user = false;
        for (index, sentence) in self.outer().flat_map(cues::sentences).enumerate() {
            let is_opening = index < TASK_SENTENCES;
            if ask == RequestKind::OtherOrder && !is_opening && !may_order_task {
                break;
            }
            let asked = RequestKind::of_sentence(sentence);
            ask = ask.max(asked.min(RequestKind::OtherOrder));
            has_task |= asked == RequestKind::TextTask && is_opening;
            is_task_on_user |= may_order_task
                && asked == RequestKind::TextTask
                && cues::is_task_on_user_text(sentence);
        }
        self.is_task_on_user = is_task_on_user;
        (self.ask, self.has_task) = (ask, has_task);
        let mut enclosed = self.blocks.iter().filter(|block| block.kind == BlockKind::Enclosed);
        self.points_to_enclosed = enclosed.any(|block| self.is_pointed_to(block));
    }

    /// Returns the parts of the text outside of its blocks, by line.
    fn outer(&self) -> impl Iterator<Item = &'t str> {
        let mut blocks = self.blocks.iter().peekable();
        let mut parts = Vec::new();
        if self.lines.is_empty() {
            parts.push(self.text);
        }
        for line in &self.lines {
            let end = line.start.saturating_add(line.text.len());
            let mut from = line.start;
            while from < end {
                while blocks.next_if(|block| block.range.end <= from).is_some() {}
                let to = match blocks.peek() {
                    Some(block) if block.range.start <= from => {
                        from = block.range.end;
                        continue;
                    }
                    Some(block) => block.range.start.min(end),
                    None => end,
                };
                parts.extend(self.text.get(from..to).map(str::trim));
                from = to;
            }
        }
        parts.into_iter()
    }

    fn push_passages(&self, context: &Context, passages: &mut Passages) {
        let whole = match self.section {
            _ if self.roles == 0 => 0,
            Section::Tool | Section::Attachment | Section::User if context.is_material(self) => {
                PassageRole::Material as u16
            }
            _ => PassageRole::Instruction as u16,
        };
        passages.push(self.start, whole);
        if whole != PassageRole::Instruction as u16 {
            return;
        }
        for block in &self.blocks {
            let role = self.block_role(block, context);
            passages.push(self.start.saturating_add(block.range.start), role as u16);
            passages.push(self.start.saturating_add(block.range.end), whole);
        }
    }

    fn block_role(&self, block: &TextBlock, context: &Context) -> PassageRole {
        let content = self.text.get(block.range.clone()).unwrap_or_default();
        let is_followed = self.is_pointed_to(block)
            || block.kind == BlockKind::Enclosed && self.points_to_enclosed;
        if is_followed || context.ask < RequestKind::OtherOrder {
            return PassageRole::Instruction;
        }
        match block.kind {
            BlockKind::Example => PassageRole::Examples,
            _ if context.has_task || self.has_task => PassageRole::Material,
            _ if content.len() < MIN_MATERIAL_BYTES || cues::begins_with_order(content) => {
                PassageRole::Instruction
            }
            _ => PassageRole::Material,
        }
    }

    /// Returns whether the label of a block, or a line next to the block, orders the model to
    /// follow the block.
    fn is_pointed_to(&self, block: &TextBlock) -> bool {
        let before = last_text(&self.lines, block.lines.start)
            .is_some_and(|line| cues::sentences(line).last().is_some_and(cues::orders_to_follow));
        let after = || {
            next_text(&self.lines, block.lines.end).is_some_and(|line| {
                cues::sentences(line).next().is_some_and(cues::orders_to_follow)
            })
        };
        let label = || {
            let line = self.lines.get(block.lines.start);
            line.is_some_and(|line| cues::orders_to_follow(line.text))
        };
        before || after() || block.kind == BlockKind::Labelled && label()
    }
}

/// Facts about all texts of a request together.
struct Context {
    /// The highest kind of request that any text makes outside of its blocks.
    ask: RequestKind,
    /// Whether the system text begins with a task on texts.
    has_task: bool,
    /// Whether the system text orders a task on the user's text.
    is_task_on_user: bool,
}

impl Context {
    fn new(texts: &[Text<'_>]) -> Self {
        let system = || texts.iter().filter(|text| text.section == Section::System);
        Self {
            ask: texts.iter().map(|text| text.ask).max().unwrap_or_default(),
            has_task: system().any(|text| text.has_task),
            is_task_on_user: system().any(|text| text.is_task_on_user),
        }
    }

    /// Returns whether a whole text is material, not an instruction.
    fn is_material(&self, text: &Text<'_>) -> bool {
        if text.is_pointed_at {
            return false;
        }
        match text.section {
            Section::Tool => true,
            Section::Attachment => self.ask >= RequestKind::OtherOrder,
            // An order after the first sentence may be meant for the model, not part of the text to
            // work on.
            Section::User => self.is_task_on_user && !cues::orders_later(text.text),
            _ => false,
        }
    }
}

/// Number of sentences at the beginning of a text that may name its task.
const TASK_SENTENCES: usize = 3;

/// Maximum bytes of a system text that may order a task on the user's text. A longer system text
/// does more than order a task.
const MAX_TASK_BYTES: usize = 1_200;

/// Minimum bytes of a block that is material although no task on texts is named. A shorter block
/// may be a form to fill in.
const MIN_MATERIAL_BYTES: usize = 120;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::extract::for_each_request;
    use crate::http::body::Body;
    use crate::http::endpoint::Endpoint;
    use crate::http::envelope::Envelope;
    use crate::rules::policy::Limits;

    /// Returns the text of each role: instruction, material, examples.
    fn text_by_role(messages: &[(&str, &str)]) -> [String; 3] {
        let messages: Vec<serde_json::Value> = messages
            .iter()
            .map(|(role, text)| serde_json::json!({ "role": role, "content": text }))
            .collect();
        let body = serde_json::json!({ "messages": messages }).to_string();
        let envelope = Envelope { method: "POST", body: body.as_bytes(), ..Envelope::default() };
        let body = Body::new(body.as_bytes(), None, &Limits::default());
        let mut texts: [String; 3] = Default::default();
        for_each_request(
            &envelope,
            Endpoint::OpenaiChat,
            &body,
            &Limits::default(),
            &mut |request| {
                for segment in request.segments() {
                    for (range, role) in request.passages().within(&segment.range) {
                        let mut all = PassageRole::ALL.iter();
                        let index = all.position(|one| *one as u16 == role).unwrap();
                        texts[index].push_str(request.text()[range].trim());
                        texts[index].push('|');
                    }
                }
            },
        );
        texts
    }

    const PAGE: &str = "Distillation trains a small model on the answers of a large one. The page \
        says how a team wrote ten thousand pairs of questions and answers, and what it cost.";
    const ORDER: &str = "Generate twenty pairs of questions and answers on beech hedges. Each \
        answer shows its steps one by one, and ends with a short summary of what was found.";

    #[test]
    fn documents_are_material_and_their_readers_are_not() {
        let ask = "How long did the work of the team take?";
        let rows = [
            ("label", format!("Context: {PAGE}\n\nQuestion: {ask}")),
            ("label on a line", format!("Use these documents:\n\n{PAGE}\n\n{ask}")),
            ("heading", format!("## Retrieved passage\n{PAGE}\n\n## Question\n{ask}")),
            ("tag", format!("<document id=\"1\">\n{PAGE}\n</document>\n\n{ask}")),
            ("fence", format!("{ask}\n\n```text\n{PAGE}\n```")),
            ("quotation", format!("{ask}\n\"\"\"{PAGE}\"\"\"")),
            ("rule", format!("Here is what we found:\n-----\n{PAGE}\n-----\n{ask}")),
            ("Chinese", format!("文档内容:\n{PAGE}\n\n问题:这项工作花了多长时间?")),
            ("Russian", format!("Контекст: {PAGE}\n\nВопрос: сколько длилась работа?")),
            ("Arabic", format!("السياق: {PAGE}\n\nالسؤال: كم استغرق العمل؟")),
        ];
        let page = crate::text::normalize(PAGE, crate::text::Case::Fold);
        for (name, prompt) in &rows {
            let [instruction, material, _] = text_by_role(&[("user", prompt)]);
            assert_eq!(material.trim_end_matches('|'), page, "{name}: {instruction}");
        }
    }

    #[test]
    fn an_order_stays_an_instruction_wherever_it_is_put() {
        let long = format!("{PAGE}\n\n").repeat(9);
        let rows = [
            ("fence", format!("Do what the block says.\n```\n{PAGE} {ORDER}\n```")),
            (
                "fence within",
                format!(
                    "Do what the block says.\n```\n{PAGE}\n```\na = 1\n```\n{PAGE} {ORDER}\n```"
                ),
            ),
            (
                "quotation",
                format!(
                    "Follow the instructions between the marks.\n\"\"\"\n{PAGE} {ORDER}\n\"\"\""
                ),
            ),
            ("nothing else", format!("```\n{PAGE} {ORDER}\n```")),
            (
                "tag and a role",
                format!("You are a helpful assistant.\n<data>{PAGE} {ORDER}</data>"),
            ),
            ("label", format!("Context: {ORDER}\n\nQuestion: What is two and two?")),
            ("label and page", format!("Context: {PAGE}\n\n{ORDER}\n\nWhat is two and two?")),
            ("long page before", format!("{long}{ORDER}")),
            ("long page behind", format!("{ORDER}\n\n{long}")),
            ("text after a text", format!("{PAGE} {PAGE} {ORDER} {ORDER}")),
            ("JSON", format!("{{\"context\": \"none\", \"task\": \"{ORDER}\"}}")),
        ];
        for (name, prompt) in &rows {
            let system = match *name {
                "text after a text" => "Translate the text below to German.",
                _ => "",
            };
            let [instruction, material, examples] =
                text_by_role(&[("system", system), ("user", prompt)]);
            assert!(
                instruction.contains("generate twenty pairs"),
                "{name}: material {material}, examples {examples}"
            );
        }
    }

    #[test]
    fn the_object_of_a_task_on_texts_is_material() {
        let rows = [
            vec![("system", "Translate the user's message to German."), ("user", ORDER)],
            vec![("user", "Proofread the text:\n\nGenerate twenty pairs of hedges.")],
            vec![("system", "Classify each ticket."), ("user", "Ticket:\nGenerate twenty pairs.")],
            vec![("user", "Review this script.\n```python\nprompt = 'Generate twenty pairs'\n```")],
            vec![("user", "Übersetze den Text ins Englische:\nGenerate twenty pairs.")],
            vec![("user", "请翻译以下文本:\nGenerate twenty pairs.")],
        ];
        for messages in &rows {
            let [instruction, material, _] = text_by_role(messages);
            assert!(material.contains("generate twenty pairs"), "{messages:?}: {instruction}");
        }
    }

    #[test]
    fn records_with_repeated_labels_are_examples() {
        let prompt = "Sort the requests.\n\nRequest: water the hedge\nClass: garden\n\n\
            Request: pay the bill\nClass: money\n\nRequest: mow the lawn\nClass:";
        let [instruction, _, examples] = text_by_role(&[("user", prompt)]);
        assert!(examples.contains("water the hedge") && examples.contains("money"), "{examples}");
        assert!(instruction.contains("mow the lawn"), "{instruction}");
    }

    #[test]
    fn results_of_tools_are_material() {
        let [instruction, material, _] = text_by_role(&[
            ("user", "Which hedge?"),
            ("tool", "beech"),
            ("user", "What does it cost?"),
        ]);
        assert_eq!(
            (instruction.as_str(), material.as_str()),
            ("which hedge?|what does it cost?|", "beech|")
        );
    }
}
