//! Which API a request speaks, by its path.

/// The API behind a path below `/v1`. It decides how a body is edited, how usage reads, and whether the request is split into
/// prefill and decode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operation {
    /// `POST /v1/chat/completions`.
    Chat,
    /// `POST /v1/completions`.
    Completions,
    /// `POST /v1/responses`.
    Responses,
    /// Anthropic's `POST /v1/messages`.
    Messages,
    /// `POST /v1/embeddings`.
    Embeddings,
    /// `POST /v1/rerank`.
    Rerank,
    /// `POST /v1/score`.
    Score,
    /// `POST /v1/tokenize`.
    Tokenize,
    /// `POST /v1/detokenize`.
    Detokenize,
    /// `POST /v1/audio/transcriptions`, a form.
    Transcriptions,
    /// `POST /v1/audio/translations`, a form.
    Translations,
    /// `GET /v1/models`.
    Models,
    /// Any other path below `/v1`: passed on as it is.
    Other,
}

/// How a disaggregated ModelServer handles an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Split {
    /// Prefill on one engine, decode on another.
    PrefillDecode,
    /// There is nothing to decode: one prefill engine answers.
    PrefillOnly,
    /// Unknown: a decode engine, which is a whole engine too, answers.
    DecodeOnly,
}

impl Operation {
    /// The operation of a path, given without its query.
    #[must_use]
    pub fn of(path: &str) -> Self {
        match path.strip_suffix('/').unwrap_or(path) {
            "/v1/chat/completions" => Self::Chat,
            "/v1/completions" => Self::Completions,
            "/v1/responses" => Self::Responses,
            "/v1/messages" => Self::Messages,
            "/v1/embeddings" => Self::Embeddings,
            "/v1/rerank" => Self::Rerank,
            "/v1/score" => Self::Score,
            "/v1/tokenize" => Self::Tokenize,
            "/v1/detokenize" => Self::Detokenize,
            "/v1/audio/transcriptions" => Self::Transcriptions,
            "/v1/audio/translations" => Self::Translations,
            "/v1/models" => Self::Models,
            _ => Self::Other,
        }
    }

    /// The `path` label of metrics: known paths, else `other`, so that clients cannot invent series.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Chat => "/v1/chat/completions",
            Self::Completions => "/v1/completions",
            Self::Responses => "/v1/responses",
            Self::Messages => "/v1/messages",
            Self::Embeddings => "/v1/embeddings",
            Self::Rerank => "/v1/rerank",
            Self::Score => "/v1/score",
            Self::Tokenize => "/v1/tokenize",
            Self::Detokenize => "/v1/detokenize",
            Self::Transcriptions => "/v1/audio/transcriptions",
            Self::Translations => "/v1/audio/translations",
            Self::Models => "/v1/models",
            Self::Other => "other",
        }
    }

    /// Whether a stream of this API ends with a usage event when `stream_options.include_usage` asks for it.
    #[must_use]
    pub fn has_usage_event(self) -> bool {
        matches!(self, Self::Chat | Self::Completions)
    }

    /// How a disaggregated ModelServer handles it.
    #[must_use]
    pub fn split(self) -> Split {
        match self {
            Self::Chat | Self::Completions | Self::Responses | Self::Messages => Split::PrefillDecode,
            Self::Embeddings | Self::Rerank | Self::Score | Self::Tokenize | Self::Detokenize => {
                Split::PrefillOnly
            }
            Self::Transcriptions | Self::Translations | Self::Models | Self::Other => Split::DecodeOnly,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_paths_have_their_own_label_and_unknown_ones_share_one() {
        for path in [
            "/v1/chat/completions",
            "/v1/completions",
            "/v1/responses",
            "/v1/messages",
            "/v1/rerank",
        ] {
            assert_eq!(Operation::of(path).label(), path);
            assert_eq!(Operation::of(&format!("{path}/")).label(), path);
        }
        assert_eq!(Operation::of("/v1/chat/completions/../x").label(), "other");
        assert_eq!(Operation::of("/v1/").label(), "other");
    }
}
