//! The field table: every name that a signature may test.
//!
//! Names are OpenTelemetry's GenAI, HTTP and network attributes where those exist, ECS where they do
//! not, and `hedgerow.*` for what neither has. `docs/fields.md` is made from this table.

use serde::{Deserialize, Serialize};

/// What a field's values are, and so which modifiers apply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Prompt text: normalised, searched by one scan over all literals.
    Text,
    /// A short string: normalised, tested one by one.
    Keyword,
    /// A network address; `|cidr` applies.
    Address,
    /// A number.
    Number,
    /// `true` or `false`.
    Flag,
    /// A keyed hash: correlations group by it and count it; nothing else can name it.
    Key,
}

impl Kind {
    /// The name in docs and findings.
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

/// One row of the table.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// The name that signatures use.
    pub name: &'static str,
    /// What its values are.
    pub kind: Kind,
    /// What it means and how it is read.
    pub doc: &'static str,
}

/// A field, by its place in the table or by a header's name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Field {
    /// One of [`TABLE`].
    Known(Name),
    /// `http.request.header.<name>`, lower case.
    Header(String),
}

macro_rules! fields {
    ($($name:ident $kind:ident $text:literal $doc:literal)*) => {
        /// The name of a field in [`TABLE`].
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        #[allow(missing_docs, reason = "the table documents them")]
        pub enum Name { $($name),* }

        impl Name {
            /// Every name, in the table's order.
            pub const ALL: &[Name] = &[$(Name::$name),*];
        }

        /// Every field but the headers, in the order of [`Name`].
        pub const TABLE: &[Row] = &[$(Row { name: $text, kind: Kind::$kind, doc: $doc }),*];
    };
}

fields! {
    PromptUser Text "hedgerow.prompt.user" "Text of user messages, completion prompts and embedding inputs; one value a message part."
    PromptAssistant Text "hedgerow.prompt.assistant" "Text of the model's messages that the caller sends back, and what it called tools with."
    PromptTool Text "hedgerow.prompt.tool" "Text of tool results."
    SystemInstructions Text "gen_ai.system_instructions" "System and developer messages, `instructions`, `system`."
    InputMessages Text "gen_ai.input.messages" "Text of all messages: user, assistant, tool and system."
    PromptInstruction Text "hedgerow.prompt.instruction" "User text and system text: what the caller says, not what it passes on."
    ToolDefinitions Text "gen_ai.tool.definitions" "Names and descriptions of offered tools and of their parameters."
    ResponseSchema Text "hedgerow.response_schema" "Names and descriptions in a requested answer schema."
    OperationName Keyword "gen_ai.operation.name" "`chat`, `text_completion`, `embeddings`, `generate_content`, `count_tokens` or `batch`; by route."
    ProviderName Keyword "gen_ai.provider.name" "`openai`, `anthropic`, `gcp.gemini` or `generic`: the wire format; by route."
    RequestModel Keyword "gen_ai.request.model" "The model that is asked for, from the body or the path."
    StopSequences Keyword "gen_ai.request.stop_sequences" "Each stop sequence."
    OutputType Keyword "gen_ai.output.type" "`json` where a JSON answer is demanded, else `text`; absent where nothing is said."
    ReasoningEffort Keyword "hedgerow.reasoning.effort" "The reasoning effort that is asked for."
    MaxTokens Number "gen_ai.request.max_tokens" "The most tokens that may be answered."
    Temperature Number "gen_ai.request.temperature" "Sampling temperature."
    TopP Number "gen_ai.request.top_p" "Nucleus sampling mass."
    TopK Number "gen_ai.request.top_k" "Sampling pool size."
    Seed Number "gen_ai.request.seed" "Sampling seed."
    ChoiceCount Number "gen_ai.request.choice.count" "Answers per prompt (`n`, `candidateCount`)."
    FrequencyPenalty Number "gen_ai.request.frequency_penalty" "Frequency penalty."
    PresencePenalty Number "gen_ai.request.presence_penalty" "Presence penalty."
    Turns Number "hedgerow.turns" "Messages that are not system messages."
    PromptsCount Number "hedgerow.prompts.count" "Prompts in a `prompt` or `input` array; absent for a single string."
    PromptSize Number "hedgerow.prompt.size" "Bytes of normalised text in all messages and prompts."
    Logprobs Flag "hedgerow.logprobs" "Whether token log-probabilities are asked for."
    TopLogprobs Number "hedgerow.top_logprobs" "Alternatives per token that are asked for (`top_logprobs`, or a number in `logprobs`)."
    BestOf Number "hedgerow.best_of" "Completions made server-side to choose from."
    LogitBiasSize Number "hedgerow.logit_bias.size" "Entries of the logit bias map; 0 for an empty map."
    LogitBiasMax Number "hedgerow.logit_bias.max" "Largest absolute bias in the map."
    PromptTokenIds Number "hedgerow.prompt.token_ids" "Token ids in a prompt that is not text."
    Echo Flag "hedgerow.echo" "Whether the prompt is to be echoed with the answer."
    Stream Flag "hedgerow.stream" "Whether the answer is to be streamed."
    ToolsCount Number "hedgerow.tools.count" "Tools that are offered."
    AttachmentsCount Number "hedgerow.attachments.count" "Images, sounds and files in messages."
    ReasoningTokenCount Number "hedgerow.reasoning_token.count" "Signed or encrypted reasoning of earlier answers that is sent back."
    ThinkingBudget Number "hedgerow.thinking.budget" "Tokens granted for thinking."
    BatchSize Number "hedgerow.batch.size" "Requests in the upload; absent outside batches."
    BodySize Number "http.request.body.size" "Bytes of the body as sent, as far as known."
    BodyUnscanned Number "hedgerow.body.unscanned" "Bytes behind the scan window; absent when all was scanned."
    BodyUnreadable Keyword "hedgerow.body.unreadable" "Why parts were not read: `empty`, `syntax`, `truncated`, `encoding`, `inflate`, `depth`, `entries`, `multipart`, `duplicate` (a key that counts once stands twice), `costly` (made to be dear to search: not all regexes ran)."
    Encoding Keyword "hedgerow.encoding" "Content encoding of the body."
    Method Keyword "http.request.method" "HTTP method."
    Path Keyword "url.path" "Path of the URL, without the query."
    HeaderCount Number "hedgerow.header.count" "Request headers as the edge received them."
    UserAgent Keyword "user_agent.original" "The User-Agent header."
    ClientAddress Address "client.address" "The client's address; never logged."
    ProtocolVersion Keyword "network.protocol.version" "HTTP version."
    TlsVersion Keyword "tls.protocol.version" "TLS version."
    TlsFingerprint Keyword "hedgerow.tls.fingerprint" "Hash over the TLS client hello."
    AsNumber Number "client.as.number" "Autonomous system of the client's address."
    AsOrganization Keyword "client.as.organization.name" "Its holder."
    Country Keyword "client.geo.country_iso_code" "Country of the client's address."
    Account Keyword "hedgerow.account" "Keyed hash of the credential."
    Hour Number "hedgerow.hour" "Hour of the day, UTC, 0 to 23."
    TemplateUser Key "hedgerow.template.user" "What requests of one template share of the user text, whatever fills its slots: up to twelve hashes of eight words each."
    TemplateSystem Key "hedgerow.template.system" "The same of the system text."
    PromptDigest Key "hedgerow.prompt.digest" "All user text."
    ReasoningToken Key "hedgerow.reasoning_token" "Each signed or encrypted reasoning of earlier answers that is sent back; sixteen at most."
    LogitBiasDigest Key "hedgerow.logit_bias.digest" "The logit bias map, whatever the order of its entries."
    SignatureName Key "hedgerow.signature" "Each signature that held and weighs in favour of harvesting."
    Llr Number "hedgerow.llr" "Decibans of evidence that the request's own signatures came to; correlations only."
    StatusCode Number "http.response.status_code" "How the origin, or the filter in its place, answered; no signature tests it together with other fields."
    Action Keyword "hedgerow.action" "What the filter did: `allow`, `tag`, `degrade`, `throttle` or `block`; likewise."
}

/// Fields that are known only once a request has been answered.
pub const OUTCOMES: [Name; 2] = [Name::StatusCode, Name::Action];

/// Fields that only correlations have.
pub const CORRELATED: [Name; 1] = [Name::Llr];

/// What precedes a header's name.
pub const HEADER_PREFIX: &str = "http.request.header.";

impl Name {
    /// The table's row.
    pub fn row(self) -> &'static Row {
        TABLE.get(usize::from(self as u8)).unwrap_or(&UNKNOWN)
    }
}

impl Field {
    /// The field that `name` names, if there is one.
    pub fn parse(name: &str) -> Option<Self> {
        if let Some(header) = name.strip_prefix(HEADER_PREFIX) {
            let fits = !header.is_empty()
                && header.bytes().all(|byte| byte.is_ascii_graphic() && !byte.is_ascii_uppercase());
            return fits.then(|| Self::Header(header.to_owned()));
        }
        let row = TABLE.iter().position(|row| row.name == name)?;
        Name::ALL.get(row).copied().map(Self::Known)
    }

    /// The name that signatures use.
    pub fn name(&self) -> String {
        match self {
            Self::Known(name) => name.row().name.to_owned(),
            Self::Header(header) => format!("{HEADER_PREFIX}{header}"),
        }
    }

    /// What its values are.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Known(name) => name.row().kind,
            Self::Header(_) => Kind::Keyword,
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

/// Where a piece of text stands in a conversation; text fields are sets of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Place {
    /// A system or developer message.
    System = 1,
    /// A user message, or a prompt.
    User = 2,
    /// A message of the model.
    Assistant = 4,
    /// A tool's result.
    Tool = 8,
    /// A tool's definition.
    Definition = 16,
    /// A requested answer schema.
    Schema = 32,
}

impl Place {
    /// The field that holds exactly this place's text.
    pub fn field(self) -> Name {
        match self {
            Self::System => Name::SystemInstructions,
            Self::User => Name::PromptUser,
            Self::Assistant => Name::PromptAssistant,
            Self::Tool => Name::PromptTool,
            Self::Definition => Name::ToolDefinitions,
            Self::Schema => Name::ResponseSchema,
        }
    }
}

/// The places whose text a text field holds, as a set of bits.
pub fn places(name: Name) -> u8 {
    match name {
        Name::SystemInstructions => Place::System as u8,
        Name::PromptUser => Place::User as u8,
        Name::PromptAssistant => Place::Assistant as u8,
        Name::PromptTool => Place::Tool as u8,
        Name::InputMessages => MESSAGES,
        Name::PromptInstruction => Place::User as u8 | Place::System as u8,
        Name::ToolDefinitions => Place::Definition as u8,
        Name::ResponseSchema => Place::Schema as u8,
        _ => 0,
    }
}

/// The places that make up a conversation.
pub const MESSAGES: u8 =
    Place::System as u8 | Place::User as u8 | Place::Assistant as u8 | Place::Tool as u8;

const UNKNOWN: Row = Row { name: "", kind: Kind::Keyword, doc: "" };

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_parse_to_themselves() {
        for name in Name::ALL {
            assert_eq!(Field::parse(name.row().name), Some(Field::Known(*name)));
        }
        let header = Field::parse("http.request.header.x-title").unwrap();
        assert_eq!(
            (header.name().as_str(), header.kind()),
            ("http.request.header.x-title", Kind::Keyword)
        );
        for wrong in ["", "hedgerow.nothing", "http.request.header.", "http.request.header.X-Title"]
        {
            assert_eq!(Field::parse(wrong), None, "{wrong}");
        }
    }
}
