//! The typical traffic of each kind of benign account: rates, texts, clients and networks.
//!
//! docs/simulation.md describes the kinds.

use super::arrivals::DailyProfile::{Awake, DaytimePeak, Flat, Nightly, Office};
use super::arrivals::{ArrivalProcess, DailyProfile};
use super::prompt_catalog::{self, KNOWN_PROMPTS, Patterns};
use super::scenario::BenignKind;

/// The typical traffic of one kind of benign account.
#[derive(Clone, Copy)]
pub struct KindProfile {
    pub arrivals: ArrivalProcess,
    pub group_size: GroupSize,
    /// Returns the patterns of the kind's prompt templates; `None` for a kind without templates.
    pub prompts: Option<fn() -> Patterns>,
    pub payload: Payload,
    pub network: Network,
    pub client_kind: ClientKind,
    pub keys_per_actor: u32,
}

/// The number of accounts that share a tool, a company or a gateway.
#[derive(Clone, Copy)]
pub enum GroupSize {
    Single,
    /// This number of accounts, on average.
    Accounts(u32),
}

/// The text that follows the instruction of a template.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Payload {
    /// Questions of a person, one per turn of a conversation.
    Conversation,
    /// The tail of the pattern (its text after the sentences), with new words in its slots in each
    /// request.
    FilledSlots,
    /// The tail of the pattern, filled from this number of fixed sets of words. Each account has
    /// its own sets.
    FixedPerAccount(u32),
    /// The tail of the pattern, filled from this number of fixed sets of words, which all accounts
    /// share.
    PublicSet(u32),
    /// Questions of a relay's customers. A relay sends requests of many customers with the accounts
    /// of the campaign.
    Relay,
    /// Signed reasoning that the campaign saved from other sessions and sends back.
    SavedReasoning,
    /// The placeholder that a vendor's documentation uses in place of signed reasoning.
    PublicReasoning,
    /// A prompt of the public collection: the next prompt that the campaign has not sent yet or,
    /// for a benign account, the next one in the account's own sequence.
    KnownPrompt,
    /// The request of a campaign's target, without any text of the campaign.
    Imitation,
}

/// The networks of a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Network {
    Home,
    Cloud,
    /// A different machine in a data centre for each request.
    RandomCloud,
    /// A different home network for each request.
    Roaming,
    /// One address for all accounts of a group.
    Gateway,
    Proxies,
}

/// The clients of a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientKind {
    App,
    Script,
    /// A different SDK or library for each request.
    Any,
    Gateway,
    Stripped,
    /// The client that belongs to the template.
    Template,
}

const fn arrivals(
    requests_per_day: f64,
    sigma: f64,
    burst_len: f64,
    gap_seconds: f64,
    daily_profile: DailyProfile,
) -> ArrivalProcess {
    ArrivalProcess { requests_per_day, sigma, burst_len, gap_seconds, daily_profile }
}

/// A person who chats in an app.
const PERSON: KindProfile = KindProfile {
    arrivals: arrivals(12.0, 1.3, 3.0, 60.0, Awake),
    group_size: GroupSize::Single,
    prompts: None,
    payload: Payload::Conversation,
    network: Network::Home,
    client_kind: ClientKind::App,
    keys_per_actor: 1,
};

/// A program in a data centre that works in batches.
const SCRIPT: KindProfile = KindProfile {
    arrivals: arrivals(400.0, 1.0, 80.0, 2.0, Office),
    prompts: Some(prompt_catalog::batches),
    payload: Payload::FilledSlots,
    network: Network::Cloud,
    client_kind: ClientKind::Script,
    ..PERSON
};

const SHARED_TOOL: KindProfile = KindProfile {
    arrivals: arrivals(15.0, 1.3, 2.0, 40.0, Awake),
    group_size: GroupSize::Accounts(400),
    prompts: Some(prompt_catalog::shared_tools),
    payload: Payload::FilledSlots,
    client_kind: ClientKind::Template,
    ..PERSON
};

const RAG_SERVICE: KindProfile = KindProfile {
    arrivals: arrivals(1500.0, 0.8, 1.0, 1.0, DaytimePeak),
    prompts: Some(prompt_catalog::retrieval),
    ..SCRIPT
};

const FRAMEWORK_PROMPT: KindProfile = KindProfile {
    arrivals: arrivals(300.0, 1.5, 1.0, 1.0, DaytimePeak),
    group_size: GroupSize::Accounts(10_000),
    prompts: Some(prompt_catalog::framework_prompts),
    ..SCRIPT
};

const NIGHTLY_EVAL: KindProfile = KindProfile {
    arrivals: arrivals(1000.0, 0.5, 1.0, 6.0, Nightly),
    prompts: Some(prompt_catalog::evaluations),
    ..SCRIPT
};

const KEY_MIGRATION: KindProfile = KindProfile {
    arrivals: arrivals(60.0, 0.6, 4.0, 20.0, DaytimePeak),
    group_size: GroupSize::Accounts(150),
    prompts: Some(prompt_catalog::app_instructions),
    network: Network::Cloud,
    client_kind: ClientKind::Template,
    keys_per_actor: 2,
    ..PERSON
};

const CI_TEAM_KEY: KindProfile = KindProfile {
    arrivals: arrivals(500.0, 0.7, 40.0, 3.0, Office),
    prompts: Some(prompt_catalog::test_fixtures),
    payload: Payload::FixedPerAccount(60),
    network: Network::RandomCloud,
    client_kind: ClientKind::Any,
    ..SCRIPT
};

const LARGE_BATCH: KindProfile =
    KindProfile { arrivals: arrivals(3000.0, 0.5, 3000.0, 1.5, Office), ..SCRIPT };

const HIDDEN_CLIENTS: KindProfile = KindProfile {
    group_size: GroupSize::Accounts(300),
    network: Network::Gateway,
    client_kind: ClientKind::Gateway,
    ..PERSON
};

const PRIVACY_STRIPPING: KindProfile = KindProfile { client_kind: ClientKind::Stripped, ..PERSON };

const AUDIT_TRAIL: KindProfile = KindProfile {
    arrivals: arrivals(300.0, 0.5, 1.0, 8.0, Nightly),
    prompts: Some(prompt_catalog::audits),
    ..SCRIPT
};

const FAILOVER_ROUTER: KindProfile = KindProfile {
    arrivals: arrivals(600.0, 0.7, 2.0, 30.0, DaytimePeak),
    prompts: Some(prompt_catalog::app_instructions),
    payload: Payload::Conversation,
    keys_per_actor: 3,
    ..SCRIPT
};

const RELEASE_DAY: KindProfile = KindProfile {
    arrivals: arrivals(300.0, 0.6, 150.0, 3.0, Flat),
    group_size: GroupSize::Accounts(10_000),
    prompts: Some(prompt_catalog::benchmarks),
    payload: Payload::PublicSet(400),
    network: Network::Home,
    ..SCRIPT
};

const REGRESSION_SUITE: KindProfile = KindProfile {
    arrivals: arrivals(150.0, 0.4, 1.0, 3.0, Nightly),
    prompts: Some(prompt_catalog::test_fixtures),
    payload: Payload::FixedPerAccount(150),
    ..SCRIPT
};

const VENDOR_EXAMPLE: KindProfile = KindProfile {
    arrivals: arrivals(3.0, 0.8, 2.0, 120.0, Awake),
    group_size: GroupSize::Accounts(10_000),
    prompts: Some(prompt_catalog::vendor_examples),
    payload: Payload::PublicReasoning,
    ..PERSON
};

const PODS: KindProfile = KindProfile {
    arrivals: arrivals(2400.0, 0.02, 1.0, 1.0, Flat),
    group_size: GroupSize::Accounts(10_000),
    prompts: Some(prompt_catalog::app_instructions),
    payload: Payload::Conversation,
    keys_per_actor: POD_TOKENS,
    ..SCRIPT
};

const PUBLIC_EVALUATION: KindProfile = KindProfile {
    arrivals: arrivals(KNOWN_PROMPTS as f64, 0.1, 1.0, 6.0, Nightly),
    prompts: Some(prompt_catalog::public_exercises),
    payload: Payload::KnownPrompt,
    ..SCRIPT
};

const SCHEDULED_JOB: KindProfile = KindProfile {
    arrivals: arrivals(24.0, 0.02, 1.0, 1.0, Flat),
    group_size: GroupSize::Accounts(300),
    ..SHARED_TOOL
};

const SHARDED_JOB: KindProfile = KindProfile {
    arrivals: arrivals(400.0, 0.02, 1.0, 1.0, Flat),
    group_size: GroupSize::Accounts(10_000),
    client_kind: ClientKind::Template,
    ..SCRIPT
};

const ROAMING_APP: KindProfile = KindProfile { network: Network::Roaming, ..SCHEDULED_JOB };

/// Number of tokens (accounts) of a pod. The pod uses them in turn, each for six hours.
pub const POD_TOKENS: u32 = 16;

/// Returns the typical traffic of a kind.
pub fn kind_profile(kind: BenignKind) -> KindProfile {
    match kind {
        BenignKind::People => PERSON,
        BenignKind::SharedTool => SHARED_TOOL,
        BenignKind::RagService => RAG_SERVICE,
        BenignKind::FrameworkPrompt => FRAMEWORK_PROMPT,
        BenignKind::SdkProgram => SCRIPT,
        BenignKind::NightlyEval => NIGHTLY_EVAL,
        BenignKind::KeyMigration => KEY_MIGRATION,
        BenignKind::CiTeamKey => CI_TEAM_KEY,
        BenignKind::LargeBatch => LARGE_BATCH,
        BenignKind::HiddenClients => HIDDEN_CLIENTS,
        BenignKind::PrivacyStripping => PRIVACY_STRIPPING,
        BenignKind::AuditTrail => AUDIT_TRAIL,
        BenignKind::FailoverRouter => FAILOVER_ROUTER,
        BenignKind::ReleaseDay => RELEASE_DAY,
        BenignKind::RegressionSuite => REGRESSION_SUITE,
        BenignKind::VendorExample => VENDOR_EXAMPLE,
        BenignKind::Pods => PODS,
        BenignKind::PublicEvaluation => PUBLIC_EVALUATION,
        BenignKind::ScheduledJob => SCHEDULED_JOB,
        BenignKind::ShardedJob => SHARDED_JOB,
        BenignKind::RoamingApp => ROAMING_APP,
    }
}
