/** The program against a hub on loopback: its output, its exit codes, and what a kill or Ctrl-C costs. */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { temporaryFolder } from "../data/data-folder.js";
import { bytes, filesIn, modelFiles, only, partBytes, wantedOfModel } from "../fetch/fetch-cases.js";
import { type Files, type HubServer, type Misbehaviour, startHub } from "../fetch/hub-server.js";
import { compile, type RunningCli, startCli } from "./run-cli.js";

beforeAll(compile);

const large = "model-00001-of-00002.safetensors";
const files: Files = { ...modelFiles, [large]: bytes(8_000_000, 5) };
const held = 5_000_000;

async function startHubThat(misbehave: (path: string) => Misbehaviour | null): Promise<HubServer> {
  const repositories = [{ kind: "model" as const, name: "lab/m", revisions: { main: files }, card: { license: "mit" } }];
  return await startHub({ repositories, misbehave: ({ path }) => misbehave(path) });
}

async function start(server: HubServer, out: string, ...flags: readonly string[]): Promise<RunningCli> {
  const env = { HF_ENDPOINT: server.url, HF_TOKEN: "", HF_TOKEN_PATH: "", HF_HOME: join(await temporaryFolder(), "none") };
  return startCli(["fetch", "model", "lab/m", "--out", out, ...flags], env);
}

describe("polypaca fetch", { timeout: 60_000 }, () => {
  it.each(["SIGKILL", "SIGINT"] as const)("goes on after %s from the last byte, then says that everything is there", async (signal) => {
    const out = join(await temporaryFolder(), "model");
    const slow = await startHubThat((path) => (path === large ? { kind: "hold", after: held } : null));
    const stopped = await start(slow, out);
    await expect.poll(() => partBytes(out, large), { timeout: 30_000 }).toBe(held);
    await expect.poll(() => slow.sentBytes() - slow.sentBytes(large)).toBe(wantedBytes() - files[large]!.length);
    stopped.child.kill(signal);
    const { exitCode, stderr } = await stopped.ended;
    expect(exitCode).toBe(signal === "SIGKILL" ? "SIGKILL" : 130);
    if (signal === "SIGINT") expect(stderr).toMatch(/CANCELLED: stopped\. What came is kept in .*model\.part: the same command goes on/);
    expect(existsSync(out)).toBe(false);
    expect(partBytes(out, large)).toBe(held);

    const whole = await startHubThat(() => null);
    const second = await (await start(whole, out, "--json")).ended;
    expect(second.exitCode, second.stderr).toBe(0);
    expect(filesIn(out)).toEqual(only(files, wantedOfModel));
    expect(whole.contents.filter(({ path }) => path === large)).toEqual([expect.objectContaining({ from: held, sent: 8_000_000 - held })]);
    expect(JSON.parse(second.stdout)).toMatchObject({ repository: "lab/m", licence: "mit", bytes: wantedBytes() });

    const asked = whole.sentBytes();
    const third = await (await start(whole, out)).ended;
    expect(third).toMatchObject({ exitCode: 0, stdout: expect.stringMatching(/10 files, 7\.7 MiB; everything is there\nlicence: mit/) });
    expect(whole.sentBytes()).toBe(asked);
  });

  it.each([
    ["a kind that is none", ["fetch", "weights", "lab/m"], /^USAGE: fetch weights: expected model or data/],
    ["a pattern for a model's data", ["fetch", "model", "lab/m", "--files", "*.json"], /^USAGE: --files: chooses among data files/],
  ])("exits with 2 for %s", async (_, args, message) => {
    const { exitCode, stderr } = await startCli(args, { HF_ENDPOINT: "http://127.0.0.1:9" }).ended;
    expect({ exitCode, stderr }).toEqual({ exitCode: 2, stderr: expect.stringMatching(message) });
  });
});

function wantedBytes(): number {
  return wantedOfModel.reduce((sum, path) => sum + files[path]!.length, 0);
}
