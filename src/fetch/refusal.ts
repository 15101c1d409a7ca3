/** Why the hub does not give something, in words that say what to do. */
import { PolypacaError } from "../errors.js";
import type { Repository } from "./settings.js";

export interface Refused {
  readonly status: number;
  /** The hub's X-Error-Code: "GatedRepo", "RepoNotFound", "RevisionNotFound", "EntryNotFound"; empty: it gave none. */
  readonly code: string;
  readonly repository: Repository;
  /** Of the file that was asked for; null: the repository itself. */
  readonly path: string | null;
  readonly endpoint: string;
  readonly hasToken: boolean;
}

/** An error for a status that asking again does not mend (401, 403, 404, 410, 451); null for any other. */
export function refusalOf(refused: Refused): PolypacaError | null {
  const { status, code, repository, path, endpoint, hasToken } = refused;
  const { kind, name, revision } = repository;
  const page = pageOf(repository, endpoint);
  const token = `Make a token with read access at ${endpoint}/settings/tokens and give it as HF_TOKEN`;
  if (code === "GatedRepo") {
    const account = hasToken ? "the account of your token has no access (yet)" : "no token was given";
    const then = hasToken ? "Some owners answer by hand; a fine-grained token needs access to gated repositories." : `${token}.`;
    return new PolypacaError("USAGE", `${name} is gated, and ${account}. Accept its licence at ${page}. ${then}`);
  }
  if (code === "RevisionNotFound") {
    const message = `${name}@${revision}: the repository has no such branch, tag or commit. Its revisions: ${page}/tree/main.`;
    return new PolypacaError("NOT_FOUND", message);
  }
  if (path !== null && status === 404) return new PolypacaError("NOT_FOUND", `${name}: ${path} is listed but not there (${page}).`);
  // Without a token the hub answers 401 for what is not there, so that nobody learns what is private.
  if (status === 404 || status === 410 || code === "RepoNotFound" || (status === 401 && !hasToken)) {
    const other = kind === "model" ? "data" : "model";
    const advice = hasToken ? "or the token's account may not see it" : `or it is private. ${token} in that case`;
    const message = `${endpoint} has no ${kind} repository ${name}: check the spelling (is it fetch ${other}?), ${advice}.`;
    return new PolypacaError("NOT_FOUND", message);
  }
  if (status === 401)
    return new PolypacaError("USAGE", `${endpoint} does not take the token: it is mistyped, expired or revoked. ${token}.`);
  if (status === 403) {
    const advice = hasToken ? "The token may not read it: give one with read access to it" : token;
    return new PolypacaError("USAGE", `${endpoint} forbids ${name}. ${advice}.`);
  }
  if (status === 451) return new PolypacaError("NOT_FOUND", `${name} was taken down (${page}).`);
  return null;
}

/** Where a person reads about the repository. */
export function pageOf({ kind, name }: Pick<Repository, "kind" | "name">, endpoint: string): string {
  return `${endpoint}/${kind === "data" ? "datasets/" : ""}${name}`;
}
