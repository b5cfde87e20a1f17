//! Words of simulated texts. The lists are long enough that two texts hardly ever share eight
//! consecutive words by chance.

use super::rng::Rng;

/// Lists of words by class.
pub struct Vocabulary {
    nouns: Vec<&'static str>,
    adjectives: Vec<&'static str>,
    verbs: Vec<&'static str>,
    adverbs: Vec<&'static str>,
    name_starts: Vec<&'static str>,
    name_middles: Vec<&'static str>,
    name_ends: Vec<&'static str>,
    languages: Vec<Vec<&'static str>>,
}

/// The part of speech of a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WordClass {
    Noun,
    Adjective,
    Verb,
    Adverb,
}

impl Vocabulary {
    pub fn new() -> Self {
        let list = |text: &'static str| text.split_whitespace().collect();
        Self {
            nouns: list(NOUNS),
            adjectives: list(ADJECTIVES),
            verbs: list(VERBS),
            adverbs: list(ADVERBS),
            name_starts: list(NAME_STARTS),
            name_middles: list(NAME_MIDDLES),
            name_ends: list(NAME_ENDS),
            languages: LANGUAGES.iter().map(|text| list(text)).collect(),
        }
    }

    /// Appends a random word of a class to `out`.
    pub fn write_word(&self, class: WordClass, rng: &mut Rng, out: &mut String) {
        let list = match class {
            WordClass::Noun => &self.nouns,
            WordClass::Adjective => &self.adjectives,
            WordClass::Verb => &self.verbs,
            WordClass::Adverb => &self.adverbs,
        };
        out.push_str(rng.pick(list));
    }

    /// Appends the made-up name of a place, a product or a person to `out`. The lists allow several
    /// hundred thousand names.
    pub fn write_name(&self, rng: &mut Rng, out: &mut String) {
        out.push_str(rng.pick(&self.name_starts));
        out.push_str(rng.pick(&self.name_middles));
        out.push_str(rng.pick(&self.name_ends));
    }

    /// Returns the number of languages other than English.
    pub fn language_count(&self) -> usize {
        self.languages.len()
    }

    /// Appends `count` words of a language other than English to `out`. `language` is the index of
    /// the language.
    pub fn write_foreign_words(
        &self,
        language: usize,
        count: usize,
        rng: &mut Rng,
        out: &mut String,
    ) {
        let Some(list) = self.languages.get(language) else { return };
        let separator = if UNSPACED_LANGUAGES.contains(&language) { "" } else { " " };
        for index in 0..count {
            if index > 0 {
                out.push_str(separator);
            }
            // Every sixth word is a name, because real questions contain names, too.
            match index % 6 {
                5 => self.write_name(rng, out),
                _ => out.push_str(rng.pick(list)),
            }
        }
    }
}

const NOUNS: &str = "account actor address advice airport album alloy anchor animal apartment apple archive argument arrow \
    article aspect assembly atlas audience author autumn balance balcony ballad bank barrel basket battery beach bearing \
    bicycle bird blanket boat bone border bottle boundary branch bread bridge broker budget bundle cabin cable camera canal \
    candle canvas carpet castle cathedral ceiling cell chain chapter charge chart chemist choir circle circuit citizen clause \
    climate clock cloud coast coffee column comet compass concert container contract copper coral corridor cottage cotton \
    counter country courtyard crane creature cricket crop crystal current curtain customs dairy dancer debate debt decree degree \
    delivery desert device dialect diamond diet dinner district doctor dolphin door draft drawing dust eagle earth echo eclipse \
    editor elbow election elevator emperor engine envelope episode essay estate evening exhibit fabric factory family farmer \
    fence ferry fiber field figure filter finger flavour fleet flight flood flower forest formula fortress fossil fountain \
    fraction friend frontier fruit funeral furnace gallery garden gate gear glacier glass goat grain granite graph gravity \
    guitar habit hammer harbour harvest helmet herb highway hill history holiday honey horizon horse hospital hotel household \
    hunter index infant inflation ink insect interest iron island jacket jewel journal journey judge juice jury kettle kitchen \
    knife knot label ladder lake lamp landlord language lawyer leader leaf lecture legend lemon lens letter library lizard loan \
    lobby machine magnet mango manual maple margin market marriage meadow medal melody membrane memory merchant metal meteor \
    method mineral mirror mission mixture monk monument moon mortgage mosque motor mountain museum mushroom muscle myth needle \
    nephew nerve network novel nurse oak ocean octave office olive opera orbit orchard order organ oven oxygen painter palace \
    panel parade parcel parliament partner pasture patent path pattern pension pepper petition piano pilot pipeline planet \
    plaster platform poem pollen pond portrait potato pottery prairie premium priest printer prison protein pump pupil puzzle \
    quarry queen quota rabbit radar railway rain ranch rebellion receipt recipe refund region relay remedy reptile republic \
    rescue reservoir restaurant rhythm ribbon rice rival river road robot rocket roof root route sail salad salary salmon salt \
    sample satellite scale school sculpture season senate sensor shadow sheep shelter shield shore signal silk silver sketch \
    skill snow soldier sonata spider spring stadium statue steam stone storm strait street subsidy sugar summit surface surgeon \
    suspect sword symbol tariff teacher temple tenant theatre theorem thread throne tide timber tissue tomato tower treaty \
    tribe trumpet tunnel turbine uncle union vaccine valley vapour vehicle verdict vessel village violin virus volcano voter \
    voyage waiter wallet warehouse waste water wave weather wedding whale wheat wheel widow window winter witness wool worker \
    workshop yacht";

const ADJECTIVES: &str = "abandoned abrupt ancient annual arid austere bitter blank bold brief bright brittle broad busy calm careful \
    cautious central cheap civil clumsy coarse coastal cold common complex costly crowded curious damp dark deaf decent deep \
    delicate dense distant domestic double dry dull eager early eastern elastic electric empty equal faint fair false familiar \
    famous fertile fierce final firm flat foreign formal fragile free fresh frozen gentle genuine global golden gradual grand \
    harsh heavy hidden hollow honest hostile humble hungry idle inner instant jealous joint keen large late lazy legal liberal \
    light linear liquid local lonely long loud loyal lucky magnetic marine mature mechanical medieval mild minor modern modest \
    moral mutual narrow native natural nervous neutral noble noisy northern odd official open oral organic pale parallel \
    passive patient perfect pink plain polite popular private proper proud public pure quick quiet random rapid rare raw \
    regional remote rich rigid rival rough round royal rural sacred sad secret senior separate severe shallow sharp short shy \
    silent simple single slim slow smooth social soft solar solid southern spare sparse spatial stable steady steep sticky \
    strange strict strong sudden sunny sweet swift tall tame temporary thick thin tidal tight tiny tired tropical typical \
    unusual upper urban urgent useful vacant vague valid vast violent vital vivid warm weak wealthy western wet wide wild \
    wise wooden young";

const VERBS: &str = "absorb accept adapt adjust admire adopt advise affect amend answer appoint approach arrange attack attract avoid \
    balance bend blend block borrow bring broaden build burn bury calm cancel capture carry catch cause charge chase choose claim \
    clean climb collect combine compare conceal confirm confuse connect consume contain convert convince copy count cover crack \
    create cross cure damage decorate defeat defend delay deliver deny describe design destroy detect develop discover discuss \
    display divide drain draw drive drop earn educate elect embrace employ encourage endure enforce enjoy enter escape escort \
    establish exchange exclude expand explore export extend fasten feed finance find finish fix follow forbid forgive fund gather \
    govern grasp greet grow guard guide handle heal heat hide hire hold ignore import impress improve include increase inform \
    inherit inspect inspire insult insure invent invite isolate join judge keep launch lead lease leave lend lift limit load \
    locate lower measure melt mend mention mix model monitor move name negotiate notice obey observe obtain occupy offer open \
    oppose organise outlive overlook own paint pardon pass persuade plant polish pour praise predict prefer prepare preserve \
    prevent produce promise promote propose protect prove publish pull punish purchase push question raise reach rebuild receive \
    recover reduce refuse regulate reject release remove rent repair replace report rescue resist restore reveal reward ruin rule \
    sail save scatter search select sell separate settle shake shape share shelter shift show shrink sign solve spare split spoil \
    spread steal store strengthen study support surround survive suspend sustain sweep teach test threaten touch trace trade train \
    transform translate trap treat trust turn unite update urge value visit wash waste watch weaken weigh welcome widen win wrap \
    yield";

const ADVERBS: &str = "accurately again almost already always attentively briefly calmly carefully clearly closely concisely constantly correctly \
    diligently directly duly evenly eventually exactly explicitly fairly faithfully finally firmly first fluently formally frankly \
    freely fully gently gradually honestly indeed instead instantly kindly largely later lightly mainly meanwhile mostly naturally \
    neatly nevertheless nicely now openly orderly partly patiently perhaps plainly please politely precisely promptly properly purely \
    quickly quietly rather readily really safely seriously simply sincerely slowly smoothly still strictly surely swiftly \
    systematically then therefore thoroughly thoughtfully tidily truly usually well wholly willingly wisely";

const NAME_STARTS: &str = "Ab Ald Am Ar Bal Bel Bor Bran Cal Cas Cor Dal Del Dor Dun Ed El Em Fal Far Fen Gar Gil Gor Hal Har Hel Ing Is Jor \
    Kal Kel Kor Lam Lar Lin Lor Mal Mar Mel Mor Nar Nel Nor Ol Or Os Pal Par Pel Quin Ral Ren Ros Sal Sel Sor Tal Tar Tor Ul Ver \
    Vor Wal Wen Yar Zel Zor";

const NAME_MIDDLES: &str =
    "a e i o u al an ar el en er il in is on or os ul un us am em im om eth oth av ev iv ov";

const NAME_ENDS: &str = "aba acre ada aldo amar ander ane anta arda aria aska avia beck berg borne bury bridge cester copia dale dane della den \
    dina don dora down eira elia ella enne enza era esse etta ford frey gate gora grad ham hara haven holm hurst ia ica ido iel \
    ika ilda imo ina ington iola ira isa ith iva kiri land lech leigh lona mara mere mont mora nava neth nia nova ola ona oria \
    osa oth para pool port quay rada rica rin rock rona sala sen shire sina sola stead stone tara tia ton tova una ura vale vara \
    ver via ville vina wald well wick wood yama zar";

/// Words of the languages that customers of relays use. Texts are random sequences of these words,
/// without meaning.
const LANGUAGES: [&str; 12] = [
    "请 帮我 写 一份 关于 的 报告 合同 如何 优化 数据库 查询 为什么 城市 天气 学生 老师 公司 会议 翻译 这段 文字 成 英文 需要 \
     检查 代码 错误 计划 旅行 预算 健康 饮食 孩子 历史 经济 分析 比较 优点 缺点 方案 客户 邮件 回复 标题 总结 市场 设计",
    "この 文章 を 日本語 に して ください 会議 資料 売上 の 原因 計画 旅行 料理 作り方 教えて 学校 先生 子供 会社 契約 書 確認 \
     設計 修正 方法 比較 歴史 天気 健康 予算 提案 顧客 返信 件名 要約 市場 調査 結果 説明 手順",
    "이 문장을 번역해 주세요 회의 자료 매출 원인 계획 여행 요리 방법 학교 선생님 아이 회사 계약서 확인 설계 수정 비교 역사 날씨 \
     건강 예산 제안 고객 답장 제목 요약 시장 조사 결과 설명 순서 코드 오류 함수 배열 정렬",
    "напишите отчёт о том как улучшить запрос базы данных почему город погода ученик учитель компания встреча перевод этого текста \
     нужно проверить ошибку план поездки бюджет здоровье дети история экономика сравнить письмо клиенту ответ заголовок рынок дизайн",
    "escribe un informe sobre cómo mejorar la consulta de datos por qué ciudad clima alumno maestro empresa reunión traducir este \
     texto necesito revisar error plan viaje presupuesto salud niños historia economía comparar carta cliente respuesta título mercado",
    "escreva um relatório sobre como melhorar consulta dados porque cidade tempo aluno professor empresa reunião traduzir este texto \
     preciso revisar erro plano viagem orçamento saúde crianças história economia comparar carta cliente resposta título mercado",
    "rédige un rapport sur comment améliorer la requête des données pourquoi ville météo élève professeur entreprise réunion traduire \
     ce texte besoin vérifier erreur voyage budget santé enfants histoire économie comparer lettre client réponse titre marché",
    "schreibe einen bericht darüber wie man die abfrage der daten verbessert warum stadt wetter schüler lehrer firma sitzung übersetze \
     diesen text brauche prüfen fehler reise haushalt gesundheit kinder geschichte wirtschaft vergleichen brief kunde antwort titel markt",
    "bu metni çevir rapor yaz veri sorgusunu nasıl iyileştirir neden şehir hava öğrenci öğretmen şirket toplantı gerek kontrol hata \
     plan gezi bütçe sağlık çocuk tarih ekonomi karşılaştır mektup müşteri yanıt başlık pazar tasarım özet liste örnek",
    "viết báo cáo về cách cải thiện truy vấn dữ liệu tại sao thành phố thời tiết học sinh giáo viên công ty cuộc họp dịch đoạn văn này \
     cần kiểm tra lỗi kế hoạch chuyến đi ngân sách sức khỏe trẻ em lịch sử kinh tế so sánh thư khách hàng trả lời",
    "اكتب تقريرا عن كيف تحسن استعلام البيانات لماذا المدينة الطقس الطالب المعلم الشركة الاجتماع ترجم هذا النص أحتاج فحص خطأ خطة \
     السفر ميزانية الصحة الأطفال التاريخ الاقتصاد قارن رسالة العميل رد العنوان السوق تصميم ملخص",
    "tulis laporan tentang cara memperbaiki kueri data mengapa kota cuaca siswa guru perusahaan rapat terjemahkan teks ini perlu \
     periksa kesalahan rencana perjalanan anggaran kesehatan anak sejarah ekonomi bandingkan surat pelanggan balasan judul pasar",
];

/// Indices of languages without spaces between words.
const UNSPACED_LANGUAGES: [usize; 2] = [0, 1];
