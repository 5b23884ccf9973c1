use proptest::prelude::*;

use super::*;

/// Decodes what arrives in these pieces; the body, what is left behind it, and whether it is complete.
fn decode(mut decoder: Decoder, pieces: &[&[u8]]) -> Result<(Vec<u8>, Vec<u8>, bool), Error> {
    let (mut input, mut body) = (BytesMut::new(), Vec::new());
    for piece in pieces {
        input.extend_from_slice(piece);
        let mut out = BytesMut::new();
        decoder.decode(&mut input, &mut out)?;
        body.extend_from_slice(&out);
    }
    Ok((body, input.to_vec(), decoder.is_done()))
}

fn whole(decoder: Decoder, text: &str) -> Result<(String, String, bool), Error> {
    let (body, rest, done) = decode(decoder, &[text.as_bytes()])?;
    let text = |bytes| String::from_utf8(bytes).expect("text");
    Ok((text(body), text(rest), done))
}

fn is(body: &str, rest: &str, done: bool) -> (String, String, bool) {
    (body.to_owned(), rest.to_owned(), done)
}

#[test]
fn chunks_are_joined() {
    let chunked = |text| whole(Decoder::chunked(), text).unwrap();
    assert_eq!(
        chunked("3\r\nabc\r\nA;x=\"y\"\r\n0123456789\r\n0\r\n\r\n"),
        is("abc0123456789", "", true)
    );
    assert_eq!(
        chunked("1 \r\na\r\n0\r\nExpires: never\r\n\r\nHTTP"),
        is("a", "HTTP", true)
    );
    assert_eq!(chunked("3\r\nab"), is("ab", "", false));
    assert_eq!(chunked("0\r\n"), is("", "", false));
}

#[test]
fn chunks_that_lie_are_refused() {
    for text in [
        "x\r\n",
        "\r\n",
        "-1\r\n",
        "1\r\nab\r\n",
        "1\na\r\n",
        "11111111111111111\r\n",
        "0x1\r\na\r\n",
    ] {
        assert!(
            matches!(whole(Decoder::chunked(), text), Err(Error::Chunk)),
            "{text:?}"
        );
    }
    let endless = "1;".to_owned() + &"x".repeat(20_000);
    assert!(matches!(whole(Decoder::chunked(), &endless), Err(Error::Chunk)));
}

#[test]
fn a_length_ends_a_body() {
    assert_eq!(whole(Decoder::length(3), "abcd").unwrap(), is("abc", "d", true));
    assert_eq!(whole(Decoder::length(3), "ab").unwrap(), is("ab", "", false));
    assert_eq!(whole(Decoder::length(0), "a").unwrap(), is("", "a", true));
    assert_eq!(whole(Decoder::empty(), "a").unwrap(), is("", "a", true));
}

#[test]
fn only_a_body_without_an_end_of_its_own_may_end_with_the_connection() {
    let mut open = Decoder::until_close();
    assert!(open.close().is_ok() && open.is_done() && !open.is_framed_end());
    let mut done = Decoder::length(0);
    assert!(done.close().is_ok() && done.is_framed_end());
    for mut cut in [Decoder::length(1), Decoder::chunked()] {
        assert!(matches!(cut.close(), Err(Error::Closed)));
    }
}

fn head(text: &str) -> Result<(Box<ResponseHeader>, Decoder), Error> {
    let text = text.replace('\n', "\r\n") + "\r\n";
    let (head, length) = parse(text.as_bytes())?.expect("a whole head");
    assert_eq!(length, text.len());
    framing(head, false)
}

#[test]
fn the_head_says_where_the_body_ends() {
    for (lines, expected) in [
        ("", Decoder::until_close()),
        ("Content-Length: 7\n", Decoder::length(7)),
        ("Content-Length: 7, 7\nContent-Length: 7\n", Decoder::length(7)),
        ("Transfer-Encoding: chunked\n", Decoder::chunked()),
        (
            "Content-Length: 7\nTransfer-Encoding: gzip, Chunked\n",
            Decoder::chunked(),
        ),
        ("Transfer-Encoding: chunked, gzip\n", Decoder::until_close()),
    ] {
        let (head, decoder) = head(&format!("HTTP/1.1 200 OK\n{lines}")).unwrap();
        assert_eq!(decoder, expected, "{lines}");
        let both =
            head.headers.contains_key("content-length") && head.headers.contains_key("transfer-encoding");
        assert!(!both, "{lines}");
    }
    for status in [204, 304] {
        assert_eq!(
            head(&format!("HTTP/1.1 {status} x\nContent-Length: 7\n"))
                .unwrap()
                .1,
            Decoder::empty()
        );
    }
    for lines in [
        "Content-Length: x\n",
        "Content-Length: 1, 2\n",
        "Content-Length: 1\nContent-Length: 2\n",
        "Content-Length: +1\n",
        "Content-Length:\n",
    ] {
        assert!(
            matches!(head(&format!("HTTP/1.1 200 OK\n{lines}")), Err(Error::Length)),
            "{lines}"
        );
    }
}

#[test]
fn heads_are_read_as_they_are_written_in_the_wild() {
    let (found, _) =
        head("HTTP/1.1 200\nServer : uvicorn\nX-Folded: a\n  b\nX-Latin: \u{e9}\nX-Twice: 1\nx-twice: 2\n")
            .unwrap();
    assert_eq!(found.headers["server"], "uvicorn");
    assert_eq!(found.headers["x-folded"], "a b");
    assert_eq!(found.headers.get_all("x-twice").iter().count(), 2);
    assert_eq!(found.headers["x-latin"].as_bytes(), "\u{e9}".as_bytes());
    for text in [
        "HTTP/2 200\n",
        "HTP/1.1 200 OK\n",
        "HTTP/1.1 20 OK\n",
        "HTTP/1.1 200 OK\nno colon\n",
    ] {
        assert!(head(text).is_err(), "{text}");
    }
    for partial in ["", "H", "HTTP/1.1 200 OK\r\n", "HTTP/1.1 200 OK\r\nA: b\r\n"] {
        assert!(parse(partial.as_bytes()).unwrap().is_none(), "{partial}");
    }
}

#[test]
fn connections_are_kept_as_the_engine_says() {
    for (text, kept) in [
        ("HTTP/1.1 200 OK\n", true),
        ("HTTP/1.1 200 OK\nConnection: close\n", false),
        ("HTTP/1.1 200 OK\nConnection: x, Close\n", false),
        ("HTTP/1.0 200 OK\n", false),
        ("HTTP/1.0 200 OK\nConnection: Keep-Alive\n", true),
    ] {
        assert_eq!(keeps_alive(&head(text).unwrap().0), kept, "{text}");
    }
}

proptest! {
    #[test]
    fn it_does_not_matter_how_bytes_arrive(chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..40), 0..8), cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12)) {
        let mut wire = Vec::new();
        for chunk in &chunks {
            wire.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
            wire.extend_from_slice(chunk);
            wire.extend_from_slice(b"\r\n");
        }
        wire.extend_from_slice(b"0\r\n\r\nrest");
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(wire.len())).collect();
        cuts.extend([0, wire.len()]);
        cuts.sort_unstable();
        let pieces: Vec<&[u8]> = cuts.windows(2).map(|pair| &wire[pair[0]..pair[1]]).collect();
        let (body, rest, done) = decode(Decoder::chunked(), &pieces).unwrap();
        prop_assert_eq!((body, rest, done), (chunks.concat(), b"rest".to_vec(), true));
    }

    #[test]
    fn nothing_panics(text in prop::collection::vec(any::<u8>(), 0..200)) {
        let _any = (parse(&text).is_ok(), decode(Decoder::chunked(), &[&text]).is_ok());
    }
}
