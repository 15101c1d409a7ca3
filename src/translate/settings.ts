/** What `translate` is told, and what it is given. */

import type { TokenPrices } from "../endpoint/usage.js";
import type { Progress } from "../train/progress.js";
import type { AskEnvironment } from "./ask.js";
import type { SourceSettings } from "./source.js";

export interface TranslateSettings extends SourceSettings {
  /** Language codes; each gets an `alpaca.<lang>.json`. */
  readonly targets: readonly string[];
  /** Folder for the translations, quality reports and journals. */
  readonly out: string;
  /** Segments of flagged records are asked for so many times again, each time with another key; 0: not. */
  readonly retry: number;
  /** Leave flagged records, and those of which a segment failed, out of the files. */
  readonly drop: boolean;
  /** null: no cost is shown. */
  readonly prices: TokenPrices | null;
}

export interface TranslateEnvironment extends AskEnvironment {
  readonly openProgress: (task: { readonly label: string; readonly start: number; readonly total: number }) => Progress;
}
