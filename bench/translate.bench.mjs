// What `translate` itself costs: Alpaca's size (52,000 records into the study's 8 languages) with a provider that answers at once.
// Segmentation, journal, assembly, quality checks and files are measured; the process that measures has its peak memory to itself.
//
//   node bench/translate.bench.mjs [--records 52000] [--data alpaca.json] [--langs bg,cs,...]
//
// The records are those of --data (default: the bundled sample), repeated with a word of their own in every sentence, so that no
// segment comes twice more often than in the data. Goals: 5,000 segments/s, 500 MB.
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { cpus, tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { translate } from "../dist/translate/translate.js";

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const sample = (language) => join(root, `experiments/sample/alpaca.${language}.json`);

const { values } = parseArgs({
  options: {
    records: { type: "string", default: "52000" },
    data: { type: "string", default: sample("en") },
    langs: { type: "string", default: "bg,cs,zh,de,fi,fr,ru,es" },
    measure: { type: "string" }, // the folder: this is the process that is measured
  },
});
const targets = values.langs.split(",");

/** A word of letters for a number, so that number checks have nothing to do with it. */
function word(number) {
  return number.toString(26).replace(/./g, (digit) => String.fromCharCode(97 + Number.parseInt(digit, 26)));
}

function writeData(file) {
  const seeds = JSON.parse(readFileSync(values.data, "utf8"));
  const records = Array.from({ length: Number(values.records) }, (_, i) => {
    const own = word(Math.floor(i / seeds.length));
    const mark = (text) => text.replace(/(^|[.!?]\s+|\n)(\p{L}+)/gu, `$1$2 ${own}`);
    const { instruction, input, output } = seeds[i % seeds.length];
    return { id: String(i), instruction: mark(instruction), input: mark(input), output: mark(output) };
  });
  writeFileSync(file, JSON.stringify(records));
}

/** How long the sample's text is against English. */
function ratioTo(language) {
  return readFileSync(sample(language), "utf8").length / readFileSync(sample("en"), "utf8").length;
}

/** Real text of the target language, as long as a translation would be, with the source's numbers and marks. */
function instantProvider() {
  const pools = new Map(
    targets.map((code) => {
      const text = JSON.parse(readFileSync(sample(code), "utf8"))
        .map(({ output }) => output)
        .join(" ")
        .replaceAll(/[\s\d[\]]+/g, " ");
      return [code, { text, ratio: ratioTo(code) }];
    }),
  );
  return {
    ...{ kind: "live", name: "instant", model: "none", maxCharacters: 2000, joinSentences: true, concurrency: 8 },
    mostFailuresInTurn: 10,
    open: async ({ target }) => {
      const { text: pool, ratio } = pools.get(target);
      return {
        translate: async ({ text }) => {
          const length = Math.max(2, Math.round(text.length * ratio));
          const start = createHash("sha1").update(text).digest().readUInt32LE(0) % (pool.length - length);
          const kept = text.match(/\[\d+\]|\d+(?:[.,]\d+)*/g)?.join(" ") ?? "";
          return { text: `${pool.slice(start, start + length)} ${kept}`, usage: null };
        },
        end: async () => {},
        abandon: () => {},
      };
    },
  };
}

async function run(folder) {
  const settings = {
    ...{ data: join(folder, "alpaca.en.json"), source: "en", targets, out: join(folder, "out") },
    ...{ skipBadRecords: false, retry: 0, drop: false, prices: null },
  };
  const silent = () => ({ update: () => {}, note: () => {}, stop: () => {} });
  const environment = { note: () => {}, now: Date.now, random: Math.random, openProgress: silent };
  const began = performance.now();
  const { languages } = await translate(settings, instantProvider(), environment);
  const seconds = (performance.now() - began) / 1000;
  const sum = (field) => Object.values(languages).reduce((total, language) => total + language[field], 0);
  const { maxRSS, userCPUTime, systemCPUTime } = process.resourceUsage();
  const used = { seconds, cpuSeconds: (userCPUTime + systemCPUTime) / 1e6, peakBytes: maxRSS * 1024 };
  return { records: sum("records"), segments: sum("segments"), translated: sum("translated"), flagged: sum("flagged"), ...used };
}

if (values.measure !== undefined) {
  console.log(JSON.stringify(await run(values.measure)));
} else {
  const folder = mkdtempSync(join(tmpdir(), "polypaca-bench-"));
  try {
    writeData(join(folder, "alpaca.en.json"));
    const megabytes = (bytes) => `${(bytes / 1e6).toFixed(0)} MB`;
    console.log(`${values.records} records, ${megabytes(statSync(join(folder, "alpaca.en.json")).size)}, into ${targets.join(" ")}; ${cpus()[0]?.model}`);
    for (const what of ["from the start", "all in the journal"]) {
      const args = [fileURLToPath(import.meta.url), "--langs", values.langs, "--measure", folder];
      const { status, stdout, stderr } = spawnSync(process.execPath, args, { encoding: "utf8" });
      if (status !== 0) throw new Error(stderr);
      const { segments, translated, seconds, cpuSeconds, peakBytes, records, flagged } = JSON.parse(stdout);
      if (translated !== (what === "from the start" ? segments : 0)) throw new Error(`${translated} of ${segments} segments were asked for`);
      const time = `${seconds.toFixed(1)} s (${cpuSeconds.toFixed(1)} s of CPU), ${Math.round(segments / seconds)} segments/s`;
      console.log(`${what}: ${segments} segments in ${time}; ${records} records written, ${flagged} flagged; peak ${megabytes(peakBytes)}`);
    }
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
