/** The server's memory over thousands of requests. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, it } from "vitest";
import { compile } from "../cli/run-cli.js";
import { startServe } from "../serve/serve-process.js";
import { makeTinyModel } from "../train/tiny-run.js";

it("is flat over 4,000 requests, half of them streamed, a quarter of those left in the middle", async () => {
  compile();
  const folder = mkdtempSync(join(tmpdir(), "polypaca-serve-memory-"));
  const server = await startServe(["--model", await makeTinyModel(join(folder, "base")), "--slots", "16", "--max-length", "512"]);
  const request = async (i: number): Promise<void> => {
    const messages = [{ role: "user" as const, content: `Question ${i}: ${"why ".repeat(i % 40)}` }];
    const fields = { model: "base", messages, temperature: 1, seed: i, max_tokens: 8, logprobs: true, top_logprobs: 5 };
    if (i % 2 === 0) return void (await server.client.chat.completions.create(fields));
    const stream = await server.client.chat.completions.create({ ...fields, stream: true });
    for await (const _chunk of stream) if (i % 8 === 1) break;
  };
  const round = async (): Promise<number> => {
    for (let i = 0; i < 1_000; i += 50) await Promise.all(Array.from({ length: 50 }, (_, k) => request(i + k)));
    return server.metric("process_resident_memory_bytes");
  };
  const resident = [await round(), await round(), await round(), await round(), await round()];
  console.info(`resident MiB after each 1,000 requests: ${resident.map((bytes) => Math.round(bytes / 2 ** 20)).join(", ")}`);
  // 16 KiB kept per request would exceed it. V8 takes and gives back its young generation, up to 48 MiB, as it sees fit.
  expect(resident.at(-1)! - resident[0]!).toBeLessThan(64 * 2 ** 20);
  expect(await server.metric("polypaca_sequences_running")).toBe(0);
  rmSync(folder, { recursive: true });
});
