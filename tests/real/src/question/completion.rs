//! `/v1/completions`

use serde_json::{Value, json};

use super::{Expected, Question, RENAMED, Run, streamed, with};
use crate::{engine::Library, wire::Request};

const PATH: &str = "/v1/completions";

/// A greedy completion of a text of about two blocks.
fn body(run: Run, name: &str, more: Value) -> Value {
    with(
        json!({"model": "tiny", "prompt": run.text(name, 40), "max_tokens": 12, "temperature": 0}),
        more,
    )
}

pub(super) fn all(run: Run) -> Vec<Question> {
    let ask =
        |name: &'static str, more: Value| Question::one(name, Request::post(PATH, &body(run, name, more)));
    let stream = |name: &'static str, more: Value| {
        Question::one(name, Request::post(PATH, &streamed(body(run, name, more))))
    };
    let twice = body(run, "completion asked twice", json!({}));
    let all_tokens: Vec<usize> = (0..1024).collect();
    vec![
        ask("completion", json!({})),
        stream("completion, streamed", json!({})),
        stream(
            "completion, streamed, usage",
            json!({"stream_options": {"include_usage": true}}),
        ),
        stream(
            "completion, streamed, usage in each event",
            json!({"stream_options": {"include_usage": true, "continuous_usage_stats": true}}),
        ),
        stream(
            "completion, streamed, no usage",
            json!({"stream_options": {"include_usage": false}}),
        ),
        ask("completion of one token", json!({"max_tokens": 1})),
        ask(
            "completion of a short prompt",
            json!({"prompt": format!("{}!", run.name)}),
        ),
        ask(
            "completion of a long prompt",
            json!({"prompt": run.text("completion of a long prompt", 900)}),
        ),
        ask(
            "completion of token ids",
            json!({"prompt": run.tokens("ids", 50), "return_token_ids": true}),
        ),
        stream(
            "completion of token ids, streamed",
            json!({"prompt": run.tokens("ids in pieces", 70), "return_token_ids": true}),
        ),
        ask(
            "completion of a list of one prompt",
            json!({"prompt": [run.text("list", 40)]}),
        ),
        ask(
            "completion of a whole block",
            json!({"prompt": run.tokens("block", 64)}),
        ),
        ask(
            "completion, long answer",
            json!({"max_tokens": 200, "ignore_eos": true}),
        ),
        stream(
            "completion, long answer, streamed",
            json!({"max_tokens": 300, "ignore_eos": true}),
        ),
        ask("completion with logprobs", json!({"logprobs": 3})),
        stream("completion with logprobs, streamed", json!({"logprobs": 2})),
        ask("completion with echo", json!({"echo": true})),
        ask(
            "completion, sampled",
            json!({"temperature": 0.9, "top_p": 0.95, "top_k": 40, "seed": 5, "max_tokens": 24}),
        ),
        ask(
            "completion with penalties",
            json!({"repetition_penalty": 1.3, "presence_penalty": 0.5, "max_tokens": 24}),
        ),
        ask(
            "completion with a stop text",
            json!({"stop": ["e", "\n"], "max_tokens": 60}),
        ),
        ask(
            "completion with a stop text in it",
            json!({"stop": ["a"], "include_stop_str_in_output": true, "max_tokens": 60}),
        ),
        ask(
            "completion that any token stops",
            json!({"stop_token_ids": all_tokens}),
        ),
        ask(
            "completion with min_tokens",
            json!({"min_tokens": 8, "max_tokens": 16}),
        ),
        stream(
            "completion with min_tokens, streamed",
            json!({"min_tokens": 8, "max_tokens": 16, "stop": ["e"]}),
        ),
        ask(
            "completion with logit_bias",
            json!({"logit_bias": {"300": 100, "301": 99}}),
        ),
        ask(
            "completion with a schema",
            json!({"structured_outputs": {"choice": ["yes", "no"]}, "max_tokens": 8}),
        ),
        ask("completion with cache_salt", json!({"cache_salt": "tenant"})),
        ask("completion by an adapter", json!({"model": "tiny-lora"})),
        ask("completion by a renamed model", json!({"model": RENAMED})),
        ask(
            "completion with a hand-over of the client's own",
            json!({"kv_transfer_params": stolen()}),
        ),
        Question::many(
            "completion asked twice",
            vec![Request::post(PATH, &twice), Request::post(PATH, &twice)],
        ),
        named(run),
        spaced(run),
        several(run),
        over_at_once(run),
        of_the_prompt(run).expecting(Expected::Alone(
            "a prompt's log probabilities exist only where the prompt is computed",
        )),
        several_answers(run).expecting(Expected::Alone(
            "an engine gives a prompt's cache up after one answer has read it",
        )),
        batch(run).expecting(Expected::Alone(
            "an engine hands over the cache of one prompt a request",
        )),
    ]
}

/// The first token is the end of the turn.
fn over_at_once(run: Run) -> Question {
    let name = "completion that is over at once";
    let body = body(run, name, json!({"logit_bias": {"2": 100}}));
    let question = Question::one(name, Request::post(PATH, &body));
    match run.library {
        Library::Nixl => question,
        Library::Mooncake => question.expecting(Expected::Alone(
            "a Mooncake prefill that ends by itself hands nothing over",
        )),
    }
}

fn of_the_prompt(run: Run) -> Question {
    let wanted = [
        json!({"prompt_logprobs": 1}),
        json!({"echo": true, "logprobs": 1}),
    ];
    let requests =
        wanted.map(|more| Request::post(PATH, &body(run, "log probabilities of the prompt", more)));
    Question::many("log probabilities of the prompt", requests.into())
}

fn several_answers(run: Run) -> Question {
    let sampled = body(
        run,
        "several answers",
        json!({"n": 3, "temperature": 0.8, "seed": 11}),
    );
    let mut chat = sampled.clone();
    let prompt = chat.as_object_mut().and_then(|members| members.remove("prompt"));
    chat["messages"] = json!([{"role": "user", "content": prompt}]);
    let both = [(PATH, sampled), ("/v1/chat/completions", chat)];
    let requests = both.into_iter().flat_map(|(path, body)| {
        let usage = json!({"stream": true, "stream_options": {"include_usage": true}});
        [body.clone(), with(body, usage)].map(|body| Request::post(path, &body))
    });
    Question::many("several answers to one prompt", requests.collect())
}

/// What would end a decode engine that took it: it waits for an engine and a request that nobody knows.
fn stolen() -> Value {
    json!({
        "do_remote_prefill": true, "do_remote_decode": false, "remote_block_ids": [[1, 2]], "tp_size": 1,
        "remote_engine_id": "00000000-0000-0000-0000-000000000000", "remote_host": "127.0.0.1", "remote_port": 1,
    })
}

/// The client's id of a request names the answer.
fn named(run: Run) -> Question {
    let mut request = Request::post(PATH, &body(run, "completion with an id", json!({})));
    request
        .headers
        .push(("X-Request-Id".to_owned(), "kept-1".to_owned()));
    Question::one("completion with an id", request)
}

/// JSON as nobody writes it.
fn spaced(run: Run) -> Question {
    let name = "completion in odd JSON";
    let prompt = run.text(name, 40).replace(' ', "\\u0020");
    let text = format!(
        "\n{{ \"temperature\" :0.0e1,\t\"\\u006dax_tokens\": 9 , \"prompt\":\r\n\"{prompt} \\ud83d\\ude00 \u{e9}\", \
         \"unknown\": [1.10, -0], \"model\":\"tiny\" , \"stop\":null }} "
    );
    Question::one(name, Request::raw(PATH, text.into_bytes()))
}

/// Eight clients at once, which is what the engines run at once.
fn several(run: Run) -> Question {
    let requests = (0..8).map(|n| {
        let name = format!("{n} of eight at once");
        let body = body(run, &name, json!({"max_tokens": 8 + 4 * n}));
        Request::post(PATH, &if n % 2 == 0 { body } else { streamed(body) })
    });
    Question::at_once("eight completions at once", requests.collect())
}

fn batch(run: Run) -> Question {
    let texts = json!({"prompt": [run.text("one of a batch", 40), run.text("other of a batch", 40)]});
    let prompts = [
        run.tokens("ids of a batch", 40),
        run.tokens("more ids of a batch", 50),
    ];
    let tokens = json!({"prompt": prompts, "n": 2, "temperature": 0.7, "seed": 2});
    let requests = [texts, tokens].map(|more| body(run, "batch", more));
    Question::many(
        "completions of several prompts",
        requests
            .into_iter()
            .flat_map(|body| [body.clone(), streamed(body)])
            .map(|body| Request::post(PATH, &body))
            .collect(),
    )
}
