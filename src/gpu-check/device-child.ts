/** The child process of device-job.ts: one job over the channel, on one device, and its answer. */
import { syntheticBatch } from "../bench/live-case.js";
import { PolypacaError } from "../errors.js";
import { configFromShape, decoderSpecFromConfig } from "../families/index.js";
import { studyLoraTargets } from "../families/parameters.js";
import { loadAddon } from "../native/load.js";
import { Model, resolveDevice, resolveDType } from "../native/model.js";
import { Trainer } from "../native/trainer.js";
import { adamW } from "../train/presets.js";
import { type DeviceJob, type DeviceReply, type ShortRun, shortRunBatches } from "./device-job.js";

async function lossesOf({
  device,
  dtype,
  modelType,
  shape,
  method,
  sequenceLength,
  sequences,
  steps,
  learningRate,
}: ShortRun): Promise<number[]> {
  const spec = decoderSpecFromConfig(configFromShape(modelType, shape), `gpu-check's ${modelType} model`);
  const model = await Model.init(spec, { device, dtype, seed: 1 });
  if (method === "lora") await model.addLora({ rank: 8, alpha: 16, dropout: 0.05, targets: studyLoraTargets(spec), seed: 2 });
  const lengths = new Array<number>(sequences).fill(sequenceLength);
  const trainer = new Trainer(model, { method, microBatchTokens: sequenceLength * sequences, seed: 3 });
  const losses: number[] = [];
  for (let step = 0; step < steps; step++) {
    const batch = syntheticBatch(spec.vocabSize, lengths, step % shortRunBatches);
    const { loss } = await trainer.step([batch], { learningRate, targetTokens: (sequenceLength - 1) * sequences });
    losses.push(loss);
  }
  await trainer.dispose();
  await model.dispose();
  return losses;
}

async function answer(job: DeviceJob): Promise<DeviceReply> {
  if (job.kind === "train") return { losses: await lossesOf(job.run) };
  const addon = loadAddon();
  const device = resolveDevice(addon, job.device);
  const spec = decoderSpecFromConfig(
    configFromShape("llama", { hidden: 64, layers: 1, heads: 2, vocab: 200 }),
    "gpu-check's smallest model",
  );
  const options = { ...adamW, method: "fft", weightDecay: 0, maxGradNorm: 1, recompute: "none", microBatchTokens: 64, seed: 0 } as const;
  // A plan asks the back end for the sizes of its buffers, so it must open.
  addon.planMemory(spec, null, { device, dtype: resolveDType(addon, "bf16", device), allowOvercommit: false }, options);
  return { opened: device };
}

process.once("message", async (job: DeviceJob) => {
  const reply = await answer(job).catch((cause: unknown): DeviceReply => {
    const { code, message } = PolypacaError.from(cause);
    return { code, message };
  });
  process.send?.(reply, () => process.exit(0));
});
