/** Checkpoint files made byte by byte, sound and unsound. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { crc32 } from "node:zlib";
import { afterEach } from "vitest";
import { PolypacaError } from "../../src/errors.js";

export const goldens = fileURLToPath(new URL("../goldens", import.meta.url));

const folders: string[] = [];
afterEach(() => {
  for (const folder of folders.splice(0)) rmSync(folder, { recursive: true, force: true });
});

/** An empty folder that goes after the test. */
export function temporaryFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), "polypaca-test-"));
  folders.push(folder);
  return folder;
}

export function temporaryFile(name: string, content: string | Uint8Array): string {
  const path = join(temporaryFolder(), name);
  writeFileSync(path, content);
  return path;
}

/** What an operation is refused with. */
export async function refusal(operation: Promise<unknown>): Promise<PolypacaError> {
  const outcome = await operation.then(
    () => "it succeeded",
    (error: unknown) => error,
  );
  if (outcome instanceof PolypacaError) return outcome;
  throw new Error(`expected a PolypacaError, but ${String(outcome)}`);
}

export function readJson(path: string): Record<string, unknown> {
  return JSON.parse(readFileSync(path, "utf8")) as Record<string, unknown>;
}

/** A safetensors file with this header, true or not, before these data bytes. */
export function safetensorsBytes(header: unknown, dataBytes: number): Buffer {
  const json = typeof header === "string" ? header : JSON.stringify(header);
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(Buffer.byteLength(json)));
  return Buffer.concat([length, Buffer.from(json), Buffer.alloc(dataBytes, 1)]);
}

export interface ZipEntry {
  readonly name: string;
  readonly data: Uint8Array;
  /** 0: stored (the default), 8: deflated. Only the number is written. */
  readonly method?: number;
}

/** A zip file of entries as they are. */
export function zipBytes(entries: readonly ZipEntry[]): Buffer {
  const parts: Buffer[] = [];
  const directory: Buffer[] = [];
  let offset = 0;
  for (const { name, data, method = 0 } of entries) {
    const common = Buffer.alloc(26);
    common.writeUInt16LE(20, 0); // version needed
    common.writeUInt16LE(method, 4);
    common.writeUInt32LE(crc32(data), 10);
    common.writeUInt32LE(data.length, 14);
    common.writeUInt32LE(data.length, 18);
    common.writeUInt16LE(Buffer.byteLength(name), 22);
    const local = Buffer.concat([Buffer.from("PK\x03\x04"), common, Buffer.from(name), data]);
    const tail = Buffer.alloc(14);
    tail.writeUInt32LE(offset, 10);
    directory.push(Buffer.concat([Buffer.from("PK\x01\x02"), Buffer.from([20, 0]), common, tail, Buffer.from(name)]));
    parts.push(local);
    offset += local.length;
  }
  const central = Buffer.concat(directory);
  const end = Buffer.alloc(18);
  end.writeUInt16LE(entries.length, 4);
  end.writeUInt16LE(entries.length, 6);
  end.writeUInt32LE(central.length, 8);
  end.writeUInt32LE(offset, 12);
  return Buffer.concat([...parts, central, Buffer.from("PK\x05\x06"), end]);
}

/** Pieces of a protocol 2 pickle. */
export const pickle = {
  stream: (...body: readonly Buffer[]): Buffer => Buffer.concat([Buffer.from([0x80, 2]), ...body, Buffer.from(".")]),
  global: (module: string, name: string): Buffer => Buffer.from(`c${module}\n${name}\n`),
  text: (value: string): Buffer => {
    const length = Buffer.alloc(4);
    length.writeUInt32LE(Buffer.byteLength(value));
    return Buffer.concat([Buffer.from("X"), length, Buffer.from(value)]);
  },
  int: (value: number): Buffer => {
    const bytes = Buffer.alloc(5, "J");
    bytes.writeInt32LE(value, 1);
    return bytes;
  },
  tuple: (...items: readonly Buffer[]): Buffer => Buffer.concat([Buffer.from("("), ...items, Buffer.from("t")]),
  reduce: (callee: Buffer, args: Buffer): Buffer => Buffer.concat([callee, args, Buffer.from("R")]),
  dict: (...entries: readonly (readonly [string, Buffer])[]): Buffer =>
    Buffer.concat([Buffer.from("}("), ...entries.flatMap(([key, value]) => [pickle.text(key), value]), Buffer.from("u")]),
  tensor: (options: {
    readonly shape: readonly number[];
    readonly strides: readonly number[];
    readonly offset?: number;
    readonly elements: number;
    readonly storage?: string;
    readonly key?: string;
  }): Buffer => {
    const { shape, strides, offset = 0, elements, storage = "FloatStorage", key = "0" } = options;
    const id = pickle.tuple(
      pickle.text("storage"),
      pickle.global("torch", storage),
      pickle.text(key),
      pickle.text("cpu"),
      pickle.int(elements),
    );
    const hooks = pickle.reduce(pickle.global("collections", "OrderedDict"), Buffer.from(")"));
    return pickle.reduce(
      pickle.global("torch._utils", "_rebuild_tensor_v2"),
      pickle.tuple(
        Buffer.concat([id, Buffer.from("Q")]),
        pickle.int(offset),
        pickle.tuple(...shape.map(pickle.int)),
        pickle.tuple(...strides.map(pickle.int)),
        Buffer.from([0x89]),
        hooks,
      ),
    );
  },
};

/** A pytorch_model.bin with this pickle and storage "0". */
export function torchBinBytes(stream: Buffer, storage: Uint8Array = new Uint8Array(0)): Buffer {
  return zipBytes([
    { name: "archive/data.pkl", data: stream },
    { name: "archive/data/0", data: storage },
    { name: "archive/version", data: Buffer.from("3\n") },
  ]);
}
