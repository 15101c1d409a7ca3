/** The result of `mix` as text: what the data costs by language, what is in the files, and the condition's cost against C. */
import { type Column, formatTable } from "../bench/tables.js";
import type { BudgetUnit, Cost } from "../budget/costs.js";
import type { FileReport, LanguageReport, MixResult, PartReport } from "../budget/mix-report.js";

export function describeMix(result: MixResult): string {
  const { files } = result;
  return [dataTable(result), ...(files.length > 0 ? [fileTable(files)] : []), costTable(result), closing(result)].join("\n\n");
}

type Named<T> = T & { readonly name: string };

function dataTable({ languages }: MixResult): string {
  const rows = Object.entries(languages).map(([name, report]): Named<LanguageReport> => ({ name, ...report }));
  return formatTable(
    [
      { title: "data", cell: ({ name }) => name, align: "left" },
      ...partColumns<Named<LanguageReport>>(rows),
      ...shownIf<Named<LanguageReport>>(rows[0]?.tokens !== null, [
        { title: "x English", cell: ({ relativeToEnglish }) => ratio(relativeToEnglish) },
        { title: "text alone", cell: ({ textRelativeToEnglish }) => ratio(textRelativeToEnglish) },
        { title: "cut", cell: ({ truncated, records }) => percent((truncated ?? 0) / records) },
      ]),
    ],
    rows,
  );
}

function fileTable(files: readonly FileReport[]): string {
  const rows = files.flatMap(({ file, records, tokens, flops, perLanguage }): Named<PartReport>[] => {
    const parts = Object.entries(perLanguage).map(([name, part]) => ({ name: `  ${name}`, ...part }));
    const meanTokens = tokens === null ? null : tokens / records;
    const whole = { name: file, records, share: 1, tokens, tokenShare: tokens === null ? null : 1, meanTokens, flops };
    return parts.length > 1 ? [whole, ...parts] : [whole];
  });
  return formatTable([{ title: "training file", cell: ({ name }) => name, align: "left" }, ...partColumns<Named<PartReport>>(rows)], rows);
}

function partColumns<Row extends PartReport>(rows: readonly Row[]): Column<Row>[] {
  const [first] = rows;
  return [
    { title: "records", cell: ({ records }) => whole(records) },
    { title: "share", cell: ({ share }) => percent(share) },
    ...shownIf<Row>(first?.tokens !== null, [
      { title: "tokens", cell: ({ tokens }) => whole(tokens ?? 0) },
      { title: "share", cell: ({ tokenShare }) => percent(tokenShare ?? 0) },
      { title: "mean", cell: ({ meanTokens }) => (meanTokens ?? 0).toFixed(1) },
    ]),
    ...shownIf<Row>(first?.flops !== null, [{ title: "FLOPs", cell: ({ flops }) => scientific(flops ?? 0) }]),
  ];
}

function costTable({ condition, cost, budget: { unit, languages, total, perLanguage, costOverC } }: MixResult): string {
  const rows = [
    { name: condition, cost },
    { name: `N x C, N = ${languages}`, cost: total },
    { name: "C", cost: perLanguage },
  ];
  const units = (["examples", "tokens", "flops"] as const).filter((key) => cost[key] !== null);
  const title = (key: BudgetUnit): string => `${key === "flops" ? "FLOPs" : key}${key === unit ? " (budget)" : ""}`;
  const amount = (value: Cost, key: BudgetUnit): string => (key === "flops" ? scientific(value.flops ?? 0) : whole(value[key] ?? 0));
  const table = formatTable(
    [
      { title: "cost, one epoch", cell: ({ name }) => name, align: "left" },
      ...units.map((key): Column<(typeof rows)[number]> => ({ title: title(key), cell: (row) => amount(row.cost, key) })),
    ],
    rows,
  );
  const ratios = units.map((key) => `${(costOverC[key] ?? 0).toFixed(3)} C in ${key === "flops" ? "FLOPs" : key}`);
  return `${table}\n${condition} costs ${ratios.join(", ")}`;
}

function closing({ budget: { unit, target, short }, seed, sampling, manifest }: MixResult): string {
  const amount = (value: number): string => (unit === "flops" ? `${scientific(value)} FLOPs` : `${whole(value)} ${unit}`);
  const filled = target === null ? "" : `filled up to ${amount(target)}, ${amount(short ?? 0)} left over; `;
  return `${filled}${sampling === null ? "" : `${sampling} sampling, `}seed ${seed}; ${manifest} has the rest`;
}

function shownIf<Row>(isShown: boolean, columns: readonly Column<Row>[]): readonly Column<Row>[] {
  return isShown ? columns : [];
}

/** 1234.5 as "1,234.5". */
function whole(value: number): string {
  return value.toLocaleString("en-US", { maximumFractionDigits: 1 });
}

function ratio(value: number | null): string {
  return value === null ? "-" : value.toFixed(2);
}

function scientific(value: number): string {
  return value === 0 ? "0" : value.toExponential(2);
}

function percent(share: number): string {
  return `${(100 * share).toFixed(1)}%`;
}
