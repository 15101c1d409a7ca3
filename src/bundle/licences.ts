/** Third-party notices of the offline bundle: the licence text of everything it holds that is not ours. */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { z } from "zod";
import { PolypacaError } from "../errors.js";

/** Licences under which a package may be passed on unchanged with its text beside it, by SPDX identifier. */
const knownLicences: ReadonlySet<string> = new Set([
  ...["MIT", "ISC", "BSD-2-Clause", "BSD-3-Clause", "0BSD", "BlueOak-1.0.0"],
  ...["Apache-2.0", "MPL-2.0", "Python-2.0", "Unlicense"],
]);

const textFile = /^(licen[cs]e|copying|notice|third-?party)/i;

const manifestSchema = z.object({
  name: z.string(),
  version: z.string(),
  license: z.string().optional(),
  author: z.union([z.string(), z.object({ name: z.string() })]).optional(),
});

export interface Notice {
  /** "zod 4.6.7". */
  readonly title: string;
  /** SPDX expression, as the package declares it. */
  readonly licence: string;
  readonly texts: readonly { readonly file: string; readonly text: string }[];
}

/**
 * The notice of the package in a folder.
 *
 * @throws PolypacaError `UNSUPPORTED` where its licence is none of those known, or has no text
 */
export function noticeOfPackage(folder: string): Notice {
  const { name, version, license, author } = manifestSchema.parse(JSON.parse(readFileSync(join(folder, "package.json"), "utf8")));
  const title = `${name} ${version}`;
  if (license === undefined || !isKnownLicence(license)) {
    const known = [...knownLicences].join(", ");
    throw new PolypacaError(
      "UNSUPPORTED",
      `${title}: its licence, ${license ?? "none declared"}, is not one that may go into the bundle unread (${known}). Read it; then add it in src/bundle/licences.ts, or do without the package.`,
    );
  }
  const files = readdirSync(folder).filter((file) => textFile.test(file));
  const texts = files.sort().map((file) => ({ file, text: readFileSync(join(folder, file), "utf8").trim() }));
  if (texts.length > 0) return { title, licence: license, texts };
  if (license !== "MIT") throw new PolypacaError("UNSUPPORTED", `${title}: declared ${license}, but ${folder} holds no licence text.`);
  const holder = typeof author === "string" ? author : (author?.name ?? `the authors of ${name}`);
  return { title, licence: license, texts: [{ file: "declared in package.json without a text; MIT's own", text: mitText(holder) }] };
}

/** Whether an SPDX expression is covered: one of alternatives, all of what holds together. */
export function isKnownLicence(expression: string): boolean {
  const parts = expression.replace(/[()]/g, "").split(/\s+(?:OR|AND)\s+/);
  const isKnown = (part: string): boolean => knownLicences.has(part);
  return /\sAND\s/.test(expression) ? parts.every(isKnown) : parts.some(isKnown);
}

/** The file: one line for each, then every text in full. */
export function noticesText(notices: readonly Notice[]): string {
  const rule = "=".repeat(80);
  const summary = notices.map(({ title, licence }) => `${title}: ${licence}`);
  const sections = notices.map(({ title, licence, texts }) =>
    [rule, `${title} (${licence})`, rule, ...texts.map(({ file, text }) => `[${file}]\n\n${text}\n`)].join("\n"),
  );
  const head = "Third-party software in this bundle, each under its own licence. polypaca's own is in LICENSE.";
  return `${[head, summary.join("\n"), ...sections].join("\n\n")}\n`;
}

function mitText(holder: string): string {
  return `Copyright (c) ${holder}

Permission is hereby granted, free of charge, to any person obtaining a copy of this software and associated documentation files (the "Software"), to deal in the Software without restriction, including without limitation the rights to use, copy, modify, merge, publish, distribute, sublicense, and/or sell copies of the Software, and to permit persons to whom the Software is furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all copies or substantial portions of the Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM, OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE.`;
}
