/**
 * A real HTTP server on loopback that speaks OpenAI's chat protocol, translates by putting a sign before the text (or does another
 * task), counts what it would charge for, and misbehaves on demand.
 */
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { onTestFinished } from "vitest";

/** What goes wrong with a request; `hang`, `cut` and the unusable answers come after the work is done and charged. */
export type Misbehaviour =
  | { readonly kind: "status"; readonly status: number; readonly headers?: Readonly<Record<string, string>>; readonly error?: object }
  | { readonly kind: "hang" | "cut" | "cut in the body" | "stall in the body" }
  | {
      readonly kind: "not JSON" | "no choices" | "prose" | "refusal" | "refusal field" | "refusal in the translation" | "cut off" | "empty";
    }
  /** An unusable answer of any wording. */
  | { readonly kind: "says"; readonly content: string };

/** What the server is asked to do. */
export interface Task {
  readonly read: (messages: readonly { readonly role: string; readonly content: string }[]) => {
    readonly text: string;
    readonly target: string;
  };
  /** The good answer. */
  readonly answer: (text: string, target: string) => string;
}

export interface ChatRequest {
  /** From 1. */
  readonly number: number;
  readonly key: string;
  readonly text: string;
  readonly target: string;
  readonly authorization: string;
  readonly body: Readonly<Record<string, unknown>>;
}

export interface ChatServerOptions {
  /** Repeats the answer to a key it has seen, free of charge; default false. */
  readonly honoursKeys?: boolean;
  readonly latencyMs?: number;
  readonly misbehave?: (request: ChatRequest) => Misbehaviour | null;
  /** Default: translates. */
  readonly task?: Task;
}

export interface ChatServer {
  /** With /v1. */
  readonly url: string;
  /** Every request that came in whole. */
  readonly requests: readonly ChatRequest[];
  /** Answers that were worked out, which is what a service charges for. */
  charged(): number;
  /** Of these, the answers that are no translation. */
  unusable(): number;
  /** Charged answers that do not say what they used. */
  unreported(): number;
  /** Waits until so many requests have come in. */
  received(count: number): Promise<void>;
}

/** What the server's translation of a segment is. */
export function translated(text: string, target: string): string {
  return `⟪${target}⟫${text}`;
}

const codes: Readonly<Record<string, string>> = { Finnish: "fi", German: "de", Spanish: "es", English: "en", Bulgarian: "bg" };

const translation: Task = {
  read: ([system, user]) => {
    const { text } = JSON.parse(user!.content) as { readonly text: string };
    return { text, target: codes[/ into (\w+)\./.exec(system!.content)![1]!]! };
  },
  answer: (text, target) => JSON.stringify({ note: "fields in any order", translation: translated(text, target) }),
};

/** The answer is good, whether or not it arrives. */
const usable: ReadonlySet<string> = new Set(["none", "hang", "cut", "cut in the body", "stall in the body"]);

/** Listens until the test has finished. */
export async function startChatServer(options: ChatServerOptions = {}): Promise<ChatServer> {
  const { task = translation } = options;
  const requests: ChatRequest[] = [];
  const answers = new Map<string, string>();
  let charged = 0;
  let unusable = 0;
  let unreported = 0;
  const server = createServer((incoming, outgoing) => {
    void answer(incoming, outgoing).catch(() => outgoing.destroy());
  });

  async function answer(incoming: IncomingMessage, outgoing: ServerResponse): Promise<void> {
    const request = readRequest(requests.length + 1, incoming, await bodyOf(incoming), task);
    requests.push(request);
    await sleep(options.latencyMs ?? 0);
    const misbehaviour = options.misbehave?.(request) ?? null;
    if (misbehaviour?.kind === "status") {
      const { status, headers = {}, error = { message: `status ${status} on demand` } } = misbehaviour;
      outgoing.writeHead(status, { "content-type": "application/json", ...headers }).end(JSON.stringify({ error }));
      return;
    }
    const known = options.honoursKeys === true ? answers.get(request.key) : undefined;
    const kind = misbehaviour?.kind ?? "none";
    if (known === undefined) charged++;
    if (known === undefined && !usable.has(kind)) unusable++;
    const body = known ?? completion(request, task, misbehaviour);
    if (known === undefined && !body.includes('"usage"')) unreported++;
    answers.set(request.key, body);
    send(outgoing, body, kind);
  }

  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  onTestFinished(() => {
    server.closeAllConnections();
    server.close();
  });
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/v1`,
    requests,
    charged: () => charged,
    unusable: () => unusable,
    unreported: () => unreported,
    received: async (count) => {
      while (requests.length < count) await sleep(1);
    },
  };
}

async function bodyOf(incoming: IncomingMessage): Promise<Readonly<Record<string, unknown>>> {
  const chunks: Buffer[] = [];
  for await (const chunk of incoming) chunks.push(chunk as Buffer);
  return JSON.parse(Buffer.concat(chunks).toString()) as Record<string, unknown>;
}

function readRequest(number: number, { headers }: IncomingMessage, body: ChatRequest["body"], task: Task): ChatRequest {
  const question = task.read(body.messages as Parameters<Task["read"]>[0]);
  return { number, key: String(headers["idempotency-key"]), authorization: String(headers.authorization), ...question, body };
}

/** Fields in another order than OpenAI's, which must not matter. */
function completion({ text, target }: ChatRequest, task: Task, misbehaviour: Misbehaviour | null): string {
  const kind = misbehaviour?.kind ?? "none";
  if (kind === "not JSON") return '{"choices": [';
  if (kind === "no choices") return JSON.stringify({ message: "all is well" });
  const refusal = "I'm sorry, but I can't assist with that.";
  const good = task.answer(text, target);
  const contents: Partial<Record<typeof kind, string>> = {
    ...{ prose: translated(text, target), refusal, "cut off": good.slice(0, -3), empty: '{"translation": " "}' },
    ...(misbehaviour?.kind === "says" && { says: misbehaviour.content }),
    "refusal in the translation": JSON.stringify({ translation: refusal }),
  };
  const isWithheld = kind === "refusal field";
  const message = { refusal: isWithheld ? refusal : null, content: isWithheld ? null : (contents[kind] ?? good), role: "assistant" };
  const usage = { completion_tokens: 7, total_tokens: 18, prompt_tokens: 11 };
  const choices = [{ finish_reason: kind === "cut off" ? "length" : "stop", message, index: 0 }];
  return JSON.stringify({ usage, choices, model: "m", object: "chat.completion" });
}

function send(outgoing: ServerResponse, body: string, kind: Misbehaviour["kind"] | "none"): void {
  if (kind === "hang") return;
  if (kind === "cut") {
    outgoing.destroy();
    return;
  }
  outgoing.writeHead(200, { "content-type": "application/json", "content-length": Buffer.byteLength(body) });
  if (kind === "cut in the body" || kind === "stall in the body") {
    outgoing.write(body.slice(0, 20), () => {
      if (kind === "cut in the body") outgoing.destroy();
    });
    return;
  }
  outgoing.end(body);
}
