/** Reads what `score --out` wrote, of one evaluation or of several that can be compared. */
import { readFile } from "node:fs/promises";
import { z } from "zod";
import { PolypacaError } from "../errors.js";
import type { LanguageScore, ScoreReport, SystemScore } from "../evaluate/score.js";

/** What figures need of a score report. */
export type Scores = Pick<ScoreReport, "languageId" | "seenLanguages" | "judges" | "confidence" | "resamples"> & {
  readonly systems: readonly DrawnSystem[];
};

export type DrawnSystem = Omit<SystemScore, "languages"> & { readonly languages: Readonly<Record<string, DrawnScore>> };

export type DrawnScore = Pick<LanguageScore, "score" | "prompts" | "incomplete" | "interval">;

const interval = z.tuple([z.number(), z.number()]).nullable();
const text = z.string().nullable();

const languageScore = z.object({
  ...{ score: z.number().nonnegative(), prompts: z.int().positive(), incomplete: z.int().nonnegative(), interval },
});

const systemScore = z.object({
  ...{ system: z.string(), model: text, method: text, condition: text, seed: z.number().nullable() },
  ...{ languages: z.record(z.string(), languageScore), robustness: z.number().nonnegative().nullable(), robustnessInterval: interval },
});

const scoreReport = z.object({
  ...{ languageId: z.object({ model: z.string(), candidates: z.enum(["all", "expected"]) }), seenLanguages: z.array(z.string()) },
  ...{ judges: z.array(z.string()), confidence: z.number(), resamples: z.number(), systems: z.array(systemScore).min(1) },
});

/**
 * Reads the scores.json files of `score --out`. Several files are one evaluation in parts: they must name the same judges, seen languages
 * and rule of language identification, since scores of different ones cannot stand in one figure.
 *
 * @throws PolypacaError `NOT_FOUND`, `IO`; `BAD_DATA` where a file holds no score report, differs from the first, or has a system again
 */
export async function readScores(files: readonly string[]): Promise<Scores> {
  const reports: { readonly file: string; readonly scores: Scores }[] = [];
  for (const file of files) {
    const content = await readFile(file, "utf8").catch((cause: unknown) => {
      throw new PolypacaError(PolypacaError.from(cause).code, `--scores ${file}: cannot be read (${(cause as Error).message}).`, { cause });
    });
    reports.push({ file, scores: parseScores(content, file) });
  }
  const [first, ...others] = reports;
  if (first === undefined) throw new PolypacaError("USAGE", "no file of scores: give at least one with --scores.");
  for (const other of others) refuseOtherTerms(first, other);
  refuseRepeatedSystems(reports);
  return { ...first.scores, systems: reports.flatMap(({ scores }) => scores.systems) };
}

/** @throws PolypacaError `BAD_DATA` naming the field that is wrong */
export function parseScores(content: string, file: string): Scores {
  const advice = "Give a scores.json that `polypaca score --out` wrote.";
  let value: unknown;
  try {
    value = JSON.parse(content);
  } catch (cause) {
    throw new PolypacaError("BAD_DATA", `${file}: not valid JSON (${(cause as Error).message.replaceAll(/\s+/g, " ")}). ${advice}`, {
      cause,
    });
  }
  const parsed = scoreReport.safeParse(value);
  if (parsed.success) return parsed.data;
  const issue = parsed.error.issues[0]!;
  const where = issue.path.length > 0 ? `"${issue.path.join(".")}": ` : "";
  throw new PolypacaError("BAD_DATA", `${file}: not a score report: ${where}${issue.message}. ${advice}`);
}

interface ReadReport {
  readonly file: string;
  readonly scores: Scores;
}

function refuseOtherTerms(first: ReadReport, other: ReadReport): void {
  const terms = {
    "rule of language identification": ({ languageId }: Scores) => `${languageId.model}, candidates ${languageId.candidates}`,
    "seen languages": ({ seenLanguages }: Scores) => [...seenLanguages].sort().join(","),
    judges: ({ judges }: Scores) => [...judges].sort().join(", "),
  };
  for (const [name, termOf] of Object.entries(terms)) {
    const [expected, found] = [termOf(first.scores), termOf(other.scores)];
    if (expected === found) continue;
    const message = `${other.file}: its ${name}: ${found}; in ${first.file}: ${expected}. Scores of both cannot be compared: score them alike.`;
    throw new PolypacaError("BAD_DATA", message);
  }
}

function refuseRepeatedSystems(reports: readonly ReadReport[]): void {
  const fileOf = new Map<string, string>();
  for (const { file, scores } of reports) {
    for (const { system } of scores.systems) {
      const before = fileOf.get(system);
      if (before !== undefined) {
        const message = `${file}: system ${JSON.stringify(system)} was there already (${before}). Give each system's scores once.`;
        throw new PolypacaError("BAD_DATA", message);
      }
      fileOf.set(system, file);
    }
  }
}
