import { existsSync, mkdirSync, mkdtempSync, readFileSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { filesToPack, isPacked } from "../../src/bundle/contents.js";
import { isKnownLicence, noticeOfPackage, noticesText } from "../../src/bundle/licences.js";
import { type LockFile, packagesToPack, parseLockFile } from "../../src/bundle/packages.js";
import { packageRoot } from "../../src/native/load.js";

const root = packageRoot();
const refused = (code: string, message: string) => expect.objectContaining({ code, message: expect.stringContaining(message) });

/** A package folder with these files; package.json is given as an object. */
function packageFolder(manifest: object, files: Readonly<Record<string, string>> = {}): string {
  const folder = mkdtempSync(join(tmpdir(), "polypaca-package-"));
  writeFileSync(join(folder, "package.json"), JSON.stringify({ name: "thing", version: "1.0.0", ...manifest }));
  for (const [name, text] of Object.entries(files)) writeFileSync(join(folder, name), text);
  return folder;
}

describe("licences", () => {
  it.each(["MIT", "(BSD-2-Clause OR MIT OR Apache-2.0)", "GPL-3.0 OR MIT", "MIT AND ISC"])("%s may go in", (licence) => {
    expect(isKnownLicence(licence)).toBe(true);
  });

  it.each(["GPL-3.0", "UNLICENSED", "SEE LICENSE IN LICENSE", "MIT AND GPL-3.0", "(MIT OR GPL-3.0) AND GPL-3.0", ""])(
    "%s is refused",
    (licence) => {
      expect(isKnownLicence(licence)).toBe(false);
    },
  );

  it("a package of an unknown licence is refused by name, and one that declares none", () => {
    expect(() => noticeOfPackage(packageFolder({ license: "GPL-3.0" }))).toThrow(
      refused("UNSUPPORTED", "thing 1.0.0: its licence, GPL-3.0,"),
    );
    expect(() => noticeOfPackage(packageFolder({}, { LICENSE: "All rights reserved" }))).toThrow(refused("UNSUPPORTED", "none declared"));
  });

  it("every text of a package is taken over", () => {
    const folder = packageFolder({ license: "Apache-2.0" }, { "LICENSE.txt": "the licence", NOTICE: "the notice", "index.js": "code" });
    const text = noticesText([noticeOfPackage(folder)]);
    for (const part of ["thing 1.0.0: Apache-2.0", "[LICENSE.txt]\n\nthe licence", "[NOTICE]\n\nthe notice"]) expect(text).toContain(part);
    expect(text).not.toContain("code");
  });

  it("MIT without a text gets MIT's own with the author's name; any other is refused", () => {
    const { texts } = noticeOfPackage(packageFolder({ license: "MIT", author: { name: "A. Uthor" } }));
    expect(texts[0]!.text).toMatch(/^Copyright \(c\) A\. Uthor\n\nPermission is hereby granted/);
    expect(() => noticeOfPackage(packageFolder({ license: "ISC" }))).toThrow(refused("UNSUPPORTED", "no licence text"));
  });
});

describe("packages", () => {
  const entry = (needs: Partial<LockFile["packages"][string]>): LockFile["packages"][string] => ({
    ...{ dependencies: {}, optionalDependencies: {}, peerDependencies: {}, peerDependenciesMeta: {} },
    ...needs,
  });
  const lock: LockFile = {
    packages: {
      "": entry({}),
      "node_modules/a": entry({ dependencies: { b: "1", "@types/b": "1" }, optionalDependencies: { elsewhere: "1" } }),
      "node_modules/b": entry({ dependencies: { c: "1" } }),
      "node_modules/b/node_modules/c": entry({ dependencies: { d: "1" } }),
      "node_modules/c": entry({}),
      "node_modules/d": entry({ peerDependencies: { c: "1", editor: "1" }, peerDependenciesMeta: { editor: { optional: true } } }),
      "node_modules/elsewhere": entry({}),
      "node_modules/editor": entry({}),
      "node_modules/unused": entry({}),
      "node_modules/@types/b": entry({}),
    },
  };
  const installed = (folder: string): boolean => folder !== "node_modules/elsewhere";

  it("are what the roots need to run, from where Node would take it: no types, no unused, no absent platform, no optional peer", () => {
    expect(packagesToPack(lock, ["a"], installed)).toEqual([
      ...["node_modules/a", "node_modules/b", "node_modules/b/node_modules/c", "node_modules/c", "node_modules/d"],
    ]);
  });

  it("that are needed and not installed are an error", () => {
    expect(() => packagesToPack(lock, ["a"], (folder) => folder !== "node_modules/d")).toThrow(
      refused("NOT_FOUND", "d, which node_modules/b/node_modules/c"),
    );
  });

  it("of this project all have a licence that may go in, and hold no compiler or linter", () => {
    const manifest = JSON.parse(readFileSync(join(root, "package.json"), "utf8")) as { dependencies: object };
    const own = parseLockFile(readFileSync(join(root, "package-lock.json"), "utf8"));
    const packages = packagesToPack(own, [...Object.keys(manifest.dependencies), "vitest"], (folder) => existsSync(join(root, folder)));
    for (const name of ["commander", "node-addon-api", "node-api-headers", "vitest"]) expect(packages).toContain(`node_modules/${name}`);
    for (const name of ["typescript", "@biomejs/biome", "@types/node"]) expect(packages).not.toContain(`node_modules/${name}`);
    for (const folder of packages) expect(noticeOfPackage(join(root, folder)).texts.length, folder).toBeGreaterThan(0);
  });

  it("a file that is no lock file is refused", () => {
    expect(() => parseLockFile('{"lockfileVersion": 1}')).toThrow(refused("BAD_DATA", "package-lock.json"));
  });
});

describe("files", () => {
  it("earlier bundles, long tests, leftovers, maps and packages' types stay out", () => {
    const out = [
      "dist/polypaca-offline.tar.xz",
      "dist/.tmp-x/archive",
      "test/long/a.test.ts",
      "bench/peers/__pycache__/a.pyc",
      "dist/a.js.map",
    ];
    for (const path of [...out, "node_modules/zod/index.d.cts", "native/run.log"]) expect(isPacked(path), path).toBe(false);
    for (const path of ["dist/index.d.ts", "node_modules/zod/index.cjs", "test/ops/norm.test.ts"]) expect(isPacked(path), path).toBe(true);
  });

  it("are sources, headers, tests with their goldens, compiled code and the packages named, and no package below them", () => {
    const folder = mkdtempSync(join(tmpdir(), "polypaca-root-"));
    const write = (path: string): void => {
      mkdirSync(join(folder, path, ".."), { recursive: true });
      writeFileSync(join(folder, path), "");
    };
    const files = [
      ...["bench/peers/peer.py", "dist/cli/main.js", "experiments/e.yaml", "native/core/a.h", "scripts/a.mjs", "src/a.ts"],
      ...["test/goldens/g.json", "node_modules/a/index.js", "node_modules/a/node_modules/b/index.js", "node_modules/other/index.js"],
      ...["CMakeLists.txt", "LICENSE", "README.md", "binding.gyp", "package-lock.json", "package.json", "tsconfig.json"],
      ...["vitest.config.ts", "docs/gpu.md", "docs/gpu-log.md"],
    ];
    for (const file of files) write(file);
    const packed = filesToPack(folder, ["node_modules/a"]);
    const absent = ["node_modules/a/node_modules/b/index.js", "node_modules/other/index.js"];
    expect(packed).toEqual(files.filter((file) => !absent.includes(file)).sort());
    expect(() => filesToPack(folder, ["node_modules/gone"])).toThrow(refused("NOT_FOUND", "node_modules/gone"));
  });
});
