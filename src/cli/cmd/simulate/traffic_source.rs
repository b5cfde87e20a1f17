//! Sources of traffic: each entry of a scenario, with its pace, its texts and where it comes from.

use super::arrivals::{ArrivalProcess, DailyProfile};
use super::client_profile::{Address, ClientProfiles};
use super::prompt_catalog;
use super::prompt_catalog::Patterns;
use super::prompt_template::{Pattern, StyleRng};
use super::rng::Rng;
use super::scenario::{BenignKind, BenignSpec, CampaignSpec, Task};

/// A source of traffic.
pub struct TrafficSource {
    /// Its name in reports.
    pub name: String,
    /// The campaign's own settings, where it is one.
    pub campaign: Option<CampaignSpec>,
    /// The kind, where it is none.
    pub kind: Option<BenignKind>,
    pub arrivals: ArrivalProcess,
    /// Accounts at the same time.
    pub actors: u32,
    /// Keys that each of them has.
    pub keys_per_actor: u32,
    /// Accounts that take over.
    pub reserve: u32,
    /// How many tools, companies or gateways they are spread over.
    pub groups: u32,
    /// One for each group, or for each account.
    pub templates: Vec<Template>,
    /// Where its random things begin.
    pub seed: u64,
    pub network: Network,
    pub client_kind: ClientKind,
}

/// A text of which a part stays.
pub struct Template {
    pub pattern: Pattern,
    /// What its requests are.
    pub payload: Payload,
    pub style_rng: StyleRng,
    /// Whether the instruction is the system's message.
    pub is_system: bool,
    /// The program that its requests are sent by, where that belongs to the template.
    pub profile_index: usize,
}

/// What stands behind an instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Payload {
    /// What people ask, turn by turn.
    Conversation,
    /// What the pattern says, filled anew.
    FilledSlots,
    /// The same, filled from so many fixed things: each account its own.
    FixedPerAccount(u32),
    /// The same, filled from so many things that are public.
    PublicSet(u32),
    /// What customers of a relay ask.
    Relay,
    /// Saved reasoning is sent back.
    SavedReasoning,
}

/// Where requests come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Network {
    Home,
    Cloud,
    /// From another machine each time.
    RandomCloud,
    /// All of a group from one address.
    Gateway,
    Proxies,
}

/// What sends them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientKind {
    App,
    Script,
    Any,
    Gateway,
    Stripped,
    /// Whatever the template's program is.
    Template,
}

impl TrafficSource {
    /// The source that an entry describes; `number` sets it apart from others.
    pub fn from_benign(entry: &BenignSpec, scale: f64, seed: u64, number: usize) -> Self {
        let profile = kind_profile(entry.kind);
        let actors = scaled_count(entry.accounts, scale).max(1);
        let groups = match (entry.groups, profile.group_size) {
            (Some(groups), _) => groups.min(actors),
            (None, GroupSize::Single) => actors,
            (None, GroupSize::Accounts(size)) => actors.div_ceil(size),
        };
        let mut arrivals = profile.arrivals;
        arrivals.requests_per_day = entry.daily.unwrap_or(arrivals.requests_per_day);
        if arrivals.daily_profile == DailyProfile::Nightly {
            arrivals.burst_len = arrivals.requests_per_day;
        }
        let mut rng = Rng::new(seed, number as u64);
        let seed = rng.next_u64();
        let templates = match profile.prompts {
            None => Vec::new(),
            Some(patterns) => {
                let pick_profile = if entry.kind == BenignKind::SharedTool {
                    ClientProfiles::pick_app
                } else {
                    ClientProfiles::pick_script
                };
                build_templates(&patterns(), profile.payload, groups, seed, pick_profile)
            }
        };
        Self {
            name: entry.kind.name().to_owned(),
            campaign: None,
            kind: Some(entry.kind),
            arrivals,
            actors,
            keys_per_actor: profile.keys_per_actor,
            reserve: 0,
            groups,
            templates,
            seed,
            network: profile.network,
            client_kind: profile.client_kind,
        }
    }

    /// The source that a campaign is.
    pub fn from_campaign(campaign: &CampaignSpec, scale: f64, seed: u64, number: usize) -> Self {
        let mut rng = Rng::new(seed, number as u64);
        let seed = rng.next_u64();
        let tasks = campaign.tasks.iter().cycle().take(campaign.templates as usize);
        let templates = tasks.enumerate().flat_map(|(number, task)| {
            let (patterns, payload) = task_prompts(*task);
            let mut generated = build_templates(
                &patterns,
                payload,
                number as u32 + 1,
                seed,
                ClientProfiles::pick_script,
            );
            generated.pop()
        });
        let arrivals = ArrivalProcess {
            requests_per_day: campaign.daily,
            sigma: 0.05,
            burst_len: 1.0,
            gap_seconds: 1.0,
            daily_profile: DailyProfile::Flat,
        };
        Self {
            name: campaign.name.clone(),
            kind: None,
            arrivals,
            actors: scaled_count(campaign.accounts, scale).max(1),
            keys_per_actor: 1,
            reserve: scaled_count(campaign.reserve, scale),
            groups: campaign.networks,
            templates: templates.collect(),
            campaign: Some(campaign.clone()),
            seed,
            network: Network::Proxies,
            client_kind: ClientKind::Template,
        }
    }

    /// The group of one of its accounts: some tools are much more popular than others.
    pub fn pick_group(&self, number: u32, rng: &mut Rng) -> u32 {
        if self.groups >= self.actors {
            return number;
        }
        let share = rng.uniform();
        (share * share * f64::from(self.groups)) as u32
    }
}

fn scaled_count(accounts: u32, scale: f64) -> u32 {
    (f64::from(accounts) * scale).round() as u32
}

/// Templates of their own for groups: pattern by pattern, with choices that no other has.
fn build_templates(
    patterns: &Patterns,
    payload: Payload,
    groups: u32,
    seed: u64,
    pick_profile: fn(&mut Rng) -> usize,
) -> Vec<Template> {
    let templates = (0..groups).filter_map(|group| {
        let pattern = patterns.get(group as usize % patterns.len().max(1))?;
        let mut rng = Rng::new(seed, u64::from(group));
        let is_system = rng.chance(0.5);
        let profile_index = pick_profile(&mut rng);
        let style_rng = StyleRng { choices: rng, is_paraphrased: false };
        Some(Template { pattern: pattern.clone(), payload, style_rng, is_system, profile_index })
    });
    templates.collect()
}

fn task_prompts(task: Task) -> (Patterns, Payload) {
    match task {
        Task::Tags => (prompt_catalog::tags(), Payload::FilledSlots),
        Task::Traces => (prompt_catalog::traces(), Payload::FilledSlots),
        Task::Grading => (prompt_catalog::grading(), Payload::FilledSlots),
        Task::Cleaning => (prompt_catalog::cleaning(), Payload::FilledSlots),
        Task::Sweeps => (prompt_catalog::sweeps(), Payload::FilledSlots),
        Task::Relay => (prompt_catalog::app_instructions(), Payload::Relay),
        Task::Replays => (prompt_catalog::replays(), Payload::SavedReasoning),
    }
}

/// What is usual for a kind.
struct KindProfile {
    arrivals: ArrivalProcess,
    group_size: GroupSize,
    prompts: Option<fn() -> Patterns>,
    payload: Payload,
    network: Network,
    client_kind: ClientKind,
    keys_per_actor: u32,
}

/// What accounts of a kind share.
#[derive(Clone, Copy)]
enum GroupSize {
    /// Nothing.
    Single,
    /// So many share a tool, a company or a gateway.
    Accounts(u32),
}

fn kind_profile(kind: BenignKind) -> KindProfile {
    use DailyProfile::{Awake, DaytimePeak, Flat, Nightly, Office};
    let arrivals = |requests_per_day, sigma, burst_len, gap_seconds, daily_profile| {
        ArrivalProcess { requests_per_day, sigma, burst_len, gap_seconds, daily_profile }
    };
    let person = KindProfile {
        arrivals: arrivals(12.0, 1.3, 3.0, 60.0, Awake),
        group_size: GroupSize::Single,
        prompts: None,
        payload: Payload::Conversation,
        network: Network::Home,
        client_kind: ClientKind::App,
        keys_per_actor: 1,
    };
    let script = KindProfile {
        arrivals: arrivals(400.0, 1.0, 80.0, 2.0, Office),
        prompts: Some(prompt_catalog::batches),
        payload: Payload::FilledSlots,
        network: Network::Cloud,
        client_kind: ClientKind::Script,
        ..person
    };
    match kind {
        BenignKind::People => person,
        BenignKind::SharedTool => KindProfile {
            arrivals: arrivals(15.0, 1.3, 2.0, 40.0, Awake),
            group_size: GroupSize::Accounts(400),
            prompts: Some(prompt_catalog::shared_tools),
            payload: Payload::FilledSlots,
            client_kind: ClientKind::Template,
            ..person
        },
        BenignKind::RagService => KindProfile {
            arrivals: arrivals(1500.0, 0.8, 1.0, 1.0, DaytimePeak),
            prompts: Some(prompt_catalog::retrieval),
            ..script
        },
        BenignKind::FrameworkPrompt => KindProfile {
            arrivals: arrivals(300.0, 1.5, 1.0, 1.0, DaytimePeak),
            group_size: GroupSize::Accounts(10_000),
            prompts: Some(prompt_catalog::framework_prompts),
            ..script
        },
        BenignKind::SdkProgram => script,
        BenignKind::NightlyEval => KindProfile {
            arrivals: arrivals(1000.0, 0.5, 1.0, 6.0, Nightly),
            prompts: Some(prompt_catalog::evaluations),
            ..script
        },
        BenignKind::KeyMigration => KindProfile {
            arrivals: arrivals(60.0, 0.6, 4.0, 20.0, DaytimePeak),
            group_size: GroupSize::Accounts(150),
            prompts: Some(prompt_catalog::app_instructions),
            payload: Payload::Conversation,
            network: Network::Cloud,
            client_kind: ClientKind::Template,
            keys_per_actor: 2,
        },
        BenignKind::CiTeamKey => KindProfile {
            arrivals: arrivals(500.0, 0.7, 40.0, 3.0, Office),
            prompts: Some(prompt_catalog::test_fixtures),
            payload: Payload::FixedPerAccount(60),
            network: Network::RandomCloud,
            client_kind: ClientKind::Any,
            ..script
        },
        BenignKind::LargeBatch => {
            KindProfile { arrivals: arrivals(3000.0, 0.5, 3000.0, 1.5, Office), ..script }
        }
        BenignKind::HiddenClients => KindProfile {
            group_size: GroupSize::Accounts(300),
            network: Network::Gateway,
            client_kind: ClientKind::Gateway,
            ..person
        },
        BenignKind::PrivacyStripping => KindProfile { client_kind: ClientKind::Stripped, ..person },
        BenignKind::AuditTrail => KindProfile {
            arrivals: arrivals(300.0, 0.5, 1.0, 8.0, Nightly),
            prompts: Some(prompt_catalog::audits),
            ..script
        },
        BenignKind::FailoverRouter => KindProfile {
            arrivals: arrivals(600.0, 0.7, 2.0, 30.0, DaytimePeak),
            prompts: Some(prompt_catalog::app_instructions),
            payload: Payload::Conversation,
            keys_per_actor: 3,
            ..script
        },
        BenignKind::ReleaseDay => KindProfile {
            arrivals: arrivals(300.0, 0.6, 150.0, 3.0, Flat),
            group_size: GroupSize::Accounts(10_000),
            prompts: Some(prompt_catalog::benchmarks),
            payload: Payload::PublicSet(400),
            network: Network::Home,
            ..script
        },
        BenignKind::RegressionSuite => KindProfile {
            arrivals: arrivals(150.0, 0.4, 1.0, 3.0, Nightly),
            prompts: Some(prompt_catalog::test_fixtures),
            payload: Payload::FixedPerAccount(150),
            ..script
        },
    }
}

impl Network {
    /// Where an account is at home.
    pub fn network_for(self, source: &TrafficSource, group: u32, rng: &mut Rng) -> Address {
        match self {
            Self::Home => Address::home(rng),
            Self::Cloud | Self::RandomCloud => Address::cloud(rng),
            // One for all of the gateway.
            Self::Gateway => Address::cloud(&mut Rng::new(source.seed, u64::from(group))),
            Self::Proxies => Address::default(),
        }
    }
}
