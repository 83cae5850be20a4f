//! Which first digits of a national number are not safe to take as they stand.
//!
//! After `+` and the country code the library still strips a national prefix ("+44 0 20…"). For
//! each country code the digits with which such a prefix, or a rule that rewrites numbers, can
//! begin are listed here: the FIRST set of `national_prefix_for_parsing` in metadata 9.0.42, and
//! Chile's 0 of old. A number that begins so is left to the library. The test
//! `fast_path_agrees_with_the_library` finds out when an upgrade of the metadata outdates the list;
//! a country code that is not listed is always left to the library.

/// (first digits that may be a prefix, country codes).
pub(crate) const PREFIX_DIGITS: &[(&str, &[u16])] = &[
    (
        "",
        &[
            30, 34, 39, 45, 47, 48, 52, 65, 216, 220, 221, 222, 223, 224, 225, 226, 227, 228, 229, 230, 235, 236, 237,
            238, 239, 240, 242, 244, 245, 246, 247, 248, 253, 257, 258, 266, 267, 268, 269, 290, 297, 299, 350, 351,
            354, 356, 357, 371, 372, 376, 420, 500, 501, 502, 503, 504, 505, 507, 509, 592, 597, 599, 670, 673, 674,
            675, 676, 677, 678, 679, 680, 681, 682, 683, 685, 687, 688, 689, 690, 691, 800, 808, 852, 853, 870, 878,
            881, 882, 883, 888, 960, 965, 968, 973, 974, 975, 979, 992, 998,
        ],
    ),
    (
        "0",
        &[
            20, 27, 31, 32, 33, 36, 40, 41, 43, 46, 49, 51, 53, 56, 57, 58, 60, 62, 63, 64, 66, 81, 82, 84, 90, 91, 92,
            93, 94, 95, 98, 211, 212, 213, 218, 231, 232, 233, 234, 241, 243, 249, 250, 251, 252, 254, 255, 256, 260,
            262, 263, 264, 265, 291, 353, 355, 358, 359, 373, 374, 377, 380, 381, 382, 383, 385, 386, 387, 389, 421,
            508, 590, 591, 593, 594, 595, 596, 598, 686, 850, 855, 856, 880, 886, 961, 962, 963, 964, 966, 967, 970,
            971, 972, 976, 977, 994, 995, 996,
        ],
    ),
    ("01", &[44, 61, 86, 423]),
    ("0123", &[54]),
    ("01258", &[672]),
    ("02456789", &[261]),
    ("08", &[370, 375]),
    ("09", &[55]),
    ("1", &[1, 298, 352, 506, 692]),
    ("8", &[7, 993]),
    ("89", &[378]),
];

/// Country codes of which a prefix that begins with 1 can only go on with these digits: 180020 in
/// Britain (a text relay), 1831 and 1832 in Australia. Without this every British fixed line that
/// is written 01.. at home would be left to the library.
pub(crate) const BEHIND_A_ONE: &[(u16, &str)] = &[(44, "8"), (61, "8")];

/// What may begin a call abroad in some region, so that a number that begins so is left to the
/// library.
pub(crate) const LEFT_EVERYWHERE: &[&str] = &["00", "010", "011"];

/// How numbers are written at home: (what is dialled before them, fronts that are left to the
/// library, regions).
///
/// A region is here if its `national_prefix_for_parsing` is nothing but that prefix, or if what
/// else it takes and what its `international_prefix` takes begins with one of the fronts. Others
/// are always left to the library.
pub(crate) const HOMES: &[(&str, &[&str], &str)] = &[
    (
        "0",
        &[],
        "AE AF AL AM AT AZ BA BD BE BG CD CH DE DZ EC EG ER ET FR GE GF GH GP HR ID IE IN IQ IR JO JP KE KG KH KI LA LB LK \
         LR LY MA MC MD ME MK MM MN MQ MW MY NA NG NL NP PH PK PM PS PY RE RO RS RW SA SD SE SK SL SO SS SY TH TR TZ UA UG \
         VE VN XK YE ZA ZM ZW",
    ),
    ("0", &["01"], "BO IL NZ TW UY"),
    ("0", &["08"], "KR"),
    ("0", &["10"], "SI"),
    ("0", &["11", "12", "179"], "CN"),
    ("0", &["119"], "CU"),
    ("0", &["14", "1831", "1832"], "AU"),
    ("0", &["180020"], "GB"),
    ("0", &["19"], "PE"),
    ("0", &["90"], "BR"),
    ("0", &["99"], "FI KP"),
    ("06", &[], "HU"),
    (
        "",
        &[],
        "AD AO AW BF BH BI BJ BN BT BW BZ CF CG CI CK CM CW CY CZ DJ DK EE ES FK FM GI GL GM GN GQ GR GT GW GY HK HN HT IO \
         IT KM KW LS LV ML MO MR MT MZ NC NE NI NO NR NU OM PA PF PL PT QA SH SN SR ST SV SZ TG TK TL TN TO TV UZ VU WF",
    ),
    ("", &["0"], "CO FJ MU MV MX SG"),
    ("", &["0", "1"], "CL"),
    ("", &["10", "11"], "IS"),
    ("", &["15"], "LU"),
    ("", &["19"], "CR"),
    ("1", &["10", "11"], "CA DO JM PR US"),
    ("8", &["810"], "KZ RU"),
];
