import { existsSync, readFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { readTorchBin } from "../../src/checkpoint/torch-bin.js";
import { goldens, pickle, refusal, temporaryFile, torchBinBytes, zipBytes } from "./crafted-files.js";

const read = (bytes: Uint8Array) => readTorchBin(temporaryFile("pytorch_model.bin", bytes));
const matrix = { shape: [2, 3], strides: [3, 1], elements: 6 };
const sound = pickle.stream(pickle.dict(["w", pickle.tensor(matrix)]));

describe("readTorchBin", () => {
  it("places the tensors of a file that torch.save wrote", async () => {
    const path = join(goldens, "variants/llama-bin-sharded/pytorch_model-00001-of-00003.bin");
    const tensors = await readTorchBin(path);
    expect(tensors.find(({ name }) => name === "model.embed_tokens.weight")).toMatchObject({ shape: [320, 64], dtype: "F32" });
    for (const { offset } of tensors) expect(offset % 4).toBe(0);
  });

  it("places two views of one storage, and keeps strides other than dense ones", async () => {
    const shards = [1, 2, 3].map((i) => join(goldens, `variants/llama-bin-sharded/pytorch_model-0000${i}-of-00003.bin`));
    const byName = new Map((await Promise.all(shards.map(readTorchBin))).flat().map((tensor) => [tensor.name, tensor]));
    const key = byName.get("model.layers.0.self_attn.k_proj.weight")!;
    const value = byName.get("model.layers.0.self_attn.v_proj.weight")!;
    expect(value.offset - key.offset).toBe(4096 * 4);
    expect(byName.get("model.layers.1.self_attn.o_proj.weight")!.strides).toEqual([1, 64]);
    expect(key.strides).toBeUndefined();
  });

  it("reads a crafted sound file, so that the unsound ones below fail for their own reasons", async () => {
    const bytes = torchBinBytes(sound, Buffer.from(Float32Array.of(1, 2, 3, 4, 5, 6).buffer));
    const [tensor] = await read(bytes);
    expect(tensor).toMatchObject({ name: "w", shape: [2, 3], dtype: "F32" });
    expect(bytes.readFloatLE(tensor!.offset)).toBe(1);
  });

  it("unwraps a parameter", async () => {
    const parameter = pickle.reduce(
      pickle.global("torch._utils", "_rebuild_parameter"),
      pickle.tuple(pickle.tensor(matrix), Buffer.from([0x88]), Buffer.from("N")),
    );
    expect(await read(torchBinBytes(pickle.stream(pickle.dict(["w", parameter])), Buffer.alloc(24)))).toMatchObject([
      { name: "w", shape: [2, 3] },
    ]);
  });
});

describe("a pickle that would run code", () => {
  const marker = join(tmpdir(), `polypaca-was-run-${process.pid}`);
  const command = pickle.tuple(pickle.text(`touch ${marker}`));

  it.each([
    ["posix", "system"],
    ["os", "system"],
    ["builtins", "eval"],
    ["torch", "load"],
    ["collections", "OrderedDict\u0000system"],
  ])("is refused by the name %s.%s and not run", async (module, name) => {
    const error = await refusal(read(torchBinBytes(pickle.stream(pickle.reduce(pickle.global(module, name), command)))));
    expect(error.code).toBe("BAD_CHECKPOINT");
    expect(error.message).toContain(`refers to ${module}.${name}`);
    expect(error.message).toContain("pytorch_model.bin");
    expect(existsSync(marker)).toBe(false);
  });

  it("is refused by name inside a dictionary of sound tensors", async () => {
    const stream = pickle.stream(
      pickle.dict(["w", pickle.tensor(matrix)], ["x", pickle.reduce(pickle.global("posix", "system"), command)]),
    );
    expect((await refusal(read(torchBinBytes(stream, Buffer.alloc(24))))).message).toContain("posix.system");
  });

  it("is refused by name in protocol 4, where names come from the stack", async () => {
    const short = (text: string): Buffer => Buffer.concat([Buffer.from([0x8c, text.length]), Buffer.from(text)]);
    const stream = Buffer.concat([
      Buffer.from([0x80, 4]),
      short("posix"),
      Buffer.from([0x94]),
      short("system"),
      Buffer.from([0x94, 0x93]),
      command,
      Buffer.from("R."),
    ]);
    expect((await refusal(read(torchBinBytes(stream)))).message).toContain("refers to posix.system");
  });

  it.each([
    [
      "an instance of a class",
      Buffer.concat([Buffer.from([0x80, 2]), pickle.global("torch", "float32"), Buffer.from(")\x81.", "latin1")]),
      /0x81/,
    ],
    ["an old-style instance", Buffer.from("(S'touch x'\niposix\nsystem\n."), /0x53/],
    [
      "a call of a storage class",
      pickle.stream(pickle.reduce(pickle.global("torch", "FloatStorage"), Buffer.from(")"))),
      /calls torch\.FloatStorage/,
    ],
    ["a call of a tensor", pickle.stream(pickle.reduce(pickle.tensor(matrix), Buffer.from(")"))), /calls what is no function/],
    ["state set on a tensor", pickle.stream(pickle.tensor(matrix), Buffer.from("}b")), /sets the state/],
    [
      "an OrderedDict made by a call",
      pickle.stream(pickle.reduce(pickle.global("collections", "OrderedDict"), pickle.tuple(Buffer.from("]")))),
      /OrderedDict from arguments/,
    ],
  ])("is refused where it makes %s", async (_what, stream, message) => {
    const error = await refusal(read(torchBinBytes(stream)));
    expect(error.code).toBe("BAD_CHECKPOINT");
    expect(error.message).toMatch(message);
  });

  it("is refused unread in the form of before PyTorch 1.6", async () => {
    const error = await refusal(read(pickle.stream(pickle.reduce(pickle.global("posix", "system"), command))));
    expect(error.code).toBe("UNSUPPORTED");
    expect(error.message).toMatch(/bare pickle.*before PyTorch 1\.6/);
    expect(existsSync(marker)).toBe(false);
  });
});

describe("a damaged pytorch_model.bin", () => {
  const tensorOf = (changes: object) => pickle.stream(pickle.dict(["w", pickle.tensor({ ...matrix, ...changes })]));

  it.each<[string, Buffer, RegExp]>([
    [
      "a view past its storage",
      torchBinBytes(tensorOf({ offset: 1 }), Buffer.alloc(24)),
      /"w" reaches element 6 of its storage, which has 6/,
    ],
    ["strides past its storage", torchBinBytes(tensorOf({ strides: [4, 1] }), Buffer.alloc(24)), /"w" reaches element 6/],
    ["a negative stride", torchBinBytes(tensorOf({ strides: [-3, 1] }), Buffer.alloc(24)), /storage, offset, size and stride/],
    ["sizes without strides", torchBinBytes(tensorOf({ strides: [1] }), Buffer.alloc(24)), /storage, offset, size and stride/],
    [
      "a storage shorter than it says",
      torchBinBytes(sound, Buffer.alloc(20)),
      /storage of "w" should have 6 elements of F32, but holds 20 bytes/,
    ],
    ["a storage that is not there", torchBinBytes(tensorOf({ key: "9" }), Buffer.alloc(24)), /storage "9" of "w" is missing/],
    ["a value that is no tensor", torchBinBytes(pickle.stream(pickle.dict(["epoch", pickle.int(3)]))), /entry "epoch" is not a tensor/],
    ["a list for the whole", torchBinBytes(pickle.stream(Buffer.from("]"))), /other than a dictionary/],
    ["a pickle cut off", torchBinBytes(sound.subarray(0, sound.length - 1), Buffer.alloc(24)), /in the middle of a value/],
    ["a value taken from an empty stack", torchBinBytes(pickle.stream(Buffer.from("R"))), /not there/],
    ["a group that was not begun", torchBinBytes(pickle.stream(Buffer.from("t"))), /not begun/],
    ["a stored value that was not stored", torchBinBytes(pickle.stream(Buffer.from([0x68, 5]))), /value 5, which it has not stored/],
    ["too many operations", torchBinBytes(pickle.stream(Buffer.alloc(3_000_000, "N"))), /more than 2000000 operations/],
    ["a zip without data.pkl", zipBytes([{ name: "archive/version", data: Buffer.from("3") }]), /no data\.pkl/],
    ["a zip cut off", torchBinBytes(sound, Buffer.alloc(24)).subarray(0, 200), /truncated or corrupt/],
    ["something else", Buffer.from("GGUF...."), /begins with the bytes 47475546/],
    ["an empty file", Buffer.alloc(0), /begins with nothing/],
  ])("is refused for %s", async (_what, bytes, message) => {
    const error = await refusal(read(bytes));
    expect(error.code).toBe("BAD_CHECKPOINT");
    expect(error.message).toMatch(message);
  });

  it("is refused where entries are compressed", async () => {
    const error = await refusal(read(zipBytes([{ name: "archive/data.pkl", data: sound, method: 8 }])));
    expect(error.code).toBe("UNSUPPORTED");
    expect(error.message).toMatch(/"archive\/data\.pkl" is compressed/);
  });

  it("is refused where its numbers are big-endian", async () => {
    const bytes = zipBytes([
      { name: "archive/data.pkl", data: sound },
      { name: "archive/byteorder", data: Buffer.from("big") },
    ]);
    expect((await refusal(read(bytes))).message).toMatch(/byte order is "big"/);
  });

  it("is refused where a real file lost its end", async () => {
    const whole = readFileSync(join(goldens, "variants/llama-bin-sharded/pytorch_model-00001-of-00003.bin"));
    expect((await refusal(read(whole.subarray(0, whole.length - 100)))).code).toBe("BAD_CHECKPOINT");
  });
});
