/** OpenAI's Batch API: half the price, answers within 24 hours. */
import { createHash } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import type OpenAI from "openai";
import { PolypacaError } from "../errors.js";
import { type ChatAnswer, chatAnswerOf, excerpt } from "./chat-completion.js";
import { type ChatBody, hopelessReason, type OpenAiEndpoint, openAiClient, throwFault } from "./openai-client.js";
import { type RequestContext, RequestFailure } from "./request.js";
import { BadAnswer, withRetries, withTimeout } from "./retry.js";

export interface BatchSettings extends OpenAiEndpoint {
  /** Between two looks at the batches under way. */
  readonly pollMs: number;
  /** Requests of one batch. OpenAI takes at most 50,000, and files of at most 200 MB, which those stay under. */
  readonly batchSize: number;
}

export interface BatchRequest {
  readonly idempotencyKey: string;
  /** Made when it is sent: those of a whole run take much memory. */
  readonly body: () => ChatBody;
}

/** What became of one request. */
export interface BatchResult<Answer> {
  readonly idempotencyKey: string;
  readonly outcome: Answer | RequestFailure;
}

export interface BatchTask<Answer> {
  /** Tells the batches of this run from others of the account. */
  readonly scope: string;
  /** @throws BadAnswer where the answer is of no use */
  readonly read: (answer: ChatAnswer, idempotencyKey: string) => Answer;
}

const who = "openai";

/**
 * Finds what was submitted before, submits the rest, and returns without waiting for answers.
 *
 * @throws PolypacaError `CANCELLED`, `USAGE` where no request can succeed, `IO`
 */
export async function submitBatches<Answer>(
  requests: readonly BatchRequest[],
  task: BatchTask<Answer>,
  settings: BatchSettings,
  context: RequestContext,
): Promise<AsyncIterable<BatchResult<Answer>>> {
  return await new BatchRun(await openAiClient(settings), settings, task, context).submit(requests);
}

/** Metadata of a batch: the run it belongs to, and the hash of its requests' keys. */
const scopeField = "polypaca_scope";
const keyField = "polypaca_key";

type Batch = OpenAI.Batches.Batch;

/**
 * The batches of one run. What is under way or done is found through the list of batches and their metadata, not through
 * local notes, so that a process killed at any moment between upload and answer pays for nothing twice.
 */
class BatchRun<Answer> {
  readonly #client: OpenAI;
  readonly #settings: BatchSettings;
  readonly #task: BatchTask<Answer>;
  readonly #context: RequestContext;
  readonly #scope: string;
  /** Requests without an outcome, by key. */
  readonly #wanted = new Map<string, BatchRequest>();

  constructor(client: OpenAI, settings: BatchSettings, task: BatchTask<Answer>, context: RequestContext) {
    this.#client = client;
    this.#settings = settings;
    this.#task = task;
    this.#context = context;
    this.#scope = hashOf([task.scope]);
  }

  async submit(requests: readonly BatchRequest[]): Promise<AsyncIterable<BatchResult<Answer>>> {
    for (const request of requests) this.#wanted.set(request.idempotencyKey, request);
    const earlier = requests.length === 0 ? [] : await this.#earlierBatches();
    const answered: BatchResult<Answer>[] = [];
    for (const batch of earlier.filter(isOver)) {
      // Without an answer, or with one that is of no use: asked for again below.
      for (const found of await this.#outcomes(batch)) if (!(found.outcome instanceof RequestFailure)) answered.push(this.#take(found));
    }
    const live = earlier.filter((batch) => !isOver(batch));
    const covered = new Set<string>();
    for (const batch of live) for (const key of await this.#keysOf(batch)) covered.add(key);
    const { note } = this.#context;
    if (answered.length > 0) note(`${who}: ${answered.length} answers found in earlier batches`);
    for (const { id, status } of live) note(`${who}: batch ${id} was submitted before and is ${status.replaceAll("_", " ")}`);
    const missing = [...this.#wanted.values()].filter(({ idempotencyKey }) => !covered.has(idempotencyKey));
    for (let i = 0; i < missing.length; i += this.#settings.batchSize)
      live.push(await this.#create(missing.slice(i, i + this.#settings.batchSize)));
    return this.#collect(answered, live);
  }

  async *#collect(answered: readonly BatchResult<Answer>[], live: readonly Batch[]): AsyncGenerator<BatchResult<Answer>> {
    yield* answered;
    for (let waiting = live; waiting.length > 0; ) {
      const after: Batch[] = [];
      for (const { id } of waiting) {
        const batch = await this.#call((signal) => this.#client.batches.retrieve(id, { signal }));
        if (!isOver(batch)) after.push(batch);
        else for (const found of await this.#outcomes(batch)) yield this.#take(found);
      }
      waiting = after;
      if (waiting.length > 0) await sleep(this.#settings.pollMs, undefined, { signal: this.#context.stop }).catch(stopped);
    }
    for (const idempotencyKey of [...this.#wanted.keys()])
      yield this.#take({ idempotencyKey, outcome: new RequestFailure("the batch ended without an answer to it") });
  }

  #take(found: BatchResult<Answer>): BatchResult<Answer> {
    this.#wanted.delete(found.idempotencyKey);
    return found;
  }

  async #earlierBatches(): Promise<Batch[]> {
    return await this.#call(async (signal) => {
      const found: Batch[] = [];
      for await (const batch of this.#client.batches.list({ limit: 100 }, { signal }))
        if (batch.metadata?.[scopeField] === this.#scope) found.push(batch);
      return found;
    });
  }

  async #create(requests: readonly BatchRequest[]): Promise<Batch> {
    const lines = requests.map(
      ({ body, idempotencyKey }) =>
        `${JSON.stringify({ custom_id: idempotencyKey, method: "POST", url: "/v1/chat/completions", body: body() })}\n`,
    );
    const key = hashOf(requests.map(({ idempotencyKey }) => idempotencyKey));
    const headers = { "Idempotency-Key": `polypaca-batch-${key}` };
    const content = Buffer.from(lines.join(""));
    const { toFile } = await import("openai");
    const upload = await this.#call(async (signal) =>
      this.#client.files.create({ purpose: "batch", file: await toFile(content, `polypaca-${key}.jsonl`) }, { signal }),
    );
    const metadata = { [scopeField]: this.#scope, [keyField]: key };
    const parameters = { completion_window: "24h", endpoint: "/v1/chat/completions", input_file_id: upload.id, metadata } as const;
    const batch = await this.#call((signal) => this.#client.batches.create(parameters, { headers, signal }));
    this.#context.note(`${who}: submitted batch ${batch.id} with ${requests.length} requests`);
    return batch;
  }

  async #keysOf(batch: Batch): Promise<string[]> {
    const lines = await this.#lines(batch.input_file_id);
    return lines.map((line) => String(line.custom_id));
  }

  /** Of the wanted requests in a batch that is over. */
  async #outcomes(batch: Batch): Promise<BatchResult<Answer>[]> {
    const lines: BatchLine[] = [];
    for (const id of [batch.output_file_id, batch.error_file_id]) if (id) lines.push(...(await this.#lines(id)));
    if (lines.length === 0) {
      const why = batch.errors?.data?.map(({ message }) => message).join("; ") || "it has no answers";
      this.#context.note(`${who}: batch ${batch.id} is ${batch.status}: ${why}`);
    }
    return lines.filter(({ custom_id: key }) => this.#wanted.has(String(key))).map((line) => this.#outcomeOf(line));
  }

  #outcomeOf({ custom_id: key, response, error }: BatchLine): BatchResult<Answer> {
    const idempotencyKey = String(key);
    const outcome = ((): Answer | RequestFailure => {
      if (response?.status_code !== 200) return new RequestFailure(`the batch answers ${excerpt(error ?? response)}`);
      try {
        return this.#task.read(chatAnswerOf(response.body), idempotencyKey);
      } catch (cause) {
        if (cause instanceof BadAnswer) return new RequestFailure(cause.message, { cause, usage: cause.usage });
        throw cause;
      }
    })();
    return { idempotencyKey, outcome };
  }

  async #lines(fileId: string): Promise<BatchLine[]> {
    const text = await this.#call(async (signal) => (await this.#client.files.content(fileId, { signal })).text());
    const lines = text.split("\n").filter((line) => line.trim() !== "");
    return lines.map((line, index) => {
      try {
        return JSON.parse(line) as BatchLine;
      } catch (cause) {
        throw new PolypacaError("IO", `${who}: file ${fileId} line ${index + 1} is not valid JSON: ${excerpt(line)}`, { cause });
      }
    });
  }

  /** Transport faults are retried; what fails for good here fails the run, not a segment. */
  async #call<T>(request: (signal: AbortSignal) => Promise<T>): Promise<T> {
    const { timeoutMs, retry } = this.#settings;
    const hooks = { who: who, context: this.#context, hopeless: hopelessReason };
    const attempt = (): Promise<T> =>
      withTimeout((signal) => request(signal).catch((cause: unknown) => throwFault(cause, this.#context)), timeoutMs, this.#context.abort);
    return await withRetries(attempt, retry, hooks).catch((cause: unknown) => {
      if (!(cause instanceof RequestFailure)) throw cause;
      const advice = "What was answered is kept, and submitted batches are found again: run the command once more.";
      throw new PolypacaError("IO", `${who}: ${cause.message}. ${advice}`, { cause });
    });
  }
}

interface BatchLine {
  readonly custom_id?: unknown;
  readonly response?: { readonly status_code?: number; readonly body?: unknown } | null;
  readonly error?: unknown;
}

function isOver({ status }: Batch): boolean {
  return ["completed", "failed", "expired", "cancelled"].includes(status);
}

function stopped(cause: unknown): never {
  throw new PolypacaError("CANCELLED", "stopped; the submitted batches go on and are found by the next run", { cause });
}

/** Metadata values hold at most 512 characters. */
function hashOf(parts: readonly string[]): string {
  return createHash("sha256").update(JSON.stringify(parts)).digest("hex").slice(0, 40);
}
