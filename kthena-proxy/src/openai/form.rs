//! Reading one field of a form (`multipart/form-data`, RFC 7578), as the audio APIs send them.

use memchr::memmem;

/// Why a form cannot be read.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Error {
    /// The boundary that the head announces does not occur.
    #[error("the form does not have the boundary that its Content-Type names")]
    NoBoundary,
    /// A part has no end.
    #[error("the form ends in the midst of a part")]
    Cut,
    /// The field is no text.
    #[error("the form's {0:?} is not UTF-8 text")]
    NotText(String),
}

/// The boundary of a form, if this `Content-Type` is one.
#[must_use]
pub fn boundary(content_type: &[u8]) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(content_type).ok()?;
    let (media_type, parameters) = text.split_once(';')?;
    if !media_type.trim().eq_ignore_ascii_case("multipart/form-data") {
        return None;
    }
    parameter(parameters, "boundary")
        .map(String::into_bytes)
        .filter(|boundary| !boundary.is_empty())
}

/// The value of a field; `None` where the form has none of that name.
pub fn field(body: &[u8], boundary: &[u8], name: &str) -> Result<Option<String>, Error> {
    let delimiter = [b"--", boundary].concat();
    let begin = memmem::find(body, &delimiter).ok_or(Error::NoBoundary)?;
    let mut rest = &body[begin + delimiter.len()..];
    let next = [b"\r\n", delimiter.as_slice()].concat();
    let finder = memmem::Finder::new(&next);
    while !rest.starts_with(b"--") {
        let head_end = memmem::find(rest, b"\r\n\r\n").ok_or(Error::Cut)?;
        let (head, content) = (&rest[..head_end], &rest[head_end + 4..]);
        // A part without content has its delimiter right behind its head.
        let end = finder.find(&rest[head_end + 2..]).ok_or(Error::Cut)?;
        let content = &content[..end.saturating_sub(2)];
        if part_name(head).as_deref() == Some(name) {
            let text = std::str::from_utf8(content).map_err(|_not_text| Error::NotText(name.to_owned()))?;
            return Ok(Some(text.to_owned()));
        }
        rest = &rest[head_end + 2 + end + next.len()..];
    }
    Ok(None)
}

fn part_name(head: &[u8]) -> Option<String> {
    std::str::from_utf8(head).ok()?.lines().find_map(|line| {
        let (header, value) = line.split_once(':')?;
        let (_, parameters) = value.split_once(';')?;
        header
            .trim()
            .eq_ignore_ascii_case("content-disposition")
            .then(|| parameter(parameters, "name"))?
    })
}

/// A parameter of a header, with or without quotes.
fn parameter(parameters: &str, wanted: &str) -> Option<String> {
    let mut rest = parameters;
    loop {
        let (name, after) = rest.split_once('=')?;
        let (value, behind) = match after.trim_start().strip_prefix('"') {
            Some(quoted) => quoted.split_once('"')?,
            None => after
                .split_once(';')
                .map_or((after, ""), |(value, _)| (value, &after[value.len()..])),
        };
        if name.trim().eq_ignore_ascii_case(wanted) {
            return Some(value.trim().to_owned());
        }
        rest = behind.trim_start().strip_prefix(';').unwrap_or(behind);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FORM: &str = "--b0\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.wav\"\r\nContent-Type: audio/wav\r\n\r\n\
        RIFF\r\n--b\r\n\x00\r\n--b0\r\ncontent-disposition: form-data; name=model\r\n\r\nwhisper-1\r\n--b0\r\n\
        Content-Disposition: form-data; name=\"empty\"\r\n\r\n\r\n--b0--\r\n";

    #[test]
    fn the_boundary_comes_from_the_content_type() {
        assert_eq!(
            boundary(b"multipart/form-data; boundary=b0").as_deref(),
            Some(&b"b0"[..])
        );
        assert_eq!(
            boundary(b"Multipart/Form-Data; charset=utf-8; Boundary=\"b 0\"").as_deref(),
            Some(&b"b 0"[..])
        );
        for other in [
            &b"application/json"[..],
            b"multipart/form-data",
            b"multipart/mixed; boundary=x",
            b"\xff",
        ] {
            assert_eq!(boundary(other), None);
        }
    }

    #[test]
    fn a_field_is_found_among_files() {
        assert_eq!(
            field(FORM.as_bytes(), b"b0", "model"),
            Ok(Some("whisper-1".into()))
        );
        assert_eq!(field(FORM.as_bytes(), b"b0", "empty"), Ok(Some(String::new())));
        assert_eq!(field(FORM.as_bytes(), b"b0", "absent"), Ok(None));
    }

    #[test]
    fn a_broken_form_is_an_error() {
        assert_eq!(field(FORM.as_bytes(), b"other", "model"), Err(Error::NoBoundary));
        for end in 0..FORM.len() {
            // Any cut is either found out or comes after the field.
            if let Ok(found) = field(&FORM.as_bytes()[..end], b"b0", "model") {
                assert_eq!(found.as_deref(), Some("whisper-1"));
            }
        }
    }
}
