import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    include: ["test/**/*.test.ts"],
    exclude: ["test/long/**"],
    testTimeout: 120_000,
    hookTimeout: 120_000,
    // Native work uses every core: two test files at a time would only wait for each other.
    pool: "forks",
    maxWorkers: 2,
  },
});
