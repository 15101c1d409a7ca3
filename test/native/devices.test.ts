/** What --device and --dtype become, on machines with and without GPUs. */
import { describe, expect, it } from "vitest";
import { PolypacaError } from "../../src/errors.js";
import type { Addon, ComputeDType, CudaDevice, MachineInfo } from "../../src/native/addon-types.js";
import { loadAddon } from "../../src/native/load.js";
import { resolveDevice, resolveDType } from "../../src/native/model.js";

const gpu = (index: number): CudaDevice => ({ index, name: "NVIDIA H200", computeCapability: "9.0", memoryTotal: 150e9 });

/** The addon of a machine that has these, and bf16 dot products. */
function addonWith(machine: Partial<MachineInfo>): Addon {
  const real = loadAddon();
  return {
    ...real,
    machine: () => ({ ...real.machine(), bf16Dot: true, cuda: "not built", cudaDevices: [], cudaEmulator: false, ...machine }),
  };
}

const bare = addonWith({});
const withTwoGpus = addonWith({ cuda: "2 devices", cudaDevices: [gpu(0), gpu(1)] });

function refusal(addon: Addon, device: string, dtype?: ComputeDType): string {
  try {
    resolveDType(addon, dtype, resolveDevice(addon, device, dtype));
  } catch (error) {
    if (error instanceof PolypacaError) return `${error.code}: ${error.message}`;
  }
  return "none";
}

describe("--device", () => {
  it("auto takes the first GPU where there is one, and the CPU for fp32 or without", () => {
    expect(resolveDevice(withTwoGpus, "auto")).toBe("cuda");
    expect(resolveDevice(withTwoGpus, undefined, "bf16")).toBe("cuda");
    expect(resolveDevice(withTwoGpus, "auto", "fp32")).toBe("cpu");
    expect(resolveDevice(bare, "auto")).toBe("cpu");
  });

  it("cuda:n must be a device of this machine", () => {
    expect(resolveDevice(withTwoGpus, "cuda:1")).toBe("cuda:1");
    expect(refusal(withTwoGpus, "cuda:2")).toBe(
      "UNSUPPORTED: --device cuda:2: this machine has cuda:0 (NVIDIA H200), cuda:1 (NVIDIA H200)",
    );
  });

  it("cuda says which is missing: the build, or what the driver says", () => {
    expect(refusal(bare, "cuda")).toContain("CUDA is not built into the addon");
    expect(refusal(addonWith({ cuda: "there is no NVIDIA driver" }), "cuda")).toContain("there is no NVIDIA driver. Use --device cpu");
  });

  it("cuda-emulated needs the emulator in the build", () => {
    expect(refusal(bare, "cuda-emulated")).toContain("POLYPACA_EMULATOR=ON");
    expect(resolveDevice(addonWith({ cudaEmulator: true }), "cuda-emulated")).toBe("cuda-emulated");
  });

  it("a name that is no device is wrong usage", () => {
    expect(refusal(withTwoGpus, "gpu")).toMatch(/^USAGE: --device gpu: expected/);
  });
});

describe("--dtype", () => {
  it("is bf16 on CUDA, and fp32 there is refused", () => {
    expect(resolveDType(withTwoGpus, undefined, "cuda")).toBe("bf16");
    expect(refusal(withTwoGpus, "cuda", "fp32")).toContain("CUDA computes in bf16 only");
  });

  it("on the CPU is bf16 where that has dot products for it", () => {
    expect(resolveDType(bare, undefined)).toBe("bf16");
    expect(resolveDType(addonWith({ bf16Dot: false, amxBf16: false }), undefined)).toBe("fp32");
  });
});

describe("the addon itself", () => {
  it("refuses a device that is none, and CUDA where it is not built or not there", () => {
    const convert = (device: string) => () => loadAddon().probe("convert", { device, rows: 1, cols: 1, src: Float32Array.of(1) });
    expect(convert("tpu")).toThrow('device "tpu": expected cpu, cuda, cuda:<n> or cuda-emulated');
    expect(convert("cuda:x")).toThrow("expected cpu, cuda");
    expect(convert("cuda:999")).toThrow(/no CUDA back end|no NVIDIA driver|no device/);
  });
});
