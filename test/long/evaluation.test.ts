/**
 * The study's second half, from two tiny base models to its figures, through the command line alone: tuned with LoRA and FFT under two
 * conditions, over three languages. What the commands wrote is computed again here from the raw rows, without the project's code.
 */
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from "vitest";
import { compile, runCli, startCli } from "../cli/run-cli.js";
import { sampleDir } from "../data/data-folder.js";
import { ratingOf, startJudgeServer } from "../evaluate/judge/judging.js";
import { type Position, type ReadPanel, readPicture } from "../report/read-picture.js";

const languages = { en: "English", fr: "French", fi: "Finnish" } as const;
type Language = keyof typeof languages;
const codes = Object.keys(languages) as Language[];
/** Finnish is in nobody's training data. */
const seen: readonly Language[] = ["en", "fr"];
const prompts = 8;

const bases = { "tiny-a": 48, "tiny-b": 96 } as const;
const methods = ["lora", "fft"] as const;
const conditions = ["multilingual", "english"] as const;
type Base = keyof typeof bases;
interface System {
  readonly name: string;
  readonly base: Base;
  readonly method: (typeof methods)[number];
  readonly condition: (typeof conditions)[number];
}
const systems: readonly System[] = (Object.keys(bases) as Base[]).flatMap((base) =>
  methods.flatMap((method) => conditions.map((condition) => ({ name: `${base}-${method}-${condition}`, base, method, condition }))),
);

interface ResponseRow {
  readonly id: string;
  readonly language: Language;
  readonly system: string;
  readonly model: string;
  readonly method: string;
  readonly condition: string;
  readonly seed: number;
  readonly prompt: string;
  readonly response: string;
}
interface JudgementRow extends Pick<ResponseRow, "id" | "language" | "system"> {
  readonly judge: string;
  readonly rating: number;
}
interface LanguageRow extends Pick<ResponseRow, "id" | "language" | "system"> {
  readonly detected: string | null;
  readonly match: boolean;
}
interface Cell {
  readonly score: number;
  readonly scoreBeforeLanguageId: number;
  readonly prompts: number;
  readonly undecided: number;
  readonly incomplete: number;
  readonly consistency: number;
}
interface ScoreReport {
  readonly systems: readonly {
    readonly system: string;
    readonly robustness: number;
    readonly languages: Readonly<Record<Language, Cell>>;
  }[];
  readonly comparisons: readonly {
    readonly systems: readonly string[];
    readonly language: string;
    readonly difference: number;
    readonly p: number;
  }[];
}

const folder = mkdtempSync(join(tmpdir(), "polypaca-evaluation-"));
const path = (...parts: readonly string[]): string => join(folder, ...parts);
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** Runs a command that must succeed; its result. Models so small gain nothing from a second thread, and wait for it on a busy machine. */
function run<Result>(...args: readonly string[]): Result {
  const { exitCode, stdout, stderr } = runCli([...args, "--json"], { OMP_NUM_THREADS: "1" });
  expect(exitCode, `${args[0]}: ${stderr}`).toBe(0);
  return JSON.parse(stdout) as Result;
}

function readRows<Row>(file: string): Row[] {
  const lines = readFileSync(file, "utf8").trimEnd().split("\n");
  return lines.map((line) => JSON.parse(line) as Row);
}

const responsesFile = (system: string): string => path("runs", system, "responses.jsonl");
const judgementsFile = path("judgements.jsonl");
const scoresFolder = path("scores");
const testFiles = codes.map((code) => path(`test_${code}.jsonl`));

/** The test prompts: instructions of the sample. They stand in the training data too, so that tiny models have something to say. */
function writeTestPrompts(): void {
  for (const [index, code] of codes.entries()) {
    const records = JSON.parse(readFileSync(join(sampleDir, `alpaca.${code}.json`), "utf8")) as {
      id: string;
      instruction: string;
      input: string;
    }[];
    const chosen = records.filter(({ input }) => input === "").slice(0, prompts);
    expect(chosen).toHaveLength(prompts);
    writeFileSync(testFiles[index]!, chosen.map(({ id, instruction }) => `${JSON.stringify({ id, prompt: instruction })}\n`).join(""));
  }
}

/** English: all data in English; multilingual: English and French. */
function mixData(): Readonly<Record<System["condition"], string>> {
  const fileOf = (condition: System["condition"]): string => {
    const where = ["--data-dir", sampleDir, "--langs", seen.join(","), "--out", path("mixes", condition)];
    const { files } = run<{ files: readonly { readonly file: string }[] }>("mix", "--condition", condition, ...where);
    expect(files).toHaveLength(1);
    return resolve(path("mixes", condition), files[0]!.file);
  };
  return { multilingual: fileOf("multilingual"), english: fileOf("english") };
}

function tune({ name, base, method, condition }: System, data: string): void {
  const size = ["--batch-size", "16", "--micro-batch-tokens", "1024", "--cutoff", "128", "--validation-size", "8", "--eval-every", "100"];
  const recipe = [
    "--max-steps",
    method === "fft" ? "120" : "20",
    "--warmup-steps",
    "4",
    "--learning-rate",
    method === "fft" ? "3e-3" : "1e-2",
  ];
  const where = ["--seed", "3", "--dtype", "fp32", "--device", "cpu"];
  run("train", "--model", path(base), "--data", data, "--method", method, "--out", path("runs", name), ...size, ...recipe, ...where);
  const tuned =
    method === "lora" ? ["--model", path(base), "--adapter", path("runs", name, "last")] : ["--model", path("runs", name, "last")];
  const decoding = ["--num-beams", "2", "--max-new-tokens", "32", "--dtype", "fp32", "--device", "cpu"];
  const out = responsesFile(name);
  const summary = run<{ responses: number }>(
    "generate",
    ...tuned,
    "--prompts",
    ...testFiles,
    "--condition",
    condition,
    "--out",
    out,
    ...decoding,
  );
  expect(summary.responses).toBe(codes.length * prompts);
}

let responses: ResponseRow[];

beforeAll(() => {
  compile();
  writeTestPrompts();
  const tokenizer = join(sampleDir, "tokenizer.json");
  for (const [base, hidden] of Object.entries(bases)) {
    const shape = ["--arch", "bloom", "--hidden", String(hidden), "--layers", "2", "--heads", "4"];
    run("init-model", ...shape, "--tokenizer", tokenizer, "--seed", "1", "--device", "cpu", "--out", path(base));
  }
  const data = mixData();
  for (const system of systems) tune(system, data[system.condition]);
  responses = systems.flatMap(({ name }) => readRows<ResponseRow>(responsesFile(name)));
});

/** One judge for the file; started where it is used, since servers end with their test. */
async function judge(): Promise<JudgementRow[]> {
  const server = await startJudgeServer();
  const args = ["judge", "--responses", ...systems.map(({ name }) => responsesFile(name)), "--out", judgementsFile, "--model", "m"];
  const { exitCode, stdout, stderr } = await startCli([...args, "--base-url", server.url, "--json"], { OPENAI_API_KEY: "k" }).ended;
  expect(exitCode, stderr).toBe(0);
  expect(JSON.parse(stdout)).toMatchObject({ rows: responses.length, unparsable: 0, failed: 0 });
  return readRows<JudgementRow>(judgementsFile);
}

const keyOf = ({ system, language, id }: { readonly system: string; readonly language: string; readonly id: string }): string =>
  `${system} ${language} ${id}`;

/** Each (system, language, id) once, in whatever order. */
function expectEveryPair(rows: readonly Pick<ResponseRow, "id" | "language" | "system">[]): void {
  const wanted = systems.flatMap(({ name: system }) =>
    codes.flatMap((language, index) => readRows<{ id: string }>(testFiles[index]!).map(({ id }) => keyOf({ system, language, id }))),
  );
  expect(rows.map(keyOf).sort()).toEqual(wanted.sort());
}

const modelsFile = path("models.yaml");
const millions = { "tiny-a": 1, "tiny-b": 4 } as const;

describe("a whole evaluation", () => {
  it("generates a row for every system, language and prompt, which says where it comes from", () => {
    expectEveryPair(responses);
    const asked = new Map(
      testFiles.flatMap((file, index) =>
        readRows<{ id: string; prompt: string }>(file).map(({ id, prompt }) => [`${codes[index]!} ${id}`, prompt]),
      ),
    );
    for (const row of responses) {
      const { base: model, method, condition } = systems.find(({ name }) => name === row.system)!;
      expect(row).toMatchObject({ model, method, condition, seed: 3, prompt: asked.get(`${row.language} ${row.id}`) });
    }
  });

  it("has every response judged, scored and drawn with the numbers that its rows give", async () => {
    const judgements = await judge();
    expectEveryPair(judgements);
    const textOf = new Map(responses.map((row) => [keyOf(row), row.response]));
    for (const row of judgements)
      expect(row, textOf.get(keyOf(row))).toMatchObject({ judge: "m", rating: ratingOf(textOf.get(keyOf(row))!) });

    const files = [
      "--responses",
      ...systems.map(({ name }) => responsesFile(name)),
      "--judgements",
      judgementsFile,
      "--prompts",
      ...testFiles,
    ];
    const report = run<ScoreReport>("score", ...files, "--seen-langs", seen.join(","), "--resamples", "500", "--out", scoresFolder);
    const detected = readRows<LanguageRow>(join(scoresFolder, "languages.jsonl"));
    expectEveryPair(detected);
    const cells = cellsByHand(judgements, detected);
    expectScores(report, cells);
    // Something was lost by language identification, and not everything, or this would show little.
    const matching = detected.filter(({ match }) => match).length;
    expect(matching).toBeGreaterThan(detected.length / 10);
    expect(matching).toBeLessThan((detected.length * 9) / 10);
    expectComparison(report, judgements, detected);
    expectAgreement(judgements);
    expectFigures(report);
  });

  it("stops at a judgement that is missing, unless it may be incomplete", () => {
    const rows = readRows<JudgementRow>(judgementsFile);
    const [missing, ...rest] = rows;
    const file = path("one-missing.jsonl");
    writeFileSync(file, rest.map((row) => `${JSON.stringify(row)}\n`).join(""));
    onTestFinished(() => rmSync(file));
    const args = [
      "score",
      "--responses",
      ...systems.map(({ name }) => responsesFile(name)),
      "--judgements",
      file,
      "--resamples",
      "100",
      "--json",
    ];
    const { exitCode, stdout, stderr } = runCli(args);
    expect(exitCode).toBe(1);
    expect(stderr).toMatch(`incomplete: ${missing!.system}, ${missing!.language}: ${prompts - 1} of ${prompts} prompts have`);
    const { systems: scored } = JSON.parse(stdout) as ScoreReport;
    const cell = scored.find(({ system }) => system === missing!.system)!.languages[missing!.language];
    const judged = rest.filter(({ system, language }) => system === missing!.system && language === missing!.language);
    expect(cell).toMatchObject({ incomplete: 1, scoreBeforeLanguageId: judged.reduce((sum, { rating }) => sum + rating, 0) });
    expect(runCli([...args, "--allow-incomplete"]).exitCode).toBe(0);
  });
});

interface HandCell {
  before: number;
  after: number;
  matching: number;
  undecided: number;
}

/** Sums of the rows, by "system language". */
function cellsByHand(judgements: readonly JudgementRow[], detected: readonly LanguageRow[]): Map<string, HandCell> {
  const languageOf = new Map(detected.map((row) => [keyOf(row), row.detected]));
  const cells = new Map<string, HandCell>();
  for (const row of judgements) {
    const name = `${row.system} ${row.language}`;
    const cell = cells.get(name) ?? { before: 0, after: 0, matching: 0, undecided: 0 };
    cells.set(name, cell);
    const found = languageOf.get(keyOf(row));
    cell.before += row.rating;
    if (found === row.language) cell.after += row.rating;
    if (found === row.language) cell.matching += 1;
    if (found === null) cell.undecided += 1;
  }
  return cells;
}

function expectScores(report: ScoreReport, cells: ReadonlyMap<string, HandCell>): void {
  expect(report.systems.map(({ system }) => system).sort()).toEqual(systems.map(({ name }) => name).sort());
  for (const { system, languages: scored, robustness } of report.systems) {
    for (const code of codes) {
      const { before, after, matching, undecided } = cells.get(`${system} ${code}`)!;
      expect(scored[code], `${system}, ${code}`).toMatchObject({
        ...{ score: after, scoreBeforeLanguageId: before, prompts, undecided, incomplete: 0, consistency: matching / prompts },
      });
    }
    const drops = seen.map((code) => cells.get(`${system} ${code}`)!).map(({ before, after }) => before - after);
    expect(robustness, system).toBe(drops.reduce((sum, drop) => sum + drop) / seen.length);
  }
}

/** The difference of the two conditions of tiny-b's FFT in French, and its p-value by all 2^8 sign patterns. */
function expectComparison({ comparisons }: ScoreReport, judgements: readonly JudgementRow[], detected: readonly LanguageRow[]): void {
  const names = conditions.map((condition) => `tiny-b-fft-${condition}`);
  const matches = new Set(detected.filter(({ match }) => match).map(keyOf));
  const scoreOf = (system: string, id: string): number => {
    const key = keyOf({ system, language: "fr", id });
    return matches.has(key) ? judgements.find((row) => keyOf(row) === key)!.rating : 0;
  };
  const ids = readRows<{ id: string }>(testFiles[codes.indexOf("fr")]!).map(({ id }) => id);
  const differences = ids.map((id) => scoreOf(names[0]!, id) - scoreOf(names[1]!, id));
  const total = differences.reduce((sum, difference) => sum + difference);
  const patterns = Array.from({ length: 2 ** prompts }, (_, pattern) =>
    differences.reduce((sum, difference, bit) => sum + (pattern & (1 << bit) ? difference : -difference), 0),
  );
  const p = patterns.filter((sum) => Math.abs(sum) >= Math.abs(total)).length / patterns.length;
  const found = comparisons.find((each) => each.language === "fr" && names.every((name) => each.systems.includes(name)))!;
  expect(Math.abs(found.difference)).toBe(Math.abs(total));
  expect(found.p).toBeCloseTo(p, 12);
}

/** A person who agrees with the judge but for every fifth response, written as CSV. */
function expectAgreement(judgements: readonly JudgementRow[]): void {
  const human = judgements.map((row, index) => ({ ...row, rating: index % 5 === 0 ? 4 - row.rating : row.rating }));
  const file = path("human.csv");
  const lines = human.map(({ id, language, system, rating }) => `${id},${language},${system},${rating}\n`);
  writeFileSync(file, `id,language,system,rating\n${lines.join("")}`);
  interface Report {
    readonly judges: readonly {
      readonly languages: Readonly<
        Record<string, { readonly systems: number; readonly pairs: number; readonly pearson: { readonly value: number } }>
      >;
    }[];
  }
  const { judges } = run<Report>("agreement", "--human", file, "--judgements", judgementsFile, "--resamples", "200");
  for (const code of codes) {
    const meansOf = (rows: readonly JudgementRow[]): number[] =>
      systems.map(({ name }) => {
        const ratings = rows.filter(({ system, language }) => system === name && language === code).map(({ rating }) => rating);
        return ratings.reduce((sum, rating) => sum + rating) / ratings.length;
      });
    const found = judges[0]!.languages[code]!;
    expect(found).toMatchObject({ systems: systems.length, pairs: systems.length * prompts });
    expect(found.pearson.value).toBeCloseTo(correlation(meansOf(human), meansOf(judgements)), 10);
  }
}

function correlation(x: readonly number[], y: readonly number[]): number {
  const mean = (of: readonly number[]): number => of.reduce((sum, value) => sum + value) / of.length;
  const [mx, my] = [mean(x), mean(y)];
  const covariance = (a: readonly number[], ma: number, b: readonly number[], mb: number): number =>
    a.reduce((sum, value, i) => sum + (value - ma) * (b[i]! - mb), 0);
  return covariance(x, mx, y, my) / Math.sqrt(covariance(x, mx, x, mx) * covariance(y, my, y, my));
}

/** The files there should be, and in each the lines' heights against the scores. */
function expectFigures(report: ScoreReport): void {
  const sizes = Object.entries(millions).map(([base, size]) => `  ${base}: { family: Tiny, parameters: ${size}M }\n`);
  writeFileSync(modelsFile, `models:\n${sizes.join("")}`);
  mkdirSync(path("figures"), { recursive: true });
  const { figures } = run<{ figures: readonly { readonly name: string; readonly svg: string }[] }>(
    ...["figures", "--scores", join(scoresFolder, "scores.json"), "--models", modelsFile, "--out", path("figures")],
  );
  const names = [
    ...methods.flatMap((method) => [`scores-${method}-tiny`, `unseen-${method}-tiny`]),
    "robustness",
    "families-lora",
    "families-fft",
  ];
  expect(figures.map(({ name }) => name).sort()).toEqual([...names].sort());
  const pictureOf = (name: string) => readPicture(readFileSync(figures.find((figure) => figure.name === name)!.svg, "utf8"));
  const cellOf = (base: string, method: string, condition: string, code: Language): number =>
    report.systems.find(({ system }) => system === `${base}-${method}-${condition}`)!.languages[code].score;
  for (const method of methods) {
    for (const [stem, of] of [
      ["scores", seen],
      ["unseen", ["fi"]],
    ] as const) {
      const picture = pictureOf(`${stem}-${method}-tiny`);
      expect(picture.panels.map(({ title }) => title)).toEqual([...of].map((code) => languages[code as Language]).sort());
      expect([...picture.legend].sort()).toEqual([...conditions].sort());
      expect(picture.yLabel).toBe(`score (${prompts} prompts: 0 to ${prompts * 3})`);
      for (const panel of picture.panels) {
        const code = codes.find((each) => languages[each] === panel.title)!;
        expect(panel.xTicks).toEqual(Object.values(millions).map((size) => `${size}M`));
        for (const condition of conditions) {
          expectHeights(
            panel,
            condition,
            Object.keys(bases).map((base) => cellOf(base, method, condition, code)),
          );
        }
      }
    }
  }
  const dropsOf = (method: string, condition: string): number[] =>
    Object.keys(bases).map((base) => report.systems.find(({ system }) => system === `${base}-${method}-${condition}`)!.robustness);
  const robustness = pictureOf("robustness");
  expect(robustness.panels.map(({ title }) => title)).toEqual(["Tiny, LoRA", "Tiny, FFT"]);
  for (const [index, method] of methods.entries()) {
    for (const condition of conditions) expectOrder(robustness.panels[index]!, condition, dropsOf(method, condition));
  }
}

/** Where the lines' vertices are, read off the vertical axis. */
function expectHeights({ lines, title, yAxis }: ReadPanel, condition: string, scores: readonly number[]): void {
  const [[low, atLow], [high, atHigh]] = [yAxis[0]!, yAxis.at(-1)!];
  const vertices = lines[condition]!.flat();
  const heights = vertices.map(([, y]) => Number(low) + ((y - atLow) / (atHigh - atLow)) * (Number(high) - Number(low)));
  expect(heights, `${title}, ${condition}`).toEqual(scores.map((score) => expect.closeTo(score, 1)));
  expectRightwards(vertices);
}

/** On the logarithmic axis: a larger drop is drawn higher, equal ones at one height. */
function expectOrder({ lines }: ReadPanel, condition: string, drops: readonly number[]): void {
  const vertices = lines[condition]!.flat();
  expect(vertices).toHaveLength(drops.length);
  expect(Math.sign(vertices[0]![1] - vertices[1]![1])).toBe(Math.sign(drops[1]! - drops[0]!));
  expectRightwards(vertices);
}

function expectRightwards(vertices: readonly Position[]): void {
  const across = vertices.map(([x]) => x);
  expect(across).toEqual([...across].sort((a, b) => a - b));
}
