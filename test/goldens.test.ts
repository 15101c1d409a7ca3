/** The proof that this build computes what PyTorch, transformers and PEFT compute; see goldens/README.md. */
import { cpSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { describe, expect, it } from "vitest";
import { loadAddon } from "../src/native/load.js";
import { type CaseReport, verifyCase } from "../src/verify/verify-case.js";
import { goldens, readJson, refusal, temporaryFolder } from "./checkpoint/crafted-files.js";

const cases = readdirSync(goldens).filter((name) => /^\d/.test(name));
const variants = readdirSync(join(goldens, "variants")).map((name) => `variants/${name}`);

const verify = (dir: string): Promise<CaseReport> => verifyCase(loadAddon(), dir, { device: "cpu", dtype: "fp32" });

describe("in fp32 on the CPU", () => {
  it.each(cases)("%s agrees in logits, losses, gradients, training curves and generations", async (name) => {
    const { failures, passed, maxRelativeError } = await verify(join(goldens, name));
    expect(failures).toEqual([]);
    expect(passed).toBe(true);
    for (const error of Object.values(maxRelativeError)) expect(error).toBeLessThan(1e-4);
  });

  it.each(variants)("%s loads to its expected losses and logits", async (name) => {
    const { failures, maxRelativeError } = await verify(join(goldens, name));
    expect(failures).toEqual([]);
    expect(maxRelativeError).toMatchObject({ gradients: null, loraGradients: null, curve: null });
  });
});

/** The case that is tampered with: it has biases and elements that are zero by mathematics. */
const subject = "03-gpt_neox-parallel";
const attention = "gpt_neox.layers.1.attention.query_key_value";

function copyOf(name: string): string {
  const dir = join(temporaryFolder(), name);
  cpSync(join(goldens, name), dir, { recursive: true });
  return dir;
}

type Change = (value: number) => number;
const add =
  (change: number): Change =>
  (value) =>
    value + change;
const scale =
  (factor: number): Change =>
  (value) =>
    value * factor;
/** Another token of the subject's vocabulary. */
const nextToken: Change = (token) => (token + 1) % 280;

/** Changes the number at a path in a JSON file, or, in a safetensors file, the value [tensor, index]. */
function tamper(dir: string, file: string, path: readonly (string | number)[], change: Change): void {
  if (file.endsWith(".json")) changeJson(join(dir, file), path, change);
  else changeTensor(join(dir, file), path as [string, number], change);
}

function changeJson(file: string, path: readonly (string | number)[], change: Change): void {
  const root = readJson(file);
  const last = path.at(-1)!;
  const parent = path.slice(0, -1).reduce<unknown>((at, key) => (at as Record<string | number, unknown>)[key], root) as Record<
    string | number,
    number
  >;
  const before = parent[last];
  if (typeof before !== "number") throw new Error(`${file} has no number at ${path.join(".")}`);
  parent[last] = change(before);
  writeFileSync(file, JSON.stringify(root));
}

function changeTensor(file: string, [name, index]: readonly [string, number], change: Change): void {
  const bytes = readFileSync(file);
  const dataStart = 8 + Number(bytes.readBigUInt64LE());
  const header = JSON.parse(bytes.subarray(8, dataStart).toString()) as Record<string, { data_offsets: [number, number] }>;
  const entry = header[name];
  if (!entry) throw new Error(`${file} has no ${name}`);
  const at = dataStart + entry.data_offsets[0] + 4 * index;
  bytes.writeFloatLE(change(bytes.readFloatLE(at)), at);
  writeFileSync(file, bytes);
}

describe("verify fails when", () => {
  it("an expected value is changed: each by its name, and nothing else", async () => {
    const changes: readonly [string, (string | number)[], Change, RegExp][] = [
      ["case.safetensors", ["logits.1", 100], add(1e-3), /^logits: largest absolute error/],
      [
        "case.safetensors",
        [`grad.${attention}.bias`, 0],
        add(1e-3),
        /^gradient of gpt_neox\.layers\.1\.attention\.query_key_value\.bias: relative L2/,
      ],
      ["case.safetensors", ["lora.logits.2", 100], add(1e-3), /^lora\.logits: largest absolute error/],
      [
        "case.safetensors",
        [`lora.grad.base_model.model.${attention}.lora_B.weight`, 3],
        add(1e-4),
        /^gradient of base_model\.model.*lora_B\.weight: relative L2/,
      ],
      ["case.json", ["loss_all"], add(1e-4), /^loss_all: /],
      ["case.json", ["loss_response_float64"], add(1e-4), /^loss_response_float64: /],
      ["case.json", ["loss_sum_all_per_sequence", 2], add(1e-2), /^loss_all of sequence 2 alone: /],
      ["case.json", ["grad_norm_response"], scale(1.001), /^grad_norm_response: /],
      ["case.json", ["n_targets_all"], add(1), /^labels_all have 70 targets, n_targets_all says 71/],
      ["case.json", ["lora", "loss_response"], add(1e-4), /^lora\.loss_response: /],
      ["case.json", ["lora", "merged_loss_all"], add(1e-4), /^lora\.merged_loss_all: /],
      ["case.json", ["lora", "scaling"], scale(2), /rank 8 and scaling 2, the case says 8 and 4/],
      ["train.json", ["curves", "fft.wd0.1", "loss", 11], add(1e-3), /^fft\.wd0\.1, loss of step 11: /],
      ["train.json", ["curves", "lora.wd0", "loss_float64", 5], add(1e-3), /^lora\.wd0, loss_float64 of step 5: /],
      ["train.json", ["curves", "lora.wd0.1", "grad_norm", 0], scale(1.001), /^lora\.wd0\.1, grad_norm of step 0: /],
      [
        "train.json",
        ["curves", "fft.wd0", "final", "embed_out.weight", "l2"],
        scale(1.001),
        /^fft\.wd0, l2 of trained embed_out\.weight: /,
      ],
      [
        "train.safetensors",
        ["fft.wd0.1.final.gpt_neox.final_layer_norm.weight", 7],
        add(1e-4),
        /^fft\.wd0\.1, trained gpt_neox\.final_layer_norm\.weight: /,
      ],
      [
        "train.safetensors",
        [`lora.wd0.final.base_model.model.${attention}.lora_A.weight`, 7],
        add(1e-4),
        /^lora\.wd0, trained base_model.*lora_A\.weight: /,
      ],
      ["generate.json", ["cases", 0, "new_tokens", 2], nextToken, /^generation 0 \(greedy\): tokens differ from position 2 on/],
      ["generate.json", ["cases", 4, "beams", 1, "score"], add(1e-3), /^generation 4 \(beam4\), beam 1: absolute error of the score/],
    ];
    const dir = copyOf(subject);
    for (const [file, path, change] of changes) tamper(dir, file, path, change);
    const { passed, failures } = await verify(dir);
    expect(passed).toBe(false);
    // A gradient that is far enough off is over the limit of all gradients together, too.
    const single = failures.filter((failure) => !/^all (loraG|g)radients together/.test(failure));
    for (const [, , , message] of changes) expect(single.filter((failure) => message.test(failure))).toHaveLength(1);
    expect(single).toHaveLength(changes.length);
  });

  it.each<[string, string, (string | number)[], Change, RegExp]>([
    ["a weight", "model.safetensors", [`${attention}.weight`, 5], add(0.01), /^logits: /m],
    [
      "an adapter's weight",
      "adapter/adapter_model.safetensors",
      [`base_model.model.${attention}.lora_A.weight`, 5],
      add(0.01),
      /^lora\.logits: /m,
    ],
    ["an adapter's alpha", "adapter/adapter_config.json", ["lora_alpha"], scale(2), /^lora\.logits: /m],
    ["a label", "case.json", ["labels_response", 0, 30], nextToken, /^loss_response: /m],
    ["a label's mask", "case.json", ["labels_response", 0, 30], () => -100, /targets, n_targets_response says 44/],
    ["a label of a training step", "train.json", ["stream", 3, "labels", 0, 8], nextToken, /, loss of step 3: /],
    ["a learning rate", "train.json", ["curves", "fft.wd0", "lr", 4], scale(1.1), /^fft\.wd0, loss of step 5: /m],
  ])("%s is changed", async (_what, file, path, change, message) => {
    const dir = copyOf(subject);
    tamper(dir, file, path, change);
    const { passed, failures } = await verify(dir);
    expect(passed).toBe(false);
    expect(failures.join("\n")).toMatch(message);
  });

  it("a variant's expected loss is changed", async () => {
    const root = temporaryFolder();
    const name = "variants/bloom-safetensors-sharded";
    for (const folder of [name, "01-bloom-h4"]) cpSync(join(goldens, folder), join(root, folder), { recursive: true });
    tamper(join(root, name), "expect.json", ["loss_all"], add(1e-4));
    expect((await verify(join(root, name))).failures).toEqual([expect.stringMatching(/^loss_all: /)]);
  });

  it("weights are truncated, naming the file", async () => {
    const dir = copyOf(subject);
    const file = join(dir, "model.safetensors");
    writeFileSync(file, readFileSync(file).subarray(0, -8));
    expect((await verify(dir)).failures).toEqual([expect.stringMatching(/^BAD_CHECKPOINT: .*model\.safetensors/)]);
  });

  it("a variant's base case is missing", async () => {
    expect((await verify(copyOf("variants/bloom-safetensors-sharded"))).failures).toEqual([
      expect.stringMatching(/^NOT_FOUND: .*01-bloom-h4: this variant's base case is missing/),
    ]);
  });
});

it("verify refuses a folder that is no case", async () => {
  expect(await refusal(verify(dirname(goldens)))).toMatchObject({ code: "NOT_FOUND" });
});
