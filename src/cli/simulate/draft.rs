//! One request as bytes: what is said, and the body, headers and address that it travels by.

use super::account::Actor;
use super::client::{Address, Program, Programs};
use super::pattern::{Pattern, Style, passage, question};
use super::phrases;
use super::rng::Rng;
use super::source::{Carrier, Matter, Place, Source, Template};
use super::words::Words;

/// Writes requests; its buffers are used again and again.
pub struct Writer {
    words: Words,
    programs: Programs,
    /// What tools tell the model whose users come through a relay.
    manners: Vec<Pattern>,
    system: String,
    said: [String; TURNS],
    /// How many of those are used; the user's first, and the model's between.
    count: usize,
    /// Reasoning that is sent back before the last message but one.
    reasoning: Option<u64>,
    /// The body.
    pub body: String,
    /// The client's address.
    pub address: String,
    /// Its network.
    pub network: Address,
    /// The program's number.
    pub program: usize,
}

/// Messages of a conversation that are sent at most.
const TURNS: usize = 3;

impl Writer {
    pub fn new() -> Self {
        Self {
            words: Words::new(),
            programs: Programs::new(),
            manners: phrases::manners(),
            system: String::new(),
            said: Default::default(),
            count: 0,
            reasoning: None,
            body: String::new(),
            address: String::new(),
            network: Address::default(),
            program: 0,
        }
    }

    /// The program that the request comes by.
    pub fn carrier(&self) -> Option<&Program> {
        self.programs.get(self.program)
    }

    /// Writes an actor's next request; `is_new` where a new model is out.
    pub fn write(&mut self, source: &Source, actor: &mut Actor, is_new: bool) {
        self.system.clear();
        self.said.iter_mut().for_each(String::clear);
        self.count = 1;
        self.reasoning = None;
        self.network = network(source, actor);
        self.program = program(source, actor);
        match &source.campaign {
            Some(campaign) => {
                let is_ordinary = actor.rng.chance(campaign.ordinary / 100.0);
                let is_loose = actor.rng.chance(campaign.noise / 100.0);
                let template = source.templates.get(actor.rng.below(source.templates.len()));
                match template {
                    Some(template) if !is_ordinary => {
                        self.program = template.program;
                        let mut rng = Rng::new(actor.rng.next(), 0);
                        self.instructed(template, is_loose, source.seed, actor, &mut rng);
                    }
                    _ => {
                        self.program = Programs::app(&mut Rng::new(actor.talk, 0));
                        actor.turn = 0;
                        self.talk(actor.rng.next(), 0);
                    }
                }
            }
            None => {
                let template = source.templates.get(actor.group as usize);
                match template {
                    None => self.talk(actor.talk, actor.turn),
                    Some(template) => {
                        let mut rng = Rng::new(actor.talk, u64::from(actor.turn));
                        self.instructed(template, false, source.seed, actor, &mut rng);
                    }
                }
            }
        }
        self.assemble(is_new);
        self.address.clear();
        self.network.write(&mut self.address);
    }

    /// Says what a template says.
    fn instructed(
        &mut self,
        template: &Template,
        is_loose: bool,
        seed: u64,
        actor: &Actor,
        rng: &mut Rng,
    ) {
        let mut style = match is_loose {
            true => Style { choices: Rng::new(rng.next(), 1), is_loose },
            false => template.style,
        };
        match template.matter {
            Matter::Relay => return self.relayed(rng),
            Matter::Replay => {
                self.talk(rng.next(), 1);
                // What was saved is sent from any account.
                let saved = rng.below(SAVED) as u64;
                self.reasoning = Some(Rng::new(seed, saved).next());
                self.program = Programs::anthropic(rng);
                let last = last(&mut self.said, self.count);
                last.clear();
                template.pattern.instruction(&self.words, &mut style, last);
                template.pattern.matter(&self.words, &mut style, rng, last);
                return;
            }
            _ => {}
        }
        let place = if template.is_system { &mut self.system } else { first(&mut self.said) };
        template.pattern.instruction(&self.words, &mut style, place);
        let mut slots = match template.matter {
            Matter::Own(many) => Rng::new(actor.base as u64 ^ seed, u64::from(actor.turn % many)),
            Matter::Public(many) => Rng::new(PUBLIC, rng.below(many as usize) as u64),
            _ => *rng,
        };
        if template.matter == Matter::Talk {
            let system = std::mem::take(&mut self.system);
            let begun = std::mem::take(first(&mut self.said));
            self.talk(actor.talk, actor.turn);
            // Instructions of a conversation are the system's, wherever the template had them.
            self.system = if template.is_system { system } else { begun };
            return;
        }
        let said = first(&mut self.said);
        template.pattern.matter(&self.words, &mut style, &mut slots, said);
    }

    /// A turn of a conversation: what was said last is sent along.
    fn talk(&mut self, talk: u64, turn: u32) {
        let ask = |turn: u32, out: &mut String| {
            let mut rng = Rng::new(talk, u64::from(turn));
            question(&self.words, &mut rng, out);
            if rng.chance(0.6) {
                out.push(' ');
                passage(&self.words, &mut rng, out);
            }
        };
        let [before, answer, now] = &mut self.said;
        let Some(last) = turn.checked_sub(1) else {
            ask(0, before);
            self.count = 1;
            return;
        };
        ask(last, before);
        ask(turn, now);
        let mut rng = Rng::new(talk, u64::from(turn) | 1 << 40);
        passage(&self.words, &mut rng, answer);
        self.count = TURNS;
        if rng.chance(0.3) {
            self.reasoning = Some(rng.next());
        }
    }

    /// What a customer of a relay asks: in any language, by any program.
    fn relayed(&mut self, rng: &mut Rng) {
        self.program = Programs::any(rng);
        if rng.chance(0.35) {
            return self.talk(rng.next(), u32::from(rng.chance(0.4)));
        }
        if rng.chance(0.3)
            && let Some(pattern) = self.manners.first()
        {
            let mut style = Style { choices: Rng::new(rng.next(), 0), is_loose: false };
            pattern.instruction(&self.words, &mut style, &mut self.system);
        }
        let language = rng.below(self.words.languages());
        let count = 18 + rng.below(30);
        self.words.foreign(language, count, rng, first(&mut self.said));
    }

    /// Makes the body of what is said.
    fn assemble(&mut self, is_new: bool) {
        let Some(program) = self.programs.get(self.program) else { return };
        let body = &mut self.body;
        body.clear();
        let model = match (program.is_anthropic, is_new) {
            (true, false) => "claude-sonnet-4-5",
            (true, true) => "claude-sonnet-5",
            (false, false) => "gpt-5.1",
            (false, true) => "gpt-5.5",
        };
        body.push_str("{\"model\":\"");
        body.push_str(model);
        body.push_str("\",");
        let mut comma = "";
        if program.is_anthropic {
            body.push_str("\"max_tokens\":1024,");
            if !self.system.is_empty() {
                body.push_str("\"system\":\"");
                body.push_str(&self.system);
                body.push_str("\",");
            }
            body.push_str("\"messages\":[");
        } else {
            body.push_str("\"messages\":[");
            if !self.system.is_empty() {
                message("system", &self.system, &mut comma, body);
            }
        }
        for (number, text) in self.said.iter().take(self.count).enumerate() {
            match (number % 2, self.reasoning.filter(|_| program.is_anthropic)) {
                (0, _) => message("user", text, &mut comma, body),
                (_, None) => message("assistant", text, &mut comma, body),
                (_, Some(token)) => reasoned(text, token, body),
            }
        }
        body.push(']');
        if program.is_streaming {
            body.push_str(",\"stream\":true");
        }
        body.push('}');
    }
}

/// Writes a message.
fn message(role: &str, text: &str, comma: &mut &'static str, body: &mut String) {
    body.push_str(comma);
    body.push_str("{\"role\":\"");
    body.push_str(role);
    body.push_str("\",\"content\":\"");
    body.push_str(text);
    body.push_str("\"}");
    *comma = ",";
}

/// Writes an answer of the model with its signed reasoning.
fn reasoned(text: &str, token: u64, body: &mut String) {
    body.push_str(",{\"role\":\"assistant\",\"content\":[{\"type\":\"thinking\",\"thinking\":\"\",\"signature\":\"");
    let mut rng = Rng::new(token, 0);
    for _ in 0..6 {
        let _ = std::fmt::Write::write_fmt(body, format_args!("{:016x}", rng.next()));
    }
    body.push_str("\"},{\"type\":\"text\",\"text\":\"");
    body.push_str(text);
    body.push_str("\"}]}");
}

/// The first text of a conversation.
fn first(said: &mut [String; TURNS]) -> &mut String {
    let [first, ..] = said;
    first
}

/// The last text of one that has so many.
fn last(said: &mut [String; TURNS], count: usize) -> &mut String {
    let [first, _, last] = said;
    if count < TURNS { first } else { last }
}

fn network(source: &Source, actor: &mut Actor) -> Address {
    match source.place {
        Place::Anywhere => Address::cloud(&mut actor.rng),
        Place::Proxies => {
            let number = actor.rng.below(source.groups as usize);
            Address::proxy((source.seed as usize % 1_000) + number, &mut actor.rng)
        }
        Place::Home | Place::Cloud | Place::Gateway => actor.home,
    }
}

fn program(source: &Source, actor: &mut Actor) -> usize {
    match source.carrier {
        Carrier::App | Carrier::Script => actor.program,
        Carrier::Any => Programs::script(&mut actor.rng),
        Carrier::Gateway => Programs::gateway(),
        Carrier::Stripped => Programs::stripped(),
        Carrier::Template => {
            let template = source.templates.get(actor.group as usize);
            template.map_or(actor.program, |template| template.program)
        }
    }
}

/// Reasoning that a campaign has saved.
const SAVED: usize = 2_000;

/// Where public questions are made from: the same in every scenario.
const PUBLIC: u64 = 0x9b1c;
