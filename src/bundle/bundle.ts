/** `npm run bundle`: everything that a machine without network and Node needs, but for its compilers, in one archive. */
import { spawnSync } from "node:child_process";
import { copyFileSync, existsSync, mkdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from "node:fs";
import { basename, dirname, join, resolve } from "node:path";
import { temporaryPrefix } from "../checkpoint/atomic.js";
import { PolypacaError } from "../errors.js";
import { packageRoot } from "../native/load.js";
import { filesToPack, topScripts } from "./contents.js";
import { noticeOfPackage, noticesText } from "./licences.js";
import { copyNode, noticeOfNode } from "./node-runtime.js";
import { packagesToPack, parseLockFile } from "./packages.js";

export interface BundleSettings {
  /** The archive, ending in .tar.xz. */
  readonly out: string;
  /** "best": minutes of xz; "fast": for tests, larger. Default "best". */
  readonly compression?: "best" | "fast";
  /** Told what is being done. */
  readonly onPart?: (part: string) => void;
}

export interface BundleResult {
  readonly path: string;
  readonly bytes: number;
  readonly files: number;
  readonly packages: number;
}

/** Read by `gpu-check`: which state of the project a bundle was made of. */
export interface BundleOrigin {
  readonly polypaca: string;
  /** null where it was not made in a git checkout; "+" at the end where files there were changed. */
  readonly commit: string | null;
  readonly node: string;
  readonly platform: string;
}

/** The folder that the archive unpacks to. */
export const bundleFolder = "polypaca-offline";
export const bundleOriginFile = "bundle.json";
const mostBytes = 60 * 2 ** 20;
/** The kernel tests run on the GPU box as they run here. */
const testRunner = "vitest";

/**
 * Makes the archive: under a temporary name first, so that it is complete or absent. The same checkout and the same Node give the
 * same bytes (names sorted, times those of the commit, nobody's user ids).
 *
 * @throws PolypacaError `UNSUPPORTED` for an unknown licence, or more than 60 MiB; `NOT_FOUND` for what is missing
 */
export function makeBundle({ out, compression = "best", onPart = () => {} }: BundleSettings): BundleResult {
  const root = packageRoot();
  const path = resolve(out);
  const temporary = join(dirname(path), `${temporaryPrefix}${basename(path)}-${process.pid}`);
  const stage = join(temporary, bundleFolder);
  const manifest = JSON.parse(readFileSync(join(root, "package.json"), "utf8")) as { version: string; dependencies: object };
  const lock = parseLockFile(readFileSync(join(root, "package-lock.json"), "utf8"));
  const packages = packagesToPack(lock, [...Object.keys(manifest.dependencies), testRunner], (folder) => existsSync(join(root, folder)));
  const notices = [noticeOfNode(), ...packages.map((folder) => noticeOfPackage(join(root, folder)))];
  const files = filesToPack(root, packages);
  try {
    onPart(`copying ${files.length} files`);
    for (const file of files) copy(join(root, file), join(stage, file));
    for (const name of topScripts) copy(join(root, "scripts/offline", name), join(stage, name));
    copyNode(join(stage, "node/bin/node"));
    writeFileSync(join(stage, "THIRD-PARTY-NOTICES.txt"), noticesText(notices));
    const origin = originOf(root, manifest.version);
    writeFileSync(join(stage, bundleOriginFile), `${JSON.stringify(origin, null, 1)}\n`);
    onPart(compression === "best" ? "compressing (this takes minutes)" : "compressing");
    const archive = join(temporary, "archive");
    compress(temporary, archive, compression === "best" ? "-9e" : "-1", timeOf(root));
    const bytes = statSync(archive).size;
    if (compression === "best" && bytes > mostBytes) {
      throw new PolypacaError("UNSUPPORTED", `the bundle takes ${bytes} bytes, and is to stay under ${mostBytes} (60 MiB).`);
    }
    renameSync(archive, path);
    return { path, bytes, files: files.length, packages: packages.length };
  } finally {
    rmSync(temporary, { recursive: true, force: true });
  }
}

function copy(from: string, to: string): void {
  mkdirSync(dirname(to), { recursive: true });
  copyFileSync(from, to);
}

function compress(folder: string, archive: string, level: string, time: string): void {
  const fixed = ["--sort=name", "--format=gnu", `--mtime=@${time}`, "--owner=0", "--group=0", "--numeric-owner", "--mode=u+rwX,go+rX,go-w"];
  const { status, error, stderr } = spawnSync(
    "tar",
    [...fixed, `--use-compress-program=xz ${level} -T0`, "-cf", archive, "-C", folder, bundleFolder],
    {
      encoding: "utf8",
    },
  );
  if (status === 0) return;
  throw new PolypacaError("IO", `GNU tar with xz did not write the archive: ${error?.message ?? stderr.trim()}`);
}

function git(root: string, args: readonly string[]): string | null {
  const { status, stdout } = spawnSync("git", ["-C", root, ...args], { encoding: "utf8" });
  return status === 0 ? stdout.trim() : null;
}

function originOf(root: string, version: string): BundleOrigin {
  const commit = git(root, ["rev-parse", "HEAD"]);
  const changed = git(root, ["status", "--porcelain"]);
  return {
    polypaca: version,
    commit: commit === null ? null : `${commit}${changed ? "+" : ""}`,
    node: process.version,
    platform: `${process.platform}-${process.arch}`,
  };
}

/** Seconds since 1970 that every file in the archive carries. */
function timeOf(root: string): string {
  return process.env.SOURCE_DATE_EPOCH ?? git(root, ["log", "-1", "--format=%ct"]) ?? "946684800";
}
