/**
 * Scores of systems by language: judge rating x [language of the response = language of the prompt], summed over the prompts (0 to 150
 * for 50 prompts rated 1 to 3), before and after language identification, with their intervals and comparisons.
 */
import { PolypacaError } from "../errors.js";
import { type Cell, formCells, promptIds, scoresAfterLanguageId, scoresBeforeLanguageId } from "./cell.js";
import { type Comparison, compareSystems } from "./compare-systems.js";
import { formPanel, type PanelAgreement } from "./judge-panel.js";
import type { IdentifiedResponse, LanguageCandidates, LanguageRule } from "./language-match.js";
import { describePair, pairKey, refuseRows } from "./pair-key.js";
import type { Judgement } from "./read-judgements.js";
import type { EvaluatedResponse } from "./read-responses.js";
import { Resampler, sumInterval } from "./statistics/bootstrap.js";
import { confidence, type Interval } from "./statistics/interval.js";
import { sumOf } from "./statistics/mean.js";
import { wilsonInterval } from "./statistics/wilson-interval.js";

export interface LanguageScore {
  /** Sum over the judged prompts of rating x match. A lower bound where `incomplete` is above 0: never scaled up to all prompts. */
  readonly score: number;
  readonly scoreBeforeLanguageId: number;
  /** Of the language, judged or not. */
  readonly prompts: number;
  /** Responses whose language could not be told; they match nothing. */
  readonly undecided: number;
  /** Prompts that lack a response or a judgement. */
  readonly incomplete: number;
  /** Share of the responses that are in the prompt's language. */
  readonly consistency: number;
  /** Of `score`, BCa bootstrap over prompts; null for an incomplete cell, and where all prompts have the same score. */
  readonly interval: Interval | null;
  readonly intervalBeforeLanguageId: Interval | null;
  /** Wilson. */
  readonly consistencyInterval: Interval;
  /** The rule of language identification that the score depends on. */
  readonly candidates: LanguageCandidates;
}

export interface SystemScore {
  readonly system: string;
  readonly model: string | null;
  readonly method: string | null;
  readonly condition: string | null;
  readonly seed: number | null;
  /** By code; none where the system has no response. */
  readonly languages: Readonly<Record<string, LanguageScore>>;
  /** Mean over its seen languages of the score before less the score after language identification; null without seen languages. */
  readonly robustness: number | null;
  /** Prompts are resampled with all their languages; null as for scores. */
  readonly robustnessInterval: Interval | null;
}

export interface ScoreReport {
  readonly languageId: LanguageRule;
  readonly seenLanguages: readonly string[];
  readonly judges: readonly string[];
  readonly judgementsPerPair: number;
  readonly judgeAgreement: readonly PanelAgreement[];
  readonly systems: readonly SystemScore[];
  readonly comparisons: readonly Comparison[];
  /** Cells that are incomplete. */
  readonly incomplete: number;
  readonly confidence: number;
  readonly resamples: number;
  readonly seed: number;
}

/** Which systems are compared: those that differ in the condition alone, every two, none; or each with one. */
export type Comparing = "conditions" | "all" | "none" | { readonly baseline: string };

export interface ScoreInput {
  /** With their languages, of `identifyResponses`. */
  readonly responses: readonly IdentifiedResponse[];
  readonly judgements: readonly Judgement[];
  /** What should have been answered; empty: what any system answered. */
  readonly prompts: readonly { readonly id: string | number; readonly language: string }[];
  readonly seenLanguages: readonly string[];
  readonly comparing: Comparing;
  readonly resamples: number;
  readonly seed: number;
}

/**
 * Scores responses that are in memory. A pure function of its arguments.
 *
 * @param rule what the responses' languages were identified by
 * @throws PolypacaError as {@link checkRows} does; `USAGE` for a baseline that is not among the systems
 */
export function score(input: ScoreInput, { model, candidates }: LanguageRule): ScoreReport {
  checkRows(input);
  const { responses, judgements, prompts, seenLanguages, comparing, resamples, seed } = input;
  const panel = formPanel(judgements);
  const cells = formCells(responses, promptIds(responses, prompts), panel);
  const resampler = new Resampler(seed, resamples);
  const rule: LanguageRule = { model, candidates };
  const systems = [...cells].map(([system, ofSystem]): SystemScore => {
    const languages = [...ofSystem].map(([language, cell]) => [language, scoreCell(cell, rule, resampler)] as const);
    return {
      ...{ system, ...metadataOf(responses.filter((response) => response.system === system)) },
      ...{ languages: Object.fromEntries(languages), ...robustnessOf(ofSystem, seenLanguages, resampler) },
    };
  });
  return {
    ...{ languageId: rule, seenLanguages, judges: panel.judges, judgementsPerPair: panel.judgementsPerPair },
    ...{ judgeAgreement: panel.agreement, systems, comparisons: compareSystems(systems, cells, { comparing, seenLanguages, resampler }) },
    incomplete: systems.flatMap(({ languages }) => Object.values(languages)).filter(({ incomplete }) => incomplete > 0).length,
    ...{ confidence, resamples, seed },
  };
}

/** What can be checked before the responses' languages are identified. */
export type ScoreRows = Pick<ScoreInput, "judgements" | "prompts" | "seenLanguages"> & {
  readonly responses: readonly EvaluatedResponse[];
};

/**
 * @throws PolypacaError `BAD_RECORD` listing judgements without response, responses to no prompt, and monolingual systems' rows in unseen
 *   languages; `BAD_DATA` where no judgement belongs to a response
 */
export function checkRows({ responses, judgements, prompts, seenLanguages }: ScoreRows): void {
  const unseen = responses.filter(({ condition, language }) => condition === "monolingual" && !seenLanguages.includes(language));
  refuseRows(
    "BAD_RECORD",
    unseen.map((row) => ({ ...row.place, reason: `monolingual ${describePair(row)}: no monolingual model is trained on ${row.language}` })),
    `Leave these rows out, or name the training languages with --seen-langs (now ${seenLanguages.join(",")}).`,
  );
  const answered = new Set(responses.map(pairKey));
  const orphans = judgements.filter((judgement) => !answered.has(pairKey(judgement)));
  if (orphans.length === judgements.length) {
    const [judgement, response] = [describePair(judgements[0]!), describePair(responses[0]!)];
    throw new PolypacaError(
      "BAD_DATA",
      `no judgement belongs to a response: the first are of ${judgement} and ${response}. Give the files of one evaluation.`,
    );
  }
  refuseRows(
    "BAD_RECORD",
    orphans.map((row) => ({ ...row.place, reason: `a judgement without its response: ${describePair(row)}` })),
    "Give all --responses that were judged, or leave these judgements out.",
  );
  if (prompts.length === 0) return;
  const asked = new Set(prompts.map(({ language, id }) => JSON.stringify([language, String(id)])));
  const unasked = responses.filter(({ language, id }) => !asked.has(JSON.stringify([language, id])));
  refuseRows(
    "BAD_RECORD",
    unasked.map((row) => ({ ...row.place, reason: `a response to none of the --prompts: ${describePair(row)}` })),
    "Give all --prompts that were answered.",
  );
}

/** What the rows that say something say; reading has made sure that they agree. A monolingual system's seeds may differ: none then. */
function metadataOf(rows: readonly EvaluatedResponse[]): Pick<SystemScore, "model" | "method" | "condition" | "seed"> {
  const said = (field: "model" | "method" | "condition"): string | null => rows.find((row) => row[field] !== null)?.[field] ?? null;
  const seeds = new Set(rows.map(({ seed }) => seed));
  return { model: said("model"), method: said("method"), condition: said("condition"), seed: seeds.size === 1 ? rows[0]!.seed : null };
}

function scoreCell(cell: Cell, { candidates }: LanguageRule, resampler: Resampler): LanguageScore {
  const answered = cell.matches.filter((match) => match !== null);
  const matching = answered.filter(({ isMatch }) => isMatch).length;
  const after = scoresAfterLanguageId(cell).filter((value) => value !== null);
  const before = scoresBeforeLanguageId(cell).filter((value) => value !== null);
  const incomplete = cell.ids.length - after.length;
  const intervalOf = (values: readonly number[]): Interval | null => (incomplete > 0 ? null : sumInterval(values, resampler));
  return {
    ...{ score: sumOf(after), scoreBeforeLanguageId: sumOf(before), prompts: cell.ids.length },
    ...{ undecided: answered.filter(({ detected }) => detected === null).length, incomplete, consistency: matching / answered.length },
    ...{ interval: intervalOf(after), intervalBeforeLanguageId: intervalOf(before) },
    ...{ consistencyInterval: wilsonInterval(matching, answered.length)!, candidates },
  };
}

type Robustness = Pick<SystemScore, "robustness" | "robustnessInterval">;

/** The same prompts stand in every language and their scores go together, so a prompt is resampled with all its languages. */
function robustnessOf(cells: ReadonlyMap<string, Cell>, seenLanguages: readonly string[], resampler: Resampler): Robustness {
  const seen = seenLanguages.map((language) => cells.get(language)).filter((cell) => cell !== undefined);
  if (seen.length === 0) return { robustness: null, robustnessInterval: null };
  const drops = new Map<string, number>();
  for (const cell of seen) {
    const after = scoresAfterLanguageId(cell);
    for (const [at, before] of scoresBeforeLanguageId(cell).entries()) {
      if (before === null) continue;
      const id = cell.ids[at]!;
      drops.set(id, (drops.get(id) ?? 0) + before - after[at]!);
    }
  }
  const total = [...drops.values()];
  const isComplete = seen.every(({ ratings }) => ratings.every((rating) => rating !== null));
  const interval = isComplete ? sumInterval(total, resampler) : null;
  return { robustness: sumOf(total) / seen.length, robustnessInterval: interval && [interval[0] / seen.length, interval[1] / seen.length] };
}
