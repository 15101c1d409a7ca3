/** What `fetch` takes, and what it takes from the environment: the hub and the token. */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { PolypacaError } from "../errors.js";

export type RepositoryKind = "model" | "data";

export const repositoryKinds = ["model", "data"] as const satisfies readonly RepositoryKind[];

export interface FetchSettings {
  readonly kind: RepositoryKind;
  /** "namespace/name", or "namespace/name@revision": a branch, tag or commit. Default revision: "main". */
  readonly repo: string;
  /** New folder. Default: the repository's name, in the working folder. */
  readonly out?: string | undefined;
  /** Data only: of the .json and .jsonl files, those that match one of these patterns. Default: all of them. */
  readonly files?: readonly string[] | undefined;
  /** Further files, by pattern. Default: none. */
  readonly include?: readonly string[] | undefined;
  /** Files at a time, at least 1. Default 4. */
  readonly concurrency?: number | undefined;
}

/** A repository at a revision, before that is resolved to a commit. */
export interface Repository {
  readonly kind: RepositoryKind;
  readonly name: string;
  readonly revision: string;
}

/** @throws PolypacaError `USAGE` for what cannot be the name of a repository */
export function parseRepository(kind: RepositoryKind, text: string): Repository {
  const at = text.indexOf("@");
  const name = at < 0 ? text : text.slice(0, at);
  const revision = at < 0 ? "main" : text.slice(at + 1);
  if (/^https?:/.test(text)) {
    throw new PolypacaError(
      "USAGE",
      `fetch ${kind} ${text}: give the repository's name alone (namespace/name), and the hub as HF_ENDPOINT.`,
    );
  }
  // The hub's own rule: letters, digits, "-", "_" and ".", and no ".." in it.
  if (!/^[\w.-]+(\/[\w.-]+)?$/.test(name) || name.includes(".."))
    throw new PolypacaError("USAGE", `fetch ${kind} ${text}: expected namespace/name, or namespace/name@revision.`);
  if (!/^[^\s?#@]+$/.test(revision) || revision.includes(".."))
    throw new PolypacaError("USAGE", `fetch ${kind} ${text}: "${revision}" is no revision. Expected a branch, tag or commit.`);
  return { kind, name, revision };
}

export const defaultEndpoint = "https://huggingface.co";

type Environment = Readonly<Record<string, string | undefined>>;

/** The hub's address without a slash at its end. @throws PolypacaError `USAGE` for an HF_ENDPOINT that is no http(s) address */
export function hubEndpoint({ HF_ENDPOINT: given }: Environment): string {
  if (given === undefined || given === "") return defaultEndpoint;
  const isAddress = URL.canParse(given) && /^https?:$/.test(new URL(given).protocol);
  if (!isAddress) throw new PolypacaError("USAGE", `HF_ENDPOINT=${given}: expected an address such as ${defaultEndpoint}.`);
  return given.replace(/\/+$/, "");
}

/**
 * The user's token as Hugging Face's own tools find it: HF_TOKEN, else the file HF_TOKEN_PATH, else `token` in HF_HOME (default
 * ~/.cache/huggingface, under XDG_CACHE_HOME where that is set). null: none.
 *
 * @param home the user's home folder
 * @throws PolypacaError `NOT_FOUND`, `IO` for a HF_TOKEN_PATH that cannot be read
 */
export async function hubToken(environment: Environment, home: string): Promise<string | null> {
  const { HF_TOKEN, HF_TOKEN_PATH, HF_HOME, XDG_CACHE_HOME } = environment;
  if (HF_TOKEN?.trim()) return HF_TOKEN.trim();
  const path = HF_TOKEN_PATH || join(HF_HOME || join(XDG_CACHE_HOME || join(home, ".cache"), "huggingface"), "token");
  try {
    return (await readFile(path, "utf8")).trim() || null;
  } catch (cause) {
    if (!HF_TOKEN_PATH) return null;
    const { code, message } = PolypacaError.from(cause);
    throw new PolypacaError(code, `HF_TOKEN_PATH=${path}: ${message}. Point it to the file with your token, or unset it.`, { cause });
  }
}
