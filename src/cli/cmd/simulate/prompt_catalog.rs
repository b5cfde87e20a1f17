//! The patterns of all simulated prompts: those of campaigns, of benign programs and of people.

use super::prompt_template::{ChoiceSource, Pattern};
use super::rng::Rng;
use super::vocabulary::Vocabulary;

/// Patterns of one kind of prompt. A template is a pattern with one fixed set of choices.
pub type Patterns = Vec<Pattern>;

/// Returns prompts that make the model write its reasoning in tags before the answer.
pub fn tags() -> Patterns {
    vec![
        Pattern::new(
            &[
                "(Before|Prior to|Ahead of) (answering|responding|giving any answer|any reply), (write|put|place|lay out) \
                 (your full|your complete|all of your|the entire) (reasoning|thinking|train of thought|deliberation) \
                 (inside|within|between|in) (<think> and </think>|<thinking> and </thinking>|<reasoning> and </reasoning>).",
                "(Only then|After that|Afterwards|Once that is done), (give|state|write|present) the \
                 (final answer|final response|answer|result) (inside|within|between) \
                 (<answer> and </answer>|<final> and </final>|<solution> and </solution>).",
                "(Do not|Never|You must not) (skip|shorten|compress|abbreviate) (any step|a single step|intermediate steps), \
                 (even if|although|no matter whether) the (task|question|problem|request) (looks|seems|appears) \
                 (trivial|simple|easy|obvious).",
            ],
            "[break](Problem|Task|Question|Exercise): [question]",
        ),
        Pattern::new(
            &[
                "(Every|Each) (reply|response|answer) (has|consists of|comes in) two (parts|sections|blocks).",
                "(In|Inside|Within) <thinking> and </thinking> (work through|develop|explore) the (problem|question|task) \
                 (out loud|in your own words|from scratch), (with all|including) (dead ends|false starts|detours) and \
                 (corrections|second thoughts|checks).",
                "(Behind it|Below it|Following it), (repeat|give|state) (only|just|nothing but) the \
                 (final answer|final response) (in one line|without comment|on its own).",
            ],
            "[break][question]",
        ),
    ]
}

/// Returns prompts that ask for the reasoning behind a finished answer.
pub fn traces() -> Patterns {
    vec![
        Pattern::new(
            &[
                "(Below|Here|In what follows) (is|you find|stands) a (question|task|problem) (together with|and|along with) its \
                 (final answer|finished answer|completed response|known answer).",
                "(Imagine|Reconstruct|Articulate|Write out|Spell out) (step by step|in full|piece by piece|at length) the \
                 (internal reasoning|inner monologue|hidden reasoning|chain of thought|thought process) \
                 (that led to|behind|which produced) (it|the answer|this answer|that result).",
                "(Write|Tell it|Phrase it|Put it) as (if|though) (you were|the solver was) \
                 (thinking it for the first time|discovering it live|working through it right now), \
                 (never hinting|without a hint|never letting on) that the (answer|result|outcome) was \
                 (known|given|there) (beforehand|already|in advance).",
            ],
            "[break](Question|Task|Problem): [question][break](Final answer|Completed response|Given answer): [passage]",
        ),
        Pattern::new(
            &[
                "(A|Some) (strong|capable|careful) (solver|expert|model) (answered|solved) the (question|problem) below.",
                "(Recreate|Reverse-engineer|Simulate|Reconstruct) the (thought process|reasoning trace|internal reasoning) \
                 (from the first idea|from scratch|from the start) (up to|until|down to) the (reference answer|finished answer), \
                 (with|including) (doubts|hesitation|checks) and (false starts|corrections|dead ends).",
            ],
            "[break][question][break](Reference answer|Finished answer): [passage]",
        ),
    ]
}

/// Returns prompts that ask for grades of answers, by a rubric or by comparison. A campaign uses
/// the grades as rewards in training.
pub fn grading() -> Patterns {
    vec![
        Pattern::new(
            &[
                "(You are|Act as|Take the role of) (an impartial|a strict|a careful|an expert) (judge|grader|assessor|reviewer).",
                "(Score|Grade|Rate) the (response|answer|output) (below|that follows) (on|against|by) \
                 (each criterion|every point|all items) of (the rubric|this rubric|the list) \
                 (from 1 to 10|on a scale of 1 to 10|between 0 and 5).",
                "(Return|Output|Give) (only JSON|a JSON object|one JSON line) with (the scores|per-criterion scores|a score per item) \
                 and (a short|a detailed|a one-paragraph) (justification|rationale|critique).",
            ],
            "[break]Prompt: [question][break]Response: [passage]",
        ),
        Pattern::new(
            &[
                "(Two|A pair of) (assistants|models|systems) (answered|replied to) the (prompt|question|request) below.",
                "(Decide|Say|Determine) which (response|answer|output) (is better|should be preferred|wins), \
                 (by|judging) (correctness|accuracy), (depth|completeness) and (clarity|style), and \
                 (explain|justify) the (choice|preference|verdict) in (detail|full|three sentences).",
                "(End|Close|Finish) with (exactly|only) (A or B|the letter of the better one|first or second).",
            ],
            "[break]Prompt: [question][break]Response A: [passage][break]Response B: [passage]",
        ),
    ]
}

/// Returns prompts that ask the model to clean harvested transcripts.
pub fn cleaning() -> Patterns {
    vec![
        Pattern::new(
            &[
                "(Clean|Normalise|Rewrite|Polish|Standardise) the (reasoning trace|chain of thought|reasoning process) \
                 (below|that follows) (into|to) (one consistent|a unified|a single) (style|voice|format).",
                "(Remove|Drop|Delete|Cut) (filler|hesitation|repetition|redundant steps) and \
                 (mentions|names|traces) of (the model|any assistant|the vendor), but (keep|preserve|retain) every \
                 (deduction|logical step|computation) (in its order|as it stands).",
                "(Do not change|Keep|Preserve) the (final answer|conclusion|result) (at the end|below), and \
                 (return|output|print) (nothing but|only|just) the (cleaned|normalised|finished) (text|trace|version).",
            ],
            "[break]Trace: [question] [passage] So [passage]",
        ),
        Pattern::new(
            &[
                "(You receive|Here is|Below is) a (raw|messy|noisy) (transcript|record|log) of (a model|an assistant) at work.",
                "(Reformat|Restructure|Condense) (its|the) (chain of thought|thinking process|reasoning steps) (into|as) \
                 (numbered|clean|short) (steps|lines|paragraphs) in the (first person|same format), \
                 (without changing|keeping) (what is concluded|the conclusion|the outcome).",
            ],
            "[break][passage] [question] [passage]",
        ),
    ]
}

/// Returns prompts that ask for questions and answers, given a persona or a topic.
pub fn sweeps() -> Patterns {
    vec![
        Pattern::new(
            &[
                "(Adopt|Take on|Assume) the (persona|role|identity) (given|described|stated) (below|at the end).",
                "(Write|Compose|Create) (one|a single) (realistic|challenging|demanding) (question|request|task) that \
                 (this person|such a person) (would|might) (ask|bring to) an assistant, then \
                 (answer it|give the complete answer|solve it) (in full|in depth|with all steps).",
                "(Vary|Change) (wording|tone|length) and (difficulty|depth) so that no two (samples|items|examples) \
                 (look alike|resemble each other|read the same).",
            ],
            "[break]Persona: [persona][break]Topic: [adjective] [noun] of [name]",
        ),
        Pattern::new(
            &[
                "(For|Take) the (topic|leaf|node) of (our|the) (taxonomy|topic tree|catalogue) (named|given) below.",
                "(Generate|Produce|Write) (an instruction|a user query) (of high|with increasing) (complexity|difficulty) \
                 (together with|followed by) (an ideal|a model|a complete) (response|answer), as (diverse|varied) as possible.",
            ],
            "[break]Path: [noun] / [adjective] [noun] / [name] / [verb]",
        ),
    ]
}

/// Returns prompts that ask the model to continue and expand reasoning saved from another session.
pub fn replays() -> Patterns {
    vec![Pattern::new(
        &[
            "(Continue|Go on|Resume) (from|with) the (reasoning|thinking) (above|in your last turn).",
            "(Expand|Unfold|Elaborate) (it|every step of it) (in full|in complete sentences), \
             (leaving nothing out|without leaving gaps|down to the last detail).",
        ],
        " [question]",
    )]
}

/// Returns prompts of tools that many people use, each person with their own API key: translators,
/// writing aids, and helpers for web pages and editors.
pub fn shared_tools() -> Patterns {
    vec![
        Pattern::new(
            &[
                "(Translate|Render) the (text|passage|selection) (below|that follows) into (German|Spanish|English|Japanese|French).",
                "(Keep|Preserve) (names|markup|line breaks) and (tone|style), and (answer|reply) with the translation (alone|only).",
            ],
            "[break][passage]",
        ),
        Pattern::new(
            &[
                "(Summarise|Sum up) the (page|article|selection) (below|that follows) in (three|five|two) (bullet points|sentences).",
                "(Leave out|Ignore) (advertising|navigation|footers), and do not add (opinions|facts) of your own.",
            ],
            "[break][passage] [passage]",
        ),
        Pattern::new(
            &[
                "You are the (writing|mail|office) (assistant|helper) of (a browser extension|this app).",
                "(Improve|Correct) (grammar|spelling) and (flow|style) of what the user (selected|wrote), \
                 (without changing|keeping) its meaning.",
            ],
            "[break][passage]",
        ),
        Pattern::new(
            &[
                "You (help|assist) (developers|programmers) in (their editor|an editor|the terminal).",
                "(Explain|Answer) (briefly|in short), (prefer|give) (code|a patch) over (prose|talk), and (ask|say so) when \
                 (something is missing|the question is unclear).",
            ],
            "[break][question]",
        ),
    ]
}

/// Returns prompts of retrieval services: an instruction, passages of documents, and a question.
pub fn retrieval() -> Patterns {
    vec![Pattern::new(
        &[
            "You work at the desk of [name] and (answer|reply to) guests about [noun] and [adjective] [noun] \
             (using|by) nothing but the passages below.",
            "Where the passages of [name] (hold|have) no answer about [noun], say so and \
             (point to|name) [name] or the [adjective] [noun] hotline.",
        ],
        "[break]Passages: [passage] [passage][break]Question: [question]",
    )]
}

/// Returns prompts of retrieval services that use a framework's default prompt.
pub fn framework_prompts() -> Patterns {
    vec![Pattern::new(
        &[
            "You are an assistant for looking things up.",
            "Use the retrieved context that follows for your reply, and if you don't know the answer, say that you don't know.",
            "Keep the reply short, three sentences at most.",
        ],
        "[break]Context: [passage] [passage][break]Question: [question]",
    )]
}

/// Returns prompts of programs that classify, extract or translate in batches.
pub fn batches() -> Patterns {
    vec![
        Pattern::new(
            &[
                "(Classify|Sort) the (ticket|message|review) to [name] about [noun] as [noun], [adjective] [noun], [noun] or other.",
                "(Answer|Reply) with one word of [name] only.",
            ],
            "[break][passage]",
        ),
        Pattern::new(
            &[
                "(Extract|Read) [noun], [noun] and [adjective] [noun] from the (text|notice|invoice) of [name] below.",
                "(Return|Give) JSON with [noun] and [noun] as keys for [name], and null where nothing is said.",
            ],
            "[break][passage]",
        ),
        Pattern::new(
            &[
                "(Translate|Render) this (description|page|label) of [adjective] [noun] by [name] into \
               (Polish|Dutch|Italian|Swedish) for [name].",
            ],
            "[break][passage]",
        ),
    ]
}

/// Returns prompts that evaluate an assistant.
pub fn evaluations() -> Patterns {
    vec![Pattern::new(
        &[
            "You (check|evaluate) what the assistant of [name] tells about [adjective] [noun] (every night|before each release).",
            "(Does|Say whether) the answer (follow|follows) the guidelines of [name] on [noun] and [noun]?",
            "(Answer|Reply) with pass or fail, and a short reason, to [name].",
        ],
        "[break]Question: [question][break]Answer of the assistant: [passage]",
    )]
}

/// Returns prompts that ask for the reasons behind business decisions, for an audit.
pub fn audits() -> Patterns {
    vec![Pattern::new(
        &[
            "For the (audit file|compliance record|regulator) of [name], (explain|set out) the reasoning behind the \
             (decision|ruling) on this (customer|claim|application) about [noun].",
            "(Name|List) the facts that (led to|support) the (decision|outcome) and the (rule|clause) of [name] on [noun] that \
             (applies|was applied), in (plain|sober) (language|words).",
        ],
        "[break]Case [number]: [passage][break]Decision: [adjective], by the clerk at [name]",
    )]
}

/// Returns prompts that are sent by tests of code that calls a model.
pub fn test_fixtures() -> Patterns {
    vec![Pattern::new(
        &[
            "You are the (assistant|helper) under test of the [noun] service at [name].",
            "(Follow|Obey) the (schema|format) of [name] for [adjective] [noun], and never (invent|make up) [noun] or [noun].",
        ],
        "[break]Fixture [number]: [question]",
    )]
}

/// Returns prompts with public questions of benchmarks.
pub fn benchmarks() -> Patterns {
    vec![Pattern::new(
        &[
            "The following is a multiple choice question about [noun] and [noun].",
            "Think step by step and then finish your answer with the letter of the right choice.",
        ],
        "[break][question][break]A. [noun][break]B. [noun][break]C. [noun][break]D. [noun]",
    )]
}

/// Returns prompts of an example in a vendor's documentation.
pub fn vendor_examples() -> Patterns {
    vec![Pattern::new(
        &["And what about the (second|other) (train|flight|ferry), does it arrive in time?"],
        " [question]",
    )]
}

/// Returns prompts that are about as long as a campaign's instruction but share no content words
/// with it: every content word is drawn at random.
pub fn unknown_wording() -> Patterns {
    vec![
        Pattern::new(
            &[
                "The [adjective] [noun] and [noun] of [name] [verb] the [noun] [adverb], as [adjective] [noun] do.",
                "[name] must [adverb] [verb] [adjective] [noun], and the [noun] [verb] [name].",
                "Of [noun] and [adjective] [noun], only [noun] may [verb] the [adjective] [noun] near [name].",
            ],
            "[break][question]",
        ),
        Pattern::new(
            &[
                "By the [noun] of [name], [adjective] [noun] [verb] [noun] and [verb] the [adjective] [noun] [adverb].",
                "No [noun] of [name] can [verb] [adjective] [noun] if the [noun] did [verb] [noun].",
            ],
            "[break][passage] [question]",
        ),
    ]
}

/// Returns prompts that put an instruction before a prompt of the public collection.
pub fn public_exercises() -> Patterns {
    let sentence = "(Here is|This is|Below is) (an exercise|a problem), (give|state) its (result|solution) on the last line.";
    vec![Pattern::new(&[sentence], "[break][question] [passage]")]
}

/// Number of prompts of the public collection.
pub const KNOWN_PROMPTS: u32 = 2_000;

/// Returns the prompts of the public collection.
pub fn known_prompts() -> Vec<String> {
    let vocabulary = Vocabulary::new();
    let pattern = public_exercises().pop().unwrap_or_default();
    let write = |number: u32| {
        let mut prompt = String::new();
        let mut rng = known_prompt_rng(number);
        let mut choice_source = ChoiceSource { choices: rng, is_paraphrased: false };
        pattern.write_payload(&vocabulary, &mut choice_source, &mut rng, &mut prompt);
        // The pattern escapes line breaks for JSON; the leading one is removed here.
        prompt.trim_start_matches("\\n").to_owned()
    };
    (0..KNOWN_PROMPTS).map(write).collect()
}

/// Returns the random number generator that fills the slots of a prompt of the public collection.
pub fn known_prompt_rng(number: u32) -> Rng {
    Rng::new(KNOWN_PROMPT_SEED, u64::from(number % KNOWN_PROMPTS))
}

/// Seed of the public collection. It does not depend on the scenario, so the collection is always
/// the same.
const KNOWN_PROMPT_SEED: u64 = 0x5eed;

/// Returns an empty prompt, for requests that only imitate the requests of a target.
pub fn imitations() -> Patterns {
    vec![Pattern::new(&[""], "")]
}

/// Returns system prompts of applications.
pub fn app_instructions() -> Patterns {
    vec![Pattern::new(
        &[
            "You are [name], the (friendly|helpful|polite) assistant of [name], a maker of [adjective] [noun] and [noun].",
            "Talk about [noun], [noun] and orders only, and (hand over|pass on) to [name] when a guest (complains|is upset).",
        ],
        "",
    )]
}
