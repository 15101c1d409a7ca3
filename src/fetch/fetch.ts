/**
 * `fetch`: a repository's files into a folder that is complete or absent. While it is fetched it is `<out>.part`, in which a file has
 * its own name when it is whole and checked, and else one that says which content it is a part of: whatever ends a fetch, the next
 * one goes on from there, also at another revision as far as the contents are the same.
 */
import { existsSync } from "node:fs";
import { readdir, rename, rm } from "node:fs/promises";
import { basename, dirname, join, resolve } from "node:path";
import { syncFolder, syncTree, writeFileSynced, writingError } from "../checkpoint/atomic.js";
import { freeDiskBytes } from "../checkpoint/disk-space.js";
import { lockFolder } from "../checkpoint/folder-lock.js";
import { readIndex } from "../checkpoint/weight-files.js";
import { askEach, Stopping } from "../endpoint/ask-each.js";
import { type RequestContext, RequestFailure } from "../endpoint/request.js";
import { defaultRetryPolicy, type RetryPolicy } from "../endpoint/retry.js";
import { PolypacaError } from "../errors.js";
import { assertFreeFolder } from "../models/assert-free-folder.js";
import type { Progress } from "../train/progress.js";
import { bytesThere, type DownloadContext, download } from "./download.js";
import { Hub, type PinnedRepository, type RemoteFile, type RepositoryInfo } from "./hub.js";
import { damagedFiles, type FetchManifest, fetchManifestName, readFetchManifest } from "./manifest.js";
import { pageOf } from "./refusal.js";
import { type Selected, selectDataFiles, selectModelFiles } from "./select-files.js";
import { type FetchSettings, parseRepository, type Repository } from "./settings.js";

export interface FetchEnvironment {
  /** The hub's address: {@link hubEndpoint}. */
  readonly endpoint: string;
  /** {@link hubToken}; null: none. */
  readonly token: string | null;
  readonly signal?: AbortSignal | undefined;
  readonly note: (line: string) => void;
  /** Milliseconds since 1970. */
  readonly now: () => number;
  /** Uniform in [0, 1): spreads retries. */
  readonly random: () => number;
  /** Counts MiB. */
  readonly openProgress?: ((task: { readonly label: string; readonly start: number; readonly total: number }) => Progress) | undefined;
  readonly retry?: RetryPolicy | undefined;
  /** Longest wait for an answer, or for the next bytes of one. Default 60,000. */
  readonly timeoutMs?: number | undefined;
  /** Default: the file system's. */
  readonly freeBytes?: ((folder: string) => Promise<number>) | undefined;
}

/** `fetch --json`. */
export interface FetchResult {
  readonly kind: FetchSettings["kind"];
  readonly repository: string;
  readonly endpoint: string;
  readonly revision: string;
  readonly commit: string;
  readonly licence: string | null;
  readonly out: string;
  readonly files: FetchManifest["files"];
  /** Of all files. */
  readonly bytes: number;
  /** That came now; the others were there. */
  readonly fetchedBytes: number;
}

/**
 * Fetches a model or data into a new folder.
 *
 * @throws PolypacaError `USAGE` for settings, an `out` that holds something else, a gated repository and a token that is not taken;
 *   `NOT_FOUND`; `DISK_FULL` before anything is fetched, and `IO`; `RUN_LOCKED` where another process fetches into the same folder;
 *   `INCOMPLETE` where files failed after the last retry; `CANCELLED`. What came is kept in `<out>.part`
 */
export async function fetchRepository(settings: FetchSettings, environment: FetchEnvironment): Promise<FetchResult> {
  const repository = checkSettings(settings);
  const out = resolve(settings.out ?? basename(repository.name));
  const existing = await readFetchManifest(out);
  if (existing === null) await assertFreeFolder(out);
  // A commit never changes: no hub is needed to know that all of it is there.
  else if (existing.commit === repository.revision && isSameSelection(existing, settings, repository, environment.endpoint))
    return await alreadyThere(out, existing, repository);
  const stopping = new Stopping(environment.signal);
  const request = requestContext(environment, stopping);
  const { endpoint, token, retry = defaultRetryPolicy, timeoutMs = 60_000 } = environment;
  const hub = new Hub({ endpoint, token, retry, timeoutMs }, request);
  try {
    const info = await hub.describe(repository);
    const pinned = { ...repository, commit: info.commit };
    reportLicence(pinned, info, environment);
    if (existing !== null) {
      if (existing.commit === info.commit && isSameSelection(existing, settings, repository, endpoint))
        return await alreadyThere(out, existing, repository);
      throw holdsAnother(out, existing, pinned);
    }
    return await new Fetch(settings, environment, { hub, pinned, info, out, request, stopping, retry }).run();
  } catch (cause) {
    throw explained(cause, out, hub);
  } finally {
    stopping.release();
  }
}

function checkSettings({ kind, repo, files, concurrency }: FetchSettings): Repository {
  if (kind === "model" && files !== undefined)
    throw new PolypacaError("USAGE", "--files: chooses among data files. Use --include for further files of a model.");
  if (concurrency !== undefined && !(Number.isInteger(concurrency) && concurrency >= 1))
    throw new PolypacaError("USAGE", `--concurrency ${concurrency}: expected a whole number, at least 1.`);
  return parseRepository(kind, repo);
}

/** Downloads are dropped at once when the user stops: their parts are kept anyway. */
function requestContext({ note, now, random }: FetchEnvironment, { stop }: Stopping): RequestContext {
  return { note, now, random, stop, abort: stop };
}

function isSameSelection(existing: FetchManifest, settings: FetchSettings, { kind, name }: Repository, endpoint: string): boolean {
  const isSameRepository = existing.kind === kind && existing.repository === name && existing.endpoint === endpoint;
  return isSameRepository && JSON.stringify(existing.selection) === JSON.stringify(selectionOf(settings));
}

function selectionOf({ files = [], include = [] }: FetchSettings): FetchManifest["selection"] {
  return { files: [...files], include: [...include] };
}

/** @throws PolypacaError `USAGE` where files of the folder were removed or changed in length */
async function alreadyThere(out: string, manifest: FetchManifest, { revision }: Repository): Promise<FetchResult> {
  const damaged = await damagedFiles(out, manifest);
  if (damaged.length > 0) {
    const message = `--out ${out}: was fetched, but now lacks, or has with another length, ${damaged.join(", ")}. Remove the folder and fetch again.`;
    throw new PolypacaError("USAGE", message);
  }
  return resultOf(out, { ...manifest, revision }, 0);
}

function resultOf(out: string, { selection: _, ...manifest }: FetchManifest, fetchedBytes: number): FetchResult {
  return { ...manifest, out, bytes: totalBytes(manifest.files), fetchedBytes };
}

function totalBytes(files: readonly Pick<RemoteFile, "size">[]): number {
  return files.reduce((sum, { size }) => sum + size, 0);
}

function holdsAnother(out: string, existing: FetchManifest, { name, revision, commit }: PinnedRepository): PolypacaError {
  const held = `${existing.repository} at ${existing.commit.slice(0, 10)}`;
  const isSameCommit = existing.repository === name && existing.commit === commit;
  const difference = isSameCommit ? "with other --files or --include" : `and ${name}@${revision} is at ${commit.slice(0, 10)}`;
  return new PolypacaError("USAGE", `--out ${out}: holds ${held}, ${difference}. Choose another --out, or remove the folder.`);
}

function reportLicence(
  repository: PinnedRepository,
  { licence, licenceLink, isGated }: RepositoryInfo,
  environment: FetchEnvironment,
): void {
  const page = pageOf(repository, environment.endpoint);
  const stated = licence === null ? "the card names none; read the card before you use it" : licence;
  environment.note(`${repository.name}@${repository.revision} is commit ${repository.commit}`);
  environment.note(`licence: ${stated} (${licenceLink ?? page})`);
  if (isGated) environment.note(`gated: its terms have to be accepted at ${page}`);
}

/** What ends a fetch early keeps what came, and says so. */
function explained(cause: unknown, out: string, { endpoint }: Hub): unknown {
  const kept = existsSync(workFolder(out)) ? ` What came is kept in ${workFolder(out)}: the same command goes on from there.` : "";
  if (cause instanceof PolypacaError && cause.code === "CANCELLED") return new PolypacaError("CANCELLED", `stopped.${kept}`, { cause });
  if (cause instanceof RequestFailure) return new PolypacaError("IO", `${endpoint} does not answer: ${cause.message}.${kept}`, { cause });
  if (cause instanceof PolypacaError && cause.code === "INCOMPLETE")
    return new PolypacaError("INCOMPLETE", cause.message + kept, { cause });
  return cause;
}

function workFolder(out: string): string {
  return `${out}.part`;
}

const lockKind = { fileName: "fetch.lock", work: "fetching" } as const;

interface FetchParts {
  readonly hub: Hub;
  readonly pinned: PinnedRepository;
  readonly info: RepositoryInfo;
  readonly out: string;
  readonly request: RequestContext;
  readonly stopping: Stopping;
  readonly retry: RetryPolicy;
}

/** One call's work on `<out>.part`. */
class Fetch {
  readonly #settings: FetchSettings;
  readonly #environment: FetchEnvironment;
  readonly #parts: FetchParts;
  readonly #work: string;
  #fetchedBytes = 0;
  #onBytes = (bytes: number): void => {
    this.#fetchedBytes += bytes;
  };

  constructor(settings: FetchSettings, environment: FetchEnvironment, parts: FetchParts) {
    this.#settings = settings;
    this.#environment = environment;
    this.#parts = parts;
    this.#work = workFolder(parts.out);
  }

  async run(): Promise<FetchResult> {
    const { hub, pinned, out } = this.#parts;
    // Whoever uploads a fetched folder uploads our own files too, which say nothing of this fetch.
    const listed = (await hub.list(pinned)).filter(({ path }) => path !== fetchManifestName && path !== lockKind.fileName);
    const lock = lockFolder(this.#work, this.#environment.now(), lockKind);
    try {
      const files = await this.#select(listed);
      await this.#assertSpace(files);
      await this.#downloadAll(files);
      const manifest = this.#manifest(files);
      await this.#removeOthers(files);
      await writeFileSynced(join(this.#work, fetchManifestName), `${JSON.stringify(manifest, null, 2)}\n`);
      await syncTree(this.#work);
      lock.release();
      await rename(this.#work, out).catch((cause: unknown) => {
        throw writingError(out, cause);
      });
      await syncFolder(dirname(out));
      return resultOf(out, manifest, Math.max(0, this.#fetchedBytes));
    } finally {
      lock.release();
    }
  }

  async #select(listed: readonly RemoteFile[]): Promise<RemoteFile[]> {
    const selected: Selected = { name: this.#parts.pinned.name, files: listed, settings: this.#settings };
    if (this.#settings.kind === "data") return selectDataFiles(selected);
    return await selectModelFiles(selected, async (index) => {
      await download(index, this.#downloadContext());
      return [...(await readIndex(join(this.#work, index.path))).keys()];
    });
  }

  #downloadContext(): DownloadContext {
    const { hub, pinned, request, retry } = this.#parts;
    return { hub, repository: pinned, folder: this.#work, retry, request, onBytes: (bytes) => this.#onBytes(bytes) };
  }

  async #assertSpace(files: readonly RemoteFile[]): Promise<void> {
    const { freeBytes = freeDiskBytes } = this.#environment;
    const needed = totalBytes(files) - (await this.#bytesThere(files));
    const free = await freeBytes(this.#work);
    if (needed <= free) return;
    const message = `--out ${this.#parts.out}: ${mebibytes(needed)} MiB are still to be fetched, and ${mebibytes(free)} MiB are free there.`;
    throw new PolypacaError("DISK_FULL", `${message} Free some, or choose another --out.`);
  }

  async #bytesThere(files: readonly RemoteFile[]): Promise<number> {
    const there = await Promise.all(files.map((file) => bytesThere(file, this.#work)));
    return there.reduce((sum, bytes) => sum + bytes, 0);
  }

  async #downloadAll(files: readonly RemoteFile[]): Promise<void> {
    const { stopping } = this.#parts;
    const { concurrency = 4 } = this.#settings;
    const failures: string[] = [];
    const progress = await this.#openProgress(files);
    const ask = async (file: RemoteFile): Promise<RequestFailure | null> => {
      try {
        await download(file, this.#downloadContext());
        progress.finished();
        return null;
      } catch (cause) {
        if (!(cause instanceof RequestFailure)) throw cause;
        failures.push(`${file.path}: ${cause.message}`);
        return cause;
      }
    };
    const allFail = (count: number): PolypacaError => incomplete(failures, `the last ${count} files all failed`);
    try {
      // The largest first, so that they do not come one after the other at the end.
      const largestFirst = files.toSorted((a, b) => b.size - a.size);
      await askEach(largestFirst, ask, { concurrency, mostFailuresInTurn: concurrency + 1, allFail }, stopping);
    } finally {
      progress.stop();
    }
    if (failures.length > 0) throw incomplete(failures, `${failures.length} of ${files.length} files failed`);
  }

  /** From here on bytes are shown as they come. */
  async #openProgress(files: readonly RemoteFile[]): Promise<{ finished(): void; stop(): void }> {
    const { openProgress, now } = this.#environment;
    const start = await this.#bytesThere(files);
    const began = now();
    const whole = Math.ceil(totalBytes(files) / 2 ** 20);
    const bar = openProgress?.({ label: "fetch (MiB)", start: Math.floor(start / 2 ** 20), total: whole });
    let came = 0;
    let finished = 0;
    const show = (): void => {
      const rate = came / 2 ** 20 / Math.max(0.001, (now() - began) / 1000);
      const done = Math.min(whole, Math.max(0, Math.floor((start + came) / 2 ** 20)));
      bar?.update(finished === files.length ? whole : done, `${rate.toFixed(1)} MiB/s, ${finished} of ${files.length} files`);
    };
    this.#onBytes = (bytes) => {
      this.#fetchedBytes += bytes;
      came += bytes;
      show();
    };
    return {
      finished: () => {
        finished++;
        show();
      },
      stop: () => bar?.stop(),
    };
  }

  #manifest(files: readonly RemoteFile[]): FetchManifest {
    const { pinned, info, hub } = this.#parts;
    const { kind, name, revision, commit } = pinned;
    const selection = selectionOf(this.#settings);
    const inOrder = files.toSorted((a, b) => (a.path < b.path ? -1 : 1));
    return { kind, repository: name, endpoint: hub.endpoint, revision, commit, licence: info.licence, selection, files: inOrder };
  }

  /** What earlier calls left of other revisions or selections. */
  async #removeOthers(files: readonly RemoteFile[]): Promise<void> {
    const wanted = [...files.map(({ path }) => path), lockKind.fileName];
    for (const name of await readdir(this.#work, { recursive: true })) {
      const isWanted = wanted.some((path) => path === name || path.startsWith(`${name}/`));
      if (!isWanted) await rm(join(this.#work, name), { recursive: true, force: true });
    }
  }
}

function incomplete(failures: readonly string[], what: string): PolypacaError {
  return new PolypacaError("INCOMPLETE", `${what}: ${failures.join("; ")}.`);
}

function mebibytes(bytes: number): string {
  return Math.ceil(bytes / 2 ** 20).toLocaleString("en-US");
}
