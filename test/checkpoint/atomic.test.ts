import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { writeFileAtomic, writeFolderAtomic } from "../../src/checkpoint/atomic.js";
import { refusal, temporaryFolder } from "./crafted-files.js";

describe("writeFileAtomic", () => {
  it("replaces a file and leaves nothing else behind", async () => {
    const dir = temporaryFolder();
    await writeFileAtomic(join(dir, "run.json"), "old");
    await writeFileAtomic(join(dir, "run.json"), Buffer.from("new"));
    expect(readFileSync(join(dir, "run.json"), "utf8")).toBe("new");
    expect(readdirSync(dir)).toEqual(["run.json"]);
  });

  it("names the path where it cannot write", async () => {
    const path = join(temporaryFolder(), "none/run.json");
    expect((await refusal(writeFileAtomic(path, ""))).message).toContain(`${path} cannot be written`);
  });

  it("writes the same file from several places at a time", async () => {
    const path = join(temporaryFolder(), "f");
    await Promise.all(["a", "b", "c"].map((text) => writeFileAtomic(path, text)));
    expect(["a", "b", "c"]).toContain(readFileSync(path, "utf8"));
  });
});

describe("writeFolderAtomic", () => {
  const fill = async (folder: string): Promise<void> => writeFileSync(join(folder, "a"), "1");

  it("makes the folder and its parents, and is not seen before it is done", async () => {
    const dir = join(temporaryFolder(), "x/y");
    await writeFolderAtomic(dir, async (folder) => {
      await fill(folder);
      expect(existsSync(dir)).toBe(false);
    });
    expect(readdirSync(dir)).toEqual(["a"]);
    expect(readdirSync(join(dir, ".."))).toEqual(["y"]);
  });

  it("replaces an empty folder, and what a killed writer left", async () => {
    const dir = join(temporaryFolder(), "out");
    mkdirSync(dir);
    mkdirSync(join(dir, "../.tmp-out"));
    writeFileSync(join(dir, "../.tmp-out/stale"), "");
    await writeFolderAtomic(dir, fill);
    expect(readdirSync(dir)).toEqual(["a"]);
  });

  it("refuses a folder that holds something, untouched", async () => {
    const dir = temporaryFolder();
    writeFileSync(join(dir, "mine"), "");
    expect(await refusal(writeFolderAtomic(dir, fill))).toMatchObject({ code: "USAGE", message: expect.stringContaining("mine") });
    expect(readdirSync(dir)).toEqual(["mine"]);
  });

  it("leaves nothing where filling it fails", async () => {
    const parent = temporaryFolder();
    const error = await refusal(
      writeFolderAtomic(join(parent, "out"), async (folder) => {
        await fill(folder);
        throw Object.assign(new Error("no space left on device"), { code: "ENOSPC" });
      }),
    );
    expect(error.code).toBe("DISK_FULL");
    expect(readdirSync(parent)).toEqual([]);
  });
});
