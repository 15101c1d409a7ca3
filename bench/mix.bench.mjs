/**
 * How long `polypaca mix` takes over 9 languages x 52,000 records, and how much memory: first (every token counted), then with the
 * counts cached. The data is made from the bundled sample: each record joins texts of two to four sample records, so that lengths
 * vary and are about Alpaca's, and is the same record in every language.
 *
 *   node bench/mix.bench.mjs [--records 52000] [--tokenizer DIR] [--keep DIR]
 *
 * Prints seconds, processor seconds (on a busy machine these say more) and the peak resident set of the whole process, threads
 * included. Needs dist (tsc -p tsconfig.json).
 */
import { spawnSync } from "node:child_process";
import { createWriteStream, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from "node:fs";
import { availableParallelism, cpus, tmpdir } from "node:os";
import { join } from "node:path";
import { finished } from "node:stream/promises";
import { parseArgs } from "node:util";

const root = join(import.meta.dirname, "..");
const sample = join(root, "experiments/sample");
const { values } = parseArgs({
  options: { records: { type: "string", default: "52000" }, tokenizer: { type: "string", default: sample }, keep: { type: "string" } },
});
const records = Number(values.records);
const folder = values.keep ?? mkdtempSync(join(tmpdir(), "polypaca-mix-bench-"));
const data = join(folder, "data");

/** The same draws for every language, so that record i is the same instruction everywhere. */
function* draws(seed) {
  for (let state = seed; ; ) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    yield state / 2 ** 32;
  }
}

async function writeData() {
  mkdirSync(data, { recursive: true });
  for (const name of readdirSync(sample).filter((file) => /^alpaca\..*\.json$/.test(file))) {
    const path = join(data, name);
    if (existsSync(path)) continue;
    const source = JSON.parse(readFileSync(join(sample, name), "utf8"));
    const random = draws(1);
    const pick = () => source[Math.floor(random.next().value * source.length)];
    const stream = createWriteStream(path);
    for (let i = 0; i < records; i++) {
      const { instruction, input } = pick();
      const output = Array.from({ length: 2 + Math.floor(random.next().value * 3) }, () => pick().output).join(`\n${i} `);
      const record = JSON.stringify({ id: `record-${i}`, instruction: `${instruction} (${i})`, input, output }, null, 2);
      if (!stream.write(`${i === 0 ? "[\n" : ",\n"}${record}`)) await new Promise((resolve) => stream.once("drain", resolve));
    }
    stream.end("\n]\n");
    await finished(stream);
  }
}

/** Runs the program itself; its peak is told by a line that the main thread writes when it ends. */
function measure(label, args) {
  const print = 'const{maxRSS,userCPUTime,systemCPUTime}=process.resourceUsage();console.error("used",maxRSS,userCPUTime+systemCPUTime)';
  const report = `import{isMainThread as m}from"node:worker_threads";if(m)process.on("exit",()=>{${print}})`;
  const out = join(folder, "out");
  rmSync(out, { recursive: true, force: true });
  const began = performance.now();
  const command = ["--import", `data:text/javascript,${report}`, join(root, "dist/cli/main.js"), "mix", "--data-dir", data, "--out", out, "--json", ...args];
  const { status, stdout, stderr } = spawnSync(process.execPath, command, {
    encoding: "utf8",
    env: { ...process.env, XDG_CACHE_HOME: join(folder, "cache") },
    maxBuffer: 2 ** 26,
  });
  const seconds = (performance.now() - began) / 1000;
  if (status !== 0) throw new Error(`mix ended with ${status}:\n${stderr}`);
  const { cost } = JSON.parse(stdout);
  const [peak, processor] = (/^used (\d+) (\d+)$/m.exec(stderr) ?? []).slice(1).map(Number);
  const columns = [`${seconds.toFixed(1)} s`, `${(processor / 1e6).toFixed(1)} s CPU`, `${(peak / 1024).toFixed(0)} MiB`];
  console.log(`${label.padEnd(42)} ${columns.map((column) => column.padStart(12)).join(" ")}  ${cost.examples} records, ${cost.tokens ?? "no"} tokens`);
}

try {
  await writeData();
  const bytes = readdirSync(data).reduce((sum, name) => sum + statSync(join(data, name)).size, 0);
  console.log(`${readdirSync(data).length} languages x ${records} records, ${(bytes / 2 ** 20).toFixed(0)} MiB; ${cpus()[0]?.model}, ${availableParallelism()} threads, Node ${process.version}`);
  const tokens = ["--tokenizer", values.tokenizer];
  rmSync(join(folder, "cache"), { recursive: true, force: true });
  measure("downsampled, examples, first", ["--condition", "downsampled"]);
  rmSync(join(folder, "cache"), { recursive: true, force: true });
  measure("multilingual, examples, first", ["--condition", "multilingual"]);
  measure("multilingual, examples, cached", ["--condition", "multilingual"]);
  measure("multilingual, tokens, counted", ["--condition", "multilingual", "--budget", "tokens", ...tokens]);
  measure("multilingual, tokens, cached", ["--condition", "multilingual", "--budget", "tokens", ...tokens]);
  measure("monolingual, tokens, cached", ["--condition", "monolingual", "--budget", "tokens", ...tokens]);
  for (const sampling of ["random", "stratified", "disjoint"])
    measure(`downsampled ${sampling}, tokens, cached`, ["--condition", "downsampled", "--budget", "tokens", "--sampling", sampling, ...tokens]);
} finally {
  if (values.keep === undefined) rmSync(folder, { recursive: true, force: true });
}
