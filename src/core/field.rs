//! The field table: every name that a signature may test.
//!
//! A field has the name of its OpenTelemetry attribute (GenAI, HTTP, network) if one exists.
//! Otherwise it has the name of its field in the Elastic Common Schema (ECS). All other names begin
//! with `hedgerow.`. `hedgerow docs` generates `docs/fields.md` from this table.

use serde::{Deserialize, Serialize};

/// The type of a field's values. The type decides which modifiers a signature may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldType {
    /// Prompt text. One scan searches the normalised text for the literals of all signatures.
    Text,
    /// A short string. Each value is normalised and tested separately.
    Keyword,
    /// An IP address, which signatures can compare with a network (`|cidr`).
    Address,
    /// A number.
    Number,
    /// `true` or `false`.
    Flag,
    /// A keyed hash. Correlations group by it and count it; signatures cannot test it.
    Key,
}

impl FieldType {
    /// Returns the name of the type in docs and in lint findings.
    pub fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Keyword => "keyword",
            Self::Address => "address",
            Self::Number => "number",
            Self::Flag => "flag",
            Self::Key => "key",
        }
    }
}

/// A row of the field table.
#[derive(Clone, Copy, Debug)]
pub struct FieldSpec {
    /// Name that signatures use.
    pub name: &'static str,
    /// Type of the values.
    pub field_type: FieldType,
    /// Meaning and source, for docs/fields.md.
    pub doc: &'static str,
}

/// A field of the table, or a request header.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Field {
    /// One of [`FIELDS`].
    Known(FieldId),
    /// `http.request.header.<name>`, with the name in lower case.
    Header(String),
}

macro_rules! fields {
    ($($name:ident $kind:ident $text:literal $doc:literal)*) => {
        /// The id of a field: its index in [`FIELDS`].
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        #[allow(missing_docs, reason = "the table documents them")]
        pub enum FieldId { $($name),* }

        impl FieldId {
            /// Every id, in the order of the table.
            pub const ALL: &[FieldId] = &[$(FieldId::$name),*];
        }

        /// Every field except headers, in the order of [`FieldId`].
        pub const FIELDS: &[FieldSpec] = &[$(FieldSpec { name: $text, field_type: FieldType::$kind, doc: $doc }),*];
    };
}

fields! {
    PromptUser Text "hedgerow.prompt.user" "Text of user messages, completion prompts, embedding inputs and attached files; one value per message part."
    PromptAssistant Text "hedgerow.prompt.assistant" "Text of model messages that the caller sends back, including the arguments of tool calls."
    PromptTool Text "hedgerow.prompt.tool" "Text of tool results."
    PromptAttachment Text "hedgerow.prompt.attachment" "Text of attached files and documents, plain or in base64. If the last turn of the user only refers to other text (\"do that\"), also this other text: the adjacent answer or tool result, or the tool definitions."
    SystemInstructions Text "gen_ai.system_instructions" "Text of system and developer messages, `instructions` and `system`."
    InputMessages Text "gen_ai.input.messages" "Text of all messages: user, assistant, tool, system and attached files."
    PromptInstruction Text "hedgerow.prompt.instruction" "Requests to the model: the text of user and system messages and of `hedgerow.prompt.attachment`, without `hedgerow.prompt.material` and `hedgerow.prompt.examples`. In doubt, text is an instruction."
    PromptMaterial Text "hedgerow.prompt.material" "Text on which the model works: documents, quotations, code, records and retrieved text within user and system text; attached files to which no instruction refers; and tool results."
    PromptExamples Text "hedgerow.prompt.examples" "Example records that show the form of the wanted answer, within user and system text. They are recognised by short labels that occur at least twice."
    ToolDefinitions Text "gen_ai.tool.definitions" "Names and descriptions of the offered tools and their parameters."
    ResponseSchema Text "hedgerow.response_schema" "Names and descriptions in the schema that the request demands for the answer."
    OperationName Keyword "gen_ai.operation.name" "`chat`, `text_completion`, `embeddings`, `generate_content`, `count_tokens` or `batch`. The route of the path decides."
    ProviderName Keyword "gen_ai.provider.name" "`openai`, `anthropic`, `gcp.gemini` or `generic`: the format of the request body. The route of the path decides."
    RequestModel Keyword "gen_ai.request.model" "Requested model, from the body or the path."
    StopSequences Keyword "gen_ai.request.stop_sequences" "Stop sequences; one value each."
    OutputType Keyword "gen_ai.output.type" "`json` if the request demands a JSON answer, else `text`; absent if the request does not say."
    ReasoningEffort Keyword "hedgerow.reasoning.effort" "Requested reasoning effort."
    MaxTokens Number "gen_ai.request.max_tokens" "Maximum number of output tokens."
    Temperature Number "gen_ai.request.temperature" "Sampling temperature."
    TopP Number "gen_ai.request.top_p" "Share of the probability mass from which tokens are sampled (nucleus sampling)."
    TopK Number "gen_ai.request.top_k" "Number of most probable tokens from which a token is sampled."
    Seed Number "gen_ai.request.seed" "Sampling seed."
    ChoiceCount Number "gen_ai.request.choice.count" "Requested number of answers per prompt (`n`, `candidateCount`)."
    FrequencyPenalty Number "gen_ai.request.frequency_penalty" "Frequency penalty."
    PresencePenalty Number "gen_ai.request.presence_penalty" "Presence penalty."
    Turns Number "hedgerow.turns" "Number of messages that are not system messages."
    PromptsCount Number "hedgerow.prompts.count" "Number of prompts in a `prompt` or `input` array; absent for a single string."
    PromptSize Number "hedgerow.prompt.size" "Bytes of normalised text in all messages and prompts."
    Logprobs Flag "hedgerow.logprobs" "Whether the request asks for token log-probabilities."
    TopLogprobs Number "hedgerow.top_logprobs" "Requested number of alternatives per token (`top_logprobs`, or a number in `logprobs`)."
    BestOf Number "hedgerow.best_of" "Number of completions that the server generates, of which it returns the best."
    LogitBiasSize Number "hedgerow.logit_bias.size" "Number of entries in the logit bias map; 0 for an empty map."
    LogitBiasMax Number "hedgerow.logit_bias.max" "Largest absolute bias in the map."
    PromptTokenIds Number "hedgerow.prompt.token_ids" "Number of token ids in a prompt that consists of token ids instead of text."
    Echo Flag "hedgerow.echo" "Whether the request asks that the answer repeats the prompt."
    Stream Flag "hedgerow.stream" "Whether the request asks for a streamed answer."
    ToolsCount Number "hedgerow.tools.count" "Number of offered tools."
    AttachmentsCount Number "hedgerow.attachments.count" "Number of images, audio clips and files in messages."
    ReasoningTokenCount Number "hedgerow.reasoning_token.count" "Number of signed or encrypted reasoning blocks of earlier answers that the caller sends back."
    ThinkingBudget Number "hedgerow.thinking.budget" "Maximum number of tokens for reasoning."
    BatchSize Number "hedgerow.batch.size" "Number of requests in the batch upload; absent outside batches."
    BodySize Number "http.request.body.size" "Bytes of the body as sent, if known."
    BodyUnscanned Number "hedgerow.body.unscanned" "Bytes of the body after the part that was read; absent if the whole body was read."
    BodyUnreadable Keyword "hedgerow.body.unreadable" "Reasons why parts of the body were not read: `empty`, `syntax`, `truncated`, `encoding`, `inflate`, `depth`, `entries`, `multipart`, `duplicate` (a key occurs twice, but may occur only once), `costly` (the request exceeded its budget of work, so not all text was searched), `opaque` (a binary format that is not read)."
    BodyUnscored Keyword "hedgerow.body.unscored" "Reasons why parts of the request were not scored: `late` (the upload stopped or was too slow), `crowded` (other bodies needed the memory), `window` (a limit of `[scan]`), `encoding` (the body was not decoded, or not to its end), `opaque` (a binary format), `costly` (the budget of work), `attachment` (media), `unknown_path` (the path is not a known endpoint)."
    BodyScoredShare Number "hedgerow.body.scored_share" "Share of the body's bytes that were scored, a number below 1; absent if all bytes were scored, or if the size of the rest is unknown."
    Encoding Keyword "hedgerow.encoding" "Content encoding of the body."
    Method Keyword "http.request.method" "HTTP method."
    Path Keyword "url.path" "Path of the URL, without the query."
    HeaderCount Number "hedgerow.header.count" "Number of request headers that Hedgerow received."
    UserAgent Keyword "user_agent.original" "`User-Agent` header."
    ClientAddress Address "client.address" "Address of the client; never logged."
    ProtocolVersion Keyword "network.protocol.version" "HTTP version."
    TlsVersion Keyword "tls.protocol.version" "TLS version."
    TlsFingerprint Keyword "hedgerow.tls.fingerprint" "Fingerprint of the TLS client hello: hashes of its ciphers and extensions, and its length."
    AsNumber Number "client.as.number" "Number of the autonomous system of the client's address."
    AsOrganization Keyword "client.as.organization.name" "Holder of the autonomous system."
    Country Keyword "client.geo.country_iso_code" "Country of the client's address."
    Account Keyword "hedgerow.account" "Keyed hash that identifies the account: the hash of the key, or of the subject, access key or user that the credential names."
    Tenant Keyword "hedgerow.tenant" "Keyed hash of the tenant, the customer that owns accounts; absent if it is not known."
    CredentialCount Number "hedgerow.credential.count" "Number of different credentials in the request; absent if there are fewer than two."
    Hour Number "hedgerow.hour" "Hour of the day in UTC, 0 to 23."
    TemplateUser Key "hedgerow.template.user" "Template keys of the user text: up to fourteen hashes, each of eight consecutive words. Texts that were made from one template share keys, because the fixed words of the template do not change."
    TemplateSystem Key "hedgerow.template.system" "Template keys of the system text: up to fourteen hashes, each of eight consecutive words."
    PromptDigest Key "hedgerow.prompt.digest" "Hash of all user text."
    SeedSet Keyword "hedgerow.seed" "Names of the sets of known prompts that recognise the user text (docs/seeds.md); absent if no set does."
    Shape Key "hedgerow.shape" "Hash of how the client asks: operation, parameters with their rounded values, tools, answer schema, names of headers, and product of the user agent. The text and the model do not change it, so requests of one program have the same hash."
    ReasoningToken Key "hedgerow.reasoning_token" "Hash of each signed or encrypted reasoning block of earlier answers that the caller sends back; at most sixteen."
    LogitBiasDigest Key "hedgerow.logit_bias.digest" "Hash of the logit bias map; independent of the order of its entries."
    SignatureName Key "hedgerow.signature" "Hash of the name of each matching signature with a positive weight; experimental signatures are excluded."
    Llr Number "hedgerow.llr" "Evidence of the signatures that match the request itself, in decibans, without indicators. Only correlations can use this field."
    StatusCode Number "http.response.status_code" "Status code of the answer, from the origin or from Hedgerow. A signature that tests this field may test only this field and `hedgerow.action`."
    Action Keyword "hedgerow.action" "Action of Hedgerow: `allow`, `tag`, `degrade`, `throttle` or `block`. A signature that tests this field may test only this field and `http.response.status_code`."
}

/// Fields whose values are known only after the request was answered.
pub const RESPONSE_FIELDS: [FieldId; 2] = [FieldId::StatusCode, FieldId::Action];

/// Fields that only correlations can use.
pub const CORRELATION_ONLY_FIELDS: [FieldId; 1] = [FieldId::Llr];

/// Fields that a client cannot choose at will: the edge observes their values, or the values decide
/// which operation the origin carries out.
const OBSERVED_FIELDS: &[FieldId] = &[
    FieldId::OperationName,
    FieldId::ProviderName,
    FieldId::Method,
    FieldId::Path,
    FieldId::ClientAddress,
    FieldId::ProtocolVersion,
    FieldId::TlsVersion,
    FieldId::TlsFingerprint,
    FieldId::AsNumber,
    FieldId::AsOrganization,
    FieldId::Country,
    FieldId::Account,
    FieldId::Tenant,
    FieldId::Hour,
    FieldId::StatusCode,
    FieldId::Action,
];

/// Prefix of a header's name in a field name.
pub const HEADER_PREFIX: &str = "http.request.header.";

impl FieldId {
    /// Returns the row of the table.
    pub fn spec(self) -> &'static FieldSpec {
        FIELDS.get(usize::from(self as u8)).unwrap_or(&UNKNOWN_FIELD)
    }
}

impl Field {
    /// Parses a field name; `None` for an unknown name.
    pub fn parse(name: &str) -> Option<Self> {
        if let Some(header) = name.strip_prefix(HEADER_PREFIX) {
            let is_valid = !header.is_empty()
                && header.bytes().all(|byte| byte.is_ascii_graphic() && !byte.is_ascii_uppercase());
            return is_valid.then(|| Self::Header(header.to_owned()));
        }
        let spec = FIELDS.iter().position(|spec| spec.name == name)?;
        FieldId::ALL.get(spec).copied().map(Self::Known)
    }

    /// Returns the name that signatures use.
    pub fn name(&self) -> String {
        match self {
            Self::Known(id) => id.spec().name.to_owned(),
            Self::Header(header) => format!("{HEADER_PREFIX}{header}"),
        }
    }

    /// Returns whether a client can choose the values without changing the operation that it asks
    /// for, as with `user_agent.original`.
    pub fn is_written_by_client(&self) -> bool {
        !matches!(self, Self::Known(id) if OBSERVED_FIELDS.contains(id))
    }

    /// Returns the type of the values.
    pub fn field_type(&self) -> FieldType {
        match self {
            Self::Known(id) => id.spec().field_type,
            Self::Header(_) => FieldType::Keyword,
        }
    }
}

impl Serialize for Field {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.name())
    }
}

impl<'de> Deserialize<'de> for Field {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        Self::parse(&name)
            .ok_or_else(|| serde::de::Error::custom(format!("unknown field '{name}'")))
    }
}

/// The section of a request from which a text comes, as one bit. A text field covers a set of
/// sections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Section {
    /// A system or developer message.
    System = 1,
    /// A user message or a prompt.
    User = 2,
    /// A message from the model.
    Assistant = 4,
    /// A tool result.
    Tool = 8,
    /// A tool definition.
    Definition = 16,
    /// A requested answer schema.
    Schema = 32,
    /// An attached file or document.
    Attachment = 64,
}

impl Section {
    /// Returns the field that holds exactly the text of this section.
    pub fn field(self) -> FieldId {
        match self {
            Self::System => FieldId::SystemInstructions,
            Self::User => FieldId::PromptUser,
            Self::Assistant => FieldId::PromptAssistant,
            Self::Tool => FieldId::PromptTool,
            Self::Definition => FieldId::ToolDefinitions,
            Self::Schema => FieldId::ResponseSchema,
            Self::Attachment => FieldId::PromptAttachment,
        }
    }
}

/// The role of a passage (a part of a text) in a request, as one bit. The bits of roles differ from
/// the bits of [`Section`], so that one set can hold both.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u16)]
pub enum PassageRole {
    /// A request to the model.
    Instruction = 128,
    /// Text on which the model works: for example a document, a quotation or code.
    Material = 256,
    /// Example records that show the form of the wanted answer.
    Examples = 512,
}

impl PassageRole {
    /// Every role.
    pub const ALL: [Self; 3] = [Self::Instruction, Self::Material, Self::Examples];

    /// Returns the field that holds exactly the text of this role.
    pub fn field(self) -> FieldId {
        match self {
            Self::Instruction => FieldId::PromptInstruction,
            Self::Material => FieldId::PromptMaterial,
            Self::Examples => FieldId::PromptExamples,
        }
    }
}

/// Returns the sections and roles of a text field, as a set of bits; 0 for other fields. The field
/// holds the text that has one of these sections or roles.
pub fn sections(field: FieldId) -> u16 {
    match field {
        FieldId::SystemInstructions => Section::System as u16,
        // A caller attaches a file so that the model reads it. So a comparison with the user's text
        // covers the file, too.
        FieldId::PromptUser => Section::User as u16 | Section::Attachment as u16,
        FieldId::PromptAttachment => Section::Attachment as u16,
        FieldId::PromptAssistant => Section::Assistant as u16,
        FieldId::PromptTool => Section::Tool as u16,
        FieldId::InputMessages => u16::from(MESSAGE_SECTIONS),
        FieldId::PromptInstruction => PassageRole::Instruction as u16,
        FieldId::PromptMaterial => PassageRole::Material as u16,
        FieldId::PromptExamples => PassageRole::Examples as u16,
        FieldId::ToolDefinitions => Section::Definition as u16,
        FieldId::ResponseSchema => Section::Schema as u16,
        _ => 0,
    }
}

/// Returns the roles that a text may have, as a set of bits; 0 if it can have none. `section` is
/// the set of the text's sections.
pub fn possible_roles(section: u16) -> u16 {
    if section & DIVIDED_SECTIONS != 0 {
        return PASSAGE_ROLES;
    }
    if section & Section::Tool as u16 != 0 { PassageRole::Material as u16 } else { 0 }
}

/// Every role, as a set of bits.
pub const PASSAGE_ROLES: u16 =
    PassageRole::Instruction as u16 | PassageRole::Material as u16 | PassageRole::Examples as u16;

/// Sections whose text may have any role.
const DIVIDED_SECTIONS: u16 =
    Section::User as u16 | Section::System as u16 | Section::Attachment as u16;

/// Sections that make up a conversation, as a set of bits.
pub const MESSAGE_SECTIONS: u8 = Section::System as u8
    | Section::User as u8
    | Section::Assistant as u8
    | Section::Tool as u8
    | Section::Attachment as u8;

const UNKNOWN_FIELD: FieldSpec = FieldSpec { name: "", field_type: FieldType::Keyword, doc: "" };

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_parse_to_themselves() {
        for id in FieldId::ALL {
            assert_eq!(Field::parse(id.spec().name), Some(Field::Known(*id)));
        }
        let header = Field::parse("http.request.header.x-title").unwrap();
        assert_eq!(
            (header.name().as_str(), header.field_type()),
            ("http.request.header.x-title", FieldType::Keyword)
        );
        for invalid in
            ["", "hedgerow.nothing", "http.request.header.", "http.request.header.X-Title"]
        {
            assert_eq!(Field::parse(invalid), None, "{invalid}");
        }
    }
}
