import { type Command, Option } from "commander";
import { PolypacaError } from "../errors.js";
import type { LanguageCandidates } from "../evaluate/language-match.js";
import type { Comparing, ScoreReport } from "../evaluate/score.js";
import { studyTrainingLanguages } from "../evaluate/study-languages.js";
import { choiceFlag, commaList, note, numberFlag, printResult } from "./output.js";

export function registerScore(program: Command): void {
  program
    .command("score")
    .summary("score judged responses by system and language")
    .description(
      "Sums judge rating x language match over each system's prompts, by language, before and after language identification, with bootstrap intervals and paired comparisons. Exits with 1 where a response or judgement is missing, unless --allow-incomplete.",
    )
    .requiredOption("--responses <FILE...>", "responses, JSONL: of generate, or of the study's programs")
    .requiredOption("--judgements <FILE...>", "judgements, JSONL of {id, language, system, judge, rating}")
    .option("--prompts <FILE...>", "test prompts: what should have been answered (default: what any system answered)")
    .option("--language <CODE>", "of responses that do not say theirs (default: the file name, test_<code>.jsonl)")
    .option("--system <NAME>", "of responses that do not say theirs")
    .option("--lid-model <FILE>", "fastText model of languages, .ftz or .bin (default: lid.176.ftz, which comes along)")
    .option(
      "--candidates <RULE>",
      "languages a response can be found to be in: all, or expected, those under test",
      choiceFlag("--candidates", ["all", "expected"]),
      "all",
    )
    .option("--seen-langs <CODES>", "languages that the systems were tuned on", commaList, studyTrainingLanguages)
    .addOption(
      new Option("--compare <WHICH>", "systems compared: conditions (those that differ in nothing else), all or none")
        .argParser(choiceFlag("--compare", ["conditions", "all", "none"]))
        .default("conditions"),
    )
    .addOption(new Option("--baseline <SYSTEM>", "compare every other system with this one").conflicts("compare"))
    .option("--resamples <N>", "of the bootstrap", numberFlag("--resamples", { integer: true, min: 100, max: 1_000_000 }), 10_000)
    .option("--seed <N>", "of the bootstrap", numberFlag("--seed", { integer: true, min: 0 }), 0)
    .option("--allow-incomplete", "exit with 0 although responses or judgements are missing")
    .addOption(formatOption())
    .option("--out <DIR>", "also write scores.json, .txt, .tex, .csv, robustness.csv, comparisons.csv and languages.jsonl there")
    .option("--json", "print the result as JSON")
    .action(async (flags: ScoreFlags) => {
      const { scoreFiles, scoresAsText, scoresAsLatex, writeScoreFiles } = await import("../evaluate/score-files.js");
      const { scoresAsCsv } = await import("../evaluate/score-tables.js");
      const scored = await scoreFiles({
        ...{ responses: flags.responses, judgements: flags.judgements, prompts: flags.prompts ?? [] },
        ...{ language: flags.language ?? null, system: flags.system ?? null, lidModel: flags.lidModel ?? null },
        ...{ candidates: flags.candidates, seenLanguages: seenLanguagesOf(flags), comparing: comparingOf(flags) },
        ...{ resamples: flags.resamples, seed: flags.seed },
      });
      const { report } = scored;
      if (flags.out !== undefined) for (const path of await writeScoreFiles(scored, flags.out)) note(`wrote ${path}`);
      const writers = { text: scoresAsText, csv: scoresAsCsv, latex: scoresAsLatex } as const;
      printResult(flags.json === true, report, () => writers[flags.format](report));
      reportIncomplete(report, flags.allowIncomplete === true);
    });
}

/** How tables are printed. */
export function formatOption(): Option {
  return new Option("--format <FORM>", "text, csv or latex")
    .argParser(choiceFlag("--format", ["text", "csv", "latex"]))
    .default("text")
    .conflicts("json");
}

interface ScoreFlags {
  readonly responses: readonly string[];
  readonly judgements: readonly string[];
  readonly prompts?: readonly string[];
  readonly language?: string;
  readonly system?: string;
  readonly lidModel?: string;
  readonly candidates: LanguageCandidates;
  readonly seenLangs: readonly string[];
  readonly compare: "conditions" | "all" | "none";
  readonly baseline?: string;
  readonly resamples: number;
  readonly seed: number;
  readonly allowIncomplete?: true;
  readonly format: "text" | "csv" | "latex";
  readonly out?: string;
  readonly json?: true;
}

function comparingOf({ compare, baseline }: ScoreFlags): Comparing {
  return baseline === undefined ? compare : { baseline };
}

function seenLanguagesOf({ seenLangs }: ScoreFlags): readonly string[] {
  const wrong = seenLangs.find((code) => !/^[a-z]{2,3}$/.test(code));
  if (wrong !== undefined) throw new PolypacaError("USAGE", `--seen-langs ${wrong}: expected codes such as "en,fr".`);
  return seenLangs;
}

/** Not an error of its own: the result was printed, and says by cell what is missing. */
function reportIncomplete({ systems, incomplete }: ScoreReport, isAllowed: boolean): void {
  if (incomplete === 0) return;
  for (const { system, languages } of systems) {
    for (const [language, cell] of Object.entries(languages)) {
      if (cell.incomplete > 0)
        note(
          `incomplete: ${system}, ${language}: ${cell.prompts - cell.incomplete} of ${cell.prompts} prompts have a response and a judgement`,
        );
    }
  }
  if (isAllowed) return;
  note("Judge what is missing and score again, or pass --allow-incomplete. Incomplete scores are sums of what was judged, not scaled up.");
  process.exitCode = 1;
}
