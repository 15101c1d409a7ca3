import { PolypacaError } from "../errors.js";
import type { LabelPredictions, NativeFastText } from "./addon-types.js";
import { loadAddon } from "./load.js";
import { wrapErrors } from "./model.js";

/** Why this build cannot run fastText, and what to do about it; null where it can. */
export function whyNoNativeFastText(): string | null {
  try {
    if (loadAddon().machine().fastText) return null;
    return 'this build has no native fastText. Install it (Debian, Ubuntu: apt-get install libfasttext-dev), then "npm run build"';
  } catch (cause) {
    return `the native addon does not load (${PolypacaError.from(cause).message})`;
  }
}

/** Beyond the file's size: the dictionary as it is held in memory, and what predictions take. */
const memoryShare = 1.1;

/** A fastText classifier in native memory. Its work runs on the one compute thread of the process; calls queue. */
export class NativeFastTextModel {
  readonly labels: readonly string[];
  readonly #native: NativeFastText;

  private constructor(native: NativeFastText) {
    this.labels = native.labels;
    this.#native = native;
  }

  /**
   * Loads a file that `faultOfFastTextFile` found nothing wrong with.
   *
   * @param bytes of the file
   * @throws PolypacaError `OUT_OF_MEMORY` with figures, before it is read; `UNSUPPORTED` where this build has no fastText;
   *   `CHECKPOINT_MISMATCH`, `IO`
   */
  static async load(file: string, bytes: number): Promise<NativeFastTextModel> {
    const addon = loadAddon();
    const { available } = addon.memoryUsage();
    if (bytes * memoryShare > available) {
      const [needed, free] = [bytes * memoryShare, available].map((amount) => `${Math.round(amount / 1e6)} MB`);
      throw new PolypacaError("OUT_OF_MEMORY", `${file}: needs about ${needed} of memory, ${free} are available.`);
    }
    return new NativeFastTextModel(await wrapErrors(addon.loadFastText(file)));
  }

  /**
   * @param lines without line breaks: fastText reads no further
   * @param count most labels of a line; 0: all
   * @throws PolypacaError `DISPOSED`; `CHECKPOINT_MISMATCH` where the model's weights hold NaN
   */
  async predict(lines: readonly string[], count: number): Promise<LabelPredictions> {
    return wrapErrors(this.#native.predict(lines, count));
  }

  /** Frees native memory after the queued jobs. Calling it again does nothing. */
  async dispose(): Promise<void> {
    await this.#native.dispose();
  }
}
