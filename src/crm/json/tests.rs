use super::*;

fn text(body: &[u8]) -> BodyText {
    BodyText::json(body.to_vec()).unwrap()
}

#[test]
fn every_string_can_be_read_afterwards() {
    for (body, read, replaced) in [
        (&b"\"plain \\u00e9 \\n\""[..], "plain \u{e9} \n", 0),
        (b"\"\\ud83d\\ude00\"", "\u{1f600}", 0),
        (b"\"\\ud83d\"", "\u{fffd}", 1),
        (b"\"\\ude00\\ud83d\"", "\u{fffd}\u{fffd}", 2),
        (b"\"\\ud83d\\ud83d\\ude00\"", "\u{fffd}\u{1f600}", 1),
        (b"\"\\\\ud83d\"", "\\ud83d", 0),
        (b"\"\\uD83Dx\"", "\u{fffd}x", 1),
        (b"\"a\\x41 \\u12G4\"", "a x41  u12G4", 2),
        (b"\"a\x00b\x1fc\"", "a b c", 2),
        (b"\"Jos\xe9\"", "Jos\u{fffd}", 1),
        (b"\"\xed\xa0\x80\"", "\u{fffd}\u{fffd}\u{fffd}", 3),
        (b"\xef\xbb\xbf\"\xff\xfe\"", "\u{fffd}\u{fffd}", 2),
    ] {
        let text = text(body);
        assert_eq!(serde_json::from_str::<String>(&text.text).unwrap(), read, "{}", String::from_utf8_lossy(body));
        assert_eq!(text.replaced, replaced, "{}", String::from_utf8_lossy(body));
    }
}

/// What breaks off is no JSON, and no panic.
#[test]
fn broken_off_text_is_no_json_nor_panic() {
    for body in [&b"\""[..], b"\"\\", b"\"\\u", b"\"\\ud8", b"\"\\ud83d\\", b"\"\\ud83d\\u", b"{", b"[", b"", b"\xff"] {
        assert!(text(body).value().is_none(), "{}", String::from_utf8_lossy(body));
    }
    let deep = [b"[".repeat(1_000_000), b"]".repeat(1_000_000)].concat();
    assert!(text(&deep).value().is_some(), "what nobody reads may be as deep as it likes");
}

#[test]
fn another_encoding_is_refused_before_it_grows() {
    assert!(matches!(BodyText::json(b"\xff".repeat(REPLACED_MAX + 1)), Err(CrmError::Unreadable(_))));
}

/// Of an object only what is wanted is kept, and of a name that is repeated the last value.
#[test]
fn object_keeps_wanted_fields_last_value_counts() {
    let text = text(br#"{"a":1,"b":{"c":[1,2]},"a":2,"d":null,"e":"x"}"#);

    let fields = JsonFields::of(text.value().unwrap(), &["a", "b", "d", "z"]).unwrap();

    assert_eq!(fields.raw("a").unwrap().get(), "2");
    assert!(matches!(fields.cell("b"), JsonCell::Object(_)));
    assert!(matches!(fields.cell("d"), JsonCell::Null) && matches!(fields.cell("z"), JsonCell::Null));
    assert!(fields.raw("e").is_none() && fields.list("b").is_none());
    for other in ["[]", "1", "null", "\"{}\""] {
        let other = self::text(other.as_bytes());
        assert!(JsonFields::of(other.value().unwrap(), &["a"]).is_none());
    }
}

/// A list is taken one by one, and not beyond its limit.
#[test]
fn list_is_taken_one_by_one_within_limit() {
    let list = text(b"[1,null,{},[2]]");
    let mut taken = 0;

    assert!(each(list.value().unwrap(), 4, |_| taken += 1));
    assert_eq!(taken, 4);
    assert!(!each(list.value().unwrap(), 3, |_| {}));
    assert!(!each(text(b"{}").value().unwrap(), 3, |_| {}));
}

/// What a page costs beside its body: nothing is built for an element before it is looked at, and
/// none beyond the limit is.
#[test]
fn thirty_two_mebibytes_of_nothing_cost_no_element() {
    let body = [b"[".to_vec(), b"0,".repeat(16 * 1024 * 1024 - 1), b"0]".to_vec()].concat();
    let list = text(&body);
    let mut taken = 0;

    assert!(!each(list.value().unwrap(), 2_000, |_| taken += 1));

    assert_eq!(taken, 2_000);
}

/// A text is a text, or the digits of a number.
#[test]
fn text_is_text_or_digits_of_number() {
    for (json, read) in [
        ("null", Ok(None)),
        ("\" \"", Ok(None)),
        ("\" x \"", Ok(Some(" x "))),
        ("13108675309", Ok(Some("13108675309"))),
        ("431234567890123456789", Ok(Some("431234567890123456789"))),
        ("4155551212.0", Ok(Some("4155551212"))),
        ("4.155551212E9", Ok(Some("4155551212"))),
        ("-7", Ok(Some("-7"))),
        ("1.5", Ok(Some("1.5"))),
        ("1e22", Err(UnreadableValue)),
        ("1e400", Err(UnreadableValue)),
        ("true", Err(UnreadableValue)),
        ("[]", Err(UnreadableValue)),
        ("{}", Err(UnreadableValue)),
    ] {
        let text = text(json.as_bytes());
        let cell = JsonCell::of(text.value().unwrap());
        assert_eq!(cell.text().as_ref().map(Option::as_deref), read.as_ref().map(|read| *read), "{json}");
    }
}

#[test]
fn null_is_neither_true_nor_false() {
    for (json, read) in [
        ("null", Ok(None)),
        ("\"\"", Ok(None)),
        ("true", Ok(Some(true))),
        ("1", Ok(Some(true))),
        ("\"True\"", Ok(Some(true))),
        ("false", Ok(Some(false))),
        ("0", Ok(Some(false))),
        ("\"0\"", Ok(Some(false))),
        ("2", Err(UnreadableValue)),
        ("\"perhaps\"", Err(UnreadableValue)),
        ("[]", Err(UnreadableValue)),
    ] {
        let text = text(json.as_bytes());
        assert_eq!(JsonCell::of(text.value().unwrap()).flag(), read, "{json}");
    }
}
