// One training step, LoRA against FFT, and PyTorch beside them where Python has it. Cases take turns, each in a process of
// its own (peak memory is VmHWM), so that drift of the machine hits all alike; medians over rounds.
//   node bench/train.bench.mjs [--rounds 3] [--no-peer] [--hidden 512 --layers 6 --heads 8 --vocab 32000 --seq 256 --micro-batch 4]
import { spawnSync } from "node:child_process";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

const here = dirname(fileURLToPath(import.meta.url));
const { values } = parseArgs({
  options: {
    ...{ rounds: { type: "string", default: "3" }, "no-peer": { type: "boolean", default: false }, steps: { type: "string", default: "6" } },
    ...{ hidden: { type: "string", default: "512" }, layers: { type: "string", default: "6" }, heads: { type: "string", default: "8" } },
    ...{ vocab: { type: "string", default: "32000" }, seq: { type: "string", default: "256" }, "micro-batch": { type: "string", default: "4" } },
    python: { type: "string", default: "/usr/bin/python3" },
    case: { type: "string" }, // internal: measure one case in this process
  },
});

// PyTorch runs two thread pools side by side; spinning ones take each other's cores (half its speed here).
const peerEnvironment = { GOMP_SPINCOUNT: "0" };

const median = (list) => [...list].sort((a, b) => a - b)[list.length >> 1];

/** Runs one case here: BLOOM-shaped, every label counted, AdamW with clipping, as the peer does. */
async function measure({ method, dtype }) {
  const { decoderSpecFromConfig, Model, Trainer } = await import("../dist/index.js");
  const { loadAddon } = await import("../dist/native/load.js");
  const [hidden, layers, heads, vocab, seq, sequences] = ["hidden", "layers", "heads", "vocab", "seq", "micro-batch"].map((name) => Number(values[name]));
  const config = { model_type: "bloom", vocab_size: vocab, hidden_size: hidden, n_layer: layers, n_head: heads, layer_norm_epsilon: 1e-5 };
  const model = await Model.init(decoderSpecFromConfig(config, "the bench's shape"), { dtype, seed: 0 });
  if (method === "lora") await model.addLora({ rank: 8, alpha: 16, dropout: 0.05, targets: ["query_key_value"] });
  const tokens = seq * sequences;
  const trainer = new Trainer(model, { microBatchTokens: tokens });
  const seconds = [];
  const parts = [];
  for (let step = 0; step < 2 + Number(values.steps); step += 1) {
    const ids = new Int32Array(tokens).map((_, i) => (Math.imul(i + step * tokens, 2654435761) >>> 8) % vocab);
    const batch = { inputIds: ids, labels: ids, sequenceLengths: new Int32Array(sequences).fill(seq) };
    const result = await trainer.step([batch], { learningRate: 1e-4, targetTokens: (seq - 1) * sequences });
    if (step < 2) continue; // warm-up
    seconds.push(result.seconds);
    parts.push([result.forwardSeconds, result.backwardSeconds, result.optimizerSeconds]);
  }
  const peak = loadAddon().memoryUsage().peakResident;
  const gemmPeak = await loadAddon().measurePeak(dtype, 500);
  console.log(
    JSON.stringify({
      ...{ tokensPerSecond: tokens / median(seconds), stepSeconds: median(seconds), peakMemoryBytes: peak, gemmPeak },
      split: [0, 1, 2].map((i) => median(parts.map((p) => p[i]))),
    }),
  );
}

function child(command, args, env = {}) {
  const { stdout, stderr, status } = spawnSync(command, args, { encoding: "utf8", env: { ...process.env, ...env } });
  const line = (stdout ?? "").trim().split("\n").at(-1);
  if (status !== 0 || !line) return { error: line ? JSON.parse(line).error : (stderr || `${command} did not run`).trim().split("\n").at(-1) };
  return JSON.parse(line);
}

if (values.case) {
  await measure(JSON.parse(values.case));
} else {
  const shape = ["hidden", "layers", "heads", "vocab", "seq", "micro-batch"].flatMap((name) => [`--${name}`, values[name]]);
  const ours = ["lora", "fft"].flatMap((method) => ["bf16", "fp32"].map((dtype) => ({ name: `polypaca ${method} ${dtype}`, method, run: () => child(process.execPath, [fileURLToPath(import.meta.url), "--case", JSON.stringify({ method, dtype }), "--steps", values.steps, ...shape]) })));
  const peers = ["lora", "fft"].flatMap((method) => ["mixed", "pure"].map((numerics) => ({ name: `PyTorch ${method} ${numerics}`, method, run: () => child(values.python, [join(here, "peers/torch_peer.py"), "--method", method, "--numerics", numerics, "--steps", values.steps, ...shape], peerEnvironment) })));
  const cases = [...ours, ...(values["no-peer"] ? [] : peers)].map((c) => ({ ...c, results: [] }));
  for (let round = 0; round < Number(values.rounds); round += 1) for (const c of cases) c.results.push(c.run());
  console.log(`${"".padEnd(22)}${"tokens/s".padStart(10)}${"min".padStart(8)}${"max".padStart(8)}${"peak MiB".padStart(10)}`);
  for (const { name, results } of cases) {
    const failed = results.find((r) => r.error);
    if (failed) {
      console.log(`${name.padEnd(22)}  ${failed.error}`);
      continue;
    }
    const rates = results.map((r) => r.tokensPerSecond);
    const peak = Math.max(...results.map((r) => r.peakMemoryBytes)) / 2 ** 20;
    console.log(name.padEnd(22) + [median(rates), Math.min(...rates), Math.max(...rates)].map((x, i) => Math.round(x).toString().padStart(i ? 8 : 10)).join("") + Math.round(peak).toString().padStart(10));
  }
}
