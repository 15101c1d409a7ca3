import { spawn, spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { beforeAll, describe, expect, it } from "vitest";
import { lockFileName } from "../../src/train/run-lock.js";
import { compile, program, testEnvironment } from "../cli/run-cli.js";
import { checkpointHashes, loggedLines, makeTinyModel, sampleFolder } from "../train/tiny-run.js";

let base: string;
let model: string;

beforeAll(async () => {
  compile();
  base = mkdtempSync(join(tmpdir(), "polypaca-kill-"));
  model = await makeTinyModel(join(base, "model"));
});

function trainArguments(method: string, out: string): string[] {
  const data = ["en", "de", "fr"].map((code) => join(sampleFolder, `alpaca.${code}.json`));
  const places = ["--model", model, "--data", ...data, "--out", out, "--method", method, "--resume"];
  const size = ["--max-steps", "40", "--batch-size", "8", "--micro-batch-tokens", "512", "--cutoff", "128", "--warmup-steps", "5"];
  const cadence = ["--validation-size", "20", "--eval-every", "10", "--save-every", "4", "--dtype", "fp32", "--device", "cpu"];
  return [program, "train", ...places, ...size, ...cadence];
}

/** Its exit code. */
function runToEnd(method: string, out: string): number | null {
  return spawnSync(process.execPath, trainArguments(method, out), { env: testEnvironment }).status;
}

/** Steps that the run's log shows. */
function stepsLogged(out: string): number {
  return loggedLines(out).filter((line) => line.loss !== undefined).length;
}

/** Kills a run with `signal` when its log shows `step`; how it ended. */
async function killAtStep(method: string, out: string, step: number, signal: "SIGKILL" | "SIGTERM"): Promise<number | string | null> {
  const child = spawn(process.execPath, trainArguments(method, out), { stdio: "ignore", env: testEnvironment });
  const ended = new Promise<number | string | null>((resolve) => child.on("exit", (code, by) => resolve(code ?? by)));
  let isOver = false;
  void ended.then(() => {
    isOver = true;
  });
  while (!isOver && stepsLogged(out) < step) await sleep(2);
  child.kill(signal);
  return await ended;
}

// Some 14 processes that each load and train; minutes where other work keeps the cores busy.
describe.each(["lora", "fft"])("a %s run", { timeout: 600_000 }, (method) => {
  it("killed five times with SIGKILL and resumed, ends with the same weights, byte for byte, as one left alone", async () => {
    const left = join(base, `${method}-left`);
    expect(runToEnd(method, left)).toBe(0);
    const killed = join(base, `${method}-killed`);
    for (const step of [2, 9, 17, 26, 35]) expect(await killAtStep(method, killed, step, "SIGKILL")).toBe("SIGKILL");
    expect(existsSync(join(killed, lockFileName))).toBe(true); // of a dead process: taken over
    expect(runToEnd(method, killed)).toBe(0);
    expect(existsSync(join(killed, lockFileName))).toBe(false);
    expect(checkpointHashes(join(killed, "last"))).toEqual(checkpointHashes(join(left, "last")));
    expect(checkpointHashes(join(killed, "best"))).toEqual(checkpointHashes(join(left, "best")));
    expect(loggedLines(killed)).toEqual(loggedLines(left));
  });

  it("stopped with SIGTERM saves a checkpoint, exits with 143, and resumes to the same weights", async () => {
    const out = join(base, `${method}-stopped`);
    expect(await killAtStep(method, out, 7, "SIGTERM")).toBe(143);
    expect(existsSync(join(out, lockFileName))).toBe(false);
    const { global_step: step } = JSON.parse(readFileSync(join(out, "last/trainer_state.json"), "utf8")) as { global_step: number };
    expect(step).toBeGreaterThanOrEqual(7);
    expect(existsSync(join(out, "last/state.safetensors"))).toBe(true);
    expect(runToEnd(method, out)).toBe(0);
    expect(checkpointHashes(join(out, "last"))).toEqual(checkpointHashes(join(base, `${method}-left/last`)));
  });
});

describe("a run folder in use", () => {
  it("is refused to a second train --resume with the first one's pid, and free once that has stopped", { timeout: 120_000 }, async () => {
    const out = join(base, "in-use");
    const child = spawn(process.execPath, trainArguments("lora", out), { stdio: "ignore", env: testEnvironment });
    const ended = new Promise((resolve) => child.on("exit", resolve));
    while (stepsLogged(out) < 1) await sleep(2);
    child.kill("SIGSTOP"); // so that it cannot end first
    const second = spawnSync(process.execPath, trainArguments("lora", out), { encoding: "utf8", env: testEnvironment });
    expect(second.status).toBe(1);
    expect(second.stderr).toContain(`process ${child.pid} on`);
    child.kill("SIGCONT");
    child.kill("SIGINT");
    expect(await ended).toBe(130);
    expect(existsSync(join(out, lockFileName))).toBe(false);
  });
});
