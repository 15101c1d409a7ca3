/**
 * pytorch_model.bin as torch.save has written it since PyTorch 1.6: an uncompressed zip of `<name>/data.pkl`, which describes the
 * tensors, and `<name>/data/<key>`, their storages. Storages are located, not read: native code maps them where they lie.
 */
import { open } from "node:fs/promises";
import yauzl from "yauzl";
import { PolypacaError } from "../errors.js";
import { type PickledTensor, readPickle } from "./pickle.js";
import { denseStrides, elementBytes, lastElement, type StoredTensor } from "./stored-tensor.js";

/** A description of 100,000 tensors is smaller. */
const maxPickleBytes = 16 * 2 ** 20;
const maxEntries = 200_000;

/** An entry of the zip file: its bytes as they lie in the file. */
interface Entry {
  readonly offset: number;
  readonly bytes: number;
}

/**
 * Locates the tensors of a PyTorch checkpoint. No code in it is run: its pickle is read by `readPickle`.
 *
 * @returns tensors of any element type, with strides where they are views other than dense ones
 * @throws PolypacaError `NOT_FOUND`; `UNSUPPORTED` for the pickles of before PyTorch 1.6 and for compressed zips; `BAD_CHECKPOINT`
 *   naming file and tensor where the zip is damaged, the pickle holds anything but tensors, or a tensor reaches past its storage
 */
export async function readTorchBin(path: string): Promise<StoredTensor[]> {
  await refuseOtherFormats(path);
  const entries = await listEntries(path);
  const pickleName = [...entries.keys()].find((name) => /(^|\/)data\.pkl$/.test(name));
  if (pickleName === undefined)
    throw bad(path, "it has no data.pkl: it was not written by torch.save (TorchScript archives are not supported)");
  const root = pickleName.slice(0, -"data.pkl".length);
  await refuseBigEndian(path, entries.get(`${root}byteorder`));
  const state = readPickle(await readEntry(path, pickleName, entries.get(pickleName)!, maxPickleBytes), path);
  if (!(state instanceof Map)) throw bad(path, "it holds something other than a dictionary of tensors");
  return [...state].map(([name, value]) => {
    if (typeof name !== "string" || typeof value !== "object" || value === null || !("kind" in value) || value.kind !== "tensor") {
      throw bad(path, `the entry ${JSON.stringify(name)} is not a tensor: expected a dictionary of tensors, as save_pretrained writes it`);
    }
    return locate(path, name, value, entries.get(`${root}data/${value.storage.key}`));
  });
}

function bad(path: string, what: string, cause?: unknown): PolypacaError {
  return new PolypacaError("BAD_CHECKPOINT", `${path}: ${what}. Copy or download the file again, or use safetensors.`, { cause });
}

/** Tells the files of old PyTorch from damaged ones; neither is read. */
async function refuseOtherFormats(path: string): Promise<void> {
  const start = await readStart(path);
  if (start.toString("latin1").startsWith("PK\x03\x04")) return;
  if (start[0] === 0x80 || start[0] === 0x28 || start[0] === 0x63) {
    throw new PolypacaError(
      "UNSUPPORTED",
      `${path}: this is a bare pickle (torch.save before PyTorch 1.6), which is not read because it can run code. Load and save it again with a current PyTorch, best as safetensors.`,
    );
  }
  throw bad(path, `it begins with ${start.length > 0 ? `the bytes ${start.toString("hex")}` : "nothing"}, not as a zip file`);
}

async function readStart(path: string): Promise<Buffer> {
  const file = await open(path, "r").catch((cause: unknown) => {
    throw PolypacaError.from(cause);
  });
  try {
    const { buffer, bytesRead } = await file.read(Buffer.alloc(4), 0, 4, 0);
    return buffer.subarray(0, bytesRead);
  } finally {
    await file.close();
  }
}

async function listEntries(path: string): Promise<Map<string, Entry>> {
  const zip = await yauzl.openPromise(path, { lazyEntries: true, autoClose: false }).catch((cause: unknown) => {
    throw bad(path, `its zip directory cannot be read (${(cause as Error).message}): it is truncated or corrupt`, cause);
  });
  try {
    if (zip.entryCount > maxEntries) throw bad(path, `its zip directory claims ${zip.entryCount} entries, over ${maxEntries}`);
    const entries = new Map<string, Entry>();
    for await (const entry of zip.eachEntry()) {
      const { fileName, compressionMethod, compressedSize, uncompressedSize } = entry;
      if (compressionMethod !== 0 || compressedSize !== uncompressedSize) {
        throw new PolypacaError(
          "UNSUPPORTED",
          `${path}: "${fileName}" is compressed; torch.save stores entries as they are. Save the file again with torch.save.`,
        );
      }
      if (entry.isEncrypted()) throw new PolypacaError("UNSUPPORTED", `${path}: "${fileName}" is encrypted.`);
      if (entries.has(fileName)) throw bad(path, `"${fileName}" stands twice in its zip directory`);
      const { fileDataStart } = await zip.readLocalFileHeaderPromise(entry, { minimal: true });
      entries.set(fileName, { offset: fileDataStart, bytes: uncompressedSize });
    }
    return entries;
  } catch (cause) {
    if (cause instanceof PolypacaError) throw cause;
    throw bad(path, `its zip directory is damaged (${(cause as Error).message})`, cause);
  } finally {
    zip.close();
  }
}

async function readEntry(path: string, name: string, { offset, bytes }: Entry, limit: number): Promise<Buffer> {
  if (bytes > limit) throw bad(path, `"${name}" has ${bytes} bytes, over the limit of ${limit}`);
  const file = await open(path, "r");
  try {
    const { buffer, bytesRead } = await file.read(Buffer.alloc(bytes), 0, bytes, offset);
    if (bytesRead < bytes) throw bad(path, `"${name}" is truncated`);
    return buffer;
  } finally {
    await file.close();
  }
}

async function refuseBigEndian(path: string, entry: Entry | undefined): Promise<void> {
  if (!entry) return; // absent before PyTorch 2.1
  const order = (await readEntry(path, "byteorder", entry, 16)).toString("latin1");
  if (order !== "little") throw new PolypacaError("UNSUPPORTED", `${path}: its byte order is "${order}"; polypaca reads "little".`);
}

function locate(path: string, name: string, tensor: PickledTensor, entry: Entry | undefined): StoredTensor {
  const { storage, offset, shape, strides } = tensor;
  const size = elementBytes[storage.dtype]!;
  if (!entry) throw bad(path, `the storage "${storage.key}" of "${name}" is missing`);
  if (storage.elements * size > entry.bytes) {
    throw bad(
      path,
      `the storage of "${name}" should have ${storage.elements} elements of ${storage.dtype}, but holds ${entry.bytes} bytes`,
    );
  }
  const last = offset + lastElement(shape, strides);
  if (!(last < storage.elements)) throw bad(path, `"${name}" reaches element ${last} of its storage, which has ${storage.elements}`);
  const dense = denseStrides(shape);
  // The stride of an axis of size 1 is never used, so it does not count.
  const isDense = shape.every((length, axis) => length === 1 || strides[axis] === dense[axis]);
  return { name, file: path, offset: entry.offset + offset * size, dtype: storage.dtype, shape, ...(isDense ? {} : { strides }) };
}
