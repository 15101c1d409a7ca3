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

/**
 * Checks settings as a YAML file or a command line gives them; names that do not exist come with the nearest one that does.
 *
 * @param schema of some of the settings: `partial()`
 */
export function checkSettings<Settings>(schema: z.ZodType<Settings>, names: readonly string[], input: unknown): CheckedSettings<Settings> {
  const result = schema.safeParse(input);
  if (result.success) return { settings: result.data };
  return { issues: result.error.issues.flatMap((issue) => describeIssue(issue, names)) };
}

function describeIssue(issue: z.core.$ZodIssue, names: readonly string[]): SettingIssue[] {
  if (issue.code !== "unrecognized_keys") return [{ path: issue.path, isUnknownName: false, message: issue.message }];
  return issue.keys.map((key) => {
    const nearest = nearestName(key, names);
    const hint = nearest === null ? "" : `; did you mean "${nearest}"?`;
    return { path: [...issue.path, key], isUnknownName: true, message: `there is no setting "${key}"${hint}` };
  });
}

/** `learningRate` as it is written on the command line: `--learning-rate`. */
export function flagOf(name: string): string {
  return `--${name.replaceAll(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`;
}
