import { open } from "node:fs/promises";
import { createRequire } from "node:module";
import { basename } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import type { FastTextModel as WasmModel } from "fasttext.wasm.js";
import { PolypacaError } from "../errors.js";
import { fastTextLength, faultOfHead, headBytes } from "./fasttext-file.js";
import { codeOfLabel } from "./labels.js";

/** A label's language and its probability. */
export interface LanguageScore {
  /** Comparable code. */
  readonly language: string;
  /** 0 to 1. */
  readonly probability: number;
}

/**
 * WebAssembly has at most 2 GiB here, and fastText needs about twice a model's size while it reads it: 514 MB were seen to load, OpenLID's
 * 1.2 GB were seen to abort. What lies between is tried, and refused with the same words where it aborts.
 */
const maxModelBytes = 1_000_000_000;

/** Its name in the module's own file system, from where fastText reads it. */
const moduleFile = "model.bin";

/** A fastText classifier of languages, run in WebAssembly. */
export class FastTextModel {
  /** File name, for records of what identified the languages. */
  readonly name: string;
  /** Comparable codes of the labels, each once. */
  readonly languages: readonly string[];
  readonly #model: WasmModel;

  private constructor(name: string, model: WasmModel, labels: readonly string[]) {
    this.name = name;
    this.languages = [...new Set(labels.map(codeOfLabel))];
    this.#model = model;
  }

  /** fastText's lid.176.ftz (176 languages, 0.9 MB), which comes with the package. */
  static async loadBundled(): Promise<FastTextModel> {
    const entry = createRequire(import.meta.url).resolve("fasttext.wasm.js");
    return FastTextModel.load(fileURLToPath(new URL("../models/language-identification/assets/lid.176.ftz", pathToFileURL(entry))));
  }

  /**
   * Loads a model from a file.
   *
   * @throws PolypacaError `NOT_FOUND`; `BAD_CHECKPOINT` for a file that is no fastText classifier or is cut off; `UNSUPPORTED` for one too
   *   large for the WebAssembly build
   */
  static async load(file: string): Promise<FastTextModel> {
    const bytes = await readModel(file);
    const fastText = await import("fasttext.wasm.js");
    // The module would print what it aborts with.
    const silent: object = { print() {}, printErr() {} };
    const core = await fastText.getFastTextModule({ ...silent });
    try {
      const native = new core.FastText();
      core.FS.writeFile(moduleFile, bytes, { canOwn: true });
      native.loadModel(moduleFile);
      core.FS.unlink(moduleFile);
      const model = new fastText.FastTextModel(native, core);
      return new FastTextModel(basename(file), model, labelsOf(model));
    } catch (cause) {
      throw isAbort(cause) ? tooLarge(file, bytes.length) : notReadable(file, "the model does not load", cause);
    }
  }

  /**
   * Languages by falling probability; a language that several labels stand for comes more than once.
   *
   * @param text one line: fastText reads no further than a line break
   * @param count most labels; 0: all
   */
  predict(text: string, count: number): readonly LanguageScore[] {
    // fastText drops labels whose log(probability + 1e-5) is below log(threshold + 1e-5); no number is below NaN.
    const threshold = count === 0 ? -1 : 0;
    const found = this.#model.predict(text, count === 0 ? -1 : count, threshold);
    try {
      return Array.from({ length: found.size() }, (_, i) => {
        const [probability, label] = found.get(i);
        return { language: codeOfLabelCached(label), probability: Math.min(1, probability) };
      });
    } finally {
      found.delete(); // lives in the module's memory
    }
  }
}

const codes = new Map<string, string>();

function codeOfLabelCached(label: string): string {
  let code = codes.get(label);
  if (code === undefined) {
    code = codeOfLabel(label);
    codes.set(label, code);
  }
  return code;
}

function labelsOf(model: WasmModel): readonly string[] {
  const [labels, counts] = model.getLabels() as unknown as readonly [WasmVector, WasmVector];
  try {
    return Array.from({ length: labels.size() }, (_, i) => labels.get(i));
  } finally {
    labels.delete();
    counts.delete();
  }
}

interface WasmVector {
  size(): number;
  get(index: number): string;
  delete(): void;
}

function isAbort(cause: unknown): boolean {
  return cause instanceof Error && (cause.name === "RuntimeError" || cause instanceof RangeError); // of WebAssembly, of an ArrayBuffer
}

async function readModel(file: string): Promise<Buffer> {
  const handle = await open(file).catch((cause: unknown) => {
    const { code, message } = PolypacaError.from(cause);
    if (code !== "NOT_FOUND") throw new PolypacaError(code, `${file}: ${message}`, { cause });
    throw new PolypacaError("NOT_FOUND", `${file}: no such file. Give a fastText model, or leave --lid-model out for lid.176.ftz.`);
  });
  try {
    const details = await handle.stat();
    if (!details.isFile()) throw notReadable(file, "not a file");
    const head = Buffer.alloc(headBytes);
    const { bytesRead } = await handle.read(head, 0, headBytes, 0);
    const fault = faultOfHead(head.subarray(0, bytesRead));
    if (fault !== null) throw notReadable(file, fault);
    if (details.size > maxModelBytes) throw tooLarge(file, details.size);
    const bytes = await handle.readFile();
    const wanted = fastTextLength(bytes);
    if (bytes.length < wanted) {
      const ofHow = wanted === Number.POSITIVE_INFINITY ? "" : ` of ${wanted}`;
      throw notReadable(file, `cut off at ${bytes.length}${ofHow} bytes`);
    }
    return bytes;
  } finally {
    await handle.close();
  }
}

function notReadable(file: string, what: string, cause?: unknown): PolypacaError {
  return new PolypacaError(
    "BAD_CHECKPOINT",
    `${file}: ${what}. A complete fastText classifier of languages (.bin or .ftz) was expected, such as lid.176.bin.`,
    { cause },
  );
}

function tooLarge(file: string, bytes: number): PolypacaError {
  return new PolypacaError(
    "UNSUPPORTED",
    `${file}: ${Math.round(bytes / 1e6)} MB are too much for fastText's WebAssembly build, which has 2 GiB of memory for about twice the model. Compress it with "fasttext quantize", or use lid.176.bin (126 MB).`,
  );
}
