//! Cues: words that mark an order, a task on a text (such as "translate"), or the label of a
//! document.
//!
//! The structure of a text shows its blocks; these words only decide the cases that the structure
//! leaves open. Only the few requests that are divided into passages are searched for cues, so the
//! lists are short. They hold some words of English, Chinese, Japanese, Korean, Russian, Ukrainian,
//! Spanish, Portuguese, French, German, Italian, Dutch, Polish, Turkish, Arabic, Persian, Hindi,
//! Bengali, Indonesian, Vietnamese and Thai.
#![deny(clippy::arithmetic_side_effects)]

use std::sync::LazyLock;

use super::pointing_turn;
use super::word_prefixes::PrefixSet;

/// The kind of request that a text makes to the model, in ascending order of precedence: if a text
/// makes several requests, the highest kind counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum RequestKind {
    #[default]
    Nothing,
    /// A request to do what another text says.
    FollowText,
    /// A question, or any other order.
    OtherOrder,
    /// A task whose object is a text, such as to translate it.
    TextTask,
}

impl RequestKind {
    /// Returns the kind of request that a sentence makes.
    pub fn of_sentence(sentence: &str) -> Self {
        let sentence = without_markup(sentence);
        if is_text_task(sentence) {
            Self::TextTask
        } else if pointing_turn::orders_to_follow(sentence) {
            Self::FollowText
        } else if sentence.ends_with(['?', '\u{61f}'])
            || is_order(sentence)
            || CUES.leading_asks.begins(sentence)
        {
            Self::OtherOrder
        } else {
            Self::Nothing
        }
    }
}

/// Returns whether a sentence asks to do what another text says, and names no task on a text.
pub(super) fn orders_to_follow(sentence: &str) -> bool {
    let sentence = without_markup(sentence);
    pointing_turn::orders_to_follow(sentence) && !is_text_task(sentence)
}

/// Returns the sentences of a normalised text, each with the mark at its end.
pub(super) fn sentences(text: &str) -> impl Iterator<Item = &str> {
    let is_ascii = text.is_ascii();
    let end_in = move |rest: &str| match is_ascii {
        true => Some(memchr::memchr3(b'.', b'!', b'?', rest.as_bytes())?.saturating_add(1)),
        false => {
            let ends = |char: char| matches!(char, '.' | '!' | '?' | '。' | '\u{61f}' | '।');
            let (start, mark) = rest.char_indices().find(|(_, char)| ends(*char))?;
            Some(start.saturating_add(mark.len_utf8()))
        }
    };
    let mut rest = Some(text).filter(|text| !text.is_empty());
    let sentences = std::iter::from_fn(move || {
        let text = rest.take()?;
        let end = end_in(text).unwrap_or(text.len());
        let (sentence, following) = text.split_at_checked(end)?;
        rest = Some(following).filter(|text| !text.is_empty());
        Some(sentence)
    });
    sentences.map(str::trim).filter(|sentence| !sentence.is_empty())
}

/// Returns whether one of the first sentences of a text is an order to the model, or gives the
/// model a role.
pub(super) fn begins_with_order(text: &str) -> bool {
    let mut openings = sentences(text).take(OPENING_SENTENCES).map(without_markup);
    openings.any(|sentence| is_order(sentence) || gives_role(sentence))
}

/// Returns whether a sentence after the first one of a text is an order to the model, or gives the
/// model a role.
pub(super) fn orders_later(text: &str) -> bool {
    let mut later = sentences(text).skip(1).map(without_markup);
    later.any(|sentence| is_order(sentence) || gives_role(sentence))
}

/// Returns whether a label contains a word for a document.
pub(super) fn names_document(label: &str) -> bool {
    words_begin_with(label, &CUES.documents)
}

/// Returns whether a label contains a word for a question, an order or an answer.
pub(super) fn names_ask(label: &str) -> bool {
    words_begin_with(label, &CUES.asks)
}

/// Returns whether a sentence orders a task on the user's text.
pub(super) fn is_task_on_user_text(sentence: &str) -> bool {
    words_begin_with(sentence, &CUES.tasks) && words_begin_with(sentence, &CUES.documents)
}

fn is_order(sentence: &str) -> bool {
    let opening = head(sentence, ORDER_BYTES);
    CUES.leading_orders.begins(opening) || contains(opening, &CUES.inner_orders)
}

fn gives_role(sentence: &str) -> bool {
    let opening = head(sentence, ORDER_BYTES);
    CUES.leading_roles.begins(opening) || contains(opening, &CUES.inner_roles)
}

fn is_text_task(sentence: &str) -> bool {
    let opening = head(sentence, ORDER_BYTES);
    CUES.tasks.begins(opening) || contains(opening, &CUES.inner_tasks)
}

/// Returns a sentence without leading marks of lists and headings, and without a leading courtesy
/// such as "please".
fn without_markup(sentence: &str) -> &str {
    let is_markup = |char: char| char.is_ascii_digit() || !char.is_alphanumeric();
    let sentence = sentence.trim_start_matches(is_markup);
    let courtesy = CUES.courtesies.prefix_of(sentence).and_then(|word| sentence.strip_prefix(word));
    courtesy.map_or(sentence, |rest| rest.trim_start_matches(is_markup))
}

/// Returns the first `bytes` bytes of a text, or up to three fewer, so that no character is split.
fn head(text: &str, bytes: usize) -> &str {
    text.get(..text.floor_char_boundary(bytes)).unwrap_or(text)
}

/// Returns whether one of the prefixes is anywhere in a text. Always false for a text that is all
/// ASCII.
fn contains(text: &str, prefixes: &PrefixSet) -> bool {
    !text.is_ascii() && prefixes.is_in(text, |_| true)
}

/// Returns whether any word of a text begins with one of the prefixes. In scripts without spaces,
/// the prefix may be anywhere.
fn words_begin_with(text: &str, prefixes: &PrefixSet) -> bool {
    let mut words = text.split(|char: char| !char.is_alphanumeric());
    words.any(|word| prefixes.begins(word.strip_prefix(ARABIC_ARTICLE).unwrap_or(word)))
        || !text.is_ascii() && prefixes.is_in(text, is_ideograph)
}

fn is_ideograph(char: char) -> bool {
    char >= '\u{2e80}' || ('\u{900}'..'\u{e80}').contains(&char)
}

/// The article of Arabic, which is written together with its noun.
const ARABIC_ARTICLE: &str = "ال";

/// Number of sentences of a block that are searched for an order.
const OPENING_SENTENCES: usize = 2;

/// Number of bytes at the start of a sentence that are searched for an order.
const ORDER_BYTES: usize = 240;

/// The word lists of this file, as sets of prefixes.
struct Cues {
    courtesies: PrefixSet,
    leading_asks: PrefixSet,
    leading_orders: PrefixSet,
    inner_orders: PrefixSet,
    leading_roles: PrefixSet,
    inner_roles: PrefixSet,
    tasks: PrefixSet,
    inner_tasks: PrefixSet,
    documents: PrefixSet,
    asks: PrefixSet,
}

static CUES: LazyLock<Cues> = LazyLock::new(|| Cues {
    courtesies: PrefixSet::new(COURTESIES),
    leading_asks: PrefixSet::new(LEADING_ASKS),
    leading_orders: PrefixSet::new(LEADING_ORDERS),
    inner_orders: PrefixSet::new(INNER_ORDERS),
    leading_roles: PrefixSet::new(LEADING_ROLES),
    inner_roles: PrefixSet::new(INNER_ROLES),
    tasks: PrefixSet::new(TASKS),
    inner_tasks: PrefixSet::new(INNER_TASKS),
    documents: PrefixSet::new(DOCUMENTS),
    asks: PrefixSet::new(ASKS),
});

/// Words before an order that do not change it.
const COURTESIES: &str = "please|can you|could you|would you|now|then|next|bitte|por favor|\
    per favore|s'il vous plaît|s'il te plaît|alsjeblieft|proszę|пожалуйста|будь ласка|请你|请|\
    請你|請|من فضلك|لطفا|कृपया|অনুগ্রহ করে|tolong|vui lòng|lütfen|โปรด|กรุณา";

/// Beginnings of sentences that give the model a role. A role alone asks for nothing.
const LEADING_ROLES: &str = "you are|you're|act as|你是|您是|ты |вы |ти |ви |eres |você é|tu es|\
    vous êtes|du bist|sie sind|sei un|je bent|jij bent|u bent|jesteś|أنت |anda adalah|\
    kamu adalah|bạn là";

/// Phrases that give the model a role, in languages in which the verb is not at the beginning.
const INNER_ROLES: &str =
    "あなたは|당신은|너는|sen bir|आप एक|আপনি একজন|তুমি একজন|شما یک|تو یک|คุณคือ|คุณเป็น";

/// Beginnings of sentences that ask for something. They are also common in documents, where they
/// address the readers.
const LEADING_ASKS: &str = "sort |pick|find|identify|determine|predict|calculate|compute|\
    describe|explain|label |tag |extract|check|use |help |analy|search|read |look|mark|count|\
    detect|verif|explic|expliqu|erklär|beschreib|nutz|verwend|find|bestimm|usa|utilis|utiliz|\
    trouv|encuentr|identific|describ|décri|spiega|trova|leg |beschrijf|zoek|gebruik|wyjaśnij|\
    opisz|znajdź|użyj|объясн|опиши|найди|определи|поясни|знайди|解释|解釋|描述|找出|提取|分析|使用|识别|識別|\
    اشرح|استخرج|حدد|استخدم|jelaskan|temukan|gunakan|giải thích|mô tả|tìm|sử dụng|xác định";

/// Beginnings of sentences that are orders to the model.
const LEADING_ORDERS: &str = "generate|create|write|produce|make|compose|construct|develop|\
    design|draft|give|list|provide|answer|solve|come up|imagine|pretend|simulate|you will|\
    you must|you should|your task|your job|your role|your goal|i want you|i need you|\
    i would like you|we want you|we need you|rewrite|rephrase|evolve|think|rate|score|\
    evaluate|judge|compare|convert|turn |transform|ask |brainstorm|suggest|propose|invent|\
    continue|output|return|respond|reply|let's|given |based on|using |repeat|print|\
    reveal|show |complete|fill|choose|select|decide|consider|生成|写|編寫|编写|寫|创建|創建|给出|給出|列出|构造|\
    構造|扮演|假设|假設|假如|你的任务|你的任務|根据|根據|基于|回答|设计|設計|提供|撰写|撰寫|产生|產生|想象|改写|改寫|思考|判断|сгенерир|созда|\
    напиш|придума|состав|твоя |ваша |дай|предлож|сдела|представ|перепиш|перечисл|ответ|\
    сформулир|действу|реши|згенер|створ|склад|твоє |ваше |запропон|уяви|розвʼяж|сформулю|\
    genera|crea|escrib|tu tarea|haz |inventa|redacta|proporcion|actúa|reescrib|responde|\
    elabor|imagin|gere|crie|escrev|produz|sua tarefa|faça|invent|redij|forne|aja |reescrev|\
    responda|resolv|génér|crée|écri|produi|rédig|votre tâche|ta tâche|donne|agis|réécri|\
    répond|résou|generier|erstell|erzeug|schreib|verfass|deine aufgabe|ihre aufgabe|gib |\
    nenn|formulier|stell |antwort|denk|entwirf|entwickl|löse|scrivi|produci|il tuo compito|\
    fornisci|agisci|riscriv|rispond|compon|redigi|risolv|generee|maak|schrijf|produce|\
    jouw taak|je taak|uw taak|bedenk|geef|herschrijf|beantwoord|stel |wygener|stwórz|utwórz|\
    napisz|twoim zadaniem|wymyśl|podaj|przepisz|zaproponuj|ułóż|wyobraź|odpowiedz|rozwiąż|\
    أنشئ|اكتب|ولد|قم |مهمتك|اقترح|أعط|تخيل|صغ|أجب|buat|tulis|hasilkan|ciptakan|tugas|berikan|\
    susun|bayangkan|jawab|hãy|tạo|viết|sinh |nhiệm vụ|đưa ra|soạn|trả lời|tưởng tượng";

/// Order words of languages in which the verb is at the end of a sentence, or is not separated by a
/// space.
const INNER_ORDERS: &str = "してください|しなさい|せよ|作成し|生成し|書いて|書け|考えて|하세요|해줘|해 줘|주세요|하십시오|하시오|하라|작성|\
    생성|만들|oluştur|üret|yazın|yaz.|hazırla|görevin|बनाएं|बनाओ|बनाइए|लिखें|लिखो|लिखिए|कीजिए|\
    करें|दीजिए|তৈরি কর|লিখুন|লেখো|করুন|بنویس|تولید کن|ایجاد کن|بساز|สร้าง|เขียน|\
    หน้าที่ของคุณ|จง";

/// Beginnings of words that name a task on a text, such as "translate". The text is the object of
/// the task, not an order to the model.
const TASKS: &str = "translat|proofread|correct|summar|classif|categor|paraphras|review|\
    transcrib|traduc|traduz|traduis|traduir|tradui|corrig|resum|résum|clasific|classifi|\
    revis|übersetz|korrigier|fass|zusammenf|klassifizier|prüf|riassum|correggi|vertaal|\
    corrigeer|vat |samenvat|przetłumacz|popraw|streść|podsumuj|sklasyfik|перевед|переклад|\
    исправ|виправ|резюм|классифиц|класифік|翻译|翻譯|校对|校對|总结|總結|摘要|分类|分類|润色|潤色|翻訳|校正|要約|번역|요약|\
    교정|분류|ترجم|لخص|صحح|صنف|terjemah|ringkas|perbaiki|klasifik|dịch|tóm tắt|sửa|phân loại|แปล|\
    สรุป|จัดหมวด";

/// Task words of languages in which the verb is at the end of a sentence.
const INNER_TASKS: &str = "翻訳して|要約して|校正して|分類して|번역해|번역하|요약해|요약하|교정해|분류해|분류하|çevir|özetle|\
    düzelt|sınıflandır|अनुवाद कर|सारांश|सुधार|वर्गीकृत|অনুবাদ কর|সারসংক্ষেপ|সংশোধন|শ্রেণি|\
    ترجمه کن|خلاصه کن|ویرایش کن|دسته‌بندی";

/// Beginnings of words that name a document.
const DOCUMENTS: &str = "context|document|passage|text|article|source|content|transcript|\
    email|e-mail|mail|message|ticket|review|code|conversation|dialog|history|chat|excerpt|\
    paragraph|abstract|reference|knowledge|snippet|log|logs|diff|file|page|quote|letter|\
    comment|sentence|chunk|search|retriev|material|上下文|文档|文檔|文本|文章|段落|材料|参考|參考|资料|資料|内容|內容|\
    原文|对话|對話|邮件|代码|知识|文脈|文書|本文|記事|コード|会話|맥락|문서|본문|기사|내용|대화|코드|контекст|документ|текст|стат|\
    отрыв|письм|код|лист|contexto|documento|texto|artículo|artigo|pasaje|trecho|fuente|fonte|\
    contexte|texte|extrait|courri|kontext|dokument|auszug|artikel|nachricht|quelle|contest|\
    testo|articolo|brano|tekst|bericht|bron|kontekst|fragment|źródł|bağlam|metin|belge|\
    makale|سياق|نص|مستند|مقال|متن|سند|مقاله|संदर्भ|पाठ|दस्तावेज|लेख|প্রসঙ্গ|পাঠ|নথি|konteks|\
    dokumen|teks|ngữ cảnh|tài liệu|văn bản|đoạn|บริบท|เอกสาร|ข้อความ|บทความ";

/// Beginnings of words that name a question, an order or an answer.
const ASKS: &str = "question|query|task|instruction|request|answer|output|response|format|\
    rule|requirement|guideline|constraint|prompt|goal|step|问题|問題|任务|任務|指令|要求|回答|输出|輸出|格式|質問|\
    指示|出力|질문|지시|과제|답변|출력|вопрос|задан|задач|инструкц|ответ|формат|питан|завдан|відпов|\
    pregunta|pergunta|tarea|tarefa|instruc|respuesta|resposta|salida|saída|domanda|compito|\
    istruzion|rispost|tâche|consigne|réponse|frage|aufgabe|anweisung|antwort|ausgabe|vraag|\
    taak|opdracht|antwoord|pytani|zadani|polecen|odpowied|soru|görev|talimat|cevap|yanıt|\
    سؤال|مهمة|تعليم|إجابة|پرسش|وظیفه|پاسخ|प्रश्न|कार्य|निर्देश|उत्तर|প্রশ্ন|কাজ|নির্দেশ|\
    উত্তর|pertanyaan|tugas|instruksi|jawaban|câu hỏi|nhiệm vụ|trả lời|คำถาม|งาน|คำสั่ง|\
    คำตอบ";
