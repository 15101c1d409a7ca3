/** Settings with one schema for the command line (kebab-case), YAML (camelCase) and the library. */
import type { z } from "zod";
import { nearestName } from "./nearest-name.js";

/** What is wrong with one value, and where: the path of keys that leads to it. */
export interface SettingIssue {
  readonly path: readonly PropertyKey[];
  /** The name itself is wrong, not its value. */
  readonly isUnknownName: boolean;
  readonly message: string;
}

export type CheckedSettings<Settings> = { readonly settings: Settings } | { readonly issues: readonly SettingIssue[] };

/** The names there are; where settings lie within settings, by the path of keys that leads to them. */
export type KnownNames = readonly string[] | ((path: readonly PropertyKey[]) => readonly string[]);

/**
 * Checks settings as a YAML file or a command line gives them; names that do not exist come with the nearest one that does.
 *
 * @param schema of some of the settings: `partial()`
 */
export function checkSettings<Settings>(schema: z.ZodType<Settings>, names: KnownNames, input: unknown): CheckedSettings<Settings> {
  const result = schema.safeParse(input);
  if (result.success) return { settings: result.data };
  return { issues: result.error.issues.flatMap((issue) => describeIssue(issue, names)) };
}

function describeIssue(issue: z.core.$ZodIssue, names: KnownNames): SettingIssue[] {
  if (issue.code === "invalid_union") return describeUnion(issue, names);
  if (issue.code !== "unrecognized_keys") return [{ path: issue.path, isUnknownName: false, message: issue.message }];
  const here = typeof names === "function" ? names(issue.path) : names;
  return issue.keys.map((key) => {
    const nearest = nearestName(key, here);
    const hint = nearest === null ? "" : `; did you mean "${nearest}"?`;
    return { path: [...issue.path, key], isUnknownName: true, message: `there is no setting "${key}"${hint}` };
  });
}

/** `learningRate` as it is written on the command line: `--learning-rate`. */
export function flagOf(name: string): string {
  return `--${name.replaceAll(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`;
}

/** Of the forms a value may have, what is wrong with the one it comes nearest to: a list that is right but for one item. */
function describeUnion(issue: z.core.$ZodIssueInvalidUnion, names: KnownNames): SettingIssue[] {
  const nested = issue.errors.filter((issues) => issues.every(({ path, code }) => path.length > 0 || code === "unrecognized_keys"));
  const [only] = nested;
  if (nested.length !== 1 || only === undefined) return [{ path: issue.path, isUnknownName: false, message: issue.message }];
  return only.flatMap((inner) => describeIssue({ ...inner, path: [...issue.path, ...inner.path] }, names));
}
