// Native fastText against its WebAssembly build: time and memory to load models of several sizes, and lines per second.
//   node bench/language-id.bench.mjs [MEGABYTES...]      (default: 128 512 600 1200; needs the program `fasttext`, and `npm run build`)
// Models are trained on the bundled sample with OpenLID's dimension (256) and n-grams, and as many buckets as make the size; a process of
// its own for each case. Lines are the sample's, all labels of each.
import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { cpus, tmpdir } from "node:os";
import { join } from "node:path";
import { FastTextModel } from "../dist/language-id/index.js";
import { NativeFastTextModel } from "../dist/native/fasttext.js";

const dimension = 256;
const languages = ["bg", "cs", "de", "en", "es", "fi", "fr", "ru", "zh"];
const rounds = 5;

const lines = languages.flatMap((language) => {
  const records = JSON.parse(readFileSync(new URL(`../experiments/sample/alpaca.${language}.json`, import.meta.url), "utf8"));
  return records.flatMap(({ instruction, input, output }) =>
    [instruction, input, output].filter(Boolean).map((text) => ({ language, line: text.replaceAll(/\s+/g, " ") })),
  );
});

function train(folder, megabytes) {
  const text = join(folder, "train.txt");
  writeFileSync(text, lines.map(({ language, line }) => `__label__${language} ${line}\n`).join(""));
  const model = join(folder, `model-${megabytes}`);
  const shape = ["-dim", dimension, "-bucket", Math.round((megabytes * 1e6) / dimension / 4), "-minn", 2, "-maxn", 5, "-epoch", 3];
  const args = ["supervised", "-input", text, "-output", model, ...shape.map(String), "-thread", "1", "-verbose", "0"];
  const { status, error } = spawnSync("fasttext", args, { stdio: "inherit" });
  if (status !== 0) throw error ?? new Error(`fasttext ended with ${status}`);
  rmSync(`${model}.vec`);
  return `${model}.bin`;
}

/** In a process of its own. */
async function measure(engine, file) {
  const texts = lines.map(({ line }) => line);
  const start = performance.now();
  const model = engine === "native" ? await NativeFastTextModel.load(file, statSync(file).size) : await FastTextModel.load(file);
  const loaded = performance.now();
  const round = async () => {
    if (engine === "native") return model.predict(texts, 0);
    return texts.map((text) => model.predict(text, 0));
  };
  await round();
  const times = [];
  for (let i = 0; i < rounds; i++) {
    const begin = performance.now();
    await round();
    times.push(performance.now() - begin);
  }
  const median = times.sort((a, b) => a - b)[rounds >> 1];
  const peak = Number(/VmHWM:\s+(\d+)/.exec(readFileSync("/proc/self/status", "utf8"))[1]) * 1024;
  return { loadSeconds: (loaded - start) / 1e3, linesPerSecond: texts.length / (median / 1e3), spread: [times[0], times.at(-1)], peak };
}

if (process.argv[2] === "--case") {
  console.log(JSON.stringify(await measure(process.argv[3], process.argv[4])));
} else {
  const folder = mkdtempSync(join(tmpdir(), "polypaca-lid-bench-"));
  const sizes = process.argv.length > 2 ? process.argv.slice(2).map(Number) : [128, 512, 600, 1200];
  console.log(`${cpus()[0].model}, ${cpus().length} cores; ${lines.length} lines`);
  console.log("| file | engine | load | peak memory | lines/s |\n|---|---|---|---|---|");
  for (const megabytes of sizes) {
    const file = train(folder, megabytes);
    for (const engine of ["wasm", "native"]) {
      const { status, stdout } = spawnSync(process.execPath, [import.meta.filename, "--case", engine, file], { encoding: "utf8" });
      const size = `${Math.round(statSync(file).size / 1e6)} MB`;
      if (status !== 0) console.log(`| ${size} | ${engine} | does not load | | |`);
      else {
        const { loadSeconds, peak, linesPerSecond } = JSON.parse(stdout);
        console.log(`| ${size} | ${engine} | ${loadSeconds.toFixed(1)} s | ${(peak / 1e9).toFixed(2)} GB | ${Math.round(linesPerSecond)} |`);
      }
    }
    rmSync(file);
  }
  rmSync(folder, { recursive: true });
}
