//! Token counts of an answer.

use serde::Serialize;

/// Usage in the order that vLLM writes it.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Usage {
    prompt_tokens: u32,
    total_tokens: u32,
    completion_tokens: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    prompt_tokens_details: Option<Option<Details>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    completion_tokens_details: Option<Option<()>>,
}

/// Where the prompt's tokens came from.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub(crate) struct Details {
    cached_tokens: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    created_cache_tokens: Option<Option<u32>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    multimodal_tokens: Option<Option<u32>>,
}

/// What an answer has cost so far.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Spent {
    pub(crate) prompt: u32,
    pub(crate) completion: u32,
    pub(crate) cached: u32,
    /// Tokens of newly cached blocks; only chat tells.
    pub(crate) created: Option<u32>,
}

impl Spent {
    /// Usage inside a chunk, without details.
    pub(crate) fn running(self) -> Usage {
        Usage {
            prompt_tokens: self.prompt,
            total_tokens: self.prompt + self.completion,
            completion_tokens: self.completion,
            prompt_tokens_details: None,
            completion_tokens_details: None,
        }
    }

    /// Usage inside a chunk of a chat.
    pub(crate) fn running_chat(self) -> Usage {
        Usage {
            completion_tokens_details: Some(None),
            ..self.running()
        }
    }

    /// Usage in a stream's last chunk.
    pub(crate) fn last(self, details: bool) -> Usage {
        let created_cache_tokens = self.created.map(Some);
        let details = details.then_some(Some(Details {
            cached_tokens: self.cached,
            created_cache_tokens,
            multimodal_tokens: None,
        }));
        Usage {
            prompt_tokens_details: details,
            ..self.running()
        }
    }

    /// Usage of a whole answer.
    pub(crate) fn whole(self, details: bool) -> Usage {
        let details = details.then_some(Details {
            cached_tokens: self.cached,
            created_cache_tokens: Some(self.created),
            multimodal_tokens: Some(None),
        });
        Usage {
            prompt_tokens_details: Some(details),
            completion_tokens_details: Some(None),
            ..self.running()
        }
    }
}
