/** HTTP on node:http: routes, keys, limits in time, errors in OpenAI's form, and an end that lets running requests finish. */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo, Socket } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { PolypacaError } from "../errors.js";
import { ApiError, timedOut, unavailable } from "./api-error.js";
import { hasKey } from "./api-key.js";
import { StalledReader } from "./event-stream.js";
import { isLoopback, isLoopbackHostHeader } from "./loopback.js";
import { sendJson } from "./send-json.js";
import type { ServerMetrics } from "./server-metrics.js";
import type { ServeEnvironment, ServeSettings } from "./settings.js";

/** One request and its response. */
export interface Exchange {
  readonly request: IncomingMessage;
  readonly response: ServerResponse;
  /** Unique. */
  readonly id: string;
  /** What follows a route's path, where it is a prefix. */
  readonly rest: string;
  /** Aborts, with what to answer as its reason, when the client leaves, the time is up or the server stops. */
  readonly signal: AbortSignal;
}

export interface Route {
  readonly method: "GET" | "POST";
  readonly path: string;
  /** The path goes on: "/v1/models/<name>". */
  readonly isPrefix?: boolean;
  /** Needs no key, and is answered while the server is not ready. */
  readonly isOpen?: boolean;
  /** Limited in time, and timed. */
  readonly isTimed?: boolean;
  handle(exchange: Exchange): Promise<void>;
}

export interface HttpServerOptions {
  readonly routes: readonly Route[];
  readonly settings: Pick<ServeSettings, "host" | "port" | "apiKey" | "limits">;
  readonly metrics: ServerMetrics;
  readonly environment: ServeEnvironment;
  /** null: it takes requests; else what it does instead. */
  readonly unreadyReason: () => "loading" | "stopping" | null;
}

/** What the status of a request is counted as whose client left (nginx' number). */
const clientLeft = 499;
const lastWordsMs = 1_000;

class ClientLeft extends Error {}

export class HttpServer {
  readonly #options: HttpServerOptions;
  readonly #server: Server;
  readonly #active = new Map<AbortController, Promise<void>>();

  constructor(options: HttpServerOptions) {
    const { headersTimeoutMs, bodyTimeoutMs } = options.settings.limits;
    this.#options = options;
    this.#server = createServer(
      { headersTimeout: headersTimeoutMs, requestTimeout: bodyTimeoutMs, connectionsCheckingInterval: Math.min(1_000, headersTimeoutMs) },
      (request, response) => {
        const controller = new AbortController();
        const sent = new Promise<void>((resolve) => response.on("close", () => resolve())); // or the client has left
        const done = this.#answer(request, response, controller)
          .then(() => sent)
          .finally(() => this.#active.delete(controller));
        this.#active.set(controller, done);
      },
    );
    this.#server.on("clientError", answerBadHttp);
  }

  /** @returns where it listens: "http://127.0.0.1:8000" */
  async listen(): Promise<string> {
    const { host, port } = this.#options.settings;
    await new Promise<void>((resolve, reject) => {
      this.#server.once("error", (cause: NodeJS.ErrnoException) => reject(listenError(cause, host, port)));
      this.#server.listen(port, host, resolve);
    });
    const { address, family, port: chosen } = this.#server.address() as AddressInfo;
    return `http://${family === "IPv6" ? `[${address}]` : address}:${chosen}`;
  }

  /** Takes no connections from now on; running requests go on for so long, then they are told that the server stops. */
  async close(graceMs: number): Promise<void> {
    const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()));
    await this.#waitForActive(graceMs);
    for (const controller of this.#active.keys()) controller.abort(unavailable("The server stops.", 5));
    await this.#waitForActive(lastWordsMs);
    this.#server.closeAllConnections();
    await closed;
  }

  async #waitForActive(longestMs: number): Promise<void> {
    const timer = new AbortController();
    const timeIsUp = sleep(longestMs, undefined, { signal: timer.signal }).catch(() => {});
    await Promise.race([Promise.all(this.#active.values()), timeIsUp]);
    timer.abort();
  }

  async #answer(request: IncomingMessage, response: ServerResponse, controller: AbortController): Promise<void> {
    const { environment, metrics, settings } = this.#options;
    const began = environment.now();
    const id = environment.newId();
    const path = pathOf(request);
    const route = this.#options.routes.find((route) => matches(route, path) && allows(route, request));
    response.setHeader("x-request-id", id);
    response.on("close", () => controller.abort(new ClientLeft())); // also at the end, when nobody listens any more
    const timeoutMs = settings.limits.requestTimeoutMs;
    const timer = route?.isTimed ? setTimeout(() => controller.abort(timedOut(timeoutMs / 1000)), timeoutMs) : undefined;
    try {
      this.#admit(request, response, route, path);
      const rest = route!.isPrefix ? decode(path.slice(route!.path.length)) : "";
      await route!.handle({ request, response, id, rest, signal: controller.signal });
    } catch (cause) {
      this.#fail(cause, request, response);
    } finally {
      clearTimeout(timer);
      const status = response.headersSent ? response.statusCode : clientLeft;
      metrics.countRequest(route?.path ?? "other", status);
      if (route?.isTimed) metrics.requestSeconds.observe((environment.now() - began) / 1000);
    }
  }

  /** @throws ApiError where the request goes no further */
  #admit(request: IncomingMessage, response: ServerResponse, route: Route | undefined, path: string): void {
    const { routes, settings, unreadyReason } = this.#options;
    const { host, apiKey } = settings;
    const reason = unreadyReason();
    if (reason === "stopping") response.setHeader("connection", "close");
    if (apiKey === null && isLoopback(host) && !isLoopbackHostHeader(request.headers.host)) {
      const message = `The host "${request.headers.host ?? ""}" is not this machine. A server behind a proxy needs an API key (--api-key-env).`;
      throw new ApiError(403, message, { code: "wrong_host" });
    }
    const isProtected = route?.isOpen !== true && path.startsWith("/v1/");
    if (isProtected && apiKey !== null && !hasKey(request.headers.authorization, apiKey)) {
      const message = "The API key is missing or wrong. Send it as 'Authorization: Bearer <key>'.";
      throw new ApiError(401, message, { code: "invalid_api_key", headers: { "www-authenticate": "Bearer" } });
    }
    if (route === undefined) {
      const allowed = routes
        .filter((other) => matches(other, path))
        .flatMap(({ method }) => (method === "GET" ? ["GET", "HEAD"] : [method]));
      if (allowed.length === 0) throw new ApiError(404, `There is nothing at ${path}.`, { code: "unknown_url" });
      const message = `${request.method} is not taken at ${path}, only ${allowed.join(" and ")}.`;
      throw new ApiError(405, message, { code: "method_not_allowed", headers: { allow: allowed.join(", ") } });
    }
    if (reason !== null && route.isOpen !== true) {
      throw unavailable(reason === "loading" ? "The model is being loaded." : "The server stops.", reason === "loading" ? 1 : 5);
    }
  }

  #fail(cause: unknown, request: IncomingMessage, response: ServerResponse): void {
    if (cause instanceof ClientLeft || response.destroyed || request.errored !== null) return; // nobody is there to be told
    if (cause instanceof StalledReader) {
      this.#options.environment.note(`${request.method} ${request.url}: ${cause.message}; dropped`);
      response.destroy();
      return;
    }
    const error = cause instanceof ApiError ? cause : this.#internalError(cause, request);
    if (response.headersSent) {
      response.end(`data: ${JSON.stringify(error.body)}\n\n`); // a stream that breaks off; no [DONE]
      return;
    }
    sendJson(response, error.body, error.status, error.headers);
  }

  #internalError(cause: unknown, request: IncomingMessage): ApiError {
    const { code, message, stack } = PolypacaError.from(cause);
    if (code === "CANCELLED") return unavailable("The server stops.", 5);
    this.#options.environment.note(`${request.method} ${request.url}: ${code}: ${message}${code === "INTERNAL" ? `\n${stack ?? ""}` : ""}`);
    return new ApiError(500, code === "INTERNAL" ? "Internal error; the server's log has it." : `${code}: ${message}`, {
      code: code.toLowerCase(),
    });
  }
}

function pathOf({ url }: IncomingMessage): string {
  return (url ?? "/").split("?", 1)[0]!;
}

function matches({ path, isPrefix }: Route, asked: string): boolean {
  return isPrefix ? asked.startsWith(path) && asked.length > path.length : asked === path;
}

function allows({ method }: Route, request: IncomingMessage): boolean {
  return request.method === method || (method === "GET" && request.method === "HEAD");
}

function decode(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

function listenError(cause: NodeJS.ErrnoException, host: string, port: number): PolypacaError {
  if (cause.code === "EADDRINUSE") {
    return new PolypacaError("USAGE", `--port ${port}: another program listens there. Use another port, or 0 for any that is free.`, {
      cause,
    });
  }
  return new PolypacaError("USAGE", `--host ${host} --port ${port}: cannot listen there (${cause.message}).`, { cause });
}

/** Requests that are no HTTP, too slow or with too long headers never become a request of Node's. */
function answerBadHttp(error: NodeJS.ErrnoException, socket: Socket): void {
  if (!socket.writable || error.code === "ECONNRESET") {
    socket.destroy();
    return;
  }
  const [status, text] =
    error.code === "HPE_HEADER_OVERFLOW"
      ? ([431, "Request Header Fields Too Large"] as const)
      : error.code === "ERR_HTTP_REQUEST_TIMEOUT"
        ? ([408, "Request Timeout"] as const)
        : ([400, "Bad Request"] as const);
  const body = JSON.stringify(new ApiError(status, `${text}.`, { code: "bad_http" }).body);
  const head = [
    `HTTP/1.1 ${status} ${text}`,
    "connection: close",
    "content-type: application/json",
    `content-length: ${Buffer.byteLength(body)}`,
  ];
  socket.end(`${head.join("\r\n")}\r\n\r\n${body}`);
}
