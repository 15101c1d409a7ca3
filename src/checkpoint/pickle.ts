/**
 * The subset of Python's pickle format that torch.save writes for a dictionary of tensors, read without the power to run anything:
 * a name in the stream is looked up in a short list of constructors below, never imported; anything else is refused by name.
 */
import { PolypacaError } from "../errors.js";

/** A tensor's storage: an entry of the zip file. */
export interface PickledStorage {
  readonly kind: "storage";
  /** safetensors' name of the element type. */
  readonly dtype: string;
  readonly key: string;
  readonly elements: number;
}

export interface PickledTensor {
  readonly kind: "tensor";
  readonly storage: PickledStorage;
  /** In elements of the storage. */
  readonly offset: number;
  readonly shape: readonly number[];
  readonly strides: readonly number[];
}

interface Constructor {
  readonly kind: "constructor";
  readonly name: string;
  /** Refused where absent: the name may stand in the stream, but not be called. */
  readonly call?: (args: readonly PickleValue[]) => PickleValue;
  /** Of a storage class. */
  readonly dtype?: string;
}

interface Tuple {
  readonly kind: "tuple";
  readonly items: readonly PickleValue[];
}

export type PickleValue =
  | null
  | boolean
  | number
  | string
  | PickleValue[]
  | Map<PickleValue, PickleValue>
  | Tuple
  | Constructor
  | PickledStorage
  | PickledTensor;

/** Far more than a checkpoint's description of its tensors takes: about 25 operations for each. */
const maxOperations = 2_000_000;

const storageDTypes: Readonly<Record<string, string>> = {
  DoubleStorage: "F64",
  FloatStorage: "F32",
  HalfStorage: "F16",
  BFloat16Storage: "BF16",
  LongStorage: "I64",
  IntStorage: "I32",
  ShortStorage: "I16",
  CharStorage: "I8",
  ByteStorage: "U8",
  BoolStorage: "BOOL",
};

const dtypeNames = ["float64", "float32", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool"];

/** Everything a stream may name. */
const constructors: ReadonlyMap<string, Constructor> = new Map(
  [
    { name: "collections.OrderedDict", call: orderedDict },
    { name: "torch._utils._rebuild_tensor_v2", call: rebuildTensor },
    { name: "torch._utils._rebuild_parameter", call: rebuildParameter },
    ...Object.entries(storageDTypes).map(([name, dtype]) => ({ name: `torch.${name}`, dtype })),
    ...dtypeNames.map((name) => ({ name: `torch.${name}` })),
  ].map((entry) => [entry.name, { kind: "constructor", ...entry }]),
);

/**
 * Reads one pickled value.
 *
 * @param bytes the stream, protocol 2 to 5
 * @param where the file, for messages
 * @throws PolypacaError `BAD_CHECKPOINT` naming what the stream refers to and may not, or the byte at which it breaks
 */
export function readPickle(bytes: Uint8Array, where: string): PickleValue {
  return new PickleReader(bytes, where).run();
}

class PickleReader {
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  readonly #where: string;
  readonly #memo = new Map<number, PickleValue>();
  #stack: PickleValue[] = [];
  /** Stacks set aside by MARK. */
  readonly #marks: PickleValue[][] = [];
  #at = 0;

  constructor(bytes: Uint8Array, where: string) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.#where = where;
  }

  run(): PickleValue {
    try {
      for (let operations = 0; operations < maxOperations; operations++) {
        const opcode = this.#bytes[this.#take(1)]!;
        if (opcode === 0x2e /* STOP */) return this.pop();
        this.#execute(opcode);
      }
    } catch (cause) {
      if (cause instanceof BrokenPickle) throw this.#refuse(cause.message);
      throw cause;
    }
    throw this.#refuse(`it has more than ${maxOperations} operations`);
  }

  #execute(opcode: number): void {
    const operation = operations.get(opcode);
    if (!operation)
      throw new BrokenPickle(
        `operation 0x${opcode.toString(16).padStart(2, "0")} at byte ${this.#at - 1} is not one that a dictionary of tensors needs`,
      );
    operation(this);
  }

  #refuse(what: string): PolypacaError {
    return new PolypacaError(
      "BAD_CHECKPOINT",
      `${this.#where}: its pickle was refused: ${what}. Nothing of it was run. Use a safetensors file, or a checkpoint from a source you trust.`,
    );
  }

  /** Steps over `count` bytes and gives the place of the first. */
  #take(count: number): number {
    const first = this.#at;
    if (count > this.#bytes.length - first) throw new BrokenPickle(`it ends at byte ${this.#bytes.length}, in the middle of a value`);
    this.#at += count;
    return first;
  }

  uint8(): number {
    return this.#view.getUint8(this.#take(1));
  }
  uint16(): number {
    return this.#view.getUint16(this.#take(2), true);
  }
  uint32(): number {
    return this.#view.getUint32(this.#take(4), true);
  }
  int32(): number {
    return this.#view.getInt32(this.#take(4), true);
  }
  uint64(): number {
    return wholeNumber(this.#view.getBigUint64(this.#take(8), true));
  }
  /** Python writes this one float big-endian. */
  float64(): number {
    return this.#view.getFloat64(this.#take(8));
  }
  /** Two's complement, little-endian. */
  long(length: number): number {
    const first = this.#take(length);
    let value = 0n;
    for (let i = length - 1; i >= 0; i--) value = (value << 8n) | BigInt(this.#bytes[first + i]!);
    return wholeNumber(length > 0 ? BigInt.asIntN(8 * length, value) : 0n);
  }
  text(length: number): string {
    const first = this.#take(length);
    return new TextDecoder().decode(this.#bytes.subarray(first, first + length));
  }
  line(): string {
    const end = this.#bytes.indexOf(0x0a, this.#at);
    if (end < 0) throw new BrokenPickle("a name in it has no end");
    return this.text(end + 1 - this.#at).slice(0, -1);
  }

  push(value: PickleValue): void {
    this.#stack.push(value);
  }
  pop(): PickleValue {
    const value = this.#stack.pop();
    if (value === undefined) throw new BrokenPickle(`byte ${this.#at - 1} takes a value that is not there`);
    return value;
  }
  top(): PickleValue {
    const value = this.pop();
    this.push(value);
    return value;
  }
  mark(): void {
    this.#marks.push(this.#stack);
    this.#stack = [];
  }
  /** What was pushed since the last MARK. */
  popToMark(): PickleValue[] {
    const items = this.#stack;
    const below = this.#marks.pop();
    if (!below) throw new BrokenPickle(`byte ${this.#at - 1} ends a group that was not begun`);
    this.#stack = below;
    return items;
  }

  remember(index: number): void {
    this.#memo.set(index, this.top());
  }
  rememberNext(): void {
    this.remember(this.#memo.size);
  }
  recall(index: number): void {
    const value = this.#memo.get(index);
    if (value === undefined) throw new BrokenPickle(`byte ${this.#at - 1} refers to value ${index}, which it has not stored`);
    this.push(value);
  }
}

/** Becomes a PolypacaError with the file's name. */
class BrokenPickle extends Error {}

type Operation = (reader: PickleReader) => void;

const operations: ReadonlyMap<number, Operation> = new Map<number, Operation>([
  [0x80 /* PROTO */, checkProtocol],
  [0x95 /* FRAME */, (r) => void r.uint64()],
  [0x28 /* MARK */, (r) => r.mark()],
  // constants
  [0x4e /* NONE */, (r) => r.push(null)],
  [0x88 /* NEWTRUE */, (r) => r.push(true)],
  [0x89 /* NEWFALSE */, (r) => r.push(false)],
  [0x4b /* BININT1 */, (r) => r.push(r.uint8())],
  [0x4d /* BININT2 */, (r) => r.push(r.uint16())],
  [0x4a /* BININT */, (r) => r.push(r.int32())],
  [0x8a /* LONG1 */, (r) => r.push(r.long(r.uint8()))],
  [0x47 /* BINFLOAT */, (r) => r.push(r.float64())],
  [0x58 /* BINUNICODE */, (r) => r.push(r.text(r.uint32()))],
  [0x8c /* SHORT_BINUNICODE */, (r) => r.push(r.text(r.uint8()))],
  // collections
  [0x5d /* EMPTY_LIST */, (r) => r.push([])],
  [0x7d /* EMPTY_DICT */, (r) => r.push(new Map())],
  [0x29 /* EMPTY_TUPLE */, (r) => r.push(tuple([]))],
  [0x74 /* TUPLE */, (r) => r.push(tuple(r.popToMark()))],
  [0x85 /* TUPLE1 */, (r) => pushTuple(r, 1)],
  [0x86 /* TUPLE2 */, (r) => pushTuple(r, 2)],
  [0x87 /* TUPLE3 */, (r) => pushTuple(r, 3)],
  [0x61 /* APPEND */, (r) => append(r, [r.pop()])],
  [0x65 /* APPENDS */, (r) => append(r, r.popToMark())],
  [0x73 /* SETITEM */, (r) => setItems(r, [r.pop(), r.pop()].reverse())],
  [0x75 /* SETITEMS */, (r) => setItems(r, r.popToMark())],
  // values that were stored before
  [0x71 /* BINPUT */, (r) => r.remember(r.uint8())],
  [0x72 /* LONG_BINPUT */, (r) => r.remember(r.uint32())],
  [0x94 /* MEMOIZE */, (r) => r.rememberNext()],
  [0x68 /* BINGET */, (r) => r.recall(r.uint8())],
  [0x6a /* LONG_BINGET */, (r) => r.recall(r.uint32())],
  // objects
  [0x63 /* GLOBAL */, (r) => r.push(lookUp(r.line(), r.line()))],
  [0x93 /* STACK_GLOBAL */, pushStackGlobal],
  [0x51 /* BINPERSID */, (r) => r.push(storage(r.pop()))],
  [0x52 /* REDUCE */, reduce],
  [0x62 /* BUILD */, build],
]);

function checkProtocol(reader: PickleReader): void {
  const protocol = reader.uint8();
  if (protocol < 2 || protocol > 5) throw new BrokenPickle(`it is of protocol ${protocol}; torch.save writes protocol 2`);
}

function tuple(items: readonly PickleValue[]): Tuple {
  return { kind: "tuple", items };
}

function pushTuple(reader: PickleReader, length: number): void {
  reader.push(tuple(Array.from({ length }, () => reader.pop()).reverse()));
}

function append(reader: PickleReader, items: readonly PickleValue[]): void {
  const list = reader.top();
  if (!Array.isArray(list)) throw new BrokenPickle("it appends to what is no list");
  for (const item of items) list.push(item);
}

function setItems(reader: PickleReader, keysAndValues: readonly PickleValue[]): void {
  const map = reader.top();
  if (!(map instanceof Map)) throw new BrokenPickle("it sets an entry of what is no dictionary");
  if (keysAndValues.length % 2 !== 0) throw new BrokenPickle("it gives a dictionary a key without a value");
  for (let i = 0; i < keysAndValues.length; i += 2) map.set(keysAndValues[i]!, keysAndValues[i + 1]!);
}

function lookUp(module: string, name: string): Constructor {
  const found = constructors.get(`${module}.${name}`);
  if (found) return found;
  throw new BrokenPickle(
    `it refers to ${module}.${name}, which can be anything Python can do. Allowed are ${[...constructors.keys()].slice(0, 3).join(", ")}, torch's storage classes and dtypes`,
  );
}

function pushStackGlobal(reader: PickleReader): void {
  const name = reader.pop();
  const module = reader.pop();
  reader.push(lookUp(String(module), String(name)));
}

function reduce(reader: PickleReader): void {
  const args = reader.pop();
  const callee = reader.pop();
  if (!isKind(callee, "constructor") || !callee.call || !isKind(args, "tuple")) {
    throw new BrokenPickle(`it calls ${isKind(callee, "constructor") ? callee.name : "what is no function"}`);
  }
  reader.push(callee.call(args.items));
}

/** torch hangs `_metadata` (module versions) on the dictionary; nothing here needs it. */
function build(reader: PickleReader): void {
  reader.pop();
  if (!(reader.top() instanceof Map)) throw new BrokenPickle("it sets the state of an object other than a dictionary");
}

function orderedDict(args: readonly PickleValue[]): PickleValue {
  if (args.length !== 0) throw new BrokenPickle("it makes an OrderedDict from arguments, which torch.save does not");
  return new Map();
}

/** _rebuild_tensor_v2(storage, storage_offset, size, stride, requires_grad, backward_hooks, metadata=None) */
function rebuildTensor(args: readonly PickleValue[]): PickledTensor {
  const [stored, offset, shape, strides] = args;
  if (
    !isKind(stored, "storage") ||
    !isCount(offset) ||
    !isCounts(shape) ||
    !isCounts(strides) ||
    shape.items.length !== strides.items.length
  ) {
    throw new BrokenPickle("_rebuild_tensor_v2 was given something other than storage, offset, size and stride");
  }
  return { kind: "tensor", storage: stored, offset, shape: shape.items, strides: strides.items };
}

/** _rebuild_parameter(data, requires_grad, backward_hooks) */
function rebuildParameter([data]: readonly PickleValue[]): PickledTensor {
  if (!isKind(data, "tensor")) throw new BrokenPickle("_rebuild_parameter was given something other than a tensor");
  return data;
}

/** The persistent id of a storage: ("storage", class, key, location, number of elements). */
function storage(id: PickleValue): PickledStorage {
  const [tag, type, key, , elements] = isKind(id, "tuple") ? id.items : [];
  if (tag !== "storage" || !isKind(type, "constructor") || !type.dtype || typeof key !== "string" || !isCount(elements)) {
    throw new BrokenPickle("a persistent id in it is not that of a storage");
  }
  return { kind: "storage", dtype: type.dtype, key, elements };
}

type Kinded = Tuple | Constructor | PickledStorage | PickledTensor;

function isKind<Kind extends Kinded["kind"]>(value: PickleValue | undefined, kind: Kind): value is Extract<Kinded, { kind: Kind }> {
  return typeof value === "object" && value !== null && "kind" in value && value.kind === kind;
}

function isCount(value: PickleValue | undefined): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}

function isCounts(value: PickleValue | undefined): value is Tuple & { readonly items: readonly number[] } {
  return isKind(value, "tuple") && value.items.every(isCount);
}

function wholeNumber(value: bigint): number {
  const number = Number(value);
  if (!Number.isSafeInteger(number)) throw new BrokenPickle(`the number ${value} in it is out of range`);
  return number;
}
