import { readdirSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { openCheckpoint } from "../../src/checkpoint/hf-folder.js";
import { readTensors } from "../../src/verify/case-files.js";
import { hasZeroGradient } from "../../src/verify/zero-gradients.js";
import { goldens, readJson } from "../checkpoint/crafted-files.js";

describe("hasZeroGradient", () => {
  it.each(readdirSync(goldens).filter((name) => /^\d/.test(name)))(
    "marks the elements of %s in which the reference has rounding noise, and no others",
    async (name) => {
      const { spec, sources } = await openCheckpoint(join(goldens, name));
      const gradients = await readTensors(join(goldens, name, "case.safetensors"));
      const { zero_by_mathematics: zeros } = readJson(join(goldens, name, "case.json")) as {
        zero_by_mathematics: Record<string, { count: number }>;
      };
      for (const source of sources) {
        const isZero = hasZeroGradient(spec, source.name);
        const gradient = gradients.get(`grad.${source.name}`)!;
        const marked = gradient.filter((_, index) => isZero(index));
        expect(marked.length > 0, source.name).toBe(source.name in zeros);
        // The reference counts elements that are not exactly 0 in fp32: at most one fewer here.
        if (marked.length > 0) expect(marked.length - zeros[source.name]!.count).toBeLessThanOrEqual(1);
        expect(
          marked.every((value) => Math.abs(value) < 1e-7),
          source.name,
        ).toBe(true);
      }
    },
  );
});
