/** What this machine has, and what polypaca makes of it. */
import { cpus, platform, release, totalmem } from "node:os";
import { PolypacaError } from "../errors.js";
import type { MachineInfo } from "../native/addon-types.js";
import { addonCandidates, loadAddonWithPath } from "../native/load.js";
import { resolveDevice, resolveDType } from "../native/model.js";

export interface Diagnosis {
  readonly node: string;
  readonly system: string;
  readonly cpu: { readonly model: string; readonly logicalCores: number };
  readonly memoryTotal: number;
  /** null where the addon does not load; `problem` says why. */
  readonly addon: { readonly path: string; readonly version: string } | null;
  readonly machine: MachineInfo | null;
  /** The back end that `--device auto` takes, the default `--dtype`, and why. */
  readonly backend: { readonly device: string; readonly dtype: string; readonly why: string } | null;
  readonly problem: string | null;
}

export function diagnose(): Diagnosis {
  const cores = cpus();
  const base = {
    node: process.version,
    system: `${platform()} ${release()} ${process.arch}`,
    cpu: { model: cores[0]?.model.trim() ?? "unknown", logicalCores: cores.length },
    memoryTotal: totalmem(),
  };
  try {
    const { addon, path } = loadAddonWithPath();
    const machine = addon.machine();
    const device = resolveDevice(addon, "auto");
    const dtype = resolveDType(addon, undefined, device);
    const why =
      device === "cpu"
        ? `the CPU, because ${noCudaReason(machine)}; ${dtypeReason(machine)}`
        : "the first GPU; bf16, the one type that CUDA computes in here";
    return { ...base, addon: { path, version: addon.version }, machine, backend: { device, dtype, why }, problem: null };
  } catch (cause) {
    const error = PolypacaError.from(cause, { during: `loading ${addonCandidates().join(" or ")}` });
    return { ...base, addon: null, machine: null, backend: null, problem: `${error.code}: ${error.message}` };
  }
}

function noCudaReason({ cuda }: MachineInfo): string {
  return cuda === "not built" ? "CUDA is not built" : cuda;
}

function dtypeReason({ bf16Dot, amxBf16 }: MachineInfo): string {
  if (amxBf16) return "bf16, because the CPU has AMX";
  return bf16Dot ? "bf16, because the CPU has AVX512-BF16" : "fp32, because the CPU has no bf16 dot products";
}
