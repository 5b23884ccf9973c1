"""One call with the official Python client; see ../README.md."""

import json
import signal
import sys
from operator import attrgetter

import openai

PATIENCE_SECONDS = 120


def plain(value):
    """What the client made of the answer, as JSON has it."""
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json", exclude_unset=True)
    return value


def call(request, answer):
    options = request.get("options", {})
    client = openai.OpenAI(
        base_url=request["base_url"],
        api_key=request.get("api_key", "unused"),
        max_retries=options.get("max_retries", 0),
        timeout=options.get("timeout", 60),
        default_headers=options.get("headers"),
    )
    resource, _, method = request["call"].rpartition(".")
    arguments = request.get("arguments", {})
    raw = getattr(attrgetter(resource)(client).with_raw_response, method)(**arguments)
    answer["headers"] = dict(raw.headers)
    result = raw.parse()
    if not arguments.get("stream"):
        answer["data"] = plain(result)
        return
    answer["events"] = []
    answer["aborted"] = False
    for event in result:
        answer["events"].append(plain(event))
        if len(answer["events"]) == request.get("abort_after"):
            result.close()
            answer["aborted"] = True
            break


def main():
    signal.alarm(PATIENCE_SECONDS)
    answer = {}
    try:
        call(json.load(sys.stdin), answer)
    except openai.APIStatusError as error:
        answer["error"] = {
            "class": type(error).__name__,
            "status": error.status_code,
            "message": error.message,
            "body": error.body,
            "headers": dict(error.response.headers),
        }
    except openai.OpenAIError as error:
        answer["error"] = {
            "class": type(error).__name__,
            "status": None,
            "message": str(error),
            "body": getattr(error, "body", None),
            "headers": {},
        }
    except Exception as error:  # the client lets some transport errors through while it streams
        answer["error"] = {
            "class": type(error).__name__,
            "status": None,
            "message": str(error),
            "body": None,
            "headers": {},
        }
    json.dump(answer, sys.stdout)


main()
