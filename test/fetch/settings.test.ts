import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { matchesGlob } from "../../src/fetch/glob.js";
import { hubEndpoint, hubToken, parseRepository } from "../../src/fetch/settings.js";
import { temporaryFolder } from "../data/data-folder.js";

describe("a repository's name", () => {
  it.each([
    ["gpt2", "gpt2", "main"],
    ["bigscience/bloom-560m", "bigscience/bloom-560m", "main"],
    ["a/b@refs/pr/3", "a/b", "refs/pr/3"],
    ["a/b@step143000", "a/b", "step143000"],
  ])("%s is read with its revision", (text, name, revision) => {
    expect(parseRepository("model", text)).toEqual({ kind: "model", name, revision });
  });

  it.each(["", "a/b/c", "a b/c", "../etc", "a/..", "a/b@", "a/b@x y", "a/b@../x"])("%j is refused", (text) => {
    expect(() => parseRepository("data", text)).toThrow(/^fetch data /);
  });
});

describe("the hub", () => {
  it("is Hugging Face's own, or HF_ENDPOINT without the slash at its end", () => {
    expect(hubEndpoint({})).toBe("https://huggingface.co");
    expect(hubEndpoint({ HF_ENDPOINT: "http://mirror.example:8080/hf/" })).toBe("http://mirror.example:8080/hf");
    expect(() => hubEndpoint({ HF_ENDPOINT: "mirror.example" })).toThrow("HF_ENDPOINT=mirror.example: expected an address");
  });

  it("gets the token of HF_TOKEN, of the file HF_TOKEN_PATH, of HF_HOME, or of the home folder, in this order", async () => {
    const home = await temporaryFolder();
    await mkdir(join(home, ".cache/huggingface"), { recursive: true });
    await writeFile(join(home, ".cache/huggingface/token"), "hf_home\n");
    await writeFile(join(home, "token"), "hf_other\n");
    expect(await hubToken({ HF_TOKEN: " hf_env " }, home)).toBe("hf_env");
    expect(await hubToken({ HF_TOKEN: "", HF_TOKEN_PATH: join(home, "token") }, home)).toBe("hf_other");
    expect(await hubToken({ HF_HOME: home }, "/nowhere")).toBe("hf_other");
    expect(await hubToken({}, home)).toBe("hf_home");
    expect(await hubToken({}, join(home, "empty"))).toBeNull();
    await expect(hubToken({ HF_TOKEN_PATH: join(home, "none") }, home)).rejects.toThrow(/HF_TOKEN_PATH=.*none.*or unset it/);
  });
});

describe("a pattern", () => {
  it.each([
    ["*.json", "data/a.json", true],
    ["*.json", "data/a.jsonl", false],
    ["data/*.json", "data/a.json", true],
    ["data/*.json", "data/x/a.json", false],
    ["data/**", "data/x/a.json", true],
    ["**/a.json", "a.json", true],
    ["**/a.json", "x/y/a.json", true],
    ["a.?son", "a.json", true],
    ["a.json", "aXjson", false],
    ["a+(b).json", "a+(b).json", true],
  ])("%s against %s: %s", (pattern, path, isMatch) => {
    expect(matchesGlob(path, pattern)).toBe(isMatch);
  });
});
