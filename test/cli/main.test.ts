import { spawnSync } from "node:child_process";
import { mkdtempSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { compile, program, runCli } from "./run-cli.js";

const withoutAddon = { POLYPACA_ADDON: "/nonexistent/polypaca.node" };

beforeAll(compile);

describe("polypaca", () => {
  it("--help lists the commands and exits with 0", () => {
    const { exitCode, stdout } = runCli(["--help"]);
    expect(exitCode).toBe(0);
    for (const command of ["train", "generate", "score", "agreement", "verify", "inspect", "doctor", "init-model", "merge"])
      expect(stdout).toContain(`\n  ${command} `);
  });

  it.each(["train", "generate", "score", "agreement", "verify", "inspect", "doctor", "init-model", "merge"])(
    "%s --help names --json and exits with 0",
    (command) => {
      const { exitCode, stdout } = runCli([command, "--help"]);
      expect(exitCode).toBe(0);
      expect(stdout).toContain("--json");
    },
  );

  it.each(["run", "status"])("experiment %s --help names --json and exits with 0", (command) => {
    expect(runCli(["experiment", command, "--help"])).toMatchObject({ exitCode: 0, stdout: expect.stringContaining("--json") });
  });

  it("--version prints package.json's version", () => {
    expect(runCli(["--version"])).toMatchObject({ exitCode: 0, stdout: expect.stringMatching(/^\d+\.\d+\.\d+\n$/) });
  });

  it("without a command shows the help on stderr and exits with 2", () => {
    expect(runCli([])).toMatchObject({ exitCode: 2, stdout: "", stderr: expect.stringContaining("Usage: polypaca") });
  });

  it("calls a mistyped required flag unknown rather than missing, and a missing one missing", () => {
    const others = ["--data-dir", "d", "--out", "o"];
    expect(runCli(["mix", "--condtion", "english", ...others])).toMatchObject({
      exitCode: 2,
      stderr: "USAGE: unknown option '--condtion' (Did you mean --condition?)\n",
    });
    expect(runCli(["mix", ...others])).toMatchObject({ exitCode: 2, stderr: expect.stringContaining("required option '--condition") });
  });

  it("suggests the flag an unknown one is near to and exits with 2", () => {
    expect(runCli(["train", "--lerning-rate", "1"])).toEqual({
      exitCode: 2,
      stdout: "",
      stderr: "USAGE: unknown option '--lerning-rate' (Did you mean --learning-rate?)\n",
    });
  });

  it("suggests the command an unknown one is near to and exits with 2", () => {
    expect(runCli(["trian"])).toMatchObject({ exitCode: 2, stderr: "USAGE: unknown command 'trian' (Did you mean train?)\n" });
  });

  it("names a flag that has no value, and one that is missing", () => {
    expect(runCli(["train", "--model"])).toMatchObject({
      exitCode: 2,
      stderr: expect.stringMatching(/^USAGE: .*--model <DIR>' argument missing/),
    });
    expect(runCli(["merge", "--model", "m"])).toMatchObject({ exitCode: 2, stderr: expect.stringMatching(/^USAGE: .*--adapter <DIR>/) });
  });

  it("does not mind that its reader goes away", () => {
    const command = `"${process.execPath}" "${program}" train --help | true; echo \${PIPESTATUS[0]}`;
    expect(spawnSync("bash", ["-c", command], { encoding: "utf8" })).toMatchObject({ stdout: "0\n", stderr: "" });
  });
});

describe("polypaca train", () => {
  it("exits with 2 where a setting is missing, wrong or contradicts another, naming the flag", () => {
    const required = ["--model", "m", "--data", "d.json", "--out", "o"];
    expect(runCli(["train", ...required])).toMatchObject({
      exitCode: 2,
      stderr: expect.stringMatching(/^USAGE: --method lora\|fft is required/),
    });
    expect(runCli(["train", ...required, "--method", "lora", "--batch-size", "0"])).toMatchObject({
      exitCode: 2,
      stdout: "",
      stderr: expect.stringMatching(/^USAGE: --batch-size 0: /),
    });
    expect(runCli(["train", ...required, "--method", "lora", "--micro-batch-tokens", "100"])).toMatchObject({
      exitCode: 2,
      stderr: expect.stringContaining("--micro-batch-tokens 100 cannot hold an example of --cutoff 512"),
    });
  });

  it("exits with 2 at a typo in the configuration, naming file, line and column", () => {
    const file = join(mkdtempSync(join(tmpdir(), "polypaca-cli-")), "run.yaml");
    writeFileSync(file, "method: lora\nbatchsize: 4\n");
    expect(runCli(["train", "--config", file, "--json"])).toEqual({
      exitCode: 2,
      stdout: "",
      stderr: `BAD_CONFIG: ${file}:2:1: there is no setting "batchsize"; did you mean "batchSize"?\n`,
    });
  });

  it("exits with 2 where the configuration is not there", () => {
    expect(runCli(["train", "--config", "/nonexistent.yaml"])).toMatchObject({
      exitCode: 2,
      stderr: expect.stringMatching(/^NOT_FOUND: --config/),
    });
  });

  it("exits with 1 where the addon is missing, saying how to build it", () => {
    const args = ["train", "--model", "m", "--data", "d.json", "--out", "o", "--method", "lora"];
    expect(runCli(args, withoutAddon)).toMatchObject({ exitCode: 1, stdout: "", stderr: expect.stringMatching(/^ADDON: .*npm run build/) });
  });
});

describe("polypaca doctor", () => {
  it("reports a missing addon as JSON on stdout and exits with 1", () => {
    const { exitCode, stdout } = runCli(["doctor", "--json"], withoutAddon);
    expect(exitCode).toBe(1);
    expect(JSON.parse(stdout)).toMatchObject({ node: process.version, addon: null, problem: expect.stringMatching(/^ADDON: /) });
  });

  it("names the products that POLYPACA_GEMM asks for, and says what a build without oneDNN needs", () => {
    const { onednn } = JSON.parse(runCli(["doctor", "--json"]).stdout).machine;
    expect(runCli(["doctor"], { POLYPACA_GEMM: "portable" }).stdout).toMatch(/^products {3}portable \(POLYPACA_GEMM asks for it\)/m);
    const asked = runCli(["doctor"], { POLYPACA_GEMM: "onednn" });
    if (onednn === "")
      expect(asked).toMatchObject({ exitCode: 1, stdout: expect.stringMatching(/this build has no oneDNN.*apt-get install libdnnl-dev/) });
    else expect(asked.stdout).toContain(`products   oneDNN ${onednn} (POLYPACA_GEMM asks for it)`);
  });

  it("refuses an unknown POLYPACA_GEMM by name", () => {
    expect(runCli(["doctor"], { POLYPACA_GEMM: "mkl" })).toMatchObject({
      exitCode: 1,
      stdout: expect.stringMatching(/POLYPACA_GEMM=mkl: expected portable or onednn/),
    });
  });
});
