//! Callers who hide their number: the words and the keypad sentinels that stand in its place.
//!
//! Invariant: what is withheld never becomes a key, else every hidden caller would be the same
//! person.

use std::collections::HashSet;
use std::sync::LazyLock;

use crate::{PhoneKey, text};

/// Words spelled on a keypad and sent as a number (documented by Twilio): ANONYMOUS, RESTRICTED,
/// UNKNOWN, UNAVAILABLE, BLOCKED. They count only as international numbers: 7378742833 alone is a
/// valid number in Texas.
const SENTINELS: [u64; 5] = [266_696_687, 7_378_742_833, 8_656_696, 86_282_452_253, 2_562_533];

/// A display is short; a longer text is a sentence and no caller id, bytes.
const WORDS_LENGTH_MAX: usize = 120;

/// Single words that say by themselves that the number is hidden or not known, in lower case, with
/// е for ё.
const WORDS: &[&str] = &[
    // English, also of payphones and of SIP (RFC 3323)
    "anonymous unknown private restricted unavailable withheld blocked hidden suppressed undisclosed unidentified",
    "unlisted payphone coin o p",
    // Spanish, Catalan, Portuguese, Galician
    "anónimo anonimo anónima anonima desconocido desconocida desconegut privado privada privat ocult oculto",
    "oculta bloqueado bloqueada restringido restringida confidencial reservado anônimo anônima desconhecido",
    "desconhecida restrito restrita inibido descoñecido agochado",
    // Italian, French, Romanian
    "sconosciuto sconosciuta privato privata nascosto nascosta riservato riservata oscurato occultato anonyme",
    "inconnu inconnue privé privée prive masqué masquée masque caché cachée confidentiel secret ascuns ascunsă",
    "necunoscut necunoscută privată anonim",
    // German, Dutch, Afrikaans
    "privatnummer geheimnummer privénummer privenummer anonym anonymer anonymes unbekannt unbekannte unbekannter",
    "unbekanntes privater unterdrückt unterdrückte",
    "unterdrückter unterdrueckt unterdrueckte verborgen verborgene geheim geheime anoniem anonieme onbekend",
    "onbekende afgeschermd afgeschermde versteek",
    // Danish, Norwegian, Swedish, Icelandic, Finnish, Estonian, Latvian, Lithuanian
    "anonymt skjult hemmeligt hemmelig ukendt ukjent okänt okänd hemligt hemlig dolt dold skyddat skyddad",
    "leynilegt óþekkt falið tuntematon salainen yksityinen estetty piilotettu anonyymi tundmatu varjatud peidetud",
    "salastatud anonüümne nezināms nezināma slēpts slēpta privāts anonīms nežinomas nežinoma paslėptas slaptas",
    "privatus anonimas",
    // Polish, Czech, Slovak, Slovene, Croatian, Bosnian, Serbian in Latin letters
    "nieznany zastrzeżony zastrzezony prywatny ukryty anonimowy utajniony neznámé neznámý neznáma neznáme neznámo",
    "skryté skrytý soukromé soukromý utajené utajený súkromné súkromný neznan neznana skrit skrita zasebna",
    "anonimen nepoznat nepoznati nepoznata skriven skriveni privatni anoniman anonimni tajni",
    // Hungarian, Turkish, Azerbaijani, Albanian, Greek
    "ismeretlen rejtett privát titkos bilinmeyen gizli özel naməlum gizlədilmiş panjohur fshehur άγνωστος άγνωστη",
    "απόκρυψη απόρρητο απόρρητος κρυφός ιδιωτικός ανώνυμος ανώνυμη",
    // Russian, Ukrainian, Belarusian, Bulgarian, Serbian, Macedonian
    "аноним анонимный анонимно неизвестный неизвестно неизвестен скрытый скрыт приватный частный закрытый закрыт",
    "засекречен засекреченный неопределен неопределенный невідомий невідомо прихований приховано приватний",
    "анонімний таємний невядомы схаваны прыватны скрит частен анонимен непознат скривен приватан анониман",
    "приватен",
    // Georgian, Armenian
    "უცნობი დაფარული ანონიმური პირადი անհայտ թաքնված",
    // Arabic, Persian, Urdu, Hebrew
    "مجهول خاص محجوب مخفي مخفى سري مجهولة خصوصي خصوصی ناشناس مخفی پنهان محفوظ نامعلوم نجی חסוי חסויה פרטי חסום",
    "אנונימי",
    // Indonesian, Malay, Filipino, Vietnamese
    "pribadi tersembunyi disembunyikan rahasia peribadi persendirian pribado ẩn",
    // Hindi, Bengali, Tamil, Thai
    "अज्ञात निजी गुप्त अनजान অজানা গোপন ব্যক্তিগত தெரியாத ไม่ทราบหมายเลข ไม่แสดงหมายเลข หมายเลขส่วนตัว",
    "ไม่ระบุหมายเลข ไม่รู้จัก",
    // Chinese
    "匿名 未知 未知号码 未知號碼 私人号码 私人號碼 隐藏号码 隱藏號碼 隐藏 隱藏 无号码 無號碼 未显示号码 未顯示號碼 未显示 未顯示 不明号码 不明號碼 不明来电 不明來電 未知来电 未知來電 无来电显示",
    "無來電顯示 私人来电 私人來電 保密号码 保密號碼 隐私号码",
    // Japanese, Korean
    "非通知 公衆電話 公衆 非通知設定 番号非通知 発信者番号非通知 非通知着信 通知不可能 通知不可 表示圏外 不明 発信者不明 番号不明 ユーザー非通知 発信者番号なし 발신자표시제한 발신번호표시제한",
    "발신번호표시금지 번호표시제한 알수없음 알수없는번호 비공개 익명",
];

/// Words that may stand beside one of [`WORDS`] and say nothing, in lower case.
const NEUTRAL: &[&str] = &[
    "number numbers caller callers call calls calling id name the phone telephone line user party invalid número",
    "numero numéro nummer num no nr rufnummer telefonnummer anrufernummer anrufer anruf teilnehmer kennung",
    "nummern chiamante chiamata llamada llamante trucada telefone telefono teléfono chamada chamador appel",
    "appelant correspondant номер номера номером абонент абонента звонок вызов дзвінок телефону numer numeru",
    "telefonu číslo čísla volající szám hívó hívószám numara arayan nömrə αριθμός αριθμού κλήση καλών nummeret",
    "opkald anrop uppringare beller oproep nummers număr numar apelant apelul broj број позивалац pozivatelj",
    "številka klicatelj",
    "helistaja numurs zvanītājs numeris skambintojas soittaja númer nomor nombor penelepon pemanggil panggilan số",
    "gọi người điện thoại رقم الرقم متصل المتصل اتصال شماره تماس گیرنده نمبر מספר שיחה מתקשר नंबर कॉल कॉलर নম্বর",
    "নাম্বার எண் หมายเลข ნომერი համար numri telefonin خط",
];

/// Phrases whose words say nothing by themselves.
const PHRASES: &[&str] = &[
    "out of area",
    "no caller id",
    "no number",
    "no id",
    "no cid",
    "not available",
    "not provided",
    "not disclosed",
    "number not available",
    "name not available",
    "no name",
    "non disponibile",
    "numero non disponibile",
    "no disponible",
    "número no disponible",
    "sin identificar",
    "sin número",
    "no identificado",
    "número no identificado",
    "não disponível",
    "indisponível",
    "não identificado",
    "número não identificado",
    "sem identificação",
    "não informado",
    "nicht verfügbar",
    "nummer nicht verfügbar",
    "rufnummer nicht verfügbar",
    "keine rufnummer",
    "keine nummer",
    "ohne rufnummer",
    "rufnummer unterdrückt",
    "niet beschikbaar",
    "nummer niet beschikbaar",
    "geen nummer",
    "numéro non communiqué",
    "non communiqué",
    "non disponible",
    "numéro non disponible",
    "non identifié",
    "numéro non identifié",
    "ej tillgängligt",
    "ikke tilgængelig",
    "ikke tilgjengelig",
    "ei numeroa",
    "номер не определен",
    "не определен",
    "номер не определяется",
    "номер не указан",
    "номер недоступен",
    "без номера",
    "номер не визначено",
    "не визначено",
    "номер не визначений",
    "неопределен номер",
    "nie podano",
    "brak numeru",
    "numer niedostępny",
    "bez čísla",
    "nem elérhető",
    "fără număr",
    "numara yok",
    "غير معروف",
    "رقم غير معروف",
    "غير متاح",
    "رقم غير متاح",
    "بدون رقم",
    "لا يوجد رقم",
    "לא מזוהה",
    "מספר לא מזוהה",
    "לא ידוע",
    "מספר לא ידוע",
    "בלתי מזוהה",
    "ללא מספר",
    "tidak diketahui",
    "nomor tidak diketahui",
    "tidak dikenal",
    "nomor tidak dikenal",
    "tanpa nomor",
    "nomor tidak tersedia",
    "nombor tidak diketahui",
    "tidak diketahui nombor",
    "không xác định",
    "số không xác định",
    "số ẩn",
    "không rõ",
    "số riêng tư",
    "số lạ",
    "riêng tư",
    "알 수 없음",
    "알 수 없는 번호",
    "발신자 정보 없음",
    "발신자 표시 제한",
    "발신번호 표시 제한",
    "발신 번호 표시 제한",
    "表示 圏外",
    "通知 不可能",
    "ユーザ 非通知",
    "ไม่ทราบ หมายเลข",
    "i panjohur",
    "i fshehur",
    "numri i panjohur",
    "číslo neznámé",
    "unbekannte rufnummer",
];

static HIDING: LazyLock<HashSet<&str>> = LazyLock::new(|| each_of(WORDS));
static SAYING_NOTHING: LazyLock<HashSet<&str>> = LazyLock::new(|| each_of(NEUTRAL));

fn each_of(lines: &[&'static str]) -> HashSet<&'static str> {
    lines.iter().flat_map(|line| line.split(' ')).collect()
}

/// Whether the text stands for a hidden number.
pub(crate) fn is_withheld(text: &str) -> bool {
    if text.bytes().any(|byte| byte.is_ascii_digit()) {
        return is_dialled_sentinel(text);
    }
    if text.len() > WORDS_LENGTH_MAX || text.chars().any(char::is_numeric) {
        return false;
    }
    let lower = text.to_lowercase().replace('ё', "е");
    // Vowel signs of Indian and Thai words are no letters.
    let mut words =
        lower.split(|c: char| !c.is_alphanumeric() && !is_vowel_sign(c)).filter(|word| !word.is_empty()).peekable();
    if words.peek().is_none() {
        return false;
    }
    let phrase = words.clone().collect::<Vec<_>>().join(" ");
    PHRASES.contains(&phrase.as_str())
        || words.clone().any(|word| HIDING.contains(word))
            && words.all(|word| HIDING.contains(word) || SAYING_NOTHING.contains(word))
}

fn is_vowel_sign(c: char) -> bool {
    matches!(c, '\u{300}'..='\u{36f}' | '\u{900}'..='\u{dff}' | '\u{e31}'..='\u{e4e}')
}

/// Whether the key spells a word and is nobody's number.
pub(crate) fn is_sentinel(key: PhoneKey) -> bool {
    SENTINELS.iter().any(|&sentinel| key.is(sentinel))
}

/// Sentinels are too short or too long to be possible numbers, all but one, so their digits decide.
fn is_dialled_sentinel(text: &str) -> bool {
    text.starts_with('+') && text::ascii_digits(text).is_some_and(|digits| SENTINELS.contains(&digits))
}
