import type { Command } from "commander";
import { PolypacaError } from "../errors.js";
import { note, printResult } from "./output.js";

export function registerFigures(program: Command): void {
  program
    .command("figures")
    .summary("draw the study's figures from scores")
    .description(
      "Draws score against model size by language (seen, unseen), robustness, and bars by model family, as SVG for print 160 mm wide: colours, markers and dashes that also hold in grey and for colour-blind readers.",
    )
    .requiredOption("--scores <FILE...>", "scores.json files of score --out; several are parts of one evaluation")
    .requiredOption("--out <DIR>", "folder for the pictures")
    .option("--models <FILE>", "YAML: family and size of models whose names do not tell; model, method and condition of systems")
    .option("--family-size <SIZE>", "size at which families are compared, such as 7B (default: the one that most families have)")
    .option("--png", "also write PNG, at 300 dots per inch; needs the optional package @resvg/resvg-js")
    .option("--json", "print the result as JSON")
    .action(async (flags: FigureFlags) => {
      const { figuresOfFiles } = await import("../report/figure-files.js");
      const { parseParameters } = await import("../report/model-sizes.js");
      const { scores, out, models, familySize, png } = flags;
      const size = familySize === undefined ? null : parseParameters(familySize);
      if (familySize !== undefined && size === null)
        throw new PolypacaError("USAGE", `--family-size ${familySize}: expected a size such as 560M or 7B.`);
      const result = await figuresOfFiles({ scores, out, models: models ?? null, familySize: size, png: png === true });
      for (const { figure, reason } of result.skipped) note(`not drawn: ${figure}: ${reason}`);
      printResult(flags.json === true, result, () =>
        result.figures.flatMap(({ svg, png }) => (png === null ? [svg] : [svg, png])).join("\n"),
      );
    });
}

interface FigureFlags {
  readonly scores: readonly string[];
  readonly out: string;
  readonly models?: string;
  readonly familySize?: string;
  readonly png?: true;
  readonly json?: true;
}
