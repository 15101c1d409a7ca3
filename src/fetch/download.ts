/** One file: fetched from where its part ends, checked, and put under its name. */

import type { Hash } from "node:crypto";
import { createReadStream } from "node:fs";
import { constants, type FileHandle, mkdir, open, rename, rm, stat } from "node:fs/promises";
import { dirname, join } from "node:path";
import { syncFolder, writingError } from "../checkpoint/atomic.js";
import type { RequestContext } from "../endpoint/request.js";
import { BadAnswer, ConnectionFault, type RetryPolicy, withRetries } from "../endpoint/retry.js";
import { hasContent, openHash } from "./content-hash.js";
import type { Hub, PinnedRepository, RemoteFile } from "./hub.js";

export interface DownloadContext {
  readonly hub: Hub;
  readonly repository: PinnedRepository;
  /** Of the files; paths in it are those of the repository. */
  readonly folder: string;
  readonly retry: RetryPolicy;
  readonly request: RequestContext;
  /** Bytes that came; negative where some have to come again. */
  readonly onBytes: (bytes: number) => void;
}

/** After so much a cut connection was worth having: it does not count as an attempt that failed. */
const worthwhileBytes = 2 ** 20;

/** The name of a part says what it is a part of, so parts of two revisions of a file are never put together. */
export function partName({ path, hash }: RemoteFile): string {
  return `${path}.${hash.hex}.part`;
}

/** Bytes of the file that are there: all of a finished one, else its part's. Contents are not looked at. */
export async function bytesThere(file: RemoteFile, folder: string): Promise<number> {
  const sizes = await Promise.all([file.path, partName(file)].map((name) => sizeOf(join(folder, name))));
  const [finished, part] = sizes as [number, number];
  return finished === file.size ? finished : Math.min(part, file.size);
}

async function sizeOf(path: string): Promise<number> {
  return await stat(path).then(
    ({ size }) => size,
    () => 0,
  );
}

/**
 * Brings `file` into the folder, going on with what an earlier call left there. Under its name is never anything but the whole file
 * with the hash that the hub lists.
 *
 * @throws RequestFailure after the last retry, the part staying; PolypacaError `CANCELLED`, `DISK_FULL`, `IO`, and as `Hub.open`
 */
export async function download(file: RemoteFile, context: DownloadContext): Promise<void> {
  const { folder, retry, request, onBytes } = context;
  const path = join(folder, file.path);
  if ((await sizeOf(path)) === file.size && file.size > 0) {
    if (await hasContent(path, file.hash, file.size)) return;
    request.note(`${file.path}: what is there is not what the hub lists; fetched again`);
    onBytes(-file.size);
  }
  try {
    await mkdir(dirname(path), { recursive: true });
    await rm(path, { force: true });
  } catch (cause) {
    throw writingError(path, cause);
  }
  const part = await PartFile.open(join(folder, partName(file)), file);
  try {
    const hooks = { who: file.path, context: request };
    while (!(await withRetries(() => receive(part, file, context), retry, hooks)));
    await part.finish(path);
  } finally {
    await part.close();
  }
}

/** @returns false where the connection broke, after so much that the next attempt is a first one */
async function receive(part: PartFile, file: RemoteFile, context: DownloadContext): Promise<boolean> {
  const before = part.length;
  try {
    if (part.length < file.size) await append(part, file, context);
    part.check();
    return true;
  } catch (fault) {
    if (fault instanceof BadAnswer) {
      context.onBytes(-part.length);
      await part.restart();
    }
    if (!(fault instanceof ConnectionFault) || part.length < before + worthwhileBytes) throw fault;
    context.request.note(`${file.path}: ${fault.message}; going on from byte ${part.length}`);
    return false;
  }
}

async function append(part: PartFile, file: RemoteFile, { hub, repository, request, onBytes }: DownloadContext): Promise<void> {
  const { start, body } = await hub.open(repository, file, part.length, request.abort);
  if (start < part.length) {
    onBytes(-part.length); // the server knows no ranges
    await part.restart();
  }
  for await (const bytes of body) {
    await part.append(bytes);
    onBytes(bytes.length);
  }
  if (part.length < file.size) throw new ConnectionFault(`the connection ended after ${part.length} of ${file.size} bytes`);
}

/** The bytes of a file from its beginning on, with their hash. */
class PartFile {
  readonly #path: string;
  readonly #file: RemoteFile;
  readonly #handle: FileHandle;
  #hash: Hash;
  #length = 0;
  #isOpen = true;

  private constructor(path: string, file: RemoteFile, handle: FileHandle) {
    this.#path = path;
    this.#file = file;
    this.#handle = handle;
    this.#hash = openHash(file.hash, file.size);
  }

  /** Opens the part that an earlier call left, or an empty one. */
  static async open(path: string, file: RemoteFile): Promise<PartFile> {
    try {
      const part = new PartFile(path, file, await open(path, constants.O_RDWR | constants.O_CREAT));
      for await (const chunk of createReadStream(path, { highWaterMark: 2 ** 20 })) part.#count(chunk as Buffer);
      if (part.#length > file.size) await part.restart();
      return part;
    } catch (cause) {
      throw writingError(path, cause);
    }
  }

  get length(): number {
    return this.#length;
  }

  #count(bytes: Uint8Array): void {
    this.#hash.update(bytes);
    this.#length += bytes.length;
  }

  /** @throws BadAnswer where there would be more than the file has; PolypacaError `DISK_FULL`, `IO` */
  async append(bytes: Uint8Array): Promise<void> {
    if (this.#length + bytes.length > this.#file.size)
      throw new BadAnswer(`more came than the ${this.#file.size} bytes that the hub lists`);
    try {
      for (let written = 0; written < bytes.length; )
        written += (await this.#handle.write(bytes, written, bytes.length - written, this.#length + written)).bytesWritten;
    } catch (cause) {
      throw writingError(this.#path, cause);
    }
    this.#count(bytes);
  }

  /** Throws away what came. */
  async restart(): Promise<void> {
    await this.#handle.truncate(0);
    this.#hash = openHash(this.#file.hash, this.#file.size);
    this.#length = 0;
  }

  /** @throws BadAnswer where the whole file is there and is not what the hub lists */
  check(): void {
    const { algorithm, hex } = this.#file.hash;
    const found = this.#hash.copy().digest("hex");
    if (found !== hex) throw new BadAnswer(`what came has the ${algorithm} ${found}, the hub lists ${hex}: thrown away`);
  }

  /** Syncs it and gives it the file's name. */
  async finish(path: string): Promise<void> {
    try {
      await this.#handle.sync();
      await this.close();
      await rename(this.#path, path);
      await syncFolder(dirname(path));
    } catch (cause) {
      throw writingError(path, cause);
    }
  }

  async close(): Promise<void> {
    if (!this.#isOpen) return;
    this.#isOpen = false;
    await this.#handle.close();
  }
}
