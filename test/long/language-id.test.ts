import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { openClassifier } from "../../src/language-id/index.js";
import { whyNoNativeFastText } from "../../src/native/fasttext.js";
import { temporaryFolder } from "../data/data-folder.js";
import { sparseModel } from "../language-id/sparse-model.js";

const missing = whyNoNativeFastText();

describe("language identification", () => {
  it.skipIf(missing !== null)(
    `runs a model of OpenLID's size, which WebAssembly cannot hold${missing === null ? "" : ` (skipped: ${missing})`}`,
    async () => {
      const classifier = await openClassifier(await sparseModel(join(await temporaryFolder(), "openlid.bin"), 1_200_000_000));
      expect(await classifier.likeliest(["any text"], null)).toEqual([{ language: "en", probability: 1 }]);
      expect(await classifier.likeliest(["any text"], new Set(["fi"]))).toEqual([null]);
      await classifier.dispose();
    },
  );
});
