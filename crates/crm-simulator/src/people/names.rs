//! Names of many cultures and of organisations that do not exist. Owns: the lists, and the Latin
//! spelling that e-mail addresses need.

use super::Dice;

/// Names that go together. Names in another script carry their Latin spelling after a bar.
struct Culture {
    weight: u64,
    is_family_first: bool,
    given: &'static [&'static str],
    family: &'static [&'static str],
}

const fn culture(weight: u64, given: &'static [&'static str], family: &'static [&'static str]) -> Culture {
    Culture { weight, is_family_first: false, given, family }
}

const fn family_first(weight: u64, given: &'static [&'static str], family: &'static [&'static str]) -> Culture {
    Culture { weight, is_family_first: true, given, family }
}

#[rustfmt::skip]
const CULTURES: [Culture; 20] = [
    culture(24,
        &["Ann", "Bryce", "Carol", "Dylan", "Emma", "Frank", "Grace", "Henry", "Isla", "Jack", "Kate", "Liam", "Mary-Jane", "Noah", "Olivia", "Peter", "Quinn", "Ruth", "Sam", "Tess", "Victor", "Wendy"],
        &["Love", "Smith", "Johnson", "O'Connor", "McDonald", "Baker", "Carter", "Dawson", "Ellis", "Fletcher", "Green", "Hughes", "Irving", "Jones", "King", "Lloyd-Webb", "Moore", "Nash", "Owens", "Price", "Reed", "Stone", "Turner", "Young"]),
    culture(9,
        &["Alejandro", "Beatriz", "Carlos", "Dolores", "Elena", "Íñigo", "Jesús", "José", "Lucía", "María José", "Nuria", "Pablo", "Raúl", "Sofía", "Tomás"],
        &["García", "Fernández López", "González", "Hernández", "Ibáñez", "Jiménez", "Martínez", "Muñoz", "Núñez", "Ortega y Gasset", "Peña", "Rodríguez", "Sánchez", "Vázquez"]),
    culture(8,
        &["Afonso", "Ana", "Bruno", "Conceição", "Diogo", "Fátima", "Gonçalo", "Inês", "João", "Luísa", "Márcia", "Rui", "Tiago"],
        &["Almeida", "Araújo", "da Silva", "dos Santos", "Fonseca", "Guimarães", "Lourenço", "Magalhães", "Oliveira", "Pereira", "Simões"]),
    culture(6,
        &["Amélie", "Benoît", "Chloé", "Éric", "François", "Gaëlle", "Hélène", "Jean-Pierre", "Loïc", "Margaux", "Noël", "Zoé"],
        &["Bernard", "Besançon", "de la Tour", "Dubois", "Fèvre", "Garçon", "Lefèbvre", "L'Hôte", "Moreau", "Petit", "Rousseau"]),
    culture(7,
        &["Anneliese", "Björn", "Dörte", "Friedrich", "Günther", "Hans-Jürgen", "Jörg", "Käthe", "Lukas", "Sabine", "Ulrike", "Wolfgang"],
        &["Bäcker", "Fuchs", "Großmann", "Köhler", "Müller", "Öztürk-Schmidt", "Schäfer", "Strauß", "von der Heide", "Weiß", "Zimmermann"]),
    culture(4,
        &["Alessandro", "Bianca", "Cesare", "Donatella", "Giulia", "Luca", "Niccolò", "Paola"],
        &["Bianchi", "Colombo", "D'Angelo", "De Luca", "Esposito", "Ferrari", "Ricci", "Romanò"]),
    culture(3,
        &["Anouk", "Bram", "Daan", "Femke", "Jeroen", "Lotte", "Saskia", "Willem"],
        &["Bakker", "de Vries", "Jansen", "Smit", "van 't Hof", "van den Berg", "Visser"]),
    culture(3,
        &["Åsa", "Bjørn", "Elín", "Freyja", "Jógvan", "Lærke", "Nils", "Øyvind", "Þór"],
        &["Ångström", "Berg", "Guðmundsdóttir", "Hansen", "Lindström", "Møller", "Sørensen", "Väisänen"]),
    culture(4,
        &["Agnieszka", "Bogusław", "Dušan", "Jiří", "Łukasz", "Małgorzata", "Ondřej", "Zoë", "Živa"],
        &["Černý", "Dąbrowski", "Kovács", "Łuczak", "Nováková", "Szymański", "Wójcik", "Źrebiec"]),
    culture(3,
        &["Анна|Anna", "Борис|Boris", "Дмитрий|Dmitri", "Екатерина|Ekaterina", "Олена|Olena", "Сергей|Sergei"],
        &["Бондаренко|Bondarenko", "Иванов|Ivanov", "Кузнецова|Kuznetsova", "Петренко|Petrenko", "Смирнов|Smirnov"]),
    culture(2,
        &["Ελένη|Eleni", "Γιώργος|Giorgos", "Κώστας|Kostas", "Σοφία|Sofia"],
        &["Νικολάου|Nikolaou", "Παπαδόπουλος|Papadopoulos", "Οικονόμου|Oikonomou"]),
    culture(3,
        &["Ayşe", "Barış", "Çağla", "Gökhan", "İbrahim", "Şeyma", "Ümit"],
        &["Aydın", "Çelik", "Demir", "Güneş", "Kılıç", "Öztürk", "Yıldız"]),
    culture(4,
        &["أحمد|Ahmad", "فاطمة|Fatima", "Khalid", "ليلى|Layla", "محمد|Muhammad", "Nour", "Yusuf"],
        &["الحسن|Alhassan", "حداد|Haddad", "Khoury", "منصور|Mansour", "Al-Sayed", "Zaidi"]),
    culture(1,
        &["דוד|David", "נועה|Noa", "שרה|Sara"],
        &["כהן|Cohen", "לוי|Levi", "מזרחי|Mizrahi"]),
    culture(6,
        &["Aarav", "Deepa", "Ishaan", "Kavya", "Lakshmi", "प्रिया|Priya", "राज|Raj", "Sanjay", "Venkata"],
        &["Agarwal", "Chatterjee", "Iyer", "Krishnamurthy", "Patel", "Reddy", "शर्मा|Sharma", "Singh"]),
    family_first(4,
        &["伟|Wei", "芳|Fang", "Jing", "秀英|Xiuying", "Lei", "娜|Na"],
        &["王|Wang", "李|Li", "张|Zhang", "Chen", "刘|Liu", "欧阳|Ouyang"]),
    family_first(2,
        &["太郎|Taro", "花子|Hanako", "健太|Kenta", "さくら|Sakura", "翔|Sho"],
        &["佐藤|Sato", "鈴木|Suzuki", "高橋|Takahashi", "山本|Yamamoto", "渡辺|Watanabe"]),
    family_first(2,
        &["민준|Minjun", "서연|Seoyeon", "지훈|Jihun", "하은|Haeun"],
        &["김|Kim", "이|Lee", "박|Park", "최|Choi"]),
    family_first(2,
        &["Thị Hương", "Văn Đức", "Minh", "Ngọc Ánh"],
        &["Nguyễn", "Trần", "Phạm", "Đặng"]),
    culture(5,
        &["Adaeze", "Amani", "Chinedu", "Fatoumata", "Kofi", "Kwame", "Ngozi", "Thandiwe", "Wanjiru"],
        &["Abubakar", "Adeyemi", "Diallo", "Kamau", "Mensah", "Ndlovu", "N'Diaye", "Okonkwo"]),
];

const ORGANIZATION_NAMES: [&str; 32] = [
    "Alder",
    "Beacon",
    "Cobalt",
    "Dovetail",
    "Ember",
    "Fathom",
    "Gable",
    "Harrow",
    "Indigo",
    "Juniper",
    "Kestrel",
    "Lantern",
    "Meadow",
    "Nimbus",
    "Orchard",
    "Pinnacle",
    "Quarry",
    "Ridgeway",
    "Saffron",
    "Thistle",
    "Umber",
    "Verdant",
    "Willow",
    "Yarrow",
    "Zephyr",
    "Birchwood",
    "Castle",
    "Driftwood",
    "Elmfield",
    "Foxglove",
    "Granite",
    "Hollow",
];

const ORGANIZATION_TRADES: [&str; 24] = [
    "Logistics",
    "Dental",
    "Foods",
    "Insurance",
    "Software",
    "Travel",
    "Motors",
    "Energy",
    "Pharmacy",
    "Legal",
    "Schools",
    "Clinics",
    "Hotels",
    "Freight",
    "Bank",
    "Telecom",
    "Foundry",
    "Books",
    "Garden Centre",
    "Property",
    "Airways",
    "Textiles",
    "Marine",
    "Security",
];

/// How many organisations there are.
pub(super) const ORGANIZATIONS: u64 = (ORGANIZATION_NAMES.len() * ORGANIZATION_TRADES.len()) as u64;

/// The name and the domain label of an organisation, by its number below [`ORGANIZATIONS`].
pub(super) fn organization(index: u64) -> (String, String) {
    let index = usize::try_from(index % ORGANIZATIONS).expect("below the number of organisations");
    let (name, trade) =
        (ORGANIZATION_NAMES[index / ORGANIZATION_TRADES.len()], ORGANIZATION_TRADES[index % ORGANIZATION_TRADES.len()]);
    let domain = format!("{name}{trade}").to_ascii_lowercase().replace(' ', "");
    (format!("{name} {trade}"), domain)
}

/// A full name, and its Latin form for an e-mail address (`jean-pierre.dubois`).
pub(super) fn draw(dice: &mut Dice) -> (String, String) {
    let culture = draw_culture(dice);
    let (given, given_latin) = parts_of(dice.pick(culture.given));
    let (family, family_latin) = parts_of(dice.pick(culture.family));
    let is_latin = given.is_ascii() || given_latin == given;
    let name = match (culture.is_family_first, is_latin) {
        (true, false) => format!("{family}{given}"),
        (true, true) => format!("{family} {given}"),
        (false, _) => format!("{given} {family}"),
    };
    (name, format!("{}.{}", address_part(given_latin), address_part(family_latin)))
}

fn draw_culture(dice: &mut Dice) -> &'static Culture {
    let mut point = dice.below(CULTURES.iter().map(|culture| culture.weight).sum());
    for culture in &CULTURES {
        if point < culture.weight {
            return culture;
        }
        point -= culture.weight;
    }
    unreachable!("the point is below the sum of the weights")
}

fn parts_of(entry: &'static str) -> (&'static str, &'static str) {
    entry.split_once('|').unwrap_or((entry, entry))
}

/// Lower-case ASCII: accents fall off, spaces and apostrophes too.
fn address_part(name: &str) -> String {
    name.to_lowercase().chars().filter_map(plain).collect()
}

fn plain(letter: char) -> Option<char> {
    let plain = match letter {
        'a'..='z' | '-' => letter,
        'á' | 'à' | 'â' | 'ã' | 'ä' | 'å' | 'ą' | 'æ' | 'ạ' | 'ă' | 'ầ' | 'ặ' => 'a',
        'ç' | 'č' | 'ć' => 'c',
        'đ' | 'ð' => 'd',
        'é' | 'è' | 'ê' | 'ë' | 'ę' | 'ě' | 'ễ' => 'e',
        'ğ' => 'g',
        'í' | 'î' | 'ï' | 'ı' | 'ị' => 'i',
        'ł' => 'l',
        'ñ' | 'ń' => 'n',
        'ó' | 'ò' | 'ô' | 'õ' | 'ö' | 'ø' | 'ọ' | 'ơ' => 'o',
        'ř' => 'r',
        'š' | 'ş' | 'ś' | 'ß' => 's',
        'þ' => 't',
        'ú' | 'ù' | 'ü' | 'ư' | 'ứ' => 'u',
        'ý' => 'y',
        'ž' | 'ź' | 'ż' => 'z',
        _ => return None,
    };
    Some(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_has_a_latin_form() {
        for entry in CULTURES.iter().flat_map(|culture| culture.given.iter().chain(culture.family)) {
            let (_, latin) = parts_of(entry);
            let letters = latin.chars().filter(|letter| letter.is_alphabetic()).count();
            let kept = address_part(latin).chars().filter(char::is_ascii_lowercase).count();
            assert_eq!(kept, letters, "a letter of {latin} has no plain form");
        }
    }

    #[test]
    fn organisations_differ_by_number() {
        assert_ne!(organization(0), organization(1));
        assert_ne!(organization(0).0, organization(24).0);
        assert_eq!(organization(ORGANIZATIONS), organization(0));
    }
}
