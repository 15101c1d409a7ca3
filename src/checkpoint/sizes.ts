/** Disk space that checkpoints take, before they are written. */
import type { DecoderSpec } from "../families/decoder-spec.js";
import { adapterTensors, expectedTensors } from "../families/parameters.js";
import type { ComputeDType } from "../native/addon-types.js";
import { planModelFiles, storedDTypeOf } from "./model-folder.js";
import { safetensorsHeader } from "./safetensors.js";

/** Bytes of the weight files of a model folder. */
export function modelFolderBytes(spec: DecoderSpec, dtype: ComputeDType): number {
  return planModelFiles(expectedTensors(spec), storedDTypeOf[dtype]).files.reduce((sum, { fileBytes }) => sum + fileBytes, 0);
}

/** Bytes of an adapter's weight file, which is in fp32. */
export function adapterFolderBytes(spec: DecoderSpec, lora: { readonly rank: number; readonly targets: readonly string[] }): number {
  return safetensorsHeader(adapterTensors(spec, lora).map((tensor) => ({ ...tensor, dtype: "F32" }))).fileBytes;
}
