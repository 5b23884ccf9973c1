// One call with the official JavaScript client; see ../README.md.

import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const PATIENCE_SECONDS = 120;

// The packages lie in a cache folder, not beside this file.
const installed = createRequire(pathToFileURL(process.env.KTHENA_CLIENT_PACKAGES + "/package.json"));
const OpenAI = installed("openai");

const headers = (found) => Object.fromEntries(found?.entries?.() ?? []);

async function call(request, answer) {
  const options = request.options ?? {};
  const client = new OpenAI({
    baseURL: request.base_url,
    apiKey: request.api_key ?? "unused",
    maxRetries: options.max_retries ?? 0,
    timeout: (options.timeout ?? 60) * 1000,
    defaultHeaders: options.headers,
  });
  const path = request.call.split(".");
  const method = path.pop();
  const resource = path.reduce((at, name) => at[name], client);
  const { data, response } = await resource[method](request.arguments).withResponse();
  answer.headers = headers(response.headers);
  if (!request.arguments?.stream) {
    // A page is a list with a way to the next one; only the list is data.
    answer.data = Array.isArray(data.data) && data.object === "list" ? { object: data.object, data: data.data, ...without(data) } : data;
    return;
  }
  answer.events = [];
  answer.aborted = false;
  for await (const event of data) {
    answer.events.push(event);
    if (answer.events.length === request.abort_after) {
      data.controller.abort();
      answer.aborted = true;
      break;
    }
  }
}

// The plain members of an answer, without what the client keeps for itself.
function without(data) {
  const { options, response, body, client, ...rest } = data;
  return rest;
}

async function main() {
  setTimeout(() => process.exit(124), PATIENCE_SECONDS * 1000).unref();
  let text = "";
  for await (const piece of process.stdin) text += piece;
  const answer = {};
  try {
    await call(JSON.parse(text), answer);
  } catch (error) {
    answer.error = {
      class: error.constructor.name,
      status: error.status ?? null,
      message: error.message,
      body: error.error ?? null,
      headers: headers(error.headers),
    };
  }
  process.stdout.write(JSON.stringify(answer));
}

await main();
