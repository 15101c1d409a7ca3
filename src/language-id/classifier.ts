import { type FileHandle, open } from "node:fs/promises";
import { basename } from "node:path";
import { PolypacaError } from "../errors.js";
import { NativeFastTextModel, whyNoNativeFastText } from "../native/fasttext.js";
import { faultOfFastTextFile } from "./fasttext-file.js";
import { FastTextModel, largestWasmModelBytes, unreadableModel } from "./fasttext-model.js";
import { codeOfLabel } from "./labels.js";

/** A label's language and its probability. */
export interface LanguageScore {
  /** Comparable code. */
  readonly language: string;
  /** 0 to 1. */
  readonly probability: number;
}

/** A model of languages, wherever it runs. */
export interface LanguageClassifier {
  /** File name, for records of what identified the languages. */
  readonly name: string;
  /** Comparable codes of the labels, each once. */
  readonly languages: readonly string[];
  /**
   * The likeliest language of each line, among all or among the comparable codes `expected`; null: the model has none of them.
   *
   * @throws PolypacaError `DISPOSED`, and what {@link NativeFastTextModel.predict} throws
   */
  likeliest(lines: readonly string[], expected: ReadonlySet<string> | null): Promise<readonly (LanguageScore | null)[]>;
  /** Gives its memory back. */
  dispose(): Promise<void>;
}

/**
 * Files up to this size are run in WebAssembly even where native fastText is there: they load in a moment, and results are the same.
 * lid.176.bin (131 MB) is among them.
 */
const smallModelBytes = 150_000_000;

/**
 * Opens a fastText classifier: in WebAssembly up to 150 MB, and up to {@link largestWasmModelBytes} where the addon was built without
 * fastText; else in the addon, off the JS thread.
 *
 * @param file null: fastText's lid.176.ftz, which comes along
 * @throws PolypacaError `NOT_FOUND`; `BAD_CHECKPOINT` for a file that is no fastText classifier, is cut off or contradicts itself;
 *   `UNSUPPORTED` for one that WebAssembly cannot hold where there is no native fastText; `OUT_OF_MEMORY`
 */
export async function openClassifier(file: string | null): Promise<LanguageClassifier> {
  if (file === null) return FastTextModel.loadBundled();
  const bytes = await checkModelFile(file);
  if (bytes <= smallModelBytes) return FastTextModel.load(file);
  const missing = whyNoNativeFastText();
  if (missing === null) return NativeClassifier.open(file, bytes);
  if (bytes <= largestWasmModelBytes) return FastTextModel.load(file);
  const [size, limit] = [bytes, largestWasmModelBytes].map((amount) => `${Math.round(amount / 1e6)} MB`);
  throw new PolypacaError(
    "UNSUPPORTED",
    `${file}: has ${size}; fastText's WebAssembly build holds up to ${limit}, and ${missing}. Or compress the model with "fasttext quantize".`,
  );
}

/** @returns its size in bytes */
async function checkModelFile(file: string): Promise<number> {
  const handle = await openModelFile(file);
  try {
    const details = await handle.stat();
    if (!details.isFile()) throw unreadableModel(file, "not a file");
    const fault = await faultOfFastTextFile(handle, details.size);
    if (fault !== null) throw unreadableModel(file, fault);
    return details.size;
  } finally {
    await handle.close();
  }
}

async function openModelFile(file: string): Promise<FileHandle> {
  return open(file).catch((cause: unknown) => {
    const { code, message } = PolypacaError.from(cause);
    if (code !== "NOT_FOUND") throw new PolypacaError(code, `${file}: ${message}`, { cause });
    throw new PolypacaError("NOT_FOUND", `${file}: no such file. Give a fastText model, or leave --lid-model out for lid.176.ftz.`);
  });
}

/** Predictions of all labels for so many lines come back at a time: 32 MB. */
const mostPredictions = 1 << 22;

/** A model that the addon runs. */
class NativeClassifier implements LanguageClassifier {
  readonly name: string;
  readonly languages: readonly string[];
  readonly #model: NativeFastTextModel;
  /** By label. */
  readonly #codes: readonly string[];

  private constructor(name: string, model: NativeFastTextModel) {
    this.name = name;
    this.#model = model;
    this.#codes = model.labels.map(codeOfLabel);
    this.languages = [...new Set(this.#codes)];
  }

  static async open(file: string, bytes: number): Promise<NativeClassifier> {
    return new NativeClassifier(basename(file), await NativeFastTextModel.load(file, bytes));
  }

  async likeliest(lines: readonly string[], expected: ReadonlySet<string> | null): Promise<(LanguageScore | null)[]> {
    const count = expected === null ? 1 : 0; // an expected language may stand behind any number of others
    const linesAtOnce = Math.max(1, Math.floor(mostPredictions / (count || this.#codes.length)));
    const found: (LanguageScore | null)[] = [];
    for (let first = 0; first < lines.length; first += linesAtOnce) {
      const { counts, labels, probabilities } = await this.#model.predict(lines.slice(first, first + linesAtOnce), count);
      let start = 0;
      for (const ofLine of counts) {
        const best = labels.subarray(start, start + ofLine).findIndex((label) => expected === null || expected.has(this.#codes[label]!));
        const at = start + best;
        found.push(best < 0 ? null : { language: this.#codes[labels[at]!]!, probability: Math.min(1, probabilities[at]!) });
        start += ofLine;
      }
    }
    return found;
  }

  async dispose(): Promise<void> {
    await this.#model.dispose();
  }
}
