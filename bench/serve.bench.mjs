/**
 * `polypaca serve` under load: N clients at a time, each of which streams one answer after the other. A BLOOM-shaped model with random
 * weights is made by init-model; prompts have about --prompt-tokens tokens, answers exactly --answer-tokens, greedy.
 *
 *   node bench/serve.bench.mjs [--hidden 512 --layers 8 --heads 8 --vocab 32000] [--model DIR] [--dtype fp32|bf16] [--device cpu]
 *     [--concurrency 1,4,16,64] [--slots 64] [--requests 64] [--prompt-tokens 64] [--answer-tokens 64] [--json]
 *
 * For each concurrency: requests/s, tokens/s (generated), time to the first token and between two tokens, median and 95th percentile, as a
 * client on this machine sees them. The clients run in this process and take a little of the same cores. Needs dist (tsc -p tsconfig.json).
 */
import { spawn, spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { availableParallelism, cpus, tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { parseArgs } from "node:util";

const program = join(import.meta.dirname, "../dist/cli/main.js");
const text = (value) => ({ type: "string", default: value });
const { values } = parseArgs({
  options: {
    ...{ hidden: text("512"), layers: text("8"), heads: text("8"), vocab: text("32000"), model: { type: "string" } },
    ...{ dtype: { type: "string" }, device: text("auto"), concurrency: text("1,4,16,64"), slots: text("64"), requests: text("64") },
    ...{ "prompt-tokens": text("64"), "answer-tokens": text("64"), json: { type: "boolean", default: false } },
  },
});
const promptTokens = Number(values["prompt-tokens"]);
const answerTokens = Number(values["answer-tokens"]);
const folder = mkdtempSync(join(tmpdir(), "polypaca-serve-bench-"));

function makeModel() {
  if (values.model !== undefined) return values.model;
  const model = join(folder, "model");
  const shape = ["hidden", "layers", "heads", "vocab"].flatMap((name) => [`--${name}`, values[name]]);
  const { status, stderr } = spawnSync(process.execPath, [program, "init-model", "--arch", "bloom", ...shape, "--out", model], {
    encoding: "utf8",
  });
  if (status !== 0) throw new Error(`init-model: ${stderr}`);
  return model;
}

async function startServer(model) {
  const most = Math.max(...values.concurrency.split(",").map(Number));
  const size = ["--slots", values.slots, "--max-length", String(promptTokens + answerTokens), "--queue", String(most)];
  const how = ["--device", values.device, ...(values.dtype === undefined ? [] : ["--dtype", values.dtype])];
  const child = spawn(process.execPath, [program, "serve", "--model", model, "--port", "0", "--json", ...size, ...how], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  for await (const line of createInterface({ input: child.stdout })) return { child, ...JSON.parse(line) };
  throw new Error("serve ended before it was ready");
}

/** Ids of different prompts: no two clients ask the same. Ids below 4 are special. */
function promptOf(request) {
  const vocab = Number(values.vocab);
  return Array.from({ length: promptTokens }, (_, i) => 4 + ((request * 7919 + i * 104729) % Math.min(vocab - 4, 256)));
}

/** Milliseconds from the request to each event with text. */
async function streamOne({ url, models }, request) {
  const body = {
    ...{ model: models[0], prompt: promptOf(request), max_tokens: answerTokens, min_tokens: answerTokens, temperature: 0, stream: true },
    // Ids without text of their own bring an event all the same.
    logprobs: 0,
  };
  const began = performance.now();
  const response = await fetch(`${url}/v1/completions`, {
    ...{ method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) },
  });
  if (!response.ok) throw new Error(`HTTP ${response.status}: ${await response.text()}`);
  const times = [];
  let tokens = 0;
  let rest = "";
  for await (const part of response.body.pipeThrough(new TextDecoderStream())) {
    const events = (rest + part).split("\n\n");
    rest = events.pop();
    for (const event of events) {
      if (event === "data: [DONE]") continue;
      const count = JSON.parse(event.slice(6)).choices[0]?.logprobs?.tokens.length ?? 0;
      for (let i = 0; i < count; i++) times.push(performance.now() - began);
      tokens += count;
    }
  }
  if (tokens !== answerTokens) throw new Error(`an answer has ${tokens} tokens, ${answerTokens} were asked for`);
  return times;
}

async function measure(server, concurrency) {
  const requests = Math.max(Number(values.requests), concurrency);
  const firsts = [];
  const gaps = [];
  let next = 0;
  const began = performance.now();
  const client = async () => {
    while (next < requests) {
      const times = await streamOne(server, next++);
      firsts.push(times[0]);
      for (let i = 1; i < times.length; i++) gaps.push(times[i] - times[i - 1]);
    }
  };
  await Promise.all(Array.from({ length: concurrency }, client));
  const seconds = (performance.now() - began) / 1000;
  return {
    ...{ concurrency, requests, requestsPerSecond: requests / seconds, tokensPerSecond: (requests * answerTokens) / seconds },
    ...{ firstTokenMs: percentiles(firsts), betweenTokensMs: percentiles(gaps) },
  };
}

function percentiles(list) {
  const sorted = [...list].sort((a, b) => a - b);
  const at = (share) => sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))];
  return { p50: at(0.5), p95: at(0.95) };
}

const server = await startServer(makeModel());
try {
  await Promise.all(Array.from({ length: 4 }, (_, i) => streamOne(server, i))); // warm-up
  const machine = `${cpus()[0]?.model ?? "unknown"}, ${availableParallelism()} threads`;
  if (!values.json) {
    console.log(`${machine}; ${values.model ?? `BLOOM, hidden ${values.hidden}, ${values.layers} layers, vocabulary ${values.vocab}`}`);
    console.log(`prompts of ${promptTokens} tokens, answers of ${answerTokens}, ${values.slots} slots\n`);
    console.log("clients  requests/s  tokens/s  first token ms p50 / p95  between tokens ms p50 / p95");
  }
  const results = [];
  for (const concurrency of values.concurrency.split(",").map(Number)) {
    const result = await measure(server, concurrency);
    results.push(result);
    if (values.json) continue;
    const pair = ({ p50, p95 }, width) => `${p50.toFixed(1)} / ${p95.toFixed(1)}`.padStart(width);
    const row = [String(concurrency).padStart(7), result.requestsPerSecond.toFixed(2).padStart(10), result.tokensPerSecond.toFixed(0).padStart(8)];
    console.log([...row, pair(result.firstTokenMs, 24), pair(result.betweenTokensMs, 27)].join("  "));
  }
  if (values.json) console.log(JSON.stringify({ machine, promptTokens, answerTokens, slots: Number(values.slots), results }));
} finally {
  server.child.kill("SIGTERM");
  await new Promise((resolve) => server.child.on("close", resolve));
  rmSync(folder, { recursive: true });
}
