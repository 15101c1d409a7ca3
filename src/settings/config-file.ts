/** Reads a `--config` file: YAML with strict keys, every complaint with file, line and column. */
import { readFile } from "node:fs/promises";
import { isCollection, isMap, isScalar, LineCounter, type Node, parseDocument } from "yaml";
import { PolypacaError } from "../errors.js";
import type { CheckedSettings, SettingIssue } from "./check-settings.js";

/**
 * Settings of a YAML file, none for an empty one; relative paths in it are relative to the working directory, as on the command line.
 *
 * @param place what names the file in messages
 * @throws PolypacaError `NOT_FOUND` or `IO` where the file cannot be read, `BAD_CONFIG` with every error found in it
 */
export async function readConfigFile<Settings extends object>(
  file: string,
  check: (input: unknown) => CheckedSettings<Settings>,
  place = `--config ${file}`,
): Promise<Settings | Record<string, never>> {
  let text: string;
  try {
    text = await readFile(file, "utf8");
  } catch (cause) {
    throw new PolypacaError(PolypacaError.from(cause).code, `${place}: cannot be read (${(cause as Error).message}).`, { cause });
  }
  return parseConfig(text, file, check);
}

/** @throws PolypacaError `BAD_CONFIG` */
export function parseConfig<Settings extends object>(
  text: string,
  file: string,
  check: (input: unknown) => CheckedSettings<Settings>,
): Settings | Record<string, never> {
  const lines = new LineCounter();
  const document = parseDocument(text, { lineCounter: lines });
  const at = (offset: number): string => {
    const { line, col } = lines.linePos(offset);
    return `${file}:${line}:${col}`;
  };
  if (document.errors.length > 0) {
    refuse(document.errors.map((error) => `${at(error.pos[0])}: ${error.message.split("\n")[0]?.replace(/ at line \d+.*$/, "")}`));
  }
  const root = document.contents;
  if (root === null) return {};
  if (!isMap(root)) refuse([`${at(root.range[0])}: expected settings as "name: value" lines.`]);

  const checked = check(document.toJS());
  if ("settings" in checked) return checked.settings;
  return refuse(checked.issues.map((issue) => `${at(offsetOf(root, issue))}: ${describe(issue)}`));
}

function describe(issue: SettingIssue): string {
  return issue.isUnknownName ? issue.message : `"${issue.path.join(".")}": ${issue.message}`;
}

/** Where in the text an issue is: at the key where the name is wrong, at the value where that is; of what is missing, where it should be. */
function offsetOf(root: Node, { path, isUnknownName }: SettingIssue): number {
  if (path.length === 0) return root.range?.[0] ?? 0;
  const parent = path.length === 1 ? root : nodeAt(root, path.slice(0, -1));
  if (parent === undefined) return offsetOf(root, { path: path.slice(0, -1), isUnknownName: false, message: "" });
  const last = path.at(-1);
  const pair = isMap(parent) ? parent.items.find((item) => isScalar(item.key) && String(item.key.value) === String(last)) : undefined;
  const key = isScalar(pair?.key) ? pair.key.range?.[0] : undefined;
  const value = nodeAt(root, path)?.range?.[0];
  return (isUnknownName ? key : (value ?? key)) ?? offsetOf(root, { path: path.slice(0, -1), isUnknownName: false, message: "" });
}

function nodeAt(root: Node, path: readonly PropertyKey[]): Node | undefined {
  return isCollection(root) ? (root.getIn(path, true) as Node | undefined) : undefined;
}

function refuse(problems: readonly string[]): never {
  throw new PolypacaError("BAD_CONFIG", problems.join("\n"));
}
