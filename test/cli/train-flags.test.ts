import { Command } from "commander";
import { describe, expect, it } from "vitest";
import { registerTrain, trainFlags } from "../../src/cli/train.js";
import { flagOf } from "../../src/settings/check-settings.js";
import { settingNames } from "../../src/train/settings.js";

describe("train flags", () => {
  it("are exactly the settings, so that flags and YAML share names", () => {
    expect(trainFlags.map(([name]) => name)).toEqual([...settingNames]);
  });

  it("are all there on the command line", () => {
    const program = new Command();
    registerTrain(program);
    const flags = program.commands[0]?.options.map((option) => option.long);
    expect(flags).toEqual([...settingNames.map(flagOf), "--config", "--json"]);
  });
});
