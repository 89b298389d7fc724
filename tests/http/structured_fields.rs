//! The cases that the HTTP working group publishes for strings and items
//! (httpwg/structured-field-tests: `string.json`, `string-generated.json`, `item.json`), in so far
//! as a key may be one: as a string they are the key they stand for, and what is no string is a key
//! only if it may stand bare.

use crate::kit::Server;

/// What the field says, and the key that is; nothing if it is none.
const CASES: [(&str, Option<&str>); 30] = [
    // string.json
    (r#""foo bar""#, Some("foo bar")),
    (r#""foo""#, Some("foo")),
    (r#""""#, None),
    // Long: longer than a key may be.
    (LONG, None),
    (r#""   ""#, Some("   ")),
    ("\"f\u{fc}\u{fc}\"", None),
    ("\"\u{0080}\"", None),
    ("\"\t\"", None),
    (r#""foo"#, None),
    (r#""foo \"bar\" \\ baz""#, Some(r#"foo "bar" \ baz"#)),
    (r#""foo \,""#, None),
    (r#""foo \"#, None),
    (r#""foo \""#, None),
    (r#""abc"#, None),
    // Not a string, but bare: its quotes are none of a string's.
    ("'foo'", Some("'foo'")),
    // item.json
    (" \"foo\"", Some("foo")),
    ("\"foo\" ", Some("foo")),
    ("  \"foo\"  ", Some("foo")),
    // Other items, as bare keys.
    ("foo", Some("foo")),
    ("1", Some("1")),
    ("-1.5", Some("-1.5")),
    ("?1", Some("?1")),
    (":aGVsbG8=:", Some(":aGVsbG8=:")),
    ("@1659578233", Some("@1659578233")),
    ("%\"foo\"", None),
    // Parameters, of a string alone.
    (r#""foo"; a=1; b="c""#, Some("foo")),
    (r#""foo";a"#, Some("foo")),
    (r#""foo";A=1"#, None),
    (r#""foo" ;a"#, None),
    ("foo;a=1", None),
];

const LONG: &str = concat!(
    r#""foo foo foo foo foo foo foo foo foo foo foo foo foo foo foo foo foo foo foo foo foo foo "#,
    r#"foo foo foo foo foo foo foo foo foo foo foo foo foo foo foo foo foo foo foo foo foo foo "#,
    r#"foo foo foo foo foo foo foo foo foo foo foo foo foo foo foo foo foo foo foo foo foo ""#
);

/// The key that the layer took for a field of this value.
async fn key_of(server: &Server, value: &[u8]) -> Option<String> {
    let head = b"POST /op HTTP/1.1\r\nHost: h\r\nConnection: close\r\nIdempotency-Key:";
    let request = [head, value, b"\r\nContent-Length: 0\r\n\r\n"].concat();
    let answer = server.raw(request).await;
    let (head, body) = answer.split_once("\r\n\r\n").expect("an answer");
    let is_ok = head.starts_with("HTTP/1.1 200 ");
    assert!(is_ok || head.starts_with("HTTP/1.1 400 "), "{answer}");
    is_ok.then(|| body.to_owned())
}

async fn server() -> Server {
    let echo = async |attempt: firstclaim::Attempt| attempt.key().to_vec();
    Server::start(echo).await
}

#[tokio::test]
async fn published_strings_are_the_keys_they_stand_for() {
    let server = server().await;
    for (value, key) in CASES {
        let is = key_of(&server, value.as_bytes()).await;
        assert_eq!(is.as_deref(), key, "{value:?}");
    }
}

/// string-generated.json: every character of ASCII in a string, and behind a backslash.
#[tokio::test]
async fn of_ascii_a_string_holds_what_is_printable() {
    let server = server().await;
    // Bytes at which HTTP/1.1 itself ends the line are no value of a field.
    for byte in (0..=0x7f_u8).filter(|byte| !b"\0\r\n".contains(byte)) {
        let plain = matches!(byte, 0x20..=0x7e) && !b"\"\\".contains(&byte);
        let escaped = b"\"\\".contains(&byte);
        for (value, is_string) in [
            ([b" \"a".as_slice(), &[byte], b"b\""].concat(), plain),
            ([b" \"a\\".as_slice(), &[byte], b"b\""].concat(), escaped),
        ] {
            let key = format!("a{}b", char::from(byte));
            let is = key_of(&server, &value).await;
            assert_eq!(is, is_string.then_some(key), "{value:?}");
        }
    }
}
