import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { compile, runCli } from "./run-cli.js";

const sample = join(import.meta.dirname, "../../experiments/sample");
const goldens = join(import.meta.dirname, "../goldens");
let base: string;

beforeAll(() => {
  compile();
  base = mkdtempSync(join(tmpdir(), "polypaca-commands-"));
});

/** A command's JSON on stdout; stdout must hold nothing else. */
function json(args: readonly string[], exitCode = 0): Record<string, unknown> {
  const result = runCli([...args, "--json"]);
  expect(result, result.stderr).toMatchObject({ exitCode });
  expect(result.stdout.trimEnd()).not.toContain("\n");
  return JSON.parse(result.stdout) as Record<string, unknown>;
}

const places = (): string[] => ["--model", join(base, "model"), "--data", join(sample, "alpaca.fr.json"), "--out", join(base, "run")];
const size = ["--method", "lora", "--max-steps", "4", "--batch-size", "4", "--cutoff", "128", "--validation-size", "8"];
const rest = ["--warmup-steps", "0", "--eval-every", "2", "--dtype", "fp32", "--device", "cpu"];

describe("the sizes of a shape", () => {
  it("are the same flags of bench and of init-model", () => {
    for (const flag of ["--hidden", "--layers", "--heads", "--kv-heads", "--intermediate", "--vocab"]) {
      for (const command of [["bench"], ["init-model", "--out", join(base, "refused")]]) {
        expect(runCli([...command, flag, "1.5"])).toMatchObject({
          exitCode: 2,
          stderr: expect.stringContaining(`${flag} 1.5: expected a whole number, at least 1`),
        });
      }
    }
  });
});

describe("the commands in a row", () => {
  it("init-model makes a byte-level model of the shape asked for", () => {
    const shape = ["--arch", "gpt_neox", "--hidden", "32", "--layers", "1", "--heads", "2"];
    const result = json(["init-model", ...shape, "--tokenizer", join(sample, "tokenizer.json"), "--out", join(base, "model")]);
    expect(result).toMatchObject({ out: join(base, "model"), modelType: "gpt_neox", dtype: "fp32" });
    expect(json(["init-model", ...shape, "--vocab", "300", "--out", join(base, "bytes")])).toMatchObject({ vocabSize: 300 });
  });

  it("init-model refuses a folder that holds something, and sizes that are missing", () => {
    const again = runCli(["init-model", "--preset", "pythia-70m", "--layers", "1", "--out", join(base, "model")]);
    expect(again).toMatchObject({ exitCode: 2, stderr: expect.stringMatching(/^USAGE: .*not empty/) });
    const missing = runCli(["init-model", "--arch", "llama", "--out", join(base, "none")]);
    expect(missing).toMatchObject({ exitCode: 2, stderr: expect.stringContaining("--hidden, --layers and --heads are required") });
  });

  it("inspect names architecture, parameters, types, LoRA targets and memory", () => {
    expect(json(["inspect", join(base, "model")])).toMatchObject({
      modelType: "gpt_neox",
      parameters: expect.any(Number),
      matmulParameters: expect.any(Number),
      dtypes: { F32: expect.any(Number) },
      loraTargets: expect.arrayContaining(["query_key_value"]),
      memory: { lora: { total: expect.any(Number) }, fft: { total: expect.any(Number) } },
    });
  });

  it("train --dry-run, train and train --resume give their results as JSON and everything else on stderr", () => {
    expect(json(["train", ...places(), ...size, ...rest, "--dry-run"])).toMatchObject({ steps: 4, trainingExamples: 52 });
    const { exitCode, stdout, stderr } = runCli(["train", ...places(), ...size, ...rest, "--json"]);
    expect(exitCode).toBe(0);
    const summary = JSON.parse(stdout) as Record<string, unknown>;
    expect(summary).toMatchObject({
      run: join(base, "run"),
      steps: 4,
      tokens: expect.any(Number),
      loss: { first: expect.any(Number), last: expect.any(Number) },
      validationLoss: { first: expect.any(Number), best: expect.any(Number), last: expect.any(Number) },
      best: expect.stringContaining(join(base, "run/checkpoints/step-")),
      last: join(base, "run/checkpoints/step-4"),
      tokensPerSecond: expect.any(Number),
      peakMemoryBytes: expect.any(Number),
    });
    expect(stderr).toMatch(/^train 4\/4, loss [\d.]+, \d+ tokens\/s, ETA 0s$/m);
    expect(stderr).toMatch(/^step 2: validation loss [\d.]+/m);
    const { peakMemoryBytes: _p, ...same } = json(["train", ...places(), ...size, ...rest, "--resume"]);
    expect(summary).toMatchObject(same);
  });

  it("train refuses a run that is there already with exit code 2", () => {
    expect(runCli(["train", ...places(), ...size, ...rest])).toMatchObject({
      exitCode: 2,
      stderr: expect.stringMatching(/^USAGE: --out .*--resume/m),
    });
  });

  it("generate answers prompts with the adapter", () => {
    writeFileSync(join(base, "test_fr.jsonl"), '{"id": 1, "prompt": "Bonjour"}\n{"id": 2, "prompt": "Compte jusqu\'à trois."}\n');
    const out = join(base, "answers.jsonl");
    const flags = ["--adapter", join(base, "run/best"), "--prompts", join(base, "test_fr.jsonl"), "--out", out, "--dtype", "fp32"];
    const result = json(["generate", "--model", join(base, "model"), ...flags, "--max-new-tokens", "4", "--no-repeat-ngram-size", "2"]);
    expect(result).toEqual({ out, responses: 2, tokens: expect.any(Number), tokensPerSecond: expect.any(Number) });
    expect(readFileSync(out, "utf8")).toContain('"system":"run"');
  });

  it("merge --verify writes a model equal to base and adapter", () => {
    const args = ["--model", join(base, "model"), "--adapter", join(base, "run/best"), "--out", join(base, "merged"), "--verify"];
    expect(json(["merge", ...args])).toMatchObject({ out: join(base, "merged"), verification: { sequences: 4 } });
  });
});

describe("verify", () => {
  it("passes a reference case", () => {
    expect(json(["verify", join(goldens, "03-gpt_neox-parallel")])).toMatchObject({
      passed: 1,
      failed: 0,
      cases: [{ case: "03-gpt_neox-parallel", passed: true, maxRelativeError: { logits: expect.any(Number) }, failures: [] }],
    });
  });

  it("prints what --json has as notes below each case", () => {
    const changed = join(base, "no-generations");
    cpSync(join(goldens, "03-gpt_neox-parallel"), changed, { recursive: true });
    rmSync(join(changed, "generate.json"));
    const { exitCode, stderr } = runCli(["verify", changed]);
    expect(exitCode).toBe(0);
    expect(stderr).toMatch(/^passed {2}no-generations .*\n +note: the case has no generations$/m);
  });

  it("exits with 1 where an expected value was changed", () => {
    const changed = join(base, "changed");
    cpSync(join(goldens, "03-gpt_neox-parallel"), changed, { recursive: true });
    const path = join(changed, "case.json");
    const reference = JSON.parse(readFileSync(path, "utf8")) as { loss_response_float64: number };
    writeFileSync(path, JSON.stringify({ ...reference, loss_response_float64: 1 }));
    expect(json(["verify", changed], 1)).toMatchObject({ passed: 0, failed: 1, cases: [{ failures: [expect.stringContaining("loss")] }] });
  });

  it("exits with 2 for a folder that is no case", () => {
    expect(runCli(["verify", base])).toMatchObject({ exitCode: 2, stderr: expect.stringMatching(/^NOT_FOUND: /) });
  });
});
