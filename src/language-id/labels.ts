import { canonicalCode } from "./language-codes.js";

/** lid.176 has the codes of Wikipedias, of which this one means another language in ISO 639 (and in OpenLID, where it is Albanian). */
const wikipediaCodes: ReadonlyMap<string, string> = new Map([["als", "gsw"]]);

/** Languages that the study's data do not tell apart: each of these is written where the code in front is expected. */
const sameInTheStudy: ReadonlyMap<string, string> = new Map([
  ...["nb", "nn"].map((code) => [code, "no"] as const),
  ...["yue", "wuu", "nan", "hak", "gan", "hsn", "cdo", "lzh", "cjy", "cpx", "czh", "czo", "csp", "mnp"].map(
    (code) => [code, "zh"] as const,
  ),
]);

/** Labels of OpenLID, NLLB's model and GlotLID that name the most spoken member of a language whose code is the other one. */
const memberOf: ReadonlyMap<string, string> = new Map([
  ["fuv", "ff"], // Nigerian Fulfulde: Fula
  ["pbt", "ps"], // Southern Pashto
  ["quy", "qu"], // Ayacucho Quechua
]);

/**
 * The code by which languages are compared: the shortest one, `no` for Bokmål and Nynorsk, `zh` for all of Chinese, whatever the script.
 *
 * @param code ISO 639 or BCP-47
 */
export function comparableCode(code: string): string {
  let comparable = comparableCodes.get(code);
  if (comparable === undefined) {
    const canonical = canonicalCode(code);
    comparable = sameInTheStudy.get(canonical) ?? memberOf.get(canonical) ?? canonical;
    comparableCodes.set(code, comparable);
  }
  return comparable;
}

/** Kept, since Intl takes some microseconds for each and a model has hundreds of labels. */
const comparableCodes = new Map<string, string>();

/** The comparable code of a model's label: `zh` for lid.176's `__label__wuu` and OpenLID's `__label__zho_Hant`. */
export function codeOfLabel(label: string): string {
  const name = label.replace(/^__label__/, "");
  return comparableCode(wikipediaCodes.get(name) ?? name);
}
