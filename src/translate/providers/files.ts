/** Translations made elsewhere: a person, a service without an interface, another machine. */
import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";
import { isJsonObject, readJsonRecords } from "../../data/json-records.js";
import { RequestFailure } from "../../endpoint/request.js";
import { textHash } from "../../endpoint/text-hash.js";
import { PolypacaError } from "../../errors.js";
import type { LanguagePair, LiveProvider, TranslationSession } from "./provider.js";

export interface FilesSettings {
  /**
   * Path with `{target}` for the language code. JSONL: rows `{id, translation}`, ids as in the exported segments. Anything else: plain
   * text, the n-th line the translation of the n-th line of `segments`.
   */
  readonly files: string;
  /** The source lines that plain text is joined with; null with JSONL. */
  readonly segments: string | null;
  /** As it was when the segments were exported. */
  readonly maxCharacters: number;
  readonly joinSentences: boolean;
}

/** The model in the journal's key is the place of the files and their content, so that corrected ones count. */
export async function filesProvider(settings: FilesSettings, targets: readonly string[]): Promise<LiveProvider> {
  const hash = createHash("sha256");
  for (const target of targets) hash.update(await readBytes(pathFor(settings, target)));
  return {
    ...{ kind: "live", name: "files", model: `${settings.files}#${hash.digest("hex").slice(0, 16)}`, concurrency: 1 },
    maxCharacters: settings.maxCharacters,
    joinSentences: settings.joinSentences,
    mostFailuresInTurn: Number.POSITIVE_INFINITY, // all that is missing is to be listed
    open: async (pair) => session(await readTranslations(settings, pair), pathFor(settings, pair.target)),
  };
}

function session(translations: ReadonlyMap<string, string>, path: string): TranslationSession {
  return {
    translate: async ({ text }) => {
      const found = translations.get(textHash(text));
      if (found === undefined) throw new RequestFailure(`${path} has no translation of it`);
      return { text: found, usage: null };
    },
    end: async () => {},
    abandon: () => {},
  };
}

function pathFor({ files }: FilesSettings, target: string): string {
  return files.replaceAll("{target}", target);
}

async function readBytes(path: string): Promise<Buffer> {
  return await readFile(path).catch((cause: unknown) => {
    throw new PolypacaError(PolypacaError.from(cause).code, `--files ${path}: cannot be read (${(cause as Error).message}).`, { cause });
  });
}

async function readTranslations(settings: FilesSettings, { target }: LanguagePair): Promise<ReadonlyMap<string, string>> {
  const path = pathFor(settings, target);
  const bytes = await readBytes(path);
  return path.endsWith(".jsonl") ? byId(bytes, path) : await byLine(bytes, path, settings.segments);
}

function byId(bytes: Uint8Array, path: string): Map<string, string> {
  const { records, bad } = readJsonRecords(bytes, path);
  if (bad[0]) throw new PolypacaError("BAD_RECORD", `${path} line ${bad[0].line}: ${bad[0].reason}.`);
  return new Map(
    records.map(({ value, place }) => {
      const { id, translation } = value;
      if (isJsonObject(value) && typeof id === "string" && typeof translation === "string") return [id, translation];
      throw new PolypacaError("BAD_RECORD", `${path} line ${place.line}: "id" and "translation" were expected, both texts.`);
    }),
  );
}

async function byLine(bytes: Uint8Array, path: string, segments: string | null): Promise<Map<string, string>> {
  if (segments === null)
    throw new PolypacaError("USAGE", `--files ${path}: plain lines are joined with the source's lines. Give those with --segments FILE.`);
  const sources = linesOf(await readBytes(segments));
  const translations = linesOf(bytes);
  if (sources.length !== translations.length)
    throw new PolypacaError(
      "BAD_DATA",
      `${path} has ${translations.length} lines, ${segments} has ${sources.length}: the n-th line of one has to translate the n-th of the other.`,
    );
  return new Map(sources.map((source, index) => [textHash(source), translations[index]!]));
}

/** Only "\n" ends a line, after which a last one need not follow; a CR before it belongs to the line end. */
function linesOf(bytes: Uint8Array): string[] {
  const lines = new TextDecoder().decode(bytes).split("\n");
  if (lines.at(-1) === "") lines.pop();
  return lines.map((line) => (line.endsWith("\r") ? line.slice(0, -1) : line));
}
