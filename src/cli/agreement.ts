import type { Command } from "commander";
import { PolypacaError } from "../errors.js";
import type { RatingScale } from "../evaluate/read-human-scores.js";
import { numberFlag, printResult } from "./output.js";
import { formatOption } from "./score.js";

export function registerAgreement(program: Command): void {
  program
    .command("agreement")
    .summary("compare judge scores with human ones")
    .description(
      "Correlates human and judge scores over systems, by language (Pearson, Spearman, Kendall), and measures the agreement on single responses (weighted kappa), each with its 95% interval.",
    )
    .requiredOption("--human <FILE...>", "human scores: CSV or JSONL with id, language, system, rating and, for several people, rater")
    .requiredOption("--judgements <FILE...>", "judgements, JSONL of {id, language, system, judge, rating}")
    .option("--human-scale <MIN-MAX>", "scale of the human ratings; kappa needs the judge's", scaleFlag, { min: 1, max: 3 })
    .option("--resamples <N>", "of kappa's bootstrap", numberFlag("--resamples", { integer: true, min: 100, max: 1_000_000 }), 10_000)
    .option("--seed <N>", "of the bootstrap", numberFlag("--seed", { integer: true, min: 0 }), 0)
    .addOption(formatOption())
    .option("--json", "print the result as JSON")
    .action(async (flags: AgreementFlags) => {
      const { agreementOfFiles, agreementTable, agreementAsCsv } = await import("../evaluate/agreement-files.js");
      const { tableAsLatex, tableAsText } = await import("../evaluate/table.js");
      const report = await agreementOfFiles(flags);
      const writers = {
        text: () => tableAsText(agreementTable(report)),
        csv: () => agreementAsCsv(report),
        latex: () => tableAsLatex(agreementTable(report)),
      } as const;
      printResult(flags.json === true, report, writers[flags.format]);
    });
}

interface AgreementFlags {
  readonly human: readonly string[];
  readonly judgements: readonly string[];
  readonly humanScale: RatingScale;
  readonly resamples: number;
  readonly seed: number;
  readonly format: "text" | "csv" | "latex";
  readonly json?: true;
}

function scaleFlag(text: string): RatingScale {
  const [, min, max] = /^(\d+(?:\.\d+)?)-(\d+(?:\.\d+)?)$/.exec(text) ?? [];
  if (min !== undefined && max !== undefined && Number(min) < Number(max)) return { min: Number(min), max: Number(max) };
  throw new PolypacaError("USAGE", `--human-scale ${text}: expected the least and the greatest rating, such as 1-3 or 0-100.`);
}
