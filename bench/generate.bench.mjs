// Throughput of `generate`: greedy and 4 beams, one prompt and a batch, beside PyTorch + transformers on the same weights and prompts.
//
//   node bench/generate.bench.mjs [--hidden 512 --layers 8 --heads 8 --vocab 32000] [--prompt 128] [--new 128] [--dtype bf16|fp32|both]
//                                 [--batches 1,16] [--beams 1,4] [--rounds 5] [--no-peer] [--compile] [--save FILE]
//
// A BLOOM-shaped model with random weights is written to a temporary folder, which both sides load. Rounds are in turn (ours, theirs) in
// two processes that stay; the first round of each warms up and is not counted. A rate is new tokens of all prompts over the whole call:
// reading the prompts is part of it. With one prompt the decoder reads every weight once a token: the share of memory bandwidth is bytes
// of weights and cache read per second over what `triad` reaches in this run. POLYPACA_PYTHON names the Python.
import { spawn } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { cpus, tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { decoderSpecFromConfig } from "../dist/families/index.js";
import { loadAddon } from "../dist/native/load.js";
import { Model } from "../dist/native/model.js";

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const { values } = parseArgs({
  options: {
    hidden: { type: "string", default: "512" },
    layers: { type: "string", default: "8" },
    heads: { type: "string", default: "8" },
    vocab: { type: "string", default: "32000" },
    prompt: { type: "string", default: "128" },
    new: { type: "string", default: "128" },
    dtype: { type: "string", default: "both" },
    batches: { type: "string", default: "1,16" },
    beams: { type: "string", default: "1,4" },
    rounds: { type: "string", default: "5" },
    peer: { type: "boolean", default: true },
    compile: { type: "boolean", default: false },
    save: { type: "string" },
  },
  allowNegative: true,
});
const [hidden, layers, heads, vocab, promptTokens, newTokens, rounds] = ["hidden", "layers", "heads", "vocab", "prompt", "new", "rounds"].map(
  (name) => Number(values[name]),
);
const numbers = (text) => text.split(",").map(Number);
const dtypes = values.dtype === "both" ? ["bf16", "fp32"] : [values.dtype];
const addon = loadAddon();
const { threads } = addon.machine();
const folder = mkdtempSync(join(tmpdir(), "polypaca-generate-"));
process.on("exit", () => rmSync(folder, { recursive: true, force: true }));

const config = {
  ...{ architectures: ["BloomForCausalLM"], model_type: "bloom", vocab_size: vocab, hidden_size: hidden, n_layer: layers, n_head: heads },
  ...{ layer_norm_epsilon: 1e-5, bos_token_id: 1, eos_token_id: 2, pad_token_id: 3, torch_dtype: "float32" },
};

/** A process of transformers that answers one round a line; null where it cannot. */
async function openPeer(dtype) {
  const python = process.env.POLYPACA_PYTHON ?? "python3";
  const script = join(root, "bench/peers/generate_peer.py");
  const flags = ["--model", folder, "--dtype", dtype, "--threads", String(threads), ...(values.compile ? ["--compile"] : [])];
  const child = spawn(python, [script, ...flags], { stdio: ["pipe", "pipe", "ignore"], env: { ...process.env, OMP_NUM_THREADS: String(threads) } });
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const next = async () => {
    const { value, done } = await lines.next();
    return done ? { error: `${python} ended` } : JSON.parse(value);
  };
  const { implementation, error } = await next();
  if (error) {
    console.error(`no peer: ${error}`);
    return null;
  }
  return {
    implementation,
    async round(job) {
      child.stdin.write(`${JSON.stringify(job)}\n`);
      const reply = await next();
      if (reply.error) throw new Error(reply.error);
      return reply;
    },
    close: () => child.stdin.end(),
  };
}

const median = (list) => list.toSorted((a, b) => a - b)[list.length >> 1];
const spread = (list) => (Math.max(...list) - Math.min(...list)) / median(list);
const prompts = (count) =>
  Array.from({ length: count }, (_, p) => Array.from({ length: promptTokens }, (_, i) => 10 + (Math.imul((p + 1) * 7919 + i, 2654435761) >>> 8) % (vocab - 10)));

/** Bytes that one prompt's greedy decoding reads: every weight but the embedding's other rows (tied: the head reads them), and the cache. */
function bytesRead(model, width) {
  const cache = 2 * layers * hidden * width;
  let positions = 0;
  for (let t = 1; t < newTokens; t++) positions += promptTokens + t;
  return (newTokens - 1) * model.parameters * width + positions * cache;
}

/** Bytes a second of a[i] = b[i] + s c[i] over three arrays of 128 MiB, in turn with the rounds: it varies as they do. */
async function triadBandwidth() {
  const count = 32 << 20;
  const { seconds } = await addon.timeKernel("triad", { dtype: "fp32", count }, 200);
  return (3 * 4 * count) / seconds;
}

async function measure(model, peer, dtype, batch, numBeams) {
  const ids = prompts(batch);
  const inputs = ids.map((list) => Int32Array.from(list));
  const options = { maxNewTokens: newTokens, minNewTokens: newTokens, numBeams, eosTokenId: -1 };
  const ours = [];
  const theirs = [];
  const bandwidths = [];
  let same = 0;
  let failure = peer === null ? "not asked for, or not there" : null;
  for (let round = 0; round <= rounds; round++) {
    const start = performance.now();
    const results = await model.generateBatch(inputs, options);
    if (round > 0) ours.push((performance.now() - start) / 1000);
    if (round > 0 && batch === 1) bandwidths.push(await triadBandwidth());
    if (failure !== null) continue;
    try {
      const reply = await peer.round({ prompts: ids, newTokens, numBeams });
      if (round > 0) theirs.push(reply.seconds);
      same = reply.tokens.filter((tokens, p) => tokens.every((token, i) => token === results[p].tokens[i])).length;
    } catch (error) {
      failure = error.message;
    }
  }
  const rate = (list) => (batch * newTokens) / median(list);
  return {
    ...{ dtype, batch, numBeams, tokensPerSecond: rate(ours), spread: spread(ours), bytes: bytesRead(model, dtype === "bf16" ? 2 : 4) },
    bandwidth: batch === 1 ? median(bandwidths) : null,
    peer: failure === null ? { tokensPerSecond: rate(theirs), spread: spread(theirs), ratio: rate(ours) / rate(theirs), promptsWithTheSameTokens: same } : null,
    failure,
  };
}

console.log(`${cpus()[0]?.model.trim()}, ${threads} threads; BLOOM-shaped, hidden ${hidden}, ${layers} layers, vocabulary ${vocab}; prompts of ${promptTokens} tokens, ${newTokens} new ones, ${rounds} rounds`);
const spec = decoderSpecFromConfig(config, "this bench");
const initial = await Model.init(spec, { device: "cpu", dtype: "fp32", seed: 1, config });
await initial.save(folder);
await initial.dispose();
const cases = [];
for (const dtype of dtypes) {
  const model = await Model.load(folder, { device: "cpu", dtype });
  const peer = values.peer ? await openPeer(dtype) : null;
  if (peer) console.log(`beside ${peer.implementation}`);
  for (const batch of numbers(values.batches)) {
    for (const numBeams of numbers(values.beams)) {
      const result = await measure(model, peer, dtype, batch, numBeams);
      cases.push({ ...result, peerImplementation: peer?.implementation ?? null });
      const way = numBeams === 1 ? "greedy" : `${numBeams} beams`;
      const reads = (result.bytes * result.tokensPerSecond) / newTokens;
      const share = batch === 1 && numBeams === 1 ? `; ${Math.round((100 * reads) / result.bandwidth)}% of ${(result.bandwidth / 1e9).toFixed(1)} GB/s` : "";
      const beside = result.peer
        ? `; peer ${result.peer.tokensPerSecond.toFixed(1)} (spread ${Math.round(100 * result.peer.spread)}%), ${result.peer.ratio.toFixed(2)}x; ${result.peer.promptsWithTheSameTokens} of ${batch} with the same tokens`
        : `; peer: ${result.failure}`;
      console.log(`${dtype} batch ${batch}, ${way}: ${result.tokensPerSecond.toFixed(1)} tokens/s (spread ${Math.round(100 * result.spread)}%)${share}${beside}`);
    }
  }
  peer?.close();
  await model.dispose();
}
if (values.save) writeFileSync(values.save, `${JSON.stringify({ machine: addon.machine(), hidden, layers, heads, vocab, promptTokens, newTokens, cases }, null, 2)}\n`);
