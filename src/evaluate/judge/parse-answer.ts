/** The rating in a judge's answer. An answer from which it does not follow for certain has none: nothing is guessed. */
import { isJsonObject, type JsonObject } from "../../data/json-records.js";
import { excerpt, isRefusal, parseJson } from "../../endpoint/chat-completion.js";
import { ratingScale } from "../read-judgements.js";

export type ParsedAnswer =
  | { readonly kind: "rated"; readonly rating: number; readonly explanation: string | null }
  | { readonly kind: "unparsable"; readonly reason: string };

/**
 * Takes the form that is asked for, `{"explanation", "rating"}`, alone or in a code fence or as the end of the answer, and text whose
 * last line is the rating: `Rating: 2`, `**Score:** 2/3`, `[[2]]`, `2`; or whose first line is, where an explanation follows. A rating
 * anywhere else may be a quotation of what is judged.
 */
export function parseAnswer(content: string): ParsedAnswer {
  const text = content.replace(/^\s*<think>[\s\S]*?<\/think>/i, "").trim();
  if (text === "") return unparsable("the answer is empty");
  const json = parseJson(text);
  if (isJsonObject(json)) return fromObject(json);
  return fromEndingObject(text) ?? fromLines(text);
}

function fromObject(object: JsonObject): ParsedAnswer {
  const fields = new Map(Object.entries(object).map(([name, value]) => [name.toLowerCase(), value]));
  if (!fields.has("rating")) return unparsable(`the answer has no "rating": ${excerpt(object)}`);
  const explanation = fields.get("explanation");
  return rated(fields.get("rating"), typeof explanation === "string" ? explanation : null);
}

/** An object that begins a line and ends the answer, after some words; the only one of them with a rating. null: there is none. */
function fromEndingObject(text: string): ParsedAnswer | null {
  const body = text.replace(/\s*```$/, "");
  for (const { index } of body.matchAll(/^[ \t]*\{/gm)) {
    const value = parseJson(body.slice(index));
    if (!isJsonObject(value)) continue;
    if (/^[ \t]*\{[\s\S]*"rating"/im.test(body.slice(0, index))) return unparsable(`the answer has several ratings: ${excerpt(text)}`);
    return fromObject(value);
  }
  return null;
}

function fromLines(text: string): ParsedAnswer {
  const lines = text.split("\n").filter((line) => line.trim() !== "");
  const [first, last] = [statementOf(lines[0]!, "labelled"), statementOf(lines.at(-1)!, "labelled or bare")];
  const isFirst = first !== null && lines.length > 1 && explanationLabel.test(plain(lines[1]!));
  if (last !== null && isFirst && first !== last) return unparsable(`the answer has several ratings: ${excerpt(text)}`);
  if (last !== null) return rated(last, explanationOf(lines.slice(0, -1)));
  if (isFirst) return rated(first, explanationOf(lines.slice(1)));
  return unparsable(`${isRefusal(text) ? "the judge refused" : "the answer has no rating"}: ${excerpt(text)}`);
}

const label = /^(?:(?:final|overall|my)\s+)?(?:rating|score|grade)\s*(?:[:：=]|is\b)\s*(.+)$/i;
const explanationLabel = /^(?:explanation|reason|reasoning|justification)\s*[:：]\s*/i;

/** Without Markdown. */
function plain(line: string): string {
  return line.replaceAll(/[*_`#]/g, "").trim();
}

/** What a line gives as the rating, as it is written; null where it is no such line. */
function statementOf(line: string, form: "labelled" | "labelled or bare"): string | null {
  const labelled = label.exec(plain(line))?.[1];
  if (labelled !== undefined) return labelled;
  return form === "labelled or bare" && written.test(plain(line)) ? plain(line) : null;
}

/** `2`, `[[2]]`, `2/3`, `2 out of 3`, `2 (some use).` */
const written = /^[[(]{0,2}(-?\d+(?:[.,]\d+)?)[\])]{0,2}\s*(?:(?:\/|out of)\s*(\d+))?\s*(?:\([^()\d]*\))?\.?$/i;

function rated(value: unknown, explanation: string | null): ParsedAnswer {
  const { min, max } = ratingScale;
  const [, digits, scale] = typeof value === "string" ? (written.exec(plain(value)) ?? []) : [];
  const rating = typeof value === "number" ? value : Number(digits?.replace(",", "."));
  const isOnScale = Number.isInteger(rating) && rating >= min && rating <= max && (scale === undefined || Number(scale) === max);
  if (!isOnScale) return unparsable(`the rating is ${excerpt(value)}, a whole number from ${min} to ${max} was asked for`);
  return { kind: "rated", rating, explanation };
}

function explanationOf(lines: readonly string[]): string | null {
  const text = lines
    .join("\n")
    .trim()
    .replace(/^\W*(?:explanation|reason|reasoning|justification)\s*[:：][*_\s]*/i, "");
  return text === "" ? null : text;
}

function unparsable(reason: string): ParsedAnswer {
  return { kind: "unparsable", reason };
}
