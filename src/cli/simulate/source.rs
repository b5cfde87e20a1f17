//! Sources of traffic: each entry of a scenario, with its pace, its texts and where it comes from.

use super::client::{Address, Programs};
use super::pace::{Pace, When};
use super::pattern::{Pattern, Style};
use super::phrases::{self, Patterns};
use super::rng::Rng;
use super::scenario::{Benign, Campaign, Kind, Task};

/// A source of traffic.
pub struct Source {
    /// Its name in reports.
    pub name: String,
    /// The campaign's own settings, where it is one.
    pub campaign: Option<Campaign>,
    /// The kind, where it is none.
    pub kind: Option<Kind>,
    pub pace: Pace,
    /// Accounts at the same time.
    pub actors: u32,
    /// Keys that each of them has.
    pub keys: u32,
    /// Accounts that take over.
    pub reserve: u32,
    /// How many tools, companies or gateways they are spread over.
    pub groups: u32,
    /// One for each group, or for each account.
    pub templates: Vec<Template>,
    /// Where its random things begin.
    pub seed: u64,
    pub place: Place,
    pub carrier: Carrier,
}

/// A text of which a part stays.
pub struct Template {
    pub pattern: Pattern,
    /// What its requests are.
    pub matter: Matter,
    pub style: Style,
    /// Whether the instruction is the system's message.
    pub is_system: bool,
    /// The program that its requests are sent by, where that belongs to the template.
    pub program: usize,
}

/// What stands behind an instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Matter {
    /// What people ask, turn by turn.
    Talk,
    /// What the pattern says, filled anew.
    Slots,
    /// The same, filled from so many fixed things: each account its own.
    Own(u32),
    /// The same, filled from so many things that are public.
    Public(u32),
    /// What customers of a relay ask.
    Relay,
    /// Saved reasoning is sent back.
    Replay,
}

/// Where requests come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    Home,
    Cloud,
    /// From another machine each time.
    Anywhere,
    /// All of a group from one address.
    Gateway,
    Proxies,
}

/// What sends them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carrier {
    App,
    Script,
    Any,
    Gateway,
    Stripped,
    /// Whatever the template's program is.
    Template,
}

impl Source {
    /// The source that an entry describes; `number` sets it apart from others.
    pub fn benign(entry: &Benign, scale: f64, seed: u64, number: usize) -> Self {
        let habit = habit(entry.kind);
        let actors = scaled(entry.accounts, scale).max(1);
        let groups = match (entry.groups, habit.groups) {
            (Some(groups), _) => groups.min(actors),
            (None, Groups::Each) => actors,
            (None, Groups::Of(size)) => actors.div_ceil(size),
        };
        let mut pace = habit.pace;
        pace.daily = entry.daily.unwrap_or(pace.daily);
        if pace.when == When::Nightly {
            pace.bout = pace.daily;
        }
        let mut rng = Rng::new(seed, number as u64);
        let seed = rng.next();
        let templates = match habit.texts {
            None => Vec::new(),
            Some(patterns) => {
                let chooses =
                    if entry.kind == Kind::SharedTool { Programs::app } else { Programs::script };
                templates(&patterns(), habit.matter, groups, seed, chooses)
            }
        };
        Self {
            name: entry.kind.name().to_owned(),
            campaign: None,
            kind: Some(entry.kind),
            pace,
            actors,
            keys: habit.keys,
            reserve: 0,
            groups,
            templates,
            seed,
            place: habit.place,
            carrier: habit.carrier,
        }
    }

    /// The source that a campaign is.
    pub fn campaign(campaign: &Campaign, scale: f64, seed: u64, number: usize) -> Self {
        let mut rng = Rng::new(seed, number as u64);
        let seed = rng.next();
        let tasks = campaign.tasks.iter().cycle().take(campaign.templates as usize);
        let templates = tasks.enumerate().flat_map(|(number, task)| {
            let (patterns, matter) = task_texts(*task);
            let mut own = templates(&patterns, matter, number as u32 + 1, seed, Programs::script);
            own.pop()
        });
        let pace =
            Pace { daily: campaign.daily, spread: 0.05, bout: 1.0, gap: 1.0, when: When::Flat };
        Self {
            name: campaign.name.clone(),
            kind: None,
            pace,
            actors: scaled(campaign.accounts, scale).max(1),
            keys: 1,
            reserve: scaled(campaign.reserve, scale),
            groups: campaign.networks,
            templates: templates.collect(),
            campaign: Some(campaign.clone()),
            seed,
            place: Place::Proxies,
            carrier: Carrier::Template,
        }
    }

    /// The group of one of its accounts: some tools are much more popular than others.
    pub fn group(&self, number: u32, rng: &mut Rng) -> u32 {
        if self.groups >= self.actors {
            return number;
        }
        let share = rng.share();
        (share * share * f64::from(self.groups)) as u32
    }
}

fn scaled(accounts: u32, scale: f64) -> u32 {
    (f64::from(accounts) * scale).round() as u32
}

/// Templates of their own for groups: pattern by pattern, with choices that no other has.
fn templates(
    patterns: &Patterns,
    matter: Matter,
    groups: u32,
    seed: u64,
    chooses: fn(&mut Rng) -> usize,
) -> Vec<Template> {
    let each = (0..groups).filter_map(|group| {
        let pattern = patterns.get(group as usize % patterns.len().max(1))?;
        let mut rng = Rng::new(seed, u64::from(group));
        let is_system = rng.chance(0.5);
        let program = chooses(&mut rng);
        let style = Style { choices: rng, is_loose: false };
        Some(Template { pattern: pattern.clone(), matter, style, is_system, program })
    });
    each.collect()
}

fn task_texts(task: Task) -> (Patterns, Matter) {
    match task {
        Task::Tags => (phrases::tags(), Matter::Slots),
        Task::Traces => (phrases::traces(), Matter::Slots),
        Task::Grading => (phrases::grading(), Matter::Slots),
        Task::Cleaning => (phrases::cleaning(), Matter::Slots),
        Task::Sweeps => (phrases::sweeps(), Matter::Slots),
        Task::Relay => (phrases::manners(), Matter::Relay),
        Task::Replays => (phrases::replays(), Matter::Replay),
    }
}

/// What is usual for a kind.
struct Habit {
    pace: Pace,
    groups: Groups,
    texts: Option<fn() -> Patterns>,
    matter: Matter,
    place: Place,
    carrier: Carrier,
    keys: u32,
}

/// What accounts of a kind share.
#[derive(Clone, Copy)]
enum Groups {
    /// Nothing.
    Each,
    /// So many share a tool, a company or a gateway.
    Of(u32),
}

fn habit(kind: Kind) -> Habit {
    use When::{Awake, Busy, Flat, Nightly, Office};
    let pace = |daily, spread, bout, gap, when| Pace { daily, spread, bout, gap, when };
    let people = Habit {
        pace: pace(12.0, 1.3, 3.0, 60.0, Awake),
        groups: Groups::Each,
        texts: None,
        matter: Matter::Talk,
        place: Place::Home,
        carrier: Carrier::App,
        keys: 1,
    };
    let program = Habit {
        pace: pace(400.0, 1.0, 80.0, 2.0, Office),
        texts: Some(phrases::batches),
        matter: Matter::Slots,
        place: Place::Cloud,
        carrier: Carrier::Script,
        ..people
    };
    match kind {
        Kind::People => people,
        Kind::SharedTool => Habit {
            pace: pace(15.0, 1.3, 2.0, 40.0, Awake),
            groups: Groups::Of(400),
            texts: Some(phrases::tools),
            matter: Matter::Slots,
            carrier: Carrier::Template,
            ..people
        },
        Kind::RagService => Habit {
            pace: pace(1500.0, 0.8, 1.0, 1.0, Busy),
            texts: Some(phrases::retrieval),
            ..program
        },
        Kind::FrameworkPrompt => Habit {
            pace: pace(300.0, 1.5, 1.0, 1.0, Busy),
            groups: Groups::Of(10_000),
            texts: Some(phrases::framework),
            ..program
        },
        Kind::SdkProgram => program,
        Kind::NightlyEval => Habit {
            pace: pace(1000.0, 0.5, 1.0, 6.0, Nightly),
            texts: Some(phrases::evaluations),
            ..program
        },
        Kind::KeyMigration => Habit {
            pace: pace(60.0, 0.6, 4.0, 20.0, Busy),
            groups: Groups::Of(150),
            texts: Some(phrases::manners),
            matter: Matter::Talk,
            place: Place::Cloud,
            carrier: Carrier::Template,
            keys: 2,
        },
        Kind::CiTeamKey => Habit {
            pace: pace(500.0, 0.7, 40.0, 3.0, Office),
            texts: Some(phrases::tests),
            matter: Matter::Own(60),
            place: Place::Anywhere,
            carrier: Carrier::Any,
            ..program
        },
        Kind::LargeBatch => Habit { pace: pace(3000.0, 0.5, 3000.0, 1.5, Office), ..program },
        Kind::HiddenClients => Habit {
            groups: Groups::Of(300),
            place: Place::Gateway,
            carrier: Carrier::Gateway,
            ..people
        },
        Kind::PrivacyStripping => Habit { carrier: Carrier::Stripped, ..people },
        Kind::AuditTrail => Habit {
            pace: pace(300.0, 0.5, 1.0, 8.0, Nightly),
            texts: Some(phrases::audits),
            ..program
        },
        Kind::FailoverRouter => Habit {
            pace: pace(600.0, 0.7, 2.0, 30.0, Busy),
            texts: Some(phrases::manners),
            matter: Matter::Talk,
            keys: 3,
            ..program
        },
        Kind::ReleaseDay => Habit {
            pace: pace(300.0, 0.6, 150.0, 3.0, Flat),
            groups: Groups::Of(10_000),
            texts: Some(phrases::benchmarks),
            matter: Matter::Public(400),
            place: Place::Home,
            ..program
        },
        Kind::RegressionSuite => Habit {
            pace: pace(150.0, 0.4, 1.0, 3.0, Nightly),
            texts: Some(phrases::tests),
            matter: Matter::Own(150),
            ..program
        },
    }
}

impl Place {
    /// Where an account is at home.
    pub fn settle(self, source: &Source, group: u32, rng: &mut Rng) -> Address {
        match self {
            Self::Home => Address::home(rng),
            Self::Cloud | Self::Anywhere => Address::cloud(rng),
            // One for all of the gateway.
            Self::Gateway => Address::cloud(&mut Rng::new(source.seed, u64::from(group))),
            Self::Proxies => Address::default(),
        }
    }
}
