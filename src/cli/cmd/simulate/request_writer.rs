//! Writes simulated requests: texts, JSON body, client and address.

use super::account::Actor;
use super::client_profile::{Address, ClientProfile, ClientProfiles};
use super::kind_profile::{ClientKind, Network, Payload};
use super::prompt_catalog;
use super::prompt_template::{ChoiceSource, Pattern, write_passage, write_question};
use super::rng::Rng;
use super::scenario::CampaignSpec;
use super::traffic_source::{CampaignTarget, Template, TrafficSource};
use super::vocabulary::Vocabulary;

/// Writes one request at a time into buffers that are reused.
pub struct RequestWriter {
    vocabulary: Vocabulary,
    profiles: ClientProfiles,
    /// System prompts of apps whose users send requests through a relay.
    app_instructions: Vec<Pattern>,
    system_prompt: String,
    messages: [String; MAX_MESSAGES],
    /// Number of `messages` in use: 1 for a message of the user, or 3 with a message of the model
    /// between two messages of the user.
    message_count: usize,
    /// Number of prompts of the public collection that campaigns have sent.
    known_prompts_sent: u32,
    /// Seed of the signed reasoning in the model's message; `None` without reasoning.
    reasoning_token: Option<u64>,
    /// Body of the request.
    pub body: String,
    /// Address of the client as text.
    pub address: String,
    /// Network and host of the client, as numbers.
    pub network: Address,
    /// Index of the client in `profiles`.
    pub profile_index: usize,
}

/// Maximum number of messages that a request contains, without the system message.
const MAX_MESSAGES: usize = 3;

impl RequestWriter {
    pub fn new() -> Self {
        Self {
            vocabulary: Vocabulary::new(),
            profiles: ClientProfiles::new(),
            app_instructions: prompt_catalog::app_instructions(),
            system_prompt: String::new(),
            messages: Default::default(),
            message_count: 0,
            known_prompts_sent: 0,
            reasoning_token: None,
            body: String::new(),
            address: String::new(),
            network: Address::default(),
            profile_index: 0,
        }
    }

    /// Returns the client that sends the request.
    pub fn profile(&self) -> Option<&ClientProfile> {
        self.profiles.get(self.profile_index)
    }

    /// Writes the next request of an actor. With `uses_new_model`, the request names the model that
    /// was released at the turnover.
    pub fn write(&mut self, source: &TrafficSource, actor: &mut Actor, uses_new_model: bool) {
        self.system_prompt.clear();
        self.messages.iter_mut().for_each(String::clear);
        self.message_count = 1;
        self.reasoning_token = None;
        self.network = client_address(source, actor);
        self.profile_index = profile_index(source, actor);
        match &source.campaign {
            Some(campaign) => self.write_campaign_prompt(source, campaign, actor),
            None => self.write_benign_prompt(source, actor),
        }
        self.build_body(uses_new_model);
        self.address.clear();
        self.network.write_to(&mut self.address);
    }

    /// Writes an ordinary question, or the prompt of one of the campaign's templates.
    fn write_campaign_prompt(
        &mut self,
        source: &TrafficSource,
        campaign: &CampaignSpec,
        actor: &mut Actor,
    ) {
        let is_ordinary = actor.rng.chance(campaign.ordinary / 100.0);
        let is_paraphrased = actor.rng.chance(campaign.noise / 100.0);
        let template = source.templates.get(actor.rng.below(source.templates.len()));
        match template {
            Some(template) if !is_ordinary => {
                self.profile_index = template.profile_index;
                let mut rng = Rng::new(actor.rng.next_u64(), 0);
                self.write_instructed(template, is_paraphrased, source, actor, &mut rng);
                if let Some(CampaignTarget::Template(target)) = &source.target {
                    self.prepend_target(target, &mut rng);
                }
            }
            _ => {
                self.profile_index =
                    ClientProfiles::pick_app(&mut Rng::new(actor.conversation_seed, 0));
                actor.turn = 0;
                self.write_conversation(actor.rng.next_u64(), 0);
            }
        }
    }

    /// Puts the prompt of the campaign's target before the campaign's own prompt.
    fn prepend_target(&mut self, target: &Template, rng: &mut Rng) {
        self.profile_index = target.profile_index;
        let own_system = std::mem::take(&mut self.system_prompt);
        let own_prompt = std::mem::take(first_message(&mut self.messages));
        let mut choice_source = target.choice_source;
        let instruction = if target.is_system {
            &mut self.system_prompt
        } else {
            first_message(&mut self.messages)
        };
        target.pattern.write_instruction(&self.vocabulary, &mut choice_source, instruction);
        let message = first_message(&mut self.messages);
        target.pattern.write_payload(&self.vocabulary, &mut choice_source, rng, message);
        for own in [own_system, own_prompt] {
            if !own.is_empty() {
                message.push(' ');
                message.push_str(&own);
            }
        }
    }

    /// Writes the prompt of the template that the actor's group has. If the group has no template,
    /// writes a turn of a conversation.
    fn write_benign_prompt(&mut self, source: &TrafficSource, actor: &Actor) {
        match source.templates.get(actor.group as usize) {
            None => self.write_conversation(actor.conversation_seed, actor.turn),
            Some(template) => {
                let mut rng = Rng::new(actor.conversation_seed, u64::from(actor.turn));
                self.write_instructed(template, false, source, actor, &mut rng);
            }
        }
    }

    /// Writes the instruction and the payload of a template.
    fn write_instructed(
        &mut self,
        template: &Template,
        is_paraphrased: bool,
        source: &TrafficSource,
        actor: &Actor,
        rng: &mut Rng,
    ) {
        let mut choice_source = if is_paraphrased {
            ChoiceSource { choices: Rng::new(rng.next_u64(), 1), is_paraphrased }
        } else {
            template.choice_source
        };
        match template.payload {
            Payload::Relay => return self.write_relayed(rng),
            Payload::Imitation => {
                self.system_prompt.clear();
                return;
            }
            Payload::SavedReasoning | Payload::PublicReasoning => {
                return self.write_saved_reasoning(template, source, &mut choice_source, rng);
            }
            _ => {}
        }
        let target = if template.is_system {
            &mut self.system_prompt
        } else {
            first_message(&mut self.messages)
        };
        template.pattern.write_instruction(&self.vocabulary, &mut choice_source, target);
        let mut slot_rng = self.slot_rng(template, source, actor, rng);
        if template.payload == Payload::Conversation {
            let system_prompt = std::mem::take(&mut self.system_prompt);
            let instruction = std::mem::take(first_message(&mut self.messages));
            self.write_conversation(actor.conversation_seed, actor.turn);
            // The instruction of a conversation is always a system message.
            self.system_prompt = if template.is_system { system_prompt } else { instruction };
            return;
        }
        let message = first_message(&mut self.messages);
        template.pattern.write_payload(
            &self.vocabulary,
            &mut choice_source,
            &mut slot_rng,
            message,
        );
    }

    /// Writes a request that sends saved reasoning of a model: a conversation whose last message is
    /// the instruction and the payload of a template.
    fn write_saved_reasoning(
        &mut self,
        template: &Template,
        source: &TrafficSource,
        choice_source: &mut ChoiceSource,
        rng: &mut Rng,
    ) {
        self.write_conversation(rng.next_u64(), 1);
        // The saved pieces belong to the whole campaign: each account sends any of them.
        let token_index = rng.below(SAVED_REASONING_TOKENS) as u64;
        self.reasoning_token = Some(match template.payload {
            Payload::PublicReasoning => PUBLIC_REASONING_TOKEN,
            _ => Rng::new(source.seed, token_index).next_u64(),
        });
        self.profile_index = ClientProfiles::pick_anthropic_sdk(rng);
        let message = last_message(&mut self.messages, self.message_count);
        message.clear();
        template.pattern.write_instruction(&self.vocabulary, choice_source, message);
        template.pattern.write_payload(&self.vocabulary, choice_source, rng, message);
    }

    /// Returns the generator that fills the slots of a template's payload.
    fn slot_rng(
        &mut self,
        template: &Template,
        source: &TrafficSource,
        actor: &Actor,
        rng: &mut Rng,
    ) -> Rng {
        match template.payload {
            Payload::FixedPerAccount(count) => {
                Rng::new(actor.first_account as u64 ^ source.seed, u64::from(actor.turn % count))
            }
            Payload::PublicSet(count) => {
                Rng::new(PUBLIC_QUESTION_SEED, rng.below(count as usize) as u64)
            }
            Payload::KnownPrompt => {
                let is_campaign = source.campaign.is_some();
                let number = if is_campaign { self.known_prompts_sent } else { actor.turn };
                self.known_prompts_sent += u32::from(is_campaign);
                prompt_catalog::known_prompt_rng(number)
            }
            _ => *rng,
        }
    }

    /// Writes a turn of a conversation: a question, after the previous question and its answer if
    /// the turn is not the first.
    fn write_conversation(&mut self, conversation_seed: u64, turn: u32) {
        let write_question = |turn: u32, out: &mut String| {
            let mut rng = Rng::new(conversation_seed, u64::from(turn));
            write_question(&self.vocabulary, &mut rng, out);
            if rng.chance(0.6) {
                out.push(' ');
                write_passage(&self.vocabulary, &mut rng, out);
            }
        };
        let [previous_question, answer, current_question] = &mut self.messages;
        let Some(previous_turn) = turn.checked_sub(1) else {
            write_question(0, previous_question);
            self.message_count = 1;
            return;
        };
        write_question(previous_turn, previous_question);
        write_question(turn, current_question);
        let mut rng = Rng::new(conversation_seed, u64::from(turn) | 1 << 40);
        write_passage(&self.vocabulary, &mut rng, answer);
        self.message_count = MAX_MESSAGES;
        if rng.chance(0.3) {
            self.reasoning_token = Some(rng.next_u64());
        }
    }

    /// Writes a request of a relay's customer: in any language, from any client.
    fn write_relayed(&mut self, rng: &mut Rng) {
        self.profile_index = ClientProfiles::pick_any(rng);
        if rng.chance(0.35) {
            return self.write_conversation(rng.next_u64(), u32::from(rng.chance(0.4)));
        }
        if rng.chance(0.3)
            && let Some(pattern) = self.app_instructions.first()
        {
            let mut choice_source =
                ChoiceSource { choices: Rng::new(rng.next_u64(), 0), is_paraphrased: false };
            pattern.write_instruction(
                &self.vocabulary,
                &mut choice_source,
                &mut self.system_prompt,
            );
        }
        let language = rng.below(self.vocabulary.language_count());
        let word_count = 18 + rng.below(30);
        self.vocabulary.write_foreign_words(
            language,
            word_count,
            rng,
            first_message(&mut self.messages),
        );
    }

    /// Writes the JSON body.
    fn build_body(&mut self, uses_new_model: bool) {
        let Some(profile) = self.profiles.get(self.profile_index) else { return };
        let body = &mut self.body;
        body.clear();
        let model = match (profile.is_anthropic, uses_new_model) {
            (true, false) => "claude-sonnet-4-5",
            (true, true) => "claude-sonnet-5",
            (false, false) => "gpt-5.1",
            (false, true) => "gpt-5.5",
        };
        body.push_str("{\"model\":\"");
        body.push_str(model);
        body.push_str("\",");
        let mut separator = "";
        if profile.is_anthropic {
            body.push_str("\"max_tokens\":1024,");
            if !self.system_prompt.is_empty() {
                body.push_str("\"system\":\"");
                body.push_str(&self.system_prompt);
                body.push_str("\",");
            }
            body.push_str("\"messages\":[");
        } else {
            body.push_str("\"messages\":[");
            if !self.system_prompt.is_empty() {
                push_message("system", &self.system_prompt, &mut separator, body);
            }
        }
        for (index, text) in self.messages.iter().take(self.message_count).enumerate() {
            match (index % 2, self.reasoning_token.filter(|_| profile.is_anthropic)) {
                (0, _) => push_message("user", text, &mut separator, body),
                (_, None) => push_message("assistant", text, &mut separator, body),
                (_, Some(token)) => push_reasoning_message(text, token, body),
            }
        }
        body.push(']');
        if profile.is_streaming {
            body.push_str(",\"stream\":true");
        }
        body.push('}');
    }
}

/// Appends a message.
fn push_message(role: &str, text: &str, separator: &mut &'static str, body: &mut String) {
    body.push_str(separator);
    body.push_str("{\"role\":\"");
    body.push_str(role);
    body.push_str("\",\"content\":\"");
    body.push_str(text);
    body.push_str("\"}");
    *separator = ",";
}

/// Appends a message of the model with signed reasoning, in Anthropic's format.
fn push_reasoning_message(text: &str, token: u64, body: &mut String) {
    body.push_str(
        ",{\"role\":\"assistant\",\"content\":[{\"type\":\"thinking\",\"thinking\":\"\",\
         \"signature\":\"",
    );
    let mut rng = Rng::new(token, 0);
    if token == PUBLIC_REASONING_TOKEN {
        body.push_str("skip_thought_signature_validator");
    } else {
        for _ in 0..6 {
            let _ = std::fmt::Write::write_fmt(body, format_args!("{:016x}", rng.next_u64()));
        }
    }
    body.push_str("\"},{\"type\":\"text\",\"text\":\"");
    body.push_str(text);
    body.push_str("\"}]}");
}

/// Returns the first message of a conversation.
fn first_message(messages: &mut [String; MAX_MESSAGES]) -> &mut String {
    let [first, ..] = messages;
    first
}

/// Returns the last message of a conversation with `count` messages.
fn last_message(messages: &mut [String; MAX_MESSAGES], count: usize) -> &mut String {
    let [first, _, last] = messages;
    if count < MAX_MESSAGES { first } else { last }
}

fn client_address(source: &TrafficSource, actor: &mut Actor) -> Address {
    if let Some(CampaignTarget::Address(address)) = source.target {
        return address;
    }
    match source.network {
        Network::RandomCloud => Address::cloud(&mut actor.rng),
        Network::Roaming => Address::home(&mut actor.rng),
        Network::Proxies => {
            let proxy_index = actor.rng.below(source.groups as usize);
            Address::proxy((source.seed as usize % 1_000) + proxy_index, &mut actor.rng)
        }
        Network::Home | Network::Cloud | Network::Gateway => actor.home_address,
    }
}

fn profile_index(source: &TrafficSource, actor: &mut Actor) -> usize {
    match source.client_kind {
        ClientKind::App | ClientKind::Script => actor.profile_index,
        ClientKind::Any => ClientProfiles::pick_script(&mut actor.rng),
        ClientKind::Gateway => ClientProfiles::gateway(),
        ClientKind::Stripped => ClientProfiles::without_user_agent(),
        ClientKind::Template => {
            let template = source.templates.get(actor.group as usize);
            template.map_or(actor.profile_index, |template| template.profile_index)
        }
    }
}

/// Number of different pieces of signed reasoning that a campaign has saved.
const SAVED_REASONING_TOKENS: usize = 2_000;

/// Value of `reasoning_token` for the placeholder that a vendor documents. Clients send this
/// placeholder instead of signed reasoning.
const PUBLIC_REASONING_TOKEN: u64 = 0x9b1d;

/// Seed of public questions. It does not depend on the scenario.
const PUBLIC_QUESTION_SEED: u64 = 0x9b1c;
