import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { basename } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import type { FastTextModel as WasmModel } from "fasttext.wasm.js";
import { PolypacaError } from "../errors.js";
import type { LanguageClassifier, LanguageScore } from "./classifier.js";
import { codeOfLabel } from "./labels.js";

/**
 * The most that WebAssembly is given. It has 2 GiB of memory here, and fastText needs several times a model's size while it reads it:
 * 610 MB were seen to load, 810 MB to abort (bench/language-id.bench.mjs).
 */
export const largestWasmModelBytes = 650_000_000;

/** Its name in the module's own file system, from where fastText reads it. */
const moduleFile = "model.bin";

/** Labels asked for, the next number where no expected language is among them (0: all). One takes half the time of ten, and is nearly always enough. */
const labelCounts = [1, 10, 0] as const;

/** A fastText classifier of languages, run in WebAssembly on the calling thread. */
export class FastTextModel implements LanguageClassifier {
  readonly name: string;
  readonly languages: readonly string[];
  #model: WasmModel | null;

  private constructor(name: string, model: WasmModel, labels: readonly string[]) {
    this.name = name;
    this.languages = [...new Set(labels.map(codeOfLabel))];
    this.#model = model;
  }

  /** fastText's lid.176.ftz (176 languages, 0.9 MB), which comes with the package. */
  static async loadBundled(): Promise<FastTextModel> {
    return FastTextModel.load(bundledModelFile());
  }

  /**
   * Loads a model from a file that `faultOfFastTextFile` found nothing wrong with.
   *
   * @throws PolypacaError `BAD_CHECKPOINT` where it does not load; `UNSUPPORTED` where WebAssembly's memory does not suffice
   */
  static async load(file: string): Promise<FastTextModel> {
    const fastText = await import("fasttext.wasm.js");
    // The module would print what it aborts with.
    const silent: object = { print() {}, printErr() {} };
    const core = await fastText.getFastTextModule({ ...silent });
    const bytes = await readFile(file);
    try {
      const native = new core.FastText();
      core.FS.writeFile(moduleFile, bytes, { canOwn: true });
      native.loadModel(moduleFile);
      core.FS.unlink(moduleFile);
      const model = new fastText.FastTextModel(native, core);
      return new FastTextModel(basename(file), model, labelsOf(model));
    } catch (cause) {
      throw isAbort(cause) ? tooLarge(file, bytes.length) : unreadableModel(file, "the model does not load", cause);
    }
  }

  /**
   * Languages by falling probability; a language that several labels stand for comes more than once.
   *
   * @param text one line: fastText reads no further than a line break
   * @param count most labels; 0: all
   * @throws PolypacaError `DISPOSED`
   */
  predict(text: string, count: number): readonly LanguageScore[] {
    if (this.#model === null) throw new PolypacaError("DISPOSED", `${this.name} was disposed of`);
    // fastText drops labels whose log(probability + 1e-5) is below log(threshold + 1e-5); no number is below NaN.
    const threshold = count === 0 ? -1 : 0;
    const found = this.#model.predict(text, count === 0 ? -1 : count, threshold);
    try {
      return Array.from({ length: found.size() }, (_, i) => {
        const [probability, label] = found.get(i);
        return { language: codeOfLabel(label), probability: Math.min(1, probability) };
      });
    } finally {
      found.delete(); // lives in the module's memory
    }
  }

  /** The likeliest language of a line, among all or among `expected`; null: the model has none of them. */
  likeliestOf(line: string, expected: ReadonlySet<string> | null): LanguageScore | null {
    for (const count of labelCounts) {
      const found = this.predict(line, count).find(({ language }) => expected === null || expected.has(language));
      if (found !== undefined) return found;
    }
    return null;
  }

  async likeliest(lines: readonly string[], expected: ReadonlySet<string> | null): Promise<(LanguageScore | null)[]> {
    return lines.map((line) => this.likeliestOf(line, expected));
  }

  /** Lets go of the module and its memory, which the engine then collects. */
  async dispose(): Promise<void> {
    this.#model = null;
  }
}

/** Path of the lid.176.ftz that comes with the package. */
export function bundledModelFile(): string {
  const entry = createRequire(import.meta.url).resolve("fasttext.wasm.js");
  return fileURLToPath(new URL("../models/language-identification/assets/lid.176.ftz", pathToFileURL(entry)));
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

/** A file that is no usable classifier. */
export function unreadableModel(file: string, what: string, cause?: unknown): PolypacaError {
  return new PolypacaError(
    "BAD_CHECKPOINT",
    `${file}: ${what}. A complete fastText classifier of languages (.bin or .ftz) was expected, such as lid.176.bin.`,
    { cause },
  );
}

function tooLarge(file: string, bytes: number): PolypacaError {
  return new PolypacaError(
    "UNSUPPORTED",
    `${file}: ${Math.round(bytes / 1e6)} MB were too much for fastText's WebAssembly build, which has 2 GiB of memory in all. Install native fastText (Debian, Ubuntu: apt-get install libfasttext-dev), then "npm run build", or compress the model with "fasttext quantize".`,
  );
}
