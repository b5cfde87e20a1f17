//! Sources of traffic: entries of a scenario with their arrival times, texts, clients and networks.

use super::arrivals::{ArrivalProcess, DailyProfile};
use super::client_profile::{Address, ClientProfiles};
use super::kind_profile::{ClientKind, GroupSize, Network, Payload, kind_profile};
use super::prompt_catalog::{self, Patterns};
use super::prompt_template::{ChoiceSource, Pattern};
use super::rng::Rng;
use super::scenario::{BenignKind, BenignSpec, CampaignSpec, PromptKind, SharedKey};

/// A source of traffic: an entry of a scenario, with the settings that follow from it.
pub struct TrafficSource {
    /// Name in reports.
    pub name: String,
    /// Settings of the campaign; `None` for a benign source.
    pub campaign: Option<CampaignSpec>,
    /// Kind of a benign source; `None` for a campaign.
    pub kind: Option<BenignKind>,
    pub arrivals: ArrivalProcess,
    /// Number of actors, all active at the same time.
    pub actors: u32,
    /// Number of accounts per actor.
    pub keys_per_actor: u32,
    /// Number of accounts that replace banned accounts.
    pub reserve: u32,
    /// Number of tools, companies or gateways that the actors are spread over; for a campaign,
    /// number of proxy networks.
    pub groups: u32,
    /// Templates, by index of the group. The templates of a campaign do not belong to groups: each
    /// request picks one at random.
    pub templates: Vec<Template>,
    /// Seed of the random numbers of the source.
    pub seed: u64,
    pub network: Network,
    pub client_kind: ClientKind,
    /// Key that a campaign shares with benign accounts.
    pub target: Option<CampaignTarget>,
    /// Hour from the start of the scenario at which the actors begin.
    pub begins: f64,
    /// Hours over which the actors begin, one after the other.
    pub gradual: f64,
    /// Tenant of all accounts, if the origin names it.
    pub tenant: Option<String>,
}

/// The key that a campaign shares with benign accounts.
pub enum CampaignTarget {
    /// The most popular template of the benign accounts.
    Template(Template),
    /// The address of the benign accounts' largest gateway.
    Address(Address),
}

/// A prompt whose instruction is the same in all requests.
#[derive(Clone)]
pub struct Template {
    pub pattern: Pattern,
    /// The text after the instruction.
    pub payload: Payload,
    pub choice_source: ChoiceSource,
    /// Whether the instruction is a system message.
    pub is_system: bool,
    /// Index of the client, for sources whose clients belong to templates.
    pub profile_index: usize,
}

impl TrafficSource {
    /// Returns the source of a benign entry. `number` selects its stream of random numbers.
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
                let pick_profile = match entry.kind {
                    BenignKind::SharedTool | BenignKind::ScheduledJob | BenignKind::RoamingApp => {
                        ClientProfiles::pick_app
                    }
                    _ => ClientProfiles::pick_script,
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
            target: None,
            begins: entry.begins,
            gradual: entry.gradual,
            tenant: entry.one_tenant.then(|| format!("tenant {number}")),
        }
    }

    /// Returns the source of a campaign. `number` selects its stream of random numbers.
    pub fn from_campaign(campaign: &CampaignSpec, scale: f64, seed: u64, number: usize) -> Self {
        let mut rng = Rng::new(seed, number as u64);
        let seed = rng.next_u64();
        let tasks = campaign.tasks.iter().cycle().take(campaign.templates as usize);
        let templates = tasks.enumerate().flat_map(|(number, task)| {
            let (mut patterns, payload) = task_prompts(*task);
            if campaign.unknown_wording {
                patterns = prompt_catalog::unknown_wording();
            }
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
            target: None,
            begins: campaign.begins,
            gradual: campaign.gradual,
            tenant: None,
        }
    }

    /// Sets the key that the campaign shares with benign accounts, and returns the source. The key
    /// is taken from the first source in `benign` whose kind is the campaign's target.
    pub fn with_target(mut self, benign: &[Self]) -> Self {
        let Some(campaign) = &self.campaign else { return self };
        let target = benign.iter().find(|source| source.kind == campaign.target);
        self.target =
            target.filter(|_| campaign.target.is_some()).and_then(|target| match campaign.shares {
                SharedKey::Prompt => {
                    target.templates.first().cloned().map(CampaignTarget::Template)
                }
                SharedKey::Address => {
                    let address = target.home_address(0, &mut Rng::new(target.seed, 0));
                    Some(CampaignTarget::Address(address))
                }
            });
        self
    }

    /// Picks the group of an actor. Low indices are more likely, because some tools are much more
    /// popular than others. If there are as many groups as actors, each actor has its own group.
    pub fn pick_group(&self, actor_index: u32, rng: &mut Rng) -> u32 {
        if self.groups >= self.actors {
            return actor_index;
        }
        let share = rng.uniform();
        (share * share * f64::from(self.groups)) as u32
    }

    /// Draws the fixed address of an actor in a group. Actors of proxy networks get a default
    /// address, because they draw a new address for each request.
    pub fn home_address(&self, group: u32, rng: &mut Rng) -> Address {
        match self.network {
            Network::Home | Network::Roaming => Address::home(rng),
            Network::Cloud | Network::RandomCloud => Address::cloud(rng),
            // All actors behind a gateway have one address.
            Network::Gateway => Address::cloud(&mut Rng::new(self.seed, u64::from(group))),
            Network::Proxies => Address::default(),
        }
    }
}

fn scaled_count(accounts: u32, scale: f64) -> u32 {
    (f64::from(accounts) * scale).round() as u32
}

/// Returns one template per group. The groups take the patterns in turn, and each template makes
/// its own choices.
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
        let choice_source = ChoiceSource { choices: rng, is_paraphrased: false };
        Some(Template {
            pattern: pattern.clone(),
            payload,
            choice_source,
            is_system,
            profile_index,
        })
    });
    templates.collect()
}

fn task_prompts(task: PromptKind) -> (Patterns, Payload) {
    match task {
        PromptKind::Tags => (prompt_catalog::tags(), Payload::FilledSlots),
        PromptKind::Traces => (prompt_catalog::traces(), Payload::FilledSlots),
        PromptKind::Grading => (prompt_catalog::grading(), Payload::FilledSlots),
        PromptKind::Cleaning => (prompt_catalog::cleaning(), Payload::FilledSlots),
        PromptKind::Sweeps => (prompt_catalog::sweeps(), Payload::FilledSlots),
        PromptKind::Relay => (prompt_catalog::app_instructions(), Payload::Relay),
        PromptKind::Replays => (prompt_catalog::replays(), Payload::SavedReasoning),
        PromptKind::PublicReplays => (prompt_catalog::replays(), Payload::PublicReasoning),
        PromptKind::KnownPrompts => (prompt_catalog::public_exercises(), Payload::KnownPrompt),
        PromptKind::Imitation => (prompt_catalog::imitations(), Payload::Imitation),
    }
}
