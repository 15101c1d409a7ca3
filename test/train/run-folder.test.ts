import { mkdirSync, mkdtempSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { beforeEach, describe, expect, it } from "vitest";
import {
  admitRun,
  assertDiskSpace,
  assertUsableFolder,
  beginRun,
  differences,
  fingerprintModel,
  hashFile,
  readRunRecord,
} from "../../src/train/run-folder.js";
import { toyRecord } from "./toy-session.js";

let out: string;
beforeEach(() => {
  out = join(mkdtempSync(join(tmpdir(), "polypaca-run-")), "run");
});

describe("admitRun", () => {
  it("starts where there is nothing, with --resume too", async () => {
    const record = toyRecord();
    expect(await admitRun(out, record, false)).toEqual({ record, notes: [] });
    expect(await admitRun(out, record, true)).toEqual({ record, notes: [] });
  });

  it("refuses a folder that has a run unless --resume is given", async () => {
    await beginRun(out, toyRecord());
    await expect(admitRun(out, toyRecord(), false)).rejects.toMatchObject({
      code: "USAGE",
      message: `--out ${out}: there is a run already (started 2026-01-01T00:00:00.000Z). Pass --resume to go on with it, or use another --out.`,
    });
    expect((await admitRun(out, toyRecord(), true)).record).toEqual(toyRecord());
  });

  it("refuses to resume with other settings and names each difference", async () => {
    await beginRun(out, toyRecord());
    const other = { ...toyRecord({ learningRate: 0.5, seed: 7 }), data: [{ file: "new.json", bytes: 10, sha256: "e" }] };
    const refusal = await admitRun(out, other, true).catch((error: Error) => error.message);
    expect(refusal).toContain("--learning-rate: 0.1 there, 0.5 now");
    expect(refusal).toContain("--seed: 42 there, 7 now");
    expect(refusal).toContain("--data new.json: its content is not that of toy.json then");
    expect(refusal).not.toContain("--model");
  });

  it("notes another machine, which may cost the last bits", async () => {
    await beginRun(out, toyRecord());
    const elsewhere = toyRecord();
    const machine = { ...elsewhere.machine, threads: 64 };
    const { notes } = await admitRun(out, { ...elsewhere, machine }, true);
    expect(notes).toEqual([expect.stringContaining("threads 2 there, 64 here")]);
  });

  it("refuses checkpoints without a record, and a record that is none", async () => {
    mkdirSync(join(out, "checkpoints/step-3"), { recursive: true });
    await expect(admitRun(out, toyRecord(), true)).rejects.toMatchObject({
      code: "USAGE",
      message: expect.stringContaining("no run.json"),
    });
    writeFileSync(join(out, "run.json"), "{}");
    await expect(readRunRecord(out)).rejects.toMatchObject({ code: "BAD_CONFIG", message: expect.stringContaining("run.json") });
  });
});

describe("assertUsableFolder", () => {
  it("refuses an --out below a file, before any work", async () => {
    writeFileSync(`${out}.txt`, "");
    await expect(assertUsableFolder(`${out}.txt/run`, false)).rejects.toMatchObject({
      code: "IO",
      message: expect.stringMatching(/^--out .*cannot be written/),
    });
  });

  it("accepts a folder that has yet to be made", async () => {
    await expect(assertUsableFolder(join(out, "a/b"), false)).resolves.toBeUndefined();
  });
});

describe("differences", () => {
  it("leaves out what does not change the result, and paths whose content is the same", () => {
    const moved = toyRecord({
      model: "elsewhere",
      data: ["moved.json"],
      out: "other",
      saveTotalLimit: 9,
      resume: true,
      allowOvercommit: true,
    });
    expect(differences(toyRecord(), moved)).toEqual([]);
  });

  it("compares what automatic settings came to", () => {
    const record = toyRecord();
    const other = { ...record, resolved: { ...record.resolved, dtype: "bf16" as const, microBatchTokens: 1024 } };
    expect(differences(record, other)).toEqual(['--dtype: "fp32" there, "bf16" now', "--micro-batch-tokens: 512 there, 1024 now"]);
  });

  it("names another model, tokenizer, template and number of files", () => {
    const record = toyRecord();
    const other = {
      ...record,
      model: { folder: "new", fingerprint: "x" },
      tokenizer: "x",
      template: { ...record.template, response_split: "x" },
      data: [],
    };
    expect(differences(record, other)).toEqual([
      "--data: 1 files there, 0 now",
      "--model new: not the model there (base)",
      "the model's tokenizer files have changed",
      expect.stringMatching(/^--template: .*"response_split":">"} there, .*"response_split":"x"} now$/),
    ]);
  });
});

describe("assertDiskSpace", () => {
  it("measures where the folder will be", async () => {
    await expect(assertDiskSpace(join(out, "not/there/yet"), 1)).resolves.toBeUndefined();
    await expect(assertDiskSpace(join(out, "not/there/yet"), 2 ** 60)).rejects.toMatchObject({ code: "DISK_FULL" });
  });
});

describe("fingerprints", () => {
  it("hash a file's whole content", async () => {
    const file = `${out}.json`;
    writeFileSync(file, "abc");
    // FIPS 180-2, appendix B.1
    const sha256 = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    expect(await hashFile(file)).toEqual({ file, bytes: 3, sha256 });
  });

  it("of a model change with its configuration and with either end of its weights", async () => {
    mkdirSync(out);
    const weights = Buffer.alloc(5 * 2 ** 20);
    const config = join(out, "config.json");
    const prints = new Set<string>();
    const take = async (): Promise<void> => void prints.add(await fingerprintModel(out));
    writeFileSync(config, "{}");
    writeFileSync(join(out, "model.safetensors"), weights);
    await take();
    await take();
    expect(prints.size).toBe(1);
    for (const change of [() => weights.writeUInt8(1, 0), () => weights.writeUInt8(1, weights.length - 1)]) {
      change();
      writeFileSync(join(out, "model.safetensors"), weights);
      await take();
    }
    writeFileSync(config, "{ }");
    await take();
    expect(prints.size).toBe(4);
  });
});
