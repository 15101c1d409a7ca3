/** Native fastText against the WebAssembly build and the `fasttext` program, on models that are trained here. */
import { mkdtempSync, rmSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Worker } from "node:worker_threads";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { bundledModelFile, codeOfLabel, FastTextModel } from "../../src/language-id/index.js";
import { NativeFastTextModel, whyNoNativeFastText } from "../../src/native/fasttext.js";
import { addonCandidates, loadAddonWithPath } from "../../src/native/load.js";
import { dataFile } from "../data/data-folder.js";
import { noFastTextProgram, openLidLabels, predictAll, sampleLines, trainModel } from "./fasttext-program.js";

const notBuilt = whyNoNativeFastText();

async function loadNative(file: string): Promise<NativeFastTextModel> {
  return NativeFastTextModel.load(file, (await readFile(file)).length);
}

/** One line's labels and probabilities out of the flat arrays. */
async function predictNatively(model: NativeFastTextModel, lines: readonly string[], count: number) {
  const { counts, labels, probabilities } = await model.predict(lines, count);
  let start = 0;
  return [...counts].map((ofLine) => {
    const at = Array.from({ length: ofLine }, (_, i) => start + i);
    start += ofLine;
    return at.map((i) => ({ label: model.labels[labels[i]!]!, probability: Math.min(1, probabilities[i]!) }));
  });
}

/** The order of labels whose probabilities differ by rounding only is left open. */
function byLabel(predictions: readonly { readonly label: string; readonly probability: number }[]): Map<string, number> {
  return new Map(predictions.map(({ label, probability }) => [label, probability]));
}

function largestDifference(a: ReadonlyMap<string, number>, b: ReadonlyMap<string, number>): number {
  return Math.max(...[...a].map(([label, probability]) => Math.abs(probability - b.get(label)!)));
}

describe.skipIf(notBuilt !== null)(`native fastText${notBuilt === null ? "" : ` (skipped: ${notBuilt})`}`, () => {
  let folder: string;
  let lines: string[];
  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), "polypaca-fasttext-"));
    lines = [
      ...(await sampleLines()).map(({ line }) => line),
      "",
      "4 + 5",
      "Der Hund \u0301schläft",
      "a".repeat(20_000),
      "__label__eng_Latn yes",
    ];
  });
  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  describe.skipIf(noFastTextProgram !== null)(
    `with a model trained here${noFastTextProgram ? ` (skipped: ${noFastTextProgram})` : ""}`,
    () => {
      it.each([
        ["softmax, as OpenLID", { loss: "softmax" }],
        ["a hierarchical softmax", { loss: "hs" }],
        ["one against all", { loss: "ova" }],
        ["quantized matrices and kept n-grams", { isQuantized: true }],
      ] as const)("gives every line the labels and probabilities of the program and of WebAssembly: %s", async (_, settings) => {
        const file = await trainModel({ folder, ...settings });
        const [native, wasm] = [await loadNative(file), await FastTextModel.load(file)];
        const found = await predictNatively(native, lines, 0);
        const byProgram = predictAll(file, lines);
        const sameLabels = (a: ReadonlyMap<string, number>, b: ReadonlyMap<string, number>): boolean =>
          a.size === 9 && b.size === 9 && [...a.keys()].every((label) => b.has(label));
        for (const [index, line] of lines.entries()) {
          const [mine, programs] = [byLabel(found[index]!), byLabel(byProgram[index]!)];
          const wasms = new Map(wasm.predict(line, 0).map(({ language, probability }) => [language, probability]));
          const mineByCode = new Map([...mine].map(([label, probability]) => [codeOfLabel(label), probability]));
          expect(sameLabels(mine, programs) && sameLabels(mineByCode, wasms), line).toBe(true);
          const apart = [largestDifference(mine, programs), largestDifference(mineByCode, wasms)];
          expect(Math.max(...apart), line).toBeLessThan(1e-5);
        }
        const tops = await predictNatively(native, lines, 1);
        expect(tops.map(([top]) => top!.probability)).toEqual(found.map(([first]) => first!.probability));
        await native.dispose();
      });

      it("knows the languages it was trained on", async () => {
        const native = await loadNative(await trainModel({ folder }));
        expect([...native.labels].sort()).toEqual(
          Object.values(openLidLabels)
            .map((label) => `__label__${label}`)
            .sort(),
        );
        const samples = await sampleLines();
        const found = await predictNatively(
          native,
          samples.map(({ line }) => line),
          1,
        );
        const right = samples.filter(({ language }, index) => codeOfLabel(found[index]![0]!.label) === language).length;
        expect(right / samples.length).toBeGreaterThan(0.9);
        await native.dispose();
      });
    },
  );

  it("agrees with WebAssembly on lid.176.ftz, every label of every line", async () => {
    const [native, wasm] = [await loadNative(bundledModelFile()), await FastTextModel.loadBundled()];
    const found = await predictNatively(native, lines, 0);
    for (const [index, line] of lines.entries()) {
      const wasms = wasm.predict(line, 0);
      expect(wasms).toHaveLength(176);
      expect(found[index]).toHaveLength(176);
      const apart = wasms.map(({ probability }, rank) => Math.abs(found[index]![rank]!.probability - probability));
      expect(Math.max(...apart), line).toBeLessThan(1e-5);
      expect(codeOfLabel(found[index]![0]!.label), line).toBe(wasms[0]!.language);
    }
    await native.dispose();
  });

  it("leaves the event loop free", async () => {
    const native = await loadNative(bundledModelFile());
    const many = Array.from({ length: 20 }, () => lines).flat();
    let turns = 0;
    const running = native.predict(many, 1).then(() => turns);
    const turn = (): void => {
      turns++;
      timer = setImmediate(turn);
    };
    let timer = setImmediate(turn);
    expect(await running).toBeGreaterThan(10);
    clearImmediate(timer);
    await native.dispose();
  });

  it("answers calls that overlap, each with its own", async () => {
    const native = await loadNative(bundledModelFile());
    const one = await predictNatively(native, lines, 3);
    const several = await Promise.all([lines, lines.slice(5, 9), [], lines].map((some) => predictNatively(native, some, 3)));
    expect(several).toEqual([one, one.slice(5, 9), [], one]);
    await native.dispose();
  });

  it("finishes what was asked before dispose, and refuses what comes after", async () => {
    const native = await loadNative(bundledModelFile());
    const asked = native.predict(lines, 1);
    await native.dispose();
    expect((await asked).counts).toHaveLength(lines.length);
    await native.dispose();
    await expect(native.predict(["text"], 1)).rejects.toMatchObject({ code: "DISPOSED" });
  });

  it("names the file where it ends early or is none, without its check", async () => {
    const bytes = await readFile(bundledModelFile());
    for (const length of [10, 100, 5_000, 400_000, bytes.length - 1]) {
      const file = await dataFile("cut.ftz", bytes.subarray(0, length));
      await expect(loadNative(file)).rejects.toMatchObject({
        ...{ code: "CHECKPOINT_MISMATCH", message: expect.stringMatching(/cut\.ftz: ends before its model does/) },
      });
    }
    const other = await dataFile("other.bin", Buffer.alloc(1000, 7));
    await expect(loadNative(other)).rejects.toMatchObject({ message: expect.stringMatching(/other\.bin: not a fastText model/) });
    await expect(NativeFastTextModel.load("/no/such.bin", 10)).rejects.toMatchObject({
      code: "IO",
      message: expect.stringContaining("/no/such.bin"),
    });
  });

  it("refuses a model that does not fit the memory before it reads it", async () => {
    const file = await dataFile("large.bin", "small");
    await expect(NativeFastTextModel.load(file, 2 ** 50)).rejects.toMatchObject({
      ...{
        code: "OUT_OF_MEMORY",
        message: expect.stringMatching(/large\.bin: needs about \d+ MB of memory, \d+ are available|needs about/),
      },
    });
  });

  it("works in a worker thread that ends while it predicts", async () => {
    const { path } = loadAddonWithPath();
    expect(addonCandidates()).toContain(path);
    const source = `
      const { parentPort, workerData } = require("node:worker_threads");
      const addon = require(workerData.path);
      addon.loadFastText(workerData.model).then((model) => {
        const lines = Array.from({ length: 200000 }, (_, i) => "Der Hund schläft heute im Garten " + i);
        void model.predict(lines, 1);
        parentPort.postMessage(model.labels.length);
      });`;
    const worker = new Worker(source, { eval: true, workerData: { path, model: bundledModelFile() } });
    const labels = await new Promise<number>((resolve, reject) => worker.once("message", resolve).once("error", reject));
    expect(labels).toBe(176);
    expect(await worker.terminate()).toBe(1);
  });
});
