//! Embeddings, scores and reranking: numbers that depend on the texts and on nothing else.

use std::fmt::Write as _;

use serde::Serialize;
use serde_json::Value;

use super::common::{self, hex16};
use super::fields::{Fields, wrong};
use super::{ApiError, Call, Trouble};
use crate::http::date;
use crate::http::respond::{Reply, Responder};
use crate::text::model::{State, Weights};
use crate::text::tokenizer::{Token, encode};

/// Numbers in an embedding, unless the request asks for another number.
const DIMENSIONS: usize = 64;

#[derive(Serialize)]
struct List<'a, T> {
    id: String,
    object: &'static str,
    created: u64,
    model: &'a str,
    data: Vec<T>,
    usage: Usage,
}

#[derive(Serialize)]
struct Embedding {
    index: usize,
    object: &'static str,
    embedding: Numbers,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Numbers {
    Floats(Vec<f32>),
    Base64(String),
}

#[derive(Serialize)]
struct Score {
    index: usize,
    object: &'static str,
    score: f64,
}

#[derive(Serialize)]
struct Usage {
    prompt_tokens: usize,
    total_tokens: usize,
    completion_tokens: u32,
    prompt_tokens_details: Option<()>,
}

#[derive(Serialize)]
struct Ranking<'a> {
    id: String,
    model: &'a str,
    usage: RankingUsage,
    results: Vec<Ranked>,
}

#[derive(Serialize)]
struct RankingUsage {
    prompt_tokens: usize,
    total_tokens: usize,
}

#[derive(Serialize)]
struct Ranked {
    index: usize,
    document: Document,
    relevance_score: f64,
}

#[derive(Serialize)]
struct Document {
    text: String,
    multi_modal: Option<()>,
}

/// `POST /v1/embeddings`.
pub(crate) async fn embeddings(call: &Call<'_>, out: &mut Responder<'_>) -> Result<(), Trouble> {
    let fields = Fields(call.body);
    let served = common::model(call)?;
    let input = fields.required("input")?;
    let inputs = inputs(input)?;
    let tokens = total(call, &inputs)?;
    let dimensions = fields
        .integer("dimensions")?
        .and_then(|n| usize::try_from(n).ok())
        .unwrap_or(DIMENSIONS);
    let base64 = fields.text("encoding_format")? == Some("base64");
    compute(call, tokens).await;
    let weights = Weights::of(call.engine.config.root(), served.adapter.as_deref());
    let data = inputs.iter().enumerate().map(|(index, tokens)| {
        let numbers = vector(State::after(weights, tokens), dimensions.clamp(1, 8192));
        let embedding = if base64 {
            Numbers::Base64(to_base64(&numbers))
        } else {
            Numbers::Floats(numbers)
        };
        Embedding {
            index,
            object: "embedding",
            embedding,
        }
    });
    let list = List {
        id: format!("embd-{}", call.id),
        object: "list",
        created: date::unix_now(),
        model: &served.name,
        data: data.collect(),
        usage: usage(tokens),
    };
    Ok(out.reply(Reply::json(200, &list)).await?)
}

/// `POST /score`.
pub(crate) async fn score(call: &Call<'_>, out: &mut Responder<'_>) -> Result<(), Trouble> {
    let fields = Fields(call.body);
    let served = common::model(call)?;
    let (queries, documents) = (
        texts(fields, "text_1", "queries")?,
        texts(fields, "text_2", "documents")?,
    );
    let mut tokens = 0;
    let mut data = Vec::new();
    for (index, document) in documents.iter().enumerate() {
        let query = queries.get(index).or(queries.first()).map_or("", String::as_str);
        let pair = pair(query, document);
        tokens += pair.len();
        data.push(Score {
            index,
            object: "score",
            score: relevance(call, &pair),
        });
    }
    compute(call, tokens).await;
    let list = List {
        id: format!("score-{}", call.id),
        object: "list",
        created: date::unix_now(),
        model: &served.name,
        data,
        usage: usage(tokens),
    };
    Ok(out.reply(Reply::json(200, &list)).await?)
}

/// `POST /rerank`.
pub(crate) async fn rerank(call: &Call<'_>, out: &mut Responder<'_>) -> Result<(), Trouble> {
    let fields = Fields(call.body);
    let served = common::model(call)?;
    fields.required("query")?;
    fields.required("documents")?;
    let query = fields.text("query")?.unwrap_or_default();
    let documents = fields.texts("documents")?;
    let best = fields
        .integer("top_n")?
        .and_then(|n| usize::try_from(n).ok())
        .filter(|&n| n > 0);
    let mut tokens = 0;
    let mut results: Vec<Ranked> = Vec::new();
    for (index, text) in documents.into_iter().enumerate() {
        let pair = pair(query, &text);
        tokens += pair.len();
        let relevance_score = relevance(call, &pair);
        results.push(Ranked {
            index,
            document: Document {
                text,
                multi_modal: None,
            },
            relevance_score,
        });
    }
    compute(call, tokens).await;
    results.sort_by(|a, b| b.relevance_score.total_cmp(&a.relevance_score));
    results.truncate(best.unwrap_or(usize::MAX));
    let ranking = Ranking {
        id: format!("rerank-{}", hex16()),
        model: &served.name,
        usage: RankingUsage {
            prompt_tokens: tokens,
            total_tokens: tokens,
        },
        results,
    };
    Ok(out.reply(Reply::json(200, &ranking)).await?)
}

/// Takes the time that a prompt of so many tokens takes.
async fn compute(call: &Call<'_>, tokens: usize) {
    let rate = call.engine.config.prefill_tokens_per_second;
    if rate > 0.0 {
        tokio::time::sleep(std::time::Duration::from_secs_f64(tokens as f64 / rate)).await;
    }
}

fn inputs(input: &Value) -> Result<Vec<Vec<Token>>, ApiError> {
    let one = |value: &Value| match value {
        Value::String(text) => Ok(encode(text)),
        Value::Array(ids) => Ok(ids
            .iter()
            .filter_map(|id| Token::try_from(id.as_u64()?).ok())
            .collect()),
        other => Err(wrong(
            "input",
            other,
            "string_type",
            "Input should be a valid string",
        )),
    };
    match input {
        Value::Array(list) if list.iter().all(Value::is_number) => Ok(vec![one(input)?]),
        Value::Array(list) => list.iter().map(one).collect(),
        _ => Ok(vec![one(input)?]),
    }
}

fn total(call: &Call<'_>, inputs: &[Vec<Token>]) -> Result<usize, ApiError> {
    let longest = call.engine.config.max_model_len as usize;
    match inputs.iter().map(Vec::len).find(|&length| length > longest) {
        Some(length) => Err(ApiError::bad(format!(
            "This model's maximum context length is {longest} tokens. However, you requested {length} tokens in the \
             input for embedding generation. Please reduce the length of the input."
        ))),
        None => Ok(inputs.iter().map(Vec::len).sum()),
    }
}

fn texts(fields: Fields<'_>, name: &str, other: &str) -> Result<Vec<String>, ApiError> {
    let name = if fields.get(other).is_some() { other } else { name };
    fields.required(name)?;
    fields.texts(name)
}

fn pair(query: &str, document: &str) -> Vec<Token> {
    encode(&format!("{query}\n{document}"))
}

fn relevance(call: &Call<'_>, pair: &[Token]) -> f64 {
    let state = State::after(Weights::of(call.engine.config.root(), None), pair);
    state.number(7, 1_000_000) as f64 / 1_000_000.0
}

/// A vector of length one.
fn vector(state: State, dimensions: usize) -> Vec<f32> {
    let raw: Vec<f32> = (0..dimensions)
        .map(|n| state.number(100 + n as u64, 20_001) as f32 / 10_000.0 - 1.0)
        .collect();
    let length = raw
        .iter()
        .map(|x| x * x)
        .sum::<f32>()
        .sqrt()
        .max(f32::MIN_POSITIVE);
    raw.into_iter().map(|x| x / length).collect()
}

fn usage(tokens: usize) -> Usage {
    Usage {
        prompt_tokens: tokens,
        total_tokens: tokens,
        completion_tokens: 0,
        prompt_tokens_details: None,
    }
}

fn to_base64(numbers: &[f32]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let packed = group
            .iter()
            .fold(0u32, |packed, &byte| packed << 8 | u32::from(byte))
            << (8 * (3 - group.len()));
        for place in 0..4 {
            let digit = DIGITS[(packed >> (18 - 6 * place) & 63) as usize] as char;
            let _ = write!(text, "{}", if place <= group.len() { digit } else { '=' });
        }
    }
    text
}
