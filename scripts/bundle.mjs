// npm run bundle [FILE]: makes dist/polypaca-offline.tar.xz (docs/gpu.md). Run after scripts/setup.mjs, which compiles what it packs.
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { makeBundle } from "../dist/bundle/bundle.js";

const root = fileURLToPath(new URL("..", import.meta.url));
try {
  const out = process.argv[2] ?? join(root, "dist/polypaca-offline.tar.xz");
  const { path, bytes, files, packages } = makeBundle({ out, onPart: (part) => console.error(`polypaca: ${part}`) });
  console.log(`${path}: ${(bytes / 2 ** 20).toFixed(1)} MiB, ${files} files, ${packages} packages`);
} catch (error) {
  console.error(`${error.code ?? "INTERNAL"}: ${error.message}`);
  process.exit(1);
}
