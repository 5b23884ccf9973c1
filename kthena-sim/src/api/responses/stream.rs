//! A response as a stream of events.

use futures::StreamExt;
use serde::Serialize;

use super::{Answer, Ended, Output, Part, Response};
use crate::api::{Trouble, data};
use crate::http::respond::{Cut, Responder};

/// An event; which members it has depends on its type.
#[derive(Serialize, Default)]
struct Event<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    response: Option<Answer<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content_index: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    delta: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    item: Option<Output<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    item_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    logprobs: Option<[(); 0]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    output_index: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    part: Option<Part<'a>>,
    sequence_number: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<&'a str>,
    r#type: &'static str,
}

/// Numbers the events of a stream.
struct Numbered<'a, 'b> {
    out: &'a mut Responder<'b>,
    next: u32,
}

pub(super) async fn run(
    response: &Response<'_>,
    out: &mut Responder<'_>,
    most: usize,
) -> Result<(), Trouble> {
    out.start_events().await?;
    let mut to = Numbered { out, next: 0 };
    for r#type in ["response.created", "response.in_progress"] {
        to.send(Event {
            response: Some(response.answer(None)),
            r#type,
            ..Event::default()
        })
        .await?;
    }
    let mut items = response.items(most);
    let mut text = String::new();
    let mut ended = None;
    let mut opened = false;
    while let Some(item) = items.next().await {
        // The real engine has no event for a failure here: the body breaks off.
        let Ok(item) = item else {
            return Err(Cut::Close.into());
        };
        if !opened {
            opened = true;
            open(response, &mut to).await?;
        }
        text.push_str(&item.step.text);
        if !item.step.text.is_empty() {
            let event = Event {
                delta: Some(&item.step.text),
                logprobs: Some([]),
                ..of_text(response)
            };
            to.send(Event {
                r#type: "response.output_text.delta",
                ..event
            })
            .await?;
        }
        ended = Some(Ended::of(item));
    }
    let Some(ended) = ended.map(|ended| Ended { text, ..ended }) else {
        return Ok(());
    };
    close(response, &ended, &mut to).await?;
    let event = Event {
        response: Some(response.answer(Some(&ended))),
        ..Event::default()
    };
    to.send(Event {
        r#type: "response.completed",
        ..event
    })
    .await?;
    to.out.finish().await?;
    response.job.delivered();
    Ok(())
}

async fn open(response: &Response<'_>, to: &mut Numbered<'_, '_>) -> Result<(), Trouble> {
    let item = response.output("", "in_progress");
    let event = Event {
        item: Some(item),
        output_index: Some(0),
        ..Event::default()
    };
    to.send(Event {
        r#type: "response.output_item.added",
        ..event
    })
    .await?;
    let event = Event {
        part: Some(part("", Some([]))),
        ..of_text(response)
    };
    to.send(Event {
        r#type: "response.content_part.added",
        ..event
    })
    .await
}

async fn close(response: &Response<'_>, ended: &Ended, to: &mut Numbered<'_, '_>) -> Result<(), Trouble> {
    let event = Event {
        logprobs: Some([]),
        text: Some(&ended.text),
        ..of_text(response)
    };
    to.send(Event {
        r#type: "response.output_text.done",
        ..event
    })
    .await?;
    let event = Event {
        part: Some(part(&ended.text, None)),
        ..of_text(response)
    };
    to.send(Event {
        r#type: "response.content_part.done",
        ..event
    })
    .await?;
    let item = response.output(&ended.text, "completed");
    let event = Event {
        item: Some(item),
        output_index: Some(0),
        ..Event::default()
    };
    to.send(Event {
        r#type: "response.output_item.done",
        ..event
    })
    .await
}

fn of_text<'a>(response: &'a Response<'_>) -> Event<'a> {
    Event {
        content_index: Some(0),
        item_id: Some(&response.message_id),
        output_index: Some(0),
        ..Event::default()
    }
}

fn part(text: &str, logprobs: Option<[(); 0]>) -> Part<'_> {
    Part {
        annotations: [],
        text,
        r#type: "output_text",
        logprobs,
    }
}

impl Numbered<'_, '_> {
    async fn send(&mut self, event: Event<'_>) -> Result<(), Trouble> {
        let event = Event {
            sequence_number: self.next,
            ..event
        };
        self.next += 1;
        let mut named = format!("event: {}\n", event.r#type).into_bytes();
        named.extend_from_slice(&data(&event));
        Ok(self.out.event(&named).await?)
    }
}
