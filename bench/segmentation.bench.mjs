// How fast texts are planned for translation and put together again, on one core. Run after `npm run build`:
//   node bench/segmentation.bench.mjs [--records 52000] [--max-characters 1000] [--json]
// The texts are the English sample's and, where ../shared/data is there, the public Alpaca file's, repeated to --records records; each text
// is planned anew, nothing is kept between them. The translations are the segments, so the answer is checked: the text, byte for byte.
import { existsSync, readFileSync } from "node:fs";
import { cpus } from "node:os";
import { parseArgs } from "node:util";

const { values } = parseArgs({
  options: {
    records: { type: "string", default: "52000" },
    "max-characters": { type: "string", default: "1000" },
    json: { type: "boolean", default: false },
  },
});
const records = Number(values.records);
const maxCharacters = Number(values["max-characters"]);
const { planText } = await import("../dist/translate/plan-text.js");

const sources = ["../experiments/sample/alpaca.en.json", "../../shared/data/alpaca_en_demo.json", "../../shared/data/alpaca_zh_demo.json"];
const results = [];
for (const source of sources) {
  const file = new URL(source, import.meta.url);
  if (!existsSync(file)) {
    console.error(`${source}: not there, left out`);
    continue;
  }
  const language = source.includes("zh") ? "zh" : "en";
  const texts = JSON.parse(readFileSync(file, "utf8")).flatMap(({ instruction, input, output }) => [instruction, input, output]);
  for (const joinSentences of [true, false]) {
    const options = { language, maxCharacters, joinSentences };
    measure(texts.slice(0, 300), 300, options); // warm up
    const passes = Array.from({ length: 3 }, () => measure(texts, records * 3, options));
    passes.sort((a, b) => a.segmentsPerSecond - b.segmentsPerSecond);
    results.push({ source, joinSentences, ...passes[1], spread: [passes[0].segmentsPerSecond, passes[2].segmentsPerSecond] });
  }
}

/** Plans and assembles `count` texts, from the first again when they are through. */
function measure(texts, count, options) {
  let segments = 0;
  let characters = 0;
  const begin = process.hrtime.bigint();
  for (let i = 0; i < count; i++) {
    const text = texts[i % texts.length];
    const plan = planText(text, options);
    if (plan.assemble(plan.segments).text !== text) throw new Error(`not the same text: ${JSON.stringify(text)}`);
    segments += plan.segments.length;
    characters += text.length;
  }
  const seconds = Number(process.hrtime.bigint() - begin) / 1e9;
  return { segments, megabytes: characters / 1e6, seconds, segmentsPerSecond: segments / seconds, megabytesPerSecond: characters / 1e6 / seconds };
}

if (values.json) {
  console.log(JSON.stringify({ machine: cpus()[0]?.model, node: process.version, maxCharacters, peakMemoryMegabytes: process.resourceUsage().maxRSS / 1e3, results }));
} else {
  console.log(`${cpus()[0]?.model}, Node ${process.version}; limit ${maxCharacters} characters; median of 3 passes (slowest to fastest)`);
  for (const { source, joinSentences, segments, megabytes, seconds, segmentsPerSecond, megabytesPerSecond, spread } of results) {
    const [slowest, fastest] = spread.map((value) => Math.round(value).toLocaleString("en"));
    console.log(
      `${source.replace(/.*\//, "").padEnd(22)} ${joinSentences ? "joined sentences" : "single sentences"}  ${segments.toLocaleString("en")} segments, ${megabytes.toFixed(1)} M characters in ${seconds.toFixed(2)} s: ` +
        `${Math.round(segmentsPerSecond).toLocaleString("en")} segments/s (${slowest} to ${fastest}), ${megabytesPerSecond.toFixed(1)} M characters/s`,
    );
  }
  console.log(`peak memory ${(process.resourceUsage().maxRSS / 1e3).toFixed(0)} MB`);
}
