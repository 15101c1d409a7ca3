import { PolypacaError } from "../errors.js";

/** The study's languages: nine of its training data (English and eight translations) and two that no model was tuned on. */
export const studyLanguages = ["bg", "cs", "zh", "de", "fi", "fr", "ru", "es", "en", "bn", "hi", "no"] as const;

/** Codes of language identification models that Unicode's list of names does not have. */
const otherNames: ReadonlyMap<string, string> = new Map([
  ["azb", "South Azerbaijani"],
  ["cbk", "Chavacano"],
  ["dty", "Dotyali"],
  ["eml", "Emilian-Romagnol"],
  ["nah", "Nahuatl"],
]);

const englishNames = new Intl.DisplayNames("en", { type: "language", fallback: "none" });

/** The English name of a language, or null where the code is unknown: "Bulgarian" for `bg`. */
export function languageName(code: string): string | null {
  if (!/^[a-z]{2,3}$/.test(code)) return null;
  return otherNames.get(code) ?? englishNames.of(code) ?? null;
}

/**
 * Checks a language code that a user gave: a lower-case ISO 639 code of a known language, the two-letter one where there is one, since
 * file names and records are matched by it.
 *
 * @param flag named in errors, for instance `--to`
 * @returns the code
 * @throws PolypacaError `USAGE` for anything else, with the codes that were probably meant
 */
export function parseLanguageCode(text: string, flag: string): string {
  if (languageName(text) !== null && canonicalCode(text) === text) return text;
  const meant = suggestCodes(text).map((code) => `"${code}" (${languageName(code)})`);
  const mend = meant.length > 0 ? `Did you mean ${meant.join(" or ")}?` : `Known are ISO 639 codes, such as ${studyLanguages.join(", ")}.`;
  throw new PolypacaError("USAGE", `${flag}: ${JSON.stringify(text)} is no language code. ${mend}`);
}

/**
 * The shortest code of a language: `de` for `deu`, `ger` and `de-AT`; what is no code at all stays. A two-letter code stands for itself
 * even where Unicode has replaced it by another language's (`sh`, Serbo-Croatian).
 */
export function canonicalCode(code: string): string {
  const subtag = code.replace(/[_-].*$/, "").toLowerCase();
  if (!/^[a-z]{2,3}$/.test(subtag)) return code;
  if (subtag === "sh") return subtag;
  return new Intl.Locale(subtag).language ?? subtag; // "und" has none
}

/** Most suggestions of a message. */
const maxSuggestions = 3;

function suggestCodes(text: string): readonly string[] {
  const word = text.trim().toLowerCase();
  const canonical = canonicalCode(word);
  if (canonical !== text && languageName(canonical) !== null) return [canonical];
  const named = allLanguages();
  const byName = named.filter(({ name }) => name === word || (word.length >= 3 && name.startsWith(word)));
  const likely = byName.length > 0 ? byName : named.filter(({ name }) => isOneTypoAway(word, name));
  return likely.slice(0, maxSuggestions).map(({ code }) => code);
}

/** All codes with lower-case names, the study's first. Asked for by errors only: to try all codes takes a quarter of a second. */
function allLanguages(): readonly { readonly code: string; readonly name: string }[] {
  const letters = [..."abcdefghijklmnopqrstuvwxyz"];
  const pairs = letters.flatMap((a) => letters.map((b) => a + b));
  const codes = new Set<string>([...studyLanguages, ...pairs, ...pairs.flatMap((pair) => letters.map((c) => pair + c))]);
  return [...codes].flatMap((code) => {
    const name = languageName(code);
    return name === null || canonicalCode(code) !== code ? [] : [{ code, name: name.toLowerCase() }];
  });
}

/** One letter added, left out, changed, or two neighbours swapped. Words of less than four letters are all near each other. */
function isOneTypoAway(word: string, wanted: string): boolean {
  if (word.length < 4 || wanted.length < 4 || Math.abs(word.length - wanted.length) > 1) return false;
  let start = 0;
  while (start < word.length && word[start] === wanted[start]) start++;
  const [rest, wantedRest] = [word.slice(start), wanted.slice(start)];
  return (
    rest.slice(1) === wantedRest.slice(1) ||
    rest.slice(1) === wantedRest ||
    rest === wantedRest.slice(1) ||
    (rest[0] === wantedRest[1] && rest[1] === wantedRest[0] && rest.slice(2) === wantedRest.slice(2))
  );
}
