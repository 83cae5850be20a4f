//! Callers who hide their number: the words and the keypad sentinels that stand in its place.
//!
//! Invariant: what is withheld never becomes a key, else every hidden caller would be the same person.

use super::{PhoneKey, text};

/// Words spelled on a keypad and sent as a number (documented by Twilio): ANONYMOUS, RESTRICTED, UNKNOWN, UNAVAILABLE,
/// BLOCKED. They count only as international numbers: 7378742833 alone is a valid number in Texas.
const SENTINELS: [u64; 5] = [266_696_687, 7_378_742_833, 8_656_696, 86_282_452_253, 2_562_533];

/// A display is short; a longer text is a sentence and no caller id, bytes.
const WORDS_LENGTH_MAX: usize = 60;

/// Single words that say by themselves that the number is hidden or not known.
const WORDS: &[&str] = &[
    // English, also of payphones and of SIP (RFC 3323)
    "anonymous",
    "unknown",
    "private",
    "restricted",
    "unavailable",
    "withheld",
    "blocked",
    "hidden",
    "suppressed",
    "payphone",
    "coin",
    "o",
    "p",
    // Spanish, Portuguese, Italian, French
    "anonimo",
    "anónimo",
    "anônimo",
    "anonyme",
    "desconocido",
    "desconhecido",
    "sconosciuto",
    "inconnu",
    "privado",
    "privato",
    "privé",
    "prive",
    "oculto",
    "nascosto",
    "riservato",
    "restringido",
    "restrito",
    "bloqueado",
    "masqué",
    "masque",
    "confidencial",
    "caché",
    // German, Dutch, Nordic
    "anonym",
    "unbekannt",
    "privat",
    "unterdrückt",
    "unterdrueckt",
    "anoniem",
    "onbekend",
    "afgeschermd",
    "privé",
    "okänt",
    "okänd",
    "hemligt",
    "dolt",
    "skjult",
    "hemmeligt",
    "hemmelig",
    "ukendt",
    "ukjent",
    "tuntematon",
    "salainen",
    // Slavic, Hungarian, Romanian, Greek, Turkish
    "аноним",
    "неизвестный",
    "неизвестно",
    "неизвестен",
    "скрытый",
    "скрыт",
    "приватный",
    "невідомий",
    "прихований",
    "nieznany",
    "zastrzeżony",
    "prywatny",
    "ukryty",
    "neznámé",
    "neznámý",
    "skryté",
    "skrytý",
    "soukromé",
    "nepoznat",
    "skriven",
    "ismeretlen",
    "rejtett",
    "necunoscut",
    "ascuns",
    "άγνωστος",
    "απόκρυψη",
    "bilinmeyen",
    "gizli",
    "özel",
    // Arabic, Hebrew, Chinese, Japanese, Korean
    "مجهول",
    "خاص",
    "محجوب",
    "חסוי",
    "匿名",
    "未知",
    "未知号码",
    "私人号码",
    "隐藏号码",
    "非通知",
    "公衆電話",
    "非通知設定",
    "通知不可能",
    "表示圏外",
    "발신자표시제한",
    "발신번호표시제한",
    "알수없음",
];

/// Words that may stand beside one of [`WORDS`] and say nothing.
const NEUTRAL: &[&str] = &[
    "number",
    "caller",
    "call",
    "id",
    "name",
    "the",
    "phone",
    "telephone",
    "line",
    "user",
    "número",
    "numero",
    "numéro",
    "nummer",
    "nr",
    "rufnummer",
    "anrufer",
    "teilnehmer",
    "chiamante",
    "llamada",
    "chamada",
    "appel",
    "appelant",
    "номер",
    "абонент",
    "numer",
    "číslo",
    "szám",
    "numara",
    "αριθμός",
    "nummeret",
];

/// Phrases whose words say nothing by themselves.
const PHRASES: &[&str] = &[
    "out of area",
    "no caller id",
    "no number",
    "no id",
    "not available",
    "non disponibile",
    "no disponible",
    "não disponível",
    "indisponível",
    "nicht verfügbar",
    "niet beschikbaar",
    "numéro non communiqué",
];

/// Whether the text stands for a hidden number.
pub(super) fn is_withheld(text: &str) -> bool {
    if text.bytes().any(|byte| byte.is_ascii_digit()) {
        return is_dialled_sentinel(text);
    }
    if text.len() > WORDS_LENGTH_MAX || text.chars().any(char::is_numeric) {
        return false;
    }
    let lower = text.to_lowercase();
    let mut words = lower.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).peekable();
    if words.peek().is_none() {
        return false;
    }
    let phrase = words.clone().collect::<Vec<_>>().join(" ");
    PHRASES.contains(&phrase.as_str())
        || words.clone().any(|word| WORDS.contains(&word))
            && words.all(|word| WORDS.contains(&word) || NEUTRAL.contains(&word))
}

/// Whether the key spells a word and is nobody's number.
pub(super) fn is_sentinel(key: PhoneKey) -> bool {
    SENTINELS.iter().any(|&sentinel| key.is(sentinel))
}

/// Sentinels are too short or too long to be possible numbers, all but one, so their digits decide.
fn is_dialled_sentinel(text: &str) -> bool {
    text.starts_with('+') && text::ascii_digits(text).is_some_and(|digits| SENTINELS.contains(&digits))
}
