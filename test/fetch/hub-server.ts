/**
 * A real HTTP server on loopback that speaks the hub's API as @huggingface/hub calls it: repository info, pages of the file tree, and
 * contents with ranges, of files in LFS by a redirect to a server of another origin. It counts what it sends, and misbehaves on demand.
 */
import { createHash } from "node:crypto";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { onTestFinished } from "vitest";

export type Files = Readonly<Record<string, Buffer>>;

export interface HubRepository {
  readonly kind: "model" | "data";
  readonly name: string;
  /** By branch, tag or commit: the files there. Replaced by a test that moves a branch. */
  revisions: Readonly<Record<string, Files>>;
  readonly card?: object;
  readonly gated?: "auto" | "manual" | false;
  /** Tokens that may read its contents; undefined: no token is needed. */
  readonly tokens?: readonly string[];
  /** Without one of `tokens` even its existence is denied. */
  readonly isPrivate?: boolean;
}

export type Misbehaviour =
  | { readonly kind: "status"; readonly status: number; readonly headers?: Readonly<Record<string, string>> }
  /** The connection is destroyed after so many bytes of the body; `hold`: nothing more comes. */
  | { readonly kind: "cut" | "hold"; readonly after: number }
  | { readonly kind: "wrong bytes" | "whole file" | "another range" };

export interface ContentRequest {
  /** From 1, over all requests for contents. */
  readonly number: number;
  readonly path: string;
  /** First byte asked for. */
  readonly from: number;
}

export interface HubServer {
  readonly url: string;
  readonly contents: readonly (ContentRequest & { sent: number })[];
  /** Every request, as "GET /path", with the token that came along. */
  readonly requests: readonly { readonly url: string; readonly token: string | null }[];
  /** As `requests`, of the server that contents in LFS lie on. */
  readonly storageRequests: readonly { readonly url: string; readonly token: string | null }[];
  sentBytes(path?: string): number;
}

export interface HubOptions {
  readonly repositories: readonly HubRepository[];
  /** Of requests for contents. */
  readonly misbehave?: (request: ContentRequest) => Misbehaviour | null;
  /** Of other requests, by their number from 1. */
  readonly misbehaveInfo?: (number: number) => Misbehaviour | null;
  /** Files of at least so many bytes are in LFS. Default 1000. */
  readonly lfsFrom?: number;
  /** Entries of a page of the tree. Default 1000. */
  readonly pageSize?: number;
}

export function commitOf(files: Files): string {
  const hash = createHash("sha1");
  for (const [path, content] of Object.entries(files)) hash.update(`${path}\0${content.length}\0`).update(content);
  return hash.digest("hex");
}

const sha256 = (content: Buffer): string => createHash("sha256").update(content).digest("hex");
const gitBlob = (content: Buffer): string => createHash("sha1").update(`blob ${content.length}\0`).update(content).digest("hex");

/** Listens until the test has finished. */
export async function startHub(options: HubOptions): Promise<HubServer> {
  const hub = new HubApi(options);
  const storage = await listen((request, response) => hub.answerStorage(request, response));
  hub.storageUrl = storage;
  const url = await listen((request, response) => hub.answer(request, response));
  hub.url = url;
  return {
    ...{ url, contents: hub.contents, requests: hub.requests, storageRequests: hub.storageRequests },
    sentBytes: (path) => hub.contents.reduce((sum, one) => sum + (path === undefined || one.path === path ? one.sent : 0), 0),
  };
}

async function listen(answer: (request: IncomingMessage, response: ServerResponse) => void): Promise<string> {
  const server: Server = createServer(answer);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  onTestFinished(() => {
    server.closeAllConnections();
    server.close();
  });
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

class HubApi {
  url = "";
  storageUrl = "";
  readonly contents: (ContentRequest & { sent: number })[] = [];
  readonly requests: { url: string; token: string | null }[] = [];
  readonly storageRequests: { url: string; token: string | null }[] = [];
  readonly #options: HubOptions;
  #infos = 0;

  constructor(options: HubOptions) {
    this.#options = options;
  }

  answer(request: IncomingMessage, response: ServerResponse): void {
    const url = new URL(request.url!, this.url);
    const token = tokenOf(request);
    this.requests.push({ url: url.pathname, token });
    const api = /^\/api\/(models|datasets)\/([^/]+\/[^/]+)\/(revision|tree)\/([^/]+)$/.exec(url.pathname);
    const resolve = /^\/(datasets\/)?([^/]+\/[^/]+)\/resolve\/([^/]+)\/(.+)$/.exec(url.pathname);
    const [isData, name] = api ? [api[1] === "datasets", api[2]] : [resolve?.[1] !== undefined, resolve?.[2]];
    const repository = this.#options.repositories.find((one) => one.name === name && (one.kind === "data") === isData);
    const isKnown = repository?.tokens === undefined || (token !== null && repository.tokens.includes(token));
    if (token === "expired") return void refuse(response, 401, "", "Invalid credentials in Authorization header");
    if (repository === undefined || (repository.isPrivate === true && !isKnown))
      return void (token === null
        ? refuse(response, 401, "", "Invalid username or password.")
        : refuse(response, 404, "RepoNotFound", "Repository not found"));
    const misbehaviour = api ? (this.#options.misbehaveInfo?.(++this.#infos) ?? null) : null;
    if (misbehaviour?.kind === "status") return void response.writeHead(misbehaviour.status, misbehaviour.headers).end("misbehaving");
    if (misbehaviour !== null) return void request.socket.destroy();
    const files = filesAt(repository, decodeURIComponent((api?.[4] ?? resolve?.[3])!));
    if (files === undefined) return void refuse(response, 404, "RevisionNotFound", "Invalid rev id");
    if (api) return void (api[3] === "revision" ? this.#info(response, repository, files) : this.#tree(response, url, files));
    if (!isKnown) return void refuse(response, token === null ? 401 : 403, "GatedRepo", "Access to this repository is restricted");
    this.#content(request, response, files, decodeURIComponent(resolve![4]!));
  }

  #info(response: ServerResponse, { name, gated = false, card = {} }: HubRepository, files: Files): void {
    const lastModified = "2024-01-01T00:00:00.000Z";
    sendJson(response, {
      _id: "1",
      id: name,
      private: false,
      gated,
      likes: 0,
      downloads: 0,
      lastModified,
      sha: commitOf(files),
      cardData: card,
    });
  }

  #tree(response: ServerResponse, url: URL, files: Files): void {
    const { lfsFrom = 1000, pageSize = 1000 } = this.#options;
    const entries = Object.entries(files).map(([path, content]) => {
      const lfs = content.length >= lfsFrom && {
        lfs: { oid: sha256(content), size: content.length, pointerSize: 130 },
        xetHash: sha256(content),
      };
      return { type: "file", path, size: content.length, oid: gitBlob(content), ...lfs };
    });
    const folders = [...new Set(Object.keys(files).flatMap((path) => (path.includes("/") ? [path.split("/")[0]!] : [])))];
    const all = [...folders.map((path) => ({ type: "directory", path, size: 0, oid: "0".repeat(40) })), ...entries];
    const from = Number(url.searchParams.get("cursor") ?? 0);
    url.searchParams.set("cursor", String(from + pageSize));
    const headers = from + pageSize < all.length ? { link: `<${url.href}>; rel="next"` } : {};
    sendJson(response, all.slice(from, from + pageSize), headers);
  }

  #content(request: IncomingMessage, response: ServerResponse, files: Files, path: string): void {
    const content = files[path];
    if (content === undefined) return void refuse(response, 404, "EntryNotFound", "Entry not found");
    if (content.length < (this.#options.lfsFrom ?? 1000)) return void this.#send(request, response, path, content);
    const location = `${this.storageUrl}/${commitOf(files)}/${path}`;
    this.#stored.set(new URL(location).pathname, { path, content });
    response.writeHead(302, { location, "x-linked-etag": `"${sha256(content)}"`, "x-linked-size": String(content.length) }).end();
  }

  readonly #stored = new Map<string, { readonly path: string; readonly content: Buffer }>();

  answerStorage(request: IncomingMessage, response: ServerResponse): void {
    this.storageRequests.push({ url: request.url!, token: tokenOf(request) });
    const { path, content } = this.#stored.get(new URL(request.url!, this.storageUrl).pathname)!;
    this.#send(request, response, path, content);
  }

  #send(request: IncomingMessage, response: ServerResponse, path: string, content: Buffer): void {
    const from = Number(/^bytes=(\d+)-/.exec(request.headers.range ?? "")?.[1] ?? 0);
    const record = { number: this.contents.length + 1, path, from, sent: 0 };
    this.contents.push(record);
    const misbehaviour = this.#options.misbehave?.(record) ?? null;
    if (misbehaviour?.kind === "status") return void response.writeHead(misbehaviour.status, misbehaviour.headers).end("misbehaving");
    if (from >= content.length && content.length > 0) return void response.writeHead(416).end();
    const start = misbehaviour?.kind === "whole file" ? 0 : misbehaviour?.kind === "another range" ? Math.max(0, from - 1) : from;
    let body = content.subarray(start);
    if (misbehaviour?.kind === "wrong bytes") body = Buffer.from(body.map((byte) => byte ^ 1));
    const isRange = request.headers.range !== undefined && misbehaviour?.kind !== "whole file";
    const range = isRange ? { "content-range": `bytes ${start}-${content.length - 1}/${content.length}` } : {};
    response.writeHead(isRange ? 206 : 200, { "content-length": body.length, etag: `"${gitBlob(content)}"`, ...range });
    const isPartial = misbehaviour?.kind === "cut" || misbehaviour?.kind === "hold";
    const sent = isPartial ? body.subarray(0, misbehaviour.after) : body;
    record.sent = sent.length;
    if (!isPartial) return void response.end(sent);
    response.write(sent, () => {
      // Ends the connection in order, after what was written: a reset would throw away what is on its way.
      if (misbehaviour.kind === "cut") response.socket?.end();
    });
  }
}

function filesAt({ revisions }: HubRepository, revision: string): Files | undefined {
  return revisions[revision] ?? Object.values(revisions).find((files) => commitOf(files) === revision);
}

function tokenOf({ headers }: IncomingMessage): string | null {
  return headers.authorization?.replace("Bearer ", "") ?? null;
}

function refuse(response: ServerResponse, status: number, code: string, message: string): void {
  response.writeHead(status, {
    ...(code !== "" && { "x-error-code": code }),
    "x-error-message": message,
    "content-type": "application/json",
  });
  response.end(JSON.stringify({ error: message }));
}

function sendJson(response: ServerResponse, value: unknown, headers: Readonly<Record<string, string>> = {}): void {
  response.writeHead(200, { "content-type": "application/json", ...headers }).end(JSON.stringify(value));
}
