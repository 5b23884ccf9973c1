//! A small fixed tokenizer: special tokens, bytes, letter pairs and words.
//!
//! Every text has exactly one tokenization and every token list detokenizes to the text it came from. The
//! ids never change, so a token list means the same on every engine.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::LazyLock;

use super::words::WORDS;

/// A token id.
pub(crate) type Token = u32;

/// Opens a chat message.
pub(crate) const IM_START: Token = 1;
/// Closes a chat message; ends an answer as well.
pub(crate) const IM_END: Token = 2;
/// How many ids there are; the highest valid one is one less. Ids without a text of their own are reserved.
pub(crate) const VOCABULARY: Token = 4096;

const SPECIALS: [&str; 3] = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"];
const FIRST_BYTE: Token = 3;
const LONGEST_PIECE: usize = 12;

static TABLE: LazyLock<Table> = LazyLock::new(Table::build);

/// The vocabulary, both ways.
struct Table {
    pieces: Vec<Vec<u8>>,
    ids: HashMap<Vec<u8>, Token>,
    /// Ids of words that read well after other words: what the model chooses from.
    spoken: Vec<Token>,
}

/// Turns text into tokens. Special tokens are not recognised in text, as an engine does not for prompts.
pub(crate) fn encode(text: &str) -> Vec<Token> {
    let mut tokens = Vec::with_capacity(text.len() / 3 + 1);
    encode_into(text, &mut tokens);
    tokens
}

/// Appends the tokens of `text` to `tokens`.
pub(crate) fn encode_into(text: &str, tokens: &mut Vec<Token>) {
    let bytes = text.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        let end = word_end(bytes, at);
        while at < end {
            let (id, len) = TABLE.longest(&bytes[at..end]);
            tokens.push(id);
            at += len;
        }
    }
}

/// The bytes a token stands for; reserved and unknown ids have a visible stand-in.
pub(crate) fn piece(token: Token) -> Cow<'static, [u8]> {
    match TABLE.pieces.get(token as usize) {
        Some(piece) => Cow::Borrowed(piece),
        None => Cow::Owned(format!("<t{token}>").into_bytes()),
    }
}

/// The text of a token list; bytes that are no UTF-8 become replacement characters.
pub(crate) fn decode(tokens: &[Token]) -> String {
    let mut bytes = Vec::with_capacity(tokens.len() * 4);
    for &token in tokens {
        bytes.extend_from_slice(&piece(token));
    }
    String::from_utf8(bytes).unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned())
}

/// A token as `/tokenize` shows it: a leading space is drawn as `Ġ`, a line feed as `Ċ`.
pub(crate) fn token_string(token: Token) -> String {
    String::from_utf8_lossy(&piece(token))
        .replace(' ', "Ġ")
        .replace('\n', "Ċ")
}

/// How many words the model may choose from.
pub(crate) fn spoken_len() -> usize {
    TABLE.spoken.len()
}

/// The `n`-th word the model may choose.
pub(crate) fn spoken(n: usize) -> Token {
    TABLE.spoken[n % TABLE.spoken.len()]
}

/// End of the word (with the space before it) that begins at `at`; other characters stand alone.
fn word_end(bytes: &[u8], at: usize) -> usize {
    let start = if bytes[at] == b' ' { at + 1 } else { at };
    let mut end = start;
    while end < bytes.len() && bytes[end].is_ascii_alphanumeric() {
        end += 1;
    }
    end.max(at + 1)
}

impl Table {
    fn build() -> Self {
        let mut table = Self {
            pieces: Vec::new(),
            ids: HashMap::new(),
            spoken: Vec::new(),
        };
        for special in SPECIALS {
            table.pieces.push(special.as_bytes().to_vec());
        }
        for byte in 0..=u8::MAX {
            table.add(vec![byte]);
        }
        for first in b'a'..=b'z' {
            for second in b'a'..=b'z' {
                table.add(vec![first, second]);
            }
        }
        for word in WORDS.split_whitespace() {
            table.add(word.as_bytes().to_vec());
            if let Some(id) = table.add(format!(" {word}").into_bytes())
                && word.len() > 1
            {
                table.spoken.push(id);
            }
        }
        debug_assert!(table.pieces.len() < VOCABULARY as usize);
        table
    }

    fn add(&mut self, piece: Vec<u8>) -> Option<Token> {
        if self.ids.contains_key(&piece) {
            return None;
        }
        let id = Token::try_from(self.pieces.len()).ok()?;
        self.ids.insert(piece.clone(), id);
        self.pieces.push(piece);
        Some(id)
    }

    fn longest(&self, bytes: &[u8]) -> (Token, usize) {
        let most = bytes.len().min(LONGEST_PIECE);
        for len in (2..=most).rev() {
            if let Some(&id) = self.ids.get(&bytes[..len]) {
                return (id, len);
            }
        }
        (FIRST_BYTE + Token::from(bytes[0]), 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_text_survives_the_round_trip() {
        for text in [
            "",
            "hello world",
            "def main(self):\n  return 1",
            "straße 東京 \u{1F600}",
            " two  spaces ",
            "xqzzy",
        ] {
            assert_eq!(decode(&encode(text)), text);
        }
    }

    #[test]
    fn words_are_one_token_with_their_space() {
        assert_eq!(encode("the water").len(), 2);
        assert_eq!(encode("hello").len(), 1);
    }

    #[test]
    fn ids_are_stable() {
        assert_eq!(encode("\n"), [FIRST_BYTE + 10]);
        assert_eq!(encode("aa"), [FIRST_BYTE + 256]);
        assert_eq!(encode("the the"), [935, 936]);
    }

    #[test]
    fn ids_without_a_text_still_show() {
        assert_eq!(decode(&[VOCABULARY - 1]), "<t4095>");
    }
}
