/**
 * A Hugging Face compatible hub. What it knows of a repository is read through @huggingface/hub; contents by plain ranged requests of
 * our own, because the package's streams take whatever a server answers to a range, and drop what a failing one says (Retry-After).
 * Plain requests are answered alike for files in git, LFS and Xet: Xet's own protocol is spoken only to clients that ask for it.
 */
import { z } from "zod";
import type { RequestContext } from "../endpoint/request.js";
import { BadAnswer, ConnectionFault, HttpFault, type RetryPolicy, retryAfterMs, withRetries, withTimeout } from "../endpoint/retry.js";
import { PolypacaError } from "../errors.js";
import type { ContentHash } from "./content-hash.js";
import { pageOf, refusalOf } from "./refusal.js";
import type { Repository } from "./settings.js";

export interface HubOptions {
  /** Without a slash at its end. */
  readonly endpoint: string;
  /** null: none. Sent to the endpoint alone, never to where it redirects. */
  readonly token: string | null;
  readonly retry: RetryPolicy;
  /** Longest wait for an answer, or for the next bytes of one. */
  readonly timeoutMs: number;
}

export interface RepositoryInfo {
  /** What the revision is now. */
  readonly commit: string;
  /** From the card: "apache-2.0", "other (llama2)"; null: it names none. */
  readonly licence: string | null;
  /** Where the card says the licence can be read. */
  readonly licenceLink: string | null;
  readonly isGated: boolean;
}

export interface RemoteFile {
  /** In the repository; relative, with slashes. */
  readonly path: string;
  readonly size: number;
  readonly hash: ContentHash;
}

/** A repository at a commit. */
export interface PinnedRepository extends Repository {
  readonly commit: string;
}

/** The bytes of a file from `start` on. */
export interface Content {
  readonly start: number;
  readonly body: AsyncIterable<Uint8Array>;
}

const infoSchema = z.object({
  sha: z.string().regex(/^[0-9a-f]{40}$/),
  gated: z.unknown(),
  cardData: z
    .looseObject({
      license: z.union([z.string(), z.array(z.string())]).nullish(),
      license_name: z.string().nullish(),
      license_link: z.string().nullish(),
    })
    .nullish(),
});

export class Hub {
  readonly #options: HubOptions;
  readonly #context: RequestContext;

  constructor(options: HubOptions, context: RequestContext) {
    this.#options = options;
    this.#context = context;
  }

  get endpoint(): string {
    return this.#options.endpoint;
  }

  /** @throws PolypacaError `NOT_FOUND`, `USAGE` as {@link refusalOf}; `IO` where no hub answers; `CANCELLED`. RequestFailure after the last retry */
  async describe(repository: Repository): Promise<RepositoryInfo> {
    const { modelInfo, datasetInfo } = await import("@huggingface/hub");
    const { name, revision, kind } = repository;
    const fields: ("sha" | "cardData")[] = ["sha", "cardData"];
    const question = { name, revision, hubUrl: this.endpoint, fetch: this.#metadataFetch(repository), additionalFields: fields };
    const info = await this.#understood(async () =>
      infoSchema.parse(kind === "model" ? await modelInfo(question) : await datasetInfo(question)),
    );
    const { license, license_name: licenceName, license_link: licenceLink } = info.cardData ?? {};
    const stated = [license ?? []].flat().join(", ");
    return {
      commit: info.sha,
      licence: stated === "" ? null : `${stated}${licenceName ? ` (${licenceName})` : ""}`,
      licenceLink: licenceLink ?? null,
      isGated: info.gated !== undefined && info.gated !== false,
    };
  }

  /** Every file, those in folders included. @throws as {@link describe}; `BAD_DATA` for a path that would lead out of the folder */
  async list(repository: PinnedRepository): Promise<RemoteFile[]> {
    const { listFiles } = await import("@huggingface/hub");
    const repo = { type: repository.kind === "model" ? ("model" as const) : ("dataset" as const), name: repository.name };
    return await this.#understood(async () => {
      const files: RemoteFile[] = [];
      const shared = { repo, revision: repository.commit, recursive: true, hubUrl: this.endpoint };
      for await (const entry of listFiles({ ...shared, fetch: this.#metadataFetch(repository) })) {
        if (entry.type === "file") files.push(remoteFile(entry, repository.name));
      }
      return files;
    });
  }

  /**
   * Asks for a file's bytes from `offset` on, once.
   *
   * @param signal drops the request, also while its body is read
   * @throws ConnectionFault, HttpFault, BadAnswer where the answer is of another range or size; PolypacaError as {@link describe}
   */
  async open(repository: PinnedRepository, { path, size }: RemoteFile, offset: number, signal: AbortSignal): Promise<Content> {
    const encoded = path.split("/").map(encodeURIComponent).join("/");
    const url = `${pageOf(repository, this.endpoint)}/resolve/${repository.commit}/${encoded}`;
    // "identity": a compressed body has other lengths, and other ranges.
    const headers = { "accept-encoding": "identity", ...(offset > 0 && { range: `bytes=${offset}-` }) };
    const watch = new StallWatch(this.#options.timeoutMs, signal);
    try {
      const response = await watch.guard(() => fetch(url, { headers: { ...headers, ...this.#authorization(url) }, signal: watch.signal }));
      if (response.status === 416) throw new BadAnswer(`the hub says that the file has no byte ${offset}`);
      if (!response.ok) throw this.#fault(response, await watch.guard(() => response.text()), repository, path);
      const start = startOf(response, offset, size);
      return {
        start,
        body: watch.guardBody(response.body ?? new ReadableStream<Uint8Array>({ start: (controller) => controller.close() })),
      };
    } catch (cause) {
      watch.release();
      throw cause;
    }
  }

  /** For the package: it sees answers that came whole, and none that is worth another attempt. */
  #metadataFetch(repository: Repository): typeof fetch {
    const hooks = { who: this.endpoint, context: this.#context };
    return (input, init) => {
      const url = input instanceof Request ? input.url : String(input);
      const attempt = async (): Promise<Response> => {
        const { response, text } = await withTimeout(
          (signal) => this.#getText(url, init, signal),
          this.#options.timeoutMs,
          hooks.context.abort,
        );
        if (!response.ok) throw this.#fault(response, text, repository, null);
        return new Response(text, { status: response.status, headers: response.headers });
      };
      return withRetries(attempt, this.#options.retry, hooks);
    };
  }

  async #getText(url: string, init: RequestInit | undefined, signal: AbortSignal) {
    try {
      const headers = { ...(init?.headers as Record<string, string>), ...this.#authorization(url) };
      const response = await fetch(url, { ...init, headers, signal });
      return { response, text: await response.text() };
    } catch (cause) {
      throw connectionFault(cause, signal);
    }
  }

  /** The package takes tokens of huggingface.co's form alone, so it is given none. */
  #authorization(url: string): { readonly authorization?: string } {
    const { token, endpoint } = this.#options;
    return token !== null && new URL(url).origin === new URL(endpoint).origin ? { authorization: `Bearer ${token}` } : {};
  }

  #fault({ status, headers }: Response, text: string, repository: Repository, path: string | null): Error {
    const hasToken = this.#options.token !== null;
    const code = headers.get("x-error-code") ?? "";
    const refusal = refusalOf({ status, code, repository, path, endpoint: this.endpoint, hasToken });
    const said = headers.get("x-error-message") ?? text.slice(0, 200).trim();
    return refusal ?? new HttpFault(status, said, { retryAfterMs: retryAfterMs((name) => headers.get(name), this.#context.now()) });
  }

  /** What the package or the schema cannot read is no hub's answer. */
  async #understood<T>(ask: () => Promise<T>): Promise<T> {
    try {
      return await ask();
    } catch (cause) {
      const isParsing = cause instanceof SyntaxError || cause instanceof TypeError || cause instanceof z.ZodError;
      if (!isParsing) throw cause;
      const reason = cause instanceof z.ZodError ? z.prettifyError(cause).replaceAll("\n", " ") : cause.message;
      throw new PolypacaError("IO", `${this.endpoint}: not the answer of a Hugging Face hub (${reason}). Check HF_ENDPOINT.`, { cause });
    }
  }
}

function remoteFile(
  {
    path,
    size,
    oid,
    lfs,
  }: { readonly path: string; readonly size: number; readonly oid?: string; readonly lfs?: { readonly oid: string } },
  repository: string,
): RemoteFile {
  const isSafe = path !== "" && !/[\\\0]/.test(path) && path.split("/").every((part) => part !== "" && part !== "." && part !== "..");
  if (!isSafe)
    throw new PolypacaError("BAD_DATA", `${repository}: the hub lists ${JSON.stringify(path)}, which would lead out of the folder.`);
  const hash: ContentHash = lfs ? { algorithm: "sha256", hex: lfs.oid } : { algorithm: "git-sha1", hex: oid ?? "" };
  if (!/^(?:[0-9a-f]{40}|[0-9a-f]{64})$/.test(hash.hex))
    throw new PolypacaError("UNSUPPORTED", `${repository}: the hub gives no hash for ${path}, so it could not be checked.`);
  return { path, size, hash };
}

/** Where the body of an answer begins: `offset`, or 0 from a server that knows no ranges. @throws BadAnswer for anything else */
function startOf({ status, headers }: Response, offset: number, size: number): number {
  const range = /^bytes (\d+)-\d+\/(\d+|\*)$/.exec(headers.get("content-range") ?? "");
  const start = status === 206 && range !== null ? Number(range[1]) : 0;
  const total = status === 206 ? (range?.[2] ?? "*") : (headers.get("content-length") ?? "*");
  if (total !== "*" && Number(total) !== size) throw new BadAnswer(`the hub sends a file of ${total} bytes, and lists it with ${size}`);
  if (start !== offset && start !== 0) throw new BadAnswer(`asked for the bytes from ${offset} on, the hub sends those from ${start} on`);
  return start;
}

/** Drops a request of which nothing has come for so long. */
class StallWatch {
  readonly #controller = new AbortController();
  readonly #timer: NodeJS.Timeout;
  readonly #outer: AbortSignal;
  readonly #drop = (): void => this.#controller.abort();
  readonly #timeoutMs: number;
  #isStalled = false;

  constructor(timeoutMs: number, outer: AbortSignal) {
    this.#timeoutMs = timeoutMs;
    this.#outer = outer;
    this.#timer = setTimeout(() => {
      this.#isStalled = true;
      this.#controller.abort();
    }, timeoutMs);
    outer.addEventListener("abort", this.#drop, { once: true });
    if (outer.aborted) this.#drop();
  }

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  release(): void {
    clearTimeout(this.#timer);
    this.#outer.removeEventListener("abort", this.#drop);
  }

  /** @throws ConnectionFault in place of what fetch throws; an AbortError where the caller aborted */
  async guard<T>(step: () => Promise<T>): Promise<T> {
    try {
      return await step();
    } catch (cause) {
      if (this.#isStalled) throw new ConnectionFault(`nothing came for ${this.#timeoutMs / 1000} s`, { cause });
      throw connectionFault(cause, this.#outer);
    }
  }

  async *guardBody(body: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
    const chunks = body[Symbol.asyncIterator]();
    try {
      for (;;) {
        const { done, value } = await this.guard(() => chunks.next());
        if (done === true) return;
        this.#timer.refresh();
        yield value;
      }
    } finally {
      this.#controller.abort(); // a body that is not read to its end keeps its connection
      this.release();
    }
  }
}

function connectionFault(cause: unknown, signal: AbortSignal): unknown {
  // fetch and its bodies throw TypeErrors for whatever breaks; the reason stands in their cause.
  if (signal.aborted || !(cause instanceof TypeError)) return cause;
  const why = cause.cause instanceof Error && cause.cause.message !== "" ? cause.cause.message : cause.message;
  return new ConnectionFault(why, { cause });
}
